"""JSON in and out, exactly.

orjson does the work. Where it refuses valid JSON (lone surrogates) or would change it (integers beyond 64 bits) the
standard library takes over, so that a caller's words reach the provider as they were.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterable
from typing import Any

import orjson

_DIGITS_AS_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_LONG_NUMBER = b"0" * 19
_ESCAPED_ASCII = re.compile(rb"\\u00", re.IGNORECASE)


class DuplicateName(ValueError):
    """A name stands twice in one object."""

    def __init__(self, name: str) -> None:
        super().__init__(f"'{name}' is given twice in one object")
        self.name = name


def loads(raw: bytes) -> Any:
    """Parse UTF-8 JSON. Raises ValueError for anything RFC 8259 does not allow, NaN and deep nesting included
    (1024 levels with orjson, the interpreter's recursion limit otherwise)."""
    # Twenty times faster than to search for a pattern in a long document.
    if _LONG_NUMBER not in raw.translate(_DIGITS_AS_ZEROS):
        try:
            return orjson.loads(raw)
        except ValueError:
            if b"\\u" not in raw:
                raise
    try:
        return json.loads(raw.decode("utf-8"), parse_constant=_no_constant, parse_float=_finite)
    except RecursionError as exc:
        raise ValueError("nested too deeply") from exc


def dumps(value: Any) -> bytes:
    """Serialise what `loads` gave back. Never raises for such a value."""
    try:
        return orjson.dumps(value)
    except TypeError:  # an integer beyond 64 bits, a lone surrogate, or more than 254 levels
        return _dumps_anything(value)


def canonical(value: Any) -> bytes:
    """The same bytes for all JSON that says the same: names of objects are in order. Never raises for what `loads`
    gave back."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        return _dumps_anything(value, sort_keys=True)


def _dumps_anything(value: Any, *, sort_keys: bool = False) -> bytes:
    allowed = sys.getrecursionlimit()
    # Python 3.11 counts a level of JSON as a call; orjson reads 1024 levels, which is more than all it allows.
    sys.setrecursionlimit(allowed + 2048)
    try:
        return json.dumps(value, separators=(",", ":"), sort_keys=sort_keys).encode("ascii")
    finally:
        sys.setrecursionlimit(allowed)


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


def _finite(number: str) -> float:
    if math.isinf(value := float(number)):
        raise ValueError(f"{number[:20]} is beyond what a number can hold")
    return value


def is_deeper_than(value: Any, raw: bytes, limit: int) -> bool:
    """Whether arrays and objects nest in more than `limit` levels; brackets are counted first because that is cheap
    and nearly always enough."""
    if raw.count(b"[") + raw.count(b"{") <= limit:
        return False
    level = [value]
    for _ in range(limit):
        level = [
            item
            for container in level
            for item in (container.values() if type(container) is dict else container)
            if type(item) in (dict, list)
        ]
        if not level:
            return False
    return True


def refuse_hidden_names(raw: bytes, names: Iterable[bytes]) -> None:
    """Guard for a body that goes through byte for byte: refuse one in which a name stands twice.

    Parsers disagree on which of two equal names counts. Ours takes the last; a provider that took the first would
    read an id that was never checked. Only bodies that mention an id's name, plain or escaped, are looked at.
    Raises DuplicateName.
    """
    if not _ESCAPED_ASCII.search(raw) and not any(name in raw for name in names):
        return

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len(members) != len(pairs):
            seen: set[str] = set()
            twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
            raise DuplicateName(twice)
        return members

    json.loads(raw, object_pairs_hook=unique)
