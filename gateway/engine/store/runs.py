"""Runs as callers see them: created, read, cancelled, given tool outputs. The work on them is in `work`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.engine.store.activity import Activity
from gateway.engine.store.documents import (
    RUN_PATCHES,
    Document,
    as_patches,
    assemble,
    decode,
    encode,
    fields_of,
)
from gateway.engine.store.endings import END, Ending
from gateway.engine.store.ids import mint_word
from gateway.engine.store.keys import NAMES, thread_key, thread_keys
from gateway.engine.store.leases import Leases
from gateway.engine.store.lists import PAGE, Page, Window, read_page
from gateway.engine.store.messages import APPEND
from gateway.engine.store.messages import as_words as messages_as_words
from gateway.engine.store.results import (
    Absent,
    Claim,
    NothingToRun,
    RunActive,
    UnknownCursor,
    WrongOutputs,
    WrongStatus,
)
from gateway.engine.store.scripts import read_fields, run_script
from gateway.store.coalescer import Script
from gateway.store.connection import Store

_SUBMIT_TRIES = 3

# ARGV: run, document, whether it needs a message of a user, fence, owner, lease, expires, context, now, messages.
_CREATE = Script(
    NAMES
    + APPEND
    + """
if redis.call('HEXISTS', T, 'object') == 0 then return {'absent'} end
if redis.call('ZSCORE', RI, ARGV[1]) then return {'done'} end
local active = redis.call('HGET', A, 'run')
if active then return {'active', active} end
local is_empty = tonumber(redis.call('HGET', T, 'users') or 0) == 0
for i = 10, #ARGV, 3 do is_empty = is_empty and ARGV[i + 1] ~= 'user' end
if ARGV[3] == '1' and is_empty then return {'empty'} end
append(10)
redis.call('ZADD', RI, redis.call('HINCRBY', T, 'n', 1), ARGV[1])
redis.call('HSET', R, ARGV[1], ARGV[2])
redis.call('HSET', A, 'run', ARGV[1], 'status', 'queued', 'fence', ARGV[4], 'owner', ARGV[5], 'lease', ARGV[6],
  'expires', ARGV[7], 'context', ARGV[8], 'epoch', 1, 'takeovers', 0)
redis.call('HSET', T, 'used', ARGV[9])
return {'done'}
"""
)
_LIVE = """
-- What readers see of the run in work.
local function live() return redis.call('HMGET', A, 'run', 'status', 'started', 'waiting') end
"""
# ARGV: fields of the run.
_GET = Script(NAMES + _LIVE + "return {redis.call('HMGET', R, unpack(ARGV)), live()}")
# ARGV: order, limit, after, before, patches.
_LIST = Script(
    NAMES
    + PAGE
    + _LIVE
    + """
if redis.call('HEXISTS', T, 'object') == 0 then return {} end
local ids, has_more, was_deleted = page(RI, GONE, ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], 0, math.huge)
if not ids then return {has_more} end
return {has_more, was_deleted, contents(R, ids, {unpack(ARGV, 5)}), live()}
"""
)
# ARGV: run, patch's name, patch, fields of the run.
_MODIFY = Script(
    NAMES
    + _LIVE
    + """
if redis.call('HEXISTS', R, ARGV[1]) == 0 then return false end
redis.call('HSET', R, ARGV[1] .. ':' .. ARGV[2], ARGV[3])
return {redis.call('HMGET', R, unpack(ARGV, 4)), live()}
"""
)
# ARGV: run, mark, patches of an ending. Where nobody works the run ends here.
_CANCEL = Script(
    NAMES
    + END
    + """
if redis.call('HEXISTS', R, ARGV[1]) == 0 then return {'absent'} end
local by, cancel = closed_by(ARGV[1])
if by == ARGV[2] or cancel == ARGV[2] then return {'done'} end
if by then return {'ended', redis.call('HGET', R, ARGV[1] .. ':ended')} end
local status, cancelled = unpack(redis.call('HMGET', A, 'status', 'cancel'))
if cancelled == ARGV[2] then return {'done'} end
if status == 'requires_action' then
  end_run(ARGV[2], ARGV[3], ARGV[4], ARGV[5])
elseif status == 'cancelling' then
  return {'status', status}
else
  redis.call('HSET', A, 'status', 'cancelling', 'cancel', ARGV[2])
end
return {'done'}
"""
)
# ARGV: run, fence that was read, new fence, owner, lease, outputs. The calls of a round stand as long as its fence.
_SUBMIT = Script(
    NAMES
    + """
local run, fence, status, epoch = unpack(redis.call('HMGET', A, 'run', 'fence', 'status', 'epoch'))
if run ~= ARGV[1] then return false end
if fence ~= ARGV[3] then
  if fence ~= ARGV[2] or status ~= 'requires_action' then return false end
  epoch = redis.call('HINCRBY', A, 'epoch', 1)
  redis.call('HSET', A, 'status', 'queued', 'fence', ARGV[3], 'owner', ARGV[4], 'lease', ARGV[5], 'outputs', ARGV[6],
    'takeovers', 0)
  redis.call('HDEL', A, 'waiting')
end
return {tonumber(epoch), redis.call('HGET', A, 'context')}
"""
)


@dataclass(frozen=True, slots=True)
class Started:
    """A run is queued, and the caller's to work on. `run` is what its reader would see, `context` what was said when it
    was made."""

    claim: Claim
    run: Document
    context: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Waiting:
    """A run that waits for tool outputs, and what it has used by then."""

    run: str
    context: Document
    usage: Document | None


class Runs:
    """The runs of all threads. Each raises StoreAway. `owner` names this process, for people."""

    def __init__(self, store: Store, activity: Activity, leases: Leases) -> None:
        self._store = store
        self._activity = activity
        self._leases = leases

    async def create(
        self,
        thread: str,
        run: Document,
        messages: Sequence[Document] = (),
        *,
        needs_user_message: bool,
        context: Mapping[str, Any],
        now: float,
    ) -> Started | Absent | RunActive | NothingToRun:
        """Queue a run, with messages in front of it. Its `expires_at` is when it ends whatever it does; `context` is
        what another replica needs to know to take it over, and no caller sees."""
        await self._activity.note(thread, now)
        claim = Claim(thread, run["id"], mint_word(), 1, run["expires_at"])
        lease = await self._leases.intend(claim, now)
        answer = await run_script(
            self._store,
            _CREATE,
            thread_keys(self._store, thread),
            run["id"],
            encode(run),
            int(needs_user_message),
            claim.fence,
            self._leases.owner,
            repr(lease),
            repr(claim.expires_at),
            encode(context),
            repr(now),
            *messages_as_words(messages),
        )
        if answer[0] == b"done":
            self._leases.hold(claim)
            return Started(claim, run, context)
        await self._leases.forget(claim)
        match answer:
            case [b"active", active]:
                await self._leases.ensure(thread, active.decode(), now)
                return RunActive(active.decode())
            case [b"empty"]:
                return NothingToRun()
            case _:
                return Absent("thread")

    async def get(self, thread: str, run: str) -> Document | Absent:
        """Absent is said of the run, also where the thread is."""
        fields = fields_of(run, RUN_PATCHES)
        fixed, live = await run_script(self._store, _GET, thread_keys(self._store, thread), *fields)
        return _with_live(assemble(fixed), live) or Absent("run")

    async def waiting(self, thread: str) -> Waiting | None:
        """The thread's run, if it waits for tool outputs."""
        key = thread_key(self._store, thread, "a")
        run, status, context, usage = await read_fields(self._store, key, ("run", "status", "context", "usage"))
        if run is None or context is None or status != b"requires_action":
            return None
        return Waiting(run.decode(), decode(context), None if usage is None else decode(usage))

    async def modify(self, thread: str, run: str, metadata: Mapping[str, Any] | None) -> Document | Absent:
        """The run with this metadata; only that can change."""
        fields = fields_of(run, RUN_PATCHES)
        patches = as_patches({"metadata": metadata}, RUN_PATCHES)
        keys = thread_keys(self._store, thread)
        found = await run_script(self._store, _MODIFY, keys, run, *patches, *fields)
        return _with_live(assemble(found[0]), found[1]) if found else Absent("run")

    async def list(self, thread: str, window: Window) -> Page | Absent | UnknownCursor:
        keys = thread_keys(self._store, thread)
        answer = await run_script(self._store, _LIST, keys, *window.words(), *RUN_PATCHES)
        if not answer:
            return Absent("thread")
        page = read_page(answer[:3], 1 + len(RUN_PATCHES))
        if isinstance(page, UnknownCursor):
            return page
        runs = tuple(_with_live(run, answer[3]) for run in page.objects)
        return Page(runs, page.has_more, page.was_deleted)

    async def cancel(self, thread: str, run: str, *, now: float) -> Document | Absent | WrongStatus:
        """The run, `cancelling` if somebody works on it, who is told so by each write and by `Leases.renew`; else
        `cancelled`."""
        keys = thread_keys(self._store, thread, run)
        patches = Ending("cancelled", now).patches()
        answer = await run_script(self._store, _CANCEL, keys, run, mint_word(), *patches)
        match answer:
            case [b"done"]:
                await self._leases.ensure(thread, run, now)
                return await self.get(thread, run)
            case [b"ended", patch]:
                return WrongStatus(decode(patch)["status"])
            case [b"status", status]:
                return WrongStatus(status.decode())
            case _:
                return Absent("run")

    async def submit(
        self,
        thread: str,
        run: str,
        outputs: Sequence[Mapping[str, Any]],
        *,
        telling: Mapping[str, bool] | None = None,
        request_id: str | None = None,
        now: float,
    ) -> Started | Absent | WrongStatus | WrongOutputs:
        """Queue a run that waits, with the outputs of all its calls (`tool_call_id`, `output`): now it is the caller's
        to work on. Past its time it is as good as expired. `telling`, how its events are told, and `request_id` are
        kept with the outputs."""
        submitted = {"tool_outputs": list(outputs), **(telling or {}), "request_id": request_id}
        for _ in range(_SUBMIT_TRIES):
            result = await self._submit(thread, run, submitted, now)
            if result is not None:
                return result
        # Each time it was claimed anew between reading and writing.
        return WrongStatus("queued")

    async def _submit(
        self, thread: str, run: str, submitted: Mapping[str, Any], now: float
    ) -> Started | Absent | WrongStatus | WrongOutputs | None:
        """None when the run has changed since it was read."""
        # The fence first: calls that are read after it can only be of its round or of a later one, and then it is old.
        key = thread_key(self._store, thread, "a")
        at_work, fence, expires = await read_fields(self._store, key, ("run", "fence", "expires"))
        seen = await self.get(thread, run)
        if isinstance(seen, Absent):
            return seen
        if at_work is None or at_work.decode() != run or seen["status"] != "requires_action":
            return WrongStatus(seen["status"])
        if now >= float(expires or 0):
            return WrongStatus("expired")
        expected = tuple(call["id"] for call in seen["required_action"]["submit_tool_outputs"]["tool_calls"])
        got = tuple(output.get("tool_call_id", "") for output in submitted["tool_outputs"])
        if sorted(expected) != sorted(got):
            return WrongOutputs(expected, got)
        assert fence is not None
        return await self._resume(Claim(thread, run, mint_word(), 0, float(expires or 0)), fence, submitted, now)

    async def _resume(self, claim: Claim, fence: bytes, submitted: Mapping[str, Any], now: float) -> Started | None:
        lease = await self._leases.intend(claim, now)
        answer = await run_script(
            self._store,
            _SUBMIT,
            thread_keys(self._store, claim.thread),
            claim.run,
            fence,
            claim.fence,
            self._leases.owner,
            repr(lease),
            encode(submitted),
        )
        if not answer:
            return None
        claim = claim._replace(epoch=answer[0])
        run = await self.get(claim.thread, claim.run)
        if isinstance(run, Absent):
            return None
        self._leases.hold(claim)  # only now: who is not told of it works on nothing, and others take it over
        return Started(claim, run, decode(answer[1]))


def _with_live(run: Document, live: Sequence[bytes | None]) -> Document:
    """A run as it is now; `live` is what the script of that name gave."""
    active, status, started, waiting = live
    if not run or active is None or status is None or active.decode() != run["id"]:
        return run
    run["status"] = status.decode()
    if started is not None:
        run["started_at"] = int(started)
    if waiting is not None:
        run |= decode(waiting)
    return run
