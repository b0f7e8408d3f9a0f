"""The work of one claim on a run: from what is stored, generation by generation, to the run's end or to the tool calls
that its caller has to answer.

While the store is away the model is listened to, and what it says waits: writes are tried again until the run's time is
over. Nothing is told of an object before it is stored, and no end before it is.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from gateway import codec
from gateway.auditing import Auditing, NoAuditing
from gateway.ending import end
from gateway.engine import objects
from gateway.engine.asking import ASK_MODEL, Asking
from gateway.engine.models.generation import Delta, Failure, Finish, Generation, ImageFile, Json, Message, Usage
from gateway.engine.resources import Resources, resources_of
from gateway.engine.store.endings import Ending, EndStatus
from gateway.engine.store.events import Event
from gateway.engine.store.history import read_history
from gateway.engine.store.publisher import Publisher, Told
from gateway.engine.store.results import Absent, Claim, Lost, Written
from gateway.engine.store.stored import Stored
from gateway.engine.store.work import Change
from gateway.engine.transcript import (
    Transcript,
    as_generation,
    fit_transcript,
    left_of,
    read_transcript,
    with_outputs,
    with_round,
)
from gateway.engine.vector_stores import Cause, VectorStores
from gateway.engine.writing import Writing, answered_step, shown_step
from gateway.engine.writing import Written as Noted
from gateway.errors import GatewayError
from gateway.model import Target
from gateway.store.connection import StoreAway
from gateway.telemetry import Record, log

T = TypeVar("T")

Stop = Literal["cancelled", "expired"]
Before = Callable[[bytes], Awaitable[None]]
"""Is told what a model will be asked, and raises GatewayError where it must not be."""

_AGAIN_S = 0.25
"""Between two tries to write while the store is away."""
_EARLY_S = 0.2
"""So long before its time is over a run is ended by who works on it: others would not have what it said."""
_LATE_S = 60.0
"""So long after the run's time writes are still tried: until then nobody can tell its caller how it ended."""
_INDEXING_S = 60.0
"""So long a run waits for the thread's files, as OpenAI's did."""
_INDEXED_S = 1.0
"""Between two looks whether they can be searched."""
_MOST_PAUSES = 20
"""A model that pauses more often in one claim does not come to an end."""
_MOST_TAKEOVERS = 3
"""A run that was torn from so many replicas in a row may be what kills them."""


class ClaimLost(Exception):
    """Another replica has the run, or it has ended, or its thread is gone: there is nothing more to do."""


@dataclass(frozen=True)
class Job:
    """What there is to do. `context` is what was kept with the run; `outputs` were submitted for the calls of its last
    round; the rest is what a takeover found."""

    claim: Claim
    context: Json
    run: Json | None = None
    """As it is, where that is known."""
    thread: Json | None = None
    """Made in the same request: the first event tells of it."""
    outputs: Sequence[Json] | None = None
    is_streamed: bool = False
    shows_contents: bool = False
    """Its stream tells the contents of what a file search found."""
    request_id: str | None = None
    """Of the request that this is done for."""
    takeovers: int = 0
    interrupted_messages: Sequence[str] = ()
    interrupted_steps: Sequence[str] = ()


@dataclass
class _Heard:
    """What the model said and was not read yet, and why to stop."""

    deltas: list[Delta] = field(default_factory=list)
    noted: Noted = field(default_factory=Noted)
    """What was read already, and has to be written before it is told."""
    is_awaited: bool = False
    """Nothing is being written: whoever hears may read."""
    stop: Stop | None = None
    is_lost: bool = False
    stirred: asyncio.Event = field(default_factory=asyncio.Event)


class Working:
    """One job. `publisher` is None for a run of which nobody asked for a stream; `target` is whose models it uses, None
    if the configuration does not have that any more. `clock` tells seconds since 1970."""

    def __init__(
        self,
        job: Job,
        *,
        stored: Stored,
        publisher: Publisher | None,
        asking: Asking,
        stores: VectorStores,
        auditing: Auditing | NoAuditing,
        target: Target | None,
        clock: Callable[[], float],
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.job = job
        self.ended: Json | None = None
        """The run, once its end is stored."""
        self.used: Json | None = None
        """What the run has used so far, as its usage tells it."""
        self._stored = stored
        self._publisher = publisher
        self._asking = asking
        self._stores = stores
        self._auditing = auditing
        self._target = target
        self._clock = clock
        self._pause = pause
        self._heard = _Heard()
        self._run: Json = job.run or {}
        self._transcript = Transcript((), (), None, None)
        self._resources = Resources()
        self._pauses = 0

    @property
    def _claim(self) -> Claim:
        return self.job.claim

    # --- told from outside -------------------------------------------------------------------------------------------
    def stop(self, why: Stop) -> None:
        """The run is to end now. What it has begun is kept."""
        if self._heard.stop is None:
            self._heard.stop = why
            self._heard.stirred.set()

    def lose(self) -> None:
        """The claim is lost."""
        self._heard.is_lost = True
        self._heard.stirred.set()

    # --- the work ----------------------------------------------------------------------------------------------------
    async def __call__(self) -> None:
        """Raises ClaimLost, and StoreAway when the store stayed away until long after the run's time."""
        loop = asyncio.get_running_loop()
        left_s = self._claim.expires_at - self._clock() - _EARLY_S
        expiry = loop.call_later(max(0.0, left_s), self.stop, "expired")
        try:
            await self._begin()
            if self._heard.stop is None and (refusal := self._refusal()) is not None:
                await self._fail(refusal)
            elif self._heard.stop is None and self.job.outputs is None:
                await self._let_index()
            while self.ended is None and await self._round():
                pass
        finally:
            expiry.cancel()

    async def fail(self, why: str) -> None:
        """End the run because the gateway itself failed. Raises as the work does."""
        if self.ended is None and self._run:
            await self._fail(Failure("server_error", why), used=self.used)

    async def _begin(self) -> None:
        if not self._run:
            found = await self._late(lambda: self._stored.runs.get(self._claim.thread, self._claim.run))
            if isinstance(found, Absent):
                raise ClaimLost
            self._run = found
        if self.job.thread is not None:
            self._tell("thread.created", self.job.thread)
        if self.job.outputs is None and self.job.takeovers == 0:
            self._tell("thread.run.created", self._run)
            self._tell("thread.run.queued", self._run)
        started = int(self._clock())
        await self._write(lambda: self._stored.work.start(self._claim, now=started))
        history = await self._late(lambda: read_history(self._stored.store, self._claim.thread))
        self._transcript = read_transcript(history, self._claim.run)
        self._resources = self._of_the_thread() + resources_of(self._run.get("tool_resources"))
        self.used = self._transcript.used
        self._tell_interrupted(history)
        if self.job.outputs is not None:
            await self._take_outputs(self.job.outputs)
        self._run = objects.started_run(self._run, now=started)
        self._tell("thread.run.in_progress", self._run)

    def _of_the_thread(self) -> Resources:
        """What the thread had when the run was made, and what its messages attach."""
        found = resources_of(self.job.context.get("thread_resources"))
        return found + Resources(files=tuple(self._transcript.attached))

    def _tell_interrupted(self, history: Sequence[Json]) -> None:
        """Who listens has read part of what the replica before us had begun."""
        for each in history:
            if each["id"] in self.job.interrupted_messages:
                self._tell("thread.message.incomplete", each)
        for each in history:
            if each["id"] in self.job.interrupted_steps:
                self._tell("thread.run.step.failed", shown_step(each, with_contents=self.job.shows_contents))

    async def _take_outputs(self, outputs: Sequence[Json]) -> None:
        waiting = self._transcript.waiting
        if waiting is not None:  # else the replica before us has done it
            step = answered_step(waiting, outputs, now=int(self._clock()))
            await self._write(lambda: self._stored.work.write(self._claim, Change("commit", "step", step)))
            self._transcript = with_outputs(self._transcript, outputs)
            self._tell("thread.run.step.completed", shown_step(step))
        self._run = {**self._run, "status": "queued", "required_action": None}
        self._tell("thread.run.queued", self._run)

    def _refusal(self) -> Failure | None:
        """Why no model is asked at all."""
        if self.job.takeovers > _MOST_TAKEOVERS:
            return Failure("server_error", "the run was interrupted again and again, and is given up")
        if self._target is None:
            return Failure("server_error", "the provider of the run's assistant is not configured any more")
        if self.job.context["route"] != self.job.context["runs_at"] and self._needs_files_of_the_thread():
            why = "files of the thread are in another account than the assistant, whose models cannot read them"
            return Failure("invalid_prompt", why)
        return None

    def _needs_files_of_the_thread(self) -> bool:
        has_images = any(
            isinstance(part, ImageFile)
            for turn in self._transcript.turns
            if isinstance(turn, Message)
            for part in turn.parts
        )
        return has_images or self._of_the_thread().needed_by(self._run["tools"])

    async def _let_index(self) -> None:
        """Wait for files that were just attached, as OpenAI's runs did for the thread's vector store and for no other
        (its notes on file search, 2024–2026). Raises ClaimLost."""
        stores = resources_of(self.job.context.get("thread_resources")).vector_stores
        if not stores or all(tool["type"] != "file_search" for tool in self._run["tools"]):
            return
        tasks = [asyncio.create_task(self._until_indexed(stores)), asyncio.create_task(self._heard.stirred.wait())]
        try:
            await asyncio.wait(tasks, timeout=_INDEXING_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end(tasks)
        if self._heard.is_lost:
            raise ClaimLost

    async def _until_indexed(self, stores: Sequence[str]) -> None:
        assert self._target is not None
        deadline = asyncio.get_running_loop().time() + _INDEXING_S
        cause = Cause(self._target, Record("idx_" + secrets.token_hex(12), "GET", ""), deadline)
        for store in stores:
            while await self._stores.is_indexing(cause, store):
                await self._pause(_INDEXED_S)

    async def _round(self) -> bool:
        """One generation. Whether there is another."""
        if self._heard.stop is not None:
            await self._stop(self._heard.stop, Writing(self._run, self._clock))
            return False
        run, used, target = self._run, self._transcript.used, self._target
        assert target is not None
        fitted = fit_transcript(self._transcript, run)
        left = left_of(run["max_completion_tokens"], used, "completion_tokens")
        if not fitted.fits or (left is not None and left <= 0):
            reason = "max_completion_tokens" if fitted.fits else "max_prompt_tokens"
            await self._end("incomplete", Noted(), reason=reason)
            return False
        model = target.provider.models_asked.get(run["model"], run["model"])
        generation = as_generation(
            run, self.job.context["said"], fitted.turns, model=model, left=left, resources=self._resources
        )
        writing = Writing(run, self._clock, shows_contents=self.job.shows_contents)
        record = self._record(target, generation)
        audited = self._auditing.generation(record, writing.said)
        try:
            await self._generate(target, generation, writing, record, audited.start)
            await audited.finish()
        except GatewayError as error:
            if isinstance(writing.end, Finish):  # it must not look as if it had been recorded
                writing.end = Failure("server_error", error.message)
        finally:
            audited.close()
        return await self._conclude(writing)

    def _record(self, target: Target, generation: Generation) -> Record:
        """What is to be learnt of one call of a model; with what is known before."""
        record = Record("gen_" + secrets.token_hex(16), "POST", "", tenant_id=self.job.context["tenant"])
        called: Json = self.job.context["called"]
        record.note(
            generation_id=record.request_id,
            request_id=self.job.request_id or called["request_id"],
            tenant=called["tenant"],
            operation=ASK_MODEL.name,
            provider=target.provider.name,
            vendor=target.provider.vendor.name,
            account=target.account.name,
            public_ids=[called["thread"], called["run"]],
            upstream_ids=[self._claim.thread, self._claim.run],
            thread=called["thread"],
            run=called["run"],
            takeovers=self.job.takeovers or None,
            model=self._run["model"],
            upstream_model=generation.model,
        )
        return record

    async def _conclude(self, writing: Writing) -> bool:
        """What follows from how a generation ended. Whether another does."""
        if (stop := self._heard.stop) is not None and writing.end is None:
            await self._stop(stop, writing)
            return False
        used = objects.added_usage(self._transcript.used, writing.usage)
        match writing.end:
            case Finish("tool_calls"):
                return await self._wait(writing, used)
            case Finish("paused"):
                return await self._go_on(writing, used)
            case Finish("stop"):
                await self._end("completed", writing.complete(), usage=used)
            case Finish("length"):
                cut = writing.cut("completed", "max_completion_tokens")
                await self._end("incomplete", cut, usage=used, reason="max_completion_tokens")
            case Finish("content_filter"):
                cut = writing.cut("completed", "content_filter")
                await self._end("incomplete", cut, usage=used, reason="content_filter")
            case Failure() as failure:
                await self._fail(failure, writing, used)
        return False

    async def _go_on(self, writing: Writing, used: Json | None) -> bool:
        """Ask again with what the model said so far. What it told stays a message of its own, as between two rounds."""
        self._pauses += 1
        if self._pauses > _MOST_PAUSES:
            await self._fail(Failure("server_error", "the model paused again and again"), writing, used)
            return False
        await self._write_and_tell(writing.pause(), used)
        self._transcript = with_round(self._transcript, writing.round, used)
        return True

    async def _wait(self, writing: Writing, used: Json | None) -> bool:
        """For the outputs of the calls, unless the run is being cancelled. Never another generation of this claim."""
        noted, calls = writing.wait(), writing.calls
        waiting = objects.waiting_run(self._run, calls, None)
        asked = waiting["required_action"]["submit_tool_outputs"]["tool_calls"]
        told = (*noted.told, _told("thread.run.requires_action", waiting))
        staged = self._stage(told, is_last=True)
        result = await self._write(
            lambda: self._stored.work.require_action(self._claim, asked, *noted.changes, usage=used, events=staged)
        )
        if result.status == "requires_action":
            self._confirm(staged)
            return False
        # Nothing of it was written: the message is whole all the same.
        cut = writing.cut("cancelled", "cancelled")
        whole = Noted((*noted.changes, *cut.changes), (*noted.told, *cut.told))
        await self._end_stopped("cancelled", whole, used)
        return False

    async def _generate(
        self, target: Target, generation: Generation, writing: Writing, record: Record, before: Before
    ) -> None:
        """Until the model has ended or the run is to stop. Raises ClaimLost."""
        listening = asyncio.create_task(self._listen(target, generation, writing, record, before), name="run.listen")
        heard = self._heard
        try:
            while writing.end is None and heard.stop is None:
                heard.is_awaited = True
                await heard.stirred.wait()
                heard.is_awaited = False
                heard.stirred.clear()
                if heard.is_lost:
                    raise ClaimLost
                noted = _joined(heard.noted, writing.take(heard.deltas))
                heard.noted, heard.deltas = Noted(), []
                if any(change.act == "commit" for change in noted.changes):
                    await self._write_and_tell(noted)
                    continue
                if noted.changes:
                    changes = noted.changes
                    await self._write(lambda: self._stored.work.write(self._claim, *changes))  # noqa: B023
                self._publish(noted.told)
        finally:
            await end([listening])
            # What was used was used, though nobody listens to the rest any more.
            writing.take([delta for delta in heard.deltas if isinstance(delta, Usage)])
            heard.deltas = []
            self.used = objects.added_usage(self._transcript.used, writing.usage)
            self._note(writing, record)

    async def _listen(
        self, target: Target, generation: Generation, writing: Writing, record: Record, before: Before
    ) -> None:
        patience_s = max(0.0, self._claim.expires_at - self._clock())
        is_whole = False
        try:
            thread = self._claim.thread
            asking = self._asking(
                target,
                generation,
                record,
                before=before,
                unheard=lambda usage: self._hear([usage], writing),
                thread=thread,
                patience_s=patience_s,
            )
            async with aclosing(asking) as said:
                async for deltas in said:
                    record.first_byte()
                    is_whole = isinstance(deltas[-1], Finish | Failure)
                    self._hear(deltas, writing)
        except Exception:
            log.exception("generation.crashed", upstream_id=self._claim.run)
        if not is_whole:
            self._hear([Failure("server_error", "the gateway failed while it asked the model")], writing)

    def _hear(self, deltas: Sequence[Delta], writing: Writing) -> None:
        """What begins nothing and ends nothing is told from here: most deltas are so, and no task is woken for them."""
        heard = self._heard
        if not heard.is_awaited or heard.stirred.is_set():
            heard.deltas += deltas
        else:
            noted = writing.take(deltas)
            if not noted.changes and writing.end is None:
                self._publish(noted.told)
                return
            heard.noted = noted
        heard.stirred.set()

    def _publish(self, told: Sequence[Told]) -> None:
        if self._publisher is not None and told:
            self._publisher.send(*told)
            if self._publisher.is_lost:
                self.lose()

    def _note(self, writing: Writing, record: Record) -> None:
        """The line of one call of a model, and what the trail has to say of it."""
        ended, attempts = writing.end, record.attempts
        record.note(usage=writing.usage, status=attempts[-1].get("status") if attempts else None)
        match ended:
            case Finish(reason):
                record.note(outcome="done", finish_reason=reason)
            case Failure(code):
                record.note(outcome="failed", error_code=code, error=ended.message)
            case None:
                record.note(outcome="stopped" if self._heard.stop is not None else "broken_off")
        emit = log.warning if isinstance(ended, Failure) else log.info
        emit("generation.done", **record.shown(), attempts=attempts, duration_s=record.elapsed_s())

    # --- ending ------------------------------------------------------------------------------------------------------
    async def _stop(self, why: Stop, writing: Writing) -> None:
        used = objects.added_usage(self._transcript.used, writing.usage)
        await self._end_stopped(why, writing.cut(why, why), used)

    async def _end_stopped(self, why: Stop, noted: Noted, used: Json | None) -> None:
        if why == "cancelled":
            self._run = {**self._run, "status": "cancelling"}
            self._tell("thread.run.cancelling", self._run)
        await self._end(why, noted, usage=used)

    async def _fail(self, failure: Failure, writing: Writing | None = None, used: Json | None = None) -> None:
        error = {"code": failure.code, "message": failure.message}
        noted = writing.cut("failed", "failed", error) if writing is not None else Noted()
        await self._end("failed", noted, usage=used or self._transcript.used, error=error)

    async def _end(
        self,
        status: EndStatus,
        noted: Noted,
        *,
        usage: Json | None = None,
        error: Json | None = None,
        reason: str | None = None,
    ) -> None:
        now = int(self._clock())
        usage = usage or self._transcript.used
        ended = objects.ended_run(self._run, status, now=now, usage=usage, last_error=error, incomplete=reason)
        staged = self._stage((*noted.told, _told(f"thread.run.{status}", ended)), is_last=True)
        ending = Ending(status, now, usage=usage, error=error, reason=reason)
        await self._write(lambda: self._stored.work.finish(self._claim, ending, *noted.changes, events=staged))
        self.ended = ended
        self._confirm(staged)

    # --- telling and writing -----------------------------------------------------------------------------------------
    def _tell(self, name: str, data: Json) -> None:
        if self._publisher is not None:
            self._publisher.send(_told(name, data))

    def _stage(self, told: Sequence[Told], *, is_last: bool = False) -> tuple[Event, ...]:
        return self._publisher.stage(*told, is_last=is_last) if self._publisher is not None else ()

    def _confirm(self, staged: Sequence[Event]) -> None:
        if self._publisher is not None:
            self._publisher.confirm(staged)

    async def _write_and_tell(self, noted: Noted, used: Json | None = None) -> None:
        """What ends, with the events that tell of it: who takes over has no need to tell them. `used` is what the run
        has used, where a generation has ended."""
        staged = self._stage(noted.told)
        await self._write(lambda: self._stored.work.write(self._claim, *noted.changes, usage=used, events=staged))
        self._confirm(staged)

    async def _write(self, write: Callable[[], Awaitable[Written | Lost]]) -> Written:
        result = await self._late(write)
        if isinstance(result, Lost):
            raise ClaimLost
        if result.status == "cancelling":
            self.stop("cancelled")
        return result

    async def _late(self, work: Callable[[], Awaitable[T]]) -> T:
        """Carry out what needs the store, as often as it takes. Raises StoreAway long after the run's time is over, and
        ClaimLost."""
        while True:
            try:
                return await work()
            except StoreAway:
                if self._clock() > self._claim.expires_at + _LATE_S:
                    raise
            if self._heard.is_lost:
                raise ClaimLost
            await self._pause(_AGAIN_S)


def _joined(first: Noted, then: Noted) -> Noted:
    return Noted([*first.changes, *then.changes], [*first.told, *then.told])


def _told(name: str, data: Any) -> Told:
    return name, codec.dumps(data)
