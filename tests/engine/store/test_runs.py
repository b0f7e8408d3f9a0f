from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.engine.store.endings import Ending, EndStatus
from gateway.engine.store.lists import Page, Window
from gateway.engine.store.results import Absent, Lost, Written, WrongOutputs, WrongStatus
from gateway.engine.store.runs import Started
from gateway.engine.store.work import Change
from tests.engine.store.conftest import OpenReplica, Replica
from tests.engine.store.objects import (
    CALLS,
    CONTEXT,
    NOW,
    OUTPUTS,
    listed,
    make_run,
    make_thread,
    make_waiting,
    message,
    run,
    step,
)

USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


async def seen(at: Replica, thread: str, of: str) -> dict[str, Any]:
    """A run as its reader sees it, alone and in the list."""
    alone = await at.runs.get(thread, of)
    page = await at.runs.list(thread, Window())
    assert isinstance(page, Page)
    assert alone in page.objects
    assert isinstance(alone, dict)
    return alone


async def test_a_run_goes_from_queued_to_completed(replica: Replica, other: Replica) -> None:
    id_, made = await make_thread(replica), run()
    started = await replica.runs.create(id_, made, needs_user_message=True, context=CONTEXT, now=NOW)
    assert isinstance(started, Started)
    claim = started.claim
    assert started.run == made == await seen(other, id_, claim.run)
    assert replica.leases.held == (claim,)
    assert await replica.work.start(claim, now=NOW + 1) == Written("in_progress")
    in_progress = made | {"status": "in_progress", "started_at": int(NOW) + 1}
    assert await seen(other, id_, claim.run) == in_progress
    ending = Ending("completed", NOW + 5, usage=USAGE)
    assert await replica.work.finish(claim, ending) == Written("completed")
    completed = {"status": "completed", "completed_at": int(NOW) + 5, "usage": USAGE, "expires_at": None}
    assert await seen(other, id_, claim.run) == in_progress | completed
    assert replica.leases.held == ()
    assert await other.leases.sweep(now=NOW + 10_000) == []
    await make_run(other, id_)  # the thread is free again


@pytest.mark.parametrize(
    ("ending", "expected", "message_reason", "step_status"),
    [
        (
            Ending("failed", NOW + 5, error={"code": "server_error", "message": "no"}),
            {"failed_at": int(NOW) + 5, "last_error": {"code": "server_error", "message": "no"}, "expires_at": None},
            "run_failed",
            "failed",
        ),
        (
            Ending("incomplete", NOW + 5, reason="max_completion_tokens"),
            {"incomplete_details": {"reason": "max_completion_tokens"}, "expires_at": None},
            "max_tokens",
            "completed",
        ),
        (
            Ending("cancelled", NOW + 5),
            {"cancelled_at": int(NOW) + 5, "expires_at": None},
            "run_cancelled",
            "cancelled",
        ),
        (Ending("expired", NOW + 5), {"expires_at": int(NOW) + 600}, "run_expired", "expired"),
    ],
)
async def test_an_ending_closes_what_is_open(
    replica: Replica, ending: Ending, expected: dict[str, Any], message_reason: str, step_status: EndStatus
) -> None:
    id_ = await make_thread(replica)
    claim = await make_run(replica, id_)
    open_message = message("assistant", status="in_progress")
    open_step, done_step = step(claim, status="in_progress"), step(claim, status="completed")
    await replica.work.write(
        claim,
        Change("commit", "step", done_step),
        Change("begin", "step", open_step),
        Change("begin", "message", open_message),
    )
    assert await replica.messages.get(id_, open_message["id"]) == open_message
    assert await replica.work.finish(claim, ending) == Written(ending.status)
    ended = await seen(replica, id_, claim.run)
    assert {name: ended.get(name) for name in ("status", *expected)} == {"status": ending.status, **expected}
    incomplete = await replica.messages.get(id_, open_message["id"])
    assert isinstance(incomplete, dict)
    assert incomplete["status"] == "incomplete"
    assert incomplete["incomplete_details"] == {"reason": message_reason}
    page = await replica.steps.list(id_, claim.run, Window(order="asc"))
    assert isinstance(page, Page)
    assert [made["status"] for made in page.objects] == ["completed", step_status]


async def test_a_run_is_not_ended_twice(replica: Replica) -> None:
    id_ = await make_thread(replica)
    claim = await make_run(replica, id_)
    await replica.work.finish(claim, Ending("completed", NOW + 5))
    again = await replica.work.finish(claim, Ending("failed", NOW + 6))
    assert again == Written("failed")  # it is taken for a late copy
    assert (await seen(replica, id_, claim.run))["status"] == "completed"
    assert await replica.work.write(claim, Change("commit", "message", message("assistant"))) == Lost.ENDED
    assert await replica.work.start(claim, now=NOW) == Lost.ENDED
    assert await listed(replica, id_) == ["hello"]


async def test_what_was_committed_is_not_begun_again(replica: Replica) -> None:
    """A command that was given up may still arrive, after those that followed it."""
    id_ = await make_thread(replica)
    claim = await make_run(replica, id_)
    written = message("assistant", "", status="in_progress")
    begin = Change("begin", "message", written)
    await replica.work.write(claim, begin)
    await replica.work.write(claim, Change("commit", "message", written | {"status": "completed"}))
    await replica.work.write(claim, begin)
    await replica.work.finish(claim, Ending("completed", NOW))
    assert await replica.messages.get(id_, written["id"]) == written | {"status": "completed"}


async def test_metadata_set_meanwhile_stays(replica: Replica) -> None:
    id_ = await make_thread(replica)
    claim = await make_run(replica, id_)
    written = message("assistant", "", status="in_progress")
    await replica.work.write(claim, Change("begin", "message", written))
    for at_work in (True, False):
        assert (await replica.runs.modify(id_, claim.run, {"a": "b"})) == await seen(replica, id_, claim.run)
        await replica.messages.modify(id_, written["id"], {"c": "d"})
        if at_work:
            await replica.work.finish(claim, Ending("completed", NOW), Change("commit", "message", written))
    assert (await seen(replica, id_, claim.run))["metadata"] == {"a": "b"}
    found = await replica.messages.get(id_, written["id"])
    assert isinstance(found, dict)
    assert found["metadata"] == {"c": "d"}
    assert await replica.runs.modify(id_, "run_never", {}) == Absent("run")


async def test_messages_and_steps_of_a_run_are_told_from_those_around_it(replica: Replica) -> None:
    id_ = await make_thread(replica)
    runs = []
    for _ in range(3):
        claim = await make_run(replica, id_)
        made = [message("assistant", f"{len(runs)}{letter}", run_id=claim.run) for letter in "abc"]
        steps = [step(claim) for _ in made]
        for pair in zip(made, steps, strict=True):
            await replica.work.write(claim, Change("commit", "message", pair[0]), Change("commit", "step", pair[1]))
        runs.append((claim, made, steps))
        if len(runs) < 3:  # the last goes on
            await replica.work.finish(claim, Ending("completed", NOW))
            await replica.messages.append(id_, message(text="between"), now=NOW)
    for claim, made, steps in runs:
        for limit, has_more in ((3, False), (2, True), (4, False)):
            page = await replica.messages.list(id_, Window(limit=limit, order="asc"), run=claim.run)
            assert page == Page(tuple(made[:limit]), has_more)
            page = await replica.steps.list(id_, claim.run, Window(limit=limit))
            assert page == Page(tuple(steps[::-1][:limit]), has_more)
        assert await replica.steps.get(id_, claim.run, steps[0]["id"]) == steps[0]
        others = next(other for other, _, _ in runs if other is not claim)
        assert await replica.steps.get(id_, others.run, steps[0]["id"]) == Absent("step")
    assert await replica.messages.list(id_, Window(), run="run_never") == Page((), False)


# --- cancelling -------------------------------------------------------------------------------------------------------
async def test_who_works_on_a_run_is_told_to_end_it(replica: Replica, other: Replica) -> None:
    id_ = await make_thread(replica)
    claim = await make_run(replica, id_)
    cancelling = await other.runs.cancel(id_, claim.run, now=NOW)
    assert isinstance(cancelling, dict)
    assert cancelling["status"] == "cancelling"
    assert await other.runs.cancel(id_, claim.run, now=NOW) == WrongStatus("cancelling")
    late = Change("commit", "message", message("assistant", "what was there already"))
    assert await replica.work.write(claim, late) == Written("cancelling")
    assert await replica.work.start(claim, now=NOW) == Written("cancelling")
    assert await replica.leases.renew(now=NOW) == {claim: Written("cancelling")}
    assert await replica.work.require_action(claim, CALLS, Change("begin", "step", step(claim))) == Written(
        "cancelling"
    )
    assert await replica.steps.list(id_, claim.run, Window()) == Page((), False)
    await replica.work.finish(claim, Ending("cancelled", NOW + 1))
    assert (await seen(other, id_, claim.run))["status"] == "cancelled"
    assert await listed(other, id_) == ["hello", "what was there already"]


async def test_a_run_that_waits_is_cancelled_at_once(replica: Replica) -> None:
    id_ = await make_thread(replica)
    claim = await make_waiting(replica, id_)
    cancelled = await replica.runs.cancel(id_, claim.run, now=NOW + 2)
    assert cancelled == await seen(replica, id_, claim.run)
    assert isinstance(cancelled, dict)
    assert (cancelled["status"], cancelled["required_action"], cancelled["cancelled_at"]) == (
        "cancelled",
        None,
        int(NOW) + 2,
    )
    page = await replica.steps.list(id_, claim.run, Window())
    assert isinstance(page, Page)
    assert [made["status"] for made in page.objects] == ["cancelled"]
    assert await replica.runs.cancel(id_, claim.run, now=NOW) == WrongStatus("cancelled")


async def test_only_a_run_that_goes_on_can_be_cancelled(replica: Replica) -> None:
    id_ = await make_thread(replica)
    assert await replica.runs.cancel(id_, "run_never", now=NOW) == Absent("run")
    for status in ("completed", "failed", "incomplete", "expired"):
        claim = await make_run(replica, id_)
        await replica.work.finish(claim, Ending(status, NOW))  # type: ignore[arg-type]
        assert await replica.runs.cancel(id_, claim.run, now=NOW) == WrongStatus(status)  # type: ignore[arg-type]


# --- tool outputs -----------------------------------------------------------------------------------------------------
async def test_outputs_are_taken_once_and_the_run_goes_on_where_they_were_given(
    replica: Replica, other: Replica
) -> None:
    id_ = await make_thread(replica)
    claim = await make_waiting(replica, id_)
    assert replica.leases.held == ()
    waiting = await seen(other, id_, claim.run)
    assert waiting["status"] == "requires_action"
    assert waiting["required_action"] == {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": CALLS}}
    submitted = await other.runs.submit(id_, claim.run, OUTPUTS[::-1], now=NOW + 30)
    assert isinstance(submitted, Started)
    assert submitted.run == waiting | {"status": "queued", "required_action": None}
    assert submitted.claim.epoch == claim.epoch + 1
    assert await replica.work.write(claim) == Lost.TAKEN
    assert await other.runs.submit(id_, claim.run, OUTPUTS, now=NOW) == WrongStatus("queued")
    assert await other.work.start(submitted.claim, now=NOW + 31) == Written("in_progress")
    assert (await seen(other, id_, claim.run))["started_at"] == int(NOW)
    await other.work.finish(submitted.claim, Ending("completed", NOW + 32))
    assert await other.runs.submit(id_, claim.run, OUTPUTS, now=NOW) == WrongStatus("completed")


@pytest.mark.parametrize("got", ["", "a", "b", "aa", "aab", "abb", "abc", "ac"])
async def test_missing_unknown_and_doubled_outputs_are_refused(replica: Replica, got: str) -> None:
    id_ = await make_thread(replica)
    claim = await make_waiting(replica, id_)
    outputs = [{"tool_call_id": f"call_{name}", "output": ""} for name in got]
    refused = await replica.runs.submit(id_, claim.run, outputs, now=NOW)
    assert refused == WrongOutputs(("call_a", "call_b"), tuple(f"call_{name}" for name in got))
    assert isinstance(await replica.runs.submit(id_, claim.run, OUTPUTS, now=NOW), Started)


async def test_outputs_for_a_run_that_does_not_wait_are_refused(replica: Replica) -> None:
    id_ = await make_thread(replica)
    assert await replica.runs.submit(id_, "run_never", OUTPUTS, now=NOW) == Absent("run")
    claim = await make_run(replica, id_)
    assert await replica.runs.submit(id_, claim.run, OUTPUTS, now=NOW) == WrongStatus("in_progress")
    await replica.work.require_action(claim, CALLS)
    assert await replica.runs.submit(id_, claim.run, OUTPUTS, now=NOW + 600) == WrongStatus("expired")


async def test_of_two_that_submit_one_goes_on(open_replica: OpenReplica) -> None:
    replicas = [await open_replica() for _ in range(4)]
    id_ = await make_thread(replicas[0])
    claim = await make_waiting(replicas[0], id_)
    results = await asyncio.gather(
        *(at.runs.submit(id_, claim.run, OUTPUTS, now=NOW) for at in replicas for _ in range(2))
    )
    assert len([result for result in results if isinstance(result, Started)]) == 1
    assert [result for result in results if not isinstance(result, Started)] == [WrongStatus("queued")] * 7
    assert len([at for at in replicas if at.leases.held]) == 1


async def test_a_second_round_of_tools_takes_outputs_of_its_own(replica: Replica) -> None:
    id_ = await make_thread(replica)
    claim = await make_waiting(replica, id_)
    submitted = await replica.runs.submit(id_, claim.run, OUTPUTS, now=NOW)
    assert isinstance(submitted, Started)
    await replica.work.start(submitted.claim, now=NOW)
    assert await replica.work.require_action(submitted.claim, CALLS[:1]) == Written("requires_action")
    refused = await replica.runs.submit(id_, claim.run, OUTPUTS, now=NOW)
    assert refused == WrongOutputs(("call_a",), ("call_a", "call_b"))
    assert isinstance(await replica.runs.submit(id_, claim.run, OUTPUTS[:1], now=NOW), Started)
