"""One request, from the first header to the last byte. `_forward` is the line to read aloud."""

from __future__ import annotations

import asyncio
import re
import secrets
from dataclasses import dataclass, replace

from aiohttp import web

from gateway import openapi
from gateway.attempts import Attempts, Sending, failure
from gateway.config import Config
from gateway.errors import NEVER_REPEAT, AttemptFailed, BrokenOff, GatewayError, bad_request, envelope
from gateway.health import Health
from gateway.ids import IdSigner
from gateway.lists import Page, is_cut_off, read_page
from gateway.model import Caller, Directory, Reply
from gateway.operations import Matched, Operation, match
from gateway.ownership import Ownership
from gateway.phases.authenticate import authenticate
from gateway.phases.locate import HomeOf, Located, locate
from gateway.phases.receive import Body, receive
from gateway.phases.relay import begin_stream, relay_file, relay_run, relay_stream
from gateway.phases.respond import respond
from gateway.phases.rewrite_events import EventRewriter
from gateway.phases.rewrite_in import as_reply, crossing_headers, deleted, read_refusal, refuse, rewrite_in
from gateway.phases.rewrite_out import Beta, read_beta, rewrite_body, rewrite_out
from gateway.phases.send import Response
from gateway.public_ids import PublicIds
from gateway.shapes import find_slots
from gateway.spool import Spool
from gateway.telemetry import Record, log
from gateway.upstream import Answer

_API_VERSION = re.compile(r"(^|&)api-version=[^&]*")


@dataclass(frozen=True)
class Inbound:
    """What a caller asks, understood but not yet located."""

    request: web.BaseRequest
    caller: Caller
    matched: Matched
    beta: Beta
    body: Body

    @property
    def operation(self) -> Operation:
        return self.matched.operation

    @property
    def raw_query(self) -> str:
        """The query, without the version that Azure's clients name in it: a provider gets its own."""
        query = self.request.rel_url.raw_query_string
        return _API_VERSION.sub("", query).removeprefix("&") if "api-version" in query else query

    @property
    def chosen_provider(self) -> str | None:
        return self.matched.provider or self.request.headers.get("x-gateway-provider")


class Gateway:
    """The handler of every request. It holds what lives as long as the process; what belongs to one request is passed
    along as values."""

    def __init__(
        self,
        config: Config,
        *,
        directory: Directory,
        signer: IdSigner,
        home_of: HomeOf,
        attempts: Attempts,
        ownership: Ownership,
        health: Health,
    ) -> None:
        self._limits = config.limits
        self._listener = config.listener
        self._directory = directory
        self._signer = signer
        self._home_of = home_of
        self._attempts = attempts
        self._ownership = ownership
        self._health = health
        self._spool = Spool(config.limits.spool_bytes)

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request and write its line, whatever happens.

        Raises BrokenOff to have the connection cut, and lets the cancellation of a caller who left pass.
        """
        record = _record(request)
        try:
            return await self._answer_or_refuse(request, record)
        except BrokenOff as broken:
            record.note(outcome="broken_off", error=str(broken))
            raise
        except asyncio.CancelledError:
            record.note(outcome="stopped" if self._health.is_draining else "caller_left")
            raise
        finally:
            record.write()

    async def _answer_or_refuse(self, request: web.BaseRequest, record: Record) -> web.StreamResponse:
        try:
            return await self._answer(request, record)
        except GatewayError as refused:
            error = refused
        except BrokenOff:
            raise
        except Exception:
            log.exception("request.crashed", request_id=record.request_id)
            error = _crashed(request.method)
        record.note(error_source=error.source, error_code=error.code, error=error.message)
        return await self._respond(request, Reply(error.status, envelope(error), error.headers), record)

    async def _answer(self, request: web.BaseRequest, record: Record) -> web.StreamResponse:
        path = request.rel_url.raw_path
        if (page := self._health.page(request.method, path) or await openapi.page(request.method, path)) is not None:
            return await self._respond(request, page, record)
        self._check_size(request)
        caller = authenticate(request.headers, self._directory)
        record.note(tenant=caller.tenant.name, tenant_key=caller.key_fingerprint)
        matched = match(request.method, path)
        record.note(operation=matched.operation.name)
        beta = read_beta(request.headers)
        body = await receive(request, matched.operation, limits=self._limits, spool=self._spool)
        record.note(bytes_in=body.size_bytes)
        try:
            return await self._forward(Inbound(request, caller, matched, beta, body), record)
        finally:
            body.close()

    async def _respond(self, request: web.BaseRequest, reply: Reply, record: Record) -> web.StreamResponse:
        return await respond(request, reply, record, write_timeout_s=self._listener.write_timeout_s)

    def _check_size(self, request: web.BaseRequest) -> None:
        if len(request.path_qs) > self._limits.path_bytes:
            raise bad_request("path and query are longer than limits.path_bytes", code="uri_too_long", status=414)
        if sum(len(name) + len(value) + 4 for name, value in request.raw_headers) > self._limits.header_bytes:
            raise bad_request("the headers are larger than limits.header_bytes", code="headers_too_large", status=431)

    async def _forward(self, inbound: Inbound, record: Record) -> web.StreamResponse:
        located = self._locate(inbound)
        _note_place(record, inbound.matched, located)
        public = PublicIds(self._signer, tenant=inbound.caller.tenant.id, located=located)
        page = _page(inbound.operation, located)
        sending = _sending(inbound, located, page)
        if page is not None and self._ownership.lists(sending):
            response = await self._ownership.list(sending, located, page, inbound.caller.tenant, record)
        else:
            response = await self._attempts(sending, record)
        if page is not None and is_cut_off(response.document, page) and page.asked != inbound.operation.max_limit:
            page = replace(page, asked=inbound.operation.max_limit)
            response = await self._attempts(_sending(inbound, located, page), record)
        if response.relayed is not None:
            return await self._relay(inbound, sending, response, response.relayed, public, record)
        if response.is_success:
            await self._ownership.note(sending, located, response.document, inbound.caller.tenant)
            reply = _accept(inbound, sending, located, response, public, page, record)
        else:
            reply = _refuse(sending, response, public, record)
        return await self._respond(inbound.request, reply, record)

    def _locate(self, inbound: Inbound) -> Located:
        document, operation = inbound.body.document, inbound.operation
        slots = list(find_slots(document, operation.body or {})) if document is not None else []
        return locate(
            inbound.matched,
            inbound.raw_query,
            slots,
            tenant=inbound.caller.tenant,
            directory=self._directory,
            signer=self._signer,
            chosen_provider=inbound.chosen_provider,
            home_of=self._home_of,
        )

    async def _relay(
        self,
        inbound: Inbound,
        sending: Sending,
        response: Response,
        answer: Answer,
        public: PublicIds,
        record: Record,
    ) -> web.StreamResponse:
        """An answer that passes through while it arrives. Our headers go out as soon as the status is final."""
        crossing = crossing_headers(response.headers, sending.target)
        provider, request, version = sending.target.provider, inbound.request, inbound.beta.version
        async with answer:
            if sending.operation.answers == "bytes":
                return await relay_file(request, answer, crossing, listener=self._listener, record=record)
            try:
                beginning = await begin_stream(answer, self._limits.answer_bytes)
            except AttemptFailed as failed:
                raise failure(failed, sending.operation, provider) from failed
            if isinstance(beginning, dict):
                run = rewrite_in(sending.operation, beginning, target=sending.target, public=public, page=None)
                run = version.answer_down(run)
                return await relay_run(request, run, crossing, listener=self._listener, record=record)
            return await relay_stream(
                request,
                answer,
                beginning,
                EventRewriter(public, provider.mend, version),
                crossing,
                provider=provider.name,
                listener=self._listener,
                limits=self._limits,
                record=record,
            )


def _record(request: web.BaseRequest) -> Record:
    given = request.headers.get("x-request-id")
    return Record(
        request_id="req_" + secrets.token_hex(16),
        method=request.method,
        path=request.rel_url.raw_path[:512],
        client=request.remote,
        client_request_id=given[:128] if given else None,
    )


def _note_place(record: Record, matched: Matched, located: Located) -> None:
    record.note(
        provider=located.target.provider.name,
        vendor=located.target.provider.vendor.name,
        account=located.target.account.name,
        public_ids=list(matched.shown.values()) or None,
        upstream_ids=list(located.path_ids.values()) or None,
    )


def _page(operation: Operation, located: Located) -> Page | None:
    if operation.answers != "list":
        return None
    return read_page(
        located.query,
        default_limit=operation.default_limit,
        max_limit=operation.max_limit,
        ask_one_more=not located.target.provider.vendor.lists_tell_more,
    )


def _sending(inbound: Inbound, located: Located, page: Page | None) -> Sending:
    outbound = rewrite_out(
        inbound.operation,
        located,
        raw_query=inbound.raw_query,
        page=page,
        headers=inbound.request.headers,
        beta=inbound.beta,
        streaming=inbound.body.wants_stream,
    )
    return Sending(
        inbound.operation,
        located.target,
        outbound,
        inbound.body,
        rewrite_body(inbound.operation, inbound.body, located, inbound.beta.version),
        asyncio.get_running_loop().time() + located.target.provider.timeouts.total_s,
    )


def _refuse(sending: Sending, response: Response, public: PublicIds, record: Record) -> Reply:
    refusal = read_refusal(response.status, response.raw)
    record.note(error_source="provider", error_code=refusal.code)
    return refuse(
        sending.operation,
        refusal,
        response.raw,
        headers=response.headers,
        target=sending.target,
        public=public,
    )


def _accept(
    inbound: Inbound,
    sending: Sending,
    located: Located,
    response: Response,
    public: PublicIds,
    page: Page | None,
    record: Record,
) -> Reply:
    operation, document = sending.operation, response.document
    if not document and operation.answers == "deleted":
        document = deleted(operation, located.path_ids[operation.kind])
    if page is not None and is_cut_off(document, page):
        log.warning("list.cut_off", provider=sending.target.provider.name, operation=operation.name)
    record.note(upstream_id=document.get("id"))
    document = rewrite_in(operation, document, target=sending.target, public=public, page=page)
    record.note(public_id=document.get("id"))
    return as_reply(inbound.beta.version.answer_down(document), crossing_headers(response.headers, sending.target))


def _crashed(method: str) -> GatewayError:
    return GatewayError(
        500,
        "the gateway failed; its log tells more under this request id",
        code="internal_error",
        type="server_error",
        source="gateway",
        headers=NEVER_REPEAT if method == "POST" else {},
    )
