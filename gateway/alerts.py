"""Telling a webhook of what a person should look at today. Never in the way of a request."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import aiohttp

from gateway import codec
from gateway.ending import end
from gateway.telemetry import log

Alert = Literal["key.dead", "key.expires_soon", "key.account_mismatch", "account.down"]
Tell = Callable[..., None]
"""Tells of one alert: its name, and facts without any secret."""

_WAITING_LIMIT = 100
_ATTEMPTS = 5
_TIMEOUT_S = 10.0


def tell_nobody(alert: Alert, **facts: Any) -> None:
    """For a gateway without a webhook."""


class Alerts:
    """Sends alerts in the order they came, each up to five times. Beyond a hundred that wait, new ones are dropped.

    The body is a JSON object: `event`, `gateway` (this host), and the facts of the log line of that name.
    """

    def __init__(self, url: str, *, pause: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._url = url
        self._pause = pause
        self._waiting: asyncio.Queue[dict[str, Any]] = asyncio.Queue(_WAITING_LIMIT)
        self._session: aiohttp.ClientSession | None = None
        self._sending: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S))
        self._sending = asyncio.create_task(self._send_all(), name="alerts")

    def __call__(self, alert: Alert, **facts: Any) -> None:
        try:
            self._waiting.put_nowait({"event": alert, "gateway": socket.gethostname(), **facts})
        except asyncio.QueueFull:
            log.error("alert.lost", alert=alert, reason="too many wait")

    async def _send_all(self) -> None:
        while True:
            await self._send(await self._waiting.get())

    async def _send(self, body: dict[str, Any]) -> None:
        assert self._session is not None
        reason = ""
        for attempt in range(_ATTEMPTS):
            try:
                headers = {"Content-Type": "application/json"}
                async with self._session.post(self._url, data=codec.dumps(body), headers=headers) as response:
                    if response.status < 300:
                        return
                    reason = f"status {response.status}"
            except (aiohttp.ClientError, OSError, TimeoutError) as exc:
                reason = type(exc).__name__
            await self._pause(2.0**attempt)
        log.error("alert.lost", alert=body["event"], reason=reason)

    async def close(self) -> None:
        """What has not been sent by now is lost; the log has it."""
        if self._sending is not None:
            await end([self._sending])
        if self._session is not None:
            await self._session.close()
