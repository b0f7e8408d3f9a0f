"""Threads that the gateway serves over aimock, in each model API: what programs print, how its faults end a run, and
what it got to hear."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from openai import AsyncOpenAI
from openai.types.beta.threads import Message, Run

from tests.clients.conftest import INSTALL_S
from tests.clients.scripts import ALL
from tests.clients.transcript import TRANSCRIPT, printed
from tests.conftest import StartGateway, edit
from tests.stand_ins.aimock import Aimock, Fixture, calls, says
from tests.stand_ins.stand_in import EACH_WAY

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(INSTALL_S),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # the SDK marks every Assistants method so
]

ZURICH, OSLO, ROME = ('{"city": "Zürich"}', '{"city": "Oslo"}', '{"city": "Rome"}')
ROUNDS = "First call get_weather"
AT_ONCE = "At once call get_weather"
COUNT = "one two three four five six seven eight"


def _echoed(*said: str) -> list[Fixture]:
    return [says(each, f"You said: {each}") for each in said]


SCRIPTED: list[Fixture] = [
    *_echoed("Grüezi, how are you?", "And what is new?", "Say it in pieces, s'il vous plaît: ❄ und 🌧️"),
    *_echoed("Tell me a story of seven words."),
    says(ROUNDS, "The tools answered: 12 °C, fog; -3 °C ❄", toolResultContains="-3 °C"),
    calls(ROUNDS, ("get_weather", OSLO), toolResultContains="12 °C"),
    calls(ROUNDS, ("get_weather", ZURICH), hasToolResult=False),
    says(AT_ONCE, "The tools answered: 21 °C; -3 °C ❄", toolResultContains="-3 °C"),
    calls(AT_ONCE, ("get_weather", ROME), ("get_weather", OSLO), hasToolResult=False),
    {**says("Count slowly", f"You said: {COUNT}"), "streamingProfile": {"ttft": 50, "tps": 2}},
    calls("Now call get_weather", ("get_weather", ROME)),
    says("Please call get_weather", "The tools answered: 12 °C, fog", toolResultContains="12 °C"),
    calls('Please call get_weather {"city": "Zürich"}', ("get_weather", ZURICH), hasToolResult=False),
    calls('Please call get_weather {"city": "Rome"}', ("get_weather", ROME), hasToolResult=False),
]
"""What the echo model would say to the scripts."""


@EACH_WAY
async def test_the_scripts_print_what_is_written_down(
    aimock: Aimock, start_gateway: StartGateway, monkeypatch: pytest.MonkeyPatch, model_api: str
) -> None:
    """And it accepts all that it was asked: the keys, the shape, and what was said fits the fixtures."""
    await aimock.teach(model_api, *SCRIPTED)
    gateway = await start_gateway(aimock.as_vendor(model_api))
    said = await printed(gateway, *ALL)
    monkeypatch.setattr("gateway.engine.objects.RUN_LIFE_S", 2)
    assert said + await printed(gateway, "expiry") == TRANSCRIPT
    journal = await aimock.journal()
    assert {entry["response"]["status"] for entry in journal} == {200}
    assert len(journal) == GENERATIONS


GENERATIONS = 14
"""Of all scripts: 2 polled, 1 streamed, 3 in rounds, 2 parallel, 2 cancelled, 2 of v1, 1 resumed, 1 expired."""


# --- faults -----------------------------------------------------------------------------------------------------------
TEXT = "This is what there was to say, and it is long enough for some pieces."
WHOLE = says("Go on", TEXT)


@dataclass(frozen=True)
class Fault:
    """`prepare` is done before the run is made. `kept`: part of the text had been said, and is kept; None: there may
    have been some. `elsewhere` has another status and code by model API."""

    prepare: Callable[[Aimock, str], Any]
    status: str
    code: str | None = None
    requests: int = 1
    kept: bool | None = False
    elsewhere: Mapping[str, tuple[str, str]] = field(default_factory=dict)


def _all_of_them(**rates: float) -> Callable[[Aimock, str], Any]:
    return lambda aimock, model_api: aimock.disturb(**rates)


def _once(status: int, kind: str) -> Callable[[Aimock, str], Any]:
    return lambda aimock, model_api: aimock.refuse_once(status, message="no", type=kind, code=kind)


def _as(**more: Any) -> Callable[[Aimock, str], Any]:
    """The answer is there, but for this."""
    return lambda aimock, model_api: aimock.teach(model_api, {**WHOLE, **more})


FAULTS = {
    # As many requests as there are keys.
    "429": Fault(_all_of_them(rateLimitRate=1), "failed", "rate_limit_exceeded", requests=2),
    "500": Fault(_all_of_them(dropRate=1), "failed", "server_error", requests=3),
    "gone before it answers": Fault(_all_of_them(disconnectRate=1), "failed", "server_error", requests=3),
    "garbage": Fault(_all_of_them(malformedRate=1), "failed", "server_error"),
    "400": Fault(_once(400, "invalid_request_error"), "failed", "invalid_prompt"),
    "404": Fault(_once(404, "not_found_error"), "failed", "invalid_prompt"),
    "429 once": Fault(_once(429, "rate_limit_error"), "completed", requests=2),
    "401 once": Fault(_once(401, "authentication_error"), "completed", requests=2),
    "500 once": Fault(_once(500, "server_error"), "completed", requests=2),
    "503 once": Fault(_once(503, "overloaded_error"), "completed", requests=2),
    "cut after some pieces": Fault(_as(truncateAfterChunks=7, latency=30), "failed", "server_error", kept=True),
    "stands still": Fault(_as(streamingProfile={"ttft": 10, "tps": 0.3}), "failed", "server_error", kept=None),
    "too long": Fault(_as(response={"content": TEXT, "finishReason": "length"}), "incomplete", kept=True),
    "filtered": Fault(
        _as(response={"content": TEXT, "finishReason": "content_filter"}),
        "incomplete",
        kept=True,
        elsewhere={"responses": ("failed", "server_error")},  # where it says so, and the vendor `incomplete`
    ),
}


@EACH_WAY
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
async def test_a_fault_ends_the_run_with_its_reason(
    aimock: Aimock, start_gateway: StartGateway, model_api: str, fault: Fault
) -> None:
    await fault.prepare(aimock, model_api)
    await aimock.teach(model_api, WHOLE)
    patience = edit(providers__aimock__timeouts={"idle_s": 1})
    both_keys = edit(providers__aimock__rotation={"rate_limits_belong_to": "key"})
    gateway = await start_gateway(aimock.as_vendor(model_api), change=lambda it: (patience(it), both_keys(it)))
    async with gateway.sdk() as sdk:
        run, said = await _run(sdk, "Go on")
    ended = fault.elsewhere.get(model_api, (fault.status, fault.code))
    assert (run.status, run.last_error and run.last_error.code) == ended
    assert all(TEXT.startswith(text_of(message)) for message in said)
    assert {message.status for message in said} <= {"completed" if fault.status == "completed" else "incomplete"}
    if fault.kept is not None:
        assert len(said) == (fault.kept or fault.status == "completed")
    assert len(await aimock.journal()) == fault.requests


async def _run(sdk: AsyncOpenAI, *said: str, **more: Any) -> tuple[Run, list[Message]]:
    """A run over these words, at its end or waiting, and the messages that it wrote."""
    assistant = await sdk.beta.assistants.create(model="gpt-4o", **more)
    run = await sdk.beta.threads.create_and_run_poll(
        assistant_id=assistant.id,
        thread={"messages": [{"role": "user", "content": each} for each in said]},
        poll_interval_ms=50,
    )
    messages = await sdk.beta.threads.messages.list(run.thread_id, run_id=run.id, order="asc")
    return run, messages.data


def text_of(message: Message) -> str:
    return "".join(part.text.value for part in message.content if part.type == "text")


# --- what else a model says -------------------------------------------------------------------------------------------
@EACH_WAY
async def test_thoughts_stay_away_and_words_before_a_call_do_not(
    aimock: Aimock, start_gateway: StartGateway, model_api: str
) -> None:
    tool: Any = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
    called = {"name": "get_weather", "arguments": ZURICH}
    answer = {"content": "Let me look.", "toolCalls": [called], "reasoning": "It is about weather."}
    await aimock.teach(
        model_api,
        {"match": {"userMessage": "Weather?", "hasToolResult": False}, "response": answer},
        {"match": {"userMessage": "Weather?"}, "response": {"content": "Fog.", "reasoning": "12 °C is fog."}},
    )
    gateway = await start_gateway(aimock.as_vendor(model_api))
    async with gateway.sdk() as sdk:
        run, said = await _run(sdk, "Weather?", tools=[tool])
        assert run.required_action is not None
        [call] = run.required_action.submit_tool_outputs.tool_calls
        run = await sdk.beta.threads.runs.submit_tool_outputs_and_poll(
            run_id=run.id,
            thread_id=run.thread_id,
            tool_outputs=[{"tool_call_id": call.id, "output": "12 °C"}],
            poll_interval_ms=50,
        )
        said = (await sdk.beta.threads.messages.list(run.thread_id, run_id=run.id, order="asc")).data
        steps = (await sdk.beta.threads.runs.steps.list(run.id, thread_id=run.thread_id, order="asc")).data
    assert (run.status, [text_of(message) for message in said]) == ("completed", ["Let me look.", "Fog."])
    assert [step.type for step in steps] == ["message_creation", "tool_calls", "message_creation"]
    [_, second] = await aimock.journal()
    assert second["response"]["status"] == 200
    heard = [message["role"] for message in second["body"]["messages"]]
    assert (heard[0], {*heard[1:-1]}, heard[-1]) == ("user", {"assistant"}, "tool")
