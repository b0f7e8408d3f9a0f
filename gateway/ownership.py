"""Assistants, files and vector stores on an account that tenants share: who made what, and lists of one's own."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from gateway.attempts import Send, Sending
from gateway.errors import store_unavailable, unknown_id
from gateway.lists import Page
from gateway.model import ObjectPlace, Tenant
from gateway.operations import BY_NAME
from gateway.phases.list_owned import Listed, list_owned
from gateway.phases.locate import Located
from gateway.phases.note_owner import note_owner
from gateway.phases.rewrite_out import url_of
from gateway.phases.send import Response
from gateway.store.connection import StoreAway
from gateway.store.owner_index import Owned, OwnerIndex
from gateway.telemetry import Record


class _Unreadable(Exception):
    """The provider refused to give one of the listed objects."""

    def __init__(self, response: Response) -> None:
        super().__init__(f"status {response.status}")
        self.response = response


class Ownership:
    """Reads and writes the owner index for requests. On an account that is `owned_by` one tenant it has nothing to do:
    there the provider's own lists are right."""

    def __init__(self, index: OwnerIndex, send: Send) -> None:
        self._index = index
        self._send = send
        self._unfinished: set[asyncio.Task[None]] = set()

    @staticmethod
    def lists(sending: Sending) -> bool:
        """Whether this request is a list that comes from the owner index."""
        if sending.target.provider.serves(sending.operation) and sending.operation.kind != "assistant":
            return False  # there are none, and the engine says so
        return sending.operation.owned == "list" and sending.target.account.owned_by is None

    async def list(self, sending: Sending, located: Located, page: Page, tenant: Tenant, record: Record) -> Response:
        """A list object with upstream ids, each object read from the provider as it is now; or what the provider said
        when it did not give one. Raises GatewayError as `list_owned` does.
        """
        operation, target = sending.operation, sending.target
        get = BY_NAME[f"get_{operation.kind}"]

        async def read(upstream_id: str) -> dict[str, Any] | None:
            url = url_of(target.provider, f"{operation.template}/{quote(upstream_id, safe='')}")
            outbound = replace(sending.outbound, url=url)
            response = await self._send(
                replace(sending, operation=get, ids={operation.kind: upstream_id}, outbound=outbound), record
            )
            if response.status == 404:
                return None
            if not response.is_success:
                raise _Unreadable(response)
            document: dict[str, Any] = response.document
            return document

        owned = Owned(tenant.id, target.account.route, operation.kind)
        listed = Listed(self._index, owned, tenant.shared.get((owned.route, owned.kind), ()))
        try:
            document = await list_owned(listed, operation, located, page, read)
        except _Unreadable as unreadable:
            return unreadable.response
        return Response(200, {}, document=document)

    async def check(self, place: ObjectPlace, located: Located, tenant: Tenant) -> None:
        """Raises GatewayError 404 for an object that this tenant has not made through the gateway, 503 when the store
        is away."""
        try:
            is_owned = await self._index.has(Owned(tenant.id, place.route, place.kind), place.upstream)
        except StoreAway as exc:
            raise store_unavailable("a change in an account with shared objects") from exc
        if not is_owned:
            raise unknown_id(place.kind, located.known[place.upstream])

    async def note(self, sending: Sending, located: Located, answered: dict[str, Any], tenant: Tenant) -> None:
        """Remember what a success created and forget what it removed, before the caller gets its answer."""
        account = sending.target.account
        if account.owned_by is not None:
            return
        change = note_owner(sending.operation, sending.body.document, answered, located.path_ids)
        for kind, upstream in change.created.items():
            await self._finish(self._index.add(Owned(tenant.id, account.route, kind), upstream))
        for kind, upstream in change.removed.items():
            await self._finish(self._index.remove(Owned(tenant.id, account.route, kind), upstream))

    async def _finish(self, work: Coroutine[Any, Any, None]) -> None:
        """Wait for work that goes on even if the caller leaves meanwhile."""
        task = asyncio.create_task(work)
        self._unfinished.add(task)
        task.add_done_callback(self._unfinished.discard)
        await asyncio.shield(task)

    async def drain(self) -> None:
        """Wait for what callers left behind. Called once, when no request runs any more."""
        await asyncio.gather(*self._unfinished, return_exceptions=True)
