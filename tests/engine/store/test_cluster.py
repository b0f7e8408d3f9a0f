"""A Valkey that runs as a cluster refuses scripts whose keys, named or made inside, are of several slots."""

from __future__ import annotations

import pytest
from redis.exceptions import ResponseError

from gateway.engine.store.endings import Ending
from gateway.engine.store.leases import Taken
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


async def test_a_whole_life_takes_one_slot_for_each_script(
    valkey_cluster: ValkeyCluster, open_replica: OpenReplica
) -> None:
    url = valkey_cluster.url
    first, second = await open_replica(url), await open_replica(url)
    account, made = "r1", assistant()
    await first.assistants.create(account, made)
    assert await first.assistants.modify(account, made["id"], {"name": "n"}) == made | {"name": "n"}
    assert await first.assistants.delete(account, made["id"]) == Done()
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
