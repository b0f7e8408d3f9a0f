"""Tokens are counted once for each run, whatever its caller does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from gateway.app import App
from gateway.settlement import Settled
from gateway.store import token_counts
from gateway.store.connection import Store
from gateway.store.embedded import EmbeddedValkey
from gateway.store.noted_runs import NotedRun, NotedRuns, Settling
from gateway.store.tenant_usage import UsageCounts, UsagePlace
from tests.conftest import Dial, Events, Running, StartGateway, StartVendor, Vendor, edit, eventually
from tests.simulators import faults
from tests.wire import request

# The SDK marks every Assistants method as deprecated, in words that vary.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

ADD = {
    "type": "function",
    "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "number"}}}},
}


@pytest.fixture
async def vendor(start_vendor: StartVendor) -> Vendor:
    return await start_vendor("openai")


@pytest.fixture
async def gateway(start_gateway: StartGateway, vendor: Vendor) -> Running:
    return await start_gateway(vendor)


def store_of(app: App) -> Store:
    assert app.shared is not None
    return app.shared._store


async def counted(app: App, tenant: str = "alice") -> UsageCounts:
    """All that is counted of a tenant's runs. Requests are left out: they come later."""
    assert app.shared is not None
    found = await app.shared.tenant_usage.read(tenant, f"{datetime.now(UTC):%Y-%m}")
    counts = [each for place, each in found.items() if each.runs]
    return sum(counts, UsageCounts())


async def tokens(app: App, tenant: str = "alice") -> dict[str, int]:
    """By the name of the field without its date: "" for the tenant, else the key's fingerprint."""
    store = store_of(app)
    key = token_counts.key_of(store, tenant)
    found = await store.run(lambda redis: redis.hgetall(key))
    return {field[7:]: int(number) for field, number in found.items() if field[7:8] in ("", ":")}


def used(vendor: Vendor, account: str = "acme") -> list[dict[str, int]]:
    """What the provider itself says of the runs it has."""
    threads = vendor.simulator.worlds[account].threads._shelf
    return [run.json["usage"] for thread in threads for run in thread.runs if run.json["usage"]]


async def stage(gateway: Running, *, tenant: str = "alice", say: str = "Hello", **assistant: Any) -> tuple[str, str]:
    """The public ids of a thread and an assistant."""
    call = partial(gateway.call, tenant=tenant)
    _, made, _ = await call("POST", "/v1/assistants", {"model": "gpt-4o", **assistant})
    _, thread, _ = await call("POST", "/v1/threads", {"messages": [{"role": "user", "content": say}]})
    return thread["id"], made["id"]


async def run_to_its_end(gateway: Running, *, tenant: str = "alice", **more: Any) -> dict[str, Any]:
    thread, assistant = await stage(gateway, tenant=tenant, **more)
    status, run, _ = await gateway.call(
        "POST", f"/v1/threads/{thread}/runs", {"assistant_id": assistant}, tenant=tenant
    )
    assert status == 200
    while run["status"] in ("queued", "in_progress"):
        _, run, _ = await gateway.call("GET", f"/v1/threads/{thread}/runs/{run['id']}", tenant=tenant)
    return dict(run)


async def test_a_run_is_counted_for_tenant_key_provider_and_model(
    gateway: Running, vendor: Vendor, events: Events
) -> None:
    run = await run_to_its_end(gateway)
    usage = run["usage"]
    counts = await counted(gateway.app)
    assert counts == UsageCounts(runs=1, prompt=usage["prompt_tokens"], completion=usage["completion_tokens"])
    (done,) = events.named("run.settled")
    assert done["tenant_key"] == events.named("request.done")[-1]["tenant_key"]
    assert (await tokens(gateway.app)) == {"": usage["total_tokens"], f":{done['tenant_key']}": usage["total_tokens"]}
    expected = {
        "tenant": "alice",
        "provider": "openai",
        "account": "acme",
        "model": "gpt-4o",
        "public_id": run["id"],
        "status": "completed",
        "usage_unknown": False,
        "total_tokens": usage["total_tokens"],
        "level": "info",
    }
    assert {name: done[name] for name in expected} == expected
    assert run["id"].startswith(done["upstream_id"])


async def test_polling_twenty_times_counts_once_and_asks_the_store_once(
    gateway: Running, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await run_to_its_end(gateway)
    before = await counted(gateway.app)
    asked: list[Settling] = []
    plain = NotedRuns.settle

    async def settle(self: NotedRuns, settling: Settling) -> Any:
        asked.append(settling)
        return await plain(self, settling)

    monkeypatch.setattr(NotedRuns, "settle", settle)
    for _ in range(20):
        await gateway.call("GET", f"/v1/threads/{run['thread_id']}/runs/{run['id']}")
    await gateway.call("GET", f"/v1/threads/{run['thread_id']}/runs")
    assert asked == []
    assert await counted(gateway.app) == before
    assert len(events.named("run.settled")) == 1


async def test_runs_of_the_sdk_are_counted_streamed_or_not(gateway: Running, vendor: Vendor) -> None:
    async with gateway.sdk() as client:
        assistant = await client.beta.assistants.create(model="m", tools=[ADD])  # type: ignore[list-item]
        thread = await client.beta.threads.create(messages=[{"role": "user", "content": "Hello"}])
        polled = await client.beta.threads.runs.create_and_poll(
            thread_id=thread.id, assistant_id=assistant.id, poll_interval_ms=1
        )
        async with client.beta.threads.runs.stream(thread_id=thread.id, assistant_id=assistant.id) as reading:
            streamed = await reading.get_final_run()
        async with client.beta.threads.create_and_run_stream(
            assistant_id=assistant.id, thread={"messages": [{"role": "user", "content": "call add {}"}]}
        ) as reading:
            waiting = await reading.get_final_run()
        assert (await counted(gateway.app)).runs == 2
        assert waiting.required_action is not None
        (call,) = waiting.required_action.submit_tool_outputs.tool_calls
        async with client.beta.threads.runs.submit_tool_outputs_stream(
            run_id=waiting.id, thread_id=waiting.thread_id, tool_outputs=[{"tool_call_id": call.id, "output": "3"}]
        ) as reading:
            ended = await reading.get_final_run()
    runs = [run for run in (polled, streamed, ended) if run.usage is not None]
    assert len(runs) == 3
    assert await counted(gateway.app) == UsageCounts(
        runs=3,
        prompt=sum(run.usage.prompt_tokens for run in runs if run.usage),
        completion=sum(run.usage.completion_tokens for run in runs if run.usage),
    )


async def test_a_list_settles_all_that_are_over(gateway: Running, start_gateway: StartGateway, vendor: Vendor) -> None:
    thread, assistant = await stage(gateway)
    body = {"assistant_id": assistant, "additional_messages": [{"role": "user", "content": "again"}]}
    for _ in range(3):
        _, run, _ = await gateway.call("POST", f"/v1/threads/{thread}/runs", body)
        upstream = vendor.simulator.worlds["acme"]
        thread_id, run_id = thread[:-24], run["id"][:-24]
        while upstream.runs.get(thread_id, run_id)["status"] != "completed":
            pass
    assert (await counted(gateway.app)).runs == 0
    await gateway.call("GET", f"/v1/threads/{thread}/runs")
    assert (await counted(gateway.app)).runs == 3


async def test_a_cancelled_run_counts_what_the_provider_says(gateway: Running) -> None:
    thread, assistant = await stage(gateway)
    _, run, _ = await gateway.call("POST", f"/v1/threads/{thread}/runs", {"assistant_id": assistant})
    await gateway.call("POST", f"/v1/threads/{thread}/runs/{run['id']}/cancel")
    assert (await counted(gateway.app)).runs == 0
    _, run, _ = await gateway.call("GET", f"/v1/threads/{thread}/runs/{run['id']}")
    assert run["status"] == "cancelled"
    assert (await counted(gateway.app)) == UsageCounts(
        runs=1, prompt=run["usage"]["prompt_tokens"], completion=run["usage"]["completion_tokens"]
    )


@pytest.mark.parametrize("told", [None, {}, {"prompt_tokens": -1, "completion_tokens": 2}, {"total_tokens": 3}])
async def test_usage_that_the_provider_does_not_tell_is_unknown_not_nothing(
    gateway: Running, vendor: Vendor, events: Events, told: Any
) -> None:
    def without(raw: bytes) -> list[bytes]:
        return [orjson.dumps(orjson.loads(raw) | {"usage": told})]

    vendor.simulator.faults.add(faults.transform(without), method="GET", path="/runs/", times=None)
    await run_to_its_end(gateway)
    assert await counted(gateway.app) == UsageCounts(runs=1, unknown=1)
    (done,) = events.named("run.settled")
    assert (done["usage_unknown"], done["total_tokens"], done["level"]) == (True, None, "warning")


async def test_an_owner_with_raw_ids_is_counted_the_same(start_gateway: StartGateway, vendor: Vendor) -> None:
    gateway = await start_gateway(vendor, change=edit(providers__openai__accounts__bolt__raw_ids=True))
    run = await run_to_its_end(gateway, tenant="carol")
    assert (await counted(gateway.app, "carol")).runs == 1
    assert (await tokens(gateway.app, "carol"))[""] == run["usage"]["total_tokens"]
    assert await tokens(gateway.app) == {}


async def test_a_model_is_counted_under_the_callers_name(start_gateway: StartGateway, vendor: Vendor) -> None:
    gateway = await start_gateway(vendor, change=edit(providers__openai__models={"gpt-4o": "deployment-7"}))
    assert gateway.app.shared is not None
    thread, assistant = await stage(gateway)
    body = {"assistant_id": assistant, "stream": True}
    await gateway.call("POST", f"/v1/threads/{thread}/runs", body)
    await run_to_its_end(gateway)
    found = await gateway.app.shared.tenant_usage.read("alice", f"{datetime.now(UTC):%Y-%m}")
    runs = {(place.provider, place.model): counts.runs for place, counts in found.items() if counts.runs}
    assert runs == {("openai", "gpt-4o"): 2}


async def test_a_repeat_with_its_key_is_counted_once(gateway: Running, vendor: Vendor) -> None:
    thread, assistant = await stage(gateway)
    for _ in range(3):
        _, run, _ = await gateway.call(
            "POST", f"/v1/threads/{thread}/runs", {"assistant_id": assistant}, headers={"Idempotency-Key": "k"}
        )
    for _ in range(4):
        await gateway.call("GET", f"/v1/threads/{thread}/runs/{run['id']}")
    assert (await counted(gateway.app)).runs == 1


async def test_tokens_of_a_provider_key_show(gateway: Running, vendor: Vendor) -> None:
    """Of the key that made the run, whichever reads it."""
    assert gateway.app.shared is not None
    runs = [await run_to_its_end(gateway) for _ in range(3)]
    await gateway.app.shared.flush()
    by_key = {place.fingerprint: counts.tokens for place, counts in (await gateway.app.shared.usage.counts()).items()}
    assert sum(by_key.values()) == sum(run["usage"]["total_tokens"] for run in runs)


async def test_the_hooks_hear_of_each_run_once(gateway: Running) -> None:
    heard: list[Settled] = []
    assert gateway.app.settlement is not None
    gateway.app.settlement.on_settled.append(heard.append)
    run = await run_to_its_end(gateway)
    (settled,) = heard
    assert isinstance(settled.run, NotedRun)
    assert (settled.run.public_run, settled.status) == (run["id"], "completed")
    assert settled.usage is not None
    assert settled.usage.total == run["usage"]["total_tokens"]
    assert 0 <= time.time() - settled.at_s < 30


async def test_a_fault_of_who_listens_loses_no_answer(gateway: Running, events: Events) -> None:
    def fail(settled: Settled) -> None:
        raise ValueError("planted")

    assert gateway.app.settlement is not None
    gateway.app.settlement.on_settled.append(fail)
    assert (await run_to_its_end(gateway))["status"] == "completed"
    assert (await counted(gateway.app)).runs == 1
    assert "planted" in events.named("settlement.crashed")[0]["exception"]


async def test_two_replicas_that_see_the_end_count_once(
    start_gateway: StartGateway, vendor: Vendor, events: Events
) -> None:
    a = await start_gateway(vendor)
    prefix = store_of(a.app).prefix
    b = await start_gateway(vendor, change=edit(store__prefix=prefix))
    thread, assistant = await stage(a)
    _, run, _ = await a.call("POST", f"/v1/threads/{thread}/runs", {"assistant_id": assistant})
    path = f"/v1/threads/{thread}/runs/{run['id']}"
    while run["status"] != "in_progress":
        _, run, _ = await a.call("GET", path)
    await asyncio.gather(*(each.call("GET", path) for each in (a, b) * 5))
    assert (await counted(a.app)).runs == 1
    assert len(events.named("run.settled")) == 1


# --- the store comes and goes ----------------------------------------------------------------------------------------
@pytest.fixture
async def own_valkey(tmp_path: Path) -> AsyncIterator[EmbeddedValkey]:
    server = EmbeddedValkey(tmp_path / "own")
    await server.start()
    yield server
    await server.close()


async def test_what_is_made_and_ends_while_the_store_is_away_is_counted_when_it_is_back(
    start_gateway: StartGateway, vendor: Vendor, own_valkey: EmbeddedValkey, events: Events
) -> None:
    gateway = await start_gateway(vendor, change=edit(store__url=own_valkey.url))
    thread, assistant = await stage(gateway)
    await own_valkey.close()

    status, run, _ = await gateway.call("POST", f"/v1/threads/{thread}/runs", {"assistant_id": assistant})
    assert status == 200
    while run["status"] in ("queued", "in_progress"):
        status, run, _ = await gateway.call("GET", f"/v1/threads/{thread}/runs/{run['id']}")
        assert status == 200
    assert len(events.named("run.late")) == 1
    assert events.named("run.settled") == []
    await own_valkey.start()
    await eventually(lambda: bool(events.named("run.settled")))
    assert (await counted(gateway.app)).prompt == run["usage"]["prompt_tokens"]
    assert (await tokens(gateway.app))[""] == run["usage"]["total_tokens"]


async def test_what_cannot_be_noted_before_the_end_is_said(
    start_gateway: StartGateway, vendor: Vendor, own_valkey: EmbeddedValkey, events: Events
) -> None:
    gateway = await start_gateway(vendor, change=edit(store__url=own_valkey.url))
    thread, assistant = await stage(gateway)
    await own_valkey.close()
    _, run, _ = await gateway.call("POST", f"/v1/threads/{thread}/runs", {"assistant_id": assistant})
    await gateway.app.stop(grace_s=1)
    (lost,) = events.named("run.lost")
    assert run["id"].startswith(lost["upstream_id"])
    assert lost["level"] == "error"


# --- requests --------------------------------------------------------------------------------------------------------
async def test_requests_and_errors_are_counted_by_provider_and_model(gateway: Running, vendor: Vendor) -> None:
    assert gateway.app.shared is not None
    thread, _ = await stage(gateway)
    await gateway.call("GET", f"/v1/threads/{thread}")
    await gateway.call("GET", "/v1/threads/thread_of_nobody")
    vendor.simulator.faults.add(faults.status(400), method="POST", path="/assistants")
    await gateway.call("POST", "/v1/assistants", {"model": "made up"})
    await gateway.call("GET", "/v1/threads/x", headers={"Authorization": "Bearer nobody"})
    await gateway.app.shared.flush()
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    assert await gateway.app.shared.tenant_usage.read("alice", day[:7]) == {
        UsagePlace(day, "openai", "gpt-4o"): UsageCounts(requests=1),
        UsagePlace(day, "openai", ""): UsageCounts(requests=3, errors=1),
        UsagePlace(day, "", ""): UsageCounts(requests=1, errors=1),
    }


# --- callers who leave -----------------------------------------------------------------------------------------------
def asking(thread: str, assistant: str, *, stream: bool) -> bytes:
    body = orjson.dumps({"assistant_id": assistant, "stream": stream})
    return request("POST", f"/v1/threads/{thread}/runs", body)


async def settle_all(gateway: Running) -> None:
    """Have the gateway look at its runs as if two more minutes had passed."""
    polling = gateway.app.polling
    assert polling is not None
    clock = polling._clock
    polling._clock = lambda: clock() + 120
    await polling.look()


def left(events: Events) -> bool:
    return events.named("request.done")[-1].get("outcome") == "caller_left"


async def test_a_stream_that_is_left_after_its_run_is_known_is_counted(
    gateway: Running, vendor: Vendor, dial: Dial, events: Events
) -> None:
    thread, assistant = await stage(gateway)
    vendor.simulator.faults.add(faults.stall_stream(2, asyncio.Event()), path="/runs$")
    wire = await dial(gateway)
    await wire.send(asking(thread, assistant, stream=True))
    await wire.until(b"thread.run.queued")
    wire.close()
    await eventually(lambda: left(events))
    assert (await counted(gateway.app)).runs == 0
    await settle_all(gateway)
    (usage,) = used(vendor)
    assert (await tokens(gateway.app))[""] == usage["total_tokens"]


@pytest.mark.parametrize("path", ["a thread", "a new thread"])
@pytest.mark.parametrize(
    ("hold", "stream"),
    [(faults.hold, False), (faults.hold, True), (partial(faults.stall_stream, 0), True)],
    ids=["before the run", "before the stream", "before the first event"],
)
async def test_who_leaves_before_the_run_is_known_is_counted(
    gateway: Running, vendor: Vendor, dial: Dial, events: Events, path: str, hold: Any, stream: bool
) -> None:
    """Once the provider tells of the run, it is noted, and the provider is free."""
    thread, assistant = await stage(gateway)
    told = asyncio.Event()
    vendor.simulator.faults.add(hold(told), path="/runs$")
    asked = asking(thread, assistant, stream=stream)
    if path == "a new thread":
        body = {"assistant_id": assistant, "thread": {"messages": []}, "instructions": "x", "stream": stream}
        asked = request("POST", "/v1/threads/runs", orjson.dumps(body))
    wire = await dial(gateway)
    before = len(vendor.simulator.journal)
    await wire.send(asked)
    received = await vendor.simulator.arrived(before + 1)
    if hold is not faults.hold:
        await wire.until(b"\r\n\r\n")
    wire.close()
    await eventually(lambda: left(events))
    assert received.ending == ""
    told.set()
    assert gateway.app.settlement is not None
    await eventually(lambda: not gateway.app.settlement._listening)  # type: ignore[union-attr]
    for pool in gateway.app.pools.values():
        assert set(pool.in_flight().values()) == {0}
    for _ in range(3):
        await settle_all(gateway)
    assert (await counted(gateway.app)).runs == 1


async def test_nobody_listens_for_ever_to_a_stream_that_tells_nothing(
    gateway: Running, vendor: Vendor, dial: Dial, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.settlement._LISTENING_S", 0.01)
    thread, assistant = await stage(gateway)
    vendor.simulator.faults.add(faults.stall_stream(0, asyncio.Event()), path="/runs$")
    wire = await dial(gateway)
    before = len(vendor.simulator.journal)
    await wire.send(asking(thread, assistant, stream=True))
    received = await vendor.simulator.arrived(before + 1)
    await wire.until(b"\r\n\r\n")
    wire.close()
    await vendor.simulator.disconnected(received)
    for pool in gateway.app.pools.values():
        assert set(pool.in_flight().values()) == {0}


async def test_a_gateway_that_stops_listens_to_nobody(gateway: Running, vendor: Vendor, dial: Dial) -> None:
    thread, assistant = await stage(gateway)
    vendor.simulator.faults.add(faults.hold(asyncio.Event()), path="/runs$")
    wire = await dial(gateway)
    before = len(vendor.simulator.journal)
    await wire.send(asking(thread, assistant, stream=True))
    await vendor.simulator.arrived(before + 1)
    async with asyncio.timeout(5):
        await gateway.app.stop(grace_s=0.1)


async def test_a_stream_that_the_provider_cuts_is_counted(gateway: Running, vendor: Vendor, dial: Dial) -> None:
    thread, assistant = await stage(gateway)
    heard = asyncio.Event()

    async def cut_later(exchange: faults.Exchange) -> web.StreamResponse:
        reply = exchange.work()

        async def beginning() -> AsyncGenerator[bytes, None]:
            yield (reply.events or ())[0]
            await heard.wait()
            await exchange.abort()

        return await exchange.send(reply, beginning())

    vendor.simulator.faults.add(cut_later, path="/runs$")
    wire = await dial(gateway)
    await wire.send(asking(thread, assistant, stream=True))
    await wire.until(b"thread.run.created")
    heard.set()
    await wire.until(b"stream_broken")
    await settle_all(gateway)
    assert (await tokens(gateway.app))[""] == used(vendor)[0]["total_tokens"]
