"""aimock: says what fixtures say. Its keys are checked, what no fixture fits is a 404, and all of it stands in its
journal, with what it made of the request."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.environments import STAND_INS, folder_of
from tests.stand_ins.stand_in import KEYS, WAYS, StandIn, Way, process

Fixture = Mapping[str, Any]
_PROGRAM = Path("node_modules", "@copilotkit", "aimock", "dist", "cli.js")


class Aimock(StandIn):
    name = "aimock"

    async def teach(self, model_api: str, *fixtures: Fixture) -> None:
        """The first that fits a request answers it."""
        said = [{**each, "response": _in(WAYS[model_api], each["response"])} for each in fixtures]
        await self.say("/__aimock/fixtures", {"fixtures": said})

    async def refuse_once(self, status: int, **error: str) -> None:
        await self.say("/__aimock/error", {"status": status, "body": error})

    async def disturb(self, **rates: float) -> None:
        """From now on: `dropRate` (500), `rateLimitRate` (429), `malformedRate`, `disconnectRate`, each from 0 to 1."""
        await self.say("/__aimock/chaos", rates)

    async def journal(self) -> Sequence[Mapping[str, Any]]:
        found: Sequence[Mapping[str, Any]] = await self.ask("/__aimock/journal")
        return found


def _in(way: Way, response: Mapping[str, Any]) -> Mapping[str, Any]:
    reason = response.get("finishReason") or ("tool_calls" if "toolCalls" in response else "stop")
    told = way.ends.get(reason, reason)
    return response if told == reason else {**response, "finishReason": told}


@asynccontextmanager
async def aimock(session: aiohttp.ClientSession, folder: Path) -> AsyncIterator[Aimock]:
    """Built at first use, without any fixture. Its answers come in pieces of eight characters."""
    program = folder_of(STAND_INS / "aimock") / _PROGRAM
    (folder / "fixtures.json").write_text('{"fixtures": []}')
    settings = ("--port", "0", "--fixtures", str(folder / "fixtures.json"), "--chunk-size", "8")
    environ = {"PATH": os.environ["PATH"], "AIMOCK_API_KEYS": ",".join(KEYS)}
    async with process("node", program, *settings, **environ) as where:
        yield Aimock(where, session)


def calls(said: str, *functions: tuple[str, str], **more: Any) -> Fixture:
    """Who says this gets calls: name and arguments of each. `more` is what else the request must have."""
    called = [{"name": name, "arguments": arguments} for name, arguments in functions]
    return {"match": {"userMessage": said, **more}, "response": {"toolCalls": called}}


def says(said: str, text: str, **more: Any) -> Fixture:
    """Who says this gets a text."""
    return {"match": {"userMessage": said, **more}, "response": {"content": text}}
