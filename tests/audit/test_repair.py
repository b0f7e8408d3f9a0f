"""What the next process makes of what the last one left."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from gateway.audit import repair
from gateway.audit.chain import GENESIS
from gateway.audit.file_set import FileSet
from gateway.audit.files import Name, compress, find, new_boot
from gateway.audit.repair import bind, clear_unfinished
from gateway.audit.verify import verify
from tests.audit.written import BOOT, NEXT_BOOT, edited, entry, faults_in, file_set, name_of, read, rehashed, write
from tests.conftest import Events

ONE = name_of(1)


def go_on(folder: Path, *, boot: str = NEXT_BOOT, replica: str = "web") -> FileSet:
    """The next process."""
    previous, head = bind(folder, replica)
    written = file_set(folder, boot=boot, replica=replica, previous=previous, head=head or GENESIS)
    written.open()
    return written


def leave(written: FileSet) -> None:
    """What a kill does: the lock goes, nothing is written any more."""
    written._leave("killed")


def test_the_first_process_has_nothing_to_bind_to(tmp_path: Path) -> None:
    assert bind(tmp_path / "nothing", "web") == (None, None)
    assert bind(tmp_path, "web") == (None, None)


def test_a_set_that_was_closed_is_bound_to_as_it_is(tmp_path: Path) -> None:
    write(tmp_path, 3).close()
    before = (tmp_path / ONE).read_bytes()
    go_on(tmp_path).close()
    assert (tmp_path / ONE).read_bytes() == before
    assert faults_in(tmp_path) == []


def test_a_torn_line_is_cut_and_the_file_says_so(tmp_path: Path, events: Events) -> None:
    leave(write(tmp_path, 3))
    with (tmp_path / ONE).open("ab") as file:
        file.write(b'{"v":1,"seq":5,"time"')
    go_on(tmp_path).close()
    *_, recovered, seal = read(tmp_path / ONE)
    assert (recovered["kind"], recovered["cut_bytes"]) == ("trail.recovered", 21)
    assert (seal["kind"], seal["records"], seal["seq"]) == ("file.sealed", 5, 6)
    report = verify(tmp_path)
    assert report.is_good
    assert [note.kind for note in report.notes] == ["trail.recovered"]
    assert events.named("audit.repaired") == [events[0]]


@pytest.mark.parametrize("seed", range(20))
def test_a_file_cut_anywhere_is_repaired_to_its_last_whole_record(seed: int, tmp_path: Path) -> None:
    """A kill may tear the file at any byte behind its header."""
    leave(write(tmp_path, 6))
    path = tmp_path / ONE
    whole = path.read_bytes()
    header = whole.index(b"\n") + 1
    path.write_bytes(whole[: random.Random(seed).randint(header, len(whole))])
    kept = path.read_bytes().count(b"\n")
    go_on(tmp_path).close()
    assert len(read(path)) == kept + 2
    assert faults_in(tmp_path) == []


def test_zeros_at_the_end_are_a_torn_line(tmp_path: Path) -> None:
    """What some file systems leave after a loss of power."""
    leave(write(tmp_path, 2))
    with (tmp_path / ONE).open("ab") as file:
        file.write(b"\x00" * 4096)
    go_on(tmp_path).close()
    assert faults_in(tmp_path) == []


def test_a_whole_line_is_never_cut(tmp_path: Path, events: Events) -> None:
    """Whoever edits the last record must not have it taken away by the next start."""
    leave(write(tmp_path, 3))
    with edited(tmp_path / ONE) as lines:
        lines[-1] = lines[-1].replace(b"was", b"is!")
    before = (tmp_path / ONE).read_bytes()
    go_on(tmp_path).close()
    assert (tmp_path / ONE).read_bytes() == before
    assert ("edited", ONE, 4, 4) in faults_in(tmp_path)
    assert events.named("audit.failed")


def test_a_repair_that_was_killed_is_repaired(tmp_path: Path) -> None:
    leave(write(tmp_path, 2))
    bind(tmp_path, "web")
    path = tmp_path / ONE
    path.write_bytes(path.read_bytes()[:-30])
    go_on(tmp_path).close()
    assert [record["kind"] for record in read(path)][-3:] == ["trail.recovered", "trail.recovered", "file.sealed"]
    assert faults_in(tmp_path) == []


def test_a_live_file_is_left_alone_and_bound_to_when_it_has_ended(tmp_path: Path) -> None:
    """Two processes of one name, such as while one takes over from the other."""
    first = write(tmp_path, 2)
    second = go_on(tmp_path, boot="20261122T041415Z00000b")
    first.append([entry()])
    first.close()
    second.close()
    third = go_on(tmp_path, boot="20261122T051415Z00000c")
    third.close()
    header = read(tmp_path / name_of(boot="20261122T051415Z00000c"))[0]["previous"]
    assert isinstance(header, dict)
    assert {header["file"], *(end["file"] for end in header["also"])} == {ONE, name_of(boot="20261122T041415Z00000b")}
    assert faults_in(tmp_path) == []
    (tmp_path / ONE).unlink()
    assert [fault[:2] for fault in faults_in(tmp_path)] == [("missing_file", ONE)]


@pytest.mark.parametrize("previous", [{}, {"file": 1}, "web", {"file": "a", "seq": 1, "head": "", "also": {"x": 1}}])
def test_a_forged_header_stops_nobody(previous: object, tmp_path: Path) -> None:
    write(tmp_path, 2).close()
    with edited(tmp_path / ONE) as lines:
        lines[0] = rehashed(lines[0], previous=previous)
    go_on(tmp_path).close()
    assert ("edited", ONE, 1, 1) in faults_in(tmp_path)


def test_another_replica_is_left_alone(tmp_path: Path) -> None:
    leave(write(tmp_path, 2, replica="web-2"))
    before = (tmp_path / name_of(replica="web-2")).read_bytes()
    (tmp_path / f"{name_of(2, replica='web-2')}.new").touch()
    clear_unfinished(tmp_path, "web")
    assert bind(tmp_path, "web") == (None, None)
    assert (tmp_path / name_of(replica="web-2")).read_bytes() == before
    assert (tmp_path / f"{name_of(2, replica='web-2')}.new").exists()


def test_a_file_of_somebody_else_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: Events) -> None:
    """Such as one that was written as root, once."""
    write(tmp_path, 2).close()
    monkeypatch.setattr(repair, "read_last", denied)
    go_on(tmp_path).close()
    assert events.named("audit.failed")


def denied(path: Path) -> None:
    raise PermissionError(13, "Permission denied", str(path))


def test_a_compressed_end_is_bound_to(tmp_path: Path) -> None:
    write(tmp_path, 2).close()
    compress(tmp_path / ONE, unique="x")
    go_on(tmp_path).close()
    assert faults_in(tmp_path) == []
    (tmp_path / f"{ONE}.zst").unlink()
    assert faults_in(tmp_path) == [("missing_file", ONE, None, 4)]


def test_what_was_half_made_is_cleared_away(tmp_path: Path) -> None:
    written = write(tmp_path, 1)
    for left in (f"{name_of(2)}.new", f"{ONE}.zst.other.tmp"):
        (tmp_path / left).touch()
    clear_unfinished(tmp_path, "web")
    assert [path.name for path in tmp_path.iterdir()] == [ONE]
    del written


def test_two_boots_in_one_second_are_distinct_and_sort_by_time() -> None:
    boots = {new_boot(1_000_000_000) for _ in range(100)}
    assert len(boots) == 100
    assert max(boots) < new_boot(1_000_000_001)
    assert all(Name.parse(f"a-b-{boot}-0001.jsonl.zst") == Name("a-b", boot, 1) for boot in boots)
    assert Name.parse("checkpoint-key.pem") is None


def test_folders_with_other_things_areread(tmp_path: Path) -> None:
    write(tmp_path, 1).close()
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / f"{BOOT}.jsonl").write_text("hello")
    assert len(find(tmp_path)) == 1
