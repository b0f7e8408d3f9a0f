"""The scripts of a user over threads that the gateway serves: what they print, word for word."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.clients.conftest import INSTALL_S
from tests.clients.scripts import ALL, TEN_MINUTES
from tests.clients.transcript import SCRIPTS, TRANSCRIPT, printed, transcript
from tests.conftest import Events, Running, StartGateway, StartVendor
from tests.environments import CLIENTS, python_of
from tests.simulators import faults, find_models


@pytest.fixture
async def over_the_simulator(
    request: pytest.FixtureRequest, start_vendor: StartVendor, start_gateway: StartGateway, events: Events
) -> AsyncIterator[Running]:
    """It stands still after the first words when it is first asked to be slow. `param` is the simulator, OpenAI's chat
    completions if it is not said."""
    vendor, until = await start_vendor(getattr(request, "param", "openai_chat")), asyncio.Event()
    vendor.simulator.faults.add(faults.stall_stream(b"said", until), where=lambda received: b"slowly" in received.body)
    yield await start_gateway(vendor)
    until.set()


@pytest.mark.client(name="openai-python 3.x", door="OpenAI", served=True)
async def test_the_scripts_print_what_is_written_down(over_the_simulator: Running) -> None:
    assert await printed(over_the_simulator, *ALL) == transcript(*ALL)


async def test_a_run_that_nobody_answers_expires(short_lives: None, over_the_simulator: Running) -> None:
    assert await printed(over_the_simulator, "expiry") == transcript("expiry")


@pytest.mark.long
@pytest.mark.parametrize("over_the_simulator", sorted(find_models()), indirect=True)
async def test_they_print_it_over_every_vendor_of_every_model_api(over_the_simulator: Running) -> None:
    assert await printed(over_the_simulator, *ALL) == transcript(*ALL)


@pytest.mark.long
@pytest.mark.timeout(INSTALL_S)
@pytest.mark.parametrize("client", ["openai_python_1", "openai_python_1_20"])
async def test_they_print_it_with_the_last_1x_of_the_sdk_and_with_the_last_that_spoke_v1(
    over_the_simulator: Running, client: str
) -> None:
    python = await asyncio.to_thread(python_of, CLIENTS / client)
    assert await printed(over_the_simulator, *ALL, python=python) == transcript(*ALL)


def test_every_script_is_in_the_transcript_once() -> None:
    """And the transcript has nothing else."""
    files = {path.stem for path in SCRIPTS.glob("[a-z]*.py")} - {"shown"}
    assert files == {*ALL, *TEN_MINUTES}
    assert transcript(*ALL, *TEN_MINUTES) == TRANSCRIPT
