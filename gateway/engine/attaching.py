"""What callers describe in `tool_resources` and attach to messages is made at the vendor, before anything is stored.

A message that is refused after that leaves its files in the thread's vector store, where its repeat finds them; a store
that was made for a thread which then is not stored expires by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.engine.resources import attached_files, with_vector_stores
from gateway.engine.store.results import Absent
from gateway.engine.store.threads import Threads
from gateway.engine.vector_stores import OF_THREADS, Cause, VectorStores
from gateway.errors import GatewayError

Json = dict[str, Any]

_TRIES = 3


class Attaching:
    """Lives as long as the process. All of it raises VendorRefused, GatewayError as attempts do, and StoreAway."""

    def __init__(self, stores: VectorStores, threads: Threads) -> None:
        self._stores = stores
        self._threads = threads

    async def of_assistant(self, cause: Cause, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """The body with the vector store made that it describes."""
        return await self._with_described(cause, given, {})

    async def of_thread(self, cause: Cause, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """The body of a new thread with the vector store made that it describes, or that its messages need."""
        given = await self._with_described(cause, given, OF_THREADS)
        files = attached_files(given.get("messages") or (), "file_search")
        if not files:
            return given
        resources = given.get("tool_resources")
        if not (stores := _stores_of(resources)):
            stores = [await self._stores.create(cause, {**OF_THREADS, "file_ids": list(files)})]
        else:
            await self._stores.add(cause, stores[0], files)
        return {**given, "tool_resources": with_vector_stores(resources, stores)}

    async def _with_described(self, cause: Cause, given: Mapping[str, Any], more: Json) -> Mapping[str, Any]:
        resources = given.get("tool_resources") or {}
        described = (resources.get("file_search") or {}).get("vector_stores")
        if not described:
            return given
        made = [await self._stores.create(cause, {**more, **each}) for each in described]
        return {**given, "tool_resources": with_vector_stores(resources, made)}

    async def to_thread(self, cause: Cause, thread: str, messages: Sequence[Mapping[str, Any]]) -> Absent | None:
        """Add what new messages attach for file search to the thread's vector store, which is made with the first."""
        files = attached_files(messages, "file_search")
        for _ in range(_TRIES if files else 0):
            found = await self._threads.read_resources(thread)
            if isinstance(found, Absent):
                return found
            resources, was = found
            if stores := _stores_of(resources):
                await self._stores.add(cause, stores[0], files)
                return None
            made = await self._stores.create(cause, {**OF_THREADS, "file_ids": list(files)})
            noted = await self._threads.swap_resources(thread, with_vector_stores(resources, [made]), was)
            if noted is True:
                return None
            # Another message came first, and there is a store now; or the thread is gone.
            await self._stores.drop(cause, made)
        if files:
            message = "the thread's vector store is being changed by others; try again"
            raise GatewayError(409, message, code="thread_busy")
        return None


def _stores_of(resources: Mapping[str, Any] | None) -> list[str]:
    return ((resources or {}).get("file_search") or {}).get("vector_store_ids") or []
