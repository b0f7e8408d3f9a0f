"""Answers that pass through while they arrive, and what becomes of them when one of the two ends fails."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import tracemalloc
from collections.abc import AsyncGenerator
from functools import partial
from typing import Any

import aiohttp
import openai
import orjson
import pytest
from aiohttp import web

from gateway.attempts import Attempts
from tests.conftest import Dial, Events, Running, StartGateway, StartVendor, Vendor, edit, public_id
from tests.simulators import faults
from tests.simulators.faults import Act, Exchange
from tests.wire import Provider, Wire, chunked, request

# The SDK marks every Assistants method as deprecated, in words that vary.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

RUN = request("POST", "/v1/threads/runs", b'{"stream":true}')
"""Asks for a stream without naming anything, which only a provider without a memory answers."""
DONE = b"event: done\ndata: [DONE]\n\n"
BREAKS = (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)


@pytest.fixture
async def vendor(start_vendor: StartVendor) -> Vendor:
    return await start_vendor("openai")


@pytest.fixture
async def gateway(start_gateway: StartGateway, vendor: Vendor) -> Running:
    return await start_gateway(vendor)


def stream(*chunks: bytes) -> Act:
    return faults.garbage(list(chunks), "text/event-stream", applied=False)


async def ask_for_run(gateway: Running, text: str = "Hello") -> bytes:
    """The bytes that ask for a streamed run of a real assistant."""
    status, assistant, _ = await gateway.call("POST", "/v1/assistants", {"model": "m"})
    assert status == 200
    thread = {"messages": [{"role": "user", "content": text}]}
    body = {"assistant_id": assistant["id"], "thread": thread, "stream": True}
    return request("POST", "/v1/threads/runs", orjson.dumps(body))


async def upload(gateway: Running, data: bytes) -> str:
    async with gateway.sdk() as client:
        return (await client.files.create(file=("a.bin", data, "application/x-a"), purpose="assistants")).id


def last(events: Events) -> dict[str, Any]:
    return events.named("request.done")[-1]


async def done(events: Events, *, count: int, vendor: Vendor) -> dict[str, Any]:
    """The line of the request after `count` others, which is written when everything of it has ended."""
    async with asyncio.timeout(5):
        while len(events.named("request.done")) <= count:
            await asyncio.sleep(0)
    return last(events)


# ---- as it arrives ---------------------------------------------------------------------------------------------


async def test_events_reach_the_caller_while_the_provider_still_thinks(
    gateway: Running, vendor: Vendor, dial: Dial
) -> None:
    """Headers before the first event, each event before the next, one write for each."""
    asking = await ask_for_run(gateway)
    stalls = [asyncio.Event() for _ in range(3)]

    async def step_by_step(exchange: Exchange) -> web.StreamResponse:
        async def halting() -> AsyncGenerator[bytes, None]:
            for stall, event in itertools.zip_longest(stalls, reply.events or ()):
                if stall is not None:
                    await stall.wait()
                yield event

        reply = exchange.work()
        return await exchange.send(reply, halting())

    vendor.simulator.faults.add(step_by_step, path="/runs$")
    wire = await dial(gateway)
    await wire.send(asking)
    first, headers = await wire.head()
    assert first == "HTTP/1.1 200 OK"
    assert headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert (headers["Cache-Control"], headers["X-Accel-Buffering"]) == ("no-cache", "no")
    assert "Content-Length" not in headers
    assert headers["x-upstream-request-id"].startswith("req_")
    names = []
    for stall in stalls:
        stall.set()
        names.append((await wire.frame()).partition(b"\n")[0])
    assert names == [b"event: thread.created", b"event: thread.run.created", b"event: thread.run.queued"]
    frames = [frame async for frame in wire._frames()]
    assert all(frame.count(b"\n\n") == 1 and frame.endswith(b"\n\n") for frame in frames)
    assert frames[-1] == DONE


async def test_the_sdk_reads_a_stream_of_a_real_run(gateway: Running, vendor: Vendor, events: Events) -> None:
    async with gateway.sdk() as client:
        assistant = await client.beta.assistants.create(model="m")
        thread = await client.beta.threads.create(messages=[{"role": "user", "content": "Hello 👋"}])
        async with client.beta.threads.runs.stream(thread_id=thread.id, assistant_id=assistant.id) as reading:
            text = "".join([delta async for delta in reading.text_deltas])
            run = await reading.get_final_run()
    assert (text, run.status, run.thread_id) == ("You said: Hello 👋", "completed", thread.id)
    line = last(events)
    assert (line["status"], line["events"] > 10, line["bytes_out"] > 1000) == (200, True, True)


async def test_a_silent_stream_is_kept_alive_by_comments(
    start_gateway: StartGateway, vendor: Vendor, dial: Dial
) -> None:
    gateway = await start_gateway(vendor, change=edit(listener__stream_comment_s=0.02))
    asking, go = await ask_for_run(gateway), asyncio.Event()
    vendor.simulator.faults.add(faults.stall_stream(1, go), path="/runs$")
    wire = await dial(gateway)
    await wire.send(asking)
    await wire.head()
    frames = [await wire.frame() for _ in range(4)]
    assert frames[0].startswith(b"event: thread.created\n")
    assert frames[1:] == [b": keep-alive\n"] * 3
    go.set()
    rest = [frame async for frame in wire._frames()]
    assert rest[-1] == DONE

    async with gateway.sdk() as client:
        assistant = await client.beta.assistants.create(model="m", instructions="x")
        comments, go = asyncio.Event(), asyncio.Event()
        vendor.simulator.faults.add(faults.stall_stream(3, go), path="/runs$")
        async with client.beta.threads.create_and_run_stream(assistant_id=assistant.id) as reading:
            async for _ in reading:
                if not comments.is_set():
                    comments.set()
                    asyncio.get_running_loop().call_later(0.05, go.set)
            assert (await reading.get_final_run()).status == "completed"


MESSAGE = b'{"id":"msg_%d","object":"thread.message.delta"}'
SAMPLE = [
    b": a comment\n\n",
    b"event: thread.message.delta\ndata: " + MESSAGE % 1 + b"\n\n",
    b'id: 7\nretry: 10\nevent: thread.unheard.of\ndata: {"a":1}\n\n',
    b"event: text\ndata: no JSON: {\ndata: in two lines\ndata:  \xe2\x80\xa8\n\n",
    b'data: {"a":\ndata: 2}\n\n',
    b"event: empty\ndata: \n\n",
    DONE,
]
RELAYED = [
    *SAMPLE[:1],
    SAMPLE[1].replace(b"msg_1", public_id("message", "msg_1").encode()),
    *SAMPLE[2:4],
    b'data: {"a":2}\n\n',
    *SAMPLE[5:],
]


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
async def test_events_survive_being_cut_anywhere(line_end: bytes, gateway: Running, vendor: Vendor, dial: Dial) -> None:
    """Comments, ids, unknown events, data of several lines and data that is no JSON included."""
    whole = b"".join(SAMPLE).replace(b"\n", line_end)
    wire = await dial(gateway)

    async def relayed(*chunks: bytes) -> list[bytes]:
        vendor.simulator.faults.add(stream(*chunks))
        await wire.send(RUN)
        return (await wire.answer()).frames

    assert await relayed(whole) == RELAYED
    assert await relayed(*(whole[place : place + 1] for place in range(len(whole)))) == RELAYED
    for place in range(1, len(whole)):
        assert await relayed(whole[:place], whole[place:]) == RELAYED, place


async def test_what_follows_done_is_left_and_what_lacks_a_blank_line_is_not(
    vendor: Vendor, gateway: Running, dial: Dial
) -> None:
    wire = await dial(gateway)
    for chunks, frames in (
        ((b"data: 1\n\n", DONE + b"data: 2\n\n", b"data: 3\n\n"), [b"data: 1\n\n", DONE]),
        ((b"data: 1\n\ndata: 2",), [b"data: 1\n\n", b"data: 2\n\n"]),
        ((b"data: 1\n\n\n\n\n",), [b"data: 1\n\n"]),
        ((b"\xef\xbb\xbfdata: 1\n\n",), [b"data: 1\n\n"]),
    ):
        vendor.simulator.faults.add(stream(*chunks))
        await wire.send(RUN)
        assert (await wire.answer()).frames == frames


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/octet-stream"])
async def test_a_stream_under_a_false_name_is_a_stream(kind: str, vendor: Vendor, gateway: Running, dial: Dial) -> None:
    wire = await dial(gateway)
    whole = b"".join(SAMPLE)
    for chunks in ([whole], [whole[:1], whole[1:3], whole[3:]]):
        vendor.simulator.faults.add(faults.garbage(chunks, kind, applied=False))
        await wire.send(RUN)
        answer = await wire.answer()
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        assert answer.frames == RELAYED


async def test_streams_leave_their_connection_to_the_next(start_gateway: StartGateway, vendor: Vendor) -> None:
    """A new TLS connection for each run would cost more than the run's first event."""

    async def answer_all(wire: Wire) -> None:
        while True:
            await wire.request()
            await wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            await wire.send(chunked(DONE, b""))

    async with Provider(answer_all) as provider:
        gateway = await start_gateway(vendor, change=edit(providers__openai__base_url=provider.url))
        for _ in range(3):
            assert (await gateway.call("POST", "/v1/threads/runs", {"stream": True}))[0] == 200
        assert provider.connections == 1


# ---- the provider fails ----------------------------------------------------------------------------------------


async def stalls(exchange: Exchange) -> web.StreamResponse:
    return await faults.stall_stream(3, asyncio.Event())(exchange)


BROKEN: dict[str, tuple[Act, str]] = {
    "cut between events": (faults.cut(0), "cut the answer off"),
    "cut in an event": (faults.cut(1000), "cut the answer off"),
    "reset in an event": (faults.cut(1000, reset=True), "cut the answer off"),
    "stalls": (stalls, "sent nothing for 0.15 s"),
    "too large an event": (faults.transform(lambda body: [b"data: " + b"x" * 70_000]), "more than 65536 bytes"),
}


@pytest.mark.parametrize("fault", BROKEN)
async def test_a_broken_stream_ends_in_an_error_and_a_broken_connection(
    fault: str, start_gateway: StartGateway, vendor: Vendor, events: Events
) -> None:
    """Never in a clean end, which would make half an answer look whole."""
    change = edit(providers__openai__timeouts={"idle_s": 0.15}, limits__answer_bytes=65536)
    gateway = await start_gateway(vendor, change=change)
    act, words = BROKEN[fault]
    asking = await ask_for_run(gateway)
    body = orjson.loads(asking.partition(b"\r\n\r\n")[2])
    for _ in range(2):
        vendor.simulator.faults.add(act, path="/runs$")

    headers = {"Authorization": "Bearer alice-key"}
    pieces: list[bytes] = []
    async with gateway.session.post(f"{gateway.url}/v1/threads/runs", json=body, headers=headers) as response:
        assert response.status == 200
        with pytest.raises(BREAKS):
            await read_into(pieces, response)
    name, data = b"".join(pieces).removesuffix(b"\n\n").rpartition(b"\n\n")[2].split(b"\n")
    error = orjson.loads(data.removeprefix(b"data: "))["error"]
    assert name == b"event: error"
    assert (error["type"], error["param"], error["code"]) == ("server_error", None, "stream_broken")
    assert words in error["message"]
    assert error["message"].startswith("provider 'openai' ")
    line = last(events)
    assert (line["outcome"], line["error_code"], line["error_source"]) == ("broken_off", "stream_broken", "provider")
    assert line["level"] == "warning"

    async with gateway.sdk(max_retries=2) as client:
        with pytest.raises(openai.APIError, match=words):
            async for _ in await client.beta.threads.create_and_run(**body):
                pass
    assert vendor.simulator.created["run"] == 2


async def read_into(pieces: list[bytes], response: aiohttp.ClientResponse) -> None:
    async for piece in response.content.iter_any():
        pieces.append(piece)


@pytest.mark.parametrize("is_done", [True, False])
async def test_an_end_that_only_closing_tells_is_a_cut_unless_done_was_said(
    is_done: bool, start_gateway: StartGateway, vendor: Vendor, dial: Dial
) -> None:
    async def answer(wire: Wire) -> None:
        await wire.request()
        await wire.send(b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        if is_done:
            await wire.send(DONE)

    async with Provider(answer) as provider:
        gateway = await start_gateway(vendor, change=edit(providers__openai__base_url=provider.url))
        wire = await dial(gateway)
        await wire.send(RUN)
        await wire.head()
        assert await wire.frame() == b"data: 1\n\n"
        second = await wire.frame()
        if is_done:
            assert (second, await wire.frame()) == (DONE, b"")
        else:
            assert b"cut the stream off" in second
            with pytest.raises(EOFError):
                await wire.frame()


@pytest.mark.parametrize("pace", ["slowly", "without a pause"])
async def test_a_stream_has_a_longest_duration(
    pace: str, start_gateway: StartGateway, vendor: Vendor, dial: Dial
) -> None:
    async def chatter(wire: Wire) -> None:
        await wire.request()
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        piece = chunked(b"data: x\n\n") * (1 if pace == "slowly" else 500)
        while True:
            await wire.send(piece)
            await asyncio.sleep(0.01 if pace == "slowly" else 0)

    async with Provider(chatter) as provider:
        change = edit(providers__openai={"base_url": provider.url, "timeouts": {"total_s": 0.2}})
        gateway = await start_gateway(vendor, change=change)
        wire = await dial(gateway)
        await wire.send(RUN)
        async with asyncio.timeout(3):
            assert b"took longer than 0.2 s in all" in await wire.rest()


@pytest.mark.parametrize("kind", ["stream", "file"])
async def test_a_slow_caller_does_not_make_an_answer_last_longer(
    kind: str, start_gateway: StartGateway, vendor: Vendor, dial: Dial
) -> None:
    """Not even when the provider's next piece is always there already."""
    asking, head, piece = FLOODS[kind]
    flood = Flood(head, piece)
    async with Provider(flood) as provider:
        change = edit(providers__openai={"base_url": provider.url, "timeouts": {"total_s": 0.3}})
        gateway = await start_gateway(vendor, change=change)
        wire = await dial(gateway, receive_buffer_bytes=2**16)
        await wire.send(asking)
        reading = asyncio.create_task(slowly(wire))
        async with asyncio.timeout(3):
            await flood.refused.wait()
        reading.cancel()


async def slowly(wire: Wire) -> None:
    while await wire.receive():
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b'{"message":"Boom in msg_1","type":"server_error","code":"x"}', {"message": "Boom in msg_1", "code": "x"}),
        (b'{"error":{"message":"Boom","code":"y"}}', {"message": "Boom", "code": "y"}),
        (b"Boom, no JSON", {"message": "Boom, no JSON", "code": "provider_error"}),
    ],
    ids=["unwrapped", "wrapped", "text"],
)
async def test_a_vendors_error_event_raises_in_the_sdk(
    data: bytes, error: dict[str, str], gateway: Running, vendor: Vendor, dial: Dial
) -> None:
    """Unwrapped it would raise nothing there, and the stream would seem to have ended well."""
    for _ in range(2):
        vendor.simulator.faults.add(stream(b"event: error\ndata: " + data + b"\n\n", DONE))
    wire = await dial(gateway)
    await wire.send(RUN)
    told, ended = (await wire.answer()).frames
    given = orjson.loads(told.removeprefix(b"event: error\ndata: "))["error"]
    assert {name: given[name] for name in error} == error
    assert ended == DONE
    async with gateway.sdk() as client:
        with pytest.raises(openai.APIError, match=error["message"]):
            async for _ in await client.beta.threads.create_and_run(assistant_id=openai.omit, stream=True):  # type: ignore[call-overload]
                pass


# ---- the caller leaves -----------------------------------------------------------------------------------------


def dribble(exchange_bytes: int) -> Act:
    async def act(exchange: Exchange) -> web.StreamResponse:
        return await faults.slow(exchange_bytes, asyncio.Event().wait)(exchange)  # type: ignore[arg-type]

    return act


async def hold(exchange: Exchange) -> web.StreamResponse:
    return await faults.hold(asyncio.Event())(exchange)


PHASES: dict[str, tuple[str, Act, bytes]] = {
    "waiting for JSON": ("GET /v1/threads/{thread}", hold, b""),
    "reading JSON": ("GET /v1/threads/{thread}", dribble(10), b""),
    "in a stream": ("run", stalls, b"thread.run.queued"),
    "in a file": ("GET /v1/files/{file}/content", dribble(1000), b"xxx"),
    "waiting for a file": ("GET /v1/files/{file}/content", hold, b""),
    "in a list of objects": ("GET /v1/files", hold, b""),
}
"""What is asked, how the provider lets it wait, and what the caller has seen before it goes. Who leaves before the
provider has told of the run is heard out first, see `test_settlement.py`."""


@pytest.mark.parametrize("manner", ["closes", "resets", "half closes"])
@pytest.mark.parametrize("phase", PHASES)
async def test_a_caller_who_leaves_frees_the_provider_at_once(
    phase: str, manner: str, gateway: Running, vendor: Vendor, events: Events, dial: Dial
) -> None:
    """Whoever closes only its sending half counts as gone, too: nothing tells that from having left."""
    asked, act, mark = PHASES[phase]
    file = await upload(gateway, b"x" * 100_000)
    _, thread, _ = await gateway.call("POST", "/v1/threads", {})
    asking = await ask_for_run(gateway)
    if asked != "run":
        method, path = asked.format(file=file, thread=thread["id"]).split(" ")
        asking = request(method, path)
    before, seen = len(vendor.simulator.journal), len(events.named("request.done"))
    vendor.simulator.faults.add(act)
    wire = await dial(gateway)
    await wire.send(asking)
    received = await vendor.simulator.arrived(before + 1)
    if mark:
        await wire.until(mark)
    if manner == "half closes":
        wire.half_close()
        await wire.rest()
    else:
        wire.close(reset=manner == "resets")
    assert await vendor.simulator.disconnected(received) < 0.1
    line = await done(events, count=seen, vendor=vendor)
    assert (line["outcome"], line["level"]) == ("caller_left", "info")
    assert "error_source" not in line
    assert (await gateway.call("GET", f"/v1/threads/{thread['id']}"))[0] == 200


async def test_a_caller_may_leave_while_its_upload_goes_to_the_provider(
    start_gateway: StartGateway, vendor: Vendor, events: Events, dial: Dial
) -> None:
    total = 16 * 2**20
    begun, left = asyncio.Event(), asyncio.Event()
    got: list[int] = []

    async def read_late(wire: Wire) -> None:
        await wire.head()
        begun.set()
        await left.wait()
        got.append(len(await wire.rest()))

    async with Provider(read_late) as provider:
        gateway = await start_gateway(vendor, change=edit(providers__openai__base_url=provider.url))
        wire = await dial(gateway)
        form = "Content-Type: multipart/form-data; boundary=b"
        await wire.send(request("POST", "/v1/files", b"", form, length=total))
        for _ in range(total // 2**20):
            await wire.send(b"x" * 2**20)
        await begun.wait()
        wire.close()
        line = await done(events, count=0, vendor=vendor)
        left.set()
        async with asyncio.timeout(5):
            while not got:
                await asyncio.sleep(0)
    assert line["outcome"] == "caller_left"
    assert got[0] < total


async def test_a_caller_may_leave_between_two_attempts(
    start_gateway: StartGateway,
    vendor: Vendor,
    events: Events,
    dial: Dial,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pausing = asyncio.Event()

    async def pause(pause_s: float) -> None:
        pausing.set()
        await asyncio.Event().wait()

    monkeypatch.setattr("gateway.app.Attempts", partial(Attempts, pause=pause))
    gateway = await start_gateway(vendor)
    _, thread, _ = await gateway.call("POST", "/v1/threads", {})
    vendor.simulator.faults.add(faults.status(503))
    wire = await dial(gateway)
    await wire.send(request("GET", f"/v1/threads/{thread['id']}"))
    await pausing.wait()
    wire.close()
    line = await done(events, count=1, vendor=vendor)
    assert line["outcome"] == "caller_left"
    assert [attempt["status"] for attempt in line["attempts"]] == [503]


# ---- the caller is slow ----------------------------------------------------------------------------------------


class Flood:
    """A provider that sends 64 MB as fast as they are taken, and tells how many were."""

    TOTAL_BYTES = 64 * 2**20

    def __init__(self, head: bytes, piece: bytes) -> None:
        self.taken_bytes = 0
        self.at_rest, self.refused = asyncio.Event(), asyncio.Event()
        self._head = b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n"
        self._piece = piece

    async def __call__(self, wire: Wire) -> None:
        await wire.request()
        await wire.send(self._head)
        try:
            while self.taken_bytes < self.TOTAL_BYTES:
                await self._send(wire)
        except ConnectionError:
            self.refused.set()
        self.at_rest.set()

    async def _send(self, wire: Wire) -> None:
        """One piece. At rest is a flood of which nothing is taken for 0.2 s."""
        sending = asyncio.create_task(wire.send(self._piece, within_s=10))
        await asyncio.wait((sending,), timeout=0.2)
        if not sending.done():
            self.at_rest.set()
        await sending
        self.taken_bytes += len(self._piece)


FLOODS = {
    "stream": (
        RUN,
        b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked",
        chunked(b"data: " + b"x" * 4088 + b"\n\n") * 16,
    ),
    "file": (
        request("GET", f"/v1/files/{public_id('file', 'file-1')}/content"),
        b"Content-Type: a/b\r\nContent-Length: %d" % Flood.TOTAL_BYTES,
        b"x" * 65536,
    ),
}


@pytest.mark.parametrize("kind", ["stream", "file"])
async def test_a_caller_who_does_not_read_holds_the_provider_back_and_is_cut_in_the_end(
    kind: str, start_gateway: StartGateway, vendor: Vendor, events: Events, dial: Dial
) -> None:
    """Neither the gateway's memory nor the provider pays for it."""
    asking, head, piece = FLOODS[kind]
    flood = Flood(head, piece)
    async with Provider(flood, send_buffer_bytes=65536) as provider:
        change = edit(providers__openai__base_url=provider.url, listener__write_timeout_s=0.3)
        gateway = await start_gateway(vendor, change=change)
        wire = await dial(gateway, receive_buffer_bytes=4096)
        tracemalloc.start()
        try:
            await wire.send(asking)
            async with asyncio.timeout(10):
                await flood.refused.wait()
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak_bytes < 3 * 2**20
        assert flood.taken_bytes < flood.TOTAL_BYTES / 2
        async with asyncio.timeout(10):
            line = await done(events, count=0, vendor=vendor)
            await closed(gateway)
    assert (line["outcome"], line["error"]) == ("broken_off", "the caller did not read for listener.write_timeout_s")
    assert "error_source" not in line


async def closed(gateway: Running) -> None:
    """Wait until no caller's connection is held any more."""
    assert gateway.app._server is not None
    while gateway.app._server.connections:
        await asyncio.sleep(0)


async def test_a_caller_who_does_not_read_a_large_answer_is_cut_in_the_end(
    start_gateway: StartGateway, vendor: Vendor, events: Events, dial: Dial
) -> None:
    """Whole answers are held in memory until they are taken: they must not be held for ever."""
    large = orjson.dumps({"id": "thread_1", "object": "thread", "metadata": {"a": "x" * (16 * 2**20)}})
    vendor.simulator.faults.add(faults.garbage(large, "application/json", applied=False))
    gateway = await start_gateway(vendor, change=edit(listener__write_timeout_s=0.2))
    wire = await dial(gateway, receive_buffer_bytes=4096)
    await wire.send(request("POST", "/v1/threads", b"{}"))
    async with asyncio.timeout(5):
        line = await done(events, count=0, vendor=vendor)
        await closed(gateway)
    assert (line["outcome"], line["error"]) == ("broken_off", "the caller did not read for listener.write_timeout_s")


async def test_a_slow_caller_gets_everything_in_the_end(
    start_gateway: StartGateway, vendor: Vendor, dial: Dial
) -> None:
    """Slowness alone is no fault: only a pause of write_timeout_s is."""
    asking, head, piece = FLOODS["file"]
    flood = Flood(head, piece)
    async with Provider(flood, send_buffer_bytes=65536) as provider:
        change = edit(providers__openai__base_url=provider.url, listener__write_timeout_s=5)
        gateway = await start_gateway(vendor, change=change)
        wire = await dial(gateway, receive_buffer_bytes=2**20)
        await wire.send(asking)
        async with asyncio.timeout(10):
            await flood.at_rest.wait()
        answer = await wire.answer()
    assert len(answer.body) == Flood.TOTAL_BYTES


# ---- files -----------------------------------------------------------------------------------------------------


async def test_a_file_passes_in_pieces_with_its_type_and_length(
    gateway: Running, vendor: Vendor, dial: Dial, events: Events
) -> None:
    data = bytes(range(256)) * 1000
    file, go = await upload(gateway, data), asyncio.Event()
    vendor.simulator.faults.add(faults.slow(len(data) // 2, go.wait), path="/content$")  # type: ignore[arg-type]
    wire = await dial(gateway)
    await wire.send(request("GET", f"/v1/files/{file}/content"))
    first, headers = await wire.head()
    assert first == "HTTP/1.1 200 OK"
    assert (headers["Content-Type"], headers["Content-Length"]) == ("application/x-a", str(len(data)))
    assert headers["Content-Disposition"] == 'attachment; filename="a.bin"'
    half = await wire.exactly(len(data) // 2)
    go.set()
    assert half + await wire.exactly(len(data) // 2) == data
    assert last(events)["bytes_out"] == len(data)
    async with gateway.sdk() as client:
        assert (await client.files.content(file)).content == data


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n"]
)
@pytest.mark.parametrize("manner", ["closed", "reset", "stalled"])
async def test_a_file_that_is_cut_never_looks_whole(
    head: bytes, manner: str, start_gateway: StartGateway, vendor: Vendor, events: Events, dial: Dial
) -> None:
    is_chunked, shown = b"chunked" in head, asyncio.Event()

    async def half(wire: Wire) -> None:
        await wire.request()
        await wire.send(head + b"Content-Type: a/b\r\n\r\n" + (chunked(b"half") if is_chunked else b"half"))
        await shown.wait()
        if manner == "stalled":
            await wire.rest()
        wire.close(reset=manner == "reset")

    async with Provider(half) as provider:
        change = edit(providers__openai={"base_url": provider.url, "timeouts": {"idle_s": 0.2}})
        gateway = await start_gateway(vendor, change=change)
        wire = await dial(gateway)
        await wire.send(request("GET", f"/v1/files/{public_id('file', 'file-1')}/content"))
        _, headers = await wire.head()
        assert ("Content-Length" in headers) is not is_chunked
        assert await (wire.frame() if is_chunked else wire.exactly(4)) == b"half"
        shown.set()
        assert await wire.rest() == b""
    line = await done(events, count=0, vendor=vendor)
    assert (line["outcome"], line["error_source"]) == ("broken_off", "provider")
    assert line["error_code"] == ("provider_timeout" if manner == "stalled" else "provider_broken_answer")


async def test_a_file_that_comes_packed_all_the_same_is_unpacked(
    start_gateway: StartGateway, vendor: Vendor, dial: Dial
) -> None:
    """It was asked for plain; its length and encoding must not be told of what they do not fit."""
    packed = gzip.compress(b"plain " * 1000)

    async def send_packed(wire: Wire) -> None:
        _, headers, _ = await wire.request()
        assert headers["Accept-Encoding"] == "identity"
        head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
        await wire.send(head % len(packed) + packed)

    async with Provider(send_packed) as provider:
        gateway = await start_gateway(vendor, change=edit(providers__openai__base_url=provider.url))
        wire = await dial(gateway)
        await wire.send(request("GET", f"/v1/files/{public_id('file', 'file-1')}/content"))
        answer = await wire.answer()
    assert answer.body == b"plain " * 1000
    assert not {"Content-Encoding", "Content-Length"} & set(answer.headers)


# ---- old callers, and those who want only headers --------------------------------------------------------------


async def test_a_caller_of_http_1_0_gets_answers_streams_and_files(
    gateway: Running, vendor: Vendor, dial: Dial
) -> None:
    asking, file = await ask_for_run(gateway), await upload(gateway, b"data")
    for bytes_asked, beginning, end in (
        (request("POST", "/v1/threads", b"{}"), b'{"id":"thread_', b"}"),
        (asking, b"event: thread.created\n", DONE),
        (request("GET", f"/v1/files/{file}/content"), b"data", b"data"),
    ):
        wire = await dial(gateway)
        await wire.send(bytes_asked.replace(b"HTTP/1.1", b"HTTP/1.0", 1))
        first, headers = await wire.head()
        assert first == "HTTP/1.0 200 OK"
        assert "Transfer-Encoding" not in headers
        body = await wire.rest()
        assert (body.startswith(beginning), body.endswith(end)) == (True, True)


async def test_a_broken_stream_is_told_to_a_caller_of_http_1_0_too(
    gateway: Running, vendor: Vendor, dial: Dial
) -> None:
    asking = await ask_for_run(gateway)
    vendor.simulator.faults.add(faults.cut(1000), path="/runs$")
    wire = await dial(gateway)
    await wire.send(asking.replace(b"HTTP/1.1", b"HTTP/1.0", 1))
    assert b"stream_broken" in (await wire.rest()).split(b"\n\n")[-2]


async def test_a_cut_file_is_told_to_a_caller_of_http_1_0_too(
    start_gateway: StartGateway, vendor: Vendor, dial: Dial
) -> None:
    async def half(wire: Wire) -> None:
        await wire.request()
        await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"half"))

    async with Provider(half) as provider:
        gateway = await start_gateway(vendor, change=edit(providers__openai__base_url=provider.url))
        wire = await dial(gateway)
        await wire.send(request("GET", f"/v1/files/{public_id('file', 'file-1')}/content", version="1.0"))
        await wire.until(b"half")
        with pytest.raises(ConnectionResetError):
            await wire.receive()


async def test_head_has_no_body_and_leaves_the_connection_usable(gateway: Running, dial: Dial) -> None:
    wire = await dial(gateway)
    for path, status in (("/v1/threads", 405), ("/v1/nothing", 404), ("/v1/threads", 405)):
        await wire.send(request("HEAD", path))
        answer = await wire.answer(has_body=False)
        assert answer.status == status
        assert int(answer.headers["Content-Length"]) > 0
    await wire.send(request("POST", "/v1/threads", b"{}"))
    assert (await wire.answer()).json["object"] == "thread"
