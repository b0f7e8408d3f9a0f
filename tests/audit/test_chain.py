"""Records as lines."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.chain import GENESIS, RESERVED, Moments, line_of, read_line
from tests.values import any_json, any_text, unhurried

AT = "2026-11-22T03:14:15.926535Z"

facts = st.dictionaries(any_text.filter(lambda name: name not in RESERVED), any_json, max_size=5)


@unhurried
@given(facts)
def test_any_facts_become_one_line_that_proves_itself(given_facts: dict[str, Any]) -> None:
    """Also what JSON cannot hold: lone surrogates, integers beyond 64 bits."""
    line, h = line_of(7, AT, "request.finished", given_facts, GENESIS)
    assert line.count(b"\n") == 1
    read = read_line(line)
    assert read is not None
    assert (read.seq, read.time, read.kind, read.prev, read.h) == (7, AT, "request.finished", GENESIS, h)
    assert read.is_whole


def test_the_hash_is_that_of_the_line_without_it() -> None:
    """Such that other programs can check it, in any language."""
    line, h = line_of(1, AT, "x", {"tenant": "shop"}, GENESIS)
    assert json.loads(line)["h"] == h
    without = line.decode().replace(f',"h":"{h}"', "").rstrip("\n")
    assert hashlib.sha256(without.encode()).hexdigest() == h
    assert list(json.loads(line)) == ["v", "seq", "time", "kind", "tenant", "prev", "h"]


@unhurried
@given(st.data())
def test_any_other_byte_shows(data: st.DataObject) -> None:
    line, _ = line_of(1, AT, "request.finished", {"tenant": "shop", "status": 200}, GENESIS)
    place = data.draw(st.integers(0, len(line) - 2))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != line[place]))
    read = read_line(line[:place] + bytes([byte]) + line[place + 1 :])
    assert read is None or not read.is_whole


@pytest.mark.parametrize("raw", [b"", b"\n", b"[]\n", b"{}\n", b"null\n", b'{"seq":"1"}\n', b"\x00" * 40])
def test_what_is_no_record_is_none(raw: bytes) -> None:
    assert read_line(raw) is None


@unhurried
@given(st.datetimes(min_value=datetime(1971, 1, 1), max_value=datetime(2200, 1, 1)))
def test_times_are_utc_and_sort_as_text(moment: datetime) -> None:
    aware = moment.replace(tzinfo=UTC)
    time_ns = (int(aware.replace(microsecond=0).timestamp()) * 1_000_000 + aware.microsecond) * 1000
    assert Moments().text(time_ns) == moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ").zfill(27)


def test_objects_that_json_does_not_know_are_shown_as_text() -> None:
    read = read_line(line_of(1, AT, "x", {"path": pytest, "deep": _deep(400)}, GENESIS)[0])
    assert read is not None
    assert read.is_whole
    assert "module" in read.facts["path"]


def _deep(levels: int) -> Any:
    value: Any = None
    for _ in range(levels):
        value = [value]
    return value
