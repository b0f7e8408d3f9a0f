"""The newest checkpoint of each boot of each replica's audit trail, in one hash without expiry."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import orjson

from gateway.audit.checkpoints import read_checkpoints
from gateway.store.connection import Store

_TIMEOUT_S = 10.0


class StoredCheckpoints:
    """Made on the loop that `store` belongs to."""

    name = "valkey"

    def __init__(self, store: Store, boot: str = "") -> None:
        self._store = store
        self._boot = boot
        self._key = store.key("audit", "checkpoints")
        self._loop = asyncio.get_running_loop()

    def publish(self, checkpoint: Mapping[str, Any]) -> None:
        """For any thread but the loop's. Raises StoreAway, and TimeoutError when the loop has no time."""
        asyncio.run_coroutine_threadsafe(self._put(orjson.dumps(checkpoint)), self._loop).result(_TIMEOUT_S)

    async def _put(self, checkpoint: bytes) -> None:
        await self._store.run(lambda redis: redis.hset(self._key, self._boot, checkpoint.decode()))

    async def read(self) -> list[dict[str, Any]]:
        """Those of all boots. Raises StoreAway."""
        found = await self._store.run(lambda redis: redis.hvals(self._key))
        return list(read_checkpoints(str(value).encode() for value in found))
