"""Commands of many requests in few writes to the store.

What is asked in one turn of the event loop goes out in one write and comes back in one read: most of what a command
costs is paid once for all of them. Two connections (`_LANES`) carry one batch each, so that one batch is on its way
while the other is read; what is asked meanwhile waits and makes the next batch, at most 256 commands (`_BATCH_LIMIT`).

Rules:
- A command is sent at most once. When its answer is lost, nobody knows whether it ran; it may still run later.
- An error reply is its own command's. A connection that fails takes the commands it has not answered with it, and is
  closed: no answer is ever read by a command that did not ask for it.
- A caller that is cancelled disturbs nobody: its command's answer is read and dropped.
- The deadline counts from the call, the wait for a connection included. The first command that misses it tells that
  the store is away: what is asked from then on fails at once.
- No blocking commands, no transactions, no subscriptions: neighbours would wait, and connections have no memory.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from hiredis import pack_command
from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, ResponseError

from gateway.store.server import DRIVER, FAULTS, Presence, StoreAway

_LANES = 2
_BATCH_LIMIT = 256
_STALL_S = 0.05

Word = bytes | str | int


class Script:
    """A Lua script, called by its digest: only a server that does not know it yet is sent the text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class _Command:
    """A command and the future of its answer; `deadline` is a time of the event loop's clock."""

    __slots__ = ("answer", "deadline", "words")

    def __init__(self, words: tuple[Word, ...], deadline: float, answer: asyncio.Future[Any]) -> None:
        self.words = words
        self.deadline = deadline
        self.answer = answer

    def settle(self, answer: object) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)

    def fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class _Lane:
    """One connection, opened at first use and again after a failure."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._connection = pool.make_connection()  # type: ignore[no-untyped-call]

    async def exchange(self, batch: Sequence[_Command]) -> None:
        """Send the commands and give each its answer. Raises one of FAULTS; the connection is closed then, as it is
        when this is cancelled."""
        connection = self._connection
        try:
            # Something to read before anything was asked: the server has closed, or the connection is out of step.
            if connection.is_connected and await connection.can_read():
                await connection.disconnect(nowait=True)
            if not connection.is_connected:
                await connection.connect()
            # Its types know only commands of one word.
            packed = (pack_command(command.words) for command in batch)  # type: ignore[arg-type]
            await connection.send_packed_command(b"".join(packed))
            for command in batch:
                try:
                    answer = await connection.read_response()
                except ResponseError as error:
                    command.fail(error)
                else:
                    command.settle(answer)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise

    async def close(self) -> None:
        await self._connection.disconnect()


class Coalescer:
    """The cache's client of the store, for many small commands. Answers are bytes. `timeout_s` is each command's
    deadline, `name` what the log calls the server where there are several, `pause` what `presence` waits with between
    two probes."""

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float,
        name: str | None = None,
        on_return: list[Callable[[], Awaitable[None]]] | None = None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        # No timeouts inside: the one around a batch costs less than one for each read, and holds for connecting too.
        pool: ConnectionPool = ConnectionPool.from_url(
            url,
            socket_timeout=None,
            socket_connect_timeout=None,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            driver_info=DRIVER,
        )
        self.presence = Presence(self._ping, client="cache", server=name, on_return=on_return, pause=pause)
        self.on_return = self.presence.on_return
        self._timeout_s = timeout_s
        self._lanes = [_Lane(pool) for _ in range(_LANES)]
        self._idle = list(self._lanes)
        self._waiting: deque[_Command] = deque()
        self._is_starting = False
        """Whether a lane is about to take what waits, at the end of this turn of the loop."""
        self._carrying: set[asyncio.Task[None]] = set()

    async def run(self, *words: Word) -> Any:
        """The answer to one command. Raises StoreAway, at once while the store is known to be away, and redis-py's
        ResponseError for an error reply."""
        self.presence.check()
        return await self._ask(words)

    async def script(self, script: Script, *, keys: Sequence[Word], arguments: Sequence[Word]) -> Any:
        """The answer of a script; all keys are of one slot. Raises as `run` does."""
        rest = (len(keys), *keys, *arguments)
        try:
            return await self.run("EVALSHA", script.digest, *rest)
        except NoScriptError:
            return await self.run("EVAL", script.text, *rest)

    def note_away(self, exc: Exception) -> None:
        """The store cannot do what it must, even if it answers: it counts as away until the next probe."""
        self.presence.note_away(exc)

    async def _ping(self) -> None:
        try:
            await self._ask(("PING",))
        except ResponseError as exc:  # it answers, and serves nobody
            raise StoreAway(str(exc)) from exc

    def _ask(self, words: tuple[Word, ...]) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        command = _Command(words, loop.time() + self._timeout_s, loop.create_future())
        self._waiting.append(command)
        self._start()
        return command.answer

    def _start(self) -> None:
        """Have a lane carry what waits, if one is free. It begins after everything else that is ready in this turn."""
        if self._waiting and self._idle and not self._is_starting:
            self._is_starting = True
            task = asyncio.create_task(self._carry(self._idle.pop()))
            self._carrying.add(task)
            task.add_done_callback(self._carrying.discard)

    async def _carry(self, lane: _Lane) -> None:
        try:
            while batch := self._take():
                await self._exchange(lane, batch)
        finally:
            self._idle.append(lane)
            self._start()

    def _take(self) -> list[_Command]:
        """The next batch. What is beyond it is the other lane's."""
        batch: list[_Command] = []
        while self._waiting and len(batch) < _BATCH_LIMIT:
            command = self._waiting.popleft()
            if not command.answer.done():  # else its caller has left
                batch.append(command)
        self._is_starting = False
        self._start()
        return batch

    async def _exchange(self, lane: _Lane, batch: Sequence[_Command]) -> None:
        deadline = batch[0].deadline  # the earliest: they stand in the order of the calls
        try:
            async with asyncio.timeout_at(deadline):
                await lane.exchange(batch)
            self.presence.note_answer()
        except TimeoutError as exc:
            # Much too late means that this process stood still, not the store: its answer may lie in the socket.
            if asyncio.get_running_loop().time() < deadline + _STALL_S:
                self.presence.note_away(exc)
        except FAULTS as exc:
            self.presence.note_away(exc)
        finally:
            _fail(batch)

    async def close(self) -> None:
        """Close the connections. Commands that wait raise StoreAway, and so do all that come later."""
        await self.presence.close()
        _fail(self._waiting)
        self._waiting.clear()
        for task in self._carrying:
            task.cancel()
        await asyncio.gather(*self._carrying, return_exceptions=True)
        for lane in self._lanes:
            await lane.close()


def _fail(commands: Iterable[_Command]) -> None:
    for command in commands:
        command.fail(StoreAway("the store did not answer"))
