"""The connection to the store, and the knowledge whether it is there.

Commands have a deadline and are tried twice at most, so every write must do no harm when it runs twice. A store that
does not answer is asked again only every second (`_REST_S`): its absence costs one request a timeout, not all.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import RedisError

from gateway.telemetry import log

T = TypeVar("T")

_REST_S = 1.0
_CONNECTIONS = 16


class StoreAway(Exception):
    """The store did not answer, or cannot write. The outcome of a write is unknown."""


class Store:
    """Runs commands against the store. `on_return` callbacks run each time it answers again after it was away."""

    def __init__(self, url: str, *, prefix: str, timeout_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        pool: ConnectionPool = ConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(ExponentialBackoff(cap=0.1, base=0.01), 1),
            decode_responses=True,
        )
        self.redis: Redis = Redis(connection_pool=pool)
        self.prefix = prefix
        self.on_return: list[Callable[[], Awaitable[None]]] = []
        self._clock = clock
        # A semaphore in front of a plain pool is fair; redis-py's own blocking pool starves waiters.
        self._turns = asyncio.Semaphore(_CONNECTIONS)
        self._away_until: float | None = 0.0
        self._watching: asyncio.Task[None] | None = None
        self._returning: set[asyncio.Task[None]] = set()

    @property
    def is_ready(self) -> bool:
        """Whether the last command was answered."""
        return self._away_until is None

    def key(self, *parts: str) -> str:
        """A key of this gateway; parts are joined by colons and must not come from callers unchecked."""
        return ":".join((self.prefix, *parts))

    async def run(self, command: Callable[[Redis], Awaitable[T]]) -> T:
        """The answer to `command`. Raises StoreAway, at once while the store is known to be away."""
        if self._away_until is not None and self._clock() < self._away_until:
            raise StoreAway("the store is away")
        try:
            async with self._turns:
                answer = await command(self.redis)
        # Not only RedisError: redis-py lets errors of closed transports through during failovers.
        except (RedisError, OSError, RuntimeError, AttributeError) as exc:
            self._note_away(exc)
            raise StoreAway(type(exc).__name__) from exc
        if self._away_until is not None:
            self._note_ready()
        return answer

    def _note_away(self, exc: Exception) -> None:
        if self._away_until is None or self._away_until == 0.0:
            log.warning("store.away", error=type(exc).__name__, reason=str(exc)[:200])
        self._away_until = self._clock() + _REST_S
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch(), name="store.watch")

    def _note_ready(self) -> None:
        self._away_until = None
        log.info("store.ready")
        for callback in self.on_return:
            task = asyncio.create_task(_until_away(callback()))
            self._returning.add(task)
            task.add_done_callback(self._returning.discard)

    async def _watch(self) -> None:
        """Ask until the store answers, so that it is known to be back even when nobody needs it."""
        while self._away_until is not None:
            await asyncio.sleep(max(0.0, self._away_until - self._clock()))
            try:
                await self.run(lambda redis: redis.ping())
            except StoreAway:
                continue

    async def connect(self) -> None:
        """Find out whether the store is there. Does not raise: what needs no store goes on without it."""
        try:
            await self.run(lambda redis: redis.ping())
            policy = await self.run(lambda redis: redis.config_get("maxmemory-policy"))
        except StoreAway:
            return
        if str(policy.get("maxmemory-policy", "")).startswith("allkeys"):
            log.warning("store.full_policy", policy=policy["maxmemory-policy"])

    async def close(self) -> None:
        for task in (self._watching, *self._returning):
            if task is not None:
                task.cancel()
        await self.redis.aclose()
        await self.redis.connection_pool.disconnect()


async def _until_away(work: Awaitable[None]) -> None:
    """Work for a store that is back; if it goes away again, the next return does it anew."""
    with suppress(StoreAway):
        await work
