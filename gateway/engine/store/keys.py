"""The names of the keys. Everything of a thread is in one slot, and so are an account's assistants.

    {thread}:t            HASH    the thread and its patches; n, the last place given; users, how many messages of
                                  users; used, when it was last written to; tenant, whose it is. Deleted: only the
                                  deletion's mark, and the tenant
    {thread}:m, :mi       HASH, ZSET    messages: id → document, `id:patch` → patch; id → place
    {thread}:r, :ri       HASH, ZSET    runs alike; `id:closed` → place of its end, the fence and cancellation by which
    {thread}:s, :si       HASH, ZSET    steps of all runs alike
    {thread}:a            HASH    the run in work: run, status, fence, owner, lease, expires, epoch, takeovers,
                                  context, started, waiting, usage, outputs, cancel, interrupted, and what is open:
                                  `message:id`, `step:id`
    {thread}:gone         HASH    deleted messages: id → place and mark; about the last 1000
    {thread}:ev:run       STREAM  events, ids `epoch-number`; expires 15 minutes after the run ended
    asst:{route}          HASH    assistants, with n; :i ZSET, :gone HASH as above
    leases:{l0}…          ZSET    thread:run → deadline
    gc:{g0}…              ZSET    thread → last use, up to an hour late
    deleted-threads       ZSET    thread → when it was deleted
    holdings:{tenant}     ZSET    thread:id:, assistant:id:route → when it was made

The gateway's prefix comes before all of them.
"""

from __future__ import annotations

import zlib

from gateway.store.connection import Store

_PARTS = ("t", "a", "m", "mi", "r", "ri", "s", "si", "gone")
NAMES = "local T, A, M, MI, R, RI, S, SI, GONE, EV = unpack(KEYS)\n"
"""How scripts call what `thread_keys` gives. EV is there only for scripts about one run."""


def thread_keys(store: Store, thread: str, run: str | None = None) -> list[str]:
    """All keys of a thread, in the order of NAMES, with the events of one run if it is named."""
    keys = [thread_key(store, thread, part) for part in _PARTS]
    return keys if run is None else [*keys, events_key(store, thread, run)]


def thread_key(store: Store, thread: str, part: str) -> str:
    return store.key(f"{{{thread}}}", part)


def events_key(store: Store, thread: str, run: str) -> str:
    return store.key(f"{{{thread}}}", "ev", run)


def assistant_keys(store: Store, route: str) -> list[str]:
    """Documents, index, and what is gone. A route is letters and digits."""
    tag = f"{{{route}}}"
    return [store.key("asst", tag), store.key("asst", tag, "i"), store.key("asst", tag, "gone")]


def lease_keys(store: Store, shards: int) -> list[str]:
    return [store.key("leases", f"{{l{shard}}}") for shard in range(shards)]


def shard_of(thread: str, shards: int) -> int:
    """Which of several index keys holds a thread. The same in every process."""
    return zlib.crc32(thread.encode()) % shards
