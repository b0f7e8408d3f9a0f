"""Rows for people, as an aligned table, or for programs, as JSON.

Everything the project prints goes through here. A table library would have to see all rows before it prints the first;
a trail has millions, and `audit tail -f` has no last one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Literal

import orjson

Cell = str | int | float | Decimal | None
Row = Mapping[str, Cell]
Colour = Literal["red", "yellow", "dim"]
Paint = Callable[[Row], Colour | None]
"""The colour of a row's line, None for the terminal's own."""

_CODES: Mapping[Colour, str] = {"red": "31", "yellow": "33", "dim": "2"}


def print_rows(rows: Sequence[Row], *, as_json: bool, paint: Paint | None = None) -> None:
    """All rows have the same columns. An empty cell is `-` or null; in JSON a Decimal is a string."""
    if as_json:
        sys.stdout.buffer.write(orjson.dumps(rows, default=str, option=orjson.OPT_INDENT_2) + b"\n")
        return
    for line in table(rows, paint=paint if shows_colours() else None):
        print(line)


def table(rows: Sequence[Row], *, paint: Paint | None = None) -> list[str]:
    """One line for the columns' names and one a row; numbers stand to the right."""
    return GrowingTable(paint).lines(rows)


class GrowingTable:
    """A table of which the first rows are printed before the last are known. Columns are as wide as the widest cell so
    far."""

    def __init__(self, paint: Paint | None = None) -> None:
        self._paint = paint
        self._widths: dict[str, int] = {}
        self._numbers: set[str] = set()

    def lines(self, rows: Sequence[Row]) -> list[str]:
        """The lines of the next rows; the first time with the columns' names above."""
        if not rows:
            return []
        is_first = not self._widths
        heads = {name: name.upper().replace("_", " ") for name in rows[0]}
        shown = [{name: _shown(row[name]) for name in heads} for row in rows]
        for name, head in heads.items():
            widest = max(len(cells[name]) for cells in shown)
            self._widths[name] = max(self._widths.get(name, len(head)), widest)
            if any(isinstance(row[name], int | float | Decimal) for row in rows):
                self._numbers.add(name)
        lines = [self._line(heads)] if is_first else []
        for row, cells in zip(rows, shown, strict=True):
            colour = self._paint(row) if self._paint is not None else None
            lines.append(_coloured(self._line(cells), colour))
        return lines

    def _line(self, cells: Mapping[str, str]) -> str:
        padded = [
            cell.rjust(self._widths[name]) if name in self._numbers else cell.ljust(self._widths[name])
            for name, cell in cells.items()
        ]
        return "  ".join(padded).rstrip()


def print_growing(rows: Iterable[Row], paint: Paint | None = None, *, at_once: int = 200) -> None:
    """A table of rows that come one by one, so many of them at a time."""
    growing = GrowingTable(paint if shows_colours() else None)
    waiting: list[Row] = []
    for row in rows:
        waiting.append(row)
        if len(waiting) >= at_once:
            print("\n".join(growing.lines(waiting)))
            waiting.clear()
    if waiting:
        print("\n".join(growing.lines(waiting)))


def shows_colours() -> bool:
    """Whether a person looks at it, on a terminal that can: see no-color.org."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def plain(text: str) -> str:
    """Text such that a terminal shows it and does nothing else: what callers wrote may hold its commands."""
    return text if text.isprintable() else "".join(sign if sign.isprintable() else _escaped(sign) for sign in text)


def _escaped(sign: str) -> str:
    return sign.encode("unicode_escape", "surrogatepass").decode("ascii")


def _shown(cell: Cell) -> str:
    return "-" if cell is None or cell == "" else plain(str(cell))


def _coloured(line: str, colour: Colour | None) -> str:
    return line if colour is None else f"\x1b[{_CODES[colour]}m{line}\x1b[0m"


def moment(at_s: float | None) -> str | None:
    """A time in UTC, to the second."""
    return None if not at_s else datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
