"""The writes of one claim and the events that tell of them, in their order.

While the store is away writes are tried again until the run's time is over. Nothing is told of an object before it is
stored, and no end before it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from gateway import codec
from gateway.engine.models.generation import Json
from gateway.engine.store.endings import Ending
from gateway.engine.store.events import Event
from gateway.engine.store.publisher import Publisher, Told
from gateway.engine.store.results import Claim, Lost, Written
from gateway.engine.store.work import Work
from gateway.engine.writing import Written as Noted
from gateway.store.connection import StoreAway

T = TypeVar("T")

Stop = Literal["cancelled", "expired"]

_AGAIN_S = 0.25
"""Between two tries to write while the store is away."""
_LATE_S = 60.0
"""So long after the run's time writes are still tried: until then nobody can tell its caller how it ended."""


class ClaimLost(Exception):
    """Another replica has the run, or it has ended, or its thread is gone: there is nothing more to do."""


@dataclass
class Orders:
    """What who works on a run is told from outside."""

    stop: Stop | None = None
    """The run is to end now. What it has begun is kept."""
    is_lost: bool = False
    """The claim is lost."""
    stirred: asyncio.Event = field(default_factory=asyncio.Event)
    """Set with each order."""

    def stop_for(self, why: Stop) -> None:
        """The first reason counts."""
        if self.stop is None:
            self.stop = why
            self.stirred.set()

    def lose(self) -> None:
        self.is_lost = True
        self.stirred.set()


class Committing:
    """For one claim. `publisher` is None for a run of which nobody asked for a stream. What writes raises ClaimLost,
    and StoreAway when the store stayed away until long after the run's time; what it hears of the run goes to `orders`.
    `clock` tells seconds since 1970."""

    def __init__(
        self,
        claim: Claim,
        work: Work,
        publisher: Publisher | None,
        orders: Orders,
        *,
        clock: Callable[[], float],
        pause: Callable[[float], Awaitable[None]],
    ) -> None:
        self._claim = claim
        self._work = work
        self._publisher = publisher
        self._orders = orders
        self._clock = clock
        self._pause = pause

    # --- telling -----------------------------------------------------------------------------------------------------
    def tell(self, name: str, data: Json) -> None:
        """Of what is stored, or need not be."""
        self.publish([told(name, data)])

    def publish(self, events: Sequence[Told]) -> None:
        if self._publisher is not None and events:
            self._publisher.send(*events)
            if self._publisher.is_lost:
                self._orders.lose()

    # --- writing -----------------------------------------------------------------------------------------------------
    async def start(self, now: int) -> None:
        await self._write(lambda: self._work.start(self._claim, now=now))

    async def begin(self, noted: Noted) -> None:
        """What begins is written, and then told."""
        if noted.changes:
            await self._write(lambda: self._work.write(self._claim, *noted.changes))
        self.publish(noted.told)

    async def commit(self, noted: Noted, used: Json | None = None) -> None:
        """What ends, with the events that tell of it: who takes over has no need to tell them. `used` is what the run
        has used, where a generation has ended."""
        staged = self._stage(noted.told)
        await self._write(lambda: self._work.write(self._claim, *noted.changes, usage=used, events=staged))
        self._confirm(staged)

    async def wait(self, calls: Sequence[Json], noted: Noted, *, used: Json | None) -> bool:
        """The run waits for the outputs of calls. Whether it does: nothing is written, nor told, where it is being
        cancelled."""
        staged = self._stage(noted.told, is_last=True)
        result = await self._write(
            lambda: self._work.require_action(self._claim, calls, *noted.changes, usage=used, events=staged)
        )
        if result.status != "requires_action":
            return False
        self._confirm(staged)
        return True

    async def end(self, ending: Ending, noted: Noted) -> None:
        staged = self._stage(noted.told, is_last=True)
        await self._write(lambda: self._work.finish(self._claim, ending, *noted.changes, events=staged))
        self._confirm(staged)

    def _stage(self, events: Sequence[Told], *, is_last: bool = False) -> tuple[Event, ...]:
        return self._publisher.stage(*events, is_last=is_last) if self._publisher is not None else ()

    def _confirm(self, staged: Sequence[Event]) -> None:
        if self._publisher is not None:
            self._publisher.confirm(staged)

    async def _write(self, write: Callable[[], Awaitable[Written | Lost]]) -> Written:
        result = await self.late(write)
        if isinstance(result, Lost):
            raise ClaimLost
        if result.status == "cancelling":
            self._orders.stop_for("cancelled")
        return result

    async def late(self, work: Callable[[], Awaitable[T]]) -> T:
        """Carry out what needs the store, as often as it takes."""
        while True:
            try:
                return await work()
            except StoreAway:
                if self._clock() > self._claim.expires_at + _LATE_S:
                    raise
            if self._orders.is_lost:
                raise ClaimLost
            await self._pause(_AGAIN_S)


def told(name: str, data: Json) -> Told:
    return name, codec.dumps(data)
