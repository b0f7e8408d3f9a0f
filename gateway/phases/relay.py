"""Answers that pass through while they arrive: streams event by event, files in pieces.

Reading from the provider and writing to the caller are apart: each can fail, and only one of them is the provider's
fault. Once our headers are out, the one honest end of a broken answer is a broken connection (`BrokenOff`).
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Protocol

from aiohttp import HttpVersion11, web

from gateway import codec
from gateway.config import Listener
from gateway.errors import AttemptFailed, BrokenOff
from gateway.phases.read_facts import Run
from gateway.phases.respond import begin, finish, reach
from gateway.phases.rewrite_events import error_data, is_run, read_object, run_as_events, run_in
from gateway.sse import Event, EventParser, EventTooLarge
from gateway.telemetry import Record
from gateway.upstream import Relayed

_KEEP_ALIVE = b": keep-alive\n"
"""Without a blank line: after one, OpenAI's SDK for Python (1.x to 3.x) tells an empty event where any before it had an
`id`, as those of served runs have, and fails on it."""
_FIELD_NAMES = (b"event:", b"data:", b"id:", b"retry:", b":")
_STREAM_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",
}
_FILE_HEADERS = ("Content-Type", "Content-Disposition")


OnRun = Callable[[Run], Awaitable[None]]


class Rewriter(Protocol):
    """Events of a provider → bytes for the caller. `is_done` once nothing more is to come; `run` as last seen."""

    events: int
    is_done: bool
    run: Run | None

    def __call__(self, event: Event) -> bytes: ...


class Reading:
    """A stream's events as they arrive. Whoever stops half-way leaves the rest to whoever goes on."""

    def __init__(self, answer: Relayed, beginning: bytes, limit_bytes: int) -> None:
        """`beginning` has been read of the answer already; an event may have `limit_bytes`."""
        self.answer = answer
        self._parser = EventParser(limit_bytes)
        self.ready = self._parser.feed(beginning)
        """Events that are whole; an iterator that goes on where it was left. Raises EventTooLarge."""
        self._left = 0

    def take(self) -> Iterator[tuple[Event, bool]]:
        """What is ready, and whether more of it belongs into the same write."""
        for event in self.ready:
            self._left -= 1
            yield event, self._left > 0

    async def read_on(self) -> int:
        """Wait for what comes next, once what was ready has been taken; its bytes, 0 at the end. May be cancelled and
        called again. Raises AttemptFailed."""
        if self.answer.next_events is not None:
            events = await self.answer.next_events()
            self.ready, self._left = iter(events), len(events)
            return sum(len(event.data or b"") for event in events)
        piece = await self.answer.next_piece()
        self.ready = self._parser.feed(piece)
        return len(piece)

    def end(self) -> None:
        """The answer ended in good order."""
        self.ready = self._parser.close()


class _CallerWriter:
    """The way to the caller, with back-pressure: a write waits until the caller has room, for `timeout_s` at most."""

    def __init__(
        self, request: web.BaseRequest, response: web.StreamResponse, timeout_s: float, record: Record
    ) -> None:
        self._request = request
        self._response = response
        self._timeout_s = timeout_s
        self._record = record
        self.bytes_out = 0

    async def write(self, data: bytes) -> None:
        """Raises BrokenOff when the caller left or does not read."""
        await reach(self._request, self._response.write(data), self._timeout_s)
        self.bytes_out += len(data)

    async def write_last(self, data: bytes = b"", **facts: Any) -> None:
        """Write what makes the answer whole, once the record has its `facts` and lets it go."""
        self._record.note(bytes_out=self.bytes_out + len(data), **facts)
        await self._record.end()
        if data:
            await self.write(data)


async def relay_file(
    request: web.BaseRequest,
    answer: Relayed,
    crossing: Mapping[str, str],
    *,
    listener: Listener,
    record: Record,
) -> web.StreamResponse:
    """Pass a file's bytes on. Raises BrokenOff when the provider cuts or stalls, or the caller leaves."""
    told = {name: answer.headers[name] for name in _FILE_HEADERS if name in answer.headers}
    response = web.StreamResponse(headers={**crossing, **told})
    response.content_length = answer.length_bytes
    await begin(request, response, record)
    writer = _CallerWriter(request, response, listener.write_timeout_s, record)
    try:
        while piece := await _next_piece(answer, record):
            is_last = writer.bytes_out + len(piece) == answer.length_bytes
            await (writer.write_last if is_last else writer.write)(piece)
        await writer.write_last()
    except BrokenOff:
        if request.version < HttpVersion11:
            _reset(request)  # to HTTP/1.0 the end of a connection is the end of a file; a reset is not
        raise
    finally:
        record.note(bytes_out=writer.bytes_out)
    await finish(request, response, listener.write_timeout_s)
    return response


def _reset(request: web.BaseRequest) -> None:
    """Break the connection off so that the other side cannot take it for an end in good order."""
    if request.transport is not None:
        no_lingering = struct.pack("ii", 1, 0)
        request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_lingering)
        request.transport.abort()


async def _next_piece(answer: Relayed, record: Record) -> bytes:
    try:
        return await answer.next_piece()
    except AttemptFailed as failed:
        record.note(error_source="provider", error_code=failed.code)
        raise BrokenOff(failed.message) from failed


async def begin_stream(answer: Relayed, limit_bytes: int) -> bytes | dict[str, Any]:
    """What a streamed request got: the first bytes of a stream (often none yet), or the run as one JSON object.

    Vendors mislabel streams and answer plain JSON; both are understood. Raises AttemptFailed for anything else (HTML,
    text, nothing at all), before a byte has gone to the caller.
    """
    if answer.content_type == "text/event-stream":
        return b""
    beginning = b""
    while len(beginning.lstrip()) < len(b"event:") and (piece := await answer.next_piece()):
        beginning += piece
    if beginning.lstrip(b"\xef\xbb\xbf\r\n").startswith(_FIELD_NAMES):
        return beginning
    run = read_object(beginning + await answer.read(limit_bytes))
    if run is None or not is_run(run):
        raise AttemptFailed(
            502,
            "answered a streamed request with something that is not a stream",
            code="provider_broken_answer",
        )
    return run


async def relay_run(
    request: web.BaseRequest,
    run: dict[str, Any],
    crossing: Mapping[str, str],
    *,
    listener: Listener,
    record: Record,
) -> web.StreamResponse:
    """A run that came as one object, in the form of the stream that was asked for."""
    response = web.StreamResponse(headers={**crossing, **_STREAM_HEADERS})
    await begin(request, response, record)
    if record.hear is not None:
        record.hear(f"thread.run.{run['status']}", run, codec.dumps(run))
    await _CallerWriter(request, response, listener.write_timeout_s, record).write_last(run_as_events(run))
    await finish(request, response, listener.write_timeout_s)
    return response


async def relay_stream(
    request: web.BaseRequest,
    reading: Reading,
    rewriter: Rewriter,
    crossing: Mapping[str, str],
    *,
    provider: str,
    on_run: OnRun,
    listener: Listener,
    record: Record,
) -> web.StreamResponse:
    """Pass a stream on until the provider says it is done: one write for each event, or for all that were made here at
    one time. `on_run` hears how the run stands before the caller does.

    A cut, a stall, or an event too large ends in an `error` event and BrokenOff, never in a clean end; so does an
    end without `done` on a connection whose closing says nothing.
    """
    response = web.StreamResponse(headers={**crossing, **_STREAM_HEADERS})
    await begin(request, response, record)
    writer = _CallerWriter(request, response, listener.write_timeout_s, record)
    try:
        await _relay_events(reading, rewriter, writer, on_run=on_run, comment_s=listener.stream_comment_s)
    except (AttemptFailed, EventTooLarge) as failed:
        what = failed.message if isinstance(failed, AttemptFailed) else f"sent {failed}"
        record.note(error_source="provider", error_code="stream_broken")
        message = f"provider '{provider}' {what}; the run may go on there: look at it before you repeat it"
        await writer.write(Event("error", error_data(message, "stream_broken")).encode())
        raise BrokenOff(what) from failed
    finally:
        record.note(bytes_out=writer.bytes_out, events=rewriter.events)
    await finish(request, response, listener.write_timeout_s)
    return response


async def _relay_events(
    reading: Reading, rewriter: Rewriter, writer: _CallerWriter, *, on_run: OnRun, comment_s: float
) -> None:
    run = None
    while True:
        together: list[bytes] = []
        for event, has_more in reading.take():
            together.append(rewriter(event))
            if rewriter.run is not None and rewriter.run is not run:
                run = rewriter.run
                await on_run(run)
            if has_more and not rewriter.is_done:
                continue
            if rewriter.is_done or (run is not None and run.is_over):
                await writer.write_last(b"".join(together), events=rewriter.events)
            else:
                await writer.write(b"".join(together))
            if rewriter.is_done:
                return
            together.clear()
        if not await _read_on_or_comment(reading, writer, comment_s):
            break
    if not reading.answer.has_framed_end:
        raise AttemptFailed(502, "cut the stream off", code="provider_broken_answer")
    reading.end()
    for event in reading.ready:
        await writer.write(rewriter(event))
    await writer.write_last(events=rewriter.events)


async def hear_run(reading: Reading, on_run: OnRun, limit_bytes: int) -> None:
    """Read on, for nobody, until the stream tells of its run: it works whether somebody listens or not. A stream that
    has told nothing after `limit_bytes` will not. Raises AttemptFailed and EventTooLarge."""
    while limit_bytes > 0:
        for event in reading.ready:
            if (run := run_in(event)) is not None:
                await on_run(run)
                return
        size_bytes = await reading.read_on()
        if not size_bytes:
            return
        limit_bytes -= size_bytes


async def _read_on_or_comment(reading: Reading, writer: _CallerWriter, comment_s: float) -> int:
    """`reading.read_on`; comments go out while the stream is silent. Raises AttemptFailed."""
    while True:
        try:
            async with asyncio.timeout(comment_s):
                return await reading.read_on()
        except TimeoutError:
            await writer.write(_KEEP_ALIVE)
