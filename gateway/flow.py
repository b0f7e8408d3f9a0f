"""One request, from the first header to the last byte. `_forward` is the line to read aloud."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace
from functools import partial
from typing import Any

from aiohttp import web

from gateway import openapi
from gateway.attempts import Sending
from gateway.auditing import Audited, Auditing, NoAuditing
from gateway.caching import Caching
from gateway.config import Config
from gateway.errors import (
    NEVER_REPEAT,
    BrokenOff,
    GatewayError,
    bad_request,
    envelope,
    provider_disabled,
    tenant_disabled,
)
from gateway.health import Health
from gateway.idempotency import Idempotency
from gateway.ids import IdSigner
from gateway.inbound import Exchange, Exchanged, Inbound
from gateway.limiting import Admission, Limiting
from gateway.lists import Page, is_cut_off, read_page
from gateway.model import Directory, Reply
from gateway.operations import BY_NAME, Operation
from gateway.ownership import Ownership
from gateway.phases.authenticate import Find, authenticate
from gateway.phases.check_scope import check_operation
from gateway.phases.check_shared import check_shared
from gateway.phases.find_operation import chosen_provider, find_operation
from gateway.phases.locate import HomeOf, Located, locate
from gateway.phases.pass_through import ids_that_pass, stay_at_provider
from gateway.phases.read_facts import read_facts, read_runs
from gateway.phases.receive import Body, receive
from gateway.phases.respond import respond
from gateway.phases.rewrite_in import as_reply, crossing_headers, deleted, read_refusal, refuse, rewrite_in
from gateway.phases.rewrite_out import read_beta, rewrite_body, rewrite_out
from gateway.phases.send import Response
from gateway.protocols import between
from gateway.public_ids import PublicIds
from gateway.recipes import Recipes
from gateway.relaying import Relaying
from gateway.scoping import Scoping
from gateway.settlement import RunsHeard, Settlement
from gateway.shapes import find_slots
from gateway.spool import Spool
from gateway.store.last_use import LastUse
from gateway.store.switches import Switches
from gateway.store.tenant_usage import TenantUsage
from gateway.telemetry import Record, log
from gateway.watching import Watch, Watches


class Gateway:
    """The handler of every request. It holds what lives as long as the process; what belongs to one request is passed
    along as values."""

    def __init__(
        self,
        config: Config,
        *,
        directory: Directory,
        callers: Find,
        last_use: LastUse,
        signer: IdSigner,
        home_of: HomeOf,
        scoping: Scoping,
        recipes: Recipes,
        ownership: Ownership,
        caching: Caching,
        switches: Switches,
        idempotency: Idempotency,
        settlement: Settlement,
        usage: TenantUsage,
        limiting: Limiting,
        auditing: Auditing | NoAuditing,
        health: Health,
    ) -> None:
        self._limits = config.limits
        self._listener = config.listener
        self._directory = directory
        self._callers = callers
        self._last_use = last_use
        self._signer = signer
        self._home_of = home_of
        self._scoping = scoping
        self._recipes = recipes
        self._ownership = ownership
        self._caching = caching
        self._switches = switches
        self._idempotency = idempotency
        self._settlement = settlement
        self._usage = usage
        self._limiting = limiting
        self._auditing = auditing
        self._health = health
        self._relaying = Relaying(config.listener, config.limits)
        self._spool = Spool(config.limits.spool_bytes)

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request and write its line, whatever happens.

        Raises BrokenOff to have the connection cut, and lets the cancellation of a caller who left pass.
        """
        record = _record(request)
        admission, audited = self._limiting.admission(record), self._auditing.request(record)
        try:
            return await self._answer_or_refuse(request, admission, audited, record)
        except BrokenOff as broken:
            record.note(outcome="broken_off", error=str(broken))
            raise
        except asyncio.CancelledError:
            record.note(outcome="stopped" if self._health.is_draining else "caller_left")
            raise
        finally:
            admission.end()
            audited.close()
            self._count(record)
            record.write()

    def note_malformed(self, request: web.BaseRequest, error: GatewayError) -> str:
        """The id of what never became a request and was refused, in the trail by then; for its line."""
        record = _record(request)
        audited = self._auditing.request(record)
        record.note(status=error.status, error_source=error.source, error_code=error.code)
        audited.close()
        return record.request_id

    def _count(self, record: Record) -> None:
        if record.tenant_id:
            model = record.facts.get("model", "")
            self._usage.note(record.tenant_id, record.provider_id, model, is_error=record.is_error)

    async def _answer_or_refuse(
        self, request: web.BaseRequest, admission: Admission, audited: Audited, record: Record
    ) -> web.StreamResponse:
        try:
            return await self._answer(request, admission, audited, record)
        except GatewayError as refused:
            error = refused
        except BrokenOff:
            raise
        except Exception:
            log.exception("request.crashed", request_id=record.request_id)
            error = _crashed(request.method)
        record.note(error_source=error.source, error_code=error.code, error=error.message)
        return await self._respond(request, Reply(error.status, envelope(error), error.headers), record)

    async def _answer(
        self, request: web.BaseRequest, admission: Admission, audited: Audited, record: Record
    ) -> web.StreamResponse:
        path = request.rel_url.raw_path
        if (page := self._health.page(request.method, path) or await openapi.page(request.method, path)) is not None:
            audited.leave_out()
            return await self._respond(request, page, record)
        audited.check()
        self._check_size(request)
        caller = authenticate(request.headers, self._callers)
        record.tenant_id = caller.tenant.id
        record.note(tenant=caller.tenant.name, tenant_key=caller.key_fingerprint)
        self._last_use.note(caller.key_fingerprint, tenant=caller.tenant.id)
        if (reason := self._switches.reason_of("tenant", caller.tenant.id)) is not None:
            raise tenant_disabled(reason)
        beta = read_beta(request.headers)
        matched = find_operation(request, caller.tenant, beta, self._directory)
        record.note(operation=matched.operation.name)
        record.asked_ids = list(matched.shown.values())
        check_operation(caller.scope, matched.operation)
        await admission.begin(caller, matched.operation)
        body = await receive(request, matched.operation, limits=self._limits, spool=self._spool)
        record.note(bytes_in=body.size_bytes)
        try:
            await admission.begin_body(body)
            return await self._forward(Inbound(request, caller, matched, beta, body), audited, record)
        finally:
            body.close()

    async def _respond(self, request: web.BaseRequest, reply: Reply, record: Record) -> web.StreamResponse:
        return await respond(request, reply, record, write_timeout_s=self._listener.write_timeout_s)

    def _check_size(self, request: web.BaseRequest) -> None:
        if len(request.path_qs) > self._limits.path_bytes:
            raise bad_request("path and query are longer than limits.path_bytes", code="uri_too_long", status=414)
        if sum(len(name) + len(value) + 4 for name, value in request.raw_headers) > self._limits.header_bytes:
            raise bad_request("the headers are larger than limits.header_bytes", code="headers_too_large", status=431)

    async def _forward(self, inbound: Inbound, audited: Audited, record: Record) -> web.StreamResponse:
        located = self._locate(inbound)
        _note_place(record, inbound, located)
        provider = located.target.provider
        if (reason := self._switches.reason_of("provider", provider.id)) is not None:
            raise provider_disabled(provider.name, reason)
        runs_at = located.runs_at
        if runs_at is not None and (reason := self._switches.reason_of("provider", runs_at.provider.id)) is not None:
            raise provider_disabled(runs_at.provider.name, reason)
        await self._check_shared(inbound, located)
        await audited.start(inbound)
        await self._scoping(inbound, located, record)
        public = PublicIds(self._signer, tenant=inbound.caller.tenant.id, located=located)
        exchange: Exchange = partial(self._exchange, inbound, located, public, record)
        if inbound.operation.makes_run:
            exchange = partial(self._settlement.carry_on, exchange)
        cached = partial(self._caching, inbound, located, exchange, record)
        replay = partial(self._replay, inbound, located, public, record)
        exchanged = await self._idempotency(inbound, located, public, cached, record, replay=replay)
        if exchanged.relayed is None or exchanged.sending is None:
            return await self._respond(inbound.request, exchanged.reply, record)
        watch = Watches(self._caching.watch(inbound, located), exchanged.heard, exchanged.claim)
        try:
            return await self._relaying(inbound.request, exchanged.sending, exchanged.relayed, public, watch, record)
        finally:
            await watch.end()

    async def _check_shared(self, inbound: Inbound, located: Located) -> None:
        tenant = inbound.caller.tenant
        for changed in check_shared(inbound.operation, located, tenant=tenant, directory=self._directory):
            await self._ownership.check(changed, located, tenant)

    async def _exchange(self, inbound: Inbound, located: Located, public: PublicIds, record: Record) -> Exchanged:
        """Ask the provider, and make its answer the caller's."""
        page = _page(inbound.operation, located)
        sending = _sending(inbound, located, page, public)
        if page is not None and self._ownership.lists(sending):
            response = await self._ownership.list(sending, located, page, inbound.caller.tenant, record)
        else:
            # Of a shared assistant a tenant learns the ids of vector stores that are others'. Attached to its own
            # assistant, such a store is still theirs, whatever mark it carries.
            knows_others = inbound.caller.tenant.has_seen_shared(located.target.account.route)
            response = await self._recipes(sending, located, page, record, trusts_marks=not knows_others)
        if page is not None and is_cut_off(response.document, page) and page.asked != inbound.operation.max_limit:
            page = replace(page, asked=inbound.operation.max_limit)
            response = await self._recipes(_sending(inbound, located, page), located, page, record)
        if response.relayed is not None:
            heard = self._hear(inbound, sending, response, public) or Watch()
            return Exchanged(sending=sending, relayed=response.relayed, heard=heard, again=response.again)
        if not response.is_success:
            return _refuse(sending, response, public, record)
        if (hears := self._hear(inbound, sending, response, public)) is not None:
            await hears.on_runs(read_runs(sending.operation, response.document))
        facts = read_facts(sending.operation, response.document)
        await self._ownership.note(sending, located, response.document, inbound.caller.tenant)
        return Exchanged(_accept(sending, located, response, public, page, record), facts)

    async def _replay(
        self, inbound: Inbound, located: Located, public: PublicIds, record: Record, again: str
    ) -> Exchanged:
        """A served run's stream once more, from its beginning or from what its reader saw last."""
        thread, run, start = again.split()
        seen = inbound.request.headers.get("Last-Event-ID", start)
        located = replace(
            located,
            path_ids={"thread": thread, "run": run},
            query=(("stream", "true"), ("starting_after", seen)),
            slots=(),
        )
        matched = replace(inbound.matched, operation=BY_NAME["get_run"])
        sending = _sending(replace(inbound, matched=matched, body=Body()), located, None)
        response = await self._recipes(sending, located, None, record)
        if response.relayed is None:
            return _refuse(sending, response, public, record)
        return Exchanged(sending=sending, relayed=response.relayed)

    def _hear(self, inbound: Inbound, sending: Sending, response: Response, public: PublicIds) -> RunsHeard | None:
        """Who hears of the runs in an answer; nobody where it is about something else."""
        if sending.operation.kind != "run":
            return None
        return self._settlement.hear(inbound.caller, sending, response.key, public)

    def _locate(self, inbound: Inbound) -> Located:
        document, operation = inbound.body.document, inbound.operation
        tenant, slots = inbound.caller.tenant, []
        if document is not None and operation.answers == "any":
            provider = self._directory.providers[str(inbound.matched.provider)]
            slots = ids_that_pass(document, provider, tenant, self._signer)
        elif document is not None:
            slots = list(find_slots(document, operation.sent))
        located = locate(
            inbound.matched,
            inbound.raw_query,
            slots,
            tenant=tenant,
            directory=self._directory,
            signer=self._signer,
            chosen_provider=chosen_provider(inbound.matched.provider, inbound.request),
            home_of=self._home_of,
        )
        if operation.answers == "any":
            stay_at_provider(inbound.matched, located)
        return located


def _record(request: web.BaseRequest) -> Record:
    given = request.headers.get("x-request-id")
    return Record(
        request_id="req_" + secrets.token_hex(16),
        method=request.method,
        path=request.rel_url.raw_path[:512],
        client=request.remote,
        client_request_id=given[:128] if given else None,
    )


def _note_place(record: Record, inbound: Inbound, located: Located) -> None:
    matched = inbound.matched
    record.provider_id = located.target.provider.id
    record.note(
        provider=located.target.provider.name,
        vendor=located.target.provider.vendor.name,
        account=located.target.account.name,
        public_ids=list(matched.shown.values()) or None,
        upstream_ids=list(located.path_ids.values()) or None,
        thread=matched.shown.get("thread"),
        run=matched.shown.get("run"),
    )
    if (document := inbound.body.document) is not None and type(model := document.get("model")) is str:
        _note_model(record, model, located.target.provider.upstream_model(document) or model)


def _note_object(record: Record, operation: Operation, document: dict[str, Any]) -> None:
    """What an answer is about, with public ids."""
    shown, thread, status = document.get("id"), document.get("thread_id"), document.get("status")
    record.note(public_id=shown)
    if operation.kind == "thread":
        record.note(thread=shown)
    elif type(thread) is str:
        record.note(thread=thread)
    if operation.kind == "run" and operation.answers == "object":
        record.note(run=shown, run_status=status, usage=document.get("usage"))


def _note_model(record: Record, model: str, upstream_model: str) -> None:
    record.note(model=model[:256], upstream_model=upstream_model[:256])


def _page(operation: Operation, located: Located) -> Page | None:
    if operation.answers != "list":
        return None
    return read_page(
        located.query,
        default_limit=operation.default_limit,
        max_limit=operation.max_limit,
        ask_one_more=not located.target.provider.vendor.lists_tell_more,
    )


def _sending(inbound: Inbound, located: Located, page: Page | None, public: PublicIds | None = None) -> Sending:
    translation = between(inbound.beta.version, located.target.provider.vendor.protocol)
    translation.check(inbound.operation, (name for name, _ in located.query))
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
        located.path_ids,
        outbound,
        inbound.body,
        rewrite_body(inbound.operation, inbound.body, located, translation),
        translation,
        asyncio.get_running_loop().time() + located.target.provider.timeouts.total_s,
        query=located.query,
        tenant=inbound.caller.tenant.id,
        public=public,
        runs_at=located.runs_at,
    )


def _refuse(sending: Sending, response: Response, public: PublicIds, record: Record) -> Exchanged:
    refusal = read_refusal(response.status, response.raw)
    is_ours = sending.target.provider.serves(sending.operation) and refusal.status < 500
    record.note(error_source="caller" if is_ours else "provider", error_code=refusal.code)
    reply = refuse(
        sending.operation,
        refusal,
        response.raw,
        headers=response.headers,
        target=sending.target,
        public=public,
    )
    return Exchanged(reply, may_have_run=refusal.status in (408, 409) or refusal.status >= 500)


def _accept(
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
    upstream_model = document.get("model")
    document = rewrite_in(operation, document, target=sending.target, public=public, page=page)
    _note_object(record, operation, document)
    if type(upstream_model) is str:
        _note_model(record, document["model"], upstream_model)
    return as_reply(sending.translation.answer(document), crossing_headers(response.headers, sending.target))


def _crashed(method: str) -> GatewayError:
    return GatewayError(
        500,
        "the gateway failed; its log tells more under this request id",
        code="internal_error",
        type="server_error",
        source="gateway",
        headers=NEVER_REPEAT if method == "POST" else {},
    )
