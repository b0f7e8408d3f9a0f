"""What is answered from the cache, what is kept in it, and what drops it.

A scope is one thread with all that is in it, or one assistant. Every write under a scope drops it before its attempt
and again before its caller is answered; one whose outcome is unknown keeps the scope out of the cache for the
provider's total timeout. A run that is seen to work keeps its thread out until it is seen to be over, because it
changes the thread without any request. What can change elsewhere is kept for `cache.ttl_s`; runs that are over, and
their steps, for `cache.final_ttl_s`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import urlencode

from gateway.config import Cache as Settings
from gateway.errors import GatewayError
from gateway.ids import IdSigner
from gateway.inbound import Exchange, Exchanged, Inbound
from gateway.model import Reply
from gateway.operations import BY_NAME, Operation
from gateway.phases.locate import Located
from gateway.phases.read_facts import Facts, Run
from gateway.phases.rewrite_out import path_of
from gateway.store.cache import Away, Fill, Generation, Hit, Miss, Scope, ThreadCache
from gateway.telemetry import Record
from gateway.watching import Watch

_RUN_LIFE_S = 660.0
"""A run expires ten minutes after it began, waiting for tool outputs included (OpenAI's guide to runs, 2024–2026)."""

_BY_CREATION = {"create_assistant": "get_assistant", "create_thread": "get_thread", "create_message": "get_message"}
"""Creations whose answer is what the read will answer."""

_NOT_SENT = ("account_down", "rate_limit_exceeded")
"""Our own refusals on a provider's behalf."""


class Caching:
    """In front of everything that asks providers. Lives as long as the process."""

    def __init__(self, cache: ThreadCache, settings: Settings, signer: IdSigner) -> None:
        self._cache = cache
        self._ttl_s = settings.ttl_s
        self._final_ttl_s = settings.final_ttl_s
        self._signer = signer

    async def __call__(self, inbound: Inbound, located: Located, exchange: Exchange, record: Record) -> Exchanged:
        """What was kept, or what `exchange` gives. Raises what that raises."""
        if located.target.provider.is_served:
            return await exchange()  # it is in our own store
        scope = _scope(inbound, located)
        if inbound.operation.method != "GET":
            if scope is None:
                return await self._create(inbound, located, exchange)
            return await self._write(scope, inbound, located, exchange)
        if scope is None or not inbound.operation.cacheable or not self._ttl_s:
            return await exchange()
        if inbound.wants_fresh:
            # Dropped, so that nobody is answered with something older after this.
            await self._cache.begin_write(scope)
            exchanged, outcome = await self._pass_by(scope, exchange), "bypass"
        else:
            exchanged, outcome = await self._read(scope, inbound, located, exchange)
        record.note(cache=outcome)
        told = {**exchanged.reply.headers, "x-gateway-cache": outcome}
        return replace(exchanged, reply=replace(exchanged.reply, headers=told))

    # --- reads -----------------------------------------------------------------------------------------------------
    async def _read(
        self, scope: Scope, inbound: Inbound, located: Located, exchange: Exchange
    ) -> tuple[Exchanged, str]:
        """The answer, and how the cache helped. Readers of one thing at one time ask the provider once."""
        field = self._field(inbound.operation, located.path_ids, inbound, located)
        found = await self._cache.read(scope, field)
        if isinstance(found, Hit):
            return Exchanged(Reply(200, found.body)), "hit"
        if isinstance(found, Away):
            return await self._pass_by(scope, exchange, is_blocked=found.reason == "blocked"), "bypass"
        generation = found.generation
        run_is_over = inbound.operation.kind == "step" and await self._is_over(scope, located.path_ids["run"])

        async def ask() -> Exchanged:
            exchanged = await exchange()
            if (facts := exchanged.facts) is not None:
                ttl_s = self._lifetime_s(inbound.operation, facts, run_is_over=run_is_over)
                if ttl_s:
                    await self._cache.fill(scope, field, exchanged.reply.body, ttl_s=ttl_s, generation=generation)
                if facts.run is not None:
                    await self.note_run(scope, facts.run, generation)
            return exchanged

        return await self._cache.share(scope, field, generation=generation, make=ask), "miss"

    async def _pass_by(self, scope: Scope, exchange: Exchange, *, is_blocked: bool = False) -> Exchanged:
        """Ask the provider and keep nothing, but learn of a run."""
        exchanged = await exchange()
        run = exchanged.facts.run if exchanged.facts is not None else None
        if run is not None and (run.is_over or not is_blocked):
            await self.note_run(scope, run)
        return exchanged

    def _lifetime_s(self, operation: Operation, facts: Facts, *, run_is_over: bool) -> float:
        """How long an answer may be kept; 0 for what can still change by itself."""
        if operation.kind == "run":
            return self._final_ttl_s if facts.run is not None and facts.run.is_over else 0
        if operation.kind == "step":
            return self._final_ttl_s if run_is_over else 0
        return 0 if facts.is_being_written else self._ttl_s

    async def _is_over(self, scope: Scope, run_id: str) -> bool:
        """Whether a run was seen to be over since anything in the thread was written."""
        return isinstance(await self._cache.read(scope, _over(run_id)), Hit)

    async def note_run(self, scope: Scope, run: Run, generation: Generation | None = None) -> None:
        """A run was seen, by a miss of `generation` if one is given: while it works, its thread is not kept."""
        if not run.is_over:
            await self._cache.activate(scope, run.id, _RUN_LIFE_S)
            return
        if generation is None:
            await self._cache.settle(scope, run.id)
            found = await self._cache.read(scope, _over(run.id))
            if not isinstance(found, Miss):
                return
            generation = found.generation
        await self._cache.fill(scope, _over(run.id), b"", ttl_s=self._final_ttl_s, generation=generation)

    def _field(
        self, operation: Operation, ids: Mapping[str, str], inbound: Inbound, located: Located, *, query: bool = True
    ) -> str:
        """What an answer depends on, beside its scope."""
        asked = urlencode(sorted(located.query)) if query else ""
        beta = ",".join((inbound.beta.version, *inbound.beta.others))
        spelling = self._signer.spelling(located.spelling)
        return f"{path_of(operation, ids)}?{asked} {beta} {spelling} {located.target.provider.fingerprint}"

    # --- writes ----------------------------------------------------------------------------------------------------
    async def keep_out(self, scope: Scope, located: Located) -> None:
        """A write has an unknown outcome: it may still happen as long as the provider may work on it."""
        await self._cache.block(scope, located.target.provider.timeouts.total_s)

    async def _write(self, scope: Scope, inbound: Inbound, located: Located, exchange: Exchange) -> Exchanged:
        await self._cache.begin_write(scope)
        read = _BY_CREATION.get(inbound.operation.name)
        found = await self._cache.read(scope, "made") if read is not None and self._ttl_s else None
        try:
            exchanged = await exchange()
        except GatewayError as error:
            if error.source == "provider" and error.code not in _NOT_SENT:
                await self.keep_out(scope, located)
            else:
                await self._cache.end_write(scope)
            raise
        except BaseException:
            await self.keep_out(scope, located)
            raise
        if exchanged.relayed is not None:
            return exchanged  # its first run will tell
        run = exchanged.facts.run if exchanged.facts is not None else None
        if exchanged.may_have_run:
            await self.keep_out(scope, located)
        elif run is not None and not run.is_over:
            await self.note_run(scope, run)
        else:
            fill = None
            if isinstance(found, Miss) and read is not None:
                fill = self._made(BY_NAME[read], exchanged, found.generation, inbound, located)
            await self._cache.end_write(scope, fill)
            if run is not None:
                await self.note_run(scope, run)
        return exchanged

    def _made(
        self, read: Operation, exchanged: Exchanged, generation: Generation, inbound: Inbound, located: Located
    ) -> Fill | None:
        """What a creation leaves for the read of what it made."""
        if exchanged.facts is None or exchanged.facts.id is None:
            return None
        ids = {**located.path_ids, read.kind: exchanged.facts.id}
        field = self._field(read, ids, inbound, located, query=False)
        return Fill(field, exchanged.reply.body, self._ttl_s, generation)

    async def _create(self, inbound: Inbound, located: Located, exchange: Exchange) -> Exchanged:
        """Nobody knows the new object's id before its answer, so nothing of it is kept that could be dropped."""
        exchanged = await exchange()
        if (facts := exchanged.facts) is None:
            return exchanged
        if facts.run is not None:
            await self.note_run(_scope_of(inbound, located, "thread", facts.run.thread), facts.run)
        read = _BY_CREATION.get(inbound.operation.name)
        if read is not None and facts.id is not None and self._ttl_s:
            scope = _scope_of(inbound, located, BY_NAME[read].kind, facts.id)
            found = await self._cache.read(scope, "made")
            if not isinstance(found, Miss):
                return exchanged
            fill = self._made(BY_NAME[read], exchanged, found.generation, inbound, located)
            if fill is not None:
                await self._cache.fill(scope, fill.field, fill.body, ttl_s=fill.ttl_s, generation=fill.generation)
        return exchanged

    def watch(self, inbound: Inbound, located: Located) -> Watch:
        """For a write whose answer is a stream."""
        if located.target.provider.is_served:
            return Watch()
        return RunWatch(self, inbound, located)


class RunWatch(Watch):
    """Learns from a stream how its run stands, before the caller does."""

    def __init__(self, caching: Caching, inbound: Inbound, located: Located) -> None:
        self._caching = caching
        self._inbound = inbound
        self._located = located
        self._seen: Run | None = None

    async def on_run(self, run: Run) -> None:
        """The stream has told of a run. Waits for the store where that changes anything."""
        before, self._seen = self._seen, run
        if before is None or before.id != run.id or before.is_over != run.is_over:
            scope = _scope_of(self._inbound, self._located, "thread", run.thread)
            await self._caching.note_run(scope, run)

    async def end(self) -> None:
        """The stream is over, however. One that told of no run leaves its write's outcome unknown."""
        scope = _scope(self._inbound, self._located)
        if self._seen is None and scope is not None and self._inbound.operation.streams:
            await self._caching.keep_out(scope, self._located)


def _scope(inbound: Inbound, located: Located) -> Scope | None:
    """What an operation reads or writes; None for what is in no scope, or not made yet."""
    for kind in ("thread", "assistant"):
        if kind in located.path_ids:
            return _scope_of(inbound, located, kind, located.path_ids[kind])
    return None


def _scope_of(inbound: Inbound, located: Located, kind: str, upstream_id: str) -> Scope:
    return Scope(inbound.caller.tenant.id, located.target.account.route, kind, upstream_id)


def _over(run_id: str) -> str:
    return f"over {run_id}"
