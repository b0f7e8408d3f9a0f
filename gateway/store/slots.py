"""Which server of a cluster has which slot, as the servers themselves tell it.

The table is read from any server that answers: those that are known, else those of the URL. A server that is not in it
any more is closed. Between two readings single slots change by what servers answer (MOVED).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any, Generic, Protocol, TypeVar

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from gateway.ending import end
from gateway.store.server import StoreAway
from gateway.store.single_flight import SingleFlight

_URL = re.compile(r"(?P<scheme>rediss?)\+cluster://(?P<user>(?:[^/?]*@)?)(?P<places>[^/?]+)/?(?P<options>\?.*)?")
_PORT = 6379


def is_cluster(url: str) -> bool:
    return "+cluster://" in url


def seeds_of(url: str) -> Mapping[str, str]:
    """The servers that a cluster's URL names: address (`host:port`) → the URL of that server alone."""
    parts = _parts(url)
    places = (place if re.search(r":\d+$", place) else f"{place}:{_PORT}" for place in parts["places"].split(","))
    return {place: url_of(url, place) for place in places}


def url_of(url: str, address: str) -> str:
    """The URL of one server of a cluster, with the user, the password and the options of the cluster's URL."""
    parts = _parts(url)
    return f"{parts['scheme']}://{parts['user']}{address}{parts['options'] or ''}"


def _parts(url: str) -> re.Match[str]:
    parts = _URL.fullmatch(url)
    if parts is None:
        raise ValueError("not a cluster's URL")
    return parts


def slot_of(words: Sequence[Any]) -> int | None:
    """The slot of a command, by its first key; None for one that has no key. All commands that the gateway sends have
    their key in the second place, but for scripts."""
    command = words[0]
    if command in ("EVAL", "EVALSHA"):
        key = words[3]
    elif command in _WITHOUT_KEY:
        return None
    else:
        key = words[1]
    return slot_of_key(key)


_WITHOUT_KEY = ("PING",)


def slot_of_key(key: bytes | str | int) -> int:
    return int(key_slot(key if isinstance(key, bytes) else str(key).encode()))


class Member(Protocol):
    """One server of a cluster."""

    @property
    def is_away(self) -> bool: ...

    async def tell_slots(self) -> Sequence[Any]:
        """The answer to CLUSTER SLOTS. Raises StoreAway."""

    async def close(self) -> None: ...


M = TypeVar("M", bound=Member)


class Members(Generic[M]):
    """The servers of a cluster. `open_member` makes the client of one from its URL and its address."""

    def __init__(self, url: str, open_member: Callable[[str, str], M]) -> None:
        self._url = url
        self._open_member = open_member
        self._seeds = seeds_of(url)
        self._table: list[str | None] = []
        """Slot → address. Empty until a server has told it."""
        self._known: dict[str, M] = {}
        """By address."""
        self._flights = SingleFlight()
        self._working: set[asyncio.Task[None]] = set()
        self._is_closed = False

    def known(self) -> Sequence[M]:
        """Those that have slots. In memory; empty until a server has told which these are."""
        return tuple(self._known.values()) if self._table else ()

    def seeds(self) -> Sequence[M]:
        """Those that the URL names, whether they are still there or not."""
        return [self.at(address) for address in self._seeds]

    async def all(self) -> Sequence[M]:
        """Those that have slots. Raises StoreAway if nobody tells."""
        if not self._table:
            await self.learn()
        return self.known()

    async def of(self, slot: int) -> M:
        """Who has the slot. Raises StoreAway if nobody has it, or nobody tells."""
        if not self._table:
            await self.learn()
        return self.now_of(slot)

    def now_of(self, slot: int) -> M:
        """The same by what is known. Raises StoreAway."""
        address = self._table[slot] if self._table else None
        if address is None:
            self.learn_soon()
            raise StoreAway(f"no server has slot {slot}")
        return self.at(address)

    def at(self, address: str) -> M:
        """Raises StoreAway when all of this is closed."""
        if self._is_closed:
            raise StoreAway("closed")
        if address not in self._known:
            self._known[address] = self._open_member(url_of(self._url, address), address)
        return self._known[address]

    def move(self, slot: int, address: str) -> M:
        """A server said that another one has the slot now. That rarely happens to one slot alone."""
        if self._table:
            self._table[slot] = address
        self.learn_soon()
        return self.at(address)

    def learn_soon(self) -> None:
        if not any(task.get_name() == "slots.learn" for task in self._working):
            self._begin(self._learn_if_told(), "slots.learn")

    async def _learn_if_told(self) -> None:
        with suppress(StoreAway):
            await self.learn()

    async def learn(self) -> None:
        """Read the table. Raises StoreAway if no server tells it."""
        await self._flights.share("table", self._learn)

    async def _learn(self) -> None:
        asked = {**dict.fromkeys(self._known), **self._seeds}
        for address in sorted(asked, key=lambda each: each in self._known and self._known[each].is_away):
            with suppress(StoreAway):
                self._take(address, await self.at(address).tell_slots())
                return
        raise StoreAway("no server of the cluster tells its slots")

    def _take(self, teller: str, told: Sequence[Any]) -> None:
        table: list[str | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        for first, last, primary, *_ in told:
            host, port = primary[0], primary[1]
            address = address_of(host.decode() if isinstance(host, bytes) else host, int(port), said_by=teller)
            table[int(first) : int(last) + 1] = [address] * (int(last) - int(first) + 1)
        if not any(table):
            raise StoreAway(f"{teller} knows no slots")
        self._table = table
        wanted = {address for address in table if address is not None}
        for address in wanted:
            self.at(address)
        for address in self._known.keys() - wanted:
            self._begin(self._known.pop(address).close(), "slots.close")

    def _begin(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    async def close(self) -> None:
        self._is_closed = True
        await end([task for task in self._working if task.get_name() == "slots.learn"])
        closing = [*self._working, *(member.close() for member in self._known.values())]
        await asyncio.gather(*closing, return_exceptions=True)
        self._known.clear()


def address_of(host: str | None, port: int, *, said_by: str) -> str:
    """The address of a server that another one, or it itself, told of. Without a host it is where that one is."""
    host = host or said_by.rpartition(":")[0]
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"
