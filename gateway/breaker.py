"""An account's breaker: when its provider only fails, callers are told at once instead of waiting for it."""

from __future__ import annotations

from collections.abc import Callable

_LONGEST_S = 60.0


class Breaker:
    """Opens after `failures` in a row, for `open_s`. Then one request tries; if that fails it opens again for twice as
    long, up to a minute. In this process only. Times are of `clock`, in seconds."""

    def __init__(self, failures: int, open_s: float, *, clock: Callable[[], float]) -> None:
        self.failures = failures
        self.first_open_s = open_s
        self._clock = clock
        self._in_a_row = 0
        self._open_s = open_s
        self._open_until = 0.0
        self._is_trying = False

    @property
    def is_open(self) -> bool:
        return self._in_a_row >= self.failures

    def wait_s(self) -> float:
        """How long until a request may be sent; 0 if it may now. After the wait the first that asks is the trial."""
        if not self.is_open:
            return 0.0
        left_s = self._open_until - self._clock()
        if left_s > 0:
            return left_s
        if self._is_trying:
            return self._open_s
        self._is_trying = True
        return 0.0

    def note_success(self) -> bool:
        """The provider answered something of use. Whether it had been open."""
        was_open = self.is_open
        self._in_a_row, self._open_s, self._is_trying = 0, self.first_open_s, False
        return was_open

    def note_failure(self) -> bool:
        """Whether it has opened by this."""
        self._in_a_row += 1
        if not self.is_open:
            return False
        if self._is_trying:
            self._is_trying = False
            self._open_s = min(_LONGEST_S, 2 * self._open_s)
        elif self._in_a_row > self.failures:
            return False  # one that was under way when it opened
        self._open_until = self._clock() + self._open_s
        return self._in_a_row == self.failures

    def forget_trial(self) -> None:
        """The request that tried was given up by its caller: another may."""
        self._is_trying = False
