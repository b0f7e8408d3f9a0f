"""A trail from the configuration, from its start to its end."""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.audit.checkpoints import PUBLIC_KEY_FILE, read_checkpoints, read_public_key
from gateway.audit.files import find
from gateway.audit.opening import config_digest, open_trail, replica_name
from gateway.audit.trail import Trail
from gateway.audit.verify import verify
from gateway.config import Config
from gateway.store.checkpoints import StoredCheckpoints
from gateway.store.connection import Store
from tests.audit.written import read
from tests.conftest import Events, eventually
from tests.values import SETTINGS, config_of


def config(folder: Path, **audit: Any) -> Config:
    return config_of({**SETTINGS, "audit": {"dir": str(folder), "replica": "web", **audit}})


async def started(folder: Path, **audit: Any) -> Trail:
    trail = open_trail(config(folder, **audit))
    trail.start()
    return trail


async def test_a_trail_goes_on_over_starts_and_all_of_it_is_checked(tmp_path: Path, events: Events) -> None:
    elsewhere, folder = tmp_path / "checkpoints.jsonl", tmp_path / "trail"
    for number in range(3):
        trail = await started(folder, rotate_bytes=2000, checkpoint_to={"file": str(elsewhere)})
        for part in range(10):
            await trail.write("request.finished", {"request_id": f"{number}-{part}", "text": "x" * 200})
        await trail.close()
    key = read_public_key((folder / PUBLIC_KEY_FILE).read_bytes())
    with elsewhere.open("rb") as file:
        checkpoints = list(read_checkpoints(file))
    logged = [event["checkpoint"] for event in events.named("audit.checkpoint")]
    report = verify(folder, checkpoints=[*checkpoints, *logged], key=key)
    assert report.is_good, report.faults
    assert report.checkpoints >= 6
    assert [each.state for each in report.sets] == ["sealed"] * 3
    assert report.records > 30
    last = max(find(folder))
    assert any(checkpoint["file"] == str(last) for checkpoint in checkpoints)


async def test_a_header_says_which_gateway_wrote_the_file(tmp_path: Path) -> None:
    trail = await started(tmp_path, compress=False)
    await trail.close()
    header = read(tmp_path / str(next(iter(find(tmp_path)))))[0]
    assert {"version", "config", "mode", "replica", "boot", "file", "previous"} <= header.keys()
    assert header["config"] == config_digest(config(tmp_path, compress=False))
    assert header["config"] != config_digest(config(tmp_path, compress=False, mode="fsync"))


async def test_sealed_files_are_compressed_while_records_come(tmp_path: Path) -> None:
    trail = await started(tmp_path, rotate_bytes=2000)
    for part in range(20):
        await trail.write("request.finished", {"request_id": f"{part}", "text": "x" * 500})
    await eventually(lambda: len(list(tmp_path.glob("*.zst"))) >= 4)
    await trail.close()
    assert verify(tmp_path).is_good


def bytes_in(folder: Path) -> int:
    """Of the trail's files; one may be deleted while they are looked at."""
    total = 0
    for path in find(folder).values():
        with suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


async def test_files_beyond_the_bound_are_deleted_and_the_chain_says_so(tmp_path: Path) -> None:
    trail = await started(tmp_path, rotate_bytes=2000, keep_bytes=4000, compress=False)
    for part in range(40):
        await trail.write("request.finished", {"request_id": f"{part}", "text": "x" * 500})
    await eventually(lambda: bytes_in(tmp_path) < 10_000)
    await trail.close()
    assert min(find(tmp_path)).number > 1
    assert verify(tmp_path).is_good


async def test_the_store_has_the_newest_checkpoint_of_each_start(valkey: str, tmp_path: Path) -> None:
    store = Store(valkey, prefix="audit-test", timeout_s=1)
    for _ in range(2):
        trail = open_trail(config(tmp_path, checkpoint_to={"valkey": True}), store=store)
        trail.start()
        await trail.write("request.finished", {"request_id": "1"})
        await trail.close()
    found = await StoredCheckpoints(store).read()
    await store.close()
    assert len(found) == 2
    key = read_public_key((tmp_path / PUBLIC_KEY_FILE).read_bytes())
    report = verify(tmp_path, checkpoints=found, key=key)
    assert (report.is_good, report.checkpoints) == (True, 2)
    assert {each["file"] for each in found} == {str(name) for name in find(tmp_path)}


async def test_a_store_that_is_away_is_in_nobodys_way(tmp_path: Path, events: Events) -> None:
    store = Store("redis://127.0.0.1:1", prefix="audit-test", timeout_s=0.1)
    trail = open_trail(config(tmp_path, checkpoint_to={"valkey": True}, timeout_s=1), store=store)
    trail.start()
    await trail.write("request.finished", {"request_id": "1"})
    await trail.close()
    await store.close()
    assert [event["sink"] for event in events.named("audit.checkpoint_failed")] == ["valkey"]
    assert verify(tmp_path).is_good


def test_a_replica_is_called_as_configured_or_as_its_host(monkeypatch: pytest.MonkeyPatch) -> None:
    assert replica_name("web-1") == "web-1"
    monkeypatch.setattr(socket, "gethostname", lambda: "höst/1.example")
    assert replica_name(None) == "h_st_1.example"


def test_the_digest_of_a_configuration_has_nothing_of_its_secrets(tmp_path: Path) -> None:
    assert "sk-acme" not in repr(config(tmp_path))
    assert orjson.dumps(config_digest(config(tmp_path))).startswith(b'"sha256:')
