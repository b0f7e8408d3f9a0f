"""What a tenant has is known before it is there, and goes with it."""

from __future__ import annotations

import pytest
from redis import Redis

from gateway.engine.store import erase_holdings as module
from gateway.engine.store.erase_holdings import erase_holdings
from gateway.engine.store.holdings import Holding
from gateway.engine.store.lists import Window
from gateway.engine.store.results import Absent, Lost
from gateway.engine.store.retention import TRACE_S
from tests.engine.store.conftest import Replica
from tests.engine.store.objects import NOW, assistant, make_run, make_thread, thread
from tests.engine.store.test_retention import DAY, KEEP_S, keys_of

ACME = "r1"


async def held(at: Replica, tenant: str = "alice") -> list[Holding]:
    return await at.holdings.first(tenant, 100)


async def test_what_is_deleted_is_held_no_more(replica: Replica) -> None:
    """By a caller, or because nobody has used it for long."""
    asked, old, made = await make_thread(replica), await make_thread(replica), assistant()
    await replica.assistants.create(ACME, made, tenant="alice", now=NOW + 1)
    assert await held(replica) == [
        *sorted((Holding("thread", asked), Holding("thread", old)), key=str),
        Holding("assistant", made["id"], ACME),
    ]
    await replica.threads.delete(asked, now=NOW)
    await replica.assistants.delete(ACME, made["id"], tenant="alice")
    assert await held(replica) == [Holding("thread", old)]
    await replica.retention.sweep(now=NOW + KEEP_S + DAY, keep_s=KEEP_S)
    assert await held(replica) == []


async def test_all_that_a_tenant_has_is_erased_step_by_step(
    replica: Replica, plain: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 2)
    ids = [await make_thread(replica) for _ in range(5)]
    claim = await make_run(replica, ids[0])
    made, other, bobs = assistant(), assistant(), thread()
    await replica.assistants.create(ACME, made, tenant="alice", now=NOW)
    await replica.assistants.create(ACME, other, tenant="bob", now=NOW)
    await replica.threads.create(bobs, [], tenant="bob", now=NOW)
    assert await erase_holdings(replica.store, "alice", now=NOW) == {"served threads": 5, "served assistants": 1}
    assert [await replica.threads.get(each) for each in ids] == [Absent("thread")] * 5
    assert await replica.assistants.get(ACME, made["id"]) == Absent("assistant")
    assert await replica.assistants.get(ACME, other["id"]) == other
    assert await replica.threads.get(bobs["id"]) == bobs
    assert await held(replica) == []
    assert await replica.leases.renew(now=NOW + 1) == {claim: Lost.GONE}
    assert "alice" not in str([plain.hgetall(key) for key in plain.scan_iter(f"{replica.store.prefix}:*:t")])
    await replica.leases.sweep(now=NOW + 100)
    await replica.retention.sweep(now=NOW + TRACE_S, keep_s=None)
    assert not any(id_ in key for key in keys_of(plain, replica) for id_ in ids)


async def test_a_thread_that_is_being_made_while_its_tenant_is_erased_never_comes(replica: Replica) -> None:
    """Its entry is written, and what makes it comes late."""
    made = thread()
    await replica.holdings.note("alice", Holding("thread", made["id"]), NOW)
    await erase_holdings(replica.store, "alice", now=NOW)
    await replica.threads.create(made, [], tenant="alice", now=NOW)
    assert await replica.threads.get(made["id"]) == Absent("thread")
    assert await replica.runs.list(made["id"], Window()) == Absent("thread")
