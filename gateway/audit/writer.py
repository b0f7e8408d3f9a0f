"""The thread that writes: takes what has queued up meanwhile, commits it as one, tells those who wait.

While the trail cannot be written it tries again every second, and at the next record after a short pause; what was lost
until then is counted, and one `trail.gap` says so.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

from gateway.audit.chain import Moments, Position
from gateway.audit.file_set import Entry, FileSet
from gateway.telemetry import log

_BATCH_RECORDS = 1024
_RETRY_S = 1.0
_PAUSE_S = 0.1
_ROTATE_AGAIN_S = 10.0
_IDLE_S = 60.0
LINGER_S = 0.05
"""How long `buffered` gathers records before it writes them."""

Waiting = asyncio.Future[str | None]
"""Has None when the promise holds, else why it does not."""


class ContentStore(Protocol):
    """Where the content of messages is kept, apart from the records."""

    def keep(self, content: Any) -> Mapping[str, Any]:
        """Keep it, and return what the record says of it (its fact `content`). Called in the writer's thread, which
        waits: with `mode: fsync` it is on the disk when this returns. Raises OSError."""
        ...

    def close(self) -> None:
        """Nothing more comes. Raises OSError."""
        ...


class Submitted(NamedTuple):
    """A record on its way to the thread. `waiting` is told when the promise of the mode holds."""

    time_ns: int
    kind: str
    facts: Mapping[str, Any]
    content: Any
    waiting: Waiting | None


class _Stop:
    """The last thing in the queue."""


_STOP = _Stop()

Acknowledge = Callable[[Sequence[Waiting], str | None], None]
"""Tells those who wait; with the reason if what they wait for is lost."""


class Writer:
    """`open_files` has its first call in the thread, and again after OSError. `acknowledge` and `ended` are called in
    the thread. `overflowed` is how many records were dropped before they came here, ever."""

    def __init__(
        self,
        open_files: Callable[[], FileSet],
        *,
        acknowledge: Acknowledge,
        ended: Callable[[], None],
        overflowed: Callable[[], int],
        content_store: ContentStore | None,
        on_error: str,
        rotate_bytes: int,
        rotate_s: float,
        linger_s: float = 0,
    ) -> None:
        self._open_files = open_files
        self._acknowledge = acknowledge
        self._ended = ended
        self._overflowed = overflowed
        self._content_store = content_store
        self._on_error = on_error
        self._rotate_bytes = rotate_bytes
        self._rotate_s = rotate_s
        self._linger_s = linger_s
        self._files: FileSet | None = None
        self._rotate_not_before = 0.0
        self._tried = 0.0
        self._lost: Counter[str] = Counter()
        self._lost_since_ns = 0
        self._committed_ns = time.time_ns()
        self._overflow_told = 0
        self._moments = Moments()
        self.queue: queue.SimpleQueue[Submitted | _Stop] = queue.SimpleQueue()
        self.failure: str | None = None
        """Why nothing can be written; None while it can."""
        self.busy_since: float | None = None
        """Since when (monotonic) the thread is at one batch; None while it waits for one."""
        self.lost = 0
        """Records that are not in the trail, since the start."""
        self._thread = threading.Thread(target=self._run, name="audit.writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Write what is queued, seal the file, end. Returns at once."""
        self.queue.put(_STOP)

    @property
    def position(self) -> Position | None:
        return self._files.position if self._files is not None else None

    def _run(self) -> None:
        batch: list[Submitted] = []  # so that the file is there, and the one before it mended, before a record comes
        is_going_on = True
        while True:
            self.busy_since = time.monotonic()
            self._commit(batch)
            self._rotate_if_due()
            if not is_going_on:
                break
            self.busy_since = None
            batch, is_going_on = self._take()
        if self._content_store is not None:
            with suppress(OSError):
                self._content_store.close()
        self._close()

    def _take(self) -> tuple[list[Submitted], bool]:
        """What has come, at most a batch; nothing if it is time to look around. And whether more will come."""
        batch: list[Submitted] = []
        try:
            item = self.queue.get(timeout=self._patience_s())
            if self._linger_s and self.queue.qsize() < _BATCH_RECORDS:
                time.sleep(self._linger_s)
            while not isinstance(item, _Stop):
                batch.append(item)
                if len(batch) == _BATCH_RECORDS:
                    return batch, True
                item = self.queue.get_nowait()
        except queue.Empty:
            return batch, True
        return batch, False

    def _patience_s(self) -> float:
        if self.failure is not None:
            return _RETRY_S
        if self._files is None or self._files.is_empty:
            return _IDLE_S
        return min(_IDLE_S, max(0.1, self._rotate_s - self._files.age_s))

    def _commit(self, batch: Sequence[Submitted]) -> None:
        now = time.monotonic()
        if self.failure is not None and batch and now - self._tried < _PAUSE_S:
            self._give_up(batch, self.failure)
            return
        if self.failure is None and self._files is not None and not batch and not self._has_gap():
            return
        self._tried = now
        try:
            without_content = self._write(batch)
        except OSError as exc:
            self._fail(exc.strerror or type(exc).__name__)
            self._give_up(batch, self.failure)
        except Exception as exc:  # a fault of ours must not end the thread
            log.exception("audit.crashed")
            self._fail(type(exc).__name__)
            self._give_up(batch, self.failure)
        else:
            self._succeed()
            self._tell(batch, without_content)

    def _write(self, batch: Sequence[Submitted]) -> set[int]:
        """The places in the batch whose content is lost. Raises OSError."""
        if self._files is None:
            self._files = self._open_files()
        entries, without_content = [], set()
        overflowed = self._overflowed()
        gap = self._gap(overflowed - self._overflow_told)
        if gap is not None:
            entries.append(gap)
        for place, (time_ns, kind, facts, content, _) in enumerate(batch):
            if content is not None:
                kept = self._keep(content)
                facts = {**facts, "content": kept}
                if "lost" in kept:
                    without_content.add(place)
            entries.append(Entry(time_ns, kind, facts))
        if entries:
            self._files.append(entries)
        else:
            self._files.open()
        if gap is not None:
            self._overflow_told = overflowed
            self._lost.clear()
        self._committed_ns = time.time_ns()
        return without_content

    def _has_gap(self) -> bool:
        return bool(self._lost) or self._overflowed() > self._overflow_told

    def _keep(self, content: Any) -> Mapping[str, Any]:
        """The record is written also when its content cannot be kept."""
        try:
            assert self._content_store is not None, "there is content and no store for it"
            return self._content_store.keep(content)
        except Exception as exc:
            log.exception("audit.crashed") if not isinstance(exc, OSError) else None
            return {"lost": getattr(exc, "strerror", None) or type(exc).__name__}

    def _gap(self, overflowed: int) -> Entry | None:
        if not self._lost and not overflowed:
            return None
        now_ns = time.time_ns()
        facts = {
            "lost": self._lost.total() + overflowed,
            "kinds": dict(self._lost),
            "since": self._moments.text(self._lost_since_ns if self._lost else self._committed_ns),
            "why": self.failure or "more records came than could be written",
        }
        return Entry(now_ns, "trail.gap", facts)

    def _give_up(self, batch: Sequence[Submitted], why: str | None) -> None:
        if not batch:
            return
        if not self._lost:
            self._lost_since_ns = batch[0].time_ns
        self._lost.update(item.kind for item in batch)
        self.lost += len(batch)
        self._acknowledge([item.waiting for item in batch if item.waiting is not None], why)

    def _tell(self, batch: Sequence[Submitted], without_content: set[int]) -> None:
        if without_content:
            incomplete = [item.waiting for place, item in enumerate(batch) if place in without_content and item.waiting]
            self._acknowledge(incomplete, "the content cannot be kept")
        waiting = [item.waiting for item in batch if item.waiting is not None]
        if waiting:
            self._acknowledge(waiting, None)

    def _fail(self, why: str) -> None:
        if self.failure is None:
            log.error("audit.failed", reason=why, on_error=self._on_error)
        self.failure = why

    def _succeed(self) -> None:
        if self.failure is not None:
            log.warning("audit.recovered", lost=self.lost)
        self.failure = None

    def _rotate_if_due(self) -> None:
        files, now = self._files, time.monotonic()
        if files is None or files.is_empty or now < self._rotate_not_before:
            return
        if files.size < self._rotate_bytes and files.age_s < self._rotate_s:
            return
        try:
            files.rotate()
        except OSError as exc:  # the old file goes on, or the next record opens another
            self._rotate_not_before = now + _ROTATE_AGAIN_S
            log.error("audit.keeping_failed", work="rotate", reason=exc.strerror)

    def _close(self) -> None:
        try:
            if self._files is not None:
                self._files.close()
        except OSError as exc:
            log.error("audit.failed", reason=exc.strerror, on_error=self._on_error)
        finally:
            self._ended()
