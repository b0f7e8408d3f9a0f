"""Large uploads on disk: unlinked temporary files, bounded in all, readable as often as attempts need."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from typing import IO

from gateway.errors import GatewayError

_CHUNK_BYTES = 256 * 1024


class Spool:
    """Counts what all uploads in flight hold on disk and refuses what would be too much."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self.held_bytes = 0

    def take(self, size_bytes: int) -> None:
        """Raises GatewayError 503 when all uploads together would exceed the limit."""
        if self.held_bytes + size_bytes > self._limit_bytes:
            raise GatewayError(
                503,
                "the gateway holds as many uploads as it may (limits.spool_bytes); try again later",
                code="spool_full",
                type="server_error",
                source="gateway",
                headers={"retry-after": "5"},
            )
        self.held_bytes += size_bytes

    def give_back(self, size_bytes: int) -> None:
        self.held_bytes -= size_bytes


class SpooledFile:
    """One upload on disk. Use as a context: leaving it frees the file and its share of the spool.

    Disk work runs in a thread: the event loop never waits for a disk.
    """

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  closed by close()
        self.size_bytes = 0

    async def append(self, data: bytes) -> None:
        """Raises GatewayError 503 when the spool or the disk is full."""
        self._spool.take(len(data))
        self.size_bytes += len(data)
        try:
            await asyncio.to_thread(self._file.write, data)
        except OSError as exc:
            raise GatewayError(
                503,
                f"the gateway cannot keep this upload: {exc.strerror}",
                code="spool_full",
                type="server_error",
                source="gateway",
            ) from exc

    async def chunks(self) -> AsyncIterator[bytes]:
        """The whole upload from its beginning; each attempt asks anew."""
        place = 0
        while data := await asyncio.to_thread(self._read_at, place):
            place += len(data)
            yield data

    def _read_at(self, place: int) -> bytes:
        self._file.seek(place)
        return self._file.read(_CHUNK_BYTES)

    def close(self) -> None:
        self._file.close()
        self._spool.give_back(self.size_bytes)
        self.size_bytes = 0
