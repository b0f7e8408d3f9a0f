"""Served threads through the whole gateway, as programs use them: the official SDK, unchanged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from openai import AsyncAssistantEventHandler
from openai.types.beta.threads import Message, Run, Text, TextDelta
from openai.types.beta.threads.runs import RunStep

from tests.conftest import Events, eventually
from tests.engine.conftest import Stage, StartServing
from tests.engine.scripted_model import Cut, Refused, ScriptedModel, calls, chunk, says, text

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the SDK marks every Assistants method so

PLAIN = [
    *("thread.run.created", "thread.run.queued", "thread.run.in_progress"),
    *("thread.run.step.created", "thread.run.step.in_progress"),
    *("thread.message.created", "thread.message.in_progress", "thread.message.delta"),
    *("thread.message.completed", "thread.run.step.completed", "thread.run.completed"),
]
"""A plain answer, as recorded; deltas once."""


async def run_of(stage: Stage, thread: str, **more: Any) -> Run:
    return await stage.sdk.beta.threads.runs.create_and_poll(
        thread_id=thread, assistant_id=stage.assistant, poll_interval_ms=20, **more
    )


async def texts(stage: Stage, thread: str) -> list[str]:
    messages = await stage.sdk.beta.threads.messages.list(thread, order="asc")
    return [part.text.value for each in messages.data for part in each.content if part.type == "text"]


class Collected(AsyncAssistantEventHandler):
    """What the SDK's own handler makes of a stream."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.text = ""
        self.messages: list[Message] = []
        self.created: list[Message] = []
        self.steps: list[RunStep] = []

    async def on_event(self, event: Any) -> None:
        if not self.names or self.names[-1] != event.event:
            self.names.append(event.event)

    async def on_message_created(self, message: Message) -> None:
        self.created.append(message.model_copy(deep=True))

    async def on_text_delta(self, delta: TextDelta, snapshot: Text) -> None:
        self.text += delta.value or ""

    async def on_run_step_done(self, run_step: RunStep) -> None:
        self.steps.append(run_step)

    async def on_message_done(self, message: Message) -> None:
        self.messages.append(message)


def gated(*pieces: str) -> tuple[Any, asyncio.Event]:
    """An answer that says this and stands still until the event is set."""
    go_on = asyncio.Event()

    async def answer(body: dict[str, Any]) -> AsyncIterator[bytes]:
        for piece in pieces:
            yield text(piece)
        await go_on.wait()
        async for piece in says("and more")(body):
            yield piece

    return answer, go_on


# --- runs -------------------------------------------------------------------------------------------------------------
async def test_a_run_is_polled_to_its_end(stage: Stage) -> None:
    thread = await stage.thread("What is 1 + 1?")
    stage.model.script.append(says("It ", "is 2."))
    run = await run_of(stage, thread)
    assert run.status == "completed", run.last_error
    assert run.usage is not None
    assert (run.usage.prompt_tokens, run.usage.completion_tokens, run.usage.total_tokens) == (10, 5, 15)
    assert await texts(stage, thread) == ["What is 1 + 1?", "It is 2."]
    [step] = (await stage.sdk.beta.threads.runs.steps.list(run.id, thread_id=thread)).data
    [message] = (await stage.sdk.beta.threads.messages.list(thread, run_id=run.id)).data
    assert step.step_details.message_creation.message_id == message.id  # type: ignore[union-attr]
    assert (message.run_id, message.assistant_id) == (run.id, stage.assistant)


async def test_a_model_is_asked_with_the_whole_thread_and_only_with_what_was_said(stage: Stage) -> None:
    thread = await stage.thread("One", "Two")
    await run_of(stage, thread, additional_messages=[{"role": "user", "content": "Three"}], temperature=0.5)
    await run_of(stage, thread, instructions="Be long.", additional_instructions="In French.", model="m-2")
    first, second = stage.model.journal
    assert [each["content"] for each in first["messages"]] == ["Be brief.", "One", "Two", "Three"]
    assert (first["model"], first["temperature"], first["stream"]) == ("m-1", 0.5, True)
    assert [each["content"] for each in second["messages"]][-1] == "Hello there."
    assert second["messages"][0]["content"] == "Be long. In French."
    assert second["model"] == "m-2"
    assert not {"temperature", "top_p", "tool_choice", "response_format"} & second.keys()
    assert [tool["function"]["name"] for tool in second["tools"]] == ["add", "look"]


async def test_a_stream_has_the_recorded_events_and_ends_as_the_run_is_read(stage: Stage) -> None:
    thread = await stage.thread()
    handler = Collected()
    async with stage.sdk.beta.threads.runs.stream(
        thread_id=thread, assistant_id=stage.assistant, event_handler=handler
    ) as stream:
        await stream.until_done()
    assert handler.names == PLAIN
    assert handler.text == "Hello there."
    assert [message.content for message in handler.created] == [[]]
    run = await handler.get_final_run()
    assert run == await stage.sdk.beta.threads.runs.retrieve(run.id, thread_id=thread)
    assert (run.status, run.expires_at) == ("completed", None)
    [message] = handler.messages
    assert message == await stage.sdk.beta.threads.messages.retrieve(message.id, thread_id=thread)
    [step] = handler.steps
    read = await stage.sdk.beta.threads.runs.steps.retrieve(step.id, thread_id=thread, run_id=run.id)
    assert step.model_dump() == read.model_dump()


async def test_thread_and_run_are_made_in_one_call(stage: Stage) -> None:
    handler = Collected()
    async with stage.sdk.beta.threads.create_and_run_stream(
        assistant_id=stage.assistant, thread={"messages": [{"role": "user", "content": "Hi"}]}, event_handler=handler
    ) as stream:
        await stream.until_done()
    assert handler.names == ["thread.created", *PLAIN]
    run = await handler.get_final_run()
    assert await texts(stage, run.thread_id) == ["Hi", "Hello there."]
    polled = await stage.sdk.beta.threads.create_and_run_poll(
        assistant_id=stage.assistant, thread={"messages": [{"role": "user", "content": "Hi"}]}, poll_interval_ms=20
    )
    assert polled.status == "completed"


async def test_tools_are_called_in_several_rounds(stage: Stage) -> None:
    """Two at once and by polling first, then by streaming; the model hears of all of it."""
    thread = await stage.thread("Add and look.")
    stage.model.script += [
        calls(("add", '{"a": 1}'), ("look", '{"at"'), before="Let me see. "),  # broken arguments pass
        calls(("unheard_of", "{}")),
        says("Done."),
    ]
    run = await run_of(stage, thread)
    assert run.status == "requires_action"
    assert (run.usage, run.required_action is None) == (None, False)
    asked = run.required_action.submit_tool_outputs.tool_calls  # type: ignore[union-attr]
    assert [(call.function.name, call.function.arguments) for call in asked] == [("add", '{"a": 1}'), ("look", '{"at"')]
    outputs: Any = [{"tool_call_id": call.id, "output": call.function.name} for call in reversed(asked)]
    run = await stage.sdk.beta.threads.runs.submit_tool_outputs_and_poll(
        run_id=run.id, thread_id=thread, tool_outputs=outputs, poll_interval_ms=20
    )
    assert run.status == "requires_action"
    [call] = run.required_action.submit_tool_outputs.tool_calls  # type: ignore[union-attr]
    assert call.function.name == "unheard_of"
    handler = Collected()
    async with stage.sdk.beta.threads.runs.submit_tool_outputs_stream(
        run_id=run.id, thread_id=thread, tool_outputs=[{"tool_call_id": call.id, "output": "7"}], event_handler=handler
    ) as stream:
        await stream.until_done()
    assert handler.names == ["thread.run.step.completed", *PLAIN[1:]]
    run = await handler.get_final_run()
    assert run.usage is not None
    assert run.usage.total_tokens == 45
    steps = (await stage.sdk.beta.threads.runs.steps.list(run.id, thread_id=thread, order="asc")).data
    assert [(step.type, step.status) for step in steps] == [
        ("message_creation", "completed"),
        ("tool_calls", "completed"),
        ("tool_calls", "completed"),
        ("message_creation", "completed"),
    ]
    assert [each.function.output for each in steps[1].step_details.tool_calls] == ["add", "look"]  # type: ignore[union-attr]
    said = stage.model.journal[-1]["messages"]
    assert [each["role"] for each in said] == ["system", "user", "assistant", "tool", "tool", "assistant", "tool"]
    assert said[2]["content"] == "Let me see. "
    assert [each["content"] for each in said if each["role"] == "tool"] == ["add", "look", "7"]
    # A later run knows them too.
    await run_of(stage, thread)
    heard = [each["role"] for each in stage.model.journal[-1]["messages"]]
    assert heard == [*(each["role"] for each in said), "assistant"]


async def test_a_stream_with_tool_calls_ends_when_it_waits(stage: Stage) -> None:
    thread = await stage.thread()
    stage.model.script.append(calls(("add", '{"a": 1}')))
    handler = Collected()
    async with stage.sdk.beta.threads.runs.stream(
        thread_id=thread, assistant_id=stage.assistant, event_handler=handler
    ) as stream:
        await stream.until_done()
    assert handler.names == [
        *PLAIN[:5],
        *("thread.run.step.delta", "thread.run.requires_action"),
    ]
    [step] = await handler.get_final_run_steps()
    [call] = step.step_details.tool_calls  # type: ignore[union-attr]
    assert (call.function.name, call.function.arguments) == ("add", '{"a": 1}')  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "outputs", [[], ["call_add0"], ["call_add0", "call_add0"], ["call_add0", "call_look1", "call_x"]]
)
async def test_outputs_are_for_each_call_once(stage: Stage, outputs: list[str]) -> None:
    thread = await stage.thread()
    stage.model.script.append(calls(("add", "{}"), ("look", "{}")))
    run = await run_of(stage, thread)
    given: Any = [{"tool_call_id": call, "output": "1"} for call in outputs]
    with pytest.raises(openai.BadRequestError) as refused:
        await stage.sdk.beta.threads.runs.submit_tool_outputs(run.id, thread_id=thread, tool_outputs=given)
    got = ", ".join(f"'{call}'" for call in outputs)
    assert refused.value.body["message"] == (  # type: ignore[index]
        f"Expected tool outputs for call_ids ['call_add0', 'call_look1'], got [{got}]"
    )


async def test_a_run_that_is_cancelled_stops_its_vendor_and_keeps_what_it_said(stage: Stage) -> None:
    thread = await stage.thread()
    answer, _ = gated("Well, ")
    stage.model.script.append(answer)
    handler = Collected()
    async with stage.sdk.beta.threads.runs.stream(
        thread_id=thread, assistant_id=stage.assistant, event_handler=handler
    ) as stream:
        async for event in stream:
            if event.event == "thread.message.delta":
                [run] = (await stage.sdk.beta.threads.runs.list(thread)).data
                cancelled = await stage.sdk.beta.threads.runs.cancel(run.id, thread_id=thread)
                assert cancelled.status == "cancelling"
    await eventually(lambda: stage.model.left == 1)
    assert handler.names[-4:] == [
        *("thread.run.cancelling", "thread.message.incomplete", "thread.run.step.cancelled", "thread.run.cancelled")
    ]
    [message, _] = (await stage.sdk.beta.threads.messages.list(thread)).data
    assert (message.status, message.content[0].text.value) == ("incomplete", "Well, ")  # type: ignore[union-attr]
    assert message.incomplete_details.reason == "run_cancelled"  # type: ignore[union-attr]
    with pytest.raises(openai.BadRequestError, match="Cannot cancel run with status 'cancelled'"):
        await stage.sdk.beta.threads.runs.cancel(run.id, thread_id=thread)
    assert (await run_of(stage, thread)).status == "completed"


async def test_a_run_that_waits_is_cancelled_at_once(stage: Stage) -> None:
    thread = await stage.thread()
    stage.model.script.append(calls(("add", "{}"), prompt=7, completion=3))
    run = await run_of(stage, thread)
    run = await stage.sdk.beta.threads.runs.cancel(run.id, thread_id=thread)
    assert (run.status, run.required_action) == ("cancelled", None)
    assert run.usage is not None
    assert run.usage.total_tokens == 10, "what it used before it waited is told"
    [step] = (await stage.sdk.beta.threads.runs.steps.list(run.id, thread_id=thread)).data
    assert step.status == "cancelled"
    with pytest.raises(openai.BadRequestError, match='Runs in status "cancelled" do not accept tool outputs'):
        await stage.sdk.beta.threads.runs.submit_tool_outputs(
            run.id, thread_id=thread, tool_outputs=[{"tool_call_id": "call_add0", "output": "1"}]
        )


async def test_a_thread_is_locked_while_a_run_works(stage: Stage) -> None:
    thread = await stage.thread()
    answer, go_on = gated("Hm")
    stage.model.script.append(answer)
    run = await stage.sdk.beta.threads.runs.create(thread, assistant_id=stage.assistant)
    with pytest.raises(openai.BadRequestError) as refused:
        await stage.sdk.beta.threads.messages.create(thread, role="user", content="Wait")
    assert refused.value.body["message"] == f"Can't add messages to {thread} while a run {run.id} is active."  # type: ignore[index]
    with pytest.raises(openai.BadRequestError) as refused:
        await stage.sdk.beta.threads.runs.create(thread, assistant_id=stage.assistant)
    assert refused.value.body["message"] == f"Thread {thread} already has an active run {run.id}."  # type: ignore[index]
    go_on.set()
    assert (await stage.sdk.beta.threads.runs.poll(run.id, thread, poll_interval_ms=20)).status == "completed"


async def test_a_caller_who_leaves_leaves_the_run_working(stage: Stage, events: Events) -> None:
    thread = await stage.thread()
    answer, go_on = gated("Hm, ")
    stage.model.script.append(answer)
    async with stage.sdk.beta.threads.runs.stream(thread_id=thread, assistant_id=stage.assistant) as stream:
        async for event in stream:
            if event.event == "thread.message.delta":
                break
    go_on.set()
    [run] = (await stage.sdk.beta.threads.runs.list(thread)).data
    run = await stage.sdk.beta.threads.runs.poll(run.id, thread, poll_interval_ms=20)
    assert run.status == "completed"
    assert await texts(stage, thread) == ["Hello?", "Hm, and more"]
    await eventually(lambda: len(events.named("run.settled")) == 1)
    [settled] = events.named("run.settled")
    assert (settled["total_tokens"], settled["provider"], settled["model"]) == (15, "served", "m-1")


@pytest.mark.parametrize(
    ("more", "finish", "details"),
    [
        ({"max_completion_tokens": 256}, "length", ("max_completion_tokens", "max_tokens")),
        ({}, "content_filter", ("content_filter", "content_filter")),
    ],
)
async def test_an_answer_that_is_cut_short_says_why(
    stage: Stage, more: dict[str, Any], finish: str, details: tuple[str, str]
) -> None:
    thread = await stage.thread()
    stage.model.script.append(says("Too ", finish=finish))
    run = await run_of(stage, thread, **more)
    assert run.status == "incomplete"
    [message, _] = (await stage.sdk.beta.threads.messages.list(thread)).data
    assert (message.status, message.content[0].text.value) == ("incomplete", "Too ")  # type: ignore[union-attr]
    assert (run.incomplete_details.reason, message.incomplete_details.reason) == details  # type: ignore[union-attr]
    assert stage.model.journal[-1].get("max_completion_tokens") == more.get("max_completion_tokens")


async def test_limits_of_tokens_hold_over_the_whole_run(stage: Stage) -> None:
    thread = await stage.thread()
    stage.model.script.append(calls(("add", "{}"), prompt=250, completion=256))
    run = await run_of(stage, thread, max_completion_tokens=256)
    outputs: Any = [{"tool_call_id": "call_add0", "output": "1"}]
    run = await stage.sdk.beta.threads.runs.submit_tool_outputs_and_poll(
        run_id=run.id, thread_id=thread, tool_outputs=outputs, poll_interval_ms=20
    )
    assert (run.status, run.incomplete_details.reason) == ("incomplete", "max_completion_tokens")  # type: ignore[union-attr]
    stage.model.script.append(calls(("add", "{}"), prompt=250, completion=1))
    run = await run_of(stage, thread, max_prompt_tokens=300)
    run = await stage.sdk.beta.threads.runs.submit_tool_outputs_and_poll(
        run_id=run.id, thread_id=thread, tool_outputs=outputs, poll_interval_ms=20
    )
    assert (run.status, run.incomplete_details.reason) == ("incomplete", "max_prompt_tokens")  # type: ignore[union-attr]
    assert len(stage.model.journal) == 2


async def test_a_provider_may_bound_answers_of_which_the_run_says_nothing(
    model: ScriptedModel, start_serving: StartServing
) -> None:
    def bound(settings: dict[str, Any]) -> None:
        settings["providers"]["served"]["max_tokens"] = 77

    gateway = await start_serving(model, change=bound)
    async with gateway.sdk() as sdk:
        stage = Stage(gateway, model, sdk, (await sdk.beta.assistants.create(model="m-1")).id)
        await run_of(stage, await stage.thread())
        await run_of(stage, await stage.thread(), max_completion_tokens=300)
    assert [body["max_completion_tokens"] for body in model.journal] == [77, 300]


# --- faults of the vendor ---------------------------------------------------------------------------------------------
def error(kind: str, message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "code": kind, "param": None}}


async def cut_off(body: dict[str, Any]) -> AsyncIterator[bytes]:
    yield text("Half")
    raise Cut


async def babble(body: dict[str, Any]) -> AsyncIterator[bytes]:
    yield text("Half")
    yield b"data: {nonsense\n\n"


async def stall(body: dict[str, Any]) -> AsyncIterator[bytes]:
    yield text("Half")
    await asyncio.sleep(60)


async def fail_within(body: dict[str, Any]) -> AsyncIterator[bytes]:
    yield text("Half")
    yield b'data: {"error": {"message": "overloaded with sk-served-ONE", "type": "server_error"}}\n\n'


@pytest.mark.parametrize(
    ("answer", "code", "partial"),
    [
        (Refused(429, error("rate_limit_exceeded", "slow down"), {"retry-after": "1"}), "rate_limit_exceeded", None),
        (Refused(400, error("invalid_prompt", "not that")), "invalid_prompt", None),
        (Refused(500, error("server_error", "oh")), "server_error", None),
        (Refused(401, error("invalid_api_key", "bad key sk-served-ONE")), "server_error", None),
        (cut_off, "server_error", "Half"),
        (babble, "server_error", "Half"),
        (stall, "server_error", "Half"),
        (fail_within, "server_error", "Half"),
    ],
    ids=["429", "400", "500", "401", "cut", "garbage", "stall", "error in the stream"],
)
async def test_a_vendors_fault_fails_the_run_and_keeps_what_came(
    model: ScriptedModel, start_serving: StartServing, answer: Any, code: str, partial: str | None
) -> None:
    def hurry(settings: dict[str, Any]) -> None:
        settings["providers"]["served"] |= {"timeouts": {"idle_s": 0.2}, "max_attempts": 2}

    model.otherwise = answer
    gateway = await start_serving(model, change=hurry)
    async with gateway.sdk() as sdk:
        assistant = await sdk.beta.assistants.create(model="m-1")
        run = await sdk.beta.threads.create_and_run_poll(
            assistant_id=assistant.id, thread={"messages": [{"role": "user", "content": "Hi"}]}, poll_interval_ms=20
        )
        assert run.status == "failed"
        assert run.last_error is not None
        assert run.last_error.code == code
        assert "sk-served" not in run.last_error.message
        messages = (await sdk.beta.threads.messages.list(run.thread_id)).data
        replies = [each for each in messages if each.role == "assistant"]
        assert [each.content[0].text.value for each in replies] == ([partial] if partial else [])  # type: ignore[union-attr]
        assert all(each.status == "incomplete" for each in replies)
        steps = (await sdk.beta.threads.runs.steps.list(run.id, thread_id=run.thread_id)).data
        assert [(each.status, each.last_error.code) for each in steps if each.last_error] == (  # type: ignore[union-attr]
            [("failed", code)] if partial else []
        )


async def test_a_call_that_failed_before_it_answered_is_made_again(stage: Stage, events: Events) -> None:
    stage.model.script.append(Refused(503, error("server_error", "later")))
    thread = await stage.thread()
    assert (await run_of(stage, thread)).status == "completed"
    [done] = events.named("generation.done")
    assert [attempt["status"] for attempt in done["attempts"]] == [503, 200]
    assert (done["outcome"], done["finish_reason"], done["upstream_model"]) == ("done", "stop", "m-1")
    assert done["usage"]["prompt_tokens"] == 10


async def test_a_thread_keeps_to_one_key_where_keys_stick(model: ScriptedModel, start_serving: StartServing) -> None:
    def sticky(settings: dict[str, Any]) -> None:
        provider = settings["providers"]["served"]
        provider["rotation"] = {"strategy": "sticky"}
        provider["accounts"]["acme"]["keys"] = {"one": "${SERVED_ONE}", "two": "${SERVED_TWO}"}

    gateway = await start_serving(model, change=sticky)
    async with gateway.sdk() as sdk:
        assistant = (await sdk.beta.assistants.create(model="m-1", instructions="Be brief.")).id
        used = set()
        for _ in range(8):
            thread = (await sdk.beta.threads.create()).id
            model.keys.clear()
            for _ in range(2):
                await sdk.beta.threads.runs.create_and_poll(
                    thread_id=thread, assistant_id=assistant, poll_interval_ms=10
                )
            assert len(set(model.keys)) == 1
            used |= set(model.keys)
    assert len(used) == 2


async def test_a_refusal_of_the_model_is_a_part_of_its_own(stage: Stage) -> None:
    async def refuse(body: dict[str, Any]) -> AsyncIterator[bytes]:
        yield chunk({"refusal": "I cannot."})
        async for piece in says()(body):
            yield piece

    stage.model.script.append(refuse)
    thread = await stage.thread()
    assert (await run_of(stage, thread)).status == "completed"
    newest = (await stage.sdk.beta.threads.messages.list(thread, limit=1)).data[0]
    assert [part.type for part in newest.content] == ["refusal"]
    assert newest.content[0].refusal == "I cannot."  # type: ignore[union-attr]
