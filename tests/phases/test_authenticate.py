"""Who calls."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict

from gateway.errors import GatewayError
from gateway.phases.authenticate import authenticate
from tests.values import DIRECTORY


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
    caller = authenticate(CIMultiDict(headers), DIRECTORY)
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
        authenticate(CIMultiDict(headers), DIRECTORY)
    error = refused.value
    assert (error.status, error.code, error.headers) == (401, "invalid_api_key", {"www-authenticate": "Bearer"})
    presented = [word for value in headers.values() for word in value.split() if len(word) > 6]
    assert not any(word in error.message for word in presented)


def test_a_missing_key_and_a_wrong_one_are_told_apart() -> None:
    with pytest.raises(GatewayError, match="You didn't provide an API key"):
        authenticate(CIMultiDict(), DIRECTORY)
    with pytest.raises(GatewayError, match="Incorrect API key provided"):
        authenticate(CIMultiDict({"api-key": "x"}), DIRECTORY)
