"""A provider's stream events as the caller gets them. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway import codec, shapes
from gateway.phases.judge import is_about_key
from gateway.phases.read_facts import Run, read_run
from gateway.phases.rewrite_in import in_envelope, read_refusal
from gateway.protocols import SAME, Translation
from gateway.public_ids import PublicIds
from gateway.sse import Event

Hear = Callable[[str, dict[str, Any] | None, bytes | None], None]
"""Is told of each event as the caller gets it: its name, its data as an object if it is one, and as bytes."""


class EventRewriter:
    """Event → bytes for the caller: ids, shapes, wrapped errors. One for each stream."""

    def __init__(
        self,
        public: PublicIds,
        mend: Callable[[dict[str, Any]], None],
        translation: Translation = SAME,
        hear: Hear | None = None,
    ) -> None:
        self._public = public
        self._mend = mend
        self._translation = translation
        self._hear = hear
        self.events = 0
        self.is_done = False
        self.run: Run | None = None
        """The run as the stream told of it last."""

    def __call__(self, event: Event) -> bytes:
        """The bytes of one event. What is not JSON, and what nobody knows, passes as it came."""
        self.events += event.data is not None
        if event.name == "done" or event.data == b"[DONE]":
            self.is_done = True
            self._tell(event.name, None, event.data)
            return event.encode()
        data = read_object(event.data)
        if event.data is None and (document := read_object(others := b"\n".join(event.others))) is not None:
            return self._unmask(document, others)
        if event.data is not None and (event.name == "error" or _is_error(data)):
            event.data = self._error(event.data)
            self._tell("error", None, event.data)
        elif data is not None:
            event.name, data = self._translation.event(event.name, self._rewrite(event.name, data))
            event.data = codec.dumps(data)
            self._tell(event.name, data, event.data)
        return event.encode()

    def _tell(self, name: str, data: dict[str, Any] | None, raw: bytes | None) -> None:
        if self._hear is not None:
            self._hear(name, data, raw)

    def _unmask(self, document: dict[str, Any], raw: bytes) -> bytes:
        """JSON under a stream's label, which a parser of events takes for lines without a meaning: the run, or what
        went wrong. It is the whole answer."""
        self.is_done = True
        if is_run(document):
            run = self._translation.answer(self._rewrite("thread.run", document))
            self._tell(f"thread.run.{run['status']}", run, codec.dumps(run))
            return run_as_events(run)
        error = self._error(raw)
        self._tell("error", None, error)
        return Event("error", error).encode()

    def _error(self, raw: bytes) -> bytes:
        if is_about_key(read_refusal(0, raw).code):
            return keys_exhausted()
        # Unwrapped it raises nothing in openai-python; wrapped it raises with the vendor's words.
        return in_envelope(raw, self._public, default_type="server_error", default_code="provider_error")

    def _rewrite(self, name: str, data: dict[str, Any]) -> dict[str, Any]:
        shape = shapes.shape_of_event(name, data)
        if shape is shapes.RUN:
            self.run = read_run(data) or self.run  # before it is mended: this is about the provider's own words
        self._mend(data)
        shapes.rewrite(data, shape, self._public)
        return data


def run_in(event: Event) -> Run | None:
    """The run that an event tells of."""
    data = read_object(event.data)
    is_told = data is not None and shapes.shape_of_event(event.name, data) is shapes.RUN
    return read_run(data) if data is not None and is_told else None


_RUN_STATUSES = (
    *("queued", "in_progress", "requires_action", "cancelling"),
    *("cancelled", "failed", "completed", "incomplete", "expired"),
)


def is_run(document: dict[str, Any]) -> bool:
    """Whether an object that came in place of a stream is the run that was asked for."""
    return document.get("status") in _RUN_STATUSES and document.get("object", "thread.run") == "thread.run"


def read_object(data: bytes | None) -> dict[str, Any] | None:
    """The JSON object in an event's data, None for anything else."""
    if data is None or not data.lstrip().startswith(b"{"):
        return None
    try:
        document = codec.loads(data)
    except ValueError:
        return None
    return document if type(document) is dict else None


def _is_error(data: dict[str, Any] | None) -> bool:
    """Whether an event's data is an error whatever the event is called: some streams have no names."""
    return data is not None and type(data.get("error")) is dict and "object" not in data


def error_data(message: str, code: str) -> bytes:
    """The data of an `error` event that the official SDKs raise from."""
    return codec.dumps({"error": {"message": message, "type": "server_error", "param": None, "code": code}})


def keys_exhausted() -> bytes:
    """In place of what a stream says of our key."""
    return error_data("the provider accepts none of the gateway's keys any more", "upstream_credentials_exhausted")


def run_as_events(run: dict[str, Any]) -> bytes:
    """For a provider that answered a streamed request with the run itself: one event that says how it stands."""
    return Event(f"thread.run.{run['status']}", codec.dumps(run)).encode() + Event("done", b"[DONE]").encode()
