"""Trails as a test writes and edits them, without threads."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from gateway.audit.chain import line_of
from gateway.audit.file_set import Entry, FileSet
from gateway.audit.verify import Report, verify

BOOT = "20261122T031415Z00000a"
NEXT_BOOT = "20261122T041415Z00000b"


def name_of(number: int = 1, *, replica: str = "web", boot: str = BOOT) -> str:
    return f"{replica}-{boot}-{number:04d}.jsonl"


def entry(kind: str = "request.finished", **facts: Any) -> Entry:
    return Entry(time.time_ns(), kind, facts)


def file_set(folder: Path, *, replica: str = "web", boot: str = BOOT, **more: Any) -> FileSet:
    return FileSet(folder, replica=replica, boot=boot, facts={"version": "1"}, **more)


def write(folder: Path, *files: int, **more: Any) -> FileSet:
    """File sets with so many records in each file, header and seal not counted; the last file is not closed."""
    written = file_set(folder, **more)
    for place, records in enumerate(files):
        if place:
            written.rotate()
        written.open()
        for number in range(records):
            written.append([entry(request_id=f"req_{place}_{number}", text="as it was")])
    return written


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def read(path: Path) -> list[dict[str, Any]]:
    """The records of a plain file. A torn line at its end is none."""
    return [orjson.loads(line) for line in lines_of(path) if line.endswith(b"\n")]


def records_of(folder: Path) -> list[dict[str, Any]]:
    """Every record of plain files, in the order of names."""
    return [record for path in sorted(folder.glob("*.jsonl")) for record in read(path)]


def ids(folder: Path) -> list[str]:
    """Of all requests that have a record."""
    return [record["request_id"] for record in records_of(folder) if "request_id" in record]


@contextmanager
def edited(path: Path) -> Iterator[list[bytes]]:
    """The lines of a file, to be changed."""
    lines = lines_of(path)
    yield lines
    path.write_bytes(b"".join(lines))


def rehashed(line: bytes, **changes: Any) -> bytes:
    """A line by a forger who knows how lines are hashed."""
    facts = orjson.loads(line) | changes
    seq, at, kind, prev = (facts[name] for name in ("seq", "time", "kind", "prev"))
    rest = {name: value for name, value in facts.items() if name not in ("v", "seq", "time", "kind", "prev", "h")}
    return line_of(seq, at, kind, rest, prev)[0]


def rechained(lines: Sequence[bytes], after: bytes) -> list[bytes]:
    """Lines by a forger who writes everything behind `after` anew."""
    before, made = orjson.loads(after), []
    for line in lines:
        made.append(rehashed(line, seq=before["seq"] + 1, prev=before["h"]))
        before = orjson.loads(made[-1])
    return made


def found(report: Report) -> list[tuple[str, str, int | None, int | None]]:
    """Faults without their words: what, file, line, seq."""
    return [fault[:4] for fault in report.faults]


def faults_in(folder: Path, **more: Any) -> list[tuple[str, str, int | None, int | None]]:
    return found(verify(folder, **more))
