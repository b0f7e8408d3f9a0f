"""How many gateways share a store."""

from __future__ import annotations

import pytest
from redis import Redis

from gateway.store.connection import StoreAway
from tests.conftest import eventually
from tests.store.conftest import OpenReplica, OwnValkey, Pause


async def test_those_that_run_count_and_those_that_ended_do_not(open_replica: OpenReplica) -> None:
    """A command that only looks into the store is none."""
    a, b, command = await open_replica(), await open_replica(), await open_replica(is_started=False)
    await a.shared.replicas.beat()
    assert (a.shared.replicas.count, b.shared.replicas.count, command.shared.replicas.count) == (2, 2, 1)
    await command.shared.close()
    await b.shared.close()
    await a.shared.replicas.beat()
    assert a.shared.replicas.count == 1


async def test_one_that_was_killed_counts_for_fifteen_seconds(
    open_replica: OpenReplica, plain: Redis, prefix: str
) -> None:
    a = await open_replica()
    for name, ago_s in (("still alive", 14), ("dead", 16)):
        plain.zadd(f"{prefix}:replicas", {name: int(plain.time()[0]) - ago_s})  # type: ignore[index]
    await a.shared.replicas.beat()
    assert a.shared.replicas.count == 2


async def test_it_beats_by_itself(open_replica: OpenReplica, plain: Redis, prefix: str) -> None:
    a = await open_replica()
    plain.delete(f"{prefix}:replicas")
    a.pauses.end(5.0)
    await eventually(lambda: bool(plain.exists(f"{prefix}:replicas")))


async def test_while_the_store_is_away_what_was_last_seen_stands(
    open_replica: OpenReplica, own_valkey: OwnValkey, pause_little: Pause
) -> None:
    a, b = [await open_replica(own_valkey.url, pause=pause_little) for _ in range(2)]
    await a.shared.replicas.beat()
    own_valkey.kill()
    with pytest.raises(StoreAway):
        await a.shared.replicas.beat()
    assert a.shared.replicas.count == 2
    await own_valkey.start()
    await eventually(lambda: a.store.is_ready and b.store.is_ready)
