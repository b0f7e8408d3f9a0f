"""Every way through the gateway leaves the records it should: one table, exact."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from gateway.recipes import Recipes
from tests.auditing.conftest import audited, written
from tests.conformance.conftest import ok, stage
from tests.conformance.test_shared_objects import made_outside, share
from tests.conftest import Dial, Running, StartGateway, StartVendor, Vendor, edit, eventually, public_id
from tests.simulators import faults
from tests.wire import Wire, chunked, request

START, END = "request.started", "request.finished"
KNOWN = {"tenant": "alice", "provider": "openai", "account": "acme"}


@dataclass
class Scene:
    """A gateway with a trail, and what a caller needs."""

    gateway: Running
    vendor: Vendor
    folder: Path
    dial: Dial
    ids: Mapping[str, str] = field(default_factory=dict)
    wires: list[Wire] = field(default_factory=list)

    async def call(self, method: str, path: str, body: Any = None, **more: Any) -> int:
        status, _, _ = await self.gateway.call(method, path.format_map(self.ids), body, **more)
        return status

    def fail(self, act: faults.Act, **where: Any) -> None:
        self.vendor.simulator.faults.add(act, **where)

    async def wire(self, asking: bytes) -> Wire:
        wire = await self.dial(self.gateway)
        with suppress(ConnectionError):
            await wire.send(asking)
        return wire

    async def rest(self, asking: bytes) -> bytes:
        return await (await self.wire(asking)).rest()

    def since(self, before: int) -> list[Mapping[str, Any]]:
        records = [each for each in written(self.folder) if each["kind"] in (START, END)]
        return records[before:]


Act = Callable[[Scene], Awaitable[Any]]


@pytest.fixture
async def scene(start_vendor: StartVendor, start_gateway: StartGateway, folder: Path, dial: Dial) -> Scene:
    vendor = await start_vendor("openai")
    shared = made_outside(vendor, "assistants")

    def change(settings: dict[str, Any]) -> None:
        share("assistant", shared)(settings)
        audited(folder)(settings)
        edit(
            cache={"ttl_s": 30},
            limits={"path_bytes": 4096, "header_bytes": 8192, "json_bytes": 4096, "receive_s": 2},
            idempotency={"wait_s": 0.05},
            providers__openai__passthrough=["chat/completions", "audio/*"],
            providers__openai__timeouts={"total_s": 5},
            providers__openai__rotation={"rate_limits_belong_to": "key"},
            tenants__bob__limits={"requests_per_minute": 1},
        )(settings)

    gateway = await start_gateway(vendor, change=change)
    scene = Scene(gateway, vendor, folder, dial)
    scene.ids = {**await stage(gateway, vendor=vendor), "shared": public_id("assistant", shared)}
    await gateway.call("GET", "/v1/files", tenant="bob")
    return scene


# --- the ways ---------------------------------------------------------------------------------------------------------
async def cached(at: Scene) -> None:
    for _ in range(2):
        assert await at.call("GET", "/v1/threads/{thread}") == 200


async def repeated(at: Scene) -> None:
    for body, status in (({}, 200), ({}, 200), ({"metadata": {"a": "b"}}, 422)):
        assert await at.call("POST", "/v1/threads", body, headers={"Idempotency-Key": "repeated"}) == status


async def repeated_too_early(at: Scene) -> None:
    until = asyncio.Event()
    at.fail(faults.hold(until), method="POST")
    headers = {"Idempotency-Key": "early"}
    first = asyncio.create_task(at.call("POST", "/v1/threads", {}, headers=headers))
    await eventually(lambda: at.vendor.simulator.faults.faults[-1].hits != [])
    assert await at.call("POST", "/v1/threads", {}, headers=headers) == 409
    until.set()
    assert await first == 200


async def recipe(at: Scene) -> None:
    headers = {"OpenAI-Beta": "assistants=v1"}
    made = await ok(at.gateway, "POST", "/v1/assistants", {"model": "m"}, headers=headers)
    path = f"/v1/assistants/{made['id']}/files"
    assert await at.call("POST", path, {"file_id": at.ids["file"]}, headers=headers) == 200


async def pass_json(at: Scene) -> None:
    at.fail(faults.garbage(b'{"model": "m-1", "usage": {"total_tokens": 3}}', "application/json", applied=False))
    assert await at.call("POST", "/v1/chat/completions", {"model": "m"}) == 200


async def pass_events(at: Scene) -> None:
    events = [
        b'data: {"object": "chat.completion.chunk", "choices": [{"delta": {"content": "Hello"}}]}\n\n',
        b"data: [DONE]\n\n",
    ]
    at.fail(faults.garbage(events, "text/event-stream", applied=False))
    assert await at.call("POST", "/v1/chat/completions", {"model": "m", "stream": True}) == 200


async def pass_bytes(at: Scene) -> None:
    at.fail(faults.garbage(b"sound", "audio/mpeg", applied=False))
    assert await at.call("POST", "/v1/audio/speech", {"model": "m"}) == 200


async def two_keys(at: Scene) -> None:
    at.fail(faults.status(429))
    assert await at.call("POST", "/v1/threads", {}) == 200


async def provider_down(at: Scene) -> None:
    await at.vendor.simulator.refuse()
    assert await at.call("POST", "/v1/threads", {}) == 502
    await at.vendor.simulator.allow()


def a_stream(at: Scene) -> dict[str, Any]:
    thread = {"messages": [{"role": "user", "content": "Hello"}]}
    return {"assistant_id": at.ids["assistant"], "thread": thread, "stream": True}


async def cut_stream(at: Scene) -> None:
    at.fail(faults.cut(900), method="POST")
    with suppress(aiohttp.ClientError):
        await at.call("POST", "/v1/threads/runs", a_stream(at))


async def run_in_place_of_a_stream(at: Scene) -> None:
    run = (
        b'{"id": "run_1", "object": "thread.run", "thread_id": "thread_1", "status": "completed", "assistant_id": "a"}'
    )
    at.fail(faults.garbage(run, "application/json", applied=False))
    assert await at.call("POST", "/v1/threads/runs", a_stream(at)) == 200


async def left_before(at: Scene) -> None:
    until = asyncio.Event()
    at.fail(faults.hold(until), method="POST")
    wire = await at.wire(request("POST", "/v1/threads", b"{}"))
    await eventually(lambda: at.vendor.simulator.faults.faults[-1].hits != [])
    wire.close()
    await eventually(lambda: bool(written(at.folder, END, outcome="caller_left")))
    until.set()


async def left_while(at: Scene) -> None:
    until = asyncio.Event()
    at.fail(faults.stall_stream(2, until), method="POST")
    wire = await at.wire(request("POST", "/v1/threads/runs", orjson.dumps(a_stream(at))))
    await wire.until(b"event: ")
    wire.close(reset=True)
    await eventually(lambda: bool(written(at.folder, END, outcome="aborted")))
    until.set()


async def crashed(at: Scene) -> None:
    with pytest.MonkeyPatch.context() as broken:
        broken.setattr(Recipes, "__call__", lambda *_: 1 // 0)
        assert await at.call("POST", "/v1/threads", {}) == 500
        assert await at.call("GET", "/v1/threads/{thread}/messages") == 500


async def disabled(at: Scene, kind: str, name: str, status: int) -> None:
    assert at.gateway.app.shared is not None
    switches = at.gateway.app.shared.switches
    switches.disable(kind, name, "for now")  # type: ignore[arg-type]
    assert await at.call("POST", "/v1/threads", {}) == status
    switches.enable(kind, name)  # type: ignore[arg-type]


def asks(method: str, path: str, body: Any = None, **more: Any) -> Act:
    async def act(at: Scene) -> None:
        await at.call(method, path, body, **more)

    return act


def sends(asking: bytes) -> Act:
    async def act(at: Scene) -> None:
        await at.rest(asking)

    return act


Expected = tuple[str, dict[str, Any]]


def began(operation: str, **facts: Any) -> Expected:
    return START, KNOWN | {"operation": operation} | facts


def ended(
    operation: str | None, status: int | None, outcome: str = "done", attempts: int = 1, **facts: Any
) -> Expected:
    return END, {"operation": operation, "status": status, "outcome": outcome, "attempts_total": attempts} | facts


def refused(status: int, code: str | None, operation: str | None = None, **facts: Any) -> Expected:
    return ended(operation, status, "refused", 0, error_source="caller", error_code=code, **facts)


WAYS: dict[str, tuple[Act, list[Expected]]] = {
    # what is read
    "a cached read": (
        cached,
        [ended("get_thread", 200, cache="miss"), ended("get_thread", 200, attempts=0, cache="hit")],
    ),
    "a list on a shared account": (asks("GET", "/v1/files"), [ended("list_files", 200, **KNOWN)]),
    "a file": (
        asks("GET", "/v1/files/{file}/content"),
        [began("get_file_content"), ended("get_file_content", 200, bytes_out=10)],
    ),
    "HEAD": (asks("HEAD", "/v1/threads"), [refused(405, "method_not_allowed", method="HEAD")]),
    # what is written
    "a repeat, and a key used again": (
        repeated,
        [
            *(began("create_thread"), ended("create_thread", 200, idempotency="first")),
            *(began("create_thread"), ended("create_thread", 200, attempts=0, idempotency="repeat")),
            *(began("create_thread"), refused(422, "idempotency_key_reused", "create_thread", idempotency="repeat")),
        ],
    ),
    "a repeat of what is in work": (
        repeated_too_early,
        [
            *(began("create_thread"), began("create_thread")),
            refused(409, "request_in_progress", "create_thread", idempotency="repeat"),
            ended("create_thread", 200, idempotency="first"),
        ],
    ),
    "a recipe of v1": (
        recipe,
        [
            *(began("create_assistant"), ended("create_assistant", 200)),
            *(began("create_assistant_file"), ended("create_assistant_file", 200, attempts=2)),
        ],
    ),
    "JSON that passes through": (
        pass_json,
        [began("passthrough", path="/v1/chat/completions"), ended("passthrough", 200)],
    ),
    "events that pass through": (
        pass_events,
        [began("passthrough"), ended("passthrough", 200, events=2, text_length=5)],
    ),
    "bytes that pass through": (pass_bytes, [began("passthrough"), ended("passthrough", 200, bytes_out=5)]),
    "two keys": (two_keys, [began("create_thread"), ended("create_thread", 200, attempts=2)]),
    "a provider that is down": (
        provider_down,
        [began("create_thread"), ended("create_thread", 502, "refused", 3, error_source="provider")],
    ),
    "a stream that the provider cuts": (
        cut_stream,
        [
            began("create_thread_and_run"),
            ended("create_thread_and_run", 200, "cut", error_source="provider", error_code="stream_broken"),
        ],
    ),
    "a run in place of a stream": (
        run_in_place_of_a_stream,
        [began("create_thread_and_run"), ended("create_thread_and_run", 200, events=1, run_status="completed")],
    ),
    "a caller who leaves before": (left_before, [began("create_thread"), ended("create_thread", None, "caller_left")]),
    "a caller who leaves while": (
        left_while,
        [began("create_thread_and_run"), ended("create_thread_and_run", 200, "aborted", run_status="queued")],
    ),
    "a crash": (
        crashed,
        [
            *(began("create_thread"), ended("create_thread", 500, "crashed", 0, error_source="gateway")),
            ended("list_messages", 500, "crashed", 0, error_source="gateway"),
        ],
    ),
    # what is refused
    "no such path": (asks("GET", "/v1/nothing"), [refused(404, "unknown_url", method="GET")]),
    "no such method": (asks("PUT", "/v1/threads/{thread}"), [refused(405, "method_not_allowed")]),
    "no key": (
        asks("POST", "/v1/threads", {}, headers={"Authorization": "Bearer sk-nobodys-key"}),
        [refused(401, "invalid_api_key", tenant=None)],
    ),
    "another's id": (
        asks("GET", "/v1/threads/{thread}", tenant="carol"),
        [refused(404, None, "get_thread", tenant="carol", provider=None)],
    ),
    "a body over its limit": (
        asks("POST", "/v1/threads", {"metadata": {"a": "x" * 5000}}),
        [refused(413, "request_too_large", "create_thread", tenant="alice")],
    ),
    "a path over its limit": (asks("GET", "/v1/threads?" + "x" * 5000), [refused(414, "uri_too_long", tenant=None)]),
    "headers over their limit": (
        asks("GET", "/v1/files", headers={"X-Long": "x" * 8192}),
        [refused(431, "headers_too_large", tenant=None)],
    ),
    "a tenant over its limit": (
        asks("GET", "/v1/files", tenant="bob"),
        [refused(429, "rate_limit_exceeded", "list_files", tenant="bob")],
    ),
    "a change of what is shared": (
        asks("POST", "/v1/assistants/{shared}", {"name": "mine"}),
        [refused(403, "shared_object", "modify_assistant", **KNOWN)],
    ),
    "a disabled tenant": (
        lambda at: disabled(at, "tenant", "alice", 403),
        [refused(403, "tenant_disabled", tenant="alice")],
    ),
    "a disabled provider": (
        lambda at: disabled(at, "provider", "openai", 503),
        [ended("create_thread", 503, "refused", 0, error_source="gateway", error_code="provider_disabled", **KNOWN)],
    ),
    # what never became a request
    "no HTTP": (sends(b"hello\r\n\r\n"), [refused(400, "malformed_request", tenant=None, client="127.0.0.1")]),
    "a header without end": (
        sends(request("GET", "/v1/threads", b"", "X-Long: " + "x" * 40_000)),
        [refused(431, "headers_too_large", tenant=None)],
    ),
    "a body that turns into nonsense": (
        sends(request("POST", "/v1/threads", b"", "Transfer-Encoding: chunked") + chunked(b"{}") + b"nonsense\r\n"),
        [refused(400, "malformed_request")],
    ),
    # what is no request of anybody
    "a health probe": (asks("GET", "/readyz"), []),
    "the description": (asks("GET", "/openapi.json"), []),
}


async def test_every_way_leaves_the_records_that_it_should(scene: Scene) -> None:
    wrong = {}
    for way, (act, expected) in WAYS.items():
        scene.vendor.simulator.faults.clear()
        before = len(scene.since(0))
        await act(scene)
        with suppress(TimeoutError):
            await eventually(lambda: len(scene.since(before)) >= len(expected), within_s=1)  # noqa: B023
        told = scene.since(before)
        seen = [
            (each["kind"], {name: each.get(name) for name in facts})
            for each, (_, facts) in zip(told, expected, strict=False)
        ]
        if seen != expected or len(told) != len(expected):
            wrong[way] = (told, expected)
        ids = [each["request_id"] for each in told if each["kind"] == START]
        assert set(ids) <= {each["request_id"] for each in told if each["kind"] == END}, way
    assert not wrong, orjson.dumps(wrong, option=orjson.OPT_INDENT_2).decode()


async def test_a_request_that_a_stop_breaks_off_says_so(
    start_gateway: StartGateway, vendor: Vendor, folder: Path, dial: Dial
) -> None:
    """Both where the answer has begun and where it has not; the trail is sealed after them."""
    gateway = await start_gateway(vendor, change=audited(folder))
    until, at = asyncio.Event(), Scene(gateway, vendor, folder, dial)
    at.ids = {"assistant": (await ok(gateway, "POST", "/v1/assistants", {"model": "m"}))["id"]}
    at.fail(faults.hold(until), method="POST", path="/threads$")
    at.fail(faults.stall_stream(2, until), method="POST", path="/runs$")
    held = await at.wire(request("POST", "/v1/threads", b"{}"))
    streamed = await at.wire(request("POST", "/v1/threads/runs", orjson.dumps(a_stream(at))))
    await streamed.until(b"event: ")
    await eventually(lambda: len(vendor.simulator.journal) == 3)
    await gateway.app.stop(grace_s=0.05)
    until.set()
    for operation in ("create_thread", "create_thread_and_run"):
        [finished] = written(folder, END, operation=operation)
        assert finished["outcome"] == "broken_off"
    assert written(folder)[-1]["kind"] == "file.sealed"
    assert await held.rest() == b""
