"""Tenants made at run time: known everywhere, never made twice, never forgotten."""

from __future__ import annotations

import asyncio

import pytest
from redis import Redis

from gateway.config import Allowance
from gateway.store.connection import StoreAway
from gateway.store.tenants import StoredTenant, StoredTenants
from tests.store.conftest import Clock, OpenReplica
from tests.store.gate import Gate

ALLOWANCE = Allowance(requests_per_minute=60, tokens_per_day=1000)


def only(tenants: StoredTenants) -> StoredTenant:
    (tenant,) = tenants.by_id().values()
    return tenant


async def test_a_tenant_is_known_to_all_as_it_was_made(open_replica: OpenReplica) -> None:
    a, b = await open_replica(is_started=False), await open_replica(is_started=False)
    made = await a.shared.tenants.add(
        "shop", providers=frozenset({"p", "q"}), default_provider="q", allowance=ALLOWANCE
    )
    assert made is not None
    assert only(a.shared.tenants) == made
    assert (made.name, made.created_s) == ("shop", Clock().now)
    await b.shared.load()
    assert only(b.shared.tenants) == made
    assert b.shared.tenants.by_id() is b.shared.tenants.by_id()


async def test_nothing_said_means_all_providers_and_no_limits(open_replica: OpenReplica) -> None:
    a, b = await open_replica(is_started=False), await open_replica(is_started=False)
    await a.shared.tenants.add("shop")
    await b.shared.load()
    found = only(b.shared.tenants)
    assert (found.providers, found.default_provider, found.allowance) == (None, None, Allowance())


async def test_an_id_is_the_name_and_what_nobody_had_before(open_replica: OpenReplica) -> None:
    """A tenant that the configuration once had under this name may have left ids."""
    a = await open_replica(is_started=False)
    ids = {tenant.id for name in ("shop", "shop2") if (tenant := await a.shared.tenants.add(name))}
    assert len(ids) == 2
    assert all(each.startswith("shop") and len(each.rpartition(".")[2]) == 16 for each in ids)


async def test_of_two_who_make_a_tenant_at_one_time_one_is_refused(open_replica: OpenReplica) -> None:
    replicas = [await open_replica(is_started=False) for _ in range(4)]
    made = await asyncio.gather(*(each.shared.tenants.add("shop") for each in replicas))
    (tenant,) = [each for each in made if each is not None]
    for each in replicas:
        await each.shared.load()
        assert only(each.shared.tenants) == tenant
    assert await replicas[0].shared.tenants.add("shop") is None


async def test_a_command_that_runs_twice_makes_one_tenant(open_replica: OpenReplica, gate: Gate) -> None:
    """The first answer is cut off, so the client sends the command again."""
    a, b = await open_replica(gate.url, is_started=False), await open_replica(is_started=False)
    gate.pass_bytes = 0
    made = await a.shared.tenants.add("shop")
    assert sum(command[0] == b"EVAL" for command in gate.commands) == 2
    await b.shared.load()
    assert only(b.shared.tenants) == made


async def test_without_the_store_none_is_made(open_replica: OpenReplica) -> None:
    a = await open_replica("unix:///nowhere", is_started=False, timeout_s=0.2)
    with pytest.raises(StoreAway):
        await a.shared.tenants.add("shop")
    assert a.shared.tenants.by_id() == {}


async def test_nothing_of_it_expires(open_replica: OpenReplica, plain: Redis, prefix: str) -> None:
    a = await open_replica(is_started=False)
    await a.shared.tenants.add("shop")
    assert plain.ttl(f"{prefix}:tenants") == -1
    b = await open_replica(is_started=False)
    b.clock.now += 10 * 365 * 86_400
    await b.shared.load()
    assert only(b.shared.tenants).name == "shop"
    assert plain.hlen(f"{prefix}:tenants") == 2
