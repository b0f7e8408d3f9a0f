"""Connections of redis-py that cost less for each command: what is sent is packed in C, and written at once.

redis-py packs word by word in Python, and waits for each write in a task of its own. What does not go out at once (a
server that reads slowly, a connection that is not open) takes its own way, with its own timeouts.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hiredis import pack_command
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import DataError


class _Packing:
    """To be mixed into a connection class."""

    _writer: Any
    is_connected: Any

    def pack_command(self, *words: Any) -> list[bytes]:
        first = words[0]
        if " " in first if isinstance(first, str) else b" " in first:
            words = (*first.split(), *words[1:])
        try:
            return [pack_command(words)]
        except TypeError as exc:
            raise DataError(str(exc)) from exc

    async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:
        if not self.is_connected or self._writer.transport.get_write_buffer_size() > 0:
            await super().send_packed_command(command, check_health)  # type: ignore[misc]
        elif isinstance(command, bytes):
            self._writer.write(command)
        else:
            self._writer.writelines(command)


class _Tcp(_Packing, Connection):
    pass


class _Tls(_Packing, SSLConnection):
    pass


class _Unix(_Packing, UnixDomainSocketConnection):
    pass


_PACKING = {Connection: _Tcp, SSLConnection: _Tls, UnixDomainSocketConnection: _Unix}


def pack_in_c(pool: ConnectionPool) -> ConnectionPool:
    """The same pool, whose connections pack so."""
    pool.connection_class = _PACKING[pool.connection_class]
    return pool
