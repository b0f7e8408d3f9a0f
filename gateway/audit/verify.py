"""Whether a trail is as it was written: every line, every file, every checkpoint. Streams, in constant memory save for
requests that have not finished, and one entry a file.

The files of any number of replicas may lie in one folder, plain and compressed, while gateways write to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, NamedTuple

from gateway.audit.chain import Bound, Line, bound_ends
from gateway.audit.checking import Fault, Faults, FileCheck
from gateway.audit.checkpoints import is_signed_by
from gateway.audit.files import LONGEST_LINE_BYTES, Damaged, Name, find, is_live, opened
from gateway.audit.records import call_of

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_MOST_NOTES = 1000
_LINES_PER_SIGN = 4096

State = Literal["sealed", "open", "live"]
Progress = Callable[[int], None]
"""Is told how many more bytes of the files were read."""


class Unfinished(NamedTuple):
    """A request, or a call of a model (its own id stands for the request's), that started and, as far as the trail
    goes, did not finish."""

    request_id: str
    time: str
    file: str
    line: int
    operation: str | None
    tenant: str | None


class Note(NamedTuple):
    """What a trail says of itself and is no fault: a gap, a recovery, a file that was given up."""

    kind: str
    file: str
    seq: int
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class SetReport:
    """A file set. `state`: `sealed` it was closed in good order or mended; `open` it has no seal; `live` a process
    writes it, and what is unfinished may be under way."""

    replica: str
    boot: str
    files: int
    records: int
    first_time: str | None
    last_time: str | None
    state: State
    unfinished: Sequence[Unfinished]


@dataclass(frozen=True)
class Report:
    sets: Sequence[SetReport]
    faults: Sequence[Fault]
    """The first thousand."""
    faults_total: int
    notes: Sequence[Note]
    checkpoints: int
    """How many good checkpoints were held against the files."""

    @property
    def is_good(self) -> bool:
        return self.faults_total == 0

    @property
    def records(self) -> int:
        return sum(each.records for each in self.sets)


class _End(NamedTuple):
    seq: int
    head: str
    is_sealed: bool


def verify(
    folder: Path,
    *,
    checkpoints: Iterable[Mapping[str, Any]] = (),
    key: Ed25519PublicKey | None = None,
    progress: Progress = lambda read_bytes: None,
) -> Report:
    """Check everything in the folder. `key` is needed with checkpoints. Raises OSError."""
    return _Verification(folder, progress).run(checkpoints, key)


class _Verification:
    def __init__(self, folder: Path, progress: Progress) -> None:
        self._folder = folder
        self._progress = progress
        self._faults = Faults()
        self._notes: list[Note] = []
        self._wanted: dict[str, dict[int, Mapping[str, Any]]] = {}
        self._ends: dict[str, _End] = {}
        self._headers: dict[str, Line] = {}
        self._deleted: dict[str, Mapping[str, Any]] = {}
        self._live: set[Name] = set()
        self._must_reach: dict[str, tuple[int, str]] = {}

    def run(self, checkpoints: Iterable[Mapping[str, Any]], key: Ed25519PublicKey | None) -> Report:
        count = self._want(checkpoints, key)
        files = find(self._folder)
        # Files that are rotated while this reads them count as written, and what they do not finish as under way.
        self._live = {name for name, path in files.items() if is_live(path)}
        sets = [
            self._check_set(replica, boot, {name: files[name] for name in names})
            for (replica, boot), names in groupby(files, lambda name: (name.replica, name.boot))
        ]
        for name in files:
            self._check_bindings(name, files)
        self._check_numbers(list(files))
        self._check_wanted()
        self._check_reach()
        return Report(sets, self._faults, self._faults.total, self._notes, count)

    def _want(self, checkpoints: Iterable[Mapping[str, Any]], key: Ed25519PublicKey | None) -> int:
        count = 0
        for checkpoint in checkpoints:
            file, seq = checkpoint["file"], checkpoint["seq"]
            if key is None or not is_signed_by(checkpoint, key):
                detail = f"the checkpoint of {checkpoint.get('time')} is not signed with this key"
                self._faults.add(Fault("bad_checkpoint", file, None, seq, detail))
                continue
            self._wanted.setdefault(file, {})[seq] = checkpoint
            count += 1
        return count

    # -- one file set after the other ----------------------------------------------------------------------------------

    def _check_set(self, replica: str, boot: str, files: Mapping[Name, Path]) -> SetReport:
        unfinished: dict[str, Unfinished] = {}
        records, times, state = 0, [], "open"
        for name, path in files.items():
            live = name in self._live
            check = self._check_file(name, path, unfinished, live=live)
            if check is None:
                continue
            records += check.lines
            times += [line.time for line in (check.first, check.last) if line is not None]
            state = "live" if live else "sealed" if check.is_sealed else "open"
        first, last = (times[0], times[-1]) if times else (None, None)
        return SetReport(replica, boot, len(files), records, first, last, _state(state), list(unfinished.values()))

    def _check_file(self, name: Name, path: Path, unfinished: dict[str, Unfinished], *, live: bool) -> FileCheck | None:
        """None for a file that retention has deleted since the folder was read."""
        file = str(name)
        check, wanted = FileCheck(file, self._faults), self._wanted.get(file, {})
        try:
            with opened(path) as (lines, raw):
                for line in self._lines(lines, raw, check, is_live=live):
                    self._note(file, check.lines, line, unfinished)
                    if line.seq in wanted:
                        self._compare(wanted, line, check.lines, file)
        except FileNotFoundError:
            return None
        except Damaged as exc:
            detail = f"cannot be decompressed from here on: {exc}"
            self._faults.add(Fault("edited", file, check.lines + 1, check.seq + 1, detail))
        check.end()
        self._ends[file] = _End(check.seq, check.head, check.is_sealed)
        if check.header is not None:
            self._headers[file] = check.header
        if check.lines == 0:
            self._faults.add(Fault("truncated", file, None, None, "it has no record"))
        elif path.suffix == ".zst" and not check.has_seal:
            self._faults.add(Fault("truncated", file, None, check.seq + 1, "its seal is missing"))
        return check

    def _lines(self, lines: IO[bytes], raw: IO[bytes], check: FileCheck, *, is_live: bool) -> Iterator[Line]:
        """The records of the file, checked."""
        told = 0
        while piece := lines.readline(LONGEST_LINE_BYTES):
            if not piece.endswith(b"\n") and len(piece) < LONGEST_LINE_BYTES:
                if not is_live:  # else it is being written
                    check.tear(len(piece))
                break
            line = check.feed(piece)
            if line is not None:
                yield line
            if check.lines % _LINES_PER_SIGN == 0:
                self._progress(raw.tell() - told)
                told = raw.tell()
        self._progress(raw.tell() - told)

    def _note(self, file: str, number: int, line: Line, unfinished: dict[str, Unfinished]) -> None:
        match line.kind:
            case "request.started" | "generation.started":
                facts = line.facts
                name = str(call_of(facts))
                unfinished[name] = Unfinished(
                    name, line.time, file, number, facts.get("operation"), facts.get("tenant")
                )
            case "request.finished" | "generation.finished":
                unfinished.pop(str(call_of(line.facts)), None)
            case "trail.deleted" if isinstance(deleted := line.facts.get("file"), str):
                self._deleted[deleted] = line.facts
            case "trail.gap" | "trail.recovered" if len(self._notes) < _MOST_NOTES:
                facts = {name: value for name, value in line.facts.items() if name not in ("v", "prev", "h", "kind")}
                self._notes.append(Note(line.kind, file, line.seq, facts))

    def _compare(self, wanted: Mapping[int, Mapping[str, Any]], line: Line, number: int, file: str) -> None:
        checkpoint = wanted[line.seq]
        if line.h == checkpoint["head"]:
            return
        since = max((seq for seq in wanted if seq < line.seq), default=0)
        detail = f"is not what the checkpoint of {checkpoint['time']} signed: it, or one after seq {since}, is forged"
        self._faults.add(Fault("forged", file, number, line.seq, detail))

    # -- between files -------------------------------------------------------------------------------------------------

    def _check_bindings(self, name: Name, files: Mapping[Name, Path]) -> None:
        header = self._headers.get(str(name))
        if header is None:
            return
        if (called := header.facts.get("file")) != str(name):
            self._faults.add(Fault("renamed", str(name), 1, header.seq, f"it was written as {called}"))
        for end in bound_ends(header):
            self._check_binding(str(name), end)

    def _check_binding(self, file: str, end: Bound) -> None:
        """Whether the file before is there, and ends where this one's header says."""
        bound, seq, head, unsealed = end
        found = self._ends.get(bound)
        if found is None:
            deleted = self._deleted.get(bound)
            if deleted is None:
                self._faults.add(Fault("missing_file", bound, None, seq, f"{file} is bound to its end"))
            elif deleted.get("head") not in (None, head):
                detail = f"when it was deleted its end was not the one that {file} is bound to"
                self._faults.add(Fault("edited", bound, None, seq, detail))
        elif found.seq < seq:
            self._reach(bound, seq, f"{file} is bound to seq {seq}")
        elif found.seq > seq and unsealed is not None:
            facts = {"unsealed": unsealed, "records_behind": found.seq - seq}
            self._notes.append(Note("file.left", bound, seq, facts))
        elif found.seq > seq:
            self._faults.add(Fault("inserted", bound, None, seq + 1, f"stands behind the end that {file} is bound to"))
        elif found.head and found.head != head:
            self._faults.add(Fault("edited", bound, None, seq, f"is not the record that {file} is bound to"))

    def _check_numbers(self, names: Sequence[Name]) -> None:
        """Files between others, of which no header speaks because the one that would is missing too."""
        spoken_of = {fault.file for fault in self._faults if fault.what == "missing_file"}
        for (_, _), group in groupby(names, lambda name: (name.replica, name.boot)):
            numbered = list(group)
            for before, after in zip([None, *numbered], numbered, strict=False):
                first = before.number + 1 if before is not None else max(1, after.number - 1)
                for number in range(first, after.number):
                    file = str(after._replace(number=number))
                    if file not in self._deleted and file not in spoken_of:
                        self._faults.add(Fault("missing_file", file, None, None, f"{after} comes after it"))

    def _check_wanted(self) -> None:
        """Checkpoints of what is not there."""
        for file, wanted in self._wanted.items():
            seq = max(wanted)
            found = self._ends.get(file)
            detail = f"the checkpoint of {wanted[seq]['time']} signed seq {seq}"
            if found is not None and found.seq < seq:
                self._reach(file, seq, detail)
            elif found is None and file not in self._deleted:
                self._faults.add(Fault("missing_file", file, None, seq, detail))

    def _reach(self, file: str, seq: int, why: str) -> None:
        if seq > self._must_reach.get(file, (0, ""))[0]:
            self._must_reach[file] = (seq, why)

    def _check_reach(self) -> None:
        for file, (seq, why) in self._must_reach.items():
            detail = f"seq {self._ends[file].seq + 1} to {seq} are missing at its end: {why}"
            self._faults.add(Fault("truncated", file, None, self._ends[file].seq + 1, detail))


def _state(state: str) -> State:
    return "live" if state == "live" else "sealed" if state == "sealed" else "open"
