"""`tenants`: made beside a gateway that runs, and listed with those of the configuration."""

from __future__ import annotations

import time
from typing import Any

from tests.commands.conftest import Scene, write_config
from tests.conftest import Events, StartVendor, eventually


async def rows(scene: Scene) -> dict[str, Any]:
    return {row["tenant"]: row for row in (await scene.run("tenants", "list", "--json")).rows}


async def test_a_tenant_is_made_and_known_within_a_second(scene: Scene, events: Events) -> None:
    options = ("--provider", "openai", "--default-provider", "openai", "--tokens-per-day", "1000")
    (row,) = (await scene.run("tenants", "create", "shop", *options, "--json")).rows
    assert row["id"].startswith("shop.")
    expected = {"tenant": "shop", "from": "store", "providers": "openai", "keys": 0, "limits": "tokens_per_day 1000"}
    assert row == {**expected, "id": row["id"], "state": "enabled", "since": None, "reason": None}
    await eventually(lambda: row["id"] in scene.shared.tenants.by_id(), within_s=1)
    stored = scene.shared.tenants.by_id()[row["id"]]
    assert (stored.providers, stored.default_provider, stored.allowance.tokens_per_day) == ({"openai"}, "openai", 1000)
    await eventually(lambda: len(events.named("operator.acted")) == 1, within_s=2)
    (act,) = events.named("operator.acted")
    assert (act["act"], act["kind"], act["name"]) == ("create", "tenant", "shop")


async def test_all_are_listed_with_where_they_come_from_and_their_live_keys(scene: Scene) -> None:
    shop = await scene.shared.tenants.add("shop")
    assert shop is not None
    for tenant in (shop.id, "bob"):
        for expires_s in (None, time.time() - 1):
            await scene.shared.tenant_keys.issue(tenant, expires_s=expires_s)
    _, revoked = await scene.shared.tenant_keys.issue("bob")
    scene.shared.tenant_keys.revoke(revoked, "x")
    await scene.shared.flush()
    found = await rows(scene)
    assert {name: (row["from"], row["id"], row["keys"]) for name, row in found.items()} == {
        "alice": ("config", "alice", 1),
        "bob": ("config", "bob", 2),
        "carol": ("config", "carol", 1),
        "shop": ("store", shop.id, 1),
    }


async def test_one_made_here_is_disabled_by_name_or_id(scene: Scene) -> None:
    shop = await scene.shared.tenants.add("shop")
    assert shop is not None
    await scene.run("tenants", "disable", "shop", "--reason", "unpaid")
    await eventually(lambda: scene.shared.switches.reason_of("tenant", shop.id) == "unpaid", within_s=1)
    await scene.run("tenants", "enable", shop.id)
    await eventually(lambda: scene.shared.switches.reason_of("tenant", shop.id) is None, within_s=1)


async def test_a_name_or_id_is_never_given_twice(scene: Scene) -> None:
    """Not even after it was disabled: ids that were issued to it would be the new one's."""
    (row,) = (await scene.run("tenants", "create", "shop", "--json")).rows
    for name in ("shop", "alice", row["id"]):
        ended = await scene.run("tenants", "create", name, expect=2)
        assert ended.err == (
            f"threads-gateway: there is a tenant '{name}' already; names and ids are never given twice\n"
        )


async def test_a_tenant_that_could_do_nothing_is_not_made(scene: Scene) -> None:
    ended = await scene.run("tenants", "create", "shop", "--provider", "nowhere", expect=2)
    assert ended.err == "threads-gateway: no provider is named 'nowhere'; there are: openai\n"
    assert scene.shared.tenants.by_id() == {}


async def test_without_a_gateway_none_is_made(start_vendor: StartVendor, tmp_path: Any) -> None:
    shell = write_config(tmp_path, await start_vendor("openai"))
    for words in (("tenants", "create", "shop"), ("tenant-keys", "create", "alice")):
        ended = await shell(*words, expect=1)
        assert ended.err.startswith("threads-gateway: no gateway runs on store.data_dir")
        assert ended.out == ""
