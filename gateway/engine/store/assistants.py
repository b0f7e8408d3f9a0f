"""Assistants: they belong to a provider's account, as they would at a vendor, and are listed in the order of creation.
Which tenant made one is known further out, by its public id and the owner index, and here for its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.engine.store.documents import ASSISTANT_PATCHES, Document, as_patches, assemble, encode, fields_of
from gateway.engine.store.holdings import Holding, Holdings
from gateway.engine.store.ids import mint_word
from gateway.engine.store.keys import assistant_keys
from gateway.engine.store.lists import PAGE, Page, Window, read_page
from gateway.engine.store.results import Absent, Done, UnknownCursor
from gateway.engine.store.scripts import read_fields, run_script
from gateway.engine.store.traces import TRACES
from gateway.store.coalescer import Script
from gateway.store.connection import Store

_NAMES = "local D, I, GONE = unpack(KEYS)\n"

# ARGV: id, document.
_CREATE = Script(
    _NAMES
    + """
if redis.call('HEXISTS', D, ARGV[1]) == 0 and redis.call('HEXISTS', GONE, ARGV[1]) == 0 then
  redis.call('ZADD', I, redis.call('HINCRBY', D, 'n', 1), ARGV[1])
  redis.call('HSET', D, ARGV[1], ARGV[2])
end
return 1
"""
)
# ARGV: id, fields, names and patches.
_MODIFY = Script(
    _NAMES
    + """
if redis.call('HEXISTS', D, ARGV[1]) == 0 then return false end
local count = tonumber(ARGV[2])
for i = 3 + count, #ARGV, 2 do redis.call('HSET', D, ARGV[1] .. ':' .. ARGV[i], ARGV[i + 1]) end
return redis.call('HMGET', D, unpack(ARGV, 3, 2 + count))
"""
)
# ARGV: id, mark, fields.
_DELETE = Script(
    _NAMES
    + TRACES
    + """
local trace = trace_of(GONE, ARGV[1], ARGV[2])
if trace ~= nil then return trace and 1 or 0 end
local place = redis.call('ZSCORE', I, ARGV[1])
if not place then return 0 end
leave_trace(GONE, ARGV[1], place, ARGV[2])
redis.call('ZREM', I, ARGV[1])
redis.call('HDEL', D, unpack(ARGV, 3))
return 1
"""
)
# ARGV: order, limit, after, before, patches.
_LIST = Script(
    _NAMES
    + PAGE
    + """
local ids, has_more, was_deleted = page(I, GONE, ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], 0, math.huge)
if not ids then return {has_more} end
return {has_more, was_deleted, contents(D, ids, {unpack(ARGV, 5)})}
"""
)


class Assistants:
    """All of them. `account` is the route of one."""

    def __init__(self, store: Store, holdings: Holdings) -> None:
        self._store = store
        self._holdings = holdings

    def _keys(self, account: str) -> list[str]:
        return assistant_keys(self._store, account)

    async def create(self, account: str, assistant: Document, *, tenant: str, now: float) -> Done:
        """Raises StoreAway, as all of these do. `tenant` is whose it is, by id."""
        await self._holdings.note(tenant, Holding("assistant", assistant["id"], account), now)
        await run_script(self._store, _CREATE, self._keys(account), assistant["id"], encode(assistant))
        return Done()

    async def get(self, account: str, assistant: str) -> Document | Absent:
        fields = fields_of(assistant, ASSISTANT_PATCHES)
        found = await read_fields(self._store, self._keys(account)[0], fields)
        return assemble(found) or Absent("assistant")

    async def modify(self, account: str, assistant: str, changes: Mapping[str, Any]) -> Document | Absent:
        """The assistant with these members set."""
        fields = fields_of(assistant, ASSISTANT_PATCHES)
        patches = as_patches(changes, ASSISTANT_PATCHES)
        found = await run_script(self._store, _MODIFY, self._keys(account), assistant, len(fields), *fields, *patches)
        return assemble(found) if found else Absent("assistant")

    async def delete(self, account: str, assistant: str, *, tenant: str) -> Done | Absent:
        if not await self.erase(account, assistant):
            return Absent("assistant")
        await self._holdings.forget(tenant, Holding("assistant", assistant, account))
        return Done()

    async def erase(self, account: str, assistant: str) -> bool:
        """Delete it for one who goes through the holdings. Whether it was there."""
        fields = fields_of(assistant, ASSISTANT_PATCHES)
        return bool(await run_script(self._store, _DELETE, self._keys(account), assistant, mint_word(), *fields))

    async def list(self, account: str, window: Window) -> Page | UnknownCursor:
        answer = await run_script(self._store, _LIST, self._keys(account), *window.words(), *ASSISTANT_PATCHES)
        return read_page(answer, 1 + len(ASSISTANT_PATCHES))
