from __future__ import annotations

from redis import Redis

from gateway.engine.store.activity import SAMPLE_S
from gateway.engine.store.lists import Window
from gateway.engine.store.results import Absent, Done, Lost
from gateway.engine.store.retention import TRACE_S
from tests.engine.store.conftest import Replica
from tests.engine.store.objects import NOW, make_run, make_thread, message, thread

DAY = 86400.0
KEEP_S = 60 * DAY


def keys_of(plain: Redis, at: Replica) -> set[str]:
    prefix = f"{at.store.prefix}:"
    return {key.removeprefix(prefix) for key in plain.scan_iter(f"{prefix}*")}


async def test_what_nobody_has_used_for_long_is_deleted(replica: Replica, other: Replica) -> None:
    old, appended, run_in = [await make_thread(replica) for _ in range(3)]
    await other.messages.append(appended, message(), now=NOW + 10 * DAY)
    await make_run(other, run_in, now=NOW + 10 * DAY)
    for late in (KEEP_S, KEEP_S + SAMPLE_S - 1):
        assert await replica.retention.sweep(now=NOW + late, keep_s=KEEP_S) == []
    assert await replica.retention.sweep(now=NOW + KEEP_S + SAMPLE_S, keep_s=KEEP_S) == [old]
    assert await replica.threads.get(old) == Absent("thread")
    assert isinstance(await replica.threads.get(appended), dict)
    later = NOW + 10 * DAY + KEEP_S + SAMPLE_S
    assert await replica.retention.sweep(now=later, keep_s=None) == []
    # The other has a run in work, which the leases have to end first.
    assert await replica.retention.sweep(now=later, keep_s=KEEP_S) == [appended]
    await replica.leases.sweep(now=later)
    assert await replica.retention.sweep(now=later + KEEP_S + SAMPLE_S, keep_s=KEEP_S) == [run_in]


async def test_a_use_that_the_index_has_missed_counts(replica: Replica, plain: Redis) -> None:
    """Each process tells it once an hour, and may die before."""
    id_ = await make_thread(replica)
    await replica.messages.append(id_, message(), now=NOW + 10 * DAY)
    plain.zadd(replica.activity.key_of(id_), {id_: NOW})
    assert await replica.retention.sweep(now=NOW + 65 * DAY, keep_s=KEEP_S) == []
    assert await replica.messages.append(id_, message(), now=NOW) == Done()


async def test_the_index_is_not_written_with_every_message(replica: Replica, plain: Redis) -> None:
    id_ = await make_thread(replica)
    for second, noted in ((SAMPLE_S - 1, NOW), (SAMPLE_S, NOW + SAMPLE_S), (SAMPLE_S + 1, NOW + SAMPLE_S)):
        await replica.messages.append(id_, message(), now=NOW + second)
        assert plain.zscore(replica.activity.key_of(id_), id_) == noted


async def test_it_is_done_in_steps(replica: Replica) -> None:
    ids = [await make_thread(replica) for _ in range(7)]
    found = []
    while step := await replica.retention.sweep(now=NOW + 70 * DAY, keep_s=KEEP_S, limit=3):
        assert len(step) <= 3
        found += step
    assert sorted(found) == sorted(ids)


async def test_nothing_is_left_of_a_deleted_thread_in_the_end(replica: Replica, plain: Redis) -> None:
    id_ = await make_thread(replica)
    claim = await make_run(replica, id_)
    await replica.threads.delete(id_, now=NOW)
    await replica.retention.sweep(now=NOW + TRACE_S - 1, keep_s=None)
    assert f"{{{id_}}}:t" in keys_of(plain, replica)
    await replica.retention.sweep(now=NOW + TRACE_S, keep_s=KEEP_S)
    await replica.retention.sweep(now=NOW + 70 * DAY, keep_s=KEEP_S)
    assert await replica.leases.renew(now=NOW + 100) == {claim: Lost.GONE}
    await replica.leases.sweep(now=NOW + 100)
    assert keys_of(plain, replica) == set()


async def test_traces_go_however_many_there_are(replica: Replica, plain: Redis) -> None:
    for _ in range(5):
        await replica.threads.delete(await make_thread(replica), now=NOW)
    await replica.retention.sweep(now=NOW + TRACE_S, keep_s=None, limit=2)
    assert keys_of(plain, replica) == set()


async def test_a_deletion_that_was_only_announced_deletes_nothing(replica: Replica) -> None:
    made = thread()
    await replica.threads.create(made, [], tenant="alice", now=NOW)
    await replica.activity.note_deletion(made["id"], NOW)
    await replica.retention.sweep(now=NOW + 2 * TRACE_S, keep_s=None)
    assert await replica.threads.get(made["id"]) == made
    assert await replica.runs.list(made["id"], Window()) is not None
