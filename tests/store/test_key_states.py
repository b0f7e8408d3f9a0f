"""The states of keys: what a person decided counts first, and nobody's words overwrite the other's."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from redis import Redis

from gateway.config import Secret
from gateway.model import Account, Key
from gateway.store.key_states import OPERATOR, KeyPlace, KeyState
from tests.store.conftest import Clock, OpenReplica

PLACE, OTHER = KeyPlace("aaaa", "0123456789ab"), KeyPlace("bbbb", "0123456789ab")
NOW = Clock().now
RESTING = KeyState("resting", since_s=NOW, until_s=NOW + 20, why="rate_limited")
DEAD = KeyState("dead", since_s=NOW, until_s=None, why="invalid_api_key")
DRAINING = KeyState("draining", since_s=NOW, until_s=None, why=OPERATOR, note="for Ann")


def test_a_key_is_known_by_its_account_and_a_fingerprint() -> None:
    account = Account("id", "name", "Xk4p", keys=())
    place = KeyPlace.of(account, Key("one", Secret("sk-planted", "nowhere")))
    assert place == ("Xk4p", hashlib.sha256(b"sk-planted").hexdigest()[:12])


async def test_a_key_rests_until_its_time_and_is_ready_then(open_replica: OpenReplica) -> None:
    keys = (await open_replica(is_started=False)).shared.keys
    assert keys.get(PLACE, NOW) is None
    keys.put(PLACE, RESTING)
    assert keys.get(PLACE, NOW + 19) == RESTING
    assert keys.get(PLACE, NOW + 20) is None
    assert keys.get(OTHER, NOW) is None
    assert keys.all(NOW) == {PLACE: RESTING}
    assert keys.all(NOW + 20) == {}


async def test_what_a_person_decided_stays_whatever_gateways_find(open_replica: OpenReplica) -> None:
    """Requests that are under way when a key is drained go on finding things out about it."""
    keys = (await open_replica(is_started=False)).shared.keys
    keys.put(PLACE, DRAINING)
    keys.put(PLACE, RESTING)
    assert keys.get(PLACE, NOW) == DRAINING
    assert keys.all(NOW) == {PLACE: DRAINING}
    keys.clear(PLACE)
    assert keys.get(PLACE, NOW) == DRAINING
    keys.put(PLACE, DEAD)
    keys.put(PLACE, replace(DRAINING, kind="resting", until_s=NOW + 5))
    assert keys.get(PLACE, NOW + 4).why == OPERATOR  # type: ignore[union-attr]
    assert keys.get(PLACE, NOW + 5) == DEAD
    keys.revive(PLACE)
    assert keys.get(PLACE, NOW) is None


async def test_a_key_that_proved_good_is_ready_again_everywhere(open_replica: OpenReplica) -> None:
    a, b = await open_replica(is_started=False), await open_replica(is_started=False)
    a.shared.keys.put(PLACE, DEAD)
    await a.shared.flush()
    await b.shared.load()
    assert b.shared.keys.get(PLACE, NOW) == DEAD
    b.shared.keys.clear(PLACE)
    await b.shared.flush()
    await a.shared.load()
    assert a.shared.keys.get(PLACE, NOW) is None


async def test_a_key_that_is_ready_already_costs_nothing_to_clear(
    open_replica: OpenReplica, plain: Redis, prefix: str
) -> None:
    a = await open_replica(is_started=False)
    a.shared.keys.clear(PLACE)
    await a.shared.flush()
    assert plain.exists(f"{prefix}:keys") == 0


async def test_reviving_is_told_even_where_nothing_is_known(open_replica: OpenReplica) -> None:
    """Another gateway, cut off from the store, has something to tell of the key."""
    cut_off, person = await open_replica(is_started=False), await open_replica(is_started=False)
    cut_off.shared.keys.put(PLACE, DEAD)
    cut_off_mirror = cut_off.shared.keys.mirror
    person.clock.now += 60
    person.shared.keys.revive(PLACE)
    await person.shared.flush()
    await cut_off_mirror.settle()
    assert cut_off.shared.keys.get(PLACE, NOW) is None


async def test_states_pass_through_the_store_as_they_are_and_without_a_secret(
    open_replica: OpenReplica, plain: Redis, prefix: str
) -> None:
    a, b = await open_replica(is_started=False), await open_replica(is_started=False)
    given = {PLACE: DRAINING, OTHER: RESTING, KeyPlace("cccc", "f" * 12): DEAD}
    for place, state in given.items():
        a.shared.keys.put(place, state)
    await a.shared.flush()
    await b.shared.load()
    assert b.shared.keys.all(NOW) == given
    fields = {field.decode() for field in plain.hkeys(f"{prefix}:keys")}
    assert fields == {"", "aaaa:0123456789ab:operator", "bbbb:0123456789ab", "cccc:ffffffffffff"}


async def test_a_kind_of_a_later_release_does_not_stop_anything(
    open_replica: OpenReplica, plain: Redis, prefix: str
) -> None:
    said = '{"value": {"kind": "asleep", "since_s": 1, "until_s": null, "why": "x", "note": null}, "until_s": null}'
    plain.hset(f"{prefix}:keys", mapping={"": "v", ":".join(PLACE): f"1 {said}"})
    a = await open_replica(is_started=False)
    await a.shared.load()
    assert a.shared.keys.all(NOW) == {}
