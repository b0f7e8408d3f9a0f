"""Clients of the store, and stores of one's own: what happens to these must not happen to the one that all other tests
share."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import orjson
import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from gateway.store.cluster_coalescer import ClusterCoalescer
from gateway.store.cluster_coalescer import open_coalescer as make_coalescer
from gateway.store.coalescer import Coalescer
from gateway.store.connection import Store
from gateway.store.embedded import EmbeddedValkey
from gateway.store.shared import Shared
from tests.cluster import look_behind, on_both
from tests.conftest import Events, eventually
from tests.store.gate import Gate

_numbers = count()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    on_both(metafunc, "gate", "own_valkey", "embed")


@pytest.fixture
def prefix() -> str:
    """Of keys that no other test has."""
    return f"store-test{next(_numbers)}"


@pytest.fixture
def plain(valkey: str) -> Iterator[Redis]:
    """A client to look behind the gateway's back. It blocks."""
    with look_behind(valkey) as client:
        yield client


OpenCoalescer = Callable[..., Any]
Pause = Callable[[float], Awaitable[None]]


@pytest.fixture
async def open_coalescer() -> AsyncIterator[OpenCoalescer]:
    """`open_coalescer(url)`; `timeout_s` is long unless the test is about it."""
    opened: list[Coalescer | ClusterCoalescer] = []

    def open_one(url: str, *, timeout_s: float = 5.0, pause: Pause = asyncio.sleep) -> Coalescer | ClusterCoalescer:
        opened.append(make_coalescer(url, timeout_s=timeout_s, pause=pause))
        return opened[-1]

    yield open_one
    for coalescer in opened:
        await coalescer.close()


@pytest.fixture
def pause_little() -> Pause:
    """For a probe that is in a hurry."""
    return lambda seconds: asyncio.sleep(0.001)


@pytest.fixture
async def gate(valkey: str, tmp_path: Path) -> AsyncIterator[Gate]:
    gate = Gate(valkey, tmp_path)
    await gate.start()
    yield gate
    await gate.stop()


class OwnValkey:
    """A Valkey process of one test."""

    def __init__(self, folder: Path) -> None:
        self._server = EmbeddedValkey(folder)
        self.url = self._server.url

    @property
    def _process(self) -> subprocess.Popen[bytes]:
        assert self._server._process is not None
        return self._server._process

    async def start(self) -> None:
        await self._server.start()

    def freeze(self) -> None:
        """From now on it takes connections and commands, and answers nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    async def stop(self) -> None:
        self.thaw()
        await self._server.close()


@pytest.fixture
async def own_valkey(tmp_path: Path) -> AsyncIterator[OwnValkey]:
    server = OwnValkey(tmp_path / "own")
    await server.start()
    yield server
    await server.stop()


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
    async with AsyncRedis.from_url(valkey.url, decode_responses=True) as redis:
        return await redis.execute_command(*words)  # type: ignore[no-untyped-call]


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def write_window(plain: Redis, key: str, amounts: dict[int, int]) -> None:
    """A window in the store (`store/windows.py`), by seconds since 1970."""
    plain.delete(key)
    if amounts:
        told = {"sum": sum(amounts.values()), "first": min(amounts), "last": max(amounts)}
        plain.hset(key, mapping={**told, **amounts})  # type: ignore[arg-type, dict-item]


def age_window(plain: Redis, key: str, by_s: int) -> None:
    """Move a window back, in place of the store's clock."""
    held = {name.decode(): int(value) for name, value in plain.hgetall(key).items()}  # type: ignore[union-attr]
    write_window(plain, key, {int(second) - by_s: amount for second, amount in held.items() if second.isdecimal()})


class Clock:
    """Seconds since 1970, as a test wants them."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Pauses:
    """What a gateway's background work waits with: nothing goes on until the test says so."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self._waiting: list[tuple[float, asyncio.Future[None]]] = []

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        over = asyncio.get_running_loop().create_future()
        self._waiting.append((seconds, over))
        await over

    def end(self, seconds: float) -> None:
        """Every pause of so many seconds is over."""
        for asked, over in self._waiting:
            if asked == seconds and not over.done():
                over.set_result(None)
        self._waiting = [waiting for waiting in self._waiting if not waiting[1].done()]


@dataclass
class Replica:
    """What one gateway process shares with the others."""

    store: Store
    shared: Shared
    clock: Clock
    pauses: Pauses


OpenReplica = Callable[..., Awaitable[Replica]]


@pytest.fixture
async def open_replica(valkey: str, prefix: str) -> AsyncIterator[OpenReplica]:
    """`await open_replica()`: one more process on the shared store, or on the one of `url`. It does nothing in the
    background but listen, unless `pauses` end."""
    opened: list[Replica] = []

    async def open_one(
        url: str = valkey, *, is_started: bool = True, timeout_s: float = 5, pause: Pause | None = None
    ) -> Replica:
        clock, pauses = Clock(), Pauses()
        store = Store(url, prefix=prefix, timeout_s=timeout_s, pause=pause or asyncio.sleep)
        replica = Replica(store, Shared(store, clock=clock, pause=pauses), clock, pauses)
        opened.append(replica)
        await store.connect()
        if is_started:
            await replica.shared.start()
            if store.is_ready:
                await eventually(lambda: replica.shared.subscription.is_open)
        return replica

    yield open_one
    for replica in opened:
        await replica.shared.close()
        await replica.store.close()
