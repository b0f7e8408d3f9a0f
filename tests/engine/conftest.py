"""Gateways that serve threads, in front of a scripted model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from openai import AsyncOpenAI

from gateway.app import App
from tests.conftest import SIGNING_KEY, TENANT_KEYS, Events, Running, load_settings
from tests.engine.scripted_model import ScriptedModel

_numbers = count()
StartServing = Callable[..., Awaitable[Running]]


@pytest.fixture
async def model() -> AsyncIterator[ScriptedModel]:
    started = ScriptedModel()
    await started.start()
    yield started
    await started.stop()


@pytest.fixture
async def other_model() -> AsyncIterator[ScriptedModel]:
    started = ScriptedModel()
    await started.start()
    yield started
    await started.stop()


def serving_settings(valkey: str, prefix: str, *models: ScriptedModel) -> dict[str, Any]:
    """Providers `served`, `served1` …, each with the accounts acme, which alice and bob share, and bolt, which carol
    owns."""
    names = [f"served{number or ''}" for number in range(len(models))]
    return {
        "providers": {
            name: {
                "vendor": "openai",
                "serve": "threads",
                "model_api": "chat_completions",
                "base_url": model.url,
                "accounts": {
                    "acme": {"keys": {"one": f"${{{name.upper()}_ONE}}"}},
                    "bolt": {"keys": {"one": f"${{{name.upper()}_BOLT}}"}, "owned_by": "carol"},
                },
                "timeouts": {"idle_s": 5},
            }
            for name, model in zip(names, models, strict=True)
        },
        "tenants": {
            name: {"keys": [f"${{{name.upper()}}}"], "default_provider": names[0]} for name in ("alice", "bob", "carol")
        },
        "signing_keys": ["${SIGNING_KEY}"],
        "store": {"url": valkey, "prefix": prefix},
        "audit": {"enabled": False},
        "listener": {"port": 0},
    }


@pytest.fixture
def store_prefix() -> str:
    return f"serving{next(_numbers)}"


@pytest.fixture
async def start_serving(
    valkey: str, store_prefix: str, tmp_path: Path, session: aiohttp.ClientSession, events: Events
) -> AsyncIterator[StartServing]:
    """`await start_serving(model)`: one more gateway, each with the same store; `model` may be several."""
    started: list[App] = []

    async def start(
        *models: ScriptedModel, change: Callable[[dict[str, Any]], None] = lambda settings: None, url: str = valkey
    ) -> Running:
        settings = serving_settings(url, store_prefix, *models)
        change(settings)
        keys = {
            f"{name.upper()}_{key}": f"sk-{name}-{key}"
            for name in settings["providers"]
            for key in ("ONE", "TWO", "BOLT")
        }
        tenants = {name.upper(): key for name, key in TENANT_KEYS.items()}
        app = App(load_settings(settings, tmp_path, {**keys, **tenants, "SIGNING_KEY": SIGNING_KEY}))
        await app.start()
        started.append(app)
        return Running(app, session)

    yield start
    for app in started:
        await app.stop(grace_s=1)


@dataclass
class Stage:
    """A gateway, a model behind it, a client, an assistant."""

    gateway: Running
    model: ScriptedModel
    sdk: AsyncOpenAI
    assistant: str

    async def thread(self, *texts: str) -> str:
        said = [{"role": "user", "content": each} for each in texts or ("Hello?",)]
        return (await self.sdk.beta.threads.create(messages=said)).id  # type: ignore[arg-type]


TOOLS: list[Any] = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in ("add", "look")
]


@pytest.fixture
async def stage(model: ScriptedModel, start_serving: StartServing) -> AsyncIterator[Stage]:
    gateway = await start_serving(model)
    async with gateway.sdk() as sdk:
        assistant = await sdk.beta.assistants.create(model="m-1", instructions="Be brief.", tools=TOOLS)
        yield Stage(gateway, model, sdk, assistant.id)
