"""The caller's side of an answer: its headers, and for a whole answer its bytes."""

from __future__ import annotations

from aiohttp import web

from gateway.errors import BrokenOff
from gateway.model import Reply
from gateway.telemetry import Record


async def begin(request: web.BaseRequest, response: web.StreamResponse, record: Record) -> None:
    """Send status and headers. Raises BrokenOff when the caller left."""
    response.headers["x-request-id"] = record.request_id
    response.headers["Server"] = "threads-gateway"
    record.note(status=response.status)
    record.first_byte()
    try:
        await response.prepare(request)
    except ConnectionError as exc:
        raise BrokenOff("the caller left") from exc


async def finish(response: web.StreamResponse) -> None:
    """End an answer in good order. Raises BrokenOff when the caller left."""
    try:
        await response.write_eof()
    except ConnectionError as exc:
        raise BrokenOff("the caller left") from exc


async def respond(request: web.BaseRequest, reply: Reply, record: Record) -> web.StreamResponse:
    """Send a whole answer. Raises BrokenOff when the caller left."""
    response = web.Response(status=reply.status, body=reply.body, content_type="application/json")
    response.headers.update(reply.headers)
    record.note(bytes_out=len(reply.body))
    await begin(request, response, record)
    await finish(response)
    return response
