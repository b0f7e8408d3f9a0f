"""What tenants and their keys may use, looked at before a request's body is read.

    begin         once the operation is known: all limits at once, in the store, for all replicas
    begin_body    once the body is known: a stream has limits of its own
    end           whatever happened: what is under way no more is given back, bytes are added in the background

A request that one limit refuses is counted in none; refused requests are free, unlike OpenAI's. One that was admitted
has counted, whatever else becomes of it: repeats with an `Idempotency-Key` and cached answers too. Tokens are looked at
only for what begins a run, so that a run under way can go on; runs and answers that began before a day was used up end
beyond it.

A tenant or key without limits costs nothing here. While the store is away the replica decides alone
(`local_limits.py`).
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import count
from typing import NamedTuple

from gateway.ending import end
from gateway.errors import GatewayError
from gateway.local_limits import LocalLimits
from gateway.model import Caller
from gateway.operations import Operation
from gateway.phases.limit import Limit, Plan, begins_run, headers, may_stream, midnight_s, plan_of, refusal
from gateway.phases.receive import Body
from gateway.store.connection import StoreAway
from gateway.store.limits import BATCH_LIMIT, Batch, Fact, LimitCounts
from gateway.store.token_counts import fields_of
from gateway.telemetry import Record

_PLANS_LIMIT = 10_000
_FACTS_LIMIT = 10_000
"""Of one tenant, while the store is away. Bytes are summed up then, and leases beyond it run out."""
_ENDED_WITH = 100
"""Most ended requests that an admission tells of by the way."""


class _Known(NamedTuple):
    """A plan, and of whom it was made."""

    caller: Caller
    plan: Plan | None
    until_s: float

    def is_of(self, caller: Caller) -> bool:
        return caller is self.caller or (
            caller.tenant == self.caller.tenant and caller.allowance == self.caller.allowance
        )


class Limiting:
    """Lives as long as the process. `replicas` tells how many share the store; `clock` seconds since 1970; `pause` is
    what the upkeep waits with."""

    def __init__(
        self,
        counts: LimitCounts,
        replicas: Callable[[], int],
        *,
        clock: Callable[[], float] = time.time,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._counts = counts
        self._replicas = replicas
        self._clock = clock
        self._pause = pause
        self._local = LocalLimits()
        self._plans: OrderedDict[tuple[str, str], _Known] = OrderedDict()
        self._requests = (f"{replica}{number:x}" for replica in [secrets.token_hex(6)] for number in count())
        self._facts: dict[str, list[Fact]] = {}
        """By tenant: what the store is still to be told."""
        self._sending: dict[str, Batch] = {}
        self._numbers = count(1)
        self._flushing = asyncio.Lock()
        self._telling: asyncio.Task[None] | None = None
        self._upkeep: asyncio.Task[None] | None = None

    def admission(self, record: Record) -> Admission:
        """Of one request, which is still to begin."""
        return Admission(self, record)

    def plan_of(self, caller: Caller) -> Plan | None:
        """The limits of a caller now, None without any. Made once a day, and again when its allowances change."""
        now, place = self._clock(), (caller.tenant.id, caller.key_fingerprint)
        known = self._plans.get(place)
        if known is not None and now < known.until_s and known.is_of(caller):
            return known.plan
        made = self._plans[place] = _Known(caller, plan_of(caller, now, self._counts.places), midnight_s(now))
        if len(self._plans) > _PLANS_LIMIT:
            self._plans.popitem(last=False)
        return made.plan

    def name_request(self) -> str:
        """A name that no other request of any replica has."""
        return next(self._requests)

    async def admit(self, request: str, tenant: str, limits: Sequence[Limit], record: Record) -> int:
        """Count a request in all limits and note what its caller is told of them. Answers the second in which the
        store's windows have counted it, 0 if they have not. Raises GatewayError 429."""
        checks, now = [limit.check for limit in limits], self._clock()
        try:
            verdict = await self._counts.admit(request, checks, self._ended(tenant))
        except StoreAway:
            verdict = self._local.admit(request, checks, now, self._replicas())
        else:
            self._local.note(request, checks, verdict, now)
        record.headers = {**record.headers, **headers(limits, verdict.standings, now)}
        if verdict.refused is not None:
            raise refusal(limits[verdict.refused], verdict.standings[verdict.refused], now)
        return verdict.counted_s

    def _ended(self, tenant: str) -> list[str]:
        """Requests of which the store may not know yet that they have ended, the last ones: whoever has got an answer
        asks again before the store was told."""
        sending = self._sending[tenant].facts if tenant in self._sending else ()
        facts = [*sending[-_ENDED_WITH:], *self._facts.get(tenant, ())[-_ENDED_WITH:]]
        return [field for _, kind, field, _ in facts if kind == "ended"][-_ENDED_WITH:]

    def release(self, request: str, plan: Plan, limits: Sequence[Limit], size_bytes: int) -> None:
        """A request that these limits may have counted has ended."""
        checks = [limit.check for limit in limits]
        self._local.release(request, checks)
        facts: list[Fact] = [(check.key, "ended", request, 0) for check in checks if check.kind == "held"]
        for key, field in plan.bytes if size_bytes else ():
            self._local.add(key, field, size_bytes)
            facts.append((key, "bytes", field, size_bytes))
        self._tell_of(plan.tenant, facts)

    def take_back(self, plan: Plan, limits: Sequence[Limit], counted_s: int) -> None:
        """A request that was counted is not carried out after all."""
        checks = [limit.check for limit in limits if limit.check.kind == "rate"]
        self._local.take_back(checks)
        if counted_s:
            self._tell_of(plan.tenant, [(check.key, "uncount", str(counted_s), 1) for check in checks])

    def _tell_of(self, tenant: str, facts: list[Fact]) -> None:
        if facts:
            known = self._facts.setdefault(tenant, [])
            known += facts
            if len(known) > _FACTS_LIMIT:
                self._facts[tenant] = _shortened(known)
            self.tell_soon()

    # --- what the store is told in the background --------------------------------------------------------------------
    def tell_soon(self) -> None:
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell(), name="limits.tell")

    async def _tell(self) -> None:
        with suppress(StoreAway):  # then it is told when the store is back
            await self.flush()

    async def flush(self) -> None:
        """Tell the store what it has not been told. Raises StoreAway; nothing is lost or counted twice by that."""
        async with self._flushing:
            while tenants := {*self._sending, *self._facts}:
                for told in await asyncio.gather(*map(self._flush, tenants), return_exceptions=True):
                    if told is not None:
                        raise told

    async def _flush(self, tenant: str) -> None:
        if tenant not in self._sending:
            facts = self._facts.pop(tenant)
            if facts[BATCH_LIMIT:]:
                self._facts[tenant] = facts[BATCH_LIMIT:]
            self._sending[tenant] = Batch(next(self._numbers), fields_of(self._clock())[0], facts[:BATCH_LIMIT])
        await self._counts.settle(tenant, self._sending[tenant])
        del self._sending[tenant]

    def start(self) -> None:
        """Renew leases in the background, until `close`."""
        self._upkeep = asyncio.create_task(self._tend(), name="limits.upkeep")

    async def _tend(self) -> None:
        while True:
            await self._pause(self._counts.lease_s / 3)
            with suppress(StoreAway):
                await self.renew()
                await self.flush()

    async def renew(self) -> None:
        """Prolong the leases of what is under way here. Raises StoreAway."""
        held = [(key, list(requests)) for key, requests in self._local.held.items()]
        await asyncio.gather(*(self._counts.renew(key, requests) for key, requests in held))

    async def close(self) -> None:
        """Renew no more, and tell the store what is left, if it is there."""
        await end([task for task in (self._upkeep, self._telling) if task is not None])
        await self._tell()


def _shortened(facts: Sequence[Fact]) -> list[Fact]:
    """Bytes summed up, and the newest of the rest."""
    sums: Counter[tuple[str, str]] = Counter()
    for key, kind, field, amount in facts:
        if kind == "bytes":
            sums[key, field] += amount
    rest = [fact for fact in facts if fact[1] != "bytes"]
    return [*((key, "bytes", field, amount) for (key, field), amount in sums.items()), *rest[-_FACTS_LIMIT // 2 :]]


class Admission:
    """One request's leave to be carried out. `end` always, once."""

    __slots__ = ("_counted_s", "_limiting", "_limits", "_operation", "_plan", "_record", "_request")

    def __init__(self, limiting: Limiting, record: Record) -> None:
        self._limiting = limiting
        self._record = record
        self._plan: Plan | None = None

    async def begin(self, caller: Caller, operation: Operation) -> None:
        """Raises GatewayError 429 when a limit of the tenant or of the key is reached."""
        plan = self._limiting.plan_of(caller)
        if plan is None:
            return
        self._request, self._operation = self._limiting.name_request(), operation
        # Before the store is asked: whoever leaves meanwhile may have been counted.
        self._plan, self._limits = plan, plan.runs if begins_run(operation) else plan.others
        try:
            self._counted_s = await self._limiting.admit(self._request, plan.tenant, self._limits, self._record)
        except GatewayError:
            self._plan = None  # it has counted nowhere, so there is nothing to give back
            raise

    async def begin_body(self, body: Body) -> None:
        """Raises GatewayError 429 when there are too many streams; then the request has counted nowhere."""
        plan = self._plan
        if plan is None or not plan.streams or not body.wants_stream or not may_stream(self._operation):
            return
        before, self._limits = self._limits, [*self._limits, *plan.streams]
        try:
            await self._limiting.admit(self._request, plan.tenant, plan.streams, self._record)
        except GatewayError:
            self._limiting.take_back(plan, before, self._counted_s)
            self._limiting.release(self._request, plan, before, 0)
            self._plan = None
            raise

    def end(self) -> None:
        """The request is over, however it went."""
        if self._plan is not None:
            facts = self._record.facts
            size_bytes = facts.get("bytes_in", 0) + facts.get("bytes_out", 0)
            self._limiting.release(self._request, self._plan, self._limits, size_bytes)
