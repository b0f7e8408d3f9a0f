"""All that is stored of served threads, opened together."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.engine.store.activity import Activity
from gateway.engine.store.assistants import Assistants
from gateway.engine.store.holdings import Holdings
from gateway.engine.store.leases import LEASE_S, LEASE_SHARDS, Leases
from gateway.engine.store.messages import Messages
from gateway.engine.store.retention import Retention
from gateway.engine.store.run_events import RunEvents
from gateway.engine.store.runs import Runs
from gateway.engine.store.steps import Steps
from gateway.engine.store.threads import Threads
from gateway.engine.store.work import Work
from gateway.store.connection import Store


@dataclass(frozen=True)
class Stored:
    """What one process has of it."""

    store: Store
    leases: Leases
    holdings: Holdings
    assistants: Assistants
    threads: Threads
    messages: Messages
    runs: Runs
    steps: Steps
    work: Work
    events: RunEvents
    retention: Retention


def open_stored(store: Store, *, owner: str) -> Stored:
    """`owner` names this process, for people."""
    activity = Activity(store)
    leases = Leases(store, owner=owner, lease_s=LEASE_S, shards=LEASE_SHARDS if store.is_cluster else 1)
    holdings = Holdings(store)
    threads = Threads(store, activity, holdings)
    return Stored(
        store=store,
        leases=leases,
        holdings=holdings,
        assistants=Assistants(store, holdings),
        threads=threads,
        messages=Messages(store, activity),
        runs=Runs(store, activity, leases),
        steps=Steps(store),
        work=Work(store, leases),
        events=RunEvents(store),
        retention=Retention(store, threads, activity),
    )
