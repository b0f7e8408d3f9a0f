"""Threads: made with their first messages, modified, deleted with everything below them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.engine.store.activity import Activity
from gateway.engine.store.documents import THREAD_PATCHES, Document, as_patches, assemble, encode
from gateway.engine.store.holdings import Holding, Holdings
from gateway.engine.store.ids import mint_word
from gateway.engine.store.keys import NAMES, events_key, thread_key, thread_keys
from gateway.engine.store.messages import APPEND, as_words
from gateway.engine.store.results import Absent, Done
from gateway.engine.store.scripts import read_fields, run_script
from gateway.store.coalescer import Script
from gateway.store.connection import Store

_FIELDS = ("object", *THREAD_PATCHES)
_STREAMS_LIMIT = 100
_STREAMS_ERASED = 4000

# ARGV: document, now, tenant, messages.
_CREATE = Script(
    NAMES
    + APPEND
    + """
if redis.call('EXISTS', T) == 0 then
  redis.call('HSET', T, 'object', ARGV[1], 'used', ARGV[2], 'tenant', ARGV[3])
  append(4)
end
return 1
"""
)
# ARGV: number of fields, fields, names and patches.
_MODIFY = Script(
    NAMES
    + """
if redis.call('HEXISTS', T, 'object') == 0 then return false end
local count = tonumber(ARGV[1])
if #ARGV > 1 + count then redis.call('HSET', T, unpack(ARGV, 2 + count)) end
return redis.call('HMGET', T, unpack(ARGV, 2, 1 + count))
"""
)
# ARGV: the patch that is expected, "" for none, and the new one. A second time it is there already.
_SWAP = Script(
    NAMES
    + """
if redis.call('HEXISTS', T, 'object') == 0 then return 'absent' end
local found = redis.call('HGET', T, 'tool_resources') or ''
if found == ARGV[2] then return 'done' end
if found ~= ARGV[1] then return 'changed' end
redis.call('HSET', T, 'tool_resources', ARGV[2])
return 'done'
"""
)
# KEYS: the thread's, then streams. ARGV: mark, the latest time of use at which it is still deleted, and 1 to erase it.
# A thread that was used since stays. Of an erased one nobody is to know whose it was, and none that is about to be made
# may come after.
_DELETE = Script(
    NAMES
    + """
local found = redis.call('HMGET', T, 'deleted', 'object', 'used', 'tenant')
local is_erased = ARGV[3] == '1'
if is_erased and not found[2] then redis.call('HDEL', T, 'tenant') end
if found[1] then return {found[1] == ARGV[1] and 'deleted' or 'absent', found[4]} end
if not found[2] then
  if is_erased then redis.call('HSET', T, 'deleted', ARGV[1]) end
  return {'absent', ''}
end
if ARGV[2] ~= '' and (tonumber(found[3]) > tonumber(ARGV[2]) or redis.call('EXISTS', A) == 1) then
  return {'used', ''}
end
redis.call('UNLINK', unpack(KEYS))
redis.call('HSET', T, 'deleted', ARGV[1])
if not is_erased then redis.call('HSET', T, 'tenant', found[4]) end
return {'deleted', found[4]}
"""
)


class Threads:
    """All of them."""

    def __init__(self, store: Store, activity: Activity, holdings: Holdings) -> None:
        self._store = store
        self._activity = activity
        self._holdings = holdings

    async def create(self, thread: Document, messages: Sequence[Document], *, tenant: str, now: float) -> Done:
        """Raises StoreAway, as all of these do. `tenant` is whose it is, by id."""
        await self._holdings.note(tenant, Holding("thread", thread["id"]), now)
        await self._activity.note(thread["id"], now)
        keys = thread_keys(self._store, thread["id"])
        await run_script(self._store, _CREATE, keys, encode(thread), repr(now), tenant, *as_words(messages))
        return Done()

    async def get(self, thread: str) -> Document | Absent:
        found = await read_fields(self._store, thread_key(self._store, thread, "t"), _FIELDS)
        return assemble(found) or Absent("thread")

    async def modify(self, thread: str, changes: Mapping[str, Any]) -> Document | Absent:
        """The thread with these members set."""
        patches = as_patches(changes, THREAD_PATCHES)
        keys = thread_keys(self._store, thread)
        found = await run_script(self._store, _MODIFY, keys, len(_FIELDS), *_FIELDS, *patches)
        return assemble(found) if found else Absent("thread")

    async def read_resources(self, thread: str) -> tuple[Document, bytes] | Absent:
        """`tool_resources`, and what `swap_resources` must find to replace them."""
        found = await read_fields(self._store, thread_key(self._store, thread, "t"), ("object", "tool_resources"))
        document = assemble(found)
        return (document["tool_resources"], found[1] or b"") if document else Absent("thread")

    async def swap_resources(self, thread: str, resources: Document, was: bytes) -> bool | Absent:
        """Replace `tool_resources` if nobody else did since they were read. Whether that was so."""
        [_, patch] = as_patches({"tool_resources": resources}, THREAD_PATCHES)
        answer = await run_script(self._store, _SWAP, thread_keys(self._store, thread), was, patch)
        return Absent("thread") if answer == b"absent" else bool(answer == b"done")

    async def delete(self, thread: str, *, now: float) -> Done | Absent:
        """With everything below it. Whoever works on a run of it finds it gone at the next write."""
        return Done() if await self._delete(thread, now) == b"deleted" else Absent("thread")

    async def delete_unused(self, thread: str, *, since: float, now: float) -> bool:
        """Delete it unless it was written to later than `since`, or has a run in work. Whether it is gone now."""
        return await self._delete(thread, now, since=since) != b"used"

    async def erase(self, thread: str, *, now: float) -> bool:
        """Delete it for one who goes through the holdings, and leave nothing that tells whose it was. Whether it was
        there."""
        return await self._delete(thread, now, is_erased=True) == b"deleted"

    async def _delete(self, thread: str, now: float, *, since: float | None = None, is_erased: bool = False) -> bytes:
        # The trace it leaves must be found again, by `Retention`, even if this ends between the two.
        await self._activity.note_deletion(thread, now)
        streams = await self._streams(thread, _STREAMS_ERASED if is_erased else _STREAMS_LIMIT)
        until = "" if since is None else repr(since)
        keys = [*thread_keys(self._store, thread), *streams]
        answer: tuple[bytes, bytes | None]
        answer = await run_script(self._store, _DELETE, keys, mint_word(), until, int(is_erased))
        outcome, tenant = answer
        if outcome != b"used":
            await self._activity.forget(thread)
        if outcome == b"deleted" and tenant and not is_erased:
            await self._holdings.forget(tenant.decode(), Holding("thread", thread))
        return outcome

    async def _streams(self, thread: str, count: int) -> list[str]:
        """Of the latest runs. Those of runs before them have expired, or are about to."""
        index = thread_key(self._store, thread, "ri")
        runs = await self._store.run(lambda redis: redis.zrange(index, 0, count - 1, desc=True))
        return [events_key(self._store, thread, str(run)) for run in runs]
