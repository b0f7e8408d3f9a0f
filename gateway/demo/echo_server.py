"""Puts the echo model on a socket, as a vendor of chat completions."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field

from aiohttp import web

from gateway import codec
from gateway.demo import echo

_MAX_BODY_BYTES = 2**26
_STOP_WITHIN_S = 0.1


async def pace() -> None:
    """Slow enough to watch an answer grow."""
    await asyncio.sleep(0.04)


@dataclass(eq=False)
class EchoServer:
    """`POST /v1/chat/completions`, for callers with one of the `keys`. It listens on 127.0.0.1 only: these keys protect
    nothing. `pause` is awaited after every event."""

    keys: Collection[str] = field(repr=False)
    pause: Callable[[], Awaitable[None]] = pace
    url: str = field(default="", init=False)
    """What a client takes as base URL, once it listens."""
    _runner: web.AppRunner | None = field(default=None, init=False)

    async def start(self, port: int = 0) -> None:
        """Listen; port 0 takes a free one. Raises OSError."""
        app = web.Application(client_max_size=_MAX_BODY_BYTES)
        app.router.add_post("/v1/chat/completions", self._complete)
        app.router.add_get("/v1/models", self._list_models)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=_STOP_WITHIN_S)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        self.url = f"http://127.0.0.1:{site.port}/v1"

    async def stop(self) -> None:
        """Stop listening and break off what is under way."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        if not self._knows(request):
            return _refuse(401, "The echo model does not know this API key.", "invalid_api_key")
        try:
            asked = echo.read(codec.loads(await request.read()))
        except ValueError as exc:
            return _refuse(400, str(exc))
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        answer_id = secrets.token_hex(12)
        for event in echo.events(asked, echo.answer(asked), answer_id=answer_id, now=int(time.time())):
            await response.write(event)
            await self.pause()
        await response.write_eof()
        return response

    async def _list_models(self, request: web.Request) -> web.StreamResponse:
        if not self._knows(request):
            return _refuse(401, "The echo model does not know this API key.", "invalid_api_key")
        return _json(200, {"object": "list", "data": [{"id": "echo", "object": "model", "owned_by": "demo"}]})

    def _knows(self, request: web.Request) -> bool:
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        return scheme.lower() == "bearer" and key.strip() in self.keys


def _refuse(status: int, message: str, code: str | None = None) -> web.Response:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return _json(status, {"error": error})


def _json(status: int, body: echo.Json) -> web.Response:
    return web.Response(status=status, body=codec.dumps(body), content_type="application/json")
