"""What tenants used: a hash for each tenant and month, with a field for each day, provider, model and thing counted.

Requests and errors are counted in memory and added in batches; runs and their tokens by settlement, once for each run
(`noted_runs.py`). Nothing here expires by itself.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple

from gateway.store.batches import Batches, Change
from gateway.store.connection import Store, do_each
from gateway.store.switches import IsErased, nobody

_DAY_S = 86_400
_MODELS_LIMIT = 1000


class UsagePlace(NamedTuple):
    """What counts belong to. `day` is a date in UTC, `2026-11-22`; `model` is empty for what is about none."""

    day: str
    provider: str
    model: str


@dataclass(frozen=True, slots=True)
class UsageCounts:
    """`unknown` are those of the runs of which nobody knows what they used; `cached` those of the `prompt` tokens that
    the provider had in its cache."""

    requests: int = 0
    errors: int = 0
    runs: int = 0
    unknown: int = 0
    prompt: int = 0
    completion: int = 0
    cached: int = 0

    def __add__(self, other: UsageCounts) -> UsageCounts:
        return UsageCounts(*(getattr(self, name) + getattr(other, name) for name in _COUNTED))


_COUNTED = tuple(each.name for each in fields(UsageCounts))


def key_of(store: Store, tenant: str, now: float) -> str:
    """The hash of the month of `now` (seconds since 1970), in the tenant's slot."""
    return key_of_month(store, tenant, f"{datetime.fromtimestamp(now, UTC):%Y-%m}")


def key_of_month(store: Store, tenant: str, month: str) -> str:
    return store.key("usage", f"{{{tenant}}}", month)


def keys_of(store: Store, tenant: str) -> tuple[str, ...]:
    """As in `erase_tenant.py`."""
    return (store.key("usage", f"{{{tenant}}}", ""),)


def field_of(place: UsagePlace, what: str) -> str:
    """A model's name may hold anything, so it stands last. `noted_runs.py` writes such fields too."""
    return f"{place.day}:{place.provider}:{what}:{place.model}"


class TenantUsage:
    """Counts this process's requests, and tells what all did."""

    def __init__(self, store: Store, *, clock: Callable[[], float] = time.time, is_erased: IsErased = nobody) -> None:
        """What a tenant uses that `is_erased` is not counted."""
        self._store = store
        self._clock = clock
        self._is_erased = is_erased
        self._counted: defaultdict[tuple[str, int, str, str], list[int]] = defaultdict(lambda: [0, 0])
        """By tenant, day since 1970, provider and model."""
        self._models: set[str] = set()
        """Models that answers were about. Callers can make names up, which must not fill the store."""
        self._waiting: defaultdict[str, Counter[str]] = defaultdict(Counter)
        """What is to be added to which hash."""
        self._batches: dict[str, Batches] = {}

    def note(self, tenant: str, provider: str, model: str, *, is_error: bool) -> None:
        """Count a request that has ended. In memory. Ids of tenant and provider; empty for no provider, or no model."""
        if model and model not in self._models:
            if is_error or len(self._models) >= _MODELS_LIMIT:
                model = ""
            else:
                self._models.add(model)
        counts = self._counted[tenant, int(self._clock() // _DAY_S), provider, model]
        counts[0] += 1
        if is_error:
            counts[1] += 1

    async def flush(self) -> None:
        """Add what was counted to the store. Raises StoreAway; nothing is lost or counted twice by that."""
        self._sort()
        await do_each(partial(self._flush, key) for key in list(self._batches))

    async def _flush(self, key: str) -> None:
        await self._batches[key].flush()
        if not key.endswith(f"{datetime.fromtimestamp(self._clock(), UTC):%Y-%m}") and key not in self._waiting:
            del self._batches[key]

    def _sort(self) -> None:
        """Put what was counted to the hashes where it belongs."""
        counted, self._counted = self._counted, defaultdict(lambda: [0, 0])
        for (tenant, day, provider, model), counts in counted.items():
            if self._is_erased(tenant):
                continue
            key = key_of(self._store, tenant, day * _DAY_S)
            place = UsagePlace(f"{datetime.fromtimestamp(day * _DAY_S, UTC):%Y-%m-%d}", provider, model)
            for what, number in zip(("requests", "errors"), counts, strict=True):
                self._waiting[key][field_of(place, what)] += number
            if key not in self._batches:
                self._batches[key] = Batches(self._store, key, partial(self._take, key))

    def _take(self, key: str) -> Sequence[Change]:
        return [Change(field, "add", number) for field, number in self._waiting.pop(key, {}).items() if number]

    async def read(self, tenant: str, month: str) -> dict[UsagePlace, UsageCounts]:
        """What all replicas have told of a tenant in a month (`2026-11`). Raises StoreAway."""
        key = key_of_month(self._store, tenant, month)
        found = await self._store.run(lambda redis: redis.hgetall(key))
        sums: defaultdict[UsagePlace, dict[str, int]] = defaultdict(dict)
        for field, value in found.items():
            day, provider, what, model = str(field).split(":", 3)
            if what in _COUNTED:  # else another release counts it
                sums[UsagePlace(day, provider, model)][what] = int(value)
        return {place: UsageCounts(**counted) for place, counted in sums.items()}
