"""Each ready key in turn."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from gateway.config import Secret
from gateway.model import Key
from gateway.strategies.round_robin import RoundRobin
from tests.values import unhurried

KEYS = [Key(name, Secret(name, "a test")) for name in "abcde"]


def test_keys_take_turns() -> None:
    strategy = RoundRobin()
    assert "".join(strategy("route", KEYS[:3]).name for _ in range(7)) == "abcabca"


def test_accounts_are_counted_apart() -> None:
    strategy = RoundRobin()
    turns = [strategy(route, KEYS[:2]).name for route in ("x", "y", "x", "y", "y")]
    assert turns == ["a", "a", "b", "b", "a"]


def test_one_key_has_every_turn() -> None:
    strategy = RoundRobin()
    assert {strategy("route", KEYS[:1]).name for _ in range(3)} == {"a"}


@unhurried
@given(st.lists(st.lists(st.sampled_from(KEYS), min_size=1, unique=True), min_size=1, max_size=30))
def test_the_key_is_always_a_ready_one(rounds: list[list[Key]]) -> None:
    """Keys come and go between two turns."""
    strategy = RoundRobin()
    for ready in rounds:
        assert strategy("route", ready) in ready


@unhurried
@given(st.integers(1, 5), st.integers(0, 100))
def test_no_key_is_used_more_than_once_more_than_another(count: int, requests: int) -> None:
    strategy = RoundRobin()
    used = Counter({key.name: 0 for key in KEYS[:count]})
    used.update(strategy("route", KEYS[:count]).name for _ in range(requests))
    assert max(used.values()) - min(used.values()) <= 1
