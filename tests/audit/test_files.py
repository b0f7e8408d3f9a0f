"""Compressing, at whatever moment it is interrupted."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.audit import files as module
from gateway.audit.files import compress, find, opened, read_first, read_last
from gateway.audit.verify import verify
from tests.audit.written import entry, faults_in, file_set, name_of, write

ONE = name_of()


class Killed(BaseException):
    pass


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    write(tmp_path, 50).close()
    return tmp_path / ONE


def test_a_compressed_file_says_the_same_is_private_and_has_its_time(sealed: Path) -> None:
    os.utime(sealed, (1_700_000_000, 1_700_000_000))
    before = sealed.read_bytes()
    packed = compress(sealed, unique="x")
    assert [path.name for path in packed.parent.iterdir()] == [f"{ONE}.zst"]
    with opened(packed) as (lines, _):
        assert lines.read() == before
    found = packed.stat()
    assert (found.st_mtime, stat.S_IMODE(found.st_mode)) == (1_700_000_000, 0o600)
    assert found.st_size < len(before) / 3


def test_a_file_is_found_under_either_name(sealed: Path) -> None:
    """It may be compressed between the look at the folder and the look at the file."""
    compress(sealed, unique="x")
    with opened(sealed) as (lines, _):
        assert len(lines.readlines()) == 52


@pytest.mark.parametrize("call", ["utime", "fsync", "rename", "sync_folder", "unlink"])
@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
def test_a_crash_while_compressing_leaves_the_whole_file(
    call: str, is_done: bool, sealed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill runs no clean-up, so what was half made stays; the next time ends it."""
    owner: Any = {"rename": Path, "unlink": Path, "sync_folder": module}.get(call, os)
    real: Callable[..., Any] = getattr(owner, call)
    with monkeypatch.context() as patch:

        def killed(*given: Any, **named: Any) -> Any:
            if is_done:
                real(*given, **named)
            patch.setattr(Path, "unlink", lambda *given, **named: None)
            raise Killed

        patch.setattr(owner, call, killed)
        with pytest.raises(Killed):
            compress(sealed, unique="x")
    report = verify(sealed.parent)
    assert (report.is_good, report.records) == (True, 52)
    if sealed.exists():
        compress(sealed, unique="y")
    assert [path.name for path in find(sealed.parent).values()] == [f"{ONE}.zst"]
    report = verify(sealed.parent)
    assert (report.is_good, report.records) == (True, 52)


def test_of_two_the_plain_one_counts(sealed: Path) -> None:
    packed = sealed.with_name(f"{ONE}.zst")
    packed.write_bytes(b"half of it")
    assert list(find(sealed.parent).values()) == [sealed]
    assert faults_in(sealed.parent) == []


def test_first_and_last_are_read_of_plain_and_compressed_files(tmp_path: Path) -> None:
    """Also when the last record is longer than what is looked at first."""
    written = file_set(tmp_path)
    written.append([entry(text="x" * 600_000)])
    for path in [tmp_path / ONE]:
        last = read_last(path)
        assert last.line is not None
        assert (last.line.seq, last.rest_bytes) == (2, 0)
    written.close()
    packed = compress(tmp_path / ONE, unique="x")
    last, first = read_last(packed), read_first(packed)
    assert last.is_sealed
    assert first is not None
    assert first.kind == "file.opened"
