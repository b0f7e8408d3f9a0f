"""Runs that nobody looks at are looked at by the gateway: when, how often, and until when."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from gateway.phases.read_facts import Usage
from gateway.polling import Polling
from gateway.settlement import Settled, Settlement
from gateway.store.connection import StoreAway
from gateway.store.noted_runs import REMEMBERED_S, Ended, Entry, NotedRun, NotedRuns
from tests.conftest import Events, Running, StartGateway, StartVendor, Vendor
from tests.simulators import faults
from tests.store.conftest import Clock


@dataclass
class Watched:
    """A gateway, one run of it that nobody asks about again, and the way to let time pass."""

    gateway: Running
    vendor: Vendor
    clock: Clock
    polling: Polling
    runs: NotedRuns
    run: dict[str, Any]
    settled: list[Settled] = field(default_factory=list)

    @property
    def asked(self) -> int:
        """How often the provider was asked about the run."""
        return sum(
            received.method == "GET" and "/runs/run_" in received.path for received in self.vendor.simulator.journal
        )

    async def noted(self) -> NotedRun | float | None:
        (entry,) = {settled.run.entry for settled in self.settled} or await self.entries()
        return await self.runs.read(entry)

    async def entries(self) -> list[Entry]:
        store = self.runs._store
        members = await store.run(lambda redis: redis.zrange(store.key("runs", "due"), 0, -1))
        return [Entry(*member.split(":", 2)) for member in members]

    async def at(self, seconds: float) -> int:
        """Look when so many seconds have passed since the run was made. How often the provider was asked then."""
        before, self.clock.now = self.asked, self.start + seconds
        await self.polling.look()
        return self.asked - before

    def __post_init__(self) -> None:
        self.start = self.clock.now


@pytest.fixture
async def watched(start_gateway: StartGateway, start_vendor: StartVendor) -> Watched:
    clock = Clock()
    vendor = await start_vendor("openai", now=lambda: int(clock.now))
    gateway = await start_gateway(vendor)
    app = gateway.app
    assert app.settlement is not None
    assert app.polling is not None
    app.settlement._clock = app.polling._clock = clock
    await app.polling.close()  # from now on it looks when the test says so
    _, assistant, _ = await gateway.call("POST", "/v1/assistants", {"model": "m"})
    body = {"assistant_id": assistant["id"], "thread": {"messages": [{"role": "user", "content": "Hello"}]}}
    status, run, _ = await gateway.call("POST", "/v1/threads/runs", body)
    assert status == 200
    stage = Watched(gateway, vendor, clock, app.polling, app.polling._runs, run)
    app.settlement.on_settled.append(stage.settled.append)
    return stage


def stuck(watched: Watched) -> None:
    """The run works for ever, as the provider tells it."""
    told = {**watched.run, "id": watched.run["id"][:-24], "thread_id": watched.run["thread_id"][:-24]}
    answer = faults.status(200, {**told, "status": "in_progress", "usage": None})
    watched.vendor.simulator.faults.add(answer, method="GET", path="/runs/run_", times=None)


async def test_a_run_that_nobody_polls_is_counted(watched: Watched, events: Events) -> None:
    assert await watched.at(19) == 0
    assert await watched.at(20) == 1  # in_progress
    assert watched.settled == []
    assert await watched.at(40) == 1
    (settled,) = watched.settled
    assert settled.status == "completed"
    assert settled.usage is not None
    assert (settled.run.public_run, settled.at_s) == (watched.run["id"], watched.start + 40)
    assert len(events.named("run.settled")) == 1


async def test_it_is_asked_when_it_is_twice_as_old_and_every_five_minutes_at_last(watched: Watched) -> None:
    stuck(watched)
    asked = [second for second in range(0, 1400, 5) if await watched.at(second)]
    assert asked == [20, 40, 80, 160, 320, 620, 920, 1220]


async def test_a_run_that_never_ends_is_unknown_15_minutes_after_it_must_have_expired(watched: Watched) -> None:
    stuck(watched)
    assert await watched.at(600 + 899) == 1
    assert watched.settled == []
    await watched.at(600 + 899 + 300)
    (settled,) = watched.settled
    assert (settled.status, settled.usage) == ("unseen", None)


async def test_what_was_due_while_no_gateway_ran_is_asked_before_it_is_given_up(watched: Watched) -> None:
    watched.vendor.simulator.worlds["acme"].runs.get(watched.run["thread_id"][:-24], watched.run["id"][:-24])
    assert await watched.at(10 * 86_400) == 1
    (settled,) = watched.settled
    assert settled.status == "expired"
    assert settled.usage is not None


async def test_a_run_that_is_gone_is_unknown_at_once(watched: Watched) -> None:
    await watched.gateway.call("DELETE", f"/v1/threads/{watched.run['thread_id']}")
    await watched.at(20)
    (settled,) = watched.settled
    assert (settled.status, settled.usage) == ("gone", None)


@pytest.mark.parametrize("fault", [faults.status(500), faults.status(401), faults.status(403), faults.cut(5)])
async def test_a_provider_that_does_not_answer_is_asked_again_later(watched: Watched, fault: faults.Act) -> None:
    programme = watched.vendor.simulator.faults
    programme.add(fault, method="GET", times=None)
    assert watched.gateway.app.shared is not None
    assert await watched.at(20) >= 1
    assert watched.settled == []
    programme.clear()
    watched.vendor.simulator.worlds["acme"].runs.get(watched.run["thread_id"][:-24], watched.run["id"][:-24])
    keys = watched.gateway.app.shared.keys
    for place in keys.all(time.time()):
        keys.revive(place)
    await watched.at(40)
    assert [settled.status for settled in watched.settled] == ["completed"]


async def test_a_disabled_provider_is_not_asked_until_it_is_enabled(watched: Watched) -> None:
    shared = watched.gateway.app.shared
    assert shared is not None
    shared.switches.disable("provider", "openai", "bills twice")
    for second in (20, 40, 600 + 901):
        assert await watched.at(second) == 0
    assert watched.settled == []
    shared.switches.enable("provider", "openai")
    assert await watched.at(600 + 901 + 300) == 1
    assert [settled.status for settled in watched.settled] == ["expired"]


async def test_a_disabled_tenant_is_counted_all_the_same(watched: Watched) -> None:
    """Its runs cost what they cost."""
    shared = watched.gateway.app.shared
    assert shared is not None
    shared.switches.disable("tenant", "alice", "does not pay")
    assert await watched.at(20) == 1
    assert await watched.at(40) == 1
    assert len(watched.settled) == 1


async def test_a_provider_that_a_reload_removed_leaves_its_runs_unknown(watched: Watched) -> None:
    watched.polling._directory.targets = {}
    assert await watched.at(20) == 0
    assert await watched.at(600 + 899) == 0
    assert watched.settled == []
    await watched.at(600 + 899 + 300)
    assert [settled.status for settled in watched.settled] == ["unseen"]


async def test_what_was_settled_is_remembered_and_then_forgotten(watched: Watched) -> None:
    await watched.at(20)
    await watched.at(40)
    await watched.at(160)
    assert await watched.noted() == watched.start + 40
    await watched.at(40 + REMEMBERED_S - 1)
    assert await watched.noted() is not None
    await watched.at(40 + REMEMBERED_S)
    assert await watched.noted() is None
    assert await watched.entries() == []
    assert len(watched.settled) == 1


async def test_an_entry_that_leads_nowhere_is_removed(watched: Watched) -> None:
    """A gateway was killed after it had written the entry and before the note."""
    assert len(await watched.entries()) == 1
    store = watched.runs._store
    await store.run(lambda redis: redis.delete(store.key("runs", "{alice}")))
    assert await watched.at(20) == 0
    assert await watched.entries() == []
    assert watched.settled == []


async def test_two_replicas_ask_once_and_count_once(watched: Watched) -> None:
    app = watched.gateway.app
    assert app.shared is not None
    assert app.settlement is not None
    heard: list[Settled] = []
    settlement = Settlement(watched.runs, answer_bytes=1000, clock=watched.clock)
    settlement.on_settled.append(heard.append)
    other = Polling(
        watched.runs,
        settlement,
        watched.polling._send,
        directory=watched.polling._directory,
        switches=app.shared.switches,
        clock=watched.clock,
    )
    for second in (20, 40):
        before, watched.clock.now = watched.asked, watched.start + second
        await asyncio.gather(watched.polling.look(), other.look())
        assert watched.asked == before + 1
    assert len(heard) + len(watched.settled) == 1


async def test_many_runs_are_looked_at_a_few_at_a_time(watched: Watched) -> None:
    """However slow the provider is."""
    (entry,) = await watched.entries()
    noted = await watched.runs.read(entry)
    assert isinstance(noted, NotedRun)
    for number in range(100):
        await watched.runs.note(replace(noted, run=f"run_{number:03}"))
    most = now = 0

    async def gone(exchange: faults.Exchange) -> Any:
        nonlocal most, now
        now += 1
        most = max(most, now)
        for _ in range(5):
            await asyncio.sleep(0)
        now -= 1
        return await faults.status(404)(exchange)

    watched.vendor.simulator.faults.add(gone, method="GET", times=None)
    watched.clock.now += 20
    while await watched.polling.look():
        pass
    assert len(watched.settled) == 101
    assert 1 < most <= 8


async def test_it_looks_by_itself_and_stops_at_once(
    start_gateway: StartGateway, start_vendor: StartVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.polling._LOOK_S", 0.001)
    monkeypatch.setattr("gateway.store.noted_runs.FIRST_LOOK_S", 0.0)
    monkeypatch.setattr("gateway.polling.FIRST_LOOK_S", 0.0)
    vendor = await start_vendor("openai")
    gateway = await start_gateway(vendor)
    _, assistant, _ = await gateway.call("POST", "/v1/assistants", {"model": "m"})
    heard = asyncio.Event()
    assert gateway.app.settlement is not None
    gateway.app.settlement.on_settled.append(lambda settled: heard.set())
    body = {"assistant_id": assistant["id"], "thread": {"messages": [{"role": "user", "content": "Hello"}]}}
    await gateway.call("POST", "/v1/threads/runs", body)
    async with asyncio.timeout(5):
        await heard.wait()
    vendor.simulator.faults.add(faults.hold(asyncio.Event()), method="GET", times=None)
    await gateway.call("POST", "/v1/threads/runs", body)
    async with asyncio.timeout(5):
        await gateway.app.stop(grace_s=0.1)


async def test_what_somebody_else_settled_is_not_asked_for(watched: Watched) -> None:
    settlement = watched.gateway.app.settlement
    assert settlement is not None
    usage = Usage(1, 2, 3)
    (entry,) = await watched.entries()
    await settlement.settle(entry.tenant, entry.route, [Ended(entry.run, "completed", usage)])
    assert [settled.usage for settled in watched.settled] == [usage]
    assert await watched.at(20) == 0


async def test_a_v1_provider_is_asked_too(start_gateway: StartGateway, start_vendor: StartVendor) -> None:
    vendor = await start_vendor("openai_v1")
    gateway = await start_gateway(vendor)
    app = gateway.app
    assert app.settlement is not None
    assert app.polling is not None
    heard: list[Settled] = []
    app.settlement.on_settled.append(heard.append)
    _, assistant, _ = await gateway.call("POST", "/v1/assistants", {"model": "m"})
    body = {"assistant_id": assistant["id"], "thread": {"messages": [{"role": "user", "content": "Hello"}]}}
    await gateway.call("POST", "/v1/threads/runs", body)
    clock = Clock(app.polling._clock() + 20)
    app.polling._clock = clock
    for _ in range(3):
        await app.polling.look()
        clock.now += 320
    assert [settled.status for settled in heard] == ["completed"]


async def test_a_store_that_leaves_does_not_end_it(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, events: Events
) -> None:
    """What it had taken is due again."""

    async def away(entry: Entry) -> None:
        raise StoreAway("ConnectionError")

    with monkeypatch.context() as patch:
        patch.setattr(watched.runs, "read", away)
        assert await watched.at(20) == 0
    assert await watched.at(100) == 0
    assert await watched.at(140) == 1
    assert events.named("polling.crashed") == []
