"""Version 1 of the protocol: its shapes, its files, and what it does not know of version 2."""

import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

import aiohttp
import pytest
from openai import AsyncOpenAI

from tests.sdk import http_client
from tests.simulators.base import Simulator
from tests.simulators.conftest import ONE, OTHER, V1, V2, Caller, StartSimulator
from tests.simulators.openai_v1 import OPENAI_V1
from tests.simulators.threads_server.routes import MESSAGE

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

FIELDS = {
    "assistant": "id object created_at name description model instructions tools file_ids metadata",
    "thread": "id object created_at metadata",
    "thread.message": "id object created_at thread_id role content assistant_id run_id file_ids metadata",
    "thread.run": "id object created_at thread_id assistant_id status required_action last_error expires_at "
    "started_at cancelled_at failed_at completed_at incomplete_details model instructions tools file_ids metadata "
    "usage temperature top_p max_prompt_tokens max_completion_tokens truncation_strategy tool_choice "
    "response_format",
    "assistant.file": "id object created_at assistant_id",
    "thread.message.file": "id object created_at message_id",
}
"""As the description has them; a message outside a stream lacks its status and what belongs to that."""
IN_STREAM = "status incomplete_details completed_at incomplete_at"
V2_WORDS = ("tool_resources", "attachments", "file_search", "parallel_tool_calls", "reasoning_effort")


@pytest.fixture
async def vendor(start_simulator: StartSimulator) -> Simulator:
    return await start_simulator("openai_v1")


@pytest.fixture
async def file_ids(call: Caller) -> list[str]:
    """Two files to attach."""
    return [await upload(call, name) for name in ("a.txt", "b.txt")]


@pytest.fixture
async def client(vendor: Simulator) -> AsyncIterator[AsyncOpenAI]:
    """The SDK asks for version 2 at each of its calls; here another version is written over it."""

    async def ask_for_v1(request: Any) -> None:
        request.headers.update(V1)

    v1_client = http_client(event_hooks={"request": [ask_for_v1]})
    async with AsyncOpenAI(api_key=ONE, base_url=vendor.url, max_retries=0, http_client=v1_client) as opened:
        yield opened


async def upload(call: Caller, name: str) -> str:
    form = aiohttp.FormData({"purpose": "assistants"})
    form.add_field("file", b"some text", filename=name)
    return str((await call("POST", "/files", data=form))[1]["id"])


def read_events(stream: bytes) -> list[tuple[str, Any]]:
    """Names and objects, the last event without an object left out."""
    pairs = [event.split("\n") for event in stream.decode().strip().split("\n\n")[:-1]]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in pairs]


async def run_stream(call: Caller, say: str, file_ids: list[str]) -> list[tuple[str, Any]]:
    """The events of a new run of an assistant with all tools, asked to say something about its files."""
    add = {"type": "function", "function": {"name": "add", "parameters": {}}}
    tools = [{"type": "retrieval"}, {"type": "code_interpreter"}, add]
    made = await call("POST", "/assistants", {"model": "m", "tools": tools, "file_ids": file_ids})
    thread = {"messages": [{"role": "user", "content": say, "file_ids": file_ids[:1]}]}
    body = {"assistant_id": made[1]["id"], "thread": thread, "stream": True, "tool_choice": {"type": "retrieval"}}
    return read_events((await call("POST", "/threads/runs", body))[1])


def check_fields(records: Iterable[dict[str, Any]], more: str = "") -> None:
    for record in records:
        expected = set(FIELDS[record["object"]].split()) | set(more.split())
        assert record.keys() == expected, record["object"]


# ---- shapes -----------------------------------------------------------------------------------------------


async def test_objects_have_the_fields_of_version_1(call: Caller, file_ids: list[str]) -> None:
    tools = [{"type": "retrieval"}, {"type": "function", "function": {"name": "add", "parameters": {}}}]
    body = {"model": "m", "instructions": "x", "tools": tools, "file_ids": file_ids, "temperature": 0.5}
    assistant = (await call("POST", "/assistants", body))[1]
    assert (assistant["tools"], assistant["file_ids"]) == (tools, file_ids)
    thread = (await call("POST", "/threads", {"messages": [{"role": "user", "content": "a", "file_ids": file_ids}]}))[1]
    path = f"/threads/{thread['id']}"
    message = (await call("POST", f"{path}/messages", {"role": "user", "content": "b"}))[1]
    run = (await call("POST", f"{path}/runs", {"assistant_id": assistant["id"]}))[1]
    assert (run["tools"], run["file_ids"], run["temperature"]) == (tools, file_ids, 0.5)
    check_fields([assistant, thread, message, run])
    listed = (await call("GET", f"{path}/messages?order=asc"))[1]["data"]
    assert [each["file_ids"] for each in listed] == [file_ids, []]
    check_fields([*listed, *(await call("GET", "/assistants"))[1]["data"], (await call("GET", path))[1]])
    await call("GET", f"{path}/runs/{run['id']}")
    await call("GET", f"{path}/runs/{run['id']}")
    check_fields((await call("GET", f"{path}/runs"))[1]["data"])


@pytest.mark.parametrize("say", ["plot", "search", "call add", "fail", "truncate"])
async def test_events_have_the_shapes_of_version_1(call: Caller, file_ids: list[str], say: str) -> None:
    events = await run_stream(call, say, file_ids)
    assert "thread.run.incomplete" not in dict(events)
    objects = [record for _, record in events]
    assert not [word for word in V2_WORDS if f'"{word}"' in json.dumps(objects)]
    check_fields(each for each in objects if each["object"] in ("thread", "thread.run"))
    check_fields((each for each in objects if each["object"] == "thread.message"), IN_STREAM)
    assert {each["tool_choice"]["type"] for each in objects if each["object"] == "thread.run"} == {"retrieval"}


async def test_a_run_cut_short_is_completed(call: Caller) -> None:
    name, run = (await run_stream(call, "truncate", []))[-1]
    assert (name, run["status"]) == ("thread.run.completed", "completed")
    assert run["incomplete_details"] == {"reason": "max_completion_tokens"}
    assert run["completed_at"] is not None
    read = (await call("GET", f"/threads/{run['thread_id']}/runs/{run['id']}"))[1]
    assert read == run


async def test_what_is_retrieved_is_cited_with_a_quote(call: Caller, file_ids: list[str]) -> None:
    events = dict(await run_stream(call, "search", file_ids))
    [cited] = events["thread.message.completed"]["content"][0]["text"]["annotations"]
    assert (cited["file_citation"]["file_id"], bool(cited["file_citation"]["quote"])) == (file_ids[0], True)
    run = events["thread.run.completed"]
    steps = (await call("GET", f"/threads/{run['thread_id']}/runs/{run['id']}/steps?order=asc"))[1]["data"]
    [called] = steps[0]["step_details"]["tool_calls"]
    assert called == {"id": called["id"], "type": "retrieval", "retrieval": {}}


async def test_sdk_polls_and_streams(client: AsyncOpenAI, vendor: Simulator) -> None:
    tool: Any = {"type": "retrieval"}
    notes = await client.files.create(file=b"text", purpose="assistants")
    more = {"file_ids": [notes.id]}
    assistant = await client.beta.assistants.create(model="gpt-4", tools=[tool], extra_body=more)
    assert assistant.model_extra == more
    thread = await client.beta.threads.create(messages=[{"role": "user", "content": "hi"}])
    run = await client.beta.threads.runs.create(thread.id, assistant_id=assistant.id)
    for status in ("in_progress", "completed"):
        assert (await client.beta.threads.runs.retrieve(run.id, thread_id=thread.id)).status == status
    async with client.beta.threads.runs.stream(thread_id=thread.id, assistant_id=assistant.id) as stream:
        assert "".join([delta async for delta in stream.text_deltas]) == "You said: hi"
    assert [each.id async for each in client.beta.assistants.list()] == [assistant.id]
    assert {received.headers["OpenAI-Beta"] for received in vendor.journal} == {"assistants=v1"}


# ---- files ------------------------------------------------------------------------------------------------


async def test_files_of_an_assistant_are_attached_listed_and_detached(call: Caller, file_ids: list[str]) -> None:
    assistant = (await call("POST", "/assistants", {"model": "m"}))[1]["id"]
    path = f"/assistants/{assistant}/files"
    for file_id in file_ids:
        status, attached, _ = await call("POST", path, {"file_id": file_id})
        assert (status, attached["id"], attached["assistant_id"]) == (200, file_id, assistant)
        check_fields([attached])
    page = (await call("GET", f"{path}?order=asc&limit=1"))[1]
    assert ([each["id"] for each in page["data"]], page["has_more"]) == (file_ids[:1], True)
    page = (await call("GET", f"{path}?order=asc&after={page['last_id']}"))[1]
    assert ([each["id"] for each in page["data"]], page["has_more"]) == (file_ids[1:], False)
    check_fields([(await call("GET", f"{path}/{file_ids[0]}"))[1]])
    detached = {"id": file_ids[0], "object": "assistant.file.deleted", "deleted": True}
    assert (await call("DELETE", f"{path}/{file_ids[0]}"))[:2] == (200, detached)
    assert (await call("GET", f"{path}/{file_ids[0]}"))[0] == 404
    assert (await call("GET", f"/assistants/{assistant}"))[1]["file_ids"] == file_ids[1:]
    assert (await call("GET", f"/files/{file_ids[0]}"))[0] == 200
    assert (await call("POST", f"/assistants/{assistant}", {"file_ids": file_ids}))[1]["file_ids"] == file_ids
    assert (await call("POST", f"/assistants/{assistant}", {"name": "x"}))[1]["file_ids"] == file_ids
    assert (await call("POST", f"/assistants/{assistant}", {"file_ids": []}))[1]["file_ids"] == []
    assert (await call("POST", path, {"file_id": "file-x"}))[0] == 404
    assert (await call("GET", path, key=OTHER))[0] == 404


async def test_files_of_a_message_can_be_read(call: Caller, file_ids: list[str]) -> None:
    thread = (await call("POST", "/threads", {}))[1]["id"]
    body = {"role": "user", "content": "x", "file_ids": file_ids}
    path = f"/threads/{thread}/messages"
    path += f"/{(await call('POST', path, body))[1]['id']}/files"
    listed = (await call("GET", f"{path}?order=asc"))[1]
    assert [each["id"] for each in listed["data"]] == file_ids
    check_fields([*listed["data"], (await call("GET", f"{path}/{file_ids[1]}"))[1]])
    assert (await call("GET", f"{path}/file-x"))[0] == 404
    assert (await call("POST", path, {"file_id": file_ids[0]}))[0] == 405


# ---- what version 1 does not know -------------------------------------------------------------------------

MESSAGE_BODY = {"role": "user", "content": "x"}
RUN_BODY = {"assistant_id": "asst_x"}


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/assistants", {"model": "m", "tool_resources": {}}, "tool_resources"),
        ("/assistants", {"model": "m", "reasoning_effort": "low"}, "reasoning_effort"),
        ("/assistants/asst_x", {"tool_resources": None}, "tool_resources"),
        (
            "/assistants",
            {"model": "m", "tools": [{"type": "function", "function": {"name": "f", "strict": True}}]},
            "tools[0].function.strict",
        ),
        ("/threads", {"tool_resources": {}}, "tool_resources"),
        ("/threads", {"messages": [MESSAGE_BODY, MESSAGE_BODY | {"attachments": []}]}, "messages[1].attachments"),
        ("/threads/thread_x", {"tool_resources": {}}, "tool_resources"),
        ("/threads/thread_x/messages", MESSAGE_BODY | {"attachments": None}, "attachments"),
        ("/threads/runs", RUN_BODY | {"parallel_tool_calls": True}, "parallel_tool_calls"),
        ("/threads/runs", RUN_BODY | {"thread": {"tool_resources": {}}}, "thread.tool_resources"),
        ("/threads/thread_x/runs", RUN_BODY | {"reasoning_effort": None}, "reasoning_effort"),
        ("/threads/thread_x/runs?include[]=x", RUN_BODY, "include[]"),
        (
            "/threads/thread_x/runs",
            RUN_BODY | {"additional_messages": [MESSAGE_BODY | {"attachments": []}]},
            "additional_messages[0].attachments",
        ),
    ],
)
async def test_fields_of_version_2_are_unknown(call: Caller, path: str, body: dict[str, Any], param: str) -> None:
    status, error, _ = await call("POST", path, body)
    unknown = {"message": f"Unknown parameter: '{param}'.", "param": param, "code": "unknown_parameter"}
    assert (status, error["error"]) == (400, unknown | {"type": "invalid_request_error"})


@pytest.mark.parametrize(
    ("path", "body", "param", "code"),
    [
        ("/assistants", {"model": "m", "tools": [{"type": "file_search"}]}, "tools[0].type", "invalid_value"),
        ("/threads/runs", RUN_BODY | {"tool_choice": "required"}, "tool_choice", "invalid_value"),
        ("/threads/runs", RUN_BODY | {"tool_choice": {"type": "file_search"}}, "tool_choice.type", "invalid_value"),
        (
            "/assistants",
            {"model": "m", "response_format": {"type": "json_schema"}},
            "response_format.type",
            "invalid_value",
        ),
        ("/assistants", {"model": "m", "file_ids": ["file-x"] * 21}, "file_ids", "array_above_max_length"),
        (
            "/threads/thread_x/messages",
            MESSAGE_BODY | {"file_ids": ["file-x"] * 11},
            "file_ids",
            "array_above_max_length",
        ),
        ("/threads/thread_x/messages", MESSAGE_BODY | {"content": [{}]}, "content", "invalid_type"),
        (
            "/threads",
            {"messages": [MESSAGE_BODY | {"content": [{"type": "text", "text": "x"}]}]},
            "messages[0].content",
            "invalid_type",
        ),
        ("/threads", {"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter"),
        ("/threads/runs", RUN_BODY | {"thread": {"messages": 1}}, "messages", "invalid_type"),
    ],
)
async def test_values_of_version_2_are_refused(
    call: Caller, path: str, body: dict[str, Any], param: str, code: str
) -> None:
    status, error, _ = await call("POST", path, body)
    assert (status, error["error"]["param"], error["error"]["code"]) == (400, param, code)


@pytest.mark.parametrize("beta", ["", V2["OpenAI-Beta"], "assistants=v1, assistants=v2", "realtime=v1"])
async def test_no_other_version_is_served(call: Caller, beta: str) -> None:
    status, error, _ = await call("POST", "/threads", {}, headers={"OpenAI-Beta": beta})
    assert (status, error["error"]["code"]) == (400, "invalid_beta")
    assert "'OpenAI-Beta: assistants=v1'" in error["error"]["message"]


async def test_later_operations_are_not_there(call: Caller) -> None:
    assert (await call("DELETE", MESSAGE.format(thread_id="thread_x", message_id="msg_x")))[0] == 405
    assert (await call("GET", "/vector_stores"))[0] == 404
    assert (await call("GET", "/threads"))[0] == 405
    assert len([route for route in OPENAI_V1.routes if route.is_of_threads]) == 28
