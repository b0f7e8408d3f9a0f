"""Everything that the store has of one tenant, removed.

Who keeps something of tenants says in its own module where, and stands here:

    keys_of     how the names of a tenant's own keys begin; they end in what no other tenant's id goes on with
    index_of    a sorted set of all tenants, whose members begin with the tenant's id and a colon

It goes by SCAN, a few keys at a time, and does no harm when it is broken off, or done again. Gateways that run must
know before that the tenant was erased (`switches.py`), or what is under way there writes some of it anew.

What stays: that the tenant was made and is disabled and erased, digests of its keys, and acts of operators, which name
it. Its usage stays unless it is asked for: it is what was or will be billed, and holds numbers only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from redis.asyncio import Redis

from gateway.store import cache, homes, idempotency, limits, noted_runs, owner_index, tenant_usage, token_counts
from gateway.store.connection import Store

_KEYS: Mapping[str, Callable[[Store, str], tuple[str, ...]]] = {
    "cached objects": cache.keys_of,
    "lists of what it owns": owner_index.keys_of,
    "idempotency records": idempotency.keys_of,
    "runs to be settled": noted_runs.keys_of,
    "counts of limits": limits.keys_of,
    "counts of tokens": token_counts.keys_of,
}
_USAGE: Mapping[str, Callable[[Store, str], tuple[str, ...]]] = {"months of usage": tenant_usage.keys_of}
_INDEXES: Mapping[str, Callable[[Store], str]] = {
    "times of idempotency records": idempotency.index_of,
    "times of runs": noted_runs.index_of,
}
_AT_ONCE = 1000


async def erase_tenant(store: Store, tenant: str, *, with_usage: bool) -> Counter[str]:
    """Remove what is kept of a tenant, by id. How many keys and entries there were of each kind. Raises StoreAway: then
    the rest is still there."""
    kinds = {**_KEYS, **(_USAGE if with_usage else {})}
    removed = Counter(dict.fromkeys((*kinds, *_INDEXES, "home accounts"), 0))
    begins = {what: keys_of(store, tenant) for what, keys_of in kinds.items()}
    async for keys in store.scan(store.key(f"*{tenant}*"), count=_AT_ONCE):
        for what, beginnings in begins.items():
            its_own = [key for key in keys if key.startswith(beginnings)]
            removed[what] += await _unlink(store, its_own)
    for what, index_of in _INDEXES.items():
        removed[what] += await _unlist(store, index_of(store), f"{tenant}:")
    async for keys in store.scan(homes.keys(store), count=_AT_ONCE):
        for key in keys:
            removed["home accounts"] += int(await store.run(lambda redis, key=key: redis.hdel(key, tenant)))  # type: ignore[misc]
    return removed


async def _unlink(store: Store, keys: Sequence[str]) -> int:
    """One command for each: they may be in different slots."""
    if not keys:
        return 0

    async def each(redis: Redis) -> int:
        async with redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.unlink(key)
            return sum(await pipe.execute())

    return await store.run(each)


async def _unlist(store: Store, index: str, beginning: str) -> int:
    removed, cursor = 0, None
    while cursor != 0:
        found: Any = await store.run(
            lambda redis, cursor=cursor: redis.zscan(index, cursor or 0, match=f"{beginning}*", count=_AT_ONCE)  # type: ignore[misc]
        )
        cursor, members = found[0], [member for member, _ in found[1]]
        if members:
            removed += int(await store.run(lambda redis, members=members: redis.zrem(index, *members)))  # type: ignore[misc]
    return removed
