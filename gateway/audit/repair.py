"""What a process finds of the one before it: files that end without a seal are mended, and all ends are bound.

A process that was killed leaves its last file unsealed, perhaps with a torn line. The next one of the same name cuts
the torn line, says so in a record, and seals the file. Only what nobody has locked is touched, and never a whole line.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gateway.audit.chain import Line, Moments, Position, bound_ends, line_of
from gateway.audit.file_set import write_all
from gateway.audit.files import Damaged, Last, Name, find, is_live, lock, read_first, read_last
from gateway.telemetry import log

_LOCK_TRIES = 5
_LOCK_PAUSE_S = 0.02


def bind(folder: Path, replica: str) -> tuple[dict[str, Any] | None, str | None]:
    """Mend what earlier processes of this name left. What a first header says of it (`previous`, and its `also`: ends
    that no other header names), and the head to go on from; None for both where there is nothing. Raises OSError."""
    if not folder.is_dir():
        return None, None
    files = {name: path for name, path in find(folder).items() if name.replica == replica}
    last_of_boot = {name.boot: name for name in files}
    ends = (_end_of(name, files[name]) for name in last_of_boot.values())
    positions = [position for position in ends if position is not None]
    if not positions:
        return None, None
    named = set(_named(files))
    unnamed = [position for position in positions if position.file not in named]
    newest = (unnamed or positions)[-1]
    previous = newest._asdict()
    if also := [position._asdict() for position in unnamed if position is not newest]:
        previous["also"] = also
    return previous, newest.head


def _named(files: Mapping[Name, Path]) -> Iterator[str]:
    """The ends that first headers are bound to already."""
    for name, path in files.items():
        if name.number != 1:
            continue
        with suppress(OSError, Damaged):
            header = read_first(path)
            if header is not None:
                yield from (end.file for end in bound_ends(header))


def _end_of(name: Name, path: Path) -> Position | None:
    """Where an ended file set ends, after it was mended; None if it goes on, or has nothing that could be bound."""
    try:
        last = read_last(path)
        if not last.is_sealed:
            if path.suffix == ".zst" or is_live(path):
                return None
            last = _mend(path, last)
    except (Damaged, PermissionError) as exc:  # whoever else this belongs to, the trail goes on
        log.error("audit.failed", reason=f"{path.name} cannot be read or mended: {exc}", on_error="goes on")
        return None
    return Position(str(name), last.line.seq, last.line.h) if last.line is not None else None


def _mend(path: Path, last: Last) -> Last:
    with _locked(path) as descriptor:
        if descriptor is None:
            return Last(None, 0, False)
        last = read_last(path)  # somebody else may have mended it
        if last.line is None or last.is_sealed:
            return last
        if last.rest_has_lines:  # what is whole is never cut, right or wrong: `audit verify` says what it is
            log.error("audit.failed", reason=f"{path.name} ends in lines that are no records", on_error="goes on")
            return last
        sealed = _recover(descriptor, last.line, last.rest_bytes)
        log.warning("audit.repaired", file=path.name, cut_bytes=last.rest_bytes)
        return Last(sealed, 0, False)


@contextmanager
def _locked(path: Path) -> Iterator[int | None]:
    """None if a process writes it. Somebody who only looks whether one does holds it for moments."""
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
    try:
        for _ in range(_LOCK_TRIES):
            if lock(descriptor):
                yield descriptor
                return
            time.sleep(_LOCK_PAUSE_S)
        yield None
    finally:
        os.close(descriptor)


def _recover(descriptor: int, line: Line, cut_bytes: int) -> Line:
    """Cut what is torn, say so, seal. The seal."""
    os.ftruncate(descriptor, os.fstat(descriptor).st_size - cut_bytes)
    at = Moments().text(time.time_ns())
    recovered, head = line_of(line.seq + 1, at, "trail.recovered", {"cut_bytes": cut_bytes}, line.h)
    facts = {"records": _lines_of(descriptor) + 1, "head": head, "skipped": {}}
    sealed, h = line_of(line.seq + 2, at, "file.sealed", facts, head)
    write_all(descriptor, recovered + sealed)
    os.fsync(descriptor)
    return Line(line.seq + 2, at, "file.sealed", head, h, True, facts)


def _lines_of(descriptor: int) -> int:
    at = count = 0
    while piece := os.pread(descriptor, 1024 * 1024, at):
        at += len(piece)
        count += piece.count(b"\n")
    return count


def clear_unfinished(folder: Path, replica: str) -> None:
    """Remove what a crash left half made: `.new` and `.tmp`. What a process writes stays."""
    for path in folder.iterdir():
        name = Name.parse(path.name.partition(".jsonl")[0] + ".jsonl")
        if path.suffix not in (".new", ".tmp") or name is None or name.replica != replica or is_live(path):
            continue
        with suppress(OSError):
            path.unlink()
