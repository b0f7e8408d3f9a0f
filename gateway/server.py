"""The listener: aiohttp's low-level server with one handler, and our words for what is not HTTP."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from gateway.config import Limits, Listener
from gateway.errors import GatewayError, envelope
from gateway.flow import Gateway
from gateway.telemetry import log

_LINGERING_S = 10.0
"""The library's own bound, where `limits.receive_s` is not shorter."""


class _Connection(web.RequestHandler):
    """One caller's connection. Other than aiohttp's are the answer to bytes that cannot be parsed, and the log."""

    __slots__ = ()

    def log_exception(self, *args: Any, **kwargs: Any) -> None:
        """What went wrong beside the handler. A body that cannot be unpacked has had its answer: what is left of it
        is of no interest."""
        exc = kwargs.get("exc_info")
        if not isinstance(exc, web.RequestPayloadError):
            log.error("request.crashed", exc_info=exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to a broken request. Raises ConnectionError, which closes the connection, when an answer has
        begun already: a second one would be taken for a part of the first."""
        if request.writer.output_size > 0 or isinstance(exc, ConnectionError):
            raise ConnectionError("an answer has begun") from exc
        error, server = _malformed(exc), self._manager
        assert isinstance(server, Server)
        request_id = server.gateway.note_malformed(request, error)
        log.info(
            "request.malformed",
            request_id=request_id,
            client=request.remote,
            status=error.status,
            reason=type(exc).__name__,
        )
        response = web.Response(status=error.status, body=envelope(error), content_type="application/json")
        response.headers["x-request-id"] = request_id
        response.force_close()
        return response


def _malformed(exc: BaseException | None) -> GatewayError:
    if isinstance(exc, LineTooLong):
        return GatewayError(431, "the request line or a header is too long", code="headers_too_large")
    return GatewayError(400, "this is not an HTTP request that can be understood", code="malformed_request")


class Server(web.Server):
    """Makes a connection for each caller. A caller who leaves cancels the handler."""

    def __init__(self, gateway: Gateway, listener: Listener, limits: Limits) -> None:
        # Single lines may be somewhat longer than all may be together: then our own check answers, which knows more.
        line_bytes = max(limits.path_bytes, limits.header_bytes) + 8 * 1024
        super().__init__(
            gateway,
            handler_cancellation=True,
            access_log=None,
            keepalive_timeout=listener.keepalive_s,
            # How long what is left of a refused body is awaited, so that its caller reads the answer.
            lingering_time=min(_LINGERING_S, limits.receive_s),
            max_line_size=line_bytes,
            max_field_size=line_bytes,
        )
        self.gateway = gateway

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)
