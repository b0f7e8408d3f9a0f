"""The README's table says what the tests prove, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import quoteattr

import pytest

from tests import table
from tests.table import CALLS, Evidence

EVERYWHERE = dict.fromkeys(table.COLUMNS, dict.fromkeys(CALLS, 200))


def seen(
    client: str | None, calls: Mapping[str, Mapping[str, int]], *, test: str = "", is_long: bool = False
) -> Evidence:
    return Evidence(test or f"tests/test_{client}.py::test_calls", client, is_long, calls)


def rows(evidence: Sequence[Evidence]) -> dict[str, list[str]]:
    """The table that is rendered: first cell → the others; the header is under `operations`."""
    lines = [line for line in table.render(evidence).splitlines() if line.startswith("|") and "---" not in line]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {first: others for first, *others in cells}


def legend(evidence: Sequence[Evidence]) -> list[str]:
    return [line for line in table.render(evidence).splitlines() if line.startswith("- ")]


# --- cells ----------------------------------------------------------------------------------------------------------


def test_where_no_test_stands_behind_a_cell_it_says_so() -> None:
    shown = rows([])
    assert {cell for others in shown.values() for cell in others} == {
        "not tested",
        ", ".join([*(f"`{vendor}`" for vendor in table.COLUMNS[:-1]), "*served*"]),
    }
    shown = rows([seen("ann", {"openai": {"create_thread": 200}})])
    assert shown["operations"][0] == "`openai`"
    assert shown["**threads**: create"] == ["A", "not tested"]
    assert shown["**threads**: get, modify, delete"] == ["not tested", "not tested"]


def test_rows_and_columns_that_say_the_same_are_one() -> None:
    """A family is split where its cells differ, a vendor stands apart where it does."""
    assert len(rows([seen("ann", EVERYWHERE)])["**files**: upload, list, get, delete, get content"]) == 1
    but = {**EVERYWHERE, "azure": {call: 200 for call in CALLS if call != "get_file"}}
    shown = rows([seen("ann", but)])
    assert shown["operations"][1] == "`azure`"
    assert shown["**files**: upload, list, delete, get content"] == ["A", "A"]
    assert shown["**files**: get"] == ["A", "not tested"]
    assert not any(
        len(set(cells)) > 1 for first, cells in shown.items() if first not in ("operations", "**files**: get")
    )


def test_every_call_has_its_place_once() -> None:
    placed = [table.family_of(call) for call in CALLS]
    assert len(set(placed)) == len(placed)
    assert sorted(call for calls in table.families().values() for call in calls) == sorted(CALLS)
    assert {family.removesuffix(", streamed") for family, _ in placed} == {family for _, family, _ in table.FAMILIES}


def test_a_stream_is_a_call_of_its_own() -> None:
    shown = rows([seen("ann", {"openai": {"create_run streamed": 200}})])
    assert shown["**runs, streamed**: create"][0] == "A"
    assert (
        shown["**runs**: create thread and run, list, create, get, modify, cancel, submit tool outputs"][0]
        == "not tested"
    )


def test_a_refusal_is_shown_with_its_status() -> None:
    """Beside a success of somebody else, if there is one."""
    shown = rows([seen(None, {"openai_v1": {"delete_message": 400}})])
    assert shown["**messages**: delete"] == ["not tested", "400"]
    shown = rows([seen("ann", EVERYWHERE), seen(None, {"openai_v1": {"delete_message": 400}})])
    assert shown["**messages**: delete"] == ["A", "A; 400"]


def test_clients_with_the_same_cells_share_a_letter() -> None:
    """The one that was seen with most comes first; classes of one program are said once."""
    little = {"openai": {"create_run": 200, "get_run": 200}}
    programs = [
        seen("sdk 1 as OpenAI", little, test="tests/b.py::test_sdk", is_long=True),
        seen("sdk 1 as AzureOpenAI", little, test="tests/b.py::test_sdk", is_long=True),
        seen("plain", {"azure": {"create_run": 200}}, test="tests/c.py::test_plain"),
        seen("sdk 2", EVERYWHERE, test="tests/a.py::test_sdk"),
        seen(None, {"openai": {"get_run": 404, "list_runs": 400}}, test="tests/d.py::test_refusals"),
    ]
    assert legend(programs) == [
        "- **A** sdk 2: `tests/a.py`",
        "- **B** sdk 1, as `AzureOpenAI` and `OpenAI`: `tests/b.py` (long)",
        "- **C** plain: `tests/c.py`",
        "- **400, 404** refused with this status: `tests/d.py`",
    ]
    assert rows(programs)["**runs**: create"] == ["A B", "A C", "A"]


@pytest.mark.parametrize(("vendor", "call"), [("nobody", "get_run"), ("openai", "get_walk")])
def test_what_the_gateway_does_not_know_is_no_row_or_column(vendor: str, call: str) -> None:
    with pytest.raises(table.CannotTell, match=f"tells of {call} at {vendor}, which the gateway does not know"):
        table.render([seen("ann", {vendor: {call: 200}})])


# --- what a test proves ---------------------------------------------------------------------------------------------


def line(operation: str, status: int, **more: object) -> dict[str, object]:
    return {"event": "request.done", "vendor": "openai", "operation": operation, "status": status, **more}


def test_of_a_client_successes_count_and_of_a_refusal_the_rest() -> None:
    """Neither what never got to a vendor, nor an answer that was broken off, nor what is no operation of the table."""
    events = [
        {"event": "store.ready"},
        {"event": "request.done", "operation": "get_thread", "status": 404},
        line("get_file", 200),
        line("create_run", 200, events=7),
        line("create_thread_and_run", 200, events=3, outcome="broken_off"),
        line("get_thread", 404),
        line("passthrough", 200),
    ]
    assert table.calls_in(events, "ann") == {"openai": {"create_run streamed": 200, "get_file": 200}}
    served = {"served": {"create_run streamed": 200, "get_file": 200}}
    assert table.calls_in(events, "ann", column=table.SERVED) == served
    assert table.calls_in(events, None) == {"openai": {"get_thread": 404}}


def test_a_stream_that_is_taken_up_again_is_read_as_its_run_is() -> None:
    assert table.calls_in([line("get_run", 200, events=3)], "ann") == {"openai": {"get_run": 200}}


@pytest.mark.parametrize(
    ("said", "client"),
    [
        ([], None),
        ([{"name": "sdk 1"}], "sdk 1"),
        ([{"door": "AzureOpenAI"}, {"name": "sdk 1"}], "sdk 1 as AzureOpenAI"),
        # What stands at the test goes before what stands at its module.
        ([{"door": "AzureOpenAI"}, {"name": "sdk 1", "door": "OpenAI"}], "sdk 1 as AzureOpenAI"),
    ],
)
def test_a_clients_name_is_put_together_from_all_markers(said: list[dict[str, str]], client: str | None) -> None:
    assert table.client_of(said) == client


def test_only_tests_that_passed_prove_something(tmp_path: Path) -> None:
    good, bad, skipped = (seen(name, EVERYWHERE) for name in ("good", "bad", "skipped"))
    path = results(tmp_path, (good, ""), (bad, "<failure/>"), (skipped, "<skipped/>"))
    proved, ran = table.read_results([path])
    assert proved == [good]
    assert ran == {each.test for each in (good, bad, skipped)}


def results(folder: Path, *cases: tuple[Evidence, str]) -> Path:
    """What pytest writes of tests that end in this way."""

    def spelt(evidence: Evidence) -> str:
        name, value = table.as_property(evidence)
        return f'<properties><property name="{name}" value={quoteattr(value)}/></properties>'

    path = folder / "results.xml"
    inner = "".join(f'<testcase name="a">{spelt(evidence)}{outcome}</testcase>' for evidence, outcome in cases)
    path.write_text(f'<testsuites><testsuite><testcase name="another"/>{inner}</testsuite></testsuites>')
    return path


# --- the command ----------------------------------------------------------------------------------------------------


class Documents:
    """A README and what the long tests proved, and the command on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.readme, self.proved = folder / "README.md", folder / "proved.json"
        self.readme.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n")

    def __call__(self, *options: str, tests: Sequence[Evidence], outcome: str = "") -> int:
        path = results(self.folder, *((each, outcome) for each in tests))
        return table.main([*options, str(path)], readme=self.readme, proved=self.proved)


@pytest.fixture
def documents(tmp_path: Path) -> Documents:
    return Documents(tmp_path)


SHORT = seen("short", {"openai": {"create_thread": 200}})
LONG = seen("long", {"openai": {"get_thread": 200}}, is_long=True)


def test_what_is_written_passes_the_check_and_the_rest_of_the_readme_stays(documents: Documents) -> None:
    assert documents(tests=[SHORT, LONG]) == 0
    text = documents.readme.read_text()
    assert text == f"before\n{table.BEGIN}\n{table.render([SHORT, LONG])}\n{table.END}\nafter\n"
    assert documents("--check", tests=[SHORT, LONG]) == 0
    assert documents.readme.read_text() == text


@pytest.mark.parametrize("change", ["a cell by hand", "a test that is gone", "a test that fails", "a proof by hand"])
def test_a_table_that_is_not_what_the_tests_say_fails_the_check(
    documents: Documents, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Showing the line, and changing nothing."""
    documents(tests=[SHORT, LONG])
    tests, outcome, path = [SHORT, LONG], "", documents.readme
    if change == "a cell by hand":
        path.write_text(
            path.read_text().replace("**threads**: modify, delete | not tested", "**threads**: modify, delete | A")
        )
    elif change == "a test that is gone":
        tests = [LONG]
    elif change == "a test that fails":
        outcome = "<failure/>"
    else:
        path = documents.proved
        path.write_text(path.read_text().replace("get_thread", "get_file"))
    before = path.read_text()
    assert documents("--check", tests=tests, outcome=outcome) == 1
    told = capsys.readouterr()
    assert f"--- {path.name} as it is" in told.out
    assert "make table" in told.err
    assert path.read_text() == before


def test_what_long_tests_proved_stands_while_they_are_there(
    documents: Documents, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents(tests=[SHORT, LONG])
    monkeypatch.setattr(table, "collected", lambda files: {LONG.test} if files == ["tests/test_long.py"] else set())
    assert documents("--check", tests=[SHORT]) == 0
    monkeypatch.setattr(table, "collected", lambda files: set())
    assert documents("--check", tests=[SHORT]) == 1
    documents(tests=[SHORT])
    assert "B" not in rows_of(documents)
    assert documents.proved.read_text() == "{}\n"


def rows_of(documents: Documents) -> str:
    return documents.readme.read_text().partition("- **A**")[0]


def test_a_long_test_that_ran_and_failed_proves_nothing_any_more(documents: Documents) -> None:
    documents(tests=[LONG])
    assert documents("--check", tests=[LONG], outcome="<failure/>") == 1


def test_tests_are_found_by_collecting_them() -> None:
    """All that the long tests proved has a test, which is asked of pytest itself. A file that is gone has none."""
    kept = {each.test for each in table.read_kept(table.PROVED.read_text())}
    files = sorted({test.partition("::")[0] for test in kept})
    command = "import sys; from tests.table import collected; print(*sorted(collected(sys.argv[1:])), sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-c", command, *files, "tests/test_gone.py"],
        cwd=table.ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert kept
    assert kept <= set(done.stdout.splitlines())


def test_without_results_or_a_place_for_the_table_it_says_so(documents: Documents) -> None:
    with pytest.raises(table.CannotTell, match=r"no results in .*none\.xml: run make test first"):
        table.main([str(documents.folder / "none.xml")], readme=documents.readme, proved=documents.proved)
    documents.readme.write_text("no table")
    with pytest.raises(table.CannotTell, match="no place for the table"):
        documents(tests=[SHORT])
