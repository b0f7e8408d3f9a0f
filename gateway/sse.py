"""Server-sent events, sans I/O: bytes in, events out; an event in, bytes out.

Rules of the WHATWG description, as far as relaying needs them: lines end with LF, CR LF or CR and with nothing else
(a text may hold U+2028); a blank line ends an event; several `data` lines are one text joined by LF. Comments and
fields nobody knows are kept, because a relay that tidies up loses what others rely on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_LINE_END = re.compile(rb"\r\n|\n|\r")


class EventTooLarge(ValueError):
    """A single event is larger than the parser may hold."""


@dataclass(slots=True)
class Event:
    """One block of a stream: what stood between two blank lines. `name` is "" without an event field; `data` is None
    without any data line, as in a block of comments. `others` are the remaining lines, as they came."""

    name: str = ""
    data: bytes | None = None
    others: list[bytes] = field(default_factory=list)

    def encode(self) -> bytes:
        """The event on the wire, with LF line ends, comments and other fields first."""
        lines = list(self.others)
        if self.name:
            lines.append(b"event: " + self.name.encode())
        if self.data is not None:
            lines.append(b"data: " + self.data.replace(b"\n", b"\ndata: "))
        return b"\n".join(lines) + b"\n\n"


class EventParser:
    """Feed it bytes as they arrive, cut anywhere; it yields whole events.

    Holds at most one unfinished event of at most `max_event_bytes`; beyond that EventTooLarge is raised.
    """

    def __init__(self, max_event_bytes: int = 16 * 1024 * 1024) -> None:
        self._max_event_bytes = max_event_bytes
        self._tail = bytearray()
        self._searched = 0
        self._ended_in_cr = False
        self._event = Event()
        self._data: list[bytes] = []
        self._held_bytes = 0
        self._started = False

    @property
    def is_between_events(self) -> bool:
        """Nothing of an unfinished event is held."""
        return not (self._tail or self._data or self._event.name or self._event.others)

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Events that `chunk` completes. Raises EventTooLarge."""
        yield from self._events_in(self._complete_lines(chunk))
        if self._held_bytes + len(self._tail) > self._max_event_bytes:
            raise EventTooLarge(f"an event of more than {self._max_event_bytes} bytes")

    def close(self) -> Iterator[Event]:
        """The stream ended in good order: what is left is an event without its blank line."""
        left = bytes(self._tail)
        self._tail.clear()
        yield from self._events_in([*_LINE_END.split(left), b""])

    def _complete_lines(self, chunk: bytes) -> list[bytes]:
        """Cut off the complete lines. A CR that ends a chunk ends its line at once; a LF that follows belongs to it."""
        plain = chunk.replace(b"\r\n", b"\n")
        if b"\r" not in plain and not self._ended_in_cr:  # as nearly all streams are; nor is there one in what is held
            first, *others = plain.split(b"\n")
            self._tail += first
            if not others:
                return []
            lines = [bytes(self._tail), *others]
            self._tail[:] = lines.pop()
            self._searched = len(self._tail)
            return lines
        self._tail += chunk
        if self._ended_in_cr and self._tail:
            self._tail = self._tail.removeprefix(b"\n")
            self._ended_in_cr = False
        lines, start = [], 0
        for end in _LINE_END.finditer(self._tail, self._searched):
            lines.append(bytes(self._tail[start : end.start()]))
            start = end.end()
            self._ended_in_cr = start == len(self._tail) and end.group() == b"\r"
        del self._tail[:start]
        self._searched = len(self._tail)
        return lines

    def _events_in(self, lines: list[bytes]) -> Iterator[Event]:
        for line in lines:
            if not self._started:
                self._started = True
                line = line.removeprefix(b"\xef\xbb\xbf")
            if line:
                self._take(line)
            elif event := self._dispatch():
                yield event

    def _take(self, line: bytes) -> None:
        self._held_bytes += len(line)
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._event.name = value.decode("utf-8", "replace")
        else:
            self._event.others.append(line)

    def _dispatch(self) -> Event | None:
        event, data = self._event, self._data
        self._event, self._data, self._held_bytes = Event(), [], 0
        if data:
            event.data = b"\n".join(data)
        return event if data or event.name or event.others else None
