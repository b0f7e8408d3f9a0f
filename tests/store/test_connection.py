"""The store is there, away, slow, or back: what commands are told, and how long that takes."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.store.connection import Store, StoreAway
from gateway.store.embedded import EmbeddedValkey
from tests.conftest import Events, StartGateway, StartVendor, edit, eventually
from tests.stopwatch import Stopwatch
from tests.store.conftest import Embed, OwnValkey, ask


async def ping(redis: Redis) -> Any:
    return await redis.ping()


@pytest.fixture
async def own(embed: Embed, data_dir: Path) -> EmbeddedValkey:
    valkey = embed(data_dir)
    await valkey.start()
    return valkey


@pytest.mark.one_server
async def test_a_store_that_answers_is_ready(valkey: str, events: Events) -> None:
    store = Store(valkey, prefix="p", timeout_s=1)
    assert not store.is_ready
    await store.connect()
    assert store.is_ready
    assert await store.run(ping) is True
    assert store.key("own", "a") == "p:own:a"
    assert [event["event"] for event in events] == ["store.ready"]
    await store.close()


async def test_a_store_that_is_away_is_asked_by_nobody_but_a_probe_once_a_second(
    tmp_path: Path, events: Events
) -> None:
    """Its absence costs one request a timeout, not all of them, however long it lasts; it is said once."""
    rests: list[float] = []
    asked = 0

    async def count(redis: Redis) -> Any:
        nonlocal asked
        asked += 1
        return await redis.ping()

    async def rest(seconds: float) -> None:
        rests.append(seconds)
        await asyncio.sleep(0)

    store = Store(f"unix://{tmp_path}/nobody", prefix="p", timeout_s=1, pause=rest)
    with pytest.raises(StoreAway):
        await store.run(count)
    await eventually(lambda: len(rests) > 3)
    with pytest.raises(StoreAway):
        await store.run(count)
    assert asked == 1
    assert set(rests) == {1.0}
    assert [event["event"] for event in events] == ["store.away"]
    assert not store.is_ready
    await store.close()


async def test_who_waits_for_its_return_is_called_each_time(embed: Embed, data_dir: Path, events: Events) -> None:
    """One of them failing keeps nobody from the others."""
    valkey = embed(data_dir)
    returned: list[str] = []
    store = Store(valkey.url, prefix="p", timeout_s=1)

    async def fail() -> None:
        raise StoreAway("gone again")

    async def note() -> None:
        returned.append("back")

    store.on_return += [fail, note]
    with pytest.raises(StoreAway):
        await store.run(ping)
    await valkey.start()
    await eventually(lambda: returned == ["back"])
    assert store.is_ready
    await valkey.close()
    with pytest.raises(StoreAway):
        await store.run(ping)
    again = embed(data_dir)
    await again.start()
    await eventually(lambda: returned == ["back", "back"])
    assert [event["event"] for event in events if event["event"].startswith("store")] == [
        "store.away",
        "store.ready",
    ] * 2
    await store.close()


async def test_a_stopped_store_costs_a_command_its_timeout_and_the_next_nothing(own: EmbeddedValkey) -> None:
    """Warm or cold: a kernel takes connections for a process that does not run."""
    (pid,) = {info["process_id"] for info in [await server_info(own)]}
    warm, cold = (Store(own.url, prefix="p", timeout_s=0.2) for _ in range(2))
    await warm.connect()
    os.kill(pid, signal.SIGSTOP)
    try:
        for store in (warm, cold):
            async with Stopwatch() as first:
                with pytest.raises(StoreAway):
                    await store.run(ping)
            async with Stopwatch() as second:
                with pytest.raises(StoreAway):
                    await store.run(ping)
            assert first.seconds < 1
            assert second.seconds < 0.1
    finally:
        os.kill(pid, signal.SIGCONT)
    await eventually(lambda: warm.is_ready and cold.is_ready)
    for store in (warm, cold):
        await store.close()


async def server_info(valkey: EmbeddedValkey) -> dict[str, Any]:
    async with Redis.from_url(valkey.url) as redis:
        info: dict[str, Any] = await redis.info("server")
        return info


async def test_who_waits_for_a_turn_does_not_wait_for_a_stopped_store_as_well(own: EmbeddedValkey) -> None:
    store = Store(own.url, prefix="p", timeout_s=0.3)
    await store.connect()
    pid = (await server_info(own))["process_id"]
    os.kill(pid, signal.SIGSTOP)
    try:
        began = asyncio.get_running_loop().time()
        outcomes = await asyncio.gather(*(store.run(ping) for _ in range(64)), return_exceptions=True)
        took = asyncio.get_running_loop().time() - began
    finally:
        os.kill(pid, signal.SIGCONT)
    assert {type(outcome) for outcome in outcomes} == {StoreAway}
    assert took < 1.2  # 0.3 s and once again, for the first; not the same for each sixteen
    await store.close()


async def test_connections_that_a_restart_left_behind_do_no_harm(own: EmbeddedValkey, embed: Embed) -> None:
    store = Store(own.url, prefix="p", timeout_s=1)
    await asyncio.gather(*(store.run(ping) for _ in range(32)))
    await own.close()
    await embed(own.socket.parent).start()
    assert await asyncio.gather(*(store.run(ping) for _ in range(32))) == [True] * 32
    await store.close()


async def test_more_commands_than_connections_wait_their_turn(own: EmbeddedValkey) -> None:
    store = Store(own.url, prefix="p", timeout_s=1)
    assert await asyncio.gather(*(store.run(ping) for _ in range(500))) == [True] * 500
    assert int((await ask(own, "INFO", "clients"))["connected_clients"]) <= 17
    await store.close()


async def test_a_store_that_may_forget_is_warned_of(own: EmbeddedValkey, events: Events) -> None:
    await ask(own, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    store = Store(own.url, prefix="p", timeout_s=1)
    await store.connect()
    (warning,) = events.named("store.full_policy")
    assert (warning["policy"], warning["level"]) == ("allkeys-lru", "warning")
    await store.close()


async def test_a_store_that_cannot_write_counts_as_away_for_who_writes(own: EmbeddedValkey) -> None:
    await ask(own, "CONFIG", "SET", "maxmemory", "1")
    store = Store(own.url, prefix="p", timeout_s=1)
    with pytest.raises(StoreAway, match="OutOfMemory"):
        await store.run(lambda redis: redis.set("a", "1"))
    await store.close()


async def test_closing_ends_the_watch(tmp_path: Path) -> None:
    store = Store(f"unix://{tmp_path}/nobody", prefix="p", timeout_s=1)
    await store.connect()
    await store.close()
    await eventually(lambda: not [task for task in asyncio.all_tasks() if task.get_name() == "store.watch"])


# ---- with a gateway --------------------------------------------------------------------------------------------


async def test_a_stopped_store_delays_only_who_needs_it(
    start_vendor: StartVendor, start_gateway: StartGateway, own: EmbeddedValkey, events: Events
) -> None:
    pid = (await server_info(own))["process_id"]
    change = edit(store={"url": own.url, "timeout_s": 0.3})
    gateway = await start_gateway(await start_vendor("openai"), change=change)
    _, thread, _ = await gateway.call("POST", "/v1/threads", {})
    clock = asyncio.get_running_loop().time

    async def timed(method: str, path: str, body: Any = None) -> tuple[int, float]:
        began = clock()
        status, _, _ = await gateway.call(method, path, body)
        return status, clock() - began

    os.kill(pid, signal.SIGSTOP)
    try:
        listing = asyncio.create_task(timed("GET", "/v1/assistants"))
        creating = asyncio.create_task(timed("POST", "/v1/assistants", {"model": "m"}))
        for _ in range(5):
            status, took = await timed("GET", f"/v1/threads/{thread['id']}")
            assert (status, took < 0.2) == (200, True)
        assert not listing.done()
        (listed, listing_s), (created, creating_s) = await asyncio.gather(listing, creating)
        assert (listed, created, max(listing_s, creating_s) < 1.5) == (503, 200, True)
        status, took = await timed("GET", "/v1/assistants")
        assert (status, took < 0.2) == (503, True)
    finally:
        os.kill(pid, signal.SIGCONT)
    await eventually(lambda: len(events.named("store.ready")) == 2)


async def test_what_could_not_be_written_is_said_at_the_end(
    start_vendor: StartVendor, start_gateway: StartGateway, tmp_path: Path, events: Events
) -> None:
    gateway = await start_gateway(
        await start_vendor("openai"), change=edit(store__url=f"unix://{tmp_path}/nobody.sock")
    )
    _, made, _ = await gateway.call("POST", "/v1/assistants", {"model": "m"})
    await gateway.app.stop(grace_s=1)
    (lost,) = events.named("index.lost")
    assert (lost["level"], lost["tenant"], lost["kind"]) == ("error", "alice", "assistant")
    assert made["id"].startswith(lost["upstream_ids"][0])


async def test_a_managed_server_that_forbids_to_ask_for_its_settings_is_there_all_the_same(
    own_valkey: OwnValkey, events: Events
) -> None:
    async with Redis.from_url(own_valkey.url) as admin:
        await admin.execute_command("ACL", "SETUSER", "tenant", "on", ">word", "~*", "&*", "+@all", "-config")
    path = own_valkey.url.removeprefix("unix://")
    store = Store(f"unix://tenant:word@{path}", prefix="managed", timeout_s=1)
    await store.connect()
    assert store.is_ready
    assert events.named("store.away") == []
    await store.close()
