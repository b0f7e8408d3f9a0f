"""Records as lines, each bound to the one before. Pure: no files, no clock.

A line is one JSON object: `v`, `seq`, `time` and `kind` first, then the facts, then `prev` and `h`. `h` is the SHA-256
of the line as it would be without `,"h":"…"` and without its end of line; `prev` is the `h` of the record before, also
across files. So bytes are what is proved: whoever checks needs no rules on how JSON is spelt.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import orjson

GENESIS = "0" * 64
"""`prev` of the first record of all."""

RESERVED = frozenset(("v", "seq", "time", "kind", "prev", "h"))
"""Names that no fact may have."""

_TAIL = len(b',"h":"') + 64 + len(b'"}\n')
_NS_PER_S = 1_000_000_000


class Position(NamedTuple):
    """A record by its place: the name of its file, its number, its hash."""

    file: str
    seq: int
    head: str


class Line(NamedTuple):
    """What a line says. `is_whole` is whether its own hash is right."""

    seq: int
    time: str
    kind: str
    prev: str
    h: str
    is_whole: bool
    facts: Mapping[str, Any]
    """All of the object, the chain's own fields too."""


class Bound(NamedTuple):
    """The end of a file that another one's header is bound to. `unsealed` says why it was left without a seal."""

    file: str
    seq: int
    head: str
    unsealed: str | None


def line_of(seq: int, at: str, kind: str, facts: Mapping[str, Any], prev: str) -> tuple[bytes, str]:
    """The line, with its end, and its hash."""
    body = _dumps({"v": 1, "seq": seq, "time": at, "kind": kind, **facts, "prev": prev})
    h = hashlib.sha256(body).hexdigest()
    return b'%b,"h":"%b"}\n' % (body[:-1], h.encode()), h


def read_line(raw: bytes) -> Line | None:
    """None for what is no record at all."""
    try:
        facts = orjson.loads(raw)
        line = Line(facts["seq"], facts["time"], facts["kind"], facts["prev"], facts["h"], False, facts)
    except (ValueError, TypeError, KeyError):
        return None
    if type(line.seq) is not int or not all(type(each) is str for each in line[1:5]):
        return None
    body = raw[:-_TAIL] + b"}"
    if raw[-_TAIL:] == b',"h":"%b"}\n' % line.h.encode() and hashlib.sha256(body).hexdigest() == line.h:
        return line._replace(is_whole=True)
    return line


def bound_ends(header: Line) -> Iterator[Bound]:
    """What a header says it is bound to. What a forger wrote in place of that is passed by."""
    previous = header.facts.get("previous")
    also = previous.get("also") if isinstance(previous, dict) else None
    for end in (previous, *(also if isinstance(also, list) else ())):
        match end:
            case {"file": str(file), "seq": int(seq), "head": str(head)}:
                yield Bound(file, seq, head, str(end["unsealed"]) if "unsealed" in end else None)


class Moments:
    """Times as records show them: UTC, RFC 3339, always with microseconds, so that they sort as text.

    The text of a second is kept for the next record: that is most of the work. For one thread.
    """

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def text(self, time_ns: int) -> str:
        second, rest = divmod(time_ns, _NS_PER_S)
        if second != self._second:
            self._second, self._text = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._text}.{rest // 1000:06d}Z"


def _dumps(record: dict[str, Any]) -> bytes:
    """Nobody gets out of the trail by a value that JSON cannot hold: such a value is shown as text."""
    try:
        return orjson.dumps(record, default=str)
    except TypeError:  # a lone surrogate, an integer beyond 64 bits, nesting without end
        return orjson.dumps(_plain(record, 20))


def _plain(value: Any, levels: int) -> Any:
    if isinstance(value, Mapping) and levels:
        return {_plain(str(name), 1): _plain(inner, levels - 1) for name, inner in value.items()}
    if isinstance(value, list | tuple) and levels:
        return [_plain(inner, levels - 1) for inner in value]
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return int(value)
    return str(value).encode("utf-8", "replace").decode()
