"""The directory built from a configuration, and the homes that hashing gives."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gateway
from gateway.config import digest_of_key
from gateway.ids import route_of
from gateway.model import Directory, rendezvous
from tests.values import DIRECTORY, SETTINGS, config_of, unhurried

accounts = st.lists(st.from_regex(r"[a-z0-9]{1,8}", fullmatch=True), min_size=1, max_size=6, unique=True)


def renamed() -> Directory:
    """The same world after provider, account and tenant got new names and kept their ids."""
    main, side = SETTINGS["providers"]["main"], SETTINGS["providers"]["side"]
    new = {**main, "id": "main", "accounts": {"new": {**main["accounts"]["acme"], "id": "acme"}}}
    tenants = {"alicia": {"id": "alice-of-old", "keys": ["${ALICE}"]}, "robert": {"id": "bob", "keys": ["${BOB}"]}}
    return Directory(config_of({"providers": {"new": new, "side": side}, "tenants": tenants}))


CHANGING = {"Orders", "Record", "Body", "Event", "HostedCalling", "_Call", "_File", "_HostedStep", "_Node", "_Part"}
CHANGING |= {"_Plan", "_Spent", "_Use", "Sums"}
"""What collects on its way or for the process, or is built before the first request."""


def test_what_phases_pass_to_each_other_is_frozen() -> None:
    """Every attempt starts from the same untouched request."""
    modules = [info.name for info in pkgutil.walk_packages(gateway.__path__, "gateway.") if "demo" not in info.name]
    changing = {
        value.__name__
        for module in modules
        for value in vars(importlib.import_module(module)).values()
        if isinstance(value, type) and dataclasses.is_dataclass(value) and value.__module__ in modules
        if not value.__dataclass_params__.frozen and not issubclass(value, Exception)  # type: ignore[attr-defined]
    }
    assert changing == CHANGING


def test_a_target_is_found_by_the_route_in_an_id() -> None:
    for provider, account in (("main", "acme"), ("main", "bolt"), ("side", "acme")):
        found = DIRECTORY.targets[route_of(provider, account)]
        assert (found.provider.name, found.account.name) == (provider, account)
    assert len(DIRECTORY.targets) == 3


def test_renaming_breaks_no_id() -> None:
    found = renamed().targets[route_of("main", "acme")]
    assert (found.provider.name, found.account.name) == ("new", "new")
    assert (found.provider.id, found.account.id) == ("main", "acme")
    assert [tenant.id for tenant in renamed().tenants.values()] == ["alice-of-old", "bob"]


def test_an_account_is_as_configured() -> None:
    acme, bolt = (DIRECTORY.providers["main"].accounts[name] for name in ("acme", "bolt"))
    assert [(key.name, key.secret.reveal()) for key in acme.keys] == [("one", "sk-acme-one"), ("two", "sk-acme-two")]
    assert (acme.organization, acme.project, acme.owned_by, acme.raw_ids) == (
        "org-of-acme",
        "proj-of-acme",
        None,
        False,
    )
    assert (bolt.organization, bolt.owned_by, bolt.raw_ids) == (None, "carol", True)


def test_an_owner_is_known_by_its_id() -> None:
    settings = {**SETTINGS, "tenants": {**SETTINGS["tenants"], "carol": {"id": "c-1", "keys": ["${CAROL}"]}}}
    assert Directory(config_of(settings)).providers["main"].accounts["bolt"].owned_by == "c-1"


def test_a_base_url_has_no_slash_at_its_end() -> None:
    assert DIRECTORY.providers["main"].base_url == "https://main.example/v1"
    assert DIRECTORY.providers["side"].base_url == "https://api.aimlapi.com"  # the vendor's own


@pytest.mark.parametrize(
    ("tenant", "providers", "default"),
    [
        ("alice", {"main", "side"}, "main"),
        ("bob", {"main"}, "main"),  # the only one
        ("dave", {"main", "side"}, None),
        ("erin", {"side"}, "side"),
    ],
)
def test_a_tenant_has_its_providers_and_perhaps_a_default(
    tenant: str, providers: set[str], default: str | None
) -> None:
    found = DIRECTORY.tenants[tenant]
    assert (set(found.providers), found.default_provider) == (providers, default)


def test_a_caller_is_found_by_the_digest_of_its_key() -> None:
    caller = DIRECTORY.caller(digest_of_key("alice-key"))
    assert caller is not None
    assert caller.tenant.name == "alice"
    assert digest_of_key("alice-key").startswith(f"sha256:{caller.key_fingerprint}")
    assert len(caller.key_fingerprint) == 12
    assert DIRECTORY.caller(digest_of_key("alice-key ")) is None


def test_secrets_do_not_show() -> None:
    shown = repr(list(DIRECTORY.targets.values())) + repr(DIRECTORY.tenants) + str(DIRECTORY.providers)
    assert "sk-" not in shown
    assert "alice-key" not in shown


@unhurried
@given(st.text(), accounts, st.randoms())
def test_a_home_is_stable_whatever_the_order(tenant: str, names: list[str], random: object) -> None:
    home = rendezvous(tenant, names)
    assert home in names
    assert rendezvous(tenant, sorted(names)) == rendezvous(tenant, names[::-1]) == home


@unhurried
@given(st.text(), accounts, st.from_regex(r"[a-z0-9]{9}", fullmatch=True))
def test_a_tenant_moves_only_to_the_account_that_joins(tenant: str, names: list[str], joining: str) -> None:
    """And comes back when that one leaves."""
    assert rendezvous(tenant, [*names, joining]) in (rendezvous(tenant, names), joining)


def test_homes_are_spread_evenly_and_few_tenants_move() -> None:
    tenants = [f"tenant-{number}" for number in range(3000)]
    before = {tenant: rendezvous(tenant, ["a", "b", "c"]) for tenant in tenants}
    after = {tenant: rendezvous(tenant, ["a", "b", "c", "d"]) for tenant in tenants}
    assert all(900 < count < 1100 for count in Counter(before.values()).values())
    moved = [tenant for tenant in tenants if before[tenant] != after[tenant]]
    assert 650 < len(moved) < 850  # a quarter


def test_a_home_stays_as_it_is() -> None:
    """The hash decides while the store is away: it must agree with what was remembered."""
    assert [rendezvous(tenant, ["acme", "bolt", "core"]) for tenant in ("alice", "bob", "carol", "dave")] == [
        "bolt",
        "core",
        "core",
        "core",
    ]
