"""What follows an attempt: all rules about sending again stand here, because they must agree.

The one law: a request that may have arrived and would do its work twice is never sent twice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from gateway.errors import AttemptFailed
from gateway.operations import Operation


class Verdict(Enum):
    FINAL = "the caller gets this outcome"
    AGAIN = "send again, after a pause"
    NEXT_KEY = "send again at once with another key of the same account"


@dataclass(frozen=True)
class Refusal:
    """The status of a provider's answer that is no success, the code in its body, and how long that asks to wait."""

    status: int
    code: str | None = None
    rest_s: float | None = None


OUT_OF_MONEY = ("insufficient_quota", "billing_hard_limit_reached")

_SAYS_NO_MONEY = re.compile(r"credit balance is too low|reached your specified (?:workspace )?API usage limits", re.I)
"""Anthropic wants money with a 400 `invalid_request_error` that only its sentence tells from others: of a balance that
is used up (claude-code#88711), and of a spend limit (platform.claude.com, errors; read 2026-11-22)."""


def says_no_money(message: str | None) -> bool:
    """Whether an error without a code of its own is about our money."""
    return message is not None and _SAYS_NO_MONEY.search(message) is not None


_WRONG_KEY = {"invalid_api_key": 401, "API_KEY_INVALID": 400}
"""Code → the status it comes with; the second is Google's (openai-scala-client#109, gemini-cli#25198; read
2026-11-22)."""


def names_wrong_key(refusal: Refusal) -> bool:
    """Whether the answer says in so many words that the key is not valid."""
    return refusal.code is not None and _WRONG_KEY.get(refusal.code) == refusal.status


def blames_key(refusal: Refusal) -> bool:
    """Whether the answer is about our key and not about the request: such words never reach a caller."""
    is_out_of_money = refusal.status == 402 or (refusal.status == 429 and refusal.code in OUT_OF_MONEY)
    return refusal.status == 401 or names_wrong_key(refusal) or is_out_of_money


def is_about_key(code: str | None) -> bool:
    """The same for an error within a stream, which has no status."""
    return code in _WRONG_KEY or code in OUT_OF_MONEY


def judge(
    operation: Operation, outcome: Refusal | AttemptFailed, limits_belong_to: Literal["key", "account"]
) -> Verdict:
    """The verdict on one attempt that brought no success.

    | outcome                                    | GET, DELETE | POST     | why
    | nothing arrived (refused, unresolved)      | again       | again    | the provider saw nothing
    | cut, timed out, broken answer              | again       | final    | it may have done the work
    | 401, 402, out of money, a wrong key        | next key    | next key | it refused to do the work
    | 429, limits belong to the key              | next key    | next key | it refused to do the work
    | 429, limits belong to the account          | final       | final    | another key would only add load
    | 408, 500, 502, 503, 504, 529               | again       | final    | it may have done the work
    | anything else                              | final       | final    | it is about the request
    """
    if isinstance(outcome, AttemptFailed):
        return Verdict.AGAIN if operation.is_safe or not outcome.arrived else Verdict.FINAL
    if blames_key(outcome):
        return Verdict.NEXT_KEY
    if outcome.status == 429:
        return Verdict.NEXT_KEY if limits_belong_to == "key" else Verdict.FINAL
    if outcome.status in (408, 500, 502, 503, 504, 529):  # 529: Anthropic's `overloaded_error`
        return Verdict.AGAIN if operation.is_safe else Verdict.FINAL
    return Verdict.FINAL


def may_have_run(operation: Operation, outcome: Refusal | AttemptFailed) -> bool:
    """Whether the caller must be told not to repeat: the work may have been done, and would be done twice."""
    if operation.is_safe:
        return False
    if isinstance(outcome, AttemptFailed):
        return outcome.arrived
    return outcome.status in (408, 409) or outcome.status >= 500


def pause_s(attempts: int, headers: Mapping[str, str], chance: float) -> float:
    """How long to wait before the next attempt: 0.1 s doubling with each attempt up to 2 s, the upper half of it by
    chance (0–1), and never less than the provider's own `retry-after` unless that is more than 2 s."""
    backoff_s: float = min(2.0, 0.1 * 2 ** (attempts - 1)) * (0.5 + chance / 2)
    try:
        asked_s = float(headers.get("retry-after", "0"))
    except ValueError:
        asked_s = 0.0  # an HTTP date: longer than what a request waits for
    return max(backoff_s, asked_s) if asked_s <= 2 else backoff_s
