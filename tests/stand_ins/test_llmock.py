"""Threads that the gateway serves over llmock, in each model API: it fails by chance, every run ends all the same, and
its verdict on the gateway as a client is good."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import orjson
import pytest
from openai import AsyncOpenAI
from openai.types.beta.threads import Message, Run

from tests.clients.conftest import INSTALL_S
from tests.conftest import StartGateway, edit
from tests.stand_ins.llmock import Llmock
from tests.stand_ins.stand_in import EACH_WAY

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(INSTALL_S),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # the SDK marks every Assistants method so
]
StartLlmock = Callable[..., Awaitable[Llmock]]
RUNS, AT_ONCE = 200, 20
WITHIN_S = 60
"""A run that has not ended by then hangs."""
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


async def many(sdk: AsyncOpenAI, count: int = RUNS) -> list[Run]:
    """Runs over different words, so that no two ask the same; each at its end."""
    assistant = (await sdk.beta.assistants.create(model="gpt-4o")).id
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> Run:
        said: Any = {"messages": [{"role": "user", "content": f"Tell me about the number {number}."}]}
        async with turns, asyncio.timeout(WITHIN_S):
            return await sdk.beta.threads.create_and_run_poll(assistant_id=assistant, thread=said, poll_interval_ms=100)

    return await asyncio.gather(*map(one, range(count)))


def codes(runs: Sequence[Run]) -> Counter[str]:
    """How they ended: their status, for those that failed the code of the reason."""
    return Counter(run.last_error.code if run.last_error else run.status for run in runs)


def findings(verdict: Mapping[str, Any]) -> Counter[str]:
    return Counter(finding["code"] for finding in verdict["findings"])


def text_of(messages: Sequence[Message]) -> str:
    return "".join(part.text.value for message in messages for part in message.content if part.type == "text")


@EACH_WAY
async def test_answers_that_fail_by_chance_end_every_run_and_are_asked_again_with_care(
    start_llmock: StartLlmock, start_gateway: StartGateway, model_api: str
) -> None:
    """A tenth each of 500, and of 503, whose `retry-after` is heeded. All that the verdict may find is pauses that grow
    too little: the first are tenths of seconds, and a busy machine adds as much."""
    llmock = await start_llmock(LLMOCK_ERROR_RATE_500="0.1", LLMOCK_ERROR_RATE_503="0.1")
    gateway = await start_gateway(llmock.as_vendor(model_api))
    async with gateway.sdk() as sdk:
        runs = await many(sdk)
    verdict = await llmock.verdict()
    assert verdict["passed"]
    assert findings(verdict).keys() <= {"no_backoff"}
    assert verdict["calls"] == RUNS < verdict["attempts"]
    assert codes(runs).keys() <= {"completed", "server_error"}
    assert codes(runs)["completed"] > RUNS * 0.9


@EACH_WAY
async def test_a_quota_is_never_asked_again_before_its_time(
    start_llmock: StartLlmock, start_gateway: StartGateway, model_api: str
) -> None:
    """There are more runs than a minute has requests. Those that are over fail so, most of them without being sent; the
    verdict would have them wait."""
    llmock = await start_llmock(LLMOCK_RPM="60")

    def with_one_key(settings: dict[str, Any]) -> None:
        settings["providers"]["llmock"]["accounts"]["acme"]["keys"] = {"one": "${LLMOCK_0}"}

    gateway = await start_gateway(llmock.as_vendor(model_api), change=with_one_key)
    async with gateway.sdk() as sdk:
        runs = await many(sdk, 100)
    verdict = await llmock.verdict()
    assert codes(runs).keys() == {"completed", "rate_limit_exceeded"}
    assert codes(runs)["completed"] >= 60
    assert verdict["passed"]
    assert findings(verdict).keys() <= {"gave_up"}
    assert verdict["attempts"] - codes(runs)["completed"] < AT_ONCE


@EACH_WAY
async def test_streams_that_break_by_chance_end_every_run_and_none_passes_for_whole(
    start_llmock: StartLlmock, start_gateway: StartGateway, model_api: str
) -> None:
    """A run completes only with all that was to say; of others the beginning is kept. The verdict does not see what
    becomes of an answer: it would have a broken one asked for again, but its reader may have read it already."""
    rates = {"disconnect": "0.1", "truncate": "0.1", "malformed": "0.1", "stall": "0.05"}
    settings = {f"LLMOCK_STREAM_FAULT_{kind.upper()}": rate for kind, rate in rates.items()}
    llmock = await start_llmock(**settings, LLMOCK_STREAM_STALL_SECONDS="20", LLMOCK_RESPONSE_STYLE="echo")
    gateway = await start_gateway(llmock.as_vendor(model_api), change=edit(providers__llmock__timeouts={"idle_s": 2}))
    async with gateway.sdk() as sdk:
        runs = await many(sdk)
        kept = {run.id: (await sdk.beta.threads.messages.list(run.thread_id, order="asc")).data for run in runs}
    for run in runs:
        asked, *said = kept[run.id]
        whole = f"Hello! You said: {text_of([asked])}"
        if run.status == "completed":
            assert text_of(said) == whole
        else:
            assert run.last_error is not None
            assert (run.status, run.last_error.code) == ("failed", "server_error")
            assert whole.startswith(text_of(said))
            assert {message.status for message in said} <= {"incomplete"}
    broken = [each for each in await llmock.journal() if each["fault"]]
    verdict = await llmock.verdict()
    assert verdict["attempts"] == RUNS
    assert RUNS / 10 < codes(runs)["server_error"] <= len(broken)
    assert findings(verdict).keys() <= {"gave_up", "truncated_stream_accepted", "malformed_chunk_ignored"}


@EACH_WAY
@pytest.mark.parametrize("fault", [None, "unknown_tool", "malformed_arguments"])
async def test_what_a_model_makes_of_its_tools_goes_to_the_caller(
    start_llmock: StartLlmock, start_gateway: StartGateway, model_api: str, fault: str | None
) -> None:
    llmock = await start_llmock()
    if fault is not None:
        await llmock.behave({"type": "tool_fault", "kind": fault})
    gateway = await start_gateway(llmock.as_vendor(model_api))
    async with gateway.sdk() as sdk:
        assistant = await sdk.beta.assistants.create(model="gpt-4o", tools=[WEATHER])
        run = await sdk.beta.threads.create_and_run_poll(
            assistant_id=assistant.id,
            thread={"messages": [{"role": "user", "content": "The weather in Paris?"}]},
            poll_interval_ms=50,
        )
        assert run.required_action is not None
        [call] = run.required_action.submit_tool_outputs.tool_calls
        assert call.function.name == ("llmock_unknown_tool" if fault == "unknown_tool" else "get_weather")
        if fault is None:
            assert orjson.loads(call.function.arguments).keys() == {"city"}
        run = await sdk.beta.threads.runs.submit_tool_outputs_and_poll(
            run_id=run.id,
            thread_id=run.thread_id,
            tool_outputs=[{"tool_call_id": call.id, "output": "rain"}],
            poll_interval_ms=50,
        )
        assert run.status == "completed"
    assert [each["status"] for each in await llmock.journal()] == [200, 200]


@EACH_WAY
async def test_a_prompt_that_is_too_long_says_so(
    start_llmock: StartLlmock, start_gateway: StartGateway, model_api: str
) -> None:
    llmock = await start_llmock(LLMOCK_CONTEXT_WINDOW="5")
    gateway = await start_gateway(llmock.as_vendor(model_api))
    async with gateway.sdk() as sdk:
        [run] = await many(sdk, 1)
    assert run.last_error is not None
    assert run.last_error.code == "invalid_prompt"
    assert "maximum" in run.last_error.message
    assert (await llmock.verdict())["passed"]
