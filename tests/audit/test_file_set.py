"""The files of one process: what a failing disk leaves behind is a chain without a flaw."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.audit import file_set as module
from gateway.audit.files import find, is_live
from gateway.audit.verify import verify
from tests.audit.written import entry, faults_in, file_set, ids, lines_of, name_of, read, records_of, write

ONE, TWO = name_of(1), name_of(2)


class Disk:
    """Lets calls of the file set fail: `disk.fail("write", errno.ENOSPC, after_bytes=10)`."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch

    def fail(self, call: str, code: int, *, times: int = 1 << 30, after_bytes: int = 0) -> None:
        real: Callable[..., Any] = getattr(os, call)
        left = [times]

        def failing(*given: Any, **named: Any) -> Any:
            if left[0] <= 0:
                return real(*given, **named)
            if call == "write" and after_bytes and len(given[1]) > after_bytes:
                return real(given[0], bytes(given[1])[:after_bytes])
            left[0] -= 1
            raise OSError(code, os.strerror(code))

        self._patch.setattr(module.os, call, failing)

    def mend(self) -> None:
        self._patch.undo()


@pytest.fixture
def disk() -> Iterator[Disk]:
    with pytest.MonkeyPatch.context() as patch:
        yield Disk(patch)


def test_files_are_private_sealed_and_bound_to_each_other(tmp_path: Path) -> None:
    write(tmp_path / "new", 2, 0, 1).close()
    files = find(tmp_path / "new")
    assert [str(name) for name in files] == [name_of(number) for number in (1, 2, 3)]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files.values()} == {0o600}
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    records = records_of(tmp_path / "new")
    assert [record["seq"] for record in records] == list(range(1, len(records) + 1))
    headers = [record for record in records if record["kind"] == "file.opened"]
    seals = [record for record in records if record["kind"] == "file.sealed"]
    assert [header["previous"] for header in headers] == [
        None,
        *({"file": name_of(place), "seq": seal["seq"], "head": seal["h"]} for place, seal in enumerate(seals[:2], 1)),
    ]
    assert [seal["records"] for seal in seals] == [3, 1, 2]
    assert faults_in(tmp_path / "new") == []


def test_the_file_that_is_written_is_locked_from_its_name_on(tmp_path: Path) -> None:
    written = write(tmp_path, 1, 1)
    assert [is_live(path) for path in find(tmp_path).values()] == [False, True]
    written.close()
    assert not is_live(tmp_path / TWO)


def test_seals_count_what_was_skipped_since_the_last(tmp_path: Path) -> None:
    skips = {"get_run": 3}
    written = file_set(tmp_path, skipped=lambda: skips)
    written.open()
    written.rotate()
    skips |= {"get_run": 5, "get_thread": 1}
    written.rotate()
    written.close()
    seals = [record["skipped"] for record in records_of(tmp_path) if record["kind"] == "file.sealed"]
    assert seals == [{"get_run": 3}, {"get_run": 2, "get_thread": 1}, {}]


def test_a_full_disk_leaves_no_torn_line_and_the_same_file_goes_on(tmp_path: Path, disk: Disk) -> None:
    written = write(tmp_path, 1)
    disk.fail("write", errno.ENOSPC, after_bytes=50)
    with pytest.raises(OSError, match="No space"):
        written.append([entry(request_id="lost")])
    disk.mend()
    assert (tmp_path / ONE).read_bytes().endswith(b"}\n")
    written.append([entry(request_id="after")])
    written.close()
    assert ids(tmp_path) == ["req_0_0", "after"]
    assert len(find(tmp_path)) == 1
    assert faults_in(tmp_path) == []


def test_a_batch_is_written_whole_or_not_at_all(tmp_path: Path, disk: Disk) -> None:
    """Also when the piece that fits ends exactly between two of its lines."""
    written = write(tmp_path, 1)
    first = len(lines_of(tmp_path / ONE)[1])
    disk.fail("write", errno.ENOSPC, after_bytes=first)
    with pytest.raises(OSError, match="No space"):
        written.append([entry(request_id=f"req_0_{number}", text="as it was") for number in (1, 2)])
    disk.mend()
    written.append([entry(request_id="after")])
    assert ids(tmp_path) == ["req_0_0", "after"]


def test_a_torn_line_that_cannot_be_cut_off_stays_behind_and_the_next_file_says_so(tmp_path: Path, disk: Disk) -> None:
    written = write(tmp_path, 1)
    disk.fail("write", errno.EIO, after_bytes=50, times=1)
    disk.fail("ftruncate", errno.EIO, times=1)
    written.append([entry(request_id="again")])
    disk.mend()
    written.close()
    assert unsealed(tmp_path) == "Input/output error"
    assert faults_in(tmp_path) == [("torn", ONE, 3, 3)]


def unsealed(folder: Path) -> str:
    """Why the first file was left, as the second says."""
    return str(read(folder / TWO)[0]["previous"]["unsealed"])


def test_after_a_failed_fsync_the_batch_is_written_again_to_a_new_file(tmp_path: Path, disk: Disk) -> None:
    """What was in memory may be gone, though the next fsync succeeds: nothing of it is taken for written."""
    written = write(tmp_path, 1, sync=True)
    disk.fail("fdatasync", errno.EIO, times=1)
    written.append([entry(request_id="again")])
    written.close()
    assert ids(tmp_path) == ["req_0_0", "again"]
    assert unsealed(tmp_path) == "Input/output error"
    assert faults_in(tmp_path) == []


def test_a_folder_that_was_removed_is_noticed_at_the_next_record(tmp_path: Path) -> None:
    """A removed file can be written on; nobody would ever read it."""
    folder = tmp_path / "trail"
    written = write(folder, 1)
    shutil.rmtree(folder)
    written.append([entry(request_id="after")])
    written.close()
    assert ids(folder) == ["after"]
    assert faults_in(folder) == [("missing_file", ONE, None, 2)]


def test_a_folder_that_cannot_be_made_is_an_error_until_it_can(tmp_path: Path) -> None:
    folder = tmp_path / "trail"
    written = write(folder, 1)
    shutil.rmtree(folder)
    folder.write_text("in the way")
    for _ in range(2):
        with pytest.raises(OSError, match=r"exists|Not a directory"):
            written.append([entry(request_id="lost")])
    folder.unlink()
    written.append([entry(request_id="after")])
    assert ids(folder) == ["after"]


def test_without_permission_to_make_the_next_file_the_old_one_goes_on(tmp_path: Path, disk: Disk) -> None:
    written = write(tmp_path, 1)
    disk.fail("open", errno.EACCES)
    with pytest.raises(PermissionError):
        written.rotate()
    written.append([entry(request_id="still")])
    disk.mend()
    written.rotate()
    written.append([entry(request_id="next")])
    written.close()
    assert ids(tmp_path) == ["req_0_0", "still", "next"]
    assert faults_in(tmp_path) == []


@pytest.mark.parametrize("failing", range(1, 4))
def test_a_rotation_that_fails_anywhere_breaks_no_chain(failing: int, tmp_path: Path, disk: Disk) -> None:
    """At the seal, at the header, or at the new name."""
    written = write(tmp_path, 1)
    if failing == 3:

        def rename(path: Path, target: Path) -> Path:
            raise PermissionError(errno.EACCES, "denied")

        disk._patch.setattr(Path, "rename", rename)
    else:
        count = [0]
        real_write = os.write

        def write_some(descriptor: int, data: Any) -> int:
            count[0] += 1
            if count[0] == failing:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real_write(descriptor, data)

        disk._patch.setattr(module.os, "write", write_some)
    with pytest.raises(OSError):
        written.rotate()
    disk.mend()
    written.append([entry(request_id="after")])
    written.close()
    assert ids(tmp_path) == ["req_0_0", "after"]
    assert not list(tmp_path.glob("*.new"))
    assert faults_in(tmp_path) == []


def test_a_real_limit_of_the_system_tears_no_line(tmp_path: Path) -> None:
    """The kernel writes as much of a batch as fits (RLIMIT_FSIZE); the rest of the trail goes to another file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    written = write(tmp_path, 1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        for number in range(100):
            written.append([entry(request_id=f"{number}-{part}", text="x" * 500) for part in range(3)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    written.close()
    assert ids(tmp_path) == ["req_0_0", *(f"{number}-{part}" for number in range(100) for part in range(3))]
    assert len(find(tmp_path)) > 5
    report = verify(tmp_path)
    assert report.is_good
    assert report.sets[0].state == "sealed"
