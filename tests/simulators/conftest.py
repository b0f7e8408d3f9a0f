"""Vendors one by one or all in turn, and a caller that knows how to greet each of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import aiohttp
import pytest

from tests.simulators import find_vendors
from tests.simulators.base import KEYS, Simulator
from tests.simulators.foundry import Foundry
from tests.simulators.threads_server import ThreadsServer

VENDORS = find_vendors()
ONE, TWO, OTHER = KEYS
V1, V2 = ({"OpenAI-Beta": f"assistants={version}"} for version in ("v1", "v2"))
API_VERSIONS = {"azure": {"api-version": "2024-05-01-preview"}, "foundry": {"api-version": "v1"}}


def greeting(simulator: ThreadsServer, key: str) -> Mapping[str, str]:
    """The headers with which a caller of this vendor presents the key."""
    match simulator.dialect.name:
        case "azure":
            return {"api-key": key}
        case "foundry":
            assert isinstance(simulator, Foundry)
            return {"Authorization": f"Bearer {simulator.entra.issue(key)}"}
        case "openai_v1":
            return {"Authorization": f"Bearer {key}"} | V1
        case _:
            return {"Authorization": f"Bearer {key}"} | V2


class Caller:
    """A plain HTTP caller of one simulator."""

    def __init__(self, simulator: ThreadsServer, session: aiohttp.ClientSession) -> None:
        self._simulator = simulator
        self._session = session

    async def __call__(self, method: str, path: str, body: Any = None, *, key: str = ONE, **more: Any) -> Any:
        """Status, decoded body (text if it is not JSON) and headers. A header that is empty is not sent."""
        headers = {**greeting(self._simulator, key), **more.pop("headers", {})}
        more = {"params": API_VERSIONS.get(self._simulator.dialect.name), **more}
        more["headers"] = {name: value for name, value in headers.items() if value}
        async with self._session.request(method, self._simulator.url + path, json=body, **more) as response:
            is_json = response.content_type == "application/json"
            decoded = await response.json() if is_json else await response.read()
            return response.status, decoded, response.headers


StartSimulator = Callable[[str], Awaitable[Simulator]]


@pytest.fixture
async def start_simulator() -> AsyncIterator[StartSimulator]:
    """Start the simulator of a vendor by name."""
    started: list[Simulator] = []

    async def start(vendor: str) -> Simulator:
        started.append(VENDORS[vendor]())
        await started[-1].start()
        return started[-1]

    yield start
    for simulator in started:
        await simulator.stop()


@pytest.fixture(params=sorted(VENDORS))
async def any_vendor(request: pytest.FixtureRequest, start_simulator: StartSimulator) -> Simulator:
    """Each vendor in turn, found and not listed."""
    return await start_simulator(request.param)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


@pytest.fixture
def call(vendor: Simulator, session: aiohttp.ClientSession) -> Caller:
    """Calls the one vendor that a file of tests is about."""
    return Caller(vendor, session)
