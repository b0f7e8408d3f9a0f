from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from redis import Redis

from gateway.engine.store.endings import Ending
from gateway.engine.store.leases import Expired, Leases, Taken
from gateway.engine.store.lists import Page, Window
from gateway.engine.store.results import Claim, Lost, Written
from gateway.engine.store.runs import Started
from gateway.engine.store.work import Change
from gateway.store.connection import StoreAway
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
from tests.store.conftest import OwnValkey


def members(plain: Redis, at: Replica) -> dict[str, float]:
    """The lease set."""
    return dict(plain.zrange(at.store.key("leases", "{l0}"), 0, -1, withscores=True))


def member(claim: Claim) -> str:
    return f"{claim.thread}:{claim.run}"


async def test_a_run_whose_replica_is_gone_is_taken_over_after_its_lease(replica: Replica, other: Replica) -> None:
    """And what it had committed stays."""
    id_ = await make_thread(other)
    claim = await make_run(other, id_)
    committed = message("assistant", "committed")
    await other.work.write(claim, Change("commit", "message", committed))
    assert await other.leases.renew(now=NOW + 3) == {claim: Written("in_progress")}
    # The other replica does nothing from here on.
    assert await replica.leases.sweep(now=NOW + 7.9) == []
    (taken,) = await replica.leases.sweep(now=NOW + 8)
    assert isinstance(taken, Taken)
    assert taken == Taken(taken.claim, "in_progress", CONTEXT, None, 1, (), ())
    assert taken.claim == Claim(id_, claim.run, taken.claim.fence, 2, NOW + 600)
    assert replica.leases.held == (taken.claim,)
    assert await replica.leases.sweep(now=NOW + 9) == []
    await replica.work.finish(taken.claim, Ending("completed", NOW + 9))
    assert await listed(replica, id_) == ["hello", "committed"]


async def test_what_was_published_in_part_ends_incomplete(replica: Replica, other: Replica) -> None:
    """Somebody has read it: the next attempt writes another message."""
    id_ = await make_thread(other)
    claim = await make_run(other, id_)
    begun, making = message("assistant", "", status="in_progress"), step(claim, status="in_progress")
    await other.work.write(claim, Change("begin", "step", making), Change("begin", "message", begun))
    (taken,) = await replica.leases.sweep(now=NOW + 5)
    assert isinstance(taken, Taken)
    assert (taken.interrupted_messages, taken.interrupted_steps) == ((begun["id"],), (making["id"],))
    incomplete = await replica.messages.get(id_, begun["id"])
    failed = await replica.steps.get(id_, claim.run, making["id"])
    assert isinstance(incomplete, dict)
    assert isinstance(failed, dict)
    assert (incomplete["status"], incomplete["incomplete_details"]) == ("incomplete", {"reason": "run_failed"})
    assert (failed["status"], failed["last_error"]["code"]) == ("failed", "server_error")
    await replica.work.write(taken.claim, Change("commit", "message", message("assistant", "anew")))
    await replica.work.finish(taken.claim, Ending("completed", NOW + 9))
    assert await replica.messages.get(id_, begun["id"]) == incomplete
    assert await listed(replica, id_) == ["hello", "", "anew"]


async def test_late_writes_of_a_replica_that_lost_its_run_are_refused(replica: Replica, other: Replica) -> None:
    id_ = await make_thread(other)
    zombie = await make_run(other, id_)
    (taken,) = await replica.leases.sweep(now=NOW + 5)
    assert isinstance(taken, Taken)
    before = await replica.runs.get(id_, zombie.run)
    publisher = other.events.publish(zombie)
    publisher.send(("thread.message.delta", b"{}"))
    await publisher.flush()
    assert publisher.is_lost
    await publisher.close()
    refused = [
        await other.work.start(zombie, now=NOW + 6),
        await other.work.write(zombie, Change("begin", "message", message("assistant", "no"))),
        await other.work.write(zombie, Change("commit", "step", step(zombie))),
        await other.work.require_action(zombie, CALLS),
        await other.work.finish(zombie, Ending("failed", NOW + 6)),
    ]
    assert refused == [Lost.TAKEN] * 5
    assert other.leases.held == ()
    other.leases.hold(zombie)
    assert await other.leases.renew(now=NOW + 6) == {zombie: Lost.TAKEN}
    await other.leases.hand_over(zombie, now=NOW + 6)
    assert await replica.runs.get(id_, zombie.run) == before
    assert await listed(replica, id_) == ["hello"]
    # And none of it has brought the run to anybody else.
    assert await other.leases.sweep(now=NOW + 9) == []
    assert await replica.leases.renew(now=NOW + 9) == {taken.claim: Written("in_progress")}
    await replica.work.finish(taken.claim, Ending("completed", NOW + 9))
    assert await other.work.finish(zombie, Ending("failed", NOW + 10)) == Lost.ENDED


async def test_a_replica_that_lost_its_run_does_not_hide_it_from_the_next(
    replica: Replica, open_replica: OpenReplica
) -> None:
    """The one that took it over dies before it renews."""
    dying, third = await open_replica(), await open_replica()
    id_ = await make_thread(replica)
    zombie = await make_run(replica, id_)
    assert len(await dying.leases.sweep(now=NOW + 5)) == 1
    assert await replica.work.finish(zombie, Ending("completed", NOW + 6)) == Lost.TAKEN
    assert len(await third.leases.sweep(now=NOW + 10)) == 1


async def test_an_entry_that_the_store_has_lost_is_made_again_by_who_meets_the_run(
    replica: Replica, open_replica: OpenReplica, plain: Redis
) -> None:
    """The set lies on another node of a cluster than the thread, and may have forgotten what that one knows."""
    for meets in ("create", "cancel"):
        dead, third = await open_replica(), await open_replica()
        id_ = await make_thread(dead)
        claim = await make_run(dead, id_)
        plain.delete(replica.store.key("leases", "{l0}"))
        if meets == "create":
            await replica.runs.create(id_, run(), needs_user_message=True, context=CONTEXT, now=NOW + 7)
        else:
            await replica.runs.cancel(id_, claim.run, now=NOW + 7)
        (taken,) = await third.leases.sweep(now=NOW + 12)
        assert isinstance(taken, Taken)
        assert taken.claim.run == claim.run


async def test_entries_that_are_of_no_use_keep_nobody_from_what_is_overdue(replica: Replica, other: Replica) -> None:
    id_ = await make_thread(other)
    for number in range(20):
        await replica.leases.intend(Claim(id_, f"run_intended{number}", "fence", 1, NOW + 600), NOW - 1)
    await make_run(other, id_)
    assert len(await replica.leases.sweep(now=NOW + 5, limit=1)) == 1


async def test_of_many_replicas_one_takes_a_run_over(open_replica: OpenReplica) -> None:
    dead, *replicas = [await open_replica() for _ in range(5)]
    ids = [await make_thread(dead) for _ in range(10)]
    claims = [await make_run(dead, id_) for id_ in ids]
    found = await asyncio.gather(*(at.leases.sweep(now=NOW + 5) for at in replicas))
    taken = [one.claim.run for several in found for one in several if isinstance(one, Taken)]
    assert sorted(taken) == sorted(claim.run for claim in claims)


async def test_a_run_is_handed_over_at_once(replica: Replica, other: Replica) -> None:
    id_ = await make_thread(replica)
    claim = await make_run(replica, id_)
    await replica.leases.hand_over(claim, now=NOW + 1)
    assert replica.leases.held == ()
    (taken,) = await other.leases.sweep(now=NOW + 1)
    assert isinstance(taken, Taken)
    assert taken.claim.run == claim.run


async def test_cancelling_and_outputs_go_with_the_run(replica: Replica, other: Replica) -> None:
    """A replica that dies right after it was told loses nothing of it."""
    id_ = await make_thread(other)
    waiting = await make_waiting(other, id_)
    submitted = await other.runs.submit(id_, waiting.run, OUTPUTS, telling={"is_streamed": False}, now=NOW + 10)
    assert isinstance(submitted, Started)
    await other.runs.cancel(id_, waiting.run, now=NOW + 10)
    (taken,) = await replica.leases.sweep(now=NOW + 15)
    assert isinstance(taken, Taken)
    outputs = {"tool_outputs": OUTPUTS, "is_streamed": False, "request_id": None}
    assert (taken.status, taken.outputs, taken.claim.epoch) == ("cancelling", outputs, 3)
    # The step that waited for the outputs is there to be committed.
    assert (taken.interrupted_steps, taken.takeovers) == ((), 1)
    page = await replica.steps.list(id_, waiting.run, Window())
    assert isinstance(page, Page)
    assert [made["status"] for made in page.objects] == ["in_progress"]


async def test_outputs_whose_taker_cannot_read_on_go_with_the_run(
    replica: Replica, other: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers that the store is away, and holds nothing that it does not work on."""
    claim = await make_waiting(other, await make_thread(other))
    get, calls = other.runs.get, 0

    async def once(thread: str, run: str) -> object:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise StoreAway("away")
        return await get(thread, run)

    monkeypatch.setattr(other.runs, "get", once)
    with pytest.raises(StoreAway):
        await other.runs.submit(claim.thread, claim.run, OUTPUTS, now=NOW + 10)
    assert other.leases.held == ()
    (taken,) = await replica.leases.sweep(now=NOW + 15)
    assert isinstance(taken, Taken)
    assert taken.outputs is not None
    assert taken.outputs["tool_outputs"] == OUTPUTS


async def test_how_often_a_run_was_taken_over_in_a_row_is_told(open_replica: OpenReplica) -> None:
    first = await open_replica()
    await make_run(first, await make_thread(first))
    for times in range(1, 5):
        (taken,) = await (await open_replica()).leases.sweep(now=NOW + 5 * times)
        assert isinstance(taken, Taken)
        assert (taken.takeovers, taken.claim.epoch) == (times, times + 1)


async def test_a_run_expires_whatever_its_replica_does(replica: Replica, other: Replica) -> None:
    """Its holder renews and renews, and cannot get beyond."""
    id_ = await make_thread(other)
    claim = await make_run(other, id_)
    for second in range(0, 600, 2):
        await other.leases.renew(now=NOW + second)
    assert await replica.leases.sweep(now=NOW + 599) == []
    await other.leases.renew(now=NOW + 599.9)
    assert await replica.leases.sweep(now=NOW + 600) == [Expired(id_, claim.run, CONTEXT)]
    expired = await replica.runs.get(id_, claim.run)
    assert isinstance(expired, dict)
    assert (expired["status"], expired["expires_at"]) == ("expired", int(NOW) + 600)
    assert await other.work.write(claim) == Lost.ENDED
    assert await replica.leases.sweep(now=NOW + 10_000) == []
    await make_run(replica, id_)


async def test_what_a_run_had_used_counts_though_nobody_goes_on_with_it(replica: Replica, other: Replica) -> None:
    """Between two generations of one claim, too."""
    id_ = await make_thread(other)
    claim = await make_run(other, id_)
    used = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    made = message("assistant", "Let me see.")
    assert await other.work.write(claim, Change("commit", "message", made), usage=used) == Written("in_progress")
    assert await replica.leases.sweep(now=NOW + 600) == [Expired(id_, claim.run, CONTEXT)]
    ended = await replica.runs.get(id_, claim.run)
    assert isinstance(ended, dict)
    assert (ended["status"], ended["usage"]) == ("expired", used)
    assert await listed(replica, id_) == ["hello", "Let me see."]


async def test_a_run_that_waits_is_left_alone_until_it_expires(replica: Replica, plain: Redis) -> None:
    id_ = await make_thread(replica)
    claim = await make_waiting(replica, id_)
    assert members(plain, replica) == {member(claim): NOW + 600}
    # As if its replica had died before it told the lease set.
    plain.zadd(replica.store.key("leases", "{l0}"), {member(claim): NOW + 5})
    assert await replica.leases.sweep(now=NOW + 5) == []
    assert members(plain, replica) == {member(claim): NOW + 600}
    assert await replica.leases.sweep(now=NOW + 600) == [Expired(id_, claim.run, CONTEXT)]
    page = await replica.steps.list(id_, claim.run, Window())
    assert isinstance(page, Page)
    assert [made["status"] for made in page.objects] == ["expired"]


async def test_refused_outputs_do_not_put_off_what_is_overdue(replica: Replica, other: Replica) -> None:
    id_ = await make_thread(other)
    claim = await make_run(other, id_)
    await replica.runs.submit(id_, claim.run, OUTPUTS, now=NOW + 4)
    await replica.runs.create(id_, run(), needs_user_message=True, context=CONTEXT, now=NOW + 4)
    (taken,) = await replica.leases.sweep(now=NOW + 5)
    assert isinstance(taken, Taken)


async def test_an_entry_without_a_run_is_dropped_after_a_time(replica: Replica, plain: Redis) -> None:
    """Its replica died between the two, or the run is about to be made."""
    id_ = await make_thread(replica)
    claim = Claim(id_, "run_intended", "fence", 1, NOW + 600)
    await replica.leases.intend(claim, NOW)
    assert await replica.leases.sweep(now=NOW + 34.9) == []
    assert members(plain, replica) == {member(claim): NOW + 5}
    assert await replica.leases.sweep(now=NOW + 35) == []
    assert members(plain, replica) == {}


async def test_a_refused_run_leaves_no_entry(replica: Replica, plain: Redis) -> None:
    id_ = await make_thread(replica)
    claim = await make_run(replica, id_)
    await replica.runs.create(id_, run(), needs_user_message=True, context=CONTEXT, now=NOW)
    assert members(plain, replica) == {member(claim): NOW + 5}


async def test_an_entry_of_a_run_that_has_ended_is_dropped(replica: Replica, plain: Redis) -> None:
    id_ = await make_thread(replica)
    claim = await make_run(replica, id_)
    await replica.work.finish(claim, Ending("completed", NOW))
    await replica.leases.intend(claim, NOW)
    assert await replica.leases.sweep(now=NOW + 5) == []
    assert members(plain, replica) == {}


async def test_a_replica_that_is_late_does_not_take_its_own_runs_over(replica: Replica) -> None:
    id_ = await make_thread(replica)
    claim = await make_run(replica, id_)
    assert await replica.leases.sweep(now=NOW + 100) == []
    assert await replica.leases.renew(now=NOW + 100) == {claim: Written("in_progress")}


async def test_leases_are_spread_over_several_sets(replica: Replica, plain: Redis) -> None:
    leases = Leases(replica.store, owner="x", shards=8)
    claims = [Claim(f"thread_{number}", f"run_{number}", "f", 1, NOW + 600) for number in range(50)]
    for claim in claims:
        await leases.intend(claim, NOW)
    sizes = [plain.zcard(replica.store.key("leases", f"{{l{shard}}}")) for shard in range(8)]
    assert sum(sizes) == 50
    assert min(sizes) > 0
    assert await leases.sweep(now=NOW + 40) == []
    assert not any(plain.exists(replica.store.key("leases", f"{{l{shard}}}")) for shard in range(8))


async def test_a_commit_comes_late_and_counts_as_long_as_nobody_has_taken_over(
    open_replica: OpenReplica, own_valkey: OwnValkey
) -> None:
    """The store stands still while the run works: it writes again until it is told. What it had given up arrives too,
    in whatever order, and changes nothing."""
    replica = await open_replica(own_valkey.url, timeout_s=0.1)
    id_ = await make_thread(replica)
    claim = await make_run(replica, id_)
    begun = message("assistant", "", status="in_progress")
    begin = Change("begin", "message", begun)
    commit = Change("commit", "message", begun | {"content": message(text="late")["content"], "status": "completed"})
    own_valkey.freeze()
    with pytest.raises(StoreAway):
        await replica.work.write(claim, begin)
    with pytest.raises(StoreAway):
        await replica.leases.renew(now=NOW + 2)
    assert replica.leases.held == (claim,)
    own_valkey.thaw()
    for change in (begin, commit):
        await until_there(lambda change=change: replica.work.write(claim, change))  # type: ignore[misc]
    assert await replica.leases.renew(now=NOW + 4) == {claim: Written("in_progress")}
    await replica.work.finish(claim, Ending("completed", NOW + 5))
    assert await listed(replica, id_) == ["hello", "late"]
    assert await replica.messages.get(id_, begun["id"]) == commit.document


async def until_there(write: Callable[[], Awaitable[object]]) -> None:
    """As the engine does within its lease."""
    async with asyncio.timeout(10):
        while True:
            with suppress(StoreAway):
                assert await write() == Written("in_progress")
                return
            await asyncio.sleep(0.01)


async def test_what_was_taken_over_is_told_though_the_store_goes_away_at_once(
    replica: Replica, other: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever holds it works on it: else it would be renewed by one who does nothing about it."""
    claim = await make_run(other, await make_thread(other))
    over = await make_run(other, await make_thread(other))

    async def away(*_: object) -> None:
        raise StoreAway("away")

    with monkeypatch.context() as patched:
        patched.setattr(Leases, "_list", away)
        patched.setattr(Leases, "_unlist", away)
        taken = await replica.leases.sweep(now=NOW + 6)
        assert {each.claim.run for each in taken if isinstance(each, Taken)} == {claim.run, over.run}
        assert {each.run for each in replica.leases.held} == {claim.run, over.run}
        assert await replica.leases.sweep(now=NOW + 6.5) == []  # they are held here
        expired = await other.leases.sweep(now=NOW + 601)
        assert {each.run for each in expired if isinstance(each, Expired)} == {claim.run, over.run}
