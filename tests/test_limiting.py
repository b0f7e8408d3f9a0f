"""Limits of tenants and their keys, seen from outside: who is refused, what callers are told, what is given back."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import openai
import orjson
import pytest
from redis import Redis
from ruamel.yaml import YAML

from gateway.config import Allowance
from gateway.errors import GatewayError
from gateway.limiting import Admission, Limiting
from gateway.model import Caller
from gateway.operations import BY_NAME
from gateway.store.connection import Store
from gateway.store.limits import LimitCounts
from gateway.store.token_counts import fields_of
from gateway.telemetry import Record
from tests.conftest import (
    TENANT_KEYS,
    Dial,
    Events,
    Running,
    StartGateway,
    StartVendor,
    Vendor,
    edit,
    environ_for,
    eventually,
    settings_for,
)
from tests.simulators import faults
from tests.store.conftest import (  # noqa: F401  fixtures
    OpenCoalescer,
    OwnValkey,
    age_window,
    gate,
    open_coalescer,
    own_valkey,
)
from tests.store.gate import Gate
from tests.test_reloading import StartManaged, start_managed  # noqa: F401  a fixture
from tests.values import DIRECTORY
from tests.wire import request

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the SDK marks every Assistants method so

Change = Callable[[dict[str, Any]], None]
_numbers = count()


@pytest.fixture
async def vendor(start_vendor: StartVendor) -> Vendor:
    return await start_vendor("openai")


@pytest.fixture
def prefix() -> str:
    """Of the store's keys, for several gateways of one test."""
    return f"limits-{next(_numbers)}"


def limits(prefix: str, **most: int) -> Change:
    """What alice may use."""
    return edit(tenants__alice__limits=most, store__prefix=prefix)


async def ask(gateway: Running, **more: Any) -> tuple[int, Any, Any]:
    return await gateway.call("POST", "/v1/threads", {}, **more)


async def statuses(*gateways: Running, times: int = 1) -> list[int]:
    return [(await ask(gateway))[0] for _ in range(times) for gateway in gateways]


def shown(headers: Any) -> dict[str, str]:
    return {name: headers[name] for name in map(str.lower, headers) if name.startswith("x-ratelimit-")}


# --- requests per minute ----------------------------------------------------------------------------------------------
async def test_two_gateways_share_a_window(vendor: Vendor, start_gateway: StartGateway, prefix: str) -> None:
    """And another tenant has its own."""
    change = limits(prefix, requests_per_minute=7)
    gateways = [await start_gateway(vendor, change=change) for _ in range(2)]
    answers = await asyncio.gather(*(ask(gateways[number % 2]) for number in range(20)))
    found = [status for status, _, _ in answers]
    assert (found.count(200), found.count(429)) == (7, 13)
    assert len(vendor.simulator.journal) == 7
    for gateway in gateways:
        assert (await ask(gateway, tenant="bob"))[0] == 200


async def test_what_a_refused_caller_is_told(vendor: Vendor, start_gateway: StartGateway, prefix: str) -> None:
    gateway = await start_gateway(vendor, change=limits(prefix, requests_per_minute=1))
    status, _, headers = await ask(gateway)
    assert status == 200
    assert shown(headers)["x-ratelimit-limit-requests"] == "1"
    assert shown(headers)["x-ratelimit-remaining-requests"] == "0"
    assert re.fullmatch(r"59(\.\d{1,3})?s|1m0s", shown(headers)["x-ratelimit-reset-requests"])
    status, answer, headers = await ask(gateway)
    assert (status, answer["error"]["type"], answer["error"]["code"]) == (429, "requests", "rate_limit_exceeded")
    assert "for tenant 'alice' on requests per min (RPM): Limit 1, Used 1, Requested 1." in answer["error"]["message"]
    assert 0 < int(headers["retry-after"]) <= 60
    assert 0 < int(headers["retry-after-ms"]) <= 60_000
    assert "x-should-retry" not in headers
    assert shown(headers)["x-ratelimit-remaining-requests"] == "0"


async def test_the_sdk_sees_a_rate_limit_and_a_used_up_quota(
    vendor: Vendor, start_gateway: StartGateway, prefix: str
) -> None:
    """A quota is not asked for again by itself, though the SDK would."""
    gateway = await start_gateway(vendor, change=limits(prefix, requests_per_minute=2, bytes_per_day=1))
    async with gateway.sdk(max_retries=3) as client:
        await client.beta.threads.create()
        await counted(gateway)
        with pytest.raises(openai.RateLimitError) as refused:
            await client.beta.threads.create()
    assert (refused.value.code, refused.value.type) == ("insufficient_quota", "insufficient_quota")
    assert "bytes per day for tenant 'alice': Limit 1, Used " in refused.value.message
    assert refused.value.response.headers["x-should-retry"] == "false"
    assert 0 < int(refused.value.response.headers["retry-after"]) <= 86_400
    async with gateway.sdk("bob") as client:
        await client.beta.threads.create()


async def test_the_sdk_comes_again_when_it_may(
    vendor: Vendor, start_gateway: StartGateway, prefix: str, events: Events
) -> None:
    """It waits as long as `retry-after-ms` says: what is under way has ended by then."""
    gateway = await start_gateway(vendor, change=limits(prefix, concurrent_requests=1))
    stall = asyncio.Event()
    vendor.simulator.faults.add(faults.hold(stall), times=1)
    first = asyncio.create_task(ask(gateway))
    await vendor.simulator.arrived()
    async with gateway.sdk(max_retries=1) as client:
        second = asyncio.create_task(client.beta.threads.create())
        await eventually(lambda: [line["status"] for line in events.named("request.done")] == [429])
        stall.set()
        assert (await first)[0] == 200
        assert (await second).object == "thread"


async def counted(gateway: Running) -> None:
    """Wait until the store knows of what has ended."""
    assert gateway.app.limiting is not None
    await gateway.app.limiting.flush()


async def test_refused_requests_do_not_count_and_a_minute_later_all_is_there_again(
    vendor: Vendor, start_gateway: StartGateway, prefix: str, valkey: str
) -> None:
    """What was counted is moved a minute back, in place of a clock: the store's own decides."""
    gateway = await start_gateway(vendor, change=limits(prefix, requests_per_minute=2))
    assert await statuses(gateway, times=6) == [200, 200, 429, 429, 429, 429]
    with Redis.from_url(valkey) as plain:
        key = f"{prefix}:rate:{{alice}}"
        assert plain.hget(key, "sum") == b"2"
        assert 0 < plain.pttl(key) <= 61_000
        age_window(plain, key, 60)
    assert await statuses(gateway, times=3) == [200, 200, 429]


async def test_every_answer_tells_how_the_tenant_stands(
    vendor: Vendor, start_gateway: StartGateway, prefix: str
) -> None:
    """Errors, answers from the cache, streams, and what no vendor was asked for; tokens too, where only reads are."""
    change = limits(prefix, requests_per_minute=100, tokens_per_day=5000)
    cached = edit(cache__ttl_s=30)
    gateway = await start_gateway(vendor, change=lambda settings: (change(settings), cached(settings)))
    _, made, headers = await ask(gateway)
    _, assistant, _ = await gateway.call("POST", "/v1/assistants", {"model": "m"})
    run = {"assistant_id": assistant["id"], "stream": True, "thread": {"messages": [{"role": "user", "content": "x"}]}}
    answers = [
        await gateway.call("GET", f"/v1/threads/{made['id']}"),
        await gateway.call("GET", f"/v1/threads/{made['id']}"),
        await gateway.call("GET", "/v1/threads/thread_unknown"),
        await gateway.call("POST", "/v1/threads", data=b"{", headers={"Content-Type": "application/json"}),
        await gateway.call("POST", "/v1/threads/runs", run),
    ]
    assert [answer[0] for answer in answers] == [200, 200, 404, 400, 200]
    assert answers[1][2]["x-gateway-cache"] == "hit"
    assert answers[4][2]["Content-Type"].startswith("text/event-stream")
    for number, (_, _, headers) in enumerate(answers):
        assert shown(headers) == {
            "x-ratelimit-limit-requests": "100",
            "x-ratelimit-remaining-requests": str(97 - number),
            "x-ratelimit-reset-requests": shown(headers)["x-ratelimit-reset-requests"],
            "x-ratelimit-limit-tokens": "5000",
            "x-ratelimit-remaining-tokens": "5000",
            "x-ratelimit-reset-tokens": shown(headers)["x-ratelimit-reset-tokens"],
        }
        assert re.fullmatch(r"(\d+h)?(\d+m)?[\d.]+m?s", shown(headers)["x-ratelimit-reset-tokens"])
    assert shown((await ask(gateway, tenant="bob"))[2]) == {}


async def test_a_tenants_own_limits_are_told_in_place_of_its_accounts(
    vendor: Vendor, start_gateway: StartGateway, prefix: str
) -> None:
    """Carol owns her account, so the provider's cross: those of the family that she has no limit of."""
    given = {"x-ratelimit-limit-requests": "9", "x-ratelimit-limit-tokens": "8"}
    vendor.simulator.faults.add(faults.status(404, {"error": {"message": "no"}}, headers=given), times=None)
    gateway = await start_gateway(vendor, change=edit(tenants__carol__limits={"requests_per_minute": 50}))
    _, _, headers = await ask(gateway, tenant="carol")
    assert shown(headers)["x-ratelimit-limit-requests"] == "50"
    assert shown(headers)["x-ratelimit-limit-tokens"] == "8"


# --- of one key -------------------------------------------------------------------------------------------------------
def admit(limiting: Limiting, caller: Caller) -> Coroutine[Any, Any, Admission]:
    """One request of a caller, as the flow begins it."""

    async def begin() -> Admission:
        admission = limiting.admission(Record("req", "GET", "/v1/threads/x"))
        await admission.begin(caller, BY_NAME["get_thread"])
        return admission

    return begin()


async def test_a_key_has_limits_of_its_own_below_its_tenants(
    valkey: str,
    prefix: str,
    open_coalescer: OpenCoalescer,  # noqa: F811
) -> None:
    """Nothing is counted for the tenant when the key is refused, and the other key is not touched."""
    limiting = Limiting(LimitCounts(open_coalescer(valkey), Store(valkey, prefix=prefix, timeout_s=1)), lambda: 1)
    tenant = replace(DIRECTORY.tenants["alice"], allowance=Allowance(requests_per_minute=4))
    one, two = Caller(tenant, "one", Allowance(requests_per_minute=1)), Caller(tenant, "two")
    admission = await admit(limiting, one)
    assert admission._record.headers["x-ratelimit-remaining-requests"] == "3", "the tenant's"
    for _ in range(3):
        with pytest.raises(GatewayError) as refused:
            await admit(limiting, one)
        assert "for key one of tenant 'alice' on" in refused.value.message
    for _ in range(3):
        await admit(limiting, two)
    with pytest.raises(GatewayError) as refused:
        await admit(limiting, two)
    assert "for tenant 'alice' on" in refused.value.message
    await limiting.close()


async def test_without_limits_the_store_is_not_asked(
    valkey: str,
    prefix: str,
    gate: Gate,  # noqa: F811
    open_coalescer: OpenCoalescer,  # noqa: F811
) -> None:
    """Nor for what ends, of a tenant with a limit of requests alone."""
    coalescer, store = open_coalescer(gate.url), Store(valkey, prefix=prefix, timeout_s=1)
    limiting = Limiting(LimitCounts(coalescer, store), lambda: 1)
    tenant = DIRECTORY.tenants["alice"]
    (await admit(limiting, Caller(tenant, "one"))).end()
    await limiting.close()
    assert gate.commands == []
    tenant = replace(tenant, allowance=Allowance(requests_per_minute=4))
    (await admit(limiting, Caller(tenant, "one"))).end()
    await limiting.close()
    assert [command[0] for command in gate.commands] in ([b"EVALSHA"], [b"EVALSHA", b"EVAL"]), "one look, no more"


async def test_a_refused_request_costs_the_store_one_look(
    valkey: str,
    prefix: str,
    gate: Gate,  # noqa: F811
    open_coalescer: OpenCoalescer,  # noqa: F811
) -> None:
    """Nothing is to be given back."""
    coalescer, store = open_coalescer(gate.url), Store(valkey, prefix=prefix, timeout_s=1)
    limiting = Limiting(LimitCounts(coalescer, store), lambda: 1)
    allowance = Allowance(requests_per_minute=1, concurrent_requests=5, bytes_per_day=10_000)
    caller = Caller(replace(DIRECTORY.tenants["alice"], allowance=allowance), "one")
    (await admit(limiting, caller)).end()
    await limiting.flush()
    before = len(gate.commands)
    for _ in range(5):
        admission = limiting.admission(Record("req", "GET", "/"))
        with pytest.raises(GatewayError):
            await admission.begin(caller, BY_NAME["get_thread"])
        admission._record.note(bytes_out=300)
        admission.end()
    await limiting.close()
    assert len(gate.commands) == before + 5


async def test_what_the_store_is_to_be_told_is_bounded_and_no_byte_is_lost(
    valkey: str,
    prefix: str,
    open_coalescer: OpenCoalescer,  # noqa: F811
) -> None:
    coalescer, store = open_coalescer(valkey), Store(valkey, prefix=prefix, timeout_s=1)
    limiting = Limiting(LimitCounts(coalescer, store), lambda: 1)
    tenant = replace(DIRECTORY.tenants["alice"], allowance=Allowance(concurrent_requests=1, bytes_per_day=10**9))
    plan = limiting.plan_of(Caller(tenant, "one"))
    assert plan is not None
    for number in range(15_000):
        limiting.release(f"r{number}", plan, plan.others, 3)
    assert len(limiting._facts[tenant.id]) <= 10_000
    await limiting.close()
    with Redis.from_url(valkey) as plain:
        assert plain.hget(f"{prefix}:bytes:{{{tenant.id}}}", fields_of(time.time())[0]) == b"45000"


async def test_a_caller_who_leaves_while_it_is_looked_at_leaves_nothing(
    valkey: str,
    prefix: str,
    gate: Gate,  # noqa: F811
    open_coalescer: OpenCoalescer,  # noqa: F811
) -> None:
    """The store has counted it by then."""
    coalescer, store = open_coalescer(gate.url), Store(valkey, prefix=prefix, timeout_s=1)
    limiting = Limiting(LimitCounts(coalescer, store), lambda: 1)
    tenant = replace(DIRECTORY.tenants["alice"], allowance=Allowance(concurrent_requests=1))
    caller, key = Caller(tenant, "one"), f"{prefix}:requests:{{{tenant.id}}}"
    (await admit(limiting, caller)).end()
    await limiting.flush()
    gate.hold()
    admission = limiting.admission(Record("req", "GET", "/"))
    begun = asyncio.create_task(admission.begin(caller, BY_NAME["get_thread"]))
    with Redis.from_url(valkey) as plain:
        await eventually(lambda: bool(plain.exists(key)))
        begun.cancel()
        await asyncio.wait([begun])
        admission.end()
        gate.release()
        await limiting.flush()
        assert not plain.exists(key)
    await limiting.close()


async def test_what_ends_while_the_store_is_away_is_told_when_it_is_back(
    prefix: str,
    own_valkey: OwnValkey,  # noqa: F811
    open_coalescer: OpenCoalescer,  # noqa: F811
) -> None:
    coalescer, store = open_coalescer(own_valkey.url), Store(own_valkey.url, prefix=prefix, timeout_s=1)
    limiting = Limiting(LimitCounts(coalescer, store), lambda: 1)
    tenant = replace(DIRECTORY.tenants["alice"], allowance=Allowance(concurrent_requests=3, bytes_per_day=100))
    caller = Caller(tenant, "one")
    first, second = await admit(limiting, caller), await admit(limiting, caller)
    own_valkey.kill()
    first._record.note(bytes_in=7, bytes_out=5)
    first.end()
    third = await admit(limiting, caller)
    await admit(limiting, caller)
    with pytest.raises(GatewayError):
        await admit(limiting, caller)
    await own_valkey.start()
    await eventually(lambda: coalescer.presence.is_ready)
    third.end()
    await limiting.renew()
    await limiting.flush()
    with Redis.from_url(own_valkey.url) as plain:
        held = plain.zrange(f"{prefix}:requests:{{{tenant.id}}}", 0, -1)
        assert second._request.encode() in held
        assert not {first._request.encode(), third._request.encode()} & {*held}
        assert plain.hget(f"{prefix}:bytes:{{{tenant.id}}}", fields_of(time.time())[0]) == b"12"
    await limiting.close()


# --- what is under way ------------------------------------------------------------------------------------------------
async def test_requests_under_way_are_limited_in_all_gateways_together(
    vendor: Vendor, start_gateway: StartGateway, prefix: str
) -> None:
    one, two = [await start_gateway(vendor, change=limits(prefix, concurrent_requests=2)) for _ in range(2)]
    stall = asyncio.Event()
    vendor.simulator.faults.add(faults.hold(stall), times=2)
    waiting = [asyncio.create_task(ask(gateway)) for gateway in (one, two)]
    await vendor.simulator.arrived(2)
    status, answer, headers = await ask(one)
    assert (status, answer["error"]["code"], headers["retry-after"]) == (429, "rate_limit_exceeded", "1")
    assert "concurrent requests: Limit 2, Used 2" in answer["error"]["message"]
    assert (await ask(two))[0] == 429
    stall.set()
    assert [(await task)[0] for task in waiting] == [200, 200]
    assert await statuses(one, times=10) == [200] * 10, "one after the other, each at once after the other's answer"


async def ask_for_run(gateway: Running, *, stream: bool = True) -> bytes:
    _, assistant, _ = await gateway.call("POST", "/v1/assistants", {"model": "m"})
    thread = {"messages": [{"role": "user", "content": "Hello"}]}
    body = {"assistant_id": assistant["id"], "thread": thread, "stream": stream}
    return request("POST", "/v1/threads/runs", orjson.dumps(body))


async def test_a_stream_too_many_is_refused_and_counts_as_no_request(
    vendor: Vendor, start_gateway: StartGateway, prefix: str, dial: Dial
) -> None:
    """Other requests go on."""
    change = limits(prefix, concurrent_streams=1, concurrent_requests=2, requests_per_minute=100)
    gateway = await start_gateway(vendor, change=change)
    asking = await ask_for_run(gateway)
    stall = asyncio.Event()
    vendor.simulator.faults.add(faults.hold(stall), path="/runs$", times=1)
    first, second = await dial(gateway), await dial(gateway)
    await first.send(asking)
    await vendor.simulator.arrived(path="/runs$")
    for _ in range(3):
        await second.send(asking)
        answer = await second.answer()
        assert (answer.status, answer.code) == (429, "rate_limit_exceeded")
        assert "concurrent streams: Limit 1, Used 1" in answer.json["error"]["message"]
    await counted(gateway)
    status, _, headers = await ask(gateway)
    assert status == 200
    assert shown(headers)["x-ratelimit-remaining-requests"] == "97", "two before it, and the stream under way"
    stall.set()
    assert (await first.answer()).status == 200
    await second.send(asking)
    assert (await second.answer()).status == 200


@pytest.mark.parametrize("when", ["before the answer", "in the middle of it"])
async def test_nothing_stays_taken_when_a_caller_leaves(
    vendor: Vendor, start_gateway: StartGateway, prefix: str, dial: Dial, when: str, valkey: str, events: Events
) -> None:
    gateway = await start_gateway(vendor, change=limits(prefix, concurrent_streams=1, concurrent_requests=1))
    asking = await ask_for_run(gateway)
    stall = asyncio.Event()
    fault = faults.hold(stall) if when == "before the answer" else faults.stall_stream(1, stall)
    vendor.simulator.faults.add(fault, path="/runs$", times=1)
    wire = await dial(gateway)
    await wire.send(asking)
    await vendor.simulator.arrived(path="/runs$")
    if when == "in the middle of it":
        await wire.head()
    assert (await ask(gateway))[0] == 429
    before = len(events.named("request.done"))
    wire.close()
    await eventually(lambda: len(events.named("request.done")) > before)
    await counted(gateway)
    with Redis.from_url(valkey) as plain:
        assert plain.keys(f"{prefix}:requests:*") == plain.keys(f"{prefix}:streams:*") == []
    stall.set()
    assert (await ask(gateway))[0] == 200


# --- days -------------------------------------------------------------------------------------------------------------
async def test_no_run_begins_when_the_tokens_are_used_but_others_go_on(
    vendor: Vendor, start_gateway: StartGateway, prefix: str, valkey: str, dial: Dial
) -> None:
    """Settlement counts them; here a test does."""
    gateway = await start_gateway(vendor, change=limits(prefix, tokens_per_day=1000, tokens_per_month=5000))
    asking = await ask_for_run(gateway, stream=False)
    wire = await dial(gateway)
    await wire.send(asking)
    assert (await wire.answer()).status == 200
    day, month = fields_of(time.time())
    with Redis.from_url(valkey) as plain:
        plain.hset(f"{prefix}:tokens:{{alice}}", mapping={day: 1200, month: 1200})
    await wire.send(asking)
    answer = await wire.answer()
    assert (answer.status, answer.code, answer.headers["x-should-retry"]) == (429, "insufficient_quota", "false")
    assert "tokens per day for tenant 'alice': Limit 1000, Used 1200." in answer.json["error"]["message"]
    status, _, headers = await ask(gateway)
    assert (status, headers["x-ratelimit-remaining-tokens"]) == (200, "0")
    with Redis.from_url(valkey) as plain:
        plain.hset(f"{prefix}:tokens:{{alice}}", mapping={day: 10, month: 5000})
    await wire.send(asking)
    assert "tokens per month for" in (await wire.answer()).json["error"]["message"]


async def test_bytes_of_bodies_and_answers_add_up(
    vendor: Vendor, start_gateway: StartGateway, prefix: str, valkey: str, events: Events
) -> None:
    gateway = await start_gateway(vendor, change=limits(prefix, bytes_per_day=3000))
    text = "x" * 1000
    _, made, _ = await gateway.call("POST", "/v1/threads", {"messages": [{"role": "user", "content": text}]})
    await gateway.call("GET", f"/v1/threads/{made['id']}/messages")
    await counted(gateway)
    used = sum(line.get("bytes_in", 0) + line.get("bytes_out", 0) for line in events.named("request.done"))
    day, _ = fields_of(time.time())
    with Redis.from_url(valkey, decode_responses=True) as plain:
        assert plain.hgetall(f"{prefix}:bytes:{{alice}}") == {"day": day, day: str(used)}
        assert used > 2000
        assert plain.ttl(f"{prefix}:bytes:{{alice}}") == -1
    while (await gateway.call("GET", f"/v1/threads/{made['id']}/messages"))[0] == 200:
        await counted(gateway)
    status, answer, _ = await gateway.call("DELETE", f"/v1/threads/{made['id']}")
    assert (status, answer["error"]["code"]) == (429, "insufficient_quota")


# --- without the store ------------------------------------------------------------------------------------------------
async def test_a_tenant_has_its_share_of_each_replica_while_the_store_is_away(
    vendor: Vendor,
    start_gateway: StartGateway,
    prefix: str,
    own_valkey: OwnValkey,  # noqa: F811
) -> None:
    """Neither unlimited nor refused; what was asked in the same minute before is not forgotten."""
    change, own = limits(prefix, requests_per_minute=6), edit(store__url=own_valkey.url)
    both = [await start_gateway(vendor, change=lambda settings: (change(settings), own(settings))) for _ in range(2)]
    for gateway in both:
        assert gateway.app.shared is not None
        await gateway.app.shared.replicas.beat()
        assert gateway.app.shared.replicas.count == 2
    assert await statuses(both[0]) == [200]
    own_valkey.kill()
    assert await statuses(both[0], times=4) == [200, 200, 429, 429]
    assert await statuses(both[1], times=4) == [200, 200, 200, 429]
    _, answer, headers = await ask(both[1])
    assert (answer["error"]["code"], shown(headers)["x-ratelimit-limit-requests"]) == ("rate_limit_exceeded", "6")
    assert (await ask(both[1], tenant="bob"))[0] == 200


async def test_what_was_used_of_a_day_is_remembered_while_the_store_is_away(
    vendor: Vendor,
    start_gateway: StartGateway,
    prefix: str,
    own_valkey: OwnValkey,  # noqa: F811
) -> None:
    change, own = limits(prefix, bytes_per_day=100), edit(store__url=own_valkey.url)
    gateway = await start_gateway(vendor, change=lambda settings: (change(settings), own(settings)))
    assert await statuses(gateway) == [200]
    await counted(gateway)
    own_valkey.kill()
    found = await statuses(gateway, times=3)
    assert found[-1] == 429
    await own_valkey.start()
    await eventually(lambda: gateway.app.cache._commands.presence.is_ready)  # type: ignore[union-attr]
    assert await statuses(gateway) == [429], "nothing was forgotten"


# --- reload -----------------------------------------------------------------------------------------------------------
async def test_a_reload_changes_what_a_tenant_may_use(vendor: Vendor, start_managed: StartManaged) -> None:  # noqa: F811
    managed = await start_managed(vendor, one="sk-openai-acme-one")
    gateway = managed.running
    assert shown((await ask(gateway))[2]) == {}
    managed.settings["tenants"]["alice"]["limits"] = {"requests_per_minute": 1}
    assert await managed.reload()
    assert await statuses(gateway, times=2) == [200, 429]
    managed.settings["tenants"]["alice"]["limits"] = {"requests_per_minute": 3}
    assert await managed.reload()
    assert await statuses(gateway, times=3) == [200, 200, 429]
    del managed.settings["tenants"]["alice"]["limits"]
    assert await managed.reload()
    assert await statuses(gateway, times=5) == [200] * 5


@pytest.mark.long
async def test_what_a_killed_gateway_had_under_way_is_free_within_its_lease(
    vendor: Vendor, start_gateway: StartGateway, prefix: str, valkey: str, tmp_path: Path
) -> None:
    """A process of its own, killed in the middle of a request; another replica asks until it may."""
    change = limits(prefix, concurrent_requests=1)
    survivor = await start_gateway(vendor, change=change)
    settings = settings_for([vendor], valkey)
    change(settings)
    with (tmp_path / "victim.yaml").open("w") as file:
        YAML(typ="safe", pure=True).dump(settings, file)
    victim = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.cli", "serve", "--config", tmp_path / "victim.yaml"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environ_for([vendor])},
        cwd=Path(__file__).parents[1],
    )
    try:
        assert victim.stderr is not None
        while (event := orjson.loads(await victim.stderr.readline()))["event"] != "gateway.started":
            pass
        vendor.simulator.faults.add(faults.hold(asyncio.Event()), times=1)
        url = f"{event['url']}/v1/threads"
        under_way = asyncio.create_task(
            survivor.session.post(url, json={}, headers={"Authorization": f"Bearer {TENANT_KEYS['alice']}"})
        )
        await vendor.simulator.arrived()
        assert await statuses(survivor) == [429]
        victim.kill()
        await victim.wait()
        await asyncio.wait([under_way])
        assert await statuses(survivor) == [429]
        async with asyncio.timeout(30):
            while await statuses(survivor) != [200]:
                await asyncio.sleep(0.2)
    finally:
        if victim.returncode is None:
            victim.kill()
        await victim.communicate()
