"""Reading a trail while it is written, rotated, compressed, torn and deleted."""

from __future__ import annotations

import io
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.audit.reading import Following, WrittenTrail, _lines_backwards, blocks_of, files_of, lines_in
from tests.audit.writing import Process, compress_file, moment


def seqs(folder: Path, **given: Any) -> list[tuple[str, int]]:
    return [(row.file.series, row.record["seq"]) for row in WrittenTrail(folder).read(**given)]


def test_records_of_all_replicas_come_in_the_order_of_time(tmp_path: Path) -> None:
    one, two = Process(tmp_path, "r1"), Process(tmp_path, "r2")
    for second in range(0, 10, 2):
        one.write(second, "request.finished")
        two.write(second + 1, "request.finished")
    two.write(8, "request.finished")  # its clock was set back: the order within a file stays
    read = [(row.file.replica, row.record["time"]) for row in WrittenTrail(tmp_path).read()]
    assert read[:9] == [("r1" if second % 2 == 0 else "r2", moment(second)) for second in range(9)]
    assert read[-2:] == [("r2", moment(9)), ("r2", moment(8))]


@pytest.mark.parametrize("compress", [False, True])
def test_files_of_one_process_follow_each_other(compress: bool, tmp_path: Path) -> None:
    process = Process(tmp_path)
    for second in range(9):
        process.write(second, "request.finished")
        if second % 3 == 2:
            process.rotate(second, compress=compress)
    assert [seq for _, seq in seqs(tmp_path)] == list(range(1, 16))


def test_a_last_line_that_is_not_whole_is_not_read(tmp_path: Path) -> None:
    process = Process(tmp_path)
    process.write(1, "request.finished")
    with process.path.open("ab") as file:
        file.write(b'{"v":1,"seq":2,"ti')
    trail = WrittenTrail(tmp_path)
    assert [row.record["seq"] for row in trail.read()] == [1]
    assert not trail.faults


def test_a_line_that_is_no_record_is_told_and_the_rest_read(tmp_path: Path) -> None:
    process = Process(tmp_path)
    process.write(1, "request.finished")
    with process.path.open("ab") as file:
        file.write(b"garbage\n[]\n")
    process.write(2, "request.finished")
    trail = WrittenTrail(tmp_path)
    assert [row.record["seq"] for row in trail.read()] == [1, 2]
    assert trail.faults == ["r1-b1-0000.jsonl has a line that is no record"] * 2


def test_a_compressed_file_that_is_damaged_is_told_and_the_others_are_read(tmp_path: Path) -> None:
    process = Process(tmp_path)
    process.write(1, "request.finished")
    process.rotate(2, compress=True)
    (sealed,) = tmp_path.glob("*.zst")
    sealed.write_bytes(b"\0" * 100)
    trail = WrittenTrail(tmp_path)
    assert [row.record["kind"] for row in trail.read()] == ["file.opened"]
    assert "r1-b1-0000.jsonl.zst cannot be read" in trail.faults[0]


def test_a_file_that_is_there_twice_while_it_is_compressed_is_read_once(tmp_path: Path) -> None:
    process = Process(tmp_path)
    process.write(1, "request.finished")
    process.path.with_name(process.path.name + ".zst").write_bytes(b"the beginning of")
    assert len(seqs(tmp_path)) == 1


def test_a_file_that_is_compressed_after_it_was_found_is_read(tmp_path: Path) -> None:
    process = Process(tmp_path)
    process.write(1, "request.finished")
    rows = WrittenTrail(tmp_path).read()
    compress_file(process.path)
    assert [row.record["seq"] for row in rows] == [1]


def test_a_file_that_is_deleted_while_the_trail_is_read_is_no_fault(tmp_path: Path) -> None:
    one, two = Process(tmp_path, "r1"), Process(tmp_path, "r2")
    one.write(1, "request.finished")
    two.write(2, "request.finished")
    trail = WrittenTrail(tmp_path)
    rows = trail.read()
    two.path.unlink()
    assert [row.file.replica for row in rows] == ["r1"]
    assert not trail.faults


def test_other_files_are_none_of_the_trail(tmp_path: Path) -> None:
    Process(tmp_path).write(1, "request.finished")
    for name in ("hmac.key", "notes.jsonl", "a-b.jsonl", "r1-b1-0001.jsonl.zst.tmp", ".r1-b1-0001.jsonl"):
        (tmp_path / name).write_text("x")
    (tmp_path / "bodies").mkdir()
    assert [file.path.name for file in files_of(tmp_path)] == ["r1-b1-0000.jsonl"]


@pytest.mark.parametrize(("since", "until", "left"), [(3, 6, [3, 4, 5]), (0, 1, [0]), (8, 99, [8, 9]), (99, 100, [])])
def test_a_time_leaves_out_what_is_before_and_after(since: int, until: int, left: list[int], tmp_path: Path) -> None:
    process = Process(tmp_path)
    for second in range(10):
        process.write(second, "request.finished", second=second)
        if second % 3 == 2:
            process.rotate(second + 0.5, compress=True)
    rows = WrittenTrail(tmp_path).read(since=moment(since), until=moment(until), needles=[[b'"second"']])
    assert [row.record["second"] for row in rows] == left


def test_files_of_which_all_is_too_old_are_not_opened(tmp_path: Path) -> None:
    process = Process(tmp_path)
    for second in range(4):
        process.write(second * 10, "request.finished", second=second)
        process.rotate(second * 10 + 5)
    (tmp_path / "r1-b1-0001.jsonl").write_text('{"time":"2026-11-22T03:00:05.000000Z"}\nnot a record\n')
    trail = WrittenTrail(tmp_path)
    assert [row.record["second"] for row in trail.read(since=moment(20), needles=[[b'"second"']])] == [2, 3]
    assert not trail.faults


def test_the_newest_come_last_and_are_those_that_are_wanted(tmp_path: Path) -> None:
    one, two = Process(tmp_path, "r1"), Process(tmp_path, "r2")
    for second in range(20):
        (one if second % 2 else two).write(second, "request.finished", second=second)
        if second % 5 == 4:
            one.rotate(second)
    wanted = [
        row.record["second"]
        for row in WrittenTrail(tmp_path).last(4, wanted=lambda record: record.get("second", 1) % 3 == 0)
    ]
    assert wanted == [9, 12, 15, 18]
    assert len(WrittenTrail(tmp_path).last(1000)) == 28


def test_what_is_written_later_is_followed_over_rotations_and_new_processes(tmp_path: Path) -> None:
    process = Process(tmp_path)
    process.write(1, "old")
    following = Following(tmp_path)
    assert following.rows() == []
    process.write(2, "one")
    with process.path.open("ab") as file:
        file.write(b'{"kind":"tw')
    assert [row.record["kind"] for row in following.rows()] == ["one"]
    with process.path.open("ab") as file:
        file.write(b'o","time":"2026-11-22T03:00:02.5Z"}\n')
    process.rotate(3, compress=True)
    process.write(4, "three")
    Process(tmp_path, "r2").write(5, "four")
    kinds = [row.record["kind"] for row in following.rows()]
    assert kinds == ["two", "file.sealed", "file.opened", "three", "four"]
    assert following.rows() == []


def test_a_line_that_was_half_written_at_the_beginning_is_followed(tmp_path: Path) -> None:
    process = Process(tmp_path)
    process.write(1, "old")
    with process.path.open("ab") as file:
        file.write(b'{"kind":"ha')
    following = Following(tmp_path)
    with process.path.open("ab") as file:
        file.write(b'lf"}\n')
    assert [row.record["kind"] for row in following.rows()] == ["half"]


def test_what_was_written_before_a_file_was_sealed_and_compressed_is_followed(tmp_path: Path) -> None:
    process = Process(tmp_path)
    process.write(1, "old")
    following = Following(tmp_path)
    process.write(2, "new")
    compress_file(process.path)
    assert [row.record["kind"] for row in following.rows()] == ["new"]
    assert following.rows() == []
    assert Following(tmp_path).rows() == []


def test_a_process_is_over_when_its_last_file_is_sealed_or_its_replica_began_again(tmp_path: Path) -> None:
    one, two = Process(tmp_path, "r1"), Process(tmp_path, "r2")
    one.write(1, "request.started")
    two.write(1, "request.started")

    def over() -> dict[str, bool]:
        trail = WrittenTrail(tmp_path)
        return {row.file.replica: trail.is_over(row.file) for row in WrittenTrail(tmp_path).read(until=moment(2))}

    assert over() == {"r1": False, "r2": False}
    one.seal(3)
    Process(tmp_path, "r2", "b2").write(4, "file.opened")
    assert over() == {"r1": True, "r2": True}


needle_texts = st.text(st.sampled_from("ab\n"), min_size=0, max_size=60)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(needle_texts, st.lists(st.lists(st.sampled_from([b"a", b"ab", b"bb"]), min_size=1, max_size=2), max_size=2))
def test_needles_find_the_lines_that_a_plain_search_finds(
    monkeypatch: pytest.MonkeyPatch, text: str, needles: list[list[bytes]]
) -> None:
    """Whatever the size of the pieces that are read."""
    monkeypatch.setattr("gateway.audit.reading._BLOCK_BYTES", 7)
    raw = text.encode()
    whole = raw[: raw.rfind(b"\n") + 1].split(b"\n")[:-1]
    expected = [line for line in whole if all(any(needle in line for needle in either) for either in needles)]
    assert list(lines_in(blocks_of(io.BytesIO(raw)), needles)) == expected


def test_a_long_trail_of_many_processes_takes_little_memory_and_few_files(tmp_path: Path) -> None:
    for boot in range(150):
        process = Process(tmp_path, boot=f"b{boot:03}")
        process.write(boot * 10, "request.finished", text="x" * 20_000)
        process.write(boot * 10 + 5, "request.finished", text="x" * 20_000)
    before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
    tracemalloc.start()
    try:
        for row in WrittenTrail(tmp_path).read():
            assert row.record["seq"] in (1, 2)
            if before:
                assert len(os.listdir("/proc/self/fd")) <= before + 3
        assert tracemalloc.get_traced_memory()[1] < 12_000_000
    finally:
        tracemalloc.stop()


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.sampled_from("ab\n"), max_size=60))
def test_lines_backwards_are_the_lines_backwards(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("gateway.audit.reading._BLOCK_BYTES", 7)
    raw = text.encode()
    forwards = raw[: raw.rfind(b"\n") + 1].split(b"\n")[:-1]
    assert list(_lines_backwards(io.BytesIO(raw))) == forwards[::-1]
