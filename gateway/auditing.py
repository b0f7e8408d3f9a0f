"""What each request leaves in the audit trail: `request.started` before a provider is asked, `request.finished` before
the answer is whole.

A plain read has only the second. Who is refused leaves it too, whoever it was. Of bodies that the policy keeps, the
request's goes with the first record where every outcome keeps it; what the status decides goes with the second.

Each call of a model that a served run makes leaves two of its own, `generation.started` and `generation.finished`. What
cannot be recorded before is not asked; what cannot be recorded after makes no run look whole.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

from gateway import codec
from gateway.audit import records
from gateway.audit.bodies import Content, Piece
from gateway.audit.fold import Fold
from gateway.audit.opening import config_digest
from gateway.audit.policy import Level, Plan, Policy
from gateway.audit.redaction import Before, Redactor
from gateway.audit.trail import AuditUnavailable, Trail
from gateway.config import Config
from gateway.errors import BrokenOff, GatewayError, audit_unavailable
from gateway.inbound import Inbound
from gateway.phases.read_facts import Usage
from gateway.settlement import Settled
from gateway.store.acts import Act
from gateway.store.switches import IsErased, nobody
from gateway.telemetry import Record


class Audited(Protocol):
    """What one request tells the trail."""

    def check(self) -> None:
        """Raises GatewayError 503 `audit_unavailable` where nothing may be done that cannot be recorded, and nothing
        can be."""

    async def start(self, inbound: Inbound) -> None:
        """To be called once it is known whom to ask, and before. Raises as `check`."""

    def leave_out(self) -> None:
        """It is about the gateway itself, such as a health probe."""

    def close(self) -> None:
        """The request is over, however. Never waits and never raises."""


class AuditedGeneration(Protocol):
    """What one call of a model tells the trail. Nothing of one that was never started."""

    async def start(self, body: bytes) -> None:
        """To be called with what the model will be asked, and before. Raises GatewayError 503 `audit_unavailable` where
        nothing may be done that cannot be recorded, and nothing can be."""

    async def finish(self) -> None:
        """It is over, and its record's facts say how; to be called before anything follows from it. Raises as
        `start`."""

    def close(self) -> None:
        """The same for one of which nothing follows, unless it is finished. Never waits and never raises."""


class Unaudited:
    """There is no trail."""

    def check(self) -> None:
        return

    async def start(self, asked: Inbound | bytes) -> None:
        return

    async def finish(self) -> None:
        return

    def leave_out(self) -> None:
        return

    def close(self) -> None:
        return


class Auditing:
    """Lives as long as the process. `max_bytes` is the most that is held of a stream. Of a tenant that `is_erased` no
    bodies are kept."""

    def __init__(
        self, trail: Trail, policy: Policy, redactor: Redactor, *, max_bytes: int, is_erased: IsErased = nobody
    ) -> None:
        self.trail = trail
        self.redactor = redactor
        self.max_bytes = max_bytes
        self.is_erased = is_erased
        self._policy = policy

    def request(self, record: Record) -> Audited:
        """What the request of this record tells. Its last bytes wait for it."""
        return _Request(self, record)

    def generation(self, record: Record, said: Callable[[], Mapping[str, Any]]) -> AuditedGeneration:
        """What the call of a model of this record tells; `said` is what the model has said so far."""
        return _Generation(self, record, said)

    def note_act(self, act: Act) -> None:
        """What an operator did. Every gateway that hears of it notes it."""
        self._note(
            "operator.acted",
            records.operator_acted(
                who=act.who, act=act.act, what=act.kind, name=act.name, reason=act.reason, acted_s=act.at_s
            ),
        )

    def note_reload(self, config: Config, reason: str, sections: Sequence[str]) -> None:
        """Another configuration is in force; of these sections the old one until the next start."""
        told = records.config_reloaded(reason=reason, digest=config_digest(config), sections=sections)
        self._note("config.reloaded", told)

    def note_settled(self, settled: Settled) -> None:
        """A run's tokens were counted, by this process."""
        run, usage = settled.run, settled.usage
        told = records.run_settled(
            run=run.public_run,
            thread=run.public_thread,
            tenant=run.tenant_name,
            provider=run.provider_name,
            account=run.account_name,
            run_status=settled.status,
            model=run.model or None,
            usage=_as_told(usage) if usage is not None else None,
        )
        self._note("run.settled", told)

    async def tell_erased(self, tenant: str, name: str, kept: Collection[int]) -> None:
        """Files of so many bytes are about to be deleted. When this returns, what was recorded before is on the disk,
        bodies too. Raises AuditUnavailable."""
        told = records.tenant_erased(tenant=name, tenant_id=tenant, bodies=len(kept), bytes=sum(kept))
        await self.trail.write_surely("tenant.erased", self.redactor.facts(told))

    def _note(self, kind: str, facts: Mapping[str, Any]) -> None:
        self.trail.note(kind, self.redactor.facts(facts))

    def plan(self, record: Record) -> Plan:
        facts = record.facts
        return self._policy.plan(facts.get("tenant"), facts.get("operation"), facts.get("provider"))

    def content(self, record: Record, request: Piece | None, answer: Piece | None) -> Content | None:
        """What is kept of these bodies."""
        if (request is None and answer is None) or self.is_erased(record.tenant_id):
            return None
        return Content(record.tenant_id, record.request_id, request, answer)


def _as_told(usage: Usage) -> dict[str, int]:
    """In a run's own words."""
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.total,
        "cached_tokens": usage.cached,
    }


class NoAuditing:
    """In place of `Auditing` where the configuration wants no trail."""

    def request(self, record: Record) -> Audited:
        return Unaudited()

    def generation(self, record: Record, said: Callable[[], Mapping[str, Any]]) -> AuditedGeneration:
        return Unaudited()


class _Request:
    """One request. It is told of while it goes, so this changes."""

    def __init__(self, auditing: Auditing, record: Record) -> None:
        self._auditing = auditing
        self._trail = auditing.trail
        self._record = record
        self._request: Piece | None = None
        self._before: Before | None = None
        self._has_started = False
        self._is_written = False
        self._fold: Fold | None = None
        record.before_end = self._finish

    def check(self) -> None:
        try:
            self._trail.check()
        except AuditUnavailable as exc:
            raise audit_unavailable() from exc

    async def start(self, inbound: Inbound) -> None:
        plan = self._auditing.plan(self._record)
        if plan.possible >= Level.REQUEST and inbound.body.size_bytes:
            spooled, body = inbound.body.spooled, inbound.body
            self._request = Piece(None if spooled else body.raw, body.size_bytes, body.content_type)
        if inbound.may_pass_through:
            self._fold = self._record.hear = Fold(self._auditing.max_bytes if plan.possible >= Level.FULL else 0)
        if inbound.operation.method == "GET" and not inbound.may_pass_through:
            return
        told = records.started(self._record, plan.otherwise)
        facts = self._auditing.redactor.facts(told)
        self._before = Before(told, facts)
        is_kept = plan.certain >= Level.REQUEST
        content = self._content(self._request) if is_kept else None
        self._has_started = True
        try:
            await self._trail.write("request.started", facts, content)
        except AuditUnavailable as exc:
            raise audit_unavailable() from exc
        if is_kept:
            self._request = None

    async def _finish(self) -> None:
        """The answer waits for this. Raises BrokenOff: what was done cannot be undone, and must not look as if it had
        been recorded."""
        if self._record.facts.get("error_code") == "audit_unavailable":
            return  # it is said because of what cannot be recorded
        written = self._last()
        if written is None:
            return
        try:
            await self._trail.write("request.finished", *written)
        except AuditUnavailable as exc:
            raise BrokenOff("the audit trail cannot be written") from exc

    def close(self) -> None:
        self._record.before_end = None
        if not self._is_written and (written := self._last()) is not None:
            self._trail.note("request.finished", *written)

    def leave_out(self) -> None:
        self._is_written = True
        self._record.before_end = None

    def _last(self) -> tuple[dict[str, object], Content | None] | None:
        """Facts and content of `request.finished`, once; None for what the policy leaves out."""
        self._is_written = True
        record = self._record
        status = record.facts.get("status")
        level = self._auditing.plan(record).level(status)
        folded = self._fold.folded() if self._fold is not None and self._fold.has_heard else None
        if level is Level.NONE:
            self._trail.skip(str(record.facts.get("operation")))
            return None
        facts = records.finished(record, level, has_started=self._has_started, folded=folded)
        request = self._request if level >= Level.REQUEST else None
        answer = self._answer() if level >= Level.FULL else None
        return self._auditing.redactor.facts(facts, self._before), self._content(request, answer)

    def _answer(self) -> Piece | None:
        if self._fold is not None and self._fold.has_heard:
            return Piece.of(self._fold.content())
        record = self._record
        if record.answer is not None:
            return Piece.of(record.answer)
        size_bytes = record.facts.get("bytes_out")
        return Piece(None, size_bytes, None) if size_bytes else None

    def _content(self, request: Piece | None, answer: Piece | None = None) -> Content | None:
        return self._auditing.content(self._record, request, answer)


class _Generation:
    """One call of a model. Its record's facts say where and for whom; what the trail may keep of a body is decided by
    the status of the provider's last answer, as with requests."""

    def __init__(self, auditing: Auditing, record: Record, said: Callable[[], Mapping[str, Any]]) -> None:
        self._auditing = auditing
        self._record = record
        self._said = said
        self._request: Piece | None = None
        self._before: Before | None = None
        self._is_open = False

    async def start(self, body: bytes) -> None:
        plan = self._auditing.plan(self._record)
        request = Piece.of(body) if plan.possible >= Level.REQUEST else None
        told = records.generation_started(self._record, plan.otherwise)
        facts = self._auditing.redactor.facts(told)
        self._before = Before(told, facts)
        is_kept = plan.certain >= Level.REQUEST
        self._request = None if is_kept else request
        self._is_open = True
        try:
            await self._write("generation.started", facts, self._content(request) if is_kept else None)
        except GatewayError:
            self._is_open = False
            raise

    async def finish(self) -> None:
        if self._is_open:
            await self._write("generation.finished", *self._last())

    def close(self) -> None:
        if self._is_open:
            self._auditing.trail.note("generation.finished", *self._last())

    async def _write(self, kind: str, facts: Mapping[str, Any], content: Content | None) -> None:
        try:
            await self._auditing.trail.write(kind, facts, content)
        except AuditUnavailable as exc:
            raise audit_unavailable() from exc

    def _last(self) -> tuple[dict[str, object], Content | None]:
        self._is_open = False
        record = self._record
        level = self._auditing.plan(record).level(record.facts.get("status"))
        facts = self._auditing.redactor.facts(records.generation_finished(record, level), self._before)
        request = self._request if level >= Level.REQUEST else None
        answer = Piece.of(codec.dumps(dict(self._said()))) if level >= Level.FULL else None
        return facts, self._content(request, answer)

    def _content(self, request: Piece | None, answer: Piece | None = None) -> Content | None:
        return self._auditing.content(self._record, request, answer)
