"""What a thread has so far, for whoever works on a run of it: messages and steps in the order of their places."""

from __future__ import annotations

from gateway.engine.store.documents import MESSAGE_PATCHES, STEP_PATCHES, Document, assemble
from gateway.engine.store.keys import NAMES, thread_keys
from gateway.engine.store.lists import PAGE, chunks
from gateway.engine.store.scripts import run_script
from gateway.store.coalescer import Script
from gateway.store.connection import Store

HISTORY_LIMIT = 1000
"""So many messages, and so many steps, at most: the newest."""

# ARGV: limit, number of a message's patches, patches of messages and of steps. Steps older than the oldest message are
# left out.
_READ = Script(
    NAMES
    + PAGE
    + """
local limit, count = tonumber(ARGV[1]), tonumber(ARGV[2])
local function newest(index, low)
  local found = redis.call('ZREVRANGEBYSCORE', index, '+inf', low, 'WITHSCORES', 'LIMIT', 0, limit)
  local ids, places = {}, {}
  for i = 1, #found, 2 do ids[#ids + 1], places[#places + 1] = found[i], found[i + 1] end
  return ids, places
end
local messages, at = newest(MI, '-inf')
local low = #messages == limit and '(' .. at[#at] or '-inf'
local steps, step_at = newest(SI, low)
return {at, contents(M, messages, {unpack(ARGV, 3, 2 + count)}), step_at, contents(S, steps, {unpack(ARGV, 3 + count)})}
"""
)


async def read_history(store: Store, thread: str, *, limit: int = HISTORY_LIMIT) -> list[Document]:
    """Messages and steps (their `object` tells which), oldest first. Raises StoreAway."""
    answer = await run_script(
        store,
        _READ,
        thread_keys(store, thread),
        limit,
        len(MESSAGE_PATCHES),
        *MESSAGE_PATCHES,
        *STEP_PATCHES,
    )
    found: list[tuple[float, Document]] = []
    for places, fields, size in ((*answer[:2], 1 + len(MESSAGE_PATCHES)), (*answer[2:], 1 + len(STEP_PATCHES))):
        documents = map(assemble, chunks(fields, size))
        found += zip(map(float, places), documents, strict=True)
    return [document for _, document in sorted(found, key=lambda pair: pair[0])]
