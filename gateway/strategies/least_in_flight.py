"""The ready key with the fewest requests under way, streams included; among equals each in turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.strategies.strategy import Choice

if TYPE_CHECKING:
    from gateway.model import Key


class LeastInFlight:
    """Counts the turns of one account, in this process."""

    def __init__(self) -> None:
        self._turn = -1

    def __call__(self, choice: Choice) -> Key:
        fewest = min(choice.in_flight.get(key.name, 0) for key in choice.ready)
        least = [key for key in choice.ready if choice.in_flight.get(key.name, 0) == fewest]
        self._turn += 1
        return least[self._turn % len(least)]


STRATEGY = LeastInFlight
