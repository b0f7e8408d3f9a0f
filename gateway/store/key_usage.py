"""How much each key was used, summed over all replicas since it was first seen."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, fields

from gateway.store.batches import Batches, Change
from gateway.store.connection import Store
from gateway.store.key_states import KeyPlace


@dataclass(frozen=True, slots=True)
class KeyCounts:
    """`last_used_s` is a second since 1970, 0 for never."""

    requests: int = 0
    errors: int = 0
    tokens: int = 0
    last_used_s: int = 0


_COUNTED = frozenset(each.name for each in fields(KeyCounts))


class KeyUsage:
    """Counts what this process does with keys, and tells what all did."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._key = store.key("usage")
        self._counted: dict[KeyPlace, KeyCounts] = defaultdict(KeyCounts)
        self._batches = Batches(store, self._key, self._take)

    def note(self, place: KeyPlace, now: float, *, requests: int = 0, errors: int = 0, tokens: int = 0) -> None:
        """Count something that a key did at `now` (seconds since 1970). In memory."""
        so_far = self._counted[place]
        self._counted[place] = KeyCounts(
            so_far.requests + requests,
            so_far.errors + errors,
            so_far.tokens + tokens,
            max(so_far.last_used_s, int(now)),
        )

    async def flush(self) -> None:
        """Add what was counted to the store. Raises StoreAway; nothing is lost or counted twice by that."""
        await self._batches.flush()

    def _take(self) -> list[Change]:
        counted, self._counted = self._counted, defaultdict(KeyCounts)
        return [change for place, counts in counted.items() for change in _changes(":".join(place), counts)]

    async def counts(self) -> dict[KeyPlace, KeyCounts]:
        """What all replicas have told of every key. Raises StoreAway."""
        found = await self._store.run(lambda redis: redis.hgetall(self._key))
        sums: dict[KeyPlace, dict[str, int]] = defaultdict(dict)
        for field, value in found.items():
            place, _, what = str(field).rpartition(":")
            if what in _COUNTED:  # else another release counts it
                sums[KeyPlace(*place.split(":"))][what] = int(value)
        return {place: KeyCounts(**counted) for place, counted in sums.items()}


def _changes(place: str, counts: KeyCounts) -> list[Change]:
    summed = [Change(f"{place}:{what}", "add", getattr(counts, what)) for what in ("requests", "errors", "tokens")]
    return [
        *(change for change in summed if change.number),
        Change(f"{place}:last_used_s", "raise", counts.last_used_s),
    ]
