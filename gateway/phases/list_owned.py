"""Lists of account-level objects on an account that tenants share: from the owner index, object by object."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from gateway.errors import store_unavailable, unknown_id
from gateway.lists import Page
from gateway.operations import Operation
from gateway.phases.locate import Located
from gateway.store.connection import StoreAway
from gateway.store.owner_index import Owned, OwnerIndex

_READS_AT_ONCE = 8

Read = Callable[[str], Awaitable[dict[str, Any] | None]]
"""Upstream id → the object as the provider has it now, None if it is gone."""


class Listed:
    """The tenant's objects of one kind in their order: those that are shared with it are older than all others.

    They come from the configuration at each list, and nowhere is it written that they were listed: what is shared no
    more is gone from the next list on, and a place, being asked for by id, means the same to every replica.
    """

    def __init__(self, index: OwnerIndex, owned: Owned, shared: Sequence[str]) -> None:
        self._index = index
        self._owned = owned
        self._shared = {upstream: -float(number) for number, upstream in enumerate(shared, 1)}
        """Upstream id → place. Those of the index are times, and so above zero."""

    async def place(self, upstream: str) -> float | None:
        """As `OwnerIndex.place`."""
        if upstream in self._shared:
            return self._shared[upstream]
        return await self._index.place(self._owned, upstream)

    async def page(
        self, *, newest_first: bool, above: float | None, below: float | None, count: int
    ) -> list[tuple[str, float]]:
        """As `OwnerIndex.page`; there may be more even if fewer than `count` come, but not if none comes. What a tenant
        made and shares too comes at both of its places."""
        low, high = -math.inf if above is None else above, math.inf if below is None else below
        shared = [pair for pair in self._shared.items() if low < pair[1] < high]
        if shared and not newest_first:
            return shared[::-1][:count]
        if high <= 0:
            return shared[:count]
        made = await self._index.page(
            self._owned, newest_first=newest_first, above=max(low, 0), below=below, count=count
        )
        return made or shared[:count]

    def is_second(self, upstream: str, place: float) -> bool:
        """Whether this is the place at which an object is not listed because it has another."""
        return self._shared.get(upstream, place) != place

    async def seen(self, *, found: Sequence[str], missing: Sequence[str]) -> None:
        """As `OwnerIndex.seen`: what is shared is listed as long as the configuration has it."""
        made = [[upstream for upstream in each if upstream not in self._shared] for each in (found, missing)]
        if any(made):
            await self._index.seen(self._owned, found=made[0], missing=made[1])


async def list_owned(listed: Listed, operation: Operation, located: Located, page: Page, read: Read) -> dict[str, Any]:
    """A list object with upstream ids: what the tenant created through the gateway or shares, and the provider still
    has.

    Waits for the store and for one read an object, eight at a time. Raises GatewayError 400 for a bad limit or order,
    404 for an unknown cursor, 503 when the store is away, and what `read` raises.
    """
    limit = page.check(operation.max_limit)
    try:
        items, more = await _collect(listed, operation, located, page, limit, read)
    except StoreAway as exc:
        raise store_unavailable("a list on a shared account") from exc
    return {
        "object": "list",
        "data": items,
        "first_id": items[0].get("id") if items else None,
        "last_id": items[-1].get("id") if items else None,
        "has_more": more,
    }


async def _collect(
    listed: Listed,
    operation: Operation,
    located: Located,
    page: Page,
    limit: int,
    read: Read,
) -> tuple[list[dict[str, Any]], bool]:
    newest_first = page.order == "desc"
    below_cursor, above_cursor = (page.after, page.before) if newest_first else (page.before, page.after)
    below = await _place(listed, operation, located, below_cursor)
    above = await _place(listed, operation, located, above_cursor)
    # `before` alone pages backwards: the items nearest to the cursor are collected from it and turned round.
    backwards = page.before is not None and page.after is None
    downwards = newest_first != backwards
    items: list[dict[str, Any]] = []
    while len(items) <= limit:
        found = await listed.page(newest_first=downwards, above=above, below=below, count=limit + 1 - len(items))
        if not found:
            break
        once = [upstream for upstream, place in found if not listed.is_second(upstream, place)]
        read_now = await _read_all(listed, once, read)
        items += [item for item in read_now if _fits(item, operation, located)]
        above, below = (above, found[-1][1]) if downwards else (found[-1][1], below)
    kept = items[:limit]
    return (kept[::-1] if backwards else kept), len(items) > limit


async def _place(listed: Listed, operation: Operation, located: Located, cursor: str | None) -> float | None:
    if cursor is None:
        return None
    place = await listed.place(cursor)
    if place is None:
        raise unknown_id(operation.kind, located.known.get(cursor, cursor))
    return place


async def _read_all(listed: Listed, upstream: list[str], read: Read) -> list[dict[str, Any]]:
    turns = asyncio.Semaphore(_READS_AT_ONCE)

    async def read_one(upstream_id: str) -> dict[str, Any] | None:
        async with turns:
            return await read(upstream_id)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(read_one(upstream_id)) for upstream_id in upstream]
    except BaseExceptionGroup as several:
        raise several.exceptions[0] from None
    found = [task.result() for task in tasks]
    missing = [upstream_id for upstream_id, item in zip(upstream, found, strict=True) if item is None]
    await listed.seen(found=[one for one in upstream if one not in missing], missing=missing)
    return [item for item in found if item is not None]


def _fits(item: dict[str, Any], operation: Operation, located: Located) -> bool:
    wanted = dict(located.query)
    return all(item.get(name) == wanted[name] for name in operation.filters if wanted.get(name))
