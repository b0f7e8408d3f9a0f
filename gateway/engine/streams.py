"""A run's events as an answer that is passed on while it arrives, like a vendor's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing

from gateway.ending import end
from gateway.engine.store.events import Event, EventsGone
from gateway.errors import AttemptFailed
from gateway.sse import Event as Told
from gateway.store.connection import StoreAway

_AHEAD_BYTES = 256 * 1024
"""So much is held for a caller who reads slowly. What it misses meanwhile is read from the store."""


class RunStream:
    """`events` may begin to be read at once. See `gateway.upstream.Relayed`."""

    status = 200
    headers: Mapping[str, str] = {"Content-Type": "text/event-stream"}
    content_type = "text/event-stream"
    length_bytes = None
    has_framed_end = True

    def __init__(self, events: AsyncGenerator[Event, None]) -> None:
        self._ready: list[Told] = []
        self._ready_bytes = 0
        self._stirred = asyncio.Event()
        self._has_room = asyncio.Event()
        self._is_over = False
        self._failed: AttemptFailed | None = None
        self._closing: list[Callable[[], None]] = []
        self._pump = asyncio.create_task(self._take(events), name="run.stream")

    async def _take(self, events: AsyncGenerator[Event, None]) -> None:
        """Waiting for the next event here and not in `next_events`, which may be cancelled and called again."""
        try:
            async with aclosing(events):
                async for event in events:
                    self._ready.append(Told(event.name, event.data, [b"id: %d-%d" % event.id]))
                    self._ready_bytes += len(event.data)
                    self._stirred.set()
                    while self._ready_bytes > _AHEAD_BYTES:
                        self._has_room.clear()
                        await self._has_room.wait()
        except EventsGone:
            self._failed = AttemptFailed(502, "lost events of the stream", code="stream_broken")
        except StoreAway:
            self._failed = AttemptFailed(502, "lost its store while it streamed", code="stream_broken")
        finally:
            self._is_over = True
            self._stirred.set()

    async def next_piece(self) -> bytes:
        """The events that are there, b"" at the end. Raises AttemptFailed."""
        return b"".join(event.encode() for event in await self.next_events())

    async def next_events(self) -> Sequence[Told]:
        """The events that are there, none at the end. Raises AttemptFailed."""
        while not self._ready:
            if self._failed is not None:
                raise self._failed
            if self._is_over:
                return ()
            self._stirred.clear()
            await self._stirred.wait()
        events, self._ready, self._ready_bytes = self._ready, [], 0
        self._has_room.set()
        return events

    async def read(self, limit_bytes: int) -> bytes:
        """What is left, as a whole."""
        pieces = []
        while piece := await self.next_piece():
            pieces.append(piece)
        return b"".join(pieces)

    def when_closed(self, callback: Callable[[], None]) -> None:
        self._closing.append(callback)

    async def __aenter__(self) -> RunStream:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await end([self._pump])
        while self._closing:
            self._closing.pop()()
