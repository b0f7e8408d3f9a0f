"""`audit`: questions to trail files, as a person and as a program asks them."""

from __future__ import annotations

import asyncio
import csv
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pytest

from gateway.audit.bodies import Bodies, Content, Piece, erase
from gateway.audit.hmac_key import HmacKey, load_hmac_key
from gateway.audit.redaction import Redactor
from gateway.cli import main
from gateway.config import AuditBodies, AuditRedact
from tests.audit.writing import Process, moment
from tests.commands.conftest import PATIENCE_S, ROOT

THREAD = "thread_1abcXYZ"
WHO = {"tenant": "shop", "tenant_key": "0123456789ab", "provider": "main", "account": "acme"}
USAGE = {"prompt_tokens": 70, "completion_tokens": 5}


@pytest.fixture
def key(tmp_path: Path) -> HmacKey:
    return load_hmac_key(tmp_path)


@pytest.fixture
def trail(tmp_path: Path, key: HmacKey) -> Path:
    """A conversation with a tool over two replicas, one of which was killed; and what others did."""
    one, two = Process(tmp_path, "r1"), Process(tmp_path, "r2")
    there = {**WHO, "public_ids": [THREAD], "thread": THREAD}
    one.request(1, "req_create", operation="create_thread", **WHO, public_id=THREAD, thread=THREAD)
    two.request(2, "req_message", operation="create_message", **there, public_id="msg_1X", bytes_in=120, bytes_out=80)
    one.request(
        3, "req_run", operation="create_run", **there, public_id="run_1X", run="run_1X", run_status="requires_action"
    )
    one.rotate(4, compress=True)
    two.request(5, "req_tools", operation="submit_tool_outputs", **there, run="run_1X", run_status="queued")
    one.write(
        6, "request.finished", request_id="req_read", operation="list_messages", **there, status=200, outcome="done"
    )
    one.write(7, "run.settled", **WHO, thread=THREAD, run="run_1X", run_status="completed", usage=USAGE)
    two.started(8, "req_lost", operation="create_message", **there)
    Process(tmp_path, "r2", "b2").write(9, "file.opened")
    one.write(
        10,
        "request.finished",
        request_id="req_foreign",
        client_request_id="job-7",
        tenant="pub",
        operation="get_thread",
        path=f"/v1/threads/{key.mark('hunter2')}",
        public_ids=[key.mark("hunter2")],
        status=404,
        outcome="refused",
        error_source="caller",
    )
    one.write(
        11, "request.finished", request_id="req_bad", tenant="shop", provider="side", status=502, outcome="refused"
    )
    one.started(12, "req_now", operation="create_message", **WHO)
    return tmp_path


def ask(capsys: pytest.CaptureFixture[str], trail: Path, *words: str, expect: int = 0) -> str:
    assert main(["audit", *words, "--dir", str(trail)]) == expect
    return capsys.readouterr().out


def found(capsys: pytest.CaptureFixture[str], trail: Path, *words: str, expect: int = 0) -> list[str]:
    lines = ask(capsys, trail, "search", *words, "--json", expect=expect).splitlines()
    return [str(orjson.loads(line).get("request_id")) for line in lines]


# --- thread and show --------------------------------------------------------------------------------------------------
def test_the_story_of_a_thread_comes_in_order_over_all_replicas(
    trail: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = orjson.loads(ask(capsys, trail, "thread", THREAD, "--json"))
    assert [(step["what"], step["object"], step["run"], step["outcome"]) for step in steps] == [
        ("create_thread", THREAD, None, "done"),
        ("create_message", "msg_1X", None, "done"),
        ("create_run", "run_1X", "requires_action", "done"),
        ("submit_tool_outputs", "run_1X", "queued", "done"),
        ("list_messages", None, None, "done"),
        ("run.settled", "run_1X", "completed", None),
        ("create_message", None, None, "never finished"),
    ]
    assert (steps[0]["by"], steps[0]["via"], steps[5]["tokens"]) == ("shop/0123456789ab", "main/acme", "70+5")
    assert steps[1]["time"] == moment(2)[:23]


def test_a_thread_nobody_tells_of_is_told(trail: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "thread", "thread_nowhere", "--dir", str(trail)]) == 1
    assert capsys.readouterr().err == "threads-gateway: no record tells of 'thread_nowhere'\n"


def test_a_value_that_was_redacted_is_found_by_the_value(trail: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (step,) = orjson.loads(ask(capsys, trail, "thread", "hunter2", "--json"))
    assert (step["request"], step["status"]) == ("req_foreign", 404)
    (trail / "hmac.key").unlink()
    assert main(["audit", "thread", "hunter2", "--dir", str(trail)]) == 1


@pytest.mark.parametrize("name", ["req_foreign", "job-7"])
def test_a_request_is_shown_by_either_of_its_ids(name: str, trail: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ask(capsys, trail, "show", name)
    assert "request.finished" in out
    assert "  status             404" in out
    assert "r1-b1-0001.jsonl" in out


@pytest.mark.parametrize(
    ("request_id", "told", "code"), [("req_lost", "never finished", 1), ("req_now", "not finished yet", 0)]
)
def test_show_names_what_started_and_never_finished(
    request_id: str, told: str, code: int, trail: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"{request_id}: {told}" in ask(capsys, trail, "show", request_id, expect=code)
    shown = orjson.loads(ask(capsys, trail, "show", request_id, "--json", expect=code))
    assert shown[-1] == {"note": f"{request_id}: {told}"}


def test_kept_bodies_are_shown_and_proven(trail: Path, key: HmacKey, capsys: pytest.CaptureFixture[str]) -> None:
    bodies = Bodies(trail / "bodies", "r9-b1", AuditBodies(), Redactor(key, AuditRedact()))
    request, answer = Piece.of(b'{"content":"hello \\u001b[2J bob@example.com"}'), Piece.of(b"\0", "image/png")
    kept = bodies.keep(Content("shop", "req_body", request, answer))
    bodies.close()
    Process(trail, "r9").write(20, "request.finished", request_id="req_body", content=kept)
    (record,) = orjson.loads(ask(capsys, trail, "show", "req_body", "--content", "--json"))
    assert [(body["part"], body["found"]) for body in record["bodies"]] == [
        ("request", "proven"),
        ("answer", "only its digest was kept"),
    ]
    assert record["bodies"][0]["body"] == {"content": f"hello \x1b[2J {key.mark('bob@example.com')}"}
    assert "\x1b" not in ask(capsys, trail, "show", "req_body", "--content")
    (path,) = (trail / "bodies").glob("*/*.zst")
    path.write_bytes(path.read_bytes()[:-3] + b"xyz")
    out = ask(capsys, trail, "show", "req_body", "--content", expect=1)
    assert "request: altered" in out
    erase(trail / "bodies", "shop")
    assert "request: deleted" in ask(capsys, trail, "show", "req_body", "--content")


# --- search and tail --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("words", "ids"),
    [
        (["--status", "404"], ["req_foreign"]),
        (["--status", "5xx"], ["req_bad"]),
        (["--tenant", "pub"], ["req_foreign"]),
        (["--provider", "s*"], ["req_bad"]),
        (["--operation", "create_run"], ["req_run", "req_run"]),
        (["--operation", "create_*", "--status", "200"], ["req_create", "req_message", "req_run"]),
        (["--thread", THREAD, "--since", moment(4)[:19], "--until", moment(6)], ["req_tools", "req_tools"]),
        (["--thread", "run_1X", "--operation", "create_run", "--status", "2xx"], ["req_run"]),
        (["--text", "hunter2"], ["req_foreign"]),
        (["--text", "requires_act"], ["req_run", "req_run"]),
        (["--tenant", "shop", "--provider", "main", "--status", "502"], []),
    ],
)
def test_a_search_finds_what_meets_all_conditions(
    words: list[str], ids: list[str], trail: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert found(capsys, trail, *words, expect=0 if ids else 1) == ids


def test_a_table_is_for_people(trail: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ask(capsys, trail, "search", "--status", "404").splitlines()
    assert " ".join(lines[0].split()) == "TIME WHAT TENANT OPERATION PROVIDER STATUS OUTCOME TOOK S OBJECT REQUEST"
    assert "req_foreign" in lines[1]
    assert "\x1b" not in "".join(lines)  # no colours in a pipe


def test_colours_are_for_terminals(
    trail: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    lines = ask(capsys, trail, "search", "--tenant", "shop", "--since", moment(10)).splitlines()
    assert [line.startswith("\x1b[31m") for line in lines] == [False, True, False]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in ask(capsys, trail, "search", "--status", "502")


def test_what_a_caller_wrote_commands_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Process(tmp_path).write(1, "request.finished", request_id="req_1\x1b]0;owned\x07", tenant="a\nb")
    for words in (["search"], ["show", "req_1\x1b]0;owned\x07"]):
        out = ask(capsys, tmp_path, *words)
        assert "\x1b" not in out
        assert "\\x1b]0;owned\\x07" in out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["search", "--status", "4x"], "is no status such as 404 or 5xx"),
        (["search", "--since", "yesterday"], "is no time such as"),
        (["export", "--format", "parquet"], "needs --output"),
    ],
)
def test_what_cannot_be_meant_is_told(
    words: list[str], told: str, trail: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", *words, "--dir", str(trail)]) == 2
    assert told in capsys.readouterr().err


def test_a_folder_without_a_trail_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "tail", "--dir", str(tmp_path / "nowhere")]) == 1
    assert "there is no trail in" in capsys.readouterr().err


def test_what_cannot_be_read_is_told_beside_what_was_found(trail: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (trail / "r1-b1-0001.jsonl").open("ab") as file:
        file.write(b"garbage\n")
    assert main(["audit", "tail", "--dir", str(trail)]) == 1
    told = capsys.readouterr()
    assert "req_now" in told.out
    assert told.err == "threads-gateway: r1-b1-0001.jsonl has a line that is no record\n"


def test_the_newest_records_are_shown(trail: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ask(capsys, trail, "tail", "-n", "2", "--json").splitlines()
    assert [orjson.loads(line)["request_id"] for line in lines] == ["req_bad", "req_now"]


async def test_tail_goes_on_with_what_is_written(trail: Path) -> None:
    words = ("audit", "tail", "-f", "-n", "1", "--json", "--dir", str(trail), "--tenant", "shop")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.cli", *words),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        assert b"req_now" in await process.stdout.readline()
        later = Process(trail, "r7")
        later.write(30, "request.finished", request_id="req_others", tenant="pub")
        later.write(31, "request.finished", request_id="req_later", tenant="shop")
        assert b"req_later" in await process.stdout.readline()
        process.terminate()
        await process.wait()


def test_whoever_has_seen_enough_may_go(trail: Path) -> None:
    process = Process(trail, "r8")
    for second in range(20, 3000):
        process.write(second, "request.finished", request_id=f"req_{second}", text="x" * 50)
    command = f"{sys.executable} -m gateway.cli audit search --dir {trail} --json | head -1"
    ended = subprocess.run(
        command, shell=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True
    )
    assert ended.stderr == b""
    assert len(ended.stdout.splitlines()) == 1


# --- sums and other programs ------------------------------------------------------------------------------------------
def test_stats_sum_up_days_tenants_and_providers(trail: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = orjson.loads(ask(capsys, trail, "stats", "--json"))
    sums = {(row["tenant"], row["provider"]): row for row in rows}
    assert {row["day"] for row in rows} == {"2026-11-22"}
    shop = sums["shop", "main"]
    assert (shop["requests"], shop["errors"], shop["tokens_in"], shop["tokens_out"]) == (5, 0, 70, 5)
    assert (shop["bytes_in"], shop["bytes_out"]) == (120, 80)
    assert (sums["shop", "side"]["errors"], sums["pub", None]["errors"]) == (1, 1)
    assert len(orjson.loads(ask(capsys, trail, "stats", "--json", "--tenant", "pub"))) == 1


def test_an_export_has_the_records_that_were_asked_for(trail: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ask(capsys, trail, "export", "--tenant", "pub").splitlines()
    assert [orjson.loads(line)["request_id"] for line in lines] == ["req_foreign"]
    rows = list(csv.DictReader(io.StringIO(ask(capsys, trail, "export", "--format", "csv", "--status", "404"))))
    assert (rows[0]["tenant"], rows[0]["status"]) == ("pub", "404")
    assert orjson.loads(rows[0]["public_ids"])[0].startswith("hmac:")
    ask(capsys, trail, "export", "--format", "csv", "--output", str(trail / "out.csv"))
    assert len((trail / "out.csv").read_text().splitlines()) > 10


def test_a_cell_is_no_formula(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Process(tmp_path).write(1, "request.finished", tenant="=1+1")
    assert "'=1+1" in ask(capsys, tmp_path, "export", "--format", "csv")


def test_parquet_is_what_duckdb_reads(trail: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = trail / "records.parquet"
    ask(capsys, trail, "export", "--format", "parquet", "--output", str(out), "--tenant", "shop")
    (count,) = duckdb.sql(f"select count(*) from '{out}' where provider = 'main'").fetchall()[0]
    assert count == 12
    assert not list(trail.glob(".records*"))


def test_sql_asks_all_files_and_nothing_else(trail: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (trail / "r1-b1-0001.jsonl").open("ab") as file:
        file.write(b'{"v":1,"ti')
    query = "select tenant, count(*) as n, min(time) as first from records where kind = 'request.finished'"
    query += " group by all order by n"
    rows: Any = orjson.loads(ask(capsys, trail, "sql", query, "--json"))
    assert rows == [
        {"tenant": "pub", "n": 1, "first": "2026-11-22 03:00:10"},
        {"tenant": "shop", "n": 6, "first": "2026-11-22 03:00:01.500000"},
    ]
    assert ask(capsys, trail, "sql", query).splitlines()[0].split() == ["TENANT", "N", "FIRST"]
    usage = orjson.loads(
        ask(capsys, trail, "sql", "select sum(usage.prompt_tokens::int)::int as n from records", "--json")
    )
    assert usage == [{"n": 70}]
    for refused in (
        "select * from '/etc/passwd'",
        f"copy records to '{trail.parent}/x.csv'",
        "set lock_configuration = false",
    ):
        assert main(["audit", "sql", refused, "--dir", str(trail)]) == 1
        assert capsys.readouterr().err


def test_sql_over_an_empty_trail_has_no_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert orjson.loads(ask(capsys, tmp_path, "sql", "select tenant, attempts from records", "--json")) == []


# --- hash -------------------------------------------------------------------------------------------------------------
def test_hash_shows_how_a_value_stands(
    tmp_path: Path, key: HmacKey, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ask(capsys, tmp_path, "hash", "bob@example.com") == key.mark("bob@example.com") + "\n"
    assert ask(capsys, tmp_path, "hash", "gpt-4o", "--field", "model") == "gpt-4o\n"
    assert ask(capsys, tmp_path, "hash", "gpt-4o", "--field", "new") == key.mark("gpt-4o") + "\n"
    monkeypatch.setattr("sys.stdin", io.StringIO("a secret\n"))
    assert ask(capsys, tmp_path, "hash", "-") == key.mark("a secret") + "\n"
    (tmp_path / "upload").write_bytes(b"\0\xff")
    assert ask(capsys, tmp_path, "hash", "--file", str(tmp_path / "upload")) == key.mark(b"\0\xff") + "\n"


def test_hash_needs_the_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "hash", "x", "--dir", str(tmp_path)]) == 1
    assert "hmac.key is not there; with a key in the configuration say --config" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_configuration_says_folder_and_key(
    trail: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AUDIT", "another key of 16 characters")
    path = tmp_path / "gateway.yaml"
    path.write_text(
        "providers: {main: {vendor: openai, base_url: http://x, accounts: {a: {keys: {one: '${AUDIT}'}}}}}\n"
        "tenants: {alice: {keys: ['${AUDIT}']}}\n"
        f"audit: {{dir: {trail}, hmac_key: '${{AUDIT}}'}}\n"
    )
    assert main(["audit", "hash", "x", "--config", str(path)]) == 0
    assert capsys.readouterr().out == HmacKey.of("another key of 16 characters").mark("x") + "\n"
