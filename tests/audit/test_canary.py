"""Secrets planted in every fact and field, and a search through every byte that was written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import zstandard

from gateway.audit import records
from gateway.audit.bodies import Bodies, Content, Piece
from gateway.audit.fold import Fold
from gateway.audit.hmac_key import load_hmac_key
from gateway.audit.policy import Level
from gateway.audit.redaction import Redactor
from gateway.config import AuditBodies, AuditRedact
from gateway.telemetry import Record
from tests.audit.writing import Process

TENANT_KEY = "tenant-canary-1-key"
ACCOUNT_KEY = "plain.account/canary2+secret"
CANARIES = [
    "sk-canary-3-0123456789",
    "canary4@example.com",
    "4012 8888 8888 1881",
    "eyJhbGciOiJub25lIn0.Y2FuYXJ5NQ.c2ln",
    TENANT_KEY,
    ACCOUNT_KEY,
]
ANYTHING = "canary6 is nothing that a pattern knows"
"""Marked only where nothing says that it may stand."""


def written(folder: Path) -> Iterator[bytes]:
    for path in folder.rglob("*"):
        if path.is_file():
            raw = path.read_bytes()
            yield str(path).encode() + raw
            if path.suffix == ".zst":
                with zstandard.open(path, "rb") as file:
                    yield file.read()


def planted(canary: str) -> Record:
    """A request that was refused before anybody verified anything, with the canary wherever a caller can write."""
    record = Record("req_" + "0" * 32, "POST", f"/v1/threads/{canary}/{canary}", client_request_id=canary)
    record.note(tenant="alice", operation="create_run", public_ids=[canary], model=canary, upstream_model=canary)
    record.note(status=404, error_source="caller", error_code=canary, error=f"no thread {canary}", public_id=canary)
    record.note(**{"later": canary, "usage": {canary: 1, "n": canary}, canary: canary, "run_status": canary})
    record.attempts.append({"key": "one", "error": canary, "url": f"https://x/{canary}", canary: canary})
    return record


@pytest.mark.parametrize("canary", CANARIES)
def test_no_byte_on_the_disk_tells_a_secret(canary: str, tmp_path: Path) -> None:
    redactor = Redactor(load_hmac_key(tmp_path), AuditRedact(), is_key=[TENANT_KEY, ACCOUNT_KEY].__contains__)
    bodies = Bodies(tmp_path / "bodies", "r1-b1", AuditBodies(), redactor)
    process, record = Process(tmp_path), planted(canary)
    fold = Fold(10_000)
    message = {
        "id": "msg_1",
        "object": "thread.message",
        "status": "completed",
        "content": [{"text": {"value": canary}}],
    }
    for data in (message, {"id": "msg_2", "object": "thread.message.delta", "delta": {"content": [part(canary)]}}):
        fold("thread.message.completed" if data is message else "thread.message.delta", data, orjson.dumps(data))
    body = {
        "content": f"it is {canary}",
        "metadata": {"k": canary},
        canary: [{"deep": f"({canary})"}],
        "args": dumped(canary),
    }
    request = Piece.of(orjson.dumps(body))
    answer = Piece.of(fold.content() or b"")
    upload = Piece.of(f"--x\r\n{canary}".encode(), "multipart/form-data; boundary=" + canary)
    for one, two in ((request, answer), (upload, None)):
        content = bodies.keep(Content("alice", record.request_id, one, two))
        for facts in (
            records.started(record, Level.FULL),
            records.finished(record, Level.FULL, has_started=False, folded=fold.folded()),
            records.operator_acted(
                who="ann@host.example.com", act="rest", what="key", name=canary, reason=f"for {canary}"
            ),
            records.config_reloaded(reason=f"because {canary}", digest=canary),
        ):
            process.write(1, "kind", **redactor.facts(facts), content=content)
    bodies.close()
    everything = b"\n".join(written(tmp_path))
    assert canary.encode() not in everything
    assert orjson.dumps(canary)[1:-1] not in everything
    assert redactor.mark(canary).encode() in everything  # and it can be found


def part(text: str) -> dict[str, Any]:
    return {"index": 0, "type": "text", "text": {"value": text}}


def dumped(canary: str) -> str:
    return orjson.dumps({"argument": canary}).decode()


def test_what_no_pattern_knows_stands_nowhere_but_in_kept_text(tmp_path: Path) -> None:
    redactor = Redactor(load_hmac_key(tmp_path), AuditRedact())
    record, process = planted(ANYTHING), Process(tmp_path)
    for facts in (records.started(record, Level.METADATA), records.finished(record, Level.METADATA, has_started=False)):
        process.write(1, "kind", **redactor.facts(facts))
    body = orjson.dumps({"metadata": {"k": ANYTHING}})
    bodies = Bodies(tmp_path / "bodies", "r1-b1", AuditBodies(), redactor)
    bodies.keep(Content("alice", record.request_id, Piece.of(body)))
    bodies.close()
    assert b"canary6" not in b"\n".join(written(tmp_path))
