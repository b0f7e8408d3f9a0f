"""A gateway that runs, and a shell beside it."""

from __future__ import annotations

import asyncio
import importlib
import io
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from ruamel.yaml import YAML

import gateway
from gateway.app import App
from gateway.cli import _parser
from gateway.commands.command_failed import CommandFailed
from gateway.config import Config, load
from gateway.model import Directory
from gateway.store.key_states import KeyPlace
from gateway.store.shared import Shared
from tests.conftest import Events, StartVendor, Vendor, environ_for, settings_for

ROOT = Path(gateway.__file__).parents[1]
PATIENCE_S = 30


@dataclass
class Ended:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> Any:
        return orjson.loads(self.out)


class Shell:
    """Runs `threads-gateway` as a process of its own, in the gateway's folder."""

    def __init__(self, config: Path, environ: dict[str, str]) -> None:
        self.config = config
        self.environ = {**os.environ, **environ, "PYTHONPATH": str(ROOT), "LOGNAME": "ann"}
        self.folder = config.parent

    async def __call__(self, *words: str, expect: int = 0) -> Ended:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway.cli", *words, "--config", str(self.config)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=self.folder,
            env=self.environ,
        )
        async with asyncio.timeout(PATIENCE_S):
            out, err = await process.communicate()
        ended = Ended(process.returncode or 0, out.decode(), err.decode())
        assert ended.code == expect, ended
        assert not [secret for secret in self.environ_secrets if secret in ended.out + ended.err]
        return ended

    @property
    def environ_secrets(self) -> list[str]:
        return [value for value in self.environ.values() if value.startswith("sk-")]


@dataclass
class Scene:
    """A gateway on an embedded store, in front of one vendor, and a shell."""

    vendor: Vendor
    shared: Shared
    shell: Shell
    directory: Directory
    config: Config

    async def run(self, *words: str, expect: int = 0) -> Ended:
        """As the shell does, but in this process: half a second sooner."""
        given = _parser().parse_args([*words, "--config", str(self.shell.config)])
        command = importlib.import_module(f"gateway.commands.{given.module}")
        printed = io.TextIOWrapper(io.BytesIO(), write_through=True)
        with redirect_stdout(printed):
            try:
                ended = Ended(await command.run(given, self.config), "", "")
            except CommandFailed as failed:
                ended = Ended(failed.code, "", f"threads-gateway: {failed}\n")
        ended.out = printed.buffer.getvalue().decode()  # type: ignore[attr-defined]
        assert ended.code == expect, ended
        return ended

    def place(self, account: str, key: str) -> KeyPlace:
        found = self.directory.providers["openai"].accounts[account]
        return next(KeyPlace.of(found, each) for each in found.keys if each.name == key)


Change = Callable[[dict[str, Any]], None]


def write_config(folder: Path, vendor: Vendor, change: Change = lambda settings: None) -> Shell:
    """A configuration whose store is the embedded one, in a folder of the working directory."""
    settings = settings_for([vendor], "unused")
    settings["store"] = {"data_dir": "var"}
    change(settings)
    path = folder / "gateway.yaml"
    with path.open("w") as file:
        YAML(typ="safe", pure=True).dump(settings, file)
    return Shell(path, environ_for([vendor]))


@pytest.fixture
async def scene(
    start_vendor: StartVendor, tmp_path: Path, events: Events, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Scene]:
    monkeypatch.chdir(tmp_path)
    vendor = await start_vendor("openai")
    shell = write_config(tmp_path, vendor)
    config = load(shell.config, shell.environ)
    app = App(config)
    await app.start()
    assert app.shared is not None
    yield Scene(vendor, app.shared, shell, Directory(config), config)
    await app.stop(grace_s=1)
