"""Callers of protocol v1: a whole conversation in shapes that v1 knows, whichever version the provider speaks. One of
v2 hears v2; one of v1 hears the very words, and its caller hears its."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from aiohttp import FormData

from gateway.operations import BY_NAME
from gateway.sse import EventParser
from tests.conformance.conftest import LACKING, STREAMING, TOOLS, Call, hear, remember, speaking, upstream_of
from tests.conftest import Events, Running, StartGateway, Vendor
from tests.simulators import faults

pytestmark = pytest.mark.client(name="plain HTTP with `assistants=v1`")

V1 = {"OpenAI-Beta": "assistants=v1"}
V2_ONLY = {"attachments", "tool_resources", "file_search"}


@pytest.fixture
async def gateway(vendor: Vendor, start_gateway: StartGateway) -> Running:
    return await start_gateway(vendor)


async def ask(gateway: Running, method: str, path: str, body: Any = None) -> Any:
    """One v1 call that succeeds, and whose answer has nothing of v2."""
    status, answer, _ = await gateway.call(method, path, body, headers=V1)
    assert status == 200, answer
    assert not V2_ONLY & set(names(answer))
    return answer


def names(value: Any) -> list[str]:
    """Every name of every object within."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [*(value if isinstance(value, dict) else ()), *(name for each in inner for name in names(each))]


async def upload(gateway: Running) -> str:
    form = FormData()
    form.add_field("purpose", "assistants")
    form.add_field("file", b"a text", filename="a.txt")
    status, answer, _ = await gateway.call("POST", "/v1/files", data=form)
    assert status == 200, answer
    file_id: str = answer["id"]
    return file_id


async def test_files_belong_to_assistants_and_messages_as_they_did(gateway: Running) -> None:
    file = await upload(gateway)
    tools = [{"type": "retrieval"}, {"type": "code_interpreter"}]
    assistant = await ask(gateway, "POST", "/v1/assistants", {"model": "m", "tools": tools, "file_ids": [file]})
    assert (assistant["tools"], assistant["file_ids"]) == (tools, [file])
    thread = await ask(gateway, "POST", "/v1/threads", {})
    said = {"role": "user", "content": "hello", "file_ids": [file], "metadata": {"file_ids": "attachments"}}
    message = await ask(gateway, "POST", f"/v1/threads/{thread['id']}/messages", said)
    assert (message["file_ids"], message["metadata"]) == ([file], said["metadata"])
    listed = await ask(gateway, "GET", f"/v1/threads/{thread['id']}/messages")
    assert [each["file_ids"] for each in listed["data"]] == [[file]]
    assert [each["id"] for each in (await ask(gateway, "GET", "/v1/assistants"))["data"]] == [assistant["id"]]


async def test_a_run_is_polled_and_its_steps_are_read(gateway: Running) -> None:
    assistant = await ask(gateway, "POST", "/v1/assistants", {"model": "m", "tools": [{"type": "retrieval"}]})
    body = {"assistant_id": assistant["id"], "thread": {"messages": [{"role": "user", "content": "search this"}]}}
    run = await ask(gateway, "POST", "/v1/threads/runs", body)
    assert run["tools"] == [{"type": "retrieval"}]
    path = f"/v1/threads/{run['thread_id']}/runs/{run['id']}"
    while (run := await ask(gateway, "GET", path))["status"] in ("queued", "in_progress"):
        pass
    assert run["status"] == "completed"
    steps = await ask(gateway, "GET", f"{path}/steps")
    calls = [call for step in steps["data"] for call in step["step_details"].get("tool_calls", ())]
    assert [call["type"] for call in calls] == ["retrieval"]


async def test_a_stream_speaks_v1(gateway: Running) -> None:
    """A run that was cut short is `completed` to a v1 caller, and says why."""
    assistant = await ask(gateway, "POST", "/v1/assistants", {"model": "m"})
    body = {"thread": {"messages": [{"role": "user", "content": "truncate"}]}, "assistant_id": assistant["id"]}
    headers = {"Authorization": "Bearer alice-key", **V1}
    async with gateway.session.post(
        gateway.url + "/v1/threads/runs", json={**body, "stream": True}, headers=headers
    ) as response:
        events = list(EventParser().feed(await response.read()))
    assert "thread.run.incomplete" not in {event.name for event in events}
    data = [orjson.loads(event.data or b"{}") for event in events[:-1]]
    assert not V2_ONLY & set(names(data))
    run = next(each for each in reversed(data) if each["object"] == "thread.run")
    assert (run["status"], run["incomplete_details"]["reason"]) == ("completed", "max_completion_tokens")
    assert events[-1].name == "done"


async def test_every_operation_of_v1_is_there(vendor: Vendor, gateway: Running, events: Events) -> None:
    """And every stream, in front of every provider."""

    async def get(path: str) -> Any:
        return await ask(gateway, "GET", f"/v1{path}")

    async def post(path: str, body: Any) -> Any:
        return await ask(gateway, "POST", f"/v1{path}", body)

    async def delete(path: str) -> None:
        assert (await ask(gateway, "DELETE", f"/v1{path}"))["deleted"]

    async def waiting(body: dict[str, Any]) -> tuple[str, list[dict[str, str]]]:
        """The path of a run that waits for outputs, and the outputs."""
        run = await post(f"{thread}/runs", {**body, **asking})
        path = f"{thread}/runs/{run['id']}"
        while (run := await get(path))["status"] in ("queued", "in_progress"):
            pass
        calls = run["required_action"]["submit_tool_outputs"]["tool_calls"]
        return path, [{"tool_call_id": call["id"], "output": "3"} for call in calls]

    file, other = await upload(gateway), await upload(gateway)
    await get(f"/files/{file}")
    assert await get(f"/files/{file}/content") == "a text"
    made = await post("/assistants", {"model": "m", "tools": [TOOLS[0], {"type": "retrieval"}], "file_ids": [file]})
    assistant, by = f"/assistants/{made['id']}", {"assistant_id": made["id"]}
    await post(assistant, {"name": "Ann"})
    assert (await get(assistant))["name"] == "Ann"
    assert (await post(f"{assistant}/files", {"file_id": other}))["id"] == other
    assert {each["id"] for each in (await get(f"{assistant}/files"))["data"]} == {file, other}
    assert (await get(f"{assistant}/files/{other}"))["object"] == "assistant.file"

    thread = f"/threads/{(await post('/threads', {}))['id']}"
    await post(thread, {"metadata": {"a": "b"}})
    assert (await get(thread))["metadata"] == {"a": "b"}
    said = await post(f"{thread}/messages", {"role": "user", "content": "hello", "file_ids": [file]})
    message = f"{thread}/messages/{said['id']}"
    await post(message, {"metadata": {"a": "b"}})
    assert (await get(message))["metadata"] == {"a": "b"}
    assert [each["id"] for each in (await get(f"{message}/files"))["data"]] == [file]
    assert (await get(f"{message}/files/{file}"))["object"] == "thread.message.file"

    asking = {"additional_messages": [{"role": "user", "content": "call add"}]}
    run, _ = await waiting(by)
    await post(f"{run}/cancel", {})
    while (await get(run))["status"] == "cancelling":
        pass
    for streamed in ({}, {"stream": True}):
        run, outputs = await waiting(by)
        await post(f"{run}/submit_tool_outputs", {"tool_outputs": outputs, **streamed})
        while (await get(run))["status"] in ("queued", "in_progress"):
            pass
        await post("/threads/runs", {**by, "thread": {"messages": [{"role": "user", "content": "hi"}]}, **streamed})
    await post(run, {"metadata": {"a": "b"}})
    steps = (await get(f"{run}/steps"))["data"]
    assert (await get(f"{run}/steps/{steps[0]['id']}"))["id"] == steps[0]["id"]
    await post(f"{thread}/runs", {**by, "stream": True})
    for path in (f"{thread}/runs", f"{thread}/messages", "/assistants", "/files"):
        assert (await get(path))["data"]
    for path in (f"{assistant}/files/{other}", thread, assistant, f"/files/{file}"):
        await delete(path)

    done = events.named("request.done")
    assert {line["status"] for line in done} == {200}
    assert {line["operation"] for line in done} == set(BY_NAME) - LACKING["v1"]
    assert {line["operation"] for line in done if "events" in line} == STREAMING


@pytest.mark.parametrize("beta", ["assistants=v3", "assistants=v1, assistants=v2"])
async def test_one_version_is_spoken_at_a_time(vendor: Vendor, gateway: Running, beta: str) -> None:
    status, answer, _ = await gateway.call("POST", "/v1/threads", {}, headers={"OpenAI-Beta": beta})
    assert (status, answer["error"]["code"]) == (400, "invalid_beta")
    assert vendor.simulator.journal == []


# --- in front of a v2 provider --------------------------------------------------------------------------------------


@pytest.mark.parametrize("vendor", speaking("v2"), indirect=True)
async def test_a_v2_provider_hears_v2(vendor: Vendor, gateway: Running) -> None:
    """With the ids that it knows."""
    file = await upload(gateway)
    tools = [{"type": "retrieval"}, {"type": "code_interpreter"}]
    await ask(gateway, "POST", "/v1/assistants", {"model": "m", "tools": tools, "file_ids": [file]})
    heard = orjson.loads(vendor.simulator.journal[-1].body)
    assert [tool["type"] for tool in heard["tools"]] == ["file_search", "code_interpreter"]
    assert heard["tool_resources"]["code_interpreter"]["file_ids"] == [upstream_of(file)]
    thread = await ask(gateway, "POST", "/v1/threads", {})
    said = {"role": "user", "content": "hello", "file_ids": [file]}
    await ask(gateway, "POST", f"/v1/threads/{thread['id']}/messages", said)
    heard = orjson.loads(vendor.simulator.journal[-1].body)
    assert heard["attachments"][0]["file_id"] == upstream_of(file)


@pytest.mark.parametrize("vendor", speaking("v2"), indirect=True)
async def test_words_of_both_versions_for_one_thing_are_refused_by_name(vendor: Vendor, gateway: Running) -> None:
    file = await upload(gateway)
    calls = len(vendor.simulator.journal)
    body = {"model": "m", "file_ids": [file], "tool_resources": {"code_interpreter": {"file_ids": [file]}}}
    status, answer, _ = await gateway.call("POST", "/v1/assistants", body, headers=V1)
    assert (status, answer["error"]["code"]) == (400, "ambiguous_files")
    assert len(vendor.simulator.journal) == calls


# --- in front of a v1 provider --------------------------------------------------------------------------------------


async def straight(vendor: Vendor, gateway: Running, path: str) -> Any:
    """What the vendor itself answers; the order of the names counts."""
    headers = {"Authorization": f"Bearer {vendor.keys[0]}", **V1}
    url = vendor.simulator.url + path.removeprefix("/v1")
    async with gateway.session.get(url, headers=headers) as response:
        assert response.status == 200
        return json.loads(await response.read(), object_pairs_hook=list)


@pytest.mark.parametrize("vendor", speaking("v1"), indirect=True)
@pytest.mark.parametrize(
    "raw",
    [
        b'{ "model":"m",\t"tools":[{"type":"retrieval"}, {"type":"file_search"}],"x":1.0}',
        b'{"model":"m","tool_resources":{"file_search":{}},"attachments":[ ]}',
        b'{"model":"m","parallel_tool_calls":false,"response_format":{"type":"json_schema"},"tool_choice":"required"}',
        b'{"tools":[{"type":"function","function":{"strict":true}}],"content":[{"type":"text","text":"x"}]}',
    ],
)
async def test_a_v1_provider_judges_v1_callers_itself(vendor: Vendor, gateway: Running, raw: bytes) -> None:
    """Byte for byte, whatever v2 would make of it; what is refused is refused in its words."""
    headers = {"Content-Type": "application/json", "Authorization": "Bearer alice-key", **V1}
    heard = await hear(gateway, Call("POST", "/v1/assistants"), headers=headers, data=raw)
    [received] = vendor.simulator.journal
    assert (received.body, received.headers["OpenAI-Beta"]) == (raw, "assistants=v1")
    assert heard.status == 400
    assert heard.json["error"]["code"] in ("invalid_value", "unknown_parameter")


@pytest.mark.parametrize("vendor", speaking("v1"), indirect=True)
async def test_between_two_of_v1_only_ids_change(vendor: Vendor, gateway: Running) -> None:
    """In what the provider hears, and in what the caller does: no field comes, goes, moves or is renamed."""
    issued = remember(vendor)
    file = await upload(gateway)
    tools = [TOOLS[0], {"type": "retrieval"}, {"type": "code_interpreter"}]
    made: dict[str, str] = {"file": file}

    def upstream(text: str) -> str:
        for public in made.values():
            text = text.replace(public, upstream_of(public))
        return text

    async def say(kind: str, path: str, body: dict[str, Any]) -> Any:
        answer = await ask(gateway, "POST", path, body)
        made[kind] = answer["id"]
        received = json.loads(vendor.simulator.journal[-1].body, object_pairs_hook=list)
        assert received == json.loads(upstream(json.dumps(body)), object_pairs_hook=list)
        return answer

    await say("assistant", "/v1/assistants", {"model": "m", "tools": tools, "file_ids": [file]})
    said = {"role": "user", "content": "search", "file_ids": [file], "metadata": {"file_ids": "attachments"}}
    thread = (await say("thread", "/v1/threads", {"messages": [said], "metadata": {}}))["id"]
    body = {"assistant_id": made["assistant"], "tools": tools, "tool_choice": {"type": "retrieval"}}
    run = await say("run", f"/v1/threads/{thread}/runs", {**body, "additional_messages": [said]})
    runs = f"/v1/threads/{thread}/runs"
    while run["status"] in ("queued", "in_progress"):
        run = await ask(gateway, "GET", f"{runs}/{run['id']}")
    paths = [f"/v1/assistants/{made['assistant']}", f"/v1/threads/{thread}", f"/v1/threads/{thread}/messages"]
    for path in (*paths, "/v1/assistants", runs, f"{runs}/{run['id']}", f"{runs}/{run['id']}/steps"):
        heard = await hear(gateway, Call("GET", path), headers={"Authorization": "Bearer alice-key", **V1})
        told = json.dumps(await straight(vendor, gateway, upstream(path)))
        for each, _ in issued:
            told = told.replace(each, issued.public(each))
        assert json.dumps(json.loads(heard.body, object_pairs_hook=list)) == told, path


@pytest.mark.parametrize("vendor", speaking("v1"), indirect=True)
async def test_a_stream_between_two_of_v1_has_the_providers_events(vendor: Vendor, gateway: Running) -> None:
    """A run that is cut short ends in the event and with the status that v1 has for it; a search is `retrieval`."""
    issued = remember(vendor)
    assistant = await ask(gateway, "POST", "/v1/assistants", {"model": "m", "tools": [{"type": "retrieval"}]})
    told: list[bytes] = []

    def overhear(stream: bytes) -> list[bytes]:
        told.append(stream)
        return [stream]

    for word in ("truncate", "search"):
        told.clear()
        body = {"thread": {"messages": [{"role": "user", "content": word}]}, "assistant_id": assistant["id"]}
        vendor.simulator.faults.add(faults.transform(overhear), path="/runs$", method="POST")
        call = Call("POST", "/v1/threads/runs", {**body, "stream": True})
        heard = await hear(gateway, call, headers={"Authorization": "Bearer alice-key", **V1})
        [stream] = told
        for each, _ in issued:
            stream = stream.replace(each.encode(), issued.public(each).encode())
        assert events_in(heard.body) == events_in(stream)


def events_in(stream: bytes) -> list[Any]:
    """Names and data; the order of the names within counts."""
    return [
        (event.name, json.loads(event.data or b"", object_pairs_hook=list) if event.name != "done" else event.data)
        for event in EventParser().feed(stream)
    ]
