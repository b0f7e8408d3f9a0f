"""How much each key was used, summed over all replicas since it was first seen.

Each process counts in memory and adds its counts to the store in batches. A batch has a number and is added once,
however often it is sent; one whose outcome is unknown is sent again as it was. What a killed process had not sent is
lost, at most a second's worth (longer while the store is away).
"""

from __future__ import annotations

import asyncio
import secrets
from collections import defaultdict
from dataclasses import astuple, dataclass, fields

from gateway.store.connection import Store
from gateway.store.key_states import KeyPlace

_REMEMBERED_S = 3600
"""How long the store remembers a process's last batch: longer than anything sends it again."""

# KEYS: hash, last batch of this process. ARGV: batch, seconds it is remembered, then per key its place and four counts.
_ADD = """
if redis.call('GET', KEYS[2]) == ARGV[1] then return end
redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[2])
for i = 3, #ARGV, 5 do
  for place, what in ipairs({'requests', 'errors', 'tokens'}) do
    if ARGV[i + place] ~= '0' then
      redis.call('HINCRBY', KEYS[1], ARGV[i] .. ':' .. what, ARGV[i + place])
    end
  end
  local used = ARGV[i] .. ':last_used_s'
  if tonumber(redis.call('HGET', KEYS[1], used) or 0) < tonumber(ARGV[i + 4]) then
    redis.call('HSET', KEYS[1], used, ARGV[i + 4])
  end
end
"""


@dataclass(frozen=True, slots=True)
class KeyCounts:
    """`last_used_s` is a second since 1970, 0 for never."""

    requests: int = 0
    errors: int = 0
    tokens: int = 0
    last_used_s: int = 0


_COUNTED = frozenset(each.name for each in fields(KeyCounts))


class KeyUsage:
    """Counts what this process does with keys, and tells what all did."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._key = store.key("usage")
        # In the hash's slot, because one script takes both.
        self._last_batch_key = f"{{{self._key}}}:{secrets.token_hex(8)}"
        self._counted: dict[KeyPlace, KeyCounts] = defaultdict(KeyCounts)
        self._batch: list[str | int] = []
        self._batch_number = 0
        self._flushing = asyncio.Lock()

    def note(self, place: KeyPlace, now: float, *, requests: int = 0, errors: int = 0, tokens: int = 0) -> None:
        """Count something that a key did at `now` (seconds since 1970). In memory."""
        so_far = self._counted[place]
        self._counted[place] = KeyCounts(
            so_far.requests + requests,
            so_far.errors + errors,
            so_far.tokens + tokens,
            max(so_far.last_used_s, int(now)),
        )

    async def flush(self) -> None:
        """Add what was counted to the store. Raises StoreAway; nothing is lost or counted twice by that."""
        async with self._flushing:
            while self._batch or self._counted:
                if not self._batch:
                    counted = self._counted.items()
                    self._batch = [word for place, each in counted for word in (":".join(place), *astuple(each))]
                    self._batch_number += 1
                    self._counted.clear()
                words = (self._batch_number, _REMEMBERED_S, *self._batch)
                keys = (self._key, self._last_batch_key)
                await self._store.run(lambda redis: redis.eval(_ADD, 2, *keys, *words))  # noqa: B023
                self._batch = []

    async def counts(self) -> dict[KeyPlace, KeyCounts]:
        """What all replicas have told of every key. Raises StoreAway."""
        found = await self._store.run(lambda redis: redis.hgetall(self._key))
        sums: dict[KeyPlace, dict[str, int]] = defaultdict(dict)
        for field, value in found.items():
            place, _, what = str(field).rpartition(":")
            if what in _COUNTED:  # else another release counts it
                sums[KeyPlace(*place.split(":"))][what] = int(value)
        return {place: KeyCounts(**counted) for place, counted in sums.items()}
