"""Stores of one's own: what happens to these must not happen to the one that all other tests share."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis

from gateway.store.connection import Store
from gateway.store.embedded import EmbeddedValkey
from tests.conftest import Events

_OWNER = """
import asyncio, sys
from pathlib import Path
from gateway import telemetry
from gateway.store.embedded import EmbeddedValkey

async def main():
    telemetry.configure(sys.stdout.buffer)
    valkey = EmbeddedValkey(Path(sys.argv[1]))
    sys.stdin.readline()
    await valkey.start()
    valkey.watch()
    await asyncio.to_thread(sys.stdin.readline)
    await valkey.close()

asyncio.run(main())
"""


class Owner:
    """Another process that wants a server on the same folder. It starts at a word and ends at the next."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.events: list[dict[str, Any]] = []

    def say(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")

    async def event(self, *names: str) -> dict[str, Any]:
        """The next event of one of these names."""
        assert self.process.stdout is not None
        async with asyncio.timeout(20):
            while line := await self.process.stdout.readline():
                self.events.append(orjson.loads(line))
                if self.events[-1]["event"] in names:
                    return self.events[-1]
        raise EOFError(self.events)

    async def end(self, number: signal.Signals | None = None) -> None:
        """In good order, or by a signal."""
        if number is None:
            self.say()
        else:
            self.process.send_signal(number)
        async with asyncio.timeout(20):
            await self.process.wait()


StartOwner = Callable[[Path], Awaitable[Owner]]
Embed = Callable[..., EmbeddedValkey]


@pytest.fixture
async def start_owner() -> AsyncIterator[StartOwner]:
    owners: list[Owner] = []

    async def start(data_dir: Path) -> Owner:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _OWNER, str(data_dir), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        owners.append(Owner(process))
        return owners[-1]

    yield start
    for owner in owners:
        if owner.process.returncode is None:
            owner.process.kill()
        await owner.process.communicate()


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
async def embed(events: Events) -> AsyncIterator[Embed]:
    """An embedded store that is closed at the end."""
    made: list[EmbeddedValkey] = []

    def embedded(data_dir: Path) -> EmbeddedValkey:
        made.append(EmbeddedValkey(data_dir))
        return made[-1]

    yield embedded
    for valkey in made:
        await valkey.close()
    for event in events.named("valkey.started"):
        with suppress(ProcessLookupError):
            os.kill(event["pid"], signal.SIGKILL)


@pytest.fixture
async def store(valkey: str, request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """The shared store under a prefix of this test."""
    opened = Store(valkey, prefix=f"test-{abs(hash(request.node.nodeid))}", timeout_s=1)
    await opened.connect()
    yield opened
    await opened.close()


async def ask(valkey: EmbeddedValkey, *words: str) -> Any:
    """One command on a connection of its own."""
    async with Redis.from_url(valkey.url, decode_responses=True) as redis:
        return await redis.execute_command(*words)  # type: ignore[no-untyped-call]


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
