"""What the cache serves, keeps and drops, and what it does when the store is away."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from gateway.store.cache import Away, Fill, Generation, Hit, Miss, Scope, ThreadCache
from gateway.store.coalescer import Coalescer
from tests.conftest import Events
from tests.store.conftest import OpenCoalescer, OwnValkey, Pause
from tests.store.gate import PATIENCE_S, Gate
from tests.store.wire import Call, Wire

SCOPE = Scope("tenant", "route", "thread", "thread_abc")
OTHER = Scope("tenant", "route", "thread", "thread_xyz")
FIELD = "GET /threads/thread_abc"
TTL_S = 60.0
LEASE_S = 600.0


class Clock:
    """Time that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


Replica = tuple[ThreadCache, Wire]
StartReplica = Callable[..., Awaitable[Replica]]


@pytest.fixture
def start_replica(plain: Redis, prefix: str, clock: Clock) -> StartReplica:
    """A cache and its way to the store, which is prompt unless told otherwise. All share one store."""
    seeds = iter(range(100))

    async def start(unannounced_limit: int = 10) -> Replica:
        wire = Wire(plain)
        cache = ThreadCache(
            wire,
            prefix=prefix,
            lease_s=LEASE_S,
            unannounced_limit=unannounced_limit,
            clock=clock,
            rand=random.Random(next(seeds)).randbytes,
        )
        await cache.catch_up()
        return cache, wire

    return start


async def missed(cache: ThreadCache, scope: Scope = SCOPE) -> Generation:
    found = await cache.read(scope, FIELD)
    assert isinstance(found, Miss)
    return found.generation


async def keep(cache: ThreadCache, body: bytes, scope: Scope = SCOPE) -> bool:
    """Read past the cache and fill."""
    return await cache.fill(scope, FIELD, body, ttl_s=TTL_S, generation=await missed(cache, scope))


async def turns() -> None:
    """Let everything run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


def waiting_for(wire: Wire, command: str, key: str = "") -> Call:
    """The newest command of that name that waits for its answer."""
    (*_, call) = [call for call in wire.waiting if call.words[0] == command and key in str(call.words[1])]
    return call


async def come_back(cache: ThreadCache, wire: Wire) -> None:
    wire.is_away = False
    await cache.catch_up()


# --- what is kept


async def test_what_was_filled_is_found_byte_for_byte(start_replica: StartReplica) -> None:
    cache, _ = await start_replica()
    body = bytes(range(256)) * 4
    assert await keep(cache, body)
    assert await cache.read(SCOPE, FIELD) == Hit(body)


async def test_a_field_a_tenant_and_a_thread_see_only_their_own(start_replica: StartReplica) -> None:
    cache, _ = await start_replica()
    assert await keep(cache, b"mine")
    assert isinstance(await cache.read(SCOPE, "GET /threads/thread_abc?limit=1"), Miss)
    for scope in (OTHER, SCOPE._replace(tenant="other"), SCOPE._replace(route="r2"), SCOPE._replace(kind="assistant")):
        assert isinstance(await cache.read(scope, FIELD), Miss)


async def test_everything_of_a_scope_is_in_one_slot_and_has_an_expiry(
    start_replica: StartReplica, plain: Redis, prefix: str
) -> None:
    cache, _ = await start_replica()
    await keep(cache, b"body")
    await cache.block(OTHER, 50)
    found = {key.decode(): plain.ttl(key) for key in plain.scan_iter(f"{prefix}:*")}
    assert found.pop(f"{prefix}:epoch") == -1
    assert set(found) == {
        f"{prefix}:c:{{tenant:route:thread:thread_abc}}",
        f"{prefix}:b:{{tenant:route:thread:thread_xyz}}",
    }
    assert all(ttl > 0 for ttl in found.values())


async def test_a_hash_lives_as_long_as_the_longest_of_its_fields(
    start_replica: StartReplica, plain: Redis, prefix: str
) -> None:
    cache, _ = await start_replica()
    generation = await missed(cache)
    for number, ttl_s in enumerate((LEASE_S * 3, 10.0)):
        assert await cache.fill(SCOPE, f"{FIELD}/{number}", b"", ttl_s=ttl_s, generation=generation)
    assert plain.ttl(f"{prefix}:c:{{tenant:route:thread:thread_abc}}") > LEASE_S * 2


async def test_the_ttl_counts_from_before_the_provider_was_asked(start_replica: StartReplica, clock: Clock) -> None:
    cache, _ = await start_replica()
    generation = await missed(cache)
    clock.now += 40
    assert await cache.fill(SCOPE, FIELD, b"slow", ttl_s=TTL_S, generation=generation)
    clock.now += 19
    assert await cache.read(SCOPE, FIELD) == Hit(b"slow")
    clock.now += 1
    assert isinstance(await cache.read(SCOPE, FIELD), Miss)


async def test_an_answer_that_took_longer_than_its_ttl_is_not_kept(start_replica: StartReplica, clock: Clock) -> None:
    cache, _ = await start_replica()
    generation = await missed(cache)
    clock.now += TTL_S
    assert not await cache.fill(SCOPE, FIELD, b"too slow", ttl_s=TTL_S, generation=generation)


async def test_what_is_too_large_is_not_kept(start_replica: StartReplica) -> None:
    cache, _ = await start_replica()
    assert not await keep(cache, bytes(256 * 1024 + 1))
    assert await keep(cache, bytes(256 * 1024))


async def test_a_scope_that_is_never_written_does_not_grow_for_ever(
    start_replica: StartReplica, plain: Redis, prefix: str
) -> None:
    """Every fill prolongs the hash, and answers whose time is over stand in it until then."""
    cache, _ = await start_replica()
    generation = await missed(cache)
    for number in range(300):
        assert await cache.fill(SCOPE, f"{FIELD}?after={number}", b"", ttl_s=TTL_S, generation=generation)
    assert plain.hlen(f"{prefix}:c:{{tenant:route:thread:thread_abc}}") <= 130
    assert plain.ttl(f"{prefix}:c:{{tenant:route:thread:thread_abc}}") > 0
    assert isinstance(await cache.read(SCOPE, f"{FIELD}?after=299"), Hit)


# --- writes


@pytest.mark.parametrize("announce", ["begin_write", "end_write"])
async def test_a_write_drops_everything_of_its_scope_and_nothing_else(
    start_replica: StartReplica, announce: str
) -> None:
    (reader, _), (writer, _) = await start_replica(), await start_replica()
    for scope in (SCOPE, OTHER):
        await keep(reader, b"old", scope)
    assert await getattr(writer, announce)(SCOPE)
    assert isinstance(await reader.read(SCOPE, FIELD), Miss)
    assert await reader.read(OTHER, FIELD) == Hit(b"old")


@pytest.mark.parametrize("announce", ["begin_write", "end_write"])
async def test_what_was_asked_before_a_write_is_not_kept_after_it(start_replica: StartReplica, announce: str) -> None:
    """Neither when nobody has asked since, nor when somebody has and there is a new generation."""
    (reader, _), (writer, _) = await start_replica(), await start_replica()
    for asks_again in (False, True):
        generation = await missed(reader)
        assert await getattr(writer, announce)(SCOPE)
        if asks_again:
            assert await keep(writer, b"new")
        assert not await reader.fill(SCOPE, FIELD, b"old", ttl_s=TTL_S, generation=generation)
    assert await reader.read(SCOPE, FIELD) == Hit(b"new")


async def test_a_generation_that_is_lost_keeps_nothing(start_replica: StartReplica, plain: Redis, prefix: str) -> None:
    """By eviction, by expiry, by a store that was emptied: it fails to the safe side."""
    cache, _ = await start_replica()
    generation = await missed(cache)
    plain.delete(f"{prefix}:c:{{tenant:route:thread:thread_abc}}")
    assert not await cache.fill(SCOPE, FIELD, b"body", ttl_s=TTL_S, generation=generation)


async def test_readers_of_one_generation_share_it_across_fields_and_replicas(start_replica: StartReplica) -> None:
    (one, _), (two, _) = await start_replica(), await start_replica()
    first, second = await missed(one), await missed(two)
    assert (first.token, first.epoch) == (second.token, second.epoch)
    await one.begin_write(SCOPE)
    assert (await missed(two)).token != first.token


async def test_a_miss_whose_command_runs_late_gives_its_generation_to_nobody(start_replica: StartReplica) -> None:
    """A lease that its reader gave up is carried out after a write: a fill by anybody needs another."""
    (reader, wire), (writer, _) = await start_replica(), await start_replica()
    wire.is_prompt = False
    reading = asyncio.create_task(reader.read(SCOPE, FIELD))
    await turns()
    wire.deliver(waiting_for(wire, "HMGET"))
    await turns()
    late = waiting_for(wire, "EVAL")
    late.lose()
    assert await reading == Away("store")
    assert await writer.end_write(SCOPE)
    late.run(wire.redis)
    wire.is_prompt, wire.is_away = True, False
    generation = await missed(reader)
    assert await reader.fill(SCOPE, FIELD, b"new", ttl_s=TTL_S, generation=generation)


# --- writes of unknown outcome


async def test_a_blocked_scope_serves_and_keeps_nothing(start_replica: StartReplica) -> None:
    (reader, _), (writer, _) = await start_replica(), await start_replica()
    await keep(reader, b"old")
    generation = await missed(reader, OTHER)
    assert await writer.block(SCOPE, 50)
    assert await writer.block(OTHER, 50)
    assert await reader.read(SCOPE, FIELD) == Away("blocked")
    assert not await reader.fill(OTHER, FIELD, b"old", ttl_s=TTL_S, generation=generation)


async def test_other_writes_do_not_end_a_block(start_replica: StartReplica, plain: Redis, prefix: str) -> None:
    cache, _ = await start_replica()
    await cache.block(SCOPE, 50)
    await cache.begin_write(SCOPE)
    await cache.end_write(SCOPE)
    assert await cache.read(SCOPE, FIELD) == Away("blocked")
    plain.delete(f"{prefix}:b:{{tenant:route:thread:thread_abc}}")  # as its expiry does
    assert await keep(cache, b"new")


@pytest.mark.parametrize(("first_s", "then_s"), [(500, 5), (5, 500)])
async def test_the_longer_of_two_blocks_holds(
    start_replica: StartReplica, plain: Redis, prefix: str, first_s: float, then_s: float
) -> None:
    cache, _ = await start_replica()
    await cache.block(SCOPE, first_s)
    await cache.block(SCOPE, then_s)
    assert 400 < plain.ttl(f"{prefix}:b:{{tenant:route:thread:thread_abc}}") <= 500


# --- the store away


async def test_an_absent_store_is_a_value(start_replica: StartReplica) -> None:
    cache, wire = await start_replica()
    generation = await missed(cache)
    wire.is_away = True
    assert await cache.read(SCOPE, FIELD) == Away("store")
    assert not await cache.fill(SCOPE, FIELD, b"body", ttl_s=TTL_S, generation=generation)
    assert not await cache.begin_write(SCOPE)
    assert not await cache.end_write(SCOPE)
    assert not await cache.block(OTHER, 5)
    assert await cache.read(SCOPE, FIELD) == Away("unannounced")


async def test_a_replica_passes_by_what_it_wrote_unannounced_until_it_is_dropped(
    start_replica: StartReplica, clock: Clock
) -> None:
    """The other replica cannot know; it may serve the old state for one TTL."""
    (writer, wire), (reader, _) = await start_replica(), await start_replica()
    await keep(writer, b"old")
    await keep(writer, b"old", OTHER)
    await writer.begin_write(SCOPE)
    await keep(reader, b"old")
    wire.is_away = True
    assert not await writer.end_write(SCOPE)
    wire.is_away = False
    assert await writer.read(SCOPE, FIELD) == Away("unannounced")
    assert await writer.read(OTHER, FIELD) == Hit(b"old")
    assert await reader.read(SCOPE, FIELD) == Hit(b"old")
    await writer.catch_up()
    for cache in (writer, reader):
        assert isinstance(await cache.read(SCOPE, FIELD), Miss)


async def test_a_store_that_was_never_there_is_joined_when_it_comes(start_replica: StartReplica, plain: Redis) -> None:
    cache, wire = await start_replica()
    fresh = ThreadCache(wire, prefix="nobody", lease_s=LEASE_S)
    wire.is_away = True
    await fresh.catch_up()
    wire.is_away = False
    assert await fresh.read(SCOPE, FIELD) == Away("store")
    await fresh.catch_up()
    assert isinstance(await fresh.read(SCOPE, FIELD), Miss)
    assert isinstance(await cache.read(SCOPE, FIELD), Miss)


async def test_a_refusal_to_drop_is_an_absence(start_replica: StartReplica) -> None:
    """A store whose disk is full still serves what it has: its hits can no longer be trusted."""
    cache, wire = await start_replica()
    await keep(cache, b"old")
    wire.is_prompt = False
    ending = asyncio.create_task(cache.end_write(SCOPE))
    await turns()
    waiting_for(wire, "UNLINK").caller.set_exception(ResponseError("MISCONF disk full"))
    assert not await ending
    assert wire.is_away  # whoever runs the wire asks until the store is back, and calls catch_up then
    wire.is_prompt, wire.is_away = True, False
    assert await cache.read(SCOPE, FIELD) == Away("unannounced")
    await cache.catch_up()
    assert isinstance(await cache.read(SCOPE, FIELD), Miss)


async def test_a_block_that_the_store_did_not_see_is_kept_here_and_told_later(
    start_replica: StartReplica, clock: Clock, plain: Redis, prefix: str
) -> None:
    cache, wire = await start_replica()
    wire.is_away = True
    assert not await cache.block(SCOPE, 500)
    assert not await cache.end_write(SCOPE)  # of another write: the block stays
    clock.now += 200
    await come_back(cache, wire)
    assert await cache.read(SCOPE, FIELD) == Away("blocked")
    assert 290 < plain.ttl(f"{prefix}:b:{{tenant:route:thread:thread_abc}}") <= 300


async def test_a_block_that_is_over_when_the_store_is_back_is_a_drop(start_replica: StartReplica, clock: Clock) -> None:
    cache, wire = await start_replica()
    await keep(cache, b"old")
    wire.is_away = True
    await cache.block(SCOPE, 50)
    clock.now += 50
    await come_back(cache, wire)
    assert isinstance(await cache.read(SCOPE, FIELD), Miss)


async def test_a_write_that_fails_to_be_announced_while_another_is_dropped_stays_remembered(
    start_replica: StartReplica,
) -> None:
    """The drop was carried out before the second write; its answer comes after that write's."""
    cache, wire = await start_replica()
    wire.is_away = True
    await cache.end_write(SCOPE)
    wire.is_away, wire.is_prompt = False, False
    catching_up = asyncio.create_task(cache.catch_up())
    await turns()
    drop = waiting_for(wire, "UNLINK")
    wire.carry_out(drop)
    second = asyncio.create_task(cache.end_write(SCOPE))
    await turns()
    waiting_for(wire, "UNLINK").lose()
    assert not await second
    drop.answer()
    await catching_up
    wire.is_prompt = True
    assert await cache.read(SCOPE, FIELD) == Away("unannounced")


@pytest.mark.parametrize("announce", ["begin_write", "end_write", "block"])
async def test_a_writer_that_leaves_has_written_all_the_same(start_replica: StartReplica, announce: str) -> None:
    """Its announcement goes on without it: first it fails and is remembered, then it succeeds."""
    cache, wire = await start_replica()
    await keep(cache, b"old")
    arguments = (SCOPE, 50) if announce == "block" else (SCOPE,)
    for succeeds in (False, True):
        wire.is_prompt = False
        writing = asyncio.create_task(getattr(cache, announce)(*arguments))
        await turns()
        (call,) = wire.waiting
        writing.cancel()
        with suppress(asyncio.CancelledError):
            await writing
        wire.deliver(call) if succeeds else call.lose()
        await cache.drain()
        wire.is_prompt, wire.is_away = True, False
        if not succeeds:
            assert await cache.read(SCOPE, FIELD) == Away("unannounced")
            await cache.catch_up()
    expected = Away("blocked") if announce == "block" else Miss
    found = await cache.read(SCOPE, FIELD)
    assert found == expected or type(found) is expected


# --- more unannounced writes than are remembered


async def overflow(cache: ThreadCache, wire: Wire, count: int = 3) -> None:
    wire.is_away = True
    for number in range(count):
        await cache.end_write(SCOPE._replace(upstream_id=f"thread_{number}"))
    wire.is_away = False


async def test_beyond_what_it_remembers_a_replica_passes_everything_by_and_then_drops_it(
    start_replica: StartReplica, events: Events
) -> None:
    """Everywhere: another replica learns of it when it meets what was kept since."""
    (writer, wire), (reader, _) = await start_replica(unannounced_limit=2), await start_replica()
    await keep(reader, b"old")
    await overflow(writer, wire)
    assert await writer.read(SCOPE, FIELD) == Away("unannounced")
    await writer.catch_up()
    assert isinstance(await writer.read(SCOPE, FIELD), Miss)
    assert await reader.read(SCOPE, FIELD) == Hit(b"old")
    await keep(writer, b"new")
    assert await reader.read(SCOPE, FIELD) == Hit(b"new")
    await keep(reader, b"of the new epoch", OTHER)
    assert await writer.read(OTHER, FIELD) == Hit(b"of the new epoch")
    assert [event["event"] for event in events] == ["cache.bypassed", "cache.dropped"]


async def test_what_was_asked_before_everything_was_dropped_is_not_found_after_it(start_replica: StartReplica) -> None:
    """Its generation is alive, for the store has seen no write; its epoch is over."""
    cache, wire = await start_replica(unannounced_limit=0)
    generation = await missed(cache)
    await overflow(cache, wire)
    await cache.catch_up()
    assert await cache.fill(SCOPE, FIELD, b"old", ttl_s=TTL_S, generation=generation)
    assert isinstance(await cache.read(SCOPE, FIELD), Miss)


async def test_a_call_under_way_is_not_joined_after_everything_was_dropped(start_replica: StartReplica) -> None:
    cache, wire = await start_replica(unannounced_limit=0)
    generation = await missed(cache)
    old: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    first = asyncio.create_task(cache.share(SCOPE, FIELD, generation=generation, make=lambda: old))
    await turns()
    await overflow(cache, wire)
    await cache.catch_up()

    async def new() -> str:
        return "new"

    assert await cache.share(SCOPE, FIELD, generation=await missed(cache), make=new) == "new"
    old.set_result("old")
    assert await first == "old"


async def test_all_is_passed_by_while_one_of_the_forgotten_scopes_would_be_blocked(
    start_replica: StartReplica, plain: Redis, prefix: str, clock: Clock
) -> None:
    rests: list[float] = []
    rested = asyncio.Event()

    async def rest(seconds: float) -> None:
        rests.append(seconds)
        await rested.wait()

    wire = Wire(plain)
    cache = ThreadCache(wire, prefix=prefix, lease_s=LEASE_S, unannounced_limit=1, clock=clock, pause=rest)
    await cache.catch_up()
    wire.is_away = True
    await cache.block(SCOPE, 500)
    await overflow(cache, wire)
    catching_up = asyncio.create_task(cache.catch_up())
    await turns()
    assert await cache.read(OTHER, FIELD) == Away("unannounced")
    clock.now += 500
    rested.set()
    await catching_up
    assert rests == [500.0]
    assert isinstance(await cache.read(OTHER, FIELD), Miss)


async def test_a_write_that_fails_to_be_announced_while_everything_is_dropped_makes_it_drop_again(
    start_replica: StartReplica,
) -> None:
    cache, wire = await start_replica(unannounced_limit=0)
    await overflow(cache, wire)
    wire.is_prompt = False
    catching_up = asyncio.create_task(cache.catch_up())
    await turns()
    drop = waiting_for(wire, "SET")
    wire.carry_out(drop)
    second = asyncio.create_task(cache.end_write(SCOPE))
    await turns()
    waiting_for(wire, "UNLINK").lose()
    assert not await second
    wire.is_away = False
    drop.answer()
    await turns()
    assert await cache.read(OTHER, FIELD) == Away("unannounced")
    wire.deliver(waiting_for(wire, "SET"))
    await catching_up
    wire.is_prompt = True
    assert isinstance(await cache.read(OTHER, FIELD), Miss)


async def test_an_epoch_that_is_told_late_does_not_bring_back_what_was_dropped(start_replica: StartReplica) -> None:
    """A reader asked for the epoch before its replica began a new one; it is answered after."""
    (cache, wire), (other, other_wire) = await start_replica(unannounced_limit=0), await start_replica(0)
    await overflow(other, other_wire)
    await other.catch_up()
    await keep(other, b"old")
    wire.is_prompt = False
    reading = asyncio.create_task(cache.read(SCOPE, FIELD))
    await turns()
    wire.deliver(waiting_for(wire, "HMGET"))
    await turns()
    join = waiting_for(wire, "EVAL")
    wire.carry_out(join)
    wire.is_prompt = True
    await overflow(cache, wire)
    await cache.catch_up()
    join.answer()
    await reading
    assert isinstance(await cache.read(SCOPE, FIELD), Miss)


async def test_an_epoch_that_is_told_late_does_not_end_the_bypass(plain: Redis, prefix: str, clock: Clock) -> None:
    """A replica that starts asks for it; before it is answered, a write fails to be announced."""
    wire = Wire(plain, is_prompt=False)
    cache = ThreadCache(wire, prefix=prefix, lease_s=LEASE_S, unannounced_limit=0, clock=clock)
    starting = asyncio.create_task(cache.catch_up())
    await turns()
    join = waiting_for(wire, "EVAL")
    wire.carry_out(join)
    await overflow(cache, wire)
    join.answer()
    await starting
    assert isinstance(await cache.read(SCOPE, FIELD), Away)


# --- one call for all


async def test_readers_of_one_generation_make_one_call(start_replica: StartReplica) -> None:
    """The first of them fills, and those who come later hit."""
    cache, _ = await start_replica()
    asked = 0

    async def reader() -> bytes:
        found = await cache.read(SCOPE, FIELD)
        if isinstance(found, Hit):
            return found.body
        assert isinstance(found, Miss)
        generation = found.generation

        async def ask() -> bytes:
            nonlocal asked
            asked += 1
            await asyncio.sleep(0)
            await cache.fill(SCOPE, FIELD, b"body", ttl_s=TTL_S, generation=generation)
            return b"body"

        return await cache.share(SCOPE, FIELD, generation=generation, make=ask)

    assert await asyncio.gather(*(reader() for _ in range(20))) == [b"body"] * 20
    assert asked == 1
    assert await reader() == b"body"


async def test_a_reader_after_a_write_does_not_join_a_call_from_before_it(start_replica: StartReplica) -> None:
    cache, _ = await start_replica()
    old: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    generation = await missed(cache)
    first = asyncio.create_task(cache.share(SCOPE, FIELD, generation=generation, make=lambda: old))
    await turns()
    await cache.begin_write(SCOPE)

    async def new() -> str:
        return "new"

    assert await cache.share(SCOPE, FIELD, generation=await missed(cache), make=new) == "new"
    old.set_result("old")
    assert await first == "old"


# --- with the coalescer


def over(coalescer: Coalescer, prefix: str) -> ThreadCache:
    cache = ThreadCache(coalescer, prefix=prefix, lease_s=LEASE_S)
    coalescer.presence.on_return.append(cache.catch_up)
    return cache


async def test_a_miss_takes_a_second_round_trip_only_without_a_generation(
    gate: Gate, open_coalescer: OpenCoalescer, prefix: str
) -> None:
    cache = over(open_coalescer(gate.url), prefix)
    await cache.catch_up()
    lengths = []
    for field in (FIELD, f"{FIELD}/messages"):
        gate.writes.clear()
        assert isinstance(await cache.read(SCOPE, field), Miss)
        lengths.append(len(gate.writes))
    assert lengths[-1] == 1


async def until_back(cache: ThreadCache) -> Hit | Miss:
    async with asyncio.timeout(PATIENCE_S):
        while isinstance(found := await cache.read(SCOPE, FIELD), Away):
            await asyncio.sleep(0.01)
    return found


@pytest.mark.parametrize("outage", ["frozen", "killed"])
async def test_an_outage_costs_those_who_wait_at_most_300_ms_and_then_nobody_anything(
    own_valkey: OwnValkey, open_coalescer: OpenCoalescer, prefix: str, pause_little: Pause, outage: str
) -> None:
    """And it ends by itself: what was written meanwhile is dropped. The best of three, for the machine may be busy."""
    cache = over(open_coalescer(own_valkey.url, timeout_s=0.25, pause=pause_little), prefix)
    await cache.catch_up()
    lost_s: list[tuple[float, float]] = []
    for _ in range(3):
        assert await keep(cache, b"old")
        own_valkey.freeze() if outage == "frozen" else own_valkey.kill()
        started = time.monotonic()
        assert await asyncio.gather(*(cache.read(SCOPE, FIELD) for _ in range(20))) == [Away("store")] * 20
        found_away = time.monotonic()
        assert not await cache.begin_write(SCOPE)
        assert not await cache.end_write(SCOPE)
        assert await cache.read(SCOPE, FIELD) == Away("unannounced")
        lost_s.append((found_away - started, time.monotonic() - found_away))
        own_valkey.thaw() if outage == "frozen" else await own_valkey.start()
        assert isinstance(await until_back(cache), Miss)
    assert min(first for first, _ in lost_s) < 0.3
    assert min(then for _, then in lost_s) < 0.01


async def test_a_store_that_takes_no_writes_is_passed_by_until_it_does(
    own_valkey: OwnValkey, open_coalescer: OpenCoalescer, prefix: str, pause_little: Pause
) -> None:
    cache = over(open_coalescer(own_valkey.url, pause=pause_little), prefix)
    await cache.catch_up()
    await keep(cache, b"old")
    with Redis.from_url(own_valkey.url) as admin:
        admin.config_set("min-replicas-to-write", 1)
        assert not await cache.end_write(SCOPE)
        for _ in range(20):
            assert isinstance(await cache.read(SCOPE, FIELD), Away)
            await asyncio.sleep(0.005)
        admin.config_set("min-replicas-to-write", 0)
    assert isinstance(await until_back(cache), Miss)


# --- what changes by itself, and what a write leaves to be found


async def test_while_somebody_changes_a_scope_nothing_is_kept(start_replica: StartReplica) -> None:
    """By no replica, until the same one has ended; and what was kept before is gone."""
    cache, _ = await start_replica()
    other, _ = await start_replica()
    generation = await missed(cache)
    await keep(cache, b"before")
    assert await cache.activate(SCOPE, "run_1", 60)
    assert not await cache.fill(SCOPE, FIELD, b"late", ttl_s=TTL_S, generation=generation)
    for replica in (cache, other):
        assert await replica.read(SCOPE, FIELD) == Away("blocked")
    await other.settle(SCOPE, "run_0")
    assert await cache.read(SCOPE, FIELD) == Away("blocked")
    await other.settle(SCOPE, "run_1")
    assert await keep(cache, b"after")
    await other.settle(SCOPE, "run_1")
    assert await cache.read(SCOPE, FIELD) == Hit(b"after"), "who has ended drops nothing again"


async def test_a_block_outlasts_who_has_ended(start_replica: StartReplica) -> None:
    cache, _ = await start_replica()
    await cache.activate(SCOPE, "run_1", 60)
    await cache.block(SCOPE, 60)
    await cache.settle(SCOPE, "run_1")
    assert await cache.read(SCOPE, FIELD) == Away("blocked")


@pytest.mark.parametrize("has_ended", [False, True])
async def test_what_the_store_did_not_hear_of_a_change_is_told_later(
    start_replica: StartReplica, has_ended: bool
) -> None:
    """Unless it has ended meanwhile: then a drop is enough."""
    cache, wire = await start_replica()
    other, _ = await start_replica()
    await keep(other, b"before")
    wire.is_away = True
    assert not await cache.activate(SCOPE, "run_1", 60)
    assert await cache.read(SCOPE, FIELD) == Away("unannounced")
    assert not cache.is_caught_up
    if has_ended:
        await cache.settle(SCOPE, "run_1")
    await come_back(cache, wire)
    assert cache.is_caught_up
    found = await other.read(SCOPE, FIELD)
    assert isinstance(found, Miss) if has_ended else found == Away("blocked")
    await other.settle(SCOPE, "run_1")
    assert isinstance(await other.read(SCOPE, FIELD), Miss)


async def test_a_write_leaves_its_answer_if_it_was_the_only_one(start_replica: StartReplica) -> None:
    cache, _ = await start_replica()
    other, _ = await start_replica()
    for is_alone in (True, False):
        await cache.begin_write(SCOPE)
        generation = await missed(cache)
        assert await other.fill(SCOPE, "list", b"old", ttl_s=TTL_S, generation=await missed(other))
        if not is_alone:
            await other.begin_write(SCOPE)
            await other.end_write(SCOPE)
        assert await cache.end_write(SCOPE, Fill("new", b"made", TTL_S, generation))
        found = await other.read(SCOPE, "new")
        assert found == Hit(b"made") if is_alone else isinstance(found, Miss)
        assert isinstance(await other.read(SCOPE, "list"), Miss)
        assert not await other.fill(SCOPE, "list", b"late", ttl_s=TTL_S, generation=generation)


async def test_an_answer_that_is_too_large_is_not_left(start_replica: StartReplica) -> None:
    cache, _ = await start_replica()
    await cache.begin_write(SCOPE)
    fill = Fill("new", b"x" * 300 * 1024, TTL_S, await missed(cache))
    assert await cache.end_write(SCOPE, fill)
    assert isinstance(await cache.read(SCOPE, "new"), Miss)
