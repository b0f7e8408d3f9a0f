"""Operations on served threads, each answered as a vendor would: with a status, an object and internal ids.

What a request may say has been said in `requests`; here it is done. Assistants are their account's, and who made them
is known further out, as it is of vendors' assistants.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

from redis.exceptions import BusyLoadingError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeout

from gateway import codec
from gateway.attempts import Sending
from gateway.engine import objects, refusals
from gateway.engine.attaching import Attaching
from gateway.engine.fields import wrong_value
from gateway.engine.job import Job, context_of
from gateway.engine.models.generation import Json
from gateway.engine.requests import CONTENTS, check_body, refuse_container_files
from gateway.engine.resources import needs_resources
from gateway.engine.running import Running
from gateway.engine.store.events import START, EventId
from gateway.engine.store.ids import PREFIXES, mint
from gateway.engine.store.lists import Page, Window
from gateway.engine.store.results import (
    Absent,
    NothingToRun,
    RunActive,
    UnknownCursor,
    WrongOutputs,
    WrongStatus,
)
from gateway.engine.store.runs import Started
from gateway.engine.store.stored import Stored
from gateway.engine.streams import RunStream
from gateway.engine.vector_stores import Cause, VectorStores, VendorRefused
from gateway.engine.writing import shown_step
from gateway.errors import (
    NEVER_REPEAT,
    GatewayError,
    bad_request,
    envelope,
    store_unavailable,
    tenant_disabled,
    unknown_id,
)
from gateway.lists import read_page
from gateway.model import Target
from gateway.operations import Operation
from gateway.phases.send import Response
from gateway.public_ids import join_place
from gateway.store.connection import StoreAway
from gateway.store.switches import IsErased, nobody
from gateway.telemetry import Record

_ID = re.compile(f"({'|'.join(map(re.escape, PREFIXES.values()))})[A-Za-z0-9]{{24}}")


@dataclass(frozen=True)
class Asked:
    """One request, with internal ids. `now` is in seconds since 1970."""

    sending: Sending
    record: Record
    now: float

    @property
    def ids(self) -> dict[str, str]:
        return dict(self.sending.ids)

    @property
    def query(self) -> dict[str, str]:
        return dict(self.sending.query)

    @property
    def cause(self) -> Cause:
        """Of the calls that the engine makes for it."""
        return Cause(self.sending.target, self.record, self.sending.deadline)

    @property
    def account(self) -> str:
        return self.sending.target.account.route

    @property
    def runs_at(self) -> Target:
        """Whose assistant, and whose models, a new run uses."""
        return self.sending.runs_at or self.sending.target

    @cached_property
    def body(self) -> Json:
        """Raises GatewayError 400 for what the operation does not take, and for what the models cannot do."""
        operation, payload = self.sending.operation.name, self.sending.payload
        body: Json = codec.loads(payload) if payload else {}
        check_body(operation, body)
        api = self.runs_at.provider.model_api
        assert api is not None
        for fault in api.faults(body):
            raise fault.as_error()
        if self.sending.target.provider.has_files:
            refuse_container_files(body, self.sending.operation)
        return body

    @property
    def wants_stream(self) -> bool:
        return self.body.get("stream") is True

    @property
    def telling(self) -> dict[str, bool]:
        """How a run's events are told; who asked for contents once need not ask again when it submits. Raises
        GatewayError 400."""
        return {"is_streamed": self.wants_stream, **({"shows_contents": True} if self.shows_contents else {})}

    @property
    def shows_contents(self) -> bool:
        """Whether the contents of what a file search found are asked for. Raises GatewayError 400."""
        asked = [value for name, value in self.sending.query if name in ("include", "include[]")]
        for value in asked:
            if value != CONTENTS:
                raise wrong_value("include", value, [CONTENTS])
        return bool(asked)

    @property
    def window(self) -> Window:
        """Raises GatewayError 400."""
        operation = self.sending.operation
        page = read_page(
            self.sending.query, default_limit=operation.default_limit, max_limit=operation.max_limit, ask_one_more=False
        )
        limit = page.check(operation.max_limit)
        return Window(limit, "asc" if page.order == "asc" else "desc", page.after, page.before)


class Serving:
    """Lives as long as the process. For a tenant that `is_erased` nothing is done. `clock` tells seconds since 1970."""

    def __init__(
        self,
        stored: Stored,
        running: Running,
        stores: VectorStores,
        *,
        is_erased: IsErased = nobody,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._stored = stored
        self._running = running
        self._attaching = Attaching(stores, stored.threads)
        self._is_erased = is_erased
        self._clock = clock
        self._operations: Mapping[str, Callable[[Asked], Awaitable[Response]]] = {
            "create_assistant": self._create_assistant,
            "get_assistant": self._get_assistant,
            "modify_assistant": self._modify_assistant,
            "delete_assistant": self._delete_assistant,
            "list_assistants": self._list_assistants,
            "create_thread": self._create_thread,
            "get_thread": self._get_thread,
            "modify_thread": self._modify_thread,
            "delete_thread": self._delete_thread,
            "create_message": self._create_message,
            "get_message": self._get_message,
            "modify_message": self._modify_message,
            "delete_message": self._delete_message,
            "list_messages": self._list_messages,
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

    async def __call__(self, sending: Sending, record: Record) -> Response:
        """As a vendor would answer. Raises GatewayError 503 when the store is away."""
        try:
            return await self._answer(sending, record)
        except VendorRefused as refused:
            return refused.response
        except StoreAway as exc:
            raise _unavailable(sending.operation, exc) from exc
        except GatewayError as error:
            return Response(error.status, error.headers, envelope(error))

    async def _answer(self, sending: Sending, record: Record) -> Response:
        answer = self._operations.get(sending.operation.name)
        if answer is None:
            raise refusals.not_served(sending.operation.name)
        self._refuse_erased(sending.tenant)  # since it was let in
        for kind, internal in sending.ids.items():
            if kind in PREFIXES and not _ID.fullmatch(internal):  # of a provider that was forwarded to before
                raise unknown_id(kind, internal)
        return await answer(Asked(sending, record, self._clock()))

    def _refuse_erased(self, tenant: str) -> None:
        """To be called before something of a tenant's own is made, if others were waited for. Raises GatewayError."""
        if self._is_erased(tenant):
            raise tenant_disabled("erased")

    # --- assistants --------------------------------------------------------------------------------------------------
    async def _create_assistant(self, asked: Asked) -> Response:
        given = await self._attaching.of_assistant(asked.cause, asked.body)
        self._refuse_erased(asked.sending.tenant)
        kept = objects.new_assistant(given, id=mint("assistant"), now=int(asked.now))
        await self._stored.assistants.create(asked.account, kept, tenant=asked.sending.tenant, now=asked.now)
        return _object(objects.assistant(kept))

    async def _get_assistant(self, asked: Asked) -> Response:
        return _object(objects.assistant(await self._assistant(asked.account, asked.ids["assistant"])))

    async def _assistant(self, account: str, assistant: str) -> Json:
        kept = await self._stored.assistants.get(account, assistant)
        if isinstance(kept, Absent):
            raise unknown_id("assistant", assistant)
        return kept

    async def _modify_assistant(self, asked: Asked) -> Response:
        changes = objects.assistant_changes(asked.body)
        kept = _found(await self._stored.assistants.modify(asked.account, asked.ids["assistant"], changes), asked)
        return _object(objects.assistant(kept))

    async def _delete_assistant(self, asked: Asked) -> Response:
        assistant, tenant = asked.ids["assistant"], asked.sending.tenant
        _found(await self._stored.assistants.delete(asked.account, assistant, tenant=tenant), asked)
        return _object(objects.deleted("assistant", assistant))

    async def _list_assistants(self, asked: Asked) -> Response:
        """Of an account with one tenant; others' lists come from the owner index."""
        return _list(await self._stored.assistants.list(asked.account, asked.window), asked, objects.assistant)

    # --- threads -----------------------------------------------------------------------------------------------------
    async def _create_thread(self, asked: Asked) -> Response:
        return _object(await self._new_thread(asked, asked.body))

    async def _new_thread(self, asked: Asked, body: Json) -> Json:
        given = await self._attaching.of_thread(asked.cause, body)
        self._refuse_erased(asked.sending.tenant)
        thread = objects.thread(given, id=mint("thread"), now=int(asked.now))
        messages = _messages(body.get("messages"), thread["id"], asked.now)
        await self._stored.threads.create(thread, messages, tenant=asked.sending.tenant, now=asked.now)
        return thread

    async def _get_thread(self, asked: Asked) -> Response:
        return _object(_found(await self._stored.threads.get(asked.ids["thread"]), asked))

    async def _modify_thread(self, asked: Asked) -> Response:
        changes = objects.changes(asked.body)
        return _object(_found(await self._stored.threads.modify(asked.ids["thread"], changes), asked))

    async def _delete_thread(self, asked: Asked) -> Response:
        thread = asked.ids["thread"]
        waiting = await self._stored.runs.waiting(thread)
        _found(await self._stored.threads.delete(thread, now=asked.now), asked)
        if waiting is not None:  # others are noticed by whoever works on them
            await self._running.tell_gone(waiting.context, thread, waiting.run, waiting.usage)
        return _object(objects.deleted("thread", thread))

    # --- messages ----------------------------------------------------------------------------------------------------
    async def _create_message(self, asked: Asked) -> Response:
        thread = asked.ids["thread"]
        message = objects.message(asked.body, id=mint("message"), thread=thread, now=int(asked.now))
        await self._attach(asked, thread, [message])
        result = await self._stored.messages.append(thread, message, now=asked.now)
        if isinstance(result, RunActive):
            raise refusals.cannot_add(thread, result)
        _found(result, asked)
        return _object(message)

    async def _attach(self, asked: Asked, thread: str, messages: Sequence[Json]) -> None:
        _found(await self._attaching.to_thread(asked.cause, thread, messages), asked)

    async def _get_message(self, asked: Asked) -> Response:
        return _object(_found(await self._stored.messages.get(asked.ids["thread"], asked.ids["message"]), asked))

    async def _modify_message(self, asked: Asked) -> Response:
        thread, message, metadata = asked.ids["thread"], asked.ids["message"], asked.body.get("metadata")
        if metadata is None:
            return await self._get_message(asked)
        return _object(_found(await self._stored.messages.modify(thread, message, metadata), asked))

    async def _delete_message(self, asked: Asked) -> Response:
        thread, message = asked.ids["thread"], asked.ids["message"]
        result = await self._stored.messages.delete(thread, message)
        if isinstance(result, RunActive):
            raise refusals.cannot_delete(thread, result)
        _found(result, asked)
        return _object(objects.deleted("thread.message", message))

    async def _list_messages(self, asked: Asked) -> Response:
        run = asked.query.get("run_id") or None
        return _list(await self._stored.messages.list(asked.ids["thread"], asked.window, run=run), asked)

    # --- runs --------------------------------------------------------------------------------------------------------
    async def _create_run(self, asked: Asked) -> Response:
        body, thread = asked.body, asked.ids["thread"]
        messages = _messages(body.get("additional_messages"), thread, asked.now)
        started = await self._start(asked, thread, messages)
        return self._begun(asked, Job(started.claim, dict(started.context), started.run))

    async def _create_thread_and_run(self, asked: Asked) -> Response:
        """What can be refused is looked at first: a refusal leaves no thread behind."""
        _ = asked.telling
        await self._assistant(asked.runs_at.account.route, asked.body["assistant_id"])
        thread = await self._new_thread(asked, asked.body.get("thread") or {})
        try:
            started = await self._start(asked, thread["id"], ())
        except GatewayError:
            await self._stored.threads.delete(thread["id"], now=asked.now)
            raise
        return self._begun(asked, Job(started.claim, dict(started.context), started.run, thread=thread))

    async def _start(self, asked: Asked, thread: str, messages: Sequence[Json]) -> Started:
        body, telling, route = asked.body, asked.telling, asked.runs_at.account.route
        kept = await self._assistant(route, body["assistant_id"])
        run = objects.run(body, objects.assistant(kept), id=mint("run"), thread=thread, now=int(asked.now))
        if route != asked.account:
            run["assistant_id"] = join_place(kept["id"], route)
        await self._attach(asked, thread, messages)
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
        resources, _ = _found(await self._stored.threads.read_resources(thread), asked)
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
            else _object(run)
        )

    def _stream(self, thread: str, run: str, after: EventId) -> Response:
        relayed = RunStream(self._stored.events.subscribe(thread, run, after))
        return Response(200, relayed.headers, relayed=relayed, again=f"{thread} {run} {after}")

    async def _get_run(self, asked: Asked) -> Response:
        thread, run = asked.ids["thread"], asked.ids["run"]
        found = _found(await self._stored.runs.get(thread, run), asked)
        if asked.query.get("stream") != "true":
            return _object(found)
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
            return _object(_found(await self._stored.runs.get(asked.ids["thread"], asked.ids["run"]), asked))
        found = await self._stored.runs.modify(asked.ids["thread"], asked.ids["run"], metadata)
        return _object(_found(found, asked))

    async def _cancel_run(self, asked: Asked) -> Response:
        _ = asked.body
        result = await self._stored.runs.cancel(asked.ids["thread"], asked.ids["run"], now=asked.now)
        if isinstance(result, WrongStatus):
            raise refusals.cannot_cancel(result)
        run = _found(result, asked)
        self._running.cancel(asked.ids["run"])
        return _object(run)

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
        return _list(await self._stored.runs.list(asked.ids["thread"], asked.window), asked)

    # --- steps -------------------------------------------------------------------------------------------------------
    async def _get_step(self, asked: Asked) -> Response:
        ids = asked.ids
        found = await self._stored.steps.get(ids["thread"], ids["run"], ids["step"])
        return _object(shown_step(_found(found, asked), with_contents=asked.shows_contents))

    async def _list_steps(self, asked: Asked) -> Response:
        page = await self._stored.steps.list(asked.ids["thread"], asked.ids["run"], asked.window)
        return _list(page, asked, partial(shown_step, with_contents=asked.shows_contents))


def _unavailable(operation: Operation, away: StoreAway) -> GatewayError:
    """What was under way when the store went away may have been done: the SDKs must not do it again by themselves, and
    a repeat with the same `Idempotency-Key` must not either."""
    cause = away.__cause__
    may_be_done = isinstance(cause, RedisTimeout | RedisConnectionError) and not isinstance(cause, BusyLoadingError)
    if operation.is_safe or not may_be_done:
        return store_unavailable("a served thread")
    error = store_unavailable("a served thread", "look whether this was done before you repeat it")
    error.headers, error.may_have_run = {**error.headers, **NEVER_REPEAT}, True
    return error


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


def _messages(given: list[Json] | None, thread: str, now: float) -> list[Json]:
    return [objects.message(each, id=mint("message"), thread=thread, now=int(now)) for each in given or ()]


def _found(result: Any, asked: Asked) -> Any:
    """Raises GatewayError 404 for what is not there."""
    if isinstance(result, Absent):
        raise refusals.unknown(result, asked.ids)
    return result


def _object(document: Json) -> Response:
    return Response(200, {}, document=document)


def _same(document: Json) -> Json:
    return document


def _list(page: Page | Absent | UnknownCursor, asked: Asked, shown: Callable[[Json], Json] = _same) -> Response:
    if isinstance(page, UnknownCursor):
        raise refusals.unknown_cursor(page, asked.sending.operation.kind, asked.query)
    found: Page = _found(page, asked)
    data = [shown(each) for each in found.objects]
    return _object(
        {
            "object": "list",
            "data": data,
            "first_id": data[0]["id"] if data else None,
            "last_id": data[-1]["id"] if data else None,
            "has_more": found.has_more,
        }
    )
