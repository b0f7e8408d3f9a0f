"""The trail as the gateway sees it: records go in on the event loop, which never waits for a disk.

A record costs the loop a queue and, where its promise is awaited, a future; a thread (`writer.py`) does the rest. One
wake-up of the loop acknowledges all records of a commit.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal, Protocol

from gateway.audit.chain import RESERVED, Position
from gateway.audit.file_set import FileSet
from gateway.audit.writer import LINGER_S, ContentStore, Submitted, Waiting, Writer
from gateway.telemetry import log

Mode = Literal["buffered", "ack", "fsync"]
OnError = Literal["open", "closed"]

_QUEUE_RECORDS = 8192
_ENDED_YET_S = 0.01
_LOOKS_PER_TIMEOUT = 4
_CLOSED = "it is closed"
_STUCK = "the disk does not answer"


class AuditUnavailable(Exception):
    """The trail cannot record this, and `on_error` is `closed`."""


class Companion(Protocol):
    """What works beside the writer, in threads of its own, from the start of the trail to its end."""

    def start(self) -> None: ...

    def stop(self) -> bool:
        """Asks for the end; whether it has come. Asked again until it has, or there is no more time."""
        ...


class Trail:
    """One for a process. `open_files` is called in the writer's thread, where it may mend and read what is there.

    Facts belong to the trail once they are given to it: nobody changes them afterwards.
    """

    def __init__(
        self,
        open_files: Callable[[Callable[[], Mapping[str, int]]], FileSet],
        *,
        mode: Mode = "ack",
        on_error: OnError = "open",
        timeout_s: float = 5,
        rotate_bytes: int = 64 * 1024 * 1024,
        rotate_s: float = 86_400,
        content_store: ContentStore | None = None,
    ) -> None:
        self._mode = mode
        self._is_closed_on_error = on_error == "closed"
        self._on_error = on_error
        self._timeout_s = timeout_s
        self._skips: dict[str, int] = {}
        self._overflowed = 0
        self._pending: dict[Waiting, float] = {}
        self._for_room: set[Waiting] = set()
        self._is_stuck = False
        self._is_closing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: Waiting | None = None
        self._looking: asyncio.TimerHandle | None = None
        self._writer = Writer(
            # The counts only grow, and a copy of a dictionary is one step for other threads.
            lambda: open_files(self._skips.copy),
            acknowledge=self._acknowledge_from_thread,
            ended=self._ended_from_thread,
            overflowed=lambda: self._overflowed,
            content_store=content_store,
            on_error=on_error,
            rotate_bytes=rotate_bytes,
            rotate_s=rotate_s,
            linger_s=LINGER_S if mode == "buffered" else 0,
        )
        self._queue = self._writer.queue
        self._keeping: Companion | None = None
        self._checkpoints: Companion | None = None

    def attach(self, *, keeping: Companion, checkpoints: Companion) -> None:
        """Before the start. The first ends before the writer, the second after it."""
        self._keeping, self._checkpoints = keeping, checkpoints

    @property
    def position(self) -> Position | None:
        """The last record that is written; for any thread."""
        return self._writer.position

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that records come from, once it is started."""
        assert self._loop is not None
        return self._loop

    @property
    def queued(self) -> int:
        """How many records wait for the thread."""
        return self._queue.qsize()

    @property
    def lost(self) -> int:
        """How many records are not in the trail, since the start."""
        return self._writer.lost + self._overflowed

    def start(self) -> None:
        """Begin to write. A trail that cannot be opened is logged and tried again; `check` tells."""
        self._loop = asyncio.get_running_loop()
        self._ended = self._loop.create_future()
        self._writer.start()
        for companion in (self._keeping, self._checkpoints):
            if companion is not None:
                companion.start()
        self._look_again()

    def note(self, kind: str, facts: Mapping[str, Any], content: Any = None) -> None:
        """Record this without waiting and without a promise. Raises ValueError for a fact by a name of the chain."""
        if not RESERVED.isdisjoint(facts):
            raise ValueError(f"facts of {kind} use a name of the chain")
        if self._is_closing or self._queue.qsize() >= _QUEUE_RECORDS:
            self._overflowed += 1
            return
        self._queue.put(Submitted(time.time_ns(), kind, facts, content, None))

    async def write(self, kind: str, facts: Mapping[str, Any], content: Any = None) -> None:
        """Record this and return when the mode's promise holds: `buffered` at once, `ack` when the system has it,
        `fsync` when the disk has it. Waits at most about `timeout_s`; then, or when it cannot be recorded, with
        `on_error: closed` it raises AuditUnavailable, and with `open` returns."""
        if self._mode == "buffered":
            self.check()
            self.note(kind, facts, content)
            return
        why = await self._submit(kind, facts, content)
        if why is not None and self._is_closed_on_error:
            raise AuditUnavailable(f"the audit trail cannot be written: {why}")

    async def write_surely(self, kind: str, facts: Mapping[str, Any]) -> None:
        """Record this or raise AuditUnavailable, whatever mode and `on_error` are."""
        why = await self._submit(kind, facts, None)
        if why is not None:
            raise AuditUnavailable(f"the audit trail cannot be written: {why}")

    async def _submit(self, kind: str, facts: Mapping[str, Any], content: Any) -> str | None:
        """None when the promise holds, else why it does not."""
        if not RESERVED.isdisjoint(facts):
            raise ValueError(f"facts of {kind} use a name of the chain")
        try:
            while not self._is_stuck and not self._is_closing and self._queue.qsize() >= _QUEUE_RECORDS:
                await self._wait(self._for_room)
        except asyncio.CancelledError:
            self.note(kind, facts, content)  # its caller left: what it was about was done all the same
            raise
        if self._is_stuck or self._is_closing:
            if not self._is_closed_on_error:
                self.note(kind, facts, content)  # it is written late, if ever
            return _CLOSED if self._is_closing else _STUCK
        assert self._loop is not None
        waiting: Waiting = self._loop.create_future()
        self._pending[waiting] = time.monotonic()
        self._queue.put(Submitted(time.time_ns(), kind, facts, content, waiting))
        return await waiting

    async def _wait(self, among: set[Waiting]) -> None:
        assert self._loop is not None
        waiting = self._loop.create_future()
        among.add(waiting)
        try:
            await waiting
        finally:
            among.discard(waiting)

    def check(self) -> None:
        """Cheap; to be asked before a provider is. Raises AuditUnavailable when `on_error` is `closed` and nothing can
        be recorded now."""
        if not self._is_closed_on_error:
            return
        why = _CLOSED if self._is_closing else _STUCK if self._is_stuck else self._writer.failure
        if why is not None:
            raise AuditUnavailable(f"the audit trail cannot be written: {why}")

    def skip(self, operation: str) -> None:
        """Count a read that policy leaves out; the seal of the file says how many. What was counted since the last
        seal is lost when the process is killed."""
        self._skips[operation] = self._skips.get(operation, 0) + 1

    async def close(self) -> None:
        """Write what was given, seal the file, publish its end. Waits at most about `timeout_s` for each."""
        if self._ended is None or self._is_closing:
            return
        await self._end(self._keeping)
        self._is_closing = True
        self._writer.stop()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._timeout_s):
                await self._ended
        if self._looking is not None:
            self._looking.cancel()
        self._settle(_CLOSED)
        await self._end(self._checkpoints)

    async def _end(self, companion: Companion | None) -> None:
        give_up = time.monotonic() + self._timeout_s
        while companion is not None and not companion.stop() and time.monotonic() < give_up:  # noqa: ASYNC110
            # Not in a thread of the loop's, which would hang with it at a disk.
            await asyncio.sleep(_ENDED_YET_S)

    def _acknowledge_from_thread(self, waiting: Sequence[Waiting], why: str | None) -> None:
        assert self._loop is not None
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._acknowledge, waiting, why)

    def _ended_from_thread(self) -> None:
        assert self._loop is not None
        assert self._ended is not None
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(_finish, self._ended)

    def _acknowledge(self, waiting: Sequence[Waiting], why: str | None) -> None:
        for each in waiting:
            self._pending.pop(each, None)
            _finish(each, why)
        for each in self._for_room:
            _finish(each)

    def _look_again(self) -> None:
        """Look whether the thread hangs at the disk, where nobody can interrupt it, or cannot keep up."""
        assert self._loop is not None
        began = [*itertools.islice(self._pending.values(), 1), self._writer.busy_since]
        now = time.monotonic()
        is_stuck = any(since is not None and now - since > self._timeout_s for since in began)
        if is_stuck and not self._is_stuck:
            log.error("audit.failed", reason=_STUCK, on_error=self._on_error)
        elif self._is_stuck and not is_stuck:
            log.warning("audit.recovered", lost=self.lost)
        self._is_stuck = is_stuck
        if is_stuck:
            self._settle(_STUCK)
        self._looking = self._loop.call_later(self._timeout_s / _LOOKS_PER_TIMEOUT, self._look_again)

    def _settle(self, why: str) -> None:
        """Nobody waits longer. Their records may be written still."""
        self._acknowledge(list(self._pending), why)


def _finish(waiting: Waiting, why: str | None = None) -> None:
    """Unless its caller left, or would not wait longer."""
    if not waiting.done():
        waiting.set_result(why)
