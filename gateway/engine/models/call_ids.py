"""Ids of calls as one request has them: such as the vendor takes, and each once.

A thread may hold ids of other vendors, who begin anew with each answer (hermes-agent#102629: `terminal:0` twice, and
each request to Responses a 400) or put in what this one refuses. An id that cannot stay is replaced, in the call and in
its output alike, and in each request by the same.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping

from gateway.engine.models.generation import Round


class CallIds:
    """`form` is what the vendor takes. What is made in its place is `call_` and 32 letters or digits, or as many
    `letters` alone."""

    def __init__(self, form: re.Pattern[str], *, letters: int | None = None) -> None:
        self._form = form
        self._letters = letters
        self._used: set[str] = set()

    def of(self, turn: Round) -> Mapping[str, str]:
        """Of the next round of the request: the id of each call → the one to send."""
        sent: dict[str, str] = {}
        for call in turn.calls:
            fits = self._form.fullmatch(call.id) is not None and call.id not in self._used
            sent[call.id] = call.id if fits else self._make(call.id)
            self._used.add(sent[call.id])
        return sent

    def _make(self, told: str) -> str:
        said = f"{len(self._used)} {told}".encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(said, digest_size=16)
        if self._letters is None:
            return f"call_{digest.hexdigest()}"
        return base64.b32encode(digest.digest())[: self._letters].decode()
