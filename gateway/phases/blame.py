"""What an outcome says of the key it was made with, and of that key's account. All rules about keys stand here; what
follows for the request itself is for `judge`. Pure.

| outcome                                  | the key                                    | the account
| 401 that names the key, Google's 400     | dead, until a probe or a person revives it | –
| any other 401                            | rests 5 s, then a probe                    | –
| 402, 429 for want of money               | rests `no_money_s`, then is tried again    | –
| 403                                      | counted; may be about the object           | –
| 429, limits belong to the key            | rests as long as the vendor tells          | –
| 429, limits belong to the account        | –                                          | rests as told
| 408, 5xx, refused, cut, too slow         | –                                          | counted by its breaker
| anything else                            | –                                          | –
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Literal

from gateway.errors import AttemptFailed
from gateway.phases.judge import OUT_OF_MONEY, Refusal, names_wrong_key

UNCLEAR_S = 5.0
_LONGEST_S = 86_400.0
_GO_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|h|m|s)")
_UNITS_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


@dataclass(frozen=True)
class Blame:
    """What is to be remembered. `rest_s` goes with `rests`; None with it: the vendor did not say how long.

    `why` is a short code for logs and tables.
    """

    kind: Literal["nothing", "key_dead", "key_rests", "key_forbidden", "account_rests", "account_failed"] = "nothing"
    why: str = ""
    rest_s: float | None = None


NOTHING = Blame()


def blame(
    outcome: Refusal | AttemptFailed,
    headers: Mapping[str, str],
    *,
    limits_belong_to: Literal["key", "account"],
    no_money_s: float,
    now: float,
) -> Blame:
    """The row of the table. `now` is seconds since 1970, for vendors that name a date."""
    if isinstance(outcome, AttemptFailed):
        return Blame("account_failed", outcome.code or "unreachable")
    if names_wrong_key(outcome):
        return Blame("key_dead", "invalid_api_key")
    if outcome.status == 401:
        return Blame("key_rests", "unauthorized", UNCLEAR_S)
    if outcome.status == 402 or (outcome.status == 429 and outcome.code in OUT_OF_MONEY):
        return Blame("key_rests", "no_money", no_money_s)
    if outcome.status == 403:
        return Blame("key_forbidden", "forbidden")
    if outcome.status == 429:
        kind: Literal["key_rests", "account_rests"] = "key_rests" if limits_belong_to == "key" else "account_rests"
        rest_s = told_rest_s(headers, now=now)
        if rest_s is None and outcome.rest_s is not None:
            rest_s = _bounded(outcome.rest_s)
        return Blame(kind, "rate_limited", rest_s)
    if outcome.status == 408 or outcome.status >= 500:
        return Blame("account_failed", str(outcome.status))
    return NOTHING


def told_rest_s(headers: Mapping[str, str], *, now: float) -> float | None:
    """How long the vendor asks to wait, in its most exact words; None if it does not say."""
    if (milliseconds := _number(headers.get("retry-after-ms"))) is not None:
        return _bounded(milliseconds / 1000)
    if (asked := headers.get("retry-after")) is not None and (seconds := _seconds_or_date(asked, now)) is not None:
        return _bounded(seconds)
    resets = _resets(headers, now)
    used_up = [seconds for seconds, is_used_up in resets if is_used_up]
    if used_up:
        return _bounded(max(used_up))
    return _bounded(min(seconds for seconds, _ in resets)) if resets else None


def _resets(headers: Mapping[str, str], now: float) -> list[tuple[float, bool]]:
    """Of each limit that is told: in how many seconds it is reset, and whether it is used up. OpenAI says durations,
    Anthropic dates (RFC 3339: platform.claude.com, rate limits, read 2026-11-22)."""
    told = [
        (_go_duration_s(headers.get(f"x-ratelimit-reset-{kind}")), headers.get(f"x-ratelimit-remaining-{kind}"))
        for kind in ("requests", "tokens")
    ] + [
        (
            _date_s(headers.get(f"anthropic-ratelimit-{kind}-reset"), now),
            headers.get(f"anthropic-ratelimit-{kind}-remaining"),
        )
        for kind in ("requests", "tokens", "input-tokens", "output-tokens")
    ]
    return [(seconds, remaining == "0") for seconds, remaining in told if seconds is not None]


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text is not None else None
    except ValueError:
        return None
    return number if number is not None and 0 <= number < float("inf") else None


def _seconds_or_date(text: str, now: float) -> float | None:
    if (seconds := _number(text)) is not None:
        return seconds
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None


def _date_s(text: str | None, now: float) -> float | None:
    """`2026-11-22T07:28:00Z`."""
    try:
        date = datetime.fromisoformat(text or "")
        return max(0.0, date.timestamp() - now) if date.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def _go_duration_s(text: str | None) -> float | None:
    """`6m0s`, `1.5s`, `20ms`: how OpenAI writes when a limit is reset (its rate-limit guide, read 2026-11-21)."""
    if not text or len(text) > 40:
        return None
    parts = _GO_DURATION.findall(text)
    if "".join(number + unit for number, unit in parts) != text:
        return _number(text)
    return sum(float(number) * _UNITS_S[unit] for number, unit in parts)


def _bounded(seconds: float) -> float:
    return min(seconds, _LONGEST_S)
