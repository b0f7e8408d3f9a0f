"""Reading a trail: the records of all replicas' files in the order of time. Streams; a trail may be larger than memory.

A file is `<replica>-<boot>-<nnnn>.jsonl`, sealed ones may be `.jsonl.zst`; the files of one process follow each other.
Files that are written, rotated, compressed or deleted while they are read are no fault, and a last line that is not
whole is a record that is being written, or was torn by a crash: it is not read. Whether a record was changed is not
asked here; that is what `audit verify` is for.

Most questions are about few records. `needles` are bytes that a record's line has to contain, and most lines are passed
over without being parsed.
"""

from __future__ import annotations

import heapq
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import orjson
import zstandard

Record = Mapping[str, Any]
Needles = Sequence[Sequence[bytes]]
"""A line is looked at if it contains one of each."""

_NAME = re.compile(r"(?P<series>[^./][^/]*)-(?P<number>\d{4,12})\.jsonl(?P<zst>\.zst)?")
_TIME = re.compile(rb'"time":"([^"]{1,40})"')
_BLOCK_BYTES = 1 << 20
_PEEK_BYTES = 1 << 16
_SEALED = -1
"""In place of an offset: nothing more will come."""


@dataclass(frozen=True, order=True)
class TrailFile:
    """One file of a trail. `series` names the process that wrote it: replica and boot."""

    series: str
    number: int
    path: Path = field(compare=False)

    @property
    def replica(self) -> str:
        return self.series.rpartition("-")[0]

    def open(self) -> BinaryIO:
        """Its records as bytes, wherever a rotation has put them by now. Raises OSError."""
        plain = self.path.with_name(f"{self.series}-{self.number:04}.jsonl")
        for path in (self.path, plain, plain.with_name(plain.name + ".zst")):
            with suppress(FileNotFoundError):
                raw = path.open("rb")
                if path.suffix != ".zst":
                    return raw
                return zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True)
        raise FileNotFoundError(2, "no such file", str(self.path))


@dataclass(frozen=True)
class Row:
    """One record, and where it stands."""

    record: Record
    file: TrailFile

    @property
    def order(self) -> tuple[str, str, int, int]:
        record = self.record
        return str(record.get("time")), self.file.series, self.file.number, _seq(record)


def _seq(record: Record) -> int:
    seq = record.get("seq")
    return seq if type(seq) is int else 0


def files_of(folder: Path) -> list[TrailFile]:
    """Every file of a trail. Of a file that is there twice, because it is being compressed, the plain one."""
    found: dict[tuple[str, int], TrailFile] = {}
    for path in sorted(folder.iterdir()):
        if name := _NAME.fullmatch(path.name):
            file = TrailFile(name["series"], int(name["number"]), path)
            found.setdefault((file.series, file.number), file)
    return sorted(found.values())


class WrittenTrail:
    """A folder of trail files, to be asked. `faults` tells what could not be read, one line each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.faults: list[str] = []
        self._starts: dict[TrailFile, str | None] = {}
        self._over: dict[str, bool] = {}

    def read(self, *, needles: Needles = (), since: str = "", until: str = "~") -> Iterator[Row]:
        """Records from `since` to before `until` (times as in the records) by time, then file and `seq`; of one file
        always in its order. Raises OSError when the folder cannot be read."""
        processes: dict[str, list[TrailFile]] = {}
        for file in files_of(self.folder):
            processes.setdefault(file.series, []).append(file)
        streams: list[tuple[str, Iterator[Row]]] = []
        for files in processes.values():
            chosen = self._within(files, since, until)
            if chosen:
                streams.append((self._start(chosen[0]) or "", self._rows(chosen, needles, since, until)))
        return _merge(streams)

    def last(self, count: int, *, needles: Needles = (), wanted: Callable[[Record], bool] | None = None) -> list[Row]:
        """The newest records that are wanted, oldest first. Files of which all is older are not opened."""
        found: list[Row] = []
        ends = dict(self._ends(files_of(self.folder)))
        for file in sorted(ends, key=lambda each: ends[each], reverse=True):
            if len(found) == count and ends[file] < found[0].order[0]:
                break
            rows = self._newest(file, needles, wanted or (lambda record: True), count)
            found = sorted([*found, *islice(rows, count)], key=lambda row: row.order)[-count:]
        return found

    def _newest(self, file: TrailFile, needles: Needles, wanted: Callable[[Record], bool], count: int) -> Iterator[Row]:
        """A file's records that are wanted, the newest first. Of a compressed file, which is read from its beginning,
        only so many are held."""
        if file.path.suffix == ".zst":
            rows = (row for row in self._rows([file], needles, "", "~") if wanted(row.record))
            yield from reversed(deque(rows, maxlen=count))
            return
        try:
            with file.path.open("rb") as opened:
                for line in _lines_backwards(opened):
                    if all(any(needle in line for needle in either) for either in needles):
                        record = self._parse(line, file)
                        if record is not None and wanted(record):
                            yield Row(record, file)
        except FileNotFoundError:
            return
        except OSError as exc:
            self.faults.append(f"{file.path.name} cannot be read: {exc}")

    def _ends(self, files: Sequence[TrailFile]) -> Iterator[tuple[TrailFile, str]]:
        """Times after which a file has no record; `~` for one that may still be written."""
        for place, file in enumerate(files):
            after = files[place + 1] if place + 1 < len(files) else None
            follows = after is not None and after.series == file.series
            yield file, (self._start(after) or "~") if after is not None and follows else "~"

    def _within(self, files: Sequence[TrailFile], since: str, until: str) -> list[TrailFile]:
        return [
            file
            for file, end in self._ends(files)
            if end >= since and (until == "~" or (self._start(file) or "") < until)
        ]

    def _start(self, file: TrailFile) -> str | None:
        """The time of a file's first record; None if it has none yet, or cannot be read."""
        if file not in self._starts:
            self._starts[file] = None
            with suppress(OSError, zstandard.ZstdError), file.open() as opened:
                if found := _TIME.search(opened.read(_PEEK_BYTES)):
                    self._starts[file] = found[1].decode("utf-8", "replace")
        return self._starts[file]

    def _rows(self, files: Sequence[TrailFile], needles: Needles, since: str, until: str) -> Iterator[Row]:
        for file in files:
            try:
                with file.open() as opened:
                    for line in lines_in(blocks_of(opened), needles):
                        record = self._parse(line, file)
                        if record is not None and since <= str(record.get("time")) < until:
                            yield Row(record, file)
            except FileNotFoundError:
                continue  # its time was over
            except (OSError, zstandard.ZstdError) as exc:
                self.faults.append(f"{file.path.name} cannot be read to its end: {exc}")

    def _parse(self, line: bytes, file: TrailFile) -> Record | None:
        record = _record(line)
        if record is None and len(self.faults) < 100:
            self.faults.append(f"{file.path.name} has a line that is no record")
        return record

    def is_over(self, file: TrailFile) -> bool:
        """Whether the process that wrote a file is known to have ended: its last file is sealed and followed by
        nothing, or the replica has started again."""
        if file.series not in self._over:
            self._over[file.series] = self._is_over(file)
        return self._over[file.series]

    def _is_over(self, file: TrailFile) -> bool:
        files = files_of(self.folder)
        own = [each for each in files if each.series == file.series]
        mine = self._start(own[0]) if own else None
        others = [each for each in files if each.replica == file.replica and each.series != file.series]
        if any((self._start(each) or "") > (mine or "~") for each in others):
            return True
        last = next(self._newest(own[-1], (), lambda record: True, 1), None) if own else None
        return last is None or last.record.get("kind") == "file.sealed"


def _merge(streams: Iterable[tuple[str, Iterator[Row]]]) -> Iterator[Row]:
    """Rows of several streams in order; a stream is not opened before the time it begins at has come, so that the files
    of a thousand restarts are not open all at once."""
    waiting = deque(sorted(streams, key=lambda each: each[0]))
    heads: list[tuple[tuple[str, str, int, int], int, Row, Iterator[Row]]] = []
    opened = 0
    while waiting or heads:
        while waiting and (not heads or waiting[0][0] <= heads[0][0][0]):
            rows = waiting.popleft()[1]
            opened += 1
            if (row := next(rows, None)) is not None:
                heapq.heappush(heads, (row.order, opened, row, rows))
        if not heads:
            continue
        order, place, row, rows = heads[0]
        yield row
        following = next(rows, None)
        if following is None:
            heapq.heappop(heads)
        else:
            # A clock that was set back does not change the order within a file.
            heapq.heapreplace(heads, (max(order, following.order), place, following, rows))


def blocks_of(opened: BinaryIO) -> Iterator[bytes]:
    """Whole lines, about a megabyte at a time; what follows the last newline is left out."""
    tail = b""
    while piece := opened.read(_BLOCK_BYTES):
        end = piece.rfind(b"\n") + 1
        if end:
            yield tail + piece[:end]
            tail = piece[end:]
        else:
            tail += piece


def _lines_backwards(opened: BinaryIO) -> Iterator[bytes]:
    """Whole lines, the last first."""
    place, later = opened.seek(0, 2), b""
    is_last = True
    while place:
        step = min(_BLOCK_BYTES, place)
        place -= step
        opened.seek(place)
        lines = (opened.read(step) + later).split(b"\n")
        later = lines.pop(0)
        if is_last and lines:
            lines.pop()  # what follows the last newline
            is_last = False
        yield from reversed(lines)
    if not is_last:
        yield later


def lines_in(blocks: Iterable[bytes], needles: Needles = ()) -> Iterator[bytes]:
    """The lines that contain one of each of the needles."""
    for block in blocks:
        if not needles:
            yield from block.splitlines()
        elif all(any(needle in block for needle in either) for either in needles):
            for line in _lines_with(block, needles[0]):
                if all(any(needle in line for needle in either) for either in needles[1:]):
                    yield line


def _lines_with(block: bytes, either: Sequence[bytes]) -> Iterator[bytes]:
    spans: set[tuple[int, int]] = set()
    for needle in either:
        place = block.find(needle)
        while place >= 0:
            end = block.find(b"\n", place)
            spans.add((block.rfind(b"\n", 0, place) + 1, end))
            place = block.find(needle, end)
    for start, end in sorted(spans):
        yield block[start:end]


class Following:
    """What is written from now on. Each call of `rows` gives what has come since the last. Holds no file open."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._places: dict[str, tuple[TrailFile, int]] = {}
        """Of each process the file that was read last, and how much of it."""
        for file in files_of(folder):
            self._places[file.series] = (file, _end_of(file))

    def rows(self) -> list[Row]:
        """Waits for nothing. Raises OSError when the folder cannot be read any more."""
        found: list[Row] = []
        for file in files_of(self._folder):
            current, _ = self._places.setdefault(file.series, (file, 0))
            if current.number <= file.number:
                found += self._more(file.series)  # of the file before, its end
            if current.number < file.number:
                self._places[file.series] = (file, 0)
                found += self._more(file.series)
        return sorted(found, key=lambda row: row.order)

    def _more(self, series: str) -> list[Row]:
        file, place = self._places[series]
        if place == _SEALED:
            return []
        with suppress(FileNotFoundError):
            is_growing = file.path.suffix != ".zst" and file.path.exists()
            if is_growing and file.path.stat().st_size == place:
                return []
            with file.open() as opened:
                _skip(opened, place)
                raw = opened.read()
            end = raw.rfind(b"\n") + 1
            self._places[series] = (file, place + end if is_growing else _SEALED)
            return [Row(record, file) for line in raw[:end].splitlines() if (record := _record(line)) is not None]
        return []


def _end_of(file: TrailFile) -> int:
    """Where the last whole line ends."""
    if file.path.suffix == ".zst":
        return _SEALED
    end = 0
    with suppress(FileNotFoundError), file.path.open("rb") as opened:
        end = max(opened.seek(0, 2) - _BLOCK_BYTES, 0)
        opened.seek(end)
        for block in blocks_of(opened):
            end += len(block)
    return end


def _skip(opened: BinaryIO, count: int) -> None:
    while count > 0 and (piece := opened.read(min(count, _BLOCK_BYTES))):
        count -= len(piece)


def _record(line: bytes) -> Record | None:
    with suppress(ValueError):
        record = orjson.loads(line)
        return record if type(record) is dict else None
    return None
