"""What a multipart body says, apart from the boundary that its sender drew between the parts. Sans I/O.

A client that sends a form again draws another boundary, so the digest of a form is made of its parts: their headers
(name, file name, content type) and their contents, in order. Contents pass by in pieces and are never held.
"""

from __future__ import annotations

import hashlib
import re
from enum import Enum

_BOUNDARY = re.compile(rb';\s*boundary=(?:"([^"\\]{1,70})"|([^\s;",]{1,70}))', re.IGNORECASE)
_HEAD_BYTES = 16 * 1024
"""Most that the headers of one part may take."""
_PADDING_BYTES = 256
"""Most that may stand between a boundary and the end of its line: blanks, by the standard."""


class _At(Enum):
    PREAMBLE = "before the first part"
    DELIMITER = "a boundary that begins the buffer"
    HEAD = "the headers of a part, from the line end before them"
    CONTENT = "the content of a part"
    END = "behind the last boundary"
    BROKEN = "this is no form"


class PartsDigest:
    """Fed with a body in pieces of any size, the digest of its parts."""

    def __init__(self, content_type: str) -> None:
        found = _BOUNDARY.search(content_type.encode("utf-8", "replace"))
        self._delimiter = b"\r\n--" + ((found[1] or found[2]) if found else b"")
        self._at = _At.PREAMBLE if found else _At.BROKEN
        self._buffer = bytearray(b"\r\n")  # the first boundary may be the first line
        self._parts = hashlib.blake2b(digest_size=32)
        self._content = hashlib.blake2b(digest_size=32)

    def feed(self, data: bytes) -> None:
        if self._at in (_At.END, _At.BROKEN):
            return
        self._buffer += data
        while self._advance():
            pass

    def digest(self) -> bytes | None:
        """None for what has no last boundary, or is no form at all."""
        return self._parts.digest() if self._at is _At.END else None

    def _advance(self) -> bool:
        """One step on; False when more data is needed, or none."""
        if self._at is _At.DELIMITER:
            return self._read_delimiter()
        if self._at is _At.HEAD:
            return self._read_head()
        if self._at in (_At.PREAMBLE, _At.CONTENT):
            return self._read_content()
        return False

    def _read_content(self) -> bool:
        place = self._buffer.find(self._delimiter)
        is_found = place >= 0
        # Without a boundary all is content but what may be the beginning of one.
        end = place if is_found else max(0, len(self._buffer) - len(self._delimiter) + 1)
        self._content.update(self._buffer[:end])
        del self._buffer[:end]
        if is_found:
            if self._at is _At.CONTENT:
                self._parts.update(self._content.digest())
            self._at = _At.DELIMITER
        return is_found

    def _read_delimiter(self) -> bool:
        behind = self._buffer[len(self._delimiter) : len(self._delimiter) + _PADDING_BYTES]
        if len(behind) < 2:
            return False
        if behind.startswith(b"--"):
            self._at = _At.END
            return False
        padding, line_end, _ = behind.partition(b"\r\n")
        if padding.strip(b" \t\r") or (not line_end and len(behind) == _PADDING_BYTES):
            self._at = _At.BROKEN
            return False
        if line_end:
            del self._buffer[: len(self._delimiter) + len(padding)]
            self._at = _At.HEAD
        return bool(line_end)

    def _read_head(self) -> bool:
        place = self._buffer.find(b"\r\n\r\n", 0, _HEAD_BYTES)
        if place < 0:
            self._at = _At.BROKEN if len(self._buffer) >= _HEAD_BYTES else _At.HEAD
            return False
        for line in sorted(map(_in_one_form, self._buffer[2:place].split(b"\r\n"))):
            self._parts.update(len(line).to_bytes(4, "big") + line)
        self._parts.update(b"\xff\xff\xff\xff")
        del self._buffer[: place + 4]
        self._content = hashlib.blake2b(digest_size=32)
        self._at = _At.CONTENT
        return True


def _in_one_form(line: bytearray) -> bytes:
    name, colon, value = line.partition(b":")
    return bytes(name.strip().lower() + colon + value.strip())
