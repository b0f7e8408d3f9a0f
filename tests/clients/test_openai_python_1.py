"""Programs that stayed with 1.x of OpenAI's Python SDK."""

from __future__ import annotations

import asyncio

import pytest

from tests.clients.conftest import DOORS, INSTALL_S, Stand
from tests.clients.conversation import assert_went_well
from tests.clients.environments import CLIENTS, python_of

pytestmark = [pytest.mark.long, pytest.mark.timeout(INSTALL_S)]
CLIENT = "openai_python_1"


@pytest.mark.parametrize("door", DOORS)
async def test_the_last_1x_of_the_python_sdk_holds_a_conversation_with_tools_and_streams(
    stand: Stand, door: str
) -> None:
    python = await asyncio.to_thread(python_of, CLIENT)
    assert_went_well(stand, await stand.run(python, CLIENTS / CLIENT / "client.py", door=door))
    assert {each.headers["User-Agent"].split()[-1].split(".")[0] for each in stand.vendor.simulator.journal} == {"1"}
