"""What this process hears of one run, for all who listen here."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from gateway.engine.store.events import START, Event, EventId
from gateway.engine.store.publisher import Publisher
from gateway.store.connection import StoreAway

QUEUE_LIMIT = 1000


class Queue:
    """Events that one subscriber has not taken yet. One that is too slow loses all of them and is told that it is
    `behind`: what it missed is in the store."""

    def __init__(self, limit: int) -> None:
        self.is_behind = False
        self._limit = limit
        self._events: deque[Event] = deque()
        self._is_over = False
        self._error: Exception | None = None
        self._stirred = asyncio.Event()

    def put(self, event: Event) -> None:
        if len(self._events) >= self._limit:
            self.is_behind = True
            self._events.clear()
        if not self.is_behind:
            self._events.append(event)
        self._stirred.set()

    def end(self, error: Exception | None = None) -> None:
        """No more will come."""
        self._is_over, self._error = True, error
        self._stirred.set()

    async def next(self) -> Event | None:
        """None when it is behind, or nothing more will come. Raises what it was ended with."""
        while not self._events:
            if self.is_behind:
                return None
            if self._is_over:
                if self._error is not None:
                    raise self._error
                return None
            self._stirred.clear()
            await self._stirred.wait()
        return self._events.popleft()


class Feed:
    """Who listens, and where it comes from: a publisher of this process, or a reader of the stream. Never both, for
    neither knows what the other has told already."""

    def __init__(self) -> None:
        self.queues: set[Queue] = set()
        self.publisher: Publisher | None = None
        self.reader: asyncio.Task[None] | None = None
        self.last = START
        """The last event told."""
        self.was_last = False
        """Whether that one ended the stream."""
        self.heard_s = 0.0
        """When the reader last reached the store, by the event loop's clock."""
        self._begun: asyncio.Future[None] | None = None

    @property
    def is_idle(self) -> bool:
        """Whether nobody listens, and nothing is told."""
        return not self.queues and self.publisher is None

    def tell(self, events: Sequence[Event]) -> None:
        for event in events:
            if event.id > self.last:
                self.last, self.was_last = event.id, event.is_last
                for queue in self.queues:
                    queue.put(event)

    def end(self, error: Exception | None = None) -> None:
        """No more will come."""
        for queue in self.queues:
            queue.end(error)

    def expect(self) -> None:
        """A reader is about to find out where it begins."""
        loop = asyncio.get_running_loop()
        self.heard_s = loop.time()
        self._begun = loop.create_future()

    def begin(self, floor: EventId | StoreAway) -> None:
        """The reader begins after this event, or could not find out."""
        if self._begun is None or self._begun.done():
            self._begun = asyncio.get_running_loop().create_future()
        if isinstance(floor, EventId):
            self.last = max(self.last, floor)
            self._begun.set_result(None)
        else:
            self._begun.set_exception(floor)
            self._begun.exception()  # perhaps nobody waits for it

    async def place(self) -> tuple[EventId, Sequence[Event]]:
        """Up to which event a new queue looks into the store, and what it was not told since. Raises StoreAway."""
        if self.publisher is not None:
            return self.publisher.floor, tuple(self.publisher.pending)
        assert self._begun is not None
        await asyncio.shield(self._begun)
        # Not where the reader began: it may have told the others more since.
        return self.last, ()
