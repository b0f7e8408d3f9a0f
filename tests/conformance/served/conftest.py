"""Threads that the gateway serves itself, over simulated models: the other side has no Threads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from gateway.engine.models import MODEL_APIS
from gateway.ids import TAIL_LENGTH
from tests.cluster import on_both
from tests.conformance.conftest import ok
from tests.conftest import Running, StartGateway, StartVendor, Vendor, public_id
from tests.simulators.hosted_tools import APIS, HostedTools, hosted_tools
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


# --- models with hosted tools -----------------------------------------------------------------------------------------
@dataclass
class Hosted(Served):
    """A gateway that serves threads over a model with hosted tools."""

    vendor: HostedTools

    async def upload(self, data: bytes = b"hello", *, tenant: str = "alice") -> str:
        form = aiohttp.FormData()
        form.add_field("purpose", "assistants")
        form.add_field("file", data, filename="a.txt")
        status, made, _ = await self.gateway.call("POST", "/v1/files", tenant=tenant, data=form)
        assert status == 200, made
        return str(made["id"])

    @property
    def tools(self) -> list[Any]:
        """What the last generation was given."""
        given: list[Any] = self.vendor.asked[-1]["tools"]
        return given

    def upstream(self, public: str) -> str:
        """The vendor's name of an object."""
        return public[:-TAIL_LENGTH]


ServeHosted = Callable[..., Awaitable[Hosted]]


@pytest.fixture
async def serve_hosted(monkeypatch: pytest.MonkeyPatch, start_gateway: StartGateway) -> AsyncIterator[ServeHosted]:
    """Start a gateway over such a model: `await serve_hosted()`, `await serve_hosted("none")` over one without tools;
    again over the same `vendor` for one more replica. `beside` names a second provider of the kind."""
    monkeypatch.setitem(MODEL_APIS, "lines", APIS)  # type: ignore[index]
    started: list[HostedTools] = []

    async def open_vendor(name: str, dialect: str) -> HostedTools:
        keys = {f"sk-{name}-acme-one": "acme", f"sk-{name}-acme-two": "acme", f"sk-{name}-bolt-one": "bolt"}
        vendor = hosted_tools(keys, dialect=dialect)
        await vendor.start()
        started.append(vendor)
        return vendor

    async def start(
        dialect: str = "all", *, vendor: HostedTools | None = None, beside: str | None = None, **settings: Any
    ) -> Hosted:
        vendor = vendor or await open_vendor("hosted", dialect)
        others = [Vendor(beside, await open_vendor(beside, dialect))] if beside else []
        gateway = await start_gateway(Vendor("hosted", vendor), *others, **settings)
        return Hosted(gateway, vendor, "hosted", vendor)  # type: ignore[arg-type]

    yield start
    for each in started:
        await each.stop()


@pytest.fixture
async def hosted(serve_hosted: ServeHosted) -> Hosted:
    return await serve_hosted()
