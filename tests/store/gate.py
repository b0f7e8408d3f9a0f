"""A gate between a client and a real Valkey: it counts what passes, and holds answers back until it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import hiredis

PATIENCE_S = 5.0


class Gate:
    """Listens on a socket of its own. `writes` are the commands of each write, those of a new connection left out."""

    def __init__(self, valkey: str, folder: Path) -> None:
        self._behind = valkey.removeprefix("unix://")
        self._path = folder / "gate.sock"
        self._open = asyncio.Event()
        self._open.set()
        self._changed = asyncio.Condition()
        self._writers: set[asyncio.StreamWriter] = set()
        self._passing: set[asyncio.Task[None]] = set()
        self.writes: list[list[list[bytes]]] = []
        self.held_bytes = 0
        self.pass_bytes: int | None = None
        """When set, only so many bytes of answers pass, then the connection is cut."""

    @property
    def url(self) -> str:
        return f"unix://{self._path}"

    @property
    def commands(self) -> list[list[bytes]]:
        return [command for write in self.writes for command in write]

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._accept, self._path)

    async def stop(self) -> None:
        self._server.close()
        for task in self._passing:
            task.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)
        for writer in self._writers:
            writer.close()

    def hold(self) -> None:
        """Let no more answers through."""
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    async def until(self, condition: Callable[[Gate], bool]) -> None:
        """Wait until something that passed makes it true."""
        async with asyncio.timeout(PATIENCE_S), self._changed:
            await self._changed.wait_for(lambda: condition(self))

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            behind_reader, behind_writer = await asyncio.open_unix_connection(self._behind)
        except OSError:
            writer.close()
            return
        self._writers |= {writer, behind_writer}
        for work in (self._pass_commands(reader, behind_writer), self._pass_answers(behind_reader, writer)):
            task = asyncio.create_task(work)
            self._passing.add(task)
            task.add_done_callback(self._passing.discard)

    async def _pass_commands(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = hiredis.Reader()
        while data := await reader.read(1 << 20):
            parser.feed(data)
            commands = []
            while isinstance(command := parser.gets(), list):
                commands.append(command)
            if asked := [command for command in commands if command[0] != b"CLIENT"]:
                self.writes.append(asked)
            writer.write(data)
            await self._tell()
        writer.close()

    async def _pass_answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 20):
            self.held_bytes += len(data)
            await self._tell()
            await self._open.wait()
            self.held_bytes -= len(data)
            if self.pass_bytes is not None:
                data, self.pass_bytes = data[: self.pass_bytes], max(0, self.pass_bytes - len(data))
            writer.write(data)
            if self.pass_bytes == 0:
                self.pass_bytes = None
                break
        writer.close()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()
