"""The promise of the cache at the outside: two gateways on one store, random reads, writes, failures and outages.

The vendor's own state is the truth. A read may be older only through a replica that could not be told: another one
wrote while the store was out of its reach and has not been back since.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import aiohttp
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from gateway import telemetry
from gateway.app import App
from tests.conftest import Running, Vendor, environ_for, load_settings, settings_for
from tests.simulators import faults, find_vendors
from tests.simulators.base import Simulator
from tests.store.gate import Gate

TAIL = 24
_numbers = count()

replicas = st.integers(0, 1)
FAILURES = {
    "cut after the work": faults.cut_before_answer(),
    "cut before the work": faults.cut_before_work(),
    "500 after the work": faults.status(500, applied=True),
    "400": faults.status(400),
}


failures = st.sampled_from([*[None] * 12, *FAILURES])
"""Few: after one of unknown outcome nothing is kept for a second."""


class Replica:
    """A gateway, and its own way to the store."""

    def __init__(self, gateway: Running, gate: Gate) -> None:
        self.gateway = gateway
        self.gate = gate
        self.is_cut_off = False


class Machine(RuleBasedStateMachine):
    """One thread with a message, changed and read through both replicas."""

    valkey: ClassVar[str]
    folder: ClassVar[Path]
    hits: ClassVar[int] = 0

    @initialize()
    def start(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.closing = AsyncExitStack()
        self.versions = count(1)
        self.stale: set[int] = set()
        """Replicas that may answer what is older."""
        self.run(self.open())

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(work, 20))

    async def open(self) -> None:
        session = await self.closing.enter_async_context(aiohttp.ClientSession())
        simulator: Simulator = find_vendors()["openai"]()
        await simulator.start()
        self.closing.push_async_callback(simulator.stop)
        self.vendor = Vendor("openai", simulator)
        prefix = f"caching-model{next(_numbers)}"
        self.replicas = [await self.open_replica(session, prefix) for _ in range(2)]
        self.thread = await self.make("/threads", {})
        self.message = await self.make(f"/threads/{self.thread}/messages", {"role": "user", "content": "hello"})
        self.assistant = await self.make("/assistants", {"model": "m"})

    async def open_replica(self, session: aiohttp.ClientSession, prefix: str) -> Replica:
        folder = self.folder / str(next(_numbers))
        folder.mkdir()
        gate = Gate(self.valkey, folder)
        await gate.start()
        self.closing.push_async_callback(gate.stop)
        described = settings_for([self.vendor], gate.url)
        described["cache"] = {"timeout_s": 0.05}
        described["store"]["prefix"] = prefix
        described["providers"]["openai"] |= {"max_attempts": 1, "timeouts": {"total_s": 1}}
        app = App(load_settings(described, folder, environ_for([self.vendor])))
        await app.start()
        self.closing.push_async_callback(app.stop, 1)
        return Replica(Running(app, session), gate)

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            for replica in self.replicas:
                replica.gate.release()
            self.run(self.closing.aclose())
            self.loop.close()

    async def call(self, replica: int, method: str, path: str, body: Any = None) -> tuple[int, Any, str | None]:
        status, answer, headers = await self.replicas[replica].gateway.call(method, f"/v1{path}", body)
        return status, answer, headers.get("x-gateway-cache")

    async def make(self, path: str, body: Any) -> str:
        status, made, _ = await self.call(0, "POST", path, body)
        assert status == 200, made
        return str(made["id"])

    @property
    def threads(self) -> Any:
        return self.vendor.simulator.worlds["acme"].threads

    # --- writes
    async def write(self, replica: int, path: str, body: Any = None, failure: str | None = None) -> int:
        self.vendor.simulator.faults.clear()
        if failure is not None:
            self.vendor.simulator.faults.add(FAILURES[failure], method="POST")
        status, answer, _ = await self.call(replica, "POST", path, body)
        self.vendor.simulator.faults.clear()
        assert status == 200 or failure is not None, answer
        if self.replicas[replica].is_cut_off:
            self.stale.add(1 - replica)
        return status

    @rule(replica=replicas, failure=failures)
    def modify_thread(self, replica: int, failure: str | None) -> None:
        body = {"metadata": {"version": str(next(self.versions))}}
        self.run(self.write(replica, f"/threads/{self.thread}", body, failure))

    @rule(replica=replicas, failure=failures)
    def modify_message(self, replica: int, failure: str | None) -> None:
        body = {"metadata": {"version": str(next(self.versions))}}
        self.run(self.write(replica, f"/threads/{self.thread}/messages/{self.message}", body, failure))

    @rule(replica=replicas)
    def say_more(self, replica: int) -> None:
        self.run(self.write(replica, f"/threads/{self.thread}/messages", {"role": "user", "content": "more"}))

    @rule(replica=replicas, watcher=replicas)
    def converse(self, replica: int, watcher: int) -> None:
        """A run through one replica, watched through another; once it is seen to be over its answer is there."""

        async def watched() -> None:
            body = {"assistant_id": self.assistant}
            status, run, _ = await self.call(replica, "POST", f"/threads/{self.thread}/runs", body)
            assert status == 200
            if self.replicas[replica].is_cut_off:
                self.stale.add(1 - replica)
            while run["status"] in ("queued", "in_progress"):
                path = f"/threads/{self.thread}/runs/{run['id']}"
                status, run, outcome = await self.call(watcher, "GET", path)
                assert status == 200
                assert outcome != "hit" or run["status"] == "completed"

        self.run(watched())
        self.look(watcher, "list")

    # --- reads
    @rule(replica=replicas, what=st.sampled_from(["thread", "message", "list"]))
    def look(self, replica: int, what: str) -> None:
        path = f"/threads/{self.thread}" + {"thread": "", "message": f"/messages/{self.message}"}.get(what, "/messages")
        status, answer, outcome = self.run(self.call(replica, "GET", path))
        assert status == 200
        type(self).hits += outcome == "hit"
        if self.replicas[replica].is_cut_off:
            assert outcome != "hit"
        if replica not in self.stale:
            assert self.essence(what, answer) == self.truth(what)

    def essence(self, what: str, answer: Any) -> Any:
        if what == "list":
            return [(each["id"][:-TAIL], each["metadata"]) for each in answer["data"]]
        return answer["metadata"]

    def truth(self, what: str) -> Any:
        thread, message = self.thread[:-TAIL], self.message[:-TAIL]
        if what == "thread":
            return self.threads.get(thread)["metadata"]
        if what == "message":
            return self.threads.get_message(thread, message)["metadata"]
        return [(each["id"], each["metadata"]) for each in self.threads.list_messages(thread, {})["data"]]

    @rule(first=replicas, what=st.sampled_from(["thread", "message", "list"]))
    def look_around(self, first: int, what: str) -> None:
        """What one fills the other finds."""
        for replica in (first, 1 - first, first):
            self.look(replica, what)

    # --- outages
    @precondition(lambda self: not any(replica.is_cut_off for replica in self.replicas))
    @rule(replica=replicas)
    def cut_off(self, replica: int) -> None:
        self.replicas[replica].is_cut_off = True
        self.replicas[replica].gate.hold()
        # What is under way is settled by its deadline; from now on everything fails.
        self.run(self.call(replica, "GET", f"/threads/{self.thread}"))

    @precondition(lambda self: any(replica.is_cut_off for replica in self.replicas))
    @rule()
    def come_back(self) -> None:
        """The store hears what it missed without anybody's help, and then all are right again."""
        back = next(number for number, replica in enumerate(self.replicas) if replica.is_cut_off)
        self.replicas[back].gate.release()
        self.replicas[back].is_cut_off = False

        async def until_right() -> None:
            cache = self.replicas[back].gateway.app.cache
            async with asyncio.timeout(10):
                while cache is None or not cache.is_caught_up:
                    await asyncio.sleep(0.005)

        self.run(until_right())
        self.stale.clear()


@pytest.mark.parametrize(
    ("examples", "steps"),
    [(6, 25), pytest.param(150, 50, marks=[pytest.mark.long, pytest.mark.timeout(1800)])],
)
def test_nothing_older_is_answered_unless_its_writer_could_not_tell(
    valkey: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, examples: int, steps: int
) -> None:
    monkeypatch.setattr("gateway.store.server._REST_S", 0.02)
    telemetry.configure(_Sink())  # type: ignore[arg-type]
    machine = type("Machine", (Machine,), {"valkey": valkey, "folder": tmp_path})
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=examples < 10,
        ),
    )
    assert machine.hits > examples, "or it would prove nothing"  # type: ignore[attr-defined]


class _Sink:
    """Where log lines go."""

    def write(self, data: bytes) -> int:
        return len(data)

    def flush(self) -> None:
        pass
