"""Runs of keys that may use only some models: one that names no model uses the assistant's, so the assistant is read
first."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from gateway.attempts import Send, Sending
from gateway.errors import GatewayError, unknown_id
from gateway.inbound import Inbound
from gateway.operations import BY_NAME
from gateway.phases.check_scope import asks_assistant, check_assistant, unknown_assistant
from gateway.phases.locate import Located
from gateway.phases.receive import Body
from gateway.phases.rewrite_out import rewrite_out
from gateway.phases.send import Response
from gateway.protocols import SAME
from gateway.telemetry import Record

_READ = BY_NAME["get_assistant"]


class Scoping:
    """Lives as long as the process."""

    def __init__(self, send: Send) -> None:
        self._send = send

    async def __call__(self, inbound: Inbound, located: Located, record: Record) -> None:
        """Nothing if the caller's key may use the model. Waits for the provider only where the assistant's decides.

        Raises GatewayError: as `asks_assistant` and `check_assistant`; 404 for an assistant that is gone; 502 when it
        cannot be read, and as attempts do. Nothing of the request itself has been sent then.
        """
        scope = inbound.caller.scope
        if scope.models is None or not asks_assistant(scope, inbound.operation, inbound.body):
            return
        upstream = next((each for slot, each in located.slots if slot.param == "assistant_id"), None)
        if upstream is None:
            raise unknown_assistant(scope)
        located = replace(located, target=located.runs_at or located.target)
        shown, provider = located.known[upstream], located.target.provider
        response = await self._send(_reading(inbound, located, upstream), record)
        if response.status == 404:
            raise unknown_id("assistant", shown)
        if not response.is_success:
            raise _unreadable(provider.name, response)
        check_assistant(scope, shown, response.document, provider)


def _reading(inbound: Inbound, located: Located, upstream: str) -> Sending:
    """The assistant in the provider's own version of the protocol."""
    ids = {"assistant": upstream}
    outbound = rewrite_out(
        _READ,
        replace(located, path_ids=ids, query=(), query_has_ids=False),
        raw_query="",
        page=None,
        headers=inbound.request.headers,
        beta=inbound.beta,
        streaming=False,
    )
    headers = {name: value for name, value in outbound.headers.items() if name not in ("Content-Type", "Accept")}
    deadline = asyncio.get_running_loop().time() + located.target.provider.timeouts.total_s
    return Sending(_READ, located.target, ids, replace(outbound, headers=headers), Body(), b"", SAME, deadline)


def _unreadable(provider: str, response: Response) -> GatewayError:
    return GatewayError(
        502,
        f"the assistant whose model decides whether this key may run it could not be read: provider '{provider}'"
        f" answered {response.status}",
        code="provider_broken_answer",
        type="server_error",
        source="provider",
    )
