"""Sending one request until an outcome is final: choose a key, send, judge, and again where that is safe."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

from gateway.config import Limits
from gateway.errors import NEVER_REPEAT, AttemptFailed, GatewayError
from gateway.model import Key, Outbound, Provider, Target
from gateway.operations import Operation
from gateway.phases.choose_key import Strategy, choose_key
from gateway.phases.judge import Refusal, Verdict, judge, may_have_run, pause_s
from gateway.phases.receive import Body
from gateway.phases.rewrite_in import read_refusal
from gateway.phases.send import Response, send
from gateway.telemetry import Record
from gateway.upstream import Upstream


@dataclass(frozen=True)
class Sending:
    """What all attempts of one request have in common. `payload` is the rewritten body unless that is spooled;
    `deadline` is a time of the event loop's clock."""

    operation: Operation
    target: Target
    outbound: Outbound
    body: Body
    payload: bytes
    deadline: float


class Attempts:
    """Sends requests to providers. Lives as long as the process; `pause` is what waits between attempts."""

    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        *,
        strategy: Strategy,
        limits: Limits,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._upstreams = upstreams
        self._strategy = strategy
        self._limits = limits
        self._pause = pause

    async def __call__(self, sending: Sending, record: Record) -> Response:
        """The provider's last answer, good or bad. Every attempt starts from the same untouched request.

        Raises GatewayError when the last attempt brought no answer at all.
        """
        operation, provider = sending.operation, sending.target.provider
        refused: set[str] = set()
        may_be_deleted = False
        outcome: Response | AttemptFailed | None = None
        for number in range(1, provider.max_attempts + 1):
            key = choose_key(sending.target.account, refused=refused, strategy=self._strategy)
            if key is None:
                break
            outcome = await self._send(sending, key, record)
            if isinstance(outcome, Response):
                if outcome.is_success:
                    return outcome
                if may_be_deleted and outcome.status == 404:
                    # Only an earlier attempt of this very request can have deleted it: that is a success.
                    return replace(outcome, status=200, document={})
            facts = _facts(outcome)
            verdict = judge(operation, facts, provider.vendor)
            if verdict is Verdict.NEXT_KEY:
                refused.add(key.name)
                continue
            if verdict is Verdict.FINAL or number == provider.max_attempts or self._is_late(sending):
                break
            may_be_deleted |= operation.answers == "deleted" and _may_have_arrived(facts)
            await self._pause(pause_s(number, outcome.headers, random.random()))
        if isinstance(outcome, Response):
            return outcome
        assert outcome is not None, "an account has a key and a request an attempt"
        raise failure(outcome, operation, provider) from outcome

    async def _send(self, sending: Sending, key: Key, record: Record) -> Response | AttemptFailed:
        provider = sending.target.provider
        ended = record.begin_attempt(provider.name, key.name)
        try:
            response = await send(
                sending.operation,
                sending.outbound,
                sending.body,
                sending.payload,
                credentials=provider.vendor.credentials(key.secret.reveal()),
                upstream=self._upstreams[provider.name],
                limits=self._limits,
                deadline=sending.deadline,
            )
        except AttemptFailed as failed:
            ended(error=failed.code)
            return failed
        ended(status=response.status)
        return response

    @staticmethod
    def _is_late(sending: Sending) -> bool:
        return asyncio.get_running_loop().time() >= sending.deadline


def _facts(outcome: Response | AttemptFailed) -> Refusal | AttemptFailed:
    return outcome if isinstance(outcome, AttemptFailed) else read_refusal(outcome.status, outcome.raw)


def _may_have_arrived(facts: Refusal | AttemptFailed) -> bool:
    return not isinstance(facts, AttemptFailed) or facts.arrived


def failure(failed: AttemptFailed, operation: Operation, provider: Provider) -> GatewayError:
    """What a caller is told of a request whose last attempt brought no answer."""
    message = f"provider '{provider.name}' {failed.message}"
    if not may_have_run(operation, failed):
        return GatewayError(failed.status, message, code=failed.code, type="server_error", source="provider")
    return GatewayError(
        failed.status,
        f"{message}; whether the request was carried out there is unknown: look before you repeat it",
        code="outcome_unknown",
        type="server_error",
        source="provider",
        headers=NEVER_REPEAT,
    )
