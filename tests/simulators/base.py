"""A vendor on a socket: behaves as documented, writes down what it receives, and fails when told to.

The journal and the counters are complete the moment a test can see their effect, and everything that takes
time can be awaited, so that no test sleeps.
"""

import asyncio
import hashlib
import socket
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from aiohttp import web
from multidict import CIMultiDict

from tests.simulators.faults import Exchange, Fault, Match, Programme, Received
from tests.simulators.threads_server.ask import Ask
from tests.simulators.threads_server.server import ThreadsServer, read

KEYS: Mapping[str, str] = {
    "sk-acme-one-1111": "acme",
    "sk-acme-two-2222": "acme",
    "sk-bolt-one-3333": "bolt",
}
JOURNALED_BYTES = 2**20
PATIENCE_S = 5.0


@dataclass(eq=False)
class Simulator(ThreadsServer):
    """`keys` may be replaced before the start; keys of one account share a world."""

    keys: Mapping[str, str] = field(default_factory=lambda: KEYS)
    journal: list[Received] = field(default_factory=list, init=False)
    faults: Programme = field(default_factory=Programme, init=False)
    _waiters: list[asyncio.Future[None]] = field(default_factory=list, init=False)
    _reserved: socket.socket | None = field(default=None, init=False)

    @property
    def created(self) -> Counter[str]:
        """How many objects of each kind all accounts made; `World.created` names the kinds."""
        return sum((world.created for world in self.worlds.values()), Counter())

    def ignore_parameters(self, *, cursor: bool = False, limit: bool = False) -> None:
        """Behave like a vendor that ignores `after` and `before`, or `limit`: then lists come whole."""
        for world in self.worlds.values():
            world.ground.ignores_cursor = cursor
            world.ground.ignores_limit = limit

    @property
    def settings(self) -> Mapping[str, str]:
        """What a configuration says of this provider beside its vendor, address and accounts."""
        return {}

    def options_of(self, account: str) -> Mapping[str, str]:
        """What a configuration says of an account beside its keys."""
        return {}

    async def stop(self) -> None:
        await self._break_off()
        self._release_port()

    async def refuse(self) -> None:
        """Close the listening socket and every connection; the port stays ours but refuses."""
        host, port = self._host, self._port
        await self._break_off()
        self._reserved = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reserved.bind((host, port))

    async def allow(self) -> None:
        """Listen again on the same port, with the same state."""
        await super().start(self._host, self._port)
        self._release_port()

    async def _break_off(self) -> None:
        for received in self.journal:
            received.ending = received.ending or "cut"
        await super().stop()

    def _release_port(self) -> None:
        if self._reserved is not None:
            self._reserved.close()
            self._reserved = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        ask = await read(request)
        received = self._receive(ask, request.raw_path.partition("?")[2])
        fault = self.faults.take(received)
        self.journal.append(received)
        self._announce()
        try:
            response = await self._respond(Exchange(self, request, received, ask), fault)
            received.ending = "answered"
            return response
        except (asyncio.CancelledError, ConnectionError):
            received.ending = received.ending or "left"
            raise
        finally:
            self._announce()

    async def _respond(self, exchange: Exchange, fault: Fault | None) -> web.StreamResponse:
        if fault is not None:
            return await fault.act(exchange)
        return await exchange.send(exchange.work())

    def _receive(self, ask: Ask, query: str) -> Received:
        key = self.key_of(ask)
        return Received(
            method=ask.method,
            path=ask.path,
            query=query,
            headers=CIMultiDict(ask.headers),
            body=ask.body if len(ask.body) <= JOURNALED_BYTES else b"",
            digest=hashlib.sha256(ask.body).hexdigest(),
            length=len(ask.body),
            key=key,
            account=self.keys.get(key or ""),
        )

    async def arrived(
        self, count: int = 1, *, method: str | None = None, path: str = "", within_s: float = PATIENCE_S
    ) -> Received:
        """Wait until so many requests of this kind have arrived since the start; answers the last of them."""
        match = Match(method, path)

        def fitting() -> list[Received]:
            return [received for received in self.journal if match.fits(received)]

        await self.until(lambda: len(fitting()) >= count, within_s=within_s)
        return fitting()[count - 1]

    async def disconnected(self, received: Received, *, within_s: float = PATIENCE_S) -> float:
        """Wait until the caller has left before its answer was complete; answers the seconds that took."""
        clock = asyncio.get_running_loop().time
        began = clock()
        await self.until(lambda: received.ending != "", within_s=within_s)
        if received.ending != "left":
            raise AssertionError(f"the request was {received.ending}, the caller did not leave")
        return clock() - began

    async def until(self, happened: Callable[[], bool], *, within_s: float = PATIENCE_S) -> None:
        """Wait for something that shows in the journal; raises TimeoutError."""
        async with asyncio.timeout(within_s):
            while not happened():
                waiter = asyncio.get_running_loop().create_future()
                self._waiters.append(waiter)
                await waiter

    def _announce(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
