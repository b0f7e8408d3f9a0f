"""Whose account-level objects are whose: a sorted set for each tenant, account and kind.

On an account that several tenants share the provider's own lists would show everybody's objects. Here stands what was
created through the gateway, in the order of creation; the objects themselves are read from the provider by id.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from gateway.store.connection import Store, StoreAway, do_each
from gateway.store.switches import IsErased, nobody
from gateway.telemetry import log

_ADD = """
local now = redis.call('TIME')
for i = 1, #ARGV do
  redis.call('ZADD', KEYS[1], 'NX', now[1] * 1000000 + now[2] + i, ARGV[i])
end
"""
_SEEN = """
local now = tonumber(redis.call('TIME')[1])
local found = tonumber(ARGV[2])
for i = 3, 2 + found do redis.call('ZREM', KEYS[2], ARGV[i]) end
for i = 3 + found, #ARGV do
  local since = redis.call('ZSCORE', KEYS[2], ARGV[i])
  if not since then
    redis.call('ZADD', KEYS[2], now, ARGV[i])
  elseif now - tonumber(since) >= tonumber(ARGV[1]) then
    redis.call('ZREM', KEYS[1], ARGV[i])
    redis.call('ZREM', KEYS[2], ARGV[i])
  end
end
"""
_LATE_LIMIT = 10_000
_MISSED_FOR_S = 3600
"""An object is forgotten when the provider did not have it for an hour: one 404 may be a slip of something between."""


class Owned(NamedTuple):
    """What an entry is about: the objects of one kind that a tenant has in one account."""

    tenant: str
    route: str
    kind: str


def keys_of(store: Store, tenant: str) -> tuple[str, ...]:
    """As in `erase_tenant.py`."""
    return (store.key("own", f"{{{tenant}}}", ""),)


class OwnerIndex:
    """The index. What cannot be written while the store is away is kept, at most 10 000 entries, and written as soon
    as it is back. Of a tenant that `is_erased` nothing is written."""

    def __init__(self, store: Store, *, is_erased: IsErased = nobody) -> None:
        self._store = store
        self._is_erased = is_erased
        self._late: deque[tuple[Owned, tuple[str, ...]]] = deque()
        self._flushing = asyncio.Lock()

    def _key(self, owned: Owned) -> str:
        # A tenant's and a kind's names come from the configuration and the code; neither holds a colon. All of a tenant
        # is in one slot, because one script takes what is there together with what is missing.
        return self._store.key("own", f"{{{owned.tenant}}}", owned.route, owned.kind)

    async def add(self, owned: Owned, upstream: Sequence[str]) -> None:
        """Note that these objects are the tenant's. Never raises: an answer must not be lost for the index."""
        try:
            await self._add(owned, upstream)
        except StoreAway:
            log.warning("index.late", tenant=owned.tenant, kind=owned.kind, upstream_ids=list(upstream))
            if len(self._late) >= _LATE_LIMIT:
                self._lose(*self._late.popleft())
            self._late.append((owned, tuple(upstream)))

    async def _add(self, owned: Owned, upstream: Sequence[str]) -> None:
        if self._is_erased(owned.tenant):
            return
        await self._store.run(lambda redis: redis.eval(_ADD, 1, self._key(owned), *upstream))

    async def remove(self, owned: Owned, upstream: Sequence[str]) -> None:
        """Forget objects that are gone. Never raises: a list skips what is not found."""
        with suppress(StoreAway):
            await self._store.run(lambda redis: redis.zrem(self._key(owned), *upstream))

    async def seen(self, owned: Owned, *, found: Sequence[str], missing: Sequence[str]) -> None:
        """Note what the provider had and what it had not. Never raises: the next list notes it again."""
        if self._is_erased(owned.tenant):
            return
        keys = (self._key(owned), self._key(owned) + ":missing")
        with suppress(StoreAway):
            await self._store.run(
                lambda redis: redis.eval(_SEEN, 2, *keys, _MISSED_FOR_S, len(found), *found, *missing)
            )

    async def place(self, owned: Owned, upstream: str) -> float | None:
        """Where an object stands in the order of creation, None if it is not there. Raises StoreAway."""
        return await self._store.run(lambda redis: redis.zscore(self._key(owned), upstream))

    async def has(self, owned: Owned, upstream: str) -> bool:
        """Whether an object is the tenant's, by what is still to be written too. Raises StoreAway."""
        if any(late == owned and upstream in ids for late, ids in self._late):
            return True
        return await self.place(owned, upstream) is not None

    async def page(
        self, owned: Owned, *, newest_first: bool, above: float | None, below: float | None, count: int
    ) -> list[tuple[str, float]]:
        """Up to `count` upstream ids and their places, created after `above` and before `below`, both excluded.
        Raises StoreAway."""
        low = f"({above!r}" if above is not None else "-inf"
        high = f"({below!r}" if below is not None else "+inf"
        start, end = (high, low) if newest_first else (low, high)
        found = await self._store.run(
            lambda redis: redis.zrange(
                self._key(owned),
                start,
                end,
                desc=newest_first,
                byscore=True,
                offset=0,
                num=count,
                withscores=True,
            )
        )
        pairs: list[tuple[str, float]] = [(str(pair[0]), float(pair[1])) for pair in found]
        return pairs

    async def flush(self) -> None:
        """Write what came while the store was away, of each tenant in order. Raises StoreAway if a tenant's part of the
        store is still away."""
        async with self._flushing:
            tenants = dict.fromkeys(owned.tenant for owned, _ in self._late)
            await do_each(partial(self._flush, tenant) for tenant in tenants)

    async def _flush(self, tenant: str) -> None:
        while (late := next((each for each in self._late if each[0].tenant == tenant), None)) is not None:
            await self._add(*late)
            with suppress(ValueError):  # too many came meanwhile
                self._late.remove(late)

    def close(self) -> None:
        """Say what could not be written before the end."""
        while self._late:
            self._lose(*self._late.popleft())

    @staticmethod
    def _lose(owned: Owned, upstream: Sequence[str]) -> None:
        log.error("index.lost", tenant=owned.tenant, route=owned.route, kind=owned.kind, upstream_ids=list(upstream))
