"""llmock: makes its answers up from the request, and calls a tool that it is offered. It fails by chance or by order,
and has a verdict on how its clients took it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from tests.environments import STAND_INS, python_of
from tests.stand_ins.stand_in import StandIn, process


class Llmock(StandIn):
    name = "llmock"

    async def behave(self, *behaviors: Mapping[str, Any]) -> None:
        """For the next requests: `{"type": "fail", "status": 429, "retry_after": 0.5, "times": 2}` and the like."""
        await self.say("/_llmock/scenario", {"behaviors": behaviors})

    async def verdict(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = await self.ask("/_llmock/verdict")
        return found

    async def journal(self) -> Sequence[Mapping[str, Any]]:
        found: Sequence[Mapping[str, Any]] = (await self.ask("/_llmock/requests"))["requests"]
        return found


@asynccontextmanager
async def llmock(session: aiohttp.ClientSession, **settings: str) -> AsyncIterator[Llmock]:
    """Built at first use. `settings` are its environment's: `LLMOCK_ERROR_RATE_429="0.2"`."""
    python = python_of(STAND_INS / "llmock")
    command = (python, "-m", "llmock.cli", "serve", "--port", "0")
    async with process(*command, PATH=os.environ["PATH"], PYTHONUNBUFFERED="1", **settings) as where:
        yield Llmock(where, session)
