"""Programs that reach assistants through LangChain."""

from __future__ import annotations

import asyncio

import pytest

from tests.clients.conftest import DOORS, INSTALL_S, Stand
from tests.clients.environments import CLIENTS, python_of

pytestmark = [pytest.mark.long, pytest.mark.timeout(INSTALL_S)]
CLIENT = "langchain"
ANSWER = "The tools answered: rain in Zürich; rain in Oslo"


@pytest.mark.client(name="LangChain")
@pytest.mark.parametrize("door", DOORS)
async def test_langchains_assistant_calls_tools_by_hand_in_an_executor_and_asynchronously(
    stand: Stand, door: str
) -> None:
    """LangChain has no events of a run: its stream is the answer in one piece."""
    python = await asyncio.to_thread(python_of, CLIENT)
    assert await stand.run(python, CLIENTS / CLIENT / "client.py", door=door) == {
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
    assert {line["status"] for line in stand.events.named("request.done")} == {200}
