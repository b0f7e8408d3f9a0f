"""Puts worlds on a socket: authentication, decoding, and answers as JSON, bytes or events.

What to answer is decided by a plain function of the request, `reply`; only `handle` and what it calls wait.
"""

import asyncio
import ipaddress
import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

import orjson
from aiohttp import web

from gateway.demo.dialect import AIMLAPI, Dialect
from gateway.demo.files import Content, Form
from gateway.demo.ground import Ids
from gateway.demo.refusal import Json, Refused
from gateway.demo.routes import Answer, Route, find_route
from gateway.demo.run import ACTIVE
from gateway.demo.world import World, wall_clock_s

DEMO_KEYS: Mapping[str, str] = {"demo-key": "demo"}
MAX_BODY_BYTES = 2**30
STOP_WITHIN_S = 0.1
SSE = "text/event-stream; charset=utf-8"


@dataclass(frozen=True)
class Ask:
    """A request that was read to its end. `path` is as on the wire, with the prefix and without the query."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


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


async def pace() -> None:
    """Slow enough to watch an answer grow."""
    await asyncio.sleep(0.04)


@dataclass(eq=False)
class DemoServer:
    """Serves one world per account; `keys` says whose each key is.

    `pause` is awaited after every event of a stream. `now` are seconds.
    """

    dialect: Dialect = AIMLAPI
    keys: Mapping[str, str] = field(default_factory=lambda: DEMO_KEYS)
    pause: Callable[[], Awaitable[None]] = pace
    now: Callable[[], int] = wall_clock_s
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
        return f"http://{self._host}:{self._port}{self.dialect.prefix}"

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; port 0 takes a free one. Refuses every host but loopback: keys here protect nothing."""
        if host != "localhost" and not ipaddress.ip_address(host).is_loopback:
            raise ValueError(f"{host} is not a loopback address")
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_route("*", "/{path:.*}", self.handle)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=STOP_WITHIN_S)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        self._host, self._port = host, site.port

    async def stop(self) -> None:
        """Stop listening and break off what is under way."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        return await self.send(request, self.reply(await read(request)))

    def reply(self, ask: Ask) -> Reply:
        """Do what is asked and say how it is answered."""
        account = self.keys.get(key_of(ask.headers) or "")
        vendor_headers = self.dialect.headers(account or "", ask.headers)
        try:
            if account is None:
                raise wrong_key(key_of(ask.headers))
            route, answer = self._answer(self.worlds[account], ask)
        except Refused as refused:
            return json_reply(refused.status, self.dialect.error_body(refused), vendor_headers)
        return self._encode(route, answer, vendor_headers)

    def _answer(self, world: World, ask: Ask) -> tuple[Route, Answer]:
        path = ask.path.removeprefix(self.dialect.prefix)
        if not ask.path.startswith(self.dialect.prefix):
            raise Refused(f"Invalid URL ({ask.method} {ask.path})", status=404)
        route, ids = find_route(ask.method, path)
        if self.dialect.needs_beta_header and route.is_of_threads:
            require_beta_header(ask.headers)
        readers: dict[str, Callable[[], object]] = {
            "body": lambda: read_json(ask.body),
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
            events = tuple(encode_event(name, self._shape_event(record)) for name, record in answer)
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

    def _shape_event(self, record: Json | str) -> Json | str:
        return self.dialect.shape_object(record) if isinstance(record, dict) else record

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


def key_of(headers: Mapping[str, str]) -> str | None:
    scheme, _, key = headers.get("Authorization", "").partition(" ")
    return key.strip() or None if scheme.lower() == "bearer" else None


def wrong_key(key: str | None) -> Refused:
    if key is None:
        text = "You didn't provide an API key. You need to provide your API key in an Authorization header "
        return Refused(text + "using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).", status=401)
    masked = key[:8] + "*" * max(len(key) - 12, 3) + key[-4:] if len(key) > 12 else "*" * len(key)
    link = "https://platform.openai.com/account/api-keys"
    message = f"Incorrect API key provided: {masked}. You can find your API key at {link}."
    return Refused(message, status=401, code="invalid_api_key")


def require_beta_header(headers: Mapping[str, str]) -> None:
    if "assistants=v2" not in headers.get("OpenAI-Beta", ""):
        raise Refused(
            "You must provide the 'OpenAI-Beta' header to access the Assistants API. "
            "Please try again by setting the header 'OpenAI-Beta: assistants=v2'.",
            code="invalid_beta",
        )


def read_json(body: bytes) -> Json:
    """An empty body is an empty object. The standard library's parser keeps long integers whole."""
    try:
        decoded = json.loads(body) if body else {}
    except ValueError as exc:
        raise Refused("We could not parse the JSON body of your request.") from exc
    if not isinstance(decoded, dict):
        raise Refused("We could not parse the JSON body of your request: it is not an object.")
    return decoded


def read_form(content_type: str, body: bytes) -> Form:
    """Decode a multipart body. The content of the file is taken byte by byte as it came."""
    boundary = re.search(r'boundary="?([^";,]+)"?', content_type)
    if not content_type.lower().startswith("multipart/form-data") or boundary is None:
        raise Refused("Expected a multipart/form-data body.", status=415)
    fields, file = {}, None
    for part in (b"\r\n" + body).split(b"\r\n--" + boundary[1].encode())[1:-1]:
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        text = head.decode(errors="replace")
        name = re.search(r'[; ]name="([^"]*)"', text)
        filename = re.search(r'filename="([^"]*)"', text)
        if filename is not None:
            content_type_line = re.search(r"(?im)^content-type: *(.+?)\s*$", text)
            kind = content_type_line[1] if content_type_line else "application/octet-stream"
            file = Content(content, kind, filename[1].replace("%22", '"'))
        elif name is not None:
            fields[name[1]] = content.decode(errors="replace")
    return Form(fields, file)


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
