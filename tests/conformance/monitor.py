"""What a real Valkey is told, command by command."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from types import TracebackType
from urllib.parse import urlsplit

_COMMAND = re.compile(rb'\+[0-9.]+ \[\d+ [^\]]*\] "(.*)"\r\n')


@dataclass(frozen=True)
class Command:
    """Its name in capitals, and its words as they stand in the server's own notation."""

    name: str
    words: tuple[str, ...]

    def keys(self, prefix: str) -> list[str]:
        return [word for word in self.words if word.startswith((f"{prefix}:", f"{{{prefix}:"))]


class Monitor:
    """`async with Monitor(url) as monitor`; then `heard` says what all clients asked since the last time."""

    def __init__(self, url: str) -> None:
        self._place = urlsplit(url)
        self._sentinels = 0

    async def __aenter__(self) -> Monitor:
        self._listening = await self._connect()
        self._asking = await self._connect()
        self._listening[1].write(b"MONITOR\r\n")
        assert await self._listening[0].readline() == b"+OK\r\n"
        return self

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._place.scheme == "unix":
            return await asyncio.open_unix_connection(self._place.path, limit=2**24)
        return await asyncio.open_connection(self._place.hostname, self._place.port or 6379, limit=2**24)

    async def heard(self) -> list[Command]:
        """Commands in the order of their execution, those of scripts included."""
        self._sentinels += 1
        end = f"the end {self._sentinels}".encode()
        self._asking[1].write(b'ECHO "%s"\r\n' % end)
        await self._asking[0].readline()
        await self._asking[0].readline()
        commands = []
        while end not in (line := await self._listening[0].readline()):
            found = _COMMAND.fullmatch(line)
            assert found is not None, line
            name, *words = found[1].decode("utf-8", "replace").split('" "')
            commands.append(Command(name.upper(), tuple(words)))
        return commands

    async def __aexit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, where: TracebackType | None
    ) -> None:
        for _, writer in (self._listening, self._asking):
            writer.close()
            await writer.wait_closed()
