"""What served runs use is counted for their tenant, also where nobody waits for their end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.engine.writing import Writing
from gateway.store.connection import StoreAway
from gateway.store.noted_runs import NotedRun, NotedRuns, Settling
from tests.conftest import Events, eventually
from tests.engine.conftest import Stage
from tests.engine.scripted_model import calls, chunk
from tests.engine.test_running import quick  # noqa: F401  a fixture
from tests.engine.test_serving import gated, run_of

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


async def settled(events: Events) -> dict[str, Any]:
    await eventually(lambda: len(events.named("run.settled")) == 1)
    [event] = events.named("run.settled")
    return event


@pytest.mark.parametrize("is_lost", [False, True], ids=["told", "answer lost"])
async def test_a_run_that_ends_before_it_is_noted_is_counted_as_soon_as_it_is(
    stage: Stage, events: Events, monkeypatch: pytest.MonkeyPatch, is_lost: bool
) -> None:
    """Nobody has to look at it for that. A quick model is as quick as the note."""
    has_ended, settled_by = asyncio.Event(), list[str]()
    settle, note = NotedRuns.settle, NotedRuns.note

    async def settle_then_tell(self: NotedRuns, settling: Settling) -> Any:
        found = await settle(self, settling)
        has_ended.set()
        settled_by.append(settling.who)
        if is_lost and len(settled_by) == 2:
            raise StoreAway("lost")
        return found

    async def note_after_the_end(self: NotedRuns, run: NotedRun) -> None:
        await has_ended.wait()
        await note(self, run)

    monkeypatch.setattr(NotedRuns, "settle", settle_then_tell)
    monkeypatch.setattr(NotedRuns, "note", note_after_the_end)
    thread = await stage.thread()
    run = await run_of(stage, thread)
    if is_lost:
        assert stage.gateway.app.settlement is not None
        await stage.gateway.app.settlement.flush()
    told = await settled(events)
    assert (told["public_id"], told["status"], told["total_tokens"]) == (run.id, "completed", 15)
    assert len(settled_by) == 2 + is_lost


async def test_a_run_whose_thread_is_deleted_while_it_works_counts_what_its_model_told(
    stage: Stage, events: Events
) -> None:
    """The model has ended before anybody told it to stop, and nothing can be written any more."""
    answer, go_on = gated("Hm")
    stage.model.script += [calls(("add", "{}")), answer]
    thread = await stage.thread()
    run = await run_of(stage, thread)
    outputs: Any = [{"tool_call_id": "call_add0", "output": "3"}]
    await stage.sdk.beta.threads.runs.submit_tool_outputs(run.id, thread_id=thread, tool_outputs=outputs)
    await eventually(lambda: len(stage.model.journal) == 2)
    while len((await stage.sdk.beta.threads.messages.list(thread)).data) == 1:
        pass  # what it says is not begun: that would find the thread gone
    await stage.sdk.beta.threads.delete(thread)
    go_on.set()
    told = await settled(events)
    assert (told["status"], told["total_tokens"], told["public_id"]) == ("gone", 30, run.id)
    assert told["tenant"] == "alice"


async def test_a_run_that_is_stopped_with_its_thread_counts_its_rounds_before(
    quick: None,  # noqa: F811
    stage: Stage,
    events: Events,
) -> None:
    answer, _ = gated("Hm")
    stage.model.script += [calls(("add", "{}")), answer]
    thread = await stage.thread()
    run = await run_of(stage, thread)
    outputs: Any = [{"tool_call_id": "call_add0", "output": "3"}]
    await stage.sdk.beta.threads.runs.submit_tool_outputs(run.id, thread_id=thread, tool_outputs=outputs)
    await eventually(lambda: len(stage.model.journal) == 2)
    await stage.sdk.beta.threads.delete(thread)
    assert (await settled(events))["total_tokens"] == 15


async def test_a_run_that_waits_counts_when_its_thread_is_deleted(stage: Stage, events: Events) -> None:
    stage.model.script.append(calls(("add", "{}")))
    thread = await stage.thread()
    await run_of(stage, thread)
    await stage.sdk.beta.threads.delete(thread)
    told = await settled(events)
    assert (told["status"], told["total_tokens"], told["usage_unknown"]) == ("gone", 15, False)


async def test_a_generation_that_is_cancelled_counts_what_the_vendor_has_told(stage: Stage, events: Events) -> None:
    """Some tell with every piece what was used so far; the last figures count."""

    async def counting(body: dict[str, Any]) -> AsyncIterator[bytes]:
        for number in (1, 2, 3):
            usage = {"prompt_tokens": 7, "completion_tokens": number, "total_tokens": 7 + number}
            yield chunk({"content": f"{number} "}, usage=usage)
        async for piece in gated()[0](body):
            yield piece

    stage.model.script.append(counting)
    thread = await stage.thread()
    async with stage.sdk.beta.threads.runs.stream(thread_id=thread, assistant_id=stage.assistant) as stream:
        async for text in stream.text_deltas:
            if text == "3 ":
                break
        run = stream.current_run
        assert run is not None
        await stage.sdk.beta.threads.runs.cancel(run.id, thread_id=thread)
    told = await settled(events)
    assert (told["status"], told["prompt_tokens"], told["completion_tokens"]) == ("cancelled", 7, 3)
    ended = await stage.sdk.beta.threads.runs.retrieve(run.id, thread_id=thread)
    assert ended.usage is not None
    assert ended.usage.total_tokens == 10
    [done] = events.named("generation.done")
    assert (done["outcome"], done["usage"]["total_tokens"]) == ("stopped", 10)


async def test_a_run_that_a_fault_of_the_gateway_fails_counts_what_its_model_told(
    stage: Stage, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(_: Writing) -> Any:
        raise RuntimeError("a fault")

    monkeypatch.setattr(Writing, "complete", crash)
    thread = await stage.thread()
    ended = await run_of(stage, thread)
    told = await settled(events)
    assert (ended.status, told["status"], told["total_tokens"]) == ("failed", "failed", 15)
    assert ended.usage is not None
    assert ended.usage.total_tokens == 15
