"""The files of a trail: their names, their locks, how they are read and compressed.

A process writes one file set, `<replica>-<boot>-<nnnn>.jsonl`. The file it writes is locked (flock) as long as the
process lives, so that whoever finds a file knows whether somebody still writes it. A sealed file may be compressed:
the same name with `.zst` behind. Where both are there, a crash came between, and the plain one counts.
"""

from __future__ import annotations

import fcntl
import io
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple, cast

from gateway.audit.chain import Line, read_line

LONGEST_LINE_BYTES = 64 * 1024 * 1024
"""What is longer is no record; nobody's memory is filled with it."""

_NAME = re.compile(r"(?P<replica>.+)-(?P<boot>\d{8}T\d{6}Z[0-9a-f]{6})-(?P<number>\d{4,})\.jsonl")
_READ_BYTES = 1024 * 1024
_LAST_BYTES = 256 * 1024
_COMPRESSION_LEVEL = 6


class Name(NamedTuple):
    """The name of a file of the trail, without `.zst`. Names sort by replica, boot and number."""

    replica: str
    boot: str
    number: int

    def __str__(self) -> str:
        return f"{self.replica}-{self.boot}-{self.number:04d}.jsonl"

    @classmethod
    def parse(cls, name: str) -> Name | None:
        """None for what is no file of a trail."""
        match = _NAME.fullmatch(name.removesuffix(".zst"))
        return cls(match["replica"], match["boot"], int(match["number"])) if match else None


class Last(NamedTuple):
    """How a file ends: its last whole record, and how many bytes stand behind it."""

    line: Line | None
    rest_bytes: int
    rest_has_lines: bool
    """Whether what stands behind is more than one torn line."""

    @property
    def is_sealed(self) -> bool:
        return self.line is not None and self.line.kind == "file.sealed" and self.rest_bytes == 0


def new_boot(now_s: float) -> str:
    """Names a start of the gateway; two in one second differ."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_s)) + secrets.token_hex(3)


def find(folder: Path) -> dict[Name, Path]:
    """Every file of every trail in the folder, in the order of names. Raises OSError."""
    found: dict[Name, Path] = {}
    for path in sorted(folder.iterdir(), reverse=True):  # the plain one comes last and counts
        if (name := Name.parse(path.name)) is not None:
            found[name] = path
    return dict(sorted(found.items()))


def lock(descriptor: int) -> bool:
    """Whether the file is ours now, until `descriptor` is closed."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_live(path: Path) -> bool:
    """Whether a process writes this file."""
    if path.suffix == ".zst":
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def sync_folder(folder: Path) -> None:
    """What was created, renamed or removed in the folder survives a loss of power. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def opened(path: Path) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """A file to be read, plain or compressed, and what it is read from, whose `tell` shows how far that is.

    A file that was compressed a moment ago is found under its other name. Raises OSError and `Damaged`.
    """
    try:
        raw = path.open("rb")
    except FileNotFoundError:
        other = path.with_suffix("") if path.suffix == ".zst" else path.with_name(path.name + ".zst")
        path, raw = other, other.open("rb")
    with raw:
        if path.suffix != ".zst":
            yield raw, raw
            return
        import zstandard  # only where there is something compressed

        reader = zstandard.ZstdDecompressor().stream_reader(raw, read_size=_READ_BYTES)
        with io.BufferedReader(cast(io.RawIOBase, reader), _READ_BYTES) as plain:
            try:
                yield cast(IO[bytes], plain), raw
            except zstandard.ZstdError as exc:
                raise Damaged(str(exc)) from exc


class Damaged(Exception):
    """A compressed file cannot be decompressed further."""


def read_last(path: Path) -> Last:
    """How the file ends. Of a plain file only the end is read, if the last record is there. Raises OSError, Damaged."""
    with opened(path) as (file, raw):
        if file is raw:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _LAST_BYTES))
            last = _last_of(file.read())
            if last.line is not None or size <= _LAST_BYTES:
                return last
            file.seek(0)
        tail = b""
        while piece := file.read(_READ_BYTES):
            tail = (tail + piece)[-LONGEST_LINE_BYTES:] if b"\n" not in piece else _since_last_line(tail + piece)
        return _last_of(tail)


def _since_last_line(piece: bytes) -> bytes:
    """From the last whole line on."""
    end = piece.rfind(b"\n")
    return piece[piece.rfind(b"\n", 0, end) + 1 :]


def _last_of(tail: bytes) -> Last:
    end = tail.rfind(b"\n") + 1
    rest_bytes, has_lines = len(tail) - end, False
    while end > 0:
        start = tail.rfind(b"\n", 0, end - 1) + 1
        line = read_line(tail[start:end])
        if line is not None and line.is_whole:
            return Last(line, rest_bytes, has_lines)
        rest_bytes, has_lines = rest_bytes + end - start, True
        end = start
    return Last(None, rest_bytes, has_lines)


def read_first(path: Path) -> Line | None:
    """A file's header. Raises OSError, Damaged."""
    with opened(path) as (file, _):
        return read_line(file.readline(LONGEST_LINE_BYTES))


def compress(path: Path, *, unique: str) -> Path:
    """Put a compressed file in the place of a sealed one, with the same modification time.

    A crash leaves either the plain file, or both, or the compressed one; never less. `unique` keeps two processes
    apart. Raises OSError.
    """
    import zstandard

    target = path.with_name(path.name + ".zst")
    unfinished = path.with_name(f"{target.name}.{unique}.tmp")
    try:
        with path.open("rb") as plain, open(unfinished, "xb", opener=_private) as packed:
            found = os.fstat(plain.fileno())
            packer = zstandard.ZstdCompressor(level=_COMPRESSION_LEVEL, write_checksum=True)
            packer.copy_stream(plain, packed, size=found.st_size, read_size=_READ_BYTES)
            packed.flush()
            os.utime(packed.fileno(), ns=(found.st_atime_ns, found.st_mtime_ns))
            os.fsync(packed.fileno())
        unfinished.rename(target)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink()
        raise
    sync_folder(path.parent)
    path.unlink(missing_ok=True)
    return target


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
