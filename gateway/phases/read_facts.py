"""What a provider's answer says about itself: which object it is, and whether it can still change. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.operations import Operation

OVER = frozenset({"completed", "failed", "cancelled", "expired", "incomplete"})
"""What a run does not leave any more."""


@dataclass(frozen=True)
class Run:
    """A run as it was seen, with upstream ids."""

    id: str
    thread: str
    status: str

    @property
    def is_over(self) -> bool:
        return self.status in OVER


@dataclass(frozen=True)
class Facts:
    """`id` is the upstream id of the object, `run` set if that is a run. `is_being_written`: a message in the answer
    is not yet whole."""

    id: str | None = None
    run: Run | None = None
    is_being_written: bool = False


def read_facts(operation: Operation, document: Mapping[str, Any]) -> Facts:
    """The facts of a success, which still has upstream ids."""
    upstream = document.get("id")
    items = document.get("data") if operation.answers == "list" else [document]
    return Facts(
        id=upstream if type(upstream) is str else None,
        run=read_run(document) if operation.kind == "run" and operation.answers == "object" else None,
        is_being_written=operation.kind == "message" and any(map(_is_being_written, items or ())),
    )


def read_run(document: Mapping[str, Any]) -> Run | None:
    """None for what does not say which run it is and how it stands."""
    told = tuple(document.get(name) for name in ("id", "thread_id", "status"))
    return Run(*told) if all(type(each) is str for each in told) else None  # type: ignore[arg-type]


def _is_being_written(message: Any) -> bool:
    return type(message) is dict and message.get("status") == "in_progress"
