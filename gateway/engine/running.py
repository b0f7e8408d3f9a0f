"""The runs that this process works on, and those whose process is gone.

The replica that took the call runs it. Each holds a lease that is renewed every second; whoever finds one overdue takes
the run over from what is stored. Runs of which nobody hears an end are ended when their time is over, by whoever finds
them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from gateway.auditing import Auditing, NoAuditing
from gateway.ending import end
from gateway.engine.asking import Asking
from gateway.engine.committing import ClaimLost
from gateway.engine.job import Job
from gateway.engine.models.generation import Json
from gateway.engine.store.leases import Expired, Taken
from gateway.engine.store.results import Absent, Lost
from gateway.engine.store.stored import Stored
from gateway.engine.vector_stores import VectorStores
from gateway.engine.working import Working
from gateway.model import Directory
from gateway.phases.read_facts import Run, read_run
from gateway.store.connection import StoreAway
from gateway.telemetry import log

_RENEW_S = 1.0
"""A run that another replica was asked to cancel hears of it so soon."""
_SWEEP_S = 1.0
_FORGET_S = 600.0
"""Threads that nobody uses, and traces of deleted ones, are looked at so often."""
_TAKEN_AT_ONCE = 20
_HAND_OVER_S = 2.0

OnEnded = Callable[[str, str, Run], Awaitable[None]]
"""Tenant's id, route and run, `gone` if its thread was deleted; waits as it likes and must not raise."""


class Running:
    """`start`, then `drain` and `close`. `clock` tells seconds since 1970."""

    def __init__(
        self,
        stored: Stored,
        asking: Asking,
        stores: VectorStores,
        directory: Directory,
        on_ended: OnEnded,
        *,
        at_once: int,
        auditing: Auditing | NoAuditing,
        keep_unused_s: float | None = None,
        clock: Callable[[], float] = time.time,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`at_once` is how many runs are worked on at one time; the others wait in the order in which they came.
        Threads that were not used for `keep_unused_s` are deleted; None: none is too old."""
        self._stored = stored
        self._asking = asking
        self._stores = stores
        self._directory = directory
        self._on_ended = on_ended
        self._auditing = auditing
        self._keep_unused_s = keep_unused_s
        self._clock = clock
        self._pause = pause
        self._turns = asyncio.Semaphore(at_once)
        self._working: dict[str, Working] = {}
        """By run."""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._upkeep: list[asyncio.Task[None]] = []
        self._is_draining = False

    def start(self) -> None:
        """Look after runs, of this process and of others. The first run begins it too."""
        self._upkeep = self._upkeep or [
            asyncio.create_task(self._keep_leases(), name="run.leases"),
            asyncio.create_task(self._keep_sweeping(), name="run.sweep"),
            asyncio.create_task(self._keep_forgetting(), name="run.traces"),
        ]

    def begin(self, job: Job) -> None:
        """Work on a run that this process has just claimed. What it tells can be heard from now on."""
        self.start()
        publisher = self._stored.events.publish(job.claim) if job.is_streamed else None
        working = Working(
            job,
            stored=self._stored,
            publisher=publisher,
            asking=self._asking,
            stores=self._stores,
            auditing=self._auditing,
            target=self._directory.targets.get(job.context["runs_at"]),
            clock=self._clock,
            pause=self._pause,
        )

        async def close() -> None:
            if publisher is not None:
                await publisher.close()

        run = job.claim.run
        self._working[run] = working
        task = self._tasks[run] = asyncio.create_task(self._carry_out(working, close), name="run.work")
        task.add_done_callback(lambda done: self._forget(run, done))

    def _forget(self, run: str, done: asyncio.Task[None]) -> None:
        if self._tasks.get(run) is done:
            del self._tasks[run], self._working[run]

    def cancel(self, run: str) -> None:
        """If it is worked on here it ends at once; where it is, within a second."""
        if (working := self._working.get(run)) is not None:
            working.stop("cancelled")

    async def _carry_out(self, working: Working, close: Callable[[], Awaitable[None]]) -> None:
        claim = working.job.claim
        try:
            async with self._turns:
                await self._work(working)
            if working.ended is not None:
                await self._tell_end(working.job.context, working.ended)
        except ClaimLost:
            await self._tell_if_gone(working)
        except StoreAway:
            pass  # others will have it
        finally:
            await close()
            if claim in self._stored.leases.held:
                with suppress(StoreAway):
                    await self._stored.leases.hand_over(claim, now=self._clock())
                    log.info("run.handed_over", upstream_id=claim.run)
                self._stored.leases.drop(claim)

    async def _work(self, working: Working) -> None:
        try:
            await working()
        except (ClaimLost, StoreAway):
            raise
        except Exception:
            log.exception("run.crashed", upstream_id=working.job.claim.run)
            await working.fail("the gateway failed; its log tells more")

    async def _tell_if_gone(self, working: Working) -> None:
        """Others have the run, or its thread was deleted."""
        claim = working.job.claim
        with suppress(StoreAway):
            if isinstance(await self._stored.threads.get(claim.thread), Absent):
                await self.tell_gone(working.job.context, claim.thread, claim.run, working.used)

    async def tell_gone(self, context: Json, thread: str, run: str, used: Json | None) -> None:
        """A run's thread was deleted before it ended: what it has used counts all the same."""
        await self._tell_end(context, {"id": run, "thread_id": thread, "status": "gone", "usage": used})

    async def _tell_end(self, context: Json, ended: Json) -> None:
        if (run := read_run(ended)) is not None:
            await self._on_ended(context["tenant"], context["route"], run)

    # --- upkeep ------------------------------------------------------------------------------------------------------
    async def _keep_leases(self) -> None:
        while True:
            await self._pause(_RENEW_S)
            try:
                await self.renew()
            except StoreAway:
                continue
            except Exception:
                log.exception("serving.crashed")

    async def renew(self) -> None:
        """Prolong what is worked on here, and hear what became of it elsewhere. Raises StoreAway."""
        for claim, result in (await self._stored.leases.renew(now=self._clock())).items():
            working = self._working.get(claim.run)
            if working is None or working.job.claim != claim:
                continue
            if isinstance(result, Lost):
                working.lose()
            elif result.status == "cancelling":
                working.stop("cancelled")

    async def _keep_sweeping(self) -> None:
        while not self._is_draining:
            await self._pause(_SWEEP_S)
            try:
                while await self.sweep() == _TAKEN_AT_ONCE:
                    pass
            except StoreAway:
                # When it is back, those who hold overdue leases renew them first.
                await self._pause(3 * _RENEW_S)
            except Exception:
                log.exception("serving.crashed")

    async def sweep(self) -> int:
        """Take over what is overdue. How much there was. Raises StoreAway."""
        found = await self._stored.leases.sweep(now=self._clock(), limit=_TAKEN_AT_ONCE)
        # First what is held here from now on: whatever the store does, somebody works on it.
        for each in found:
            if isinstance(each, Taken):
                self._take_over(each)
        for each in found:
            if isinstance(each, Expired):
                await self._note_expired(each)
        return len(found)

    def _take_over(self, taken: Taken) -> None:
        claim, submitted = taken.claim, taken.outputs or {}
        log.warning("run.taken_over", upstream_id=claim.run, takeovers=taken.takeovers)
        self.begin(
            Job(
                claim,
                taken.context,
                outputs=submitted.get("tool_outputs"),
                is_streamed=bool(submitted.get("is_streamed", taken.context.get("is_streamed"))),
                shows_contents=bool(submitted.get("shows_contents", taken.context.get("shows_contents"))),
                request_id=submitted.get("request_id"),
                takeovers=taken.takeovers,
                interrupted_messages=taken.interrupted_messages,
                interrupted_steps=taken.interrupted_steps,
            )
        )

    async def _note_expired(self, expired: Expired) -> None:
        """Never raises: a run that cannot be read now is settled by who polls for it."""
        with suppress(StoreAway):
            run = await self._stored.runs.get(expired.thread, expired.run)
            if not isinstance(run, Absent) and "tenant" in expired.context:
                await self._tell_end(expired.context, run)

    async def _keep_forgetting(self) -> None:
        while True:
            await self._pause(_FORGET_S)
            try:
                await self.forget()
            except StoreAway:
                continue
            except Exception:
                log.exception("serving.crashed")

    async def forget(self) -> None:
        """Delete threads that nobody has used for long, and what is left of deleted ones. Raises StoreAway."""
        while deleted := await self._stored.retention.sweep(now=self._clock(), keep_s=self._keep_unused_s):
            log.info("threads.forgotten", count=len(deleted))

    # --- the end -----------------------------------------------------------------------------------------------------
    async def drain(self, grace_s: float) -> None:
        """Take over nothing more, and let what is worked on end for so long; what is left is handed over."""
        self._is_draining = True
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=grace_s)

    async def close(self) -> None:
        """Hand over what is left. Called once, when no request runs any more."""
        self._is_draining = True
        await end(self._upkeep[1:])
        for task in self._tasks.values():
            task.cancel()
        if self._tasks:  # each hands its run over
            await asyncio.wait(self._tasks.values(), timeout=_HAND_OVER_S)
        await end([*self._tasks.values(), *self._upkeep])
        await self._stored.events.close()
