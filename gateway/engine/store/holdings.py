"""Which threads and assistants each tenant has here: what goes when the tenant is erased.

The index lies in other slots than what it lists, so it is written before: what is in no index would stay for ever. An
entry of what does not exist, or not any more, does no harm.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Literal, NamedTuple

from gateway.store.connection import Store, StoreAway


class Holding(NamedTuple):
    """`account` is the route of an assistant's account; threads have none."""

    kind: Literal["thread", "assistant"]
    id: str
    account: str = ""

    def __str__(self) -> str:
        return ":".join(self)  # neither ids nor routes hold a colon


class Holdings:
    """The index. `tenant` is a tenant's id."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def _key(self, tenant: str) -> str:
        return self._store.key("holdings", f"{{{tenant}}}")

    async def note(self, tenant: str, holding: Holding, now: float) -> None:
        """It is about to be made. Raises StoreAway."""
        await self._store.run(lambda redis: redis.zadd(self._key(tenant), {str(holding): now}, nx=True))

    async def forget(self, tenant: str, holding: Holding) -> None:
        """It is gone. Never raises: an entry that stays leads nowhere."""
        with suppress(StoreAway):
            await self.drop(tenant, [holding])

    async def drop(self, tenant: str, holdings: Sequence[Holding]) -> None:
        """The same of several, for one who has to know. Raises StoreAway."""
        await self._store.run(lambda redis: redis.zrem(self._key(tenant), *map(str, holdings)))

    async def first(self, tenant: str, count: int) -> list[Holding]:
        """The oldest that are not forgotten. Raises StoreAway."""
        found = await self._store.run(lambda redis: redis.zrange(self._key(tenant), 0, count - 1))
        return [_read(str(each)) for each in found]


def _read(entry: str) -> Holding:
    kind, id_, account = entry.split(":")
    return Holding(kind, id_, account)  # type: ignore[arg-type]
