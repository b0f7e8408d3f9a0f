"""The promise of the cache against every order of events that hypothesis can think of.

Two replicas share one Valkey. Each command of each replica waits until a rule carries it out, and again until a rule
delivers its answer; it may be lost on either way, refused, or carried out long after its caller gave it up. So what
the cache does is taken apart at each of its awaits. The model knows when the provider changed, and from that what a
read may find at least.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from itertools import count
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from redis import Redis
from redis.exceptions import ResponseError

from gateway.store.cache import Away, Generation, Hit, Scope, ThreadCache
from tests.store.wire import Call, Wire

TTL_S = 10_000.0
BLOCK_S = 15_000.0
"""Long, for the store expires things by its own clock, which the model cannot move."""
FIELD = "messages"
SCOPES = [Scope("tenant", "route", "thread", f"thread_{number}") for number in range(2)]
_numbers = count()

replicas = st.integers(0, 1)
scopes = st.sampled_from([SCOPES[0], SCOPES[0], SCOPES[0], SCOPES[1]])
"""Mostly one, so that what happens to it meets."""
limits = st.sampled_from([0, 1, 9])
"""How many scopes a replica remembers: with 0 every write that is not announced means a new epoch."""
deeds = st.sampled_from(["read", "read", "write", "cut", "write in an outage", "back", "back", "time", "unhindered"])
times = st.sampled_from([4_000.0, 6_000.0, TTL_S])
faults = st.sampled_from(["lose", "lose", "refuse", "cut", "cut", "evict", "replace"])


class Truth:
    """What the provider holds of one scope: a version that each write raises."""

    def __init__(self) -> None:
        self.version = 0
        self.since = [0.0]
        self.due = 0
        """The version when the store last carried out a drop, or a block ended: nobody may find an older one."""
        self.blocked_until = 0.0

    def write(self, now: float) -> int:
        self.version += 1
        self.since.append(now)
        return self.version

    def one_ttl_ago(self, now: float) -> int:
        return max(version for version, since in enumerate(self.since) if since + TTL_S <= now)


class Write:
    """A write: beginning, then applied and ending, or unknown from some moment on."""

    def __init__(self, replica: Replica, scope: Scope) -> None:
        self.replica = replica
        self.scope = scope
        self.stage = "beginning"
        self.version = 0
        self.blocked_until = 0.0
        self.announcing: asyncio.Task[bool]


class Question:
    """A read that has reached the provider. It is looked up at one moment and answered at another."""

    def __init__(self, replica: Replica, truth: Truth) -> None:
        self.replica = replica
        self.version: int | None = None
        self.answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._truth = truth

    def look_up(self) -> None:
        self.version = self._truth.version


class Replica:
    """One gateway process: its cache, its way to the store, and what is due to whoever reads through it."""

    def __init__(self, machine: Machine, *, limit: int, seed: int) -> None:
        self.wire = Wire(machine.redis, is_prompt=False, on_run=machine.note_run)
        self.cache = ThreadCache(
            self.wire,
            prefix=machine.prefix,
            lease_s=1_000_000,
            unannounced_limit=limit,
            clock=lambda: machine.now,
            rand=random.Random(seed).randbytes,
            pause=machine.pause,
        )
        self.due = dict.fromkeys(SCOPES, 0)
        self.blocked_until = dict.fromkeys(SCOPES, 0.0)


class Machine(RuleBasedStateMachine):
    """Each rule is an event; after it everything runs that can. `is_prompt`: the commands it brings about are carried
    out and answered at once, before those that wait already."""

    valkey: ClassVar[str]

    @initialize(seed=st.integers(0, 2**32), limits=st.tuples(limits, limits))
    def start(self, seed: int, limits: tuple[int, int]) -> None:
        self.loop = asyncio.new_event_loop()
        self.redis = Redis.from_url(self.valkey)
        self.prefix = f"model{next(_numbers)}"
        self.now = 1e9
        self.truths = {scope: Truth() for scope in SCOPES}
        self.tasks: list[asyncio.Task[Any]] = []
        self.pauses: list[tuple[float, asyncio.Future[None]]] = []
        self.reads: list[asyncio.Task[None]] = []
        self.questions: list[Question] = []
        self.writes: list[Write] = []
        self.late: list[Call] = []
        self.limits = limits
        self.seeds = count(seed)
        self.replicas = [self.new_replica(number) for number in range(2)]

    def new_replica(self, number: int) -> Replica:
        replica = Replica(self, limit=self.limits[number], seed=next(self.seeds))
        self.spawn(replica, replica.cache.catch_up(), is_prompt=True)
        return replica

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.turn()
            self.loop.close()
            self.redis.close()

    def spawn(self, replica: Replica, work: Coroutine[Any, Any, Any], is_prompt: bool) -> asyncio.Task[Any]:
        asked = len(replica.wire.calls)
        task = self.loop.create_task(work)
        self.tasks.append(task)
        self.turn()
        if is_prompt:
            self.deliver_all(replica, asked)
        return task

    def deliver_all(self, replica: Replica, asked: int = 0) -> None:
        """Carry out and answer what the replica has asked since, until it asks no more."""
        wire = replica.wire
        while waiting := [call for call in wire.calls[asked:] if not call.is_over]:
            wire.deliver(waiting[0])
            self.turn()

    def turn(self) -> None:
        """Run everything that can run. Whatever failed fails the test."""

        async def turns() -> None:
            for _ in range(10):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turns())
        for task in [task for task in self.tasks if task.done()]:
            self.tasks.remove(task)
            if not task.cancelled():
                task.result()

    def note_run(self, call: Call) -> None:
        """The store has carried something out. After a drop nothing older may be found."""
        name, text, *rest = call.words
        is_block = name == "EVAL" and "'PX'" in str(text)
        if name != "UNLINK" and not is_block:
            return
        key = str(rest[1] if is_block else text)
        truth = next(truth for scope, truth in self.truths.items() if key.endswith(f":{scope.upstream_id}}}"))
        truth.due = truth.version
        if is_block:
            truth.blocked_until = max(truth.blocked_until, self.now + int(rest[-1]) / 1000)

    async def pause(self, seconds: float) -> None:
        waiting: asyncio.Future[None] = self.loop.create_future()
        self.pauses.append((self.now + seconds, waiting))
        self.wake()
        await waiting

    def wake(self) -> None:
        for until, waiting in self.pauses:
            if until <= self.now and not waiting.done():
                waiting.set_result(None)

    # --- reads

    @rule(replica=replicas, scope=scopes, is_prompt=st.booleans())
    def read(self, replica: int, scope: Scope, is_prompt: bool) -> None:
        reader = self.replicas[replica]
        self.reads.append(self.spawn(reader, self._read(reader, scope), is_prompt))

    def read_at_once(self, replica: int, scope: Scope) -> None:
        asked = len(self.questions)
        self.read(replica, scope, is_prompt=True)
        for question in self.questions[asked:]:
            self.answer(question, is_prompt=True)

    @rule(data=st.data(), replica=replicas, scope=scopes)
    def story_of_a_read(self, data: st.DataObject, replica: int, scope: Scope) -> None:
        """What else happens falls between its steps."""
        asked = len(self.questions)
        self.read(replica, scope, is_prompt=True)
        self.meanwhile(data, scope)
        for question in self.questions[asked:]:
            question.look_up()
            self.meanwhile(data, scope)
            if not question.answer.done():
                self.answer(question, is_prompt=data.draw(st.booleans()))
        self.everybody_looks()

    @rule()
    def everybody_looks(self) -> None:
        for reader in self.replicas:
            for scope in SCOPES:
                self.spawn(reader, self._look(reader, scope), is_prompt=True)

    async def _look(self, replica: Replica, scope: Scope) -> tuple[Generation | None, int]:
        """The generation after a miss, and what is due to this reader of what it shares then."""
        truth = self.truths[scope]
        due = max(truth.due, replica.due[scope])
        due_of_hits = max(due, truth.one_ttl_ago(self.now))
        blocked_until = max(truth.blocked_until, replica.blocked_until[scope])
        found = await replica.cache.read(scope, FIELD)
        if isinstance(found, Hit):
            assert int(found.body) >= due_of_hits, f"{found.body!r} was found, {due_of_hits} was due"
            assert blocked_until <= self.now, "it was blocked from before the read until after it"
        return (None if isinstance(found, Hit | Away) else found.generation), due

    async def _read(self, replica: Replica, scope: Scope) -> None:
        generation, due = await self._look(replica, scope)
        if generation is not None:
            shared = await replica.cache.share(
                scope, FIELD, generation=generation, make=lambda: self._ask(replica, scope, generation)
            )
            assert shared >= due, f"{shared} was shared, {due} was due"

    async def _ask(self, replica: Replica, scope: Scope, generation: Generation) -> int:
        question = Question(replica, self.truths[scope])
        self.questions.append(question)
        await question.answer
        assert question.version is not None
        body = str(question.version).encode()
        await replica.cache.fill(scope, FIELD, body, ttl_s=TTL_S, generation=generation)
        return question.version

    @property
    def open_questions(self) -> list[Question]:
        return [question for question in self.questions if not question.answer.done()]

    @precondition(lambda self: self.open_questions)
    @rule(data=st.data())
    def provider_looks_it_up(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.open_questions)).look_up()

    @precondition(lambda self: self.open_questions)
    @rule(data=st.data(), is_prompt=st.booleans())
    def provider_answers(self, data: st.DataObject, is_prompt: bool) -> None:
        self.answer(data.draw(st.sampled_from(self.open_questions)), is_prompt)

    def answer(self, question: Question, is_prompt: bool) -> None:
        asked = len(question.replica.wire.calls)
        if question.version is None:
            question.look_up()
        question.answer.set_result(None)
        self.turn()
        if is_prompt:
            self.deliver_all(question.replica, asked)

    @precondition(lambda self: any(not read.done() for read in self.reads))
    @rule(data=st.data())
    def reader_leaves(self, data: st.DataObject) -> None:
        on_the_way = [call for _, call in self.waiting if not call.was_run]
        data.draw(st.sampled_from([read for read in self.reads if not read.done()])).cancel()
        self.turn()
        self.late += [call for call in on_the_way if call.is_over]

    # --- writes

    @rule(replica=replicas, scope=scopes, is_prompt=st.booleans())
    def write_begins(self, replica: int, scope: Scope, is_prompt: bool) -> None:
        write = Write(self.replicas[replica], scope)
        write.announcing = self.spawn(write.replica, write.replica.cache.begin_write(scope), is_prompt)
        self.writes.append(write)

    def write_at_once(self, replica: int, scope: Scope) -> None:
        self.write_begins(replica, scope, is_prompt=True)
        self.apply(self.writes[-1])
        self.end(self.writes[-1], is_prompt=True)

    @rule(data=st.data(), replica=replicas, scope=scopes)
    def story_of_a_write(self, data: st.DataObject, replica: int, scope: Scope) -> None:
        """What else happens falls between its steps."""
        self.meanwhile(data, scope)
        self.write_begins(replica, scope, is_prompt=True)
        write = self.writes[-1]
        self.meanwhile(data, scope)
        if write.stage == "beginning":
            self.apply(write)
            self.meanwhile(data, scope)
            self.end(write, is_prompt=data.draw(st.booleans()))
            self.meanwhile(data, scope)
        self.everybody_looks()

    @rule(data=st.data(), replica=replicas, scope=scopes)
    def story_of_an_unknown_write(self, data: st.DataObject, replica: int, scope: Scope) -> None:
        """It may happen long after its caller was told that nobody knows."""
        self.write_begins(replica, scope, is_prompt=True)
        write = self.writes[-1]
        self.meanwhile(data, scope)
        if write.stage == "beginning":
            self.end_unknown(write, is_prompt=data.draw(st.booleans()))
            self.meanwhile(data, scope)
            self.apply_unknown(write)
            self.meanwhile(data, scope)
        self.everybody_looks()

    def meanwhile(self, data: st.DataObject, scope: Scope) -> None:
        for deed, replica in data.draw(st.lists(st.tuples(deeds, replicas), max_size=3)):
            match deed:
                case "read":
                    self.read_at_once(replica, scope)
                case "write":
                    self.write_at_once(replica, scope)
                case "cut":
                    self.cut(self.replicas[replica].wire)
                case "write in an outage":
                    self.cut(self.replicas[replica].wire)
                    self.write_at_once(replica, scope)
                case "back":
                    self.store_comes_back(replica, is_prompt=data.draw(st.booleans()))
                case "time":
                    self.time_passes(data.draw(times))
                case "unhindered":
                    self.deliver_all(self.replicas[replica])

    def at_stage(self, stage: str) -> list[Write]:
        return [write for write in self.writes if write.stage == stage and write.announcing.done()]

    @precondition(lambda self: self.at_stage("beginning"))
    @rule(data=st.data())
    def write_is_applied(self, data: st.DataObject) -> None:
        self.apply(data.draw(st.sampled_from(self.at_stage("beginning"))))

    def apply(self, write: Write) -> None:
        write.version = self.truths[write.scope].write(self.now)
        write.stage = "applied"

    @precondition(lambda self: self.at_stage("applied"))
    @rule(data=st.data(), is_prompt=st.booleans())
    def write_ends(self, data: st.DataObject, is_prompt: bool) -> None:
        self.end(data.draw(st.sampled_from(self.at_stage("applied"))), is_prompt)

    def end(self, write: Write, is_prompt: bool) -> None:
        write.stage = "ending"
        write.announcing = self.spawn(write.replica, write.replica.cache.end_write(write.scope), is_prompt)

    @precondition(lambda self: self.at_stage("beginning"))
    @rule(data=st.data(), is_prompt=st.booleans())
    def outcome_is_unknown(self, data: st.DataObject, is_prompt: bool) -> None:
        self.end_unknown(data.draw(st.sampled_from(self.at_stage("beginning"))), is_prompt)

    def end_unknown(self, write: Write, is_prompt: bool) -> None:
        write.stage = "unknown"
        write.blocked_until = self.now + BLOCK_S
        write.announcing = self.spawn(write.replica, write.replica.cache.block(write.scope, BLOCK_S), is_prompt)

    @precondition(lambda self: any(write.stage == "unknown" for write in self.writes))
    @rule(data=st.data())
    def unknown_write_is_applied(self, data: st.DataObject) -> None:
        self.apply_unknown(data.draw(st.sampled_from([write for write in self.writes if write.stage == "unknown"])))

    def apply_unknown(self, write: Write) -> None:
        if self.now < write.blocked_until and not write.version:
            write.version = self.truths[write.scope].write(self.now)

    @invariant()
    def note_what_is_due(self) -> None:
        """A write is due to its own replica's readers once its caller is answered, or its block is over. The block
        holds there from when its caller is answered."""
        for write in list(getattr(self, "writes", ())):
            due, blocked = write.replica.due, write.replica.blocked_until
            if not write.announcing.done() or write.stage not in ("ending", "unknown"):
                continue
            blocked[write.scope] = max(blocked[write.scope], write.blocked_until)
            if write.blocked_until <= self.now:
                due[write.scope] = max(due[write.scope], write.version)
                self.writes.remove(write)

    # --- time and the store

    @rule(seconds=times)
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        for scope, truth in self.truths.items():
            if 0 < truth.blocked_until <= self.now:
                self.redis.delete(f"{self.prefix}:b:{{tenant:route:thread:{scope.upstream_id}}}")
                truth.blocked_until = 0.0
                truth.due = truth.version  # while it was blocked nobody could keep anything
        self.wake()
        self.turn()

    @property
    def waiting(self) -> list[tuple[Wire, Call]]:
        return [(replica.wire, call) for replica in self.replicas for call in replica.wire.waiting]

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def command_is_carried_out(self, data: st.DataObject) -> None:
        wire, call = data.draw(st.sampled_from(self.waiting))
        if not call.was_run:
            wire.carry_out(call)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def command_is_answered(self, data: st.DataObject) -> None:
        wire, call = data.draw(st.sampled_from(self.waiting))
        wire.deliver(call)
        self.turn()

    @rule(replica=replicas)
    def everything_arrives(self, replica: int) -> None:
        self.deliver_all(self.replicas[replica])

    @precondition(lambda self: self.late)
    @rule(data=st.data())
    def lost_command_is_carried_out_after_all(self, data: st.DataObject) -> None:
        call = data.draw(st.sampled_from(self.late))
        self.late.remove(call)
        call.run(self.redis)
        self.note_run(call)

    @rule(data=st.data(), replica=replicas, scope=scopes, fault=faults)
    def something_fails(self, data: st.DataObject, replica: int, scope: Scope, fault: str) -> None:
        match fault:
            case "cut":
                self.cut(self.replicas[replica].wire)
            case "evict":
                self.redis.delete(f"{self.prefix}:c:{{tenant:route:thread:{scope.upstream_id}}}")
            case "replace":
                self.replace(replica)
            case _ if self.waiting:
                _, call = data.draw(st.sampled_from(self.waiting))
                self.lose(call) if fault == "lose" else call.caller.set_exception(ResponseError("MISCONF disk full"))
        self.turn()

    def lose(self, call: Call) -> None:
        """Its caller is told that the store is away; if the store has not got it yet, it still may."""
        if not call.was_run:
            self.late.append(call)
        call.lose()

    def cut(self, wire: Wire) -> None:
        wire.is_away = True
        for call in wire.waiting:
            self.lose(call)
        self.turn()

    def replace(self, replica: int) -> None:
        """By a process that remembers nothing: to it the writes that were not announced are somebody else's."""
        gone = self.replicas[replica]
        self.cut(gone.wire)
        self.writes = [write for write in self.writes if write.replica is not gone]
        self.replicas[replica] = self.new_replica(replica)

    @precondition(lambda self: any(replica.wire.is_away for replica in self.replicas))
    @rule(is_prompt=st.booleans())
    def stores_come_back(self, is_prompt: bool) -> None:
        for replica in range(2):
            self.store_comes_back(replica, is_prompt)

    def store_comes_back(self, replica: int, is_prompt: bool) -> None:
        back = self.replicas[replica]
        if back.wire.is_away:
            back.wire.is_away = False
            self.spawn(back, back.cache.catch_up(), is_prompt)


@pytest.mark.one_server
@pytest.mark.parametrize(
    ("examples", "steps"),
    [(100, 25), pytest.param(5000, 40, marks=[pytest.mark.long, pytest.mark.timeout(1800)])],
)
def test_nothing_is_found_that_is_older_than_it_may_be(valkey: str, examples: int, steps: int) -> None:
    """Whoever reads finds at least what was there when its scope was last dropped, when its own replica's last write
    was answered, and one TTL ago."""
    Machine.valkey = valkey
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
