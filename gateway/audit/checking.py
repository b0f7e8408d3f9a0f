"""What is wrong with the lines of one file, found line by line. Pure, and in constant memory.

After a fault it goes on with what follows, so that one never hides another. A line that does not continue the chain is
judged by the next one that does: of two that claim the same place, the one that the rest is built on was there first.
"""

from __future__ import annotations

from collections import deque
from typing import Literal, NamedTuple

from gateway.audit.chain import Line, read_line

What = Literal[
    "edited",
    "deleted",
    "inserted",
    "reordered",
    "torn",
    "truncated",
    "missing_file",
    "renamed",
    "forged",
    "bad_checkpoint",
]

_RECENT = 512
_MOST_FAULTS = 1000


class Fault(NamedTuple):
    """`line` counts from 1 in the file; None where the fault is not at a line."""

    what: What
    file: str
    line: int | None
    seq: int | None
    detail: str


class Faults(list[Fault]):
    """The first thousand; `total` counts all."""

    total = 0

    def add(self, fault: Fault) -> None:
        self.total += 1
        if len(self) < _MOST_FAULTS:
            self.append(fault)

    def withdraw(self, what: What, file: str, line: int) -> None:
        """The fault at this line has turned out to be another."""
        for place in range(len(self) - 1, -1, -1):
            if self[place][:3] == (what, file, line):
                del self[place]
                self.total -= 1
                return


class _Point(NamedTuple):
    """A place in the chain. `h` is empty if nobody knows it: then anything may follow."""

    seq: int
    h: str
    line: int


class FileCheck:
    """Feed it the lines of a file in their order, then `end` it."""

    def __init__(self, file: str, faults: Faults) -> None:
        self._file = file
        self._faults = faults
        self._number = 0
        self._head: _Point | None = None
        self._rival: _Point | None = None
        """Where the chain stood before a line that may not belong there."""
        self._doubtful: tuple[What, _Point, str] | None = None
        """What is wrong if the rest goes on from the rival."""
        self._outdone: list[_Point] = []
        """What was inserted if the rest does not go on from the rival."""
        self._recent: deque[_Point] = deque(maxlen=_RECENT)
        self._early: dict[int, str] = {}
        self._missing: list[tuple[int, int, int]] = []
        self._edited_line = 0
        self._sealed_line = 0
        self.header: Line | None = None
        self.first: Line | None = None
        self.last: Line | None = None

    @property
    def seq(self) -> int:
        """The last number of the chain; 0 before the first."""
        return self._head.seq if self._head is not None else 0

    @property
    def head(self) -> str:
        return self._head.h if self._head is not None else ""

    @property
    def is_sealed(self) -> bool:
        return self._sealed_line == self._number > 0

    @property
    def has_seal(self) -> bool:
        """Anywhere: behind it there may be what does not belong there."""
        return self._sealed_line > 0

    @property
    def lines(self) -> int:
        return self._number

    def feed(self, raw: bytes) -> Line | None:
        """What the line says, if it is a record."""
        self._number += 1
        line = read_line(raw)
        if line is None:
            self._feed_unreadable()
            return None
        point = _Point(line.seq, line.h, self._number)
        if not line.is_whole:
            point = self._feed_edited(line, point)
        if self._head is not None and self._head.seq + 1 == line.seq and line.prev == self._head.h:
            if self._rival is not None:
                self._decide(rival_wins=False)
            self._advance(point)
        else:
            self._judge(line, point)
        self._note(line)
        return line

    def _note(self, line: Line) -> None:
        if self.first is None:
            self.first = line
            if line.kind == "file.opened":
                self.header = line
        self.last = line
        if self._sealed_line and self._sealed_line < self._number and line.is_whole and self._is_head(self._number):
            self._fault("inserted", self._number, line.seq, "stands after the seal of the file")
        if line.kind == "file.sealed" and line.is_whole and not self._sealed_line:
            self._sealed_line = self._number

    def _is_head(self, number: int) -> bool:
        return self._head is not None and self._head.line == number

    def _feed_unreadable(self) -> None:
        seq = self.seq + 1
        self._fault("edited", self._number, seq, "is no record")
        self._edited_line = self._number
        self._advance(_Point(seq, "", self._number))

    def _feed_edited(self, line: Line, point: _Point) -> _Point:
        """Its hash is wrong. Its number may be wrong too: what counts is its place."""
        if self._head is not None:
            point = point._replace(seq=self._head.seq + 1)
        self._fault("edited", self._number, point.seq, "its hash is not that of its content")
        self._edited_line = self._number
        return point

    def _judge(self, line: Line, point: _Point) -> None:
        """A line that is not what was expected next."""
        head, rival = self._head, self._rival
        if head is None or self._is_after_edited(line, head):
            self._advance(point)
        elif point.seq == head.seq + 1:
            self._decide(rival_wins=False)
            if head.line != self._edited_line and self._edited_line != point.line and head.h:
                self._fault("edited", head.line, head.seq, "is not the record that the next one is bound to")
                self._edited_line = head.line
            self._advance(point)
        elif rival is not None and point.seq == rival.seq + 1 and line.prev == rival.h:
            self._decide(rival_wins=True)
            self._advance(point)
        elif point.seq > head.seq + 1:
            self._jump(line, point, head)
        else:
            self._look_back(line, point, head)

    def _is_after_edited(self, line: Line, head: _Point) -> bool:
        """Whether the record before is the one that was edited: then its number follows from this one's, and what is
        missing is missing before it."""
        if not line.is_whole or head.line != self._edited_line or line.prev != head.h or line.seq <= head.seq + 1:
            return False
        self._faults.withdraw("edited", self._file, head.line)
        self._fault("edited", head.line, line.seq - 1, "its hash is not that of its content")
        self._missing.append((head.seq, line.seq - 2, head.line))
        return True

    def _jump(self, line: Line, point: _Point, head: _Point) -> None:
        """Numbers are left out."""
        self._decide(rival_wins=False)
        left_out = [
            seq for seq in range(head.seq + 1, min(point.seq, head.seq + 1 + _RECENT)) if seq not in self._early
        ]
        if not left_out and self._early.get(point.seq - 1) == line.prev:
            for seq in range(head.seq + 1, point.seq):
                self._early.pop(seq, None)
            self._advance(point)
            return
        self._missing.append((head.seq + 1, point.seq - 1, point.line))
        self._rival = head
        self._doubtful = ("reordered", point, f"stands before seq {head.seq + 1}")
        self._advance(point)

    def _look_back(self, line: Line, point: _Point, head: _Point) -> None:
        """A number that was there, or should have been there, before."""
        if self._found_late(point.seq):
            self._fault("reordered", point.line, point.seq, f"stands after seq {head.seq}")
            return
        copied = next((each for each in self._recent if each.h == point.h), None)
        if copied is not None:
            self._fault("inserted", point.line, point.seq, f"is a copy of line {copied.line}")
            return
        parent = next((e for e in self._recent if e.seq + 1 == point.seq and e.h and e.h == line.prev), None)
        if parent is None:
            self._fault("inserted", point.line, point.seq, f"stands after seq {head.seq}")
            return
        self._decide(rival_wins=False)
        self._rival = head
        self._doubtful = ("inserted", point, f"seq {point.seq} is there twice, and the rest is bound to the other")
        self._outdone = [each for each in self._recent if each.line > parent.line]
        self._advance(point)

    def _decide(self, *, rival_wins: bool) -> None:
        doubtful, rival, outdone = self._doubtful, self._rival, self._outdone
        self._doubtful, self._rival, self._outdone = None, None, []
        if rival is None or doubtful is None:
            return
        what, point, detail = doubtful
        if rival_wins:
            self._fault(what, point.line, point.seq, detail)
            self._head = rival
            if what == "reordered":
                self._early[point.seq] = point.h
                self._missing.pop()
            return
        for each in outdone:
            self._faults.withdraw("edited", self._file, each.line)
            self._fault("inserted", each.line, each.seq, "the rest of the chain is not bound to it")

    def _found_late(self, seq: int) -> bool:
        for place, (first, last, line) in enumerate(self._missing):
            if first <= seq <= last:
                rest = [(first, seq - 1, line), (seq + 1, last, line)]
                self._missing[place : place + 1] = [each for each in rest if each[0] <= each[1]]
                return True
        return False

    def _advance(self, point: _Point) -> None:
        self._head = point
        self._recent.append(point)

    def tear(self, rest_bytes: int) -> None:
        """The file ends in a piece of a line."""
        self._fault("torn", self._number + 1, self.seq + 1, f"{rest_bytes} bytes of a line that is not whole")

    def end(self) -> None:
        self._decide(rival_wins=False)
        if self.header is None and self.first is not None:
            self._fault("deleted", 1, self.first.seq - 1, "the file's first record, its header")
        for first, last, line in self._missing:
            shown = f"seq {first} is" if first == last else f"seq {first} to {last} are"
            self._fault("deleted", line, first, f"{shown} missing before this line")

    def _fault(self, what: What, line: int, seq: int, detail: str) -> None:
        self._faults.add(Fault(what, self._file, line, seq, detail))
