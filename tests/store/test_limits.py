"""Counts of limits in a real store: atomic, given back, and free again when a replica was killed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from gateway.store.cluster_coalescer import open_coalescer as make_coalescer
from gateway.store.connection import Store, StoreAway
from gateway.store.limits import Batch, Check, LimitCounts, places_of
from gateway.window import Window
from tests.cluster import look_behind
from tests.store.conftest import OpenCoalescer, OwnValkey, write_window

Open = Callable[..., LimitCounts]


@pytest.fixture
async def store(valkey: str, prefix: str) -> Store:
    """It only names keys."""
    return Store(valkey, prefix=prefix, timeout_s=1)


@pytest.fixture
def open_counts(valkey: str, store: Store, open_coalescer: OpenCoalescer) -> Open:
    """One more replica."""

    def open_one(url: str = valkey, *, lease_s: float = 15.0, **more: float) -> LimitCounts:
        return LimitCounts(open_coalescer(url, **more), store, lease_s=lease_s)

    return open_one


def rate(store: Store, limit: int, key: str | None = None) -> Check:
    return Check("rate", limit, places_of(store, "shop", key).rate)


def held(store: Store, limit: int, key: str | None = None) -> Check:
    return Check("held", limit, places_of(store, "shop", key).requests)


async def test_many_at_once_in_two_replicas_get_exactly_what_there_is(open_counts: Open, store: Store) -> None:
    """Of two limits the smaller, and nothing is counted in the larger for those that the smaller refused."""
    replicas = [open_counts(), open_counts()]
    checks = [rate(store, 100), held(store, 17, "0123456789ab")]
    verdicts = await asyncio.gather(*(replicas[n % 2].admit(f"r{n}", checks) for n in range(200)))
    assert sum(verdict.refused is None for verdict in verdicts) == 17
    assert {verdict.refused for verdict in verdicts} == {None, 1}
    last = await replicas[0].admit("last", [rate(store, 100)])
    assert last.standings[0].used == 18


async def test_everything_of_a_tenant_is_in_its_slot(store: Store) -> None:
    places = [*places_of(store, "shop"), *places_of(store, "shop", "0123456789ab")]
    assert all(place.split("{")[1].split("}")[0] == "shop" for place in places)
    assert len({*places}) == 8, "bytes and tokens tell keys apart by field"


async def test_what_a_killed_replica_held_is_free_when_its_leases_run_out(open_counts: Open, store: Store) -> None:
    """And what a living one renews is not."""
    dead, alive, asking = open_counts(lease_s=0.2), open_counts(lease_s=30), open_counts(lease_s=30)
    check = held(store, 2)
    for replica, request in ((dead, "a"), (alive, "b")):
        assert (await replica.admit(request, [check])).refused is None
    assert (await asking.admit("c", [check])).refused == 0
    async with asyncio.timeout(5):
        while (await asking.admit("c", [check])).refused is not None:
            await asyncio.sleep(0.02)
    assert (await asking.admit("d", [check])).refused == 0


async def test_a_lease_is_renewed_and_one_that_the_store_lost_comes_back(
    open_counts: Open, store: Store, plain: Redis
) -> None:
    counts, check = open_counts(), held(store, 5)
    await counts.admit("a", [check])
    plain.zadd(check.key, {"a": 5})
    await counts.renew(check.key, ["a", "b"])
    now_ms = int(plain.time()[0]) * 1000  # type: ignore[index]
    leases = dict(plain.zrange(check.key, 0, -1, withscores=True))  # type: ignore[arg-type]
    assert set(leases) == {b"a", b"b"}
    assert all(now_ms + 14_000 <= until_ms <= now_ms + 17_000 for until_ms in leases.values())


async def test_what_has_ended_frees_its_place_at_once(open_counts: Open, store: Store) -> None:
    """Told by the way of the next admission, or in a batch."""
    counts, check = open_counts(), held(store, 1)
    assert (await counts.admit("a", [check])).refused is None
    assert (await counts.admit("b", [check], ["a"])).refused is None
    batch = Batch(1, "2027-01-15", [(check.key, "ended", "b", 0)])
    await counts.settle("shop", batch)
    assert (await counts.admit("c", [check])).refused is None


async def test_a_batch_counts_once_however_often_it_is_sent(open_counts: Open, store: Store, plain: Redis) -> None:
    a, b, key = open_counts(), open_counts(), places_of(store, "shop").bytes
    batch = Batch(1, "2027-01-15", [(key, "bytes", "2027-01-15", 40), (key, "bytes", "2027-01-15", 2)])
    for replica in (a, a, b, a):
        await replica.settle("shop", batch)
    assert plain.hget(key, "2027-01-15") == b"84"
    await a.settle("shop", batch._replace(number=2))
    assert plain.hget(key, "2027-01-15") == b"126"


async def test_yesterdays_bytes_are_forgotten_and_a_slow_clock_forgets_nothing(
    open_counts: Open, store: Store, plain: Redis
) -> None:
    counts, key = open_counts(), places_of(store, "shop").bytes
    for number, day in enumerate(("2027-01-15", "2027-01-16", "2027-01-15")):
        await counts.settle("shop", Batch(number, day, [(key, "bytes", day, 7)]))
    assert plain.hgetall(key) == {b"day": b"2027-01-16", b"2027-01-16": b"7", b"2027-01-15": b"7"}


async def test_a_request_that_is_taken_back_was_never_counted(open_counts: Open, store: Store, plain: Redis) -> None:
    counts, check = open_counts(), rate(store, 3)
    verdicts = [await counts.admit(f"r{number}", [check]) for number in range(3)]
    fact = (check.key, "uncount", str(verdicts[1].counted_s), 1)
    for _ in range(2):
        await counts.settle("shop", Batch(1, "2027-01-15", [fact]))  # type: ignore[list-item]
    assert 0 < plain.pttl(check.key) <= 61_000
    assert [(await counts.admit(f"s{number}", [check])).refused for number in range(2)] == [None, 0]


async def test_a_used_up_day_refuses_and_one_that_is_only_told_does_not(
    open_counts: Open, store: Store, plain: Redis
) -> None:
    counts, key = open_counts(), places_of(store, "shop").tokens
    plain.hset(key, "2027-01-15", 100)
    used = Check("used", 100, key, "2027-01-15")
    verdict = await counts.admit("a", [used._replace(field="2027-01"), used, rate(store, 1)])
    assert (verdict.refused, [standing.used for standing in verdict.standings]) == (1, [0, 100, 0])
    told = await counts.admit("b", [used._replace(kind="told"), rate(store, 1)])
    assert (told.refused, [standing.used for standing in told.standings]) == (None, [100, 1])


@given(
    st.lists(st.tuples(st.integers(-70, 0), st.integers(1, 9)), max_size=30, unique_by=lambda each: each[0]),
    st.integers(1, 40),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_window_in_the_store_is_the_one_in_memory(
    valkey: str, prefix: str, seconds: list[tuple[int, int]], limit: int
) -> None:
    """Asked by the store's own clock; a case whose second passes meanwhile is asked again."""

    async def ask() -> None:
        store, coalescer = Store(valkey, prefix=prefix, timeout_s=1), make_coalescer(valkey, timeout_s=5)
        check = rate(store, limit)
        with look_behind(valkey) as plain:
            while True:
                now_s, now_us = plain.time()  # type: ignore[misc]
                window = Window()
                for ago_s, amount in sorted(seconds):
                    window.add(now_s + ago_s, amount)
                write_window(plain, check.key, {now_s + ago_s: amount for ago_s, amount in seconds})
                verdict = await LimitCounts(coalescer, store).admit("r", [check])
                if plain.time()[0] == now_s:  # type: ignore[index]
                    break
        now = now_s + now_us / 1e6
        assert (verdict.refused is None) == (window.used(now) < limit)
        if verdict.refused is None:
            window.add(now)
        (standing,) = verdict.standings
        assert standing.used == window.used(now)
        assert standing.wait_s == pytest.approx(window.wait_s(now, limit), abs=0.5)
        assert standing.reset_s == pytest.approx(window.reset_s(now), abs=0.5)
        await coalescer.close()
        await store.close()

    asyncio.run(ask())


async def test_a_store_that_refuses_the_script_counts_as_away(
    open_counts: Open, store: Store, own_valkey: OwnValkey
) -> None:
    counts = open_counts(own_valkey.url)
    with Redis.from_url(own_valkey.url) as plain:
        plain.set(held(store, 1).key, "of another type")
    with pytest.raises(StoreAway):
        await counts.admit("a", [held(store, 1)])
