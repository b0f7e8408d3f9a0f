"""Records from the event loop: what is promised, whatever the disk does."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.audit import file_set as file_set_module
from gateway.audit import trail as trail_module
from gateway.audit.file_set import FileSet
from gateway.audit.trail import AuditUnavailable, Trail
from gateway.audit.verify import verify
from tests.audit.written import faults_in, file_set, ids, name_of, read, records_of
from tests.conftest import Events, eventually

ONE = name_of(1)


@asynccontextmanager
async def running(folder: Path, *, mode: str = "ack", **settings: Any) -> AsyncIterator[Trail]:
    def open_files(skipped: Callable[[], Mapping[str, int]]) -> FileSet:
        return file_set(folder, sync=mode == "fsync", skipped=skipped)

    trail = Trail(open_files, mode=mode, **settings)  # type: ignore[arg-type]
    trail.start()
    try:
        yield trail
    finally:
        await trail.close()


def break_disk(patch: pytest.MonkeyPatch, code: int = errno.ENOSPC) -> None:
    def write(descriptor: int, data: bytes) -> int:
        raise OSError(code, os.strerror(code))

    patch.setattr(file_set_module.os, "write", write)


@pytest.mark.parametrize("mode", ["ack", "fsync"])
async def test_what_was_awaited_is_in_the_file(mode: str, tmp_path: Path) -> None:
    async with running(tmp_path, mode=mode) as trail:
        for number in range(50):
            await trail.write("request.started", {"request_id": f"{number}"})
            assert ids(tmp_path)[-1] == f"{number}"
    assert faults_in(tmp_path) == []


async def test_many_at_once_are_committed_together_and_all_are_there(tmp_path: Path) -> None:
    """One wake-up of the loop for a whole batch."""
    wakes: list[int] = []
    async with running(tmp_path) as trail:
        real = trail._acknowledge
        trail._acknowledge = lambda waiting, why: (wakes.append(len(waiting)), real(waiting, why))[1]  # type: ignore
        await asyncio.gather(*(trail.write("x", {"request_id": f"{number}"}) for number in range(2000)))
    assert ids(tmp_path) == [f"{number}" for number in range(2000)]
    assert sum(wakes) == 2000
    assert len(wakes) < 1000
    assert faults_in(tmp_path) == []


async def test_buffered_records_are_written_soon_and_at_the_end(tmp_path: Path) -> None:
    async with running(tmp_path, mode="buffered") as trail:
        await trail.write("x", {"request_id": "first"})
        trail.note("x", {"request_id": "second"})
        await eventually(lambda: len(ids(tmp_path)) == 2)
        trail.note("x", {"request_id": "last"})
    assert ids(tmp_path) == ["first", "second", "last"]


async def test_notes_and_writes_keep_their_order(tmp_path: Path) -> None:
    async with running(tmp_path) as trail:
        trail.note("x", {"request_id": "1"})
        await trail.write("x", {"request_id": "2"})
        trail.note("x", {"request_id": "3"})
    assert ids(tmp_path) == ["1", "2", "3"]


async def test_a_fact_by_a_name_of_the_chain_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as trail:
        with pytest.raises(ValueError, match="chain"):
            trail.note("x", {"seq": 1})
        with pytest.raises(ValueError, match="chain"):
            await trail.write("x", {"h": ""})


async def test_files_rotate_under_load_and_nothing_is_lost(tmp_path: Path) -> None:
    async with running(tmp_path, rotate_bytes=20_000) as trail:

        async def caller(name: int) -> None:
            for number in range(50):
                await trail.write("x", {"request_id": f"{name}-{number}", "text": "x" * 300})

        await asyncio.gather(*(caller(name) for name in range(20)))
    assert sorted(ids(tmp_path)) == sorted(f"{name}-{number}" for name in range(20) for number in range(50))
    assert len(list(tmp_path.iterdir())) > 10
    assert faults_in(tmp_path) == []


async def test_files_rotate_by_age_but_not_empty_ones(tmp_path: Path) -> None:
    async with running(tmp_path, rotate_s=0.05) as trail:
        await trail.write("x", {"request_id": "1"})
        await eventually(lambda: len(list(tmp_path.glob("*.jsonl"))) == 2)
        await asyncio.sleep(0.2)
        assert len(list(tmp_path.glob("*.jsonl"))) == 2
    assert faults_in(tmp_path) == []


async def test_reads_that_are_left_out_are_counted(tmp_path: Path) -> None:
    async with running(tmp_path) as trail:
        for _ in range(3):
            trail.skip("get_run")
    assert read(tmp_path / ONE)[-1]["skipped"] == {"get_run": 3}


class Contents:
    """Keeps content, or fails."""

    def __init__(self) -> None:
        self.kept: list[Any] = []
        self.threads: set[int] = set()
        self.code = 0

    def close(self) -> None:
        return

    def keep(self, content: Any) -> Mapping[str, Any]:
        self.threads.add(threading.get_ident())
        if self.code:
            raise OSError(self.code, os.strerror(self.code))
        self.kept.append(content)
        return {"ref": len(self.kept)}


async def test_content_is_kept_in_the_writers_thread_and_the_record_refers_to_it(tmp_path: Path) -> None:
    contents = Contents()
    async with running(tmp_path, content_store=contents) as trail:
        await trail.write("x", {"request_id": "1"}, content={"text": "hello"})
    assert contents.kept == [{"text": "hello"}]
    assert contents.threads.isdisjoint({threading.get_ident()})
    assert read(tmp_path / ONE)[1]["content"] == {"ref": 1}


@pytest.mark.parametrize("on_error", ["open", "closed"])
async def test_a_record_whose_content_cannot_be_kept_says_so(on_error: str, tmp_path: Path) -> None:
    contents = Contents()
    contents.code = errno.ENOSPC
    async with running(tmp_path, content_store=contents, on_error=on_error) as trail:
        if on_error == "closed":
            with pytest.raises(AuditUnavailable, match="content"):
                await trail.write("x", {"request_id": "1"}, content="hello")
        else:
            await trail.write("x", {"request_id": "1"}, content="hello")
        await trail.write("x", {"request_id": "2"})
    assert read(tmp_path / ONE)[1]["content"] == {"lost": "No space left on device"}
    assert ids(tmp_path) == ["1", "2"]


async def test_open_goes_on_when_nothing_can_be_written_and_one_record_tells_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: Events
) -> None:
    async with running(tmp_path) as trail:
        await trail.write("x", {"request_id": "before"})
        with monkeypatch.context() as broken:
            break_disk(broken)
            await asyncio.gather(*(trail.write("request.started", {"request_id": "lost"}) for _ in range(20)))
            trail.note("request.finished", {"request_id": "lost"})
            await eventually(lambda: trail.lost == 21)
            trail.check()
        await eventually(lambda: len(read(tmp_path / ONE)) > 2)  # it tries again by itself
        await trail.write("x", {"request_id": "after"})
    assert ids(tmp_path) == ["before", "after"]
    (gap,) = (record for record in read(tmp_path / ONE) if record["kind"] == "trail.gap")
    assert (gap["lost"], gap["kinds"]) == (21, {"request.started": 20, "request.finished": 1})
    assert gap["why"] == "No space left on device"
    assert read(tmp_path / ONE)[1]["time"] <= gap["since"] <= gap["time"]
    assert faults_in(tmp_path) == []
    assert [event["event"] for event in events] == ["audit.failed", "audit.recovered"]
    assert [note.kind for note in verify(tmp_path).notes] == ["trail.gap"]


async def test_closed_refuses_promptly_and_recovers_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: Events
) -> None:
    async with running(tmp_path, on_error="closed") as trail:
        trail.check()
        with monkeypatch.context() as broken:
            break_disk(broken, errno.EROFS)
            for _ in range(3):
                began = time.monotonic()
                with pytest.raises(AuditUnavailable, match="Read-only"):
                    await trail.write("request.started", {"request_id": "refused"})
                assert time.monotonic() - began < 0.5
            with pytest.raises(AuditUnavailable, match="Read-only"):
                trail.check()
        await eventually(lambda: _is_good(trail))
        await trail.write("x", {"request_id": "after"})
    assert ids(tmp_path) == ["after"]
    assert faults_in(tmp_path) == []
    assert len(events.named("audit.failed")) == 1


def _is_good(trail: Trail) -> bool:
    try:
        trail.check()
    except AuditUnavailable:
        return False
    return True


async def test_the_next_record_after_a_pause_finds_a_disk_that_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without waiting for the next try of the thread itself."""
    async with running(tmp_path, on_error="closed") as trail:
        with monkeypatch.context() as broken:
            break_disk(broken)
            with pytest.raises(AuditUnavailable):
                await trail.write("x", {"request_id": "refused"})
        await asyncio.sleep(0.15)
        await trail.write("x", {"request_id": "after"})
    assert ids(tmp_path) == ["after"]


@pytest.mark.parametrize("on_error", ["open", "closed"])
async def test_a_trail_that_cannot_be_opened_is_opened_when_it_can(on_error: str, tmp_path: Path) -> None:
    folder = tmp_path / "trail"
    folder.write_text("in the way")
    async with running(folder, on_error=on_error) as trail:
        await eventually(lambda: not _is_good(trail) or on_error == "open")
        trail.note("x", {"request_id": "lost"})
        await eventually(lambda: trail.lost == 1)
        folder.unlink()
        await eventually(lambda: trail.position is not None)
        await trail.write("x", {"request_id": "after"})
    assert ids(folder) == ["after"]
    assert faults_in(folder) == []


async def test_a_folder_that_was_removed_is_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "trail"
    async with running(folder) as trail:
        await trail.write("x", {"request_id": "before"})
        shutil.rmtree(folder)
        await trail.write("x", {"request_id": "after"})
        assert ids(folder) == ["after"]
        assert trail.lost == 0


async def test_a_failed_fsync_loses_no_acknowledged_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(tmp_path, mode="fsync") as trail:
        await trail.write("x", {"request_id": "before"})
        with monkeypatch.context() as broken:
            calls = iter([OSError(errno.EIO, "Input/output error")])
            real = os.fdatasync

            def fdatasync(descriptor: int) -> None:
                if (error := next(calls, None)) is not None:
                    raise error
                real(descriptor)

            broken.setattr(file_set_module.os, "fdatasync", fdatasync)
            await trail.write("x", {"request_id": "again"})
    assert ids(tmp_path) == ["before", "again"]
    assert "unsealed" in read(tmp_path / name_of(2))[0]["previous"]
    assert faults_in(tmp_path) == []


class Hanging:
    """A disk that blocks for ever, until it is released."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.released = threading.Event()
        real = os.write

        def write(descriptor: int, data: Any) -> int:
            self.released.wait(30)
            return real(descriptor, data)

        patch.setattr(file_set_module.os, "write", write)


async def test_closed_gives_up_on_a_disk_that_hangs_within_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: Events
) -> None:
    async with running(tmp_path, on_error="closed", timeout_s=0.2) as trail:
        await trail.write("x", {"request_id": "before"})
        with monkeypatch.context() as broken:
            disk = Hanging(broken)
            async with asyncio.timeout(2):
                with pytest.raises(AuditUnavailable, match="does not answer"):
                    await trail.write("x", {"request_id": "late"})
            with pytest.raises(AuditUnavailable, match="does not answer"):
                trail.check()
            began = time.monotonic()
            with pytest.raises(AuditUnavailable, match="does not answer"):
                await trail.write("x", {"request_id": "refused"})
            assert time.monotonic() - began < 0.1
            disk.released.set()
            await eventually(lambda: _is_good(trail))
        await trail.write("x", {"request_id": "after"})
    assert ids(tmp_path) == ["before", "late", "after"]
    assert faults_in(tmp_path) == []
    assert [event["event"] for event in events] == ["audit.failed", "audit.recovered"]


async def test_open_goes_on_beside_a_disk_that_hangs_and_what_does_not_fit_is_a_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trail_module, "_QUEUE_RECORDS", 50)
    async with running(tmp_path, timeout_s=0.2) as trail:
        await trail.write("x", {"request_id": "before"})
        with monkeypatch.context() as broken:
            disk = Hanging(broken)
            async with asyncio.timeout(5):
                await asyncio.gather(*(trail.write("x", {"request_id": "meanwhile"}) for _ in range(200)))
            disk.released.set()
            await eventually(lambda: trail.queued == 0)
        await eventually(lambda: not trail._is_stuck)
        await trail.write("x", {"request_id": "after"})
    (gap,) = (record for record in records_of(tmp_path) if record["kind"] == "trail.gap")
    assert ids(tmp_path).count("meanwhile") + gap["lost"] == 200
    assert trail.lost == gap["lost"]
    assert faults_in(tmp_path) == []


async def test_more_callers_than_the_queue_holds_wait_for_their_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trail_module, "_QUEUE_RECORDS", 10)
    async with running(tmp_path) as trail:
        await asyncio.gather(*(trail.write("x", {"request_id": f"{number}"}) for number in range(500)))
    assert len(ids(tmp_path)) == 500
    assert trail.lost == 0


async def test_what_overflowed_last_is_told_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trail_module, "_QUEUE_RECORDS", 5)
    async with running(tmp_path, mode="buffered") as trail:
        for _ in range(20):
            trail.note("x", {"request_id": "many"})
        lost = trail.lost
        assert lost
    assert len(ids(tmp_path)) == 20 - lost
    (gap,) = (record for record in records_of(tmp_path) if record["kind"] == "trail.gap")
    assert gap["lost"] == lost
    assert gap["since"] <= gap["time"]


async def test_closing_beside_a_disk_that_hangs_takes_no_longer_than_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        disk = Hanging(broken)
        began = time.monotonic()
        async with running(tmp_path, timeout_s=0.2) as trail:
            trail.note("x", {"request_id": "late"})
        assert time.monotonic() - began < 2
        disk.released.set()
        await eventually(lambda: not trail._writer._thread.is_alive())
    await trail.close()
    trail.note("x", {"request_id": "too late"})
    await trail.write("x", {"request_id": "too late"})


async def test_a_fault_of_the_thread_is_logged_and_the_next_record_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: Events
) -> None:
    async with running(tmp_path) as trail:
        await trail.write("x", {"request_id": "before"})
        with monkeypatch.context() as broken:
            broken.setattr(FileSet, "append", lambda self, entries: 1 // 0)
            await trail.write("x", {"request_id": "lost"})
        await asyncio.sleep(0.15)
        await trail.write("x", {"request_id": "after"})
    assert ids(tmp_path) == ["before", "after"]
    assert events.named("audit.crashed")[0]["exception"].endswith(
        "ZeroDivisionError: integer division or modulo by zero"
    )
    assert faults_in(tmp_path) == []


async def test_a_caller_who_leaves_is_recorded_nevertheless(tmp_path: Path) -> None:
    async with running(tmp_path) as trail:
        task = asyncio.create_task(trail.write("x", {"request_id": "left"}))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await trail.write("x", {"request_id": "stayed"})
    assert ids(tmp_path) == ["left", "stayed"]


async def test_a_caller_who_leaves_while_it_waits_for_room_is_counted_as_missing_at_least(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trail_module, "_QUEUE_RECORDS", 5)
    async with running(tmp_path) as trail:
        await trail.write("x", {"request_id": "before"})
        with monkeypatch.context() as broken:
            disk = Hanging(broken)
            tasks = [asyncio.create_task(trail.write("x", {"request_id": "left"})) for _ in range(20)]
            await asyncio.sleep(0.05)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            disk.released.set()
            await eventually(lambda: trail.queued == 0)
        await trail.write("x", {"request_id": "after"})
    assert ids(tmp_path).count("left") + trail.lost == 20
    (gap,) = (record for record in records_of(tmp_path) if record["kind"] == "trail.gap")
    assert gap["lost"] == trail.lost


async def test_write_surely_raises_whatever_on_error_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(tmp_path, on_error="open", mode="buffered") as trail:
        await trail.write_surely("trail.deleted", {"file": "a"})
        assert read(tmp_path / ONE)[-1]["kind"] == "trail.deleted"
        with monkeypatch.context() as broken:
            break_disk(broken)
            with pytest.raises(AuditUnavailable):
                await trail.write_surely("trail.deleted", {"file": "b"})
