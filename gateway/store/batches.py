"""Counts that a process collects in memory and adds to a hash of the store in batches.

A batch has a number and is added once, however often it is sent; one whose outcome is unknown is sent again as it was.
What a killed process had not sent is lost, at most a second's worth (longer while the store is away).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from gateway.store.connection import Store

_REMEMBERED_S = 3600
"""How long the store remembers a process's last batch: longer than anything sends it again."""

# KEYS: hash, last batch of this process. ARGV: batch, seconds it is remembered, then per change its field, how, number.
_APPLY = """
if redis.call('GET', KEYS[2]) == ARGV[1] then return end
redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[2])
for i = 3, #ARGV, 3 do
  if ARGV[i + 1] == 'add' then
    redis.call('HINCRBY', KEYS[1], ARGV[i], ARGV[i + 2])
  elseif tonumber(redis.call('HGET', KEYS[1], ARGV[i]) or 0) < tonumber(ARGV[i + 2]) then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2])
  end
end
"""


class Change(NamedTuple):
    """To one field of the hash: `add` the number, or `raise` the field to it."""

    field: str
    how: Literal["add", "raise"]
    number: int


class Batches:
    """The way of one process's counts to one hash. `take` gives what was counted since it was called last."""

    def __init__(self, store: Store, key: str, take: Callable[[], Sequence[Change]]) -> None:
        self._store = store
        self._key = key
        # In the hash's slot, because one script takes both.
        slot = key if "{" in key else f"{{{key}}}"
        self._last_batch_key = f"{slot}:{secrets.token_hex(8)}"
        self._take = take
        self._batch: list[str | int] = []
        self._batch_number = 0
        self._flushing = asyncio.Lock()

    async def flush(self) -> None:
        """Add what was counted to the store. Raises StoreAway; nothing is lost or counted twice by that."""
        async with self._flushing:
            while self._begin():
                words = (self._batch_number, _REMEMBERED_S, *self._batch)
                keys = (self._key, self._last_batch_key)
                await self._store.run(lambda redis: redis.eval(_APPLY, 2, *keys, *words))  # noqa: B023
                self._batch = []

    def _begin(self) -> bool:
        """Whether there is a batch to send: the last one still, or a new one."""
        if not self._batch:
            self._batch = [word for change in self._take() for word in change]
            self._batch_number += bool(self._batch)
        return bool(self._batch)
