"""kill -9 of a process that records under load: what was acknowledged is there, and the chain is whole."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest

from gateway.audit.files import find, opened
from gateway.audit.repair import bind
from gateway.audit.verify import verify

SCRIPT = Path(__file__).parent / "recording.py"


@contextmanager
def recording(folder: Path, name: str, *, mode: str = "ack") -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, str(SCRIPT), str(folder), name, mode]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def kill_under_load(folder: Path, name: str, *, after_s: float, mode: str = "ack") -> list[str]:
    """The requests whose records were acknowledged."""
    with recording(folder, name, mode=mode) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(after_s)
        process.kill()
        said = (first + process.stdout.read()).decode()
    return [line for line in said.splitlines(keepends=True) if line.endswith("\n")]


def recorded(folder: Path) -> list[str]:
    found = []
    for path in find(folder).values():
        with opened(path) as (lines, _):
            records = [orjson.loads(line) for line in lines]
        found += [f"{record['request_id']}\n" for record in records if "request_id" in record]
    return found


def rounds(folder: Path, count: int, mode: str) -> None:
    acknowledged: list[str] = []
    for number in range(count):
        after_s = random.Random(number).uniform(0.0, 0.3)
        acknowledged += kill_under_load(folder, f"{mode}-{number}", after_s=after_s, mode=mode)
    bind(folder, "web")  # as the next process does
    report = verify(folder)
    assert report.is_good, report.faults[:5]
    assert len(acknowledged) > 16 * count
    there = recorded(folder)
    assert len(set(there)) == len(there)
    assert set(acknowledged) <= set(there)
    assert sum(len(each.unfinished) for each in report.sets) == len(there)


def test_every_acknowledged_record_survives_kill_9_and_the_chain_is_whole(tmp_path: Path) -> None:
    """Through rotations and compression, three times by the same name."""
    rounds(tmp_path, 3, "ack")


@pytest.mark.long
@pytest.mark.parametrize("mode", ["ack", "fsync"])
def test_every_acknowledged_record_survives_many_kills(mode: str, tmp_path: Path) -> None:
    rounds(tmp_path, 25, mode)


def test_two_processes_of_one_name_at_once_keep_their_hands_off_each_other(tmp_path: Path) -> None:
    with recording(tmp_path, "first") as first, recording(tmp_path, "second") as second:
        for process in (first, second):
            assert process.stdout is not None
            for _ in range(300):
                process.stdout.readline()
        report = verify(tmp_path)  # while both write
        assert report.is_good, report.faults[:5]
        assert {each.state for each in report.sets} <= {"live", "sealed"}  # the latter between a file and the next
    bind(tmp_path, "web")
    report = verify(tmp_path)
    assert report.is_good, report.faults[:5]
    assert [each.state for each in report.sets] == ["sealed", "sealed"]
