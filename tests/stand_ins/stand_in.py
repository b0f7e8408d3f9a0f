"""A stand-in as a process of its own, told over HTTP what to do, and where it speaks which model API."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.engine.models import MODEL_APIS
from tests.conftest import Vendor

START_S = 30
KEYS = {"sk-standin-acme-one": "acme", "sk-standin-acme-two": "acme", "sk-standin-bolt-one": "bolt"}
_AUTHORIZED = {"Authorization": f"Bearer {next(iter(KEYS))}"}


@dataclass(frozen=True)
class Way:
    """How a model API is spoken: the vendor that presents keys as it wants them, and its path at each stand-in. `ends`
    is what aimock has to be told so that it ends an answer as the vendor would."""

    vendor: str
    aimock: str
    llmock: str
    ends: Mapping[str, str] = field(default_factory=dict)


WAYS: Mapping[str, Way] = {
    "chat_completions": Way("openai", aimock="/v1", llmock="/v1"),
    "responses": Way("openai", aimock="/v1", llmock="/v1"),
    "anthropic_messages": Way("anthropic", aimock="/v1", llmock="/anthropic/v1", ends={"content_filter": "refusal"}),
    "gemini": Way("gemini", aimock="/v1beta", llmock="/gemini/v1beta"),
}
EACH_WAY = pytest.mark.parametrize("model_api", sorted(MODEL_APIS))


@dataclass(frozen=True)
class _Named:
    name: str


@dataclass(frozen=True)
class Behind:
    """A stand-in in the place where a gateway's settings expect a simulator (`tests.conftest.settings_for`)."""

    url: str
    dialect: _Named
    settings: Mapping[str, str]
    keys: Mapping[str, str]

    def options_of(self, account: str) -> Mapping[str, str]:
        return {}


class StandIn:
    """`where` is its address. `say` and `ask` are for its own control API."""

    name: str

    def __init__(self, where: str, session: aiohttp.ClientSession) -> None:
        self.where = where
        self._session = session

    def as_vendor(self, model_api: str) -> Vendor:
        way = WAYS[model_api]
        settings = {"serve": "threads", "model_api": model_api}
        url = self.where + getattr(way, self.name)
        return Vendor(self.name, Behind(url, _Named(way.vendor), settings, KEYS))  # type: ignore[arg-type]

    async def ask(self, path: str) -> Any:
        async with self._session.get(self.where + path, headers=_AUTHORIZED) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def say(self, path: str, body: Any = None) -> Any:
        async with self._session.post(self.where + path, json=body, headers=_AUTHORIZED) as answer:
            assert answer.status in (200, 201), await answer.text()
            return await answer.json()


@asynccontextmanager
async def process(*command: str | Path, **environ: str) -> AsyncIterator[str]:
    """A server as a child that takes any free port and says which; its address."""
    child = await asyncio.create_subprocess_exec(
        *command, env=environ, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    assert child.stdout is not None
    reading: asyncio.Task[bytes] | None = None
    try:
        async with asyncio.timeout(START_S):
            where = await _told(child.stdout)
        reading = asyncio.create_task(child.stdout.read())  # what nobody reads would stop it
        yield where
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()
        if reading is not None:
            await reading


async def _told(output: asyncio.StreamReader) -> str:
    """The address, as both say it when they listen."""
    heard = ""
    while line := (await output.readline()).decode():
        heard += line
        if found := re.search(r"(?:running|listening) on (http://127\.0\.0\.1:[1-9][0-9]*)", line):
            return found[1]
    pytest.fail(f"it ended: {heard}")
