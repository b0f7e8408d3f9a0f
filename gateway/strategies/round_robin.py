"""Each ready key in turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.strategies.strategy import Choice

if TYPE_CHECKING:
    from gateway.model import Key


class RoundRobin:
    """Counts the turns of one account, in this process."""

    def __init__(self) -> None:
        self._turn = -1

    def __call__(self, choice: Choice) -> Key:
        self._turn += 1
        return choice.ready[self._turn % len(choice.ready)]


STRATEGY = RoundRobin
