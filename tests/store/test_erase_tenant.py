"""A tenant's keys and entries are removed step by step; of whom that was done nothing is written again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis import Redis

from gateway.phases.read_facts import Usage
from gateway.store import erase_tenant as module
from gateway.store.cache import Generation, Miss, Scope, ThreadCache
from gateway.store.connection import Store, StoreAway
from gateway.store.erase_tenant import erase_tenant
from gateway.store.homes import Homes
from gateway.store.idempotency import Begun, IdempotencyRecords, Unknown
from gateway.store.limits import Batch, Check, LimitCounts
from gateway.store.noted_runs import Ended, NotedRun, NotedRuns, Settling
from gateway.store.owner_index import Owned, OwnerIndex
from gateway.store.switches import Switches
from gateway.store.tenant_usage import TenantUsage
from gateway.store.token_counts import fields_of
from tests.conformance.monitor import Monitor
from tests.store.conftest import OpenCoalescer
from tests.values import DIRECTORY

AT_S = 1_800_000_000.0
IDS = ("alice", "alice.2", "malice", "alic")
"""Ids that begin, end or go on as another's."""


def run_of(tenant: str) -> NotedRun:
    words = dict.fromkeys(NotedRun.__dataclass_fields__, "x")
    return NotedRun(**{**words, "tenant": tenant, "route": "r", "noted_s": AT_S, "expires_s": AT_S + 600})  # type: ignore[arg-type]


class Kept:
    """Everything that writes of tenants, as one gateway has it."""

    def __init__(self, store: Store, commands: Any, erased: Callable[[str], bool]) -> None:
        self.cache = ThreadCache(commands, prefix=store.prefix, lease_s=60, is_erased=erased)
        self.index = OwnerIndex(store, is_erased=erased)
        self.records = IdempotencyRecords(store, keep_s=60, is_erased=erased)
        self.runs = NotedRuns(store, is_erased=erased)
        self.limits = LimitCounts(commands, store, is_erased=erased)
        self.usage = TenantUsage(store, clock=lambda: AT_S, is_erased=erased)

    async def write(self, tenant: str) -> None:
        """As requests do, all but what ends by itself: generations, leases, windows."""
        scope, fresh = Scope(tenant, "r", "thread", "thread_1"), Generation(b"", b"", 0)
        await self.cache.catch_up()
        missed = await self.cache.read(scope, "f")
        fresh = missed.generation if isinstance(missed, Miss) else fresh
        await self.cache.fill(scope, "f", b"body", ttl_s=60, generation=fresh)
        await self.index.add(Owned(tenant, "r", "file"), ["file_1"])
        await self.index.seen(Owned(tenant, "r", "file"), found=[], missing=["file_2"])
        lease = self.records.lease(tenant, "key", "request")
        try:
            assert isinstance(await self.records.begin(lease), Begun)
            await self.records.finish(lease, Unknown())
        except StoreAway:
            pass  # as it is told of an erased one
        await self.runs.note(run_of(tenant))
        await self.runs.settle(Settling(tenant, "r", [Ended("x", "completed", Usage(1, 2, 3, 0))], "me", AT_S))
        places = self.limits.places(tenant)
        day, _ = fields_of(AT_S)
        await self.limits.settle(tenant, Batch(1, day, [(places.bytes, "bytes", day, 5)]))
        self.usage.note(tenant, "main", "m", is_error=False)
        await self.usage.flush()


@pytest.fixture
def keys(plain: Redis, store: Store) -> Callable[[], set[str]]:
    def found() -> set[str]:
        names = {key.decode().removeprefix(f"{store.prefix}:") for key in plain.scan_iter(f"{store.prefix}:*")}
        members = [*plain.zrange(store.key("idem-times"), 0, -1), *plain.zrange(store.key("runs", "due"), 0, -1)]  # type: ignore[misc]
        return (names | {f"in an index: {member.decode()}" for member in members}) - {"epoch", "runs:due", "idem-times"}

    return found


async def test_one_tenant_goes_and_those_with_ids_like_it_stay(
    store: Store, valkey: str, open_coalescer: OpenCoalescer, keys: Callable[[], set[str]], plain: Redis
) -> None:
    kept = Kept(store, open_coalescer(valkey), lambda tenant: False)
    for tenant in IDS:
        await kept.write(tenant)
        admitted = kept.limits.places(tenant, "0123456789ab")
        checks = [
            Check("rate", 5, admitted.rate),
            Check("held", 5, admitted.requests),
            Check("held", 5, admitted.streams),
        ]
        await kept.limits.admit("request", checks)
        plain.hset(store.key("homes", "gone"), tenant, "acme")
    before = keys() - {"homes:gone"}
    alices = {key for key in before if any(f"{mark}alice{end}" in key for mark in ":{ " for end in ":}")}
    assert len(alices) == len(before) / len(IDS) > 10
    removed = await erase_tenant(store, "alice", with_usage=True)
    assert min(removed.values()) > 0, removed
    assert keys() - {"homes:gone"} == before - alices
    assert sorted(plain.hkeys(store.key("homes", "gone"))) == sorted(each.encode() for each in IDS[1:])  # type: ignore[arg-type]
    assert not any((await erase_tenant(store, "alice", with_usage=True)).values())


async def test_usage_stays_unless_it_is_asked_for(store: Store, plain: Redis) -> None:
    plain.hset(store.key("usage", "{alice}", "2026-11"), "a", 1)
    assert "months of usage" not in await erase_tenant(store, "alice", with_usage=False)
    assert plain.exists(store.key("usage", "{alice}", "2026-11"))


async def test_of_an_erased_tenant_nothing_is_written(
    store: Store, valkey: str, open_coalescer: OpenCoalescer, keys: Callable[[], set[str]], plain: Redis
) -> None:
    """Neither by requests under way nor by what waited while the store was away. What is left ends by itself: it has an
    expiry."""
    kept = Kept(store, open_coalescer(valkey), lambda tenant: tenant == "alice")
    await kept.write("alice")
    assert {key.split(":")[0] for key in keys()} == {"c", "limits-batch"}
    assert all(plain.ttl(store.key(key)) > 0 for key in keys())
    assert plain.hkeys(store.key("c", "{alice:r:thread:thread_1}")) == [b""]  # a generation, and no answer
    kept.index._late.append((Owned("alice", "r", "file"), ("file_1",)))
    await kept.index.flush()
    homes = Homes(store, DIRECTORY, is_erased=lambda tenant: tenant == "alice-of-old")
    await homes.settle()
    assert "alice-of-old" not in str(plain.hgetall(store.key("homes", "main")))
    assert "bob" in str(plain.hgetall(store.key("homes", "main")))
    assert not [key for key in keys() if key.startswith("own")]


@pytest.mark.one_server
async def test_it_takes_small_steps_and_goes_on_where_it_was_broken_off(
    store: Store, plain: Redis, valkey: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(300):
        plain.set(store.key("idem", "alice", str(number)), 1)
        plain.zadd(store.key("idem-times"), {f"alice:{number}": number, f"bob:{number}": number})
    monkeypatch.setattr(module, "_AT_ONCE", 10)
    run, left = Store.run, 20

    async def fails(self: Store, command: Callable[[Any], Awaitable[Any]]) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            raise StoreAway("gone")
        return await run(self, command)

    monkeypatch.setattr(Store, "run", fails)
    with pytest.raises(StoreAway):
        await erase_tenant(store, "alice", with_usage=False)
    async with Monitor(valkey) as monitor:
        removed = await erase_tenant(store, "alice", with_usage=False)
        asked = {command.name for command in await monitor.heard()}
    assert removed["times of idempotency records"] == 300
    assert {"SCAN", "UNLINK", "ZSCAN", "ZREM"} <= asked
    assert "KEYS" not in asked
    assert plain.zcard(store.key("idem-times")) == 300


async def test_that_a_tenant_was_erased_is_known_to_all_and_never_taken_back(store: Store) -> None:
    here, there = Switches(store), Switches(store)
    here.mark_erased("alice", "asked for", with_usage=False)
    await here.mirror.flush()
    await there.mirror.refresh()
    there.enable("tenant", "alice")
    assert there.erased() == {"alice"}
    assert there.erased() is there.erased()
    assert (there.is_erased("alice"), there.is_usage_erased("alice"), there.is_erased("bob")) == (True, False, False)
    here.mark_erased("alice", "again", with_usage=True)
    await asyncio.gather(here.mirror.flush(), there.mirror.flush())
    await there.mirror.refresh()
    assert there.is_usage_erased("alice")
