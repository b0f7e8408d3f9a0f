"""A stream, folded: what is to be known of every one, and for the level `full` the messages it amounts to.

Fed with each event as the caller gets it, ids public and protocol translated, so that nothing is parsed twice. Objects
that come whole (a message that is completed, a step, the run) are held as the bytes that were sent; what only came in
pieces, because the stream was cut, is put together from its deltas. Understood are the events of threads, chunks of
chat completions, and responses; other streams are counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway import codec

_OBJECTS_HELD = 1000
_WHOLE = ("completed", "incomplete", "failed", "cancelled", "expired", "requires_action")
_DELTAS = ("thread.message.delta", "thread.run.step.delta")
_OVERHEAD_BYTES = 64
"""Reckoned for each piece that is held, beside its text: a delta may be a single letter."""


@dataclass(frozen=True)
class Folded:
    """What `request.finished` tells of a stream: `text_length` counts characters; ids are public."""

    events: int
    text_length: int
    thread: str | None
    run: str | None
    run_status: str | None
    usage: Mapping[str, Any] | None


class Fold:
    """One for each stream. Holds nothing of what was said with `max_bytes` 0, and never much more than `max_bytes`."""

    def __init__(self, max_bytes: int = 0) -> None:
        self._max_bytes = max_bytes
        self._held_bytes = 0
        self._is_cut = False
        self._events = 0
        self._text_length = 0
        self._thread: str | None = None
        self._run: str | None = None
        self._run_status: str | None = None
        self._usage: Mapping[str, Any] | None = None
        self._spoke: set[str] = set()
        self._whole: dict[str, tuple[str, bytes]] = {}
        self._pieces: dict[tuple[str, str, str], list[str]] = {}

    def __call__(self, name: str, data: Mapping[str, Any] | None, raw: bytes | None = None) -> None:
        """One event: its name, its data if that is a JSON object, and the bytes of the data. Never raises for what a
        provider may send."""
        self._events += 1
        if name == "error":
            self._hold("errors", str(self._events), raw)
        if data is None:
            return
        kind = data.get("object")
        if type(kind) is not str:  # some vendors leave it out
            kind = name if name in _DELTAS else name.rpartition(".")[0]
        if kind == "thread.message.delta":
            self._on_message_delta(data)
        elif kind == "chat.completion.chunk":
            self._on_chunk(data)
        elif kind == "thread.run.step.delta":
            self._on_step_delta(data)
        elif kind == "thread.run":
            self._on_run(data, raw)
        elif kind == "thread.message":
            self._on_message(data, raw)
        elif kind == "thread.run.step":
            self._on_step(data, raw)
        elif kind == "thread":
            self._thread = _word(data.get("id")) or self._thread
        elif name.startswith("response."):
            self._on_response(name, data, raw)
        elif "error" in data and name != "error":
            self._hold("errors", str(self._events), raw)

    @property
    def has_heard(self) -> bool:
        """Whether there was a stream at all."""
        return self._events > 0

    def folded(self) -> Folded:
        """What is known so far."""
        return Folded(self._events, self._text_length, self._thread, self._run, self._run_status, self._usage)

    def content(self) -> bytes:
        """The stream as one JSON object: `run`, `messages`, `steps`, `errors` and so on, each object as it stood last;
        `is_cut` if it was more than may be held."""
        groups: dict[str, list[bytes]] = {}
        for group, raw in self._whole.values():
            groups.setdefault(group, []).append(raw)
        for group, objects in self._unfinished().items():
            groups.setdefault(group, []).extend(map(codec.dumps, objects))
        members = [b'"%s":[%s]' % (group.encode(), b",".join(objects)) for group, objects in groups.items()]
        return b'{"events":%d,"is_cut":%s%s}' % (
            self._events,
            b"true" if self._is_cut else b"false",
            b"".join(b"," + member for member in members),
        )

    # --- threads
    def _on_message_delta(self, data: Mapping[str, Any]) -> None:
        delta = data.get("delta")
        for part in _objects(delta.get("content") if type(delta) is dict else None):
            text = part.get("text")
            value = text.get("value") if type(text) is dict else None
            if type(value) is str:
                message = _word(data.get("id")) or ""
                self._spoke_of(message)
                self._say("messages", message, f"content.{part.get('index', 0)}", value, is_text=True)

    def _on_message(self, data: Mapping[str, Any], raw: bytes | None) -> None:
        message = _word(data.get("id")) or ""
        self._thread = _word(data.get("thread_id")) or self._thread
        if data.get("status") in _WHOLE:
            if message not in self._spoke:
                self._text_length += sum(map(_text_length, _objects(data.get("content"))))
            self._hold("messages", message, raw)

    def _on_step_delta(self, data: Mapping[str, Any]) -> None:
        step, delta = _word(data.get("id")) or "", data.get("delta")
        details = delta.get("step_details") if type(delta) is dict else None
        for call in _objects(details.get("tool_calls") if type(details) is dict else None):
            for tool in ("function", "code_interpreter"):
                said = call.get(tool)
                for field in ("name", "arguments", "input"):
                    if type(said) is dict and type(value := said.get(field)) is str:
                        self._say("steps", step, f"{call.get('index', 0)}.{tool}.{field}", value)

    def _on_step(self, data: Mapping[str, Any], raw: bytes | None) -> None:
        if data.get("status") in _WHOLE:
            self._hold("steps", _word(data.get("id")) or "", raw)

    def _on_run(self, data: Mapping[str, Any], raw: bytes | None) -> None:
        self._run = _word(data.get("id")) or self._run
        self._thread = _word(data.get("thread_id")) or self._thread
        self._run_status = _word(data.get("status")) or self._run_status
        self._note_usage(data.get("usage"))
        self._hold("runs", self._run or "", raw)

    # --- paths that pass through
    def _on_chunk(self, data: Mapping[str, Any]) -> None:
        self._note_usage(data.get("usage"))
        for choice in _objects(data.get("choices")):
            delta = choice.get("delta")
            if type(delta) is not dict:
                continue
            completion = _word(data.get("id")) or ""
            if type(value := delta.get("content")) is str:
                self._say("completions", completion, f"{choice.get('index', 0)}.content", value, is_text=True)
            for call in _objects(delta.get("tool_calls")):
                said = call.get("function")
                for field in ("name", "arguments"):
                    if type(said) is dict and type(value := said.get(field)) is str:
                        place = f"{choice.get('index', 0)}.tool_calls.{call.get('index', 0)}.{field}"
                        self._say("completions", completion, place, value)

    def _on_response(self, name: str, data: Mapping[str, Any], raw: bytes | None) -> None:
        if name == "response.output_text.delta":
            if type(value := data.get("delta")) is str:
                self._say("responses", "", "output_text", value, is_text=True)
        elif name.rpartition(".")[2] in _WHOLE and type(response := data.get("response")) is dict:
            self._note_usage(response.get("usage"))
            self._hold("responses", "", raw)

    # --- what is held
    def _note_usage(self, usage: Any) -> None:
        if type(usage) is dict:
            self._usage = usage

    def _spoke_of(self, message: str) -> None:
        if len(self._spoke) < _OBJECTS_HELD:
            self._spoke.add(message)

    def _say(self, group: str, of: str, place: str, text: str, *, is_text: bool = False) -> None:
        if is_text:
            self._text_length += len(text)
        if self._max_bytes and self._has_room(len(text) + _OVERHEAD_BYTES):
            self._pieces.setdefault((group, of, place), []).append(text)

    def _hold(self, group: str, of: str, raw: bytes | None) -> None:
        """In place of what stood there before, and of the pieces it came in."""
        if not self._max_bytes or raw is None:
            return
        _, before = self._whole.pop(f"{group}/{of}", ("", b""))
        self._held_bytes -= len(before) + _OVERHEAD_BYTES if before else 0
        for key in [key for key in self._pieces if key[:2] == (group, of)]:
            self._held_bytes -= sum(len(piece) + _OVERHEAD_BYTES for piece in self._pieces.pop(key))
        if self._has_room(len(raw) + _OVERHEAD_BYTES):
            self._whole[f"{group}/{of}"] = (group, raw)

    def _has_room(self, more_bytes: int) -> bool:
        if self._held_bytes + more_bytes > self._max_bytes:
            self._is_cut = True
            return False
        self._held_bytes += more_bytes
        return True

    def _unfinished(self) -> dict[str, list[dict[str, Any]]]:
        """What came in pieces only: `{"id", "is_whole": false, <place>: <text>}`."""
        found: dict[str, dict[str, dict[str, Any]]] = {}
        for (group, of, place), pieces in self._pieces.items():
            thing = found.setdefault(group, {}).setdefault(of, {"id": of, "is_whole": False})
            thing[place] = "".join(pieces)
        return {group: list(things.values()) for group, things in found.items()}


def _word(value: Any) -> str | None:
    return value if type(value) is str else None


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if type(item) is dict] if type(value) is list else []


def _text_length(part: Mapping[str, Any]) -> int:
    text = part.get("text")
    value = text.get("value") if type(text) is dict else text
    return len(value) if type(value) is str else 0
