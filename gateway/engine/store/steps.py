"""The steps of a run, as callers read them."""

from __future__ import annotations

from gateway.engine.store.documents import STEP_PATCHES, Document, assemble, fields_of
from gateway.engine.store.keys import NAMES, thread_key, thread_keys
from gateway.engine.store.lists import PAGE, Page, Window, read_page
from gateway.engine.store.results import Absent, UnknownCursor
from gateway.engine.store.scripts import read_fields, run_script
from gateway.store.coalescer import Script
from gateway.store.connection import Store

# ARGV: order, limit, after, before, run, patches. A run's steps lie between its place and its end. Steps are not
# deleted, and `gone` knows none of them.
_LIST = Script(
    NAMES
    + PAGE
    + """
local place = redis.call('ZSCORE', RI, ARGV[5])
if not place then return {} end
local low, high = tonumber(place), math.huge
local closed = redis.call('HGET', R, ARGV[5] .. ':closed')
if closed then high = tonumber(string.match(closed, '^(%d+)')) + 1 end
local ids, has_more, was_deleted = page(SI, GONE, ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], low, high)
if not ids then return {has_more} end
return {has_more, was_deleted, contents(S, ids, {unpack(ARGV, 6)})}
"""
)


class Steps:
    """The steps of all runs. Each raises StoreAway."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self, thread: str, run: str, step: str) -> Document | Absent:
        """Absent is said of the step, whatever is."""
        fields = fields_of(step, STEP_PATCHES)
        found = assemble(await read_fields(self._store, thread_key(self._store, thread, "s"), fields))
        return found if found.get("run_id") == run else Absent("step")

    async def list(self, thread: str, run: str, window: Window) -> Page | Absent | UnknownCursor:
        keys = thread_keys(self._store, thread)
        answer = await run_script(self._store, _LIST, keys, *window.words(), run, *STEP_PATCHES)
        return read_page(answer, 1 + len(STEP_PATCHES)) if answer else Absent("run")
