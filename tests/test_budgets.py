"""Budgets of providers' keys: the vendor counts what it is asked with each, and is never asked too often."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis

from gateway.store.key_states import KeyPlace
from tests.conftest import Events, Running, StartGateway, StartVendor, Vendor, edit, eventually
from tests.simulators import faults
from tests.store.conftest import OwnValkey, age_window, own_valkey  # noqa: F401  a fixture
from tests.test_reloading import StartManaged, start_managed  # noqa: F401  a fixture

Change = Callable[[dict[str, Any]], None]


@pytest.fixture
async def vendor(start_vendor: StartVendor) -> Vendor:
    return await start_vendor("openai")


def budgets(vendor: Vendor, one: dict[str, int], two: dict[str, int] | None = None, **more: Any) -> Change:
    """Budgets of the account's keys, and the store's keys for several gateways of one test."""

    def change(settings: dict[str, Any]) -> None:
        keys = settings["providers"]["openai"]["accounts"]["acme"]["keys"]
        for name, budget in (("one", one), ("two", two)):
            if budget is None:
                del keys[name]
            else:
                keys[name] = {"secret": keys[name], **budget}
        edit(store__prefix=f"budgets-{id(vendor)}", **more)(settings)

    return change


async def ask(gateway: Running) -> tuple[int, Any, Any]:
    return await gateway.call("POST", "/v1/threads", {})


def asked(vendor: Vendor) -> Counter[str]:
    """How often the vendor was asked with each key."""
    return Counter(str(received.key).rpartition("-")[2] for received in vendor.simulator.journal)


async def test_two_gateways_ask_with_no_key_more_often_than_its_budget(
    vendor: Vendor, start_gateway: StartGateway
) -> None:
    """Then callers get 429 with the time until the first window frees; nobody asked the vendor for that."""
    change = budgets(vendor, {"requests_per_minute": 3}, {"requests_per_minute": 5})
    gateways = [await start_gateway(vendor, change=change) for _ in range(2)]
    answers = await asyncio.gather(*(ask(gateways[number % 2]) for number in range(30)))
    assert Counter(status for status, _, _ in answers) == {200: 8, 429: 22}
    assert asked(vendor) == {"one": 3, "two": 5}
    status, answer, headers = await ask(gateways[0])
    assert (status, answer["error"]["code"]) == (429, "rate_limit_exceeded")
    assert (
        "all keys of account 'acme' of provider 'openai' rest or have used their budgets" in answer["error"]["message"]
    )
    assert 0 < int(headers["retry-after"]) <= 61


async def test_a_key_without_a_budget_takes_what_the_others_may_not(
    vendor: Vendor, start_gateway: StartGateway, valkey: str
) -> None:
    """And nothing is counted for it."""
    gateway = await start_gateway(vendor, change=budgets(vendor, {"requests_per_minute": 2}, {}))
    assert [(await ask(gateway))[0] for _ in range(12)] == [200] * 12
    assert asked(vendor) == {"one": 2, "two": 10}
    with Redis.from_url(valkey) as plain:
        assert len(plain.keys(f"budgets-{id(vendor)}:budget:*")) == 1


async def test_a_window_that_frees_lets_the_key_be_used_again(
    vendor: Vendor, start_gateway: StartGateway, valkey: str
) -> None:
    """The window is moved back in the store, and the clock of the replica's own note on."""
    gateway = await start_gateway(vendor, change=budgets(vendor, {"requests_per_minute": 1}))
    assert [(await ask(gateway))[0] for _ in range(2)] == [200, 429]
    with Redis.from_url(valkey) as plain:
        (key,) = plain.keys(f"budgets-{id(vendor)}:budget:*")
        age_window(plain, key.decode(), 61)
    assert (await ask(gateway))[0] == 429, "the replica remembers until when, and does not ask the store"
    assert gateway.app.budgets is not None
    (spent,) = gateway.app.budgets._spent.values()
    spent.until_s -= 61
    assert (await ask(gateway))[0] == 200


async def test_every_attempt_counts(vendor: Vendor, start_gateway: StartGateway) -> None:
    """Reads are sent again: the vendor counts these too."""
    gateway = await start_gateway(vendor, change=budgets(vendor, {"requests_per_minute": 3}))
    _, made, _ = await ask(gateway)
    vendor.simulator.faults.add(faults.status(500), times=None)
    status, _, _ = await gateway.call("GET", f"/v1/threads/{made['id']}")
    assert (status, asked(vendor)) == (500, {"one": 3})


async def test_tokens_of_the_last_minute_keep_a_key_out_in_every_gateway(
    vendor: Vendor, start_gateway: StartGateway, valkey: str
) -> None:
    """Settlement tells them."""
    change = budgets(vendor, {"tokens_per_minute": 1000}, {})
    one, two = [await start_gateway(vendor, change=change) for _ in range(2)]
    pool = next(pool for pool in one.app.pools.values() if pool.target.account.name == "acme")
    place = KeyPlace.of(pool.target.account, pool.target.account.keys[0])
    assert one.app.budgets is not None
    one.app.budgets.note_tokens(place, 999, time.time())
    one.app.budgets.note_tokens(place._replace(fingerprint="unknown"), 5000, time.time())
    await one.app.budgets.drain()
    for _ in range(4):
        await ask(two)
    assert asked(vendor) == {"one": 2, "two": 2}
    one.app.budgets.note_tokens(place, 1, time.time())
    await one.app.budgets.drain()
    for gateway in (one, two):
        for _ in range(4):
            await ask(gateway)
    assert asked(vendor) == {"one": 2, "two": 10}


async def test_while_the_store_is_away_each_gateway_keeps_its_share(
    vendor: Vendor,
    start_gateway: StartGateway,
    own_valkey: OwnValkey,  # noqa: F811
) -> None:
    change = budgets(vendor, {"requests_per_minute": 6}, store__url=own_valkey.url)
    both = [await start_gateway(vendor, change=change) for _ in range(2)]
    for gateway in both:
        assert gateway.app.shared is not None
        await gateway.app.shared.replicas.beat()
    assert (await ask(both[0]))[0] == 200
    own_valkey.kill()
    for gateway in both:
        for _ in range(5):
            await ask(gateway)
    assert asked(vendor) == {"one": 6}


async def test_a_caller_who_leaves_while_a_key_is_reserved_leaves_the_breakers_trial(
    vendor: Vendor, start_gateway: StartGateway, monkeypatch: pytest.MonkeyPatch, events: Events
) -> None:
    """The next request makes it."""
    gateway = await start_gateway(
        vendor,
        change=budgets(
            vendor,
            {"requests_per_minute": 100},
            providers__openai__rotation={"breaker_failures": 1, "breaker_open_s": 0.05},
        ),
    )
    _, made, _ = await ask(gateway)
    vendor.simulator.faults.add(faults.status(500), times=1)
    await gateway.call("POST", f"/v1/threads/{made['id']}/messages", {"role": "user", "content": "x"})
    assert events.named("account.down")
    pool = next(pool for pool in gateway.app.pools.values() if pool.target.account.name == "acme")
    await eventually(lambda: pool._breaker._open_until <= pool._clock())
    assert gateway.app.budgets is not None
    reserving, reserve = asyncio.Event(), gateway.app.budgets._counts.reserve

    async def never(*_: object) -> float:
        reserving.set()
        await asyncio.Event().wait()
        return 0.0

    monkeypatch.setattr(gateway.app.budgets._counts, "reserve", never)
    leaving = asyncio.create_task(ask(gateway))
    await reserving.wait()
    leaving.cancel()
    await eventually(lambda: "caller_left" in [line.get("outcome") for line in events.named("request.done")])
    monkeypatch.setattr(gateway.app.budgets._counts, "reserve", reserve)
    assert (await ask(gateway))[0] == 200


async def test_a_reload_changes_a_budget(vendor: Vendor, start_managed: StartManaged) -> None:  # noqa: F811
    """A key whose old budget is used is looked at anew."""
    managed = await start_managed(vendor, one="sk-openai-acme-one")
    keys = managed.settings["providers"]["openai"]["accounts"]["acme"]["keys"]
    keys["one"] = {"secret": "file:secrets/one", "requests_per_minute": 1}
    assert await managed.reload()
    gateway = managed.running
    assert [(await ask(gateway))[0] for _ in range(2)] == [200, 429]
    keys["one"] = {"secret": "file:secrets/one", "requests_per_minute": 2}
    assert await managed.reload()
    assert [(await ask(gateway))[0] for _ in range(2)] == [200, 429]
    keys["one"] = "file:secrets/one"
    assert await managed.reload()
    assert [(await ask(gateway))[0] for _ in range(3)] == [200] * 3
