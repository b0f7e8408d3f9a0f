"""Messages of the store's channels, on a connection of its own that is opened again whenever it is lost.

Messages are lost without a word while there is no connection. So they only hurry things: who gets them finds the same
by reading.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

from redis.asyncio.client import PubSub

from gateway.ending import end
from gateway.store.connection import FAULTS, Store

_REOPEN_S = 1.0
_SILENCE_S = 5.0
"""After so long without a word the store is asked for one, and after as long again the connection counts as lost: a
peer that is gone without closing it would be listened to for ever."""

Hear = Callable[[str], None]


class Subscription:
    """Calls who hears a channel with each message on it. Runs from `start` to `close`; `pause` is what it waits with
    before it opens a connection again."""

    def __init__(
        self,
        store: Store,
        heard_by: Mapping[str, Hear],
        *,
        silence_s: float = _SILENCE_S,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._heard_by = heard_by
        self._silence_s = silence_s
        self._pause = pause
        self._listening: asyncio.Task[None] | None = None
        self.is_open = False
        """Whether the store has confirmed that messages come."""

    def start(self) -> None:
        self._listening = asyncio.create_task(self._listen(), name="store.subscription")

    async def _listen(self) -> None:
        while True:
            with suppress(*FAULTS):
                await self._listen_once()
            self.is_open = False
            await self._pause(_REOPEN_S)

    async def _listen_once(self) -> None:
        """Until the connection is lost, which raises one of FAULTS."""
        async with self._store.subscriber() as redis:
            pubsub: PubSub = redis.pubsub()
            try:
                await pubsub.subscribe(*self._heard_by)
                await self._hear(pubsub)
            finally:
                await pubsub.aclose()  # type: ignore[no-untyped-call]
                await redis.connection_pool.disconnect()

    async def _hear(self, pubsub: PubSub) -> None:
        is_asked = False
        while True:
            message: dict[str, Any] | None = await pubsub.get_message(timeout=self._silence_s)
            if message is not None:
                is_asked = False
                self.is_open = True
                if message["type"] == "message":
                    self._heard_by[message["channel"]](message["data"])
            elif is_asked:
                raise ConnectionError("the store is silent")
            else:
                is_asked = True
                await pubsub.ping()

    async def close(self) -> None:
        if self._listening is not None:
            await end([self._listening])
