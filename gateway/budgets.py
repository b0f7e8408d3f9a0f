"""What a provider's keys may be asked in a minute, kept before the provider itself says 429.

Keys are chosen in memory (`pool.py`); only the chosen one is reserved in the store, for all replicas, and only if it
has a budget. One that cannot be reserved is not ready until its window frees: this process remembers until when. The
last minute's tokens may exceed a budget by those of the runs under way, because a run's tokens are known after it.

While the store is away each replica keeps its share of both, by what it has counted itself.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.model import Directory, Key
from gateway.store.budgets import SPAN_S, BudgetCounts
from gateway.store.connection import StoreAway
from gateway.store.key_states import KeyPlace
from gateway.window import Window


@dataclass
class _Spent:
    """What this process knows of one key. `until_s`: it has found the budget used until then."""

    requests: Window = field(default_factory=lambda: Window(SPAN_S))
    tokens: Window = field(default_factory=lambda: Window(SPAN_S))
    until_s: float = 0.0
    found_for: tuple[int | None, int | None] = (None, None)
    """The budgets that were used; with others the key is looked at anew."""


class Budgets:
    """Of all keys. `replicas` tells how many share the store; `clock` seconds since 1970."""

    def __init__(
        self,
        counts: BudgetCounts,
        directory: Directory,
        replicas: Callable[[], int],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._counts = counts
        self._directory = directory
        self._replicas = replicas
        self._clock = clock
        self._spent: defaultdict[KeyPlace, _Spent] = defaultdict(_Spent)
        self._telling: set[asyncio.Task[None]] = set()

    def used_until_s(self, place: KeyPlace, key: Key) -> float:
        """Until when the key's budget is known to be used, 0 if it is not. In memory."""
        if not key.has_budget or (spent := self._spent.get(place)) is None:
            return 0.0
        return spent.until_s if spent.found_for == _budgets(key) else 0.0

    async def reserve(self, place: KeyPlace, key: Key) -> bool:
        """Count one request of the key in its window, if its budgets allow one. Waits for the store only if the key
        has a budget."""
        if not key.has_budget:
            return True
        now, spent = self._clock(), self._spent[place]
        try:
            wait_s = await self._counts.reserve(place, key.requests_per_minute, key.tokens_per_minute)
        except StoreAway:
            wait_s = self._wait_s(spent, key, now)
        if wait_s:
            spent.until_s, spent.found_for = now + wait_s, _budgets(key)
            return False
        spent.requests.add(now)
        return True

    def _wait_s(self, spent: _Spent, key: Key, now: float) -> float:
        waits_s = [0.0]
        if key.requests_per_minute is not None:
            share = max(1, key.requests_per_minute // self._replicas())
            waits_s.append(spent.requests.wait_s(now, share))
        if key.tokens_per_minute is not None:
            waits_s.append(spent.tokens.wait_s(now, max(1, key.tokens_per_minute // self._replicas())))
        return max(waits_s)

    def note_tokens(self, place: KeyPlace, tokens: int, now: float) -> None:
        """A run with this key has used tokens, as its settlement found at `now` (seconds since 1970). Once for each
        run, by one replica; the store is told in the background."""
        key = self._directory.key(*place)
        if key is None or key.tokens_per_minute is None or tokens <= 0:
            return
        self._spent[place].tokens.add(now, tokens)
        task = asyncio.create_task(self._tell(place, tokens), name="budgets.tell")
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _tell(self, place: KeyPlace, tokens: int) -> None:
        try:
            await self._counts.add_tokens(place, tokens)
        except StoreAway:
            return  # this process knows, and the minute is over soon

    async def drain(self) -> None:
        """Wait until the store was told what it can be told."""
        await asyncio.gather(*self._telling)


def _budgets(key: Key) -> tuple[int | None, int | None]:
    return key.requests_per_minute, key.tokens_per_minute
