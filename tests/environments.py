"""The environments of programs that are not ours: built from their locks at first use, kept, and built anew when a lock
changes. A program is a folder of `tests/clients` or `tests/stand_ins` with its lock.

They stand beside the suite's own environment, in a folder that git does not see. Building needs the package
registries; nothing here knows where those are, pip and npm do.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

TESTS = Path(__file__).parent
CLIENTS = TESTS / "clients"
STAND_INS = TESTS / "stand_ins"
KEPT = TESTS.parent / ".venv" / "programs"


class CannotBuild(Exception):
    """A tool failed; its own words are the message."""


def python_of(program: Path) -> Path:
    """The interpreter of an environment with exactly what the program's `requirements.lock` says."""

    def build(folder: Path) -> None:
        _run(sys.executable, "-m", "venv", "--without-pip", folder)
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", folder / "bin" / "python")
        _run(*pip, "install", "--quiet", "--require-hashes", "-r", lock)

    lock = program / "requirements.lock"
    source = lock.read_bytes() + f"{sys.version} {sys.base_prefix}".encode()
    return _built(program.name, source, build) / "bin" / "python"


def folder_of(program: Path) -> Path:
    """A folder with exactly the `node_modules` that the program's `package-lock.json` says."""

    def build(folder: Path) -> None:
        folder.mkdir()
        for file in files:
            shutil.copy(file, folder)
        _run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", folder)

    files = [program / name for name in ("package.json", "package-lock.json")]
    return _built(program.name, b"".join(file.read_bytes() for file in files), build)


def _built(name: str, source: bytes, build: Callable[[Path], None]) -> Path:
    """The program's folder for this source. Test processes that want it at the same time wait for the one that builds;
    a folder that was left half built, and those of older locks, are removed."""
    KEPT.mkdir(parents=True, exist_ok=True)
    folder = KEPT / f"{name}-{hashlib.sha256(source).hexdigest()[:12]}"
    is_complete = folder / ".complete"
    with (KEPT / f"{name}.guard").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not is_complete.exists():
            for old in KEPT.glob(f"{name}-*"):
                shutil.rmtree(old)
            build(folder)
            is_complete.touch()
    return folder


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotBuild(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
