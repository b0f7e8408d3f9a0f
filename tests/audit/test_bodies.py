"""Bodies: kept apart, proven against their records, gone with their salt."""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path
from typing import Any

import orjson
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings

from gateway.audit.bodies import Bodies, BodyAltered, BodyGone, Content, Piece, cut, erase, files_in, folder_of, read
from gateway.audit.hmac_key import HmacKey
from gateway.audit.redaction import Redactor
from gateway.config import AuditBodies, AuditRedact
from tests.values import any_json

KEY = HmacKey.of("the key of an installation")
HOUR_S = 3600


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def open_bodies(folder: Path, clock: Clock, process: str = "r1-b1", **given: Any) -> Bodies:
    return Bodies(folder, process, AuditBodies(**given), Redactor(KEY, AuditRedact()), now=clock)


def content(tenant: str = "alice", text: str = "hello", request_id: str = "req_1") -> Content:
    return Content(tenant, request_id, Piece.of(orjson.dumps({"content": text})))


def test_a_body_is_read_back_by_its_record(tmp_path: Path, clock: Clock) -> None:
    bodies = open_bodies(tmp_path, clock)
    answer = Piece.of(b'{"id":"msg_1","metadata":{"mail":"bob"},"text":"from bob@example.com"}')
    kept = bodies.keep(Content("alice", "req_1", content().request, answer))
    assert read(tmp_path, kept["request"]) == '{"content":"hello"}'
    shown = orjson.loads(read(tmp_path, kept["answer"]))
    assert shown == {
        "id": "msg_1",
        "metadata": {"mail": KEY.mark("bob")},
        "text": f"from {KEY.mark('bob@example.com')}",
    }
    assert (kept["answer"]["bytes"], kept["answer"]["kept"]) == (len(answer.raw or b""), "whole")


def test_a_file_is_lines_for_everybody_who_has_zstd_and_for_its_owner_alone(tmp_path: Path, clock: Clock) -> None:
    bodies = open_bodies(tmp_path, clock)
    for number in range(3):
        bodies.keep(content(request_id=f"req_{number}"))
    bodies.close()
    (path,) = files_in(tmp_path)
    assert path.name == "r1-b1-20270115T08.jsonl.zst"
    with zstandard.open(path, "rb") as file:
        lines = [orjson.loads(line) for line in file.read().splitlines()]
    assert [line["request_id"] for line in lines] == ["req_0", "req_1", "req_2"]
    assert len({line["salt"] for line in lines}) == 3
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_same_body_leaves_no_two_records_alike(tmp_path: Path, clock: Clock) -> None:
    """Or whoever has the records could guess what a body was, and see who said the same."""
    bodies = open_bodies(tmp_path, clock)
    assert bodies.keep(content())["request"]["hmac"] != bodies.keep(content())["request"]["hmac"]


def test_a_body_that_is_gone_is_gone_and_not_altered(tmp_path: Path, clock: Clock) -> None:
    bodies = open_bodies(tmp_path, clock)
    kept = bodies.keep(content())["request"]
    erase(tmp_path, "alice")
    with pytest.raises(BodyGone):
        read(tmp_path, kept)


@pytest.mark.parametrize("what", ["another", "shifted", "cut", "flipped", "no place", "a way out"])
def test_an_altered_body_is_told(what: str, tmp_path: Path, clock: Clock) -> None:
    bodies = open_bodies(tmp_path, clock)
    kept, other = dict(bodies.keep(content())["request"]), bodies.keep(content(text="goodbye"))["request"]
    (path,) = files_in(tmp_path)
    match what:
        case "another":
            kept["ref"] = other["ref"]
        case "shifted":
            kept["ref"] = re.sub(":0:", ":1:", kept["ref"])
        case "cut":
            os.truncate(path, 20)
        case "flipped":
            raw = bytearray(path.read_bytes())
            raw[30] ^= 1
            path.write_bytes(raw)
        case "no place":
            del kept["ref"]
        case _:
            kept["ref"] = f"../{kept['ref']}"
    with pytest.raises(BodyAltered):
        read(tmp_path, kept)


def test_a_long_body_is_cut_and_says_so(tmp_path: Path, clock: Clock) -> None:
    bodies = open_bodies(tmp_path, clock, max_bytes=1000)
    kept = bodies.keep(content(text="ü" * 4000))["request"]
    assert (kept["kept"], kept["bytes"]) == ("cut", 8014)
    body = read(tmp_path, kept)
    assert body.startswith('{"content":"üü')
    assert 998 <= len(body.encode()) <= 1000


@pytest.mark.parametrize(
    "piece",
    [
        Piece.of(b"\x00binary", "application/octet-stream"),
        Piece.of(b"--x\r\n\r\nfile\r\n--x--", "multipart/form-data; boundary=x"),
        Piece.of(b"{broken", "application/json"),
        Piece.of(b"[" * 300 + b"]" * 300, "application/json"),  # deeper than what is searched
        Piece.of(b'"' + b"a" * 20_000 + b'"', "application/json"),  # longer than what is searched
        Piece.of(b"{}", None),
    ],
    ids=["binary", "form", "broken", "deep", "long", "no type"],
)
def test_of_what_is_no_json_only_size_type_and_digest_are_kept(piece: Piece, tmp_path: Path, clock: Clock) -> None:
    kept = open_bodies(tmp_path, clock, max_bytes=1000).keep(Content("alice", "req_1", piece))["request"]
    assert kept == {
        "type": (piece.type or "").partition(";")[0] or None,
        "bytes": piece.size_bytes,
        "kept": "digest",
        "digest": KEY.mark(piece.raw or b""),
    }
    assert not list(files_in(tmp_path))


def test_an_upload_that_was_never_held_has_no_digest(tmp_path: Path, clock: Clock) -> None:
    piece = Piece(None, 10**9, "multipart/form-data")
    assert open_bodies(tmp_path, clock).keep(Content("alice", "req_1", piece))["request"]["digest"] is None


def test_what_is_no_json_is_kept_where_that_is_wanted(tmp_path: Path, clock: Clock) -> None:
    bodies = open_bodies(tmp_path, clock, max_bytes=1000, binary=True)
    small, large = (Piece.of(b"\x00" * size, "image/png") for size in (700, 800))
    kept = bodies.keep(Content("alice", "req_1", small, large))
    assert (kept["request"]["kept"], kept["answer"]["kept"]) == ("whole", "cut")
    assert kept["request"]["encoding"] == "base64"
    assert read(tmp_path, kept["request"]) == "AAAA" * 233 + "AA=="


def test_erasing_one_tenant_leaves_the_others_and_running_gateways_go_on(tmp_path: Path, clock: Clock) -> None:
    bodies = open_bodies(tmp_path, clock)
    gone, stays = bodies.keep(content("alice"))["request"], bodies.keep(content("Alice"))["request"]
    (deleted,) = erase(tmp_path, "alice")
    assert (deleted.file, deleted.why) == (gone["ref"].partition(":")[0], "erased")
    assert deleted.bytes > 0
    assert read(tmp_path, stays) == '{"content":"hello"}'
    later = bodies.keep(content("alice", "again"))["request"]  # its file was deleted under its hands
    assert read(tmp_path, later) == '{"content":"again"}'
    with pytest.raises((BodyGone, BodyAltered)):
        read(tmp_path, gone)


def test_two_processes_share_a_folder(tmp_path: Path, clock: Clock) -> None:
    one, two = (open_bodies(tmp_path, clock, process) for process in ("r1-b1", "r2-b1"))
    kept = [bodies.keep(content(text=str(number))) for number, bodies in enumerate([one, two, one, two])]
    assert [read(tmp_path, each["request"]) for each in kept] == [f'{{"content":"{n}"}}' for n in range(4)]


def test_bodies_go_when_their_time_is_over(tmp_path: Path, clock: Clock) -> None:
    bodies = open_bodies(tmp_path, clock, keep_s=2 * HOUR_S)
    kept = []
    for _ in range(5):
        kept.append(bodies.keep(content())["request"])
        clock.now += HOUR_S
    deleted = bodies.retain()
    assert [each.why for each in deleted] == ["age", "age"]
    assert [each.file for each in deleted] == [each["ref"].partition(":")[0] for each in kept[:2]]
    assert bodies.retain() == []
    read(tmp_path, kept[2])


def test_the_oldest_go_when_there_is_too_much(tmp_path: Path, clock: Clock) -> None:
    bodies = open_bodies(tmp_path, clock, keep_bytes=700)
    kept = []
    for tenant in ("alice", "bob", "alice", "bob", "carol"):
        kept.append(bodies.keep(content(tenant, os.urandom(100).hex()))["request"])
        clock.now += HOUR_S
    deleted = bodies.retain()
    assert {each.why for each in deleted} == {"size"}
    assert [each.file for each in deleted] == [each["ref"].partition(":")[0] for each in kept[: len(deleted)]]
    assert sum(path.stat().st_size for path in files_in(tmp_path)) <= 700
    read(tmp_path, kept[-1])


def test_a_disk_that_is_full_raises_and_leaves_no_half_frame(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = open_bodies(tmp_path, clock)
    before = bodies.keep(content())["request"]
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:5]))
    with pytest.raises(OSError) as failed:
        bodies.keep(content(text="lost"))
    assert failed.value.errno == errno.ENOSPC
    monkeypatch.undo()
    after = bodies.keep(content(text="later"))["request"]
    assert [read(tmp_path, each) for each in (before, after)] == ['{"content":"hello"}', '{"content":"later"}']


def test_a_folder_that_cannot_be_written_raises(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "bodies").write_text("a file stands in the way")
    with pytest.raises(OSError):
        open_bodies(tmp_path / "bodies", clock).keep(content())


def test_a_few_dozen_files_are_open_however_many_tenants_there_are(tmp_path: Path, clock: Clock) -> None:
    bodies = open_bodies(tmp_path, clock)
    kept = [bodies.keep(content(f"tenant-{number}"))["request"] for number in range(100)]
    assert len(os.listdir("/proc/self/fd")) < 100 if os.path.exists("/proc/self/fd") else True
    bodies.sync()
    bodies.close()
    assert all(read(tmp_path, each) for each in kept)


def test_disks_that_do_not_tell_capitals_apart_keep_tenants_apart() -> None:
    assert folder_of("alice").casefold() != folder_of("Alice").casefold()


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(any_json)
def test_every_json_can_be_kept(tmp_path: Path, document: Any) -> None:
    from gateway import codec

    bodies = open_bodies(tmp_path, Clock())
    kept = bodies.keep(Content("alice", "req_1", Piece.of(codec.dumps(document))))["request"]
    assert kept["kept"] == "whole"
    read(tmp_path, kept)
    bodies.close()


@pytest.mark.parametrize(("text", "limit", "left"), [("abc", 2, "ab"), ("üü", 3, "ü"), ("ü", 1, ""), ("abc", 3, "abc")])
def test_a_text_is_cut_between_characters(text: str, limit: int, left: str) -> None:
    assert cut(text, limit) == left
