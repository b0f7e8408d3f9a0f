"""What goes, and that the chain says so before it does."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.file_set import FileSet
from gateway.audit.files import Name, find
from gateway.audit.retention import Keeping, Kept, what_goes
from gateway.audit.verify import verify
from tests.audit.written import BOOT, NEXT_BOOT, entry, faults_in, name_of, records_of, write
from tests.conftest import Events
from tests.values import unhurried

DAY_S = 86_400
NOW_S = time.time()


def kept(number: int, *, size: int = 10, days: float = 0) -> Kept:
    return Kept(Name("web", BOOT, number), Path(f"{number}"), size, NOW_S - days * DAY_S)


def gone(files: list[Kept], **bounds: Any) -> list[tuple[int, str]]:
    bounds = {"keep_s": 0, "keep_bytes": 0, **bounds}
    return [(each.name.number, why) for each, why in what_goes(files, NOW_S, **bounds)]


def test_what_is_too_old_or_too_much_goes_the_oldest_first() -> None:
    files = [kept(number, days=10 - number) for number in range(1, 6)]  # 9 to 5 days old, 10 bytes each
    assert gone(files) == []
    assert gone(files, keep_s=7.5 * DAY_S) == [(1, "age"), (2, "age")]
    assert gone(files, keep_bytes=25) == [(1, "size"), (2, "size"), (3, "size")]
    assert gone(files, keep_s=8.5 * DAY_S, keep_bytes=30) == [(1, "age"), (2, "size")]
    assert gone(files, keep_s=100 * DAY_S, keep_bytes=50) == []


@unhurried
@given(
    st.lists(st.tuples(st.integers(1, 100), st.floats(0, 100)), max_size=20),
    st.floats(0, 100),
    st.integers(0, 1000),
)
def test_what_stays_is_within_the_bounds_and_newer_than_what_goes(
    sizes: list[tuple[int, float]], keep_days: float, keep_bytes: int
) -> None:
    files = [kept(number, size=size, days=days) for number, (size, days) in enumerate(sizes)]
    going = {number for number, _ in gone(files, keep_s=keep_days * DAY_S, keep_bytes=keep_bytes)}
    staying = [each for each in files if each.name.number not in going]
    assert not keep_bytes or sum(each.bytes for each in staying) <= keep_bytes
    assert not keep_days or all(NOW_S - each.ended_s <= keep_days * DAY_S for each in staying)
    newest_gone = max((each.ended_s for each in files if each.name.number in going), default=0)
    assert all(each.ended_s >= newest_gone for each in staying)


def keeping(folder: Path, written: FileSet, *, now_s: float = NOW_S, **settings: Any) -> Keeping:
    def tell(kind: str, facts: Mapping[str, Any]) -> None:
        written.append([entry(kind, **facts)])

    bounds = {"is_compressing": False, "keep_s": 0, "keep_bytes": 0, **settings}
    tell = bounds.pop("tell", tell)
    return Keeping(folder, "web", boot=BOOT, is_open=lambda: True, tell=tell, clock=lambda: now_s, **bounds)


def aged(folder: Path, *names: str, days: float) -> None:
    for name in names:
        os.utime(folder / name, (NOW_S - days * DAY_S,) * 2)


def test_old_files_go_and_the_trail_is_good_without_them(tmp_path: Path, events: Events) -> None:
    written = write(tmp_path, 3, 3, 3, 0)
    aged(tmp_path, name_of(1), name_of(2), days=31)
    keeping(tmp_path, written, keep_s=30 * DAY_S).look()
    assert [name.number for name in find(tmp_path)] == [3, 4]
    deleted = [record for record in records_of(tmp_path) if record["kind"] == "trail.deleted"]
    assert [(each["file"], each["why"], each["records"], each["last_seq"]) for each in deleted] == [
        (name_of(1), "age", 4, 5),
        (name_of(2), "age", 4, 10),
    ]
    assert faults_in(tmp_path) == []
    assert [event["file"] for event in events.named("audit.deleted")] == [name_of(1), name_of(2)]


def test_a_file_stays_until_its_deletion_is_recorded(tmp_path: Path, events: Events) -> None:
    def tell(kind: str, facts: Mapping[str, Any]) -> None:
        raise TimeoutError

    written = write(tmp_path, 3, 3)
    aged(tmp_path, name_of(1), days=31)
    keeping(tmp_path, written, keep_s=30 * DAY_S, tell=tell).look()
    assert len(find(tmp_path)) == 2
    assert [(event["work"], event["reason"]) for event in events] == [("delete_all", "TimeoutError")]


def test_what_another_process_of_this_name_has_deleted_is_passed_by(tmp_path: Path, events: Events) -> None:
    written = write(tmp_path, 3, 3, 3, 0)
    aged(tmp_path, *(name_of(number) for number in (1, 2, 3)), days=31)

    def tell(kind: str, facts: Mapping[str, Any]) -> None:
        written.append([entry(kind, **facts)])
        (tmp_path / name_of(2)).unlink(missing_ok=True)

    keeping(tmp_path, written, keep_s=30 * DAY_S, tell=tell).look()
    assert [name.number for name in find(tmp_path)] == [4]
    assert not events.named("audit.keeping_failed")


def test_what_a_process_writes_stays_whatever_its_age(tmp_path: Path) -> None:
    written, other = write(tmp_path, 3), write(tmp_path, 3, replica="side")
    aged(tmp_path, name_of(1), name_of(1, replica="side"), days=31)
    keeping(tmp_path, written, keep_s=30 * DAY_S, keep_bytes=1).look()
    assert len(find(tmp_path)) == 2
    del other


def test_files_of_a_replica_that_lives_are_its_own_affair_and_those_of_others_are_not(tmp_path: Path) -> None:
    written = write(tmp_path, 0)
    living, dead = write(tmp_path, 3, 3, replica="living"), write(tmp_path, 3, 3, replica="dead")
    dead.close()
    names = [name_of(number, replica=replica) for replica in ("living", "dead") for number in (1, 2)]
    aged(tmp_path, *names, days=31)
    keeping(tmp_path, written, keep_s=30 * DAY_S).look()
    assert {(name.replica, name.number) for name in find(tmp_path)} == {("web", 1), ("living", 1), ("living", 2)}
    assert faults_in(tmp_path) == []
    del living


def test_sealed_files_are_compressed_and_nothing_else(tmp_path: Path) -> None:
    before = write(tmp_path, 3, 3, boot="20261121T031415Z000000")
    before.close()
    written = write(tmp_path, 3, 3)
    keeping(tmp_path, written, is_compressing=True).look()
    assert [path.suffix for path in find(tmp_path).values()] == [".zst", ".zst", ".zst", ".jsonl"]
    assert faults_in(tmp_path) == []


def test_a_damaged_file_goes_too_when_its_time_has_come(tmp_path: Path) -> None:
    written = write(tmp_path, 3, 3)
    (tmp_path / name_of(1)).rename(tmp_path / f"{name_of(1)}.zst")
    aged(tmp_path, f"{name_of(1)}.zst", days=31)
    keeping(tmp_path, written, keep_s=30 * DAY_S).look()
    assert len(find(tmp_path)) == 1
    report = verify(tmp_path)
    assert report.is_good
    written.close()


@pytest.mark.parametrize("is_compressing", [False, True])
def test_a_folder_is_looked_at_again_without_harm(is_compressing: bool, tmp_path: Path) -> None:
    written = write(tmp_path, 3, 3, boot=NEXT_BOOT)
    work = keeping(tmp_path, written, is_compressing=is_compressing, keep_s=30 * DAY_S, now_s=0)
    for _ in range(3):
        work.look()
    assert len(find(tmp_path)) == 2
    assert faults_in(tmp_path) == []
