"""Where a request is carried out: at its provider, or in this process for a thread that is served here."""

from __future__ import annotations

from gateway.attempts import Send, Sending
from gateway.engine.container_requests import as_file, to_container
from gateway.engine.serving import Serving
from gateway.phases.send import Response
from gateway.telemetry import Record


class Targets:
    """Both as one; what is in front of it does not see the difference."""

    def __init__(self, attempts: Send, serving: Serving) -> None:
        self._attempts = attempts
        self._serving = serving

    async def __call__(self, sending: Sending, record: Record) -> Response:
        """Raises GatewayError as attempts do. Of a served provider, what passes through goes to the provider itself."""
        provider = sending.target.provider
        if provider.serves(sending.operation):
            return await self._serving(sending, record)
        if provider.is_served and (inside := to_container(sending)) is not None:
            return as_file(await self._attempts(inside, record), sending)
        return await self._attempts(sending, record)
