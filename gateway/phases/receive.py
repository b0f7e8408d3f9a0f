"""The caller's body: JSON in memory, uploads in memory or on disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from aiohttp.web_exceptions import HTTPException

from gateway import codec
from gateway.config import Limits
from gateway.errors import BrokenOff, GatewayError, bad_request
from gateway.operations import Operation
from gateway.spool import Spool, SpooledFile

_SPOOL_STEP_BYTES = 1024 * 1024


@dataclass
class Body:
    """What the caller sent. `document` is the parsed JSON object of an operation that takes one, else None;
    `raw` are the bytes as received unless they were spooled."""

    raw: bytes = b""
    document: dict[str, Any] | None = None
    content_type: str | None = None
    spooled: SpooledFile | None = None

    @property
    def size_bytes(self) -> int:
        return self.spooled.size_bytes if self.spooled else len(self.raw)

    @property
    def wants_stream(self) -> bool:
        return self.document is not None and self.document.get("stream") is True

    def chunks(self) -> AsyncIterator[bytes] | None:
        """A spooled upload from its beginning, else None."""
        return self.spooled.chunks() if self.spooled else None

    def close(self) -> None:
        """Free what lies on disk."""
        if self.spooled:
            self.spooled.close()


async def receive(request: web.BaseRequest, operation: Operation, *, limits: Limits, spool: Spool) -> Body:
    """Read the body that `operation` takes; waits at most `limits.receive_s` for each piece.

    A body on a GET or DELETE has no meaning in this API and is left unread. The caller of this closes the Body.
    Raises GatewayError 400, 408, 413, 415 or 503 (spool full), and BrokenOff when the caller left.
    """
    if operation.is_safe:
        return Body()
    content_type = request.headers.get("Content-Type")
    limit_bytes = limits.upload_bytes if operation.upload else limits.json_bytes
    if request.content_length is not None and request.content_length > limit_bytes:
        raise _too_large(limit_bytes)
    if request.can_read_body:
        _check_content_type(content_type, operation)
        await _continue(request)
    body = Body(content_type=content_type)
    try:
        await _read(request, body, limit_bytes=limit_bytes, limits=limits, spool=spool)
    except BaseException:
        body.close()
        raise
    if operation.upload and not body.size_bytes:
        raise bad_request("an upload needs a multipart/form-data body with 'file' and 'purpose'", param="file")
    if not operation.upload and body.raw:
        body.document = _parse(body.raw, limits)
    return body


def _check_content_type(content_type: str | None, operation: Operation) -> None:
    given = (content_type or "").partition(";")[0].strip().lower()
    wanted = "multipart/form-data" if operation.upload else "application/json"
    if given != wanted and not (given.endswith("+json") and not operation.upload):
        raise bad_request(
            f"Unsupported content type '{given[:100]}': send {wanted}",
            code="unsupported_content_type",
            status=415,
        )


async def _continue(request: web.BaseRequest) -> None:
    """curl waits for this word before it sends a large body; by now nothing speaks against the body any more."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        try:
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        except ConnectionError as exc:
            raise BrokenOff("the caller left") from exc
        request.writer.output_size = 0  # an interim answer is not the answer's beginning


async def _read(request: web.BaseRequest, body: Body, *, limit_bytes: int, limits: Limits, spool: Spool) -> None:
    pending, total = bytearray(), 0
    while piece := await _next_piece(request, limits.receive_s):
        total += len(piece)
        if total > limit_bytes:
            raise _too_large(limit_bytes)
        pending += piece
        if body.spooled is None and total > limits.buffer_bytes and limit_bytes == limits.upload_bytes:
            body.spooled = SpooledFile(spool)
        if body.spooled and len(pending) >= _SPOOL_STEP_BYTES:
            await body.spooled.append(bytes(pending))
            pending.clear()
    if body.spooled:
        await body.spooled.append(bytes(pending))
    else:
        body.raw = bytes(pending)


async def _next_piece(request: web.BaseRequest, timeout_s: float) -> bytes:
    try:
        async with asyncio.timeout(timeout_s):
            return await request.content.readany()
    except TimeoutError as exc:
        raise GatewayError(
            408, f"nothing of the body came for {timeout_s:g} s (limits.receive_s)", code="request_timeout"
        ) from exc
    except (web.RequestPayloadError, HTTPException, ValueError) as exc:
        raise bad_request("the body could not be read: its encoding or its length is broken") from exc


def _parse(raw: bytes, limits: Limits) -> dict[str, Any]:
    try:
        document = codec.loads(raw)
    except ValueError as exc:
        raise bad_request(
            "We could not parse the JSON body of your request: it is not valid JSON.", code="invalid_json"
        ) from exc
    if codec.is_deeper_than(document, raw, limits.json_depth):
        raise bad_request(
            f"the JSON body nests in more than {limits.json_depth} levels (limits.json_depth)",
            code="json_too_deep",
        )
    if type(document) is not dict:
        raise bad_request("the JSON body is not an object", code="invalid_json")
    return document


def _too_large(limit_bytes: int) -> GatewayError:
    return bad_request(f"the body has more than {limit_bytes} bytes", code="request_too_large", status=413)
