"""What became of requests that carried an Idempotency-Key: one record for each tenant and key.

    (nothing)  ──begin──▶  in work  ──finish──▶  kept | streamed | too large | unknown
        ▲                     │ │
        └──────release────────┘ └──its lease ran out──▶  unknown

- A record *in work* belongs to the one request that began it, for as long as its lease is renewed. That a lease ran
  out means that its replica died or cannot reach the store: the request may have been carried out, so whoever finds
  such a record learns that the outcome is unknown. The owner may still come back and say how it ended.
- `release` is for what certainly was not carried out: the next request with the key begins anew.
- Every step is one script on one key, and does no harm when it runs twice: so replicas agree, and commands may be sent
  again. Times are the server's own, so replicas' clocks do not matter.
- Records have no expiry. A server that is short of memory evicts by expiry, and a record that vanishes lets work be
  done twice. In their place an index holds when each was begun, and a sweep removes what is older than `keep_s`. The
  index is written first: a record that is in no index would stay for ever.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.client import NEVER_DECODE

from gateway import codec
from gateway.store.connection import Store, StoreAway, do_each
from gateway.store.switches import IsErased, nobody

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""
# ARGV: digest of the request, token, milliseconds of the lease, milliseconds a record is kept.
_BEGIN = (
    _NOW
    + """
local found = redis.call('HMGET', KEYS[1], 'request', 'state', 'owner', 'until', 'at', 'head', 'body')
local is_there = found[1] and (found[2] == 'work' or tonumber(found[5]) > now - tonumber(ARGV[4]))
if not is_there then
  redis.call('UNLINK', KEYS[1])
  redis.call('HSET', KEYS[1], 'request', ARGV[1], 'state', 'work', 'owner', ARGV[2], 'until', now + ARGV[3], 'at', now)
  return {'begun'}
end
if found[1] ~= ARGV[1] then return {'reused'} end
if found[2] ~= 'work' then return {found[2], found[6], found[7]} end
if found[3] == ARGV[2] then return {'begun'} end
if tonumber(found[4]) > now then return {'work'} end
redis.call('HSET', KEYS[1], 'state', 'unknown', 'at', now, 'head', '{}', 'body', '')
return {'unknown', '{}', ''}
"""
)
# ARGV: token, milliseconds of the lease.
_RENEW = (
    _NOW
    + """
local found = redis.call('HMGET', KEYS[1], 'owner', 'state')
if found[1] == ARGV[1] and found[2] == 'work' then redis.call('HSET', KEYS[1], 'until', now + ARGV[2]) end
"""
)
# ARGV: token, digest of the request, state, head, body. A record that the store has lost is written anew.
_FINISH = (
    _NOW
    + """
local owner = redis.call('HGET', KEYS[1], 'owner')
if owner and owner ~= ARGV[1] then return end
redis.call('HSET', KEYS[1], 'request', ARGV[2], 'state', ARGV[3], 'owner', ARGV[1], 'at', now,
  'head', ARGV[4], 'body', ARGV[5])
"""
)
# ARGV: token.
_RELEASE = "if redis.call('HGET', KEYS[1], 'owner') == ARGV[1] then redis.call('UNLINK', KEYS[1]) end"
# ARGV: milliseconds a record is kept. Answers when it was last changed, 0 when it is gone.
_FORGET = (
    _NOW
    + """
local found = redis.call('HMGET', KEYS[1], 'at', 'state', 'until')
if not found[1] then return 0 end
local is_held = found[2] == 'work' and tonumber(found[3]) > now
if is_held or tonumber(found[1]) > now - tonumber(ARGV[1]) then return math.floor(found[1]) end
redis.call('UNLINK', KEYS[1])
return 0
"""
)
# KEYS: the index. ARGV: the latest time, members. One that was begun again meanwhile has a later time and stays.
_UNLIST = """
for i = 2, #ARGV do
  local at = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if at and tonumber(at) <= tonumber(ARGV[1]) then redis.call('ZREM', KEYS[1], ARGV[i]) end
end
"""

LEASE_S = 30.0
_SWEEP_BATCH = 200
_SWEEP_EVERY = 6
"""Renewals of the leases between two sweeps."""
_ABANDONED_LIMIT = 1000


class Lease(NamedTuple):
    """One request's claim on the record of its key: digests of key and request, and a token that nobody else has."""

    tenant: str
    key: str
    request: str
    token: str


@dataclass(frozen=True, slots=True)
class Kept:
    """The answer as its first caller got it."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Streamed:
    """The answer went out while it arrived; `run` is the public id of the run that it told of. `again` leads to the
    stream's beginning, where it can be told again."""

    run: str | None = None
    again: str | None = None


@dataclass(frozen=True, slots=True)
class TooLarge:
    """A success whose answer is not kept, but the ids in it: name of the field → public id."""

    ids: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Unknown:
    """It may have been carried out or not."""


Outcome = Kept | Streamed | TooLarge | Unknown
"""How the first request with a key ended."""


@dataclass(frozen=True, slots=True)
class Begun:
    """The record is the asker's own now: carry the request out, then finish or release."""


@dataclass(frozen=True, slots=True)
class InWork:
    """The first request with this key is being carried out."""


@dataclass(frozen=True, slots=True)
class Reused:
    """The key belongs to another request."""


def keys_of(store: Store, tenant: str) -> tuple[str, ...]:
    """As in `erase_tenant.py`."""
    return (store.key("idem", tenant, ""),)


def index_of(store: Store) -> str:
    """As in `erase_tenant.py`."""
    return store.key("idem-times")


class IdempotencyRecords:
    """The records. `keep_s` is how long each is kept after its last change; `pause` is what the upkeep waits with. Of a
    tenant that `is_erased` no record is written, as if the store were away."""

    def __init__(
        self,
        store: Store,
        *,
        keep_s: float,
        lease_s: float = LEASE_S,
        is_erased: IsErased = nobody,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._is_erased = is_erased
        self._keep_s = keep_s
        self._lease_s = lease_s
        self._pause = pause
        self._index = index_of(store)
        self._held: dict[str, Lease] = {}
        """By token: what this replica carries out."""
        self._abandoned: dict[str, Lease] = {}
        """What may stand in the store as begun by this replica, and is not carried out."""
        self._upkeep: asyncio.Task[None] | None = None

    @staticmethod
    def lease(tenant: str, key: str, request: str) -> Lease:
        """A claim that is still to be begun. Keys are kept as digests: callers may put anything into them."""
        return Lease(tenant, hashlib.blake2b(key.encode(), digest_size=20).hexdigest(), request, secrets.token_hex(8))

    async def begin(self, lease: Lease) -> Begun | InWork | Reused | Outcome:
        """Take the key's record, or learn what stands in it. Raises StoreAway; then nothing must be carried out."""
        try:
            answer = await self._write(lease, _BEGIN, lease.request, lease.token, _ms(self._lease_s), _ms(self._keep_s))
        except BaseException:
            self._abandon(lease)  # it may have run
            raise
        state, *rest = answer
        if state == b"begun":
            self._held[lease.token] = lease
            return Begun()
        if state in _NO_OUTCOME:
            return _NO_OUTCOME[state]
        return _decode(state, *rest)

    async def finish(self, lease: Lease, outcome: Outcome) -> None:
        """Tell how it ended. Raises StoreAway: then the lease runs out, and the outcome is unknown to all others."""
        self._held.pop(lease.token, None)
        state, head, body = _encode(outcome)
        await self._write(lease, _FINISH, lease.token, lease.request, state, head, body)

    async def release(self, lease: Lease) -> None:
        """Give the key back: nothing was carried out. Raises StoreAway; then the upkeep does it later."""
        self._held.pop(lease.token, None)
        self._abandon(lease)
        await self._run(_RELEASE, self._key(lease), lease.token)
        self._abandoned.pop(lease.token, None)

    def _abandon(self, lease: Lease) -> None:
        """To be given back. Left alone, the record would say after the lease that the outcome is unknown."""
        if len(self._abandoned) < _ABANDONED_LIMIT:
            self._abandoned[lease.token] = lease

    async def _run(self, script: str, key: str, *arguments: bytes | str | int) -> Any:
        return await self._store.run(lambda redis: _execute(redis, script, key, *arguments))

    async def _write(self, lease: Lease, script: str, *arguments: bytes | str | int) -> Any:
        """The answer of a script that may make the record. The index comes first."""
        if self._is_erased(lease.tenant):
            raise StoreAway("the tenant was erased")

        async def both(redis: Redis) -> Any:
            async with redis.pipeline(transaction=False) as pipe:
                pipe.zadd(self._index, {_member(lease): time.time()})
                _execute(pipe, script, self._key(lease), *arguments)
                return (await pipe.execute())[1]

        return await self._store.run(both)

    def _key(self, lease: Lease) -> str:
        return self._record(_member(lease))

    def _record(self, member: str) -> str:
        return self._store.key("idem", member)

    # --- upkeep ------------------------------------------------------------------------------------------------------
    def tend(self) -> None:
        """Renew leases and remove old records in the background, until `close`."""
        self._upkeep = asyncio.create_task(self._tend(), name="idempotency.upkeep")

    async def _tend(self) -> None:
        rounds = 0
        while True:
            await self._pause(self._lease_s / 3)
            rounds += 1
            with suppress(StoreAway):
                await self.renew()
                if rounds % _SWEEP_EVERY == 0:
                    await self.sweep()

    async def renew(self) -> None:
        """Prolong the leases of what this replica carries out, and give back what it does not. Raises StoreAway."""
        released = [partial(self.release, lease) for lease in self._abandoned.values()]
        renewed = [partial(self._renew, lease) for lease in self._held.values()]
        await do_each((*released, *renewed))

    async def _renew(self, lease: Lease) -> None:
        await self._run(_RENEW, self._key(lease), lease.token, _ms(self._lease_s))

    async def sweep(self) -> None:
        """Remove what was not changed for `keep_s`. Replicas may do it at the same time. Raises StoreAway."""
        cutoff_s = time.time() - self._keep_s
        while members := await self._listed_until(cutoff_s):
            changed = {member: await self._run(_FORGET, self._record(member), _ms(self._keep_s)) for member in members}
            # One that stays is looked at again when its time is over. A clock that goes ahead of the server's must not
            # make this go round for ever.
            later = {member: max(at_ms / 1000, cutoff_s + 0.001) for member, at_ms in changed.items() if at_ms}
            if later:
                await self._store.run(lambda redis, later=later: redis.zadd(self._index, later, gt=True))  # type: ignore[misc]
            await self._run(
                _UNLIST, self._index, repr(cutoff_s), *(member for member in members if member not in later)
            )

    async def _listed_until(self, cutoff_s: float) -> list[str]:
        """Some of what the index has from that time and before."""
        found = await self._store.run(
            lambda redis: redis.zrange(self._index, "-inf", repr(cutoff_s), byscore=True, offset=0, num=_SWEEP_BATCH)
        )
        return [str(member) for member in found]

    async def close(self) -> None:
        """Renew and remove no more."""
        if self._upkeep is not None:
            self._upkeep.cancel()
            await asyncio.gather(self._upkeep, return_exceptions=True)


def _execute(client: Any, script: str, key: str, *arguments: bytes | str | int) -> Any:
    """What a client or a pipeline gives for a script; its answer is in bytes, for bodies may be in any encoding."""
    return client.execute_command("EVAL", script, 1, key, *arguments, **{NEVER_DECODE: True})


_NO_OUTCOME: Mapping[bytes, Begun | InWork | Reused] = {b"work": InWork(), b"reused": Reused()}


def _encode(outcome: Outcome) -> tuple[str, bytes, bytes]:
    """State, head and body of a record."""
    match outcome:
        case Kept(status, headers, body):
            return "kept", codec.dumps({"status": status, "headers": dict(headers)}), body
        case Streamed(run, again):
            return "streamed", codec.dumps({"run": run, "again": again}), b""
        case TooLarge(ids):
            return "large", codec.dumps({"ids": dict(ids)}), b""
        case Unknown():
            return "unknown", b"{}", b""


def _decode(state: bytes, head: bytes, body: bytes) -> Outcome:
    """The reverse. What a newer gateway wrote and this one does not know is unknown to it."""
    told = codec.loads(head)
    match state:
        case b"kept":
            return Kept(told["status"], told["headers"], body)
        case b"streamed":
            return Streamed(told["run"], told.get("again"))
        case b"large":
            return TooLarge(told["ids"])
        case _:
            return Unknown()


def _member(lease: Lease) -> str:
    # A tenant's name comes from the configuration and holds no colon.
    return f"{lease.tenant}:{lease.key}"


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
