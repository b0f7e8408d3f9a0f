"""Asking a provider's model: one call, through the same pools, keys, retries and limits as what is forwarded."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import replace

from gateway import __version__
from gateway.attempts import Send, Sending
from gateway.engine.models.generation import Delta, Failure, Generation, ModelRequest, Usage
from gateway.engine.models.model_api import Reader
from gateway.engine.models.offers import CannotCarry
from gateway.errors import AttemptFailed, GatewayError
from gateway.model import Outbound, Target
from gateway.operations import Operation
from gateway.phases.receive import Body
from gateway.phases.rewrite_out import account_headers, url_of
from gateway.protocols import SAME
from gateway.store.key_states import KeyPlace
from gateway.telemetry import Record
from gateway.upstream import Relayed

ASK_MODEL = Operation("ask_model", "POST", "", "generation", "any", {}, is_repeatable=True)
"""No caller's operation. An answer that nobody got is nowhere kept, so a call that failed may be made again."""

CountTokens = Callable[[KeyPlace, int, float], None]
"""A key's place, the tokens that a call with it took, and when, in seconds since 1970."""

_FIGURES_S = 2.0
"""The model has said why it stopped: how long its figures are waited for."""
_TOGETHER_S = 0.020
_QUICK_S = 0.025
"""Deltas that come so soon one after the other have company within `_TOGETHER_S`."""
_END_S = 0.05
"""How long the end of the connection's answer is waited for, so that the connection can be used again."""
_HEADERS = {
    "Content-Type": "application/json",
    "Accept": "text/event-stream",
    "Accept-Encoding": "identity",
    "User-Agent": f"threads-gateway/{__version__}",
}


class Asking:
    """Lives as long as the process. `clock` tells seconds since 1970."""

    def __init__(self, send: Send, count_tokens: CountTokens, *, clock: Callable[[], float] = time.time) -> None:
        self._send = send
        self._count_tokens = count_tokens
        self._clock = clock

    async def __call__(
        self,
        target: Target,
        generation: Generation,
        record: Record,
        *,
        before: Callable[[bytes], Awaitable[None]],
        unheard: Callable[[Usage], None],
        thread: str,
        patience_s: float,
    ) -> AsyncGenerator[Sequence[Delta], None]:
        """What the model says, as it arrives; the last delta is a Finish or a Failure. Raises nothing. To be closed
        (`contextlib.aclosing`) by who stops listening: that stops the vendor. `before` is told what the vendor will be
        asked, and raises GatewayError where it must not be; `unheard` of what was used by then, where nobody listened
        to the end."""
        api = target.provider.model_api
        assert api is not None
        if generation.max_completion_tokens is None:
            generation = replace(generation, max_completion_tokens=target.provider.max_tokens)
        try:
            request = api.build(generation)
            await before(request.body)
            patience_s = min(patience_s, target.provider.timeouts.total_s)
            response = await self._send(_sending(target, generation.model, request, thread, patience_s), record)
        except CannotCarry as exc:
            yield [Failure("invalid_prompt", exc.fault.message)]
            return
        except GatewayError as error:
            yield [_as_failure(error)]
            return
        if response.relayed is None:
            yield _masked([api.failure(response.status, response.headers, response.raw, now=self._clock())], target)
            return
        place, reader, pace = KeyPlace(target.account.route, response.key), api.read(_make_call_id), _Pace()

        def count(deltas: Sequence[Delta]) -> list[Usage]:
            told = [delta for delta in deltas if isinstance(delta, Usage)]
            for usage in told:
                self._count_tokens(place, usage.total_tokens, self._clock())
            return told

        async with response.relayed as answer:
            try:
                while not reader.is_over:
                    deltas = await _read_on(reader, answer)
                    count(deltas)
                    if deltas:
                        yield _masked(deltas, target)
                        if not reader.is_answered:
                            await pace()
            finally:
                if not reader.is_over:
                    for usage in count(reader.cut("")):
                        unheard(usage)
            await _read_end(answer)


class _Pace:
    """What a quick model says within 20 ms is read together: to read it, tell it and write it to the caller costs the
    most for each time, not for each delta. The first delta never waits, nor do those of a slower model."""

    def __init__(self) -> None:
        self._clock = asyncio.get_running_loop().time
        self._told_s = -1.0

    async def __call__(self) -> None:
        """To be called when something was told."""
        now, before = self._clock(), self._told_s
        self._told_s = now
        if now - before < _QUICK_S:
            await asyncio.sleep(_TOGETHER_S)


def _sending(target: Target, model: str, request: ModelRequest, thread: str, patience_s: float) -> Sending:
    path, _, query = request.path.partition("?")
    headers = {**_HEADERS, **account_headers(target), **request.headers}
    outbound = Outbound("POST", url_of(target.provider, path, query), headers)
    deadline = asyncio.get_running_loop().time() + patience_s
    body = Body(document={"model": model})
    # The thread is no object of the provider's, but what was said in it may be in its cache, by key.
    return Sending(ASK_MODEL, target, {}, outbound, body, request.body, SAME, deadline, sticks_to=thread)


async def _read_on(reader: Reader, answer: Relayed) -> list[Delta]:
    """What the next piece says, or what the end of the answer means."""
    try:
        if reader.is_answered:
            async with asyncio.timeout(_FIGURES_S):
                piece = await answer.next_piece()
        else:
            piece = await answer.next_piece()
    except TimeoutError:
        return reader.cut("")
    except AttemptFailed as failed:
        return reader.cut(f"the model's provider {failed.message}")
    return reader.feed(piece) if piece else reader.close()


async def _read_end(answer: Relayed) -> None:
    try:
        async with asyncio.timeout(_END_S):
            while await answer.next_piece():
                pass
    except (TimeoutError, AttemptFailed):
        return


def _make_call_id(index: int) -> str:
    return "call_" + secrets.token_hex(12)


def _as_failure(error: GatewayError) -> Failure:
    """What kept us from asking, in our own words."""
    return Failure("rate_limit_exceeded" if error.status == 429 else "server_error", error.message)


def _masked(deltas: list[Delta], target: Target) -> list[Delta]:
    """Vendors repeat keys in their errors; those without a known look are known here."""
    if not isinstance(failed := deltas[-1], Failure):
        return deltas
    message = failed.message
    for key in target.account.keys:
        message = message.replace(key.secret.reveal(), "***")
    return [*deltas[:-1], replace(failed, message=message)]
