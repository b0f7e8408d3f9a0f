"""Small facts that all replicas share: a hash in the store, and the same in the memory of each process.

Reading is in memory and never waits. A change counts at once in the process that makes it, is told to the store in the
background, and reaches the others by a message; who misses the message reads the hash at its next `refresh`.

Every entry has a *stamp*, and of two entries of one field the later stamp counts, in the store and in every process:

- A stamp is the writer's clock in microseconds, but always later than the entry that the writer knows. So a change
  that somebody makes because of what he saw beats what he saw, whatever the clocks say.
- Of changes that know nothing of each other the clocks decide, and of equal stamps whichever the store got first. All
  replicas end with the same.
- A cleared field is an entry too, without a value: a late older change cannot bring it back.
- What a process knows and the store has lost (or has only older) is told again. So facts survive a store that comes
  back empty.

An entry leaves the hash 30 days (`_KEPT_S`) after its end, or after it was cleared: only a process that was cut off for
longer could bring back what was cleared. Nothing here expires by itself; an entry without an end is never dropped.

The hash's *version* is a word that no other version ever had. A message tells the version before and after: a process
that was at the former is at the latter and needs not read, so that as a rule a refresh is one small command.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import Any, Generic, TypeVar

from gateway.store.connection import Store, StoreAway

T = TypeVar("T")

_VERSION = ""
"""The hash's field that holds its version; callers' fields are not empty."""
_KEPT_S = 30 * 86_400
_AT_ONCE = 256
_FRESH_S = 2.0
"""Longer than a refresh and a half: one that is late makes nobody unsure."""
_LEARNT_AT_ONCE = 500
"""Between so many entries others get their turn: to read ten thousand takes a tenth of a second."""

# KEYS: hash, which is the channel's name too. ARGV: new version, then fields and entries.
_TELL = """
local changed = {}
for i = 2, #ARGV, 2 do
  local stored = redis.call('HGET', KEYS[1], ARGV[i])
  local stamp = stored and tonumber(string.match(stored, '^%d+')) or 0
  if stamp < tonumber(string.match(ARGV[i + 1], '^%d+')) then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
    table.insert(changed, ARGV[i])
    table.insert(changed, ARGV[i + 1])
  end
end
if #changed > 0 then
  local before = redis.call('HGET', KEYS[1], '')
  redis.call('HSET', KEYS[1], '', ARGV[1])
  redis.call('PUBLISH', KEYS[1], cjson.encode({before, ARGV[1], changed}))
end
"""
# KEYS: hash, which is the channel's name too. ARGV: new version, field, entry. Whether the field is this entry now.
_ADD = """
local stored = redis.call('HGET', KEYS[1], ARGV[2])
if stored then return stored == ARGV[3] and 1 or 0 end
local before = redis.call('HGET', KEYS[1], '')
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3], '', ARGV[1])
redis.call('PUBLISH', KEYS[1], cjson.encode({before, ARGV[1], {ARGV[2], ARGV[3]}}))
return 1
"""
# KEYS: hash. ARGV: fields, and their entries as they were read.
_DROP = """
for i = 1, #ARGV, 2 do
  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then redis.call('HDEL', KEYS[1], ARGV[i]) end
end
"""


@dataclass(frozen=True, slots=True)
class _Entry(Generic[T]):
    """What is said of a field; `text` is how the store has it. Without a value it was cleared."""

    stamp_us: int
    text: str
    value: T | None
    until_s: float | None

    def is_garbage(self, now: float) -> bool:
        ended_s = self.stamp_us / 1e6 if self.value is None else self.until_s
        return ended_s is not None and now > ended_s + _KEPT_S


class Mirror(Generic[T]):
    """One hash, by field. `read` makes a value of the JSON object it was given as, and raises ValueError, KeyError or
    TypeError for what it does not understand: that is left alone. `clock` tells seconds since 1970."""

    def __init__(
        self,
        store: Store,
        name: str,
        *,
        read: Callable[[Mapping[str, Any]], T],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.channel = self._key = store.key(name)
        self._store = store
        self._read = read
        self._clock = clock
        self._known: dict[str, _Entry[T]] = {}
        self._late: dict[str, _Entry[T]] = {}
        """Of what is known, what the store has not been told."""
        self.changes = 0
        """How often this process has learnt something."""
        self._agreed_s: float | None = None
        """When the store was last asked, of the times that it answered."""
        self._version: str | None = None
        self._versions = (f"{replica}{number:x}" for replica in [secrets.token_hex(8)] for number in count())
        self._telling: asyncio.Task[None] | None = None
        self._flushing = asyncio.Lock()

    def now(self) -> float:
        """Seconds since 1970."""
        return self._clock()

    def is_fresh(self) -> bool:
        """Whether this process knows what the store knew two seconds ago (`_FRESH_S`)."""
        return self._agreed_s is not None and abs(self._clock() - self._agreed_s) <= _FRESH_S

    def get(self, field: str, now: float) -> T | None:
        """What is said of the field, unless it is over by `now`."""
        entry = self._known.get(field)
        if entry is None or (entry.until_s is not None and now >= entry.until_s):
            return None
        return entry.value

    def all(self, now: float) -> dict[str, T]:
        """Everything that is not over by `now`."""
        return {field: value for field in self._known if (value := self.get(field, now)) is not None}

    def put(self, field: str, value: Mapping[str, Any], *, until_s: float | None = None) -> None:
        """Say something of a field: at once here, in the background to all others. None: until it is cleared."""
        self._change(field, value, until_s)

    def clear(self, field: str) -> None:
        """Say nothing of the field any more. To be used where others may know what this process does not."""
        self._change(field, None, None)

    async def add(self, field: str, value: Mapping[str, Any], *, until_s: float | None = None) -> bool:
        """Say something of a field of which nothing was ever said, once the store has it. Whether that is so now; if
        somebody was first, his word stands. Raises StoreAway: then nobody knows."""
        text = self._text(field, value, until_s)
        version = next(self._versions)
        is_added = await self._store.run(lambda redis: redis.eval(_ADD, 1, self._key, version, field, text))
        if is_added:
            self._learn(field, text)
        return bool(is_added)

    def _change(self, field: str, value: Mapping[str, Any] | None, until_s: float | None) -> None:
        self._known[field] = self._late[field] = self._entry(self._text(field, value, until_s))
        self.changes += 1
        self._tell_soon()

    def _text(self, field: str, value: Mapping[str, Any] | None, until_s: float | None) -> str:
        stamp_us = int(self._clock() * 1e6)
        if (known := self._known.get(field)) is not None:
            stamp_us = max(stamp_us, known.stamp_us + 1)
        return f"{stamp_us} {json.dumps({'value': value, 'until_s': until_s})}"

    def _entry(self, text: str) -> _Entry[T]:
        """Raises ValueError, KeyError or TypeError for what is not understood."""
        stamp, _, told = text.partition(" ")
        said = json.loads(told)
        value, until_s = said["value"], said["until_s"]
        return _Entry(
            int(stamp),
            text,
            value=self._read(value) if value is not None else None,
            until_s=float(until_s) if until_s is not None else None,
        )

    def _tell_soon(self) -> None:
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell(), name=f"{self._key}.tell")

    async def _tell(self) -> None:
        with suppress(StoreAway):  # then `settle` does it
            await self.flush()

    async def flush(self) -> None:
        """Tell the store what it has not been told. Raises StoreAway; the rest stays for the next time."""
        async with self._flushing:
            while self._late:
                some = list(self._late.items())[:_AT_ONCE]
                words = [word for field, entry in some for word in (field, entry.text)]
                version = next(self._versions)
                await self._store.run(lambda redis: redis.eval(_TELL, 1, self._key, version, *words))  # noqa: B023
                for field, entry in some:
                    if self._late.get(field) is entry:
                        del self._late[field]

    def hear(self, message: str) -> None:
        """What the channel said. Messages may be lost, late or out of order."""
        try:
            before, after, changed = json.loads(message)
            entries = list(zip(changed[::2], changed[1::2], strict=True))
        except (ValueError, TypeError):  # not from a mirror; what it may have been about is read at the next refresh
            return
        for field, text in entries:
            self._learn(str(field), str(text))
        if (before or None) == self._version:
            self._version = after

    def _learn(self, field: str, text: str) -> None:
        """Take over what the store has, unless this process knows better."""
        known = self._known.get(field)
        if known is not None and known.text == text:
            self._late.pop(field, None)
            return
        try:
            entry = self._entry(text)
        except (ValueError, KeyError, TypeError):  # of another release of the gateway, which knows what it means
            return
        if known is None or known.stamp_us <= entry.stamp_us:
            self._known[field] = entry
            self.changes += 1
            self._late.pop(field, None)

    async def refresh(self) -> None:
        """Find out whether the hash has changed, and read it if so. Raises StoreAway."""
        asked_s = self._clock()
        version = await self._store.run(lambda redis: redis.hget(self._key, _VERSION))
        is_lost = version is None and bool(self._known)
        if version != self._version or is_lost:
            await self._read_all()
        self._agreed_s = asked_s

    async def _read_all(self) -> None:
        read = await self._store.run(lambda redis: redis.hgetall(self._key))
        found = {str(field): str(text) for field, text in read.items()}
        self._version = found.pop(_VERSION, None)
        for place, (field, text) in enumerate(found.items()):
            if place % _LEARNT_AT_ONCE == _LEARNT_AT_ONCE - 1:
                await asyncio.sleep(0)
            self._learn(field, text)
        garbage = self._take_garbage()
        for field, entry in self._known.items():
            if (text := found.get(field, "")) != entry.text and _stamp_us(text) < entry.stamp_us:
                self._late[field] = entry
        words = [word for field, entry in garbage.items() if field in found for word in (field, entry.text)]
        if words:
            await self._store.run(lambda redis: redis.eval(_DROP, 1, self._key, *words))

    def _take_garbage(self) -> dict[str, _Entry[T]]:
        now = self._clock()
        garbage = {field: entry for field, entry in self._known.items() if entry.is_garbage(now)}
        for field in garbage:
            del self._known[field]
            self._late.pop(field, None)
        return garbage

    async def settle(self) -> None:
        """Make this process and the store agree. Raises StoreAway."""
        await self.flush()
        await self.refresh()
        await self.flush()  # what the store has lost

    async def close(self) -> None:
        """Wait until the store was told what it can be told."""
        await self._tell()
        if self._telling is not None:
            await self._telling


def _stamp_us(text: str) -> int:
    """0 where there is none."""
    match = re.match(r"\d+", text)
    return int(match[0]) if match else 0
