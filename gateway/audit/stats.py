"""Sums over a trail: what each tenant did at each provider on each day."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from gateway.audit.reading import Record
from gateway.audit.story import tokens_of

KINDS = ("request.finished", "run.settled")


@dataclass
class Sums:
    """Of one tenant, provider and day (UTC). `errors` are requests that were not answered well."""

    requests: int = 0
    errors: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


Place = tuple[str, str | None, str | None]
"""Day, tenant, provider."""


def add_up(records: Iterable[Record]) -> dict[Place, Sums]:
    """Sums in order of day, tenant and provider. Tokens of a run count once, in its `run.settled`: requests that saw it
    end, of which there may be many, may name them too."""
    sums: dict[Place, Sums] = {}
    for record in records:
        place = str(record.get("time"))[:10], _text(record.get("tenant")), _text(record.get("provider"))
        total = sums.setdefault(place, Sums())
        is_settled_apart = record.get("kind") == "request.finished" and "run" in record
        into, out = (0, 0) if is_settled_apart else tokens_of(record.get("usage"))
        total.tokens_in += into
        total.tokens_out += out
        if record.get("kind") == "request.finished":
            total.requests += 1
            total.errors += record.get("outcome", "done") != "done"
            total.bytes_in += _number(record.get("bytes_in"))
            total.bytes_out += _number(record.get("bytes_out"))
    return dict(sorted(sums.items(), key=lambda each: tuple(word or "" for word in each[0])))


def _text(value: Any) -> str | None:
    return value if type(value) is str else None


def _number(value: Any) -> int:
    return value if type(value) is int else 0
