"""Who may call: of the configuration and made at run time, and what of it each key may do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest

from gateway.callers import Callers
from gateway.config import Allowance, digest_of_key
from gateway.model import Caller, Directory, Scope, Tenant
from gateway.store.connection import Store
from gateway.store.tenant_keys import IssuedKeys
from gateway.store.tenants import StoredTenant, StoredTenants
from tests.conftest import Events
from tests.store.conftest import Clock
from tests.values import SETTINGS, config_of

NOW = Clock().now
NO_KEYS = ["sha256:" + "0" * 64]
_numbers = count()


@dataclass
class World:
    """One replica's knowledge, which it has from the store at `settle`."""

    directory: Directory
    tenants: StoredTenants
    keys: IssuedKeys
    clock: Clock
    callers: Callers

    async def settle(self) -> None:
        await self.tenants.mirror.settle()
        await self.keys.mirror.settle()

    async def made(self, name: str = "shop", **settings: Any) -> StoredTenant:
        tenant = await self.tenants.add(name, **settings)
        assert tenant is not None
        return tenant

    async def issue(self, tenant: str, **settings: Any) -> str:
        """The digest of a new key."""
        return (await self.keys.issue(tenant, **settings))[1].digest

    def caller(self, digest: str) -> Caller:
        found = self.callers(digest)
        assert isinstance(found, Caller), found
        return found

    def tenant(self, tenant_id: str) -> Tenant:
        return self.callers.tenants()[tenant_id]

    def configure(self, **changes: Any) -> None:
        """Another configuration is read."""
        self.directory.update(config_of({**SETTINGS, **changes}))


OpenWorld = Callable[[], Awaitable[World]]


@pytest.fixture
async def store(valkey: str) -> AsyncIterator[Store]:
    opened = Store(valkey, prefix=f"callers-test{next(_numbers)}", timeout_s=5)
    yield opened
    await opened.close()


@pytest.fixture
async def open_world(store: Store) -> OpenWorld:
    async def open_one() -> World:
        clock, directory = Clock(), Directory(config_of(SETTINGS))
        tenants, keys = StoredTenants(store, clock=clock), IssuedKeys(store, clock=clock)
        world = World(directory, tenants, keys, clock, Callers(directory, tenants, keys, clock=clock))
        await world.settle()
        return world

    return open_one


@pytest.fixture
async def world(open_world: OpenWorld) -> World:
    return await open_world()


async def test_the_keys_of_the_configuration_count_whatever_the_store_knows(world: World, store: Store) -> None:
    digest = digest_of_key("alice-key")
    assert world.caller(digest) is world.directory.caller(digest)
    cold = Callers(world.directory, StoredTenants(store), IssuedKeys(store))
    assert cold(digest) is world.directory.caller(digest)


async def test_an_issued_key_is_its_tenants_with_its_own_limits(world: World) -> None:
    """Of a tenant of the configuration and of one made at run time alike."""
    shop = await world.made(allowance=Allowance(tokens_per_day=5))
    for tenant_id, name in (("alice-of-old", "alice"), (shop.id, "shop")):
        digest = await world.issue(tenant_id, allowance=Allowance(concurrent_requests=2))
        caller = world.caller(digest)
        assert (caller.tenant.id, caller.tenant.name) == (tenant_id, name)
        assert caller.key_fingerprint == digest.removeprefix("sha256:")[:12]
        assert caller.allowance == Allowance(concurrent_requests=2)
        assert world.caller(digest) is caller, "made once"
    assert world.tenant(shop.id).allowance == Allowance(tokens_per_day=5)


async def test_a_tenant_may_have_several_live_keys(world: World) -> None:
    digests = [await world.issue("bob") for _ in range(3)]
    assert {world.caller(digest).tenant.name for digest in [*digests, digest_of_key("bob-key")]} == {"bob"}


async def test_an_ended_key_says_how_it_ended(world: World) -> None:
    expired, revoked = await world.issue("bob", expires_s=NOW + 10), await world.issue("bob")
    assert world.caller(expired) != world.caller(revoked)
    key = world.keys.get(revoked, NOW)
    assert key is not None
    world.keys.revoke(key, "leaked")
    world.clock.now += 10
    assert (world.callers(expired), world.callers(revoked)) == ("expired", "revoked")


async def test_an_unknown_key_is_unsure_while_the_mirror_is_not_fresh(open_world: OpenWorld, world: World) -> None:
    other = await open_world()
    late = await other.issue("bob")
    assert world.callers(late) == "unknown"
    world.clock.now += 2.1
    assert world.callers(late) == "unsure"
    await world.keys.mirror.settle()
    assert world.caller(late).tenant.name == "bob"
    assert world.callers("sha256:00") == "unsure", "its tenant's mirror may be behind as well"
    await world.settle()
    assert world.callers("sha256:00") == "unknown"


async def test_a_key_whose_tenant_is_gone_from_the_configuration_opens_nothing(world: World) -> None:
    digest = await world.issue("dave")
    assert world.caller(digest).tenant.name == "dave"
    world.configure(tenants={"alice": SETTINGS["tenants"]["alice"], "carol": SETTINGS["tenants"]["carol"]})
    assert world.callers(digest) == "unknown"
    world.configure()
    assert world.caller(digest).tenant.name == "dave"


@pytest.mark.parametrize(
    ("made", "providers", "default"),
    [
        ({}, {"main", "side"}, None),
        ({"default_provider": "side"}, {"main", "side"}, "side"),
        ({"providers": frozenset({"main"})}, {"main"}, "main"),  # the only one is the default
        ({"providers": frozenset({"main", "gone"}), "default_provider": "gone"}, {"main"}, "main"),
        ({"providers": frozenset({"gone"})}, set(), None),
    ],
)
async def test_a_tenant_made_at_run_time_has_its_providers(
    made: dict[str, Any], providers: set[str], default: str | None, world: World
) -> None:
    tenant = world.tenant((await world.made(**made)).id)
    assert (set(tenant.providers), tenant.default_provider) == (providers, default)


async def test_a_provider_whose_accounts_are_all_anothers_is_no_provider_of_it(world: World) -> None:
    """There it could have no home."""
    shop = await world.made()
    main = SETTINGS["providers"]["main"]
    world.configure(
        providers={**SETTINGS["providers"], "main": {**main, "accounts": {"bolt": main["accounts"]["bolt"]}}},
        tenants={name: SETTINGS["tenants"][name] for name in ("carol", "erin")},
    )
    assert world.tenant(shop.id).providers == {"side"}


async def test_providers_are_known_by_their_ids(world: World) -> None:
    """A new name changes nothing, and another provider under the old name gets nobody's requests."""
    shop = await world.made(providers=frozenset({"side"}))
    digest = await world.issue("dave", scope=Scope(providers=frozenset({"side"})))
    side = SETTINGS["providers"]["side"]
    other = {"vendor": "openai", "id": "other", "base_url": "https://x.example", "accounts": side["accounts"]}
    world.configure(
        providers={"main": SETTINGS["providers"]["main"], "far": {**side, "id": "side"}, "side": other},
        tenants={name: SETTINGS["tenants"][name] for name in ("carol", "dave")},
    )
    assert world.tenant(shop.id).providers == {"far"}
    assert world.caller(digest).tenant.providers == {"far"}


@pytest.mark.parametrize(
    ("tenant", "allowed", "providers", "default"),
    [
        ("alice-of-old", {"main"}, {"main"}, "main"),
        ("alice-of-old", {"side"}, {"side"}, "side"),  # not the tenant's default, but all that is left
        ("alice-of-old", {"main", "side"}, {"main", "side"}, "main"),
        ("dave", {"main", "side"}, {"main", "side"}, None),
        ("bob", {"side"}, set(), None),  # never more than the tenant's
        ("bob", set(), set(), None),
    ],
)
async def test_a_scope_narrows_the_providers_of_the_tenant(
    tenant: str, allowed: set[str], providers: set[str], default: str | None, world: World
) -> None:
    scope = Scope(providers=frozenset(allowed))
    caller = world.caller(await world.issue(tenant, scope=scope))
    assert (set(caller.tenant.providers), caller.tenant.default_provider) == (providers, default)
    assert (caller.tenant.id, caller.scope) == (tenant, scope)


async def test_another_configuration_counts_for_issued_keys_at_once(world: World) -> None:
    digest = await world.issue("bob")
    world.configure(
        tenants={
            **SETTINGS["tenants"],
            "robert": {"id": "bob", "keys": ["${BOB}"]},
            "bob": {"keys": NO_KEYS, "id": "b2"},
        }
    )
    caller = world.caller(digest)
    assert (caller.tenant.name, caller.tenant.id, set(caller.tenant.providers)) == ("robert", "bob", {"main", "side"})


async def test_a_configuration_that_names_the_id_takes_the_tenant_over_and_says_so(
    world: World, events: Events
) -> None:
    """So a tenant moves from the store into the file, and its keys and ids go on."""
    shop = await world.made(allowance=Allowance(tokens_per_day=5))
    digest = await world.issue(shop.id)
    world.configure(tenants={**SETTINGS["tenants"], "store": {"id": shop.id, "keys": NO_KEYS}})
    tenant = world.caller(digest).tenant
    assert (tenant.id, tenant.name, tenant.allowance) == (shop.id, "store", Allowance())
    (told,) = events.named("tenant.conflict")
    assert (told["level"], told["tenant"], told["id"]) == ("warning", "shop", shop.id)
    assert told["why"] == "the configuration has its id: the configuration's settings count"
    world.configure()
    assert world.caller(digest).tenant.name == "shop"


async def test_a_configuration_that_takes_only_the_name_gets_another_tenant(world: World, events: Events) -> None:
    shop = await world.made()
    digest = await world.issue(shop.id)
    world.configure(tenants={**SETTINGS["tenants"], "shop": {"keys": NO_KEYS}})
    tenants = {tenant.id: tenant.name for tenant in world.callers.tenants().values()}
    assert (tenants["shop"], tenants[shop.id]) == ("shop", shop.id)
    assert world.caller(digest).tenant.id == shop.id
    assert [event["why"] for event in events.named("tenant.conflict")] == [
        "the configuration has its name: it goes on under its id"
    ]


async def test_tenants_are_the_same_values_until_they_change(world: World) -> None:
    one = await world.made("one")
    before = world.callers.tenants()
    assert world.callers.tenants() is before
    await world.made("two")
    after = world.callers.tenants()
    assert after is not before
    assert after[one.id] is before[one.id]
    assert len(after) == len(SETTINGS["tenants"]) + 2
