"""Issued keys: kept as digests, known everywhere, revoked for good."""

from __future__ import annotations

import re

import pytest
from redis import Redis

from gateway.config import Allowance, digest_of_key
from gateway.model import UNRESTRICTED, Scope
from gateway.store.connection import StoreAway
from gateway.store.tenant_keys import IssuedKey
from tests.conftest import eventually
from tests.store.conftest import Clock, OpenReplica, Replica
from tests.store.gate import Gate

NOW = Clock().now
DAY_S = 86_400
SCOPE = Scope(
    is_read_only=True,
    may_delete=False,
    operations=("get_*", "list_*"),
    providers=frozenset({"p"}),
    models=frozenset({"gpt-4o", "m"}),
)


def known(replica: Replica, key: IssuedKey, after_s: float = 0) -> IssuedKey | None:
    return replica.shared.tenant_keys.get(key.digest, NOW + after_s)


async def test_a_key_is_known_to_all_as_it_was_issued(open_replica: OpenReplica) -> None:
    a, b = await open_replica(is_started=False), await open_replica(is_started=False)
    limits = Allowance(concurrent_streams=3)
    secret, key = await a.shared.tenant_keys.issue("t", name="ci", expires_s=NOW + 60, scope=SCOPE, allowance=limits)
    assert (key.tenant, key.name, key.created_s, key.expires_s) == ("t", "ci", NOW, NOW + 60)
    assert (key.scope, key.allowance, key.digest) == (SCOPE, limits, digest_of_key(secret))
    assert key.digest == f"sha256:{key.fingerprint}{key.digest[19:]}"
    await b.shared.load()
    assert known(a, key) == known(b, key) == key


async def test_a_key_is_long_random_and_plain(open_replica: OpenReplica) -> None:
    a = await open_replica(is_started=False)
    secrets = {(await a.shared.tenant_keys.issue("t"))[0] for _ in range(50)}
    assert len(secrets) == 50
    assert all(re.fullmatch(r"tgk_[A-Za-z0-9]{40}", secret) for secret in secrets)  # 40 · log2(62) = 238 bits
    assert len(set("".join(secrets))) == len("_") + 62


async def test_the_store_never_sees_a_key(open_replica: OpenReplica, plain: Redis, prefix: str) -> None:
    a = await open_replica(is_started=False)
    secret, key = await a.shared.tenant_keys.issue("t", name="ci")
    stored = plain.hgetall(f"{prefix}:tenant_keys")
    assert key.digest.encode() in stored
    assert secret.encode() not in b" ".join((*stored, *stored.values()))
    assert secret.removeprefix("tgk_") not in repr(key)


async def test_a_key_expires_to_the_second_and_is_shown_for_a_month(open_replica: OpenReplica) -> None:
    a = await open_replica(is_started=False)
    _, key = await a.shared.tenant_keys.issue("t", expires_s=NOW + 60)
    assert [key.state(NOW + after) for after in (0, 59.9, 60)] == ["live", "live", "expired"]
    assert known(a, key, 60 + 29 * DAY_S) == key
    assert known(a, key, 60 + 30 * DAY_S) is None


async def test_a_revocation_is_known_to_all_and_stays(open_replica: OpenReplica, plain: Redis, prefix: str) -> None:
    a, b = await open_replica(), await open_replica()
    _, key = await a.shared.tenant_keys.issue("t", scope=SCOPE)
    await b.shared.load()
    a.clock.now += 5
    revoked = a.shared.tenant_keys.revoke(key, "leaked")
    assert (revoked.revoked_s, revoked.reason, revoked.state(NOW)) == (NOW + 5, "leaked", "revoked")
    assert known(a, key) == revoked
    await a.shared.flush()
    await b.shared.load()
    assert known(b, key) == revoked
    years = await open_replica(is_started=False)
    years.clock.now += 3650 * DAY_S
    await years.shared.load()
    assert known(years, key, 3650 * DAY_S) == revoked
    assert plain.ttl(f"{prefix}:tenant_keys") == -1


async def test_a_store_from_before_a_revocation_is_told_of_it(
    open_replica: OpenReplica, plain: Redis, prefix: str
) -> None:
    """A backup that was restored, or a failover to a copy that was behind."""
    a = await open_replica(is_started=False)
    _, key = await a.shared.tenant_keys.issue("t")
    before = plain.hgetall(f"{prefix}:tenant_keys")
    a.shared.tenant_keys.revoke(key, "leaked")
    await a.shared.flush()
    plain.delete(f"{prefix}:tenant_keys")
    plain.hset(f"{prefix}:tenant_keys", mapping=before)
    await a.shared.load()
    b = await open_replica(is_started=False)
    await b.shared.load()
    found = known(b, key)
    assert found is not None
    assert found.state(NOW) == "revoked"


async def test_a_restriction_that_this_release_does_not_know_makes_the_key_unknown(
    open_replica: OpenReplica, plain: Redis, prefix: str
) -> None:
    """Of another release: a key must not do more than was said."""
    a = await open_replica(is_started=False)
    _, key = await a.shared.tenant_keys.issue("t")
    stored = plain.hget(f"{prefix}:tenant_keys", key.digest).decode()
    plain.hset(f"{prefix}:tenant_keys", key.digest, stored.replace('"scope": {', '"scope": {"only_on": "monday", '))
    b = await open_replica(is_started=False)
    await b.shared.load()
    assert known(b, key) is None
    plain.hset(f"{prefix}:tenant_keys", key.digest, stored)
    c = await open_replica(is_started=False)
    await c.shared.load()
    assert known(c, key) == key
    assert key.scope == UNRESTRICTED


async def test_without_the_store_none_is_issued(open_replica: OpenReplica) -> None:
    a = await open_replica("unix:///nowhere", is_started=False, timeout_s=0.2)
    with pytest.raises(StoreAway):
        await a.shared.tenant_keys.issue("t")
    assert a.shared.tenant_keys.all(NOW) == []


async def test_keys_are_listed_by_age(open_replica: OpenReplica) -> None:
    a = await open_replica(is_started=False)
    for name in ("one", "two", "three"):
        await a.shared.tenant_keys.issue("t", name=name)
        a.clock.now += 1
    assert [key.name for key in a.shared.tenant_keys.all(NOW)] == ["one", "two", "three"]


@pytest.mark.long
async def test_of_ten_thousand_keys_one_change_is_one_message(open_replica: OpenReplica, gate: Gate) -> None:
    """No replica reads them all again for it; only who starts does, once."""
    a = await open_replica()
    for number in range(10_000):
        await a.shared.tenant_keys.issue(f"t{number % 100}", name=f"k{number}", scope=SCOPE)
    b = await open_replica(gate.url)
    assert len(b.shared.tenant_keys.all(NOW)) == 10_000
    reads = [command for command in gate.commands if command[0] == b"HGETALL"]
    assert len(reads) == 1
    for key in a.shared.tenant_keys.all(NOW)[:20]:
        a.shared.tenant_keys.revoke(key, "leaked")
        await a.shared.flush()
        await eventually(lambda key=key: known(b, key).reason == "leaked", within_s=1)  # type: ignore[misc, union-attr]
        await b.shared.load()
    assert [command for command in gate.commands if command[0] == b"HGETALL"] == reads
