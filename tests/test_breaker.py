"""When a provider only fails, callers are told at once."""

from __future__ import annotations

from gateway.breaker import Breaker


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def opened(clock: Clock) -> Breaker:
    breaker = Breaker(3, 5.0, clock=clock)
    assert [breaker.note_failure() for _ in range(3)] == [False, False, True]
    return breaker


def test_it_opens_after_so_many_failures_in_a_row() -> None:
    breaker = Breaker(3, 5.0, clock=Clock())
    for _ in range(5):
        assert [breaker.note_failure(), breaker.note_failure()] == [False, False]
        assert breaker.wait_s() == 0
        assert breaker.note_success() is False
    breaker = opened(Clock())
    assert (breaker.is_open, breaker.wait_s()) == (True, 5.0)


def test_one_tries_after_the_wait_and_the_others_wait_on() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += 5
    assert [breaker.wait_s(), breaker.wait_s()] == [0.0, 5.0]
    assert breaker.note_success() is True
    assert [breaker.wait_s(), breaker.wait_s()] == [0.0, 0.0]


def test_each_failed_trial_doubles_the_wait_up_to_a_minute() -> None:
    clock = Clock()
    breaker = opened(clock)
    waits = []
    for _ in range(6):
        waits.append(breaker.wait_s())
        clock.now += waits[-1]
        assert breaker.wait_s() == 0
        assert breaker.note_failure() is False, "it is said once"
    assert waits == [5, 10, 20, 40, 60, 60]
    clock.now += 60
    assert breaker.wait_s() == 0
    breaker.note_success()
    assert [breaker.note_failure() for _ in range(3)] == [False, False, True]
    assert breaker.wait_s() == 5


def test_failures_of_requests_that_were_under_way_change_nothing() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += 4
    assert breaker.note_failure() is False
    assert breaker.wait_s() == 1


def test_a_trial_whose_caller_left_gives_way_to_another() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += 5
    assert breaker.wait_s() == 0
    breaker.forget_trial()
    assert breaker.wait_s() == 0
