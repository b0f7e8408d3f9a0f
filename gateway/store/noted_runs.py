"""Runs whose tokens are still to be counted, and what is left of those whose tokens were.

A run is noted when it is made: first in one index for all tenants, by when somebody should look at it, then with what
its settlement will need in a hash of its tenant. A crash in between leaves an entry that leads nowhere and is removed
when its time comes.

Settling is one script in the tenant's slot. It counts a run's tokens only if the run is still noted, and leaves in its
place who settled it and when, for two hours. So neither a script that runs twice nor a note that comes late, written
by a process that did not hear that it had been written, counts anything again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

from gateway import codec
from gateway.phases.read_facts import Usage
from gateway.store import tenant_usage, token_counts
from gateway.store.connection import Store
from gateway.store.switches import IsErased, nobody

FIRST_LOOK_S = 20.0
"""How long after a run was noted somebody looks at it first."""
REMEMBERED_S = 7200.0
"""How long it is remembered that a run was settled."""

# KEYS: noted runs, tokens, usage, all of one tenant. ARGV: who settles, day, month, now, then per run its field, tokens
# in all, of the prompt, of the answer, cached, and 1 for unknown. Gives the notes of the runs that this call settled.
_SETTLE = """
local who, day, month, now = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local told = {}
local function add(key, field, number)
  if number ~= '0' then redis.call('HINCRBY', key, field, number) end
end
for i = 5, #ARGV, 6 do
  local said = redis.call('HGET', KEYS[1], ARGV[i]) or ''
  local settled_by, note = string.match(said, '^settled (%w+) %d+ (.*)$')
  if string.sub(said, 1, 1) == '{' then
    redis.call('HSET', KEYS[1], ARGV[i], 'settled ' .. who .. ' ' .. now .. ' ' .. said)
    local run = cjson.decode(said)
    for _, field in ipairs({day, month, day .. ':' .. run.tenant_key, month .. ':' .. run.tenant_key}) do
      add(KEYS[2], field, ARGV[i + 1])
    end
    local counts = {'1', ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], ARGV[i + 5]}
    for place, what in ipairs({'runs', 'prompt', 'completion', 'cached', 'unknown'}) do
      add(KEYS[3], day .. ':' .. run.provider .. ':' .. what .. ':' .. run.model, counts[place])
    end
    told[#told + 1] = said
  elseif settled_by == who then
    told[#told + 1] = note
  end
end
return told
"""
# KEYS: index. ARGV: now, when to look again, how many. What is taken is not taken by another replica meanwhile.
_TAKE = """
local due = redis.call('ZRANGE', KEYS[1], '-inf', ARGV[1], 'BYSCORE', 'LIMIT', 0, ARGV[3])
for _, entry in ipairs(due) do redis.call('ZADD', KEYS[1], ARGV[2], entry) end
return due
"""


class Entry(NamedTuple):
    """Which run: its tenant's id, its account's route, its upstream id."""

    tenant: str
    route: str
    run: str


@dataclass(frozen=True)
class NotedRun:
    """What is known of a run when it is made.

    `tenant` and `provider` are ids, which stay when names change; `tenant_key` is the fingerprint of the key that the
    tenant presented, `key` of the provider's key that made the run, "" where that is not known. `model` is the callers'
    word. Times are seconds since 1970; after `expires_s` the run cannot work any more.
    """

    tenant: str
    route: str
    run: str
    thread: str
    tenant_name: str
    tenant_key: str
    provider: str
    provider_name: str
    account_name: str
    key: str
    model: str
    upstream_model: str
    assistant: str
    public_run: str
    public_thread: str
    noted_s: float
    expires_s: float

    @property
    def entry(self) -> Entry:
        return Entry(self.tenant, self.route, self.run)


_KNOWN = frozenset(each.name for each in fields(NotedRun))


@dataclass(frozen=True)
class Ended:
    """How a run ended; without `usage` nobody knows what it used."""

    run: str
    status: str
    usage: Usage | None


@dataclass(frozen=True)
class Settling:
    """To settle runs of one account of a tenant. `who` is unlike that of any other call (letters and digits), so that
    one that is repeated knows what it did; `at_s` (seconds since 1970) is the moment for which tokens are counted."""

    tenant: str
    route: str
    ended: Sequence[Ended]
    who: str
    at_s: float


def keys_of(store: Store, tenant: str) -> tuple[str, ...]:
    """As in `erase_tenant.py`."""
    return (store.key("runs", f"{{{tenant}}}"),)


def index_of(store: Store) -> str:
    """As in `erase_tenant.py`."""
    return store.key("runs", "due")


class NotedRuns:
    """The runs of all tenants. Everything raises StoreAway, and everything may be done twice. Of a tenant that
    `is_erased` no run is noted."""

    def __init__(self, store: Store, *, is_erased: IsErased = nobody) -> None:
        self._store = store
        self._is_erased = is_erased
        self._index = index_of(store)

    def _key(self, tenant: str) -> str:
        return self._store.key("runs", f"{{{tenant}}}")

    async def note(self, run: NotedRun) -> None:
        """Remember a run until it is settled. One that is noted already, or was settled, stays as it is."""
        if self._is_erased(run.tenant):
            return
        said = codec.dumps(asdict(run)).decode()

        async def write(redis: Any) -> None:
            # Both in one write; they are carried out in this order.
            pipeline = redis.pipeline(transaction=False)
            pipeline.zadd(self._index, {_member(run.entry): run.noted_s + FIRST_LOOK_S}, nx=True)
            pipeline.hsetnx(self._key(run.tenant), _field(run.entry), said)
            await pipeline.execute()

        await self._store.run(write)

    async def settle(self, settling: Settling) -> list[tuple[NotedRun, Ended]]:
        """Count what the runs used, of those that are still noted. Which these were; the same when it is repeated."""
        keys = (
            self._key(settling.tenant),
            token_counts.key_of(self._store, settling.tenant),
            tenant_usage.key_of(self._store, settling.tenant, settling.at_s),
        )
        day, month = token_counts.fields_of(settling.at_s)
        words: list[str | int] = [settling.who, day, month, int(settling.at_s)]
        for each in settling.ended:
            words += [_field(Entry(settling.tenant, settling.route, each.run)), *_counts(each.usage)]
        told = await self._store.run(lambda redis: redis.eval(_SETTLE, len(keys), *keys, *words))
        ended = {each.run: each for each in settling.ended}
        runs = [_read(said) for said in told]
        return [(run, ended[run.run]) for run in runs]

    # --- for who looks at runs ---------------------------------------------------------------------------------------
    async def take(self, now: float, *, again_s: float, count: int) -> list[Entry]:
        """Up to `count` runs that are due at `now`. They are due again at `again_s`, for whoever looks then."""
        due = await self._store.run(lambda redis: redis.eval(_TAKE, 1, self._index, now, again_s, count))
        return [Entry(*member.split(":", 2)) for member in due]

    async def read(self, entry: Entry) -> NotedRun | float | None:
        """A run that is still to be settled, or when it was (seconds since 1970); None for one nobody knows."""
        found = await self._store.run(lambda redis: redis.hget(self._key(entry.tenant), _field(entry)))
        if found is None:
            return None
        said = str(found)
        return float(said.split(" ", 3)[2]) if said.startswith("settled ") else _read(said)

    async def postpone(self, entry: Entry, due_s: float) -> None:
        """Have somebody look at the run at `due_s`."""
        await self._store.run(lambda redis: redis.zadd(self._index, {_member(entry): due_s}, xx=True))

    async def forget(self, entry: Entry) -> None:
        """Of a run that nobody needs to look at any more."""
        await self._store.run(lambda redis: redis.hdel(self._key(entry.tenant), _field(entry)))
        await self._store.run(lambda redis: redis.zrem(self._index, _member(entry)))


def _member(entry: Entry) -> str:
    return ":".join(entry)  # only a run's id, which stands last, may hold a colon


def _field(entry: Entry) -> str:
    return f"{entry.route}:{entry.run}"


def _counts(usage: Usage | None) -> tuple[int, ...]:
    return (usage.total, usage.prompt, usage.completion, usage.cached, 0) if usage is not None else (0, 0, 0, 0, 1)


def _read(said: str) -> NotedRun:
    told: Mapping[str, Any] = codec.loads(said.encode())
    return NotedRun(**{name: value for name, value in told.items() if name in _KNOWN})
