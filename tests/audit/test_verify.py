"""The tamper matrix: what was done to a trail, and that exactly this is found, at the exact record."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.chain import GENESIS, Position, line_of
from gateway.audit.checking import Faults, FileCheck
from gateway.audit.checkpoints import SigningKey
from gateway.audit.files import compress
from gateway.audit.verify import verify
from tests.audit.written import (
    BOOT,
    NEXT_BOOT,
    edited,
    entry,
    faults_in,
    file_set,
    lines_of,
    name_of,
    rechained,
    rehashed,
    write,
)
from tests.values import unhurried

KEY = SigningKey(Ed25519PrivateKey.generate())
ONE, TWO, THREE = (name_of(number) for number in (1, 2, 3))
# Each file has a header, eight records and a seal: seq 1 to 10, 11 to 20, and 21 to 30.

Tamper = Callable[[list[bytes]], Any]
Found = list[tuple[str, str, int | None, int | None]]


@pytest.fixture
def trail(tmp_path: Path) -> Path:
    """Three sealed files."""
    write(tmp_path, 8, 8, 8).close()
    assert faults_in(tmp_path) == []
    return tmp_path


def signed(folder: Path, file: str, line: int) -> dict[str, Any]:
    """The checkpoint of a record."""
    said = orjson.loads(lines_of(folder / file)[line - 1])
    return KEY.sign(Position(file, said["seq"], said["h"]), "2026-11-22T03:14:15.000000Z")


def swap(lines: list[bytes], first: int, second: int) -> None:
    lines[first], lines[second] = lines[second], lines[first]


def turn(*places: int, by: Callable[[bytes], bytes] = lambda line: line.replace(b"was", b"is!")) -> Tamper:
    """Change lines, counted from 0."""

    def tamper(lines: list[bytes]) -> None:
        for place in places:
            lines[place] = by(lines[place])

    return tamper


def away(*places: int) -> Tamper:
    def tamper(lines: list[bytes]) -> None:
        for place in sorted(places, reverse=True):
            del lines[place]

    return tamper


def put(place: int, make: Callable[[list[bytes]], list[bytes]]) -> Tamper:
    """New lines in front of the line that is there."""
    return lambda lines: lines.__setitem__(slice(place, place), make(lines))


def two_forged(lines: list[bytes]) -> list[bytes]:
    return rechained([rehashed(lines[5], text="a"), rehashed(lines[6], text="b")], after=lines[4])


def one_away_the_next_edited(lines: list[bytes]) -> None:
    turn(5)(lines)
    del lines[4]


TAMPERS: list[tuple[str, Tamper, Found]] = [
    ("a word", turn(4), [("edited", TWO, 5, 15)]),
    ("a word, hashed", turn(4, by=lambda line: rehashed(line, text="no")), [("edited", TWO, 5, 15)]),
    ("a hash", turn(4, by=lambda line: line[:-8] + b'00000"}\n'), [("edited", TWO, 5, 15)]),
    ("a number", turn(4, by=lambda line: line.replace(b'"seq":15', b'"seq":99')), [("edited", TWO, 5, 15)]),
    ("a binding", turn(4, by=lambda line: line.replace(b'"prev":"', b'"prev":"00')), [("edited", TWO, 5, 15)]),
    ("garbage for a line", turn(4, by=lambda line: b"\x00" * 99 + b"\n"), [("edited", TWO, 5, 15)]),
    ("the header", turn(0, by=lambda line: line.replace(b'"1"', b'"2"')), [("edited", TWO, 1, 11)]),
    ("the seal, hashed", turn(9, by=lambda line: rehashed(line, records=5)), [("edited", TWO, None, 20)]),
    ("two lines", turn(3, 6), [("edited", TWO, 4, 14), ("edited", TWO, 7, 17)]),
    ("neighbours", turn(3, 4), [("edited", TWO, 4, 14), ("edited", TWO, 5, 15)]),
    ("one line away", away(4), [("deleted", TWO, 5, 15)]),
    ("three lines away", away(3, 4, 5), [("deleted", TWO, 4, 14)]),
    ("the header away", away(0), [("deleted", TWO, 1, 11)]),
    ("two places away", away(2, 6), [("deleted", TWO, 3, 13), ("deleted", TWO, 6, 17)]),
    ("one away, the next edited", one_away_the_next_edited, [("edited", TWO, 5, 16), ("deleted", TWO, 5, 15)]),
    ("a copy behind itself", put(5, lambda lines: [lines[4]]), [("inserted", TWO, 6, 15)]),
    ("a copy further on", put(8, lambda lines: [lines[3]]), [("inserted", TWO, 9, 14)]),
    ("a forged line", put(5, lambda lines: [rehashed(lines[5], text="no")]), [("inserted", TWO, 6, 16)]),
    ("two forged lines", put(5, two_forged), [("inserted", TWO, 6, 16), ("inserted", TWO, 7, 17)]),
    ("a line of garbage", put(5, lambda lines: [b"garbage\n"]), [("inserted", TWO, 6, 16)]),
    ("a line of another file", put(5, lambda lines: FOREIGN), [("inserted", TWO, 6, 3)]),
    (
        "behind the seal",
        put(10, lambda lines: rechained([lines[4]], after=lines[9])),
        [("inserted", TWO, 11, 21), ("inserted", TWO, None, 21)],
    ),
    ("neighbours change places", lambda lines: swap(lines, 4, 5), [("reordered", TWO, 5, 16)]),
    ("a line goes up", lambda lines: lines.insert(2, lines.pop(6)), [("reordered", TWO, 3, 17)]),
    ("a line goes down", lambda lines: lines.insert(6, lines.pop(2)), [("reordered", TWO, 7, 13)]),
    ("the end away", away(7, 8, 9), [("truncated", TWO, None, 18)]),
    ("a torn end", turn(9, by=lambda line: line[:40]), [("torn", TWO, 10, 20), ("truncated", TWO, None, 20)]),
    ("everything away", lambda lines: lines.clear(), [("truncated", TWO, None, None), ("truncated", TWO, None, 1)]),
]
FOREIGN: list[bytes] = []


@pytest.mark.parametrize(("tamper", "expected"), [row[1:] for row in TAMPERS], ids=[row[0] for row in TAMPERS])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "compressed"])
def test_what_was_done_to_a_file_is_found_at_its_record(
    tamper: Tamper, expected: Found, packed: bool, trail: Path
) -> None:
    FOREIGN[:] = [lines_of(trail / ONE)[2]]
    with edited(trail / TWO) as lines:
        tamper(lines)
    if packed:
        for path in list(trail.glob("*.jsonl")):
            compress(path, unique="x")
    assert sorted(set(faults_in(trail)), key=str) == sorted(set(expected), key=str)


def test_one_fault_hides_no_other(trail: Path) -> None:
    """In one file and across files."""
    with edited(trail / ONE) as lines:
        lines[2] = b"\n"
        lines[4] = lines[4].replace(b"was", b"is!")
        lines.insert(7, lines[5])
        lines.pop(6)
    with edited(trail / THREE) as lines:
        swap(lines, 3, 4)
    assert set(faults_in(trail)) == {
        ("edited", ONE, 3, 3),
        ("edited", ONE, 5, 5),
        ("inserted", ONE, 7, 6),
        ("deleted", ONE, 8, 7),
        ("reordered", THREE, 4, 25),
    }


def test_a_file_that_is_missing_is_named(trail: Path) -> None:
    (trail / TWO).unlink()
    assert faults_in(trail) == [("missing_file", TWO, None, 20)]
    (trail / ONE).unlink()
    assert faults_in(trail) == [("missing_file", TWO, None, 20)]


def test_every_file_between_two_is_missing(tmp_path: Path) -> None:
    write(tmp_path, 1, 1, 1, 1).close()
    (tmp_path / name_of(2)).unlink()
    (tmp_path / name_of(3)).unlink()
    assert {fault[:2] for fault in faults_in(tmp_path)} == {("missing_file", name_of(2)), ("missing_file", name_of(3))}


def test_files_that_changed_places_are_found(trail: Path) -> None:
    (trail / ONE).rename(trail / "aside")
    (trail / TWO).rename(trail / ONE)
    (trail / "aside").rename(trail / TWO)
    assert {fault[:2] for fault in faults_in(trail)} >= {("renamed", ONE), ("renamed", TWO)}


def test_the_last_file_of_a_trail_is_missed_only_by_a_checkpoint(trail: Path) -> None:
    checkpoint = signed(trail, THREE, 5)
    (trail / THREE).unlink()
    assert faults_in(trail) == []
    assert faults_in(trail, checkpoints=[checkpoint], key=KEY.public) == [("missing_file", THREE, None, 25)]


def test_an_end_cut_off_shows_only_against_a_checkpoint(tmp_path: Path) -> None:
    """Of the newest file; any other's end is in the header of the next."""
    write(tmp_path, 8)
    checkpoint = signed(tmp_path, ONE, 9)
    with edited(tmp_path / ONE) as lines:
        del lines[6:]
    assert faults_in(tmp_path) == []
    assert faults_in(tmp_path, checkpoints=[checkpoint], key=KEY.public) == [("truncated", ONE, None, 7)]


def test_a_tail_written_anew_shows_against_a_checkpoint(trail: Path) -> None:
    """A forger who knows everything but the key, and hashes all that follows."""
    checkpoints = [signed(trail, THREE, line) for line in (2, 4, 6, 8)]
    with edited(trail / THREE) as lines:
        lines[4] = rehashed(lines[4], text="never happened")
        lines[5:] = rechained(lines[5:], lines[4])
    assert faults_in(trail) == []
    report = verify(trail, checkpoints=checkpoints, key=KEY.public)
    assert [fault[:4] for fault in report.faults] == [("forged", THREE, 6, 26), ("forged", THREE, 8, 28)]
    assert "after seq 24" in report.faults[0].detail
    assert report.checkpoints == 4


def test_a_checkpoint_by_somebody_else_is_a_fault_and_proves_nothing(trail: Path) -> None:
    good, other = signed(trail, ONE, 3), SigningKey(Ed25519PrivateKey.generate())
    forged = other.sign(Position(ONE, 3, "0" * 64), "2026-11-22T03:14:15.000000Z")
    report = verify(trail, checkpoints=[good, forged, good | {"seq": 4}], key=KEY.public)
    assert [fault[:4] for fault in report.faults] == [
        ("bad_checkpoint", ONE, None, 3),
        ("bad_checkpoint", ONE, None, 4),
    ]
    assert report.checkpoints == 1


def test_a_checkpoint_in_the_past_of_a_trail_that_grew_is_good(tmp_path: Path) -> None:
    written = write(tmp_path, 3)
    checkpoint = signed(tmp_path, ONE, 4)
    written.append([entry()])
    written.close()
    assert faults_in(tmp_path, checkpoints=[checkpoint], key=KEY.public) == []


def test_a_damaged_compressed_file_is_found_and_the_others_are_read(trail: Path) -> None:
    packed = compress(trail / TWO, unique="x")
    raw = bytearray(packed.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    packed.write_bytes(raw)
    report = verify(trail)
    assert {fault.file for fault in report.faults} == {TWO}
    assert report.records >= 20
    packed.write_bytes(raw[: len(raw) // 2])
    assert "truncated" in {fault.what for fault in verify(trail).faults}


def test_a_deleted_file_is_expected_when_the_chain_says_so(tmp_path: Path) -> None:
    written = write(tmp_path, 3, 3)
    end = orjson.loads(lines_of(tmp_path / ONE)[-1])
    written.append([entry("trail.deleted", file=ONE, head=end["h"], last_seq=end["seq"], why="age")])
    (tmp_path / ONE).unlink()
    assert faults_in(tmp_path) == []


def test_a_deleted_file_whose_end_was_another_is_a_fault(tmp_path: Path) -> None:
    """What was tampered with before retention took it away."""
    written = write(tmp_path, 3, 3)
    written.append([entry("trail.deleted", file=ONE, head="f" * 64, last_seq=5, why="age")])
    (tmp_path / ONE).unlink()
    assert faults_in(tmp_path) == [("edited", ONE, None, 5)]


def test_requests_that_never_finished_are_named(tmp_path: Path) -> None:
    """Across the files of a set, whatever stands between."""
    written = file_set(tmp_path)
    written.append([entry("request.started", request_id=name, operation="create_run", tenant="shop") for name in "abc"])
    written.rotate()
    written.append([entry("request.finished", request_id="b"), entry("request.finished", request_id="read")])
    written.close()
    other = write(tmp_path, 0, replica="side")
    other.append([entry("request.started", request_id="d")])
    report = verify(tmp_path)
    assert report.is_good
    assert [[request.request_id for request in each.unfinished] for each in report.sets] == [["d"], ["a", "c"]]
    assert report.sets[1].unfinished[0][2:] == (ONE, 2, "create_run", "shop")
    assert [each.state for each in report.sets] == ["live", "sealed"]


def test_calls_of_models_that_never_finished_are_named_by_their_own_ids(tmp_path: Path) -> None:
    """Beside the request that led to them, which is over long before."""
    written = write(tmp_path, 0)
    written.append([entry("request.started", request_id="a"), entry("request.finished", request_id="a")])
    for name in ("gen_1", "gen_2"):
        facts = {"generation_id": name, "request_id": "a", "operation": "ask_model", "tenant": "shop"}
        written.append([entry("generation.started", **facts)])
    written.append([entry("generation.finished", generation_id="gen_1", request_id="a")])
    [report] = verify(tmp_path).sets
    assert [(each.request_id, each.operation, each.tenant) for each in report.unfinished] == [
        ("gen_2", "ask_model", "shop")
    ]


def test_a_torn_line_counts_unless_a_process_is_at_it(tmp_path: Path) -> None:
    written = write(tmp_path, 3)
    with (tmp_path / ONE).open("ab") as file:
        file.write(b'{"v":1,"seq":')
    assert faults_in(tmp_path) == []
    shutil.copytree(tmp_path, tmp_path / "copy")
    assert faults_in(tmp_path / "copy") == [("torn", ONE, 5, 5)]
    del written


def test_a_clock_that_goes_back_is_no_fault(tmp_path: Path) -> None:
    """Time is a fact; the number decides."""
    written = file_set(tmp_path)
    written.append([entry()._replace(time_ns=at) for at in (2_000_000_000_000_000_000, 1_000_000_000_000_000_000)])
    written.close()
    assert faults_in(tmp_path) == []


def test_sets_of_many_replicas_are_told_apart(tmp_path: Path) -> None:
    for replica in ("web", "web-2", "web-2.example"):
        write(tmp_path, 2, 3, replica=replica).close()
    report = verify(tmp_path)
    assert [(each.replica, each.boot, each.files, each.records) for each in report.sets] == [
        ("web", BOOT, 2, 9),
        ("web-2", BOOT, 2, 9),
        ("web-2.example", BOOT, 2, 9),
    ]
    assert report.is_good


def test_the_set_before_must_end_as_the_next_one_says(tmp_path: Path) -> None:
    before = write(tmp_path, 3)
    before.close()
    assert before.position is not None
    write(tmp_path, 2, boot=NEXT_BOOT, previous=before.position._asdict(), head=before.position.head).close()
    assert faults_in(tmp_path) == []
    with edited(tmp_path / ONE) as lines:
        del lines[3:]
    assert faults_in(tmp_path) == [("truncated", ONE, None, 4)]
    (tmp_path / ONE).unlink()
    assert faults_in(tmp_path) == [("missing_file", ONE, None, 5)]


@unhurried
@given(
    cuts=st.sets(st.integers(2, 60), min_size=1, max_size=8), edits=st.sets(st.integers(2, 60), min_size=1, max_size=8)
)
def test_any_deletions_and_edits_together_are_each_found(cuts: set[int], edits: set[int]) -> None:
    """The numbers of what was edited, and of what is gone, whatever stands side by side."""
    head, lines = GENESIS, []
    for seq in range(1, 64):
        line, head = line_of(seq, "t", "file.opened" if seq == 1 else "x", {"n": seq, "text": "was"}, head)
        lines.append(line)
    faults = Faults()
    check = FileCheck("f", faults)
    for seq, line in enumerate(lines, 1):
        if seq not in cuts:
            check.feed(line.replace(b"was", b"is!") if seq in edits else line)
    check.end()
    named = {fault.seq for fault in faults if fault.what == "edited"}
    assert len(named) == len(edits - cuts)
    lost = sum(
        1 if " is " in fault.detail else int(fault.detail.split()[3]) - int(fault.detail.split()[1]) + 1
        for fault in faults
        if fault.what == "deleted"
    )
    assert lost == len(cuts)
    assert {fault.what for fault in faults} <= {"edited", "deleted"}
