"""One cheap read at a provider with one key, to see what the provider says to the key."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Literal

from gateway import __version__
from gateway.config import Limits
from gateway.credentials import KeyRefused, Keyring
from gateway.errors import AttemptFailed
from gateway.model import Key, Outbound, Target
from gateway.phases.judge import Refusal, blames_key
from gateway.phases.rewrite_in import read_refusal
from gateway.phases.rewrite_out import account_headers, url_of
from gateway.upstream import Upstream

Outcome = Literal["good", "refused", "failed"]
_PATIENCE_S = 30.0


@dataclass(frozen=True)
class Trial:
    """What came of it: `good`, `refused` (the answer is about the key), or `failed`, which says nothing about the key;
    with the provider's status and the code of its error, or ours."""

    outcome: Outcome
    status: int | None
    code: str | None
    duration_s: float


async def try_key(target: Target, key: Key, upstream: Upstream, limits: Limits) -> Trial:
    """List one assistant. Waits for the provider at most 30 s."""
    began = time.monotonic()
    try:
        outcome, status, code = _judge(await _ask(target, key, upstream, limits))
    except KeyRefused:
        outcome, status, code = "refused", None, None
    except AttemptFailed as failed:
        outcome, status, code = "failed", None, failed.code
    return Trial(outcome, status, code, round(time.monotonic() - began, 3))


async def _ask(target: Target, key: Key, upstream: Upstream, limits: Limits) -> Refusal:
    provider = target.provider
    headers = {"User-Agent": f"threads-gateway/{__version__}", "Accept-Encoding": "identity"}
    if (beta := provider.vendor.beta_header(())) is not None:
        headers["OpenAI-Beta"] = beta
    headers |= account_headers(target)
    outbound = Outbound("GET", url_of(provider, "/assistants", "limit=1"), headers)
    deadline = asyncio.get_running_loop().time() + _PATIENCE_S
    presented = await Keyring()(target, key).headers()
    answer = await upstream.open(outbound, presented, body=b"", size_bytes=0, deadline=deadline)
    async with answer:
        return read_refusal(answer.status, await answer.read(limits.answer_bytes))


def _judge(said: Refusal) -> tuple[Outcome, int, str | None]:
    """The outcome, the status, and the code if it has the shape of one: a provider's words may hold anything."""
    if 200 <= said.status < 300:
        return "good", said.status, None
    code = said.code if said.code and len(said.code) <= 64 and said.code.isidentifier() else None
    return "refused" if blames_key(said) or said.status == 403 else "failed", said.status, code
