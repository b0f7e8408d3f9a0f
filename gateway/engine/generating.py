"""One generation of a run: a model is asked and listened to, and what it says is written down and told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing

from gateway.ending import end
from gateway.engine.asking import Asking
from gateway.engine.committing import ClaimLost, Committing, Orders
from gateway.engine.models.generation import Delta, Failure, Finish, Generation, Usage
from gateway.engine.store.results import Claim
from gateway.engine.writing import Writing
from gateway.engine.writing import Written as Noted
from gateway.model import Target
from gateway.telemetry import Record, log

Before = Callable[[bytes], Awaitable[None]]
"""Is told what a model will be asked, and raises GatewayError where it must not be."""

_REST_S = 0.1
"""How long the rest of an answer may take whose model has said why it ended."""


class Generating:
    """Call it once, and `close` it. What the model says goes into `writing`, how it went into `record`."""

    def __init__(
        self,
        claim: Claim,
        target: Target,
        generation: Generation,
        writing: Writing,
        record: Record,
        *,
        asking: Asking,
        committing: Committing,
        orders: Orders,
        patience_s: float,
    ) -> None:
        self._claim = claim
        self._target = target
        self._generation = generation
        self._writing = writing
        self._record = record
        self._asking = asking
        self._committing = committing
        self._orders = orders
        self._patience_s = patience_s
        self._listening: asyncio.Task[None] | None = None
        self._deltas: list[Delta] = []
        """What the model said and was not read yet."""
        self._noted = Noted()
        """What was read already, and has to be written before it is told."""
        self._is_awaited = False
        """Nothing is being written: whoever hears may read."""

    async def __call__(self, before: Before) -> None:
        """Until the model has ended or the run is to stop. Raises as Committing does."""
        self._listening = asyncio.create_task(self._listen(before), name="run.listen")
        try:
            while self._writing.end is None and self._orders.stop is None:
                await self._commit(await self._next())
        finally:
            if self._writing.end is None:  # else it ends by itself, when the answer does
                await end([self._listening])
            # What was used was used, though nobody listens to the rest any more.
            self._writing.take([delta for delta in self._deltas if isinstance(delta, Usage)])
            self._deltas = []
            self._note()

    async def close(self) -> None:
        """A model that has ended was read to the end of its answer, so that the connection can be used again: that is
        waited for, for a moment."""
        if self._listening is not None and not self._listening.done():
            try:
                await asyncio.wait([self._listening], timeout=_REST_S)
            finally:
                await end([self._listening])

    async def _next(self) -> Noted:
        """What is to be written, and told then. Raises ClaimLost."""
        self._is_awaited = True
        await self._orders.stirred.wait()
        self._is_awaited = False
        self._orders.stirred.clear()
        if self._orders.is_lost:
            raise ClaimLost
        before, then = self._noted, self._writing.take(self._deltas)
        self._noted, self._deltas = Noted(), []
        return Noted([*before.changes, *then.changes], [*before.told, *then.told])

    async def _commit(self, noted: Noted) -> None:
        if any(change.act == "commit" for change in noted.changes):
            await self._committing.commit(noted)
        else:
            await self._committing.begin(noted)

    async def _listen(self, before: Before) -> None:
        is_whole = False
        try:
            asking = self._asking(
                self._target,
                self._generation,
                self._record,
                before=before,
                unheard=lambda usage: self._hear([usage]),
                thread=self._claim.thread,
                patience_s=self._patience_s,
            )
            async with aclosing(asking) as said:
                async for deltas in said:
                    self._record.first_byte()
                    is_whole = isinstance(deltas[-1], Finish | Failure)
                    self._hear(deltas)
        except Exception:
            log.exception("generation.crashed", upstream_id=self._claim.run)
        if not is_whole:
            self._hear([Failure("server_error", "the gateway failed while it asked the model")])

    def _hear(self, deltas: Sequence[Delta]) -> None:
        """What begins nothing and ends nothing is told from here: most deltas are so, and no task is woken for them."""
        if not self._is_awaited or self._orders.stirred.is_set():
            self._deltas += deltas
        else:
            noted = self._writing.take(deltas)
            if not noted.changes and self._writing.end is None:
                self._committing.publish(noted.told)
                return
            self._noted = noted
        self._orders.stirred.set()

    def _note(self) -> None:
        """The line of one call of a model, and what the trail has to say of it."""
        record, ended, attempts = self._record, self._writing.end, self._record.attempts
        record.note(usage=self._writing.usage, status=attempts[-1].get("status") if attempts else None)
        match ended:
            case Finish(reason):
                record.note(outcome="done", finish_reason=reason)
            case Failure(code):
                record.note(outcome="failed", error_code=code, error=ended.message)
            case None:
                record.note(outcome="stopped" if self._orders.stop is not None else "broken_off")
        emit = log.warning if isinstance(ended, Failure) else log.info
        emit("generation.done", **record.shown(), attempts=attempts, duration_s=record.elapsed_s())
