"""What a vendor's error means for a run: one of the three codes of `last_error`, and words for the caller.

| the vendor says                               | code                  | message
| 401, 402, 403, no money, a key's fault        | `server_error`        | ours: the vendor speaks of our account
| 429, or a code that means it                  | `rate_limit_exceeded` | the vendor's; ours of Google's, about our plan
| 400, 404, 413, 422, or a code about the prompt | `invalid_prompt`     | the vendor's
| 408, 409, 5xx, anything else                  | `server_error`        | the vendor's

The rows are tried from above. Without words of the vendor's: ours. Errors within a stream have no status; some vendors
put one in `code` (OpenRouter's errors page: 502; vLLM's issue 6862: 400; read 2026-11-22), and it is taken for one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from gateway import google_errors
from gateway.engine.models.generation import Failure
from gateway.errors import error_fields
from gateway.phases.blame import told_rest_s
from gateway.phases.judge import OUT_OF_MONEY, says_no_money

_LIMIT = 2000
_SECRET = re.compile(
    r"(?<![A-Za-z0-9])(?:(sk|gsk|xai|key|org|proj)[-_]|(AIza))[A-Za-z0-9_*.-]{7,}[A-Za-z0-9_*-]"
    r"|(?<=Bearer )[^\s'\"]{8,}"
    # Anthropic names the organisation by its UUID (claude-code#55132, bolt.new#8588).
    r"|(?<=\(org: )[0-9a-f-]{36}|(?<=organization \()[0-9a-f-]{36}"
)

_ABOUT_KEY = {
    *OUT_OF_MONEY,
    "invalid_api_key",
    "invalid_authentication",
    "authentication_error",
    "permission_error",
    "billing_error",
    "unauthenticated",
    "permission_denied",
    "unauthorized",
    "api_key_invalid",
    "failed_precondition",
}
"""The last two are Gemini's: the second means that our project has no billing where it needs it, or asks from a country
that is not served (ai.google.dev, API errors, read 2026-11-22)."""
_TOO_FAST = {
    "rate_limit_exceeded",
    "rate_limit_error",
    "rate_limit_reached",
    "too_many_requests",
    "toomanyrequests",
    "resource_exhausted",
    "requests",  # OpenAI's type of a 429 is what ran out
    "tokens",
}
_ABOUT_PROMPT = {
    "invalid_prompt",
    "content_filter",
    "content_policy_violation",
    "responsibleaipolicyviolation",
    "moderation",
    "context_length_exceeded",
    "string_above_max_length",
    "invalid_image",
    "invalid_image_url",
    "invalid_image_format",
    "invalid_image_mode",
    "invalid_base64_image",
    "image_too_large",
    "image_too_small",
    "image_parse_error",
    "image_content_policy_violation",
    "image_file_too_large",
    "image_file_not_found",
    "empty_image_file",
    "unsupported_image_media_type",
    "failed_to_download_image",
    "bio_policy",
    "misalignment_policy_violation",
    "model_not_found",
    "invalid_argument",
    "invalid_request_error",
    "badrequesterror",
}
"""Codes and types in lower case, of OpenAI, Azure, Anthropic, Gemini, Mistral and vLLM (their references and the error
bodies in public issues, read 2026-11-22). A code that is missing here only loses to the status."""

_Code = Literal["rate_limit_exceeded", "server_error", "invalid_prompt"]
_OURS: Mapping[_Code, str] = {
    "rate_limit_exceeded": "the model's provider is asked too often",
    "invalid_prompt": "the model's provider does not accept this request",
    "server_error": "the model's provider failed",
}


def failure_of_answer(status: int, headers: Mapping[str, str], raw: bytes, *, now: float) -> Failure:
    """For an answer with a status that is no success."""
    fields = error_fields(raw)
    rest_s = told_rest_s(headers, now=now)
    return _failure(status, fields, google_errors.rest_s(fields) if rest_s is None else rest_s)


def failure_in_stream(raw: bytes) -> Failure:
    """For an error object within an answer that began well."""
    fields = error_fields(raw)
    return _failure(None, fields, google_errors.rest_s(fields))


def unreadable(what: str) -> Failure:
    return Failure("server_error", f"the model's provider {what}")


def _failure(status: int | None, fields: Mapping[str, Any], retry_after_s: float | None) -> Failure:
    told = [str(fields[name]) for name in ("code", "type", "status") if fields.get(name) is not None]
    if (reason := google_errors.reason_of(fields)) is not None:
        told.insert(0, reason)
    vendor_code = next(iter(told), None)
    words = {word.lower() for word in told}
    status = status or next((int(word) for word in told if re.fullmatch(r"[45][0-9]{2}", word)), None)
    message = fields.get("message")
    if _is_about_key(status, words) or says_no_money(message):
        ours = "the model's provider does not let the gateway in; whoever runs it has to act"
        return Failure("server_error", ours, retry_after_s, vendor_code)
    code = _code(status, words)
    is_about_us = "resource_exhausted" in words  # Google's 429s speak of the account's plan, billing and figures
    said = _mask(message.strip())[:_LIMIT] if isinstance(message, str) and not is_about_us else ""
    ours = _OURS[code] + (f" (status {status})" if status else "")
    return Failure(code, said or ours, retry_after_s, vendor_code)


def _is_about_key(status: int | None, words: set[str]) -> bool:
    if words & _ABOUT_KEY or status in (401, 402):
        return True
    return status == 403 and not words & (_ABOUT_PROMPT - {"invalid_request_error"})


def _code(status: int | None, words: set[str]) -> _Code:
    if status == 429 or words & _TOO_FAST:
        return "rate_limit_exceeded"
    if status is not None and status >= 500:
        return "server_error"
    if status in (400, 404, 413, 422) or words & _ABOUT_PROMPT:
        return "invalid_prompt"
    return "server_error"


def _mask(text: str) -> str:
    return _SECRET.sub(lambda found: f"{found[1]}-***" if found[1] else "***", text)
