"""When keys were last presented."""

from __future__ import annotations

import pytest

from gateway.store.connection import StoreAway
from tests.conftest import eventually
from tests.store.conftest import Clock, OpenReplica, OwnValkey, Pause
from tests.store.gate import Gate

NOW = int(Clock().now)


async def test_the_last_use_at_any_replica_is_told(open_replica: OpenReplica) -> None:
    a, b = await open_replica(is_started=False), await open_replica(is_started=False)
    a.shared.last_use.note("aaa", tenant="alice")
    await a.shared.flush()
    b.clock.now += 90
    b.shared.last_use.note("aaa", tenant="alice")
    b.shared.last_use.note("bbb", tenant="alice")
    await b.shared.flush()
    assert await a.shared.last_use.all() == {"aaa": NOW + 90, "bbb": NOW + 90}


async def test_a_key_in_steady_use_is_told_once_a_minute(open_replica: OpenReplica, gate: Gate) -> None:
    a = await open_replica(gate.url, is_started=False)
    for second in range(121):
        a.clock.now = NOW + second
        a.shared.last_use.note("aaa", tenant="alice")
        await a.shared.last_use.flush()
    assert sum(command[0] == b"HSET" for command in gate.commands) == 3
    assert await a.shared.last_use.all() == {"aaa": NOW + 120}


async def test_what_is_noted_while_the_store_is_away_is_told_later(
    open_replica: OpenReplica, own_valkey: OwnValkey, pause_little: Pause
) -> None:
    a = await open_replica(own_valkey.url, is_started=False, pause=pause_little)
    own_valkey.kill()
    a.shared.last_use.note("aaa", tenant="alice")
    with pytest.raises(StoreAway):
        await a.shared.last_use.flush()
    await own_valkey.start()
    await eventually(lambda: a.store.is_ready)
    await a.shared.last_use.flush()
    assert await a.shared.last_use.all() == {"aaa": NOW}


async def test_nothing_that_waits_is_told_of_a_tenant_that_was_erased(open_replica: OpenReplica) -> None:
    """Its keys were presented before the replica knew; the times would come after `tenants erase` has removed them."""
    a = await open_replica(is_started=False)
    a.shared.last_use.note("aaa", tenant="alice")
    a.shared.last_use.note("bbb", tenant="bob")
    a.shared.switches.mark_erased("alice", "leaves", with_usage=False)
    await a.shared.flush()
    a.shared.last_use.note("ccc", tenant="alice")
    await a.shared.flush()
    assert await a.shared.last_use.all() == {"bbb": NOW}


async def test_who_was_erased_is_known_before_what_waited_for_the_store_is_told(
    open_replica: OpenReplica, own_valkey: OwnValkey, pause_little: Pause
) -> None:
    """A replica that was cut off while the tenant was erased."""
    a = await open_replica(own_valkey.url, is_started=False, pause=pause_little)
    b = await open_replica(own_valkey.url, is_started=False, pause=pause_little)
    a.shared.last_use.note("aaa", tenant="alice")
    b.shared.switches.mark_erased("alice", "leaves", with_usage=False)
    await b.shared.flush()
    await a.shared._count()
    assert await b.shared.last_use.all() == {}
