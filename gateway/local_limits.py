"""What this process knows of its tenants' limits: the store's counts in small, for the time when that is away. Pure.

It is told of every admission, so that its windows are not empty when they are needed. A replica alone grants its share:
the limit divided by the replicas that were last seen, and never less than one. Of days and months the last known counts
decide, with what this process has added since.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from typing import TypeVar

from gateway.store.limits import Check, Standing, Verdict
from gateway.window import Window

T = TypeVar("T")

_KNOWN_LIMIT = 10_000
"""Windows and counts that are remembered; those that were needed last."""


class LocalLimits:
    """By the store's keys. `now` are seconds since 1970."""

    def __init__(self, known_limit: int = _KNOWN_LIMIT) -> None:
        self._known_limit = known_limit
        self._windows: OrderedDict[str, Window] = OrderedDict()
        self._used: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._held: defaultdict[str, set[str]] = defaultdict(set)

    @property
    def held(self) -> Mapping[str, set[str]]:
        """Requests under way in this process, by the key of their leases."""
        return self._held

    def admit(self, request: str, checks: Sequence[Check], now: float, replicas: int) -> Verdict:
        """Count a request in all checks, or in none, against this replica's share."""
        standings = [self._standing(check, now, replicas) for check in checks]
        for place, (check, standing) in enumerate(zip(checks, standings, strict=True)):
            if check.kind != "told" and standing.used >= _share(check, replicas):
                return Verdict(place, standings)
        self._count(request, checks, now)
        return Verdict(None, [self._standing(check, now, replicas) for check in checks])

    def note(self, request: str, checks: Sequence[Check], verdict: Verdict, now: float) -> None:
        """The store has decided."""
        for check, standing in zip(checks, verdict.standings, strict=True):
            if check.kind in ("used", "told"):
                self._keep(self._used, (check.key, check.field), standing.used)
        if verdict.refused is None:
            self._count(request, checks, now)

    def add(self, key: str, field: str, amount: int) -> None:
        """Something was used of a day, if that is known here."""
        if (key, field) in self._used:
            self._used[key, field] += amount

    def take_back(self, checks: Sequence[Check]) -> None:
        """Take the last request out of windows again."""
        for check in checks:
            self._window(check.key).take_back()

    def release(self, request: str, checks: Sequence[Check]) -> None:
        """A request has ended."""
        for check in checks:
            if check.kind == "held" and check.key in self._held:
                self._held[check.key].discard(request)
                if not self._held[check.key]:
                    del self._held[check.key]

    def _count(self, request: str, checks: Sequence[Check], now: float) -> None:
        for check in checks:
            if check.kind == "rate":
                self._window(check.key).add(now)
            elif check.kind == "held":
                self._held[check.key].add(request)

    def _standing(self, check: Check, now: float, replicas: int) -> Standing:
        if check.kind == "rate":
            window = self._window(check.key)
            return Standing(window.used(now), window.wait_s(now, _share(check, replicas)), window.reset_s(now))
        if check.kind == "held":
            return Standing(len(self._held.get(check.key, ())))
        return Standing(self._used.get((check.key, check.field), 0))

    def _window(self, key: str) -> Window:
        window = self._windows.get(key)
        if window is None:
            window = Window()
            self._keep(self._windows, key, window)
        else:
            self._windows.move_to_end(key)
        return window

    def _keep(self, known: OrderedDict[T, Window] | OrderedDict[T, int], key: T, value: Window | int) -> None:
        known[key] = value  # type: ignore[assignment]
        known.move_to_end(key)
        while len(known) > self._known_limit:
            known.popitem(last=False)


def _share(check: Check, replicas: int) -> int:
    """Of a limit that counts what comes and goes; what is used up of a day is counted for all."""
    return max(1, check.limit // replicas) if check.kind in ("rate", "held") else check.limit
