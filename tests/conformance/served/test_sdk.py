"""The newest official SDK on served threads: the scenarios that it goes through with vendors that have Threads, as far
as these need no files; the calls of its event handler; and the order of events."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest
from openai import AsyncAssistantEventHandler

from tests.conformance import test_sdk as scenarios
from tests.conformance.served.conftest import ADD, FIND, Serve, Served
from tests.conformance.test_sdk import POLL, Scenario, asking, checked, last_content, outputs_for
from tests.conftest import Events
from tests.simulators import faults, find_models
from tests.simulators.answers import Answer, Calls, Says, calls, says

pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")


async def endings(sdk: Any) -> None:
    assistant = await sdk.beta.assistants.create(model="gpt-4o")
    for word, status in (("fail", "failed"), ("truncate", "incomplete")):
        run = await sdk.beta.threads.create_and_run_poll(assistant_id=assistant.id, thread=asking(word), **POLL)
        assert checked(run).status == status


SCENARIOS: Mapping[str, Scenario] = {
    "assistants": partial(scenarios.assistants, tools=[ADD, FIND]),
    "threads": scenarios.threads,
    "messages": scenarios.messages,
    "deleted messages": scenarios.deleted_messages,
    "runs": partial(scenarios.runs, tools=[ADD]),
    "create and run": scenarios.create_and_run,
    "tools": partial(scenarios.tools, others=[ADD]),
    "streams": partial(scenarios.streams, tools=[ADD]),
    "sampling": scenarios.sampling,
    "endings": endings,
}


@pytest.mark.client(name="openai-python 3.x", door="OpenAI", served=True)
@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
async def test_the_sdk_works_as_with_openai(scenario: Scenario, served: Served, events: Events) -> None:
    async with served.gateway.sdk() as sdk:
        await scenario(sdk)
    assert {line["status"] for line in events.named("request.done")} == {200}


IN_DIALECT = (
    *("azure_chat", "deepseek_chat", "gemini_chat", "mistral_chat", "ollama_chat", "openai_chat"),
    *("open_responses", "openai_responses", "xai_responses"),
)
MODELS = [
    pytest.param(name, marks=() if name in IN_DIALECT else pytest.mark.long)
    for name in sorted(find_models().keys() - {"tgi_chat", "gemini_native"})
]


@pytest.mark.parametrize("model", MODELS)
async def test_over_every_model_a_conversation_with_tools_is_the_same(model: str, serve: Serve) -> None:
    """Streamed and polled. Whoever sends arguments as objects says nothing of how they were written, and stays out."""
    served = await serve(model)
    async with served.gateway.sdk() as sdk:
        await scenarios.streams(sdk, tools=[ADD])
        await scenarios.tools(sdk, others=[ADD])


ASKS_FOR_OUTPUTS = [
    *(f"thread.run.{each}" for each in ("created", "queued", "in_progress")),
    *(f"thread.run.step.{each}" for each in ("created", "in_progress", "delta", "delta")),
    "thread.run.requires_action",
]
ANSWERS = [
    "thread.run.step.completed",
    *(f"thread.run.{each}" for each in ("queued", "in_progress")),
    *(f"thread.run.step.{each}" for each in ("created", "in_progress")),
    *(f"thread.message.{each}" for each in ("created", "in_progress", *["delta"] * 6, "completed")),
    "thread.run.step.completed",
    "thread.run.completed",
]


class Handler(AsyncAssistantEventHandler):
    """Writes down which of its methods were called with what."""

    def __init__(self) -> None:
        super().__init__()
        self.called: list[str] = []
        self.events: list[str] = []
        self.text = ""
        self.calls: list[Any] = []

    async def on_event(self, event: Any) -> None:
        checked(event.data)
        self.events.append(event.event)

    async def on_run_step_created(self, run_step: Any) -> None:
        self.called.append("step created")

    async def on_run_step_done(self, run_step: Any) -> None:
        self.called.append("step done")

    async def on_message_created(self, message: Any) -> None:
        assert message.content == []
        self.called.append("message created")

    async def on_message_done(self, message: Any) -> None:
        assert message.content[0].text.value == self.text
        self.called.append("message done")

    async def on_text_created(self, text: Any) -> None:
        self.called.append("text created")

    async def on_text_delta(self, delta: Any, snapshot: Any) -> None:
        self.text += delta.value
        assert snapshot.value == self.text
        self.called.append("text delta")

    async def on_text_done(self, text: Any) -> None:
        self.called.append("text done")

    async def on_tool_call_created(self, tool_call: Any) -> None:
        self.called.append("call created")

    async def on_tool_call_delta(self, delta: Any, snapshot: Any) -> None:
        self.called.append("call delta")

    async def on_tool_call_done(self, tool_call: Any) -> None:
        self.calls.append(tool_call)
        self.called.append("call done")

    async def on_exception(self, exception: Exception) -> None:
        raise exception

    async def on_end(self) -> None:
        self.called.append("end")


async def test_the_event_handler_is_called_as_with_openai(served: Served) -> None:
    async with served.gateway.sdk() as sdk:
        assistant = await sdk.beta.assistants.create(model="gpt-4o", tools=[ADD])  # type: ignore[list-item]
        thread = await sdk.beta.threads.create(**asking('call add {"a": 1}'))
        asked = Handler()
        async with sdk.beta.threads.runs.stream(
            thread_id=thread.id, assistant_id=assistant.id, event_handler=asked
        ) as stream:
            run = await stream.get_final_run()
        assert asked.events == ASKS_FOR_OUTPUTS
        assert asked.called == ["step created", "call created", "call delta", "call done", "end"]
        assert [call.function.arguments for call in asked.calls] == ['{"a": 1}']

        told = Handler()
        async with sdk.beta.threads.runs.submit_tool_outputs_stream(
            run_id=run.id,
            thread_id=thread.id,
            tool_outputs=outputs_for(run, "-3 °C ❄"),  # type: ignore[arg-type]
            event_handler=told,
        ) as stream:
            await stream.until_done()
        assert told.events == ANSWERS
        assert told.text == "The tools answered: -3 °C ❄"
        begun = ["step done", "step created", "message created", "text created"]
        assert told.called == [*begun, *["text delta"] * 6, "text done", "message done", "step done", "end"]


async def test_words_before_calls_are_a_message_of_their_own(served: Served) -> None:
    served.model.script(
        Answer(
            (Says("Let me "), Says("see."), Calls("add", ('{"a"', ": 1}"), "call_a"), Calls("find", ("{}",), "call_b"))
        ),
        says("Done."),
    )
    async with served.gateway.sdk() as sdk:
        assistant = await sdk.beta.assistants.create(model="gpt-4o", tools=[ADD, FIND])  # type: ignore[list-item]
        run: Any = await sdk.beta.threads.create_and_run_poll(
            assistant_id=assistant.id,
            thread=asking("use them"),  # type: ignore[arg-type]
            **POLL,
        )
        made = [(call.id, call.function.arguments) for call in run.required_action.submit_tool_outputs.tool_calls]
        assert made == [("call_a", '{"a": 1}'), ("call_b", "{}")]
        assert (await last_content(sdk, run))[0].text.value == "Let me see."
        run = await sdk.beta.threads.runs.submit_tool_outputs_and_poll(
            run_id=run.id,
            thread_id=run.thread_id,
            tool_outputs=outputs_for(run),  # type: ignore[arg-type]
            **POLL,
        )
        assert checked(run).status == "completed"
        steps: Any = await sdk.beta.threads.runs.steps.list(run.id, thread_id=run.thread_id, order="asc")
    assert [step.type for step in steps.data] == ["message_creation", "tool_calls", "message_creation"]
    outputs = [call.function.output for call in steps.data[1].step_details.tool_calls]
    assert outputs == ["3", "3"]
    roles = [message["role"] for message in served.model.bodies[1]["messages"]]
    assert roles == ["user", "assistant", "tool", "tool"]


@pytest.mark.parametrize("arguments", ["{broken", '{"never": "asked for"}'])
async def test_calls_of_unknown_tools_and_broken_arguments_reach_the_caller(arguments: str, served: Served) -> None:
    served.model.script(calls(Calls("nobody_gave_this", (arguments,))), says("Sorry."))
    run = await served.run("hello", ADD)
    [call] = run["required_action"]["submit_tool_outputs"]["tool_calls"]
    assert call["function"] == {"name": "nobody_gave_this", "arguments": arguments}


async def test_three_rounds_and_a_last_word(served: Served) -> None:
    made = [calls(Calls("add", (f'{{"n": {n}}}',)), usage=(10 * n, n)) for n in (1, 2, 3)]
    served.model.script(*made, says("All added.", usage=(50, 4)))
    async with served.gateway.sdk() as sdk:
        assistant = await sdk.beta.assistants.create(model="gpt-4o", tools=[ADD])  # type: ignore[list-item]
        run: Any = await sdk.beta.threads.create_and_run_poll(
            assistant_id=assistant.id,
            thread=asking("add"),  # type: ignore[arg-type]
            **POLL,
        )
        while run.status == "requires_action":
            run = await sdk.beta.threads.runs.submit_tool_outputs_and_poll(
                run_id=run.id,
                thread_id=run.thread_id,
                tool_outputs=outputs_for(run),  # type: ignore[arg-type]
                **POLL,
            )
        assert checked(run).status == "completed"
        assert (run.usage.prompt_tokens, run.usage.completion_tokens, run.usage.total_tokens) == (110, 10, 120)
        steps: Any = await sdk.beta.threads.runs.steps.list(run.id, thread_id=run.thread_id, order="asc")
    assert [step.usage.total_tokens for step in steps.data] == [11, 22, 33, 54]


async def test_a_stream_that_fails_ends_in_order(served: Served) -> None:
    served.model.script(says("Hel", "lo"))
    served.model.faults.add(faults.cut_stream(3), times=None)
    handler = Handler()
    async with served.gateway.sdk() as sdk:
        assistant = await sdk.beta.assistants.create(model="gpt-4o")
        async with sdk.beta.threads.create_and_run_stream(
            assistant_id=assistant.id,
            thread=asking("hello"),  # type: ignore[arg-type]
            event_handler=handler,
        ) as stream:
            run: Any = await stream.get_final_run()
    assert (run.status, run.last_error.code) == ("failed", "server_error")
    assert handler.text.startswith("Hello")
    assert handler.events[-3:] == ["thread.message.incomplete", "thread.run.step.failed", "thread.run.failed"]
