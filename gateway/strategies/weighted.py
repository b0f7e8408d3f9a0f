"""Each ready key as often as its weight says, spread evenly: `a, a, b, a` for weights 3 and 1, never `a, a, a, b`.

The smooth weighted round robin of nginx (its commit 52327e0 of 2012): every turn each key gains its weight, the richest
is chosen and pays what all gained together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.strategies.strategy import Choice

if TYPE_CHECKING:
    from gateway.model import Key


class Weighted:
    """Remembers what each key of one account has gained, in this process."""

    def __init__(self) -> None:
        self._gained: dict[str, float] = {}

    def __call__(self, choice: Choice) -> Key:
        gained = {key.name: self._gained.get(key.name, 0.0) + key.weight for key in choice.ready}
        chosen = max(choice.ready, key=lambda key: gained[key.name])
        gained[chosen.name] -= sum(key.weight for key in choice.ready)
        self._gained = gained  # a key that rests loses what it had: it does not come back with a debt or a hoard
        return chosen


STRATEGY = Weighted
