"""Operations on served runs and their steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from gateway import codec
from gateway.engine import objects, refusals
from gateway.engine.asked import Answer, Asked, as_list, as_object, found, new_messages
from gateway.engine.job import Job, context_of
from gateway.engine.models.generation import Json
from gateway.engine.resources import needs_resources
from gateway.engine.running import Running
from gateway.engine.serving_objects import ServingObjects
from gateway.engine.store.events import START, EventId
from gateway.engine.store.ids import mint
from gateway.engine.store.results import Absent, NothingToRun, RunActive, WrongOutputs, WrongStatus
from gateway.engine.store.runs import Started
from gateway.engine.store.stored import Stored
from gateway.engine.streams import RunStream
from gateway.engine.writing import shown_step
from gateway.errors import GatewayError, bad_request
from gateway.phases.send import Response
from gateway.public_ids import join_place


class ServingRuns:
    """Lives as long as the process."""

    def __init__(self, stored: Stored, running: Running, served: ServingObjects) -> None:
        self._stored = stored
        self._running = running
        self._objects = served
        self.operations: Mapping[str, Answer] = {
            "create_run": self._create_run,
            "create_thread_and_run": self._create_thread_and_run,
            "get_run": self._get_run,
            "modify_run": self._modify_run,
            "cancel_run": self._cancel_run,
            "submit_tool_outputs": self._submit_tool_outputs,
            "list_runs": self._list_runs,
            "get_run_step": self._get_step,
            "list_run_steps": self._list_steps,
        }

    # --- runs --------------------------------------------------------------------------------------------------------
    async def _create_run(self, asked: Asked) -> Response:
        body, thread = asked.body, asked.ids["thread"]
        messages = new_messages(body.get("additional_messages"), thread, asked.now)
        started = await self._start(asked, thread, messages)
        return self._begun(asked, Job(started.claim, dict(started.context), started.run))

    async def _create_thread_and_run(self, asked: Asked) -> Response:
        """What can be refused is looked at first: a refusal leaves no thread behind."""
        _ = asked.telling
        await self._objects.assistant(asked.runs_at.account.route, asked.body["assistant_id"])
        thread = await self._objects.new_thread(asked, asked.body.get("thread") or {})
        try:
            started = await self._start(asked, thread["id"], ())
        except GatewayError:
            await self._stored.threads.delete(thread["id"], now=asked.now)
            raise
        return self._begun(asked, Job(started.claim, dict(started.context), started.run, thread=thread))

    async def _start(self, asked: Asked, thread: str, messages: Sequence[Json]) -> Started:
        body, telling, route = asked.body, asked.telling, asked.runs_at.account.route
        kept = await self._objects.assistant(route, body["assistant_id"])
        run = objects.run(body, objects.assistant(kept), id=mint("run"), thread=thread, now=int(asked.now))
        if route != asked.account:
            run["assistant_id"] = join_place(kept["id"], route)
        await self._objects.attach(asked, thread, messages)
        context = context_of(
            tenant=asked.sending.tenant,
            route=asked.account,
            runs_at=route,
            said=objects.said(body, kept),
            called=_called(asked, thread, run["id"]),
            thread_resources=await self._resources(asked, thread) if needs_resources(run["tools"]) else {},
            telling=telling,
        )
        result = await self._stored.runs.create(
            thread,
            run,
            messages,
            needs_user_message=not run["instructions"],
            context=context,
            now=asked.now,
        )
        match result:
            case Started():
                return result
            case RunActive():
                raise refusals.already_active(thread, result)
            case NothingToRun():
                raise refusals.nothing_to_run(result)
            case Absent():
                raise refusals.unknown(result, {"thread": thread})

    async def _resources(self, asked: Asked, thread: str) -> Json:
        """What the thread has for hosted tools, now."""
        resources, _ = found(await self._stored.threads.read_resources(thread), asked)
        return dict(resources)

    def _begun(self, asked: Asked, job: Job) -> Response:
        """Work on it, and answer with what it tells, or with how it stands now."""
        assert job.run is not None
        shows_contents = asked.shows_contents or bool(job.context.get("shows_contents"))
        job = replace(job, is_streamed=asked.wants_stream, shows_contents=shows_contents)
        run = codec.loads(codec.dumps(job.run))  # what is answered is written into
        self._running.begin(job)
        return (
            self._stream(job.claim.thread, job.claim.run, EventId(job.claim.epoch, 0))
            if job.is_streamed
            else as_object(run)
        )

    def _stream(self, thread: str, run: str, after: EventId) -> Response:
        relayed = RunStream(self._stored.events.subscribe(thread, run, after))
        return Response(200, relayed.headers, relayed=relayed, again=f"{thread} {run} {after}")

    async def _get_run(self, asked: Asked) -> Response:
        thread, run = asked.ids["thread"], asked.ids["run"]
        kept = found(await self._stored.runs.get(thread, run), asked)
        if asked.query.get("stream") != "true":
            return as_object(kept)
        after = asked.query.get("starting_after") or asked.sending.outbound.headers.get("Last-Event-ID")
        start = EventId.parse(after) if after else START
        if start is None:
            message = "Invalid 'starting_after': expected the id of an event, such as '1-7'."
            raise bad_request(message, param="starting_after", code="invalid_value")
        if not await self._stored.events.has_told(thread, run):
            raise refusals.tells_nothing(run)
        return self._stream(thread, run, start)

    async def _modify_run(self, asked: Asked) -> Response:
        metadata = asked.body.get("metadata")
        if metadata is None:
            return as_object(found(await self._stored.runs.get(asked.ids["thread"], asked.ids["run"]), asked))
        kept = await self._stored.runs.modify(asked.ids["thread"], asked.ids["run"], metadata)
        return as_object(found(kept, asked))

    async def _cancel_run(self, asked: Asked) -> Response:
        _ = asked.body
        result = await self._stored.runs.cancel(asked.ids["thread"], asked.ids["run"], now=asked.now)
        if isinstance(result, WrongStatus):
            raise refusals.cannot_cancel(result)
        run = found(result, asked)
        self._running.cancel(asked.ids["run"])
        return as_object(run)

    async def _submit_tool_outputs(self, asked: Asked) -> Response:
        outputs = asked.body["tool_outputs"]
        result = await self._stored.runs.submit(
            asked.ids["thread"],
            asked.ids["run"],
            outputs,
            telling=asked.telling,
            request_id=asked.record.request_id,
            now=asked.now,
        )
        match result:
            case Started(claim, run, context):
                job = Job(claim, dict(context), run, outputs=outputs, request_id=asked.record.request_id)
                return self._begun(asked, job)
            case WrongStatus():
                raise refusals.takes_no_outputs(result.status)
            case WrongOutputs():
                raise refusals.wrong_outputs(result)
            case Absent():
                raise refusals.unknown(result, asked.ids)

    async def _list_runs(self, asked: Asked) -> Response:
        return as_list(await self._stored.runs.list(asked.ids["thread"], asked.window), asked)

    # --- steps -------------------------------------------------------------------------------------------------------
    async def _get_step(self, asked: Asked) -> Response:
        ids = asked.ids
        kept = await self._stored.steps.get(ids["thread"], ids["run"], ids["step"])
        return as_object(shown_step(found(kept, asked), with_contents=asked.shows_contents))

    async def _list_steps(self, asked: Asked) -> Response:
        page = await self._stored.steps.list(asked.ids["thread"], asked.ids["run"], asked.window)
        return as_list(page, asked, partial(shown_step, with_contents=asked.shows_contents))


def _called(asked: Asked, thread: str, run: str) -> Json:
    """What records and log lines call a new run by."""
    record, public = asked.record, asked.sending.public
    assert public is not None
    return {
        "request_id": record.request_id,
        "tenant": record.facts["tenant"],
        "thread": public("thread", thread),
        "run": public("run", run),
    }
