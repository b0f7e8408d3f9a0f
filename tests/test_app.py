"""The whole gateway: starting, stopping, and its ways to providers through TLS and proxies."""

from __future__ import annotations

import asyncio
import base64
import gc
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
import trustme
from aiohttp import web
from yarl import URL

from gateway.app import CannotStart
from tests.conftest import (
    Dial,
    Events,
    Running,
    StartGateway,
    StartVendor,
    Vendor,
    edit,
)
from tests.simulators import faults
from tests.wire import Provider, Wire, request


@pytest.fixture
async def vendor(start_vendor: StartVendor) -> Vendor:
    return await start_vendor("openai")


@pytest.fixture
async def gateway(start_gateway: StartGateway, vendor: Vendor) -> Running:
    return await start_gateway(vendor)


@pytest.fixture
def taken() -> Any:
    """A port that somebody else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        yield somebody.getsockname()[1]


# ---- starting --------------------------------------------------------------------------------------------------


async def refused_start(start_gateway: StartGateway, vendor: Vendor, **settings: Any) -> str:
    with pytest.raises(CannotStart) as raised:
        await start_gateway(vendor, change=edit(**settings))
    gc.collect()  # what was left open says so now
    return str(raised.value)


async def test_a_port_that_is_taken_is_said_in_one_line(
    start_gateway: StartGateway, vendor: Vendor, taken: int, events: Events
) -> None:
    message = await refused_start(start_gateway, vendor, listener__port=taken)
    assert message == f"cannot listen on 127.0.0.1:{taken}: Address already in use"
    assert events.named("gateway.started") == []


async def test_a_host_that_is_none_of_ours_is_said_in_one_line(start_gateway: StartGateway, vendor: Vendor) -> None:
    message = await refused_start(start_gateway, vendor, listener__host="192.0.2.1")
    assert message == "cannot listen on 192.0.2.1:0: Cannot assign requested address"


async def test_a_host_that_does_not_exist_is_said_in_one_line(start_gateway: StartGateway, vendor: Vendor) -> None:
    message = await refused_start(start_gateway, vendor, listener__host="nobody.invalid")
    assert message.startswith("cannot listen on nobody.invalid:0: ")
    assert "\n" not in message


async def test_a_demo_port_that_is_taken_is_said_and_everything_else_closed(
    start_gateway: StartGateway, vendor: Vendor, taken: int, tmp_path: Path, events: Events
) -> None:
    settings = {"store": {"data_dir": str(tmp_path / "data")}, "demo": {"port": taken, "provider": "openai"}}

    def change(given: dict[str, Any]) -> None:
        given |= settings

    with pytest.raises(CannotStart) as raised:
        await start_gateway(vendor, change=change)
    gc.collect()
    assert str(raised.value) == (f"the echo model cannot listen on 127.0.0.1:{taken}: Address already in use")
    (started,) = events.named("valkey.started")
    assert not Path(f"/proc/{started['pid']}").exists()


async def test_ipv6_is_spoken_too(start_gateway: StartGateway, vendor: Vendor) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    gateway = await start_gateway(vendor, change=edit(listener__host="0::1"))
    assert gateway.url.startswith("http://[::1]:")
    assert (await gateway.call("GET", "/healthz"))[0] == 200


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # the SDK says so of its assistants
async def test_the_echo_model_answers_behind_a_gateway(
    serving: None, start_gateway: StartGateway, vendor: Vendor
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def change(settings: dict[str, Any]) -> None:
        settings["demo"] = {"port": port, "provider": "openai"}
        served = {"serve": "threads", "model_api": "chat_completions", "base_url": f"http://127.0.0.1:{port}/v1"}
        settings["providers"]["openai"] |= served

    gateway = await start_gateway(vendor, change=change)
    async with gateway.sdk() as sdk:
        assistant = await sdk.beta.assistants.create(model="echo")
        async with sdk.beta.threads.create_and_run_stream(
            assistant_id=assistant.id, thread={"messages": [{"role": "user", "content": "hello"}]}
        ) as stream:
            assert "".join([text async for text in stream.text_deltas]) == "You said: hello"
    assert vendor.simulator.journal == []


# ---- stopping --------------------------------------------------------------------------------------------------


async def ask_for_run(gateway: Running) -> bytes:
    _, assistant, _ = await gateway.call("POST", "/v1/assistants", {"model": "m", "instructions": "x"})
    return request("POST", "/v1/threads/runs", orjson.dumps({"assistant_id": assistant["id"], "stream": True}))


async def test_what_runs_may_end_and_nothing_new_begins(
    gateway: Running, vendor: Vendor, events: Events, dial: Dial
) -> None:
    go, asking = asyncio.Event(), await ask_for_run(gateway)
    vendor.simulator.faults.add(faults.stall_stream(2, go), path="/runs$")
    running, idle = await dial(gateway), await dial(gateway)
    await idle.send(request("GET", "/healthz"))
    await idle.answer()
    await running.send(asking)
    await running.until(b"thread.run.created")
    stopping = asyncio.create_task(gateway.app.stop(grace_s=10))
    while not events.named("gateway.stopping"):
        await asyncio.sleep(0)
    with pytest.raises(ConnectionRefusedError):
        await dial(gateway)
    assert await idle.rest() == b""
    assert not stopping.done()
    go.set()
    assert (await running.rest()).endswith(b"event: done\ndata: [DONE]\n\n\r\n0\r\n\r\n")
    async with asyncio.timeout(2):
        await stopping
    assert [event["event"] for event in events][-2:] == ["request.done", "gateway.stopped"]
    assert "outcome" not in events.named("request.done")[-1]


async def test_what_does_not_end_is_broken_off_when_its_time_is_over(
    gateway: Running, vendor: Vendor, events: Events, dial: Dial
) -> None:
    never, asking = asyncio.Event(), await ask_for_run(gateway)
    vendor.simulator.faults.add(faults.stall_stream(2, never), path="/runs$")
    vendor.simulator.faults.add(faults.hold(never), path="/threads$")
    streaming, waiting, sending = [await dial(gateway) for _ in range(3)]
    await streaming.send(asking)
    await streaming.until(b"thread.run.created")
    await waiting.send(request("POST", "/v1/threads", b"{}"))
    received = await vendor.simulator.arrived(3)
    await sending.send(request("POST", "/v1/threads", b"", "Expect: 100-continue", length=2))
    await sending.until(b"100 Continue\r\n\r\n")
    clock = asyncio.get_running_loop().time
    began = clock()
    await gateway.app.stop(grace_s=0.3)
    assert 0.25 < clock() - began < 0.5
    assert await vendor.simulator.disconnected(received) < 0.1
    assert b"\r\n0\r\n\r\n" not in await streaming.rest()
    assert await waiting.rest() == b""
    assert await sending.rest() == b""
    names = [event["event"] for event in events]
    assert names.index("gateway.stopped") == len(names) - 1
    assert [line.get("outcome") for line in events.named("request.done")[-3:]] == ["stopped"] * 3


async def test_a_gateway_that_serves_nobody_stops_at_once(gateway: Running) -> None:
    await gateway.call("GET", "/healthz")
    async with asyncio.timeout(1):
        await gateway.app.stop(grace_s=10)


async def test_a_stop_that_is_cut_short_closes_everything_all_the_same(
    start_gateway: StartGateway, vendor: Vendor, tmp_path: Path, events: Events, dial: Dial
) -> None:
    def change(settings: dict[str, Any]) -> None:
        settings["store"] = {"data_dir": str(tmp_path / "data")}

    gateway = await start_gateway(vendor, change=change)
    asking = await ask_for_run(gateway)
    vendor.simulator.faults.add(faults.stall_stream(2, asyncio.Event()), path="/runs$")
    wire = await dial(gateway)
    await wire.send(asking)
    await wire.until(b"thread.run.created")
    stopping = asyncio.create_task(gateway.app.stop(grace_s=30))
    while not events.named("gateway.stopping"):
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    stopping.cancel()
    async with asyncio.timeout(5):
        await asyncio.wait((stopping,))
    (started,) = events.named("valkey.started")
    assert not Path(f"/proc/{started['pid']}").exists()
    assert events.named("request.done")[-1]["outcome"] == "stopped"


# ---- to providers through TLS ----------------------------------------------------------------------------------

Serve = Callable[..., Any]


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def serve_tls(authority: trustme.CA) -> AsyncIterator[Serve]:
    """A provider behind TLS: answers every request with a thread whose metadata tells the certificate it was shown."""
    runners: list[web.AppRunner] = []

    async def answer(received: web.Request) -> web.Response:
        assert received.transport is not None
        shown = received.transport.get_extra_info("peercert")
        return web.json_response({"id": "thread_1", "object": "thread", "metadata": {"shown": str(bool(shown))}})

    async def serve(*, asks_for_certificate: bool = False) -> str:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        if asks_for_certificate:
            authority.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        runners.append(runner)
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        return f"https://127.0.0.1:{site.port}"

    yield serve
    for runner in runners:
        await runner.cleanup()


async def test_a_provider_with_an_authority_of_its_own_is_trusted_when_told_so(
    start_gateway: StartGateway, vendor: Vendor, authority: trustme.CA, serve_tls: Serve, tmp_path: Path
) -> None:
    url = await serve_tls()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    trusting = await start_gateway(vendor, change=edit(providers__openai={"base_url": url, "ca_file": "ca.pem"}))
    assert (await trusting.call("POST", "/v1/threads", {}))[0] == 200
    doubting = await start_gateway(vendor, change=edit(providers__openai__base_url=url))
    status, answer, headers = await doubting.call("POST", "/v1/threads", {})
    assert (status, answer["error"]["code"]) == (502, "provider_unreachable")
    assert "x-should-retry" not in headers


async def test_a_provider_that_asks_for_a_certificate_gets_it(
    start_gateway: StartGateway, vendor: Vendor, authority: trustme.CA, serve_tls: Serve, tmp_path: Path
) -> None:
    url = await serve_tls(asks_for_certificate=True)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("client.example").private_key_and_cert_chain_pem.write_to_path(tmp_path / "client.pem")
    provider = {"base_url": url, "ca_file": "ca.pem"}
    gateway = await start_gateway(vendor, change=edit(providers__openai=provider | {"client_cert": "client.pem"}))
    assert (await gateway.call("POST", "/v1/threads", {}))[1]["metadata"] == {"shown": "True"}
    without = await start_gateway(vendor, change=edit(providers__openai=provider))
    assert (await without.call("POST", "/v1/threads", {}))[0] == 504


async def test_words_that_are_no_tls_are_no_answer(start_gateway: StartGateway, vendor: Vendor, dial: Dial) -> None:
    url = vendor.simulator.url.replace("http://", "https://")
    gateway = await start_gateway(vendor, change=edit(providers__openai__base_url=url))
    status, answer, headers = await gateway.call("POST", "/v1/threads", {})
    assert (status, answer["error"]["code"]) == (502, "provider_unreachable")
    assert "x-should-retry" not in headers
    assert vendor.simulator.journal == []


# ---- to providers through a proxy ------------------------------------------------------------------------------


class Proxy:
    """Passes on what it is asked to, or answers `refusal` to everything."""

    def __init__(self, refusal: bytes = b"") -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        self._refusal = refusal

    async def __call__(self, wire: Wire) -> None:
        first, headers = await wire.head()
        self.asked.append((first, {name.lower(): value for name, value in headers.items()}))
        method, target, _ = first.split(" ")
        if self._refusal:
            await wire.send(self._refusal)
            return
        if method == "CONNECT":
            beyond = await Wire.dial(f"http://{target}")
            await wire.send(b"HTTP/1.1 200 Connected\r\n\r\n")
        else:
            beyond = await Wire.dial(target)
            kept = (f"{name}: {value}" for name, value in headers.items() if name != "Proxy-Authorization")
            lines = [f"{method} {URL(target).raw_path} HTTP/1.1", *kept]
            body = await wire.exactly(int(headers["Content-Length"]))
            await beyond.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        there, back = (asyncio.create_task(pump(*ends)) for ends in ((wire, beyond), (beyond, wire)))
        try:
            await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
        finally:
            there.cancel()
            back.cancel()
            beyond.close()


async def pump(source: Wire, sink: Wire) -> None:
    while piece := await source.receive(within_s=60):
        await sink.send(piece)


async def test_a_provider_may_stand_behind_a_proxy(start_gateway: StartGateway, vendor: Vendor, tmp_path: Path) -> None:
    """Plain HTTP is asked of the proxy itself, with a password that the provider does not get to see."""
    proxy = Proxy()
    async with Provider(proxy) as listening:
        (tmp_path / "proxy").write_text(listening.url.replace("http://", "http://user:word@"))
        gateway = await start_gateway(vendor, change=edit(providers__openai__proxy="file:proxy"))
        assert (await gateway.call("POST", "/v1/threads", {}))[0] == 200
    ((first, headers),) = proxy.asked
    assert first == f"POST {vendor.simulator.url}/threads HTTP/1.1"
    assert headers["proxy-authorization"] == "Basic " + base64.b64encode(b"user:word").decode()


async def test_a_proxy_of_a_provider_behind_tls_sees_neither_key_nor_body(
    start_gateway: StartGateway, vendor: Vendor, authority: trustme.CA, serve_tls: Serve, tmp_path: Path
) -> None:
    proxy, url = Proxy(), await serve_tls()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    async with Provider(proxy) as listening:
        provider = {"base_url": url, "ca_file": "ca.pem", "proxy": listening.url}
        gateway = await start_gateway(vendor, change=edit(providers__openai=provider))
        assert (await gateway.call("POST", "/v1/threads", {}))[0] == 200
    ((first, headers),) = proxy.asked
    assert first == f"CONNECT {url.removeprefix('https://')} HTTP/1.1"
    assert "authorization" not in headers


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_that_is_away_is_no_answer_of_the_provider(
    scheme: str, start_gateway: StartGateway, vendor: Vendor, taken: int
) -> None:
    async with Provider(Proxy()) as listening:
        away = listening.url
    base = vendor.simulator.url.replace("http", scheme, 1)
    gateway = await start_gateway(vendor, change=edit(providers__openai={"proxy": away, "base_url": base}))
    status, answer, headers = await gateway.call("POST", "/v1/threads", {})
    assert (status, answer["error"]["code"]) == (502, "provider_unreachable")
    assert "x-should-retry" not in headers


async def test_a_tunnel_that_is_refused_carried_nothing(
    start_gateway: StartGateway, vendor: Vendor, events: Events
) -> None:
    """So a write may be tried again, by us and by the caller."""
    proxy = Proxy(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
    async with Provider(proxy) as listening:
        base = vendor.simulator.url.replace("http://", "https://")
        gateway = await start_gateway(vendor, change=edit(providers__openai={"proxy": listening.url, "base_url": base}))
        status, answer, headers = await gateway.call("POST", "/v1/threads", {})
    assert (status, answer["error"]["code"]) == (502, "provider_unreachable")
    assert "x-should-retry" not in headers
    assert len(proxy.asked) == len(events.named("request.done")[0]["attempts"]) == 3
