"""What becomes of requests with a key: two replicas on one store agree, whatever happens to one of them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from redis import Redis

from gateway.store.connection import Store, StoreAway
from gateway.store.idempotency import (
    Begun,
    IdempotencyRecords,
    InWork,
    Kept,
    Lease,
    Outcome,
    Reused,
    Streamed,
    TooLarge,
    Unknown,
)
from tests.conftest import eventually
from tests.store.conftest import OwnValkey
from tests.store.gate import Gate

DAY_S = 86_400.0
ANSWER = Kept(200, {"openai-version": "2020-10-01"}, b'{"id":"thread_1"}')
OUTCOMES: list[Outcome] = [
    ANSWER,
    Kept(400, {}, b'{"error":{}}'),
    Kept(200, {}, b"\xff\x00 no text at all \r\n"),
    Streamed("run_1"),
    Streamed(),
    TooLarge({"id": "thread_1"}),
    TooLarge({}),
    Unknown(),
]


@dataclass
class Pair:
    """Two replicas."""

    one: IdempotencyRecords
    two: IdempotencyRecords
    store: Store
    plain: Any

    def lease(self, key: str = "key", request: str = "request", tenant: str = "alice") -> Lease:
        return IdempotencyRecords.lease(tenant, key, request)

    @property
    def records(self) -> list[bytes]:
        return list(self.plain.scan_iter(self.store.key("idem", "*")))

    @property
    def listed(self) -> int:
        count: int = self.plain.zcard(self.store.key("idem-times"))
        return count

    def age(self, seconds: float) -> None:
        """Let time pass: all that stands in the store happened so much earlier."""
        for record in self.records:
            for name in ("at", "until"):
                if (told := self.plain.hget(record, name)) is not None:
                    self.plain.hset(record, name, int(told) - int(seconds * 1000))
        index = self.store.key("idem-times")
        for member, at_s in self.plain.zrange(index, 0, -1, withscores=True):
            self.plain.zadd(index, {member: at_s - seconds})


@pytest.fixture
def pair(store: Store, plain: Redis) -> Pair:
    return Pair(IdempotencyRecords(store, keep_s=DAY_S), IdempotencyRecords(store, keep_s=DAY_S), store, plain)


async def test_one_of_many_begins_and_the_others_find_it_in_work(pair: Pair) -> None:
    replicas = [pair.one, pair.two] * 20
    found = await asyncio.gather(*(replica.begin(pair.lease()) for replica in replicas))
    assert sorted(type(each).__name__ for each in found) == ["Begun"] + ["InWork"] * 39


@pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda outcome: str(outcome)[:30])
async def test_a_repeat_finds_how_the_first_ended(pair: Pair, outcome: Outcome) -> None:
    """As it was told, through any replica, as often as it asks."""
    first = pair.lease()
    assert await pair.one.begin(first) == Begun()
    await pair.one.finish(first, outcome)
    for replica in (pair.two, pair.one, pair.two):
        assert await replica.begin(pair.lease()) == outcome


async def test_another_request_with_the_key_is_told_so_from_the_beginning(pair: Pair) -> None:
    first = pair.lease()
    await pair.one.begin(first)
    assert await pair.two.begin(pair.lease(request="other")) == Reused()
    await pair.one.finish(first, ANSWER)
    assert await pair.two.begin(pair.lease(request="other")) == Reused()
    assert await pair.two.begin(pair.lease()) == ANSWER, "and the record is as it was"


async def test_tenants_and_keys_are_apart(pair: Pair) -> None:
    first = pair.lease()
    await pair.one.begin(first)
    await pair.one.finish(first, ANSWER)
    for other in (pair.lease(tenant="bob"), pair.lease(key="Key"), pair.lease(key="key ")):
        assert await pair.two.begin(other) == Begun()


async def test_what_was_not_carried_out_gives_its_key_back(pair: Pair) -> None:
    """To any request: that the first asked something else is no matter any more."""
    first = pair.lease()
    await pair.one.begin(first)
    await pair.one.release(first)
    assert pair.records == []
    assert await pair.two.begin(pair.lease(request="other")) == Begun()


async def test_only_the_owner_can_finish_or_release(pair: Pair) -> None:
    await pair.one.begin(pair.lease())
    await pair.two.finish(pair.lease(), ANSWER)
    await pair.two.release(pair.lease())
    assert await pair.two.begin(pair.lease()) == InWork()


async def test_every_step_may_run_twice(pair: Pair) -> None:
    """A command whose answer was lost is sent again."""
    first = pair.lease()
    assert [await pair.one.begin(first) for _ in range(2)] == [Begun(), Begun()]
    for _ in range(2):
        await pair.one.finish(first, ANSWER)
    assert await pair.two.begin(pair.lease()) == ANSWER
    again = pair.lease(key="again")
    await pair.one.begin(again)
    for _ in range(2):
        await pair.one.release(again)
    assert len(pair.records) == 1


async def test_a_lease_that_ran_out_leaves_an_unknown_outcome(pair: Pair) -> None:
    """Its replica died, or may as well have."""
    await pair.one.begin(pair.lease())
    pair.age(29)
    assert await pair.two.begin(pair.lease()) == InWork()
    pair.age(1.1)
    assert [await pair.two.begin(pair.lease()) for _ in range(2)] == [Unknown()] * 2
    assert await pair.two.begin(pair.lease(request="other")) == Reused()


async def test_a_lease_is_renewed_while_its_replica_works(pair: Pair) -> None:
    first = pair.lease()
    await pair.one.begin(first)
    for _ in range(5):
        pair.age(20)
        await pair.one.renew()
        await pair.two.renew()
        assert await pair.two.begin(pair.lease()) == InWork()
    await pair.one.finish(first, ANSWER)
    await pair.one.renew()
    assert await pair.two.begin(pair.lease()) == ANSWER
    pair.age(40)
    assert await pair.two.begin(pair.lease()) == ANSWER


async def test_an_owner_who_comes_back_knows_better(pair: Pair) -> None:
    """It stood still for longer than its lease, not for ever."""
    first = pair.lease()
    await pair.one.begin(first)
    pair.age(31)
    assert await pair.two.begin(pair.lease()) == Unknown()
    await pair.one.renew()
    assert await pair.two.begin(pair.lease()) == Unknown(), "a lease that ran out is over"
    await pair.one.finish(first, ANSWER)
    assert await pair.two.begin(pair.lease()) == ANSWER


async def test_what_the_store_lost_is_written_again_at_the_end(pair: Pair) -> None:
    first = pair.lease()
    await pair.one.begin(first)
    pair.plain.delete(*pair.records)
    await pair.one.finish(first, ANSWER)
    assert await pair.two.begin(pair.lease()) == ANSWER
    assert pair.listed == 1


async def test_no_record_has_an_expiry(pair: Pair) -> None:
    """A server that is short of memory would evict it, and the work would be done twice."""
    for number, outcome in enumerate(OUTCOMES):
        lease = pair.lease(key=str(number))
        await pair.one.begin(lease)
        await pair.one.renew()
        await pair.one.finish(lease, outcome)
    await pair.one.begin(pair.lease())
    assert len(pair.records) == len(OUTCOMES) + 1
    assert {pair.plain.ttl(record) for record in pair.records} == {-1}
    assert pair.plain.ttl(pair.store.key("idem-times")) == -1


async def test_after_its_time_a_record_counts_no_more_and_is_swept(pair: Pair) -> None:
    for number in range(450):  # more than one batch
        lease = pair.lease(key=str(number))
        await pair.one.begin(lease)
        await pair.one.finish(lease, ANSWER)
    pair.age(DAY_S - 5)
    await asyncio.gather(pair.one.sweep(), pair.two.sweep())
    assert (len(pair.records), pair.listed) == (450, 450)
    young = pair.lease(key="young")
    await pair.one.begin(young)
    await pair.one.finish(young, ANSWER)
    pair.age(6)
    assert await pair.two.begin(pair.lease(key="0", request="other")) == Begun(), "though it is not swept yet"
    await asyncio.gather(pair.one.sweep(), pair.two.sweep())
    assert (len(pair.records), pair.listed) == (2, 2)
    assert await pair.two.begin(pair.lease(key="young")) == ANSWER


async def test_the_sweep_spares_what_was_listed_long_ago_and_changed_since(pair: Pair) -> None:
    """The index knows when a record was begun; how old it is the record says."""
    first = pair.lease()
    await pair.one.begin(first)
    pair.plain.zadd(pair.store.key("idem-times"), {"alice:" + first.key: 0, "alice:gone": 0})
    await pair.two.sweep()
    assert (len(pair.records), pair.listed) == (1, 1)
    pair.age(2 * DAY_S)
    await pair.one.renew()
    await pair.two.sweep()
    assert await pair.two.begin(pair.lease()) == InWork(), "work of days is work"


async def test_the_upkeep_runs_by_itself(pair: Pair) -> None:
    turns = asyncio.Semaphore(0)

    async def pause(seconds: float) -> None:
        assert seconds == 10
        await turns.acquire()

    replica = IdempotencyRecords(pair.store, keep_s=DAY_S, pause=pause)
    working, over = pair.lease(key="working"), pair.lease(key="over")
    await replica.begin(working)
    await replica.begin(over)
    await replica.finish(over, ANSWER)
    pair.age(DAY_S + 1)
    replica.tend()
    for _ in range(6):
        turns.release()
    await eventually(lambda: len(pair.records) == 1)
    assert await pair.two.begin(pair.lease(key="working")) == InWork()
    await replica.close()


async def test_without_the_store_nothing_begins(own_valkey: OwnValkey) -> None:
    store = Store(own_valkey.url, prefix="p", timeout_s=1)
    records = IdempotencyRecords(store, keep_s=DAY_S)
    first = records.lease("alice", "key", "request")
    await records.begin(first)
    own_valkey.kill()
    for step in (records.begin(first), records.finish(first, ANSWER), records.release(first), records.renew()):
        with pytest.raises(StoreAway):
            await step
    await store.close()


async def test_what_may_have_begun_unheard_is_given_back(gate: Gate, pair: Pair) -> None:
    """The store took the command and its answer was lost: nobody carries that request out, and nobody must believe
    for long that somebody does."""
    cut_off = Store(gate.url, prefix=pair.store.prefix, timeout_s=0.3, pause=lambda seconds: asyncio.sleep(0.01))
    replica = IdempotencyRecords(cut_off, keep_s=DAY_S)
    for key, leaves in (("left", True), ("lost", False)):
        lease = pair.lease(key=key)
        await cut_off.run(lambda redis: redis.ping())  # so that there is a connection
        gate.hold()
        beginning = asyncio.create_task(replica.begin(lease))
        await gate.until(lambda gate, lease=lease: any(lease.token.encode() in each for each in gate.commands))  # type: ignore[misc]
        if leaves:
            beginning.cancel()
        with pytest.raises((asyncio.CancelledError, StoreAway)):
            await beginning
        gate.release()
        await eventually(lambda: cut_off.is_ready)
        assert await pair.two.begin(pair.lease(key=key)) == InWork()
    await replica.renew()
    for key in ("lost", "left"):
        assert await pair.two.begin(pair.lease(key=key)) == Begun()
    await cut_off.close()
