"""`audit show` and `audit thread`: one request, one thread."""

from __future__ import annotations

import argparse
import base64
import binascii
from pathlib import Path
from typing import Any

import orjson

from gateway.audit import bodies
from gateway.audit.questions import Mark, Question
from gateway.audit.reading import Row as TrailRow
from gateway.audit.reading import WrittenTrail
from gateway.audit.records import FINISHED, STARTED, call_of
from gateway.audit.story import Step, tell, tokens_of
from gateway.commands.command_failed import CommandFailed
from gateway.commands.print_rows import Cell, Colour, Row, plain, print_rows

NEVER_FINISHED = "never finished"
NOT_FINISHED = "not finished yet"


def show(given: argparse.Namespace, trail: WrittenTrail, kept: Path, mark: Mark | None) -> int:
    """All records of one request, and of the calls of models that it was the cause of; 1 if one of their bodies is
    altered, or one of them started and never finished."""
    question = Question(request=given.request)
    needles = question.needles(mark)
    rows = [row for row in trail.read(needles=needles) if question.matches(row.record, mark)]
    if not rows:
        raise CommandFailed(f"no request is known as {given.request!r}")
    told = [_told(row, kept, with_content=given.content) for row in rows]
    left = [f"{name}: {state}" for name, state in _unfinished(rows, trail)]
    if given.as_json:
        print_rows([*told, *({"note": note} for note in left)], as_json=True)
    else:
        for record in told:
            _print_record(record)
        print("\n".join(left))
    is_altered = any("altered" in (each.get("found") or "") for record in told for each in record.get("bodies", ()))
    return int(is_altered or any(NEVER_FINISHED in note for note in left))


def _unfinished(rows: list[TrailRow], trail: WrittenTrail) -> list[tuple[str, str]]:
    finished = {call_of(row.record) for row in rows if row.record.get("kind") in FINISHED}
    return [
        (str(call_of(row.record)), NEVER_FINISHED if trail.is_over(row.file) else NOT_FINISHED)
        for row in rows
        if row.record.get("kind") in STARTED and call_of(row.record) not in finished
    ]


def _told(row: TrailRow, kept: Path, *, with_content: bool) -> dict[str, Any]:
    told: dict[str, Any] = {**row.record, "file": row.file.path.name}
    content = row.record.get("content")
    if with_content and isinstance(content, dict):
        told["bodies"] = [_body(part, each, kept) for part, each in content.items() if isinstance(each, dict)]
    return told


def _body(part: str, each: dict[str, Any], kept: Path) -> dict[str, Any]:
    told = {"part": part, "found": None, "body": None}
    if "ref" not in each:
        return told | {"found": "only its digest was kept"}
    try:
        body = bodies.read(kept, each)
    except bodies.BodyGone:
        return told | {"found": "deleted"}
    except bodies.BodyAltered as exc:
        return told | {"found": f"altered: {exc}"}
    except OSError as exc:
        return told | {"found": f"cannot be read: {exc.strerror}"}
    return told | {"found": "proven" if each.get("kept") != "cut" else "proven, cut", "body": _as_json(body, each)}


def _as_json(body: str, each: dict[str, Any]) -> Any:
    if each.get("encoding") == "base64":
        try:
            return base64.b64decode(body).decode()
        except (binascii.Error, UnicodeDecodeError):
            return body
    try:
        return orjson.loads(body)
    except ValueError:  # cut
        return body


def _print_record(record: dict[str, Any]) -> None:
    print(plain(f"{record.get('time')}  {record.get('kind')}"))
    for name, value in record.items():
        if name in ("time", "kind", "v", "bodies"):
            continue
        shown = value if isinstance(value, str) else orjson.dumps(value).decode()
        print(f"  {name:<18} {plain(shown)}")
    for body in record.get("bodies", ()):
        print(f"  -- {body['part']}: {body['found']}")
        text = body["body"]
        if text is not None:
            shown = text if isinstance(text, str) else orjson.dumps(text, option=orjson.OPT_INDENT_2).decode()
            print("\n".join(f"     {plain(line)}" for line in shown.split("\n")))
    print()


def thread(given: argparse.Namespace, trail: WrittenTrail, mark: Mark | None) -> int:
    """One line for each request that named the thread, each call of a model in it, and how its runs ended."""
    question = Question(id=given.id)
    rows = trail.read(needles=question.needles(mark))
    steps = tell(row for row in rows if question.matches(row.record, mark))
    if not steps:
        raise CommandFailed(f"no record tells of {given.id!r}")
    print_rows([_step(step, trail) for step in steps], as_json=given.as_json, paint=_paint)
    return 0


def _step(step: Step, trail: WrittenTrail) -> Row:
    facts = step.facts
    into, out = tokens_of(facts.get("usage"))
    outcome = facts.get("error_code") or facts.get("outcome")
    if step.state == "started":
        outcome = NEVER_FINISHED if trail.is_over(step.file) else NOT_FINISHED
    by = f"{facts.get('tenant')}/{facts['tenant_key']}" if "tenant_key" in facts else facts.get("tenant")
    via = f"{facts.get('provider')}/{facts['account']}" if "account" in facts else facts.get("provider")
    return {
        "time": step.time[:23],
        "what": _cell(facts.get("operation") or step.state),
        "by": _cell(by),
        "object": _cell(facts.get("public_id") or facts.get("run")),
        "status": _cell(facts.get("status")),
        "outcome": _cell(outcome),
        "run": _cell(facts.get("run_status")),
        "tokens": f"{into}+{out}" if into or out else None,
        "took_s": _cell(facts.get("duration_s")),
        "via": _cell(via),
        "request": _cell(facts.get("request_id")),
    }


def _cell(value: object) -> Cell:
    return value if isinstance(value, str | int | float) else None


def _paint(row: Row) -> Colour | None:
    status, outcome = row["status"], row["outcome"]
    if outcome in (NEVER_FINISHED, "cut", "crashed") or (isinstance(status, int) and status >= 500):
        return "red"
    return "yellow" if isinstance(status, int) and status >= 400 else None
