"""Lists of account-level objects on an account that tenants share: from the owner index, object by object."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
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


async def list_owned(
    index: OwnerIndex, owned: Owned, operation: Operation, located: Located, page: Page, read: Read
) -> dict[str, Any]:
    """A list object with upstream ids: what the tenant created through the gateway and the provider still has.

    Waits for the store and for one read an object, eight at a time. Raises GatewayError 400 for a bad limit or order,
    404 for an unknown cursor, 503 when the store is away, and what `read` raises.
    """
    limit = page.check(operation.max_limit)
    try:
        items, more = await _collect(index, owned, operation, located, page, limit, read)
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
    index: OwnerIndex,
    owned: Owned,
    operation: Operation,
    located: Located,
    page: Page,
    limit: int,
    read: Read,
) -> tuple[list[dict[str, Any]], bool]:
    newest_first = page.order == "desc"
    below_cursor, above_cursor = (page.after, page.before) if newest_first else (page.before, page.after)
    below = await _place(index, owned, operation, located, below_cursor)
    above = await _place(index, owned, operation, located, above_cursor)
    # `before` alone pages backwards: the items nearest to the cursor are collected from it and turned round.
    backwards = page.before is not None and page.after is None
    downwards = newest_first != backwards
    items: list[dict[str, Any]] = []
    while len(items) <= limit:
        found = await index.page(owned, newest_first=downwards, above=above, below=below, count=limit + 1 - len(items))
        if not found:
            break
        read_now = await _read_all(index, owned, [upstream for upstream, _ in found], read)
        items += [item for item in read_now if _fits(item, operation, located)]
        above, below = (above, found[-1][1]) if downwards else (found[-1][1], below)
    kept = items[:limit]
    return (kept[::-1] if backwards else kept), len(items) > limit


async def _place(
    index: OwnerIndex, owned: Owned, operation: Operation, located: Located, cursor: str | None
) -> float | None:
    if cursor is None:
        return None
    place = await index.place(owned, cursor)
    if place is None:
        raise unknown_id(operation.kind, located.known.get(cursor, cursor))
    return place


async def _read_all(index: OwnerIndex, owned: Owned, upstream: list[str], read: Read) -> list[dict[str, Any]]:
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
    await index.seen(owned, found=[one for one in upstream if one not in missing], missing=missing)
    return [item for item in found if item is not None]


def _fits(item: dict[str, Any], operation: Operation, located: Located) -> bool:
    wanted = dict(located.query)
    return all(item.get(name) == wanted[name] for name in operation.filters if wanted.get(name))
