"""A Valkey that runs as a cluster refuses scripts whose keys, named or made inside, are of several slots."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import ResponseError

from gateway.engine.store.endings import Ending
from gateway.engine.store.keys import thread_key
from gateway.engine.store.leases import LEASE_SHARDS, Taken
from gateway.engine.store.lists import Page, Window
from gateway.engine.store.results import Done, Written
from gateway.engine.store.runs import Started
from gateway.engine.store.work import Change
from tests.cluster import ValkeyCluster
from tests.engine.store.conftest import OpenReplica
from tests.engine.store.objects import (
    CALLS,
    NOW,
    OUTPUTS,
    assistant,
    listed,
    make_run,
    make_thread,
    message,
    step,
)


@pytest.mark.one_server
async def test_a_whole_life_takes_one_slot_for_each_script(
    valkey_cluster: ValkeyCluster, open_replica: OpenReplica
) -> None:
    url = valkey_cluster.url
    first, second = await open_replica(url), await open_replica(url)
    account, made = "r1", assistant()
    await first.assistants.create(account, made, tenant="alice", now=NOW)
    assert await first.assistants.modify(account, made["id"], {"name": "n"}) == made | {"name": "n"}
    assert await first.assistants.delete(account, made["id"], tenant="alice") == Done()
    assert await first.assistants.list(account, Window()) == Page((), False)

    kept, dropped = message(text="kept"), message()
    thread = await make_thread(first, kept, dropped)
    assert await first.messages.delete(thread, dropped["id"]) == Done()
    await first.messages.modify(thread, kept["id"], {"a": "b"})
    await first.threads.modify(thread, {"metadata": {"a": "b"}})
    await first.messages.append(thread, message(text="next"), now=NOW)
    claim = await make_run(first, thread)
    publisher = first.events.publish(claim)
    publisher.send(("thread.message.delta", b"{}"))
    begun = Change("begin", "step", step(claim, "tool_calls"))
    staged = publisher.stage(is_last=True)
    assert await first.work.require_action(claim, CALLS, begun, events=staged) == Written("requires_action")
    submitted = await first.runs.submit(thread, claim.run, OUTPUTS, now=NOW)
    assert isinstance(submitted, Started)
    assert list((await first.leases.renew(now=NOW)).values()) == [Written("queued")]
    (taken,) = await second.leases.sweep(now=NOW + 5)
    assert isinstance(taken, Taken)
    await second.work.write(taken.claim, Change("commit", "message", message("assistant", "answer")))
    await second.runs.cancel(thread, claim.run, now=NOW + 6)
    await second.work.finish(taken.claim, Ending("cancelled", NOW + 6))
    await first.runs.modify(thread, claim.run, {})
    assert isinstance(await first.runs.list(thread, Window()), Page)
    assert isinstance(await first.steps.list(thread, claim.run, Window()), Page)
    assert await listed(second, thread) == ["kept", "next", "answer"]
    assert [event.name for event in [one async for one in second.events.subscribe(thread, claim.run)]][-1] == "done"
    await make_run(second, thread)
    await first.leases.sweep(now=NOW + 600)
    assert await second.retention.sweep(now=NOW + 1e7, keep_s=1e6) == [thread]
    await second.retention.sweep(now=NOW + 2e7, keep_s=None)
    await publisher.close()
    with valkey_cluster.server(0) as server, pytest.raises(ResponseError, match="same slot"):  # it does look
        server.eval("return 1", 2, "a", "b")


@pytest.mark.long
@pytest.mark.one_server
async def test_a_run_goes_on_while_its_slot_moves(valkey_cluster: ValkeyCluster, open_replica: OpenReplica) -> None:
    """Away for as long as it moves: what is told then is stored later, and heard once and in order."""
    works, listens = await open_replica(valkey_cluster.url), await open_replica(valkey_cluster.url)
    thread = await make_thread(works, message())
    claim = await make_run(works, thread)
    key = thread_key(works.store, thread, "t")
    home = valkey_cluster.owner_of(key)
    publisher = works.events.publish(claim)
    told = [str(number) for number in range(300)]

    async def hear() -> list[str]:
        return [event.data.decode() async for event in listens.events.subscribe(thread, claim.run)]

    async def say() -> None:
        for data in told:
            publisher.send(("thread.message.delta", data.encode()))
            await asyncio.sleep(0.005)

    hearing, saying = asyncio.create_task(hear()), asyncio.create_task(say())
    for to in ((home + 1) % 3, (home + 2) % 3, home):
        await asyncio.sleep(0.2)
        moving = await asyncio.to_thread(valkey_cluster.moving, key, to=to)
        await asyncio.sleep(0.1)
        await asyncio.to_thread(moving.move, [key])
        await asyncio.sleep(0.1)
        await asyncio.to_thread(moving.all)
    await saying
    staged = publisher.stage(is_last=True)
    assert await works.work.finish(claim, Ending("completed", NOW + 6), events=staged) == Written("completed")
    publisher.confirm(staged)
    async with asyncio.timeout(10):
        assert await hearing == [*told, "[DONE]"]
    await publisher.close()


@pytest.mark.one_server
async def test_runs_of_a_server_that_is_away_keep_nobody_else_waiting(
    valkey_cluster: ValkeyCluster, open_replica: OpenReplica
) -> None:
    """Neither those that are renewed nor those that are overdue."""
    holds, takes = [await open_replica(valkey_cluster.url, timeout_s=0.3, lease_shards=LEASE_SHARDS) for _ in range(2)]
    threads = [await make_thread(holds, message()) for _ in range(12)]
    claims = [await make_run(holds, thread) for thread in threads]
    places = {claim: valkey_cluster.owner_of(thread_key(holds.store, claim.thread, "a")) for claim in claims}
    assert set(places.values()) == {0, 1, 2}
    there = {claim for claim in claims if places[claim] != 0}
    with valkey_cluster.frozen(0):
        assert (await holds.leases.renew(now=NOW + 2)).keys() == there
    assert set(holds.leases.held) == set(claims)
    with valkey_cluster.frozen(0):
        found = await takes.leases.sweep(now=NOW + 20)
    # Whose entry lies on the server that is away is found when that is back.
    entries = [takes.leases._key(each.claim.thread) for each in found if isinstance(each, Taken)]
    assert entries
    assert {valkey_cluster.owner_of(entry) for entry in entries} <= {1, 2}
    assert {each.claim.run for each in found if isinstance(each, Taken)} <= {claim.run for claim in there}
