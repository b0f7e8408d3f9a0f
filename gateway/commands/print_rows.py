"""Rows for people, as an aligned table, or for programs, as JSON."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal

import orjson

Cell = str | int | float | Decimal | None
Row = Mapping[str, Cell]


def print_rows(rows: Sequence[Row], *, as_json: bool) -> None:
    """All rows have the same columns. An empty cell is `-` or null; in JSON a Decimal is a string."""
    if as_json:
        sys.stdout.buffer.write(orjson.dumps(rows, default=str, option=orjson.OPT_INDENT_2) + b"\n")
        return
    for line in table(rows):
        print(line)


def table(rows: Sequence[Row]) -> list[str]:
    """One line for the columns' names and one a row; numbers stand to the right."""
    if not rows:
        return []
    columns = [_column(name, [row[name] for row in rows]) for name in rows[0]]
    return ["  ".join(cells).rstrip() for cells in zip(*columns, strict=True)]


def _column(name: str, cells: Sequence[Cell]) -> list[str]:
    shown = [name.upper().replace("_", " "), *("-" if cell is None or cell == "" else str(cell) for cell in cells)]
    width = max(map(len, shown))
    is_number = any(isinstance(cell, int | float | Decimal) for cell in cells)
    return [text.rjust(width) if is_number else text.ljust(width) for text in shown]


def moment(at_s: float | None) -> str | None:
    """A time in UTC, to the second."""
    return None if not at_s else datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
