"""Threads that the gateway serves itself, over simulated models: the other side has no Threads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.cluster import on_both
from tests.conformance.conftest import ok
from tests.conftest import Running, StartGateway, StartVendor, Vendor, public_id
from tests.simulators.model_simulator import ModelSimulator


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    on_both(metafunc)


ADD, FIND = (
    {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}}
    for name in ("add", "find")
)
MOVING = ("queued", "in_progress", "cancelling")
"""The statuses that a run leaves by itself."""


@dataclass
class Served:
    """A gateway that serves threads over one model."""

    gateway: Running
    model: ModelSimulator
    provider: str

    async def assistant(self, *tools: Any, **more: Any) -> str:
        body = {"model": "gpt-4o", "tools": list(tools), **more}
        made: str = (await ok(self.gateway, "POST", "/v1/assistants", body))["id"]
        return made

    async def thread(self, *texts: str) -> str:
        said = [{"role": "user", "content": text} for text in texts]
        made: str = (await ok(self.gateway, "POST", "/v1/threads", {"messages": said}))["id"]
        return made

    async def begin(self, text: str, *tools: Any, **more: Any) -> Any:
        """The run of an assistant with these tools in a new thread, as it is answered at once."""
        body = {"assistant_id": await self.assistant(*tools), **more}
        return await ok(self.gateway, "POST", f"/v1/threads/{await self.thread(text)}/runs", body)

    async def end(self, run: Any) -> Any:
        """The run when nothing more happens to it by itself."""
        path = f"/v1/threads/{run['thread_id']}/runs/{run['id']}"
        while run["status"] in MOVING:
            run = await ok(self.gateway, "GET", path)
        return run

    async def run(self, text: str, *tools: Any, **more: Any) -> Any:
        return await self.end(await self.begin(text, *tools, **more))

    async def last_message(self, thread: str) -> Any:
        listed = await ok(self.gateway, "GET", f"/v1/threads/{thread}/messages?limit=1")
        return listed["data"][0]

    async def steps(self, run: Any) -> list[Any]:
        path = f"/v1/threads/{run['thread_id']}/runs/{run['id']}/steps?order=asc"
        steps: list[Any] = (await ok(self.gateway, "GET", path))["data"]
        return steps

    async def refusal(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and error of a call that must be refused."""
        status, answer, _ = await self.gateway.call(method, path, body)
        assert status >= 400, answer
        return status, answer["error"]

    def unknown(self, kind: str, upstream: str) -> str:
        """The public id of an object that never was."""
        return public_id(kind, upstream, provider=self.provider)


Serve = Callable[..., Awaitable[Served]]


@pytest.fixture
def serve(serving: None, start_vendor: StartVendor, start_gateway: StartGateway) -> Serve:
    """Start a gateway over the model of this name: `await serve("groq_chat")`."""

    async def start(name: str = "openai_chat", **settings: Any) -> Served:
        vendor: Vendor = await start_vendor(name)
        assert isinstance(vendor.simulator, ModelSimulator)
        return Served(await start_gateway(vendor, **settings), vendor.simulator, vendor.name)

    return start


@pytest.fixture
async def served(serve: Serve) -> Served:
    return await serve()
