"""When each thread was last used, as far as deleting old ones takes it: an index that may be an hour late.

It lies in other slots than the threads, so it is written before them: a thread that is in no index would stay for ever.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress

from gateway.engine.store.keys import shard_of
from gateway.store.connection import Store, StoreAway

SHARDS = 16
SAMPLE_S = 3600.0
_REMEMBERED = 10_000


class Activity:
    """The index, and the one of deleted threads. Threads noted in the last hour are remembered in this process."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.keys = [store.key("gc", f"{{g{shard}}}") for shard in range(SHARDS)]
        self.deleted_key = store.key("deleted-threads")
        self._noted: OrderedDict[str, float] = OrderedDict()

    def key_of(self, thread: str) -> str:
        return self.keys[shard_of(thread, SHARDS)]

    async def note(self, thread: str, now: float) -> None:
        """The thread is about to be written to. Raises StoreAway."""
        if now - self._noted.get(thread, float("-inf")) < SAMPLE_S:
            return
        await self._store.run(lambda redis: redis.zadd(self.key_of(thread), {thread: now}, gt=True))
        self._noted[thread] = now
        self._noted.move_to_end(thread)
        while len(self._noted) > _REMEMBERED:
            self._noted.popitem(last=False)

    async def note_deletion(self, thread: str, now: float) -> None:
        """The thread is about to be deleted, and will leave a trace. Raises StoreAway."""
        await self._store.run(lambda redis: redis.zadd(self.deleted_key, {thread: now}, nx=True))
        self._noted.pop(thread, None)

    async def forget(self, thread: str) -> None:
        """The thread is gone. Never raises: the sweep finds it again."""
        with suppress(StoreAway):
            await self._store.run(lambda redis: redis.zrem(self.key_of(thread), thread))
