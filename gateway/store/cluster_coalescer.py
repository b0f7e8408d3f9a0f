"""The coalescer's commands on a cluster: one coalescer for each server, a command to the one that has its key.

A slot that is moving to another server (ASK, TRYAGAIN) is away until it is there: the cache is passed by and replicas
share limits out among them, as they do for a second whenever the store is away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from redis.exceptions import MovedError, ResponseError

from gateway.store.coalescer import Coalescer, Script, Word
from gateway.store.server import StoreAway
from gateway.store.slots import Members, address_of, is_cluster, slot_of_key


class _Member(Coalescer):
    """The coalescer of one server of the cluster, which `members` are."""

    def __init__(self, url: str, *, address: str, members: Members[_Member], **more: Any) -> None:
        super().__init__(url, name=address, **more)
        self.address = address
        self._members = members

    @property
    def is_away(self) -> bool:
        return self.presence.is_away

    async def tell_slots(self) -> Sequence[Any]:
        """The answer to CLUSTER SLOTS. Raises StoreAway."""
        try:
            told: Sequence[Any] = await self.run("CLUSTER", "SLOTS")
        except ResponseError as exc:
            raise self.away(exc) from exc
        return told

    def away(self, exc: ResponseError) -> StoreAway:
        """It answers, and cannot do what it must."""
        self.note_away(exc)
        return StoreAway(str(exc))

    async def _ping(self) -> None:
        with suppress(StoreAway):
            await self._members.learn()  # perhaps another has its slots by now
        await super()._ping()
        self._members.learn_soon()  # which may not have been possible without this one


class ClusterCoalescer:
    """As the Coalescer is, but error replies count as StoreAway."""

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.on_return: list[Callable[[], Awaitable[None]]] = []
        """Called whenever one of the servers is back."""
        self._timeout_s = timeout_s
        self._pause = pause
        self._members: Members[_Member] = Members(url, self._open_member)

    def _open_member(self, url: str, address: str) -> _Member:
        return _Member(
            url,
            members=self._members,
            timeout_s=self._timeout_s,
            address=address,
            on_return=self.on_return,
            pause=self._pause,
        )

    async def run(self, *words: Word) -> Any:
        """The answer to one command, whose key is its second word. Raises StoreAway, at once while the server that has
        the key is known to be away."""
        return await self._ask(slot_of_key(words[1]), lambda member: member.run(*words))

    async def script(self, script: Script, *, keys: Sequence[Word], arguments: Sequence[Word]) -> Any:
        """The answer of a script; all keys are of one slot. Raises as `run` does."""
        return await self._ask(
            slot_of_key(keys[0]), lambda member: member.script(script, keys=keys, arguments=arguments)
        )

    async def _ask(self, slot: int, command: Callable[[_Member], Awaitable[Any]]) -> Any:
        member = await self._members.of(slot)
        try:
            return await command(member)
        except MovedError as exc:
            member = self._members.move(slot, address_of(exc.host, exc.port, said_by=member.address))
        except ResponseError as exc:
            raise member.away(exc) from exc
        try:
            return await command(member)
        except ResponseError as exc:
            raise member.away(exc) from exc

    def note_away(self, exc: Exception) -> None:
        """What failed is known of the server that failed."""

    async def close(self) -> None:
        """As the Coalescer's."""
        await self._members.close()


def open_coalescer(
    url: str, *, timeout_s: float, pause: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> Coalescer | ClusterCoalescer:
    """The one that the store's URL asks for."""
    kind = ClusterCoalescer if is_cluster(url) else Coalescer
    return kind(url, timeout_s=timeout_s, pause=pause)
