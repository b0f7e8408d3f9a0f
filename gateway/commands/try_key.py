"""One cheap read at a provider with one key, to see what the provider says to the key."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

from gateway.credentials import KeyRefused, Keyring
from gateway.errors import AttemptFailed
from gateway.model import Key, Target
from gateway.phases.ask import ask
from gateway.phases.judge import Refusal, blames_key
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


async def try_key(target: Target, key: Key, upstream: Upstream) -> Trial:
    """List one assistant. Waits for the provider at most 30 s."""
    began = time.monotonic()
    try:
        outcome, status, code = _judge(
            await ask(target, key, upstream=upstream, keyring=Keyring(), patience_s=_PATIENCE_S)
        )
    except KeyRefused:
        outcome, status, code = "refused", None, None
    except AttemptFailed as failed:
        outcome, status, code = "failed", None, failed.code
    return Trial(outcome, status, code, round(time.monotonic() - began, 3))


def _judge(said: Refusal) -> tuple[Outcome, int, str | None]:
    """The outcome, the status, and the code if it has the shape of one: a provider's words may hold anything."""
    if 200 <= said.status < 300:
        return "good", said.status, None
    code = said.code if said.code and len(said.code) <= 64 and said.code.isidentifier() else None
    return "refused" if blames_key(said) or said.status == 403 else "failed", said.status, code
