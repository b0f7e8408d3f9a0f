"""Messages come while there is a connection, and there is one again whenever it was lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from redis import Redis

from gateway.store.connection import Store
from gateway.store.subscription import Subscription
from tests.conftest import eventually
from tests.store.conftest import OwnValkey, Pause
from tests.store.gate import Gate

Listen = Callable[..., Awaitable[tuple[Subscription, list[str]]]]


@pytest.fixture
async def listen(prefix: str) -> AsyncIterator[Listen]:
    """`await listen(url)`: a subscription to the channels x and y of this test, and what it heard."""
    opened: list[tuple[Subscription, Store]] = []

    async def start(url: str, *, silence_s: float = 60, pause: Pause) -> tuple[Subscription, list[str]]:
        heard: list[str] = []
        store = Store(url, prefix=prefix, timeout_s=1)
        heard_by = {f"{prefix}:{name}": lambda said, name=name: heard.append(name + said) for name in "xy"}
        subscription = Subscription(store, heard_by, silence_s=silence_s, pause=pause)  # type: ignore[arg-type]
        opened.append((subscription, store))
        subscription.start()
        await eventually(lambda: subscription.is_open)
        return subscription, heard

    yield start
    for subscription, store in opened:
        await subscription.close()
        await store.close()


async def test_each_channel_has_its_hearer(listen: Listen, valkey: str, plain: Redis, prefix: str) -> None:
    _, heard = await listen(valkey, pause=asyncio.sleep)
    plain.publish(f"{prefix}:x", "1")
    plain.publish(f"{prefix}:y", "2")
    plain.publish(f"{prefix}:z", "3")
    await eventually(lambda: len(heard) == 2)
    assert heard == ["x1", "y2"]


@pytest.mark.one_server
async def test_a_lost_connection_is_opened_again(
    listen: Listen, valkey: str, plain: Redis, prefix: str, pause_little: Pause
) -> None:
    subscription, heard = await listen(valkey, pause=pause_little)
    for number in range(3):
        for client in plain.client_list():
            if client["id"] and client["sub"] != "0":
                plain.client_kill_filter(_id=client["id"])
        await eventually(lambda: plain.pubsub_numsub(f"{prefix}:x")[0][1] == 1)
        await eventually(lambda: subscription.is_open)
        plain.publish(f"{prefix}:x", str(number))
        await eventually(lambda: bool(heard) and heard[-1] == f"x{number}")  # noqa: B023
    assert heard == ["x0", "x1", "x2"]


async def test_a_store_that_was_away_is_listened_to_again(
    listen: Listen, own_valkey: OwnValkey, prefix: str, pause_little: Pause
) -> None:
    subscription, heard = await listen(own_valkey.url, pause=pause_little)
    own_valkey.kill()
    await eventually(lambda: not subscription.is_open)
    await own_valkey.start()
    await eventually(lambda: subscription.is_open)
    with Redis.from_url(own_valkey.url) as redis:
        redis.publish(f"{prefix}:x", "back")
    await eventually(lambda: heard == ["xback"])


async def test_a_connection_that_has_gone_silent_is_given_up(
    listen: Listen, gate: Gate, plain: Redis, prefix: str, pause_little: Pause
) -> None:
    """As of a peer that lost its power: nothing is ever closed. One that has nothing to say answers when asked."""
    subscription, heard = await listen(gate.url, silence_s=0.05, pause=pause_little)
    await gate.until(lambda gate: [b"PING"] in gate.commands)
    assert gate.commands.count([b"SUBSCRIBE", f"{prefix}:x".encode(), f"{prefix}:y".encode()]) == 1
    gate.hold()
    await eventually(lambda: not subscription.is_open)
    gate.release()
    await eventually(lambda: subscription.is_open)
    await eventually(lambda: plain.publish(f"{prefix}:x", "back") >= 1)
    await eventually(lambda: "xback" in heard)


async def test_closing_leaves_nothing(listen: Listen, valkey: str, plain: Redis, prefix: str) -> None:
    subscription, _ = await listen(valkey, pause=asyncio.sleep)
    await subscription.close()
    await eventually(lambda: plain.pubsub_numsub(f"{prefix}:x")[0][1] == 0)
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "store.subscription"]
