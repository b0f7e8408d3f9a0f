"""Foundry's tokens: fetched once for all, renewed in time, and anew when the provider refuses one."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from tests.conftest import StartGateway, StartVendor, Vendor
from tests.simulators import faults
from tests.simulators.entra import Entra
from tests.simulators.foundry import Foundry, deny_role


@pytest.fixture
async def vendor(start_vendor: StartVendor) -> Vendor:
    return await start_vendor("foundry")


@pytest.fixture
def entra(vendor: Vendor) -> Entra:
    return cast(Foundry, vendor.simulator).entra


def issued(entra: Entra) -> int:
    return sum(received.method == "POST" for received in entra.journal)


async def test_a_token_is_fetched_once_for_all_who_wait_for_it(
    vendor: Vendor, entra: Entra, start_gateway: StartGateway
) -> None:
    gateway = await start_gateway(vendor)
    answers = await asyncio.gather(*(gateway.call("POST", "/v1/threads", {}) for _ in range(20)))
    assert [status for status, _, _ in answers] == [200] * 20
    assert issued(entra) == 2  # the account has two keys, each with a token of its own


async def test_a_token_near_its_end_is_renewed_before_it_is_used(
    vendor: Vendor, entra: Entra, start_gateway: StartGateway
) -> None:
    """Not after a 401: the vendor's journal has none."""
    entra.expires_in_s = 200
    gateway = await start_gateway(vendor)
    for _ in range(4):
        assert (await gateway.call("POST", "/v1/threads", {}))[0] == 200
    assert issued(entra) == 4
    assert len(vendor.simulator.journal) == 4


async def test_a_refused_token_is_replaced_once_and_the_write_is_made_once(
    vendor: Vendor, entra: Entra, start_gateway: StartGateway
) -> None:
    gateway = await start_gateway(vendor)
    for _ in range(2):
        await gateway.call("POST", "/v1/threads", {})
    entra.revoke_all()
    answers = await asyncio.gather(*(gateway.call("POST", "/v1/threads", {}) for _ in range(10)))
    assert [status for status, _, _ in answers] == [200] * 10
    assert vendor.simulator.created["thread"] == 12
    assert issued(entra) == 4


async def test_a_role_that_is_missing_is_not_asked_for_ever(
    vendor: Vendor, entra: Entra, start_gateway: StartGateway
) -> None:
    """No new token helps; the caller hears nothing of it but that our keys are of no use."""
    vendor.simulator.faults.add(deny_role(), times=None)
    status, answer, headers = await (await start_gateway(vendor)).call("POST", "/v1/threads", {})
    assert (status, answer["error"]["code"]) == (502, "upstream_credentials_exhausted")
    assert headers["x-should-retry"] == "false"
    assert len(vendor.simulator.journal) == 4  # two keys, each with a second token


async def test_a_wrong_secret_is_a_fault_of_the_key(vendor: Vendor, entra: Entra, start_gateway: StartGateway) -> None:
    gateway = await start_gateway(vendor)
    entra.keys = {}
    status, answer, _ = await gateway.call("POST", "/v1/threads", {})
    assert (status, answer["error"]["code"]) == (502, "upstream_credentials_exhausted")
    assert not vendor.simulator.journal


async def test_without_entra_nothing_is_sent_and_the_caller_may_try_again(
    vendor: Vendor, entra: Entra, start_gateway: StartGateway
) -> None:
    gateway = await start_gateway(vendor)
    entra.faults.add(faults.status(503), times=None)
    status, answer, headers = await gateway.call("POST", "/v1/threads", {})
    assert (status, answer["error"]["code"]) == (502, "provider_unreachable")
    assert "x-should-retry" not in headers
    assert not vendor.simulator.journal


async def test_a_token_that_lives_serves_on_when_its_renewal_fails(
    vendor: Vendor, entra: Entra, start_gateway: StartGateway
) -> None:
    entra.expires_in_s = 200
    gateway = await start_gateway(vendor)
    for _ in range(2):
        await gateway.call("POST", "/v1/threads", {})
    entra.faults.add(faults.status(400), times=None)
    assert (await gateway.call("POST", "/v1/threads", {}))[0] == 200
