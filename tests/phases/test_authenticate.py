"""Who calls."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict

from gateway.config import digest_of_key
from gateway.errors import GatewayError
from gateway.model import Caller, Stranger
from gateway.phases.authenticate import authenticate
from tests.values import DIRECTORY


def find(digest: str) -> Caller | Stranger:
    """As a replica that knows everybody does."""
    return DIRECTORY.caller(digest) or "unknown"


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer alice-key"},
        {"authorization": "bearer alice-key"},
        {"Authorization": "BEARER   alice-key  "},
        {"api-key": "alice-key"},  # as Azure's SDK sends it
        {"Api-Key": "alice-key"},
        {"Authorization": "Bearer alice-key", "api-key": "bob-key"},
        {"Authorization": "Basic YWxpY2U6", "api-key": "alice-key"},
    ],
)
def test_a_caller_is_known_by_its_key(headers: dict[str, str]) -> None:
    caller = authenticate(CIMultiDict(headers), find)
    assert caller.tenant.name == "alice"
    assert "alice-key" not in repr(caller)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer "},
        {"Authorization": "alice-key"},  # without a scheme
        {"Authorization": "Basic alice-key"},
        {"Authorization": "Bearer zoe-key"},
        {"Authorization": "Bearer alice-ke"},
        {"Authorization": "Bearer alice-key x"},
        {"Authorization": "Bearer ALICE-KEY"},
        {"Authorization": "Bearer sk-acme-one"},  # a provider's key, though one of ours
        {"Authorization": "Bearer \udcff\udcfe"},  # any bytes
        {"Authorization": "Bearer zoe-key", "api-key": "alice-key"},  # one key is meant, and it is wrong
        {"api-key": "zoe-key"},
        {"x-api-key": "alice-key"},
    ],
)
def test_nobody_else_comes_in(headers: dict[str, str]) -> None:
    with pytest.raises(GatewayError) as refused:
        authenticate(CIMultiDict(headers), find)
    error = refused.value
    assert (error.status, error.code, error.headers) == (401, "invalid_api_key", {"www-authenticate": "Bearer"})
    presented = [word for value in headers.values() for word in value.split() if len(word) > 6]
    assert not any(word in error.message for word in presented)


def test_a_missing_key_and_a_wrong_one_are_told_apart() -> None:
    with pytest.raises(GatewayError, match="You didn't provide an API key"):
        authenticate(CIMultiDict(), find)
    with pytest.raises(GatewayError, match="Incorrect API key provided"):
        authenticate(CIMultiDict({"api-key": "x"}), find)


@pytest.mark.parametrize(
    ("stranger", "status", "code", "told"),
    [
        ("unknown", 401, "invalid_api_key", "Incorrect API key provided. Use a key of this gateway"),
        ("expired", 401, "invalid_api_key", "this key has expired"),
        ("revoked", 401, "invalid_api_key", "this key was revoked"),
        ("unsure", 503, "store_unavailable", "a key that this replica does not know"),
    ],
)
def test_a_key_that_opens_nothing_is_told_why(stranger: Stranger, status: int, code: str, told: str) -> None:
    asked: list[str] = []

    def strange(digest: str) -> Stranger:
        asked.append(digest)
        return stranger

    with pytest.raises(GatewayError, match=told) as refused:
        authenticate(CIMultiDict({"api-key": "the key"}), strange)
    assert (refused.value.status, refused.value.code) == (status, code)
    assert asked == [digest_of_key("the key")]


def test_no_key_is_a_401_whatever_is_known() -> None:
    with pytest.raises(GatewayError) as refused:
        authenticate(CIMultiDict(), lambda digest: "unsure")
    assert refused.value.status == 401
