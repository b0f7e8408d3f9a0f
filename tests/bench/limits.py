"""CPU that limits add to a request, for callers without limits, with a limit of requests, and with what is under way
besides; one interleaved run.

    python tests/bench/limits.py [rounds] [requests a round]

What is measured is what the flow calls: an admission begun and ended, for a caller whose plan is known. All ask one
Valkey process of this run; what it spends is not counted, but told apart.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent))

from redis.asyncio import Redis  # noqa: E402  runs as a script

from gateway.config import Allowance  # noqa: E402
from gateway.limiting import Limiting  # noqa: E402
from gateway.model import UNLIMITED, Caller  # noqa: E402
from gateway.operations import BY_NAME  # noqa: E402
from gateway.store.coalescer import Coalescer  # noqa: E402
from gateway.store.connection import Store  # noqa: E402
from gateway.store.embedded import EmbeddedValkey  # noqa: E402
from gateway.store.limits import LimitCounts  # noqa: E402
from gateway.telemetry import Record  # noqa: E402
from tests.values import DIRECTORY  # noqa: E402

MANY = 10_000_000
ALLOWANCES = {
    "no limits": UNLIMITED,
    "rpm": Allowance(requests_per_minute=MANY),
    "rpm + concurrency": Allowance(requests_per_minute=MANY, concurrent_requests=MANY),
    "everything": Allowance(
        requests_per_minute=MANY,
        concurrent_requests=MANY,
        tokens_per_day=MANY,
        tokens_per_month=MANY,
        bytes_per_day=MANY**2,
    ),
}

Ask = Callable[[], Awaitable[None]]


def asking(limiting: Limiting, name: str) -> Ask:
    tenant = replace(DIRECTORY.tenants["alice"], id=name.replace(" ", ""), allowance=ALLOWANCES[name])
    caller, operation = Caller(tenant, "0123456789ab"), BY_NAME["create_run"]

    async def ask() -> None:
        record = Record("req", "POST", "/v1/threads/thread/runs")
        admission = limiting.admission(record)
        try:
            await admission.begin(caller, operation)
            record.note(bytes_in=100, bytes_out=1000)
        finally:
            admission.end()

    return ask


async def spend(ask: Ask, *, callers: int, requests: int) -> float:
    """Microseconds of CPU a request, when so many callers each wait for their answer before they ask again."""

    async def caller() -> None:
        for _ in range(requests // callers):
            await ask()

    before = time.process_time()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return (time.process_time() - before) / (requests // callers * callers) * 1e6


async def spent_by_store(redis: Redis) -> float:
    """Seconds of CPU since its start."""
    told = await redis.info("cpu")
    return float(told["used_cpu_user"]) + float(told["used_cpu_sys"])


async def measure(url: str, rounds: int, requests: int) -> None:
    redis, coalescer, store = Redis.from_url(url), Coalescer(url, timeout_s=5), Store(url, prefix="bench", timeout_s=1)
    limiting = Limiting(LimitCounts(coalescer, store), lambda: 1)
    variants = {name: asking(limiting, name) for name in ALLOWANCES}
    for callers in (1, 64):
        here: dict[str, list[float]] = {name: [] for name in variants}
        there: dict[str, list[float]] = {name: [] for name in variants}
        for number in range(rounds + 1):
            for name, ask in variants.items():
                before = await spent_by_store(redis)
                figure = await spend(ask, callers=callers, requests=requests)
                await limiting.flush()
                if number:  # the first round warms up
                    here[name].append(figure)
                    there[name].append((await spent_by_store(redis) - before) / requests * 1e6)
        report(callers, rounds, here, there)
    await limiting.close()
    await coalescer.close()
    await store.close()
    await redis.aclose()


def report(callers: int, rounds: int, here: dict[str, list[float]], there: dict[str, list[float]]) -> None:
    print(f"{callers} at once, medians of {rounds} rounds")
    for name, figures in here.items():
        low, middle, high = min(figures), statistics.median(figures), max(figures)
        store = statistics.median(there[name])
        print(f"{name:20} {middle:6.1f} µs CPU a request ({low:.1f}–{high:.1f}), and the store's {store:.1f}")


async def main(rounds: int = 7, requests: int = 6400) -> None:
    with tempfile.TemporaryDirectory() as folder:
        valkey = EmbeddedValkey(Path(folder))
        await valkey.start()
        try:
            await measure(valkey.url, rounds, requests)
        finally:
            await valkey.close()


if __name__ == "__main__":
    asyncio.run(main(*(int(argument) for argument in sys.argv[1:])))
