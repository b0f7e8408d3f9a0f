"""The connections to one server, and the knowledge whether it is there.

Commands have a deadline and are tried twice at most, so every write must do no harm when it runs twice. Once a command
found the server away, all others fail at once and only a probe in the background asks again, every second (`_REST_S`):
an absent server costs the requests that already wait one timeout, and nobody else anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
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

    `ask` sends a ping and raises StoreAway; `client` is whose events are logged, with the name of the `server` where
    there are several.
    `on_return` callbacks run as tasks at the first answer, and each time the server answers again after it was away.
    """

    def __init__(
        self,
        ask: Callable[[], Awaitable[object]],
        *,
        client: Literal["store", "cache"],
        server: str | None = None,
        on_return: list[Callable[[], Awaitable[None]]] | None = None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.on_return = [] if on_return is None else on_return
        self._ask = ask
        self._client = client
        self._named = {"server": server} if server is not None else {}
        self._pause = pause
        self._is_away: bool | None = None
        """None until the first command ended: then it is tried, as if the server were there."""
        self._watching: asyncio.Task[None] | None = None
        self._returning: set[asyncio.Task[None]] = set()

    @property
    def is_ready(self) -> bool:
        """Whether the server has answered and was not found away since."""
        return self._is_away is False

    @property
    def is_away(self) -> bool:
        """Whether it was found away and has not answered since."""
        return self._is_away is True

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
            log.warning("store.away", error=error, reason=reason, **self._named)
        else:
            log.warning("cache.away", error=error, reason=reason, **self._named)
        self._watching = asyncio.create_task(self._watch(), name=f"{self._client}.watch")

    def _note_ready(self) -> None:
        self._is_away = False
        if self._client == "store":
            log.info("store.ready", **self._named)
        else:
            log.info("cache.ready", **self._named)
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


class Server:
    """Runs commands on one server. `on_return` callbacks run each time it answers again after it was away. `name` is
    what the log calls it where there are several; `pause` is what the probe waits with."""

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float,
        name: str | None = None,
        on_return: list[Callable[[], Awaitable[None]]] | None = None,
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
        self._redis: Redis = Redis(connection_pool=pack_in_c(pool))
        self._url = url
        self._timeout_s = timeout_s
        # A semaphore in front of a plain pool is fair; redis-py's own blocking pool starves waiters.
        self._turns = asyncio.Semaphore(_CONNECTIONS)
        self._presence = Presence(self._ping, client="store", server=name, on_return=on_return, pause=pause)
        self.on_return = self._presence.on_return

    @property
    def is_ready(self) -> bool:
        """Whether the server has answered and was not found away since."""
        return self._presence.is_ready

    @property
    def is_away(self) -> bool:
        return self._presence.is_away

    def subscriber(self, key: str | None = None) -> Redis:
        """As `Store.subscriber` says."""
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
        """The answer to `command`. Raises StoreAway, at once while the server is known to be away."""
        self._presence.check()
        async with self._turns:
            self._presence.check()  # it may have been found away while this waited for its turn
            return await self._attempt(command)

    async def _ping(self) -> None:
        async with self._turns:
            await self._attempt(lambda redis: redis.ping())

    async def _attempt(self, command: Callable[[Redis], Awaitable[T]]) -> T:
        try:
            answer = await command(self._redis)
        except FAULTS as exc:
            self._presence.note_away(exc)
            raise StoreAway(type(exc).__name__) from exc
        self._presence.note_answer()
        return answer

    async def scan(self, pattern: str, count: int) -> AsyncGenerator[Sequence[str], None]:
        """As `Store.scan` says."""
        cursor = None
        while cursor != 0:
            cursor, keys = await self.run(
                lambda redis, cursor=cursor: redis.scan(cursor or 0, match=pattern, count=count)  # type: ignore[misc]
            )
            yield keys

    async def connect(self) -> None:
        """Find out whether the server is there. Does not raise: what needs no store goes on without it."""
        try:
            await self.run(lambda redis: redis.ping())
            policy = await self.run(_eviction_policy)
        except StoreAway:
            return
        if policy.startswith("allkeys"):
            log.warning("store.full_policy", policy=policy)

    async def close(self) -> None:
        await self._presence.close()
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()


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
