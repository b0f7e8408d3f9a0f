"""Callers of protocol v1 in front of v2 providers: a whole conversation in shapes that v1 knows."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from aiohttp import FormData

from gateway.sse import EventParser
from tests.conftest import Running, StartGateway, Vendor

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


async def test_files_belong_to_assistants_and_messages_as_they_did(vendor: Vendor, gateway: Running) -> None:
    """The provider hears v2, the caller v1, with the same public ids on both ways."""
    file = await upload(gateway)
    tools = [{"type": "retrieval"}, {"type": "code_interpreter"}]
    assistant = await ask(gateway, "POST", "/v1/assistants", {"model": "m", "tools": tools, "file_ids": [file]})
    assert (assistant["tools"], assistant["file_ids"]) == (tools, [file])
    heard = orjson.loads(vendor.simulator.journal[-1].body)
    assert [tool["type"] for tool in heard["tools"]] == ["file_search", "code_interpreter"]
    assert heard["tool_resources"]["code_interpreter"]["file_ids"] == [file[:-24]]
    thread = await ask(gateway, "POST", "/v1/threads", {})
    said = {"role": "user", "content": "hello", "file_ids": [file], "metadata": {"file_ids": "attachments"}}
    message = await ask(gateway, "POST", f"/v1/threads/{thread['id']}/messages", said)
    assert (message["file_ids"], message["metadata"]) == ([file], said["metadata"])
    assert orjson.loads(vendor.simulator.journal[-1].body)["attachments"][0]["file_id"] == file[:-24]
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


async def test_what_v1_never_had_is_refused_by_name(vendor: Vendor, gateway: Running) -> None:
    file = await upload(gateway)
    calls = len(vendor.simulator.journal)
    body = {"model": "m", "file_ids": [file], "tool_resources": {"code_interpreter": {"file_ids": [file]}}}
    status, answer, _ = await gateway.call("POST", "/v1/assistants", body, headers=V1)
    assert (status, answer["error"]["code"]) == (400, "ambiguous_files")
    for beta in ("assistants=v3", "assistants=v1, assistants=v2"):
        status, answer, _ = await gateway.call("POST", "/v1/threads", {}, headers={"OpenAI-Beta": beta})
        assert (status, answer["error"]["code"]) == (400, "invalid_beta")
    assert len(vendor.simulator.journal) == calls
