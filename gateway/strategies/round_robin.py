"""Each ready key in turn, counted for every account on its own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from gateway.model import Key


class RoundRobin:
    """Keeps one number an account, in this process."""

    def __init__(self) -> None:
        self._turn: defaultdict[str, int] = defaultdict(int)

    def __call__(self, route: str, ready: Sequence[Key]) -> Key:
        self._turn[route] += 1
        return ready[(self._turn[route] - 1) % len(ready)]
