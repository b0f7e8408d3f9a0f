"""Puts worlds on a socket: authentication, decoding, and answers as JSON, bytes or events.

What to answer is decided by a plain function of the request, `reply`; only `handle` and what it calls wait.
"""

import asyncio
import ipaddress
import json
import re
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

import orjson
from aiohttp import web

from tests.simulators.threads_server.ask import Ask, read_form
from tests.simulators.threads_server.dialect import AIMLAPI, Dialect
from tests.simulators.threads_server.files import Content
from tests.simulators.threads_server.ground import Ids
from tests.simulators.threads_server.refusal import Json, Refused
from tests.simulators.threads_server.routes import Answer, Route, find_route
from tests.simulators.threads_server.run import ACTIVE, Event
from tests.simulators.threads_server.world import World, wall_clock_s

MAX_BODY_BYTES = 2**30
STOP_WITHIN_S = 0.1
SSE = "text/event-stream; charset=utf-8"


@dataclass(frozen=True)
class Reply:
    """An answer before it is sent: `events`, one after the other, or else `body`."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    events: tuple[bytes, ...] | None = None

    @property
    def payload(self) -> bytes:
        return self.body if self.events is None else b"".join(self.events)


async def let_others_run() -> None:
    await asyncio.sleep(0)


@dataclass(eq=False)
class ThreadsServer:
    """Serves one world per account; `keys` says whose each key is.

    `pause` is awaited after every event of a stream. `now` are seconds. With `tls` it speaks HTTPS.
    """

    dialect: Dialect = AIMLAPI
    keys: Mapping[str, str] = field(default_factory=dict)
    pause: Callable[[], Awaitable[None]] = let_others_run
    now: Callable[[], int] = wall_clock_s
    tls: ssl.SSLContext | None = None
    worlds: dict[str, World] = field(init=False)
    _runner: web.AppRunner | None = field(default=None, init=False)
    _host: str = field(default="", init=False)
    _port: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        ids = Ids(self.dialect.id_prefixes)
        self.worlds = {account: World(self.now, ids) for account in self.keys.values()}

    @property
    def url(self) -> str:
        """What a client of this vendor takes as base URL."""
        scheme = "https" if self.tls else "http"
        return f"{scheme}://{self._host}:{self._port}{self.dialect.prefix}"

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; port 0 takes a free one. Refuses every host but loopback: keys here protect nothing."""
        if host != "localhost" and not ipaddress.ip_address(host).is_loopback:
            raise ValueError(f"{host} is not a loopback address")
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_route("*", "/{path:.*}", self.handle)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=STOP_WITHIN_S)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port, ssl_context=self.tls)
        await site.start()
        self._host, self._port = host, site.port

    async def stop(self) -> None:
        """Stop listening and break off what is under way."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        return await self.send(request, self.reply(await read(request)))

    def key_of(self, ask: Ask) -> str | None:
        """The key of a request, known or not."""
        return self.dialect.read_key(ask.headers)

    def reply(self, ask: Ask) -> Reply:
        """Do what is asked and say how it is answered."""
        key = self.key_of(ask)
        account = self.keys.get(key or "")
        vendor_headers = self.dialect.headers(account or "", ask.headers)
        try:
            if account is None:
                raise self.dialect.wrong_key(key)
            route, answer = self._answer(self.worlds[account], ask)
        except Refused as refused:
            return json_reply(refused.status, self.dialect.error_body(refused), vendor_headers)
        return self._encode(route, answer, vendor_headers)

    def _answer(self, world: World, ask: Ask) -> tuple[Route, Answer]:
        path = ask.path.removeprefix(self.dialect.prefix)
        if not ask.path.startswith(self.dialect.prefix):
            raise Refused(f"Invalid URL ({ask.method} {ask.path})", status=404)
        route, ids = find_route(self.dialect.routes, ask.method, path)
        if self.dialect.needs_beta_header and route.is_of_threads:
            require_beta_header(ask.headers, self.dialect.needs_beta_header)
        self.dialect.check(route, ask)
        readers: dict[str, Callable[[], object]] = {
            "body": lambda: self.dialect.read_body(route, ask.body),
            "query": lambda: ask.query,
            "form": lambda: read_form(ask.headers.get("Content-Type", ""), ask.body),
        }
        return route, route.pick(world)(*ids, *(readers[each]() for each in route.takes))

    def _encode(self, route: Route, answer: Answer, headers: Mapping[str, str]) -> Reply:
        status = self.dialect.create_status if route.is_creation and route.is_of_threads else 200
        if isinstance(answer, Content):
            name = re.sub(r'[^ -~]|["\\]', "_", answer.filename)
            disposition = {"Content-Disposition": f'attachment; filename="{name}"'}
            return Reply(status, {**headers, **disposition, "Content-Type": answer.content_type}, answer.data)
        if isinstance(answer, list):
            events = tuple(encode_event(*self._shape_event(event)) for event in answer)
            return Reply(status, {**headers, "Content-Type": SSE}, events=events)
        if self.dialect.poll_after_ms and answer.get("object") == "thread.run" and answer["status"] in ACTIVE:
            headers = {**headers, "openai-poll-after-ms": str(self.dialect.poll_after_ms)}
        return json_reply(status, self._shape(route, answer), headers)

    def _shape(self, route: Route, answer: Json) -> Json | list[Json]:
        if not route.is_of_threads:
            return answer
        if answer.get("object") == "list":
            return self.dialect.shape_list(answer, is_of_assistants=route.template == "/assistants")
        return self.dialect.shape_object(answer)

    def _shape_event(self, event: Event) -> Event:
        name, record = event
        shaped = self.dialect.shape_object(record) if isinstance(record, dict) else record
        return self.dialect.event_names.get(name, name), shaped

    async def send(self, request: web.Request, reply: Reply) -> web.StreamResponse:
        return await self.send_chunks(request, reply, self._paced(reply))

    async def _paced(self, reply: Reply) -> AsyncGenerator[bytes, None]:
        if reply.events is None:
            yield reply.body
            return
        for event in reply.events:
            yield event
            await self.pause()

    async def send_chunks(
        self, request: web.Request, reply: Reply, chunks: AsyncGenerator[bytes, None]
    ) -> web.StreamResponse:
        """Send the reply's status and headers, then the chunks, one write each."""
        response = web.StreamResponse(status=reply.status, headers=reply.headers)
        if reply.events is None:
            response.content_length = len(reply.body)
        await response.prepare(request)
        async with aclosing(chunks):
            async for chunk in chunks:
                await response.write(chunk)
        await response.write_eof()
        return response


async def read(request: web.Request) -> Ask:
    path = request.raw_path.partition("?")[0]
    return Ask(request.method, path, dict(request.query), request.headers, await request.read())


def require_beta_header(headers: Mapping[str, str], version: str) -> None:
    values = [value.strip() for value in headers.get("OpenAI-Beta", "").split(",")]
    if [value for value in values if value.startswith("assistants=")] != [version]:
        raise Refused(
            "You must provide the 'OpenAI-Beta' header to access the Assistants API. "
            f"Please try again by setting the header 'OpenAI-Beta: {version}'.",
            code="invalid_beta",
        )


def json_reply(status: int, value: object, headers: Mapping[str, str]) -> Reply:
    return Reply(status, {**headers, "Content-Type": "application/json"}, encode_json(value))


def encode_json(value: object) -> bytes:
    """Text that is not valid Unicode and integers beyond 64 bits leave as they came in."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return json.dumps(value).encode()


def encode_event(name: str, record: object) -> bytes:
    data = record.encode() if isinstance(record, str) else encode_json(record)
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"
