"""What Google's errors say in their `details`: why a key is refused, and when to come again.

    {"error": {"code": 400, "message": "API key not valid. …", "status": "INVALID_ARGUMENT", "details": [
        {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID", …}]}}

Sources, read 2026-11-22: ai.google.dev, API errors of generateContent; for the details gemini-cli's
`utils/googleErrors.ts` and issue 25198, openai-scala-client#109. Whatever has another form says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_REASON = "type.googleapis.com/google.rpc.ErrorInfo"
_RETRY = "type.googleapis.com/google.rpc.RetryInfo"


def reason_of(fields: Mapping[str, Any]) -> str | None:
    """The code of an error whose fields these are (`errors.error_fields`), such as `API_KEY_INVALID`."""
    reason = _detail(fields, _REASON, "reason")
    return reason if type(reason) is str and reason else None


def rest_s(fields: Mapping[str, Any]) -> float | None:
    """How long it asks to wait: `retryDelay` is seconds with an `s` behind, such as `54s` or `0.9002s`."""
    delay = _detail(fields, _RETRY, "retryDelay")
    if type(delay) is not str or not delay.endswith("s"):
        return None
    try:
        seconds = float(delay[:-1])
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _detail(fields: Mapping[str, Any], kind: str, name: str) -> Any:
    details = fields.get("details")
    for detail in details if type(details) is list else ():
        if type(detail) is dict and detail.get("@type") == kind:
            return detail.get(name)
    return None
