"""What the environments of other people's programs are built from fits together; seen without building one."""

from __future__ import annotations

import re
from pathlib import Path

import orjson
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.environments import TESTS

PYTHON = sorted(TESTS.glob("*/*/requirements.in"))
NODE = sorted(TESTS.glob("*/*/package.json"))


def test_every_program_has_a_list_of_what_it_needs() -> None:
    """There may be more lists than programs: one program can serve several versions of an SDK."""
    assert {path.parent for path in TESTS.glob("clients/*/client.*")} <= {path.parent for path in PYTHON + NODE}


@pytest.mark.parametrize("wanted", PYTHON, ids=lambda path: path.parent.name)
def test_a_python_lock_pins_what_its_list_wants_and_everything_by_hash(wanted: Path) -> None:
    lock = wanted.with_suffix(".lock").read_text()
    pins = re.findall(r"^([\w.-]+)==(\S+)(.*(?:\n    --hash=sha256:[0-9a-f]{64}.*)*)", lock, flags=re.MULTILINE)
    versions = {canonicalize_name(name): version for name, version, _ in pins}
    assert all("--hash=sha256:" in rest for _, _, rest in pins)
    for requirement in map(Requirement, wanted.read_text().splitlines()):
        assert versions[canonicalize_name(requirement.name)] in requirement.specifier
    assert "://" not in lock  # where packages come from is the reader's choice


@pytest.mark.parametrize("wanted", NODE, ids=lambda path: path.parent.name)
def test_a_node_lock_holds_what_its_list_wants_and_everything_by_hash(wanted: Path) -> None:
    lock = orjson.loads(wanted.with_name("package-lock.json").read_bytes())["packages"]
    wants = orjson.loads(wanted.read_bytes())["dependencies"]
    assert lock.pop("")["dependencies"] == wants
    assert {f"node_modules/{name}" for name in wants} <= lock.keys()
    assert all(package["integrity"].startswith("sha512-") for package in lock.values())
    assert not any("resolved" in package for package in lock.values())
