"""Sending one request until an outcome is final: take a key, send, judge, and again where that is safe."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from gateway.config import Limits
from gateway.credentials import Credentials, KeyRefused, Keyring
from gateway.errors import NEVER_REPEAT, AttemptFailed, GatewayError
from gateway.model import Key, Outbound, Provider, Target
from gateway.operations import Operation
from gateway.phases.judge import Refusal, Verdict, blames_key, judge, may_have_run, pause_s
from gateway.phases.receive import Body
from gateway.phases.rewrite_in import read_refusal
from gateway.phases.send import Response, send
from gateway.pool import Lease, Pool
from gateway.protocols import Translation
from gateway.telemetry import Record
from gateway.upstream import Upstream


@dataclass(frozen=True)
class Sending:
    """What all attempts of one request have in common. `payload` is the rewritten body unless that is spooled;
    `translation` has been applied to it and is still to be applied to the answer; `deadline` is a time of the event
    loop's clock."""

    operation: Operation
    target: Target
    ids: Mapping[str, str]
    """Upstream ids of the path, by kind, in its order."""
    outbound: Outbound
    body: Body
    payload: bytes
    translation: Translation
    deadline: float
    query: Sequence[tuple[str, str]] = ()
    """With upstream ids; what `outbound` says too."""
    tenant: str = ""
    """The caller's id, "" where the gateway asks of its own accord."""
    sticks_to: str | None = None
    """What the strategy `sticky` keeps to one key, where that is not the path's thread."""
    public: Callable[[str, str], str] | None = None
    """How its answer will call an object of a kind and upstream id, where that is asked for before it is answered."""
    runs_at: Target | None = None
    """Whose models a run uses, where that is not the target: served threads meet assistants of other accounts."""

    @property
    def about(self) -> str:
        """The upstream id of what the request is about, "" where the path has none."""
        return list(self.ids.values())[-1] if self.ids else ""

    @property
    def model(self) -> str:
        """The model that the request names, "" for none."""
        model = self.body.document.get("model") if self.body.document is not None else None
        return model if type(model) is str else ""


Send = Callable[[Sending, Record], Awaitable[Response]]
"""Has a request carried out, wherever that is: the last answer, good or bad. Raises GatewayError where there is no
answer."""


class Attempts:
    """Sends requests to providers. Lives as long as the process; `pause` is what waits between attempts."""

    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        pools: Mapping[str, Pool],
        *,
        limits: Limits,
        keyring: Keyring,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`pools` are by their account's route."""
        self._upstreams = upstreams
        self._pools = pools
        self._limits = limits
        self._keyring = keyring
        self._pause = pause

    async def __call__(self, sending: Sending, record: Record) -> Response:
        """The provider's last answer, good or bad. Every attempt starts from the same untouched request.

        When the last attempt brought no answer, or one that is about a key, an earlier one about the request is
        worth more. Raises GatewayError when there was no answer at all, when a write may have been done, and when no
        key of the account can be used.
        """
        operation, provider = sending.operation, sending.target.provider
        pool = self._pools[sending.target.account.route]
        pool.check(sending.model)
        refused: set[str] = set()
        may_be_deleted = False
        outcome: Response | AttemptFailed | None = None
        told: Response | None = None
        suspect: Key | None = None
        attempts = 0
        while (
            lease := await pool.take(refused=refused, thread=sending.sticks_to or sending.ids.get("thread"))
        ) is not None:
            key, outcome = lease.key, await self._send(sending, lease, pool, record)
            facts: Refusal | AttemptFailed
            if isinstance(outcome, AttemptFailed):
                facts = outcome
            elif outcome.is_success:
                self._note_success(sending, pool, key, outcome, suspect)
                return outcome
            elif may_be_deleted and outcome.status == 404:
                # Only an earlier attempt of this very request can have deleted it: that is a success.
                outcome = replace(outcome, status=200, document={})
                self._note_success(sending, pool, key, outcome, suspect)
                return outcome
            else:
                facts = read_refusal(outcome.status, outcome.raw)
                told = told if blames_key(facts) else outcome
            pool.note_refusal(key, facts, outcome.headers, about=sending.about, model=sending.model)
            if suspect is None and pool.doubts(key, facts, sending.about, refused):
                suspect = key
                refused.add(key.name)
                continue
            verdict = judge(operation, facts, pool.limits_belong_to)
            if verdict is Verdict.NEXT_KEY and not self._is_late(sending):
                refused.add(key.name)
                continue
            attempts += 1
            if verdict is not Verdict.AGAIN or attempts == provider.max_attempts or self._is_late(sending):
                break
            may_be_deleted |= operation.answers == "deleted" and _may_have_arrived(facts)
            await self._pause(pause_s(attempts, outcome.headers, random.random()))
        if outcome is None:
            pool.note_given_up()
            raise pool.nothing_ready()
        if isinstance(outcome, Response):
            return told or outcome
        if told is not None and not may_have_run(operation, outcome):
            return told
        raise failure(outcome, operation, provider) from outcome

    @staticmethod
    def _note_success(sending: Sending, pool: Pool, key: Key, response: Response, suspect: Key | None) -> None:
        made = response.document.get("id") if type(response.document) is dict else None
        ids = {**sending.ids, **({sending.operation.kind: made} if type(made) is str else {})}
        if suspect is not None:
            pool.note_mismatch(suspect, sending.about)
        pool.note_success(key, ids)
        if sending.operation.answers == "deleted":
            pool.forget(sending.about)

    async def _send(self, sending: Sending, lease: Lease, pool: Pool, record: Record) -> Response | AttemptFailed:
        """One attempt with a key; after a 401 one more, if the key can be presented anew. The lease ends with the
        answer, be it relayed."""
        credentials = self._keyring(sending.target, lease.key)
        outcome: Response | AttemptFailed | None = None
        try:
            outcome, presented = await self._send_once(sending, lease.key, credentials, record)
            if isinstance(outcome, Response) and outcome.status == 401 and credentials.renew(presented):
                outcome, _ = await self._send_once(sending, lease.key, credentials, record)
            return outcome
        except BaseException:
            pool.note_given_up()
            raise
        finally:
            if isinstance(outcome, Response) and outcome.relayed is not None:
                outcome.relayed.when_closed(lease.release)
            else:
                lease.release()

    async def _send_once(
        self, sending: Sending, key: Key, credentials: Credentials, record: Record
    ) -> tuple[Response | AttemptFailed, Mapping[str, str]]:
        provider = sending.target.provider
        ended = record.begin_attempt(sending.operation.name, provider.name, key.name)
        presented: Mapping[str, str] = {}
        try:
            presented = await credentials.headers()
            response = await send(
                sending.operation,
                sending.outbound,
                sending.body,
                sending.payload,
                key=key.fingerprint,
                credentials=presented,
                upstream=self._upstreams[provider.name],
                limits=self._limits,
                deadline=sending.deadline,
            )
        except KeyRefused:
            response = Response(401, {})  # as if the provider itself had said so
        except AttemptFailed as failed:
            ended(error=failed.code)
            return failed, presented
        ended(status=response.status)
        return response, presented

    @staticmethod
    def _is_late(sending: Sending) -> bool:
        return asyncio.get_running_loop().time() >= sending.deadline


def _may_have_arrived(facts: Refusal | AttemptFailed) -> bool:
    return not isinstance(facts, AttemptFailed) or facts.arrived


def failure(failed: AttemptFailed, operation: Operation, provider: Provider) -> GatewayError:
    """What a caller is told of a request whose last attempt brought no answer."""
    message = f"provider '{provider.name}' {failed.message}"
    if not may_have_run(operation, failed):
        return GatewayError(failed.status, message, code=failed.code, type="server_error", source="provider")
    return GatewayError(
        504,
        f"{message}; whether the request was carried out there is unknown: look before you repeat it",
        code="outcome_unknown",
        type="server_error",
        source="provider",
        headers=NEVER_REPEAT,
    )
