"""`/healthz` and `/readyz`, for those who start, stop and balance gateways."""

from __future__ import annotations

from collections.abc import Callable

import orjson

from gateway.model import Reply


class Health:
    """Says whether the process lives and whether it should get requests."""

    def __init__(self, store_is_ready: Callable[[], bool]) -> None:
        self._store_is_ready = store_is_ready
        self.is_draining = False

    def page(self, method: str, path: str) -> Reply | None:
        """The answer for a health path, else None.

        Ready means: accepting requests. A store that is away does not change that, because forwarding by id goes on
        without it; the body tells.
        """
        if method not in ("GET", "HEAD") or path not in ("/healthz", "/readyz"):
            return None
        if path == "/healthz":
            return Reply(200, b'{"status":"alive"}')
        state = {
            "status": "draining" if self.is_draining else "ready",
            "store": "ready" if self._store_is_ready() else "away",
        }
        return Reply(503 if self.is_draining else 200, orjson.dumps(state))
