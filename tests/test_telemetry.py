"""What operators see."""

from __future__ import annotations

import ast
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

import gateway
from gateway import telemetry
from gateway.telemetry import EVENTS, Record, log

_LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
SOURCES = sorted(Path(gateway.__file__).parent.rglob("*.py"))


@pytest.fixture
def lines() -> Iterator[io.BytesIO]:
    """What is logged from now on."""
    written = io.BytesIO()
    telemetry.configure(written)
    yield written
    telemetry.configure()


def only(lines: io.BytesIO) -> dict[str, Any]:
    """The one line that was written."""
    raw = lines.getvalue()
    assert raw.endswith(b"\n")
    assert raw.count(b"\n") == 1
    line: dict[str, Any] = json.loads(raw)
    return line


def _is_log_method(node: ast.AST) -> bool:
    is_log = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "log"
    return is_log and isinstance(node, ast.Attribute) and node.attr in _LEVELS


def _events_in(source: str) -> Iterator[str]:
    """The event of every log call, also of calls through a name that was given a log method."""
    tree = ast.parse(source)
    aliases = {
        name.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and any(map(_is_log_method, ast.walk(node.value)))
        for name in node.targets
        if isinstance(name, ast.Name)
    }
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call):
            continue
        if _is_log_method(call.func) or (isinstance(call.func, ast.Name) and call.func.id in aliases):
            event = call.args[0] if call.args else None
            assert isinstance(event, ast.Constant), f"line {call.lineno}: an event's name is a constant"
            yield str(event.value)


def test_the_scan_finds_log_calls() -> None:
    source = "log.info('a.b', x=1)\nemit = log.error if x else log.info\nemit('c.d')\nother.info('e.f')\nf(log.x)"
    assert list(_events_in(source)) == ["a.b", "c.d"]


def test_every_event_in_the_code_is_described_and_every_described_event_is_in_the_code() -> None:
    assert {event for path in SOURCES for event in _events_in(path.read_text())} == set(EVENTS)


@pytest.mark.parametrize("event", EVENTS)
def test_events_are_named_noun_verb(event: str) -> None:
    noun, _, verb = event.partition(".")
    assert noun.isidentifier()
    assert verb.isidentifier()
    assert event == event.lower()


def test_an_event_is_one_json_object_a_line(lines: io.BytesIO) -> None:
    log.warning("store.away", reason="two\nlines", file=Path("/x"))
    line = only(lines)
    assert line.pop("time").endswith("Z")
    assert line == {"event": "store.away", "level": "warning", "reason": "two\nlines", "file": "/x"}


def test_a_traceback_stays_in_its_line(lines: io.BytesIO) -> None:
    try:
        raise KeyError("x")
    except KeyError:
        log.exception("request.crashed")
    assert "KeyError: 'x'" in only(lines)["exception"]


def test_details_are_not_logged_unless_asked_for(lines: io.BytesIO) -> None:
    log.debug("store.ready")
    assert lines.getvalue() == b""


def test_what_a_caller_sends_cannot_keep_its_request_out_of_the_log(lines: io.BytesIO) -> None:
    """Header bytes that are no UTF-8 arrive as lone surrogates. Escaped they would be JSON to Python only: what reads
    the log refuses them."""
    Record("req_1", "GET", "/\udcff", client_request_id="é\udcff").write()
    line = orjson.loads(lines.getvalue())
    assert (line["request_id"], line["path"], line["client_request_id"]) == ("req_1", "/?", "é?")


def test_a_request_is_one_line_with_what_was_learnt_on_its_way(lines: io.BytesIO) -> None:
    record = Record("req_1", "GET", "/v1/threads/t", client="10.0.0.1")
    record.note(tenant="alice", operation=None, status=200)
    record.note(operation="get_thread")
    record.note(operation=None)  # says nothing
    ended = record.begin_attempt("get_thread", "main", "one")
    ended(status=429)
    ended = record.begin_attempt("get_thread", "main", "two")
    ended(error="provider_timeout")
    record.begin_attempt("get_thread", "main", "three")
    record.first_byte()
    record.write()
    line = only(lines)
    assert 0 <= line.pop("first_byte_s") <= line.pop("duration_s") < 5
    assert [0 <= attempt.pop("duration_s", -1) < 5 for attempt in line["attempts"]] == [True, True, False]
    assert line.pop("time")
    assert line == {
        "event": "request.done",
        "level": "info",
        "request_id": "req_1",
        "method": "GET",
        "path": "/v1/threads/t",
        "client": "10.0.0.1",
        "client_request_id": None,
        "tenant": "alice",
        "operation": "get_thread",
        "status": 200,
        "attempts": [
            {"operation": "get_thread", "provider": "main", "key": "one", "status": 429},
            {"operation": "get_thread", "provider": "main", "key": "two", "error": "provider_timeout"},
            {"operation": "get_thread", "provider": "main", "key": "three", "error": "cancelled"},  # it never ended
        ],
        "attempts_total": 3,
    }


def test_a_line_does_not_grow_with_the_attempts(lines: io.BytesIO) -> None:
    record = Record("req_1", "GET", "/")
    for _ in range(500):
        record.begin_attempt("get_thread", "main", "one")(status=200)
    record.write()
    line = only(lines)
    assert (len(line["attempts"]), line["attempts_total"]) == (20, 500)


def test_the_first_byte_is_noted_once() -> None:
    record = Record("req_1", "GET", "/", started=0.0)
    record.first_byte()
    first = record.facts["first_byte_s"]
    record.first_byte()
    assert record.facts["first_byte_s"] == first


@pytest.mark.parametrize(
    ("source", "level"), [(None, "info"), ("caller", "info"), ("provider", "warning"), ("gateway", "warning")]
)
def test_a_callers_fault_is_no_warning(source: str | None, level: str, lines: io.BytesIO) -> None:
    record = Record("req_1", "GET", "/")
    record.note(error_source=source)
    record.write()
    assert only(lines)["level"] == level


async def test_the_last_bytes_wait_once() -> None:
    waited = []

    async def wait() -> None:
        waited.append(True)

    record = Record("req_1", "GET", "/", before_end=wait)
    await record.end()
    await record.end()
    assert waited == [True]


def test_secrets_that_others_wrote_are_masked_in_the_line(lines: io.BytesIO) -> None:
    secret = "sk-proj-0123456789abcdef"
    record = Record("req_1", "GET", f"/v1/threads/{secret}", client_request_id=secret)
    record.note(error=f"No thread found with id '{secret}' of bob@example.com.", error_code=secret, model=secret)
    record.write()
    line = only(lines)
    assert secret not in str(line)
    assert line["path"] == "/v1/threads/***"
    assert line["error"] == "No thread found with id '***' of ***."
    assert record.facts["model"] == secret  # the trail marks it, so that it can be found
