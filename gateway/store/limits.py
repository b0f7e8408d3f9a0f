"""What tenants and their keys use, counted for all replicas.

    windows     requests of the last minute                one hash for a tenant, one for each key with a limit
    leases      requests and streams under way             sorted sets, request → until when its lease runs
    bytes       of the day, by field as tokens             one hash for a tenant
    tokens      of day and month, written by settlement    `store/token_counts.py`

`admit` looks at all limits of a caller in one script: if one refuses, nothing is counted for the others. Everything of
a tenant is in one slot.

A request under way holds a lease, which its replica renews and gives back; those of a replica that was killed run out
(`_LEASE_S`). Windows and leases go by the store's clock; days and months by the replica's, as in settlement.

Commands are sent at most once (`store/coalescer.py`). One whose answer is lost may have counted a request that was then
admitted by the replica alone; its lease is given back like any other.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Protocol

from redis.exceptions import ResponseError

from gateway.store.coalescer import Script, Word
from gateway.store.connection import Store, StoreAway
from gateway.store.switches import IsErased, nobody
from gateway.store.token_counts import key_of
from gateway.store.windows import WINDOWS
from gateway.window import MINUTE_S

_LEASE_S = 15.0
BATCH_LIMIT = 500
_REMEMBERED_MS = 3_600_000
"""How long the store remembers a replica's last batch: longer than anything sends it again."""

# KEYS: one for each check. ARGV: request, milliseconds of its lease, seconds of a window; for each check its kind,
# limit and field; then requests that have ended.
_ADMIT = Script(
    WINDOWS
    + """
local request, lease_ms, span_s = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local refused, answer, windows = 0, {0, now_s}, {}
local ended = 3 + 3 * #KEYS
for place, key in ipairs(KEYS) do
  local kind, limit, field = ARGV[1 + 3 * place], tonumber(ARGV[2 + 3 * place]), ARGV[3 + 3 * place]
  local used
  if kind == 'rate' then
    windows[place] = read(key, span_s)
    used = windows[place].sum
  elseif kind == 'held' then
    used = redis.call('ZCARD', key)
    if used >= limit then
      redis.call('ZREMRANGEBYSCORE', key, '-inf', now_ms)
      if #ARGV > ended then redis.call('ZREM', key, unpack(ARGV, ended + 1)) end
      used = redis.call('ZCARD', key)
    end
  else
    used = tonumber(redis.call('HGET', key, field) or 0)
  end
  if used >= limit and kind ~= 'told' and refused == 0 then refused = place end
  answer[3 * place] = used
end
for place, key in ipairs(KEYS) do
  local window = windows[place]
  if refused == 0 and window then
    add(window, 1)
    answer[3 * place] = window.sum
  elseif refused == 0 and ARGV[1 + 3 * place] == 'held' then
    redis.call('ZADD', key, now_ms + lease_ms, request)
  end
  answer[3 * place + 1] = window and wait_ms(window, tonumber(ARGV[2 + 3 * place])) or 0
  answer[3 * place + 2] = window and reset_ms(window) or 0
end
answer[1] = refused
return answer
"""
)
# KEYS: this replica's last batch, then one for each fact. ARGV: batch, milliseconds it is remembered, day; for each
# fact its kind, field and amount.
_SETTLE = Script("""
local is_new = redis.call('GET', KEYS[1]) ~= ARGV[1]
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
for place = 2, #KEYS do
  local key, kind, field, amount = KEYS[place], ARGV[3 * place - 2], ARGV[3 * place - 1], ARGV[3 * place]
  if kind == 'ended' then
    redis.call('ZREM', key, field)
  elseif is_new and kind == 'bytes' then
    -- The days before today are over; a replica whose clock is behind takes nothing away.
    if (redis.call('HGET', key, 'day') or '') < ARGV[3] then
      redis.call('UNLINK', key)
      redis.call('HSET', key, 'day', ARGV[3])
    end
    redis.call('HINCRBY', key, field, amount)
  elseif is_new and kind == 'uncount' then
    if tonumber(redis.call('HGET', key, field) or 0) > 0 then
      redis.call('HINCRBY', key, field, -1)
      redis.call('HINCRBY', key, 'sum', -1)
    end
  end
end
""")
# KEYS: a set of leases. ARGV: milliseconds of a lease, requests.
_RENEW = Script("""
local time = redis.call('TIME')
local until_ms = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1]
for place = 2, #ARGV do redis.call('ZADD', KEYS[1], until_ms, ARGV[place]) end
""")


class Commands(Protocol):
    """What this needs of a client; the Coalescer has it."""

    async def script(self, script: Script, *, keys: Sequence[Word], arguments: Sequence[Word]) -> Any: ...

    def note_away(self, exc: Exception) -> None: ...


class Check(NamedTuple):
    """One limit to look at: `rate` of a window, `held` of leases, `used` of a day or month; `told` is not enforced.
    `field` is the day's or month's."""

    kind: Literal["rate", "held", "used", "told"]
    limit: int
    key: str
    field: str = ""


class Standing(NamedTuple):
    """How one check stands, with this request if it was admitted. `wait_s`: until a window lets another one in;
    `reset_s`: until it is empty."""

    used: int
    wait_s: float = 0.0
    reset_s: float = 0.0


class Verdict(NamedTuple):
    """`refused` is the place of the check that refused, None if none did. `counted_s` is the second in which windows of
    the store have counted the request, 0 if they have not."""

    refused: int | None
    standings: Sequence[Standing]
    counted_s: int = 0


class Places(NamedTuple):
    """The keys of one tenant, or of one of its keys."""

    rate: str
    requests: str
    streams: str
    bytes: str
    tokens: str


def places_of(store: Store, tenant: str, fingerprint: str | None = None) -> Places:
    whose = (f"{{{tenant}}}", *([fingerprint] if fingerprint else []))
    return Places(
        rate=store.key("rate", *whose),
        requests=store.key("requests", *whose),
        streams=store.key("streams", *whose),
        bytes=store.key("bytes", f"{{{tenant}}}"),
        tokens=key_of(store, tenant),
    )


def keys_of(store: Store, tenant: str) -> tuple[str, ...]:
    """As in `erase_tenant.py`."""
    return tuple(store.key(name, f"{{{tenant}}}") for name in ("rate", "requests", "streams", "bytes", "limits-batch"))


Fact = tuple[str, Literal["ended", "bytes", "uncount"], str, int]
"""A key and what is to be done to it: the lease of a request ends, bytes are added to a field, or a window's second has
counted one too many."""


class Batch(NamedTuple):
    """What the store is to be told once of a tenant, on a day."""

    number: int
    day: str
    facts: Sequence[Fact]


class LimitCounts:
    """The counts in the store. Every method raises StoreAway."""

    def __init__(
        self, commands: Commands, store: Store, *, lease_s: float = _LEASE_S, is_erased: IsErased = nobody
    ) -> None:
        """`store` only names keys. Of a tenant that `is_erased` no bytes are counted; all else of it ends by itself."""
        self.lease_s = lease_s
        self._is_erased = is_erased
        self._commands = commands
        self._store = store
        self._replica = secrets.token_hex(8)

    def places(self, tenant: str, fingerprint: str | None = None) -> Places:
        return places_of(self._store, tenant, fingerprint)

    async def admit(self, request: str, checks: Sequence[Check], ended: Sequence[str] = ()) -> Verdict:
        """Count a request in all checks, or in none. `ended` are requests of the same tenant that may still hold
        leases."""
        words: list[Word] = [request, round(self.lease_s * 1000), MINUTE_S]
        for check in checks:
            words += (check.kind, check.limit, check.field)
        words += ended
        answer = await self._script(_ADMIT, [check.key for check in checks], words)
        refused, counted_s, *told = answer
        standings = [
            Standing(told[place], told[place + 1] / 1000, told[place + 2] / 1000) for place in range(0, len(told), 3)
        ]
        return Verdict(refused - 1, standings) if refused else Verdict(None, standings, counted_s)

    async def settle(self, tenant: str, batch: Batch) -> None:
        """Give leases back, add bytes, take back what was counted. A batch counts once, however often it is sent."""
        last = self._store.key("limits-batch", f"{{{tenant}}}", self._replica)
        words: list[Word] = [batch.number, _REMEMBERED_MS, batch.day]
        facts = [fact for fact in batch.facts if fact[1] != "bytes" or not self._is_erased(tenant)]
        for _, kind, field, amount in facts:
            words += (kind, field, amount)
        await self._script(_SETTLE, [last, *(key for key, *_ in facts)], words)

    async def renew(self, key: str, requests: Sequence[str]) -> None:
        """Prolong leases of one set; what the store has lost of them it gets again."""
        await self._script(_RENEW, [key], [round(self.lease_s * 1000), *requests])

    async def _script(self, script: Script, keys: Sequence[Word], words: Sequence[Word]) -> Any:
        try:
            return await self._commands.script(script, keys=keys, arguments=words)
        except ResponseError as exc:  # it answers, and cannot do what it must
            self._commands.note_away(exc)
            raise StoreAway(str(exc)) from exc
