"""`tenants erase`, beside a gateway that runs. What it removes: `tests/conformance/test_erased_tenants.py`."""

from __future__ import annotations

import asyncio

import pytest

from gateway.audit.bodies import folder_of
from gateway.commands import erase_tenant
from tests.commands.conftest import Scene
from tests.conftest import Events, eventually


@pytest.fixture(autouse=True)
def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is under way in gateways is another test's."""
    monkeypatch.setattr(erase_tenant, "_HEARD_S", 0.0)


async def test_who_is_not_disabled_is_not_erased_by_accident(scene: Scene) -> None:
    ended = await scene.run("tenants", "erase", "bob", expect=1)
    assert ended.err == (
        "threads-gateway: tenant 'bob' is not disabled: disable it and let its requests end, then erase it;"
        " or say --yes\n"
    )
    assert scene.shared.switches.erased() == frozenset()
    await scene.run("tenants", "disable", "bob", "--reason", "leaves")
    await scene.run("tenants", "erase", "bob")
    await eventually(lambda: scene.shared.switches.erased() == {"bob"}, within_s=1)
    assert scene.shared.switches.reason_of("tenant", "bob") == "leaves"


async def test_one_made_at_run_time_stays_as_a_tombstone(scene: Scene, events: Events) -> None:
    """Disabled for ever, its keys revoked and without names, its name and id taken."""
    (row,) = (await scene.run("tenants", "create", "shop", "--json")).rows
    _, key = await scene.shared.tenant_keys.issue(row["id"], name="ann's")
    _, other = await scene.shared.tenant_keys.issue("bob", name="bob's")
    await scene.run("tenants", "erase", "shop", "--yes", "--reason", "asked for")
    await eventually(lambda: scene.shared.switches.is_erased(row["id"]), within_s=1)
    keys = {each.digest: each for each in scene.shared.tenant_keys.all(0.0)}
    erased = keys[key.digest]
    assert (erased.state(0.0), erased.name, erased.tenant) == ("revoked", "", row["id"])
    assert keys[other.digest] == other
    tenants = {each["id"]: each for each in (await scene.run("tenants", "list", "--json")).rows}
    assert (tenants[row["id"]]["state"], tenants[row["id"]]["reason"]) == ("erased", "asked for")
    for words in (
        ("tenants", "enable", "shop"),
        ("tenants", "disable", row["id"], "--reason", "x"),
        ("tenant-keys", "create", "shop"),
    ):
        ended = await scene.run(*words, expect=1)
        assert ended.err == "threads-gateway: tenant 'shop' was erased, which is for ever; make another one\n"
    await scene.run("tenants", "create", "shop", expect=2)
    await eventually(lambda: "erase" in [event["act"] for event in events.named("operator.acted")], within_s=2)
    [act] = [event for event in events.named("operator.acted") if event["act"] == "erase"]
    assert (act["kind"], act["name"], act["reason"]) == ("tenant", "shop", "asked for")


async def test_one_that_is_gone_from_the_configuration_goes_by_its_id(scene: Scene) -> None:
    ended = await scene.run("tenants", "erase", "dave", expect=2)
    assert ended.err == "threads-gateway: no tenant is named 'dave'; there are: alice, bob, carol\n"
    await scene.run("tenants", "erase", "dave", "--yes")
    await eventually(lambda: scene.shared.switches.is_erased("dave"), within_s=1)


async def test_bodies_in_its_own_folder_are_deleted_by_the_command(scene: Scene) -> None:
    """In which no gateway writes here; the folder stays, as a mark for one that starts."""
    own = scene.config.audit.dir / "bodies" / folder_of("bob")
    file = own / "0123-20261122T03.jsonl.zst"
    await asyncio.to_thread(own.mkdir, parents=True)
    await asyncio.to_thread(file.write_bytes, b"bodies")
    rows = (await scene.run("tenants", "erase", "bob", "--yes", "--json")).rows
    assert [row["removed"] for row in rows if "bodies" in row["what"]] == [1]
    assert own.is_dir()
    assert not file.exists()
