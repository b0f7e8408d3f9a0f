"""Vector stores at the vendor that the engine makes, fills and waits for, through the same attempts as any request."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from gateway import __version__, codec
from gateway.attempts import Send, Sending
from gateway.errors import GatewayError
from gateway.model import Outbound, Target
from gateway.operations import BY_NAME
from gateway.phases.receive import Body
from gateway.phases.rewrite_out import account_headers, path_of, url_of
from gateway.phases.send import Response
from gateway.protocols import SAME
from gateway.telemetry import Record

Json = dict[str, Any]

OF_THREADS: Json = {"expires_after": {"anchor": "last_active_at", "days": 7}}
"""What OpenAI said of stores that it made for threads and their messages (its guide to file search, 2024–2026)."""

_INDEXING_S = 60.0
"""So long a run waits for the thread's files, as OpenAI's did."""
_INDEXED_S = 1.0
"""Between two looks whether they can be searched."""


@dataclass(frozen=True)
class Cause:
    """What calls are made for: at whom, in whose record, and until when, by the event loop's clock, however many they
    are."""

    target: Target
    record: Record
    deadline: float


class VendorRefused(Exception):
    """The vendor refused what a request needs; its answer is the caller's."""

    def __init__(self, response: Response) -> None:
        super().__init__(f"status {response.status}")
        self.response = response


class VectorStores:
    """Lives as long as the process. Its operations raise VendorRefused, and GatewayError as attempts do."""

    def __init__(self, send: Send) -> None:
        self._send = send

    async def create(self, cause: Cause, body: Json) -> str:
        """Its upstream id."""
        made = await self._ask("create_vector_store", cause, {}, body)
        return str(made["id"])

    async def add(self, cause: Cause, store: str, files: Sequence[str]) -> None:
        """A file that it has already stays as it is."""
        for file in files:
            await self._ask("create_store_file", cause, {"vector_store": store}, {"file_id": file})

    async def drop(self, cause: Cause, store: str) -> bool:
        """Delete one that serves nobody. Whether that was done; raises nothing."""
        try:
            await self._ask("delete_vector_store", cause, {"vector_store": store}, None)
        except (VendorRefused, GatewayError):
            return False
        return True

    async def until_indexed(
        self, target: Target, stores: Sequence[str], *, pause: Callable[[float], Awaitable[None]]
    ) -> None:
        """Wait for files that were just attached, a minute at most. Raises nothing."""
        record = Record("idx_" + secrets.token_hex(12), "GET", "")
        cause = Cause(target, record, asyncio.get_running_loop().time() + _INDEXING_S)
        with suppress(TimeoutError):
            async with asyncio.timeout(_INDEXING_S):
                for store in stores:
                    while await self._is_indexing(cause, store):
                        await pause(_INDEXED_S)

    async def _is_indexing(self, cause: Cause, store: str) -> bool:
        """Whether files of it cannot be searched yet. Raises nothing: what is wrong with it the model's vendor says."""
        try:
            found = await self._ask("get_vector_store", cause, {"vector_store": store}, None)
        except (VendorRefused, GatewayError):
            return False
        return found.get("status") == "in_progress"

    async def _ask(self, name: str, cause: Cause, ids: Mapping[str, str], body: Json | None) -> Json:
        operation, target, provider = BY_NAME[name], cause.target, cause.target.provider
        headers = {"User-Agent": f"threads-gateway/{__version__}", "Accept-Encoding": "gzip, deflate"}
        if (beta := provider.vendor.beta_header(())) is not None:
            headers["OpenAI-Beta"] = beta
        if body is not None:
            headers["Content-Type"] = "application/json"
        url = url_of(provider, path_of(operation, ids))
        outbound = Outbound(operation.method, url, headers | account_headers(target))
        payload = b"" if body is None else codec.dumps(body)
        sending = Sending(operation, target, ids, outbound, Body(), payload, SAME, cause.deadline)
        response = await self._send(sending, cause.record)
        if not response.is_success:
            raise VendorRefused(response)
        document: Json = response.document
        return document
