"""Tools that the vendor runs, in threads that the gateway serves: what models are given, and what callers see of it."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import orjson
import pytest
from openai import AsyncAssistantEventHandler
from openai.types.beta.threads.runs import RunStep

from gateway.engine.models.generation import (
    Annotation,
    CallArguments,
    CallBegun,
    Carried,
    Delta,
    Finish,
    HostedCall,
    TextDelta,
    Usage,
)
from tests.conformance.conftest import ok
from tests.conformance.served.conftest import ADD, Hosted, ServeHosted
from tests.conftest import eventually
from tests.simulators import faults

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the SDK marks every Assistants method so

CODE: dict[str, Any] = {"type": "code_interpreter"}
SEARCH: dict[str, Any] = {"type": "file_search"}
CONTENTS = "step_details.tool_calls[*].file_search.results[*].content"
USAGE = Usage(10, 5, 15)
THOUGHT = Carried("lines", {"call": "ci_1"})


def code(*outputs: Any, index: int = 0) -> tuple[Delta, ...]:
    call = f"ci_{index}"
    return (
        HostedCall(index, call, "code_interpreter", {"input": "print("}),
        HostedCall(index, call, "code_interpreter", {"input": "1)"}),
        HostedCall(index, call, "code_interpreter", {"outputs": list(outputs)}),
    )


def search(file: str) -> tuple[Delta, ...]:
    content = [{"type": "text", "text": "the very words"}]
    found = {"file_id": file, "file_name": "a.txt", "score": 0.5, "content": content}
    return (HostedCall(0, "fs_0", "file_search", {"results": [found]}),)


def says(*deltas: Delta, text: str = "It is 1.", index: int = 0) -> tuple[Delta, ...]:
    return (*deltas, TextDelta(index, text), USAGE, Finish("stop"))


LOGS = {"index": 0, "type": "logs", "logs": "1"}
IMAGE = {"index": 1, "type": "image", "image": {"file_id": "cfile_9", "container_id": "cntr_8"}}


# --- runs -------------------------------------------------------------------------------------------------------------
class Heard(AsyncAssistantEventHandler):
    """What the SDK's own handler makes of a stream."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.steps: list[RunStep] = []
        self.snapshots: list[RunStep] = []

    async def on_event(self, event: Any) -> None:
        if not self.names or self.names[-1] != event.event:
            self.names.append(event.event)

    async def on_run_step_delta(self, delta: Any, snapshot: RunStep) -> None:
        self.snapshots.append(snapshot.model_copy(deep=True))

    async def on_run_step_done(self, run_step: RunStep) -> None:
        self.steps.append(run_step)


async def test_a_run_with_the_code_interpreter_streams_as_openais_did(hosted: Hosted) -> None:
    """The SDK puts the deltas together to what the step is at its end; no caller is asked for anything."""
    hosted.vendor.script(says(*code(LOGS, IMAGE)))
    assistant, thread = await hosted.assistant(CODE), await hosted.thread("1?")
    handler = Heard()
    async with (
        hosted.gateway.sdk() as sdk,
        sdk.beta.threads.runs.stream(thread_id=thread, assistant_id=assistant, event_handler=handler) as stream,
    ):
        await stream.until_done()
    assert [name.removeprefix("thread.") for name in handler.names] == [
        *("run.created", "run.queued", "run.in_progress"),
        *("run.step.created", "run.step.in_progress", "run.step.delta", "run.step.completed"),
        *("run.step.created", "run.step.in_progress", "message.created", "message.in_progress", "message.delta"),
        *("message.completed", "run.step.completed", "run.completed"),
    ]
    [whole, _] = handler.steps
    told = handler.snapshots[-1].step_details.tool_calls[0].code_interpreter  # type: ignore[union-attr]
    assert told.input == whole.step_details.tool_calls[0].code_interpreter.input == "print(1)"  # type: ignore[union-attr]
    assert [each.type for each in told.outputs] == ["logs", "image"]
    assert told.outputs[1].image.file_id == whole.step_details.tool_calls[0].code_interpreter.outputs[1].image.file_id  # type: ignore[union-attr]


async def test_functions_beside_hosted_calls_wait_in_a_step_of_their_own(hosted: Hosted) -> None:
    """What was carried goes back with the outputs."""
    calls = (*code(LOGS), CallBegun(1, "call_1", "add"), CallArguments(1, "{}"), THOUGHT)
    hosted.vendor.script((*calls, USAGE, Finish("tool_calls")), says())
    run = await hosted.run("1?", CODE, ADD)
    assert run["status"] == "requires_action"
    assert [call["id"] for call in run["required_action"]["submit_tool_outputs"]["tool_calls"]] == ["call_1"]
    code_step, waiting = await hosted.steps(run)
    assert (code_step["status"], waiting["status"]) == ("completed", "in_progress")
    path = f"/v1/threads/{run['thread_id']}/runs/{run['id']}/submit_tool_outputs"
    run = await hosted.end(
        await ok(hosted.gateway, "POST", path, {"tool_outputs": [{"tool_call_id": "call_1", "output": "3"}]})
    )
    assert (run["status"], run["usage"]["total_tokens"]) == ("completed", 30)
    [_, made] = hosted.vendor.asked[1]["turns"]
    assert [item["is"] for item in made["items"]] == ["ToolCall", "Carried"]
    assert made["outputs"] == [{"is": "ToolOutput", "call_id": "call_1", "output": "3"}]


async def test_a_later_run_hears_what_the_tools_found(hosted: Hosted) -> None:
    hosted.vendor.script(says(*code(LOGS), THOUGHT))
    run = await hosted.run("1?", CODE)
    assert run["status"] == "completed"
    again = await ok(
        hosted.gateway, "POST", f"/v1/threads/{run['thread_id']}/runs", {"assistant_id": run["assistant_id"]}
    )
    await hosted.end(again)
    [_, made] = hosted.vendor.asked[1]["turns"]
    assert [item["is"] for item in made["items"]] == ["Carried", "Text"]


async def test_cancelling_inside_a_hosted_call_cancels_its_step(hosted: Hosted) -> None:
    go_on = asyncio.Event()
    hosted.vendor.script(says(*code(LOGS)))
    hosted.vendor.faults.add(faults.stall_stream(2, go_on), path="/generate$")
    run = await hosted.begin("1?", CODE)
    path = f"/v1/threads/{run['thread_id']}/runs/{run['id']}"
    steps: list[Any] = []
    while not steps:
        steps = await hosted.steps(run)
    await ok(hosted.gateway, "POST", f"{path}/cancel", {})
    run = await hosted.end(run)
    go_on.set()
    assert run["status"] == "cancelled"
    [step] = await hosted.steps(run)
    assert (step["status"], step["cancelled_at"] is not None) == ("cancelled", True)
    assert step["step_details"]["tool_calls"][0]["code_interpreter"]["input"].startswith("print(")


async def test_a_cancellation_that_comes_with_the_calls_loses_no_word(
    serve_hosted: ServeHosted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked for on another replica, it is heard of when the run is about to wait."""
    monkeypatch.setattr("gateway.engine.running._RENEW_S", 60)

    def same_store(settings: dict[str, Any]) -> None:
        settings["store"]["prefix"] = "cancelled"

    one = await serve_hosted(change=same_store)
    other = await serve_hosted(vendor=one.vendor, change=same_store)
    go_on = asyncio.Event()
    calls = (CallBegun(1, "call_1", "add"), CallArguments(1, "{}"))
    one.vendor.script((*code(LOGS), TextDelta(0, "Let me add."), *calls, USAGE, Finish("tool_calls")))
    one.vendor.faults.add(faults.stall_stream(6, go_on), path="/generate$")
    run = await one.begin("1?", CODE, ADD)
    while len(steps := await one.steps(run)) < 3:
        pass
    path = f"/v1/threads/{run['thread_id']}/runs/{run['id']}"
    await ok(other.gateway, "POST", f"{path}/cancel", {})
    go_on.set()
    run = await one.end(run)
    assert (run["status"], run["usage"]["total_tokens"]) == ("cancelled", 15)
    steps = await one.steps(run)
    assert [(each["type"], each["status"]) for each in steps] == [
        ("tool_calls", "completed"),
        ("message_creation", "completed"),
        ("tool_calls", "cancelled"),
    ]
    message = await one.last_message(run["thread_id"])
    assert (message["status"], message["content"][0]["text"]["value"]) == ("completed", "Let me add.")


# --- pauses -----------------------------------------------------------------------------------------------------------
async def test_a_model_that_pauses_is_asked_again_with_what_it_said(hosted: Hosted) -> None:
    hosted.vendor.script((TextDelta(0, "Let me see."), THOUGHT, USAGE, Finish("paused")), says())
    run = await hosted.run("1?", CODE)
    assert (run["status"], run["usage"]["total_tokens"]) == ("completed", 30)
    [_, made] = hosted.vendor.asked[1]["turns"]
    assert [item.get("text") or item["is"] for item in made["items"]] == ["Let me see.", "Carried"]
    messages = (await ok(hosted.gateway, "GET", f"/v1/threads/{run['thread_id']}/messages?order=asc"))["data"]
    assert [each["content"][0]["text"]["value"] for each in messages] == ["1?", "Let me see.", "It is 1."]
    steps = await hosted.steps(run)
    assert [(each["type"], each["usage"]["total_tokens"]) for each in steps] == [("message_creation", 15)] * 2


async def test_a_model_that_only_pauses_fails_the_run(hosted: Hosted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.engine.working._MOST_PAUSES", 2)
    hosted.vendor.script(*[(THOUGHT, Finish("paused"))] * 3)
    run = await hosted.run("1?", CODE)
    assert (run["status"], run["last_error"]["code"]) == ("failed", "server_error")
    assert "paused" in run["last_error"]["message"]
    assert len(hosted.vendor.asked) == 3


async def test_tokens_are_counted_over_pauses(hosted: Hosted) -> None:
    hosted.vendor.script((TextDelta(0, "Let me see."), Usage(10, 300, 310), Finish("paused")))
    run = await hosted.run("1?", CODE, max_completion_tokens=256)
    assert (run["status"], run["incomplete_details"]["reason"]) == ("incomplete", "max_completion_tokens")
    assert len(hosted.vendor.asked) == 1


async def test_a_run_goes_on_from_its_pause_on_another_replica(
    serve_hosted: ServeHosted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it said before is neither said again nor paid again."""
    monkeypatch.setattr("gateway.engine.store.stored.LEASE_S", 0.5)
    for name in ("_RENEW_S", "_SWEEP_S"):
        monkeypatch.setattr(f"gateway.engine.running.{name}", 0.1)

    def same_store(settings: dict[str, Any]) -> None:
        settings["store"]["prefix"] = "paused"

    dead = await serve_hosted(change=same_store)
    alive = await serve_hosted(vendor=dead.vendor, change=same_store)
    dead.vendor.script((*code(LOGS), TextDelta(0, "Let me see."), THOUGHT, USAGE, Finish("paused")), (), says())
    dead.vendor.faults.add(faults.stall_stream(0, asyncio.Event()), path="/generate$", skip=1)
    run = await dead.begin("1?", CODE)
    await eventually(lambda: len(dead.vendor.asked) == 2)
    running = dead.gateway.app.running
    assert running is not None
    for task in running._upkeep:
        task.cancel()
    run = await alive.end(run)
    assert (run["status"], run["usage"]["total_tokens"]) == ("completed", 30)
    assert len(dead.vendor.asked) == 3
    assert dead.vendor.asked[2]["turns"] == dead.vendor.asked[1]["turns"]
    messages = (await ok(alive.gateway, "GET", f"/v1/threads/{run['thread_id']}/messages?order=asc"))["data"]
    assert [each["content"][0]["text"]["value"] for each in messages] == ["1?", "Let me see.", "It is 1."]


# --- what the tools work on -------------------------------------------------------------------------------------------
async def test_tools_are_given_what_assistant_thread_and_messages_have(hosted: Hosted) -> None:
    """With the vendor's names of it."""
    files = [await hosted.upload(str(n).encode()) for n in range(4)]
    stores = [(await ok(hosted.gateway, "POST", "/v1/vector_stores", {"file_ids": [file]}))["id"] for file in files[:2]]

    def resources(place: int) -> Any:
        return {
            "file_search": {"vector_store_ids": [stores[place]]},
            "code_interpreter": {"file_ids": [files[place]]},
        }

    tuned = {"type": "file_search", "file_search": {"max_num_results": 3}}
    assistant = await hosted.assistant(tuned, CODE, tool_resources=resources(0))
    attached = [{"file_id": file, "tools": [CODE]} for file in (files[2], files[1])]
    said = {"role": "user", "content": "Look.", "attachments": attached}
    thread = await ok(hosted.gateway, "POST", "/v1/threads", {"messages": [said], "tool_resources": resources(1)})
    path = f"/v1/threads/{thread['id']}/runs"
    run = await hosted.end(await ok(hosted.gateway, "POST", path, {"assistant_id": assistant}))
    assert run["status"] == "completed", run
    names, given = [*map(hosted.upstream, files)], [*map(hosted.upstream, stores)]
    assert hosted.tools == [
        {
            "is": "HostedTool",
            "type": "file_search",
            "settings": {"max_num_results": 3, "vector_store_ids": [given[1], given[0]]},
        },
        {"is": "HostedTool", "type": "code_interpreter", "settings": {"file_ids": [names[1], names[2], names[0]]}},
    ]


async def test_a_run_keeps_the_resources_that_its_thread_had(hosted: Hosted) -> None:
    """What is changed while it waits for its caller is for later runs."""
    one, two = [await hosted.upload(), await hosted.upload()]
    resources = [{"code_interpreter": {"file_ids": [file]}} for file in (one, two)]
    body: Any = {"messages": [{"role": "user", "content": "1?"}], "tool_resources": resources[0]}
    thread = (await ok(hosted.gateway, "POST", "/v1/threads", body))["id"]
    waits = (CallBegun(0, "call_1", "add"), CallArguments(0, "{}"), Finish("tool_calls"))
    hosted.vendor.script(waits)
    assistant = await hosted.assistant(CODE, ADD)
    path = f"/v1/threads/{thread}/runs"
    run = await hosted.end(await ok(hosted.gateway, "POST", path, {"assistant_id": assistant}))
    await ok(hosted.gateway, "POST", f"/v1/threads/{thread}", {"tool_resources": resources[1]})
    outputs = {"tool_outputs": [{"tool_call_id": "call_1", "output": "3"}]}
    await hosted.end(await ok(hosted.gateway, "POST", f"{path}/{run['id']}/submit_tool_outputs", outputs))
    assert hosted.tools[0]["settings"] == {"file_ids": [hosted.upstream(one)]}
    await hosted.end(await ok(hosted.gateway, "POST", path, {"assistant_id": assistant}))
    assert hosted.tools[0]["settings"] == {"file_ids": [hosted.upstream(two)]}


async def test_image_files_reach_the_model_by_the_vendors_name(hosted: Hosted) -> None:
    file = await hosted.upload()
    part = {"type": "image_file", "image_file": {"file_id": file, "detail": "low"}}
    said = {"messages": [{"role": "user", "content": [part]}]}
    thread = (await ok(hosted.gateway, "POST", "/v1/threads", said))["id"]
    run = await ok(hosted.gateway, "POST", f"/v1/threads/{thread}/runs", {"assistant_id": await hosted.assistant()})
    assert (await hosted.end(run))["status"] == "completed"
    [turn] = hosted.vendor.asked[-1]["turns"]
    assert turn["parts"] == [{"is": "ImageFile", "file_id": hosted.upstream(file), "detail": "low"}]


async def test_files_of_a_thread_are_nothing_to_models_of_another_account(serve_hosted: ServeHosted) -> None:
    """The run says so, and no model is asked."""
    hosted = await serve_hosted(beside="other")
    elsewhere = await ok(hosted.gateway, "POST", "/providers/other/v1/assistants", {"model": "m", "tools": [CODE]})
    said = {"role": "user", "content": "x", "attachments": [{"file_id": await hosted.upload(), "tools": [CODE]}]}
    thread = (await ok(hosted.gateway, "POST", "/v1/threads", {"messages": [said]}))["id"]
    run = await ok(hosted.gateway, "POST", f"/v1/threads/{thread}/runs", {"assistant_id": elsewhere["id"]})
    run = await hosted.end(run)
    assert (run["status"], run["last_error"]["code"]) == ("failed", "invalid_prompt")
    assert "another account" in run["last_error"]["message"]
    assert hosted.vendor.asked == []
    plain = await ok(hosted.gateway, "POST", "/providers/other/v1/assistants", {"model": "m"})
    run = await ok(hosted.gateway, "POST", f"/v1/threads/{thread}/runs", {"assistant_id": plain["id"]})
    assert (await hosted.end(run))["status"] == "completed"


# --- what was found ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("asks", [False, True])
async def test_contents_of_results_are_shown_to_who_asks(asks: bool, hosted: Hosted) -> None:
    """In events, and of the step later, whoever asked then."""
    file = await hosted.upload()
    hosted.vendor.script(says(*search(hosted.upstream(file))))
    assistant, thread = await hosted.assistant(SEARCH), await hosted.thread("Where?")
    include: Any = {"include": [CONTENTS]} if asks else {}
    async with hosted.gateway.sdk() as sdk:
        stream = await sdk.beta.threads.runs.create(thread, assistant_id=assistant, stream=True, **include)
        events = [event async for event in stream]
        told = orjson.dumps([event.model_dump(mode="json") for event in events])
        assert (b"the very words" in told) is asks
        assert file.encode() in told
        run = next(event.data.id for event in events if event.event == "thread.run.created")
        for wants in ({}, {"include": [CONTENTS]}):
            [listed, _] = (await sdk.beta.threads.runs.steps.list(run, thread_id=thread, order="asc", **wants)).data
            read = await sdk.beta.threads.runs.steps.retrieve(listed.id, run_id=run, thread_id=thread, **wants)
            assert read == listed
            [result] = read.step_details.tool_calls[0].file_search.results  # type: ignore[union-attr]
            assert (result.content is not None) is bool(wants)
            assert (result.file_id, result.file_name) == (file, "a.txt")


async def test_who_asked_for_contents_hears_them_after_outputs_too(hosted: Hosted) -> None:
    """Submitting has no such word in the SDK."""
    file = await hosted.upload()
    waits = (CallBegun(0, "call_1", "add"), CallArguments(0, "{}"), Finish("tool_calls"))
    hosted.vendor.script(waits, says(*search(hosted.upstream(file))))
    assistant, thread = await hosted.assistant(SEARCH, ADD), await hosted.thread("Where?")
    async with hosted.gateway.sdk() as sdk:
        run = await sdk.beta.threads.runs.create_and_poll(
            thread_id=thread,
            assistant_id=assistant,
            include=[CONTENTS],
            poll_interval_ms=5,  # type: ignore[list-item]
        )
        stream = await sdk.beta.threads.runs.submit_tool_outputs(
            run.id, thread_id=thread, tool_outputs=[{"tool_call_id": "call_1", "output": "3"}], stream=True
        )
        told = orjson.dumps([event.model_dump(mode="json") async for event in stream])
    assert b"the very words" in told


async def test_nothing_else_can_be_included(hosted: Hosted) -> None:
    run = await hosted.run("1?")
    path = f"/v1/threads/{run['thread_id']}/runs/{run['id']}/steps?include[]=everything"
    status, error = await hosted.refusal("GET", path)
    assert (status, error["param"], error["code"]) == (400, "include", "invalid_value")
    assert CONTENTS in error["message"]


async def test_citations_name_files_that_can_be_read(hosted: Hosted) -> None:
    file = await hosted.upload(b"cited")
    hosted.vendor.containers["cntr_8/cfile_9"] = b"1,2\n"
    cited = {
        "type": "file_citation",
        "text": "[1]",
        "start_index": 0,
        "end_index": 3,
        "file_citation": {"file_id": hosted.upstream(file)},
    }
    made = {
        "type": "file_path",
        "text": "sandbox:/mnt/data/sum.csv",
        "start_index": 4,
        "end_index": 29,
        "file_path": {"file_id": "cfile_9", "container_id": "cntr_8"},
    }
    text = TextDelta(0, "[1] sandbox:/mnt/data/sum.csv")
    hosted.vendor.script((text, Annotation(0, cited), Annotation(0, made), Finish("stop")))
    run = await hosted.run("Where?", CODE, SEARCH)
    [part] = (await hosted.last_message(run["thread_id"]))["content"]
    first, second = part["text"]["annotations"]
    assert first == {**cited, "file_citation": {"file_id": file}}
    async with hosted.gateway.sdk() as sdk:
        made_id = second["file_path"]["file_id"]
        assert (await sdk.files.content(made_id)).content == b"1,2\n"
        found = await sdk.files.retrieve(made_id)
        assert (found.id, found.object, found.filename, found.bytes) == (made_id, "file", "sum.csv", 4)
        assert (found.purpose, found.status) == ("assistants_output", "processed")
        for tenant in ("bob", "carol"):
            assert (await hosted.gateway.call("GET", f"/v1/files/{made_id}/content", tenant=tenant))[0] == 404
        deleted = await sdk.files.delete(made_id)
        assert (deleted.id, deleted.deleted, deleted.object) == (made_id, True, "file")
        with pytest.raises(openai.NotFoundError):
            await sdk.files.retrieve(made_id)
    assert {each.path for each in hosted.vendor.journal if "/containers/" in each.path} == {
        "/v1/containers/cntr_8/files/cfile_9",
        "/v1/containers/cntr_8/files/cfile_9/content",
    }
    attached = {"role": "user", "content": "x", "attachments": [{"file_id": made_id, "tools": [CODE]}]}
    status, error = await hosted.refusal("POST", f"/v1/threads/{run['thread_id']}/messages", attached)
    assert (status, error["param"]) == (400, "attachments[0].file_id")
