"""The work of one claim on a run: from what is stored, generation by generation, to the run's end or to the tool calls
that its caller has to answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from gateway.auditing import Auditing, NoAuditing
from gateway.ending import end
from gateway.engine import objects
from gateway.engine.asking import Asking
from gateway.engine.committing import ClaimLost, Committing, Orders, Stop, told
from gateway.engine.generating import Generating
from gateway.engine.job import Job
from gateway.engine.models.generation import Failure, Finish, Generation, ImageFile, Json, Message
from gateway.engine.resources import Resources, resources_of
from gateway.engine.store.endings import Ending, EndStatus
from gateway.engine.store.history import read_history
from gateway.engine.store.publisher import Publisher
from gateway.engine.store.results import Absent, Claim
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
from gateway.engine.vector_stores import VectorStores
from gateway.engine.writing import Writing, answered_step, shown_step
from gateway.engine.writing import Written as Noted
from gateway.errors import GatewayError
from gateway.model import Target

_EARLY_S = 0.2
"""So long before its time is over a run is ended by who works on it: others would not have what it said."""
_MOST_PAUSES = 20
"""A model that pauses more often in one claim does not come to an end."""
_MOST_TAKEOVERS = 3
"""A run that was torn from so many replicas in a row may be what kills them."""


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
        self._orders = Orders()
        self._committing = Committing(job.claim, stored.work, publisher, self._orders, clock=clock, pause=pause)
        self._asking = asking
        self._stores = stores
        self._auditing = auditing
        self._target = target
        self._clock = clock
        self._pause = pause
        self._generating: list[Generating] = []
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
        self._orders.stop_for(why)

    def lose(self) -> None:
        """The claim is lost."""
        self._orders.lose()

    # --- the work ----------------------------------------------------------------------------------------------------
    async def __call__(self) -> None:
        """Raises ClaimLost, and StoreAway when the store stayed away until long after the run's time."""
        loop = asyncio.get_running_loop()
        left_s = self._claim.expires_at - self._clock() - _EARLY_S
        expiry = loop.call_later(max(0.0, left_s), self.stop, "expired")
        try:
            await self._begin()
            if self._orders.stop is None and (refusal := self._refusal()) is not None:
                await self._fail(refusal)
            elif self._orders.stop is None and self.job.outputs is None:
                await self._let_index()
            while self.ended is None and await self._round():
                pass
        finally:
            expiry.cancel()
            for generating in self._generating:
                await generating.close()

    async def fail(self, why: str) -> None:
        """End the run because the gateway itself failed. Raises as the work does."""
        if self.ended is None and self._run:
            await self._fail(Failure("server_error", why), used=self.used)

    async def _begin(self) -> None:
        if not self._run:
            found = await self._committing.late(lambda: self._stored.runs.get(self._claim.thread, self._claim.run))
            if isinstance(found, Absent):
                raise ClaimLost
            self._run = found
        if self.job.thread is not None:
            self._committing.tell("thread.created", self.job.thread)
        if self.job.outputs is None and self.job.takeovers == 0:
            self._committing.tell("thread.run.created", self._run)
            self._committing.tell("thread.run.queued", self._run)
        started = int(self._clock())
        await self._committing.start(started)
        history = await self._committing.late(lambda: read_history(self._stored.store, self._claim.thread))
        self._transcript = read_transcript(history, self._claim.run)
        self._resources = self._of_the_thread() + resources_of(self._run.get("tool_resources"))
        self.used = self._transcript.used
        self._tell_interrupted(history)
        if self.job.outputs is not None:
            await self._take_outputs(self.job.outputs)
        self._run = objects.started_run(self._run, now=started)
        self._committing.tell("thread.run.in_progress", self._run)

    def _of_the_thread(self) -> Resources:
        """What the thread had when the run was made, and what its messages attach."""
        found = resources_of(self.job.context.get("thread_resources"))
        return found + Resources(files=tuple(self._transcript.attached))

    def _tell_interrupted(self, history: Sequence[Json]) -> None:
        """Who listens has read part of what the replica before us had begun."""
        for each in history:
            if each["id"] in self.job.interrupted_messages:
                self._committing.tell("thread.message.incomplete", each)
        for each in history:
            if each["id"] in self.job.interrupted_steps:
                self._committing.tell("thread.run.step.failed", shown_step(each, with_contents=self.job.shows_contents))

    async def _take_outputs(self, outputs: Sequence[Json]) -> None:
        waiting = self._transcript.waiting
        if waiting is not None:  # else the replica before us has done it
            step = answered_step(waiting, outputs, now=int(self._clock()))
            ended = told("thread.run.step.completed", shown_step(step))
            await self._committing.commit(Noted([Change("commit", "step", step)], [ended]))
            self._transcript = with_outputs(self._transcript, outputs)
        self._run = {**self._run, "status": "queued", "required_action": None}
        self._committing.tell("thread.run.queued", self._run)

    def _refusal(self) -> Failure | None:
        """Why no model is asked at all."""
        if self.job.takeovers > _MOST_TAKEOVERS:
            return Failure("server_error", "the run was interrupted again and again, and is given up")
        if self._target is None or not self._target.provider.is_served:  # a reload did that
            return Failure("server_error", "the provider of the run's assistant serves no threads any more")
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
        assert self._target is not None
        tasks = [
            asyncio.create_task(self._stores.until_indexed(self._target, stores, pause=self._pause)),
            asyncio.create_task(self._orders.stirred.wait()),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end(tasks)
        if self._orders.is_lost:
            raise ClaimLost

    async def _round(self) -> bool:
        """One generation. Whether there is another."""
        if self._orders.stop is not None:
            await self._stop(self._orders.stop, Writing(self._run, self._clock))
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
        await self._generate(target, generation, writing)
        return await self._conclude(writing)

    async def _generate(self, target: Target, generation: Generation, writing: Writing) -> None:
        """Ask the model; that is in the audit trail before anything follows from it. Raises as Committing does."""
        record = self.job.record(target, model=self._run["model"], upstream_model=generation.model)
        audited = self._auditing.generation(record, writing.said)
        generating = Generating(
            self._claim,
            target,
            generation,
            writing,
            record,
            asking=self._asking,
            committing=self._committing,
            orders=self._orders,
            patience_s=max(0.0, self._claim.expires_at - self._clock()),
        )
        self._generating.append(generating)
        try:
            await generating(audited.start)
            await audited.finish()
        except GatewayError as error:
            if isinstance(writing.end, Finish):  # it must not look as if it had been recorded
                writing.end = Failure("server_error", error.message)
        finally:
            self.used = objects.added_usage(self._transcript.used, writing.usage)
            audited.close()

    async def _conclude(self, writing: Writing) -> bool:
        """What follows from how a generation ended. Whether another does."""
        if (stop := self._orders.stop) is not None and writing.end is None:
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
        await self._committing.commit(writing.pause(), used)
        self._transcript = with_round(self._transcript, writing.round, used)
        return True

    async def _wait(self, writing: Writing, used: Json | None) -> bool:
        """For the outputs of the calls, unless the run is being cancelled. Never another generation of this claim."""
        noted, calls = writing.wait(), writing.calls
        waiting = objects.waiting_run(self._run, calls, None)
        asked = waiting["required_action"]["submit_tool_outputs"]["tool_calls"]
        whole = Noted(noted.changes, (*noted.told, told("thread.run.requires_action", waiting)))
        if await self._committing.wait(asked, whole, used=used):
            return False
        # Nothing of it was written: the message is whole all the same.
        cut = writing.cut("cancelled", "cancelled")
        whole = Noted((*noted.changes, *cut.changes), (*noted.told, *cut.told))
        await self._end_stopped("cancelled", whole, used)
        return False

    # --- ending ------------------------------------------------------------------------------------------------------
    async def _stop(self, why: Stop, writing: Writing) -> None:
        used = objects.added_usage(self._transcript.used, writing.usage)
        await self._end_stopped(why, writing.cut(why, why), used)

    async def _end_stopped(self, why: Stop, noted: Noted, used: Json | None) -> None:
        if why == "cancelled":
            self._run = {**self._run, "status": "cancelling"}
            self._committing.tell("thread.run.cancelling", self._run)
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
        whole = Noted(noted.changes, (*noted.told, told(f"thread.run.{status}", ended)))
        await self._committing.end(Ending(status, now, usage=usage, error=error, reason=reason), whole)
        self.ended = ended
