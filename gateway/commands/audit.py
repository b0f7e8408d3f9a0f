"""`threads-gateway audit`: questions to the audit trail. They read files, and need neither gateway nor store."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO

import orjson

from gateway.audit import export
from gateway.audit.hmac_key import HmacKeyUnusable, load_hmac_key
from gateway.audit.questions import Mark, Question, is_status, read_time
from gateway.audit.reading import Following, WrittenTrail
from gateway.audit.reading import Row as TrailRow
from gateway.audit.redaction import Redactor
from gateway.audit.stats import KINDS, add_up
from gateway.commands import audit_story
from gateway.commands.command_failed import CommandFailed
from gateway.commands.print_rows import Cell, Colour, Row, print_growing, print_rows
from gateway.config import Audit, Config

_LOOK_S = 0.5


@dataclass(frozen=True)
class Place:
    """A trail, and what is needed to ask it. `redactor` is None where the installation's key is not."""

    settings: Audit
    trail: WrittenTrail
    redactor: Redactor | None

    @property
    def mark(self) -> Mark | None:
        return self.redactor.mark if self.redactor is not None else None

    @property
    def bodies(self) -> Path:
        return self.trail.folder / "bodies"


def run(given: argparse.Namespace, config: Config | None) -> int:
    """Do what the command line says. The exit code: 1 if something was not found, or could not be read.

    Raises CommandFailed and ConfigError.
    """
    place = _open(given, config)
    work: Mapping[str, Callable[[argparse.Namespace, Place], int]] = {
        "tail": _tail,
        "search": _search,
        "show": lambda given, place: audit_story.show(given, place.trail, place.bodies, place.mark),
        "thread": lambda given, place: audit_story.thread(given, place.trail, place.mark),
        "stats": _stats,
        "export": _export,
        "sql": _sql,
        "hash": _hash,
    }
    try:
        code = work[given.act](given, place)
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 0
    except (export.NoDuckDB, export.QueryFailed) as exc:
        raise CommandFailed(str(exc)) from exc
    except OSError as exc:
        raise CommandFailed(f"{exc.filename or place.trail.folder}: {exc.strerror or exc}") from exc
    for fault in place.trail.faults:
        print(f"threads-gateway: {fault}", file=sys.stderr)
    return 1 if place.trail.faults else code


def _open(given: argparse.Namespace, config: Config | None) -> Place:
    settings = config.audit if config is not None else Audit(dir=given.dir)
    if not settings.dir.is_dir():
        raise CommandFailed(f"there is no trail in {settings.dir.absolute()}")
    try:
        key = load_hmac_key(settings.dir, settings.hmac_key, make=False)
    except (HmacKeyUnusable, OSError) as exc:
        if given.act == "hash":
            raise CommandFailed(f"{exc}; with a key in the configuration say --config") from exc
        return Place(settings, WrittenTrail(settings.dir), None)
    return Place(settings, WrittenTrail(settings.dir), Redactor(key, settings.redact))


# --- records as they come ---------------------------------------------------------------------------------------------
def _tail(given: argparse.Namespace, place: Place) -> int:
    question, mark = question_of(given), place.mark
    wanted, needles = partial(question.matches, mark=mark), question.needles(mark)
    following = Following(place.trail.folder)
    last = place.trail.last(given.lines, needles=needles, wanted=wanted)
    rows: Iterable[TrailRow] = last
    if given.follow:
        seen = {(row.file, row.record.get("seq")) for row in last}
        followed = _followed(last, following, lambda row: (row.file, row.record.get("seq")) not in seen)
        rows = (row for row in followed if wanted(row.record))
    _print(rows, given, at_once=1 if given.follow else 200)
    return 0


def _followed(last: Iterable[TrailRow], following: Following, is_new: Callable[[TrailRow], bool]) -> Iterator[TrailRow]:
    yield from last
    while True:
        yield from filter(is_new, following.rows())
        sys.stdout.flush()
        time.sleep(_LOOK_S)


def _search(given: argparse.Namespace, place: Place) -> int:
    count = _print(_found(given, place), given)
    return 0 if count else 1


def _found(given: argparse.Namespace, place: Place) -> Iterator[TrailRow]:
    question, mark = question_of(given), place.mark
    since, until = _time(given.since, ""), _time(given.until, "~")
    for row in place.trail.read(needles=question.needles(mark), since=since, until=until):
        if question.matches(row.record, mark):
            yield row


def question_of(given: argparse.Namespace) -> Question:
    """Raises CommandFailed for what is no status."""
    if given.status is not None and not is_status(given.status):
        raise CommandFailed(f"{given.status!r} is no status such as 404 or 5xx", code=2)
    return Question(
        tenant=given.tenant,
        id=given.thread,
        operation=given.operation,
        provider=given.provider,
        status=given.status,
        text=given.text,
    )


def _time(text: str | None, default: str) -> str:
    if text is None:
        return default
    try:
        return read_time(text, datetime.now(UTC))
    except ValueError as exc:
        raise CommandFailed(f"{text!r} is no time such as 2026-11-22, 2026-11-22T03:14 or 2h", code=2) from exc


def _print(rows: Iterable[TrailRow], given: argparse.Namespace, *, at_once: int = 200) -> int:
    """Print records, and count them: tables for people, lines as they are for programs."""
    count = 0

    def counted() -> Iterator[TrailRow]:
        nonlocal count
        for row in rows:
            count += 1
            yield row

    if given.as_json:
        for row in counted():
            sys.stdout.buffer.write(orjson.dumps(row.record) + b"\n")
            if at_once == 1:
                sys.stdout.buffer.flush()
    else:
        print_growing(map(_line, counted()), paint, at_once=at_once)
    return count


def _line(row: TrailRow) -> Row:
    record = row.record
    ids = record.get("public_ids") or [None]
    return {
        "time": str(record.get("time"))[:23],
        "what": str(record.get("kind")),
        "tenant": _cell(record.get("tenant")),
        "operation": _cell(record.get("operation") or record.get("act")),
        "provider": _cell(record.get("provider")),
        "status": _cell(record.get("status")),
        "outcome": _cell(record.get("error_code") or record.get("outcome") or record.get("run_status")),
        "took_s": _cell(record.get("duration_s")),
        "object": _cell(record.get("public_id") or record.get("run") or ids[-1] or record.get("name")),
        "request": _cell(record.get("request_id")),
    }


def _cell(value: object) -> Cell:
    return value if isinstance(value, str | int | float) else None


def paint(row: Row) -> Colour | None:
    """Red what the gateway or a provider failed at, yellow what was refused or left."""
    status, outcome = row.get("status"), row.get("outcome")
    if (isinstance(status, int) and status >= 500) or outcome in ("cut", "crashed", "internal_error", "failed"):
        return "red"
    if (isinstance(status, int) and status >= 400) or outcome in ("aborted", "caller_left", "broken_off"):
        return "yellow"
    return "dim" if str(row.get("what")).startswith(("file.", "trail.")) else None


# --- sums, and other programs -----------------------------------------------------------------------------------------
def _stats(given: argparse.Namespace, place: Place) -> int:
    question = Question(tenant=given.tenant, provider=given.provider, kinds=KINDS)
    since, until = _time(given.since, ""), _time(given.until, "~")
    rows = place.trail.read(needles=question.needles(place.mark), since=since, until=until)
    sums = add_up(row.record for row in rows if question.matches(row.record, place.mark))
    print_rows(
        [
            {"day": day, "tenant": tenant, "provider": provider, **asdict(each)}
            for (day, tenant, provider), each in sums.items()
        ],
        as_json=given.as_json,
    )
    return 0


def _export(given: argparse.Namespace, place: Place) -> int:
    records = (row.record for row in _found(given, place))
    if given.format == "parquet":
        if given.output is None:
            raise CommandFailed("a Parquet file needs --output FILE", code=2)
        export.write_parquet(records, given.output)
        return 0
    with _output(given.output) as out:
        write = export.write_csv if given.format == "csv" else export.write_lines
        write(records, out)
    return 0


@contextmanager
def _output(path: Path | None) -> Iterator[BinaryIO]:
    if path is None:
        yield sys.stdout.buffer
    else:
        with path.open("wb") as file:
            yield file


def _sql(given: argparse.Namespace, place: Place) -> int:
    with export.tables(place.trail.folder) as connection:
        rows = export.ask(connection, given.query)
        if given.as_json:
            print_rows(list(rows), as_json=True)
        else:
            print_growing(rows)
    return 0


def _hash(given: argparse.Namespace, place: Place) -> int:
    redactor = place.redactor
    assert redactor is not None
    if given.file is not None:
        shown = redactor.mark_bytes(given.file.read_bytes())
    else:
        value = sys.stdin.read().removesuffix("\n") if given.value == "-" else given.value
        shown = redactor.mark(value) if given.field is None else str(redactor.facts({given.field: value})[given.field])
    print_rows([{"hash": shown}], as_json=True) if given.as_json else print(shown)
    return 0
