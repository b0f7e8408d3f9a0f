"""Checkpoints: signed, brought elsewhere, never in the writer's way."""

from __future__ import annotations

import base64
import json
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.audit import checkpoints as module
from gateway.audit.chain import Position
from gateway.audit.checkpoints import (
    PRIVATE_KEY_FILE,
    PUBLIC_KEY_FILE,
    Checkpoints,
    FileSink,
    SigningKey,
    Sink,
    WebhookSink,
    find_or_make_key,
    is_signed_by,
    key_id,
    read_checkpoints,
    read_public_key,
    read_signing_key,
)
from tests.conftest import Events

KEY = SigningKey(Ed25519PrivateKey.generate())
AT = Position("web-20261122T031415Z00000a-0001.jsonl", 17, "ab" * 32)
TIME = "2026-11-22T03:14:15.926535Z"


def wait_until(happened: Callable[[], object]) -> None:
    give_up = time.monotonic() + 5
    while not happened():
        assert time.monotonic() < give_up
        time.sleep(0.002)


class Memory:
    """A sink that fails as long as it is told to."""

    name = "memory"

    def __init__(self) -> None:
        self.got: list[Mapping[str, Any]] = []
        self.is_away = False
        self.tries = 0
        self.released = threading.Event()
        self.released.set()

    def publish(self, checkpoint: Mapping[str, Any]) -> None:
        self.tries += 1
        self.released.wait(10)
        if self.is_away:
            raise ConnectionRefusedError
        self.got.append(checkpoint)


Begin = Callable[..., Checkpoints]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    started: list[Checkpoints] = []

    def start(position: Callable[[], Position | None], sinks: Sequence[Sink], every_s: float = 0.02) -> Checkpoints:
        made = Checkpoints(tmp_path, lambda: KEY, position=position, every_s=every_s, sinks=sinks)
        made.start()
        started.append(made)
        return made

    yield start
    for each in started:
        wait_until(each.stop)


def test_a_checkpoint_is_signed_over_all_it_says() -> None:
    signed = KEY.sign(AT, TIME)
    assert {**AT._asdict(), "v": 1, "time": TIME, "key_id": key_id(KEY.public)}.items() <= signed.items()
    assert is_signed_by(signed, KEY.public)
    for name in signed.keys() - {"signature"}:
        assert not is_signed_by(signed | {name: "other"}, KEY.public)
    assert not is_signed_by(signed | {"more": 1}, KEY.public)
    assert not is_signed_by(signed | {"signature": "?"}, KEY.public)
    assert not is_signed_by({name: value for name, value in signed.items() if name != "signature"}, KEY.public)


def test_another_program_can_check_it_as_documented() -> None:
    signed = KEY.sign(AT, TIME)
    signature = base64.b64decode(signed.pop("signature"))
    KEY.public.verify(signature, json.dumps(signed, sort_keys=True, separators=(",", ":")).encode())


def test_checkpoints_are_found_in_log_lines_and_in_files_of_sinks() -> None:
    signed = KEY.sign(AT, TIME)
    lines = [
        orjson.dumps({"event": "audit.checkpoint", "time": "now", "checkpoint": signed}),
        orjson.dumps({"event": "request.done"}),
        b"Traceback (most recent call last):",
        b'{"signature": "torn',
        b'["signature"]',
        b'{"signature": "of something else"}',
        orjson.dumps(signed),
    ]
    assert list(read_checkpoints(lines)) == [signed, signed]


def test_a_key_is_made_beside_the_trail_once_and_is_private(tmp_path: Path, events: Events) -> None:
    folder = tmp_path / "new"
    made = find_or_make_key(folder, None)
    again = find_or_make_key(folder, None)
    assert key_id(made.public) == key_id(again.public)
    assert stat.S_IMODE((folder / PRIVATE_KEY_FILE).stat().st_mode) == 0o600
    assert key_id(read_public_key((folder / PUBLIC_KEY_FILE).read_bytes())) == key_id(made.public)
    assert len(events.named("audit.key_made")) == 1
    assert "PRIVATE" not in repr(made)
    assert sorted(path.name for path in folder.iterdir()) == [PRIVATE_KEY_FILE, PUBLIC_KEY_FILE]


def test_processes_that_make_the_key_at_once_have_the_same(tmp_path: Path, events: Events) -> None:
    found: list[str] = []

    def make() -> None:
        found.append(key_id(find_or_make_key(tmp_path, None).public))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_a_configured_key_is_used_and_its_public_half_exported(tmp_path: Path) -> None:
    pem = KEY.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    assert key_id(find_or_make_key(tmp_path, pem).public) == key_id(KEY.public)
    assert [path.name for path in tmp_path.iterdir()] == [PUBLIC_KEY_FILE]


def test_other_keys_are_refused_without_showing_them() -> None:
    rsa = generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    for pem in ("planted", rsa):
        with pytest.raises(ValueError, match="is no") as caught:
            read_signing_key(pem)
        assert pem not in str(caught.value)
    with pytest.raises(ValueError, match="is no"):
        read_public_key(b"planted")


def test_what_is_new_is_published_at_intervals_and_at_the_end(begin: Begin, events: Events) -> None:
    sink, at = Memory(), [AT]
    checkpoints = begin(lambda: at[0], [sink])
    wait_until(lambda: sink.got)
    time.sleep(0.1)
    assert len(sink.got) == 1  # nothing new, nothing said
    at[0] = AT._replace(seq=18)
    wait_until(lambda: len(sink.got) == 2)
    checkpoints.sealed(AT._replace(seq=20))
    at[0] = AT._replace(file="next", seq=21)
    wait_until(checkpoints.stop)
    assert sink.got[-1]["seq"] == 21
    logged = [event["checkpoint"] for event in events.named("audit.checkpoint")]
    assert [each["seq"] for each in logged] == [17, 18, 20, 21]
    assert all(is_signed_by(each, KEY.public) for each in logged)


def test_the_end_of_a_file_is_published_at_once(begin: Begin) -> None:
    sink = Memory()
    checkpoints = begin(lambda: None, [sink], every_s=60)
    checkpoints.sealed(AT)
    wait_until(lambda: sink.got)


def test_a_sink_that_fails_gets_the_newest_when_it_is_back(
    begin: Begin, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RETRY_S", 0.01)
    sink, other, at = Memory(), Memory(), [AT]
    sink.is_away = True
    begin(lambda: at[0], [sink, other])
    wait_until(lambda: sink.tries > 3 and other.got)
    at[0] = AT._replace(seq=30)
    wait_until(lambda: len(other.got) == 2)
    sink.is_away = False
    wait_until(lambda: sink.got)
    assert sink.got[-1]["seq"] == 30
    failed = [(event["sink"], event["reason"]) for event in events.named("audit.checkpoint_failed")]
    assert failed == [("memory", "ConnectionRefusedError")]


def test_a_sink_that_hangs_is_in_nobodys_way(begin: Begin) -> None:
    slow, other, at = Memory(), Memory(), [AT]
    slow.released.clear()
    begin(lambda: at[0], [slow, other])
    for seq in (18, 19, 20):
        at[0] = AT._replace(seq=seq)
        wait_until(lambda seq=seq: other.got and other.got[-1]["seq"] == seq)
    slow.released.set()
    wait_until(lambda: slow.got and slow.got[-1]["seq"] == 20)
    assert len(slow.got) == 2  # the one it hung at, and the newest


def test_a_file_elsewhere_has_one_a_line_and_is_private(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "checkpoints.jsonl")
    for seq in (1, 2):
        sink.publish(KEY.sign(AT._replace(seq=seq), TIME))
    with (tmp_path / "checkpoints.jsonl").open("rb") as file:
        assert [each["seq"] for each in read_checkpoints(file)] == [1, 2]
    assert stat.S_IMODE((tmp_path / "checkpoints.jsonl").stat().st_mode) == 0o600
    with pytest.raises(OSError, match="No such file"):
        FileSink(tmp_path / "nowhere" / "file").publish({})


def test_a_webhook_gets_json_and_an_error_of_its_is_a_failure() -> None:
    got: list[tuple[str | None, Any]] = []
    statuses = iter([204, 500])

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((self.headers["Content-Type"], orjson.loads(body)))
            self.send_response(next(statuses))
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    signed = KEY.sign(AT, TIME)
    with HTTPServer(("127.0.0.1", 0), Hook) as server:
        thread = threading.Thread(target=lambda: [server.handle_request() for _ in range(2)])
        thread.start()
        sink = WebhookSink(f"http://127.0.0.1:{server.server_port}/")
        sink.publish(signed)
        with pytest.raises(OSError, match="500") as caught:
            sink.publish(signed)
        caught.value.close()  # type: ignore[attr-defined]
        thread.join()
    assert got == [("application/json", signed)] * 2
