"""What a provider's answer says about itself: which object it is, and whether it can still change. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.operations import Operation

OVER = frozenset({"completed", "failed", "cancelled", "expired", "incomplete"})
"""What a run does not leave any more."""


_MOST = 10**12
"""More in one run is no count, and no time in seconds either; sums must fit the store's integers."""


@dataclass(frozen=True)
class Usage:
    """Tokens of one run. `cached` are those of the prompt that the provider says it had in its cache."""

    prompt: int
    completion: int
    total: int
    cached: int = 0


@dataclass(frozen=True)
class Run:
    """A run as it was seen, with upstream ids.

    `model` is the provider's word for it. Times are seconds since 1970. `usage` is None where none was told: while the
    run works, and by some providers ever after.
    """

    id: str
    thread: str
    status: str
    model: str | None = None
    assistant: str | None = None
    created_at: int | None = None
    expires_at: int | None = None
    usage: Usage | None = None

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


def read_runs(operation: Operation, document: Mapping[str, Any]) -> list[Run]:
    """Every run in the answer to an operation about runs."""
    items = document["data"] if operation.answers == "list" else [document]
    return [run for item in items if type(item) is dict and (run := read_run(item)) is not None]


def read_run(document: Mapping[str, Any]) -> Run | None:
    """None for what does not say which run it is and how it stands."""
    upstream, thread, status = document.get("id"), document.get("thread_id"), document.get("status")
    if type(upstream) is not str or type(thread) is not str or type(status) is not str:
        return None
    model, assistant = document.get("model"), document.get("assistant_id")
    return Run(
        upstream,
        thread,
        status,
        model=model if type(model) is str else None,
        assistant=assistant if type(assistant) is str else None,
        created_at=_count(document.get("created_at")),
        expires_at=_count(document.get("expires_at")),
        usage=read_usage(document.get("usage")),
    )


def read_usage(told: Any) -> Usage | None:
    """None for what does not tell both ways."""
    if type(told) is not dict:
        return None
    prompt, completion = _count(told.get("prompt_tokens")), _count(told.get("completion_tokens"))
    if prompt is None or completion is None:
        return None
    total = _count(told.get("total_tokens"))
    # OpenAI's reference names it in the singular for runs and in the plural elsewhere (read 2026-11-21).
    details = told.get("prompt_token_details") or told.get("prompt_tokens_details")
    cached = _count(details.get("cached_tokens")) if type(details) is dict else None
    return Usage(prompt, completion, prompt + completion if total is None else total, min(cached or 0, prompt))


def _count(told: Any) -> int | None:
    return told if type(told) is int and 0 <= told <= _MOST else None


def _is_being_written(message: Any) -> bool:
    return type(message) is dict and message.get("status") == "in_progress"
