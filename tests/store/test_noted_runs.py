"""Runs are counted once, whoever settles them, however often, and whatever the store did in between."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from redis import Redis

from gateway.phases.read_facts import Usage
from gateway.store import token_counts
from gateway.store.connection import Store
from gateway.store.noted_runs import FIRST_LOOK_S, Ended, Entry, NotedRun, NotedRuns, Settling
from gateway.store.tenant_usage import TenantUsage, UsageCounts, UsagePlace
from tests.store.gate import Gate

NOW = 1_798_761_599.0  # 2026-12-31T23:59:59Z
RUN = NotedRun(
    tenant="shop",
    route="aaaa",
    run="run_1",
    thread="thread_1",
    tenant_name="the shop",
    tenant_key="0123456789ab",
    provider="up",
    provider_name="upstream",
    account_name="main",
    key="ba9876543210",
    model="gpt: 4o",
    upstream_model="deployment",
    assistant="asst_1",
    public_run="run_1xyz",
    public_thread="thread_1xyz",
    noted_s=NOW - 30,
    expires_s=NOW + 570,
)
USED = Usage(prompt=100, completion=20, total=121, cached=64)
PLACE = UsagePlace("2026-12-31", "up", "gpt: 4o")


@pytest.fixture
def runs(store: Store) -> NotedRuns:
    return NotedRuns(store)


def settling(who: str, *ended: Ended, at_s: float = NOW) -> Settling:
    return Settling("shop", "aaaa", ended or (Ended("run_1", "completed", USED),), who, at_s)


async def tokens(store: Store) -> dict[str, str]:
    key = token_counts.key_of(store, "shop")
    found: dict[str, str] = await store.run(lambda redis: redis.hgetall(key))
    return found


async def usage(store: Store, month: str = "2026-12") -> dict[UsagePlace, UsageCounts]:
    return await TenantUsage(store).read("shop", month)


async def test_a_run_counts_for_its_tenant_and_key_in_day_and_month(runs: NotedRuns, store: Store) -> None:
    await runs.note(RUN)
    assert await runs.settle(settling("a")) == [(RUN, Ended("run_1", "completed", USED))]
    key = RUN.tenant_key
    assert await tokens(store) == dict.fromkeys(("2026-12-31", "2026-12", f"2026-12-31:{key}", f"2026-12:{key}"), "121")
    assert await usage(store) == {PLACE: UsageCounts(runs=1, prompt=100, completion=20, cached=64)}


async def test_it_counts_when_it_is_settled_not_when_it_was_made(runs: NotedRuns, store: Store) -> None:
    await runs.note(RUN)
    await runs.settle(settling("a", at_s=NOW + 2))
    assert set(await tokens(store)) >= {"2027-01-01", "2027-01"}
    assert await usage(store) == {}
    assert list(await usage(store, "2027-01")) == [PLACE._replace(day="2027-01-01")]


async def test_whoever_settles_first_counts_and_the_others_do_not(runs: NotedRuns, store: Store) -> None:
    others = [NotedRuns(store) for _ in range(20)]
    await runs.note(RUN)
    told = await asyncio.gather(*(each.settle(settling(f"r{number}")) for number, each in enumerate(others)))
    assert sorted(map(len, told)) == [*[0] * 19, 1]
    assert (await tokens(store))["2026-12-31"] == "121"
    assert (await usage(store))[PLACE].runs == 1


async def test_a_script_that_runs_twice_counts_once_and_says_the_same(store: Store, gate: Gate) -> None:
    """The answer is lost, so the client sends it again."""
    runs = NotedRuns(Store(gate.url, prefix=store.prefix, timeout_s=5))
    await runs.note(RUN)
    gate.pass_bytes = 0
    assert await runs.settle(settling("a")) == [(RUN, Ended("run_1", "completed", USED))]
    assert sum(command[0] == b"EVAL" for command in gate.commands) == 2
    assert (await tokens(store))["2026-12-31"] == "121"
    await runs._store.close()


async def test_a_note_that_comes_after_the_settlement_counts_nothing_again(runs: NotedRuns, store: Store) -> None:
    """Its writer did not hear that it was written, and writes it once more when the store is back."""
    await runs.note(RUN)
    await runs.settle(settling("a"))
    await runs.note(RUN)
    assert await runs.settle(settling("b")) == []
    assert (await tokens(store))["2026-12"] == "121"
    assert await runs.read(RUN.entry) == float(int(NOW))


async def test_what_nobody_noted_counts_nothing(runs: NotedRuns, store: Store) -> None:
    assert await runs.settle(settling("a")) == []
    assert (await tokens(store), await usage(store)) == ({}, {})


async def test_several_runs_are_settled_at_once_and_unknown_usage_is_counted_as_such(
    runs: NotedRuns, store: Store
) -> None:
    two = replace(RUN, run="run:2")
    await runs.note(RUN)
    await runs.note(two)
    ended = [Ended("run_0", "completed", USED), Ended("run_1", "completed", USED), Ended("run:2", "failed", None)]
    told = await runs.settle(settling("a", *ended))
    assert told == [(RUN, ended[1]), (two, ended[2])]
    assert await usage(store) == {PLACE: UsageCounts(runs=2, unknown=1, prompt=100, completion=20, cached=64)}
    assert (await tokens(store))["2026-12"] == "121"


async def test_of_two_replicas_only_one_takes_what_is_due(runs: NotedRuns, store: Store) -> None:
    for number in range(10):
        await runs.note(replace(RUN, run=f"run:{number}"))
    due_s = RUN.noted_s + FIRST_LOOK_S
    assert await runs.take(due_s - 1, again_s=due_s + 99, count=100) == []
    first, second = await asyncio.gather(
        *(NotedRuns(store).take(due_s, again_s=due_s + 100, count=6) for _ in range(2))
    )
    assert sorted(first + second) == [Entry("shop", "aaaa", f"run:{number}") for number in range(10)]
    assert await runs.take(due_s + 99, again_s=0, count=100) == []
    assert len(await runs.take(due_s + 100, again_s=due_s + 200, count=100)) == 10


async def test_a_run_is_read_put_off_and_forgotten(runs: NotedRuns) -> None:
    await runs.note(RUN)
    assert await runs.read(RUN.entry) == RUN
    await runs.postpone(RUN.entry, NOW + 1000)
    assert await runs.take(NOW + 999, again_s=0, count=1) == []
    await runs.forget(RUN.entry)
    assert await runs.read(RUN.entry) is None
    await runs.postpone(RUN.entry, NOW)  # what is forgotten stays so
    assert await runs.take(NOW + 1000, again_s=0, count=1) == []


async def test_a_note_of_another_release_is_understood(runs: NotedRuns, store: Store, plain: Redis) -> None:
    await runs.note(RUN)
    key, field = store.key("runs", "{shop}"), "aaaa:run_1"
    said = plain.hget(key, field)
    assert isinstance(said, bytes)
    plain.hset(key, field, said.replace(b'{"', b'{"colour":"red","', 1))
    assert await runs.read(RUN.entry) == RUN
    assert len(await runs.settle(settling("a"))) == 1


async def test_nothing_of_it_expires(runs: NotedRuns, store: Store, plain: Redis) -> None:
    await runs.note(RUN)
    await runs.settle(settling("a"))
    keys = list(plain.scan_iter(f"{store.prefix}:*"))
    assert isinstance(keys, list)
    assert len(keys) == 4
    assert {plain.ttl(key) for key in keys} == {-1}
