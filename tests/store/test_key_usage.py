"""Counts of keys, summed over replicas: none lost and none counted twice while the store comes and goes."""

from __future__ import annotations

import asyncio

import pytest
from redis import Redis

from gateway.store.connection import StoreAway
from gateway.store.key_states import KeyPlace
from gateway.store.key_usage import KeyCounts
from tests.conftest import eventually
from tests.store.conftest import OpenReplica, OwnValkey, Pause
from tests.store.gate import Gate

ONE, TWO = KeyPlace("aaaa", "0123456789ab"), KeyPlace("aaaa", "ba9876543210")


async def test_counts_of_all_replicas_are_summed(open_replica: OpenReplica) -> None:
    a, b = await open_replica(is_started=False), await open_replica(is_started=False)
    a.shared.usage.note(ONE, 100.7, requests=1, tokens=50)
    a.shared.usage.note(ONE, 99.0, requests=1, errors=1)
    b.shared.usage.note(ONE, 98.0, requests=1, tokens=7)
    b.shared.usage.note(TWO, 5.0, tokens=1)
    await a.shared.usage.flush()
    await b.shared.usage.flush()
    await b.shared.usage.flush()  # nothing new
    expected = {ONE: KeyCounts(3, 1, 57, 100), TWO: KeyCounts(0, 0, 1, 5)}
    assert await a.shared.usage.counts() == expected
    for number in range(3):
        b.shared.usage.note(TWO, 6.0 + number, requests=1)
        await b.shared.usage.flush()
    assert (await a.shared.usage.counts())[TWO] == KeyCounts(3, 0, 1, 8)


async def test_what_another_release_counts_is_left_out(open_replica: OpenReplica, plain: Redis, prefix: str) -> None:
    a = await open_replica(is_started=False)
    a.shared.usage.note(ONE, 1.0, requests=1)
    await a.shared.usage.flush()
    plain.hset(f"{prefix}:usage", mapping={":".join((*ONE, "cached")): 1, "strange": "x"})
    assert await a.shared.usage.counts() == {ONE: KeyCounts(1, 0, 0, 1)}


async def test_an_answer_that_is_lost_counts_nothing_twice(open_replica: OpenReplica, gate: Gate) -> None:
    a = await open_replica(gate.url, is_started=False)
    a.shared.usage.note(ONE, 1.0, requests=1)
    gate.pass_bytes = 0
    await a.shared.usage.flush()
    assert sum(command[0] == b"EVAL" for command in gate.commands) == 2
    assert await a.shared.usage.counts() == {ONE: KeyCounts(1, 0, 0, 1)}


async def test_what_is_counted_while_the_store_is_away_is_added_later(
    open_replica: OpenReplica, own_valkey: OwnValkey, pause_little: Pause
) -> None:
    a = await open_replica(own_valkey.url, is_started=False, pause=pause_little)
    own_valkey.kill()
    for number in range(3):
        a.shared.usage.note(ONE, float(number), requests=1)
        with pytest.raises(StoreAway):
            await a.shared.usage.flush()
    with pytest.raises(StoreAway):
        await a.shared.usage.counts()
    await own_valkey.start()
    await eventually(lambda: a.store.is_ready)
    await a.shared.usage.flush()
    assert await a.shared.usage.counts() == {ONE: KeyCounts(3, 0, 0, 2)}


async def test_a_batch_that_arrived_late_is_not_added_again(
    open_replica: OpenReplica, own_valkey: OwnValkey, pause_little: Pause
) -> None:
    """The store stood still: nobody knows whether it took the batch, and it did."""
    a = await open_replica(own_valkey.url, is_started=False, timeout_s=0.2, pause=pause_little)
    a.shared.usage.note(ONE, 1.0, requests=1)
    own_valkey.freeze()
    with pytest.raises(StoreAway):
        await a.shared.usage.flush()
    own_valkey.thaw()
    await eventually(lambda: a.store.is_ready)
    a.shared.usage.note(ONE, 2.0, requests=1)
    await a.shared.usage.flush()
    assert await a.shared.usage.counts() == {ONE: KeyCounts(2, 0, 0, 2)}


async def test_many_who_count_at_once_write_once(
    open_replica: OpenReplica, gate: Gate, plain: Redis, prefix: str
) -> None:
    a = await open_replica(gate.url, is_started=False)
    for number in range(1000):
        a.shared.usage.note(ONE, float(number), requests=1)
    await asyncio.gather(*(a.shared.usage.flush() for _ in range(10)))
    assert sum(command[0] == b"EVAL" for command in gate.commands) == 1
    assert plain.ttl(f"{prefix}:usage") == -1
