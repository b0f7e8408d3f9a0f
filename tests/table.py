"""The README's table of what works: vendors × operations × clients, written from the results of the tests.

    make table                                     # writes it, from the last run of make test or make test-long
    python -m tests.table --check var/tests.xml    # what both end with: fails where writing would change something

A test says whose calls it makes with the marker `client`, and that it demands refusals with `refusal`; with
`served=True` they are about threads that the gateway serves, whoever the vendor of the models is. The gateway's own log
then tells what was called: one `request.done` for each request, with operation, vendor and status. Of a client's test
the successes count, of a refusal's test the rest; and only of tests that passed. No cell is typed by hand, and one that
no test stands behind says so.

Clients with environments of their own run under `make test-long` only. What they proved is kept in `PROVED`, and stands
while their tests do.
"""

from __future__ import annotations

import argparse
import difflib
import io
import re
import string
import sys
import xml.etree.ElementTree as ET
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.operations import BY_NAME, OPERATIONS
from gateway.vendors import VENDORS

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PROVED = ROOT / "tests" / "clients" / "proved.json"
BEGIN, END = "<!-- what works: written by tests/table.py -->", "<!-- what works: end -->"
PROPERTY = "evidence"
"""Name of the property of a test in the results; its value is an `Evidence` in JSON."""

STREAMED = " streamed"
CALLS = [each.name for each in OPERATIONS] + [each.name + STREAMED for each in OPERATIONS if each.streams]
"""Every row that the table could have: an operation, and again with its answer as a stream."""

SERVED = "served"
"""The column of what the gateway serves itself."""
COLUMNS = [*sorted(name for name, vendor in VENDORS.items() if vendor.has_threads), SERVED]
"""Vendors with threads of their own, and what needs none."""

NOT_TESTED = "not tested"


class CannotTell(Exception):
    """The results cannot be made a table; the message says why."""


# --- what a test proves ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Evidence:
    """What one test saw. Without a client, it saw refusals."""

    test: str
    client: str | None
    is_long: bool = False
    calls: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Column → call → status."""


def evidence_of(item: pytest.Item, events: Iterable[Mapping[str, Any]]) -> Evidence:
    """From a test that bears one of the markers, and the gateway's log of it."""
    client = client_of(mark.kwargs for mark in item.iter_markers("client"))
    marks = [mark for name in ("client", "refusal") for mark in item.iter_markers(name)]
    column = SERVED if any(mark.kwargs.get("served") for mark in marks) else None
    calls = calls_in(events, client, column=column)
    return Evidence(item.nodeid, client, item.get_closest_marker("long") is not None, calls)


def client_of(said: Iterable[Mapping[str, Any]]) -> str | None:
    """The client that the markers of a test name, from the nearest to the farthest: `client(name="openai-python
    1.20")`, and `client(door="AzureOpenAI")` for the class of it; None if there is no marker."""
    facts: dict[str, Any] = {}
    for each in said:
        facts = {**each, **facts}
    return " as ".join(facts[key] for key in ("name", "door") if key in facts) or None


def calls_in(
    events: Iterable[Mapping[str, Any]], client: str | None, *, column: str | None = None
) -> dict[str, dict[str, int]]:
    """What counts of a log: column → call → status. The column is the vendor if none is said. A request that never got
    as far as to a vendor says nothing, nor does an answer that did not come to its end."""
    found: dict[str, dict[str, int]] = {}
    for line in events:
        if line["event"] != "request.done" or "vendor" not in line or "outcome" in line:
            continue
        is_success = line["status"] == 200
        operation = BY_NAME.get(line["operation"])
        if operation is not None and is_success == (client is not None):
            # A stream that is taken up again is read as its run is.
            call = operation.name + (STREAMED if "events" in line and operation.streams else "")
            found.setdefault(column or line["vendor"], {})[call] = line["status"]
    return {vendor: dict(sorted(calls.items())) for vendor, calls in sorted(found.items())}


# --- results --------------------------------------------------------------------------------------------------------


def read_results(paths: Iterable[Path]) -> tuple[list[Evidence], set[str]]:
    """What the tests that passed have proved, and the names of all that ran and could have."""
    proved, ran = [], set()
    for path in paths:
        if not path.exists():
            raise CannotTell(f"no results in {path}: run make test first")
        for case in ET.parse(path).iter("testcase"):
            for each in case.findall(f"./properties/property[@name='{PROPERTY}']"):
                evidence = Evidence(**orjson.loads(each.attrib["value"]))
                ran.add(evidence.test)
                if all(case.find(outcome) is None for outcome in ("failure", "error", "skipped")):
                    proved.append(evidence)
    return proved, ran


def as_property(evidence: Evidence) -> tuple[str, str]:
    return PROPERTY, orjson.dumps(asdict(evidence)).decode()


def read_kept(text: str) -> list[Evidence]:
    """What the long tests proved when they last ran."""
    kept: Mapping[str, Any] = orjson.loads(text or "{}")
    return [Evidence(test, is_long=True, **facts) for test, facts in kept.items()]


def kept_text(evidence: Iterable[Evidence]) -> str:
    """One line a test, for readable differences."""
    facts = {each.test: {"client": each.client, "calls": each.calls} for each in evidence if each.is_long}
    lines = [f"{orjson.dumps(test).decode()}: {orjson.dumps(facts[test]).decode()}" for test in sorted(facts)]
    return "{\n" + ",\n".join(lines) + "\n}\n" if lines else "{}\n"


def together(proved: Sequence[Evidence], ran: Collection[str], kept: Sequence[Evidence]) -> list[Evidence]:
    """What was proved now, and what was kept of tests that did not run now and are still there."""
    waiting = [each for each in kept if each.test not in ran]
    there = collected(sorted({each.test.partition("::")[0] for each in waiting}))
    return [*proved, *(each for each in waiting if each.test in there)]


def collected(files: Sequence[str]) -> set[str]:
    """The names of the tests in these files."""

    found: set[str] = set()

    class Collector:
        def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
            found.update(item.nodeid for item in items)

    heard = io.StringIO()
    if there := [file for file in files if (ROOT / file).exists()]:
        options = ["--collect-only", "-q", "-p", "no:cacheprovider", f"--rootdir={ROOT}"]
        with redirect_stdout(heard), redirect_stderr(heard):
            code = pytest.main([*options, *(str(ROOT / file) for file in there)], plugins=[Collector()])
        if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            raise CannotTell(heard.getvalue())
    return found


# --- the table ------------------------------------------------------------------------------------------------------


@dataclass
class Cell:
    """One call at one vendor."""

    clients: set[str] = field(default_factory=set)
    refused: set[int] = field(default_factory=set)

    def show(self, letters: Mapping[str, str]) -> str:
        marks = " ".join(sorted({letters[client] for client in self.clients}))
        statuses = ", ".join(map(str, sorted(self.refused)))
        return "; ".join(filter(None, (marks, statuses))) or NOT_TESTED


def cells_of(evidence: Iterable[Evidence]) -> dict[tuple[str, str], Cell]:
    """Every call at every vendor, tested or not: (call, vendor) → cell."""
    cells = {(call, vendor): Cell() for call in CALLS for vendor in COLUMNS}
    for each in evidence:
        for vendor, calls in each.calls.items():
            for call, status in calls.items():
                if (cell := cells.get((call, vendor))) is None:
                    raise CannotTell(f"{each.test} tells of {call} at {vendor}, which the gateway does not know")
                if each.client is None:
                    cell.refused.add(status)
                else:
                    cell.clients.add(each.client)
    return cells


def letters_of(cells: Mapping[tuple[str, str], Cell]) -> dict[str, str]:
    """A letter for each client; those that were seen with the same calls at the same vendors share one. Who was seen
    with most comes first."""
    seen: dict[str, list[tuple[str, str]]] = {}
    for place, cell in cells.items():
        for client in cell.clients:
            seen.setdefault(client, []).append(place)
    alike = sorted(seen, key=lambda client: (-len(seen[client]), seen[client], client))
    groups = (list(clients) for _, clients in groupby(alike, key=lambda client: seen[client]))
    return {
        client: letter for letter, clients in zip(string.ascii_uppercase, groups, strict=False) for client in clients
    }


FAMILIES = (
    # how its operations' templates begin, the family, and how their names end
    ("/assistants", "assistants", "assistants?"),
    ("/threads", "threads", "threads?"),
    ("/threads/{thread}/messages", "messages", "messages?"),
    ("/threads/runs", "runs", "runs?"),
    ("/threads/{thread}/runs", "runs", "runs?"),
    ("/threads/{thread}/runs/{run}/steps", "run steps", "run_steps?"),
    ("/files", "files", "files?"),
    ("/vector_stores", "vector stores", "vector_stores?"),
    ("/vector_stores/{vector_store}/files", "vector store files", "store_files?"),
    ("/vector_stores/{vector_store}/file_batches", "vector store batches", "batch"),
    ("/assistants/{assistant}/files", "v1: assistant files", "assistant_files?"),
    ("/threads/{thread}/messages/{message}/files", "v1: message files", "message_files?"),
)
"""In the table's order. The longest beginning counts."""


def family_of(call: str) -> tuple[str, str]:
    """To which rows a call belongs, and what it is called there."""
    name, is_streamed = call.removesuffix(STREAMED), call.endswith(STREAMED)
    template = BY_NAME[name].template
    _, family, noun = max((row for row in FAMILIES if template.startswith(row[0])), key=lambda row: len(row[0]))
    short = re.sub(rf"^([a-z]+)_{noun}(_content)?$", r"\1\2", name).replace("_", " ")
    return family + (", streamed" if is_streamed else ""), short


def families() -> dict[str, list[str]]:
    """Family → its calls, in order."""
    order = [name + suffix for _, name, _ in FAMILIES for suffix in ("", ", streamed")]
    found: dict[str, list[str]] = {}
    for call in sorted(CALLS, key=lambda call: order.index(family_of(call)[0])):
        found.setdefault(family_of(call)[0], []).append(call)
    return found


def render(evidence: Iterable[Evidence]) -> str:
    """The block of the README: operations whose cells agree share a row, and vendors a column."""
    evidence = list(evidence)
    cells = cells_of(evidence)
    letters = letters_of(cells)
    columns: dict[tuple[str, ...], list[str]] = {}
    for vendor in COLUMNS:
        columns.setdefault(tuple(cells[call, vendor].show(letters) for call in CALLS), []).append(vendor)
    vendors = sorted(columns.values(), key=lambda group: -sum(len(cells[call, group[0]].clients) for call in CALLS))
    lines = [
        "| operations | " + " | ".join(", ".join(map(_head, group)) for group in vendors) + " |",
        "| --- |" + " --- |" * len(vendors),
    ]
    for family, calls in families().items():
        rows: dict[tuple[str, ...], list[str]] = {}
        for call in calls:
            rows.setdefault(tuple(cells[call, group[0]].show(letters) for group in vendors), []).append(call)
        for shown, same in rows.items():
            names = ", ".join(family_of(call)[1] for call in same)
            lines.append(f"| **{family}**: {names} | " + " | ".join(shown) + " |")
    return "\n".join([*lines, "", *legend(letters, evidence)])


def _head(column: str) -> str:
    return f"*{column}*" if column == SERVED else f"`{column}`"


def legend(letters: Mapping[str, str], evidence: Sequence[Evidence]) -> list[str]:
    """Who and what stands behind each mark."""
    lines = []
    for letter in sorted(set(letters.values())):
        clients = {client for client, its in letters.items() if its == letter}
        behind = [each for each in evidence if each.client in clients]
        lines.append(f"- **{letter}** {spell_out(clients)}: {files_of(behind)}")
    refusing = [each for each in evidence if each.client is None]
    statuses = {status for each in refusing for calls in each.calls.values() for status in calls.values()}
    if statuses:
        lines.append(f"- **{', '.join(map(str, sorted(statuses)))}** refused with this status: {files_of(refusing)}")
    return lines


def spell_out(clients: Iterable[str]) -> str:
    """Programs, and the classes by which they come where they have several."""
    doors: dict[str, list[str]] = {}
    for client in sorted(clients):
        name, _, door = client.partition(" as ")
        doors.setdefault(name, []).extend([f"`{door}`"] if door else [])
    names: dict[str, list[str]] = {}
    for name, through in doors.items():
        names.setdefault(" and ".join(through), []).append(name)
    return "; ".join(", ".join(same) + (f", as {through}" if through else "") for through, same in names.items())


def files_of(evidence: Iterable[Evidence]) -> str:
    """Where the tests stand, and which of them `make test` leaves out."""
    files = {each.test.partition("::")[0]: each.is_long for each in evidence}
    return ", ".join(f"`{file}`" + " (long)" * is_long for file, is_long in sorted(files.items()))


# --- the command ----------------------------------------------------------------------------------------------------


def with_block(readme: str, block: str) -> str:
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise CannotTell(f"README.md has no place for the table: {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{block}\n{END}{after}"


def difference(path: Path, before: str, after: str) -> str:
    name = path.name
    return "".join(
        difflib.unified_diff(
            before.splitlines(keepends=True), after.splitlines(keepends=True), f"{name} as it is", f"{name} as tested"
        )
    )


def main(argv: Sequence[str] | None = None, *, readme: Path = README, proved: Path = PROVED) -> int:
    """0 if all is well or written, 1 if the check found a difference."""
    parser = argparse.ArgumentParser(prog="python -m tests.table", description=__doc__.partition("\n")[0])
    parser.add_argument("results", nargs="+", type=Path, help="what pytest --junitxml wrote")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where writing would change something")
    asked = parser.parse_args(argv)
    before = {path: path.read_text() if path.exists() else "" for path in (readme, proved)}
    proved_now, ran = read_results(asked.results)
    evidence = together(proved_now, ran, read_kept(before[proved]))
    after = {readme: with_block(before[readme], render(evidence)), proved: kept_text(evidence)}
    if asked.check:
        if differences := "".join(difference(path, before[path], after[path]) for path in before):
            print(differences)
            print("the table is not what the tests say; once all of them have run: make table", file=sys.stderr)
            return 1
    else:
        for path, text in after.items():
            path.write_text(text)
    print(figures(evidence))
    return 0


def figures(evidence: Sequence[Evidence]) -> str:
    cells = cells_of(evidence)
    tested = [cell for cell in cells.values() if cell.clients or cell.refused]
    works = sum(len(cell.clients) for cell in tested)
    refused = sum(bool(cell.refused) for cell in tested)
    return (
        f"{len(tested)} of {len(cells)} cells (operation at vendor) are tested, {refused} as refusals: "
        f"{works} with their client, by {len(evidence)} tests"
    )


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CannotTell as exc:
        sys.exit(str(exc))
