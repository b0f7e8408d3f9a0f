"""What is written down: from what one request has learnt, or from one act, to the facts of a record. Pure.

Facts have the names they have in the log line `request.done`. What is None says nothing and is left out. The facts
still hold what a caller wrote: `Redactor.facts` comes after.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from gateway.audit.fold import Folded
from gateway.audit.policy import Level
from gateway.telemetry import Record

STARTED, FINISHED = ("request.started", "generation.started"), ("request.finished", "generation.finished")
"""Kinds of records that come in pairs: of a request, and of a call of a model that a served run makes."""

Outcome = Literal["done", "refused", "crashed", "caller_left", "aborted", "cut", "broken_off"]
"""How a request ended. `caller_left` before the first byte of its answer, `aborted` after it; `cut`: the provider broke
an answer off, `broken_off`: the gateway did, because it stopped."""

_IDENTIFYING = (
    *("client_request_id", "tenant", "tenant_key", "client", "method", "path", "operation"),
    *("public_ids", "upstream_ids", "thread", "provider", "vendor", "account", "model", "upstream_model"),
)
_IDENTIFYING_AGAIN = ("tenant", "operation", "provider", "account", "public_ids", "upstream_ids", "thread")
_LEARNT = (
    *("public_id", "upstream_id", "run", "run_status", "status", "error_source", "error_code", "cache"),
    *("idempotency", "bytes_in", "bytes_out", "first_byte_s", "events", "text_length", "usage"),
)
_OF_GENERATION = (
    *("generation_id", "request_id", "tenant", "operation", "provider", "vendor", "account", "public_ids"),
    *("upstream_ids", "thread", "run", "takeovers", "model", "upstream_model"),
)
_LEARNT_OF_GENERATION = ("finish_reason", "error_code", "status", "first_byte_s", "usage")
_ATTEMPTS_KEPT = 20


def started(record: Record, level: Level) -> dict[str, Any]:
    """Of `request.started`: who asks what of whom. Called once the request was located."""
    return {"request_id": record.request_id, **_some(_known(record), _IDENTIFYING), "level": level.word}


def finished(
    record: Record, level: Level, *, has_started: bool, folded: Folded | None = None, duration_s: float | None = None
) -> dict[str, Any]:
    """Of `request.finished`: what came of it; and who asked, at length if nothing was written at the start."""
    known = _known(record, folded)
    attempts = record.attempts
    facts = {
        "request_id": record.request_id,
        **_some(known, _IDENTIFYING_AGAIN if has_started else _IDENTIFYING),
        "level": level.word,
        "outcome": outcome_of(known),
        **_some(known, _LEARNT),
        "attempts": attempts[:_ATTEMPTS_KEPT],
        "attempts_total": len(attempts),
        "duration_s": record.elapsed_s() if duration_s is None else duration_s,
    }
    if has_started:
        facts |= _some(known, ("model", "upstream_model"))  # an answer may name another
    return facts


def generation_started(record: Record, level: Level) -> dict[str, Any]:
    """Of `generation.started`: which model is about to be asked, for whom, in which run. `request_id` is that of the
    request that began the run, or went on with it."""
    return {**_some(record.facts, _OF_GENERATION), "level": level.word}


def generation_finished(record: Record, level: Level) -> dict[str, Any]:
    """Of `generation.finished`: what came of it; and all that was known at the start."""
    attempts = record.attempts
    return {
        **generation_started(record, level),
        **_some(record.facts, ("outcome", *_LEARNT_OF_GENERATION)),
        "attempts": attempts[:_ATTEMPTS_KEPT],
        "attempts_total": len(attempts),
        "duration_s": record.elapsed_s(),
    }


def call_of(record: Mapping[str, Any]) -> str | None:
    """What `started` and `finished` of one call have in common: of a model, or of a request."""
    found = record.get("generation_id") or record.get("request_id")
    return found if type(found) is str else None


def outcome_of(facts: Mapping[str, Any]) -> Outcome:
    """From the facts of a log line. A break that is not the provider's is the caller's: it left, or did not read."""
    match facts.get("outcome"):
        case "broken_off":
            return "cut" if facts.get("error_source") == "provider" else "aborted"
        case "caller_left":
            return "aborted" if "first_byte_s" in facts else "caller_left"
        case "stopped":
            return "broken_off"
    if facts.get("error_code") == "internal_error" and facts.get("error_source") == "gateway":
        return "crashed"
    return "refused" if facts.get("status", 0) >= 400 or "error_source" in facts else "done"


def run_settled(
    *,
    run: str,
    thread: str,
    tenant: str,
    provider: str,
    account: str,
    run_status: str,
    usage: Mapping[str, Any] | None = None,
    model: str | None = None,
    request_id: str | None = None,
) -> dict[str, Any]:
    """Of `run.settled`: how a run ended that outlived the request that made it. Ids are public, `request_id` is that
    of the request that made it, or saw it end."""
    return _told(
        request_id=request_id,
        tenant=tenant,
        provider=provider,
        account=account,
        thread=thread,
        run=run,
        run_status=run_status,
        model=model,
        usage=usage,
    )


def operator_acted(
    *, who: str, act: str, what: str, name: str, reason: str = "", acted_s: int | None = None
) -> dict[str, Any]:
    """Of `operator.acted`: `what` is the kind of thing, such as key or tenant; `kind` is the record's own."""
    return _told(who=who, act=act, what=what, name=name, reason=reason or None, acted_s=acted_s)


def config_reloaded(*, reason: str, digest: str, sections: Sequence[str] = ()) -> dict[str, Any]:
    """Of `config.reloaded`: the digest of the configuration now in force; `sections` differ and wait for a restart."""
    return _told(reason=reason, digest=digest, sections=list(sections) or None)


def tenant_erased(*, tenant: str, tenant_id: str, bodies: int, bytes: int) -> dict[str, Any]:  # noqa: A002
    """Of `tenant.erased`: how many files of bodies of a tenant this replica deletes, and of how many bytes."""
    return {"tenant": tenant, "tenant_id": tenant_id, "bodies": bodies, "bytes": bytes}


def _known(record: Record, folded: Folded | None = None) -> dict[str, Any]:
    known: dict[str, Any] = {
        "client_request_id": record.client_request_id,
        "client": record.client,
        "method": record.method,
        "path": record.path,
        "public_ids": record.asked_ids or None,
        **record.facts,
    }
    if folded is not None:
        told = ("events", "text_length", "thread", "run", "run_status", "usage")
        known |= {name: value for name in told if (value := getattr(folded, name)) is not None}
    return known


def _some(facts: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: value for name in names if (value := facts.get(name)) is not None}


def _told(**facts: Any) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value is not None}
