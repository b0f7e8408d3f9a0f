"""The way to one provider: connections, TLS, outgoing proxy. The seam behind which an HTTP client stands.

`open` either gives an answer whose status and headers are known, or raises AttemptFailed, which says whether the
provider may have seen the request.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import aiohttp
from multidict import CIMultiDictProxy
from yarl import URL

from gateway.config import Provider as ProviderConfig
from gateway.config import Timeouts
from gateway.errors import AttemptFailed
from gateway.model import Outbound
from gateway.sse import Event


class Relayed(Protocol):
    """An answer that is passed on while it arrives: status and headers are known, the body is read once. Use as a
    context; leaving it early tells whoever makes it that nobody listens."""

    status: int

    @property
    def headers(self) -> Mapping[str, str]: ...

    @property
    def content_type(self) -> str: ...

    @property
    def length_bytes(self) -> int | None: ...

    @property
    def has_framed_end(self) -> bool: ...

    async def read(self, limit_bytes: int) -> bytes: ...

    async def next_piece(self) -> bytes: ...

    @property
    def next_events(self) -> Callable[[], Awaitable[Sequence[Event]]] | None:
        """In place of `next_piece`, where a stream's events need not be read out of bytes; none come at its end."""

    def when_closed(self, callback: Callable[[], None]) -> None: ...

    async def __aenter__(self) -> Relayed: ...

    async def __aexit__(self, *exc: object) -> None: ...


class Answer:
    """A provider's answer: status and headers, and a body that is read once, whole or in pieces.

    Use as a context. Leaving it early closes the connection, which is how a provider learns that nobody listens.
    """

    next_events = None

    def __init__(self, response: aiohttp.ClientResponse, timeouts: Timeouts, deadline: float) -> None:
        self._response = response
        self._timeouts = timeouts
        self._deadline = deadline
        self._clock = asyncio.get_running_loop().time
        self._silent_since = self._clock()
        self._closing: list[Callable[[], None]] = []
        self.status = response.status
        self._headers = response.headers

    @property
    def headers(self) -> CIMultiDictProxy[str]:
        return self._headers

    @property
    def content_type(self) -> str:
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    @property
    def length_bytes(self) -> int | None:
        """Size of the body if the provider told and nothing is unpacked on the way."""
        return None if "Content-Encoding" in self.headers else self._response.content_length

    @property
    def has_framed_end(self) -> bool:
        """Whether the end of the body can be told from a lost connection."""
        coding = self.headers.get("Transfer-Encoding", "").lower()
        return "chunked" in coding or "Content-Length" in self.headers

    async def read(self, limit_bytes: int) -> bytes:
        """The whole body. Raises AttemptFailed when it is cut, stalls, or exceeds the limit."""
        parts, size_bytes = [], 0
        async for piece in self.pieces():
            size_bytes += len(piece)
            if size_bytes > limit_bytes:
                raise _failed(502, "answered more than limits.answer_bytes allows", "provider_broken_answer")
            parts.append(piece)
        return b"".join(parts)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it arrives; an empty piece never comes. Raises AttemptFailed when it is cut or stalls."""
        while piece := await self.next_piece():
            yield piece

    async def next_piece(self) -> bytes:
        """What has arrived, or b"" at the end. May be cancelled and called again.

        Raises AttemptFailed for a cut, a stall of `idle_s`, or a request that takes longer than `total_s`.
        """
        content = self._response.content
        patience_ends = self._silent_since + self._timeouts.idle_s
        try:
            piece = content.read_nowait()  # what has arrived already needs no timer
            if not piece and not content.at_eof():
                async with asyncio.timeout_at(min(patience_ends, self._deadline)):
                    piece = await content.readany()
        except TimeoutError as exc:
            if self._deadline < patience_ends:
                raise _too_long(self._timeouts) from exc
            raise _failed(504, f"sent nothing for {self._timeouts.idle_s:g} s", "provider_timeout") from exc
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            raise _failed(502, "cut the answer off", "provider_broken_answer") from exc
        self._silent_since = self._clock()
        return piece

    async def __aenter__(self) -> Answer:
        return self

    def when_closed(self, callback: Callable[[], None]) -> None:
        """Called once, when nothing more of the answer is read."""
        self._closing.append(callback)

    async def __aexit__(self, *exc: object) -> None:
        while self._closing:
            self._closing.pop()()
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()


class Upstream:
    """Connections to one provider, kept open between requests. Make it inside the event loop; close it at the end."""

    def __init__(self, config: ProviderConfig) -> None:
        self._timeouts = config.timeouts
        self._proxy = config.proxy.reveal() if config.proxy else None
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=config.tls_context(), limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=config.timeouts.connect_s),
            skip_auto_headers=("User-Agent", "Content-Type", "Accept", "Accept-Encoding"),
            max_line_size=64 * 1024,
            max_field_size=64 * 1024,
        )
        # aiohttp would send a DELETE again by itself when an idle connection turns out to be closed; attempts are
        # counted, recorded and judged by us alone. Guarded by a test.
        self._session._retry_connection = False

    async def open(
        self,
        outbound: Outbound,
        credentials: Mapping[str, str],
        *,
        body: bytes | AsyncIterator[bytes],
        size_bytes: int,
        deadline: float,
    ) -> Answer:
        """Send and wait for status and headers, at most `first_byte_s` after the last piece sent, and not beyond
        `deadline` (the event loop's clock).

        Raises AttemptFailed. Redirects are answers like any other: following one would carry a key elsewhere.
        """
        headers = {**outbound.headers, **credentials}
        if outbound.method == "POST":
            headers["Content-Length"] = str(size_bytes)
        timeouts = self._timeouts
        try:
            async with asyncio.timeout_at(self._patience_ends(deadline)) as clock:
                data = body if isinstance(body, bytes) else self._paced(body, clock, deadline)
                response = await self._session.request(
                    outbound.method,
                    URL(outbound.url, encoded=True),
                    headers=headers,
                    data=data or None,
                    proxy=self._proxy,
                    allow_redirects=False,
                )
        except aiohttp.ConnectionTimeoutError as exc:
            what = f"could not be connected to within {timeouts.connect_s:g} s"
            raise _failed(504, what, "provider_timeout", arrived=False) from exc
        except TimeoutError as exc:
            if asyncio.get_running_loop().time() >= deadline:
                raise _too_long(timeouts) from exc
            raise _failed(504, f"did not answer within {timeouts.first_byte_s:g} s", "provider_timeout") from exc
        except (aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError, aiohttp.InvalidURL) as exc:
            raise _failed(502, "cannot be connected to", "provider_unreachable", arrived=False) from exc
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            raise _failed(502, "broke the connection off before it answered", "provider_unreachable") from exc
        return Answer(response, timeouts, deadline)

    def _patience_ends(self, deadline: float) -> float:
        now = asyncio.get_running_loop().time()
        return min(deadline, now + self._timeouts.connect_s + self._timeouts.first_byte_s)

    async def _paced(
        self, chunks: AsyncIterator[bytes], clock: asyncio.Timeout, deadline: float
    ) -> AsyncIterator[bytes]:
        """An upload's pieces; each one sent gives the provider its full time again."""
        async for chunk in chunks:
            with contextlib.suppress(RuntimeError):  # its answer came before the last piece: nobody waits any more
                clock.reschedule(self._patience_ends(deadline))
            yield chunk

    async def close(self) -> None:
        await self._session.close()


def _too_long(timeouts: Timeouts) -> AttemptFailed:
    return _failed(504, f"took longer than {timeouts.total_s:g} s in all", "provider_timeout")


def _failed(status: int, what: str, code: str, *, arrived: bool = True) -> AttemptFailed:
    return AttemptFailed(status, what, code=code, arrived=arrived)
