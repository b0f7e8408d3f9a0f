"""`tenant-keys`: issued, listed and revoked beside a gateway that runs."""

from __future__ import annotations

import re
import time
from typing import Any

from gateway.config import digest_of_key
from gateway.model import Scope
from gateway.store.tenant_keys import IssuedKey
from tests.commands.conftest import Scene
from tests.conftest import TENANT_KEYS, Events, eventually

DAY_S = 86_400


async def create(scene: Scene, *words: str) -> Any:
    (row,) = (await scene.run("tenant-keys", "create", *words, "--json")).rows
    return row


def known(scene: Scene) -> list[IssuedKey]:
    return scene.shared.tenant_keys.all(time.time())


async def test_a_key_is_shown_once_and_works_within_a_second(scene: Scene, events: Events) -> None:
    """In the table too. Neither the list nor the log has it."""
    ended = await scene.run("tenant-keys", "create", "alice", "--name", "ci")
    (secret,) = re.findall(r"tgk_[A-Za-z0-9]{40}", ended.out)
    await eventually(lambda: len(known(scene)) == 1, within_s=1)
    (key,) = known(scene)
    assert (key.digest, key.tenant, key.name) == (digest_of_key(secret), "alice", "ci")
    listed = await scene.run("tenant-keys", "list")
    assert key.fingerprint in listed.out
    assert secret not in listed.out + listed.err
    await eventually(lambda: len(events.named("operator.acted")) == 1, within_s=2)
    (act,) = events.named("operator.acted")
    assert (act["act"], act["kind"], act["name"]) == ("create", "tenant_key", f"alice/ci/{key.fingerprint}")
    assert secret not in str(events)


async def test_every_restriction_is_kept_and_shown(scene: Scene) -> None:
    row = await create(
        scene,
        *("alice", "--read-only", "--no-delete", "--operation", "get_*", "--operation", "list_runs"),
        *("--provider", "openai", "--model", "gpt-4o", "--model", "small"),
        *("--requests-per-minute", "60", "--bytes-per-day", "5", "--expires-in", "90d"),
    )
    await eventually(lambda: len(known(scene)) == 1, within_s=1)
    (key,) = known(scene)
    assert key.scope == Scope(
        True, False, ("get_*", "list_runs"), frozenset({"openai"}), frozenset({"gpt-4o", "small"})
    )
    assert key.allowance.model_dump(exclude_none=True) == {"requests_per_minute": 60, "bytes_per_day": 5}
    assert key.expires_s is not None
    assert abs(key.expires_s - time.time() - 90 * DAY_S) < 60
    assert row["scope"] == ("read-only; no delete; operations get_*, list_runs; providers openai; models gpt-4o, small")
    assert row["limits"] == "requests_per_minute 60, bytes_per_day 5"


async def test_keys_of_the_configuration_are_listed_too(scene: Scene) -> None:
    made = await create(scene, "bob", "--expires-at", "2090-01-01T00:00:00Z")
    rows = (await scene.run("tenant-keys", "list", "--json")).rows
    fingerprints = {name: digest_of_key(key)[7:19] for name, key in TENANT_KEYS.items()}
    assert [(row["tenant"], row["fingerprint"], row["from"], row["state"]) for row in rows] == [
        *((name, fingerprint, "config", "live") for name, fingerprint in fingerprints.items()),
        ("bob", made["fingerprint"], "store", "live"),
    ]
    assert rows[-1]["expires"] == "2090-01-01T00:00:00Z"
    assert len({tuple(row) for row in rows}) == 1, "all rows have the same columns"
    only = (await scene.run("tenant-keys", "list", "--tenant", "bob", "--json")).rows
    assert [row["from"] for row in only] == ["config", "store"]


async def test_the_list_says_when_a_key_was_last_used(scene: Scene) -> None:
    row = await create(scene, "alice")
    for fingerprint in (row["fingerprint"], digest_of_key(TENANT_KEYS["bob"])[7:19]):
        scene.shared.last_use.note(fingerprint, tenant="bob")
    await scene.shared.flush()
    rows = (await scene.run("tenant-keys", "list", "--json")).rows
    assert [bool(row["last_used"]) for row in rows] == [False, True, False, True]


async def test_a_key_is_revoked_by_fingerprint_or_name(scene: Scene, events: Events) -> None:
    one, two = await create(scene, "alice"), await create(scene, "alice", "--name", "ci")
    for which in (one["fingerprint"], "ci"):
        (row,) = (await scene.run("tenant-keys", "revoke", which, "--reason", "leaked", "--json")).rows
        assert (row["state"], row["reason"]) == ("revoked", "leaked")
    await eventually(lambda: [key.reason for key in known(scene)] == ["leaked", "leaked"], within_s=1)
    assert [row["state"] for row in (await scene.run("tenant-keys", "list", "--json")).rows][3:] == ["revoked"] * 2
    await eventually(lambda: len(events.named("operator.acted")) == 4, within_s=2)
    act = events.named("operator.acted")[-1]
    assert (act["act"], act["name"], act["reason"]) == ("revoke", f"alice/ci/{two['fingerprint']}", "leaked")
    ended = await scene.run("tenant-keys", "revoke", "ci", "--reason", "again", expect=1)
    assert re.fullmatch(r"threads-gateway: key 'ci' was revoked at \S+Z\n", ended.err)


async def test_what_is_meant_must_be_clear(scene: Scene) -> None:
    one, two = await create(scene, "alice", "--name", "ci"), await create(scene, "bob", "--name", "ci")
    ended = await scene.run("tenant-keys", "revoke", "ci", "--reason", "x", expect=2)
    there = f"alice/{one['fingerprint']}, bob/{two['fingerprint']}"
    assert ended.err == f"threads-gateway: 2 keys have this name, say a fingerprint: {there}\n"
    (row,) = (await scene.run("tenant-keys", "revoke", "ci", "--tenant", "bob", "--reason", "x", "--json")).rows
    assert row["fingerprint"] == two["fingerprint"]


async def test_what_cannot_be_done_is_told(scene: Scene) -> None:
    configured = digest_of_key(TENANT_KEYS["alice"])[7:19]
    nobody = "no key has the fingerprint or the name 'nobody'; see tenant-keys list"
    no_operation = "--operation 'fetch_*' fits no operation; try 'get_*', create_run"
    for words, told in (
        (("create", "zoe"), "no tenant is named 'zoe'; there are: alice, bob, carol"),
        (("list", "--tenant", "zoe"), "no tenant is named 'zoe'; there are: alice, bob, carol"),
        (
            ("create", "alice", "--operation", "fetch_*"),
            no_operation,
        ),
        (("create", "alice", "--provider", "x"), "no provider is named 'x'; there are: openai"),
        (
            ("revoke", "nobody", "--reason", "x"),
            nobody,
        ),
        (("revoke", configured, "--reason", "x"), f"key '{configured}' stands in the configuration; take it out there"),
    ):
        assert (await scene.run("tenant-keys", *words, expect=2)).err == f"threads-gateway: {told}\n"
    assert known(scene) == []
