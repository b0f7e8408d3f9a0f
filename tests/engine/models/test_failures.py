"""What becomes of a vendor's error: a code of `last_error`, its words, and never a word about our keys."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway.engine.models.failures import failure_in_stream, failure_of_answer

OURS = "the model's provider does not let the gateway in; whoever runs it has to act"


def error(message: Any = "its words", **fields: Any) -> bytes:
    return orjson.dumps({"error": {"message": message, **fields}})


REASON, RETRY = (f"type.googleapis.com/google.rpc.{name}" for name in ("ErrorInfo", "RetryInfo"))


def google(code: int, status: str, *details: dict[str, str]) -> bytes:
    return error(code=code, status=status, details=list(details))


@pytest.mark.parametrize(
    ("status", "raw", "code", "message"),
    [
        # OpenAI
        (400, error(type="invalid_request_error", code="context_length_exceeded"), "invalid_prompt", "its words"),
        (400, error(type="invalid_request_error", code=None), "invalid_prompt", "its words"),
        (404, error(code="model_not_found"), "invalid_prompt", "its words"),
        (401, error("Incorrect API key provided: x", code="invalid_api_key"), "server_error", OURS),
        (403, error("Project proj_1 may not", type="invalid_request_error"), "server_error", OURS),
        (429, error(type="requests", code="rate_limit_exceeded"), "rate_limit_exceeded", "its words"),
        (429, error("You exceeded your current quota", code="insufficient_quota"), "server_error", OURS),
        (500, error(type="server_error"), "server_error", "its words"),
        (503, error(type="invalid_request_error"), "server_error", "its words"),
        # Azure
        (400, error(code="content_filter", innererror={}), "invalid_prompt", "its words"),
        (404, error(code="DeploymentNotFound"), "invalid_prompt", "its words"),
        (429, error(code="429"), "rate_limit_exceeded", "its words"),
        (401, error(code="401"), "server_error", OURS),
        # Mistral, with a message that is no text
        (
            422,
            b'{"object":"error","message":{"detail":[]},"type":"invalid_request_error","code":null}',
            "invalid_prompt",
            '{"detail":[]}',
        ),
        # OpenRouter
        (402, error(code=402), "server_error", OURS),
        (403, error("flagged", code="moderation"), "invalid_prompt", "flagged"),
        # Anthropic
        (529, error(type="overloaded_error"), "server_error", "its words"),
        (400, error(type="rate_limit_error"), "rate_limit_exceeded", "its words"),
        (403, error(type="permission_error"), "server_error", OURS),
        (402, error(type="billing_error"), "server_error", OURS),
        (400, error("Your credit balance is too low to access…", type="invalid_request_error"), "server_error", OURS),
        (400, error("You have reached your specified API usage limits.", type="x"), "server_error", OURS),
        (413, error(type="request_too_large"), "invalid_prompt", "its words"),
        (504, error(type="timeout_error"), "server_error", "its words"),
        # Gemini
        (400, error(status="INVALID_ARGUMENT", code=400), "invalid_prompt", "its words"),
        (
            429,
            error("check your plan and billing details", status="RESOURCE_EXHAUSTED", code=429),
            "rate_limit_exceeded",
            "the model's provider is asked too often (status 429)",
        ),
        (400, google(400, "INVALID_ARGUMENT", {"@type": REASON, "reason": "API_KEY_INVALID"}), "server_error", OURS),
        (400, google(400, "FAILED_PRECONDITION"), "server_error", OURS),
        (503, google(503, "UNAVAILABLE"), "server_error", "its words"),
        (403, error(status="PERMISSION_DENIED", code=403), "server_error", OURS),
        (400, b"[" + error("no thought_signature", code=400) + b"]\n", "invalid_prompt", "no thought_signature"),
        # No words
        (502, b"<html>Bad Gateway", "server_error", "the model's provider failed (status 502)"),
        (429, b"", "rate_limit_exceeded", "the model's provider is asked too often (status 429)"),
        (413, b"null", "invalid_prompt", "the model's provider does not accept this request (status 413)"),
        (408, error(), "server_error", "its words"),
        (307, b"", "server_error", "the model's provider failed (status 307)"),
    ],
)
def test_an_answer_becomes_a_last_error(status: int, raw: bytes, code: str, message: str) -> None:
    failure = failure_of_answer(status, {}, raw, now=0)
    assert (failure.code, failure.message) == (code, message)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (error(code=502), "server_error"),
        (error(code=429), "rate_limit_exceeded"),
        (error(code="400"), "invalid_prompt"),
        (error(code="rate_limit_exceeded"), "rate_limit_exceeded"),
        (error(code="content_filter"), "invalid_prompt"),
        (error(code="tool_use_failed"), "server_error"),
        (error(), "server_error"),
        (b"gone", "server_error"),
    ],
)
def test_an_error_in_a_stream_has_no_status_but_perhaps_a_code(raw: bytes, code: str) -> None:
    assert failure_in_stream(raw).code == code


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "20"}, 20.0),
        ({"x-ratelimit-reset-requests": "6m0s", "x-ratelimit-remaining-requests": "0"}, 360.0),
        ({}, None),
    ],
)
def test_how_long_to_wait_is_what_the_vendor_says(headers: dict[str, str], wait_s: float | None) -> None:
    assert failure_of_answer(429, headers, b"", now=0).retry_after_s == wait_s


def test_how_long_to_wait_may_stand_in_the_body() -> None:
    raw = google(429, "RESOURCE_EXHAUSTED", {"@type": RETRY, "retryDelay": "12s"})
    assert failure_of_answer(429, {}, raw, now=0).retry_after_s == 12.0
    assert failure_of_answer(429, {"retry-after": "0"}, raw, now=0).retry_after_s == 0.0
    assert failure_in_stream(raw).retry_after_s == 12.0


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("for gpt-4o in organization org-abcdefgh12 on tokens", "for gpt-4o in organization org-*** on tokens"),
        ("key sk-proj-abcdefgh1234 is", "key sk-*** is"),
        ("gsk_abcdefghijkl and AIzaSyA1234567890abcdef", "gsk-*** and ***"),
        ("with Bearer 0123456789abcdef.", "with Bearer ***"),
        (
            "rate limit of 30,000 (org: 9d50ef40-6cc8-4ca6-9d35-1dc9cf26235c, model: m)",
            "rate limit of 30,000 (org: ***, model: m)",
        ),
        ("for your organization (9d50ef40-6cc8-4ca6-9d35-1dc9cf26235c) of", "for your organization (***) of"),
        ("task-force and risky_business stay", "task-force and risky_business stay"),
    ],
)
def test_what_looks_like_a_secret_is_masked(said: str, shown: str) -> None:
    assert failure_in_stream(error(said)).message == shown
    assert failure_of_answer(429, {}, error(said), now=0).message == shown


def test_a_long_message_is_cut() -> None:
    assert len(failure_in_stream(error("x" * 5000)).message) == 2000


def test_the_pool_learns_the_vendors_own_code() -> None:
    assert failure_in_stream(error(code="insufficient_quota", type="x")).vendor_code == "insufficient_quota"
    assert failure_in_stream(error(type="server_error")).vendor_code == "server_error"
    assert failure_in_stream(google(400, "X", {"@type": REASON, "reason": "LATE"})).vendor_code == "LATE"
    assert failure_in_stream(b"?").vendor_code is None
