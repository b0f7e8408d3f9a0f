"""Answers that pass through while they arrive: which way each takes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack

from aiohttp import web

from gateway.attempts import Sending, failure
from gateway.config import Limits, Listener
from gateway.errors import AttemptFailed, BrokenOff
from gateway.model import Reply
from gateway.phases.pass_through import PassedAnswer, PassedEvents
from gateway.phases.read_facts import read_run
from gateway.phases.relay import Reading, Rewriter, begin_stream, relay_file, relay_run, relay_stream
from gateway.phases.respond import respond
from gateway.phases.rewrite_events import EventRewriter
from gateway.phases.rewrite_in import crossing_headers, rewrite_in
from gateway.public_ids import PublicIds
from gateway.telemetry import Record
from gateway.upstream import Relayed
from gateway.watching import Watch


class Relaying:
    """Passes on answers that are still arriving. Lives as long as the process."""

    def __init__(self, listener: Listener, limits: Limits) -> None:
        self._listener = listener
        self._limits = limits

    async def __call__(
        self,
        request: web.BaseRequest,
        sending: Sending,
        answer: Relayed,
        public: PublicIds,
        watch: Watch,
        record: Record,
    ) -> web.StreamResponse:
        """Our headers go out as soon as the provider's status is final. `watch` hears of it before the caller.

        Raises GatewayError while nothing has gone to the caller, BrokenOff after that.
        """
        crossing = crossing_headers(answer.headers, sending.target)
        async with AsyncExitStack() as closing:
            await closing.enter_async_context(answer)
            try:
                if sending.operation.answers == "any":
                    return await self._pass(request, sending, answer, public, crossing, watch, record)
                if sending.operation.answers == "bytes":
                    return await relay_file(request, answer, crossing, listener=self._listener, record=record)
                return await self._relay_run(request, sending, answer, public, crossing, watch, record, closing)
            except AttemptFailed as failed:
                raise failure(failed, sending.operation, sending.target.provider) from failed

    async def _relay_run(
        self,
        request: web.BaseRequest,
        sending: Sending,
        answer: Relayed,
        public: PublicIds,
        crossing: Mapping[str, str],
        watch: Watch,
        record: Record,
        closing: AsyncExitStack,
    ) -> web.StreamResponse:
        beginning = await begin_stream(answer, self._limits.answer_bytes)
        if isinstance(beginning, dict):
            if (seen := read_run(beginning)) is not None:
                await watch.on_run(seen)
            run = rewrite_in(sending.operation, beginning, target=sending.target, public=public, page=None)
            run = sending.translation.answer(run)
            return await relay_run(request, run, crossing, listener=self._listener, record=record)
        rewriter = EventRewriter(public, sending.target.provider.mend, sending.translation, record.hear)
        reading = Reading(answer, beginning, self._limits.answer_bytes)
        try:
            return await self._relay_stream(request, sending, reading, rewriter, crossing, watch, record)
        except (BrokenOff, asyncio.CancelledError):
            if watch.goes_on(reading):
                closing.pop_all()
            raise

    async def _pass(
        self,
        request: web.BaseRequest,
        sending: Sending,
        answer: Relayed,
        public: PublicIds,
        crossing: Mapping[str, str],
        watch: Watch,
        record: Record,
    ) -> web.StreamResponse:
        """An answer on a path that passes through: JSON whole, events one by one, anything else by the piece."""
        translate = PassedAnswer(public, sending.target.provider.public_models)
        if answer.content_type == "text/event-stream":
            await watch.on_pieces()
            rewriter = PassedEvents(translate, public, record.hear)
            reading = Reading(answer, b"", self._limits.answer_bytes)
            return await self._relay_stream(request, sending, reading, rewriter, crossing, watch, record)
        if answer.content_type == "application/json":
            reply = Reply(answer.status, translate(await answer.read(self._limits.answer_bytes)), crossing)
            await watch.on_reply(reply)
            return await respond(request, reply, record, write_timeout_s=self._listener.write_timeout_s)
        await watch.on_pieces()
        return await relay_file(request, answer, crossing, listener=self._listener, record=record)

    async def _relay_stream(
        self,
        request: web.BaseRequest,
        sending: Sending,
        reading: Reading,
        rewriter: Rewriter,
        crossing: Mapping[str, str],
        watch: Watch,
        record: Record,
    ) -> web.StreamResponse:
        return await relay_stream(
            request,
            reading,
            rewriter,
            crossing,
            provider=sending.target.provider.name,
            on_run=watch.on_run,
            listener=self._listener,
            record=record,
        )
