"""The files that one process writes: records appended in batches, rotated, sealed. Synchronous, for one thread.

What fails is settled here as far as it can be: a batch is in the chain as a whole or not at all. When the disk is full
the torn piece is cut off again; a file that is gone, or whose fsync failed (what it held in memory may be lost then),
is left and the batch written to a new one, whose header says so.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from gateway.audit.chain import GENESIS, Moments, Position, line_of
from gateway.audit.files import Name, lock, sync_folder

FULL = frozenset((errno.ENOSPC, errno.EDQUOT))
"""Another file would be no better."""


class Entry(NamedTuple):
    """A record before it has its place."""

    time_ns: int
    kind: str
    facts: Mapping[str, Any]


class _Live(NamedTuple):
    """The file that is written."""

    descriptor: int
    path: Path
    inode: int
    opened_s: float


class FileSet:
    """The file set of one boot. `previous` is the end that its first header is bound to, `facts` are in every header.

    `sync`: what `append` returned for is on the disk, not only with the system.
    """

    def __init__(
        self,
        folder: Path,
        *,
        replica: str,
        boot: str,
        facts: Mapping[str, Any],
        previous: Mapping[str, Any] | None = None,
        head: str = GENESIS,
        sync: bool = False,
        skipped: Callable[[], Mapping[str, int]] = dict,
        on_sealed: Callable[[Path, Position], None] = lambda path, position: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._name = Name(replica, boot, 0)
        self._facts = facts
        self._previous = previous
        self._sync = sync
        self._skipped = skipped
        self._skips_told: Mapping[str, int] = {}
        self._on_sealed = on_sealed
        self._clock = clock
        self._moments = Moments()
        self._live: _Live | None = None
        self._seq = 0
        self._head = head
        self._size = 0
        self._lines = 0
        self.position: Position | None = None
        """The last record that is in the chain; None before the first. For any thread."""

    def open(self) -> None:
        """Have a file to write to. Raises OSError."""
        if self._live is None:
            self._begin(self._create())

    def append(self, entries: Sequence[Entry]) -> None:
        """Write a batch. Raises OSError when nothing of it is in the chain; it may be tried again at any time."""
        try:
            self._append(entries)
        except OSError as exc:
            if exc.errno in FULL:
                raise
            self._append(entries)

    def _append(self, entries: Sequence[Entry]) -> None:
        try:
            self.open()
            lines, head = self._lines_of(entries)
            self._write(b"".join(lines))
        except Exception as exc:
            self._settle(exc)
            raise
        self._accept(lines, head)

    def _lines_of(self, entries: Sequence[Entry]) -> tuple[list[bytes], str]:
        lines, seq, head = [], self._seq, self._head
        for time_ns, kind, facts in entries:
            seq += 1
            line, head = line_of(seq, self._moments.text(time_ns), kind, facts, head)
            lines.append(line)
        return lines, head

    def _write(self, data: bytes) -> None:
        assert self._live is not None
        write_all(self._live.descriptor, data)
        if self._sync:
            sync_data(self._live.descriptor)
        # A file that was removed can be written still, and nobody would ever read it.
        if os.stat(self._live.path).st_ino != self._live.inode:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self._live.path))

    def _accept(self, lines: Sequence[bytes], head: str) -> None:
        self._seq += len(lines)
        self._lines += len(lines)
        self._size += sum(map(len, lines))
        self._head = head
        self.position = Position(str(self._name), self._seq, head)

    def _settle(self, why: Exception) -> None:
        """After a failure: no torn piece may stay in front of what is written next."""
        if self._live is None:
            return
        try:
            os.ftruncate(self._live.descriptor, self._size)
            is_clean = True
        except OSError:
            is_clean = False
        if not is_clean or getattr(why, "errno", None) not in FULL:
            self._leave(getattr(why, "strerror", None) or type(why).__name__)

    def _leave(self, why: str) -> None:
        """Write no more to this file, though it is not sealed."""
        assert self._live is not None
        with suppress(OSError):
            os.close(self._live.descriptor)
        self._live = None
        self._previous = {"file": str(self._name), "seq": self._seq, "head": self._head, "unsealed": why}

    def _create(self) -> _Live:
        """The next file, under a name for the time being: no file without a header has a final name. Raises OSError."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / f"{self._name._replace(number=self._name.number + 1)}.new"
        with suppress(FileNotFoundError):
            path.unlink()  # of an earlier try
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        lock(descriptor)
        return _Live(descriptor, path, os.fstat(descriptor).st_ino, self._clock())

    def _discard(self, fresh: _Live) -> None:
        with suppress(OSError):
            os.close(fresh.descriptor)
        with suppress(OSError):
            fresh.path.unlink()

    def _begin(self, fresh: _Live) -> None:
        """Make a created file the one that is written: its header, its name. Raises OSError; then it is gone again."""
        name = self._name._replace(number=self._name.number + 1)
        facts = {**self._facts, "replica": name.replica, "boot": name.boot, "file": str(name)}
        facts["previous"] = self._previous
        lines, head = self._lines_of([Entry(time.time_ns(), "file.opened", facts)])
        try:
            write_all(fresh.descriptor, lines[0])
            if self._sync:
                os.fsync(fresh.descriptor)
            path = self._folder / str(name)
            fresh.path.rename(path)
            if self._sync:
                sync_folder(self._folder)
        except OSError:
            self._discard(fresh)
            raise
        self._live, self._name = fresh._replace(path=path), name
        self._size = self._lines = 0
        self._accept(lines, head)

    @property
    def size(self) -> int:
        """Bytes of the file that is written."""
        return self._size if self._live is not None else 0

    @property
    def is_empty(self) -> bool:
        """Whether the file that is written has nothing but its header, or there is none."""
        return self._live is None or self._lines <= 1

    @property
    def age_s(self) -> float:
        return self._clock() - self._live.opened_s if self._live is not None else 0.0

    def rotate(self) -> None:
        """Seal the file and go on in the next. Raises OSError; if only the new file is at fault the old one goes on."""
        fresh = self._create()
        try:
            self._seal()
        except OSError as exc:
            self._discard(fresh)
            self._settle(exc)
            raise
        self._begin(fresh)

    def close(self) -> None:
        """Seal the file that is written, if there is one. In every mode it is on the disk then. Raises OSError."""
        if self._live is None:
            return
        self._sync = True
        try:
            self._seal()
        except OSError as exc:
            self._settle(exc)
            raise

    def _seal(self) -> None:
        assert self._live is not None
        skips = dict(self._skipped())
        told, self._skips_told = self._skips_told, skips
        skipped = {name: count - told.get(name, 0) for name, count in skips.items() if count > told.get(name, 0)}
        facts = {"records": self._lines, "head": self._head, "skipped": skipped}
        try:
            lines, head = self._lines_of([Entry(time.time_ns(), "file.sealed", facts)])
            self._write(lines[0])
        except OSError:
            self._skips_told = told
            raise
        self._accept(lines, head)
        live, self._live = self._live, None
        sealed = Position(str(self._name), self._seq, head)
        self._previous = sealed._asdict()
        with suppress(OSError):  # it is synced later, and what is wrong is told then
            os.close(live.descriptor)
        self._on_sealed(live.path, sealed)


def write_all(descriptor: int, data: bytes) -> None:
    """Raises OSError; then some of it may be written."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def sync_data(descriptor: int) -> None:
    """What was written is on the disk. Raises OSError: then some of it may be lost, and asking again proves nothing."""
    if hasattr(os, "fdatasync"):
        os.fdatasync(descriptor)
    else:  # macOS
        os.fsync(descriptor)
