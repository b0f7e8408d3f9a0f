"""A cluster as the store: a command finds the server of its key, while a slot moves too; what is away is that part of
the store, and no more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from redis.crc import key_slot
from redis.exceptions import ResponseError

from gateway.settlement import Settlement
from gateway.store.cluster_coalescer import ClusterCoalescer
from gateway.store.coalescer import Script
from gateway.store.connection import Store, StoreAway, do_each
from gateway.store.noted_runs import Ended, NotedRuns
from gateway.store.owner_index import Owned, OwnerIndex
from gateway.store.shared import Shared
from gateway.store.slots import address_of, is_cluster, seeds_of, slot_of, url_of
from tests.cluster import ValkeyCluster
from tests.conftest import Events, eventually
from tests.stopwatch import Stopwatch
from tests.store.test_noted_runs import RUN

Open = Callable[..., Store]


@pytest.fixture
async def open_store(valkey_cluster: ValkeyCluster, prefix: str) -> AsyncIterator[Open]:
    """`open_store()`: a client of the cluster that all tests share, or of another."""
    opened: list[Store] = []

    def open_one(cluster: ValkeyCluster = valkey_cluster, timeout_s: float = 1) -> Store:
        opened.append(Store(cluster.url, prefix=prefix, timeout_s=timeout_s, pause=lambda seconds: asyncio.sleep(0.05)))
        return opened[-1]

    yield open_one
    for store in opened:
        await store.close()


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[ValkeyCluster]:
    """For what must not happen to the one that all tests share."""
    cluster = ValkeyCluster(tmp_path, node_timeout_ms=1000)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def keys_at(cluster: ValkeyCluster, store: Store) -> list[str]:
    """One key at each server."""
    names = [store.key(str(number)) for number in range(50)]
    return [next(name for name in names if cluster.owner_of(name) == place) for place in range(3)]


# ---- the URL and the slots -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "seeds"),
    [
        ("redis+cluster://a:1,b:2", ["redis://a:1", "redis://b:2"]),
        ("redis+cluster://a", ["redis://a:6379"]),
        ("rediss+cluster://:p,w@a:1,b?ssl_ca_certs=x", ["rediss://:p,w@a:1?ssl_ca_certs=x", "rediss://:p,w@b:6379?ssl_ca_certs=x"]),
        ("redis+cluster://u:p@[::1]:7,b:2/", ["redis://u:p@[::1]:7", "redis://u:p@b:2"]),
    ],
)  # fmt: skip
def test_each_server_of_the_url_is_called_with_its_user_and_options(url: str, seeds: list[str]) -> None:
    assert is_cluster(url)
    assert list(seeds_of(url).values()) == seeds
    assert url_of(url, "10.0.0.1:9").startswith(seeds[0].split("://")[0] + "://")


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (("GET", "a{b}c"), b"b"),
        (("EVALSHA", "digest", 2, b"{x}:1", "{x}:2", "word"), b"x"),
        (("HMGET", b"k", "f"), b"k"),
        (("PING",), None),
    ],
)
def test_a_commands_slot_is_that_of_its_first_key(words: tuple[object, ...], key: bytes | None) -> None:
    assert slot_of(words) == (None if key is None else key_slot(key))


# ---- commands --------------------------------------------------------------------------------------------------------


async def test_the_first_command_finds_out_who_has_which_slot(
    open_store: Open, valkey_cluster: ValkeyCluster, events: Events
) -> None:
    store = open_store()
    keys = keys_at(valkey_cluster, store)
    assert await asyncio.gather(*(store.run(lambda redis, key=key: redis.incr(key)) for key in keys)) == [1, 1, 1]  # type: ignore[misc]
    assert store.is_ready
    assert {event["server"] for event in events.named("store.ready")} == {
        f"127.0.0.1:{port}" for port in valkey_cluster.ports[:3]
    }


async def test_what_is_closed_is_away(open_store: Open) -> None:
    store = open_store()
    await store.run(lambda redis: redis.ping())
    await store.close()
    with pytest.raises(StoreAway):
        await store.run(lambda redis: redis.get("a"))


async def test_a_scan_goes_over_all_servers(open_store: Open, valkey_cluster: ValkeyCluster) -> None:
    store = open_store()
    keys = keys_at(valkey_cluster, store)
    for key in keys:
        await store.run(lambda redis, key=key: redis.set(key, "1"))  # type: ignore[misc]
    found = [key async for some in store.scan(store.key("*"), count=10) for key in some]
    assert set(found) == set(keys)


async def test_what_stands_first_in_a_pipeline_is_there_first(open_store: Open, valkey_cluster: ValkeyCluster) -> None:
    """What comes later may be found by it alone."""
    store = open_store(timeout_s=0.3)
    first, second, _ = keys_at(valkey_cluster, store)

    async def both(redis: object) -> list[object]:
        async with redis.pipeline(transaction=False) as pipe:  # type: ignore[attr-defined]
            pipe.hset(first, "f", "1")
            pipe.hset(second, "f", "1")
            answers: list[object] = await pipe.execute()
            return answers

    assert await store.run(both) == [1, 1]
    await store.run(lambda redis: redis.delete(second))
    with valkey_cluster.frozen(0), pytest.raises(StoreAway):
        await store.run(both)
    assert not await store.run(lambda redis: redis.exists(second))


async def test_of_the_coalescers_commands_each_goes_to_its_server(valkey_cluster: ValkeyCluster, prefix: str) -> None:
    coalescer = ClusterCoalescer(valkey_cluster.url, timeout_s=1)
    keys = [f"{prefix}:{number}" for number in range(50)]
    assert await asyncio.gather(*(coalescer.run("INCR", key) for key in keys)) == [1] * 50
    script = Script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    answers = await asyncio.gather(*(coalescer.script(script, keys=[key], arguments=[2]) for key in keys))
    assert answers == [3] * 50
    await coalescer.close()


async def test_each_is_done_though_the_part_of_one_is_away() -> None:
    done: list[int] = []

    async def work(number: int) -> None:
        done.append(number)
        if number == 1:
            raise StoreAway("1")

    with pytest.raises(StoreAway):
        await do_each(lambda number=number: work(number) for number in range(3))  # type: ignore[misc]
    assert done == [0, 1, 2]


# ---- a part of it is away --------------------------------------------------------------------------------------------


async def test_what_lies_on_a_server_that_is_away_fails_at_once_and_all_else_goes_on(
    open_store: Open, valkey_cluster: ValkeyCluster, events: Events
) -> None:
    store = open_store(timeout_s=0.3)
    away, *others = keys_at(valkey_cluster, store)
    await store.connect()
    with valkey_cluster.frozen(0):
        with pytest.raises(StoreAway):
            await store.run(lambda redis: redis.get(away))
        async with Stopwatch() as watch:
            for _ in range(100):
                with pytest.raises(StoreAway):
                    await store.run(lambda redis: redis.get(away))
                for key in others:
                    await store.run(lambda redis, key=key: redis.get(key))  # type: ignore[misc]
        assert watch.seconds < 1
        assert not store.is_ready
        (told,) = events.named("store.away")
        assert told["server"] == f"127.0.0.1:{valkey_cluster.ports[0]}"
    await eventually(lambda: store.is_ready)
    assert await store.run(lambda redis: redis.get(away)) is None


async def test_what_is_put_off_for_one_tenant_puts_off_no_other(
    open_store: Open, valkey_cluster: ValkeyCluster, events: Events
) -> None:
    """Runs that are noted and settled, and what tenants own; all of a tenant is on one server."""
    store = open_store(timeout_s=0.3)
    runs, index = NotedRuns(store), OwnerIndex(store)
    settlement = Settlement(runs, answer_bytes=1)
    with_index = valkey_cluster.owner_of(store.key("runs", "due"))
    place = (with_index + 1) % 3
    tenants = sorted(
        (f"tenant-{number}" for number in range(50)), key=lambda name: valkey_cluster.owner_of(name) != place
    )
    waits, goes_on = (replace(RUN, tenant=name) for name in (tenants[0], tenants[-1]))
    owned = [Owned(run.tenant, "r", "file") for run in (waits, goes_on)]
    await store.connect()
    with valkey_cluster.frozen(place):
        for run, of in zip((waits, goes_on), owned, strict=True):
            await settlement.note(run)
            await index.add(of, ["file_1"])
        await settlement.settle(goes_on.tenant, goes_on.route, [Ended(goes_on.run, "completed", None)])
        assert len(events.named("run.settled")) == 1
        await index.add(owned[1], ["file_2"])
        for flush in (settlement.flush, index.flush):
            with pytest.raises(StoreAway):
                await flush()
        assert await index.has(owned[1], "file_2")
    assert [event["upstream_id"] for event in events.named("run.late")] == [waits.run]
    assert [event["tenant"] for event in events.named("index.late")] == [waits.tenant]
    await eventually(lambda: store.is_ready)
    for flush in (settlement.flush, index.flush):
        await flush()
    assert await runs.read(waits.entry) == waits
    assert await index.place(owned[0], "file_1") is not None


async def test_of_shared_facts_those_on_other_servers_are_followed(valkey_cluster: ValkeyCluster) -> None:
    prefix = next(
        name
        for name in (f"mirrors{number}" for number in range(50))
        if valkey_cluster.owner_of(f"{name}:keys") == 0 != valkey_cluster.owner_of(f"{name}:switches")
    )
    stores = [Store(valkey_cluster.url, prefix=prefix, timeout_s=0.3) for _ in range(2)]
    told, follows = (Shared(store) for store in stores)
    await told.load()
    await follows.load()
    with valkey_cluster.frozen(0):
        told.switches.disable("tenant", "shop", "does not pay")
        await told.switches.mirror.flush()
        with pytest.raises(StoreAway):
            await follows.load()
        assert follows.switches.reason_of("tenant", "shop") == "does not pay"
    for shared, store in zip((told, follows), stores, strict=True):
        await shared.close()
        await store.close()


async def test_with_no_server_there_the_store_is_away_until_one_is(
    open_store: Open, valkey_cluster: ValkeyCluster
) -> None:
    store = open_store(timeout_s=0.2)
    with valkey_cluster.frozen(0), valkey_cluster.frozen(1), valkey_cluster.frozen(2):
        await store.connect()
        with pytest.raises(StoreAway):
            await store.run(lambda redis: redis.get("a"))
    await eventually(lambda: store.is_ready)
    assert await store.run(lambda redis: redis.get(store.key("a"))) is None


async def test_a_slot_that_nobody_serves_is_away_alone_and_a_cluster_that_is_down_is_away(
    open_store: Open, valkey_cluster: ValkeyCluster, events: Events
) -> None:
    store = open_store()
    names = [name for name in map(store.key, map(str, range(50))) if valkey_cluster.owner_of(name) == 0]
    key, second, other = names[:3]
    with valkey_cluster.server(0) as server:
        await store.run(lambda redis: redis.get(key))
        server.execute_command("CLUSTER", "DELSLOTS", key_slot(key.encode()))
        try:
            with pytest.raises(StoreAway, match="not served"):
                await store.run(lambda redis: redis.get(key))
            assert await store.run(lambda redis: redis.get(other)) is None
            assert events.named("store.away") == []
            server.config_set("cluster-require-full-coverage", "yes")
            server.execute_command("CLUSTER", "DELSLOTS", key_slot(second.encode()))  # now it looks
            await eventually(lambda: "cluster_state:fail" in str(server.execute_command("CLUSTER", "INFO")))
            with pytest.raises(StoreAway):
                await store.run(lambda redis: redis.get(other))
            (told,) = events.named("store.away")
            assert (told["server"], store.is_ready) == (f"127.0.0.1:{valkey_cluster.ports[0]}", False)
        finally:
            server.config_set("cluster-require-full-coverage", "no")
            for name in (key, second):
                with suppress(ResponseError):  # it was not deleted
                    server.execute_command("CLUSTER", "ADDSLOTS", key_slot(name.encode()))
    await eventually(lambda: store.is_ready)
    for name in (key, second, other):
        assert await store.run(lambda redis, name=name: redis.get(name)) is None  # type: ignore[misc]


@pytest.mark.parametrize(
    ("host", "said_by", "address"),
    [
        ("10.0.0.1", "one:6379", "10.0.0.1:7"),
        ("", "one:6379", "one:7"),
        (None, "[::1]:1", "[::1]:7"),
        ("::2", "one:1", "[::2]:7"),
    ],
)
def test_a_server_that_names_no_host_means_its_own(host: str | None, said_by: str, address: str) -> None:
    assert address_of(host, 7, said_by=said_by) == address


@pytest.mark.long
async def test_a_replica_that_takes_over_is_found(open_store: Open, own_cluster: ValkeyCluster) -> None:
    own_cluster.add_replica_of(0)
    store = open_store(own_cluster, timeout_s=0.3)
    key, *_ = keys_at(own_cluster, store)
    await store.run(lambda redis: redis.set(key, "kept"))
    own_cluster.wait_for_replica(0)
    own_cluster.processes[0].kill()
    async with asyncio.timeout(20):
        while True:
            try:
                assert await store.run(lambda redis: redis.get(key)) == "kept"
                break
            except StoreAway:
                await asyncio.sleep(0.02)
    await eventually(lambda: store.is_ready)


# ---- a slot moves ----------------------------------------------------------------------------------------------------


async def test_keys_are_found_while_their_slot_moves_and_after(open_store: Open, valkey_cluster: ValkeyCluster) -> None:
    """With several connections: ASKING counts for the next command of its own."""
    store = open_store()
    tag = "{" + keys_at(valkey_cluster, store)[0] + "}"
    keys = [f"{tag}{number}" for number in range(20)]
    for key in keys:
        await store.run(lambda redis, key=key: redis.set(key, key))  # type: ignore[misc]

    async def read_all() -> None:
        found = await asyncio.gather(*(store.run(lambda redis, key=key: redis.get(key)) for key in keys))  # type: ignore[misc]
        assert found == keys

    moving = valkey_cluster.moving(tag, to=1)
    await read_all()
    moving.move(keys[:10])
    await read_all()
    for key in keys:
        assert await store.run(lambda redis, key=key: redis.get(key)) == key  # type: ignore[misc]
    both = store.run(lambda redis: redis.eval("return redis.call('MGET', unpack(KEYS))", 2, keys[0], keys[-1]))
    asking = asyncio.create_task(both)
    await asyncio.sleep(0.1)
    assert not asking.done()  # some of its keys are here, some there
    moving.move(keys[10:])
    moving.end()
    assert await asking == [keys[0], keys[-1]]
    await read_all()
    valkey_cluster.moving(tag, to=0).all()
    await read_all()


async def test_what_does_not_end_moving_is_away_and_its_server_is_not(
    open_store: Open, valkey_cluster: ValkeyCluster, events: Events
) -> None:
    store = open_store(timeout_s=0.3)
    tag = "{" + keys_at(valkey_cluster, store)[0] + "}"
    await store.run(lambda redis: redis.set(f"{tag}1", "1"))
    moving = valkey_cluster.moving(tag, to=1)
    with pytest.raises(StoreAway):
        await store.run(lambda redis: redis.eval("return redis.call('MGET', unpack(KEYS))", 2, f"{tag}1", f"{tag}2"))
    assert store.is_ready
    assert events.named("store.away") == []
    moving.all()
    valkey_cluster.moving(tag, to=0).all()


async def test_the_coalescer_follows_a_slot_that_has_moved(valkey_cluster: ValkeyCluster, prefix: str) -> None:
    coalescer = ClusterCoalescer(valkey_cluster.url, timeout_s=1)
    key = next(f"{prefix}:{number}" for number in range(50) if valkey_cluster.owner_of(f"{prefix}:{number}") == 0)
    await coalescer.run("SET", key, "1")
    valkey_cluster.moving(key, to=1).all()
    assert await coalescer.run("GET", key) == b"1"
    valkey_cluster.moving(key, to=0).all()
    assert await coalescer.run("GET", key) == b"1"
    await coalescer.close()


@pytest.mark.long
async def test_nobody_notices_slots_that_move_as_one(open_store: Open, own_cluster: ValkeyCluster) -> None:
    """The way that Valkey has since 9."""
    store = open_store(own_cluster)
    keys = [store.key(str(number)) for number in range(100)]
    counts = dict.fromkeys(keys, 0)
    is_over = False

    async def write(some: Sequence[str]) -> None:
        while not is_over:
            for key in some:
                counts[key] += 1
                assert await store.run(lambda redis, key=key: redis.incr(key)) == counts[key]  # type: ignore[misc]

    writing = asyncio.gather(*(write(keys[start::4]) for start in range(4)))
    with own_cluster.server(0) as source, own_cluster.server(1) as target:
        name = target.execute_command("CLUSTER", "MYID")
        await eventually(lambda: min(counts.values()) > 1)
        source.execute_command("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", 0, 3000, "NODE", name)
        await eventually(lambda: "success" in str(source.execute_command("CLUSTER", "GETSLOTMIGRATIONS")), within_s=20)
    seen = min(counts.values())
    await eventually(lambda: min(counts.values()) > seen + 1)
    is_over = True
    await writing
    assert any(key_slot(key.encode()) <= 3000 for key in keys)
