"""One request about served objects, with internal ids, and the shapes of its answer. Pure."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from gateway import codec
from gateway.attempts import Sending
from gateway.engine import objects, refusals
from gateway.engine.fields import wrong_value
from gateway.engine.models.generation import Json
from gateway.engine.requests import CONTENTS, check_body, refuse_container_files
from gateway.engine.store.ids import mint
from gateway.engine.store.lists import Page, Window
from gateway.engine.store.results import Absent, UnknownCursor
from gateway.engine.vector_stores import Cause
from gateway.errors import tenant_disabled
from gateway.lists import read_page
from gateway.model import Target
from gateway.phases.send import Response
from gateway.store.switches import IsErased
from gateway.telemetry import Record


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


Answer = Callable[[Asked], Awaitable[Response]]
"""What does one operation. Raises GatewayError, VendorRefused and StoreAway."""


def found(result: Any, asked: Asked) -> Any:
    """Raises GatewayError 404 for what is not there."""
    if isinstance(result, Absent):
        raise refusals.unknown(result, asked.ids)
    return result


def as_object(document: Json) -> Response:
    return Response(200, {}, document=document)


def _same(document: Json) -> Json:
    return document


def as_list(page: Page | Absent | UnknownCursor, asked: Asked, shown: Callable[[Json], Json] = _same) -> Response:
    if isinstance(page, UnknownCursor):
        raise refusals.unknown_cursor(page, asked.sending.operation.kind, asked.query)
    read: Page = found(page, asked)
    data = [shown(each) for each in read.objects]
    return as_object(
        {
            "object": "list",
            "data": data,
            "first_id": data[0]["id"] if data else None,
            "last_id": data[-1]["id"] if data else None,
            "has_more": read.has_more,
        }
    )


def new_messages(given: list[Json] | None, thread: str, now: float) -> list[Json]:
    return [objects.message(each, id=mint("message"), thread=thread, now=int(now)) for each in given or ()]


def refuse_erased(is_erased: IsErased, tenant: str) -> None:
    """To be called before something of a tenant's own is made, if others were waited for. Raises GatewayError."""
    if is_erased(tenant):
        raise tenant_disabled("erased")
