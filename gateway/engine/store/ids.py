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
_ALPHABET = (string.ascii_letters + string.digits).encode()
_OF_BYTES = bytes(_ALPHABET[byte % len(_ALPHABET)] for byte in range(256))
_BEYOND = bytes(range(256 - 256 % len(_ALPHABET), 256))
"""They would make some letters likelier than others."""
_LENGTH = 24
"""As long as OpenAI's; 142 bits, so that nobody guesses one and no two are ever the same."""


def mint(kind: Kind) -> str:
    """An id that was never there."""
    letters = b""
    while len(letters) < _LENGTH:  # nearly always once
        letters += secrets.token_bytes(2 * _LENGTH).translate(_OF_BYTES, _BEYOND)
    return PREFIXES[kind] + letters[:_LENGTH].decode()


def mint_word() -> str:
    """A word that nobody else has: a fence, or the mark of one deletion."""
    return secrets.token_hex(8)
