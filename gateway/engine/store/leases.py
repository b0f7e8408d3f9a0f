"""Who works on which run, and until when: runs whose holder is gone are taken over, runs past their time expire.

The truth is in the thread's own slot; the lease set says where to look. It is written before a run is made, so that no
run is ever in no set, and whoever finds an entry asks the thread. An entry of a run that does not exist is dropped 30 s
after its deadline: by then the script that makes the run is not coming any more.

Times are the replicas' own: by as much as their clocks differ, a run is taken over too early, which its holder learns
at its next write, or too late.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from gateway.engine.store.documents import Document, decode, encode
from gateway.engine.store.endings import END, Ending, interrupted_message, interrupted_step
from gateway.engine.store.events import HELD
from gateway.engine.store.expiring import expiry_events
from gateway.engine.store.ids import mint_word
from gateway.engine.store.keys import NAMES, lease_keys, shard_of, thread_key, thread_keys
from gateway.engine.store.results import Claim, Lost, RunStatus, Written
from gateway.engine.store.scripts import read_hash, run_often, run_script
from gateway.store.coalescer import Script
from gateway.store.connection import Store, StoreAway

LEASE_S = 5.0
LEASE_SHARDS = 8
"""In a cluster, so that a server that is away stops but its part."""
ORPHAN_S = 30.0
_LOOKED_AT = 1000

# ARGV: run, fence, lease.
_RENEW = Script(
    NAMES
    + HELD
    + """
if not is_held(ARGV[1], ARGV[2]) then return {'lost', how_lost(ARGV[1])} end
local status = redis.call('HGET', A, 'status')
if status ~= 'requires_action' then redis.call('HSET', A, 'lease', ARGV[3]) end
return {'ok', status}
"""
)
# ARGV: run, now, fence, owner, lease, patches of an ending by expiry, patches of what is interrupted, whether the run
# tells events though none is stored, events of an end by expiry. These begin a new epoch: the holder may have told more
# than it has stored.
_TAKE = Script(
    NAMES
    + END
    + """
local run, now, fence = ARGV[1], tonumber(ARGV[2]), ARGV[3]
if redis.call('HGET', A, 'run') ~= run then
  local by = closed_by(run)
  if by == fence then return {'expired'} end
  return {by and 'ended' or 'absent'}
end
local of = {}
local a = redis.call('HGETALL', A)
for i = 1, #a, 2 do of[a[i]] = a[i + 1] end

if now >= tonumber(of.expires) then
  if #ARGV > 11 and (ARGV[11] == '1' or redis.call('EXISTS', EV) == 1) then
    add_events(redis.call('HINCRBY', A, 'epoch', 1), 12)
  end
  end_run(fence, ARGV[6], ARGV[7], ARGV[8])
  return {'expired'}
end
if of.fence ~= fence then
  if now < tonumber(of.lease) then return {'held', of.lease} end
  local interrupted = ''
  for field, state in pairs(of) do
    local kind, id = string.match(field, '^(%a+):(.+)$')
    if kind and state == 'open' then
      redis.call('HSET', kind == 'message' and M or S, id .. ':ended', kind == 'message' and ARGV[9] or ARGV[10])
      redis.call('HDEL', A, field)
      interrupted = interrupted .. ' ' .. field
    end
  end
  redis.call('HSET', A, 'fence', fence, 'owner', ARGV[4], 'lease', ARGV[5], 'interrupted', interrupted)
  redis.call('HINCRBY', A, 'epoch', 1)
  redis.call('HINCRBY', A, 'takeovers', 1)
end
return {'taken', redis.call('HMGET', A, 'epoch', 'expires', 'status', 'outputs', 'takeovers', 'interrupted')}
"""
)


@dataclass(frozen=True, slots=True)
class Taken:
    """A run whose holder is gone, and the claim on it. What was open in the middle of it is closed: messages are
    incomplete, steps failed; callers have to be told. `takeovers` counts how often in a row, for a run that kills its
    replicas. `outputs` is what was submitted since it waited last, with steps that wait for it still open."""

    claim: Claim
    status: RunStatus
    context: Document
    outputs: Document | None
    takeovers: int
    interrupted_messages: tuple[str, ...]
    interrupted_steps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Expired:
    """A run that was ended because its time was over."""

    thread: str
    run: str
    context: Document


class Leases:
    """The leases that this process holds, and all that are overdue. `owner` names the process, for people."""

    def __init__(self, store: Store, *, owner: str, lease_s: float = LEASE_S, shards: int = 1) -> None:
        self.owner = owner
        self._store = store
        self._lease_s = lease_s
        self._keys = lease_keys(store, shards)
        self._held: dict[str, Claim] = {}
        """By run."""

    @property
    def held(self) -> tuple[Claim, ...]:
        """What this process works on."""
        return tuple(self._held.values())

    # --- of one claim ------------------------------------------------------------------------------------------------
    async def intend(self, claim: Claim, now: float) -> float:
        """Enter a run that is about to be made or claimed, and tell until when. Raises StoreAway."""
        deadline = self._deadline(claim, now)
        # An entry that is due earlier stays so: a refused claim must not put off what is overdue.
        await self._store.run(lambda redis: redis.zadd(self._key(claim.thread), {_member(claim): deadline}, lt=True))
        return deadline

    async def ensure(self, thread: str, run: str, now: float) -> None:
        """Somebody has met a run in work: enter it if the store has lost its entry. Raises StoreAway."""
        deadline = now + self._lease_s
        await self._store.run(lambda redis: redis.zadd(self._key(thread), {f"{thread}:{run}": deadline}, nx=True))

    def hold(self, claim: Claim) -> None:
        """From now on it is renewed, until it is dropped: whoever works on it sees to that, however the work ends."""
        self._held[claim.run] = claim

    def drop(self, claim: Claim) -> None:
        """It is lost, or was never had: renew it no more."""
        if (held := self._held.get(claim.run)) is not None and held.fence == claim.fence:
            del self._held[claim.run]

    async def forget(self, claim: Claim) -> None:
        """Its run has ended, or was not made. Never raises: an entry that stays is found to be of no use."""
        self.drop(claim)
        with suppress(StoreAway):
            await self._unlist(claim.thread, _member(claim))

    async def leave(self, claim: Claim, until: float) -> None:
        """Nobody has to work on it until then. Never raises, as whoever finds the entry asks the thread."""
        self.drop(claim)
        with suppress(StoreAway):
            await self._list(claim.thread, _member(claim), until)

    async def hand_over(self, claim: Claim, *, now: float) -> None:
        """Let another replica take it at once. Raises StoreAway; then it does so after the lease."""
        self.drop(claim)
        keys = thread_keys(self._store, claim.thread)
        outcome, _ = await run_script(self._store, _RENEW, keys, claim.run, claim.fence, repr(now))
        if outcome == b"ok":
            await self._list(claim.thread, _member(claim), now)

    # --- of all that this process holds ------------------------------------------------------------------------------
    async def renew(self, *, now: float) -> dict[Claim, Written | Lost]:
        """Prolong what is held, though not beyond its expiry, and tell what became of each: those that are lost are
        dropped, those in `cancelling` are to be ended; nothing is told of those whose part of the store is away. To be
        called three times in a lease. Raises StoreAway if all of it is."""
        claims = self.held
        deadlines = {claim: self._deadline(claim, now) for claim in claims}
        calls = [
            (thread_keys(self._store, claim.thread), (claim.run, claim.fence, repr(deadlines[claim])))
            for claim in claims
        ]
        answers = await run_often(self._store, _RENEW, calls)
        results = {
            claim: _renewed(answer)
            for claim, answer in zip(claims, answers, strict=True)
            if not isinstance(answer, StoreAway)
        }
        for claim, result in results.items():
            if isinstance(result, Lost) or result.status == "requires_action":
                self.drop(claim)
        kept = {claim for claim in results if claim.run in self._held}
        for key in self._keys:
            entries = {_member(claim): deadlines[claim] for claim in kept if self._key(claim.thread) == key}
            if entries:
                with suppress(StoreAway):  # whoever finds an old entry asks the thread
                    await self._store.run(lambda redis, key=key, entries=entries: redis.zadd(key, entries))  # type: ignore[misc]
        return results

    # --- of all ------------------------------------------------------------------------------------------------------
    async def sweep(self, *, now: float, limit: int = 100) -> list[Taken | Expired]:
        """Take over what is overdue, at most `limit` of it, and end what has expired. Replicas may do it at the same
        time. What lies in a part of the store that is away waits until that is back; raises StoreAway if nothing was
        found and that may be why."""
        found: list[Taken | Expired] = []
        away: StoreAway | None = None
        for key in self._keys:
            try:
                overdue = await self._overdue(key, now)
            except StoreAway as exc:
                away = exc
                continue
            for member, deadline in overdue:
                if len(found) >= limit:
                    return found
                thread, _, run = member.partition(":")
                if (own := self._held.get(run)) is not None and now < own.expires_at:
                    continue  # it is only late in renewing
                try:
                    result = await self._take(thread, run, deadline, now)
                except StoreAway as exc:
                    away = exc
                    continue
                if result is not None:
                    found.append(result)
        if away is not None and not found:
            raise away
        return found

    async def _overdue(self, key: str, now: float) -> list[tuple[str, float]]:
        found = await self._store.run(
            lambda redis: redis.zrange(key, "-inf", repr(now), byscore=True, offset=0, num=_LOOKED_AT, withscores=True)
        )
        return [(str(pair[0]), float(pair[1])) for pair in found]

    async def _take(self, thread: str, run: str, deadline: float, now: float) -> Taken | Expired | None:
        """None: nothing to be done about it."""
        # Its context never changes, and is not there any more once it has ended.
        at_work = await self._at_work(thread)
        context = at_work.get("context")
        fence = mint_word()
        lease = now + self._lease_s
        ending = Ending("expired", now)
        is_known = at_work.get("run") == run.encode()
        is_over = is_known and now >= float(at_work["expires"])
        told = await expiry_events(self._store, thread, run, at_work, ending) if is_over else []
        outcome, *said = await run_script(
            self._store,
            _TAKE,
            thread_keys(self._store, thread, run),
            run,
            repr(now),
            fence,
            self.owner,
            repr(lease),
            *ending.patches(),
            encode(interrupted_message(now, "run_failed")),
            encode(interrupted_step(now)),
            int(any(decode(at_work[said]).get("is_streamed") for said in ("context", "outputs") if said in at_work)),
            *(word for number, event in enumerate(told, start=1) for word in (number, *event)),
        )
        member = f"{thread}:{run}"
        match outcome:
            case b"taken" if is_known:
                taken = _taken(thread, run, fence, decode(context or b"{}"), said[0])
                self.hold(taken.claim)
                # What was done must be told, or it would be held for nothing: an old entry does no harm.
                with suppress(StoreAway):
                    await self._list(thread, member, self._deadline(taken.claim, now))
                return taken
            case b"expired":
                with suppress(StoreAway):
                    await self._unlist(thread, member)
                return Expired(thread, run, decode(context or b"{}"))
            case b"held":
                await self._list(thread, member, float(said[0]))
            case b"ended":
                await self._unlist(thread, member)
            case b"absent" if now - deadline >= ORPHAN_S:
                await self._unlist(thread, member)
        return None

    async def _at_work(self, thread: str) -> dict[str, bytes]:
        """What the thread knows of its run in work, by field."""
        found = await read_hash(self._store, thread_key(self._store, thread, "a"))
        return {field.decode(): value for field, value in found.items()}

    def _deadline(self, claim: Claim, now: float) -> float:
        """A run that has expired is everybody's to end, its holder's too."""
        return min(now + self._lease_s, claim.expires_at)

    def _key(self, thread: str) -> str:
        return self._keys[shard_of(thread, len(self._keys))]

    async def _list(self, thread: str, member: str, deadline: float) -> None:
        await self._store.run(lambda redis: redis.zadd(self._key(thread), {member: deadline}))

    async def _unlist(self, thread: str, member: str) -> None:
        await self._store.run(lambda redis: redis.zrem(self._key(thread), member))


def _renewed(answer: Sequence[bytes]) -> Written | Lost:
    outcome, said = answer
    return Lost(said.decode()) if outcome == b"lost" else Written(said.decode())  # type: ignore[arg-type]


def _taken(thread: str, run: str, fence: str, context: Document, fields: Sequence[Any]) -> Taken:
    epoch, expires, status, outputs, takeovers, interrupted = fields
    open_before = [field.partition(":") for field in sorted((interrupted or b"").decode().split())]
    return Taken(
        Claim(thread, run, fence, int(epoch), float(expires)),
        status.decode(),
        context,
        None if outputs is None else decode(outputs),
        int(takeovers),
        tuple(id_ for kind, _, id_ in open_before if kind == "message"),
        tuple(id_ for kind, _, id_ in open_before if kind == "step"),
    )


def _member(claim: Claim) -> str:
    return f"{claim.thread}:{claim.run}"
