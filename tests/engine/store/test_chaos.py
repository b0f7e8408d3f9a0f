"""Replicas that die, stall and come back while they work on runs, in random order and on a clock of the test's own."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from redis import Redis

from gateway.engine.store.endings import Ending
from gateway.engine.store.leases import Expired, Taken
from gateway.engine.store.lists import Page, Window
from gateway.engine.store.results import Claim, RunActive, Written
from gateway.engine.store.runs import Started
from gateway.engine.store.work import Change
from tests.engine.store.conftest import OpenReplica, Replica
from tests.engine.store.objects import CALLS, CONTEXT, NOW, OUTPUTS, listed, make_thread, message, run

ENDED = {"completed", "failed", "cancelled", "expired"}


class Chaos:
    """One thread, several replicas, and what a plain reader of the promises expects to find."""

    def __init__(self, replicas: list[Replica], thread: str, random: Random) -> None:
        self.replicas = replicas
        self.thread = thread
        self.random = random
        self.now = NOW
        self.runs: list[str] = []
        self.claims: list[tuple[Replica, Claim]] = []
        """Every claim there ever was, the lost ones too: their holders do not always know."""
        self.holder: dict[str, str] = {}
        """The fence that counts, by run in work."""
        self.texts = ["hello"]
        self.waiting: set[str] = set()

    def took(self, at: Replica, claim: Claim) -> None:
        self.claims.append((at, claim))
        self.holder[claim.run] = claim.fence
        self.waiting.discard(claim.run)

    def counts(self, claim: Claim) -> bool:
        return self.holder.get(claim.run) == claim.fence

    async def create(self, at: Replica) -> None:
        made = run(created_at=int(self.now), expires_at=int(self.now) + 60)
        result = await at.runs.create(self.thread, made, needs_user_message=True, context=CONTEXT, now=self.now)
        if self.holder:
            assert result == RunActive(*self.holder)
        else:
            assert isinstance(result, Started)
            self.runs.append(made["id"])
            self.took(at, result.claim)

    async def work(self, at: Replica) -> None:
        """Somebody who had a claim once, and may have lost it, goes on."""
        if not self.claims:
            return
        at, claim = self.random.choice(self.claims[-4:])
        text = f"{len(self.texts)}"
        act = self.random.choice(["start", "write", "write", "wait", "finish"])
        change = Change("commit", "message", message("assistant", text))
        result: Any
        if act == "start":
            result = await at.work.start(claim, now=self.now)
        elif act == "write":
            result = await at.work.write(claim, change)
        elif act == "wait":
            result = await at.work.require_action(claim, CALLS)
        else:
            result = await at.work.finish(claim, Ending("completed", self.now), change)
        was_ended_by_it = act == "finish" and claim.run not in self.holder and isinstance(result, Written)
        assert isinstance(result, Written) == (self.counts(claim) or was_ended_by_it), (act, result)
        if not self.counts(claim):
            return
        if act in ("write", "finish"):
            self.texts.append(text)
        if act == "wait" and result.status == "requires_action":
            self.waiting.add(claim.run)
        if act == "finish":
            del self.holder[claim.run]

    async def submit(self, at: Replica) -> None:
        for run_id in self.runs[-2:]:
            result = await at.runs.submit(self.thread, run_id, OUTPUTS, now=self.now)
            if isinstance(result, Started):
                assert run_id in self.waiting
                self.took(at, result.claim)

    async def cancel(self, at: Replica) -> None:
        for run_id in self.runs[-1:]:
            result = await at.runs.cancel(self.thread, run_id, now=self.now)
            if isinstance(result, dict) and result["status"] == "cancelled":
                assert run_id in self.waiting
                del self.holder[run_id]

    async def renew(self, at: Replica) -> None:
        for claim, result in (await at.leases.renew(now=self.now)).items():
            assert isinstance(result, Written) == self.counts(claim)

    async def sweep(self, at: Replica) -> None:
        for found in await at.leases.sweep(now=self.now):
            if isinstance(found, Taken):
                self.took(at, found.claim)
            else:
                assert isinstance(found, Expired)
                del self.holder[found.run]

    async def hand_over(self, at: Replica) -> None:
        for claim in at.leases.held:
            await at.leases.hand_over(claim, now=self.now)

    async def die(self, at: Replica) -> None:
        """And be there again at once, knowing nothing."""
        for claim in at.leases.held:
            at.leases.drop(claim)

    async def wait(self, at: Replica) -> None:
        self.now += self.random.choice([0.5, 2, 6, 20])

    async def go(self, steps: int) -> None:
        acts = [self.create, self.work, self.work, self.work, self.submit, self.cancel, self.renew, self.renew]
        acts += [self.sweep, self.sweep, self.hand_over, self.die, self.wait]
        for _ in range(steps):
            await self.random.choice(acts)(self.random.choice(self.replicas))

    async def calm_down(self) -> None:
        """All replicas are gone but one, which only sweeps."""
        last = self.replicas[0]
        for at in self.replicas:
            await self.die(at)
        for _ in range(30):
            self.now += 6
            await self.sweep(last)
            await self.die(last)
        self.now += 600
        await self.sweep(last)


async def play(open_replica: OpenReplica, plain: Redis, seed: int, steps: int) -> None:
    replicas = [await open_replica(twice=number == 0) for number in range(3)]
    chaos = Chaos(replicas, await make_thread(replicas[0]), Random(seed))
    await chaos.go(steps)
    await chaos.calm_down()
    page = await replicas[0].runs.list(chaos.thread, Window(100, "asc"))
    assert isinstance(page, Page)
    assert [made["id"] for made in page.objects] == chaos.runs[: len(page.objects)]
    assert {made["status"] for made in page.objects} <= ENDED
    assert chaos.holder == {}
    assert await listed(replicas[0], chaos.thread) == chaos.texts[:100]
    assert plain.zcard(replicas[0].store.key("leases", "{l0}")) == 0
    assert not plain.exists(replicas[0].store.key(f"{{{chaos.thread}}}", "a"))


@pytest.mark.parametrize("seed", range(6))
async def test_every_run_ends_and_only_who_holds_it_writes(open_replica: OpenReplica, plain: Redis, seed: int) -> None:
    await play(open_replica, plain, seed, 150)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 300))
async def test_every_run_ends_often(open_replica: OpenReplica, plain: Redis, seed: int) -> None:
    await play(open_replica, plain, seed, 400)
