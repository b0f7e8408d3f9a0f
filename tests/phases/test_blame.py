"""What outcomes say of keys and accounts: the whole table, and vendors' words for how long."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import formatdate
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import AttemptFailed
from gateway.phases.blame import NOTHING, Blame, blame, told_rest_s
from gateway.phases.judge import Refusal
from tests.values import unhurried

NOW = 1_800_000_000.0
Limits = Literal["key", "account"]


def date(ahead_s: int) -> str:
    """As Anthropic writes it."""
    return datetime.fromtimestamp(NOW + ahead_s, UTC).isoformat().replace("+00:00", "Z")


TABLE: list[tuple[Refusal | AttemptFailed, Blame]] = [
    (Refusal(401, "invalid_api_key"), Blame("key_dead", "invalid_api_key")),
    (Refusal(401), Blame("key_rests", "unauthorized", 5.0)),
    (Refusal(401, "PermissionDenied"), Blame("key_rests", "unauthorized", 5.0)),
    (Refusal(400, "API_KEY_INVALID"), Blame("key_dead", "invalid_api_key")),  # Google
    (Refusal(401, "API_KEY_INVALID"), Blame("key_rests", "unauthorized", 5.0)),
    (Refusal(400, "INVALID_ARGUMENT"), NOTHING),
    (Refusal(503, rest_s=7.0), Blame("account_failed", "503")),
    (Refusal(402), Blame("key_rests", "no_money", 600.0)),
    (Refusal(429, "insufficient_quota"), Blame("key_rests", "no_money", 600.0)),
    (Refusal(429, "billing_hard_limit_reached"), Blame("key_rests", "no_money", 600.0)),
    (Refusal(403), Blame("key_forbidden", "forbidden")),
    (Refusal(404), NOTHING),
    (Refusal(400, "invalid_api_key"), NOTHING),
    (Refusal(409), NOTHING),
    (Refusal(302), NOTHING),
    (Refusal(408), Blame("account_failed", "408")),
    (Refusal(500), Blame("account_failed", "500")),
    (Refusal(529), Blame("account_failed", "529")),
    (AttemptFailed(502, "refused", code="provider_unreachable"), Blame("account_failed", "provider_unreachable")),
    (AttemptFailed(504, "slow", code="provider_timeout"), Blame("account_failed", "provider_timeout")),
]


def blamed(outcome: Refusal | AttemptFailed, limits: Limits = "key", **headers: str) -> Blame:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return blame(outcome, named, limits_belong_to=limits, no_money_s=600, now=NOW)


@pytest.mark.parametrize("limits", ["key", "account"])
@pytest.mark.parametrize(("outcome", "expected"), TABLE, ids=lambda cell: str(cell)[:40])
def test_the_table(outcome: Refusal | AttemptFailed, expected: Blame, limits: Limits) -> None:
    assert blamed(outcome, limits) == expected


def test_a_rate_limit_is_the_keys_or_the_accounts() -> None:
    assert blamed(Refusal(429), "key", retry_after="7") == Blame("key_rests", "rate_limited", 7.0)
    assert blamed(Refusal(429), "account", retry_after="7") == Blame("account_rests", "rate_limited", 7.0)
    assert blamed(Refusal(429), "key") == Blame("key_rests", "rate_limited", None)


def test_how_long_may_stand_in_the_body() -> None:
    """Google's `retryDelay`; a header is more exact. A day is the longest."""
    assert blamed(Refusal(429, rest_s=54.0), "account") == Blame("account_rests", "rate_limited", 54.0)
    assert blamed(Refusal(429, rest_s=54.0), "account", retry_after="7").rest_s == 7.0
    assert blamed(Refusal(429, rest_s=1e9), "account").rest_s == 86_400


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": formatdate(NOW + 90, usegmt=True)}, 90),
        ({"retry-after": formatdate(NOW - 90, usegmt=True)}, 0),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "1e9"}, 86_400),
        ({"x-ratelimit-reset-requests": "6m0s"}, 360),
        ({"x-ratelimit-reset-requests": "1h2m3.5s"}, 3723.5),
        ({"x-ratelimit-reset-requests": "20ms"}, 0.02),
        ({"x-ratelimit-reset-requests": "12"}, 12),
        ({"x-ratelimit-reset-requests": "soon"}, None),
        ({"x-ratelimit-reset-requests": "1s junk"}, None),
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "9s"}, 1),
        (
            {
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-reset-tokens": "9s",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-remaining-requests": "5",
            },
            9,
        ),
        ({"retry-after": "soon", "x-ratelimit-reset-tokens": "9s"}, 9),
        ({"anthropic-ratelimit-requests-reset": date(30)}, 30),
        ({"anthropic-ratelimit-requests-reset": date(-30)}, 0),
        ({"anthropic-ratelimit-requests-reset": date(30), "anthropic-ratelimit-output-tokens-reset": date(8)}, 8),
        (
            {
                "anthropic-ratelimit-requests-reset": date(3),
                "anthropic-ratelimit-requests-remaining": "41",
                "anthropic-ratelimit-input-tokens-reset": date(45),
                "anthropic-ratelimit-input-tokens-remaining": "0",
            },
            45,
        ),
        ({"retry-after": "7", "anthropic-ratelimit-tokens-reset": date(45)}, 7),
        ({"anthropic-ratelimit-tokens-reset": "2027-01-15T08:01:00"}, None),  # in which zone?
        ({"anthropic-ratelimit-tokens-reset": "tomorrow"}, None),
    ],
)
def test_the_vendors_own_words_say_how_long(headers: dict[str, str], seconds: float | None) -> None:
    assert told_rest_s(headers, now=NOW) == (None if seconds is None else pytest.approx(seconds))


SAID_IN = ["retry-after", "retry-after-ms", "x-ratelimit-reset-tokens", "anthropic-ratelimit-tokens-reset"]


@unhurried
@given(
    st.dictionaries(st.sampled_from(SAID_IN), st.text() | st.datetimes().map(str) | st.datetimes().map("{}Z".format))
)
def test_no_words_make_a_rest_that_never_ends(headers: dict[str, str]) -> None:
    told = told_rest_s(headers, now=NOW)
    assert told is None or 0 <= told <= 86_400
