"""Programs that reach assistants through LangChain."""

from __future__ import annotations

import asyncio

import pytest

from tests.clients.conftest import DOORS, INSTALL_S, Stand
from tests.environments import CLIENTS, python_of

pytestmark = [pytest.mark.long, pytest.mark.timeout(INSTALL_S)]
CLIENT = "langchain"
ANSWER = "The tools answered: rain in Zürich; rain in Oslo"
SEEN = {
    "asked": [["get_weather", '{"city": "Zürich"}']],
    "asked_again": [["get_weather", '{"city": "Oslo"}']],
    "answered": ANSWER,
    "streamed": "You said: hello",
    "executed": ANSWER,
    "executed_steps": [[{"city": "Zürich"}, "rain in Zürich"], [{"city": "Oslo"}, "rain in Oslo"]],
    "executed_then": "You said: hello",
    "stayed": True,
    "awaited": [{"city": "Zürich"}, {"city": "Oslo"}],
    "awaited_end": "The tools answered: snow; fog",
}


@pytest.mark.client(name="LangChain")
@pytest.mark.parametrize("door", DOORS)
async def test_langchains_assistant_calls_tools_by_hand_in_an_executor_and_asynchronously(
    stand: Stand, door: str
) -> None:
    """LangChain has no events of a run: its stream is the answer in one piece."""
    python = await asyncio.to_thread(python_of, CLIENTS / CLIENT)
    assert await stand.run(python, CLIENTS / CLIENT / "client.py", door=door) == SEEN
    assert {line["status"] for line in stand.events.named("request.done")} == {200}


@pytest.mark.client(name="LangChain", served=True)
@pytest.mark.parametrize("door", DOORS)
async def test_it_does_so_over_threads_that_the_gateway_serves(served: Stand, door: str) -> None:
    python = await asyncio.to_thread(python_of, CLIENTS / CLIENT)
    assert await served.run(python, CLIENTS / CLIENT / "client.py", door=door) == SEEN
    assert {line["status"] for line in served.events.named("request.done")} == {200}
