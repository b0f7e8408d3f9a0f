"""A sliding window beside a list of everything that ever happened."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.window import Window
from tests.values import unhurried

moments = st.lists(st.tuples(st.floats(0, 30), st.integers(1, 5)), max_size=40)


def happened(steps: list[tuple[float, int]]) -> list[tuple[float, int]]:
    """Times and amounts from the pauses between them."""
    now, log = 1_800_000_000.25, []
    for pause_s, amount in steps:
        now += pause_s
        log.append((now, amount))
    return log


@given(moments, st.integers(1, 20))
@unhurried
def test_it_holds_what_came_in_the_last_minute_by_whole_seconds(steps: list[tuple[float, int]], limit: int) -> None:
    window, log = Window(), happened(steps)
    for now, amount in log:
        window.add(now, amount)
    now = log[-1][0] if log else 0.0
    assert window.used(now) == sum(amount for at, amount in log if int(at) + 60 > now)


@given(moments, st.integers(1, 20))
@unhurried
def test_whoever_waits_as_long_as_told_finds_room_and_not_before(steps: list[tuple[float, int]], limit: int) -> None:
    window, log = Window(), happened(steps)
    for now, amount in log:
        window.add(now, amount)
    now = log[-1][0] if log else 0.0
    wait_s = window.wait_s(now, limit)
    assert (wait_s == 0) == (window.used(now) < limit)
    assert window.reset_s(now) >= wait_s
    if wait_s:
        assert window.used(now + wait_s - 0.001) >= limit
        assert window.used(now + wait_s + 0.001) < limit


@given(moments, st.integers(1, 8))
@unhurried
def test_no_minute_has_more_than_the_limit(steps: list[tuple[float, int]], limit: int) -> None:
    """Whichever one looks at, to the second."""
    window, admitted = Window(), []
    for now, _ in happened(steps):
        if not window.wait_s(now, limit):
            window.add(now)
            admitted.append(now)
    for begin in admitted:
        assert sum(begin <= at < begin + 59 for at in admitted) <= limit


def test_a_clock_that_is_set_back_forgets_nothing() -> None:
    window = Window()
    window.add(1000.0)
    window.add(990.0)
    assert window.used(1001.0) == 2
    assert window.used(1060.0) == 0


def test_what_is_taken_back_was_not_there() -> None:
    window = Window()
    window.take_back()
    window.add(1000.0)
    window.take_back()
    window.take_back()
    assert (window.used(1000.0), window.wait_s(1000.0, 1)) == (0, 0.0)
