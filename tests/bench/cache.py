"""CPU per cache hit, over the coalescer and over redis-py's own client, beside a bare GET; one interleaved run.

    python tests/bench/cache.py [rounds] [reads a round]

All ask one Valkey process of this run; what it spends is not counted. The GET is one command of a client with the
cache's timeouts, and has nothing of what a hit has besides: scope, generation, epoch, deadline.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent))

from redis.asyncio import Redis  # noqa: E402  runs as a script
from redis.asyncio.retry import Retry  # noqa: E402
from redis.backoff import NoBackoff  # noqa: E402

from gateway.store.cache import Commands, Hit, Miss, Scope, ThreadCache  # noqa: E402
from gateway.store.coalescer import Coalescer, Script, Word  # noqa: E402
from gateway.store.embedded import EmbeddedValkey  # noqa: E402
from tests.bench.fixed_upstream import BODY, THREAD_ID  # noqa: E402

TIMEOUT_S = 0.25
SCOPE = Scope("bench", "route", "thread", THREAD_ID)
FIELD = f"/threads/{THREAD_ID} v2 key"

Read = Callable[[], Awaitable[None]]


class Uncoalesced:
    """What the cache needs of a client, each command on its own."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def run(self, *words: Word) -> Any:
        return await self._redis.execute_command(*words)  # type: ignore[no-untyped-call]

    async def script(self, script: Script, *, keys: Sequence[Word], arguments: Sequence[Word]) -> Any:
        return await self.run("EVAL", script.text, len(keys), *keys, *arguments)

    def note_away(self, exc: Exception) -> None:
        raise exc


async def spend(read: Read, *, callers: int, reads: int) -> float:
    """Microseconds of CPU a read, when so many callers each wait for their answer before they ask again."""

    async def caller() -> None:
        for _ in range(reads // callers):
            await read()

    before = time.process_time()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return (time.process_time() - before) / (reads // callers * callers) * 1e6


async def measure(url: str, rounds: int, reads: int) -> None:
    redis = Redis.from_url(url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, retry=Retry(NoBackoff(), 0))
    await redis.set("plain", BODY)
    coalescer = Coalescer(url, timeout_s=TIMEOUT_S)

    async def get() -> None:
        assert await redis.get("plain") == BODY

    variants = {
        "bare redis-py GET": get,
        "hit, not coalesced": await hits(Uncoalesced(redis)),
        "hit, coalesced": await hits(coalescer),
    }
    for callers in (1, 64):
        spent: dict[str, list[float]] = {name: [] for name in variants}
        for number in range(rounds + 1):
            for name, read in variants.items():
                figure = await spend(read, callers=callers, reads=reads)
                if number:  # the first round warms up
                    spent[name].append(figure)
        report(callers, rounds, spent)
    await coalescer.close()
    await redis.aclose()


async def hits(commands: Commands) -> Read:
    cache = ThreadCache(commands, prefix="bench", lease_s=600)
    await cache.catch_up()
    found = await cache.read(SCOPE, FIELD)
    if isinstance(found, Miss):
        assert await cache.fill(SCOPE, FIELD, BODY, ttl_s=600, generation=found.generation)

    async def hit() -> None:
        found = await cache.read(SCOPE, FIELD)
        assert isinstance(found, Hit), found
        assert found.body == BODY

    return hit


def report(callers: int, rounds: int, spent: dict[str, list[float]]) -> None:
    print(f"{callers} at once")
    for name, figures in spent.items():
        low, middle, high = min(figures), statistics.median(figures), max(figures)
        print(f"{name:20} {middle:6.1f} µs CPU a read (median of {rounds} rounds; {low:.1f}–{high:.1f})")
    for name in list(spent)[:-1]:
        ratios = [b / a for a, b in zip(spent[name], spent["hit, coalesced"], strict=True)]
        print(f"coalesced / {name}: {statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})")


async def main(rounds: int = 7, reads: int = 6400) -> None:
    with tempfile.TemporaryDirectory() as folder:
        valkey = EmbeddedValkey(Path(folder))
        await valkey.start()
        try:
            await measure(valkey.url, rounds, reads)
        finally:
            await valkey.close()


if __name__ == "__main__":
    asyncio.run(main(*(int(argument) for argument in sys.argv[1:])))
