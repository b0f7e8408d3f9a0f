"""Ids of what the gateway serves itself: the kind's prefix, then letters and digits, as at OpenAI."""

from __future__ import annotations

import secrets
import string
from typing import Literal

Kind = Literal["assistant", "thread", "message", "run", "step"]

PREFIXES: dict[Kind, str] = {
    "assistant": "asst_",
    "thread": "thread_",
    "message": "msg_",
    "run": "run_",
    "step": "step_",
}
_ALPHABET = string.ascii_letters + string.digits
_LENGTH = 24
"""As long as OpenAI's; 142 bits, so that nobody guesses one and no two are ever the same."""


def mint(kind: Kind) -> str:
    """An id that was never there."""
    return PREFIXES[kind] + "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))


def mint_word() -> str:
    """A word that nobody else has: a fence, or the mark of one deletion."""
    return secrets.token_hex(8)
