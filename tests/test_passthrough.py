"""The rest of a vendor's API: what goes through, to whom, and what is translated on the way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import openai
import pytest
from aiohttp import web

from gateway.config import ConfigError
from gateway.errors import GatewayError
from gateway.passthrough import KINDS, Passthrough, fault_of, find_ids
from tests.conftest import (
    Events,
    Running,
    StartGateway,
    StartVendor,
    edit,
    environ_for,
    load_settings,
    public_id,
    settings_for,
)

ALL = ["chat/completions", "embeddings", "models", "audio/*"]


@dataclass
class Elsewhere:
    """A vendor that answers what a test tells it to, and remembers what it heard."""

    url: str = ""
    heard: list[tuple[str, str, bytes, dict[str, str]]] = field(default_factory=list)
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.heard.append((request.method, request.raw_path, await request.read(), dict(request.headers)))
        return await self.answer(request) if self.answer else web.json_response({"ok": True})

    @property
    def paths(self) -> list[str]:
        return [f"{method} {path}" for method, path, _, _ in self.heard]


@pytest.fixture
async def elsewhere() -> AsyncIterator[Elsewhere]:
    vendor = Elsewhere()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", vendor.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    vendor.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield vendor
    await runner.cleanup()


@pytest.fixture
async def gateway(elsewhere: Elsewhere, start_vendor: StartVendor, start_gateway: StartGateway) -> Running:
    """Tenants alice and bob share the account behind."""
    change = edit(providers__openai__base_url=elsewhere.url + "/v1", providers__openai__passthrough=ALL)
    return await start_gateway(await start_vendor("openai"), change=change)


# --- what goes through ---------------------------------------------------------------------------------------------
async def test_one_client_does_for_everything(gateway: Running, elsewhere: Elsewhere, events: Events) -> None:
    """With the account's key; what the caller sent beside its words stays here."""

    async def answer(request: web.Request) -> web.StreamResponse:
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello"}}
        body = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        return web.json_response(body, headers={"x-request-id": "theirs", "set-cookie": "a=b"})

    elsewhere.answer = answer
    async with gateway.sdk() as client:
        raw = await client.chat.completions.with_raw_response.create(
            model="m",
            messages=[{"role": "user", "content": "Hi"}],
            extra_headers={"Cookie": "c=d", "OpenAI-Beta": "x=v1"},
        )
    assert raw.parse().choices[0].message.content == "Hello"
    assert raw.headers["x-upstream-request-id"] == "theirs"
    assert "set-cookie" not in raw.headers
    [(_, path, _, headers)] = elsewhere.heard
    assert path == "/v1/chat/completions"
    assert headers["Authorization"].startswith("Bearer sk-openai-acme-")
    assert "Cookie" not in headers
    assert headers["OpenAI-Beta"] == "x=v1"
    line = events.named("request.done")[-1]
    assert (line["operation"], line["provider"], line["account"], line["status"]) == (
        "passthrough",
        "openai",
        "acme",
        200,
    )
    assert (line["model"], line["upstream_model"]) == ("m", "m")
    assert [attempt["operation"] for attempt in line["attempts"]] == ["passthrough"]


@pytest.mark.parametrize(
    ("method", "path", "arrives"),
    [
        ("POST", "/v1/embeddings", "/v1/embeddings"),
        ("POST", "/embeddings?a=b%20c", "/v1/embeddings?a=b%20c"),
        ("GET", "/providers/openai/v1/models", "/v1/models"),
        ("GET", "/v1/models/ft%3Am%2Fx", "/v1/models/ft%3Am%2Fx"),
        ("POST", "/v1/audio/speech", "/v1/audio/speech"),
    ],
)
async def test_what_is_listed_arrives_as_it_came(
    gateway: Running, elsewhere: Elsewhere, method: str, path: str, arrives: str
) -> None:
    body = b'{ "input": "a", "metadata": {"file_id": "mine"}, "n": 1.0 }' if method == "POST" else None
    headers = {"Authorization": "Bearer alice-key", "Content-Type": "application/json"}
    url = aiohttp.client.URL(gateway.url + path, encoded=True)
    async with gateway.session.request(method, url, data=body, headers=headers) as response:
        assert (response.status, await response.json()) == (200, {"ok": True})
    assert elsewhere.heard[0][:3] == (method, arrives, body or b"")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/responses", 404),
        ("POST", "/v1/images/generations", 404),
        ("GET", "/v1/audio", 404),
        ("GET", "/v1/chat/completions", 405),  # lists what any tenant of the account stored
        ("DELETE", "/v1/models/ft:m", 405),
        ("PUT", "/v1/embeddings", 405),
        ("GET", "/v1/chat/completions/chatcmpl-1", 404),
        ("POST", "/v1/audio/../files", 404),
        ("POST", "/v1/audio/%2e%2e/responses", 404),
        ("POST", "/v1/audio/x%2F..%2F..%2Fresponses", 404),
        ("POST", "/v1/audio/%252e%252e/responses", 404),
        ("POST", "/v1/audio/x%5C..%5Cresponses", 404),
        ("POST", "/v1/audio//x", 404),
        ("GET", "/v1/models/..", 404),
        ("POST", "/providers/nobody/v1/embeddings", 404),
    ],
)
async def test_what_is_not_listed_stays_here(
    gateway: Running, elsewhere: Elsewhere, method: str, path: str, status: int
) -> None:
    url = aiohttp.client.URL(gateway.url + path, encoded=True)
    headers = {"Authorization": "Bearer alice-key"}
    async with gateway.session.request(method, url, json={}, headers=headers) as response:
        answer = await response.json()
        assert response.status == status
        assert status != 405 or response.headers["allow"] in ("GET", "POST")
    assert elsewhere.heard == []
    assert answer["error"]["code"] == ("unknown_url" if status == 404 else "method_not_allowed")
    if path in ("/v1/responses", "/v1/images/generations"):
        assert "provider 'openai' has no such path under 'passthrough'" in answer["error"]["message"]


async def test_uploads_and_bytes_go_through(gateway: Running, elsewhere: Elsewhere) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=b"\x00\xff" * 1000, content_type="audio/mpeg")

    elsewhere.answer = answer
    async with gateway.sdk() as client:
        spoken = await client.audio.speech.create(model="m", voice="alloy", input="Hi")
        assert spoken.content == b"\x00\xff" * 1000
        assert spoken.response.headers["content-type"] == "audio/mpeg"
        elsewhere.answer = None
        await client.audio.transcriptions.create(model="m", file=("a.mp3", b"sound"))
    assert elsewhere.heard[-1][3]["Content-Type"].startswith("multipart/form-data; boundary=")
    assert b"sound" in elsewhere.heard[-1][2]


async def test_a_stream_comes_event_by_event(gateway: Running, elsewhere: Elsewhere, events: Events) -> None:
    """Each as soon as it is there: the second is only sent when the first has arrived."""
    arrived = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(_chunk("Hel"))
        await arrived.wait()
        await response.write(_chunk("lo") + b"data: [DONE]\n\n")
        return response

    elsewhere.answer = answer
    said = []
    async with gateway.sdk() as client:
        stream = await client.chat.completions.create(
            model="m", stream=True, messages=[{"role": "user", "content": "Hi"}]
        )
        async for chunk in stream:
            said.append(chunk.choices[0].delta.content)
            arrived.set()
    assert said == ["Hel", "lo"]
    assert events.named("request.done")[-1]["events"] == 3


def _chunk(text: str) -> bytes:
    choice = {"index": 0, "delta": {"content": text}}
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


async def test_a_stream_that_is_cut_is_no_clean_end(gateway: Running, elsewhere: Elsewhere) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(_chunk("Hel"))
        assert request.transport is not None
        request.transport.abort()
        return response

    elsewhere.answer = answer
    async with gateway.sdk() as client:
        stream = await client.chat.completions.create(
            model="m", stream=True, messages=[{"role": "user", "content": "Hi"}]
        )
        with pytest.raises(openai.APIError, match="cut"):
            async for _ in stream:
                pass


@pytest.mark.parametrize("stream", [False, True])
async def test_errors_are_the_vendors_and_what_concerns_our_key_stays(
    gateway: Running, elsewhere: Elsewhere, stream: bool
) -> None:
    told = {"error": {"message": "No such model.", "type": "invalid_request_error", "param": "model", "code": "x"}}

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response(told, status=400)

    elsewhere.answer = answer
    body = {"model": "m", "stream": stream}
    assert (await gateway.call("POST", "/v1/chat/completions", body))[:2] == (400, told)

    async def refuse(request: web.Request) -> web.StreamResponse:
        return web.json_response({"error": {"message": "Incorrect API key provided: sk-openai-acme-one"}}, status=401)

    elsewhere.answer = refuse
    status, error, _ = await gateway.call("POST", "/v1/chat/completions", body)
    assert (status, error["error"]["code"]) == (502, "upstream_credentials_exhausted")
    assert "sk-" not in json.dumps(error)


# --- ids and models ------------------------------------------------------------------------------------------------
async def test_ids_are_upstream_ids_there_and_public_ids_here(gateway: Running, elsewhere: Elsewhere) -> None:
    """In a field that says what it holds, and nowhere else."""
    mine, store = public_id("file", "file-1"), public_id("vector_store", "vs_1")

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response({"echo": await request.json(), "text": "file-1", "file_id": ""})

    elsewhere.answer = answer
    part = {"type": "file", "file": {"file_id": mine}}
    body = {
        "messages": [{"role": "user", "content": [part, {"type": "text", "text": mine}]}],
        "tools": [{"type": "file_search", "vector_store_ids": [store]}, {"parameters": {"file_id": "theirs"}}],
        "metadata": {"file_id": "theirs"},
    }
    status, answered, _ = await gateway.call("POST", "/v1/chat/completions", body)
    assert (status, answered["echo"]) == (200, body)
    assert (answered["text"], answered["file_id"]) == ("file-1", "")
    heard = json.loads(elsewhere.heard[0][2])
    assert heard["messages"][0]["content"][0]["file"]["file_id"] == "file-1"
    assert heard["messages"][0]["content"][1]["text"] == mine
    assert heard["tools"][0]["vector_store_ids"] == ["vs_1"]


@pytest.mark.parametrize("place", ["file_id", "file_ids", "vector_store_ids", "input_file", "training_file", "File_ID"])
async def test_on_a_shared_account_nobody_names_what_is_not_theirs(
    gateway: Running, elsewhere: Elsewhere, place: str
) -> None:
    """An upstream id stands in every public id: whoever saw one must not come further with it."""
    kind = KINDS[place.casefold()]
    for theirs in ("file-1", public_id(kind, "file-1", tenant="bob")):
        value: Any = [theirs] if place.endswith("ids") else theirs
        status, answer, _ = await gateway.call("POST", "/v1/embeddings", {"input": [{"x": {place: value}}]})
        assert status == 404
        assert theirs in answer["error"]["message"]
    assert elsewhere.heard == []


async def test_ids_of_another_account_decide_and_of_another_provider_are_refused(
    elsewhere: Elsewhere, start_vendor: StartVendor, start_gateway: StartGateway
) -> None:
    first, second = await start_vendor("openai"), await start_vendor("openai", name="side")
    change = edit(providers__openai__base_url=elsewhere.url, providers__openai__passthrough=ALL)
    gateway = await start_gateway(first, second, change=change)
    theirs = public_id("file", "file-1", provider="side")
    status, answer, _ = await gateway.call("POST", "/v1/embeddings", {"file_id": theirs})
    assert (status, answer["error"]["code"]) == (400, "account_mismatch")
    assert elsewhere.heard == []
    assert second.simulator.journal == []


async def test_models_are_renamed_both_ways(
    elsewhere: Elsewhere, start_vendor: StartVendor, start_gateway: StartGateway
) -> None:
    change = edit(
        providers__openai__base_url=elsewhere.url,
        providers__openai__passthrough=ALL,
        providers__openai__models={"gpt-4o": "ours"},
    )
    gateway = await start_gateway(await start_vendor("openai"), change=change)

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response({"model": (await request.json())["model"], "data": [{"model": "ours"}]})

    elsewhere.answer = answer
    _, answered, _ = await gateway.call("POST", "/v1/embeddings", {"model": "gpt-4o"})
    assert answered == {"model": "gpt-4o", "data": [{"model": "ours"}]}
    assert json.loads(elsewhere.heard[0][2]) == {"model": "ours"}


# --- what stores things ----------------------------------------------------------------------------------------------
async def test_what_stores_things_goes_through_on_an_account_of_ones_own(
    elsewhere: Elsewhere, start_vendor: StartVendor, start_gateway: StartGateway
) -> None:
    """Every method; what is no id of this tenant passes, and what is answered can be used."""

    def change(settings: dict[str, Any]) -> None:
        provider = settings["providers"]["openai"]
        provider |= {"base_url": elsewhere.url, "passthrough": ["responses", "responses/*", "batches"]}
        provider["accounts"]["acme"]["owned_by"] = "alice"
        settings["tenants"]["bob"]["providers"] = []
        settings["tenants"]["bob"] = {"keys": settings["tenants"]["bob"]["keys"], "providers": []}

    gateway = await start_gateway(await start_vendor("openai"), change=change)

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response({"id": "batch_1", "output_file_id": "file-2", "error_file_id": None})

    elsewhere.answer = answer
    _, batch, _ = await gateway.call("POST", "/v1/batches", {"input_file_id": public_id("file", "file-1")})
    assert batch == {"id": "batch_1", "output_file_id": public_id("file", "file-2"), "error_file_id": None}
    assert json.loads(elsewhere.heard[0][2]) == {"input_file_id": "file-1"}
    await gateway.call("POST", "/v1/responses", {"input": [{"type": "input_file", "file_id": "file-from-before"}]})
    assert b"file-from-before" in elsewhere.heard[1][2]
    for method in ("GET", "DELETE"):
        assert (await gateway.call(method, "/v1/responses/resp_1"))[0] == 200
    assert (await gateway.call("POST", "/v1/responses", {}, tenant="bob"))[0] == 404
    assert elsewhere.paths == ["POST /batches", "POST /responses", "GET /responses/resp_1", "DELETE /responses/resp_1"]


@pytest.mark.parametrize(
    ("pattern", "shared", "own"),
    [
        ("chat/completions", None, None),
        ("models", None, None),
        ("images/*", None, None),
        ("audio/speech", None, None),
        ("responses", "stores or reads", None),
        ("fine_tuning/*", "stores or reads", None),
        ("rerank", "stores or reads", None),
        ("models/*", None, None),
        ("chat/completions/*", "stores or reads", None),
        ("embeddings/*", "stores or reads", None),
        ("audio", "stores or reads", None),
        ("files", "served by the gateway", "served by the gateway"),
        ("threads/*", "served by the gateway", "served by the gateway"),
        ("uploads", "served by the gateway", "served by the gateway"),
        ("/chat", "no path", "no path"),
        ("a//b", "no path", "no path"),
        ("*", "no path", "no path"),
        ("a/*/b", "no path", "no path"),
    ],
)
def test_what_may_be_listed(pattern: str, shared: str | None, own: str | None) -> None:
    for is_shared, expected in ((True, shared), (False, own)):
        fault = fault_of(pattern, is_shared=is_shared)
        assert (fault is None) == (expected is None)
        assert expected is None or expected in str(fault)


async def test_a_configuration_that_would_mix_tenants_is_refused_at_start(
    start_vendor: StartVendor, tmp_path: Any
) -> None:
    vendors = [await start_vendor("openai")]
    settings = settings_for(vendors, "redis://nowhere")
    settings["providers"]["openai"]["passthrough"] = ["chat/completions", "responses"]
    with pytest.raises(ConfigError, match=r"providers.openai.passthrough\[1\]: responses stores or reads"):
        load_settings(settings, tmp_path, environ_for(vendors))


def test_listed_with_a_star_is_what_lies_below() -> None:
    let = Passthrough(["audio/*", "models"])
    for path, found in (("audio/speech", True), ("audio/a/b", True), ("audio", False), ("audios/x", False)):
        assert (let.find("POST", path.split("/"), is_upload=False) is not None) is found
    assert let.find("GET", ["models", "m"], is_upload=False) is not None
    with pytest.raises(GatewayError) as refused:
        let.find("POST", ["models"], is_upload=False)
    assert refused.value.headers == {"allow": "GET"}


def test_places_of_ids_are_named_as_callers_know_them() -> None:
    body = {"a": [{"file_ids": ["x", {"file_id": "y"}, "", 1]}], "file_id": {"file_id": "z"}, "input_file": None}
    assert [(slot.param, slot.kind, slot.shown) for slot in find_ids(body)] == [
        ("a[0].file_ids[0]", "file", "x"),
        ("a[0].file_ids[1].file_id", "file", "y"),
        ("file_id.file_id", "file", "z"),
    ]
