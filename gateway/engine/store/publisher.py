"""The events of one claim on their way out: this process's own subscribers get them first, the store in batches."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import islice

from gateway.ending import end
from gateway.engine.store.events import LAST, LAST_DATA, Event, EventId, publish
from gateway.engine.store.results import Claim
from gateway.store.connection import Store, StoreAway

BATCH_S = 0.05
PENDING_BYTES = 4 * 2**20
_AT_ONCE = 256

Told = tuple[str, bytes]
"""Name and data of an event that has no id yet."""


class Publisher:
    """Numbers events, tells them, and stores them. One task uses it; `close` at its end.

    While the store is away events wait, 4 MiB of them (`PENDING_BYTES`): beyond that the oldest are never stored, and
    who wants to read on from before them learns that they are gone.
    """

    def __init__(
        self,
        store: Store,
        claim: Claim,
        *,
        tell: Callable[[Sequence[Event]], None],
        on_close: Callable[[], None],
        batch_s: float,
        pending_bytes: int,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.floor = EventId(claim.epoch, 0)
        """The last event that does not wait any more: it is stored, or given up."""
        self.pending: deque[Event] = deque()
        """Told, and not yet stored."""
        self.is_lost = False
        """Whether the store has refused events: the claim is lost."""
        self._store = store
        self._claim = claim
        self._tell = tell
        self._on_close = on_close
        self._batch_s = batch_s
        self._pending_bytes = pending_bytes
        self._pause = pause
        self._last = self.floor
        self._bytes = 0
        self._storing: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._is_staged = False
        """A write of `Work` has what waits. It may end the claim, and then only its own answer says how it went."""

    def send(self, *events: Told) -> None:
        """Tell events now, and store them soon."""
        self._is_staged = False
        numbered = self._numbered(events)
        self._take(numbered)
        self.pending.extend(numbered)
        self._bytes += sum(len(event.data) for event in numbered)
        while self._bytes > self._pending_bytes:
            self._leave()
        if self._storing is None or self._storing.done():
            self._storing = asyncio.create_task(self._store_later(), name="run.publish")

    def stage(self, *events: Told, is_last: bool = False) -> tuple[Event, ...]:
        """What a write of `Work` has to store with it: what waits, and these. `is_last`: nothing follows until the run
        is claimed again. They are told when `confirm` says that they are written; nothing may be sent before."""
        self._is_staged = True
        staged = (*events, (LAST, LAST_DATA)) if is_last else events
        return (*self.pending, *self._numbered(staged))

    def confirm(self, staged: Sequence[Event]) -> None:
        """The write was made."""
        self._is_staged = False
        fresh = tuple(event for event in staged if event.id > self._last)
        self._take(fresh)
        self._stored(staged)

    def _numbered(self, events: Sequence[Told]) -> tuple[Event, ...]:
        epoch, number = self._last
        return tuple(Event(EventId(epoch, number + place), *event) for place, event in enumerate(events, start=1))

    def _take(self, events: Sequence[Event]) -> None:
        if events:
            self._last = events[-1].id
            self._tell(events)

    async def _store_later(self) -> None:
        while self.pending:
            await self._pause(self._batch_s)
            if not self._is_staged:
                with suppress(StoreAway):
                    await self.flush()

    async def flush(self) -> None:
        """Store what waits now; what is told meanwhile makes the next batch. Raises StoreAway; it waits on then."""
        async with self._turn:
            last = self._last
            while batch := [event for event in islice(self.pending, _AT_ONCE) if event.id <= last]:
                lost = await publish(self._store, self._claim, batch)
                if lost is not None and self._is_staged:
                    return
                if lost is not None:
                    self.is_lost = True
                    self.pending.clear()
                    self._bytes = 0
                    self._on_close()
                    return
                self._stored(batch)

    def _stored(self, events: Sequence[Event]) -> None:
        while self.pending and events and self.pending[0].id <= events[-1].id:
            self._leave()
        if events:
            self.floor = max(self.floor, events[-1].id)

    def _leave(self) -> None:
        event = self.pending.popleft()
        self.floor = event.id
        self._bytes -= len(event.data)

    async def close(self) -> None:
        """Tell no more. What still waits is stored if the store is there."""
        if self._storing is not None:
            await end([self._storing])
        with suppress(StoreAway):
            await self.flush()
        self._on_close()
