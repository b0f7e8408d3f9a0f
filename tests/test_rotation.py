"""Keys that come and go, seen from outside: which are used, which rest, what callers get meanwhile."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from gateway.store.key_states import KeyState
from tests.conftest import Events, Running, StartGateway, StartVendor, Vendor, edit, eventually
from tests.simulators import faults

REVOKED = faults.status(401, {"error": {"message": "Incorrect API key: sk-…", "code": "invalid_api_key"}})
NO_MONEY = faults.status(429, {"error": {"message": "You exceeded…", "code": "insufficient_quota"}})


def with_key(vendor: Vendor, place: int) -> Any:
    return lambda received: received.key == vendor.keys[place]


def keys_used(events: Events) -> list[tuple[str, int | str]]:
    """The attempts of the last request."""
    attempts = events.named("request.done")[-1]["attempts"]
    return [(attempt["key"], attempt.get("status", attempt.get("error"))) for attempt in attempts]


async def read(gateway: Running, thread: str, **more: Any) -> tuple[int, Any, Any]:
    return await gateway.call("GET", f"/v1/threads/{thread}", **more)


@pytest.fixture
async def vendor(start_vendor: StartVendor) -> Vendor:
    """Rate limits belong to its keys."""
    return await start_vendor("aimlapi")


@pytest.fixture
async def gateway(vendor: Vendor, start_gateway: StartGateway) -> Running:
    return await start_gateway(vendor)


@pytest.fixture
async def thread(gateway: Running) -> str:
    _, made, _ = await gateway.call("POST", "/v1/threads", {})
    thread_id: str = made["id"]
    return thread_id


async def test_a_revoked_key_is_out_and_comes_back_when_it_is_good_again(
    gateway: Running, vendor: Vendor, thread: str, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request that found out went on with the next key; later ones do not try it."""
    vendor.simulator.faults.add(REVOKED, where=with_key(vendor, 1), times=None)
    assert (await read(gateway, thread))[0] == 200
    assert keys_used(events) == [("two", 401), ("one", 200)]
    for _ in range(3):
        assert (await read(gateway, thread))[0] == 200
        assert keys_used(events) == [("one", 200)]
    [dead] = events.named("key.dead")
    assert (dead["level"], dead["key"], dead["why"], dead["account"]) == ("error", "two", "invalid_api_key", "acme")
    pool, probing = next(iter(gateway.app.pools.values())), gateway.app.probing
    two = pool.target.account.keys[1]
    assert await probing.probe(pool, two) is False
    vendor.simulator.faults.clear()
    assert await probing.probe(pool, two) is True
    assert len(events.named("key.ready")) == 1
    used = set()
    for _ in range(4):
        await read(gateway, thread)
        used |= {key for key, _ in keys_used(events)}
    assert used == {"one", "two"}


async def test_replicas_learn_of_a_dead_key_from_each_other(
    vendor: Vendor, start_gateway: StartGateway, events: Events
) -> None:
    change = edit(store__prefix=f"rotation-{id(vendor)}")
    one, two = await start_gateway(vendor, change=change), await start_gateway(vendor, change=change)
    _, made, _ = await one.call("POST", "/v1/threads", {})
    vendor.simulator.faults.add(REVOKED, where=with_key(vendor, 1), times=1)
    for _ in range(2):
        await read(one, made["id"])
    assert len(events.named("key.dead")) == 1
    pool = next(iter(two.app.pools.values()))
    await eventually(lambda: [key.name for key in pool.ready()] == ["one"], within_s=2)
    await read(two, made["id"])
    assert keys_used(events) == [("one", 200)]


async def test_a_vendors_own_trouble_kills_no_fleet(
    gateway: Running, vendor: Vendor, thread: str, events: Events
) -> None:
    """All keys are refused at once: the last one only rests until a probe has asked."""
    vendor.simulator.faults.add(REVOKED, times=None)
    status, answer, headers = await read(gateway, thread)
    assert (status, answer["error"]["code"]) == (502, "upstream_credentials_exhausted")
    assert headers["x-should-retry"] == "false"
    assert "Incorrect" not in answer["error"]["message"]
    assert [event["key"] for event in events.named("key.dead")] == ["two"]
    assert [(event["key"], event["why"]) for event in events.named("key.rests")] == [("one", "unauthorized")]
    asked = len(vendor.simulator.journal)
    status, answer, _ = await read(gateway, thread)
    assert (status, answer["error"]["code"]) == (502, "upstream_credentials_exhausted")
    assert "account 'acme' of provider 'aimlapi'" in answer["error"]["message"]
    assert len(vendor.simulator.journal) == asked, "nobody is asked meanwhile"


async def test_a_limited_key_rests_as_long_as_the_vendor_says(
    gateway: Running, vendor: Vendor, thread: str, events: Events
) -> None:
    for place, asked in ((1, "7"), (0, "3")):
        fault = faults.status(429, headers={"retry-after": asked})
        vendor.simulator.faults.add(fault, where=with_key(vendor, place), times=None)
    status, _, headers = await read(gateway, thread)
    assert (status, headers["retry-after"]) == (429, "3")
    assert [(each["key"], each["rest_s"]) for each in events.named("key.rests")] == [("two", 7), ("one", 3)]
    status, answer, headers = await read(gateway, thread)
    assert (status, answer["error"]["code"], headers["retry-after"]) == (429, "rate_limit_exceeded", "3")
    assert keys_used(events) == []


async def test_an_account_that_is_limited_is_not_asked_until_it_may_be(
    start_vendor: StartVendor, start_gateway: StartGateway, events: Events
) -> None:
    """Per model, where the request names one: another model has limits of its own."""
    vendor = await start_vendor("openai")
    gateway = await start_gateway(vendor)
    vendor.simulator.faults.add(faults.status(429, headers={"retry-after": "9"}), times=1)
    body = {"model": "gpt-4o"}
    assert (await gateway.call("POST", "/v1/assistants", body))[0] == 429
    status, answer, headers = await gateway.call("POST", "/v1/assistants", body)
    assert (status, answer["error"]["code"], headers["retry-after"]) == (429, "rate_limit_exceeded", "9")
    assert "account 'acme' of provider 'openai' has reached its rate limit" in answer["error"]["message"]
    assert (await gateway.call("POST", "/v1/assistants", {"model": "other"}))[0] == 200
    assert (await gateway.call("POST", "/v1/threads", {}))[0] == 200
    assert (await gateway.call("POST", "/v1/assistants", body, tenant="carol"))[0] == 200, "another account"


async def test_without_money_a_key_rests_long_and_the_next_one_works(
    gateway: Running, vendor: Vendor, thread: str, events: Events
) -> None:
    vendor.simulator.faults.add(NO_MONEY, where=with_key(vendor, 1), times=1)
    assert (await read(gateway, thread))[0] == 200
    [rest] = events.named("key.rests")
    assert (rest["key"], rest["why"], rest["rest_s"]) == ("two", "no_money", 600)


async def test_a_provider_that_only_fails_is_not_asked_for_a_while(
    vendor: Vendor, start_gateway: StartGateway, events: Events
) -> None:
    rotation = {"breaker_failures": 3, "breaker_open_s": 0.2}
    gateway = await start_gateway(vendor, change=edit(providers__aimlapi__rotation=rotation))
    _, made, _ = await gateway.call("POST", "/v1/threads", {})
    vendor.simulator.faults.add(faults.status(503), times=None)
    assert (await read(gateway, made["id"]))[0] == 503
    asked = len(vendor.simulator.journal)
    status, answer, headers = await read(gateway, made["id"])
    assert (status, answer["error"]["code"], headers["retry-after"]) == (503, "account_down", "1")
    assert len(vendor.simulator.journal) == asked
    assert (await gateway.call("POST", "/v1/threads", {}, tenant="carol"))[0] == 503, "another account, asked by itself"
    vendor.simulator.faults.clear()
    async with asyncio.timeout(5):
        while (await read(gateway, made["id"]))[0] != 200:
            await asyncio.sleep(0.02)
    assert len(events.named("account.down")) == len(events.named("account.up")) == 1


async def test_a_key_of_another_account_is_found_out(
    start_vendor: StartVendor, start_gateway: StartGateway, events: Events
) -> None:
    """It does not find what the other made: the request goes on with the one that did."""
    keys = {"sk-right": "acme", "sk-wrong": "elsewhere", "sk-bolt": "bolt"}
    vendor = await start_vendor("openai", keys=keys)
    gateway = await start_gateway(vendor)
    _, made, _ = await gateway.call("POST", "/v1/threads", {})
    assert keys_used(events) == [("one", 200)]
    assert (await read(gateway, made["id"]))[0] == 200
    assert keys_used(events) == [("two", 404), ("one", 200)]
    [found] = events.named("key.account_mismatch")
    assert (found["key"], found["seen"]) == ("two", made["id"][:-24])
    assert (await read(gateway, made["id"]))[0] == 200
    assert keys_used(events) == [("one", 200)]


async def test_what_is_gone_blames_no_key(gateway: Running, vendor: Vendor, thread: str, events: Events) -> None:
    """Deleted elsewhere: another key is asked once, and says the same."""
    vendor.simulator.worlds["acme"].threads.delete(thread[:-24])
    assert (await read(gateway, thread))[0] == 404
    assert [status for _, status in keys_used(events)] == [404, 404]
    assert events.named("key.account_mismatch") == []
    _, made, _ = await gateway.call("POST", "/v1/threads", {})
    assert (await gateway.call("DELETE", f"/v1/threads/{made['id']}"))[0] == 200
    assert (await read(gateway, made["id"]))[0] == 404
    assert [status for _, status in keys_used(events)] == [404], "the gateway deleted it itself"


async def test_many_forbidden_objects_are_the_keys_fault_and_one_is_not(
    gateway: Running, vendor: Vendor, events: Events
) -> None:
    made = [(await gateway.call("POST", "/v1/threads", {}))[1]["id"] for _ in range(10)]
    fault = vendor.simulator.faults.add(faults.status(403), where=with_key(vendor, 0), times=None)
    for _ in range(8):
        await read(gateway, made[0])
    assert events.named("key.rests") == []
    for thread in made:
        await read(gateway, thread)
    assert [(each["key"], each["why"]) for each in events.named("key.rests")] == [("one", "forbidden")]
    assert len(fault.hits) < 14


async def test_streams_count_as_under_way_until_they_end(
    vendor: Vendor, start_gateway: StartGateway, events: Events
) -> None:
    gateway = await start_gateway(vendor, change=edit(providers__aimlapi__rotation={"strategy": "least_in_flight"}))
    _, assistant, _ = await gateway.call("POST", "/v1/assistants", {"model": "m"})
    release = asyncio.Event()
    vendor.simulator.faults.add(faults.stall_stream(1, release), path="/threads/runs")
    body = {"assistant_id": assistant["id"], "thread": {"messages": [{"role": "user", "content": "x"}]}, "stream": True}
    headers = {"Authorization": "Bearer alice-key"}
    async with gateway.session.post(gateway.url + "/v1/threads/runs", json=body, headers=headers) as response:
        await response.content.readany()
        pool = next(iter(gateway.app.pools.values()))
        assert sorted(pool.in_flight().values()) == [0, 1]
        [busy] = [name for name, count in pool.in_flight().items() if count]
        for _ in range(3):
            await gateway.call("POST", "/v1/threads", {})
            assert keys_used(events)[0][0] != busy
        release.set()
        await response.read()
    await eventually(lambda: sum(pool.in_flight().values()) == 0)


async def test_keys_have_their_times(vendor: Vendor, start_gateway: StartGateway, events: Events) -> None:
    """Before and after them a key is not used."""

    def change(settings: dict[str, Any]) -> None:
        keys = settings["providers"]["aimlapi"]["accounts"]["acme"]["keys"]
        keys["one"] = {"secret": keys["one"], "expires_at": "2020-01-01T00:00:00Z"}
        keys["three"] = {"secret": "${AIMLAPI_2}", "not_before": "2090-01-01T00:00:00Z"}
        del settings["providers"]["aimlapi"]["accounts"]["bolt"]
        settings["tenants"].pop("carol")

    gateway = await start_gateway(vendor, change=change)
    for _ in range(3):
        assert (await gateway.call("POST", "/v1/threads", {}))[0] == 200
        assert [key for key, _ in keys_used(events)] == ["two"]


async def test_a_trial_that_is_not_made_leaves_the_way_to_the_next(
    vendor: Vendor, start_gateway: StartGateway, events: Events
) -> None:
    """The breaker lets one request try; if no key is ready for it, another must be let through later."""
    rotation = {"breaker_failures": 3, "breaker_open_s": 0.1}
    gateway = await start_gateway(vendor, change=edit(providers__aimlapi__rotation=rotation))
    _, made, _ = await gateway.call("POST", "/v1/threads", {})
    vendor.simulator.faults.add(faults.status(503), times=3)
    assert (await read(gateway, made["id"]))[0] == 503
    pool = next(iter(gateway.app.pools.values()))
    assert gateway.app.shared is not None
    states = gateway.app.shared.keys
    for key in pool.target.account.keys:
        states.put(pool.place(key), KeyState("resting", time.time(), time.time() + 60, "rate_limited"))
    async with asyncio.timeout(5):
        while (await read(gateway, made["id"]))[1]["error"]["code"] == "account_down":
            await asyncio.sleep(0.02)
    for key in pool.target.account.keys:
        states.clear(pool.place(key))
    async with asyncio.timeout(5):
        while (await read(gateway, made["id"]))[0] != 200:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("code", ["insufficient_quota", "PermissionDenied"])
async def test_a_probe_never_takes_a_key_out_for_good(gateway: Running, vendor: Vendor, thread: str, code: str) -> None:
    """Whatever the provider calls it: a key that was refused is tried again until it is good."""
    pool, probing = next(iter(gateway.app.pools.values())), gateway.app.probing
    assert probing is not None
    unclear = faults.status(401, {"error": {"message": "no", "code": "unclear"}})
    vendor.simulator.faults.add(unclear, where=with_key(vendor, 1), times=1)
    await read(gateway, thread)
    await read(gateway, thread)
    two = pool.target.account.keys[1]
    assert pool.doubtful() == [two]
    status = 429 if code == "insufficient_quota" else 401
    vendor.simulator.faults.add(faults.status(status, {"error": {"message": "no", "code": code}}), times=1)
    await probing.probe(pool, two)
    assert two in pool.ready() or pool.doubtful() == [two]
