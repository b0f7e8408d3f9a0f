"""Keys and tenants made at run time, at gateways that run: in force everywhere, revoked everywhere, kept apart."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncAzureOpenAI, AsyncOpenAI

from gateway.config import digest_of_key
from gateway.model import Scope
from gateway.store.shared import Shared
from gateway.store.tenants import StoredTenant
from tests.conftest import Events, Running, StartGateway, StartVendor, Vendor, edit, eventually
from tests.sdk import http_client
from tests.simulators import faults
from tests.stopwatch import Stopwatch
from tests.store.conftest import OwnValkey


def shared_of(gateway: Running) -> Shared:
    assert gateway.app.shared is not None
    return gateway.app.shared


async def issue(gateway: Running, tenant: str = "alice", **settings: Any) -> str:
    return (await shared_of(gateway).tenant_keys.issue(tenant, **settings))[0]


async def make(gateway: Running, name: str = "shop", **settings: Any) -> StoredTenant:
    made = await shared_of(gateway).tenants.add(name, **settings)
    assert made is not None
    return made


async def call(gateway: Running, key: str, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    said = {"Authorization": f"Bearer {key}"} | {name.replace("_", "-"): value for name, value in headers.items()}
    status, answer, _ = await gateway.call(method, path, body, headers=said)
    return status, answer


def code(told: tuple[int, Any]) -> tuple[int, str]:
    return told[0], told[1]["error"]["code"]


def revoke(gateway: Running, secret: str) -> None:
    keys = shared_of(gateway).tenant_keys
    (found,) = [key for key in keys.all(time.time()) if digest_of_key(secret) == key.digest]
    keys.revoke(found, "leaked")


@pytest.fixture
async def vendor(start_vendor: StartVendor) -> Vendor:
    return await start_vendor("openai")


@pytest.fixture
async def gateway(vendor: Vendor, start_gateway: StartGateway) -> Running:
    return await start_gateway(vendor)


@pytest.fixture
async def two(vendor: Vendor, start_gateway: StartGateway) -> tuple[Running, Running]:
    """Replicas of one store."""
    change = edit(store__prefix=f"replicas-{id(vendor)}")
    return await start_gateway(vendor, change=change), await start_gateway(vendor, change=change)


@pytest.mark.parametrize("header", ["Authorization", "api-key"])
async def test_an_issued_key_works_as_the_tenants_own(header: str, gateway: Running, events: Events) -> None:
    """However it is presented; the log knows it by its fingerprint, nobody by more."""
    _, made = await call(gateway, "alice-key", "POST", "/v1/threads", {})
    key = await issue(gateway)
    headers = {"Authorization": f"Bearer {key}"} if header == "Authorization" else {"Authorization": "", "api-key": key}
    status, answer, _ = await gateway.call("GET", f"/v1/threads/{made['id']}", headers=headers)
    assert (status, answer["id"]) == (200, made["id"])
    line = events.named("request.done")[-1]
    assert line["tenant"] == "alice"
    assert digest_of_key(key).startswith(f"sha256:{line['tenant_key']}")
    assert key not in str(events)
    await shared_of(gateway).flush()
    assert line["tenant_key"] in await shared_of(gateway).last_use.all()


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
async def test_the_sdks_work_with_an_issued_key(gateway: Running) -> None:
    key = await issue(gateway)
    azure = {"azure_endpoint": gateway.url, "api_version": "2024-05-01-preview"}
    async with (
        AsyncOpenAI(base_url=gateway.url + "/v1", api_key=key, max_retries=0, http_client=http_client()) as client,
        AsyncAzureOpenAI(**azure, api_key=key, max_retries=0, http_client=http_client()) as other,
    ):
        thread = await client.beta.threads.create(messages=[{"role": "user", "content": "hi"}])
        assert (await other.beta.threads.retrieve(thread.id)).id == thread.id


async def test_a_tenant_made_at_run_time_is_one_like_any_other(two: tuple[Running, Running], events: Events) -> None:
    """At every replica: its objects, its lists, its home, its switch; and nobody else's objects."""
    one, other = two
    shop = await make(one)
    key = await issue(one, shop.id)
    status, assistant = await call(one, key, "POST", "/v1/assistants", {"model": "m"})
    assert status == 200
    await call(one, "alice-key", "POST", "/v1/assistants", {"model": "m"})
    await eventually(lambda: shared_of(other).tenant_keys.all(time.time()) != [], within_s=1)
    status, listed = await call(other, key, "GET", "/v1/assistants")
    assert [each["id"] for each in listed["data"]] == [assistant["id"]]
    assert (await call(other, key, "GET", f"/v1/assistants/{assistant['id']}"))[0] == 200
    assert (await call(other, "alice-key", "GET", f"/v1/assistants/{assistant['id']}"))[0] == 404
    _, theirs = await call(other, "alice-key", "POST", "/v1/threads", {})
    assert (await call(other, key, "GET", f"/v1/threads/{theirs['id']}"))[0] == 404
    await eventually(lambda: {"shop"} <= {event["tenant"] for event in events.named("home.chosen")})
    shared_of(one).switches.disable("tenant", shop.id, "unpaid")
    assert code(await call(one, key, "POST", "/v1/threads", {})) == (403, "tenant_disabled")


async def test_a_home_that_was_chosen_stays_when_an_account_joins(
    vendor: Vendor, start_gateway: StartGateway, events: Events
) -> None:
    """As for tenants of the configuration: remembered soon after the tenant was made."""
    prefix = f"homes-{id(vendor)}"
    one = await start_gateway(vendor, change=edit(store__prefix=prefix))
    names = [(await make(one, f"shop{number}")).name for number in range(12)]
    await eventually(lambda: {event["tenant"] for event in events.named("home.chosen")} >= set(names), within_s=2)

    def share(settings: dict[str, Any]) -> None:
        settings["store"]["prefix"] = prefix
        del settings["providers"]["openai"]["accounts"]["bolt"]["owned_by"]

    other = await start_gateway(vendor, change=share)
    for shop in shared_of(other).tenants.by_id().values():
        assert (await call(other, await issue(other, shop.id), "POST", "/v1/threads", {}))[0] == 200
        assert events.named("request.done")[-1]["account"] == "acme"


async def test_a_revoked_key_is_refused_at_every_replica_within_a_second(two: tuple[Running, Running]) -> None:
    one, other = two
    key, rotated = await issue(one), await issue(one)
    _, made = await call(one, key, "POST", "/v1/threads", {})
    path = f"/v1/threads/{made['id']}"
    await eventually(lambda: len(shared_of(other).tenant_keys.all(time.time())) == 2)
    assert (await call(other, key, "GET", path))[0] == 200
    async with Stopwatch() as watch:
        revoke(one, key)
        assert code(await call(one, key, "GET", path)) == (401, "invalid_api_key")
        while (told := await call(other, key, "GET", path))[0] == 200:
            await asyncio.sleep(0.005)
    assert watch.seconds < 1
    assert code(told) == (401, "invalid_api_key")
    assert "was revoked" in told[1]["error"]["message"]
    assert "leaked" not in told[1]["error"]["message"]
    for replica in two:
        assert (await call(replica, rotated, "GET", path))[0] == 200, "the tenant's other key goes on"


async def test_a_revocation_reaches_a_replica_that_misses_its_message(two: tuple[Running, Running]) -> None:
    one, other = two
    key = await issue(one)
    await eventually(lambda: len(shared_of(other).tenant_keys.all(time.time())) == 1)
    await shared_of(other).subscription.close()
    async with Stopwatch() as watch:
        revoke(one, key)
        while (await call(other, key, "POST", "/v1/threads", {}))[0] == 200:
            await asyncio.sleep(0.02)
    assert watch.seconds < 1


async def test_an_expired_key_is_refused(gateway: Running) -> None:
    key = await issue(gateway, expires_s=time.time() + 0.2)
    assert (await call(gateway, key, "POST", "/v1/threads", {}))[0] == 200
    async with asyncio.timeout(2):
        while (told := await call(gateway, key, "POST", "/v1/threads", {}))[0] == 200:
            await asyncio.sleep(0.02)
    assert code(told) == (401, "invalid_api_key")
    assert "has expired" in told[1]["error"]["message"]


async def test_a_stream_that_runs_when_its_key_is_revoked_ends_by_itself(gateway: Running, vendor: Vendor) -> None:
    key = await issue(gateway)
    _, assistant = await call(gateway, key, "POST", "/v1/assistants", {"model": "m"})
    release = asyncio.Event()
    vendor.simulator.faults.add(faults.stall_stream(1, release), path="/threads/runs")
    body = {"assistant_id": assistant["id"], "thread": {"messages": [{"role": "user", "content": "x"}]}, "stream": True}
    headers = {"Authorization": f"Bearer {key}"}
    async with gateway.session.post(gateway.url + "/v1/threads/runs", json=body, headers=headers) as response:
        await response.content.readany()
        revoke(gateway, key)
        assert (await call(gateway, key, "POST", "/v1/threads", {}))[0] == 401
        release.set()
        assert (await response.read()).rstrip().endswith(b"data: [DONE]")


# --- without the store -----------------------------------------------------------------------------------------------
@pytest.fixture
async def own_valkey(tmp_path: Path) -> AsyncIterator[OwnValkey]:
    server = OwnValkey(tmp_path / "own")
    await server.start()
    yield server
    await server.stop()


async def test_without_the_store_known_keys_go_on_and_others_are_told_to_come_back(
    vendor: Vendor, start_gateway: StartGateway, own_valkey: OwnValkey
) -> None:
    """A key that was issued just before may be good: it must not be told that it is not."""
    gateway = await start_gateway(vendor, change=edit(store={"url": own_valkey.url, "timeout_s": 0.2}))
    shop = await make(gateway)
    known, ended = await issue(gateway, shop.id), await issue(gateway, shop.id)
    revoke(gateway, ended)
    assert code(await call(gateway, "tgk_unknown", "POST", "/v1/threads", {})) == (401, "invalid_api_key")
    own_valkey.kill()
    async with asyncio.timeout(5):
        while (told := await call(gateway, "tgk_unknown", "POST", "/v1/threads", {}))[0] == 401:
            await asyncio.sleep(0.05)
    assert code(told) == (503, "store_unavailable")
    for key in (known, "alice-key"):
        assert (await call(gateway, key, "POST", "/v1/threads", {}))[0] == 200
    assert code(await call(gateway, ended, "POST", "/v1/threads", {})) == (401, "invalid_api_key")
    assert code(await call(gateway, "", "POST", "/v1/threads", {})) == (401, "invalid_api_key")
    await own_valkey.start()
    async with asyncio.timeout(5):
        while (await call(gateway, "tgk_unknown", "POST", "/v1/threads", {}))[0] == 503:
            await asyncio.sleep(0.05)
    assert (await call(gateway, known, "POST", "/v1/threads", {}))[0] == 200


async def test_a_gateway_that_starts_without_the_store_serves_whom_the_configuration_has(
    vendor: Vendor, start_gateway: StartGateway, tmp_path: Path
) -> None:
    gateway = await start_gateway(vendor, change=edit(store={"url": f"unix://{tmp_path}/nobody", "timeout_s": 0.2}))
    assert (await call(gateway, "alice-key", "POST", "/v1/threads", {}))[0] == 200
    assert code(await call(gateway, "tgk_unknown", "POST", "/v1/threads", {})) == (503, "store_unavailable")


# --- scopes ----------------------------------------------------------------------------------------------------------
async def test_operations_outside_the_scope_are_refused_before_anything_is_sent(
    gateway: Running, vendor: Vendor
) -> None:
    _, made = await call(gateway, "alice-key", "POST", "/v1/threads", {})
    path = f"/v1/threads/{made['id']}"
    reader = await issue(gateway, scope=Scope(is_read_only=True))
    keeper = await issue(gateway, scope=Scope(may_delete=False))
    messenger = await issue(gateway, scope=Scope(operations=("*_message", "list_messages")))
    asked = len(vendor.simulator.journal)
    for key, method, where, body in (
        (reader, "POST", path, {}),
        (reader, "DELETE", path, None),
        (keeper, "DELETE", path, None),
        (messenger, "GET", path, None),
    ):
        status, answer = await call(gateway, key, method, where, body)
        assert (status, answer["error"]["code"], answer["error"]["type"]) == (
            403,
            "scope_not_allowed",
            "permission_error",
        )
    assert len(vendor.simulator.journal) == asked
    assert (await call(gateway, reader, "GET", path))[0] == 200
    assert (await call(gateway, messenger, "POST", f"{path}/messages", {"role": "user", "content": "x"}))[0] == 200
    assert (await call(gateway, keeper, "POST", path, {}))[0] == 200


async def test_providers_outside_the_scope_are_refused(start_vendor: StartVendor, start_gateway: StartGateway) -> None:
    """By base URL, by header, and by an id that lives there; without a word the request goes where the key may."""
    first, second = await start_vendor("openai"), await start_vendor("openai", name="side")
    gateway = await start_gateway(first, second)
    _, made = await call(gateway, "alice-key", "POST", "/v1/threads", {})
    key = await issue(gateway, scope=Scope(providers=frozenset({"side"})))
    asked = len(first.simulator.journal)
    for told in (
        await call(gateway, key, "POST", "/providers/openai/v1/threads", {}),
        await call(gateway, key, "POST", "/v1/threads", {}, x_gateway_provider="openai"),
        await call(gateway, key, "GET", f"/v1/threads/{made['id']}"),
    ):
        assert code(told) == (403, "provider_not_allowed")
    assert len(first.simulator.journal) == asked
    assert (await call(gateway, key, "POST", "/v1/threads", {}))[0] == 200
    assert len(second.simulator.journal) == 1
