"""kill -9 of a gateway under load: what a provider saw, and what callers had whole, is in the trail."""

from __future__ import annotations

import asyncio
import os
import random
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from ruamel.yaml import YAML

from gateway.audit.verify import verify
from tests.auditing.conftest import audited, written
from tests.conftest import TENANT_KEYS, StartVendor, Vendor, environ_for, settings_for
from tests.test_process import COMMAND, free_port

CALLERS = 20
STARTS_WITHIN_S = 20
DONE = b"data: [DONE]\n\n"
_TAG = re.compile(r"tag-[0-9]+")
_SAID = [{"role": "user", "content": "Hello"}]


@dataclass
class Load:
    """Callers who do everything at once, each request with a tag that the trail records, and that the provider sees
    of all but plain reads."""

    url: str
    tags: Iterator[int]
    answered: dict[str, str] = field(default_factory=dict)
    """Tag → what was asked, of requests whose answers came whole."""

    async def caller(self, session: aiohttp.ClientSession, chance: random.Random) -> None:
        """Goes on until the gateway is gone."""
        with suppress(aiohttp.ClientError, ConnectionError):
            assistant = await self.make(session, "/v1/assistants", {"model": "m"})
            form = aiohttp.FormData({"purpose": "assistants"})
            form.add_field("file", b"word" * 9999, filename="words.txt", content_type="text/plain")
            file = await self.make(session, "/v1/files", form)
            while True:
                await self.round(session, chance, assistant, file)

    async def round(self, session: aiohttp.ClientSession, chance: random.Random, assistant: str, file: str) -> None:
        path = f"/v1/threads/{await self.make(session, '/v1/threads', {'messages': _SAID})}"
        run = {"assistant_id": assistant, "stream": True}
        asks: list[tuple[str, str, Any]] = [
            *(("GET", path, None), ("GET", path, None), ("GET", f"{path}/messages", None)),
            ("GET", f"/v1/files/{file}/content", None),
            ("POST", f"{path}/messages", _SAID[0]),
            ("POST", f"{path}/runs", run),
            ("POST", "/v1/threads/runs", {**run, "thread": {"messages": _SAID}}),
        ]
        chance.shuffle(asks)
        for method, asked, body in asks:
            await self.ask(session, method, asked, body)
        await self.ask(session, "DELETE", path)

    async def make(self, session: aiohttp.ClientSession, path: str, body: Any) -> str:
        return str(orjson.loads(await self.ask(session, "POST", path, body))["id"])

    async def ask(self, session: aiohttp.ClientSession, method: str, path: str, body: Any = None) -> bytes:
        """Raises ClientError when the answer does not come whole. Of a stream `done` counts, whatever follows."""
        tag = f"tag-{next(self.tags)}"
        more: dict[str, Any] = {}
        if isinstance(body, dict):
            more["json"] = {**body, "metadata": {"tag": tag}}
        elif body is not None:
            body.add_field("tag", tag)
            more["data"] = body
        elif method != "GET" or path.endswith("/content"):
            more["params"] = {"tag": tag}
        async with session.request(method, self.url + path, headers={"X-Request-Id": tag}, **more) as response:
            assert response.status in (200, 400), await response.read()  # 400: a run is active in the thread
            raw = b""
            while not raw.endswith(DONE) and (piece := await response.content.readany()):
                raw += piece
            self.answered[tag] = f"{method} {response.content_type} {response.headers.get('x-gateway-cache', '')}"
            return raw


class Killed:
    """A gateway that is started, loaded and killed again and again, in front of one provider."""

    def __init__(self, vendor: Vendor, valkey: str, folder: Path, mode: str) -> None:
        self.vendor = vendor
        self.folder = folder / "audit"
        self._settings = settings_for([vendor], valkey)
        audited(self.folder, mode=mode, rotate_bytes=300_000)(self._settings)
        self._settings["cache"] = {}
        self._config, self._log = folder / "gateway.yaml", folder / "log"
        self._tags = count()
        self.answered: dict[str, str] = {}

    @asynccontextmanager
    async def process(self) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
        port = self._settings["listener"]["port"] = free_port()
        with self._config.open("w") as file:
            YAML(typ="safe", pure=True).dump(self._settings, file)
        with self._log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(COMMAND, "serve", "--config", self._config),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=log,
                env=os.environ | environ_for([self.vendor]),
            )
        try:
            async with asyncio.timeout(STARTS_WITHIN_S):
                while True:
                    with suppress(ConnectionError):
                        (await asyncio.open_connection("127.0.0.1", port))[1].close()
                        break
                    await asyncio.sleep(0.02)
            yield process, f"http://127.0.0.1:{port}"
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def round(self, seed: int) -> None:
        """The moment of the kill is chance's: while there is work, and after it began for everybody."""
        authorized = {"Authorization": f"Bearer {TENANT_KEYS['alice']}"}
        connector = aiohttp.TCPConnector(limit=CALLERS)
        async with (
            self.process() as (process, url),
            aiohttp.ClientSession(headers=authorized, connector=connector) as session,
        ):
            load = Load(url, self._tags)
            callers = [asyncio.create_task(load.caller(session, random.Random(f"{seed} {n}"))) for n in range(CALLERS)]
            while not any("event-stream" in asked for asked in load.answered.values()):
                assert not any(caller.done() for caller in callers), callers
                await asyncio.sleep(0.01)
            await asyncio.sleep(random.Random(seed).uniform(0.1, 0.6))
            process.kill()
            await asyncio.gather(*callers)
            self.answered |= load.answered

    async def end(self) -> None:
        """The next start, and its good end."""
        async with self.process() as (process, _):
            process.terminate()
            assert await process.wait() == 0

    @property
    def seen(self) -> set[str]:
        """The tags that the provider saw, those of plain reads left out."""
        asked = (f"{each.query} {each.body.decode('utf-8', 'replace')}" for each in self.vendor.simulator.journal)
        return {found[0] for each in asked if (found := _TAG.search(each))}


@dataclass(frozen=True)
class Lost:
    """What is missing: `started` of what the provider saw, `finished` of what callers had whole."""

    started: set[str]
    finished: set[str]


def lost(killed: Killed) -> Lost:
    """And whether the trail is whole, and tells what never finished."""
    report = verify(killed.folder)
    assert report.is_good, report.faults[:5]
    tags: dict[str, set[str]] = {"request.started": set(), "request.finished": set()}
    names: dict[str, str] = {}
    for record in written(killed.folder):
        if record["kind"] in tags:
            tag = names.setdefault(record["request_id"], str(record.get("client_request_id")))
            tags[record["kind"]].add(tag)
    started, finished = tags["request.started"], tags["request.finished"]
    unfinished = {names[each.request_id] for of_one in report.sets for each in of_one.unfinished}
    assert unfinished == started - finished
    assert [of_one.state for of_one in report.sets] == ["sealed"] * len(report.sets)
    return Lost(killed.seen - started, set(killed.answered) - finished)


async def play(killed: Killed, rounds: int) -> Lost:
    for seed in range(rounds):
        await killed.round(seed)
    await killed.end()
    return lost(killed)


async def test_nothing_that_was_seen_or_answered_is_missing_after_kill_9(
    start_vendor: StartVendor, valkey: str, tmp_path: Path
) -> None:
    killed = Killed(await start_vendor("openai"), valkey, tmp_path, "ack")
    assert await play(killed, 1) == Lost(set(), set())
    kinds = Counter(killed.answered.values())
    assert {"GET application/json hit", "POST text/event-stream ", "GET text/plain "} <= set(kinds), kinds
    assert len(killed.seen) > 50


@pytest.mark.long
@pytest.mark.timeout(240)
@pytest.mark.parametrize("mode", ["ack", "fsync", "buffered"])
async def test_nothing_is_missing_after_many_kills(
    mode: str, start_vendor: StartVendor, valkey: str, tmp_path: Path
) -> None:
    """`buffered` promises nothing of that; its chain is whole all the same."""
    killed = Killed(await start_vendor("openai"), valkey, tmp_path, mode)
    missing = await play(killed, 20)
    print(
        f"{mode}: 20 rounds, {len(killed.seen)} seen, {len(killed.answered)} answered whole;"
        f" missing {len(missing.started)} started, {len(missing.finished)} finished"
    )
    assert mode == "buffered" or missing == Lost(set(), set())
