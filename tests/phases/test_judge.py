"""What follows an attempt: the whole table."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import AttemptFailed
from gateway.operations import OPERATIONS, Operation
from gateway.phases.judge import Refusal, Verdict, blames_key, judge, may_have_run, pause_s
from tests.values import DELETE, READ, WRITE, unhurried

AGAIN, FINAL, NEXT_KEY = Verdict.AGAIN, Verdict.FINAL, Verdict.NEXT_KEY
Limits = Literal["key", "account"]

TABLE: list[tuple[Refusal | AttemptFailed, Verdict, Verdict, bool]] = [
    # outcome, verdict for what is safe, verdict for a write, whether a write may have been done
    (AttemptFailed(502, "refused", arrived=False), AGAIN, AGAIN, False),  # the provider saw nothing
    (AttemptFailed(504, "no connection", arrived=False), AGAIN, AGAIN, False),
    (AttemptFailed(502, "cut"), AGAIN, FINAL, True),
    (AttemptFailed(504, "too slow"), AGAIN, FINAL, True),
    (Refusal(401), NEXT_KEY, NEXT_KEY, False),  # it refused to do the work
    (Refusal(401, "invalid_api_key"), NEXT_KEY, NEXT_KEY, False),
    (Refusal(402), NEXT_KEY, NEXT_KEY, False),
    (Refusal(400, "API_KEY_INVALID"), NEXT_KEY, NEXT_KEY, False),
    (Refusal(429, "insufficient_quota"), NEXT_KEY, NEXT_KEY, False),
    (Refusal(429, "billing_hard_limit_reached"), NEXT_KEY, NEXT_KEY, False),
    (Refusal(408), AGAIN, FINAL, True),
    (Refusal(500), AGAIN, FINAL, True),
    (Refusal(502), AGAIN, FINAL, True),
    (Refusal(503), AGAIN, FINAL, True),
    (Refusal(504), AGAIN, FINAL, True),
    (Refusal(501), FINAL, FINAL, True),
    (Refusal(529), AGAIN, FINAL, True),
    (Refusal(520), FINAL, FINAL, True),
    (Refusal(409), FINAL, FINAL, True),  # a lock, which the SDKs would try again
    (Refusal(400), FINAL, FINAL, False),  # about the request
    (Refusal(403), FINAL, FINAL, False),
    (Refusal(404), FINAL, FINAL, False),
    (Refusal(422, "insufficient_quota"), FINAL, FINAL, False),
    (Refusal(302), FINAL, FINAL, False),
]


@pytest.mark.parametrize("limits", ["key", "account"])
@pytest.mark.parametrize(("outcome", "safe", "write", "may_be_done"), TABLE, ids=lambda cell: str(cell)[:30])
def test_the_table(
    outcome: Refusal | AttemptFailed, safe: Verdict, write: Verdict, may_be_done: bool, limits: Limits
) -> None:
    assert judge(READ, outcome, limits) is safe
    assert judge(DELETE, outcome, limits) is safe
    assert judge(WRITE, outcome, limits) is write
    assert may_have_run(WRITE, outcome) is may_be_done
    assert not may_have_run(READ, outcome)
    assert not may_have_run(DELETE, outcome)


@pytest.mark.parametrize("operation", [READ, DELETE, WRITE], ids=lambda operation: operation.name)
@pytest.mark.parametrize("code", [None, "rate_limit_exceeded"])
def test_another_key_helps_against_a_limit_of_the_key_only(operation: Operation, code: str | None) -> None:
    assert judge(operation, Refusal(429, code), "key") is NEXT_KEY
    assert judge(operation, Refusal(429, code), "account") is FINAL
    assert not may_have_run(operation, Refusal(429, code))


outcomes = st.builds(Refusal, st.integers(300, 599), st.sampled_from([None, "insufficient_quota", "x"])) | st.builds(
    AttemptFailed, st.just(502), st.just("x"), arrived=st.booleans()
)


@unhurried
@given(st.sampled_from(OPERATIONS), outcomes, st.sampled_from(["key", "account"]))
def test_a_write_that_may_have_been_done_is_never_sent_again(
    operation: Operation, outcome: Refusal | AttemptFailed, limits: Limits
) -> None:
    """The one law, for every operation there is."""
    if may_have_run(operation, outcome):
        assert judge(operation, outcome, limits) is FINAL


@pytest.mark.parametrize(
    ("refusal", "blamed"),
    [
        (Refusal(401), True),
        (Refusal(402, "x"), True),
        (Refusal(429, "insufficient_quota"), True),
        (Refusal(429, "billing_hard_limit_reached"), True),
        (Refusal(429), False),
        (Refusal(429, "rate_limit_exceeded"), False),
        (Refusal(403, "insufficient_quota"), False),
        (Refusal(400, "invalid_api_key"), False),
        (Refusal(400, "API_KEY_INVALID"), True),
        (Refusal(404, "API_KEY_INVALID"), False),
    ],
)
def test_only_some_answers_are_about_our_key(refusal: Refusal, blamed: bool) -> None:
    assert blames_key(refusal) is blamed


@pytest.mark.parametrize(
    ("attempts", "asked", "shortest", "longest"),
    [
        (1, None, 0.05, 0.1),
        (2, None, 0.1, 0.2),
        (3, None, 0.2, 0.4),
        (6, None, 1.0, 2.0),
        (10, None, 1.0, 2.0),
        (1, "1.5", 1.5, 1.5),
        (1, "2", 2.0, 2.0),
        (1, "0", 0.05, 0.1),
        (5, "1", 1.0, 1.6),
        # longer than a request waits, or not a number of seconds
        (1, "2.5", 0.05, 0.1),
        (1, "3600", 0.05, 0.1),
        (1, "-1", 0.05, 0.1),
        (1, "nan", 0.05, 0.1),
        (1, "inf", 0.05, 0.1),
        (1, "Wed, 21 Oct 2026 07:28:00 GMT", 0.05, 0.1),
        (1, "", 0.05, 0.1),
    ],
)
def test_a_pause_grows_and_heeds_the_provider(
    attempts: int, asked: str | None, shortest: float, longest: float
) -> None:
    headers = {} if asked is None else {"retry-after": asked}
    assert pause_s(attempts, headers, 0.0) == pytest.approx(shortest)
    assert pause_s(attempts, headers, 1.0) == pytest.approx(longest)


@unhurried
@given(st.integers(1, 10), st.text(), st.floats(0, 1))
def test_a_pause_is_never_longer_than_two_seconds(attempts: int, asked: str, chance: float) -> None:
    assert 0 < pause_s(attempts, {"retry-after": asked}, chance) <= 2
