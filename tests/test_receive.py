"""What callers send: bodies of every kind and size, and what is no HTTP at all."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import logging
import os
import tracemalloc
import zlib
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import orjson
import pytest
from aiohttp import web

from gateway.attempts import Attempts
from gateway.phases.receive import Body, receive
from gateway.spool import Spool
from tests.conftest import Dial, Events, Running, StartGateway, StartVendor, Vendor, edit, eventually
from tests.simulators import faults
from tests.wire import Answer, Provider, Wire, chunked, request

CHUNKED = "Transfer-Encoding: chunked"
GZIP = "Content-Encoding: gzip"
FORM = "Content-Type: multipart/form-data; boundary=edge"
EXPECT = "Expect: 100-continue"
Ask = Callable[..., Awaitable[Answer]]


def form(data: bytes) -> bytes:
    """The body of an upload."""
    head = b'--edge\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nassistants\r\n--edge\r\n'
    file = b'Content-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'
    return head + file + data + b"\r\n--edge--\r\n"


@pytest.fixture
async def vendor(start_vendor: StartVendor) -> Vendor:
    return await start_vendor("openai")


@pytest.fixture
async def gateway(start_gateway: StartGateway, vendor: Vendor) -> Running:
    """Small limits, so that little is much."""
    change = edit(
        limits__json_bytes=1000,
        limits__upload_bytes=100_000,
        limits__buffer_bytes=10_000,
        limits__spool_bytes=150_000,
        limits__receive_s=0.2,
    )
    return await start_gateway(vendor, change=change)


@pytest.fixture
def ask(gateway: Running, dial: Dial) -> Ask:
    """Send these bytes on a new connection and read one answer."""

    async def asked(*data: bytes, of: Running = gateway) -> Answer:
        wire = await dial(of)
        for piece in data:
            await wire.send(piece)
        return await wire.answer()

    return asked


def spool(gateway: Running) -> Spool:
    assert gateway.app._server is not None
    handler: Any = gateway.app._server.request_handler
    return handler._spool  # type: ignore[no-any-return]


def _unlinked() -> int:
    """Unlinked files that this process holds."""
    held = 0
    for descriptor in os.listdir("/dev/fd"):
        with contextlib.suppress(OSError):
            held += os.fstat(int(descriptor)).st_nlink == 0
    return held


@pytest.fixture(autouse=True)
def spooled_files() -> Callable[[], int]:
    """How many uploads lie on disk now."""
    before = _unlinked()
    return lambda: _unlinked() - before


@pytest.fixture(autouse=True)
def _nobody_complains(caplog: pytest.LogCaptureFixture, events: Events) -> Iterator[None]:
    """No request may make the gateway or its libraries complain."""
    yield
    assert [record for record in caplog.get_records("call") if record.levelno >= logging.WARNING] == []
    assert events.named("request.crashed") == []


# ---- JSON ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (b"{", "invalid_json", "not valid JSON"),
        (b"{'a': 1}", "invalid_json", "not valid JSON"),
        (b'{"a": 1}}', "invalid_json", "not valid JSON"),
        (b'{"a": 1,}', "invalid_json", "not valid JSON"),
        (b'{"a": NaN}', "invalid_json", "not valid JSON"),
        (b'{"a": -Infinity, "b": 12345678901234567890}', "invalid_json", "not valid JSON"),
        (b'{"a": "\xff"}', "invalid_json", "not valid JSON"),
        (b'{"a": "\xed\xa0\x80"}', "invalid_json", "not valid JSON"),
        ('{"a": 1}'.encode("utf-16"), "invalid_json", "not valid JSON"),
        (b"   ", "invalid_json", "not valid JSON"),
        (b"[]", "invalid_json", "not an object"),
        (b"null", "invalid_json", "not an object"),
        (b'"{}"', "invalid_json", "not an object"),
        (b'{"a":' * 101 + b"1" + b"}" * 101, "json_too_deep", "100 levels"),
        (b"[" * 1000, "invalid_json", "not valid JSON"),
        (b'{"n": 12345678901234567890, "a": ' + b"[" * 900, "invalid_json", "not valid JSON"),
    ],
)
async def test_what_is_no_json_object_is_refused_before_anybody_is_asked(
    body: bytes, code: str, words: str, ask: Ask, vendor: Vendor
) -> None:
    answer = await ask(request("POST", "/v1/threads", body))
    assert (answer.status, answer.code) == (400, code)
    assert words in answer.json["error"]["message"]
    assert answer.json["error"]["type"] == "invalid_request_error"
    assert vendor.simulator.journal == []


async def test_a_hundred_levels_are_deep_enough(ask: Ask, vendor: Vendor) -> None:
    answer = await ask(request("POST", "/v1/threads", b'{"a":' * 100 + b"1" + b"}" * 100))
    assert answer.status == 200


@pytest.mark.parametrize(
    "asking",
    [
        request("POST", "/v1/threads"),
        request("POST", "/v1/threads", length=0),
        request("POST", "/v1/threads", b"", "Content-Length: 0", "Content-Type: text/plain"),
        request("POST", "/v1/threads", chunked(b""), CHUNKED),
    ],
    ids=["no body", "length 0", "length 0 of text", "no chunk"],
)
async def test_nothing_is_a_body_too(asking: bytes, ask: Ask, vendor: Vendor) -> None:
    assert (await ask(asking)).status == 200
    (received,) = vendor.simulator.journal
    assert (received.body, received.headers["Content-Length"]) == (b"", "0")


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_body_that_has_no_meaning_is_not_sent_on(
    method: str, dial: Dial, vendor: Vendor, gateway: Running
) -> None:
    wire = await dial(gateway)
    await wire.send(request("POST", "/v1/threads", b"{}"))
    thread = (await wire.answer()).json["id"]
    await wire.send(request(method, f"/v1/threads/{thread}", b"not even JSON", "Content-Type: text/plain"))
    assert (await wire.answer()).status == 200
    assert vendor.simulator.journal[-1].body == b""
    await wire.send(request("POST", "/v1/threads", b"{}"))
    assert (await wire.answer()).status == 200


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("Application/JSON", 200),
        ("application/vnd.api+json", 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=edge", 415),
        ("", 415),
    ],
)
async def test_only_json_is_taken_for_json(kind: str, status: int, ask: Ask, vendor: Vendor) -> None:
    answer = await ask(request("POST", "/v1/threads", b"{}", f"Content-Type: {kind}"))
    assert answer.status == status
    if status == 415:
        assert answer.code == "unsupported_content_type"
        assert "send application/json" in answer.json["error"]["message"]
        assert vendor.simulator.journal == []


# ---- sizes -----------------------------------------------------------------------------------------------------

LARGE = orjson.dumps({"metadata": {"a": "x" * 1000}})


@pytest.mark.parametrize(
    "asking",
    [
        request("POST", "/v1/threads", LARGE),
        request("POST", "/v1/threads", b"", length=10**15),
        request("POST", "/v1/threads", chunked(*([b" " * 100] * 11), b""), CHUNKED, "Content-Type: application/json"),
        request("POST", "/v1/threads", gzip.compress(LARGE), GZIP),
        request("POST", "/v1/files", b"", FORM, length=100_001),
        request("POST", "/v1/files", chunked(*([b" " * 10_000] * 11), b""), CHUNKED, FORM),
        request("POST", "/v1/files", gzip.compress(b" " * 100_001), GZIP, FORM),
    ],
    ids=["JSON", "JSON, huge", "JSON in chunks", "JSON packed", "upload", "upload in chunks", "upload packed"],
)
async def test_a_body_over_its_limit_is_refused(asking: bytes, ask: Ask, vendor: Vendor, gateway: Running) -> None:
    answer = await ask(asking)
    assert (answer.status, answer.code) == (413, "request_too_large")
    assert vendor.simulator.journal == []
    assert spool(gateway).held_bytes == 0


async def test_a_packed_body_is_unpacked_and_the_word_packed_goes(ask: Ask, vendor: Vendor) -> None:
    for encoding, body in (
        ("gzip", gzip.compress(b'{"metadata":{"a":"b"}}')),
        ("deflate", zlib.compress(b'{"metadata":{"a":"b"}}')),
    ):
        answer = await ask(request("POST", "/v1/threads", body, f"Content-Encoding: {encoding}"))
        assert answer.json["metadata"] == {"a": "b"}
        received = vendor.simulator.journal[-1]
        assert received.body == b'{"metadata":{"a":"b"}}'
        assert "Content-Encoding" not in received.headers


async def test_a_bomb_is_not_unpacked_further_than_its_limit(
    start_gateway: StartGateway, vendor: Vendor, ask: Ask
) -> None:
    gateway = await start_gateway(vendor, change=edit(limits__json_bytes=2**20))
    bomb = gzip.compress(b" " * (64 * 2**20))
    tracemalloc.start()
    try:
        answer = await ask(request("POST", "/v1/threads", bomb, GZIP), of=gateway)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert answer.status == 413
    assert peak_bytes < 6 * 2**20


@pytest.mark.parametrize(
    "body",
    [b"{}", gzip.compress(b'{"a": "%s"}' % os.urandom(400).hex().encode())[:-100], b"\x1f\x8b" + b"\0" * 30],
    ids=["plain", "cut", "nonsense"],
)
async def test_a_body_that_cannot_be_unpacked_is_refused(body: bytes, ask: Ask, vendor: Vendor) -> None:
    answer = await ask(request("POST", "/v1/threads", body, GZIP))
    assert answer.status == 400
    assert vendor.simulator.journal == []


@pytest.mark.parametrize(
    ("asking", "status"),
    [
        (request("GET", "/v1/threads/" + "x" * 9000), 414),
        (request("GET", "/v1/assistants?after=" + "x" * 9000), 414),
        (request("GET", "/v1/assistants", b"", "X-Large: " + "x" * 33_000), 431),
        (request("GET", "/v1/assistants", b"", *(f"X-{n}: {'x' * 1000}" for n in range(40))), 431),
        (request("GET", "/v1/assistants", b"", "X-Large: " + "x" * 100_000), 431),
        (request("GET", "/v1/assistants", key="x" * 40_000), 431),
    ],
    ids=["path", "query", "a header", "headers", "a huge header", "a key"],
)
async def test_a_long_path_and_large_headers_are_refused(asking: bytes, status: int, ask: Ask) -> None:
    answer = await ask(asking)
    assert (answer.status, answer.code) == (status, "uri_too_long" if status == 414 else "headers_too_large")


# ---- waiting ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_upload", [False, True])
async def test_a_body_that_does_not_come_is_not_waited_for(
    is_upload: bool, ask: Ask, vendor: Vendor, gateway: Running, spooled_files: Callable[[], int]
) -> None:
    asking = (
        request("POST", "/v1/files", b"x" * 20_000, FORM, length=50_000)
        if is_upload
        else request("POST", "/v1/threads", b'{"a":', length=20)
    )
    answer = await ask(asking)
    assert (answer.status, answer.code) == (408, "request_timeout")
    assert "limits.receive_s" in answer.json["error"]["message"]
    assert vendor.simulator.journal == []
    assert (spool(gateway).held_bytes, spooled_files()) == (0, 0)


async def test_whoever_was_refused_for_waiting_is_not_waited_for_either(
    start_gateway: StartGateway, vendor: Vendor, dial: Dial
) -> None:
    """The rest of the body gets as long again, so that its caller comes to read the answer, and no longer."""
    gateway = await start_gateway(vendor, change=edit(limits__receive_s=0.1))
    wire = await dial(gateway)
    await wire.send(request("POST", "/v1/threads", b'{"a":', length=20))
    assert (await wire.answer()).status == 408
    async with asyncio.timeout(2):
        assert await wire.rest() == b""


async def test_headers_that_do_not_come_are_not_waited_for(
    start_gateway: StartGateway, vendor: Vendor, dial: Dial
) -> None:
    gateway = await start_gateway(vendor, change=edit(listener__keepalive_s=0.1))
    for beginning in (b"", b"GET /healthz HTTP/1.1\r\nHost:", request("GET", "/healthz")):
        wire = await dial(gateway)
        await wire.send(beginning)
        assert (await wire.rest()).endswith(b'{"status":"alive"}' if beginning.endswith(b"\r\n\r\n") else b"")
        wire.close()


async def test_a_caller_who_waits_for_leave_gets_it_once_nothing_speaks_against_the_body(
    dial: Dial, vendor: Vendor, gateway: Running
) -> None:
    wire = await dial(gateway)
    for body in (b'{"metadata":{"a":"b"}}', b"{}"):
        await wire.send(request("POST", "/v1/threads", b"", EXPECT, length=len(body)))
        assert await wire.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await wire.send(body)
        assert (await wire.answer()).status == 200
    assert len(vendor.simulator.journal) == 2


@pytest.mark.parametrize(
    ("asking", "status"),
    [
        (request("POST", "/v1/threads", b"", EXPECT, length=1001), 413),
        (request("POST", "/v1/threads", b"", EXPECT, length=10, key="wrong"), 401),
        (request("POST", "/v1/threads", b"", EXPECT, "Content-Type: text/plain", length=10), 415),
        (request("POST", "/v1/nothing", b"", EXPECT, length=10), 404),
        (request("GET", "/v1/threads/thread_x", b"", EXPECT, length=10), 404),
    ],
)
async def test_a_caller_who_waits_for_leave_hears_at_once_that_it_is_refused(
    asking: bytes, status: int, ask: Ask
) -> None:
    assert (await ask(asking)).status == status


# ---- uploads ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [9_000, 90_000], ids=["in memory", "spooled"])
@pytest.mark.parametrize("manner", ["with its length", "in chunks", "packed"])
async def test_an_upload_arrives_as_it_was_sent(
    size: int, manner: str, ask: Ask, vendor: Vendor, gateway: Running, spooled_files: Callable[[], int]
) -> None:
    body = form(os.urandom(size))
    answer = await ask(
        {
            "with its length": request("POST", "/v1/files", body, FORM),
            "in chunks": request("POST", "/v1/files", chunked(body[:10], body[10:], b""), FORM, CHUNKED),
            "packed": request("POST", "/v1/files", gzip.compress(body), FORM, GZIP),
        }[manner]
    )
    assert (answer.status, answer.json["bytes"]) == (200, size)
    (received,) = vendor.simulator.journal
    assert received.digest == hashlib.sha256(body).hexdigest()
    assert received.headers["Content-Type"] == FORM.partition(": ")[2]
    assert received.headers["Content-Length"] == str(len(body))
    assert (spool(gateway).held_bytes, spooled_files()) == (0, 0)


async def test_an_upload_of_nothing_and_one_that_is_no_form_are_refused(ask: Ask, vendor: Vendor) -> None:
    answer = await ask(request("POST", "/v1/files", b"", FORM, length=0))
    assert (answer.status, answer.json["error"]["param"]) == (400, "file")
    answer = await ask(request("POST", "/v1/files", b"{}"))
    assert (answer.status, answer.code) == (415, "unsupported_content_type")
    assert vendor.simulator.journal == []


@pytest.mark.parametrize("outcome", ["refused", "cut", "caller left", "two keys"])
async def test_whatever_becomes_of_an_upload_its_place_is_free_again(
    outcome: str, dial: Dial, vendor: Vendor, gateway: Running, spooled_files: Callable[[], int]
) -> None:
    body, hold = form(b"x" * 50_000), asyncio.Event()
    act = {
        "refused": faults.status(400),
        "cut": faults.cut_before_answer(),
        "caller left": faults.hold(hold),
        "two keys": faults.status(401),
    }[outcome]
    vendor.simulator.faults.add(act)
    wire = await dial(gateway)
    await wire.send(request("POST", "/v1/files", body, FORM))
    received = await vendor.simulator.arrived()
    if outcome == "caller left":
        assert spool(gateway).held_bytes == len(body)
        wire.close()
        await vendor.simulator.disconnected(received)
        while spool(gateway).held_bytes:
            await asyncio.sleep(0)
    else:
        assert (await wire.answer()).status == {"refused": 400, "cut": 504, "two keys": 200}[outcome]
    assert {received.digest for received in vendor.simulator.journal} == {hashlib.sha256(body).hexdigest()}
    assert (spool(gateway).held_bytes, spooled_files()) == (0, 0)


async def test_a_caller_may_leave_before_it_is_told_to_go_on(
    dial: Dial, gateway: Running, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection is being closed while the request is looked at."""

    async def receive_then(asked: web.BaseRequest, *given: Any, **more: Any) -> Body:
        assert asked.transport is not None
        asked.transport.close()
        return await receive(asked, *given, **more)

    monkeypatch.setattr("gateway.flow.receive", receive_then)
    wire = await dial(gateway)
    await wire.send(request("POST", "/v1/threads", b"", EXPECT, "Content-Type: application/json", length=40))
    assert await wire.rest() == b""
    await eventually(lambda: bool(events.named("request.done")))
    assert events.named("request.done")[0]["error"] == "the caller left"
    assert events.named("request.crashed") == []


async def test_a_caller_may_leave_in_the_middle_of_its_upload(
    dial: Dial, vendor: Vendor, gateway: Running, events: Events, spooled_files: Callable[[], int]
) -> None:
    wire = await dial(gateway)
    await wire.send(request("POST", "/v1/files", b"x" * 50_000, FORM, length=90_000))
    async with asyncio.timeout(5):
        while not spooled_files():
            await asyncio.sleep(0)
        wire.close()
        while not events.named("request.done"):
            await asyncio.sleep(0)
    assert events.named("request.done")[0]["outcome"] == "caller_left"
    assert (spool(gateway).held_bytes, spooled_files()) == (0, 0)
    assert vendor.simulator.journal == []


async def test_uploads_together_have_a_limit_and_leave_room_when_they_end(
    dial: Dial, ask: Ask, vendor: Vendor, gateway: Running, spooled_files: Callable[[], int]
) -> None:
    asking, go = request("POST", "/v1/files", form(b"x" * 90_000), FORM), asyncio.Event()
    vendor.simulator.faults.add(faults.hold(go))
    wire = await dial(gateway)
    await wire.send(asking)
    await vendor.simulator.arrived()
    refused = await ask(asking)
    assert (refused.status, refused.code, refused.headers["retry-after"]) == (503, "spool_full", "5")
    go.set()
    assert (await wire.answer()).status == 200
    assert (await ask(asking)).status == 200
    assert (spool(gateway).held_bytes, spooled_files()) == (0, 0)


async def test_a_whole_upload_goes_out_again_when_the_first_time_nobody_was_there(
    start_gateway: StartGateway, vendor: Vendor, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def pause(pause_s: float) -> None:
        await vendor.simulator.allow()

    monkeypatch.setattr("gateway.app.Attempts", partial(Attempts, pause=pause))
    gateway = await start_gateway(vendor, change=edit(limits__buffer_bytes=10_000))
    await vendor.simulator.refuse()
    body = form(os.urandom(3 * 2**20))
    answer = await ask(request("POST", "/v1/files", body, FORM), of=gateway)
    assert (answer.status, answer.json["bytes"]) == (200, 3 * 2**20)
    (received,) = vendor.simulator.journal
    assert received.digest == hashlib.sha256(body).hexdigest()


@pytest.mark.parametrize("manner", ["says all at once", "says why when it has read all"])
async def test_a_provider_may_answer_an_upload_before_it_has_read_it(
    manner: str, start_gateway: StartGateway, vendor: Vendor, ask: Ask
) -> None:
    """A vendor that refuses an upload by its headers says why, and the caller hears it."""
    words = b'{"error":{"message":"Too big for us.","type":"invalid_request_error","param":null,"code":"big"}}'
    body = form(b"x" * (8 * 2**20))

    async def refuse(wire: Wire) -> None:
        await wire.head()
        head = b"HTTP/1.1 413 Too Large\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        await wire.send(head % len(words) + (words if manner == "says all at once" else b""))
        await wire.exactly(len(body))
        await wire.send(words)

    async with Provider(refuse) as provider:
        gateway = await start_gateway(vendor, change=edit(providers__openai__base_url=provider.url))
        answer = await ask(request("POST", "/v1/files", body, FORM), of=gateway)
    assert (answer.status, answer.code) == (413, "big")


@pytest.mark.parametrize("megabytes", [8, pytest.param(64, marks=pytest.mark.long)])
async def test_an_upload_is_never_whole_in_memory(
    megabytes: int, start_gateway: StartGateway, vendor: Vendor, dial: Dial, spooled_files: Callable[[], int]
) -> None:
    """Nor is the caller read faster than the spool takes it."""
    total = megabytes * 2**20
    answered = b'{"id":"file-1","object":"file"}'
    got = 0

    async def swallow(wire: Wire) -> None:
        nonlocal got
        _, headers = await wire.head()
        while got < int(headers["Content-Length"]):
            got += len(await wire.receive())
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        await wire.send(head % len(answered) + answered)

    async with Provider(swallow) as provider:
        gateway = await start_gateway(vendor, change=edit(providers__openai__base_url=provider.url))
        wire, piece = await dial(gateway), b"x" * 65536
        tracemalloc.start()
        try:
            await wire.send(request("POST", "/v1/files", b"", FORM, length=total))
            for _ in range(total // len(piece)):
                await wire.send(piece)
            answer = await wire.answer()
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert (answer.status, got) == (200, total)
    assert peak_bytes < 6 * 2**20
    assert (spool(gateway).held_bytes, spooled_files()) == (0, 0)


# ---- what is no HTTP -------------------------------------------------------------------------------------------

HELLO = bytes.fromhex("16030100f8010000f40303") + bytes(240)
NONSENSE = {
    "words": b"HELLO\r\n\r\n",
    "TLS": HELLO,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/9.9": b"GET / HTTP/9.9\r\n\r\n",
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n",
    "unknown method": request("BREW", "/v1/threads"),
    "space in path": b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
    "bytes in path": b"GET /\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n",
    "broken absolute path": request("GET", "http://[::1/healthz"),
    "negative length": request("POST", "/v1/threads", b"", "Content-Length: -5"),
    "length in words": request("POST", "/v1/threads", b"", "Content-Length: two"),
    "length with a sign": request("POST", "/v1/threads", b"{}", "Content-Length: +2"),
    "two lengths": request("POST", "/v1/threads", b"{}", "Content-Length: 2", "Content-Length: 3"),
    "length and chunks": request("POST", "/v1/threads", chunked(b""), "Content-Length: 5", CHUNKED),
    "chunks and length": request("POST", "/v1/threads", chunked(b""), CHUNKED, "Content-Length: 5"),
    "unknown coding": request("POST", "/v1/threads", b"", "Transfer-Encoding: gzip"),
    "coding after chunks": request("POST", "/v1/threads", b"", "Transfer-Encoding: chunked, gzip"),
    "folded header": request("GET", "/healthz", b"", "X-A: b\r\n c"),
    "space before colon": request("GET", "/healthz", b"", "X-A : b"),
    "NUL in header": request("GET", "/healthz", b"", "X-A: b\0c"),
    "no number of a chunk": request("POST", "/v1/threads", b"zz\r\n{}\r\n0\r\n\r\n", CHUNKED),
    "longer chunk than told": request("POST", "/v1/threads", b"2\r\n{}xx\r\n0\r\n\r\n", CHUNKED),
    "junk after a request": request("GET", "/healthz") + b"JUNK\r\n\r\n",
    "too many headers": request("GET", "/healthz", b"", *(f"X-{n}: x" for n in range(2000))),
}


@pytest.mark.parametrize("nonsense", NONSENSE)
async def test_what_is_no_http_is_told_so_and_the_connection_closed(
    nonsense: str, dial: Dial, events: Events, vendor: Vendor, gateway: Running
) -> None:
    wire = await dial(gateway)
    await wire.send(NONSENSE[nonsense])
    answer = await wire.answer()
    assert answer.status in (400, 431)
    assert answer.code in ("malformed_request", "headers_too_large")
    assert await wire.rest() == b""
    (event,) = events.named("request.malformed")
    assert answer.headers["x-request-id"] == event["request_id"]
    assert (event["level"], event["status"], event["client"]) == ("info", answer.status, "127.0.0.1")
    assert vendor.simulator.journal == []


@pytest.mark.parametrize("rest", [b"zz\r\n", b"2\r\n{}xx", b"-1\r\n", b"0\r\nbroken trailer\r\n\r\n", HELLO])
async def test_a_body_that_turns_into_nonsense_is_refused(
    rest: bytes, dial: Dial, vendor: Vendor, gateway: Running
) -> None:
    """By then the gateway waits for the rest of the body, and the library does not tell it that none will come."""
    wire = await dial(gateway)
    await wire.send(request("POST", "/v1/threads", b"", EXPECT, CHUNKED, "Content-Type: application/json"))
    await wire.until(b"100 Continue\r\n\r\n")
    await wire.send(chunked(b"{") + rest)
    answer = await wire.answer()
    assert (answer.status in (400, 408), answer.json["error"]["type"]) == (True, "invalid_request_error")
    assert vendor.simulator.journal == []


async def test_requests_may_follow_each_other_without_waiting(dial: Dial, vendor: Vendor, gateway: Running) -> None:
    wire = await dial(gateway)
    await wire.send(
        request("POST", "/v1/threads", b'{"metadata":{"n":"1"}}')
        + request("GET", "/v1/threads/thread_x")
        + request("POST", "/v1/threads", chunked(b'{"metadata":', b'{"n":"2"}}', b""), CHUNKED)
        + request("GET", "/healthz")
    )
    answers = [await wire.answer() for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 404, 200, 200]
    assert [answers[place].json["metadata"] for place in (0, 2)] == [{"n": "1"}, {"n": "2"}]


@pytest.mark.parametrize(
    ("asking", "status"),
    [
        (request("GET", "http://elsewhere.example/healthz"), 200),
        (request("OPTIONS", "*"), 404),
        (request("CONNECT", "elsewhere.example:443"), 404),
        (request("GET", "//healthz"), 404),
        (request("GET", "/v1/threads/%00%0a%ff%zz"), 404),
        (request("GET", "/providers/%ff/v1/assistants"), 404),
        (request("POST", "/v1/threads", b"{}", "Connection: Upgrade", "Upgrade: h2c"), 200),
        (request("GET", "/healthz", b"", "Connection: Upgrade", "Upgrade: websocket"), 200),
        (request("POST", "/v1/threads", b"{}", "Expect: miracles"), 200),
        (request("GET", "/v1/assistants?after=%ff&&=&limit=%00"), 404),
        (request("GET", "/v1/assistants", b"", key="\xff\xfe"), 401),
        (request("PUT", "/v1/threads", b"{}"), 405),
    ],
)
async def test_odd_requests_get_plain_answers(asking: bytes, status: int, ask: Ask) -> None:
    answer = await ask(asking)
    assert answer.status == status
    assert answer.headers["x-request-id"].startswith("req_")
