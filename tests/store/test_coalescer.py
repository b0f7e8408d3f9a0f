"""Commands go out together, and nobody pays for it: not for a neighbour's error, absence or departure."""

from __future__ import annotations

import asyncio
import random
import time

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from gateway.store.coalescer import Coalescer, Script
from gateway.store.connection import StoreAway
from tests.conftest import Events
from tests.stopwatch import Stopwatch
from tests.store.conftest import OpenCoalescer, OwnValkey, Pause
from tests.store.gate import Gate

TIMEOUT_S = 0.6
AT_MOST_S = 1.1
"""One timeout, not two, on a machine that is busy with other tests."""
LATER = Script("return ARGV[1] .. redis.call('ECHO', KEYS[1])")


async def ask(coalescer: Coalescer, number: int) -> None:
    """A command whose answer nobody else's is."""
    assert await coalescer.run("ECHO", number) == str(number).encode()


def is_back(coalescer: Coalescer) -> asyncio.Event:
    """Set when the store answers again."""
    event = asyncio.Event()

    async def note() -> None:
        event.set()

    coalescer.presence.on_return.append(note)
    return event


async def test_the_commands_of_one_turn_go_out_in_one_write(gate: Gate, open_coalescer: OpenCoalescer) -> None:
    coalescer = open_coalescer(gate.url)
    await asyncio.gather(*(ask(coalescer, number) for number in range(64)))
    assert [len(write) for write in gate.writes] == [64]


async def test_two_batches_of_at_most_256_are_on_their_way_and_the_rest_waits(
    gate: Gate, open_coalescer: OpenCoalescer
) -> None:
    coalescer = open_coalescer(gate.url)
    await asyncio.gather(*(ask(coalescer, number) for number in range(512)))  # both connections stand
    gate.writes.clear()
    gate.hold()
    asked = asyncio.gather(*(ask(coalescer, number) for number in range(600)))
    await gate.until(lambda gate: len(gate.commands) == 512)
    later = asyncio.gather(*(ask(coalescer, number) for number in range(600, 610)))
    for _ in range(10):
        await asyncio.sleep(0)
    assert [len(write) for write in gate.writes] == [256, 256]
    gate.release()
    await asyncio.gather(asked, later)
    assert len(gate.writes[2]) == 98  # what had been left over, and what came meanwhile


@pytest.mark.one_server
async def test_an_error_reply_is_its_own_commands(
    valkey: str, plain: Redis, prefix: str, open_coalescer: OpenCoalescer
) -> None:
    coalescer = open_coalescer(valkey)
    plain.hset(f"{prefix}:hash", "field", "value")
    answers = await asyncio.gather(
        coalescer.run("ECHO", "before"),
        coalescer.run("GET", f"{prefix}:hash"),
        coalescer.run("NO SUCH COMMAND"),
        coalescer.run("ECHO", "after"),
        return_exceptions=True,
    )
    assert (answers[0], answers[3]) == (b"before", b"after")
    assert all(isinstance(answer, ResponseError) for answer in answers[1:3])
    assert coalescer.presence.is_ready


async def test_answers_find_their_callers_whoever_leaves(valkey: str, open_coalescer: OpenCoalescer) -> None:
    """Hundreds of callers at once, a third of which leave at some point on the way."""
    coalescer = open_coalescer(valkey)
    chance = random.Random(7)
    right = 0

    async def caller(number: int) -> None:
        nonlocal right
        for turn in range(10):
            await ask(coalescer, number * 100 + turn)
            right += 1

    callers = [asyncio.create_task(caller(number)) for number in range(300)]
    leaving = chance.sample(callers, 100)
    while leaving:
        await asyncio.sleep(0)
        leaving.pop().cancel()
    ended = await asyncio.gather(*callers, return_exceptions=True)
    assert {type(outcome) for outcome in ended} <= {type(None), asyncio.CancelledError}
    assert right >= 2000


async def test_a_caller_that_leaves_while_its_answer_is_on_the_way_disturbs_nobody(
    gate: Gate, open_coalescer: OpenCoalescer
) -> None:
    coalescer = open_coalescer(gate.url)
    await ask(coalescer, 0)
    gate.hold()
    first, leaving, last = (asyncio.create_task(ask(coalescer, number)) for number in (1, 2, 3))
    await gate.until(lambda gate: gate.held_bytes > 0)
    leaving.cancel()
    gate.release()
    await asyncio.gather(first, last)
    await ask(coalescer, 4)
    assert leaving.cancelled()


async def test_what_nobody_waits_for_any_more_is_not_sent(gate: Gate, open_coalescer: OpenCoalescer) -> None:
    coalescer = open_coalescer(gate.url)
    leaving, staying = (asyncio.create_task(ask(coalescer, number)) for number in (1, 2))
    asyncio.get_running_loop().call_soon(leaving.cancel)  # after it has asked, before the batch is made
    await staying
    assert gate.commands == [[b"ECHO", b"2"]]


async def test_a_script_is_sent_by_digest_and_once_in_full(
    gate: Gate, plain: Redis, open_coalescer: OpenCoalescer
) -> None:
    coalescer = open_coalescer(gate.url)
    plain.script_flush()
    for _ in range(2):
        assert await coalescer.script(LATER, keys=("key",), arguments=("a",)) == b"akey"
    assert [command[0] for command in gate.commands] == [b"EVALSHA", b"EVAL", b"EVALSHA"]


async def test_an_answer_cut_in_the_middle_concerns_only_what_is_not_answered(
    gate: Gate, open_coalescer: OpenCoalescer
) -> None:
    coalescer = open_coalescer(gate.url)
    await ask(coalescer, 0)
    gate.pass_bytes = len(b"$4\r\n1111\r\n" + b"$4\r\n22")
    asking = (coalescer.run("ECHO", number) for number in (1111, 2222, 3333))
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert answers[0] == b"1111"
    assert [type(answer) for answer in answers[1:]] == [StoreAway, StoreAway]


async def test_an_answer_that_comes_too_late_is_nobody_elses(
    gate: Gate, open_coalescer: OpenCoalescer, pause_little: Pause
) -> None:
    """The connection whose command missed its deadline is never read again."""
    coalescer = open_coalescer(gate.url, timeout_s=0.2, pause=pause_little)
    back = is_back(coalescer)
    await ask(coalescer, 0)
    await back.wait()
    back.clear()
    gate.hold()
    with pytest.raises(StoreAway):
        await ask(coalescer, 1)
    gate.release()
    await asyncio.wait_for(back.wait(), 5)
    await asyncio.gather(*(ask(coalescer, number) for number in range(2, 50)))


async def test_a_frozen_store_costs_those_who_wait_one_timeout_and_nobody_else_anything(
    own_valkey: OwnValkey, open_coalescer: OpenCoalescer, pause_little: Pause, events: Events
) -> None:
    """And it comes back by itself."""
    coalescer = open_coalescer(own_valkey.url, timeout_s=TIMEOUT_S, pause=pause_little)
    await ask(coalescer, 0)
    back = is_back(coalescer)
    own_valkey.freeze()
    assert await lost_s(coalescer, 600) < AT_MOST_S  # more than two batches carry
    assert await lost_s(coalescer, 1) < TIMEOUT_S / 2
    own_valkey.thaw()
    await asyncio.wait_for(back.wait(), 5)
    await ask(coalescer, 1)
    assert [event["event"] for event in events if "cache." in event["event"]] == [
        "cache.ready",
        "cache.away",
        "cache.ready",
    ]


async def test_a_store_that_is_frozen_from_the_start_costs_no_more(
    own_valkey: OwnValkey, open_coalescer: OpenCoalescer
) -> None:
    """It takes connections, so connecting is what never ends."""
    own_valkey.freeze()
    coalescer = open_coalescer(own_valkey.url, timeout_s=TIMEOUT_S)
    assert await lost_s(coalescer, 600) < AT_MOST_S
    assert await lost_s(coalescer, 1) < TIMEOUT_S / 2


async def test_a_killed_store_is_found_at_once_and_found_again(
    own_valkey: OwnValkey, open_coalescer: OpenCoalescer, pause_little: Pause
) -> None:
    coalescer = open_coalescer(own_valkey.url, timeout_s=TIMEOUT_S, pause=pause_little)
    await ask(coalescer, 0)
    own_valkey.kill()
    assert await lost_s(coalescer, 10) < AT_MOST_S
    back = is_back(coalescer)
    await own_valkey.start()
    await asyncio.wait_for(back.wait(), 5)
    await ask(coalescer, 1)


async def test_a_restart_between_two_commands_is_not_noticed(
    own_valkey: OwnValkey, open_coalescer: OpenCoalescer, events: Events
) -> None:
    """A connection that was closed while idle is not used."""
    coalescer = open_coalescer(own_valkey.url)
    await asyncio.gather(*(ask(coalescer, number) for number in range(300)))
    own_valkey.kill()
    await own_valkey.start()
    await asyncio.gather(*(ask(coalescer, number) for number in range(300)))
    assert not events.named("cache.away")


async def test_a_process_that_stood_still_does_not_blame_the_store(gate: Gate, open_coalescer: OpenCoalescer) -> None:
    """The deadline is over before the loop could look at the socket; the command is lost, the store is not."""
    coalescer = open_coalescer(gate.url, timeout_s=0.3)
    await ask(coalescer, 0)
    gate.hold()
    asking = asyncio.create_task(ask(coalescer, 1))
    await gate.until(lambda gate: gate.held_bytes > 0)
    gate.release()
    time.sleep(0.4)
    with pytest.raises(StoreAway):
        await asking
    assert coalescer.presence.is_ready
    await ask(coalescer, 2)


async def test_whoever_waits_when_it_closes_or_comes_later_is_told(gate: Gate, open_coalescer: OpenCoalescer) -> None:
    coalescer = open_coalescer(gate.url)
    await ask(coalescer, 0)
    gate.hold()
    asking = [asyncio.create_task(ask(coalescer, number)) for number in range(600)]
    await gate.until(lambda gate: len(gate.commands) > 1)
    await coalescer.close()
    asking.append(asyncio.create_task(ask(coalescer, 600)))
    assert {type(outcome) for outcome in await asyncio.gather(*asking, return_exceptions=True)} == {StoreAway}


async def lost_s(coalescer: Coalescer, callers: int) -> float:
    """What the slowest of so many callers loses before it knows that the store is away."""
    asking = (ask(coalescer, number) for number in range(callers))
    async with Stopwatch() as watch:
        assert {type(outcome) for outcome in await asyncio.gather(*asking, return_exceptions=True)} == {StoreAway}
    return watch.seconds
