"""A Redis or Valkey Cluster as the store.

Each server has its own connections and its own presence: while one is away, what lies there fails at once, and all else
goes on. Its probe asks the others too, every second, so that a replica that has taken its place is found.

    MOVED       the table changes, and the command goes to who has the slot now
    ASK         the slot is moving, and the key has moved: the command goes there, once, on one connection with ASKING
    TRYAGAIN    the slot is moving, and a script's keys are on both sides: again, until the deadline
    CLUSTERDOWN the server counts as away until it says that the cluster is up; a slot that nobody has is away alone

redis-py's own client of clusters is not used (8.1.0). It sends ASKING on one connection and the command on another, so
that whoever has several does not reach keys of a slot that is moving; it closes everybody's connections when one server
fails; and it sends a pipeline to all servers at once, where an index has to be written before what it is of.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar, cast

from redis.asyncio import Redis
from redis.commands.core import AsyncCoreCommands
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    NoScriptError,
    ResponseError,
    TryAgainError,
)

from gateway.store.server import FAULTS, Server, StoreAway
from gateway.store.slots import Members, address_of, slot_of, slot_of_key

T = TypeVar("T")

_AGAIN_S = 0.02
_REDIRECTS = 3
"""From so many on, a command waits before each: two servers may each say that the other has the slot."""


class _Refusal:
    """Why a server that is there did not carry out a command."""

    def __init__(self, error: ResponseError) -> None:
        self.error = error


class _Member(Server):
    """One server of the cluster, which `members` are."""

    def __init__(self, url: str, *, address: str, members: Members[_Member], **more: Any) -> None:
        super().__init__(url, name=address, **more)
        self.address = address
        self._members = members

    async def tell_slots(self) -> Sequence[Any]:
        """The answer to CLUSTER SLOTS. Raises StoreAway."""
        return await self.run(_slots)

    async def ask(self, words: Sequence[Any], options: Mapping[str, Any], *, is_asking: bool) -> Any:
        """The answer to a command, or a _Refusal. Raises StoreAway."""
        return await self.run(partial(_ask, words=words, options=options, is_asking=is_asking))

    async def _ping(self) -> None:
        with suppress(StoreAway):
            await self._members.learn()  # perhaps another has its slots by now
        async with self._turns:
            await self._attempt(_check_state)
        self._members.learn_soon()  # which may not have been possible without this one


class Cluster:
    """Runs commands on the server that has their key. `on_return` callbacks run each time one of the servers answers
    again after it was away. `pause` is what their probes wait with."""

    def __init__(
        self, url: str, *, timeout_s: float, pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self.on_return: list[Callable[[], Awaitable[None]]] = []
        self._timeout_s = timeout_s
        self._pause = pause
        self._members: Members[_Member] = Members(url, self._open_member)
        self._router = cast(Redis, _Router(self._ask))

    def _open_member(self, url: str, address: str) -> _Member:
        return _Member(
            url,
            members=self._members,
            timeout_s=self._timeout_s,
            address=address,
            pause=self._pause,
            on_return=self.on_return,
        )

    @property
    def is_ready(self) -> bool:
        """Whether it is known who has which slot, and none of them is known to be away."""
        members = self._members.known()
        return any(member.is_ready for member in members) and not any(member.is_away for member in members)

    def subscriber(self, key: str | None = None) -> Redis:
        """As `Store.subscriber` says. A channel's messages reach every server."""
        if key is None:
            members = [member for member in self._members.known() if not member.is_away]
            return random.choice(members or self._members.seeds()).subscriber()
        try:
            return self._members.now_of(slot_of_key(key)).subscriber()
        except StoreAway as exc:
            raise ConnectionError(str(exc)) from exc

    async def run(self, command: Callable[[Redis], Awaitable[T]]) -> T:
        """As `Store.run` says."""
        try:
            return await command(self._router)
        except FAULTS as exc:  # of a server, all are StoreAway by now
            raise StoreAway(type(exc).__name__) from exc

    async def _ask(self, words: Sequence[Any], options: Mapping[str, Any]) -> Any:
        """The answer to a command. Raises StoreAway, and NoScriptError for a script that its server does not know."""
        slot = slot_of(words)
        if slot is None:
            return await random.choice(await self._members.all()).ask(words, options, is_asking=False)
        clock = asyncio.get_running_loop().time
        give_up_s = clock() + self._timeout_s
        member, is_asking = await self._members.of(slot), False
        redirects = 0
        while isinstance(answer := await member.ask(words, options, is_asking=is_asking), _Refusal):
            if clock() >= give_up_s:
                raise StoreAway(f"slot {slot} is moving") from answer.error
            redirects += 1
            if redirects >= _REDIRECTS or isinstance(answer.error, TryAgainError):
                await asyncio.sleep(_AGAIN_S)
            member, is_asking = await self._redirect(slot, member, answer.error)
        return answer

    async def _redirect(self, slot: int, member: _Member, error: ResponseError) -> tuple[_Member, bool]:
        """Who is to be asked instead, and whether with ASKING. Raises what no server can help with."""
        match error:
            case MovedError():  # which is an AskError for redis-py
                return self._members.move(slot, address_of(error.host, error.port, said_by=member.address)), False
            case AskError():
                return self._members.at(address_of(error.host, error.port, said_by=member.address)), True
            case TryAgainError():
                return await self._members.of(slot), False
            case ClusterDownError():
                self._members.learn_soon()
                raise StoreAway(f"slot {slot} is not served") from error
        raise error

    async def scan(self, pattern: str, count: int) -> AsyncGenerator[Sequence[str], None]:
        """As `Store.scan` says."""
        for member in await self._members.all():
            async for keys in member.scan(pattern, count):
                yield keys

    async def connect(self) -> None:
        """As `Store.connect` says."""
        with suppress(StoreAway):
            await asyncio.gather(*(member.connect() for member in await self._members.all()))

    async def close(self) -> None:
        await self._members.close()


_Ask = Callable[[Sequence[Any], Mapping[str, Any]], Awaitable[Any]]


class _Router(AsyncCoreCommands):
    """redis-py's commands, for a cluster."""

    _event_dispatcher: Any = None

    def __init__(self, ask: _Ask) -> None:
        self._ask = ask

    async def execute_command(self, *words: Any, **options: Any) -> Any:
        return await self._ask(words, options)

    def pipeline(self, transaction: bool = False) -> _InOrder:
        return _InOrder(self._ask)


class _InOrder(AsyncCoreCommands):
    """Commands one after another: the servers know nothing of each other, and what comes first may be what the rest is
    found by."""

    _event_dispatcher: Any = None

    def __init__(self, ask: _Ask) -> None:
        self._ask = ask
        self._commands: list[tuple[Sequence[Any], Mapping[str, Any]]] = []

    async def __aenter__(self) -> _InOrder:
        return self

    async def __aexit__(self, *ended: object) -> None:
        self._commands.clear()

    def execute_command(self, *words: Any, **options: Any) -> Any:
        self._commands.append((words, options))
        return self

    async def execute(self) -> list[Any]:
        return [await self._ask(words, options) for words, options in self._commands]


async def _ask(redis: Redis, *, words: Sequence[Any], options: Mapping[str, Any], is_asking: bool) -> Any:
    try:
        if not is_asking:
            return await redis.execute_command(*words, **options)  # type: ignore[no-untyped-call]
        async with redis.pipeline(transaction=False) as pipe:
            pipe.execute_command("ASKING")
            pipe.execute_command(*words, **options)
            return (await pipe.execute())[1]
    except (AskError, TryAgainError, NoScriptError) as exc:
        return _Refusal(exc)
    except ClusterDownError as exc:
        if "not served" in str(exc):
            return _Refusal(exc)
        raise


async def _slots(redis: Redis) -> Sequence[Any]:
    # In two words: of one redis-py makes a dictionary that has no place for what servers have added since.
    told: Sequence[Any] = await redis.execute_command("CLUSTER", "SLOTS")  # type: ignore[no-untyped-call]
    return told


async def _check_state(redis: Redis) -> None:
    """Raises ClusterDownError unless the server takes commands."""
    told = str(await redis.execute_command("CLUSTER", "INFO"))  # type: ignore[no-untyped-call]
    if "cluster_state:ok" not in told:
        raise ClusterDownError("the cluster is down")
