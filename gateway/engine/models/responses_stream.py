"""Answers of Responses, sans I/O: bytes in, deltas out. What the items of an answer become is in `responses_items`.

What is accepted, and who sends it (all read 2026-11-22):

- `response.completed`, `.incomplete` or `.failed` as the last event, with the usage (openai-python's types); the reason
  of what is incomplete may be missing (litellm#34352: then the limit of tokens)
- `response.completed` around a response whose status says that it is not (aimock 1.43)
- errors as `error` events, their fields in the event (openai-python's `ResponseErrorEvent`) or in `error` (recorded by
  vercel/ai, before a `response.failed` that says it again); as `error` without a type
- events without an `event:` line, `[DONE]` behind the last: servers that speak both APIs
- JSON instead of a stream: who does it is unknown

An end without one of the three is one that was cut: a failure.
"""

from __future__ import annotations

from typing import Any

from gateway import codec
from gateway.engine.models.answer_reader import AnswerReader, count
from gateway.engine.models.failures import failure_in_stream, unreadable
from gateway.engine.models.generation import Delta, Failure, Finish, Json, Usage
from gateway.engine.models.model_api import MakeCallId
from gateway.engine.models.responses_items import EVENTS, Items
from gateway.sse import Event

_BEGINS = {"response.created", "response.in_progress", "response.queued"}
_ENDS = {"response.completed", "response.incomplete", "response.failed", "response.cancelled"}
_READ = {*EVENTS, *_ENDS, "response.created"}


class StreamReader(AnswerReader):
    """Reads one answer. See `model_api.Reader` for what it promises."""

    def __init__(self, make_call_id: MakeCallId) -> None:
        super().__init__()
        self._items = Items(make_call_id)
        self._usage: Usage | None = None

    @property
    def is_answered(self) -> bool:
        """Reason and figures come in one event."""
        return self._is_over

    def _rest(self, *, is_closed: bool) -> list[Delta] | None:
        return None  # the end is an event

    def _used(self) -> Usage | None:
        return self._usage

    def _read(self, event: Event) -> list[Delta]:
        raw, name = event.data, event.name
        if name.startswith("response.") and name not in _READ:
            self._was_understood = True  # not worth parsing
            return []
        if not raw or (not raw.startswith(b"{") and raw.strip() == b"[DONE]"):
            return []
        try:
            document = codec.loads(raw)
        except ValueError:
            document = None
        if name == "error" or (type(document) is dict and _is_error(document)):
            return self._end(_failure(document, raw))
        if type(document) is not dict:
            return self._end(unreadable("sent what is not JSON"))
        return self._read_document(document, name)

    def _read_document(self, document: Json, name: str) -> list[Delta]:
        kind = document.get("type")
        kind = kind if type(kind) is str else name
        if (read := EVENTS.get(kind)) is not None:
            self._was_understood = True
            return read(self._items, document)
        response = document.get("response")
        if document.get("object") == "response" and "type" not in document:
            kind, response = f"response.{document.get('status')}", document
        told: Json = response if type(response) is dict else {}
        if kind in _ENDS:
            return self._read_end(told, _outcome(kind, told.get("status")))
        if kind in _BEGINS:
            self._items.know_tools(told.get("tools"))
        self._was_understood |= kind.startswith("response.")
        return []

    def _read_end(self, response: Json, outcome: str) -> list[Delta]:
        self._usage = _usage(response.get("usage"))
        if outcome == "failed":
            error = response.get("error")
            given_up = unreadable("gave up in the middle of its answer")
            return self._end(failure_in_stream(codec.dumps(error)) if type(error) is dict else given_up)
        self._items.know_tools(response.get("tools"))
        deltas = self._items.end_all(response.get("output"))
        if outcome == "incomplete":
            return deltas + self._end(_cut_short(response.get("incomplete_details")))
        if self._items.has_functions:
            return [*deltas, *self._items.close(), *self._end(Finish("tool_calls"))]
        return deltas + self._end(Finish("stop"))


def _outcome(kind: str, status: Any) -> str:
    """The worst of what the event says and the response in it: `completed`, `incomplete` or `failed`."""
    said = (kind.removeprefix("response."), status)
    if "failed" in said or "cancelled" in said:
        return "failed"
    return "incomplete" if "incomplete" in said else "completed"


def _is_error(document: Json) -> bool:
    """An answer that failed is an end, with its usage."""
    kind = document.get("type")
    return kind == "error" or (kind is None and document.get("object") != "response" and bool(document.get("error")))


def _failure(document: Any, raw: bytes) -> Failure:
    """The fields of the error stand in the event or in `error`; the event's own `type` says nothing of either."""
    if type(document) is dict and not document.get("error"):
        raw = codec.dumps({name: document[name] for name in ("code", "message") if name in document})
    return failure_in_stream(raw)


def _cut_short(details: Any) -> Finish | Failure:
    reason = details.get("reason") if type(details) is dict else None
    if reason in (None, "max_output_tokens"):
        return Finish("length")
    return Finish("content_filter") if reason == "content_filter" else unreadable("left its answer incomplete")


def _usage(value: Any) -> Usage | None:
    if type(value) is not dict:
        return None
    prompt, completion = count(value, "input_tokens"), count(value, "output_tokens")
    if not (prompt or completion):
        return None
    return Usage(
        prompt,
        completion,
        count(value, "total_tokens") or prompt + completion,
        cached_tokens=count(value.get("input_tokens_details"), "cached_tokens"),
        reasoning_tokens=count(value.get("output_tokens_details"), "reasoning_tokens"),
    )
