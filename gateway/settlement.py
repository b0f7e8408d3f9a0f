"""What runs use is counted once, however they end and whoever sees it.

A run is noted when it is made, before its caller hears of it, and settled at the first terminal state that any answer
or event tells of; for those that nobody looks at, `polling.py` looks. Limits and usage hang on this, so that leaving a
stream or never polling makes no tokens free, and polling twenty times counts nothing twenty times.

While the store is away both are kept in memory, at most 10 000 of them, and carried out in order as soon as it is back.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.attempts import Sending
from gateway.model import Caller
from gateway.phases.read_facts import Run, Usage
from gateway.public_ids import PublicIds
from gateway.store.connection import StoreAway
from gateway.store.noted_runs import Ended, Entry, NotedRun, NotedRuns, Settling
from gateway.telemetry import log
from gateway.watching import Watch

_LATE_LIMIT = 10_000
_OVER_LIMIT = 10_000
_RUN_LIFE_S = 600.0
"""Where the provider does not say: ten minutes after it began (OpenAI's guide to runs, 2024–2026)."""
_LONGEST_LIFE_S = 86_400.0
_CREATING = frozenset({"create_run", "create_thread_and_run"})


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

    def __init__(self, runs: NotedRuns, *, clock: Callable[[], float] = time.time) -> None:
        self.on_settled: list[Callable[[Settled], None]] = []
        self._runs = runs
        self._clock = clock
        self._over: OrderedDict[Entry, None] = OrderedDict()
        """Runs of which nothing is left to do, those that were seen last."""
        self._late: deque[NotedRun | Settling] = deque()
        self._flushing = asyncio.Lock()
        self._unfinished: set[asyncio.Task[None]] = set()

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
            for entry in over:
                self._over[entry] = None
            while len(self._over) > _OVER_LIMIT:
                self._over.popitem(last=False)
            await self.settle(tenant, route, new)

    async def settle(self, tenant: str, route: str, ended: Sequence[Ended]) -> None:
        """Count what runs used, of those that are still noted. Never raises."""
        await self._finish(self._do(Settling(tenant, route, tuple(ended), secrets.token_hex(8), self._clock())))

    async def _finish(self, work: Coroutine[Any, Any, None]) -> None:
        """Wait for work that goes on even if the caller leaves meanwhile."""
        task = asyncio.create_task(work)
        self._unfinished.add(task)
        task.add_done_callback(self._unfinished.discard)
        await asyncio.shield(task)

    async def _do(self, work: NotedRun | Settling) -> None:
        if self._late or self._flushing.locked():  # a run must not be settled before it is noted
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
        """Raises StoreAway."""
        if isinstance(work, NotedRun):
            await self._runs.note(work)
            return
        for run, ended in await self._runs.settle(work):
            self._tell(Settled(run, ended.status, ended.usage, work.at_s))

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

    async def flush(self) -> None:
        """Carry out what came while the store was away, in order. Raises StoreAway."""
        async with self._flushing:
            while self._late:
                work = self._late.popleft()
                try:
                    await self._carry_out(work)
                except BaseException:
                    self._late.appendleft(work)
                    raise

    async def close(self) -> None:
        """Wait for what callers left behind, and say what could not be noted. Called once, when no request runs any
        more."""
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
        self._is_new = sending.operation.name in _CREATING

    async def on_run(self, run: Run) -> None:
        await self.on_runs([run])

    async def on_runs(self, runs: Sequence[Run]) -> None:
        """The answer told of runs. Waits for the store for one that is new, and for those that are over."""
        if self._is_new and runs:
            self._is_new = False
            await self._settlement.note(self._noted(runs[0]))
        await self._settlement.see(self._caller.tenant.id, self._sending.target.account.route, runs)

    def _noted(self, run: Run) -> NotedRun:
        tenant, target, now = self._caller.tenant, self._sending.target, self._clock()
        provider, account = target.provider, target.account
        model, upstream_model = self._models(run)
        return NotedRun(
            tenant=tenant.id,
            route=account.route,
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


def _expires_s(run: Run, now: float) -> float:
    """As the provider says, unless that cannot be."""
    if run.expires_at is not None and now - _LONGEST_LIFE_S < run.expires_at < now + _LONGEST_LIFE_S:
        return float(run.expires_at)
    return now + _RUN_LIFE_S


def _plain(text: str) -> str:
    """Such that the store takes it: providers and callers may say what UTF-8 cannot."""
    return text[:256].encode("utf-8", "replace").decode()
