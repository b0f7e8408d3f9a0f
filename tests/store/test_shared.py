"""Replicas that run: what one of them or a person changes is in force in all of them within a second."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from redis import Redis

from gateway.store.acts import Act
from gateway.store.connection import Store
from gateway.store.key_states import OPERATOR, KeyPlace, KeyState
from gateway.store.key_usage import KeyCounts
from gateway.store.shared import Shared
from tests.conftest import Events, eventually
from tests.stopwatch import Stopwatch
from tests.store.conftest import Clock, OpenReplica, OwnValkey, Pause, Replica

PLACE = KeyPlace("aaaa", "0123456789ab")
NOW = Clock().now
DEAD = KeyState("dead", since_s=NOW, until_s=None, why="invalid_api_key")
RESTING = KeyState("resting", since_s=NOW, until_s=NOW + 20, why="rate_limited")


def state(replica: Replica) -> KeyState | None:
    return replica.shared.keys.get(PLACE, NOW)


async def test_a_change_is_heard_at_once(open_replica: OpenReplica) -> None:
    """By message alone: no pause ends here."""
    a, b = await open_replica(), await open_replica()
    a.shared.keys.put(PLACE, DEAD)
    await eventually(lambda: state(b) == DEAD)
    b.shared.keys.revive(PLACE)
    await eventually(lambda: state(a) is None)
    a.shared.switches.disable("tenant", "shop", "does not pay")
    await eventually(lambda: b.shared.switches.reason_of("tenant", "shop") == "does not pay")


@pytest.mark.one_server
async def test_a_message_that_is_lost_is_made_up_for_within_a_second(open_replica: OpenReplica, plain: Redis) -> None:
    a, b = await open_replica(), await open_replica()
    for client in plain.client_list():
        if client["sub"] != "0":
            plain.client_kill_filter(_id=client["id"])
    await eventually(lambda: not b.shared.subscription.is_open)
    a.shared.keys.put(PLACE, DEAD)
    await a.shared.flush()
    assert state(b) is None
    assert 0.5 in b.pauses.asked
    b.pauses.end(0.5)
    await eventually(lambda: state(b) == DEAD)


async def test_a_replica_that_starts_knows_what_was_decided_before(open_replica: OpenReplica) -> None:
    a = await open_replica()
    a.shared.keys.put(PLACE, DEAD)
    await a.shared.flush()
    assert state(await open_replica()) == DEAD


async def test_rests_survive_a_store_that_goes_and_returns(
    open_replica: OpenReplica, own_valkey: OwnValkey, pause_little: Pause
) -> None:
    a, b = [await open_replica(own_valkey.url, timeout_s=0.5, pause=pause_little) for _ in range(2)]
    a.shared.keys.put(PLACE, RESTING)
    await eventually(lambda: state(b) == RESTING)
    own_valkey.kill()
    other = KeyPlace("aaaa", "other")
    b.shared.keys.put(other, DEAD)
    await eventually(lambda: not b.store.is_ready)
    assert state(a) == state(b) == RESTING
    assert b.shared.keys.get(other, NOW) == DEAD
    for replica in (a, b):
        replica.pauses.end(0.5)
    await own_valkey.start()
    # Both are told of its return; whichever comes first, a has the news after a refresh.
    await eventually(lambda: a.store.is_ready and b.store.is_ready)

    def has_come() -> bool:
        a.pauses.end(0.5)
        return a.shared.keys.get(other, NOW) == DEAD

    await eventually(has_come)
    assert state(a) == state(b) == RESTING


async def test_a_store_that_comes_back_empty_is_told_everything(
    open_replica: OpenReplica, plain: Redis, prefix: str
) -> None:
    a = await open_replica()
    a.shared.keys.put(PLACE, DEAD)
    a.shared.switches.disable("provider", "aiml", "burns")
    await a.shared.flush()
    plain.delete(f"{prefix}:keys", f"{prefix}:switches")
    a.pauses.end(0.5)
    await eventually(lambda: plain.exists(f"{prefix}:keys", f"{prefix}:switches") == 2)
    b = await open_replica()
    assert state(b) == DEAD
    assert b.shared.switches.reason_of("provider", "aiml") == "burns"


async def test_without_any_store_one_process_decides_for_itself(open_replica: OpenReplica, tmp_path: Path) -> None:
    a = await open_replica(f"unix://{tmp_path}/nobody", timeout_s=0.2)
    a.shared.keys.put(PLACE, RESTING)
    a.shared.usage.note(PLACE, NOW, requests=1)
    a.pauses.end(0.5)
    a.pauses.end(1.0)
    await asyncio.sleep(0)
    assert state(a) == RESTING


async def test_a_store_that_stands_still_delays_nobody(open_replica: OpenReplica, own_valkey: OwnValkey) -> None:
    """Saying and asking do not wait; only closing waits for the store's timeout, once."""
    a = await open_replica(own_valkey.url, timeout_s=0.2)
    own_valkey.freeze()
    clock = asyncio.get_running_loop().time
    began = clock()
    for number in range(1000):
        a.shared.keys.put(KeyPlace("aaaa", str(number)), DEAD)
        assert a.shared.keys.get(KeyPlace("aaaa", str(number)), NOW) == DEAD
    assert clock() - began < 0.2
    await a.shared.close()
    assert clock() - began < 2
    own_valkey.thaw()


async def test_counts_are_told_once_a_second_and_at_the_end(open_replica: OpenReplica) -> None:
    a, b = await open_replica(), await open_replica()
    a.shared.usage.note(PLACE, NOW, requests=1)
    b.shared.usage.note(PLACE, NOW, requests=1)
    assert await a.shared.usage.counts() == {}
    a.pauses.end(1.0)
    await eventually(lambda: a.pauses.asked.count(1.0) == 2)
    assert await a.shared.usage.counts() == {PLACE: KeyCounts(1, 0, 0, int(NOW))}
    await b.shared.close()
    assert await a.shared.usage.counts() == {PLACE: KeyCounts(2, 0, 0, int(NOW))}


async def test_a_running_gateway_logs_what_operators_do(open_replica: OpenReplica, events: Events) -> None:
    gateway, operator = await open_replica(), await open_replica(is_started=False)
    await operator.shared.acts.add(Act("ann@desk", "rest", "key", "a/b/c", 1))
    gateway.pauses.end(0.5)
    await eventually(lambda: len(events.named("operator.acted")) == 1)


async def test_with_real_pauses_everything_is_in_force_within_a_second(valkey: str, prefix: str) -> None:
    """Messages lost or not: one of the two only refreshes."""
    stores = [Store(valkey, prefix=prefix, timeout_s=1) for _ in range(2)]
    a, b = (Shared(store) for store in stores)
    await a.start()
    await b.start()
    await b.subscription.close()
    async with Stopwatch() as watch:
        a.keys.put(PLACE, KeyState("draining", since_s=NOW, until_s=None, why=OPERATOR))
        await eventually(lambda: b.keys.get(PLACE, NOW) is not None)
    assert watch.seconds < 1
    for shared, store in zip((a, b), stores, strict=True):
        await shared.close()
        await store.close()
