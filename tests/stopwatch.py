"""How long something took, on a machine that is busy with other things."""

from __future__ import annotations

import asyncio

from gateway.ending import end

_TICK_S = 0.01
_AT_MOST_S = 0.05


class Stopwatch:
    """`async with Stopwatch() as watch`: then `watch.seconds` are those in which this process could run. Where the
    machine kept it waiting for longer than a moment, a moment is counted. For what waits, not for what computes."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._ticking: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Stopwatch:
        self._clock = asyncio.get_running_loop().time
        self._counted_until = self._clock()
        self._ticking = asyncio.create_task(self._tick())
        return self

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            self._count()

    def _count(self) -> None:
        now = self._clock()
        self.seconds += min(now - self._counted_until, _AT_MOST_S)
        self._counted_until = now

    async def __aexit__(self, *_: object) -> None:
        self._count()
        assert self._ticking is not None
        await end([self._ticking])
