"""`audit verify`, as a process of its own: what it prints, and its exit code."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.audit.chain import Position
from gateway.audit.checkpoints import PUBLIC_KEY_FILE, SigningKey, public_pem
from gateway.cli import main
from tests.audit.written import edited, entry, lines_of, name_of, write

KEY = SigningKey(Ed25519PrivateKey.generate())
ONE = name_of()


@pytest.fixture
def trail(tmp_path: Path) -> Path:
    """One file set of two files, and the public key beside it."""
    folder = tmp_path / "trail"
    written = write(folder, 3, 3)
    written.append([entry("request.started", request_id="req_left", operation="create_run", tenant="shop")])
    written.close()
    (folder / PUBLIC_KEY_FILE).write_bytes(public_pem(KEY.public))
    return folder


def checkpoint_of(folder: Path, line: int = 4) -> dict[str, Any]:
    said = orjson.loads(lines_of(folder / ONE)[line - 1])
    return KEY.sign(Position(ONE, said["seq"], said["h"]), "2026-11-22T03:14:15.000000Z")


def verify(*words: object) -> int:
    return main(["audit", "verify", *map(str, words)])


def test_a_good_trail_is_good(trail: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify("--dir", trail) == 0
    printed = capsys.readouterr()
    assert " ".join(printed.out.splitlines()[0].split()) == "REPLICA BOOT FILES RECORDS FIRST LAST STATE UNFINISHED"
    assert "good. 11 records, no checkpoint: a cut-off end does not show." in printed.out
    assert "started and never finished\n  req_left" in printed.out
    assert printed.err == ""  # no bar where nobody looks


def test_a_fault_is_told_with_file_line_and_number(trail: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with edited(trail / ONE) as lines:
        lines[2] = lines[2].replace(b"was", b"is!")
    assert verify("--dir", trail) == 1
    assert f"{ONE}:3: seq 3 edited: its hash is not that of its content\n1 faults." in capsys.readouterr().out


def test_json_has_everything(trail: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    with edited(trail / ONE) as lines:
        del lines[2]
    assert verify("--dir", trail, "--json") == 1
    told = orjson.loads(capfdbinary.readouterr().out)
    assert (told["good"], told["records"], told["faults_total"]) == (False, 10, 1)
    assert told["faults"][0] | {"detail": ""} == {"what": "deleted", "file": ONE, "line": 3, "seq": 3, "detail": ""}
    assert [request["request_id"] for request in told["sets"][0]["unfinished"]] == ["req_left"]
    assert told["sets"][0]["state"] == "sealed"


@pytest.mark.parametrize("wrapped", [False, True], ids=["a sink's file", "the log"])
def test_a_checkpoint_shows_what_a_chain_cannot(
    wrapped: bool, trail: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    signed = checkpoint_of(trail)
    line = {"event": "audit.checkpoint", "checkpoint": signed} if wrapped else signed
    file = tmp_path / "checkpoints"
    file.write_bytes(b'{"event":"gateway.started"}\n' + orjson.dumps(line) + b"\n")
    assert verify("--dir", trail, "--checkpoint", file) == 0
    assert "1 checkpoints." in capsys.readouterr().out
    for path in trail.glob("*.jsonl"):
        path.unlink()
    write(trail, 2).close()
    assert verify("--dir", trail) == 0
    assert verify("--dir", trail, "--checkpoint", file) == 1
    assert "forged" in capsys.readouterr().out


def test_another_key_makes_no_good_checkpoint(trail: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, key = tmp_path / "checkpoints", tmp_path / "other.pem"
    file.write_bytes(orjson.dumps(checkpoint_of(trail)))
    key.write_bytes(public_pem(Ed25519PrivateKey.generate().public_key()))
    assert verify("--dir", trail, "--checkpoint", file, "--public-key", key) == 1
    assert "bad checkpoint" in capsys.readouterr().out


def test_what_cannot_be_done_is_2(trail: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "nothing").write_text("no checkpoint")
    (tmp_path / "good").write_bytes(orjson.dumps(checkpoint_of(trail)))
    for words, told in [
        (["--dir", tmp_path / "nowhere"], "cannot be read: No such file"),
        (["--dir", tmp_path], "has no files of a trail"),
        (["--dir", trail, "--checkpoint", tmp_path / "nothing"], "has no checkpoints"),
        (["--dir", trail, "--checkpoint", tmp_path / "nowhere"], "cannot be read"),
        (["--dir", trail, "--checkpoint", tmp_path / "good", "--public-key", tmp_path / "nothing"], "is no public key"),
        (["--dir", trail, "--checkpoint", tmp_path / "good", "--public-key", tmp_path / "nowhere"], "--public-key"),
    ]:
        assert verify(*words) == 2
        assert told in capsys.readouterr().err
    for words in ([], ["--dir", trail, "--config", trail]):
        with pytest.raises(SystemExit) as ended:
            verify(*words)
        assert ended.value.code == 2


def test_a_configuration_says_where_everything_is(trail: Path, tmp_path: Path) -> None:
    """The folder, the key, and the file that checkpoints went to."""
    (trail / PUBLIC_KEY_FILE).unlink()
    pem = KEY.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key.pem").write_bytes(pem)
    (tmp_path / "secret").write_text("sk-planted")
    (tmp_path / "checkpoints").write_bytes(orjson.dumps(checkpoint_of(trail)) + b"\n")
    config = tmp_path / "gateway.yaml"
    config.write_text(
        f"""
providers: {{main: {{vendor: openai, base_url: "http://x.example", accounts: {{a: {{keys: {{k: "file:secret"}}}}}}}}}}
tenants: {{t: {{keys: ["file:secret"]}}}}
audit:
  dir: {trail}
  signing_key: file:key.pem
  checkpoint_to: {{file: {tmp_path / "checkpoints"}}}
"""
    )
    ended = subprocess.run(
        [sys.executable, "-m", "gateway.cli", "audit", "verify", "--config", config, "--json"],
        capture_output=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert (told["good"], told["checkpoints"]) == (True, 1)


def test_there_is_a_bar_on_a_terminal_and_it_goes_away(trail: Path) -> None:
    ours, theirs = pty.openpty()
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "gateway.cli", "audit", "verify", "--dir", trail],
            stdout=subprocess.PIPE,
            stderr=theirs,
            check=True,
            env={**os.environ, "TERM": "xterm"},
            cwd=Path(__file__).parents[2],
        )
        shown = os.read(ours, 65536)
    finally:
        os.close(ours)
        os.close(theirs)
    assert b"verifying" in shown
    assert b"verifying" not in ended.stdout
    assert b"good." in ended.stdout
