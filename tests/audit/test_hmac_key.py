"""The installation's key: made once, whoever is first."""

from __future__ import annotations

import hashlib
import hmac
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.audit.hmac_key import HmacKeyUnusable, load_hmac_key
from gateway.config import Secret


def test_the_key_is_made_at_first_use_for_its_owner_alone(tmp_path: Path) -> None:
    made = load_hmac_key(tmp_path / "var" / "audit")
    path = tmp_path / "var" / "audit" / "hmac.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_hmac_key(path.parent) == made
    assert [each.name for each in path.parent.iterdir()] == ["hmac.key"]
    assert path.read_text().strip() not in repr(made)


def test_processes_that_make_it_at_the_same_moment_get_the_same(tmp_path: Path) -> None:
    code = "import sys, pathlib; sys.stdin.read(); from gateway.audit.hmac_key import load_hmac_key; "
    code += "print(load_hmac_key(pathlib.Path(sys.argv[1])).mark('x'))"
    command = [sys.executable, "-c", code, str(tmp_path / "audit")]
    racing = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for each in racing:
        assert each.stdin is not None
        each.stdin.close()
        each.stdin = None
    marks = {each.communicate()[0] for each in racing}
    assert len(marks) == 1
    assert marks.pop().startswith("hmac:")


def test_a_configured_key_leaves_the_folder_alone(tmp_path: Path) -> None:
    key = load_hmac_key(tmp_path, Secret("a configured key", "${KEY}"))
    expected = hmac.new(b"a configured key", b"bob", hashlib.sha256).hexdigest()[:32]
    assert key.mark("bob") == f"hmac:{key.kid}:{expected}"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("found", [None, b"", b"short\n", b"\xff" * 64])
def test_what_is_no_key_is_told(found: bytes | None, tmp_path: Path) -> None:
    if found is not None:
        (tmp_path / "hmac.key").write_bytes(found)
    with pytest.raises(HmacKeyUnusable, match=r"hmac\.key"):
        load_hmac_key(tmp_path, make=False)
