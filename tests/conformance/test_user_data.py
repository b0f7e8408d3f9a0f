"""What belongs to callers is never looked at: texts, metadata, arguments, outputs, schemas, names, unknown fields.
It reaches the vendor as it was sent and comes back as it was stored, however much it looks like an id."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import pytest

from gateway.operations import Version
from tests.conformance.conftest import (
    TOOLS,
    Call,
    fill,
    hear,
    holes_in,
    id_places,
    ok,
    query_heard,
    stage,
    takes_unknown_fields,
    upstream_of,
    version_of,
)
from tests.conftest import TENANT_KEYS, Running, StartGateway, StartVendor, Vendor
from tests.simulators import faults
from tests.simulators.faults import Received
from tests.simulators.v1_shapes import lower_tools


@pytest.fixture
async def gateway(vendor: Vendor, start_gateway: StartGateway) -> Running:
    return await start_gateway(vendor)


def lookalikes(ids: Mapping[str, str]) -> str:
    """One text (fewer than 512 characters) with real ids in both spellings, and with words that look like ids."""
    thread, file = ids["thread"], ids["file"]
    invented = f"run_{'x' * 24} file-{'A1' * 12}{'0' * 24} asst_1 call_{'z' * 24}"
    path = f"sandbox:/mnt/data/{upstream_of(file)}"
    return f"{thread} {upstream_of(thread)} '{file}' {path} {invented} \u2028event: done\ndata: [DONE]\r\n\\u0041\"é\0"


def schema(words: str) -> dict[str, Any]:
    """A JSON schema with names that are fields of the API elsewhere."""
    named = {"type": "string", "default": words, "enum": [words], "file_id": words}
    properties = {"thread_id": named, "file_ids": {"type": "array", "items": named, "examples": [[words]]}}
    return {"type": "object", "properties": properties, "required": ["thread_id"], "$defs": {words[:60]: {}}}


def last_post(vendor: Vendor) -> Received:
    return next(each for each in reversed(vendor.simulator.journal) if each.method == "POST")


@dataclass(frozen=True)
class Said:
    """A call with user data, which comes back in the answer, and with other fields, which hold ids and texts. A v1
    provider hears some of those in other words."""

    path: str
    data: Mapping[str, Any] = field(default_factory=dict)
    rest: Mapping[str, Any] = field(default_factory=dict)
    rest_in_v1: Mapping[str, Any] | None = None

    def heard(self, version: Version) -> dict[str, Any]:
        """The body that the provider gets, with public ids."""
        if version == "v2":
            return {**self.data, **self.rest}
        rest = self.rest if self.rest_in_v1 is None else self.rest_in_v1
        tools = {"tools": lower_tools(self.data["tools"])} if "tools" in self.data else {}
        return {**self.data, **tools, **rest}


def bodies(ids: Mapping[str, str], version: Version) -> list[Said]:
    """Calls that take user data, all that this version of the protocol knows."""
    words = lookalikes(ids)
    metadata = {words[:60]: words, "file_id": ids["file"], "thread_id": upstream_of(ids["thread"])}
    function = {"name": "run_abc", "description": words, "parameters": schema(words)}
    tools = [{"type": "function", "function": function}, *TOOLS]
    choice = {"type": "function", "function": {"name": "run_abc"}}
    files = {"code_interpreter": {"file_ids": [ids["file"]]}}
    text = [{"type": "text", "text": words}]
    spoken = {"role": "user", "content": text}
    attached = [{"file_id": ids["file"], "tools": [{"type": "code_interpreter"}]}]
    shared = {"instructions": words, "metadata": metadata, "tools": tools, "model": f"ft:{ids['thread']}"}
    assistant = {**shared, "name": words[:250], "description": words}
    run = {**shared, "tool_choice": choice}
    thread, message = f"/v1/threads/{ids['thread']}", f"/v1/threads/{ids['thread']}/messages"
    said = [
        Said("/v1/assistants", assistant),
        Said("/v1/assistants", assistant, {"tool_resources": files}, {"file_ids": [ids["file"]]}),
        Said(f"/v1/assistants/{ids['assistant']}", assistant, {"tool_resources": files}, {"file_ids": [ids["file"]]}),
        Said(
            "/v1/threads",
            {"metadata": metadata},
            {"messages": [spoken]},
            {"messages": [{"role": "user", "content": words}]},
        ),
        Said(thread, {"metadata": metadata}),
        Said(message, {"role": "user", "metadata": metadata}, {"content": words}),
        Said(
            message,
            {"role": "user", "metadata": metadata},
            {"content": text, "attachments": attached},
            {"content": words, "file_ids": [ids["file"]]},
        ),
        Said(f"{message}/{ids['message']}", {"metadata": metadata}),
        Said(f"{thread}/runs", run, {"assistant_id": ids["assistant"]}),
        Said("/v1/threads/runs", run, {"assistant_id": ids["assistant"], "thread": {"messages": []}}),
        Said(f"{thread}/runs/{ids['run']}", {"metadata": metadata}),
    ]
    return said if version == "v1" else [*said, *_bodies_of_v2(ids, words, metadata)]


def _bodies_of_v2(ids: Mapping[str, str], words: str, metadata: Mapping[str, str]) -> list[Said]:
    """Strict functions, schemas of answers, files of threads, vector stores, attachments for no tool."""
    function = {"name": "run_abc", "description": words, "parameters": schema(words), "strict": False}
    form = {"type": "json_schema", "json_schema": {"name": "file_id", "schema": schema(words)}}
    typed = {"tools": [{"type": "function", "function": function}, *TOOLS], "response_format": form, "model": "m"}
    files = {"code_interpreter": {"file_ids": [ids["file"]]}}
    resources = {
        "tool_resources": files
        | {"file_search": {"vector_stores": [{"file_ids": [ids["file"]], "metadata": metadata}]}}
    }
    text = [{"type": "text", "text": words}]
    thread, store = f"/v1/threads/{ids['thread']}", f"/v1/vector_stores/{ids['vector_store']}"
    return [
        Said("/v1/assistants", typed, resources),
        Said(f"/v1/assistants/{ids['assistant']}", typed, resources),
        Said("/v1/threads", {"metadata": metadata}, {"messages": [{"role": "user", "content": text}], **resources}),
        Said(thread, {"metadata": metadata}, resources),
        Said(f"{thread}/messages", {"role": "user"}, {"content": text, "attachments": [{"file_id": ids["file"]}]}),
        Said(f"{thread}/runs", typed, {"assistant_id": ids["assistant"]}),
        Said("/v1/threads/runs", typed, {"assistant_id": ids["assistant"], "thread": {"messages": [], **resources}}),
        Said("/v1/vector_stores", {"name": words[:250], "metadata": metadata}, {"file_ids": [ids["file"]]}),
        Said(store, {"name": words[:250], "metadata": metadata}),
        Said(f"{store}/files", {"attributes": metadata}, {"file_id": ids["file"]}),
        Said(f"{store}/files/{ids['file']}", {"attributes": metadata}),
        Said(f"{store}/search", {}, {"query": words, "filters": {"type": "eq", "key": ids["file"], "value": words}}),
    ]


def with_upstream_ids(value: Any, ids: Mapping[str, str]) -> Any:
    """The part of a body that holds ids and texts: whole values that are public ids become upstream ids, but not in
    fields of the caller's own."""
    if isinstance(value, dict):
        return {
            name: inner if name in ("filters", "metadata") else with_upstream_ids(inner, ids)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [with_upstream_ids(item, ids) for item in value]
    return upstream_of(value) if value in ids.values() else value


async def test_user_data_reaches_the_vendor_and_comes_back_unchanged(vendor: Vendor, gateway: Running) -> None:
    """In every field that may hold it, with and without real ids beside it."""
    ids = await stage(gateway, vendor=vendor)
    odd = {"x_unknown": {"file_id": ids["file"], "run_id": [upstream_of(ids["run"])]}}
    unknown = odd if takes_unknown_fields(vendor) else {}
    for said in bodies(ids, version_of(vendor)):
        answer = await ok(gateway, "POST", said.path, {**said.data, **said.rest, **unknown})
        assert answer.get("search_query") in (None, [said.rest.get("query")])
        for name, value in said.data.items():
            shown = answer[name]  # a modification may leave other metadata where it was
            assert value.items() <= shown.items() if name == "metadata" else value == shown, (said.path, name)
        heard = said.heard(version_of(vendor))
        expected = {**heard, **with_upstream_ids({n: each for n, each in heard.items() if n not in said.data}, ids)}
        assert json.loads(last_post(vendor).body) == {**expected, **unknown}, said.path
        if said.path == f"/v1/threads/{ids['thread']}/runs":
            await ok(gateway, "POST", f"{said.path}/{answer['id']}/cancel")
            await ok(gateway, "GET", f"{said.path}/{answer['id']}")


async def test_a_field_nobody_knows_is_the_vendors_to_judge(vendor: Vendor, gateway: Running) -> None:
    """It is neither refused nor left out by the gateway, at whatever depth: in a body that is passed on as it came,
    and in one that is written anew."""
    file = (await stage(gateway, vendor=vendor))["file"]
    odd = {"file_id": file, "x": [1, {"tool_resources": {"y": None}}]}
    attached = {"attachments": [{"file_id": file, "tools": [{"type": "code_interpreter"}]}]}
    heard = {"v1": {"file_ids": [upstream_of(file)]}, "v2": with_upstream_ids(attached, {"file": file})}
    for more, more_heard in (({}, {}), (attached, heard[version_of(vendor)])):
        message = {"role": "user", "content": "hello", "x_unknown": odd}
        status, answer, _ = await gateway.call("POST", "/v1/threads", {"messages": [{**message, **more}]})
        assert json.loads(last_post(vendor).body) == {"messages": [{**message, **more_heard}]}
        if takes_unknown_fields(vendor):
            assert status == 200
        else:
            assert (status, answer["error"]["param"]) == (400, "messages[0].x_unknown")


async def test_texts_arguments_and_outputs_go_round_unchanged(vendor: Vendor, gateway: Running) -> None:
    """Spoken to the model, called by it, answered to it, streamed and stored."""
    ids = await stage(gateway, vendor=vendor)
    words = lookalikes(ids)
    arguments = json.dumps({"thread_id": words, "file_ids": [ids["file"]]}, ensure_ascii=False)
    said = f"{words} call add {arguments}"
    messages = f"/v1/threads/{ids['thread']}/messages"
    message = await ok(gateway, "POST", messages, {"role": "user", "content": said})
    assert message["content"][0]["text"]["value"] == said
    run = {"assistant_id": ids["assistant"], "stream": True}
    heard = await hear(gateway, Call("POST", f"/v1/threads/{ids['thread']}/runs", run))
    events = [json.loads(line[6:]) for line in heard.body.split(b"\n") if line.startswith(b"data: {")]
    assert events[-1]["status"] == "requires_action"
    [call] = events[-1]["required_action"]["submit_tool_outputs"]["tool_calls"]
    assert call["function"]["arguments"] == arguments
    pieces = [each["delta"]["step_details"]["tool_calls"][0]["function"] for each in events if "delta" in each]
    assert "".join(piece["arguments"] for piece in pieces) == arguments

    outputs = {"tool_outputs": [{"tool_call_id": call["id"], "output": words}], "stream": True}
    path = f"/v1/threads/{ids['thread']}/runs/{events[-1]['id']}"
    heard = await hear(gateway, Call("POST", f"{path}/submit_tool_outputs", outputs))
    assert json.loads(last_post(vendor).body) == outputs
    events = [json.loads(line[6:]) for line in heard.body.split(b"\n") if line.startswith(b"data: {")]
    spoken = [each["delta"]["content"][0]["text"]["value"] for each in events if "delta" in each]
    assert "".join(spoken) == f"The tools answered: {words}"
    stored = await ok(gateway, "GET", messages + "?order=desc&limit=1")
    assert stored["data"][0]["content"][0]["text"]["value"] == f"The tools answered: {words}"
    steps = await ok(gateway, "GET", f"{path}/steps?order=asc")
    assert steps["data"][0]["step_details"]["tool_calls"][0]["function"] == {
        "name": "add",
        "arguments": arguments,
        "output": words,
    }


async def test_code_and_its_paths_stay_even_if_they_hold_upstream_ids(vendor: Vendor, gateway: Running) -> None:
    """A path in a sandbox is the vendor's file name, not an id that could be used."""
    ids = await stage(gateway, vendor=vendor)
    bare = upstream_of(ids["file"])
    code, path = f"open('{bare}')", f"sandbox:/mnt/data/{bare}.csv"

    def change(body: bytes) -> list[bytes]:
        return [body.replace(b"sandbox:/mnt/data/plot.csv", path.encode()).replace(b"plot(1, 1)", code.encode())]

    vendor.simulator.faults.add(faults.transform(change), path="/(messages|steps)$", method="GET", times=None)
    body = {"assistant_id": ids["assistant"], "stream": True}
    body["additional_messages"] = [{"role": "user", "content": "plot"}]
    runs = f"/v1/threads/{ids['thread']}/runs"
    await hear(gateway, Call("POST", runs, body))
    run = (await ok(gateway, "GET", f"{runs}?limit=1"))["data"][0]["id"]
    messages = await ok(gateway, "GET", f"/v1/threads/{ids['thread']}/messages?run_id={run}")
    text = messages["data"][0]["content"][1]["text"]
    assert path in text["value"]
    assert text["annotations"][0]["text"] == path
    steps = await ok(gateway, "GET", f"{runs}/{run}/steps?order=asc")
    assert steps["data"][0]["step_details"]["tool_calls"][0]["code_interpreter"]["input"].startswith(code)


# --- bytes ----------------------------------------------------------------------------------------------------------

ODD_JSON = (
    b'{ "metadata" :\t{"a":"b",  "\\u0063":"\\u00e9\\/\\ud83d\\ude00"}\r\n,"unknown":{"in":[1,2.50,{"file_id":"x"}]} }',
    b'{"big":123456789012345678901234567890,"nested":{"edge":18446744073709551616,"neg":-9223372036854775809}}',
    b'{"lone":"\\ud800 and \\udfff","metadata":{"a":"\\udc80"}}',
    b'{"float":-0.0,"exp":1E5,"long":0.1000000000000000055511151231257827,"whole":1.0,"null":null}',
    '{"metadata":{"é":"ü\u2028 🎈"},"empty":"","unknown":[]}'.encode(),
    b'{ "metadata" :\t{"a":"b",  "\\u0063":"\\u00e9\\/\\ud83d\\ude00 \\ud800"}\r\n} ',
    b"{}",
    b"",
)


def is_all_known(raw: bytes) -> bool:
    return json.loads(raw or b"{}").keys() <= {"metadata"}


@pytest.mark.parametrize("raw", ODD_JSON)
async def test_a_body_without_ids_reaches_the_vendor_byte_for_byte(
    vendor: Vendor, gateway: Running, raw: bytes
) -> None:
    """Spacing, escapes, unknown fields, numbers that no double holds, halves of surrogate pairs."""
    status, heard = await hear_raw(gateway, "/v1/threads", raw)
    [received] = vendor.simulator.journal
    assert received.body == raw
    assert received.headers["Content-Type"] == "application/json; charset=utf-8"
    assert status == (200 if is_all_known(raw) or takes_unknown_fields(vendor) else 400), heard
    assert status == 400 or json.loads(heard)["metadata"] == json.loads(raw or b"{}").get("metadata", {})


async def hear_raw(gateway: Running, path: str, raw: bytes) -> tuple[int, bytes]:
    headers = {"Content-Type": "application/json; charset=utf-8", "Authorization": f"Bearer {TENANT_KEYS['alice']}"}
    async with gateway.session.post(gateway.url + path, data=raw, headers=headers) as response:
        return response.status, await response.read()


BESIDE: Mapping[str, Any] = {
    "create_run": {"assistant_id": "{assistant}"},
    "create_thread": {"tool_resources": {"code_interpreter": {"file_ids": ["{file}"]}}},
}
"""What needs no other words for any vendor that takes it."""


@pytest.mark.parametrize("raw", [raw for raw in ODD_JSON if raw])
async def test_a_body_with_ids_keeps_everything_else(vendor: Vendor, gateway: Running, raw: bytes) -> None:
    """Every value and the order of the names; only spacing and escapes may be written otherwise."""
    ids = await stage(gateway, vendor=vendor)
    paths = {"create_run": f"/v1/threads/{ids['thread']}/runs", "create_thread": "/v1/threads"}
    places = {name: set(holes_in(value, "body")) for name, value in BESIDE.items()}
    taken = [name for name in BESIDE if places[name] <= set(id_places(name, vendor))]
    assert taken
    for name in taken:

        def beside(spell: Callable[[str], str], value: Any = BESIDE[name]) -> bytes:
            filled = json.dumps(fill(value, lambda _, kind: spell(ids[kind]), "body")).encode()
            return filled[:-1] + (b"," if json.loads(raw) else b"") + raw.lstrip()[1:]

        status, heard = await hear_raw(gateway, paths[name], beside(str))
        assert status == (200 if is_all_known(raw) or takes_unknown_fields(vendor) else 400), heard
        sent = json.loads(beside(upstream_of), object_pairs_hook=list)
        received = json.loads(last_post(vendor).body, object_pairs_hook=list)
        assert received == sent
        assert repr(received) == repr(sent)  # 1 and 1.0 are equal, and not the same


async def test_unknown_fields_of_an_answer_reach_the_caller(
    start_vendor: StartVendor, start_gateway: StartGateway
) -> None:
    """A vendor's additions, its big integers and its halves of surrogate pairs are passed on."""
    vendor = await start_vendor("openai")
    gateway = await start_gateway(vendor)
    more = b'"x_new":{"thread_id":"kept","n":123456789012345678901234567890,"s":"\\ud800"},"x_null":null}'
    vendor.simulator.faults.add(faults.transform(lambda body: [body[:-1] + b"," + more]))
    answer = json.loads((await hear_raw(gateway, "/v1/threads", b"{}"))[1])
    added = json.loads(b"{" + more)
    assert {name: answer[name] for name in added} == added


@pytest.mark.parametrize("size", [10, 3_000_000], ids=["held", "spooled"])
async def test_an_upload_reaches_the_vendor_byte_for_byte(vendor: Vendor, gateway: Running, size: int) -> None:
    """With a file name that looks like an id, fields nobody knows, and more bytes than are held in memory."""
    ids = await stage(gateway, vendor=vendor)
    name, content = f"{ids['file']} é {upstream_of(ids['thread'])}.txt", b"\r\n--B\r\n\x00" + b"x" * size
    head = '--BB\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nassistants\r\n--BB\r\nContent-Disposition:'
    head += f' form-data; name="odd"\r\n\r\n{ids["file"]}\r\n--BB\r\nContent-Disposition: form-data; name="file";'
    raw = f'{head} filename="{name}"\r\nContent-Type: text/plain\r\n\r\n'.encode() + content + b"\r\n--BB--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=BB"}
    file = await ok(gateway, "POST", "/v1/files", data=io.BytesIO(raw), headers=headers)
    received = last_post(vendor)
    assert (received.digest, received.length) == (hashlib.sha256(raw).hexdigest(), len(raw))
    assert (file["filename"], file["bytes"]) == (name, len(content))
    heard = await hear(gateway, Call("GET", f"/v1/files/{file['id']}/content"))
    assert heard.body == content


async def test_a_query_without_ids_reaches_the_vendor_letter_for_letter(vendor: Vendor, gateway: Running) -> None:
    """Where the vendor is asked for one item more, the other parameters keep their values and their order."""
    thread = (await stage(gateway, vendor=vendor))["thread"]
    query = "x=%7e%20+%2B&x=&order=asc&limit=2&include[]=a%5B%2a%5D"
    await hear(gateway, Call("GET", f"/v1/threads/{thread}/messages?{query}"))
    received = query_heard(vendor)
    if vendor.simulator.dialect.bare_lists:
        assert parse_qsl(received, keep_blank_values=True) == [
            pair for pair in parse_qsl(query, keep_blank_values=True) if pair[0] != "limit"
        ] + [("limit", "3")]
    else:
        assert received == query
