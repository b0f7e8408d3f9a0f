"""Records for other programs: JSON lines, CSV, Parquet, and SQL through DuckDB, which is the extra `sql`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import orjson

from gateway.audit.reading import Record, files_of

if TYPE_CHECKING:
    import duckdb

COLUMNS: Mapping[str, str] = {
    "time": "TIMESTAMP",
    "kind": "VARCHAR",
    "seq": "BIGINT",
    **dict.fromkeys(("request_id", "client_request_id", "generation_id", "tenant", "tenant_key"), "VARCHAR"),
    **dict.fromkeys(("client", "method", "path"), "VARCHAR"),
    **dict.fromkeys(("operation", "provider", "vendor", "account", "model", "upstream_model", "level"), "VARCHAR"),
    **dict.fromkeys(("public_ids", "upstream_ids"), "VARCHAR[]"),
    **dict.fromkeys(("thread", "public_id", "upstream_id", "run", "run_status"), "VARCHAR"),
    "status": "INTEGER",
    **dict.fromkeys(("outcome", "finish_reason", "error_source", "error_code", "cache", "idempotency"), "VARCHAR"),
    "attempts": "JSON",
    **dict.fromkeys(("attempts_total", "takeovers", "bytes_in", "bytes_out", "events", "text_length"), "BIGINT"),
    **dict.fromkeys(("first_byte_s", "duration_s"), "DOUBLE"),
    **dict.fromkeys(("usage", "content"), "JSON"),
    **dict.fromkeys(("who", "act", "what", "name", "reason", "prev", "h"), "VARCHAR"),
}
"""Columns of the table `records`, and their types in DuckDB. `time` is UTC."""

_LARGEST_RECORD = 64 * 1024 * 1024


class NoDuckDB(Exception):
    """The extra `sql` is not installed."""


class QueryFailed(Exception):
    """DuckDB cannot answer; the message is its own."""


def write_lines(records: Iterable[Record], out: BinaryIO) -> None:
    for record in records:
        out.write(orjson.dumps(record) + b"\n")


def write_csv(records: Iterable[Record], out: BinaryIO) -> None:
    """All columns, lists and objects as JSON. A cell that a spreadsheet would take for a formula gets an apostrophe in
    front."""
    text = io.TextIOWrapper(out, encoding="utf-8", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for record in records:
        writer.writerow([_cell(record.get(name)) for name in COLUMNS])
    text.detach()


def _cell(value: Any) -> Any:
    if type(value) in (dict, list):
        value = orjson.dumps(value).decode()
    return f"'{value}" if type(value) is str and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def write_parquet(records: Iterable[Record], out: Path) -> None:
    """Through a file of lines beside it. Raises NoDuckDB, OSError."""
    lines = out.with_name(f".{out.name}.jsonl")
    try:
        with lines.open("wb") as file:
            write_lines(records, file)
        connection = _connect()
        with connection:
            connection.sql(_reading([lines])).write_parquet(str(out))
    finally:
        lines.unlink(missing_ok=True)


@contextmanager
def tables(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """DuckDB with the view `records` over a trail as it is now. What is asked there reads this folder and nothing else,
    and writes nothing. Raises NoDuckDB, OSError."""
    files = [file.path for file in files_of(folder)]
    connection = _connect()
    with connection:
        connection.sql(_reading(files)).create_view("records")
        connection.execute(f"SET allowed_directories = [{_quoted(str(folder) + '/')}]")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        yield connection


def ask(connection: duckdb.DuckDBPyConnection, query: str) -> Iterator[dict[str, str | int | float | None]]:
    """The rows that answer a query, as they come. Raises QueryFailed."""
    import duckdb

    try:
        answer = connection.execute(query)
        names = [column[0] for column in answer.description or ()]
        while rows := answer.fetchmany(1000):
            for row in rows:
                yield dict(zip(names, map(_plain, row), strict=True))
    except duckdb.Error as exc:
        raise QueryFailed(str(exc)) from exc


def _plain(value: Any) -> str | int | float | None:
    if value is None or type(value) in (str, int, float):
        return value  # type: ignore[no-any-return]
    return orjson.dumps(value, default=str).decode() if isinstance(value, dict | list | bool) else str(value)


def _connect() -> duckdb.DuckDBPyConnection:
    try:
        import duckdb
    except ImportError as exc:
        raise NoDuckDB("this needs DuckDB: pip install 'threads-gateway[sql]'") from exc
    # Nothing is fetched from anywhere, whatever a question mentions.
    return duckdb.connect(config={"autoinstall_known_extensions": False, "autoload_known_extensions": False})


def _reading(files: Iterable[Path]) -> str:
    """A query for the records in files; a last line that is not whole is no record."""
    columns = ", ".join(f"{_quoted(name)}: {_quoted(kind)}" for name, kind in COLUMNS.items())
    names = ", ".join(_quoted(str(file)) for file in files)
    if not names:
        nothing = ", ".join(f'NULL::{kind} AS "{name}"' for name, kind in COLUMNS.items())
        return f"SELECT {nothing} WHERE false"
    return (
        f"SELECT * FROM read_json([{names}], format = 'newline_delimited', ignore_errors = true, "  # noqa: S608
        f"maximum_object_size = {_LARGEST_RECORD}, columns = {{{columns}}}) WHERE kind IS NOT NULL"
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
