"""Real parts for every test: a Valkey process, vendors on sockets, whole gateways between them."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import hypothesis
import orjson
import pytest
from openai import AsyncOpenAI

from gateway import telemetry
from gateway.app import App
from gateway.config import Config, Provider, Source, check
from gateway.ids import IdSigner, route_of
from gateway.store.embedded import EmbeddedValkey
from tests.cluster import ValkeyCluster
from tests.sdk import http_client
from tests.simulators import find_models, find_vendors
from tests.simulators.base import Simulator
from tests.table import as_property, evidence_of
from tests.wire import Wire

# `make test` draws few examples, `make test-long` as many as hypothesis would.
hypothesis.settings.register_profile("few", max_examples=25, deadline=None)
hypothesis.settings.register_profile("many", max_examples=100, deadline=None)

SIGNING_KEY = "a signing key for tests"
TENANT_KEYS = {"alice": "alice-key", "bob": "bob-key", "carol": "carol-key"}
_numbers = count()


def pytest_configure(config: pytest.Config) -> None:
    hypothesis.settings.load_profile("few" if config.option.markexpr == "not long" else "many")


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of one real Valkey process for the whole run; tests keep apart by prefixes."""
    server = EmbeddedValkey(tmp_path_factory.mktemp("valkey"))
    asyncio.run(server.start())
    yield server.url
    asyncio.run(server.close())


@pytest.fixture(scope="session")
def valkey_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyCluster]:
    """A real cluster for the whole run, if a test wants it."""
    cluster = ValkeyCluster(tmp_path_factory.mktemp("cluster"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="session")
def valkey(request: pytest.FixtureRequest) -> str:
    """The URL of the store that all tests share: one server, or the cluster for a test that is run on both."""
    if getattr(request, "param", "server") == "cluster":
        return str(request.getfixturevalue("valkey_cluster").url)
    return str(request.getfixturevalue("valkey_server"))


class Events(list[dict[str, Any]]):
    """Log lines as they are written, each parsed: a line that is not JSON fails the test."""

    def named(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self if event["event"] == name]


class _Lines(io.RawIOBase):
    """What the log is written to."""

    def __init__(self, captured: Events) -> None:
        self._captured = captured

    def write(self, data: Any) -> int:
        self._captured.extend(orjson.loads(line) for line in bytes(data).splitlines() if line)
        return len(data)


@pytest.fixture
def events() -> Events:
    """The structured events logged from now on; grows while the test runs."""
    captured = Events()
    telemetry.configure(_Lines(captured))  # type: ignore[arg-type]
    return captured


@pytest.fixture(autouse=True)
def evidence(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that speaks for a cell of the README's table leaves what it saw in the results (`tests/table.py`). Being
    set up before all others, this ends after them: the gateway has logged its last request by then."""
    if not any(request.node.get_closest_marker(name) for name in ("client", "refusal")):
        yield
        return
    events: Events = request.getfixturevalue("events")
    yield
    request.node.user_properties.append(as_property(evidence_of(request.node, events)))


@dataclass
class Running:
    """A gateway that runs, and the ways to call it."""

    app: App
    session: aiohttp.ClientSession

    @property
    def url(self) -> str:
        return self.app.url

    def sdk(self, tenant: str = "alice", path: str = "/v1", **settings: Any) -> AsyncOpenAI:
        """The official SDK as one of the tenants; without its own retries unless asked for."""
        kept = {"max_retries": 0, "timeout": 30, "http_client": http_client(), **settings}
        return AsyncOpenAI(base_url=self.url + path, api_key=TENANT_KEYS[tenant], **kept)

    async def call(
        self, method: str, path: str, body: Any = None, *, tenant: str = "alice", **more: Any
    ) -> tuple[int, Any, Mapping[str, str]]:
        """Status, JSON (text if it is none) and headers of one plain call."""
        headers = {"Authorization": f"Bearer {TENANT_KEYS[tenant]}"} | more.pop("headers", {})
        if body is not None:
            more["json"] = body
        async with self.session.request(method, self.url + path, headers=headers, **more) as response:
            raw = await response.read()
            try:
                return response.status, orjson.loads(raw), response.headers
            except ValueError:
                return response.status, raw.decode(), response.headers


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(auto_decompress=True) as opened:
        yield opened


@dataclass
class Vendor:
    """A simulator that runs, under the name of the provider it stands for, and its keys: two of account acme, one of
    account bolt."""

    name: str
    simulator: Simulator

    @property
    def keys(self) -> list[str]:
        return list(self.simulator.keys)


StartVendor = Callable[..., Awaitable[Vendor]]
StartGateway = Callable[..., Awaitable[Running]]


@pytest.fixture
async def start_vendor() -> AsyncIterator[StartVendor]:
    """Start a vendor's simulator: `await start_vendor("aimlapi")`; `name` for a second one of the same vendor. Over
    those of `find_models` (`openai_chat`) the gateway serves threads."""
    started: list[Simulator] = []

    async def start(vendor: str = "openai", *, name: str | None = None, **settings: Any) -> Vendor:
        name = name or vendor
        keys = {f"sk-{name}-acme-one": "acme", f"sk-{name}-acme-two": "acme", f"sk-{name}-bolt-one": "bolt"}
        simulator = (find_vendors() | find_models())[vendor](**{"keys": keys, **settings})
        await simulator.start()
        started.append(simulator)
        return Vendor(name, simulator)

    yield start
    for simulator in started:
        await simulator.stop()


@pytest.fixture
async def start_gateway(
    valkey: str, tmp_path: Path, session: aiohttp.ClientSession, events: Events
) -> AsyncIterator[StartGateway]:
    """Start a gateway in front of vendors: `await start_gateway(vendor)`. `change` edits the settings before they are
    written, read and checked as in production."""
    started: list[App] = []

    async def start(*vendors: Vendor, change: Callable[[dict[str, Any]], None] = lambda settings: None) -> Running:
        settings = settings_for(vendors, valkey)
        change(settings)
        app = App(load_settings(settings, tmp_path, environ_for(vendors)))
        await app.start()
        started.append(app)
        return Running(app, session)

    yield start
    for app in started:
        await app.stop(grace_s=1)


Dial = Callable[..., Awaitable[Wire]]


@pytest.fixture
async def dial() -> AsyncIterator[Dial]:
    """Call a gateway on a wire of one's own: `await dial(gateway)`."""
    wires: list[Wire] = []

    async def dialled(gateway: Running, **settings: Any) -> Wire:
        wires.append(await Wire.dial(gateway.url, **settings))
        return wires[-1]

    yield dialled
    for wire in wires:
        wire.close()


@pytest.fixture
def serving() -> None:
    """For tests of threads that the gateway serves: skips them as long as no provider can be told to."""
    if "serve" not in Provider.model_fields:
        pytest.skip("a provider cannot be told to serve threads")


def settings_for(vendors: Sequence[Vendor], valkey_url: str) -> dict[str, Any]:
    """A configuration as its author would write it. Each vendor is a provider of its name with the accounts acme,
    which the tenants alice and bob share, and bolt, which carol owns. The first provider is everybody's default."""
    names = [vendor.name for vendor in vendors]
    tenant = {"default_provider": names[0], "home_accounts": dict.fromkeys(names, "acme")}
    return {
        "providers": {
            vendor.name: {
                "vendor": vendor.simulator.dialect.name,
                "base_url": vendor.simulator.url,
                **vendor.simulator.settings,
                "accounts": {
                    "acme": {
                        "keys": {"one": f"${{{_env(vendor)}_0}}", "two": f"${{{_env(vendor)}_1}}"},
                        "options": dict(vendor.simulator.options_of("acme")),
                    },
                    "bolt": {
                        "keys": {"one": f"${{{_env(vendor)}_2}}"},
                        "options": dict(vendor.simulator.options_of("bolt")),
                        "owned_by": "carol",
                    },
                },
            }
            for vendor in vendors
        },
        "tenants": {
            "alice": {"keys": ["${ALICE}"], **tenant},
            "bob": {"keys": ["${BOB}"], **tenant},
            "carol": {"keys": ["${CAROL}"], "default_provider": names[0]},
        },
        "signing_keys": ["${SIGNING_KEY}"],
        "store": {"url": valkey_url, "prefix": f"t{next(_numbers)}"},
        "listener": {"port": 0},
        "cache": {"ttl_s": 0},  # most tests want to see what is asked of the vendor
        "audit": {"enabled": False},  # those that are about it say where
    }


def environ_for(vendors: Sequence[Vendor]) -> dict[str, str]:
    secrets = {f"{_env(vendor)}_{place}": key for vendor in vendors for place, key in enumerate(vendor.keys)}
    return {**secrets, **{name.upper(): key for name, key in TENANT_KEYS.items()}, "SIGNING_KEY": SIGNING_KEY}


def _env(vendor: Vendor) -> str:
    return vendor.name.upper().replace("-", "_")


def load_settings(settings: Mapping[str, Any], folder: Path, environ: Mapping[str, str]) -> Config:
    """Checked as in production. Written as YAML and read again it would be the same, and take longer than most tests:
    see `test_config`. Secrets may be in files of the folder."""
    return check(settings, Source(folder, environ), name="gateway.yaml")


async def eventually(happened: Callable[[], bool], *, within_s: float = 5) -> None:
    """Wait for what nobody announces; raises TimeoutError."""
    async with asyncio.timeout(within_s):
        while not happened():
            await asyncio.sleep(0.005)


def edit(**places: Any) -> Callable[[dict[str, Any]], None]:
    """A change of settings by their places: `edit(limits__receive_s=0.1, providers__openai__max_attempts=1)`. A value
    that is a mapping is added to what is there."""

    def change(settings: dict[str, Any]) -> None:
        for place, value in places.items():
            *folders, name = place.split("__")
            section = settings
            for folder in folders:
                section = section.setdefault(folder, {})
            section[name] = {**section.get(name, {}), **value} if isinstance(value, dict) else value

    return change


def public_id(kind: str, upstream: str, *, tenant: str = "alice", provider: str = "openai") -> str:
    """How the gateway calls an object that it has never seen, of the account acme."""
    return IdSigner([SIGNING_KEY.encode()]).sign(upstream, kind=kind, tenant=tenant, route=route_of(provider, "acme"))
