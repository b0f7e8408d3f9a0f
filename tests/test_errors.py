"""What callers are told, in the one form that their SDKs understand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.errors import (
    AttemptFailed,
    GatewayError,
    bad_request,
    envelope,
    store_unavailable,
    unknown_id,
    wrong_type,
)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            GatewayError(404, "gone", code="x", param="thread_id"),
            {"message": "gone", "type": "invalid_request_error", "param": "thread_id", "code": "x"},
        ),
        (
            bad_request("no", status=413),
            {"message": "no", "type": "invalid_request_error", "param": None, "code": None},
        ),
        (
            AttemptFailed(502, "cannot be connected to", code="provider_unreachable"),
            {
                "message": "cannot be connected to",
                "type": "server_error",
                "param": None,
                "code": "provider_unreachable",
            },
        ),
        (  # a caller's id may hold what UTF-8 cannot
            unknown_id("assistant", "\ud800é"),
            {
                "message": "No assistant found with id '\ud800é'.",
                "type": "invalid_request_error",
                "param": None,
                "code": None,
            },
        ),
    ],
)
def test_an_error_is_told_in_openais_envelope(error: GatewayError, told: dict[str, Any]) -> None:
    assert json.loads(envelope(error)) == {"error": told}


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("thread", "thread"),
        ("message", "message"),
        ("run", "run"),
        ("step", "run step"),
        ("assistant", "assistant"),
        ("vector_store", "vector store"),
        ("batch", "file batch"),
    ],
)
def test_an_unknown_id_is_called_as_clients_expect(kind: str, word: str) -> None:
    error = unknown_id(kind, "x_1")
    assert (error.status, error.code, error.param) == (404, None, None)
    assert error.message == f"No {word} found with id 'x_1'."


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        (None, "null"),
        (True, "a boolean"),
        (1, "an integer"),
        (10**30, "an integer"),
        (0.5, "a decimal number"),
        ("x", "a string"),
        ([], "an array"),
        ({}, "an object"),
    ],
)
def test_a_wrong_type_is_told_in_openais_words(value: object, seen: str) -> None:
    error = wrong_type("file_ids[0]", "a string", value)
    assert (error.status, error.code, error.param) == (400, "invalid_type", "file_ids[0]")
    assert error.message == f"Invalid type for 'file_ids[0]': expected a string, but got {seen} instead."


def test_an_error_says_who_has_to_act() -> None:
    assert bad_request("x").source == "caller"
    assert AttemptFailed(504, "x").source == "provider"
    assert store_unavailable("a list").source == "gateway"


def test_a_missing_store_is_told_with_when_to_come_back() -> None:
    error = store_unavailable("a list on a shared account")
    assert (error.status, error.code, error.headers) == (503, "store_unavailable", {"retry-after": "1"})
    assert error.message.startswith("a list on a shared account needs")


def test_an_attempt_is_taken_to_have_arrived_unless_that_is_excluded() -> None:
    assert AttemptFailed(502, "x").arrived


def test_an_error_can_be_read_in_a_log() -> None:
    assert str(GatewayError(409, "busy", code="locked")) == "409 locked: busy"
    assert str(GatewayError(409, "busy")) == "409 invalid_request_error: busy"
