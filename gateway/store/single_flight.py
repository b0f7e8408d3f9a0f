"""Several callers want the same thing at the same time: one fetches it, the others wait for what it gets.

The first works in its own task: alone it loses nothing, and when it leaves, its work ends with it. Nobody else is
dragged along. Those who wait go round again, and whoever is first works for the rest. They are all woken, because a
turn handed to one of them would be lost with it if it left in the same moment.

A failure is passed on only to those who waited before that work began, since their own would have met the same. Whoever
joined it under way, when its deadline was perhaps half over, tries once more: nobody waits for two failures of others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class _Outcome:
    """How work ended. `was_left`: it was cancelled, which says nothing about what it would have given."""

    value: Any = None
    error: Exception | None = None
    was_left: bool = False


class SingleFlight:
    """The work under way in this process, by key."""

    def __init__(self) -> None:
        self._under_way: dict[Hashable, asyncio.Future[_Outcome]] = {}

    async def share(self, key: Hashable, make: Callable[[], Awaitable[T]]) -> T:
        """What `make` gives, called once for all who ask for `key` at the same time. Raises what it raises.

        It must serve everybody: it may not touch what is its caller's alone, such as the connection to answer on.
        """
        has_waited = False
        while (ending := self._under_way.get(key)) is not None:
            # Shielded: whoever leaves ends its own waiting and nothing else.
            outcome = await asyncio.shield(ending)
            if outcome.error is not None and has_waited:
                raise outcome.error
            if outcome.error is None and not outcome.was_left:
                value: T = outcome.value
                return value
            has_waited = True
        return await self._work(key, make)

    async def _work(self, key: Hashable, make: Callable[[], Awaitable[T]]) -> T:
        ending = self._under_way[key] = asyncio.get_running_loop().create_future()
        outcome = _Outcome(was_left=True)
        try:
            value = await make()
            outcome = _Outcome(value)
        except Exception as exc:
            outcome = _Outcome(error=exc)
            raise
        finally:
            del self._under_way[key]
            ending.set_result(outcome)
        return value
