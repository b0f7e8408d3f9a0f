"""What the holder of a claim writes: each write is one script, and refused as soon as the claim is lost.

One write may hold several things that must be seen together: a message and its step, the events that tell of them, and
a turn of the run's status. What was begun is open until it is committed; a begun message counts as published, because
its holder tells its own callers before the store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from gateway.engine.store.documents import Document, encode
from gateway.engine.store.endings import END, Ending
from gateway.engine.store.events import HELD, Event
from gateway.engine.store.events import as_words as events_as_words
from gateway.engine.store.keys import NAMES, thread_keys
from gateway.engine.store.leases import Leases
from gateway.engine.store.results import Claim, Lost, Written
from gateway.engine.store.scripts import run_script
from gateway.store.coalescer import Script, Word
from gateway.store.connection import Store

# ARGV: run, fence, epoch, number of objects, act kind id document of each, turn, three words of the turn, events.
_WRITE = Script(
    NAMES
    + HELD
    + END
    + """
local run, fence, epoch, turn = ARGV[1], ARGV[2], tonumber(ARGV[3]), 5 + 4 * tonumber(ARGV[4])
if not is_held(run, fence) then
  if ARGV[turn] == 'end' and closed_by(run) == fence then return {'ok', 'ended'} end
  return {'lost', how_lost(run)}
end
local status = redis.call('HGET', A, 'status')
local can_wait = status == 'queued' or status == 'in_progress' or status == 'requires_action'
if ARGV[turn] == 'wait' and not can_wait then return {'ok', status} end

local function write(act, kind, id, document)
  local documents, index = M, MI
  if kind == 'step' then documents, index = S, SI end
  if redis.call('HEXISTS', GONE, id) == 1 then return end
  local is_there = redis.call('ZSCORE', index, id)
  -- What was begun once is not begun again: a late copy would undo its commit. Nor is what was committed updated.
  if is_there and act == 'begin' then return end
  if act == 'update' and redis.call('HEXISTS', A, kind .. ':' .. id) == 0 then return end
  if not is_there then redis.call('ZADD', index, redis.call('HINCRBY', T, 'n', 1), id) end
  redis.call('HSET', documents, id, document)
  if act == 'begin' then
    redis.call('HSET', A, kind .. ':' .. id, 'open')
  elseif act == 'commit' then
    redis.call('HDEL', A, kind .. ':' .. id)
  end
end
for i = 5, turn - 1, 4 do write(ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]) end

add_events(epoch, turn + 4)
if ARGV[turn] == 'start' and status == 'queued' then
  status = 'in_progress'
  redis.call('HSET', A, 'status', status)
  redis.call('HSETNX', A, 'started', ARGV[turn + 1])
elseif ARGV[turn] == 'wait' then
  status = 'requires_action'
  redis.call('HSET', A, 'status', status, 'waiting', ARGV[turn + 1], 'lease', redis.call('HGET', A, 'expires'))
  redis.call('HDEL', A, 'owner', 'outputs')
  if ARGV[turn + 2] ~= '' then redis.call('HSET', A, 'usage', ARGV[turn + 2]) end
  local fields = redis.call('HKEYS', A)
  for _, field in ipairs(fields) do
    if string.find(field, '^step:') then redis.call('HSET', A, field, 'waiting') end
  end
  add_last_event(epoch)
elseif ARGV[turn] == 'go on' then
  redis.call('HSET', A, 'usage', ARGV[turn + 1])
elseif ARGV[turn] == 'end' then
  status = 'ended'
  end_run(fence, ARGV[turn + 1], ARGV[turn + 2], ARGV[turn + 3])
end
return {'ok', status}
"""
)


class Change(NamedTuple):
    """A message or step that is begun, written anew while it is open, or committed as it is then. Committing one that
    was not begun is allowed."""

    act: Literal["begin", "update", "commit"]
    kind: Literal["message", "step"]
    document: Document


class Work:
    """The writes. Each raises StoreAway, and may be sent again then for as long as the lease lasts and longer: nothing
    is written twice, and nothing against another claim."""

    def __init__(self, store: Store, leases: Leases) -> None:
        self._store = store
        self._leases = leases

    async def start(self, claim: Claim, *, now: float) -> Written | Lost:
        """The run is in progress, unless its cancellation was asked for."""
        return await self._write(claim, (), (), "start", int(now))

    async def write(
        self, claim: Claim, *changes: Change, usage: Document | None = None, events: Sequence[Event] = ()
    ) -> Written | Lost:
        """Begin and commit messages and steps, and tell of it. `usage` is what the run has used by then, where a
        generation has ended: it counts though nobody goes on with the run."""
        if usage is None:
            return await self._write(claim, changes, events, "")
        return await self._write(claim, changes, events, "go on", encode(usage))

    async def require_action(
        self,
        claim: Claim,
        calls: Sequence[Mapping[str, Any]],
        *changes: Change,
        usage: Document | None = None,
        events: Sequence[Event] = (),
    ) -> Written | Lost:
        """The run waits for the outputs of these tool calls, until it expires; its open steps stay open, and the work
        of this claim is over. `usage` is what it used so far, and stands in the run if it ends while it waits. Where
        cancellation was asked for nothing is written, and the status tells."""
        used = "" if usage is None else encode(usage)
        action = {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": list(calls)}}
        result = await self._write(claim, changes, events, "wait", encode({"required_action": action}), used)
        if isinstance(result, Written) and result.status == "requires_action":
            await self._leases.leave(claim, claim.expires_at)
        return result

    async def finish(
        self, claim: Claim, ending: Ending, *changes: Change, events: Sequence[Event] = ()
    ) -> Written | Lost:
        """The run has ended; what it left open is closed as the ending says."""
        result = await self._write(claim, changes, events, "end", *ending.patches())
        if isinstance(result, Lost):
            return result
        await self._leases.forget(claim)
        return Written(ending.status)

    async def _write(
        self, claim: Claim, changes: Sequence[Change], events: Sequence[Event], turn: str, *words: Word
    ) -> Written | Lost:
        objects = [word for act, kind, document in changes for word in (act, kind, document["id"], encode(document))]
        rest = [*words, *[""] * (3 - len(words))]
        outcome, said = await run_script(
            self._store,
            _WRITE,
            thread_keys(self._store, claim.thread, claim.run),
            claim.run,
            claim.fence,
            claim.epoch,
            len(changes),
            *objects,
            turn,
            *rest,
            *events_as_words(events),
        )
        if outcome == b"lost":
            self._leases.drop(claim)
            return Lost(said.decode())
        return Written(said.decode())
