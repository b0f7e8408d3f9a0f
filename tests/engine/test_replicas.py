"""Gateways as processes that are killed and stopped under load: every run that was made ends once."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from ruamel.yaml import YAML

from tests.bench.forward import free_port, wait_for
from tests.cluster import on_both
from tests.conftest import SIGNING_KEY, TENANT_KEYS
from tests.engine.conftest import serving_settings
from tests.engine.scripted_model import ScriptedModel, end, text

RUNS = 200
_ROOT = Path(__file__).parent.parent.parent
_OVER = ("completed", "failed", "incomplete", "cancelled", "expired")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    on_both(metafunc)


@contextmanager
def serving(settings: dict[str, Any], folder: Path, number: int) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    port = free_port()
    path = folder / f"{number}.yaml"
    with path.open("w") as file:
        YAML(typ="safe", pure=True).dump({**settings, "listener": {"port": port}}, file)
    environ = {"SERVED_ONE": "sk-one", "SERVED_BOLT": "sk-bolt", "SIGNING_KEY": SIGNING_KEY}
    environ |= {name.upper(): key for name, key in TENANT_KEYS.items()}
    command = [sys.executable, "-m", "gateway.cli", "serve", "--config", str(path)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=_ROOT, env=environ, **quiet) as process:  # type: ignore[call-overload]
        try:
            wait_for(port)
            yield process, f"http://127.0.0.1:{port}/v1"
        finally:
            process.send_signal(signal.SIGCONT)
            process.kill()


async def thinking(body: dict[str, Any]) -> AsyncIterator[bytes]:
    for number in range(10):
        yield text(f"{number} ")
        await asyncio.sleep(0.2)
    yield end()


@pytest.mark.long
async def test_each_run_ends_once_though_replicas_are_killed_and_stopped(
    valkey: str, store_prefix: str, tmp_path: Path, model: ScriptedModel
) -> None:
    """One is killed, one stands still for longer than its lease and comes back as a zombie."""
    model.otherwise = thinking
    settings = serving_settings(valkey, store_prefix, model)
    headers = {"Authorization": f"Bearer {TENANT_KEYS['alice']}"}
    with ExitStack() as stack:
        gateways = [stack.enter_context(serving(settings, tmp_path, number)) for number in range(3)]
        async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=15)) as session:
            urls = [url for _, url in gateways]
            async with session.post(f"{urls[2]}/assistants", json={"model": "m-1"}) as answer:
                assistant = (await answer.json())["id"]
            runs: dict[str, str] = {}
            turns = asyncio.Semaphore(40)

            async def run(number: int) -> None:
                said = {"messages": [{"role": "user", "content": str(number)}]}
                body = {"assistant_id": assistant, "thread": said}
                async with turns:
                    with suppress(aiohttp.ClientError, TimeoutError):
                        async with session.post(f"{urls[number % 3]}/threads/runs", json=body) as made:
                            document = await made.json()
                            assert made.status == 200, document
                            runs[document["id"]] = document["thread_id"]

            async def disturb() -> None:
                await asyncio.sleep(0.6)
                gateways[0][0].kill()
                gateways[1][0].send_signal(signal.SIGSTOP)
                await asyncio.sleep(9)
                gateways[1][0].send_signal(signal.SIGCONT)

            await asyncio.gather(disturb(), *map(run, range(RUNS)))
            assert len(runs) > RUNS / 2
            statuses = await asyncio.gather(*(_ended(session, urls[2], thread, id_) for id_, thread in runs.items()))
            assert set(statuses) == {"completed"}
            await asyncio.sleep(3)  # what a zombie has to say it says now
            for thread in runs.values():
                async with session.get(f"{urls[2]}/threads/{thread}/messages") as answer:
                    said = [each for each in (await answer.json())["data"] if each["role"] == "assistant"]
                whole = [each["content"][0]["text"]["value"] for each in said if each["status"] == "completed"]
                assert whole == ["0 1 2 3 4 5 6 7 8 9 "]


async def _ended(session: aiohttp.ClientSession, url: str, thread: str, run: str) -> str:
    async with asyncio.timeout(60):
        while True:
            async with session.get(f"{url}/threads/{thread}/runs/{run}") as answer:
                status: str = (await answer.json())["status"]
            if status in _OVER:
                return status
            await asyncio.sleep(0.5)
