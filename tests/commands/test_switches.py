"""`providers` and `tenants`: disabled and enabled beside a gateway that runs."""

from __future__ import annotations

import time

import pytest

from gateway.store.key_states import KeyState
from tests.commands.conftest import Scene
from tests.conftest import Events, eventually


@pytest.mark.parametrize(
    ("command", "kind", "name"), [("providers", "provider", "openai"), ("tenants", "tenant", "bob")]
)
async def test_what_is_disabled_is_so_within_a_second_until_it_is_enabled(
    command: str, kind: str, name: str, scene: Scene, events: Events
) -> None:
    def reason() -> str | None:
        return scene.shared.switches.reason_of(kind, name)  # type: ignore[arg-type]

    (row,) = (await scene.run(command, "disable", name, "--reason", "burns", "--json")).rows
    assert (row[kind], row["state"], row["reason"]) == (name, "disabled", "burns")
    await eventually(lambda: reason() == "burns", within_s=1)
    assert "disabled" in (await scene.run(command, "list")).out
    await scene.run(command, "enable", name)
    await eventually(lambda: reason() is None, within_s=1)
    await eventually(lambda: len(events.named("operator.acted")) == 2, within_s=2)
    acts = events.named("operator.acted")
    assert [(act["act"], act["kind"], act["name"], act["reason"]) for act in acts] == [
        ("disable", kind, name, "burns"),
        ("enable", kind, name, ""),
    ]


async def test_providers_are_listed_with_their_keys(scene: Scene) -> None:
    scene.shared.keys.put(scene.place("acme", "one"), KeyState("dead", time.time(), None, "invalid_api_key"))
    await scene.shared.flush()
    (row,) = (await scene.run("providers", "list", "--json")).rows
    expected = {"provider": "openai", "vendor": "openai", "accounts": 2, "keys": 3, "keys_ready": 2}
    assert row == {**expected, "state": "enabled", "since": None, "reason": None}


async def test_tenants_are_listed(scene: Scene) -> None:
    rows = (await scene.run("tenants", "list", "--json")).rows
    assert [(row["tenant"], row["state"]) for row in rows] == [(name, "enabled") for name in ("alice", "bob", "carol")]


async def test_a_name_that_nobody_has_is_told_with_those_there_are(scene: Scene) -> None:
    ended = await scene.run("tenants", "enable", "dave", expect=2)
    assert ended.err == "threads-gateway: no tenant is named 'dave'; there are: alice, bob, carol\n"
    ended = await scene.run("providers", "disable", "x", "--reason", "y", expect=2)
    assert ended.err == "threads-gateway: no provider is named 'x'; there are: openai\n"
