"""What runs use is counted once, however they end and whoever sees it.

A run is noted when it is made, before its caller hears of it, and settled at the first terminal state that any answer
or event tells of; for those that nobody looks at, `polling.py` looks. Limits and usage hang on this, so that leaving a
stream or never polling makes no tokens free, and polling twenty times counts nothing twenty times.

A request that makes a run goes on when its caller leaves, until the run is known; so does the stream that tells of it.

While the store is away, notes and settlements are kept in memory, at most 10 000 of them, and carried out in order as
soon as it is back.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from gateway.attempts import Sending
from gateway.ending import end
from gateway.errors import AttemptFailed, GatewayError
from gateway.inbound import Exchange, Exchanged
from gateway.model import Caller
from gateway.phases.read_facts import Run, Usage, read_run
from gateway.phases.relay import Reading, begin_stream, hear_run
from gateway.public_ids import PublicIds
from gateway.sse import EventTooLarge
from gateway.store.connection import StoreAway, do_each
from gateway.store.noted_runs import Ended, Entry, NotedRun, NotedRuns, Settling
from gateway.telemetry import log
from gateway.watching import Watch

T = TypeVar("T")

_LATE_LIMIT = 10_000
_OVER_LIMIT = 10_000
_RUN_LIFE_S = 600.0
"""Where the provider does not say: ten minutes after it began (OpenAI's guide to runs, 2024–2026)."""
_LONGEST_LIFE_S = 86_400.0
_LISTENING_S = 30.0
_LISTENING_BYTES = 64 * 1024
"""A run is told of in the first events of a stream."""


@dataclass(frozen=True)
class Settled:
    """A run's tokens have been counted, by this process and just now. Without `usage` nobody knows what it used.

    `status` is the provider's, or `gone` when the provider does not have the run any more, or `unseen` when its end was
    not seen. `at_s` is the moment it counts for, in seconds since 1970.
    """

    run: NotedRun
    status: str
    usage: Usage | None
    at_s: float


class Settlement:
    """Lives as long as the process. What is in `on_settled` is called for each run that this process settles, and must
    not raise. `clock` tells seconds since 1970."""

    def __init__(self, runs: NotedRuns, *, answer_bytes: int, clock: Callable[[], float] = time.time) -> None:
        """`answer_bytes` is the most that an answer, or one event, may have."""
        self.on_settled: list[Callable[[Settled], None]] = []
        self._runs = runs
        self._answer_bytes = answer_bytes
        self._clock = clock
        self._over: OrderedDict[Entry, Settling] = OrderedDict()
        """Runs of which nothing is left to do, those that were seen last; to settle one that is noted only now."""
        self._late: deque[NotedRun | Settling] = deque()
        self._flushing = asyncio.Lock()
        self._unfinished: set[asyncio.Task[Any]] = set()
        self._listening: set[asyncio.Task[Any]] = set()

    def hear(self, caller: Caller, sending: Sending, key: str, public: PublicIds) -> RunsHeard:
        """For an answer about runs. `key` is the fingerprint of the provider's key that brought it."""
        return RunsHeard(self, caller, sending, key, public, self._clock)

    async def note(self, run: NotedRun) -> None:
        """Remember a run until it is settled. Never raises: an answer must not be lost for it."""
        await self._finish(self._do(run))

    async def see(self, tenant: str, route: str, runs: Sequence[Run]) -> None:
        """Settle those of an account's runs that are over. Never raises. Costs nothing for those that are not, and for
        those that this process has seen to be over before."""
        over = {Entry(tenant, route, run.id): run for run in runs if run.is_over}
        new = [Ended(run.id, run.status, run.usage) for entry, run in over.items() if entry not in self._over]
        if new:
            await self.settle(tenant, route, new)

    async def settle(self, tenant: str, route: str, ended: Sequence[Ended]) -> None:
        """Count what runs used, of those that are still noted. Never raises."""
        settling = Settling(tenant, route, tuple(ended), secrets.token_hex(8), self._clock())
        for each in ended:
            alone = replace(settling, ended=(each,), who=secrets.token_hex(8))
            self._over[Entry(tenant, route, each.run)] = alone
        while len(self._over) > _OVER_LIMIT:
            self._over.popitem(last=False)
        await self._finish(self._do(settling))

    async def _finish(self, work: Coroutine[Any, Any, None]) -> None:
        """Wait for work that goes on even if the caller leaves meanwhile."""
        await asyncio.shield(_hold(work, self._unfinished))

    async def _do(self, work: NotedRun | Settling) -> None:
        # A run must not be settled before it is noted.
        if self._flushing.locked() or any(late.tenant == work.tenant for late in self._late):
            self._put_off(work)
            return
        try:
            await self._carry_out(work)
        except StoreAway:
            self._put_off(work)

    def _put_off(self, work: NotedRun | Settling) -> None:
        if isinstance(work, NotedRun):
            log.warning("run.late", tenant=work.tenant_name, provider=work.provider_name, upstream_id=work.run)
        self._late.append(work)
        if len(self._late) > _LATE_LIMIT:
            self._lose(self._late.popleft())

    async def _carry_out(self, work: NotedRun | Settling) -> None:
        """Raises StoreAway, and nothing else: no answer is lost for it, and nothing that comes after it."""
        try:
            if isinstance(work, NotedRun):
                await self._runs.note(work)
                # One that ended before it was noted, as a served one can: its end found nothing to settle.
                if (settling := self._over.get(work.entry)) is None:
                    return
                work = settling
            for run, ended in await self._runs.settle(work):
                self._tell(Settled(run, ended.status, ended.usage, work.at_s))
        except StoreAway:
            raise
        except Exception:
            log.exception("settlement.crashed")

    def _tell(self, settled: Settled) -> None:
        run, usage = settled.run, settled.usage
        emit = log.warning if usage is None else log.info
        emit(
            "run.settled",
            tenant=run.tenant_name,
            tenant_key=run.tenant_key,
            provider=run.provider_name,
            account=run.account_name,
            model=run.model,
            upstream_model=run.upstream_model,
            public_id=run.public_run,
            upstream_id=run.run,
            status=settled.status,
            usage_unknown=usage is None,
            prompt_tokens=usage.prompt if usage else None,
            completion_tokens=usage.completion if usage else None,
            total_tokens=usage.total if usage else None,
            duration_s=round(settled.at_s - run.noted_s, 3),
        )
        for hear in self.on_settled:
            hear(settled)

    # --- callers who leave before their run is known -----------------------------------------------------------------
    async def carry_on(self, exchange: Exchange) -> Exchanged:
        """What `exchange` gives, which makes a run. Goes on if its caller leaves meanwhile, until the run is known."""
        asking = _hold(exchange(), self._listening)
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            _hold(self._hear_answer(asking), self._listening)
            raise

    async def _hear_answer(self, asking: Awaitable[Exchanged]) -> None:
        with suppress(GatewayError, AttemptFailed, TimeoutError):
            exchanged = await asking
            if exchanged.relayed is None:
                return
            async with exchanged.relayed as answer, asyncio.timeout(_LISTENING_S):
                beginning = await begin_stream(answer, self._answer_bytes)
                if isinstance(beginning, bytes):
                    await self._hear_stream(Reading(answer, beginning, self._answer_bytes), exchanged.heard)
                elif (run := read_run(beginning)) is not None:
                    await exchanged.heard.on_run(run)

    def listen(self, reading: Reading, heard: Watch) -> None:
        """Read on until the stream tells of its run, or for half a minute. The answer is closed then."""
        _hold(self._listen(reading, heard), self._listening)

    async def _listen(self, reading: Reading, heard: Watch) -> None:
        async with reading.answer:
            await self._hear_stream(reading, heard)

    async def _hear_stream(self, reading: Reading, heard: Watch) -> None:
        with suppress(AttemptFailed, EventTooLarge, TimeoutError):
            async with asyncio.timeout(_LISTENING_S):
                await hear_run(reading, heard.on_run, _LISTENING_BYTES)

    # --- while the store is away -------------------------------------------------------------------------------------
    async def flush(self) -> None:
        """Carry out what came while the store was away, of each tenant in order. Raises StoreAway if a tenant's part
        of the store is still away."""
        async with self._flushing:
            tenants = dict.fromkeys(work.tenant for work in self._late)
            await do_each(partial(self._flush, tenant) for tenant in tenants)

    async def _flush(self, tenant: str) -> None:
        while (work := next((each for each in self._late if each.tenant == tenant), None)) is not None:
            await self._carry_out(work)
            with suppress(ValueError):  # too many came meanwhile
                self._late.remove(work)

    async def close(self) -> None:
        """Listen to nothing any more, wait for what callers left behind, and say what could not be noted. Called once,
        when no request runs any more."""
        await end(self._listening)
        await asyncio.gather(*self._unfinished, return_exceptions=True)
        while self._late:
            self._lose(self._late.popleft())

    @staticmethod
    def _lose(work: NotedRun | Settling) -> None:
        if isinstance(work, NotedRun):  # what is noted is settled by whoever looks at it
            log.error("run.lost", tenant=work.tenant_name, provider=work.provider_name, upstream_id=work.run)


class RunsHeard(Watch):
    """Hears of the runs in one answer, before its caller does."""

    def __init__(
        self,
        settlement: Settlement,
        caller: Caller,
        sending: Sending,
        key: str,
        public: PublicIds,
        clock: Callable[[], float],
    ) -> None:
        self._settlement = settlement
        self._caller = caller
        self._sending = sending
        self._key = key
        self._public = public
        self._clock = clock
        self._is_new = sending.operation.makes_run

    async def on_run(self, run: Run) -> None:
        await self.on_runs([run])

    def goes_on(self, reading: Reading) -> bool:
        if self._is_new:
            self._settlement.listen(reading, self)
        return self._is_new

    async def on_runs(self, runs: Sequence[Run]) -> None:
        """The answer told of runs. Waits for the store for one that is new, and for those that are over."""
        if self._is_new and runs:
            self._is_new = False
            await self._settlement.note(self._noted(runs[0]))
        await self._settlement.see(self._caller.tenant.id, self._sending.target.account.route, runs)

    def _noted(self, run: Run) -> NotedRun:
        tenant, now = self._caller.tenant, self._clock()
        asked = self._sending.runs_at or self._sending.target  # it is paid where the model is
        provider, account = asked.provider, asked.account
        model, upstream_model = self._models(run)
        return NotedRun(
            tenant=tenant.id,
            route=self._sending.target.account.route,
            run=run.id,
            thread=run.thread,
            tenant_name=tenant.name,
            tenant_key=self._caller.key_fingerprint,
            provider=provider.id,
            provider_name=provider.name,
            account_name=account.name,
            key=self._key,
            model=_plain(model),
            upstream_model=_plain(upstream_model),
            assistant=_plain(run.assistant or ""),
            public_run=self._public("run", run.id),
            public_thread=self._public("thread", run.thread),
            noted_s=now,
            expires_s=_expires_s(run, now),
        )

    def _models(self, run: Run) -> tuple[str, str]:
        """The run's model as callers and as the provider call it; where the run does not say, as the request did."""
        provider = self._sending.target.provider
        if run.model is not None:
            return provider.public_models.get(run.model, run.model), run.model
        asked = self._sending.model
        return asked, provider.upstream_models.get(asked, asked)


def _hold(work: Coroutine[Any, Any, T], tasks: set[asyncio.Task[Any]]) -> asyncio.Task[T]:
    task = asyncio.create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return task


def _expires_s(run: Run, now: float) -> float:
    """As the provider says, unless that cannot be."""
    if run.expires_at is not None and now - _LONGEST_LIFE_S < run.expires_at < now + _LONGEST_LIFE_S:
        return float(run.expires_at)
    return now + _RUN_LIFE_S


def _plain(text: str) -> str:
    """Such that the store takes it: providers and callers may say what UTF-8 cannot."""
    return text[:256].encode("utf-8", "replace").decode()
