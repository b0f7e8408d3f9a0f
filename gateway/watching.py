"""Hearing what an answer says that passes through while it arrives."""

from __future__ import annotations

from contextlib import AsyncExitStack

from gateway.model import Reply
from gateway.phases.read_facts import Run
from gateway.phases.relay import Reading


class Watch:
    """Hears of an answer before the caller does, who waits for it. This one does nothing with what it hears."""

    async def on_run(self, run: Run) -> None:
        """A stream told how its run stands."""

    async def on_reply(self, reply: Reply) -> None:
        """The answer turned out to be whole."""

    async def on_pieces(self) -> None:
        """The answer is passed on piece by piece and tells of no run."""

    def goes_on(self, reading: Reading) -> bool:
        """The caller has left, or the stream broke off. Whether this reads on by itself, and closes the answer then."""
        return False

    async def end(self) -> None:
        """It is over, however. Called once, and always."""


class Watches(Watch):
    """Several as one; each hears in its turn."""

    def __init__(self, *watches: Watch) -> None:
        self._watches = watches

    async def on_run(self, run: Run) -> None:
        for watch in self._watches:
            await watch.on_run(run)

    async def on_reply(self, reply: Reply) -> None:
        for watch in self._watches:
            await watch.on_reply(reply)

    async def on_pieces(self) -> None:
        for watch in self._watches:
            await watch.on_pieces()

    def goes_on(self, reading: Reading) -> bool:
        return any(watch.goes_on(reading) for watch in self._watches)

    async def end(self) -> None:
        async with AsyncExitStack() as ends:  # each, whatever happens to the others
            for watch in self._watches:
                ends.push_async_callback(watch.end)
