"""Tables for people."""

from __future__ import annotations

from decimal import Decimal

from gateway.commands.print_rows import moment, table


def test_columns_stand_under_each_other() -> None:
    rows = [{"key": "one", "why": None, "last_used": 5}, {"key": "a longer one", "why": "", "last_used": 12_345}]
    assert table(rows) == [
        "KEY           WHY  LAST USED",
        "one           -            5",
        "a longer one  -        12345",
    ]


def test_money_stands_to_the_right_as_numbers_do() -> None:
    assert table([{"cost": Decimal("1.500000")}, {"cost": "unknown"}]) == ["    COST", "1.500000", " unknown"]


def test_no_rows_are_no_table() -> None:
    assert table([]) == []


def test_times_are_utc() -> None:
    assert moment(1_800_000_000.9) == "2027-01-15T08:00:00Z"
    assert moment(None) is None
    assert moment(0) is None
