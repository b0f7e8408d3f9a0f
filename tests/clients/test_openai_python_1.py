"""Programs that stayed with 1.x of OpenAI's Python SDK."""

from __future__ import annotations

import asyncio

import pytest

from tests.clients.conftest import DOORS, INSTALL_S, Stand
from tests.clients.conversation import assert_was_served_well, assert_went_well
from tests.environments import CLIENTS, python_of

pytestmark = [pytest.mark.long, pytest.mark.timeout(INSTALL_S)]


PROGRAM = CLIENTS / "openai_python_1" / "client.py"


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("client", "version"),
    [
        pytest.param("openai_python_1", "1.109.", marks=pytest.mark.client(name="openai-python 1.109")),
        pytest.param("openai_python_1_20", "1.20.", marks=pytest.mark.client(name="openai-python 1.20")),
    ],
)
async def test_1x_of_the_python_sdk_holds_a_conversation_with_tools_and_streams(
    stand: Stand, client: str, version: str, door: str
) -> None:
    """The last 1.x, and the last one that asks for version 1 of the protocol: the same program, the same answers."""
    python = await asyncio.to_thread(python_of, CLIENTS / client)
    assert_went_well(stand, await stand.run(python, PROGRAM, door=door))
    agents = {heard.headers["User-Agent"].split()[-1] for heard in stand.vendor.simulator.journal}
    assert [agent.startswith(version) for agent in agents] == [True]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    "client",
    [
        pytest.param("openai_python_1", marks=pytest.mark.client(name="openai-python 1.109", served=True)),
        pytest.param("openai_python_1_20", marks=pytest.mark.client(name="openai-python 1.20", served=True)),
    ],
)
async def test_1x_of_the_python_sdk_holds_it_over_threads_that_the_gateway_serves(
    served: Stand, client: str, door: str
) -> None:
    python = await asyncio.to_thread(python_of, CLIENTS / client)
    assert_was_served_well(served, await served.run(python, PROGRAM, door=door, WITHOUT_FILES="1"))
