"""Listening to a run: from any event on, on any replica, each event once and in order.

A subscriber first stands where new events come by, then reads from the store what it missed, and drops what comes
twice. Events of runs that this process works on come straight from the publisher; of others one reader for each run
asks the store, however many listen.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

from redis.asyncio import Redis
from redis.client import NEVER_DECODE

from gateway.ending import end
from gateway.engine.store.documents import decode
from gateway.engine.store.events import START, Event, EventId, EventsGone, as_event, read_stored
from gateway.engine.store.feeds import QUEUE_LIMIT, Feed, Queue
from gateway.engine.store.keys import events_key, thread_key
from gateway.engine.store.publisher import BATCH_S, PENDING_BYTES, Publisher
from gateway.engine.store.results import Claim
from gateway.engine.store.scripts import read_fields
from gateway.store.connection import FAULTS, Store, StoreAway

_BLOCK_MS = 200
"""Shorter than any timeout of the connection."""
_AT_ONCE = 256
_REOPEN_S = 0.5
_AWAY_S = 30.0
"""A reader that cannot reach the store for so long gives up."""

_Run = tuple[str, str]
"""Thread and run."""


class RunEvents:
    """Publishers and subscribers of this process. `close` after all publishers, and before the store's."""

    def __init__(
        self,
        store: Store,
        *,
        queue_limit: int = QUEUE_LIMIT,
        batch_s: float = BATCH_S,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._queue_limit = queue_limit
        self._batch_s = batch_s
        self._pause = pause
        self._feeds: dict[_Run, Feed] = {}

    def publish(self, claim: Claim) -> Publisher:
        """Where the holder of a claim tells its events."""
        of = claim.thread, claim.run
        feed = self._feeds.setdefault(of, Feed())

        def close() -> None:
            if feed.publisher is publisher:
                self._go_on_without(of, feed)

        def tell(events: Sequence[Event]) -> None:
            if feed.publisher is publisher:
                feed.tell(events)

        publisher = Publisher(
            self._store,
            claim,
            tell=tell,
            on_close=close,
            batch_s=self._batch_s,
            pending_bytes=PENDING_BYTES,
            pause=self._pause,
        )
        if feed.is_idle:
            feed.publisher, feed.last = publisher, publisher.floor
        elif feed.publisher is not None:
            # One that has lost its claim and does not know it yet. Others may have told something in between.
            self._go_on_without(of, feed)
        return publisher

    def _go_on_without(self, of: _Run, feed: Feed) -> None:
        """The publisher tells no more: who still listens hears from the store whatever comes after it."""
        feed.publisher = None
        if feed.was_last:
            feed.end()
        elif feed.queues:
            self._start_reader(of, feed, feed.last)
        self._drop_idle(of, feed)

    async def subscribe(self, thread: str, run: str, after: EventId = START) -> AsyncGenerator[Event, None]:
        """Events after one of them, until the run ended or waits for tool outputs. Use it with `contextlib.aclosing`.
        The holder of a claim that subscribes after `EventId(claim.epoch, 0)` needs no store for it.

        Raises EventsGone when the next one is not kept any more, and StoreAway.
        """
        of, last = (thread, run), after
        if of not in self._feeds:
            # Most that ask for an old event ask after the run has ended: no reader for them. Whether it has is asked
            # first, or the end would be missed that comes in between.
            may_come = await self._may_come(thread, run)
            async for event in read_stored(self._store, thread, run, last):
                last = _checked(last, event)
                yield event
                if event.is_last:
                    return
            if not may_come:
                return
        while True:
            with self._listening(of) as (feed, queue):
                floor, untold = await feed.place()
                if last < floor:
                    async for event in read_stored(self._store, thread, run, last):
                        last = _checked(last, event)
                        yield event
                        if event.is_last:
                            return
                for event in untold:
                    if event.id > last:
                        last = _checked(last, event)
                        yield event
                while (live := await queue.next()) is not None:
                    if live.id > last:
                        last = _checked(last, live)
                        yield live
                        if live.is_last:
                            return
                if not queue.is_behind:
                    return

    async def has_told(self, thread: str, run: str) -> bool:
        """Whether anything can be heard of a run: what it told is still kept, or it works and is about to tell it, as
        its `is_streamed` says. Raises StoreAway."""
        key = thread_key(self._store, thread, "a")
        at_work, *said = await read_fields(self._store, key, ("run", "context", "outputs"))
        if at_work == run.encode() and any(decode(each).get("is_streamed") for each in said if each is not None):
            return True
        return bool(await self._store.run(lambda redis: redis.exists(events_key(self._store, thread, run))))

    async def _may_come(self, thread: str, run: str) -> bool:
        """Whether the run is in work. Raises EventsGone when it is not and nothing is left of what it told."""
        if await self._is_active(thread, run):
            return True
        if not await self._store.run(lambda redis: redis.exists(events_key(self._store, thread, run))):
            raise EventsGone
        return False

    async def _is_active(self, thread: str, run: str) -> bool:
        key = thread_key(self._store, thread, "a")
        return bool(await self._store.run(lambda redis: redis.hget(key, "run")) == run)

    @contextmanager
    def _listening(self, of: _Run) -> Iterator[tuple[Feed, Queue]]:
        feed = self._feeds.setdefault(of, Feed())
        queue = Queue(self._queue_limit)
        if feed.publisher is None and (feed.reader is None or feed.reader.done()):
            self._start_reader(of, feed, None)
        feed.queues.add(queue)
        try:
            yield feed, queue
        finally:
            feed.queues.discard(queue)
            self._drop_idle(of, feed)

    def _drop_idle(self, of: _Run, feed: Feed) -> None:
        if feed.is_idle and self._feeds.get(of) is feed:
            del self._feeds[of]
            if feed.reader is not None:
                feed.reader.cancel()

    # --- reading what other replicas tell ----------------------------------------------------------------------------
    def _start_reader(self, of: _Run, feed: Feed, position: EventId | None) -> None:
        feed.expect()
        feed.reader = asyncio.create_task(self._read(of, feed, position), name="run.read")

    async def _read(self, of: _Run, feed: Feed, position: EventId | None) -> None:
        # However this ends, nobody listens on to nothing.
        error: Exception | None = StoreAway("the reader failed")
        try:
            error = await self._read_on(of, feed, position)
        finally:
            feed.end(error)

    async def _read_on(self, of: _Run, feed: Feed, position: EventId | None) -> StoreAway | None:
        """Tell what is stored until the run has ended, or the store was away for too long: then that is returned."""
        loop = asyncio.get_running_loop()
        away = StoreAway("the store is away")
        while loop.time() - feed.heard_s < _AWAY_S:
            try:
                if position is None:
                    position = await self._newest(of)
                feed.begin(position)
                await self._follow(of, feed, position)
                return None
            except (*FAULTS, StoreAway) as exc:
                away = exc if isinstance(exc, StoreAway) else StoreAway(type(exc).__name__)
                feed.begin(away)
                position = feed.last if position is not None else None
                await self._pause(_REOPEN_S)
        return away

    async def _newest(self, of: _Run) -> EventId:
        newest = await self._store.run(lambda redis: redis.xrevrange(events_key(self._store, *of), count=1))
        return (EventId.parse(str(newest[0][0])) or START) if newest else START

    async def _follow(self, of: _Run, feed: Feed, position: EventId) -> None:
        """Tell what is stored after a position, until the run has ended. Raises FAULTS and StoreAway."""
        redis = self._store.subscriber(events_key(self._store, *of))
        try:
            while True:
                # Asked before the stream is: what was told before the end is not missed.
                is_active = await self._is_active(*of)
                events = await _wait_for_events(redis, events_key(self._store, *of), position)
                feed.heard_s = asyncio.get_running_loop().time()
                feed.tell(events)
                position = events[-1].id if events else position
                if not events and not is_active:
                    return
        finally:
            await redis.aclose()
            await redis.connection_pool.disconnect()

    async def close(self) -> None:
        """Tell nobody any more."""
        feeds, self._feeds = self._feeds, {}
        await end(feed.reader for feed in feeds.values() if feed.reader is not None)
        for feed in feeds.values():
            feed.begin(StoreAway("closed"))
            feed.end(StoreAway("closed"))


async def _wait_for_events(redis: Redis, key: str, after: EventId) -> list[Event]:
    found = await redis.execute_command(  # type: ignore[no-untyped-call]
        "XREAD", "COUNT", _AT_ONCE, "BLOCK", _BLOCK_MS, "STREAMS", key, str(after), **{NEVER_DECODE: True}
    )
    return [as_event(entry) for entry in found[0][1]] if found else []


def _checked(last: EventId, event: Event) -> EventId:
    """The id of the event, which must follow the last. Raises EventsGone."""
    if not event.id.is_next(last):
        raise EventsGone
    return event.id
