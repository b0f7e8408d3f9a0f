"""What was read from a provider, kept ready to send until something under its thread is written.

A *scope* is what one write makes doubtful: a thread with everything in it, or one account-level object. All that is
kept of a scope is one hash, so dropping it is one command. Besides the answers the hash holds the scope's *generation*,
a token that is never used twice: the first miss makes it, every write destroys it together with the answers.

    read        hit: the answer · miss: the generation, made if there is none
    fill        keeps an answer only if the generation is still the one of the miss
    begin, end  before the attempt is sent and after its answer came: drop the hash
    block       after a write of unknown outcome: drop the hash, and let no generation be made for a time
    activate    the same while somebody changes the scope without being asked, until `settle`

Why nothing read before a write is found after it. Let a write be announced: its end has dropped the hash. An answer
that was filled before the end went with the hash. One that is filled after the end needs a generation that is alive
after it; that one was made after the end, its reader asked the provider later still, and so has seen the write. This
holds for every replica that writes or reads, for commands that arrive late, and it needs no clock. A generation that is
lost, through expiry, eviction or an empty store, makes fills fail and never lets one pass. The drop before the attempt
is there for a replica that does not live to tell the end: from what other readers kept before the attempt, nothing is
left.

A write that the store has not seen, because it is away, is *unannounced*. The replica that made it remembers the scope
and passes the cache by for it until it has dropped it in the store. Beyond a number of such scopes it passes the whole
cache by and then starts a new *epoch*: a random word in the store with which each answer is marked. A replica serves
only answers of the epoch it knows; it asks for the current one when it meets an answer of another. So a new epoch drops
everything, and the replica that began it never serves what is older.

What can be stale, and how long:
- Another replica's hit, after a write that its replica could not announce (the store was out of its reach, or it was
  killed first): until the writer reaches the store, with more scopes than it remembers until the other replica meets an
  answer of the new epoch; at most one TTL after the write. The TTL counts from before the provider was asked, however
  slow that was. A reader that joins another's call under way gets what that call gets.
- The same after the store itself lost what it had acknowledged: a failover to a replica that was behind, a power cut
  within the second before the append-only file is written, an eviction of a block.
- Replicas whose clocks differ add the difference to the TTL.
- Between a write's effect and its answer others may still be served the old state.
- What changes without a write through the gateway, such as a run that goes on at the provider: one TTL.
"""

from __future__ import annotations

import asyncio
import os
import struct
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from redis.exceptions import ResponseError

from gateway.store.coalescer import Script, Word
from gateway.store.connection import Store, StoreAway
from gateway.store.single_flight import SingleFlight
from gateway.store.switches import IsErased, nobody
from gateway.telemetry import log

T = TypeVar("T")
Tell = Callable[[], Awaitable[Any]]

_GENERATION = ""
"""The hash's field that holds the generation; callers' fields are not empty."""
_FIELDS_LIMIT = 128
"""Answers of one scope. Those whose time is over leave their hash only with it, and fills prolong its life."""
_HEADER = struct.Struct(">d8s")
"""Before each answer: when it is too old, in seconds since 1970, and its epoch."""
_EPOCH_BYTES = 8
_AT_ONCE = 256

# KEYS: hash, block, active. ARGV: new generation, milliseconds it is needed.
_LEASE = Script("""
local generation = redis.call('HGET', KEYS[1], '')
if not generation then
  if redis.call('EXISTS', KEYS[2], KEYS[3]) > 0 then return false end
  generation = ARGV[1]
  redis.call('HSET', KEYS[1], '', generation)
end
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return generation
""")
# KEYS: hash. ARGV: generation, field, value, milliseconds to live, most fields.
_FILL = Script("""
if redis.call('HGET', KEYS[1], '') ~= ARGV[1] then return 0 end
if redis.call('HLEN', KEYS[1]) > tonumber(ARGV[5]) then
  redis.call('UNLINK', KEYS[1])
  redis.call('HSET', KEYS[1], '', ARGV[1])
end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[4]) then redis.call('PEXPIRE', KEYS[1], ARGV[4]) end
return 1
""")
# KEYS: hash. ARGV: generation, new generation, field, value, milliseconds to live. The end of a write that fills.
_REPLACE = Script("""
local is_mine = redis.call('HGET', KEYS[1], '') == ARGV[1]
redis.call('UNLINK', KEYS[1])
if is_mine then
  redis.call('HSET', KEYS[1], '', ARGV[2], ARGV[3], ARGV[4])
  redis.call('PEXPIRE', KEYS[1], ARGV[5])
end
""")
# KEYS: hash, active. ARGV: who changes the scope, milliseconds.
_ACTIVATE = Script("""
redis.call('UNLINK', KEYS[1])
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
""")
# KEYS: hash, active. ARGV: who has changed the scope.
_SETTLE = Script("""
if redis.call('GET', KEYS[2]) == ARGV[1] then redis.call('UNLINK', KEYS[1], KEYS[2]) end
""")
# KEYS: hash, block. ARGV: milliseconds. A longer block stays.
_BLOCK = Script("""
redis.call('UNLINK', KEYS[1])
if redis.call('PTTL', KEYS[2]) < tonumber(ARGV[1]) then redis.call('SET', KEYS[2], '1', 'PX', ARGV[1]) end
""")
# KEYS: epoch. ARGV: the epoch if there is none.
_JOIN = Script("""
redis.call('SET', KEYS[1], ARGV[1], 'NX')
return redis.call('GET', KEYS[1])
""")


class Scope(NamedTuple):
    """What a write makes doubtful. Tenant, route and kind come from configuration and code and hold no colon."""

    tenant: str
    route: str
    kind: str
    upstream_id: str


@dataclass(frozen=True, slots=True)
class Generation:
    """What a miss saw of its scope; to be handed to `share` and `fill`. `taken_s` is a time of the cache's clock."""

    token: bytes
    epoch: bytes
    taken_s: float


@dataclass(frozen=True, slots=True)
class Fill:
    """What a write leaves to be found: `generation` is one of a miss since it began."""

    field: str
    body: bytes
    ttl_s: float
    generation: Generation


@dataclass(frozen=True, slots=True)
class Hit:
    """The answer as it was filled."""

    body: bytes


@dataclass(frozen=True, slots=True)
class Miss:
    """Nothing kept: ask the provider, and fill."""

    generation: Generation


@dataclass(frozen=True, slots=True)
class Away:
    """No help from the cache: ask the provider, and neither share nor fill.

    `store`: it does not answer. `unannounced`: this replica wrote while the store was away. `blocked`: the outcome of a
    write is unknown, or something changes the scope by itself.
    """

    reason: Literal["store", "unannounced", "blocked"]


class Commands(Protocol):
    """What the cache needs of a client; the Coalescer has it. Answers are bytes."""

    async def run(self, *words: Word) -> Any: ...

    async def script(self, script: Script, *, keys: Sequence[Word], arguments: Sequence[Word]) -> Any: ...

    def note_away(self, exc: Exception) -> None: ...


class _Pending:
    """What the store has still to be told of a scope, or of everything. A later write makes a new one: what was told
    is known by identity. `blocked_until_s` is a time of the cache's clock, 0 when there is nothing to block; `active`
    is who changes the scope by itself, and until when at most."""

    def __init__(self, blocked_until_s: float, active: tuple[str, float] | None = None) -> None:
        self.blocked_until_s = blocked_until_s
        self.active = active

    @property
    def hidden_until_s(self) -> float:
        return max(self.blocked_until_s, self.active[1] if self.active else 0.0)


class _Unannounced:
    """The writes that the store has not seen: by scope, beyond `limit` scopes as one."""

    def __init__(self, limit: int) -> None:
        self.scopes: dict[Scope, _Pending] = {}
        self.everything: _Pending | None = None
        self._limit = limit

    def hides(self, scope: Scope) -> bool:
        """Whether what the store holds of the scope may be older than a write of this replica."""
        return self.everything is not None or scope in self.scopes

    def add(self, scope: Scope, pending: _Pending) -> None:
        if self.everything is not None:
            self.everything = _Pending(max(self.everything.blocked_until_s, pending.hidden_until_s))
            return
        known = self.scopes.get(scope, _Pending(0.0))
        blocked_until_s = max(known.blocked_until_s, pending.blocked_until_s)
        self.scopes[scope] = _Pending(blocked_until_s, pending.active or known.active)
        if len(self.scopes) > self._limit:
            self.everything = _Pending(max(each.hidden_until_s for each in self.scopes.values()))
            self.scopes.clear()
            log.warning("cache.bypassed", scopes=self._limit)

    def deactivate(self, scope: Scope, who: str) -> None:
        """Who changed the scope by itself has ended before the store heard of it."""
        known = self.scopes.get(scope)
        if known is not None and known.active is not None and known.active[0] == who:
            self.scopes[scope] = _Pending(known.blocked_until_s)

    def settle(self, scope: Scope, pending: _Pending) -> None:
        """The store has seen `pending`; not what may have come since."""
        if self.scopes.get(scope) is pending:
            del self.scopes[scope]

    def settle_everything(self, pending: _Pending) -> bool:
        if self.everything is not pending:
            return False
        self.everything = None
        return True


def keys_of(store: Store, tenant: str) -> tuple[str, ...]:
    """As in `erase_tenant.py`."""
    return tuple(store.key(what, f"{{{tenant}:") for what in ("c", "b", "a"))


class ThreadCache:
    """The cache. No method raises for the store's sake; `catch_up` runs at start and whenever the store is back.

    `lease_s` is how long a read may take from its miss to its fill; a longer one is not kept. Larger values than
    `value_limit_bytes` are not kept either, nor anything of a tenant that `is_erased`. `clock` tells seconds since
    1970, as all replicas' clocks do.
    """

    def __init__(
        self,
        commands: Commands,
        *,
        prefix: str,
        lease_s: float,
        value_limit_bytes: int = 256 * 1024,
        unannounced_limit: int = 10_000,
        is_erased: IsErased = nobody,
        clock: Callable[[], float] = time.time,
        rand: Callable[[int], bytes] = os.urandom,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._commands = commands
        self._prefix = prefix
        self._lease_ms = _milliseconds(lease_s)
        self._value_limit_bytes = value_limit_bytes
        self._is_erased = is_erased
        self._clock = clock
        self._rand = rand
        self._pause = pause
        self._epoch_key = f"{prefix}:epoch"
        self._tokens = _tokens(rand(16))
        self._epoch = b""
        """Empty until the store has told it once."""
        self._unannounced = _Unannounced(unannounced_limit)
        self._flights = SingleFlight()
        self._catching_up = asyncio.Lock()
        self._announcing: set[asyncio.Task[bool]] = set()

    def _key(self, scope: Scope, what: Literal["c", "b", "a"] = "c") -> str:
        """Of the scope's hash, its block, or what is active in it; all in one slot."""
        return f"{self._prefix}:{what}:{{{scope.tenant}:{scope.route}:{scope.kind}:{scope.upstream_id}}}"

    async def read(self, scope: Scope, field: str) -> Hit | Miss | Away:
        """What is kept under `field`, which is not empty. One round trip; the first miss after a write takes two."""
        if self._unannounced.hides(scope):
            return Away("unannounced")
        if not self._epoch:
            return Away("store")
        taken_s = self._clock()
        try:
            kept, token = await self._commands.run("HMGET", self._key(scope), field, _GENERATION)
            if kept is not None and (body := await self._open(kept)) is not None:
                return Hit(body)
            if token is None and (token := await self._lease(scope)) is None:
                return Away("blocked")
        except (StoreAway, ResponseError):
            return Away("store")
        return Miss(Generation(token, self._epoch, taken_s))

    async def _open(self, kept: bytes) -> bytes | None:
        """The answer, unless it is too old or of another epoch than the current."""
        too_old_s, epoch = _HEADER.unpack_from(kept)
        if epoch != self._epoch:
            await self._join_epoch()
        if epoch != self._epoch or self._clock() >= too_old_s:
            return None
        return kept[_HEADER.size :]

    async def _lease(self, scope: Scope) -> bytes | None:
        """The scope's generation, None while it is blocked."""
        keys = (self._key(scope), self._key(scope, "b"), self._key(scope, "a"))
        arguments = (next(self._tokens), self._lease_ms)
        token: bytes | None = await self._commands.script(_LEASE, keys=keys, arguments=arguments)
        return token

    async def share(self, scope: Scope, field: str, *, generation: Generation, make: Callable[[], Awaitable[T]]) -> T:
        """What `make` gives; concurrent reads of one field and generation call it once. Raises what it raises.

        The others wait as long as it takes. When the caller whose `make` runs leaves, that is cancelled with it and
        another's is called.
        """
        return await self._flights.share((scope, field, generation.token, generation.epoch), make)

    async def fill(self, scope: Scope, field: str, body: bytes, *, ttl_s: float, generation: Generation) -> bool:
        """Keep an answer until `ttl_s` after its miss. Whether it is kept: not if anything was written since."""
        value, left_ms = self._value(scope, Fill(field, body, ttl_s, generation))
        if value is None:
            return False
        arguments = (generation.token, field, value, left_ms, _FIELDS_LIMIT)
        try:
            return bool(await self._commands.script(_FILL, keys=(self._key(scope),), arguments=arguments))
        except (StoreAway, ResponseError):
            return False

    def _value(self, scope: Scope, fill: Fill) -> tuple[bytes | None, int]:
        """An answer as it is kept, None if it cannot be, and how many milliseconds are left to it."""
        too_old_s = fill.generation.taken_s + fill.ttl_s
        left_ms = _milliseconds(too_old_s - self._clock())
        if left_ms <= 0 or len(fill.body) > self._value_limit_bytes or self._is_erased(scope.tenant):
            return None, 0
        return _HEADER.pack(too_old_s, fill.generation.epoch) + fill.body, left_ms

    async def begin_write(self, scope: Scope) -> bool:
        """A write is about to be sent: wait for this first. Whether the store has seen it."""
        return await self._announce(scope, _Pending(0.0))

    async def end_write(self, scope: Scope, fill: Fill | None = None) -> bool:
        """The answer to a write is here; its caller gets it after this. Whether the store has seen it.

        `fill` stays to be found if this was the only write since its miss, which was after `begin_write`.
        """
        return await self._announce(scope, _Pending(0.0), self._replace(scope, fill) if fill is not None else None)

    async def block(self, scope: Scope, seconds: float) -> bool:
        """Instead of `end_write` when the outcome is unknown: serve and keep nothing while the write may yet happen.
        Whether the store has seen it; this replica keeps to it anyway."""
        return await self._announce(scope, _Pending(self._clock() + seconds))

    async def activate(self, scope: Scope, who: str, seconds: float) -> bool:
        """Somebody changes the scope without being asked: drop it, serve and keep nothing until `settle` for the same,
        at most for `seconds`. Whether the store has seen it; this replica keeps to it anyway."""
        return await self._announce(scope, _Pending(0.0, (who, self._clock() + seconds)))

    async def settle(self, scope: Scope, who: str) -> None:
        """Who changed the scope has ended. If the store does not hear it, the rest of the time passes."""
        self._unannounced.deactivate(scope, who)
        with suppress(StoreAway, ResponseError):
            await self._commands.script(_SETTLE, keys=(self._key(scope), self._key(scope, "a")), arguments=(who,))

    def _replace(self, scope: Scope, fill: Fill) -> Tell | None:
        value, left_ms = self._value(scope, fill)
        if value is None:
            return None
        arguments = (fill.generation.token, next(self._tokens), fill.field, value, max(left_ms, self._lease_ms))
        return partial(self._commands.script, _REPLACE, keys=(self._key(scope),), arguments=arguments)

    async def _announce(self, scope: Scope, pending: _Pending, tell: Tell | None = None) -> bool:
        """In a task of its own, for the caller may leave at any moment and the write has been all the same. `tell` is
        how the store is told if not plainly."""
        task = asyncio.create_task(self._tell_or_remember(scope, pending, tell))
        self._announcing.add(task)
        task.add_done_callback(self._announcing.discard)
        return await asyncio.shield(task)

    async def _tell_or_remember(self, scope: Scope, pending: _Pending, tell: Tell | None) -> bool:
        was_told = await self._tell(tell or partial(self._drop, scope, pending))
        if not was_told:
            self._unannounced.add(scope, pending)
        return was_told

    async def _tell(self, tell: Tell) -> bool:
        try:
            await tell()
        except (StoreAway, ResponseError) as exc:
            # Also when it answers but refuses: this replica now counts on `catch_up`, which follows a return.
            self._commands.note_away(exc)
            return False
        return True

    async def _drop(self, scope: Scope, pending: _Pending) -> None:
        """Drop the scope, and keep it from being kept again as long as is pending."""
        run, now = self._commands.script, self._clock()
        if (left_ms := _milliseconds(pending.blocked_until_s - now)) > 0:
            await run(_BLOCK, keys=(self._key(scope), self._key(scope, "b")), arguments=(left_ms,))
        if pending.active is not None and (left_ms := _milliseconds(pending.active[1] - now)) > 0:
            arguments = (pending.active[0], left_ms)
            await run(_ACTIVATE, keys=(self._key(scope), self._key(scope, "a")), arguments=arguments)
        if pending.hidden_until_s <= now:
            await self._commands.run("UNLINK", self._key(scope))

    @property
    def is_caught_up(self) -> bool:
        """Whether the store has seen every write of this replica."""
        return self._unannounced.everything is None and not self._unannounced.scopes

    async def catch_up(self) -> None:
        """Tell the store of every write it has not seen, and find out the epoch. What fails is done by the next call,
        when the store is back again."""
        async with self._catching_up:
            try:
                await self._drop_everything()
                if not self._epoch:
                    await self._join_epoch()
            except (StoreAway, ResponseError) as exc:
                self._commands.note_away(exc)
                return
            await self._drop_scopes()

    async def _drop_everything(self) -> None:
        """If there was more than could be remembered. Blocks among it last in full: until then all is passed by."""
        while (everything := self._unannounced.everything) is not None:
            await self._pause(max(0.0, everything.blocked_until_s - self._clock()))
            epoch = self._rand(_EPOCH_BYTES)
            await self._commands.run("SET", self._epoch_key, epoch)
            if self._unannounced.settle_everything(everything):
                self._epoch = epoch
                log.info("cache.dropped")

    async def _join_epoch(self) -> None:
        """Learn the store's epoch, unless this replica has changed its own meanwhile: an old answer may come late."""
        known = self._epoch
        epoch = await self._commands.script(_JOIN, keys=(self._epoch_key,), arguments=(self._rand(_EPOCH_BYTES),))
        if self._epoch == known:
            self._epoch = epoch

    async def _drop_scopes(self) -> None:
        pending = list(self._unannounced.scopes.items())
        for start in range(0, len(pending), _AT_ONCE):
            some = pending[start : start + _AT_ONCE]
            told = await asyncio.gather(*(self._tell(partial(self._drop, scope, each)) for scope, each in some))
            for (scope, each), was_told in zip(some, told, strict=True):
                if was_told:
                    self._unannounced.settle(scope, each)
            if not all(told):
                return

    async def drain(self) -> None:
        """Wait for announcements whose callers have left."""
        await asyncio.gather(*self._announcing)


def _tokens(replica: bytes) -> Iterator[bytes]:
    """Tokens that nobody else makes: after this replica's own random bytes they are counted."""
    return (replica + b"%x" % number for number in count())


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
