"""What a run tells while it works, as a stream in the store: who was cut off reads on from the last id it got.

Ids are `epoch-number`: each claim of a run begins a new epoch, and numbers its events from 1. So an event has its id
before it is stored, a batch that is sent twice is stored once, what the store lost shows as a gap, and what a replica
told its own callers and died before storing is never taken for what the next one tells.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.client import NEVER_DECODE

from gateway.engine.store.keys import NAMES, events_key, thread_keys
from gateway.engine.store.results import Claim, Lost
from gateway.engine.store.scripts import run_script
from gateway.store.coalescer import Script, Word
from gateway.store.connection import Store

KEPT = 4096
"""About so many events of a run are kept."""
KEPT_S = 900
"""So long after the run ended."""
LAST = "done"
"""The event that ends a stream, as in OpenAI's protocol: when the run ended, or waits for tool outputs."""
LAST_DATA = b"[DONE]"
_AT_ONCE = 256

EVENTS = f"""
-- The last event: epoch, number, name.
local function last_event()
  local last = redis.call('XREVRANGE', EV, '+', '-', 'COUNT', 1)[1]
  if not last then return 0, 0, '' end
  local epoch, number = string.match(last[1], '^(%d+)%-(%d+)$')
  return tonumber(epoch), tonumber(number), last[2][2]
end

-- Events from ARGV[first] on: number, name, data of each. Those that are there already are left out.
local function add_events(epoch, first)
  if first > #ARGV then return end
  local at_epoch, at_number = last_event()
  for i = first, #ARGV, 3 do
    if epoch > at_epoch or (epoch == at_epoch and tonumber(ARGV[i]) > at_number) then
      redis.call('XADD', EV, 'MAXLEN', '~', {KEPT}, epoch .. '-' .. ARGV[i], 'e', ARGV[i + 1], 'd', ARGV[i + 2])
    end
  end
end

-- After it nothing comes until the run is claimed again. Runs that told nothing have no stream: it would take 4 KB.
local function add_last_event(epoch)
  local at_epoch, at_number, name = last_event()
  if at_epoch == 0 or (at_epoch == epoch and name == '{LAST}') then return end
  local number = at_epoch == epoch and at_number + 1 or 1
  redis.call('XADD', EV, epoch .. '-' .. number, 'e', '{LAST}', 'd', '{LAST_DATA.decode()}')
end
"""

HELD = """
local function is_held(run, fence)
  local a = redis.call('HMGET', A, 'run', 'fence')
  return a[1] == run and a[2] == fence
end

-- Why the claim of `run` counts no more.
local function how_lost(run)
  if redis.call('HEXISTS', T, 'object') == 0 then return 'gone' end
  return redis.call('HGET', A, 'run') == run and 'taken' or 'ended'
end
"""

# ARGV: run, fence, epoch, events.
_PUBLISH = Script(
    NAMES
    + HELD
    + EVENTS
    + """
if not is_held(ARGV[1], ARGV[2]) then return how_lost(ARGV[1]) end
add_events(tonumber(ARGV[3]), 4)
return false
"""
)


class EventId(NamedTuple):
    """Where an event stands in its run."""

    epoch: int
    number: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.number}"

    @staticmethod
    def parse(text: str) -> EventId | None:
        """What a caller gives back as the last id it got; None if that is no such id."""
        found = re.fullmatch(r"([0-9]{1,9})-([0-9]{1,9})", text)
        return EventId(int(found[1]), int(found[2])) if found else None

    def is_next(self, after: EventId) -> bool:
        """Whether no event between the two is missing. A new epoch may begin after any number."""
        return self.number == (after.number + 1 if self.epoch == after.epoch else 1)


START = EventId(0, 0)
"""Before the first event."""


class Event(NamedTuple):
    """One event as it is sent to callers: name and data, which is JSON or `[DONE]`."""

    id: EventId
    name: str
    data: bytes

    @property
    def is_last(self) -> bool:
        return self.name == LAST


class EventsGone(Exception):
    """Events that were asked for are not kept any more."""


def as_words(events: Sequence[Event]) -> list[Word]:
    """As `add_events` takes them."""
    return [word for event in events for word in (event.id.number, event.name, event.data)]


async def publish(store: Store, claim: Claim, events: Sequence[Event]) -> Lost | None:
    """Store events of this claim's epoch, in order. Raises StoreAway; the same events may be sent again."""
    keys = thread_keys(store, claim.thread, claim.run)
    lost = await run_script(store, _PUBLISH, keys, claim.run, claim.fence, claim.epoch, *as_words(events))
    return None if lost is None else Lost(lost.decode())


async def read_stored(store: Store, thread: str, run: str, after: EventId) -> AsyncIterator[Event]:
    """What is stored after an event. Raises StoreAway."""
    key = events_key(store, thread, run)
    while True:
        entries = await store.run(lambda redis, low=f"({after}": _read(redis, key, low))  # type: ignore[misc]
        for event in map(as_event, entries):
            after = event.id
            yield event
        if len(entries) < _AT_ONCE:
            return


async def _read(redis: Redis, key: str, low: str) -> Any:
    return await redis.execute_command("XRANGE", key, low, "+", "COUNT", _AT_ONCE, **{NEVER_DECODE: True})  # type: ignore[no-untyped-call]


def as_event(entry: Sequence[Any]) -> Event:
    """An entry of a stream as redis-py gives it, with words as bytes."""
    place, fields = entry
    epoch, _, number = place.decode().partition("-")
    return Event(EventId(int(epoch), int(number)), fields[b"e"].decode(), fields[b"d"])
