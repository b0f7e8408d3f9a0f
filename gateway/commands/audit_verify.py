"""`threads-gateway audit verify`: whether an audit trail is as it was written."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from gateway.audit.checkpoints import PUBLIC_KEY_FILE, read_checkpoints, read_public_key, read_signing_key
from gateway.audit.files import find
from gateway.audit.verify import Progress, Report, verify
from gateway.commands.command_failed import CommandFailed
from gateway.commands.open_shared import open_store
from gateway.commands.print_rows import table
from gateway.config import Config

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_SHOWN = 50


def run(given: argparse.Namespace, config: Config | None) -> int:
    """The exit code: 0 the trail is good, 1 it has faults. Raises CommandFailed, with code 2 for what was asked."""
    folder: Path = given.dir if config is None else config.audit.dir
    try:
        files = find(folder)
        total = sum(path.stat().st_size for path in files.values())
        if not files:
            raise CommandFailed(f"{folder} has no files of a trail", code=2)
        checkpoints = [*_from_files(given.checkpoint), *_from_configured(config)]
        key = _key(given.public_key, folder, config) if checkpoints else None
        with _progress(total) as progress:
            report = verify(folder, checkpoints=checkpoints, key=key, progress=progress)
    except OSError as exc:
        raise CommandFailed(f"{exc.filename or folder} cannot be read: {exc.strerror}", code=2) from exc
    if given.as_json:
        sys.stdout.buffer.write(orjson.dumps(as_json(report), option=orjson.OPT_INDENT_2) + b"\n")
    else:
        print("\n".join(as_text(report)))
    return 0 if report.is_good else 1


def _from_files(paths: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """Raises OSError and CommandFailed: whoever names a file without checkpoints thinks it has some."""
    for path in paths:
        with path.open("rb") as file:
            found = list(read_checkpoints(file))
        if not found:
            raise CommandFailed(f"{path} has no checkpoints", code=2)
        yield from found


def _from_configured(config: Config | None) -> Iterator[dict[str, Any]]:
    """What the configured sinks have, as far as they can be read."""
    if config is None:
        return
    to = config.audit.checkpoint_to
    if to.file is not None and to.file.exists():
        with to.file.open("rb") as file:
            yield from read_checkpoints(file)
    if to.valkey:
        yield from asyncio.run(_from_store(config))


async def _from_store(config: Config) -> list[dict[str, Any]]:
    from gateway.store.checkpoints import StoredCheckpoints

    async with open_store(config) as store:
        return await StoredCheckpoints(store).read()


def _key(given: Path | None, folder: Path, config: Config | None) -> Ed25519PublicKey:
    if given is None and config is not None and config.audit.signing_key is not None:
        return read_signing_key(config.audit.signing_key.reveal()).public
    path = given or folder / PUBLIC_KEY_FILE
    try:
        return read_public_key(path.read_bytes())
    except OSError as exc:
        raise CommandFailed(f"{path} cannot be read: {exc.strerror}; say --public-key", code=2) from exc
    except ValueError as exc:
        raise CommandFailed(f"{path} {exc}", code=2) from exc


@contextmanager
def _progress(total: int) -> Iterator[Progress]:
    """A bar on standard error, if that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda read_bytes: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("verifying"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda read_bytes: bar.advance(task, read_bytes)


def as_json(report: Report) -> Mapping[str, Any]:
    return {
        "good": report.is_good,
        "records": report.records,
        "checkpoints": report.checkpoints,
        "sets": [
            {
                "replica": each.replica,
                "boot": each.boot,
                "files": each.files,
                "records": each.records,
                "first_time": each.first_time,
                "last_time": each.last_time,
                "state": each.state,
                "unfinished": [request._asdict() for request in each.unfinished],
            }
            for each in report.sets
        ],
        "faults": [fault._asdict() for fault in report.faults],
        "faults_total": report.faults_total,
        "notes": [note._asdict() for note in report.notes],
    }


def as_text(report: Report) -> Iterator[str]:
    """Lines for a person."""
    yield from table(
        [
            {
                "replica": each.replica,
                "boot": each.boot,
                "files": each.files,
                "records": each.records,
                "first": each.first_time,
                "last": each.last_time,
                "state": each.state,
                "unfinished": len(each.unfinished),
            }
            for each in report.sets
        ]
    )
    yield from _requests(report)
    yield from _notes(report)
    yield ""
    for fault in report.faults[:_SHOWN]:
        place = f"{fault.file}:{fault.line}" if fault.line is not None else fault.file
        seq = f" seq {fault.seq}" if fault.seq is not None else ""
        yield f"{place}:{seq} {fault.what.replace('_', ' ')}: {fault.detail}"
    if report.faults_total > _SHOWN:
        yield f"… and {report.faults_total - _SHOWN} more; --json has the first {len(report.faults)}"
    held = f"{report.checkpoints} checkpoints" if report.checkpoints else "no checkpoint: a cut-off end does not show"
    verdict = "good" if report.is_good else f"{report.faults_total} faults"
    yield f"{verdict}. {report.records} records, {held}."


def _requests(report: Report) -> Iterator[str]:
    """What started and never finished; of a live gateway it may be under way."""
    for each in report.sets:
        if not each.unfinished:
            continue
        yield ""
        manner = "under way, or never finished" if each.state == "live" else "started and never finished"
        yield f"{each.replica} {each.boot}: {manner}"
        for request in each.unfinished[:_SHOWN]:
            yield f"  {request.request_id}  {request.time}  {request.tenant or '-'}  {request.operation or '-'}"
        if len(each.unfinished) > _SHOWN:
            yield f"  … and {len(each.unfinished) - _SHOWN} more; --json has all"


def _notes(report: Report) -> Iterator[str]:
    if report.notes:
        yield ""
    for note in report.notes[:_SHOWN]:
        facts = ", ".join(f"{name} {value}" for name, value in note.facts.items() if name not in ("seq", "time"))
        yield f"{note.file}: seq {note.seq} {note.kind}: {facts}"
