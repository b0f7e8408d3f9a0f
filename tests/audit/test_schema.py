"""`gateway/audit/schema.json` says what records hold: it is held against the tables, and records against it; so is the
ClickHouse table."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from jsonschema import Draft202012Validator

from gateway.app import App
from gateway.audit import records, redaction
from gateway.audit.export import COLUMNS
from gateway.audit.file_set import Entry, FileSet
from gateway.audit.files import opened
from gateway.audit.patterns import OURS
from gateway.audit.reading import WrittenTrail
from gateway.audit.repair import bind
from gateway.store.acts import Act
from tests.auditing.test_requests import audited
from tests.conftest import (
    Events,
    Running,
    StartGateway,
    StartVendor,
    Vendor,
    environ_for,
    eventually,
    load_settings,
    settings_for,
)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

ROOT = Path(__file__).parents[2]
SCHEMA: dict[str, Any] = orjson.loads((ROOT / "gateway/audit/schema.json").read_bytes())
KINDS: list[str] = SCHEMA["properties"]["kind"]["enum"]
CHAIN = set(SCHEMA["properties"])
TABLE = (ROOT / "deploy/audit/clickhouse.sql").read_text()
REDACTED = [kind for kind in KINDS if SCHEMA["$defs"][kind]["additionalProperties"] is not False]
"""Kinds whose facts the redaction passes; the others are the trail's own."""


def facts_of(kind: str) -> dict[str, Any]:
    return {name: said for name, said in SCHEMA["$defs"][kind]["properties"].items() if name not in CHAIN}


def form_of(said: Mapping[str, Any]) -> str | None:
    """The definition that a fact, or each of a list of them, is said by."""
    reference = said.get("$ref") or said.get("items", {}).get("$ref")
    return str(reference).removeprefix("#/$defs/") if reference else None


# --- against the code's tables --------------------------------------------------------------------------------------


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert [each["$ref"] for each in SCHEMA["oneOf"]] == [f"#/$defs/{kind}" for kind in KINDS]
    assert all(SCHEMA["$defs"][kind]["properties"]["kind"] == {"const": kind} for kind in KINDS)


def test_it_has_every_kind_that_the_code_writes() -> None:
    sources = [*(ROOT / "gateway/audit").glob("*.py"), ROOT / "gateway/auditing.py"]
    kind = re.compile(r'"((?:request|generation|run|operator|config|tenant|bodies|file|trail)\.[a-z]+)"')
    found = {each for path in sources for each in kind.findall(path.read_text())}
    assert found - {"file.left"} == set(KINDS)  # that is a note of `audit verify`


def test_it_has_the_facts_of_requests() -> None:
    always = {"request_id", "level", "content"}
    assert facts_of("request.started").keys() == {*records._IDENTIFYING, *always}
    ended = {"outcome", "attempts", "attempts_total", "duration_s"}
    assert facts_of("request.finished").keys() == {*records._IDENTIFYING, *records._LEARNT, *always, *ended}
    known, learnt = records._OF_GENERATION, records._LEARNT_OF_GENERATION
    assert facts_of("generation.started").keys() == {*known, *always}
    assert facts_of("generation.finished").keys() == {*known, *learnt, *always, *ended}


FORMS = {
    "counts": "counts",
    "attempts": "attempt",
    "path": "path",
    "number": "number",
    "request": "request",
    "name": "name",
    "code": "code",
    "ids": "id",
    "label": "label",
    "peer": "peer",
    "person": "person",
    "text": "text",
}
"""Form of the redaction → definition of the schema."""
NARROWER = {"level", "outcome"}
"""Words of the gateway's own, which the schema lists."""


def test_what_it_says_is_clear_is_clear_and_in_that_form() -> None:
    said = {name: what for kind in REDACTED for name, what in facts_of(kind).items() if name != "content"}
    clear = {name: "id" if form_of(what) == "ids" else form_of(what) for name, what in said.items()}
    expected = {name: FORMS[form] for name, form in redaction._CLEAR.items()}
    assert {name: form for name, form in clear.items() if name not in NARROWER} == {
        name: form for name, form in expected.items() if name in said and name not in NARROWER
    }
    assert expected.keys() - said.keys() == {"records", "version", "replica"}  # of the trail's own records
    attempt = SCHEMA["$defs"]["attempt"]["properties"]
    assert {name: form_of(what) for name, what in attempt.items()} == {
        name: FORMS[form] for name, form in redaction._CLEAR_OF_ATTEMPT.items()
    }


def test_its_forms_are_the_redactions() -> None:
    for name, form in (
        ("request", "request"),
        ("code", "code"),
        ("id", "verified"),
        ("peer", "peer"),
        ("person", "person"),
    ):
        clear, marked = SCHEMA["$defs"][name]["anyOf"]
        assert clear["pattern"] == f"^(?:{redaction._FORMS[form].pattern})$"
        assert marked == {"$ref": "#/$defs/marked"}
    assert SCHEMA["$defs"]["marked"]["pattern"] == f"^{OURS.partition('(?!')[0]}$"


# --- against records ------------------------------------------------------------------------------------------------


def faults_of(record: Mapping[str, Any]) -> Iterator[str]:
    """By the definition of its own kind, whose words say what is wrong."""
    own = {**SCHEMA, "oneOf": [{"$ref": f"#/$defs/{record['kind']}"}]}
    for fault in Draft202012Validator(own).iter_errors(record):
        yield f"{record['kind']} {list(fault.absolute_path)}: {fault.message}"


def read(folder: Path) -> list[Mapping[str, Any]]:
    return [row.record for row in WrittenTrail(folder).read()]


async def speak(gateway: Running) -> None:
    """What can become of requests: made, read, streamed, kept, refused for each reason."""
    _, assistant, _ = await gateway.call("POST", "/v1/assistants", {"model": "m", "metadata": {"a": "b"}})
    thread = {"messages": [{"role": "user", "content": "Hello"}]}
    body = {"assistant_id": assistant["id"], "thread": thread, "stream": True}
    await gateway.call("POST", "/v1/threads/runs", body)
    form = aiohttp.FormData({"purpose": "assistants"})
    form.add_field("file", b"some words", filename="words.txt", content_type="text/plain")
    await gateway.call("POST", "/v1/files", data=form)
    await gateway.call("GET", f"/v1/assistants/{assistant['id']}", headers={"x-request-id": "bob@example.com"})
    await gateway.call("POST", "/v1/threads", {"messages": 1}, headers={"x-request-id": "job 7"})
    await gateway.call("GET", "/v1/threads/thread_nobodys?after=x")
    await gateway.call("GET", "/v1/nothing/sk-0123456789abcdef", tenant="bob")
    await gateway.call("POST", "/v1/threads", {}, headers={"Authorization": "Bearer nobody"})
    await gateway.call("POST", "/v1/threads", {}, tenant="bob", headers={"Idempotency-Key": "a"})


async def be_served(gateway: Running) -> None:
    """The same over a model, which calls a tool."""
    path = "/providers/openai_chat/v1"
    tools = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
    _, assistant, _ = await gateway.call("POST", f"{path}/assistants", {"model": "m", "tools": tools})
    thread = {"messages": [{"role": "user", "content": "call add"}]}
    body = {"assistant_id": assistant["id"], "thread": thread}
    status, _, _ = await gateway.call("POST", f"{path}/threads/runs", body)
    assert status == 200


async def test_every_kind_of_record_is_as_it_says(
    start_vendor: StartVendor,
    start_gateway: StartGateway,
    session: aiohttp.ClientSession,
    valkey: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    events: Events,
) -> None:
    """A gateway's whole life: requests, acts, a reload, an erasure, a full disk, a crash, retention."""
    vendor, model, folder = await start_vendor("openai"), await start_vendor("openai_chat"), tmp_path / "audit"
    found = await live([vendor, model], valkey, session, tmp_path, folder, monkeypatch)
    crash(folder)
    bind(folder, "r")
    found += read(folder)
    deleting = audited(folder, keep_bytes=1, bodies={"keep_bytes": 1})
    await start_gateway(vendor, change=deleting)
    await eventually(lambda: {"trail.deleted", "bodies.deleted"} <= {each["kind"] for each in read(folder)})
    found += read(folder)
    assert {each["kind"] for each in found} == set(KINDS)
    assert [fault for record in found for fault in faults_of(record)] == []


async def live(
    vendors: Sequence[Vendor],
    valkey: str,
    session: aiohttp.ClientSession,
    tmp_path: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> list[Mapping[str, Any]]:
    settings = settings_for(vendors, valkey)
    audited(folder, policy=[{"level": "full"}])(settings)
    config = load_settings(settings, tmp_path, environ_for(vendors))
    app = App(config, lambda files: config)
    await app.start()
    try:
        gateway = Running(app, session)
        await speak(gateway)
        await be_served(gateway)
        assert app.shared is not None
        assert app.reloading is not None
        app.reloading.reload_soon("SIGHUP")
        await app.shared.acts.add(Act("ann@desk", "rest", "key", "openai/acme/one", 1_800_000_000, "too hot"))
        app.shared.switches.mark_erased("bob", "asked for", with_usage=False)
        wanted = {"generation.finished", "run.settled", "operator.acted", "config.reloaded", "tenant.erased"}
        await eventually(lambda: wanted <= {each["kind"] for each in read(folder)})
        await fill_the_disk(gateway, monkeypatch)
        await eventually(lambda: "trail.gap" in {each["kind"] for each in read(folder)})
    finally:
        await app.stop(grace_s=1)
    return read(folder)


async def fill_the_disk(gateway: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def is_full(self: FileSet, entries: Sequence[Entry]) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(FileSet, "append", is_full)
        await gateway.call("POST", "/v1/threads", {})


def crash(folder: Path) -> None:
    """As if the process had been killed while it wrote its seal."""
    [file] = folder.glob("*.jsonl*")
    with opened(file) as (plain, _):
        lines = list(plain)
    file.unlink()
    (folder / file.name.removesuffix(".zst")).write_bytes(b"".join(lines[:-1]) + lines[-1][:40])


@pytest.mark.parametrize(
    "change",
    [
        {"tenant": 7},
        {"client": "somewhere"},
        {"request_id": "mine"},
        {"secret": "in the clear"},
        {"kind": "request.begun"},
        {"attempts": [{"key": "one", "secret": "in the clear"}]},
    ],
)
def test_a_record_that_is_otherwise_is_not_as_it_says(change: Mapping[str, Any]) -> None:
    good = {
        "v": 1,
        "seq": 2,
        "time": "2026-11-22T03:14:15.926535Z",
        "kind": "request.finished",
        "request_id": f"req_{'0' * 32}",
        "tenant": "alice",
        "client": "10.0.0.1",
        "level": "metadata",
        "outcome": "done",
        "attempts": [{"key": "one"}],
        "attempts_total": 1,
        "duration_s": 0.1,
        "prev": "0" * 64,
        "h": "0" * 64,
    }
    checked = Draft202012Validator(SCHEMA)
    assert checked.is_valid(good)
    assert not checked.is_valid(good | change)


# --- the ClickHouse table -------------------------------------------------------------------------------------------

OF_THE_FILE = {"path", "raw", "file", "replica", "boot"}
FROM_USAGE = {"prompt_tokens", "completion_tokens", "total_tokens"}
RENAMED = {"path": "request_path"}
"""`path` is that of the file: collectors say so."""
RAW_ONLY = {"v", "digest", "sections", "bodies", "bytes"}
"""Facts about requests and people that are asked for rarely enough; the trail's own are in `raw` as well."""


def columns() -> dict[str, str]:
    """Name → what it is computed from."""
    column = r"^    ([a-z_]+) [A-Z]\w+(?:\(.*?\))?(?: MATERIALIZED (.*?\)))?(?: CODEC\(.*\))?,$"
    return dict(re.findall(column, TABLE, flags=re.MULTILINE))


def test_the_table_has_a_column_for_each_fact_of_requests_and_acts() -> None:
    facts = {name for kind in REDACTED for name in facts_of(kind)} | CHAIN
    named = {RENAMED.get(name, name) for name in facts}
    assert columns().keys() == (named - RAW_ONLY) | OF_THE_FILE | FROM_USAGE
    assert COLUMNS.keys() <= facts


def test_each_column_is_computed_from_the_fact_of_its_name() -> None:
    facts = {new: old for old, new in RENAMED.items()}
    for name, source in columns().items():
        if name not in OF_THE_FILE | FROM_USAGE:
            assert f"(raw, '{facts.get(name, name)}'" in source, name
    assert (columns()["path"], columns()["raw"]) == ("", "")  # what a collector inserts, and nothing else
