"""What the readers of all model APIs share: how the bytes of an answer are parted, and how an answer comes to its end.

A stream was asked for. Who answers with one JSON document all the same is heard too: all of it is one event, without a
name, that comes when the answer is closed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

from gateway.engine.models.failures import unreadable
from gateway.engine.models.generation import Delta, Failure, Finish, Usage
from gateway.sse import Event, EventParser, EventTooLarge

_MAX_DOCUMENT_BYTES = 16 * 1024 * 1024
"""Of an answer that is no stream; an event of a stream has the same limit."""
_BEFORE_JSON = b" \t\r\n\xef\xbb\xbf"


class AnswerReader(ABC):
    """Reads one answer, see `model_api.Reader`. The class of a model API says what an event adds, what was used, and
    whether an answer that just ends is whole."""

    def __init__(self) -> None:
        self._parser = EventParser(_MAX_DOCUMENT_BYTES)
        self._document: bytearray | None = None
        self._is_stream = False
        self._was_understood = False
        """Set by `_read` at the first thing that has the API's form; decides what a bad end is called."""
        self._is_over = False

    # --- what a model API says -------------------------------------------------------------------------------------
    @property
    @abstractmethod
    def is_answered(self) -> bool: ...

    @abstractmethod
    def _read(self, event: Event) -> list[Delta]:
        """What an event adds. One that ends the answer calls `_end`."""

    @abstractmethod
    def _rest(self, *, is_closed: bool) -> list[Delta] | None:
        """What is left to be told if nothing follows, the end included; None if the answer is not whole. `is_closed`:
        the vendor closed it in good order."""

    @abstractmethod
    def _used(self) -> Usage | None:
        """The figures so far."""

    # --- what is the same for all ----------------------------------------------------------------------------------
    @property
    def is_over(self) -> bool:
        return self._is_over

    @property
    def _is_document(self) -> bool:
        return self._document is not None

    def feed(self, chunk: bytes) -> list[Delta]:
        if self._is_over:
            return []
        if self._document is None and not self._is_stream:
            self._look_at_begin(chunk)
        if self._document is not None:
            self._document += chunk
            return self._refuse_size() if len(self._document) > _MAX_DOCUMENT_BYTES else []
        return self._read_all(self._parser.feed(chunk))

    def close(self) -> list[Delta]:
        if self._is_over:
            return []
        if self._document is not None:
            deltas = self._read_all([Event(data=bytes(self._document).strip(_BEFORE_JSON))])
        else:
            deltas = self._read_all(self._parser.close())
        if self._is_over:
            return deltas
        if (rest := self._rest(is_closed=True)) is not None:
            return deltas + rest
        what = "broke off its answer" if self._was_understood else "gave no answer that can be read"
        return deltas + self._end(unreadable(what))

    def cut(self, why: str) -> list[Delta]:
        if self._is_over:
            return []
        rest = self._rest(is_closed=False)
        return self._end(Failure("server_error", why)) if rest is None else rest

    def _look_at_begin(self, chunk: bytes) -> None:
        """The first byte tells JSON from a stream: no line of a stream begins so."""
        begin = chunk.lstrip(_BEFORE_JSON)[:1]
        if begin in (b"{", b"["):
            self._document = bytearray()
        self._is_stream = self._document is None and begin != b""

    def _read_all(self, events: Iterable[Event]) -> list[Delta]:
        deltas: list[Delta] = []
        try:
            for event in events:
                deltas += self._read(event)
                if self._is_over:
                    break
        except EventTooLarge:
            deltas += self._refuse_size()
        return deltas

    def _refuse_size(self) -> list[Delta]:
        return self._end(unreadable("sent more than can be read"))

    def _end(self, last: Finish | Failure) -> list[Delta]:
        """What was used was used, however it ended."""
        self._is_over = True
        usage = self._used()
        return [last] if usage is None else [usage, last]


def count(counts: Any, name: str) -> int:
    """A figure among those that a vendor told; 0 for none."""
    value = counts.get(name) if type(counts) is dict else None
    return value if type(value) is int and value >= 0 else 0
