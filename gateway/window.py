"""How much of something there was in each of the last seconds: a sliding window in memory.

`store/windows.py` keeps the same in the store, for all replicas. Never more than the limit in any minute, whichever one
looks at: a bucket that fills again (GCRA) would let up to twice as much through in the first one, and whoever counts in
minutes of his own, as vendors do, would call that too much. A second leaves as a whole, so a window is at most as many
numbers as it has seconds.
"""

from __future__ import annotations

from collections import deque

MINUTE_S = 60


class Window:
    """Of `span_s` seconds. `now` are seconds since 1970."""

    def __init__(self, span_s: int = MINUTE_S) -> None:
        self._span_s = span_s
        self._seconds: deque[list[int]] = deque()
        """Second and amount, the oldest first."""
        self._sum = 0

    def add(self, now: float, amount: int = 1) -> None:
        second = int(now)
        if self._seconds and self._seconds[-1][0] >= second:  # a clock that was set back counts in its last second
            self._seconds[-1][1] += amount
        else:
            self._seconds.append([second, amount])
        self._sum += amount

    def take_back(self) -> None:
        """Take one of the last second out again."""
        if self._seconds and self._seconds[-1][1] > 0:
            self._seconds[-1][1] -= 1
            self._sum -= 1

    def used(self, now: float) -> int:
        while self._seconds and self._seconds[0][0] + self._span_s <= now:
            self._sum -= self._seconds.popleft()[1]
        return self._sum

    def wait_s(self, now: float, limit: int) -> float:
        """Until there is less than `limit` in it; 0 if that is so now."""
        left, wait_s = self.used(now), 0.0
        for second, amount in self._seconds:
            if left < limit:
                break
            left -= amount
            wait_s = second + self._span_s - now
        return wait_s

    def reset_s(self, now: float) -> float:
        """Until it is empty."""
        return self._seconds[-1][0] + self._span_s - now if self.used(now) else 0.0
