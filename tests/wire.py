"""Ends of a connection that speak bytes: what no HTTP library would send, and how no simulator would answer.

A `Wire` reads only when it is asked to, so that a test decides what stays in the buffers between two processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, NamedTuple

import orjson
from multidict import CIMultiDict
from yarl import URL

PATIENCE_S = 5.0
_PIECE_BYTES = 64 * 1024


class Answer(NamedTuple):
    """One whole answer. `frames` are the chunks of a chunked body as they were framed."""

    status: int
    headers: CIMultiDict[str]
    body: bytes
    frames: list[bytes]

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def code(self) -> str | None:
        """The code in OpenAI's envelope."""
        code: str | None = self.json["error"]["code"]
        return code


class Wire:
    """One end of a TCP connection. Every wait ends after `PATIENCE_S` with TimeoutError."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._kept = b""

    @classmethod
    async def dial(cls, url: str, *, receive_buffer_bytes: int | None = None) -> Wire:
        address = URL(url)
        sock = socket.socket()
        sock.setblocking(False)
        if receive_buffer_bytes is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        try:
            await asyncio.get_running_loop().sock_connect(sock, (address.host, address.port))
        except OSError:
            sock.close()
            raise
        return cls(sock)

    async def send(self, data: bytes, *, within_s: float = PATIENCE_S) -> None:
        async with asyncio.timeout(within_s):
            await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def receive(self, *, within_s: float = PATIENCE_S) -> bytes:
        """What has arrived, b"" at the end. Raises ConnectionResetError."""
        if self._kept:
            kept, self._kept = self._kept, b""
            return kept
        async with asyncio.timeout(within_s):
            return await asyncio.get_running_loop().sock_recv(self.sock, _PIECE_BYTES)

    async def until(self, mark: bytes) -> bytes:
        """Everything up to and with `mark`; raises EOFError with what came when the other end closes before."""
        seen = b""
        while mark not in seen:
            piece = await self.receive()
            if not piece:
                raise EOFError(seen)
            seen += piece
        seen, _, self._kept = seen.partition(mark)
        return seen + mark

    async def exactly(self, count: int) -> bytes:
        seen = bytearray()
        while len(seen) < count:
            piece = await self.receive()
            if not piece:
                raise EOFError(bytes(seen))
            seen += piece
        self._kept = bytes(seen[count:])
        return bytes(seen[:count])

    async def rest(self) -> bytes:
        """Everything until the other end closes, in whatever manner."""
        seen = bytearray()
        with contextlib.suppress(ConnectionResetError):
            while piece := await self.receive():
                seen += piece
        return bytes(seen)

    async def head(self) -> tuple[str, CIMultiDict[str]]:
        """First line and headers of a message."""
        first, *lines = (await self.until(b"\r\n\r\n")).decode("latin-1").strip("\r\n").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        return first, CIMultiDict((name, value.strip()) for name, _, value in pairs)

    async def request(self) -> tuple[str, CIMultiDict[str], bytes]:
        """One whole request with a length, as a provider reads it."""
        first, headers = await self.head()
        return first, headers, await self.exactly(int(headers.get("Content-Length", "0")))

    async def answer(self, *, has_body: bool = True) -> Answer:
        """One whole answer, as a caller reads it."""
        first, headers = await self.head()
        status = int(first.split(" ")[1])
        if not has_body or status < 200:
            return Answer(status, headers, b"", [])
        if headers.get("Transfer-Encoding") == "chunked":
            frames = [frame async for frame in self._frames()]
            return Answer(status, headers, b"".join(frames), frames)
        if "Content-Length" in headers:
            return Answer(status, headers, await self.exactly(int(headers["Content-Length"])), [])
        return Answer(status, headers, await self.rest(), [])

    async def _frames(self) -> Any:
        while frame := await self.frame():
            yield frame

    async def frame(self) -> bytes:
        """The next chunk of a chunked body, b"" for its end; raises EOFError when it is broken off."""
        size = int(await self.until(b"\r\n"), 16)
        return (await self.exactly(size + 2))[:-2]

    def half_close(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def close(self, *, reset: bool = False) -> None:
        if reset:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


def request(
    method: str,
    path: str,
    body: bytes = b"",
    *headers: str,
    key: str = "alice-key",
    version: str = "1.1",
    length: int | None = None,
) -> bytes:
    """A request in bytes. A body is JSON and has its length unless `headers` or `length` say otherwise."""
    lines = [f"{method} {path} HTTP/{version}", "Host: gateway", f"Authorization: Bearer {key}", *headers]
    told = {line.partition(":")[0].lower() for line in headers}
    if (body or length is not None) and not told & {"content-length", "transfer-encoding"}:
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    if (body or length is not None) and "content-type" not in told:
        lines.append("Content-Type: application/json")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def chunked(*pieces: bytes) -> bytes:
    """The chunks of a chunked body, without its end: `chunked(…, b"")` has it."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


class Provider:
    """A provider that does with each connection what the test says: `async with Provider(play) as provider`.

    `play` gets the wire of one connection, which is closed when it returns.
    """

    def __init__(self, play: Callable[[Wire], Awaitable[None]], *, send_buffer_bytes: int | None = None) -> None:
        self._play = play
        self._send_buffer_bytes = send_buffer_bytes
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.setblocking(False)
        self._tasks: list[asyncio.Task[None]] = []
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.connections = 0

    async def __aenter__(self) -> Provider:
        self._tasks.append(asyncio.create_task(self._accept()))
        return self

    async def _accept(self) -> None:
        while True:
            sock, _ = await asyncio.get_running_loop().sock_accept(self._listening)
            if self._send_buffer_bytes is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._send_buffer_bytes)
            self.connections += 1
            self._tasks.append(asyncio.create_task(self._serve(Wire(sock))))

    async def _serve(self, wire: Wire) -> None:
        try:
            await self._play(wire)
        except (EOFError, ConnectionError):
            pass  # the gateway closed the connection, as it may at any time
        finally:
            wire.close()

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        outcomes = await asyncio.gather(*self._tasks, return_exceptions=True)
        self._listening.close()
        faults = [each for each in outcomes if isinstance(each, Exception)]
        if faults and exc is None:
            raise faults[0]


async def gone(wire: Wire) -> None:
    """Wait until the other end has closed, in whatever manner; what still comes is read and dropped."""
    await wire.rest()
