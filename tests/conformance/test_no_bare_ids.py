"""Callers never see an id without its tail, vendors never see one with it: every byte of every answer and of every
journalled request is looked at, streams, headers and error texts included."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest

from gateway.operations import BY_NAME
from tests.conformance.conftest import (
    EXAMPLES,
    STREAMING,
    TOOLS,
    UNCACHED,
    WAITING,
    Call,
    Heard,
    Issued,
    compose,
    examples_of,
    having,
    hear,
    id_places,
    names_params,
    remember,
    stage,
    upstream_of,
)
from tests.conftest import Running, StartGateway, StartVendor, Vendor
from tests.simulators import faults


class Ears:
    """Makes calls as alice and looks at all that is answered."""

    def __init__(self, gateway: Running, issued: Issued) -> None:
        self._gateway = gateway
        self._issued = issued
        self.heard: set[str] = set()

    async def __call__(self, label: str, call: Call, *, status: int = 200) -> Heard:
        heard = await hear(self._gateway, call)
        assert heard.status == status, (label, heard.body)
        assert not self._issued.bare(heard.headers + b"\r\n" + heard.body), (label, heard)
        self.heard.add(label)
        return heard

    async def refused(self, call: Call, *, status: int) -> str:
        """The message of an error."""
        heard = await self(call.path, call, status=status)
        return str(heard.json["error"]["message"])


def journalled(vendor: Vendor) -> bytes:
    return b"\n".join(f"{each.path}?{each.query}\n".encode() + each.body for each in vendor.simulator.journal)


def test_the_examples_hold_an_id_in_every_place_where_an_operation_takes_one() -> None:
    """What the suites of this folder walk over is complete, or they would promise too much."""
    assert set(EXAMPLES) == set(BY_NAME)

    def flat(shape: Any, place: str) -> set[str]:
        shape = getattr(shape, "shape", shape)
        if isinstance(shape, str):
            return {place}
        if isinstance(shape, list):
            return flat(shape[0], place + "[0]")
        return {each for name, inner in shape.items() for each in flat(inner, f"{place}.{name}")}

    for name, operation in BY_NAME.items():
        wanted = flat(operation.body or {}, "body") | {f"query.{key}" for key in operation.query_kinds}
        wanted |= {f"path.{hole}" for hole in re.findall(r"\{(\w+)\}", operation.template)}
        found = {re.sub(r"\[\d+\]", "[0]", place) for place in id_places(name)}
        assert found == wanted, name


async def test_no_operation_tells_an_upstream_id_or_sends_a_public_one(
    vendor: Vendor, start_gateway: StartGateway
) -> None:
    issued = remember(vendor)
    gateway = await start_gateway(vendor)
    ears = Ears(gateway, issued)
    ids = await stage(gateway, vendor=vendor)
    for name, example in examples_of(vendor).items():
        if name in WAITING:
            waiting = await stage(gateway, vendor=vendor, say="call add")
            await ears(name, compose(name, waiting, vendor=vendor))
            continue
        # With all cursors at once a list is empty: each is tried by itself.
        for key in ("nothing", *example.query):
            await ears(name, compose(name, ids, vendor=vendor, query_of=[key]))
    assert ears.heard == set(examples_of(vendor))
    assert not issued.tailed(journalled(vendor))


async def test_no_stream_tells_an_upstream_id_or_sends_a_public_one(
    vendor: Vendor, start_gateway: StartGateway
) -> None:
    issued = remember(vendor)
    gateway = await start_gateway(vendor)
    ears = Ears(gateway, issued)
    for name in STREAMING:
        ids = await stage(gateway, vendor=vendor, say="call add" if name in WAITING else "hello")
        heard = await ears(name, compose(name, ids, vendor=vendor, stream=True))
        assert heard.body.endswith(b"event: done\ndata: [DONE]\n\n")
        assert b"text/event-stream" in heard.headers
    assert not issued.tailed(journalled(vendor))


@pytest.mark.parametrize("stream", [False, True], ids=["polled", "streamed"])
@pytest.mark.parametrize("say", ["plot", "search", "call add", "fail", "truncate", "expire"])
@pytest.mark.parametrize("vendor", ["openai", "openai_v1"], indirect=True)
async def test_what_a_run_leaves_behind_has_no_upstream_id(
    vendor: Vendor, start_gateway: StartGateway, say: str, stream: bool
) -> None:
    """Images, citations, search results, code outputs, last errors: in the run, its steps and its messages."""
    issued = remember(vendor)
    gateway = await start_gateway(vendor)
    ears = Ears(gateway, issued)
    ids = await stage(gateway, vendor=vendor)
    body = {
        "assistant_id": ids["assistant"],
        "tools": TOOLS,
        "stream": stream,
        "additional_messages": [{"role": "user", "content": say}],
    }
    include = urlencode(examples_of(vendor)["get_run_step"].query)
    runs = f"/v1/threads/{ids['thread']}/runs"
    heard = await ears("run", Call("POST", f"{runs}?{include}", body))
    started = r'"id":"(run_\w+)"'
    run = re.search(started, heard.body.decode())
    assert run
    status = "queued"
    while status in ("queued", "in_progress"):
        status = (await ears("poll", Call("GET", f"{runs}/{run[1]}"))).json["status"]
    steps = await ears("steps", Call("GET", f"{runs}/{run[1]}/steps?{include}"))
    messages = await ears("messages", Call("GET", f"/v1/threads/{ids['thread']}/messages"))
    told = steps.body + messages.body + heard.body
    if say in ("plot", "search"):
        assert b'"file_id":"file-' in told
    if say == "fail":
        assert f"something went wrong with {run[1]} in {ids['thread']}.".encode() in told
    assert not issued.tailed(journalled(vendor))


# --- error texts ----------------------------------------------------------------------------------------------------


async def test_a_vendor_says_not_found_in_the_callers_words(vendor: Vendor, start_gateway: StartGateway) -> None:
    """Every object is taken away behind the gateway's back, from the smallest to the largest."""
    issued = remember(vendor)
    gateway = await start_gateway(vendor, change=UNCACHED)
    ears = Ears(gateway, issued)
    ids = await stage(gateway, vendor=vendor)
    upstream = {kind: upstream_of(public) for kind, public in ids.items()}
    world = vendor.simulator.worlds["acme"]
    thread = world.threads.find(upstream["thread"])
    run = thread.runs.find(upstream["run"])
    cursor = Call("GET", f"/v1/threads/{ids['thread']}/messages?after={ids['message']}&limit=2")
    run.steps.drop(upstream["step"], "")
    texts = {"get_run_step": f"No run step found with id '{ids['step']}'."}
    for name, text in texts.items():
        assert await ears.refused(compose(name, ids, vendor=vendor), status=404) == text
    thread.runs.drop(upstream["run"], "")
    world.threads.delete_message(upstream["thread"], upstream["message"])
    assert await ears.refused(compose("get_run", ids), status=404) == f"No run found with id '{ids['run']}'."
    for call in (compose("get_message", ids), cursor):
        assert await ears.refused(call, status=404) == f"No message found with id '{ids['message']}'."
    world.threads.delete(upstream["thread"])
    world.assistants.delete(upstream["assistant"])
    for name, kind in (("get_thread", "thread"), ("create_message", "thread"), ("get_assistant", "assistant")):
        text = f"No {kind} found with id '{ids[kind]}'."
        assert await ears.refused(compose(name, ids, vendor=vendor), status=404) == text
    call = Call("POST", "/v1/threads/runs", {"assistant_id": ids["assistant"]})
    assert await ears.refused(call, status=404) == f"No assistant found with id '{ids['assistant']}'."
    world.files.delete(upstream["file"])
    assert await ears.refused(compose("get_file", ids), status=404) == f"No such File object: {ids['file']}"


@pytest.mark.parametrize("vendor", having("create_vector_store"), indirect=True)
async def test_a_vendor_says_what_is_not_in_a_store_in_the_callers_words(
    vendor: Vendor, start_gateway: StartGateway
) -> None:
    issued = remember(vendor)
    gateway = await start_gateway(vendor)
    ears = Ears(gateway, issued)
    ids = await stage(gateway, vendor=vendor)
    upstream = {kind: upstream_of(public) for kind, public in ids.items()}
    world = vendor.simulator.worlds["acme"]
    world.stores.remove_file(upstream["vector_store"], upstream["file"])
    text = f"No file found with id '{ids['file']}' in vector store '{ids['vector_store']}'."
    assert await ears.refused(compose("get_store_file", ids), status=404) == text
    world.files.delete(upstream["file"])
    call = Call("POST", "/v1/vector_stores", {"file_ids": [ids["file"]]})
    assert await ears.refused(call, status=404) == f"No file found with id '{ids['file']}'."
    world.stores.delete(upstream["vector_store"])
    text = f"No vector store found with id '{ids['vector_store']}'."
    for name in ("get_vector_store", "get_batch", "search_vector_store"):
        assert await ears.refused(compose(name, ids), status=404) == text


async def test_the_texts_of_a_locked_thread_name_public_ids(vendor: Vendor, start_gateway: StartGateway) -> None:
    """Clients parse them, with patterns such as `run_\\w+`."""
    issued = remember(vendor)
    gateway = await start_gateway(vendor)
    ears = Ears(gateway, issued)
    ids = await stage(gateway, vendor=vendor, say="call add")
    said = {"role": "user", "content": "more"}
    text = await ears.refused(Call("POST", f"/v1/threads/{ids['thread']}/messages", said), status=400)
    assert text == f"Can't add messages to {ids['thread']} while a run {ids['run']} is active."
    assert re.findall(r"run_\w+", text) == [ids["run"]]
    run = {"assistant_id": ids["assistant"]}
    for stream in (False, True):
        body = {**run, "stream": stream}
        text = await ears.refused(Call("POST", f"/v1/threads/{ids['thread']}/runs", body), status=400)
        assert text == f"Thread {ids['thread']} already has an active run {ids['run']}."


async def test_texts_without_ids_of_ours_come_as_they_are(vendor: Vendor, start_gateway: StartGateway) -> None:
    """Ids of tool calls among them: they go out and come back as the model made them."""
    gateway = await start_gateway(vendor)
    ears = Ears(gateway, remember(vendor))
    ids = await stage(gateway, vendor=vendor, say="call add")
    run = f"/v1/threads/{ids['thread']}/runs/{ids['run']}"
    wrong = {"tool_outputs": [{"tool_call_id": "call_X", "output": "3"}]}
    text = await ears.refused(Call("POST", f"{run}/submit_tool_outputs", wrong), status=400)
    assert text == f"Expected tool outputs for call_ids ['{ids['call']}'], got ['call_X']"
    await ears("submit", compose("submit_tool_outputs", ids))
    text = await ears.refused(compose("submit_tool_outputs", ids), status=400)
    assert text == 'Runs in status "queued" do not accept tool outputs.'
    await ears("poll", compose("get_run", ids))
    assert await ears.refused(compose("modify_run", ids), status=400) == "Cannot update run with status 'in_progress'."
    await ears("poll", compose("get_run", ids))
    assert await ears.refused(compose("cancel_run", ids), status=400) == "Cannot cancel run with status 'completed'."
    for body, text, param, code in (
        (
            {"assistant_id": ids["assistant"]},
            "Run creation requires a Thread with a user message or an assistant with instructions.",
            None,
            "invalid_thread",
        ),
        (
            {"assistant_id": ids["assistant"], "metadata": {"modified": True}},
            "Invalid type for 'metadata.modified': expected a string, but got a boolean instead.",
            "metadata.modified",
            "invalid_type",
        ),
    ):
        error = (await ears("error", Call("POST", "/v1/threads/runs", body), status=400)).json["error"]
        expected = {"message": text, "type": "invalid_request_error", "param": param, "code": code}
        if not names_params(vendor):
            expected |= {"param": None, "code": error["code"]}
        assert {name: error[name] for name in expected} == expected


ODD = {
    "run": "Run {run} of thread {thread} wants file {file}",
    "message": " ({assistant}/{message}): {step}",
    "vector_store": ", store '{vector_store}'",
    "batch": "; {batch}",
}


def odd(ids: Mapping[str, str]) -> str:
    """A sentence with all of these ids."""
    return "".join(words.format(**ids) for kind, words in ODD.items() if kind in ids)


def masked(ids: Mapping[str, str], *named: str) -> dict[str, str]:
    """As a caller hears of ids when its request named these kinds. What is found by its id alone may be another's."""
    stay = {*named, "message", "run", "step", "batch"}
    return {kind: each if kind in stay else re.sub(r"(?<=[_-]).*", "***", each) for kind, each in ids.items()}


async def test_ids_in_any_sentence_are_public_or_masked_and_public_ones_stay(
    vendor: Vendor, start_gateway: StartGateway
) -> None:
    """A public id that the vendor repeats is not signed twice."""
    issued = remember(vendor)
    gateway = await start_gateway(vendor)
    ears = Ears(gateway, issued)
    ids = await stage(gateway, vendor=vendor)
    upstream = {kind: upstream_of(public) for kind, public in ids.items()}
    told = {"message": odd(upstream), "type": "x", "param": None, "code": None, "hint": odd(upstream)}
    vendor.simulator.faults.add(faults.status(400, {"error": told}))
    error = (await ears("error", compose("get_run_step", ids, vendor=vendor), status=400)).json["error"]
    assert (error["message"], error["hint"]) == (odd(masked(ids, "thread")),) * 2
    vendor.simulator.faults.add(faults.status(400, {"error": {"message": odd(ids)}}))
    assert await ears.refused(compose("create_thread", ids, vendor=vendor), status=400) == odd(ids)


@pytest.mark.parametrize("wrapped", [False, True])
async def test_an_error_in_a_stream_names_public_ids(
    start_vendor: StartVendor, start_gateway: StartGateway, wrapped: bool
) -> None:
    """And it comes wrapped, because unwrapped it raises nothing in the SDK."""
    vendor = await start_vendor("openai")
    issued = remember(vendor)
    gateway = await start_gateway(vendor)
    ears = Ears(gateway, issued)
    ids = await stage(gateway)
    upstream = {kind: upstream_of(public) for kind, public in ids.items()}
    error = {"message": odd(upstream), "type": "server_error", "param": None, "code": "oops"}
    event = b"event: error\ndata: " + orjson.dumps({"error": error} if wrapped else error) + b"\n\n"
    vendor.simulator.faults.add(faults.transform(lambda body: [event, b"event: done\ndata: [DONE]\n\n"]))
    call = Call("POST", f"/v1/threads/{ids['thread']}/runs", {"assistant_id": ids["assistant"], "stream": True})
    heard = await ears("stream", call)
    data = orjson.loads(heard.body.split(b"data: ")[1].split(b"\n")[0])
    assert data == {"error": {**error, "message": odd(masked(ids, "thread", "assistant"))}}
