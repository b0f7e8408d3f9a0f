"""Deleting what nobody has used for long, and the traces of what was deleted, in steps."""

from __future__ import annotations

from functools import partial

from gateway.engine.store.activity import SAMPLE_S, Activity
from gateway.engine.store.keys import thread_key
from gateway.engine.store.scripts import run_script
from gateway.engine.store.threads import Threads
from gateway.store.coalescer import Script
from gateway.store.connection import Store, do_each

TRACE_S = 3600.0
"""How long a deleted thread leaves a trace: far longer than a command can be late."""

# KEYS: thread. A thread that was not deleted after all has no trace.
_FORGET = Script("if redis.call('HEXISTS', KEYS[1], 'deleted') == 1 then redis.call('UNLINK', KEYS[1]) end")


class Retention:
    """The sweep. Replicas may do it at the same time."""

    def __init__(self, store: Store, threads: Threads, activity: Activity) -> None:
        self._store = store
        self._threads = threads
        self._activity = activity

    async def sweep(self, *, now: float, keep_s: float | None, limit: int = 100) -> list[str]:
        """Forget all traces that are old enough, `limit` at a time, and delete threads that were not written to for
        `keep_s` (None: none is too old), at most `limit`; tells which. To be called again until none is left. Raises
        StoreAway."""
        await self._forget_traces(now, limit)
        return [] if keep_s is None else await self._delete_old(now, keep_s, limit)

    async def _delete_old(self, now: float, keep_s: float, limit: int) -> list[str]:
        deleted: list[str] = []
        for key in self._activity.keys:
            # The index may say too early by an hour; the thread itself knows better, but is not asked in vain.
            for thread in await self._listed(key, now - keep_s - SAMPLE_S, limit - len(deleted)):
                if await self._threads.delete_unused(thread, since=now - keep_s, now=now):
                    deleted.append(thread)
                else:
                    await self._activity.note(thread, now)
        return deleted

    async def _forget_traces(self, now: float, limit: int) -> None:
        key = self._activity.deleted_key

        async def forget(thread: str) -> None:
            await run_script(self._store, _FORGET, [thread_key(self._store, thread, "t")])
            await self._store.run(lambda redis: redis.zrem(key, thread))

        while threads := await self._listed(key, now - TRACE_S, limit):
            await do_each(partial(forget, thread) for thread in threads)

    async def _listed(self, key: str, until: float, count: int) -> list[str]:
        if count <= 0:
            return []
        found = await self._store.run(
            lambda redis: redis.zrange(key, "-inf", repr(until), byscore=True, offset=0, num=count)
        )
        return [str(thread) for thread in found]
