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
from tests.conftest import SIGNING_KEY, TENANT_KEYS, eventually
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
    """One is killed, one stands still for longer than its lease and comes back as a zombie. Whose call breaks off makes
    it again at another replica, and may find that the run is there."""
    model.otherwise = thinking
    settings = serving_settings(valkey, store_prefix, model)
    headers = {"Authorization": f"Bearer {TENANT_KEYS['alice']}"}
    with ExitStack() as stack:
        gateways = [stack.enter_context(serving(settings, tmp_path, number)) for number in range(3)]
        urls = [url for _, url in gateways]
        alive = urls[2]
        async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=30)) as session:

            async def post(url: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
                async with session.post(url, json=body) as answer:
                    return answer.status, await answer.json()

            _, assistant = await post(f"{alive}/assistants", {"model": "m-1"})
            turns = asyncio.Semaphore(40)
            made: list[str] = []

            async def run(number: int) -> str:
                async with turns:
                    said = {"messages": [{"role": "user", "content": str(number)}]}
                    _, thread = await post(f"{alive}/threads", said)
                    for url in (urls[number % 3], alive):
                        path = f"{url}/threads/{thread['id']}/runs"
                        with suppress(aiohttp.ClientError):
                            status, answer = await post(path, {"assistant_id": assistant["id"]})
                            assert status == 200 or "already has an active run" in answer["error"]["message"], answer
                            break
                    made.append(thread["id"])
                    return str(thread["id"])

            async def disturb() -> None:
                await eventually(lambda: len(made) >= RUNS / 4, within_s=20)  # a run takes two seconds
                gateways[0][0].kill()
                gateways[1][0].send_signal(signal.SIGSTOP)
                await asyncio.sleep(9)
                gateways[1][0].send_signal(signal.SIGCONT)

            _, *threads = await asyncio.gather(disturb(), *map(run, range(RUNS)))
            statuses = await asyncio.gather(*(_ended(session, alive, str(thread)) for thread in threads))
            assert {status for each in statuses for status in each} == {"completed"}
            await asyncio.sleep(3)  # what a zombie has to say it says now
            taken_over = 0
            for thread, runs in zip(threads, statuses, strict=True):
                async with session.get(f"{alive}/threads/{thread}/messages") as answer:
                    said = [each for each in (await answer.json())["data"] if each["role"] == "assistant"]
                whole = [each["content"][0]["text"]["value"] for each in said if each["status"] == "completed"]
                assert whole == ["0 1 2 3 4 5 6 7 8 9 "] * len(runs)
                taken_over += len(said) > len(whole)
            assert taken_over  # in the middle of an answer


async def _ended(session: aiohttp.ClientSession, url: str, thread: str) -> list[str]:
    """How the thread's runs ended, when all have."""
    async with asyncio.timeout(60):
        while True:
            async with session.get(f"{url}/threads/{thread}/runs") as answer:
                statuses = [run["status"] for run in (await answer.json())["data"]]
            if statuses and set(statuses) <= set(_OVER):
                return statuses
            await asyncio.sleep(0.5)
