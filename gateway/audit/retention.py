"""What becomes of files that are not written any more: compressed, and in the end deleted, which the chain says."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

from gateway.audit.files import Damaged, Name, compress, find, is_live, read_last
from gateway.telemetry import log

_LOOK_S = 60.0

Reason = Literal["age", "size"]


class Kept(NamedTuple):
    """A file that nobody writes any more. `ended_s` is when it was written last (seconds since 1970)."""

    name: Name
    path: Path
    bytes: int
    ended_s: float


def what_goes(kept: Sequence[Kept], now_s: float, *, keep_s: float, keep_bytes: int) -> Iterator[tuple[Kept, Reason]]:
    """The files to delete, oldest first; 0 is no bound. Those of one file set go in their order: what is left of it is
    always its end."""
    oldest_first = sorted(kept, key=lambda each: (each.ended_s, each.name))
    total = sum(each.bytes for each in kept)
    for each in oldest_first:
        if keep_s and now_s - each.ended_s > keep_s:
            yield each, "age"
        elif keep_bytes and total > keep_bytes:
            yield each, "size"
        else:
            return
        total -= each.bytes


class Keeping:
    """A thread that compresses what this replica has sealed, and deletes what is too old or too much, in the whole
    folder save the files of other replicas that live: those do it themselves.

    `tell` records a deletion, before it is done: it returns when the record is written and raises otherwise.
    """

    def __init__(
        self,
        folder: Path,
        replica: str,
        *,
        boot: str,
        is_open: Callable[[], bool],
        tell: Callable[[str, Mapping[str, Any]], None],
        is_compressing: bool,
        keep_s: float,
        keep_bytes: int,
        retain: Callable[[], Iterable[tuple[str, int, str]]] = list,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`retain` deletes what is beside the records, and says which file it was, of how many bytes, and why."""
        self._folder = folder
        self._replica = replica
        self._boot = boot
        self._is_open = is_open
        self._tell = tell
        self._is_compressing = is_compressing
        self._keep_s = keep_s
        self._keep_bytes = keep_bytes
        self._retain = retain
        self._clock = clock
        self._put_away_already: set[Name] = set()
        self._is_due = True
        self._is_ending = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="audit.keeping", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def sealed(self) -> None:
        """There is a new sealed file. For any thread; never waits."""
        with self._changed:
            self._is_due = True
            self._changed.notify()

    def stop(self) -> bool:
        with self._changed:
            self._is_ending = True
            self._changed.notify()
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_due or self._is_ending, _LOOK_S)
                self._is_due = False
                if self._is_ending:
                    return
            if self._is_open():  # what came before is mended and bound
                self.look()
            else:
                self._wait_until_open()

    def _wait_until_open(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_ending, 1.0)
            self._is_due = True

    def look(self) -> None:
        """Once over the folder."""
        for work in (self._compress_all, self._delete_all, self._delete_bodies):
            try:
                work()
            except Exception as exc:  # the next time it may work; meanwhile everything is still there
                reason = getattr(exc, "strerror", None) or type(exc).__name__
                log.error("audit.keeping_failed", work=work.__name__.strip("_"), reason=reason)

    def _compress_all(self) -> None:
        for name, path in find(self._folder).items():
            if name.replica != self._replica or path.suffix == ".zst" or name in self._put_away_already:
                continue
            if self._is_ending or is_live(path):
                continue
            if read_last(path).is_sealed:
                self._put_away(path)
            self._put_away_already.add(name)

    def _put_away(self, path: Path) -> None:
        try:
            if self._is_compressing:
                compress(path, unique=self._boot)
            else:
                _sync(path)
        except FileNotFoundError:
            return  # another process of this name was faster

    def _delete_all(self) -> None:
        if not (self._keep_s or self._keep_bytes):
            return
        kept = list(self._kept())
        for each, why in what_goes(kept, self._clock(), keep_s=self._keep_s, keep_bytes=self._keep_bytes):
            if self._is_ending:
                return
            with suppress(FileNotFoundError):
                self._delete(each, why)

    def _delete_bodies(self) -> None:
        for file, size_bytes, why in self._retain():
            self._tell("bodies.deleted", {"file": file, "bytes": size_bytes, "why": why})

    def _kept(self) -> Iterator[Kept]:
        files = find(self._folder)
        live = {name for name, path in files.items() if is_live(path)}
        others_alive = {name.replica for name in live} - {self._replica}
        for name, path in files.items():
            if name in live or name.replica in others_alive:
                continue
            with suppress(FileNotFoundError):  # another process of this name was faster
                found = path.stat()
                yield Kept(name, path, found.st_size, found.st_mtime)

    def _delete(self, kept: Kept, why: Reason) -> None:
        facts: dict[str, Any] = {"file": str(kept.name), "bytes": kept.bytes, "why": why}
        try:
            last = read_last(kept.path).line
        except Damaged:
            last = None  # it goes nevertheless, and the record cannot say how it ended
        if last is not None:
            facts |= {"last_seq": last.seq, "head": last.h, "last_time": last.time}
            facts |= {"records": last.facts.get("records")} if last.kind == "file.sealed" else {}
        self._tell("trail.deleted", facts)
        for path in (kept.path, kept.path.with_name(f"{kept.name}.zst")):
            path.unlink(missing_ok=True)
        log.info("audit.deleted", file=str(kept.name), why=why)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
