"""What operators did is logged by every gateway that runs, once."""

from __future__ import annotations

import asyncio

from redis import Redis

from gateway.store.acts import Act
from tests.conftest import Events
from tests.store.conftest import OpenReplica
from tests.store.gate import Gate

ACT = Act(who="ann@desk", act="rest", kind="key", name="aiml/main/one", at_s=1_800_000_000, reason="too hot")


async def test_only_what_is_done_after_a_gateway_began_is_logged(open_replica: OpenReplica, events: Events) -> None:
    operator = await open_replica(is_started=False)
    await operator.shared.acts.add(Act("bob@desk", "drain", "key", "a/b/c", 1))
    gateway = await open_replica(is_started=False)
    await gateway.shared.acts.follow()
    assert events.named("operator.acted") == []
    await operator.shared.acts.add(ACT)
    await operator.shared.acts.add(Act("ann@desk", "enable", "tenant", "shop", 2))
    await gateway.shared.acts.follow()
    await gateway.shared.acts.follow()
    rest, enable = events.named("operator.acted")
    said = {name: rest[name] for name in ("level", "who", "act", "kind", "name", "reason", "acted_s")}
    assert said == {"level": "info", **{name: value for name, value in vars(ACT).items() if name in said}} | {
        "acted_s": ACT.at_s
    }
    assert (enable["act"], enable["reason"]) == ("enable", "")


async def test_the_first_act_ever_is_logged(open_replica: OpenReplica, events: Events) -> None:
    gateway = await open_replica(is_started=False)
    await gateway.shared.acts.follow()
    await gateway.shared.acts.add(ACT)
    await gateway.shared.acts.follow()
    assert len(events.named("operator.acted")) == 1


async def test_an_act_is_logged_once_however_often_it_was_written_and_read(
    open_replica: OpenReplica, gate: Gate, events: Events, plain: Redis, prefix: str
) -> None:
    operator = await open_replica(gate.url, is_started=False)
    gateway = await open_replica(is_started=False)
    await gateway.shared.acts.follow()
    gate.pass_bytes = 0
    await operator.shared.acts.add(ACT)
    assert plain.xlen(f"{prefix}:acts") == 2
    await asyncio.gather(*(gateway.shared.acts.follow() for _ in range(5)))
    assert len(events.named("operator.acted")) == 1


async def test_what_another_release_writes_stops_nothing(
    open_replica: OpenReplica, events: Events, plain: Redis, prefix: str
) -> None:
    gateway = await open_replica(is_started=False)
    await gateway.shared.acts.follow()
    for words in ({"id": "1", "at_s": "soon"}, {"id": "2", "what": "else"}):
        plain.xadd(f"{prefix}:acts", dict(words))
    await gateway.shared.acts.follow()
    assert [event["acted_s"] for event in events.named("operator.acted")] == [None, None]


async def test_more_acts_than_are_read_at_once_are_all_logged(open_replica: OpenReplica, events: Events) -> None:
    operator, gateway = await open_replica(is_started=False), await open_replica(is_started=False)
    await gateway.shared.acts.follow()
    for number in range(150):
        await operator.shared.acts.add(Act("ann@desk", "rest", "key", str(number), 1))
    await gateway.shared.acts.follow()
    await gateway.shared.acts.follow()
    assert [event["name"] for event in events.named("operator.acted")] == [str(number) for number in range(150)]
