"""Stand-ins that run, each in its own environment, which is built at first use."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.environments import STAND_INS, folder_of, python_of
from tests.stand_ins import aimock as aimocks
from tests.stand_ins import llmock as llmocks
from tests.stand_ins.aimock import Aimock
from tests.stand_ins.llmock import Llmock


@pytest.fixture
async def aimock(tmp_path: Path, session: aiohttp.ClientSession) -> AsyncIterator[Aimock]:
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("node and npm are not installed")
    await asyncio.to_thread(folder_of, STAND_INS / "aimock")
    async with aimocks.aimock(session, tmp_path) as started:
        yield started


@pytest.fixture
async def start_llmock(session: aiohttp.ClientSession) -> AsyncIterator[Any]:
    """`await start_llmock(LLMOCK_ERROR_RATE_429="0.2")`."""
    await asyncio.to_thread(python_of, STAND_INS / "llmock")
    async with AsyncExitStack() as stack:

        async def start(**settings: str) -> Llmock:
            return await stack.enter_async_context(llmocks.llmock(session, **settings))

        yield start
