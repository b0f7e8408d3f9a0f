"""Requests with an `Idempotency-Key`: the first is carried out, what follows gets its answer.

What the record of a key says, once its first request has ended:

    2xx                                         the answer is kept, above 256 KB only the ids in it
    400 404 405 410 413 414 415 422             kept: it proves that the body was refused
    400 because a run is active in the thread   the key is free again: nothing was carried out, and it will pass
    any other refusal, nothing arrived          the same
    408 409 5xx, cut, timed out, given up       unknown, and nobody sends it again
    a stream, or what else passes by in pieces  that it was streamed, and as which run; a served run's is told again

A request with a key goes on when its caller leaves: callers who lose their connection are those who will repeat. Only
what passes by in pieces cannot go on without a caller.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

from gateway import codec
from gateway.config import Idempotency as Settings
from gateway.errors import KIND_WORDS, NEVER_REPEAT, GatewayError, bad_request, envelope, store_unavailable
from gateway.inbound import Exchange, Exchanged, Inbound, Replay
from gateway.model import Reply
from gateway.phases.digest import digest
from gateway.phases.locate import Located
from gateway.phases.read_facts import Run
from gateway.public_ids import PublicIds
from gateway.store.connection import StoreAway
from gateway.store.idempotency import (
    Begun,
    IdempotencyRecords,
    InWork,
    Kept,
    Lease,
    Outcome,
    Reused,
    Streamed,
    TooLarge,
    Unknown,
)
from gateway.telemetry import Record, log
from gateway.watching import Watch

T = TypeVar("T")

HEADER = "Idempotency-Key"
REFUSED_THE_BODY = frozenset({400, 404, 405, 410, 413, 414, 415, 422})
"""Statuses that say the same whenever the same is asked. Others depend on keys, limits and time."""
CROSSING_AGAIN = ("openai-processing-ms", "openai-version", "x-upstream-request-id")
"""Headers that are given again with a kept answer; the rest, such as limits, was true when it was said."""

_REPLAYED = {"idempotent-replayed": "true"}
_KEY = re.compile(r"[\x20-\x7e]{1,255}")
_WHILE_A_RUN_IS_ACTIVE = re.compile(rb"while a run \S+ is active|has an active run")
"""OpenAI's sentences for a thread that is locked (recorded answers and public issues, 2023–2026). Programs wait and ask
again, which a kept refusal would make useless."""
_KEPT_BYTES = 256 * 1024
_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 0.5


class Idempotency:
    """In front of all that asks providers, the cache included. Lives as long as the process; `pause` is what waits
    between two looks at a request that is in work."""

    def __init__(
        self,
        records: IdempotencyRecords,
        settings: Settings,
        *,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._records = records
        self._wait_s = settings.wait_s
        self._pause = pause
        self._exchanges: set[asyncio.Task[Any]] = set()
        self._writes: set[asyncio.Task[Any]] = set()

    async def __call__(
        self,
        inbound: Inbound,
        located: Located,
        public: PublicIds,
        exchange: Exchange,
        record: Record,
        *,
        replay: Replay,
    ) -> Exchanged:
        """What was kept of the first request with this key, or what `exchange` gives. Raises what that raises, and
        GatewayError 400, 409, 422 for the key, 503 when the store is away."""
        key = read_key(inbound)
        if key is None:
            return await exchange()
        asked = await digest(inbound.operation, located, inbound.beta.version, inbound.body)
        lease = self._records.lease(inbound.caller.tenant.id, key, asked)
        found = await self._begin(lease)
        record.note(idempotency="first" if isinstance(found, Begun) else "repeat")
        if isinstance(found, Streamed) and found.again is not None:
            exchanged = await replay(found.again)
            if exchanged.relayed is not None:
                record.headers = {**record.headers, **_REPLAYED}
                return exchanged
        if not isinstance(found, Begun):
            return Exchanged(_again(found, inbound))
        claim = Claim(self, lease, public)
        if inbound.may_pass_through:
            return await _carry_out(claim, exchange)
        return await self._to_its_end(_carry_out(claim, exchange))

    async def _begin(self, lease: Lease) -> Begun | InWork | Reused | Outcome:
        """What the record says; while the first request is in work, wait for it up to `wait_s`."""
        clock = asyncio.get_running_loop().time
        patience_ends, pause_s = clock() + self._wait_s, _FIRST_PAUSE_S
        try:
            found = await self._look(lease)
            while isinstance(found, InWork) and (left_s := patience_ends - clock()) > 0:
                await self._pause(min(pause_s, left_s))
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
                found = await self._look(lease)
        except StoreAway as exc:
            raise store_unavailable(f"a request with an {HEADER}") from exc
        return found

    async def _look(self, lease: Lease) -> Begun | InWork | Reused | Outcome:
        """Begin, if the key is free. What is begun for a caller who has left by then is given back at once."""
        looking = _hold(self._records.begin(lease), self._writes)
        try:
            return await asyncio.shield(looking)
        except asyncio.CancelledError:
            _hold(self._give_back(looking, lease), self._writes)
            raise

    async def _give_back(self, looking: Awaitable[object], lease: Lease) -> None:
        with suppress(StoreAway):
            if isinstance(await looking, Begun):
                await self._records.release(lease)

    async def settle(self, lease: Lease, outcome: Outcome | None) -> None:
        """Write down how a request ended, None for one that was not carried out. Goes on if the caller leaves
        meanwhile, and never raises: an answer must not be lost for its record."""
        await asyncio.shield(_hold(self._settle(lease, outcome), self._writes))

    async def _settle(self, lease: Lease, outcome: Outcome | None) -> None:
        try:
            if outcome is None:
                await self._records.release(lease)
            else:
                await self._records.finish(lease, outcome)
        except StoreAway:
            log.warning("idempotency.lost", tenant=lease.tenant, key=lease.key)

    async def _to_its_end(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for work that goes on if the caller leaves. Then this waits all the same before it is cancelled, because
        the body that is sent and the line in the log are the request's."""
        task = _hold(work, self._exchanges)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            try:
                await asyncio.wait({task})
            finally:
                task.cancel()  # when even the waiting is cancelled
            if not task.cancelled() and not isinstance(task.exception(), GatewayError | None):
                log.error("request.crashed", exc_info=task.exception())
            raise

    async def drain(self) -> None:
        """Give up what goes on without its caller, and write down what is known of it. Called once, when requests have
        had their time."""
        for task in self._exchanges:
            task.cancel()
        await asyncio.gather(*self._exchanges, return_exceptions=True)
        while self._writes:
            await asyncio.gather(*self._writes, return_exceptions=True)


def _hold(work: Coroutine[Any, Any, T], tasks: set[asyncio.Task[Any]]) -> asyncio.Task[T]:
    task = asyncio.create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return task


class Claim(Watch):
    """The right to carry out the request of a key, and the duty to say how it ended. What an answer that passes through
    says is heard as a Watch; what was heard first stands."""

    def __init__(self, idempotency: Idempotency, lease: Lease, public: PublicIds) -> None:
        self._idempotency = idempotency
        self._lease = lease
        self._public = public
        self._is_settled = False

    async def settle(self, outcome: Outcome | None) -> None:
        """None for a request that was not carried out."""
        if not self._is_settled:
            self._is_settled = True
            await self._idempotency.settle(self._lease, outcome)

    async def streams_again(self, again: str) -> None:
        """The answer is a stream that can be told again."""
        _, run, _ = again.split()
        await self.settle(Streamed(self._public("run", run), again))

    async def on_run(self, run: Run) -> None:
        await self.settle(Streamed(self._public("run", run.id)))

    async def on_reply(self, reply: Reply) -> None:
        await self.settle(_kept(reply))

    async def on_pieces(self) -> None:
        await self.settle(Streamed())

    async def end(self) -> None:
        await self.settle(Unknown())


def read_key(inbound: Inbound) -> str | None:
    """The key of a POST, None if it has none. Raises GatewayError 400 for one that cannot be a key."""
    if inbound.operation.method != "POST" or HEADER not in inbound.request.headers:
        return None
    given = inbound.request.headers.getall(HEADER)
    if len(given) > 1 or not _KEY.fullmatch(given[0]):
        message = f"Invalid '{HEADER}': expected one value of 1 to 255 printable ASCII characters."
        raise bad_request(message, param=HEADER, code="invalid_value")
    return given[0]


async def _carry_out(claim: Claim, exchange: Exchange) -> Exchanged:
    """What `exchange` gives, once the record says how it ended. An answer that is still arriving says it itself."""
    try:
        exchanged = await exchange()
    except GatewayError as error:
        await claim.settle(_outcome_of_error(error))
        raise
    except BaseException:
        await claim.settle(Unknown())
        raise
    if exchanged.relayed is not None:
        if exchanged.again is not None:
            await claim.streams_again(exchanged.again)
        return replace(exchanged, claim=claim)
    await claim.settle(_outcome(exchanged))
    return exchanged


# --- how it ended -----------------------------------------------------------------------------------------------------
def _outcome(exchanged: Exchanged) -> Outcome | None:
    """Of a whole answer. None: the provider refused for a reason that may be gone the next time."""
    if exchanged.may_have_run:
        return Unknown()
    reply = exchanged.reply
    if reply.status < 300:
        return _kept(reply)
    if reply.status not in REFUSED_THE_BODY or _WHILE_A_RUN_IS_ACTIVE.search(reply.body):
        return None
    refused = _kept(reply)
    return refused if isinstance(refused, Kept) else None  # one of such size is no harm to ask for again


def _outcome_of_error(error: GatewayError) -> Outcome | None:
    if error.code == "outcome_unknown" or error.may_have_run:
        return Unknown()
    if error.status in REFUSED_THE_BODY:
        return _kept(Reply(error.status, envelope(error), error.headers))
    return None


def _kept(reply: Reply) -> Kept | TooLarge:
    if len(reply.body) > _KEPT_BYTES:
        return TooLarge(_ids(reply.body))
    headers = {name: value for name, value in reply.headers.items() if name.lower() in CROSSING_AGAIN}
    return Kept(reply.status, headers, reply.body)


def _ids(body: bytes) -> dict[str, str]:
    """The ids that a whole answer has at its top."""
    try:
        document = codec.loads(body)
    except ValueError:
        return {}
    told = document.items() if type(document) is dict else ()
    is_id = re.compile(r"(\w+_)?id").fullmatch
    return {name: value for name, value in told if is_id(name) and type(value) is str}


# --- what a repeat gets -----------------------------------------------------------------------------------------------
def _again(found: InWork | Reused | Outcome, inbound: Inbound) -> Reply:
    """The first answer once more. Raises GatewayError where there is none to give."""
    match found:
        case Kept(status, headers, body):
            return Reply(status, body, {**headers, **_REPLAYED})
        case InWork():
            raise GatewayError(
                409,
                f"the first request with this {HEADER} is still in work; ask again shortly",
                code="request_in_progress",
                headers={"retry-after": "1"},
            )
        case Reused():
            raise _never(422, f"this {HEADER} was used for another request", "idempotency_key_reused")
        case Streamed(None, _):
            raise _never(
                409,
                f"the answer to the first request with this {HEADER} was passed on while it arrived and is not kept",
                "stream_not_replayable",
            )
        case Streamed(run, _):
            raise _never(
                409,
                f"the first request with this {HEADER} was streamed as run '{run}' and cannot be streamed again:"
                " read the run",
                "stream_not_replayable",
            )
        case TooLarge(ids):
            made = ", ".join(f"{name} '{value}'" for name, value in ids.items()) or "no id"
            raise _never(
                409,
                f"the first request with this {HEADER} was carried out; its answer is too large to be given again and"
                f" has {made}",
                "answer_not_kept",
            )
        case Unknown():
            raise _never(
                409,
                f"whether the first request with this {HEADER} was carried out is unknown: look at"
                f" {_parent(inbound)} before you ask again with another key",
                "outcome_unknown",
            )


def _parent(inbound: Inbound) -> str:
    """What the request was about, as its caller calls it: there its work shows."""
    if not inbound.matched.shown:
        return "what there is"
    kind, shown = list(inbound.matched.shown.items())[-1]
    return f"{KIND_WORDS.get(kind, kind)} '{shown}'"


def _never(status: int, message: str, code: str) -> GatewayError:
    return GatewayError(status, message, code=code, headers=NEVER_REPEAT)
