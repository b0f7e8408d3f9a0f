"""Messages that callers write; what runs write is in `work`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.engine.store.activity import Activity
from gateway.engine.store.documents import MESSAGE_PATCHES, Document, as_patches, assemble, encode, fields_of
from gateway.engine.store.ids import mint_word
from gateway.engine.store.keys import NAMES, thread_key, thread_keys
from gateway.engine.store.lists import PAGE, Page, Window, read_page
from gateway.engine.store.results import Absent, Done, RunActive, UnknownCursor
from gateway.engine.store.scripts import read_fields, run_script
from gateway.engine.store.traces import TRACES
from gateway.store.coalescer import Script, Word
from gateway.store.connection import Store

APPEND = """
-- Messages from ARGV[first] on: id, role, document of each.
local function append(first)
  for i = first, #ARGV, 3 do
    redis.call('ZADD', MI, redis.call('HINCRBY', T, 'n', 1), ARGV[i])
    redis.call('HSET', M, ARGV[i], ARGV[i + 2])
    if ARGV[i + 1] == 'user' then redis.call('HINCRBY', T, 'users', 1) end
  end
end
"""

# ARGV: now, message.
_APPEND = Script(
    NAMES
    + APPEND
    + """
if redis.call('HEXISTS', T, 'object') == 0 then return {'absent'} end
if redis.call('HEXISTS', M, ARGV[2]) == 1 or redis.call('HEXISTS', GONE, ARGV[2]) == 1 then return {'done'} end
local active = redis.call('HGET', A, 'run')
if active then return {'active', active} end
append(2)
redis.call('HSET', T, 'used', ARGV[1])
return {'done'}
"""
)
# ARGV: id, number of fields, fields, names and patches.
_MODIFY = Script(
    NAMES
    + """
if redis.call('HEXISTS', T, 'object') == 0 then return 'thread' end
if redis.call('HEXISTS', M, ARGV[1]) == 0 then return 'message' end
local count = tonumber(ARGV[2])
for i = 3 + count, #ARGV, 2 do redis.call('HSET', M, ARGV[1] .. ':' .. ARGV[i], ARGV[i + 1]) end
return redis.call('HMGET', M, unpack(ARGV, 3, 2 + count))
"""
)
# ARGV: id, role, mark, fields. A message that is being written stays: its run would write it again.
_DELETE = Script(
    NAMES
    + TRACES
    + """
local trace = trace_of(GONE, ARGV[1], ARGV[3])
if trace ~= nil then return {trace and 'done' or 'absent'} end
local place = redis.call('ZSCORE', MI, ARGV[1])
if not place then return {'absent'} end
if redis.call('HEXISTS', A, 'message:' .. ARGV[1]) == 1 then return {'active', redis.call('HGET', A, 'run')} end
leave_trace(GONE, ARGV[1], place, ARGV[3])
redis.call('ZREM', MI, ARGV[1])
redis.call('HDEL', M, unpack(ARGV, 4))
if ARGV[2] == 'user' then redis.call('HINCRBY', T, 'users', -1) end
return {'done'}
"""
)
# ARGV: order, limit, after, before, run or "", patches. What a run has made lies between its place and its end.
_LIST = Script(
    NAMES
    + PAGE
    + """
if redis.call('HEXISTS', T, 'object') == 0 then return {} end
local low, high = 0, math.huge
if ARGV[5] ~= '' then
  local place = redis.call('ZSCORE', RI, ARGV[5])
  if not place then return {0, 0, {}} end
  low = tonumber(place)
  local closed = redis.call('HGET', R, ARGV[5] .. ':closed')
  if closed then high = tonumber(string.match(closed, '^(%d+)')) + 1 end
end
local ids, has_more, was_deleted = page(MI, GONE, ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], low, high)
if not ids then return {has_more} end
return {has_more, was_deleted, contents(M, ids, {unpack(ARGV, 6)})}
"""
)


def as_words(messages: Sequence[Document]) -> list[Word]:
    """As `APPEND` takes them."""
    return [word for message in messages for word in (message["id"], message["role"], encode(message))]


class Messages:
    """The messages of all threads. Each raises StoreAway."""

    def __init__(self, store: Store, activity: Activity) -> None:
        self._store = store
        self._activity = activity

    async def append(self, thread: str, message: Document, *, now: float) -> Done | Absent | RunActive:
        await self._activity.note(thread, now)
        keys = thread_keys(self._store, thread)
        answer = await run_script(self._store, _APPEND, keys, repr(now), *as_words([message]))
        return _read(answer, Absent("thread"))

    async def get(self, thread: str, message: str) -> Document | Absent:
        """Absent is said of the message, also where the thread is."""
        fields = fields_of(message, MESSAGE_PATCHES)
        found = await read_fields(self._store, thread_key(self._store, thread, "m"), fields)
        return assemble(found) or Absent("message")

    async def modify(self, thread: str, message: str, metadata: Mapping[str, Any] | None) -> Document | Absent:
        """The message with this metadata; only that can change."""
        fields = fields_of(message, MESSAGE_PATCHES)
        patches = as_patches({"metadata": metadata}, MESSAGE_PATCHES)
        keys = thread_keys(self._store, thread)
        found = await run_script(self._store, _MODIFY, keys, message, len(fields), *fields, *patches)
        if isinstance(found, bytes):
            return Absent("thread" if found == b"thread" else "message")
        return assemble(found)

    async def delete(self, thread: str, message: str) -> Done | Absent | RunActive:
        """Refused only while a run writes this message."""
        written = await self.get(thread, message)
        if isinstance(written, Absent):
            return written
        fields = fields_of(message, MESSAGE_PATCHES)
        keys = thread_keys(self._store, thread)
        # Its role never changes, so it may be read before.
        answer = await run_script(self._store, _DELETE, keys, message, written["role"], mint_word(), *fields)
        return _read(answer, Absent("message"))

    async def list(self, thread: str, window: Window, *, run: str | None = None) -> Page | Absent | UnknownCursor:
        """All messages, or those that a run made; there are none of a run that is unknown."""
        keys = thread_keys(self._store, thread)
        answer = await run_script(self._store, _LIST, keys, *window.words(), run or "", *MESSAGE_PATCHES)
        return read_page(answer, 1 + len(MESSAGE_PATCHES)) if answer else Absent("thread")


def _read(answer: Sequence[bytes], absent: Absent) -> Done | Absent | RunActive:
    match answer:
        case [b"active", run]:
            return RunActive(run.decode())
        case [b"done"]:
            return Done()
        case _:
            return absent
