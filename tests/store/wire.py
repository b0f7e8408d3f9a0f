"""A client of the store for tests of the cache: every command waits until the test says what becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError

from gateway.store.coalescer import Script, Word
from gateway.store.connection import StoreAway


class Call:
    """A command on its way."""

    def __init__(self, words: tuple[Word, ...]) -> None:
        self.words = words
        self.caller: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.was_run = False
        self._answer: Any = None

    @property
    def is_over(self) -> bool:
        """Whether nobody waits for its answer any more."""
        return self.caller.done()

    def run(self, redis: Redis) -> None:
        """Have the store carry it out, at last perhaps when its caller has given it up."""
        self.was_run = True
        try:
            self._answer = redis.execute_command(*self.words)  # type: ignore[no-untyped-call]
        except ResponseError as error:
            self._answer = error

    def answer(self) -> None:
        if isinstance(self._answer, ResponseError):
            self.caller.set_exception(self._answer)
        else:
            self.caller.set_result(self._answer)

    def lose(self) -> None:
        self.caller.set_exception(StoreAway("lost"))


class Wire:
    """The way from one replica to the store. It blocks while the store works. `on_run` is told of each command."""

    def __init__(self, redis: Redis, *, is_prompt: bool = True, on_run: Callable[[Call], None] = lambda call: None):
        self.redis = redis
        self.is_prompt = is_prompt
        self.is_away = False
        self.calls: list[Call] = []
        self._on_run = on_run

    async def run(self, *words: Word) -> Any:
        if self.is_away:
            raise StoreAway("away")
        call = Call(words)
        self.calls.append(call)
        if self.is_prompt:
            self.deliver(call)
        return await call.caller

    async def script(self, script: Script, *, keys: Sequence[Word], arguments: Sequence[Word]) -> Any:
        return await self.run("EVAL", script.text, len(keys), *keys, *arguments)

    def note_away(self, exc: Exception) -> None:
        self.is_away = True

    def deliver(self, call: Call) -> None:
        """Carry it out, if that has not happened, and answer it."""
        if not call.was_run:
            self.carry_out(call)
        call.answer()

    def carry_out(self, call: Call) -> None:
        call.run(self.redis)
        self._on_run(call)

    @property
    def waiting(self) -> list[Call]:
        return [call for call in self.calls if not call.is_over]
