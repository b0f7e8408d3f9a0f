"""Facts that replicas share: the same in all of them in the end, whatever was lost, late or out of order."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from gateway.store.connection import Store, StoreAway
from gateway.store.mirror import Mirror
from tests.conftest import eventually
from tests.store.conftest import Clock, OwnValkey, Pause
from tests.store.gate import Gate

DAY_S = 86_400


def read(said: Mapping[str, Any]) -> str:
    return str(said["says"])


class Process:
    """One mirror and what it needs."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store = store
        self.clock = clock
        self.mirror: Mirror[str] = Mirror(store, "facts", read=read, clock=clock)

    def says(self, field: str = "f") -> str | None:
        return self.mirror.get(field, self.clock.now)

    def put(self, says: str, field: str = "f", *, until_s: float | None = None) -> None:
        self.mirror.put(field, {"says": says}, until_s=until_s)


OpenProcess = Callable[..., Awaitable[Process]]


@pytest.fixture
async def open_process(valkey: str, prefix: str) -> AsyncIterator[OpenProcess]:
    opened: list[Process] = []

    async def open_one(url: str = valkey, *, timeout_s: float = 5, pause: Pause = asyncio.sleep) -> Process:
        process = Process(Store(url, prefix=prefix, timeout_s=timeout_s, pause=pause), Clock())
        opened.append(process)
        return process

    yield open_one
    for process in opened:
        await process.mirror.close()
        await process.store.close()


async def test_a_change_counts_at_once_here_and_after_a_refresh_elsewhere(open_process: OpenProcess) -> None:
    a, b = await open_process(), await open_process()
    a.put("one")
    assert a.says() == "one"
    await a.mirror.flush()
    assert b.says() is None
    await b.mirror.refresh()
    assert b.says() == "one"
    b.mirror.clear("f")
    assert b.says() is None
    await b.mirror.flush()
    await a.mirror.refresh()
    assert a.says() is None
    assert a.mirror.all(a.clock.now) == {}


async def test_nobody_needs_to_flush(open_process: OpenProcess) -> None:
    a, b = await open_process(), await open_process()
    for number in range(100):
        a.put(str(number), f"f{number}")
    a.put("last")
    await a.mirror.close()
    await b.mirror.refresh()
    assert b.says() == "last"
    assert len(b.mirror.all(b.clock.now)) == 101


async def test_what_is_over_is_not_said(open_process: OpenProcess) -> None:
    a = await open_process()
    a.put("one", until_s=a.clock.now + 10)
    assert a.mirror.get("f", a.clock.now + 9.9) == "one"
    assert a.mirror.get("f", a.clock.now + 10) is None
    assert a.mirror.all(a.clock.now + 10) == {}


async def test_the_later_of_two_changes_counts_whichever_reaches_the_store_first(open_process: OpenProcess) -> None:
    for clears_last in (False, True):
        for late_first in (False, True):
            field = f"{clears_last}{late_first}"
            a, b = await open_process(), await open_process()
            b.clock.now += 1
            a.put("older", field)
            if clears_last:
                b.mirror.clear(field)
            else:
                b.put("newer", field)
            for process in (b, a) if late_first else (a, b):
                await process.mirror.flush()
            for process in (a, b):
                await process.mirror.refresh()
                assert process.says(field) == (None if clears_last else "newer")


async def test_who_has_seen_a_change_overrules_it_even_with_a_clock_that_is_behind(open_process: OpenProcess) -> None:
    """An operator's machine may be an hour behind the gateways."""
    gateway, operator = await open_process(), await open_process()
    operator.clock.now -= 3600
    gateway.put("rests")
    await gateway.mirror.flush()
    await operator.mirror.settle()
    operator.mirror.clear("f")
    await operator.mirror.flush()
    await gateway.mirror.refresh()
    assert gateway.says() is None


async def test_of_changes_at_the_same_microsecond_the_first_in_the_store_counts_everywhere(
    open_process: OpenProcess,
) -> None:
    a, b = await open_process(), await open_process()
    a.put("of a")
    await a.mirror.flush()
    b.put("of b")
    await b.mirror.flush()
    for process in (a, b):
        await process.mirror.refresh()
        assert process.says() == "of a"


async def test_a_refresh_reads_the_hash_only_when_it_has_changed(
    open_process: OpenProcess, gate: Gate, valkey: str
) -> None:
    a, b = await open_process(), await open_process(gate.url)
    await b.mirror.refresh()
    a.put("one")
    await a.mirror.flush()
    for _ in range(5):
        await b.mirror.refresh()
    assert [command[0] for command in gate.commands].count(b"HGETALL") == 1
    assert [command[0] for command in gate.commands].count(b"HGET") == 6


async def test_messages_spare_the_reading_of_the_hash(
    open_process: OpenProcess, gate: Gate, plain: Redis, prefix: str
) -> None:
    a, b = await open_process(), await open_process(gate.url)
    listening = plain.pubsub(ignore_subscribe_messages=True)
    listening.subscribe(f"{prefix}:facts")
    for says in ("one", "two", "three"):
        a.put(says)
        await a.mirror.flush()
    listening.get_message(timeout=1)
    messages = [listening.get_message(timeout=1)["data"].decode() for _ in range(3)]
    listening.close()
    for message in messages:
        b.mirror.hear(message)
    assert b.says() == "three"
    await b.mirror.refresh()
    assert b"HGETALL" not in [command[0] for command in gate.commands]
    for message in reversed(messages):  # late and out of order
        b.mirror.hear(message)
    assert b.says() == "three"
    await b.mirror.refresh()
    assert b.says() == "three"


async def test_who_missed_a_message_reads_the_hash(open_process: OpenProcess, plain: Redis, prefix: str) -> None:
    a, b = await open_process(), await open_process()
    listening = plain.pubsub(ignore_subscribe_messages=True)
    listening.subscribe(f"{prefix}:facts")
    for number in range(2):
        a.put("said", f"f{number}")
        await a.mirror.flush()
    listening.get_message(timeout=1)
    listening.get_message(timeout=1)
    b.mirror.hear(listening.get_message(timeout=1)["data"].decode())
    listening.close()
    assert (b.says("f0"), b.says("f1")) == (None, "said")
    await b.mirror.refresh()
    assert (b.says("f0"), b.says("f1")) == ("said", "said")


async def test_without_the_store_the_mirror_decides_and_the_store_is_told_when_it_is_back(
    open_process: OpenProcess, own_valkey: OwnValkey, pause_little: Pause
) -> None:
    a, b = [await open_process(own_valkey.url, timeout_s=0.5, pause=pause_little) for _ in range(2)]
    a.put("known")
    await a.mirror.flush()
    await b.mirror.refresh()
    own_valkey.kill()
    b.put("meanwhile", "g")
    b.mirror.clear("f")
    with pytest.raises(StoreAway):
        await b.mirror.settle()
    with pytest.raises(StoreAway):
        await a.mirror.settle()
    assert (a.says("f"), a.says("g")) == ("known", None)
    assert (b.says("f"), b.says("g")) == (None, "meanwhile")
    await own_valkey.start()
    await eventually(lambda: a.store.is_ready and b.store.is_ready)
    await b.mirror.settle()
    await a.mirror.settle()
    assert (a.says("f"), a.says("g")) == (None, "meanwhile")


async def test_a_later_revival_beats_what_a_process_that_was_cut_off_tells_at_last(open_process: OpenProcess) -> None:
    a, b = await open_process(), await open_process()
    a.put("rests, says one that is cut off")
    cut_off = a.mirror
    b.clock.now += 5
    b.mirror.clear("f")  # knows nothing of it, and clears all the same
    await b.mirror.flush()
    await cut_off.flush()
    await b.mirror.refresh()
    await cut_off.refresh()
    assert (a.says(), b.says()) == (None, None)


async def test_what_the_store_has_lost_is_told_again(open_process: OpenProcess, plain: Redis, prefix: str) -> None:
    """All of it, or only the last changes: a failover to a replica that was behind."""
    a = await open_process()
    a.put("old", "f")
    a.put("cleared", "g")
    await a.mirror.flush()
    behind = plain.hgetall(f"{prefix}:facts")
    a.put("new", "f")
    a.mirror.clear("g")
    await a.mirror.flush()
    for left in ({}, behind):
        plain.delete(f"{prefix}:facts")
        if left:
            plain.hset(f"{prefix}:facts", mapping=left)
        await a.mirror.settle()
        b = await open_process()
        await b.mirror.settle()
        assert (b.says("f"), b.says("g")) == ("new", None)


async def test_a_command_that_runs_twice_does_no_harm(open_process: OpenProcess, gate: Gate) -> None:
    """The first answer is cut off, so the client sends the command again."""
    a, b = await open_process(gate.url), await open_process()
    await a.mirror.refresh()
    gate.pass_bytes = 0
    a.put("one")
    await a.mirror.flush()
    await b.mirror.refresh()
    assert b.says() == "one"
    assert sum(command[0] == b"EVAL" for command in gate.commands) == 2


async def test_garbage_leaves_the_hash_and_what_has_no_end_stays(
    open_process: OpenProcess, plain: Redis, prefix: str
) -> None:
    a = await open_process()
    a.put("rested", "rest", until_s=a.clock.now + 60)
    a.put("dead", "dead")
    a.put("x", "revived")
    a.mirror.clear("revived")
    await a.mirror.flush()
    for days, left in ((29, {"", "rest", "dead", "revived"}), (31, {"", "dead"})):
        b = await open_process()
        b.clock.now += days * DAY_S
        await b.mirror.settle()
        assert {field.decode() for field in plain.hkeys(f"{prefix}:facts")} == left
        assert b.says("dead") == "dead"
    a.clock.now += 31 * DAY_S
    await a.mirror.settle()  # knows the garbage still, and does not bring it back
    assert plain.hlen(f"{prefix}:facts") == 2
    assert plain.ttl(f"{prefix}:facts") == -1


async def test_what_another_release_wrote_is_left_alone(open_process: OpenProcess, plain: Redis, prefix: str) -> None:
    a = await open_process()
    strange = {"f": '1 {"value": {"sings": "x"}, "until_s": null}', "g": "1 never JSON", "h": "no stamp", "": "v"}
    plain.hset(f"{prefix}:facts", mapping=strange)
    await a.mirror.settle()
    assert a.mirror.all(a.clock.now) == {}
    assert plain.hlen(f"{prefix}:facts") == 4
    for field in "fgh":
        a.put("mine", field)
    await a.mirror.flush()
    b = await open_process()
    await b.mirror.settle()
    assert b.mirror.all(b.clock.now) == dict.fromkeys("fgh", "mine")


@pytest.mark.parametrize("message", ["", "no JSON", "[]", "null", '["a", "b"]', '[null, "v", ["odd"]]', "[1, 2, 3]"])
async def test_a_message_that_says_nothing_does_no_harm(message: str, open_process: OpenProcess) -> None:
    a = await open_process()
    a.put("one")
    a.mirror.hear(message)
    a.mirror.hear('[null, "v", ["f", 5, "g", "x"]]')
    assert a.mirror.all(a.clock.now) == {"f": "one"}


_names = itertools.count()
STEPS = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from(["put", "clear", "flush", "refresh", "tick", "behind"])),
    max_size=25,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_all_agree_in_the_end_whatever_happened_in_which_order(valkey: str, steps: list[tuple[str, str]]) -> None:
    """Clocks that run at different speeds included."""

    async def run() -> None:
        prefix = f"mirror-order{next(_names)}"
        stores = [Store(valkey, prefix=prefix, timeout_s=5) for _ in "ab"]
        processes = dict(zip("ab", (Process(store, Clock()) for store in stores), strict=True))
        for process in processes.values():
            process.mirror._tell_soon = lambda: None  # type: ignore[method-assign]
        for number, (who, what) in enumerate(steps):
            process = processes[who]
            match what:
                case "put":
                    process.put(str(number))
                case "clear":
                    process.mirror.clear("f")
                case "flush":
                    await process.mirror.flush()
                case "refresh":
                    await process.mirror.refresh()
                case "tick":
                    process.clock.now += 1
                case _:
                    process.clock.now -= 0.5
        for _ in range(2):
            for process in processes.values():
                await process.mirror.settle()
        assert len({process.says() for process in processes.values()}) == 1
        for store in stores:
            await store.close()

    asyncio.run(run())


async def test_only_the_first_may_add_a_field(open_process: OpenProcess) -> None:
    a, b = await open_process(), await open_process()
    assert await a.mirror.add("f", {"says": "of a"})
    assert not await b.mirror.add("f", {"says": "of b"})
    assert (a.says(), b.says()) == ("of a", None)
    await b.mirror.refresh()
    assert b.says() == "of a"
    b.put("changed")
    await b.mirror.flush()
    await a.mirror.refresh()
    assert a.says() == "changed"


async def test_what_is_added_is_heard_like_any_change(
    open_process: OpenProcess, gate: Gate, plain: Redis, prefix: str
) -> None:
    a, b = await open_process(), await open_process(gate.url)
    listening = plain.pubsub(ignore_subscribe_messages=True)
    listening.subscribe(f"{prefix}:facts")
    listening.get_message(timeout=1)
    for field in ("f", "g"):
        await a.mirror.add(field, {"says": field})
        b.mirror.hear(listening.get_message(timeout=1)["data"].decode())
    listening.close()
    await b.mirror.refresh()
    assert (b.says("f"), b.says("g")) == ("f", "g")
    assert b"HGETALL" not in [command[0] for command in gate.commands]


async def test_a_process_knows_whether_what_it_knows_is_fresh(open_process: OpenProcess, own_valkey: OwnValkey) -> None:
    a = await open_process(own_valkey.url, timeout_s=0.2)
    assert not a.mirror.is_fresh(), "it has never asked"
    await a.mirror.settle()
    assert a.mirror.is_fresh()
    own_valkey.freeze()
    with pytest.raises(StoreAway):
        await a.mirror.settle()
    a.clock.now += 2
    assert a.mirror.is_fresh()
    a.clock.now += 0.1
    assert not a.mirror.is_fresh()


async def test_who_reads_all_again_looks_only_at_what_has_changed(open_process: OpenProcess) -> None:
    """Of ten thousand entries it would take a tenth of a second to understand each."""
    understood: list[str] = []

    def count(said: Mapping[str, Any]) -> str:
        understood.append(read(said))
        return understood[-1]

    a, b = await open_process(), await open_process()
    for number in range(1200):
        a.put("old", f"f{number}")
    await a.mirror.flush()
    b.mirror = Mirror(b.store, "facts", read=count, clock=b.clock)
    await b.mirror.settle()
    assert (len(understood), b.mirror.changes) == (1200, 1200)
    understood.clear()
    a.put("new", "f7")
    await a.mirror.flush()
    await b.mirror.settle()
    assert understood == ["new"]
    assert (b.says("f7"), b.says("f8")) == ("new", "old")
