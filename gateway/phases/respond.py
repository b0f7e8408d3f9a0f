"""The caller's side of an answer: its headers, and for a whole answer its bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from aiohttp import web

from gateway.errors import BrokenOff
from gateway.model import Reply
from gateway.telemetry import Record


async def begin(request: web.BaseRequest, response: web.StreamResponse, record: Record) -> None:
    """Send status and headers. Raises BrokenOff when the caller left."""
    response.headers["x-request-id"] = record.request_id
    response.headers["Server"] = "threads-gateway"
    response.headers.update(record.headers)
    record.note(status=response.status)
    record.first_byte()
    try:
        await response.prepare(request)
    except ConnectionError as exc:
        raise BrokenOff("the caller left") from exc


async def reach(request: web.BaseRequest, sending: Awaitable[None], timeout_s: float) -> None:
    """Wait until the caller has room for what `sending` writes. Raises BrokenOff when the caller left or does not
    read for `timeout_s`."""
    try:
        async with asyncio.timeout(timeout_s):
            await sending
    except TimeoutError as exc:
        if request.transport is not None:
            request.transport.abort()  # closing would wait for the caller to read what is on its way
        raise BrokenOff("the caller did not read for listener.write_timeout_s") from exc
    except ConnectionError as exc:
        raise BrokenOff("the caller left") from exc


async def finish(request: web.BaseRequest, response: web.StreamResponse, timeout_s: float) -> None:
    """End an answer in good order. Raises BrokenOff like `reach`."""
    await reach(request, response.write_eof(), timeout_s)


async def respond(
    request: web.BaseRequest, reply: Reply, record: Record, *, write_timeout_s: float
) -> web.StreamResponse:
    """Send a whole answer. Raises BrokenOff when the caller left or does not read, and what `record.end` raises."""
    response = web.Response(status=reply.status, body=reply.body, content_type="application/json")
    response.headers.update(reply.headers)
    record.note(status=reply.status, bytes_out=len(reply.body))
    record.answer = reply.body
    record.first_byte()
    await record.end()
    await begin(request, response, record)
    await finish(request, response, write_timeout_s)
    return response
