"""What Google's errors say in their details: bodies as public issues show them, and those that say nothing."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway import google_errors
from gateway.errors import error_fields
from gateway.phases.judge import Refusal, names_wrong_key
from gateway.phases.rewrite_in import read_refusal

REASON, RETRY = (f"type.googleapis.com/google.rpc.{name}" for name in ("ErrorInfo", "RetryInfo"))


def body(*details: Any, code: int = 429) -> bytes:
    return orjson.dumps({"error": {"code": code, "message": "no", "status": "X", "details": list(details)}})


@pytest.mark.parametrize(
    ("raw", "reason", "rest_s"),
    [
        (body({"@type": REASON, "reason": "API_KEY_INVALID", "domain": "googleapis.com"}), "API_KEY_INVALID", None),
        (body({"@type": "…QuotaFailure", "violations": []}, {"@type": RETRY, "retryDelay": "54s"}), None, 54.0),
        (body({"@type": RETRY, "retryDelay": "0.900200000s"}), None, 0.9002),
        (b"[" + body({"@type": RETRY, "retryDelay": "68940s"}) + b"]", None, 68940.0),
        # Nothing, or nothing that can be read.
        (b'{"error":{"details":"none"}}', None, None),
        (body(None, [], {"@type": REASON}, {"@type": REASON, "reason": "LATE"}), None, None),
        (body({"@type": REASON, "reason": ""}), None, None),
        *((body({"@type": RETRY, "retryDelay": said}), None, None) for said in ("s", "soon", "-1s", "infs", "nans", 5)),
        (b"<html>", None, None),
    ],
)
def test_details_say_why_and_how_long(raw: bytes, reason: str | None, rest_s: float | None) -> None:
    fields = error_fields(raw)
    assert (google_errors.reason_of(fields), google_errors.rest_s(fields)) == (reason, rest_s)


def test_a_refusal_is_read_with_them() -> None:
    raw = body({"@type": REASON, "reason": "API_KEY_INVALID"}, code=400)
    assert read_refusal(400, raw) == Refusal(400, "API_KEY_INVALID")
    assert names_wrong_key(read_refusal(400, raw))
    assert not names_wrong_key(read_refusal(403, raw))
    assert read_refusal(429, body({"@type": RETRY, "retryDelay": "12s"})) == Refusal(429, rest_s=12.0)
