"""Which key the next attempt uses."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from gateway.model import Key
from gateway.phases.choose_key import choose_key
from tests.values import target

ACME = target("main", "acme").account


def last(route: str, ready: Sequence[Key]) -> Key:
    """A strategy that is easy to see through."""
    assert route == ACME.route
    assert ready
    return ready[-1]


@pytest.mark.parametrize(
    ("refused", "chosen"),
    [
        (set(), "two"),
        ({"two"}, "one"),
        ({"one"}, "two"),
        ({"of another account"}, "two"),
        ({"one", "two"}, None),  # the strategy is not asked
    ],
)
def test_a_key_that_was_not_refused_is_chosen(refused: set[str], chosen: str | None) -> None:
    key = choose_key(ACME, refused=refused, strategy=last)
    assert (key and key.name) == chosen


def test_keys_of_other_accounts_are_never_offered() -> None:
    offered: list[Key] = []

    def look(route: str, ready: Sequence[Key]) -> Key:
        offered.extend(ready)
        return ready[0]

    choose_key(ACME, refused=set(), strategy=look)
    assert tuple(offered) == ACME.keys
