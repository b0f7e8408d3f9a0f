"""Requests and answers on paths that pass through: what is translated in them, and what is not. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway import codec
from gateway.errors import bad_request
from gateway.ids import IdSigner
from gateway.model import Provider, Tenant
from gateway.operations import Matched
from gateway.passthrough import find_ids, may_hold_ids, sign_ids
from gateway.phases.judge import is_about_key
from gateway.phases.locate import Located
from gateway.phases.read_facts import Run
from gateway.phases.rewrite_events import Hear, keys_exhausted, read_object
from gateway.phases.rewrite_in import in_envelope, read_refusal
from gateway.public_ids import PublicIds
from gateway.shapes import Slot
from gateway.sse import Event

_DEPTH_LIMIT = 100


def ids_that_pass(document: Any, provider: Provider, tenant: Tenant, signer: IdSigner) -> list[Slot]:
    """The ids of a request that are to be translated.

    On an account that tenants share every string where an id stands must be one of this tenant, or one tenant could
    name another's file by its upstream id. On an account of one tenant, what does not verify passes as it is.
    """
    slots = list(find_ids(document))
    if provider.passthrough.is_shared:
        return slots
    return [slot for slot in slots if signer.verify(slot.shown, kind=slot.kind, tenant=tenant.id) is not None]


def stay_at_provider(matched: Matched, located: Located) -> None:
    """Raises GatewayError 400 for ids of another provider than the one whose path was asked for: it need not let that
    path through."""
    there = located.target.provider.name
    if there != matched.provider:
        raise bad_request(
            f"ids of provider '{there}' cannot go to this path of provider '{matched.provider}'",
            code="account_mismatch",
        )


class PassedAnswer:
    """JSON of an answer → bytes for the caller: the very bytes that came unless an id or a model's name changes."""

    def __init__(self, public: PublicIds, public_models: Mapping[str, str]) -> None:
        self._public = public
        self._models = public_models

    def __call__(self, raw: bytes) -> bytes:
        if not self._models and not may_hold_ids(raw):
            return raw
        try:
            document = codec.loads(raw)
        except ValueError:
            return raw
        if codec.is_deeper_than(document, raw, _DEPTH_LIMIT):
            return raw
        changed = sign_ids(document, self._public)
        changed = self._rename(document) or changed
        return codec.dumps(document) if changed else raw

    def _rename(self, document: Any) -> bool:
        if type(document) is not dict or (name := self._models.get(str(document.get("model")))) is None:
            return False
        document["model"] = name
        return True


class PassedEvents:
    """Event → bytes for the caller. One for each stream."""

    def __init__(self, answer: PassedAnswer, public: PublicIds, hear: Hear | None = None) -> None:
        self._answer = answer
        self._public = public
        self._hear = hear
        self.events = 0
        self.is_done = False
        self.run: Run | None = None

    def __call__(self, event: Event) -> bytes:
        self.events += event.data is not None
        self.is_done |= event.data == b"[DONE]"
        if event.data is not None:
            event.data = self._error(event.data) if self._is_error(event) else self._answer(event.data)
            if self._hear is not None:
                self._hear(event.name, read_object(event.data), event.data)
        return event.encode()

    @staticmethod
    def _is_error(event: Event) -> bool:
        if event.name == "error":
            return True
        if event.data is None or b'"error"' not in event.data[:200]:
            return False
        data = read_object(event.data)
        return data is not None and type(data.get("error")) is dict and "object" not in data and "type" not in data

    def _error(self, raw: bytes) -> bytes:
        if is_about_key(read_refusal(0, raw).code):
            return keys_exhausted()
        return in_envelope(raw, self._public, default_type="server_error", default_code="provider_error")
