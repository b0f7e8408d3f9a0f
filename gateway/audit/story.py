"""The story of one thread, told from the records that name it: one step for each request and each call of
a model, and for how runs ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.audit.reading import Row, TrailFile
from gateway.audit.records import FINISHED, STARTED, call_of

_SHORT = ("request_id", "tenant", "tenant_key", "operation", "provider", "account", "model", "public_ids")
_END = ("public_id", "run", "status", "outcome", "error_code", "run_status", "usage", "duration_s", "attempts_total")


@dataclass(frozen=True)
class Step:
    """What happened at a time. `facts` of both its records; `file` holds the first of them. `state`: `finished`, or
    `started` if nothing tells of an end, or the record's own kind."""

    time: str
    state: str
    facts: Mapping[str, Any]
    file: TrailFile


def tell(rows: Iterable[Row]) -> list[Step]:
    """The steps in order. Holds a few facts of each, not the records."""
    steps: dict[str, Step] = {}
    for place, row in enumerate(rows):
        record = row.record
        kind, name = record.get("kind"), str(call_of(record) or place)
        if kind in STARTED:
            steps[name] = Step(str(record.get("time")), "started", _some(record, _SHORT), row.file)
        elif kind in FINISHED:
            began = steps.get(name)
            known = {**(began.facts if began else {}), **_some(record, (*_SHORT, *_END))}
            at, file = (began.time, began.file) if began else (str(record.get("time")), row.file)
            steps[name] = Step(at, "finished", known, file)
        else:
            facts = _some(record, (*_SHORT, *_END, "reason", "file"))
            steps[f"{name}/{place}"] = Step(str(record.get("time")), str(kind), facts, row.file)
    return sorted(steps.values(), key=lambda step: step.time)


def tokens_of(usage: Any) -> tuple[int, int]:
    """Tokens in and out, in whichever words a provider says it."""
    if not isinstance(usage, Mapping):
        return 0, 0
    return _first(usage, ("prompt_tokens", "input_tokens")), _first(usage, ("completion_tokens", "output_tokens"))


def _first(usage: Mapping[str, Any], names: Iterable[str]) -> int:
    return next((value for name in names if type(value := usage.get(name)) is int), 0)


def _some(record: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: record[name] for name in names if record.get(name) is not None}
