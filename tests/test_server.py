"""The listener: health pages, HTTPS, connections that stay open and connections that end."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme

from gateway.health import Health
from tests.conftest import Dial, Events, Running, StartGateway, StartVendor, Vendor, edit
from tests.simulators import faults
from tests.wire import request


@pytest.fixture
async def vendor(start_vendor: StartVendor) -> Vendor:
    return await start_vendor("openai")


@pytest.fixture
async def gateway(start_gateway: StartGateway, vendor: Vendor) -> Running:
    return await start_gateway(vendor)


# ---- health ----------------------------------------------------------------------------------------------------


async def test_health_pages_need_no_key(gateway: Running) -> None:
    async with gateway.session.get(gateway.url + "/healthz") as alive:
        assert (alive.status, await alive.json()) == (200, {"status": "alive"})
    async with gateway.session.get(gateway.url + "/readyz") as ready:
        assert (ready.status, await ready.json()) == (200, {"status": "ready", "store": "ready"})
        assert ready.headers["x-request-id"].startswith("req_")
    async with gateway.session.get(gateway.url + "/healthz/else") as other:
        assert other.status in (401, 404)


async def test_without_its_store_a_gateway_starts_and_is_ready(
    start_gateway: StartGateway, vendor: Vendor, tmp_path: Path, events: Events
) -> None:
    """What goes by id needs none; the page tells."""
    gateway = await start_gateway(vendor, change=edit(store__url=f"unix://{tmp_path}/nobody.sock"))
    assert (await gateway.call("GET", "/readyz"))[:2] == (200, {"status": "ready", "store": "away"})
    status, thread, _ = await gateway.call("POST", "/v1/threads", {})
    assert (status, (await gateway.call("GET", f"/v1/threads/{thread['id']}"))[0]) == (200, 200)
    assert [event["level"] for event in events.named("store.away")] == ["warning"]


def test_who_drains_is_alive_and_not_ready() -> None:
    health = Health(lambda: True)
    health.is_draining = True
    for path, status in (("/healthz", 200), ("/readyz", 503)):
        page = health.page("GET", path)
        assert page is not None
        assert page.status == status
    assert page is not None
    assert page.body == b'{"status":"draining","store":"ready"}'


# ---- HTTPS -----------------------------------------------------------------------------------------------------


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """A caller's context that trusts the authority."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture
async def secure(start_gateway: StartGateway, vendor: Vendor, authority: trustme.CA, tmp_path: Path) -> Running:
    issued = authority.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "chain.pem")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    return await start_gateway(
        vendor, change=edit(listener__tls={"certificate": "chain.pem", "private_key": "key.pem"})
    )


async def test_callers_may_be_served_over_https(secure: Running, trusting: ssl.SSLContext, vendor: Vendor) -> None:
    assert secure.url.startswith("https://127.0.0.1:")
    status, thread, _ = await secure.call("POST", "/v1/threads", {}, ssl=trusting)
    assert (status, thread["object"]) == (200, "thread")
    with pytest.raises(aiohttp.ClientConnectorCertificateError):
        await secure.call("POST", "/v1/threads", {})


async def test_a_stream_over_https_that_is_cut_never_looks_whole(
    secure: Running, trusting: ssl.SSLContext, vendor: Vendor
) -> None:
    _, assistant, _ = await secure.call("POST", "/v1/assistants", {"model": "m", "instructions": "x"}, ssl=trusting)
    vendor.simulator.faults.add(faults.cut(1000), path="/runs$")
    body = {"assistant_id": assistant["id"], "stream": True}
    with pytest.raises(aiohttp.ClientPayloadError):
        await secure.call("POST", "/v1/threads/runs", body, ssl=trusting)


async def test_plain_words_on_the_https_port_are_dropped_without_noise(
    secure: Running, trusting: ssl.SSLContext, events: Events, caplog: pytest.LogCaptureFixture, dial: Dial
) -> None:
    for words in (request("GET", "/healthz"), b"\x16\x03\x01\x00\x01\x01", b""):
        wire = await dial(secure)
        await wire.send(words)
        wire.half_close()
        assert b"HTTP" not in await wire.rest()
        wire.close()
    assert (await secure.call("GET", "/healthz", ssl=trusting))[0] == 200
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


# ---- connections -----------------------------------------------------------------------------------------------


async def test_a_connection_serves_one_request_after_another_until_it_is_idle_too_long(
    start_gateway: StartGateway, vendor: Vendor, dial: Dial
) -> None:
    gateway = await start_gateway(vendor, change=edit(listener__keepalive_s=0.1))
    wire = await dial(gateway)
    for path, status in (("/healthz", 200), ("/v1/nothing", 404), ("/v1/threads/x", 404), ("/healthz", 200)):
        await wire.send(request("GET", path))
        assert (await wire.answer()).status == status
    assert await wire.rest() == b""
    wire.close()


async def test_many_callers_at_once_are_all_answered(gateway: Running, vendor: Vendor) -> None:
    answers = await asyncio.gather(
        *(gateway.call("POST", "/v1/threads", {"metadata": {"n": str(number)}}) for number in range(100))
    )
    assert [(status, thread["metadata"]["n"]) for status, thread, _ in answers] == [(200, str(n)) for n in range(100)]
    assert vendor.simulator.created == {"thread": 100}


async def test_answers_say_who_answered_and_nothing_of_the_provider(gateway: Running) -> None:
    _, _, headers = await gateway.call("POST", "/v1/threads", {}, headers={"x-request-id": "mine"})
    assert headers["Server"] == "threads-gateway"
    assert headers["x-request-id"] != "mine"
    crossing: Any = {name.lower() for name in headers}
    assert not crossing & {"set-cookie", "openai-organization", "openai-project", "x-ratelimit-limit-requests"}
