"""Requests of tenants, summed over replicas: none lost and none counted twice while the store comes and goes."""

from __future__ import annotations

import pytest
from redis import Redis

from gateway.store.connection import StoreAway
from gateway.store.tenant_usage import UsageCounts, UsagePlace
from tests.conftest import eventually
from tests.store.conftest import OpenReplica, OwnValkey, Pause

NOVEMBER_S = 1_796_083_199.0  # 2026-11-30T23:59:59Z


async def test_requests_of_all_replicas_are_summed_by_day_provider_and_model(open_replica: OpenReplica) -> None:
    a, b = await open_replica(is_started=False), await open_replica(is_started=False)
    for replica in (a, b):
        replica.clock.now = NOVEMBER_S
        replica.shared.tenant_usage.note("shop", "up", "gpt:4o", is_error=False)
        replica.shared.tenant_usage.note("shop", "up", "gpt:4o", is_error=True)
        replica.shared.tenant_usage.note("shop", "", "", is_error=True)
        replica.shared.tenant_usage.note("other", "up", "", is_error=False)
        replica.clock.now += 1
        replica.shared.tenant_usage.note("shop", "up", "gpt:4o", is_error=False)
        await replica.shared.flush()
        await replica.shared.flush()  # nothing new
    november, december = [await a.shared.tenant_usage.read("shop", month) for month in ("2026-11", "2026-12")]
    assert november == {
        UsagePlace("2026-11-30", "up", "gpt:4o"): UsageCounts(requests=4, errors=2),
        UsagePlace("2026-11-30", "", ""): UsageCounts(requests=2, errors=2),
    }
    assert december == {UsagePlace("2026-12-01", "up", "gpt:4o"): UsageCounts(requests=2)}
    assert sum(counts.requests for counts in (await a.shared.tenant_usage.read("other", "2026-11")).values()) == 2


async def test_callers_who_make_up_models_do_not_fill_the_store(
    open_replica: OpenReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.store.tenant_usage._MODELS_LIMIT", 2)
    a = await open_replica(is_started=False)
    tenants = a.shared.tenant_usage
    for number in range(50):
        tenants.note("shop", "up", f"made up {number}", is_error=True)
    for model in ("one", "two", "three", "one"):
        tenants.note("shop", "up", model, is_error=False)
    tenants.note("shop", "up", "one", is_error=True)
    await tenants.flush()
    found = await tenants.read("shop", "2027-01")
    assert {place.model: counts for place, counts in found.items()} == {
        "": UsageCounts(requests=51, errors=50),
        "one": UsageCounts(requests=3, errors=1),
        "two": UsageCounts(requests=1),
    }


async def test_what_is_counted_while_the_store_is_away_is_added_later(
    open_replica: OpenReplica, own_valkey: OwnValkey, pause_little: Pause
) -> None:
    a = await open_replica(own_valkey.url, is_started=False, pause=pause_little)
    own_valkey.kill()
    for _ in range(3):
        a.shared.tenant_usage.note("shop", "up", "", is_error=False)
        a.shared.tenant_usage.note("other", "up", "", is_error=False)
        with pytest.raises(StoreAway):
            await a.shared.tenant_usage.flush()
    a.clock.now += 40 * 86_400  # another month by now
    await own_valkey.start()
    await eventually(lambda: a.store.is_ready)
    for _ in range(2):
        await a.shared.tenant_usage.flush()
    for tenant in ("shop", "other"):
        (counts,) = (await a.shared.tenant_usage.read(tenant, "2027-01")).values()
        assert counts == UsageCounts(requests=3)


async def test_what_another_release_counts_is_left_out_and_nothing_expires(
    open_replica: OpenReplica, plain: Redis, prefix: str
) -> None:
    a = await open_replica(is_started=False)
    a.shared.tenant_usage.note("shop", "up", "m", is_error=False)
    await a.shared.tenant_usage.flush()
    key = f"{prefix}:usage:{{shop}}:2027-01"
    plain.hset(key, "2027-01-15:up:colours:m", 1)
    assert list((await a.shared.tenant_usage.read("shop", "2027-01")).values()) == [UsageCounts(requests=1)]
    assert plain.ttl(key) == -1


async def test_who_was_erased_is_known_before_what_waited_for_the_store_is_counted(
    open_replica: OpenReplica, own_valkey: OwnValkey
) -> None:
    """A replica that was cut off while `tenants erase --usage` was said."""
    a = await open_replica(own_valkey.url, is_started=False)
    b = await open_replica(own_valkey.url, is_started=False)
    a.clock.now = NOVEMBER_S
    a.shared.tenant_usage.note("shop", "up", "", is_error=False)
    b.shared.switches.mark_erased("shop", "leaves", with_usage=True)
    await b.shared.flush()
    await a.shared.close()
    assert await b.shared.tenant_usage.read("shop", "2026-11") == {}
