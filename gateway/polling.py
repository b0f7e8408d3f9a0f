"""Runs that nobody looks at are looked at by the gateway, until they are over.

All replicas share one index of when to look at which run; what one takes, another does not take for two minutes. A run
is looked at 20 s after it was made, then each time when it is twice as old, at most every five minutes. One that is not
over 15 minutes after it must have expired is settled as unknown, and so is one that the provider does not have.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from gateway.attempts import Send, Sending
from gateway.ending import end
from gateway.errors import GatewayError
from gateway.model import Directory, Target
from gateway.operations import BY_NAME
from gateway.phases.ask import own_read
from gateway.phases.read_facts import Run, read_run
from gateway.phases.receive import Body
from gateway.phases.rewrite_out import path_of
from gateway.protocols import SAME
from gateway.settlement import Settlement
from gateway.store.connection import StoreAway
from gateway.store.noted_runs import FIRST_LOOK_S, REMEMBERED_S, Ended, Entry, NotedRun, NotedRuns
from gateway.store.switches import Switches
from gateway.telemetry import Record, log

_LOOK_S = 5.0
_TAKEN = 32
_AT_ONCE = 8
_TAKEN_FOR_S = 120.0
"""Longer than it takes to ask for all that is taken: `_TAKEN / _AT_ONCE` times `_PATIENCE_S`."""
_PATIENCE_S = 15.0
_LONGEST_PAUSE_S = 300.0
_GRACE_S = 900.0
_DISABLED_S = 86_400.0
"""How long the runs of a provider that a person has disabled wait for it."""
_GET = BY_NAME["get_run"]


class Polling:
    """`start`, then `close`. `clock` tells seconds since 1970, `pause` is what waits between two looks."""

    def __init__(
        self,
        runs: NotedRuns,
        settlement: Settlement,
        send: Send,
        *,
        directory: Directory,
        switches: Switches,
        clock: Callable[[], float] = time.time,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._runs = runs
        self._settlement = settlement
        self._send = send
        self._directory = directory
        self._switches = switches
        self._clock = clock
        self._pause = pause
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._running: asyncio.Task[None] | None = None
        self._asking: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        self._running = asyncio.create_task(self._run(), name="polling")

    async def close(self) -> None:
        if self._running is not None:
            await end([self._running])
        await end(list(self._asking))

    async def _run(self) -> None:
        while True:
            await self._pause(_LOOK_S)
            with suppress(StoreAway):
                await self._settlement.flush()
                while await self.look() == _TAKEN:
                    pass

    async def look(self) -> int:
        """Look at runs that are due, a few at a time. How many there were. Raises StoreAway."""
        now = self._clock()
        entries = await self._runs.take(now, again_s=now + _TAKEN_FOR_S, count=_TAKEN)
        tasks = {asyncio.create_task(self._in_turn(entry)) for entry in entries}
        self._asking |= tasks
        try:
            if tasks:
                await asyncio.wait(tasks)
        finally:
            self._asking -= {task for task in tasks if task.done()}
        return len(entries)

    async def _in_turn(self, entry: Entry) -> None:
        async with self._turns:
            try:
                await self._look_at(entry)
            except StoreAway:
                return  # it is due again soon
            except Exception:
                log.exception("polling.crashed", tenant_id=entry.tenant, upstream_id=entry.run)

    async def _look_at(self, entry: Entry) -> None:
        noted, now = await self._runs.read(entry), self._clock()
        if noted is None or (isinstance(noted, float) and now >= noted + REMEMBERED_S):
            await self._runs.forget(entry)
        elif isinstance(noted, float):
            await self._runs.postpone(entry, noted + REMEMBERED_S)
        elif (ended := await self._ended(noted)) is not None:
            await self._settlement.settle(noted.tenant, noted.route, [ended])
        else:
            await self._runs.postpone(entry, self._clock() + _pause_s(noted, self._clock()))

    async def _ended(self, noted: NotedRun) -> Ended | None:
        """How the run ended, None if somebody has to look again."""
        grace_s = _GRACE_S
        target = self._directory.targets.get(noted.route)  # none: a reload has removed it, another may bring it back
        if target is not None and self._switches.reason_of("provider", target.provider.id) is not None:
            grace_s = _DISABLED_S
        elif target is not None:
            seen = await self._ask(target, noted)
            if isinstance(seen, Ended):
                return seen
            if seen is not None and seen.is_over:
                return Ended(noted.run, seen.status, seen.usage)
        return Ended(noted.run, "unseen", None) if self._clock() >= noted.expires_s + grace_s else None

    async def _ask(self, target: Target, noted: NotedRun) -> Run | Ended | None:
        """The run as the provider has it, or that it is gone; None for no answer that tells."""
        ids = {"thread": noted.thread, "run": noted.run}
        path = path_of(_GET, ids)
        deadline = asyncio.get_running_loop().time() + _PATIENCE_S
        sending = Sending(_GET, target, ids, own_read(target, path), Body(), b"", SAME, deadline)
        try:
            response = await self._send(sending, Record("", "GET", path))
        except GatewayError:
            return None
        if response.status == 404:
            return Ended(noted.run, "gone", None)
        return read_run(response.document) if response.is_success else None


def _pause_s(noted: NotedRun, now: float) -> float:
    """As long as the run has lived: then it is looked at when it is twice as old."""
    return min(_LONGEST_PAUSE_S, max(FIRST_LOOK_S, now - noted.noted_s))
