"""What `deploy/audit/` tells collectors fits the trail: which files, which columns, and how a copy is proved."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from gateway.audit import bodies
from gateway.audit.files import compress
from gateway.audit.verify import verify
from tests.audit.test_schema import ROOT, columns
from tests.audit.written import name_of, write

DEPLOY = ROOT / "deploy/audit"
README = (ROOT / "README.md").read_text()


def settings(name: str) -> Any:
    return YAML(typ="safe", pure=True).load(DEPLOY / name)


VECTOR, FLUENT_BIT = settings("vector.yaml"), settings("fluent-bit.yaml")
TAIL = FLUENT_BIT["pipeline"]["inputs"][0]
HTTP, S3 = FLUENT_BIT["pipeline"]["outputs"]
PATTERNS = [*VECTOR["sources"]["audit"]["include"], TAIL["path"]]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_plain_files_of_records_are_read_and_nothing_else(pattern: str, tmp_path: Path) -> None:
    """Neither what is compressed, which was read before, nor what is half made, nor bodies."""
    write(tmp_path, 2, 2).close()
    compress(tmp_path / name_of(1), unique="x")
    (tmp_path / f"{name_of(3)}.new").touch()
    (tmp_path / "bodies" / bodies.folder_of("alice")).mkdir(parents=True)
    (tmp_path / "bodies" / bodies.folder_of("alice") / "0123-20261122T03.jsonl.zst").touch()
    folder, _, name = pattern.rpartition("/")
    assert [path.name for path in sorted(tmp_path.glob(name))] == [name_of(2)]
    assert folder.endswith("/audit")
    assert not fnmatchcase(f"{folder}/{name_of(1)}.zst", pattern)


def test_collectors_send_the_columns_that_the_table_takes() -> None:
    inserted = {name for name, source in columns().items() if not source}
    assert {TAIL["key"], TAIL["path_key"]} == inserted
    assert set(re.findall(r'"(\w+)": \.', VECTOR["transforms"]["rows"]["source"])) == inserted
    assert VECTOR["sinks"]["clickhouse"]["table"] == "audit_records"
    assert "INSERT%20INTO%20default.audit_records%20" in HTTP["uri"]
    assert "CREATE TABLE IF NOT EXISTS audit_records\n" in (DEPLOY / "clickhouse.sql").read_text()
    assert S3["log_key"] == TAIL["key"]


def test_a_file_is_not_known_by_its_inode_alone() -> None:
    """The next file may get the inode of one that was compressed and removed, and would be taken for read."""
    assert VECTOR["sources"]["audit"]["fingerprint"] == {"strategy": "checksum", "lines": 1}
    assert TAIL["db.compare_filename"] is True
    assert VECTOR["sources"]["audit"]["read_from"] == "beginning"
    assert TAIL["read_from_head"] is True


def test_every_step_of_the_pipelines_is_joined_to_one_that_is_there() -> None:
    steps = {**VECTOR["sources"], **VECTOR["transforms"], **VECTOR["sinks"]}
    inputs = {name for step in steps.values() for name in step.get("inputs", ())}
    assert inputs == {*VECTOR["sources"], *VECTOR["transforms"]}
    assert all(sink["acknowledgements"] == {"enabled": True} for sink in VECTOR["sinks"].values())
    assert all(fnmatchcase(TAIL["tag"].replace("<file>", name_of()), each["match"]) for each in (HTTP, S3))
    assert re.search(TAIL["tag_regex"].replace("(?<", "(?P<"), f"/var/{name_of()}")


def test_a_copy_from_objects_is_proved_as_the_readme_says(tmp_path: Path) -> None:
    """Lines in any order, some of them twice: put in order they are the file, byte for byte."""
    folder, copy = tmp_path / "audit", tmp_path / "copy"
    copy.mkdir()
    write(folder, 30).close()
    lines = (folder / name_of()).read_bytes().splitlines(keepends=True)
    arrived = [*lines, *lines[5:15]]
    random.Random(7).shuffle(arrived)
    command = re.search(r"\| (sort -t: [^|>\n]*) >", README)
    assert command is not None
    if shutil.which("sort") is None:
        pytest.skip("no sort here")
    ordered = subprocess.run(command[1].split(), input=b"".join(arrived), stdout=subprocess.PIPE, check=True)
    (copy / name_of()).write_bytes(ordered.stdout)
    assert ordered.stdout == b"".join(lines)
    assert verify(copy).is_good
