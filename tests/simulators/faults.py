"""The ways in which a simulator fails: `simulator.faults.add(cut(100), method="POST", path="/runs$")`.

Each says whether the work was done, that is, whether the state changed, before the caller saw it fail:

    done       hold, cut, cut_stream, cut_behind, cut_before_answer, slow, transform, stall_stream, garbage
    not done   cut_before_work, status

`status` and `garbage` take `applied` to say otherwise. A simulator that refuses connections is not in this
programme: see `Simulator.refuse`.
"""

import asyncio
import re
import socket
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from aiohttp import web
from multidict import CIMultiDict

from tests.simulators.threads_server.ask import Ask
from tests.simulators.threads_server.refusal import Refused
from tests.simulators.threads_server.server import Reply, ThreadsServer, encode_json

Hook = Callable[[], Awaitable[None]]


@dataclass(eq=False)
class Received:
    """One request. The body of a large one is left out; its SHA-256 and length always tell."""

    method: str
    path: str
    """As on the wire, without the query."""
    query: str
    headers: CIMultiDict[str]
    body: bytes
    digest: str
    length: int
    key: str | None
    account: str | None
    """Whose the key is; None when it is not known."""
    ending: str = ""
    """`answered`, `left` when the caller went first, `cut` when a fault broke off, empty until then."""


@dataclass
class Exchange:
    """What a fault has to work with."""

    server: ThreadsServer
    request: web.Request
    received: Received
    ask: Ask

    def work(self) -> Reply:
        """Do what is asked, and change the state."""
        return self.server.reply(self.ask)

    async def send(self, reply: Reply, chunks: AsyncGenerator[bytes, None] | None = None) -> web.StreamResponse:
        if chunks is None:
            return await self.server.send(self.request, reply)
        return await self.server.send_chunks(self.request, reply, chunks)

    async def abort(self, *, reset: bool = False) -> NoReturn:
        """Close the connection once what was written has left; with `reset` as RST instead of FIN."""
        self.received.ending = "cut"
        transport = self.request.transport
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(high=1)  # at 0 a TLS transport pauses for ever, with nothing to write
        await self.request.writer.drain()
        if reset:
            linger = struct.pack("ii", 1, 0)
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        transport.abort()
        await asyncio.Event().wait()  # until aiohttp cancels this handler because its connection is lost
        raise AssertionError("a handler outlived its connection")


Act = Callable[[Exchange], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Match:
    """Which requests are meant; `path` is a regular expression that is searched for in the path."""

    method: str | None = None
    path: str = ""
    where: Callable[[Received], bool] = lambda received: True

    def fits(self, received: Received) -> bool:
        is_meant = self.method in (None, received.method) and re.search(self.path, received.path)
        return bool(is_meant) and self.where(received)


@dataclass(eq=False)
class Fault:
    """An act and when it applies; `hits` are the requests it was applied to."""

    act: Act
    match: Match
    times: int | None
    skip: int
    hits: list[Received] = field(default_factory=list)


@dataclass
class Programme:
    """The faults to come. Of several that fit a request the first one is applied, until it is used up."""

    faults: list[Fault] = field(default_factory=list)

    def add(
        self,
        act: Act,
        *,
        method: str | None = None,
        path: str = "",
        where: Callable[[Received], bool] = lambda received: True,
        times: int | None = 1,
        skip: int = 0,
    ) -> Fault:
        """`times` None means always; `skip` lets the first fitting requests pass."""
        fault = Fault(act, Match(method, path, where), times, skip)
        self.faults.append(fault)
        return fault

    def clear(self) -> None:
        self.faults.clear()

    def take(self, received: Received) -> Fault | None:
        for fault in self.faults:
            if not fault.match.fits(received) or len(fault.hits) == fault.times:
                continue
            if fault.skip:
                fault.skip -= 1
                continue
            fault.hits.append(received)
            return fault
        return None


def status(
    code: int,
    body: bytes | dict[str, Any] | None = None,
    *,
    headers: dict[str, str] | None = None,
    content_type: str = "application/json",
    applied: bool = False,
) -> Act:
    """Answer so; without a body with an error in the vendor's envelope."""

    async def act(exchange: Exchange) -> web.StreamResponse:
        if applied:
            exchange.work()
        told = exchange.server.dialect.error_body(Refused(f"Simulated {code}.", status=code)) if body is None else body
        payload = told if isinstance(told, bytes) else encode_json(told)
        return await exchange.send(Reply(code, {"Content-Type": content_type, **(headers or {})}, payload))

    return act


def garbage(chunks: bytes | list[bytes], content_type: str = "text/html", *, applied: bool = True) -> Act:
    """Answer 200 with this; a list is sent chunk by chunk."""
    events = tuple(chunks) if isinstance(chunks, list) else None
    body = chunks if isinstance(chunks, bytes) else b""
    reply = Reply(200, {"Content-Type": content_type}, body, events)

    async def act(exchange: Exchange) -> web.StreamResponse:
        if applied:
            exchange.work()
        return await exchange.send(reply)

    return act


def hold(until: asyncio.Event) -> Act:
    """Do the work, but keep status and headers back."""

    async def act(exchange: Exchange) -> web.StreamResponse:
        reply = exchange.work()
        await until.wait()
        return await exchange.send(reply)

    return act


def cut(after_bytes: int, *, reset: bool = False) -> Act:
    """Break the connection off after so many bytes of the body, of JSON and of streams alike."""

    async def act(exchange: Exchange) -> web.StreamResponse:
        reply = exchange.work()

        async def beginning() -> AsyncGenerator[bytes, None]:
            yield reply.payload[:after_bytes]
            await exchange.abort(reset=reset)

        return await exchange.send(reply, beginning())

    return act


def cut_stream(after_events: int, *, reset: bool = False) -> Act:
    """Break the connection off after so many events of a stream."""

    async def act(exchange: Exchange) -> web.StreamResponse:
        reply = exchange.work()

        async def beginning() -> AsyncGenerator[bytes, None]:
            for event in (reply.events or ())[:after_events]:
                yield event
            await exchange.abort(reset=reset)

        return await exchange.send(reply, beginning())

    return act


def cut_behind(words: bytes) -> Act:
    """Break the connection off behind the first place where the body has these words."""

    async def act(exchange: Exchange) -> web.StreamResponse:
        reply = exchange.work()
        end = reply.payload.index(words) + len(words)

        async def beginning() -> AsyncGenerator[bytes, None]:
            yield reply.payload[:end]
            await exchange.abort()

        return await exchange.send(reply, beginning())

    return act


def cut_before_answer(*, reset: bool = False) -> Act:
    """Read the request, do the work, and break the connection off."""

    async def act(exchange: Exchange) -> web.StreamResponse:
        exchange.work()
        await exchange.abort(reset=reset)

    return act


def cut_before_work(*, reset: bool = False) -> Act:
    """Read the request and break the connection off."""

    async def act(exchange: Exchange) -> web.StreamResponse:
        await exchange.abort(reset=reset)

    return act


def slow(chunk_bytes: int, pause: Hook) -> Act:
    """Dribble the body, awaiting `pause` after every chunk."""

    async def act(exchange: Exchange) -> web.StreamResponse:
        reply = exchange.work()

        async def drops() -> AsyncGenerator[bytes, None]:
            for start in range(0, len(reply.payload), chunk_bytes):
                yield reply.payload[start : start + chunk_bytes]
                await pause()

        return await exchange.send(reply, drops())

    return act


def transform(change: Callable[[bytes], list[bytes]]) -> Act:
    """Send the chunks that `change` makes of the whole body, without a length."""

    async def act(exchange: Exchange) -> web.StreamResponse:
        reply = exchange.work()
        return await exchange.send(replace(reply, events=tuple(change(reply.payload))))

    return act


def stall_stream(after: int | bytes, until: asyncio.Event) -> Act:
    """Send so many events, or those up to the first with these words; then nothing, then the rest."""

    async def act(exchange: Exchange) -> web.StreamResponse:
        reply = exchange.work()

        async def halting() -> AsyncGenerator[bytes, None]:
            for place, event in enumerate(reply.events or (reply.body,)):
                if place == after:
                    await until.wait()
                yield event
                if isinstance(after, bytes) and after in event:
                    await until.wait()

        return await exchange.send(reply, halting())

    return act
