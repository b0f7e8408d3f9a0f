"""The store as everything that is kept there sees it: names of keys, and commands on one server or on a cluster.

Commands have a deadline and are tried twice at most, so every write must do no harm when it runs twice. What is away
fails at once: the only server there is (`server.py`), or the server of a cluster that has the key (`cluster.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from redis.asyncio import Redis

from gateway.store.cluster import Cluster
from gateway.store.server import DRIVER, FAULTS, Presence, Server, StoreAway
from gateway.store.slots import is_cluster

__all__ = ["DRIVER", "FAULTS", "Presence", "Store", "StoreAway", "do_each"]

T = TypeVar("T")


class Store:
    """Runs commands against the store. `on_return` callbacks run each time it, or a server of the cluster, answers
    again after it was away. `pause` is what the probe waits with."""

    def __init__(
        self,
        url: str,
        *,
        prefix: str,
        timeout_s: float,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.prefix = prefix
        self.is_cluster = is_cluster(url)
        kind = Cluster if self.is_cluster else Server
        self._servers: Server | Cluster = kind(url, timeout_s=timeout_s, pause=pause)
        self.on_return = self._servers.on_return

    @property
    def is_ready(self) -> bool:
        """Whether the store has answered and was not found away since, nor a server of the cluster."""
        return self._servers.is_ready

    def key(self, *parts: str) -> str:
        """A key of this gateway; parts are joined by colons and must not come from callers unchecked."""
        return ":".join((self.prefix, *parts))

    def subscriber(self, key: str | None = None) -> Redis:
        """A client for one who listens, which takes a connection for itself: to the server that has `key`, or for the
        store's channels. To be closed by its user, who is told of failures as redis-py raises them (FAULTS) and gives
        reads their own timeouts."""
        return self._servers.subscriber(key)

    async def run(self, command: Callable[[Redis], Awaitable[T]]) -> T:
        """The answer to `command`. Raises StoreAway, at once while what it needs is known to be away.

        What the command gets is a client as redis-py's are. On a cluster every command goes to the server of its first
        key, and the commands of a pipeline go one after another, each when the one before it was answered.
        """
        return await self._servers.run(command)

    def scan(self, pattern: str, *, count: int) -> AsyncGenerator[Sequence[str], None]:
        """The keys that match, on all servers, about `count` at a time; one may come twice. Raises StoreAway."""
        return self._servers.scan(pattern, count)

    async def connect(self) -> None:
        """Find out whether the store is there. Does not raise: what needs no store goes on without it."""
        await self._servers.connect()

    async def close(self) -> None:
        await self._servers.close()


async def do_each(works: Iterable[Callable[[], Awaitable[object]]]) -> None:
    """Do one after another, also when a part of the store that one needs is away: then the last StoreAway is raised at
    the end."""
    away: StoreAway | None = None
    for work in works:
        try:
            await work()
        except StoreAway as exc:
            away = exc
    if away is not None:
        raise away
