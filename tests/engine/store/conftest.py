"""Replicas of the served threads' store on the real Valkey.

Whatever a test does, three things are held: all keys of a script are in one slot, nothing but events has an expiry,
and with the replica that is `twice`, every command that is sent runs two times.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import pytest
from redis import Redis
from redis.crc import key_slot

from gateway.engine.store import scripts
from gateway.engine.store.activity import Activity
from gateway.engine.store.assistants import Assistants
from gateway.engine.store.holdings import Holdings
from gateway.engine.store.leases import Leases
from gateway.engine.store.messages import Messages
from gateway.engine.store.retention import Retention
from gateway.engine.store.run_events import RunEvents
from gateway.engine.store.runs import Runs
from gateway.engine.store.steps import Steps
from gateway.engine.store.threads import Threads
from gateway.engine.store.work import Work
from gateway.store.connection import Store
from tests.cluster import look_behind, on_both
from tests.store.conftest import OwnValkey

T = TypeVar("T")
_numbers = count()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    on_both(metafunc, "own_valkey")


class TwiceStore(Store):
    """Every command runs two times, as if its first answer had been lost."""

    async def run(self, command: Callable[[Any], Awaitable[T]]) -> T:
        await super().run(command)
        return await super().run(command)


class Replica:
    """What one gateway process has of the store."""

    def __init__(self, store: Store, owner: str, queue_limit: int = 1000, lease_shards: int = 1) -> None:
        self.store = store
        self.activity = Activity(store)
        self.leases = Leases(store, owner=owner, lease_s=5, shards=lease_shards)
        self.holdings = Holdings(store)
        self.assistants = Assistants(store, self.holdings)
        self.threads = Threads(store, self.activity, self.holdings)
        self.messages = Messages(store, self.activity)
        self.runs = Runs(store, self.activity, self.leases)
        self.steps = Steps(store)
        self.work = Work(store, self.leases)
        self.events = RunEvents(store, queue_limit=queue_limit, batch_s=0.001)
        self.retention = Retention(store, self.threads, self.activity)


OpenReplica = Callable[..., Awaitable[Replica]]


@pytest.fixture(autouse=True)
def same_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    send = scripts._execute

    def execute(client: Any, command: str, script: str, call: scripts.Call) -> Any:
        assert len({key_slot(key.encode()) for key in call[0]}) == 1, call[0]
        return send(client, command, script, call)

    monkeypatch.setattr(scripts, "_execute", execute)


@pytest.fixture
def prefix() -> str:
    """Of keys that no other test has."""
    return f"served{next(_numbers)}"


@pytest.fixture
def plain(valkey: str, prefix: str) -> Iterator[Redis]:
    """A client to look behind the gateway's back. It blocks. At the end nothing but events may have an expiry."""
    with look_behind(valkey, decode_responses=True) as client:
        yield client
        for key in client.scan_iter(f"{prefix}:*"):
            assert client.ttl(key) == -1 or ":ev:" in key, key


@pytest.fixture
async def open_replica(valkey: str, prefix: str, plain: Redis) -> AsyncIterator[OpenReplica]:
    """`await open_replica()`: one more gateway process."""
    opened: list[Replica] = []

    async def open_one(url: str = valkey, *, twice: bool = False, timeout_s: float = 5, **more: Any) -> Replica:
        store = (TwiceStore if twice else Store)(url, prefix=prefix, timeout_s=timeout_s)
        opened.append(Replica(store, f"replica-{len(opened)}", **more))
        return opened[-1]

    yield open_one
    for replica in opened:
        await replica.events.close()
        await replica.store.close()


@pytest.fixture(params=["once", "twice"])
async def replica(request: pytest.FixtureRequest, open_replica: OpenReplica) -> Replica:
    """One gateway process, and one all of whose commands run twice."""
    return await open_replica(twice=request.param == "twice")


@pytest.fixture
async def other(open_replica: OpenReplica) -> Replica:
    return await open_replica()


@pytest.fixture
async def own_valkey(tmp_path: Path) -> AsyncIterator[OwnValkey]:
    """A Valkey process of this test alone."""
    server = OwnValkey(tmp_path / "own")
    await server.start()
    yield server
    await server.stop()
