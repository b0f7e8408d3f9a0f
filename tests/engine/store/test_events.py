from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from redis import Redis

from gateway import codec
from gateway.engine.store.endings import Ending
from gateway.engine.store.events import KEPT_S, START, Event, EventId, EventsGone, publish
from gateway.engine.store.leases import Taken
from gateway.engine.store.lists import Page, Window
from gateway.engine.store.results import Claim, Written
from gateway.engine.store.runs import Started
from gateway.engine.store.work import Change
from gateway.store.connection import StoreAway
from tests.conftest import eventually
from tests.engine.store.conftest import OpenReplica, Replica
from tests.engine.store.objects import CALLS, NOW, OUTPUTS, make_run, make_thread, message, run, step
from tests.store.conftest import OwnValkey

DELTA = "thread.message.delta"


def deltas(first: int, last: int) -> list[tuple[str, bytes]]:
    return [(DELTA, str(number).encode()) for number in range(first, last + 1)]


async def told(stream: AsyncIterator[Event], until: str | None = None) -> list[str]:
    """The data of events, up to and with that one; all there are without."""
    data: list[str] = []
    async with asyncio.timeout(10):
        async for event in stream:
            data.append(event.data.decode())
            if data[-1] == until:
                break
    return data


async def collect(stream: AsyncIterator[Event]) -> list[Event]:
    async with asyncio.timeout(10):
        return [event async for event in stream]


def numbers(first: int, last: int) -> list[str]:
    return [str(number) for number in range(first, last + 1)]


async def finish(at: Replica, claim: Claim, publisher, *events: tuple[str, bytes]) -> None:  # type: ignore[no-untyped-def]
    """As the engine ends a run."""
    staged = publisher.stage(*events, is_last=True)
    assert await at.work.finish(claim, Ending("completed", NOW), events=staged) == Written("completed")
    publisher.confirm(staged)
    await publisher.close()


@pytest.mark.parametrize(
    ("text", "id_"),
    [("1-2", EventId(1, 2)), ("12-345", EventId(12, 345)), ("", None), ("1", None), ("1-", None), ("-1-2", None),
     ("1-2 ", None), ("1-2\n", None), ("٣-٣", None), ("1234567890-1", None)],
)  # fmt: skip
def test_an_id_that_comes_back_is_read_or_is_none(text: str, id_: EventId | None) -> None:
    assert EventId.parse(text) == id_
    assert id_ is None or str(id_) == text


async def test_own_subscribers_hear_before_the_store_and_without_it(
    open_replica: OpenReplica, own_valkey: OwnValkey
) -> None:
    replica = await open_replica(own_valkey.url, timeout_s=0.1)
    id_ = await make_thread(replica)
    claim = await make_run(replica, id_)
    publisher = replica.events.publish(claim)
    stream = replica.events.subscribe(id_, claim.run, EventId(claim.epoch, 0))
    own_valkey.freeze()
    first = asyncio.create_task(told(stream, until="5"))
    await asyncio.sleep(0)
    publisher.send(*deltas(1, 3))
    await asyncio.sleep(0)
    publisher.send(*deltas(4, 5))
    assert await first == numbers(1, 5)
    with pytest.raises(StoreAway):
        await publisher.flush()
    own_valkey.thaw()
    await eventually(lambda: not publisher.pending)
    async with aclosing(replica.events.subscribe(id_, claim.run)) as again:
        assert await told(again, until="5") == numbers(1, 5)
    await stream.aclose()
    await publisher.close()


async def test_any_replica_goes_on_after_any_event(replica: Replica, other: Replica, plain: Redis) -> None:
    id_ = await make_thread(replica)
    claim = await make_run(replica, id_)
    publisher = replica.events.publish(claim)
    publisher.send(*deltas(1, 10))
    await publisher.flush()
    early = {
        (at, number): asyncio.create_task(
            told(at.events.subscribe(id_, claim.run, EventId(1, number) if number else START))
        )
        for at in (replica, other)
        for number in (0, 1, 9, 10)
    }
    await asyncio.sleep(0.05)
    publisher.send(*deltas(11, 20))
    await asyncio.sleep(0.02)
    publisher.send(*deltas(21, 22))
    await finish(replica, claim, publisher, (DELTA, b"23"))
    for (_, number), task in early.items():
        assert await task == [*numbers(number + 1, 23), "[DONE]"]
    for at in (replica, other):
        for number in (0, 5, 23):
            late = await told(at.events.subscribe(id_, claim.run, EventId(1, number) if number else START))
            assert late == [*numbers(number + 1, 23), "[DONE]"]
        assert await told(at.events.subscribe(id_, claim.run, EventId(1, 24))) == []
    assert not replica.events._feeds
    assert not other.events._feeds
    (key,) = plain.scan_iter(f"{replica.store.prefix}:*:ev:*")
    assert KEPT_S - 10 < plain.ttl(key) <= KEPT_S
    plain.delete(key)
    with pytest.raises(EventsGone):
        await told(other.events.subscribe(id_, claim.run, EventId(1, 5)))


async def test_nothing_is_lost_or_doubled_between_what_was_and_what_comes(other: Replica, replica: Replica) -> None:
    """Subscribers come at every moment, here and there, while it goes on."""
    id_ = await make_thread(replica)
    claim = await make_run(replica, id_)
    publisher = replica.events.publish(claim)
    streams = []
    for number in range(1, 301):
        publisher.send(*deltas(number, number))
        if number % 10 == 0:
            at = other if number % 20 else replica
            streams.append(asyncio.create_task(told(at.events.subscribe(id_, claim.run))))
            await asyncio.sleep(0.001)
    await finish(replica, claim, publisher)
    for stream in streams:
        assert await stream == [*numbers(1, 300), "[DONE]"]


async def test_who_joins_those_who_listen_is_told_what_it_missed(replica: Replica, other: Replica) -> None:
    id_ = await make_thread(replica)
    claim = await make_run(replica, id_)
    publisher = replica.events.publish(claim)
    first = other.events.subscribe(id_, claim.run)
    joining = asyncio.create_task(anext(first))
    await _feed(other, id_, claim)
    publisher.send(*deltas(1, 5))
    assert (await joining).data == b"1"
    assert await told(first, until="5") == numbers(2, 5)
    late = asyncio.create_task(told(other.events.subscribe(id_, claim.run, EventId(1, 2))))
    await eventually(lambda: len(other.events._feeds[id_, claim.run].queues) >= 1)
    await finish(replica, claim, publisher, (DELTA, b"6"))
    assert await late == [*numbers(3, 6), "[DONE]"]


async def test_who_comes_while_the_run_ends_hears_its_end(
    replica: Replica, other: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = await make_thread(replica)
    claim = await make_run(replica, id_)
    publisher = replica.events.publish(claim)
    publisher.send(*deltas(1, 2))
    await publisher.flush()
    is_active = other.events._is_active

    async def ends_meanwhile(thread: str, of: str) -> bool:
        await finish(replica, claim, publisher)
        return await is_active(thread, of)

    monkeypatch.setattr(other.events, "_is_active", ends_meanwhile)
    assert await told(other.events.subscribe(id_, claim.run)) == ["1", "2", "[DONE]"]


async def test_one_reader_serves_all_who_listen_to_a_run(replica: Replica, other: Replica) -> None:
    id_ = await make_thread(replica)
    claim = await make_run(replica, id_)
    publisher = replica.events.publish(claim)
    streams = [asyncio.create_task(told(other.events.subscribe(id_, claim.run))) for _ in range(20)]
    (feed,) = [await _feed(other, id_, claim)]
    await eventually(lambda: len(feed.queues) == 20)
    assert len([task for task in asyncio.all_tasks() if task.get_name() == "run.read"]) == 1
    publisher.send(*deltas(1, 3))
    await finish(replica, claim, publisher)
    for stream in streams:
        assert await stream == [*numbers(1, 3), "[DONE]"]


async def _feed(at: Replica, id_: str, claim: Claim):  # type: ignore[no-untyped-def]
    await eventually(lambda: (id_, claim.run) in at.events._feeds)
    return at.events._feeds[id_, claim.run]


async def test_a_slow_subscriber_costs_little_and_misses_nothing(open_replica: OpenReplica) -> None:
    replica = await open_replica(queue_limit=10)
    id_ = await make_thread(replica)
    claim = await make_run(replica, id_)
    publisher = replica.events.publish(claim)
    stream = replica.events.subscribe(id_, claim.run, EventId(1, 0))
    publisher.send(*deltas(1, 1))
    assert (await anext(stream)).data == b"1"
    publisher.send(*deltas(2, 100))
    (queue,) = replica.events._feeds[id_, claim.run].queues
    assert len(queue._events) <= 10
    assert await told(stream, until="100") == numbers(2, 100)
    publisher.send(*deltas(101, 105))
    assert await told(replica.events.subscribe(id_, claim.run, EventId(1, 100)), until="105") == numbers(101, 105)
    await stream.aclose()
    await publisher.close()


async def test_who_listens_goes_on_when_the_run_is_taken_over(replica: Replica, open_replica: OpenReplica) -> None:
    """Also who heard what the replica that is gone never stored, and who comes after it."""
    zombie, third = await open_replica(), await open_replica()
    id_ = await make_thread(zombie)
    claim = await make_run(zombie, id_)
    publisher = zombie.events.publish(claim)
    publisher.send(*deltas(1, 3))
    await publisher.flush()
    heard: list[str] = []

    async def listen(at: Replica, after: EventId) -> list[str]:
        return await told(at.events.subscribe(id_, claim.run, after))

    there = asyncio.create_task(listen(third, START))
    own = asyncio.create_task(listen(zombie, EventId(1, 0)))
    await eventually(lambda: len(zombie.events._feeds[id_, claim.run].queues) == 1)
    await asyncio.sleep(0.01)
    (taken,) = await replica.leases.sweep(now=NOW + 5)
    assert isinstance(taken, Taken)
    publisher.send((DELTA, b"told and never stored"))
    await eventually(lambda: publisher.is_lost)
    new = replica.events.publish(taken.claim)
    new.send(*deltas(4, 6))
    cut = asyncio.create_task(listen(replica, EventId(1, 4)))  # who had heard the zombie and comes to the other
    await asyncio.sleep(0.01)
    await finish(replica, taken.claim, new, (DELTA, b"7"))
    await publisher.close()
    assert await there == [*numbers(1, 7), "[DONE]"]
    assert await own == [*numbers(1, 3), "told and never stored", *numbers(4, 7), "[DONE]"]
    assert await cut == [*numbers(4, 7), "[DONE]"]
    assert not heard


async def test_a_stream_ends_where_outputs_are_waited_for_and_another_goes_on(replica: Replica, other: Replica) -> None:
    id_ = await make_thread(replica)
    claim = await make_run(replica, id_)
    publisher = replica.events.publish(claim)
    first = asyncio.create_task(told(replica.events.subscribe(id_, claim.run, EventId(1, 0))))
    publisher.send(*deltas(1, 2))
    staged = publisher.stage(("thread.run.requires_action", b"3"), is_last=True)
    assert await replica.work.require_action(claim, CALLS, events=staged) == Written("requires_action")
    publisher.confirm(staged)
    await publisher.close()
    assert await first == ["1", "2", "3", "[DONE]"]
    assert await told(other.events.subscribe(id_, claim.run)) == ["1", "2", "3", "[DONE]"]
    submitted = await other.runs.submit(id_, claim.run, OUTPUTS, now=NOW)
    assert isinstance(submitted, Started)
    after = EventId(submitted.claim.epoch, 0)
    second = asyncio.create_task(told(replica.events.subscribe(id_, claim.run, after)))
    publisher = other.events.publish(submitted.claim)
    publisher.send(*deltas(4, 5))
    await finish(other, submitted.claim, publisher)
    assert await second == ["4", "5", "[DONE]"]
    assert await told(replica.events.subscribe(id_, claim.run, after)) == ["4", "5", "[DONE]"]


async def test_a_stream_ends_with_its_run_whoever_ends_it(replica: Replica, other: Replica) -> None:
    """Expired, cancelled while it waited, or deleted with its thread."""
    id_ = await make_thread(replica)
    expired = await make_run(replica, id_)
    stream = asyncio.create_task(told(other.events.subscribe(id_, expired.run)))
    await _feed(other, id_, expired)
    await other.leases.sweep(now=NOW + 600)
    assert await stream == []
    told_of = await make_run(replica, id_)
    publisher = replica.events.publish(told_of)
    publisher.send(*deltas(1, 1))
    await publisher.flush()
    stream = asyncio.create_task(told(other.events.subscribe(id_, told_of.run)))
    await _feed(other, id_, told_of)
    await other.leases.sweep(now=NOW + 600)
    first, end, done = await stream
    assert (first, codec.loads(end.encode())["status"], done) == ("1", "expired", "[DONE]")
    await publisher.close()
    deleted = await make_run(replica, id_)
    publisher = replica.events.publish(deleted)
    publisher.send(*deltas(1, 1))
    await publisher.flush()
    stream = asyncio.create_task(told(other.events.subscribe(id_, deleted.run)))
    await _feed(other, id_, deleted)
    await replica.threads.delete(id_, now=NOW)
    assert await stream == ["1"]
    await publisher.close()
    with pytest.raises(EventsGone):
        await told(other.events.subscribe(id_, deleted.run))


@pytest.mark.parametrize("has_told", [True, False], ids=["after a word", "before the first word was stored"])
async def test_who_listens_hears_that_a_run_expired_whose_replica_is_gone(
    replica: Replica, other: Replica, plain: Redis, has_told: bool
) -> None:
    """With what it left open, as its replica would have told it; and who comes later hears the same."""
    id_ = await make_thread(replica)
    created = run(expires_at=int(NOW) + 600, metadata={"a": "b"})
    context = {"tenant": "alice", "is_streamed": True}
    started = await replica.runs.create(id_, created, needs_user_message=True, context=context, now=NOW)
    assert isinstance(started, Started)
    claim = started.claim
    await replica.work.start(claim, now=NOW)
    begun, opened = message("assistant", status="in_progress"), step(claim, status="in_progress", _={"round": []})
    await replica.work.write(claim, Change("begin", "message", begun), Change("begin", "step", opened))
    publisher = replica.events.publish(claim)
    if has_told:
        publisher.send(*deltas(1, 2))
        await publisher.flush()
    own = asyncio.create_task(collect(replica.events.subscribe(id_, claim.run)))
    stream = asyncio.create_task(collect(other.events.subscribe(id_, claim.run)))
    await _feed(other, id_, claim)
    await other.leases.sweep(now=NOW + 600)
    heard = await stream
    names = ["thread.message.incomplete", "thread.run.step.expired", "thread.run.expired", "done"]
    assert [event.name for event in heard] == [*([DELTA, DELTA] if has_told else []), *names]
    assert [str(event.id) for event in heard[-4:]] == ["2-1", "2-2", "2-3", "2-4"]
    left, step_, ended = [codec.loads(event.data) for event in heard[-4:-1]]
    page = await other.messages.list(id_, Window(limit=1))
    assert isinstance(page, Page)
    assert left == page.objects[0]
    assert left["incomplete_details"] == {"reason": "run_expired"}
    assert (step_["id"], step_["status"], "_" in step_) == (opened["id"], "expired", False)
    assert ended == await other.runs.get(id_, claim.run)
    assert (ended["status"], ended["started_at"], ended["metadata"]) == ("expired", int(NOW), {"a": "b"})
    await publisher.close()
    assert await own == heard
    assert await collect(replica.events.subscribe(id_, claim.run, EventId(1, 2))) == heard[-4:]
    [key] = plain.scan_iter(f"{replica.store.prefix}:*:ev:*")
    assert 0 < plain.ttl(key) <= 900


async def test_a_run_that_told_nothing_tells_no_end_either(replica: Replica, other: Replica, plain: Redis) -> None:
    """Nobody listens, and a stream would take 4 KB."""
    await make_run(replica, await make_thread(replica))
    await other.leases.sweep(now=NOW + 600)
    assert list(plain.scan_iter(f"{replica.store.prefix}:*:ev:*")) == []


async def test_who_asks_for_what_is_not_kept_any_more_is_told(replica: Replica, other: Replica, plain: Redis) -> None:
    id_ = await make_thread(replica)
    claim = await make_run(replica, id_)
    publisher = replica.events.publish(claim)
    publisher.send(*deltas(1, 30))
    await publisher.flush()
    (key,) = plain.scan_iter(f"{replica.store.prefix}:*:ev:*")
    plain.xtrim(key, maxlen=10, approximate=False)
    with pytest.raises(EventsGone):
        await told(other.events.subscribe(id_, claim.run, EventId(1, 19)))
    async with aclosing(other.events.subscribe(id_, claim.run, EventId(1, 20))) as stream:
        assert await told(stream, until="30") == numbers(21, 30)
    await publisher.close()


async def test_events_that_wait_too_long_are_given_up_oldest_first(
    open_replica: OpenReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.engine.store.run_events.PENDING_BYTES", 20)
    replica = await open_replica()
    id_ = await make_thread(replica)
    claim = await make_run(replica, id_)
    publisher = replica.events.publish(claim)
    publisher.send(*((DELTA, b"12345678") for _ in range(5)))
    assert [str(event.id) for event in publisher.pending] == ["1-4", "1-5"]
    await publisher.flush()
    with pytest.raises(EventsGone):
        await told(replica.events.subscribe(id_, claim.run))
    await publisher.close()


async def test_what_is_told_while_a_batch_is_stored_makes_the_next_one(
    open_replica: OpenReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = await open_replica()
    id_ = await make_thread(replica)
    claim = await make_run(replica, id_)
    publisher = replica.events.publish(claim)

    async def publish_slowly(*given: Any) -> Any:
        publisher.send(*deltas(4, 4))
        return await publish(*given)

    monkeypatch.setattr("gateway.engine.store.publisher.publish", publish_slowly)
    publisher.send(*deltas(1, 3))
    await publisher.flush()
    assert [event.data for event in publisher.pending] == [b"4"]
    monkeypatch.undo()
    await publisher.close()
    assert not publisher.pending
    async with aclosing(replica.events.subscribe(id_, claim.run)) as stream:
        assert await told(stream, until="4") == numbers(1, 4)


async def test_a_reader_waits_for_a_store_that_is_away(open_replica: OpenReplica, own_valkey: OwnValkey) -> None:
    replica, other = await open_replica(own_valkey.url), await open_replica(own_valkey.url, timeout_s=0.3)
    id_ = await make_thread(replica)
    claim = await make_run(replica, id_)
    publisher = replica.events.publish(claim)
    stream = other.events.subscribe(id_, claim.run)
    first = asyncio.create_task(anext(stream))
    await _feed(other, id_, claim)
    publisher.send(*deltas(1, 1))
    assert (await first).data == b"1"
    own_valkey.freeze()
    await eventually(lambda: not other.store.is_ready)
    with pytest.raises(StoreAway):
        await told(other.events.subscribe(id_, claim.run))
    own_valkey.thaw()
    publisher.send(*deltas(2, 3))
    assert await told(stream, until="3") == ["2", "3"]
    await stream.aclose()
    await publisher.close()


async def test_a_reader_gives_up_a_store_that_stays_away(
    open_replica: OpenReplica, own_valkey: OwnValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody listens for ever to nothing."""
    monkeypatch.setattr("gateway.engine.store.run_events._AWAY_S", 0.1)
    replica, other = await open_replica(own_valkey.url), await open_replica(own_valkey.url, timeout_s=0.3)
    id_ = await make_thread(replica)
    claim = await make_run(replica, id_)
    publisher = replica.events.publish(claim)
    stream = other.events.subscribe(id_, claim.run)
    first = asyncio.create_task(anext(stream))
    await _feed(other, id_, claim)
    publisher.send(*deltas(1, 1))
    assert (await first).data == b"1"
    own_valkey.kill()
    with pytest.raises(StoreAway):
        await told(stream)
    await publisher.close()
