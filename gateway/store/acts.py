"""What operators did, as a stream in the store that every running gateway reads and logs.

An act is written by the command that does it, after it is done. The stream holds about the last 1000 (`_KEPT`).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from redis.asyncio import Redis

from gateway.store.connection import Store
from gateway.telemetry import log

Acted = Literal["key", "provider", "tenant", "tenant_key"]

_KEPT = 1000
_AT_ONCE = 100


@dataclass(frozen=True)
class Act:
    """One act: `who` is user@host, `kind` and `name` what it was done to; `at_s` seconds since 1970.

    `id` tells an act that was written twice, because an answer of the store was lost, from two acts.
    """

    who: str
    act: str
    kind: Acted
    name: str
    at_s: int
    reason: str = ""
    id: str = field(default_factory=lambda: secrets.token_hex(8))


class Acts:
    """The stream. What was written before `begin` is not logged."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._key = store.key("acts")
        self._last: str | None = None
        """The stream's id of the last act read; None until the store has told it."""
        self._last_act: str | None = None
        self._following = asyncio.Lock()
        self.on_act: list[Callable[[Act], None]] = []
        """Told of each act that is followed."""

    async def add(self, act: Act) -> None:
        """Write an act. Raises StoreAway."""
        words: dict[Any, Any] = {name: str(value) for name, value in asdict(act).items()}
        await self._store.run(lambda redis: redis.xadd(self._key, words, maxlen=_KEPT, approximate=True))

    async def follow(self) -> None:
        """Log what was done since the last call; the first only finds out where the stream ends. Raises StoreAway."""
        async with self._following:
            if self._last is None:
                newest: list[Any] = await self._run(lambda redis: redis.xrevrange(self._key, count=1))
                self._last = newest[0][0] if newest else "0-0"
                return
            after = f"({self._last}"
            for place, words in await self._run(lambda redis: redis.xrange(self._key, min=after, count=_AT_ONCE)):
                self._last = place
                self._log(words)

    async def _run(self, command: Callable[[Redis], Awaitable[Any]]) -> Any:
        return await self._store.run(command)

    def _log(self, words: Mapping[str, str]) -> None:
        if words.get("id") == self._last_act:
            return
        self._last_act = words.get("id")
        facts: dict[str, Any] = {name: words.get(name, "") for name in ("who", "act", "kind", "name", "reason")}
        at_s = words.get("at_s", "")
        acted_s = int(at_s) if at_s.isdecimal() else None
        log.info("operator.acted", **facts, acted_s=acted_s)
        for callback in self.on_act:
            callback(Act(**facts, at_s=acted_s or 0, id=words.get("id", "")))
