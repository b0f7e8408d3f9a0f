"""The connection to the store, and the knowledge whether it is there.

Commands have a deadline and are tried twice at most, so every write must do no harm when it runs twice. Once a command
found the store away, all others fail at once and only a probe in the background asks again, every second (`_REST_S`):
an absent store costs the requests that already wait one timeout, and nobody else anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Literal, TypeVar

from redis import DriverInfo
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.exceptions import RedisError, ResponseError

from gateway import __version__
from gateway.ending import end
from gateway.store.packing import pack_in_c
from gateway.telemetry import log

T = TypeVar("T")

FAULTS = (RedisError, OSError, RuntimeError, AttributeError)
"""What a client raises while its server is away. Not only RedisError: redis-py lets errors of closed transports through
during failovers."""
DRIVER = DriverInfo().add_upstream_driver("threads-gateway", __version__)
"""How connections introduce themselves in the server's CLIENT LIST. Made once: left to itself redis-py reads its own
package's metadata for every connection, which takes longer than to connect."""
_REST_S = 1.0
_CONNECTIONS = 16


class StoreAway(Exception):
    """The store did not answer, or cannot write. The outcome of a write is unknown."""


class Presence:
    """Whether a server answers one client. The client tells of its failures; then this asks until it is answered.

    `ask` sends a ping and raises StoreAway; `client` is whose events are logged.
    `on_return` callbacks run as tasks at the first answer, and each time the server answers again after it was away.
    """

    def __init__(
        self,
        ask: Callable[[], Awaitable[object]],
        *,
        client: Literal["store", "cache"],
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.on_return: list[Callable[[], Awaitable[None]]] = []
        self._ask = ask
        self._client = client
        self._pause = pause
        self._is_away: bool | None = None
        """None until the first command ended: then it is tried, as if the server were there."""
        self._watching: asyncio.Task[None] | None = None
        self._returning: set[asyncio.Task[None]] = set()

    @property
    def is_ready(self) -> bool:
        """Whether the server has answered and was not found away since."""
        return self._is_away is False

    def check(self) -> None:
        """Raises StoreAway while the server is known to be away."""
        if self._is_away:
            raise StoreAway("the store is away")

    def note_answer(self) -> None:
        """A command was answered. While the server is away only the probe decides: a late answer from before proves
        nothing."""
        if self._is_away is None:
            self._note_ready()

    def note_away(self, exc: Exception) -> None:
        """A command was not answered, or what it asked cannot be done now."""
        if self._is_away:
            return
        self._is_away = True
        error, reason = type(exc).__name__, str(exc)[:200]
        if self._client == "store":
            log.warning("store.away", error=error, reason=reason)
        else:
            log.warning("cache.away", error=error, reason=reason)
        self._watching = asyncio.create_task(self._watch(), name=f"{self._client}.watch")

    def _note_ready(self) -> None:
        self._is_away = False
        if self._client == "store":
            log.info("store.ready")
        else:
            log.info("cache.ready")
        for callback in self.on_return:
            task = asyncio.create_task(_until_away(callback()))
            self._returning.add(task)
            task.add_done_callback(self._returning.discard)

    async def _watch(self) -> None:
        while self._is_away:
            await self._pause(_REST_S)
            with suppress(StoreAway):
                await self._ask()
                self._note_ready()

    async def close(self) -> None:
        """Ask no more, and end what the last return began. From now on the server counts as away."""
        self._is_away = True
        tasks = [task for task in (self._watching, *self._returning) if task is not None]
        await end(tasks)


class Store:
    """Runs commands against the store. `on_return` callbacks run each time it answers again after it was away. `pause`
    is what the probe waits with."""

    def __init__(
        self,
        url: str,
        *,
        prefix: str,
        timeout_s: float,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        pool: ConnectionPool = ConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(ExponentialBackoff(cap=0.1, base=0.01), 1),
            decode_responses=True,
            driver_info=DRIVER,
        )
        self.redis: Redis = Redis(connection_pool=pack_in_c(pool))
        self.prefix = prefix
        self._url = url
        self._timeout_s = timeout_s
        # A semaphore in front of a plain pool is fair; redis-py's own blocking pool starves waiters.
        self._turns = asyncio.Semaphore(_CONNECTIONS)
        self._presence = Presence(self._ping, client="store", pause=pause)
        self.on_return = self._presence.on_return

    @property
    def is_ready(self) -> bool:
        """Whether the store has answered and was not found away since."""
        return self._presence.is_ready

    def key(self, *parts: str) -> str:
        """A key of this gateway; parts are joined by colons and must not come from callers unchecked."""
        return ":".join((self.prefix, *parts))

    def subscriber(self) -> Redis:
        """A client for one who listens, which takes a connection for itself. To be closed by its user, who is told of
        failures as redis-py raises them (FAULTS) and gives reads their own timeouts."""
        pool: ConnectionPool = ConnectionPool.from_url(
            self._url,
            socket_timeout=self._timeout_s,
            socket_connect_timeout=self._timeout_s,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
            protocol=2,
            driver_info=DRIVER,
        )
        return Redis.from_pool(pool)

    async def run(self, command: Callable[[Redis], Awaitable[T]]) -> T:
        """The answer to `command`. Raises StoreAway, at once while the store is known to be away."""
        self._presence.check()
        async with self._turns:
            self._presence.check()  # it may have been found away while this waited for its turn
            return await self._attempt(command)

    async def _ping(self) -> None:
        async with self._turns:
            await self._attempt(lambda redis: redis.ping())

    async def _attempt(self, command: Callable[[Redis], Awaitable[T]]) -> T:
        try:
            answer = await command(self.redis)
        except FAULTS as exc:
            self._presence.note_away(exc)
            raise StoreAway(type(exc).__name__) from exc
        self._presence.note_answer()
        return answer

    async def connect(self) -> None:
        """Find out whether the store is there. Does not raise: what needs no store goes on without it."""
        try:
            await self.run(lambda redis: redis.ping())
            policy = await self.run(_eviction_policy)
        except StoreAway:
            return
        if policy.startswith("allkeys"):
            log.warning("store.full_policy", policy=policy)

    async def close(self) -> None:
        await self._presence.close()
        await self.redis.aclose()
        await self.redis.connection_pool.disconnect()


async def _eviction_policy(redis: Redis) -> str:
    """What the server evicts when it is full, "" if it does not tell: managed servers forbid to ask."""
    try:
        told = await redis.config_get("maxmemory-policy")
    except ResponseError:
        return ""
    return str(told.get("maxmemory-policy", ""))


async def _until_away(work: Awaitable[None]) -> None:
    """Work for a store that is back; if it goes away again, the next return does it anew."""
    with suppress(StoreAway):
        await work
