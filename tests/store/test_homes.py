"""Where tenants create things: chosen once, remembered, and never another tenant's account."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.config import Config
from gateway.model import Directory, Provider, Tenant
from gateway.store.connection import Store, StoreAway
from gateway.store.homes import Homes
from tests.conftest import Events, load_settings


def config(folder: Path, accounts: dict[str, str | None], tenants: dict[str, dict[str, Any]]) -> Config:
    """One provider with these accounts (name → owner)."""
    names = list(accounts)
    settings = {
        "providers": {
            "p": {
                "vendor": "openai",
                "accounts": {
                    name: {"keys": {"k": f"${{KEY_{names.index(name)}}}"}} | ({"owned_by": owner} if owner else {})
                    for name, owner in accounts.items()
                },
            }
        },
        "tenants": {name: {"keys": [f"${{{name.upper()}}}"], **given} for name, given in tenants.items()},
    }
    environ = {f"KEY_{place}": f"secret-{place}" for place in range(len(names))}
    return load_settings(settings, folder, environ | {name.upper(): f"key of {name}" for name in tenants})


def homes_of(store: Store, loaded: Config) -> tuple[Homes, Directory]:
    directory = Directory(loaded)
    return Homes(store, directory), directory


def where(homes: Homes, directory: Directory) -> dict[str, str]:
    provider = directory.providers["p"]
    return {name: homes(tenant, provider).name for name, tenant in directory.tenants.items()}


MANY: dict[str, dict[str, Any]] = {f"t{number}": {} for number in range(40)}


async def test_tenants_are_spread_and_stay_when_accounts_join(store: Store, tmp_path: Path, events: Events) -> None:
    first, directory = homes_of(store, config(tmp_path, {"a": None, "b": None}, MANY))
    await first.settle()
    before = where(first, directory)
    assert set(before.values()) == {"a", "b"}
    chosen = {(event["tenant"], event["account"]) for event in events.named("home.chosen")}
    assert chosen == set(before.items())

    grown = config(tmp_path, {"a": None, "b": None, "c": None, "d": None}, MANY | {"new": {}})
    second, directory = homes_of(store, grown)
    assert {name: home for name, home in where(second, directory).items() if name != "new"} != before
    await second.settle()
    assert {name: home for name, home in where(second, directory).items() if name != "new"} == before
    assert len(events.named("home.chosen")) == len(MANY) + 1


async def test_who_chooses_second_takes_what_was_chosen_first(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replicas whose configurations differ meet a new tenant at one time: neither had read what the other chose."""
    first, directory = homes_of(store, config(tmp_path, {"a": None, "b": None}, MANY))
    second, grown = homes_of(store, config(tmp_path, {"a": None, "b": None, "c": None}, MANY))
    assert where(first, directory) != where(second, grown)

    async def read_before(tenants: list[Tenant], provider: Provider) -> list[None]:
        return [None] * len(tenants)

    monkeypatch.setattr(second, "_remembered", read_before)
    await first.settle()
    await second.settle()
    assert where(first, directory) == where(second, grown)


async def test_tenants_that_come_later_are_settled_alone(store: Store, tmp_path: Path, events: Events) -> None:
    accounts: dict[str, str | None] = {"a": None, "b": None}
    few = config(tmp_path, accounts, {"t1": {}, "t2": {}})
    directory = Directory(config(tmp_path, accounts, {"t1": {}, "t2": {}, "t3": {}}))
    tenants = dict(Directory(few).tenants)
    homes = Homes(store, directory, lambda: tenants)
    await homes.settle_new()
    tenants = dict(directory.tenants)
    events.clear()
    await homes.settle_new()
    await homes.settle_new()
    assert [event["tenant"] for event in events.named("home.chosen")] == ["t3"]


async def test_the_configuration_decides_over_memory_and_is_not_remembered(store: Store, tmp_path: Path) -> None:
    accounts: dict[str, str | None] = {"a": None, "b": None}
    hashed, directory = homes_of(store, config(tmp_path, accounts, {"t": {}}))
    await hashed.settle()
    (chosen,) = where(hashed, directory).values()
    other = "b" if chosen == "a" else "a"
    told, directory = homes_of(store, config(tmp_path, accounts, {"t": {"home_accounts": {"p": other}}}))
    assert where(told, directory) == {"t": other}
    await told.settle()
    assert where(told, directory) == {"t": other}
    again, directory = homes_of(store, config(tmp_path, accounts, {"t": {}}))
    await again.settle()
    assert where(again, directory) == {"t": chosen}


async def test_an_account_of_ones_own_comes_first_and_anothers_is_never_a_home(store: Store, tmp_path: Path) -> None:
    accounts = {"a": None, "b": "owner", "c": None}
    homes, directory = homes_of(store, config(tmp_path, accounts, MANY | {"owner": {}}))
    for _ in range(2):
        found = where(homes, directory)
        assert found.pop("owner") == "b"
        assert set(found.values()) == {"a", "c"}
        await homes.settle()


async def test_a_home_that_is_gone_or_given_away_is_chosen_anew(store: Store, tmp_path: Path) -> None:
    homes, directory = homes_of(store, config(tmp_path, {"a": None}, {"t": {}, "o": {}}))
    await homes.settle()
    assert where(homes, directory) == {"t": "a", "o": "a"}
    homes, directory = homes_of(store, config(tmp_path, {"a": "o", "b": None}, {"t": {}, "o": {}}))
    await homes.settle()
    assert where(homes, directory) == {"t": "b", "o": "a"}
    homes, directory = homes_of(store, config(tmp_path, {"c": None}, {"t": {}, "o": {}}))
    await homes.settle()
    assert where(homes, directory) == {"t": "c", "o": "c"}


async def test_without_a_store_hashing_decides_and_every_process_alike(tmp_path: Path) -> None:
    away = Store(f"unix://{tmp_path}/nobody", prefix="p", timeout_s=1)
    loaded = config(tmp_path, {"a": None, "b": None, "c": None}, MANY)
    homes, directory = homes_of(away, loaded)
    with pytest.raises(StoreAway):
        await homes.settle()
    twin, again = homes_of(away, loaded)
    assert where(homes, directory) == where(twin, again)
    await away.close()
