"""A vendor's chat completions on a real socket, as small as can be: each request gets the next answer of the script."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

Answer = Callable[[dict[str, Any]], AsyncIterator[bytes]]
"""A request's body → the pieces of its answer."""


@dataclass
class Refused:
    """An answer without success."""

    status: int
    body: Any
    headers: dict[str, str] = field(default_factory=dict)


class Cut(Exception):
    """Raised by an answer: the connection is broken off."""


class ScriptedModel:
    """`journal` has the bodies of all requests, `left` how many callers left before their answer's end."""

    def __init__(self) -> None:
        self.script: deque[Answer | Refused] = deque()
        self.otherwise: Answer | Refused = says("Hello", " there", ".")
        self.journal: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.left = 0
        self.ports: list[int] = []
        """From which each request came: of each connection another."""
        self.url = ""

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._answer)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.05)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{port}/v1"

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        self.journal.append(body)
        assert request.transport is not None
        self.ports.append(request.transport.get_extra_info("peername")[1])
        self.keys.append(request.headers.get("Authorization", ""))
        answer = self.script.popleft() if self.script else self.otherwise
        if isinstance(answer, Refused):
            return web.json_response(answer.body, status=answer.status, headers=answer.headers)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            async for piece in answer(body):
                await response.write(piece)
        except Cut:
            assert request.transport is not None
            request.transport.abort()
        except BaseException:
            self.left += 1
            raise
        return response


def chunk(delta: dict[str, Any] | None = None, *, finish: str | None = None, usage: Any = None) -> bytes:
    choices = [] if delta is None and finish is None else [{"index": 0, "delta": delta or {}, "finish_reason": finish}]
    document = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": choices, "usage": usage}
    return b"data: " + orjson.dumps(document) + b"\n\n"


def text(piece: str) -> bytes:
    return chunk({"content": piece})


def end(finish: str = "stop", *, prompt: int = 10, completion: int = 5) -> bytes:
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return chunk(finish=finish) + chunk(usage=usage) + b"data: [DONE]\n\n"


def says(*pieces: str, finish: str = "stop", **usage: int) -> Answer:
    async def answer(body: dict[str, Any]) -> AsyncIterator[bytes]:
        for piece in pieces:
            yield text(piece)
        yield end(finish, **usage)

    return answer


def calls(*functions: tuple[str, str], before: str = "", **usage: int) -> Answer:
    """Tool calls: name and arguments of each, which come in two pieces."""

    async def answer(body: dict[str, Any]) -> AsyncIterator[bytes]:
        if before:
            yield text(before)
        for index, (name, arguments) in enumerate(functions):
            begun = {"name": name, "arguments": ""}
            yield chunk({"tool_calls": [{"index": index, "id": f"call_{name}{index}", "function": begun}]})
            for piece in (arguments[:3], arguments[3:]):
                yield chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
        yield end("tool_calls", **usage)

    return answer
