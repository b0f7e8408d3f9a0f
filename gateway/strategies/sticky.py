"""The same key for the same thread, as long as that key is ready; requests without a thread take turns.

Rendezvous hashing: when a key leaves only its own threads move, and they come back with it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from gateway.strategies.round_robin import RoundRobin
from gateway.strategies.strategy import Choice

if TYPE_CHECKING:
    from gateway.model import Key


class Sticky:
    """Needs no memory: every process chooses alike."""

    def __init__(self) -> None:
        self._without_thread = RoundRobin()

    def __call__(self, choice: Choice) -> Key:
        thread = choice.thread
        if thread is None:
            return self._without_thread(choice)
        return max(choice.ready, key=lambda key: hashlib.blake2b(f"{thread}\0{key.name}".encode()).digest())


STRATEGY = Sticky
