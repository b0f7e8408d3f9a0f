"""Ways to choose among ready keys: what all of them keep, and what each is for."""

from __future__ import annotations

import importlib
import pkgutil
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import strategies
from gateway.config import Secret
from gateway.model import Key
from gateway.strategies import STRATEGIES
from gateway.strategies.strategy import Choice
from tests.values import unhurried


def key(name: str, weight: float = 1) -> Key:
    return Key(name, Secret(name, "a test"), weight=weight)


KEYS = [key(name) for name in "abcde"]
ready_keys = st.lists(st.sampled_from(KEYS), min_size=1, unique=True)
threads = st.none() | st.sampled_from(["thread_1", "thread_2"])


def names(strategy: str, *choices: Choice) -> str:
    choose = STRATEGIES[strategy]()
    return "".join(choose(choice).name for choice in choices)


def test_every_file_is_a_strategy_under_its_own_name() -> None:
    files = {found.name for found in pkgutil.iter_modules(strategies.__path__)} - {"strategy"}
    assert set(STRATEGIES) == files == {"round_robin", "weighted", "least_in_flight", "sticky"}
    assert all(importlib.import_module(f"gateway.strategies.{name}").__doc__ for name in files)


@pytest.mark.parametrize("strategy", STRATEGIES)
@unhurried
@given(rounds=st.lists(st.tuples(ready_keys, threads), min_size=1, max_size=30))
def test_the_key_is_always_a_ready_one(strategy: str, rounds: list[tuple[list[Key], str | None]]) -> None:
    """Keys come and go between two turns."""
    choose = STRATEGIES[strategy]()
    for ready, thread in rounds:
        assert choose(Choice(ready, thread, {"a": 3, "gone": 1})) in ready


@pytest.mark.parametrize("strategy", ["round_robin", "weighted", "least_in_flight"])
def test_equals_take_turns(strategy: str) -> None:
    assert names(strategy, *[Choice(KEYS[:3])] * 7) == "abcabca"


def test_weights_are_kept_and_spread() -> None:
    given_ = [key("a", 3), key("b", 1), key("c", 1)]
    used = names("weighted", *[Choice(given_)] * 50)
    assert Counter(used) == {"a": 30, "b": 10, "c": 10}
    assert "aaa" not in used


def test_a_key_that_comes_back_has_neither_debt_nor_hoard() -> None:
    choose = STRATEGIES["weighted"]()
    both, one = Choice(KEYS[:2]), Choice(KEYS[:1])
    for choice in [both] * 3 + [one] * 100:
        choose(choice)
    assert Counter(choose(both).name for _ in range(10)) == {"a": 5, "b": 5}


def test_the_least_busy_key_is_next() -> None:
    choice = Choice(KEYS[:3], in_flight={"a": 2, "b": 1, "c": 5})
    assert names("least_in_flight", choice, choice) == "bb"
    assert names("least_in_flight", Choice(KEYS[:2], in_flight={"a": 1})) == "b"


def test_a_thread_keeps_its_key_and_few_move_when_one_leaves() -> None:
    def keys_of(ready: list[Key]) -> dict[str, str]:
        return {f"thread_{n}": names("sticky", Choice(ready, f"thread_{n}")) for n in range(1000)}

    before, after, again = keys_of(KEYS), keys_of(KEYS[1:]), keys_of(KEYS)
    assert before == again
    moved = {thread for thread in before if before[thread] != after[thread]}
    assert moved == {thread for thread, name in before.items() if name == "a"}
    assert all(150 < count < 250 for count in Counter(before.values()).values())


def test_requests_without_a_thread_take_turns_even_if_threads_stick() -> None:
    assert names("sticky", *[Choice(KEYS[:2])] * 4) == "abab"
