"""Programs that use OpenAI's SDK for Node."""

from __future__ import annotations

import asyncio
import shutil

import pytest

from tests.clients.conftest import DOORS, INSTALL_S, Stand
from tests.clients.conversation import assert_was_served_well, assert_went_well
from tests.environments import CLIENTS, folder_of

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(INSTALL_S),
    pytest.mark.skipif(not (shutil.which("node") and shutil.which("npm")), reason="node and npm are not installed"),
]
CLIENT = "openai_node"
ORDERS = {
    "streamed_order": ["toolCallCreated", "toolCallDone", "end"],
    "streamed_end_order": ["textCreated", "textDone", "messageDone", "end"],
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("package", "version"),
    [
        pytest.param("openai", "7.", marks=pytest.mark.client(name="openai-node 7.x")),
        pytest.param("openai-6", "6.", marks=pytest.mark.client(name="openai-node 6.x")),
    ],
)
async def test_the_node_sdk_holds_a_conversation_with_tools_and_streams(
    stand: Stand, package: str, version: str, door: str
) -> None:
    """The newest major, and the last one that runs on Node below 22."""
    folder = await asyncio.to_thread(folder_of, CLIENTS / CLIENT)
    program = shutil.copy(CLIENTS / CLIENT / "client.mjs", folder)  # where it finds its modules
    seen = await stand.run("node", program, door=door, OPENAI_PACKAGE=package)
    assert_went_well(stand, seen, **ORDERS)
    agents = {heard.headers["User-Agent"].split()[-1] for heard in stand.vendor.simulator.journal}
    assert [agent.startswith(version) for agent in agents] == [True]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    "package",
    [
        pytest.param("openai", marks=pytest.mark.client(name="openai-node 7.x", served=True)),
        pytest.param("openai-6", marks=pytest.mark.client(name="openai-node 6.x", served=True)),
    ],
)
async def test_the_node_sdk_holds_it_over_threads_that_the_gateway_serves(
    served: Stand, package: str, door: str
) -> None:
    folder = await asyncio.to_thread(folder_of, CLIENTS / CLIENT)
    program = shutil.copy(CLIENTS / CLIENT / "client.mjs", folder)
    seen = await served.run("node", program, door=door, OPENAI_PACKAGE=package, WITHOUT_FILES="1")
    assert_was_served_well(served, seen, **ORDERS)
