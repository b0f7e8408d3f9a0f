"""What keys of providers were asked in the last minute, and what tokens their runs used: two windows for each key.

A window here is a second longer than a minute: a request takes its time to the provider, whose minute is another.
"""

from __future__ import annotations

from typing import Any

from redis.exceptions import ResponseError

from gateway.store.coalescer import Script, Word
from gateway.store.connection import Store, StoreAway
from gateway.store.key_states import KeyPlace
from gateway.store.limits import Commands
from gateway.store.windows import WINDOWS
from gateway.window import MINUTE_S

SPAN_S = MINUTE_S + 1

# KEYS: windows of requests and of tokens. ARGV: seconds of a window, most requests and tokens ("" for no limit).
# Answers the milliseconds to wait, 0 when the request is counted.
_RESERVE = Script(
    WINDOWS
    + """
local wait = 0
local requests = read(KEYS[1], tonumber(ARGV[1]))
if ARGV[2] ~= '' then wait = wait_ms(requests, tonumber(ARGV[2])) end
if ARGV[3] ~= '' then wait = math.max(wait, wait_ms(read(KEYS[2], tonumber(ARGV[1])), tonumber(ARGV[3]))) end
if wait == 0 then add(requests, 1) end
return wait
"""
)
# KEYS: window of tokens. ARGV: seconds of a window, tokens.
_ADD = Script(WINDOWS + "add(read(KEYS[1], tonumber(ARGV[1])), tonumber(ARGV[2]))")


class BudgetCounts:
    """The windows. Every method raises StoreAway."""

    def __init__(self, commands: Commands, store: Store) -> None:
        """`store` only names keys."""
        self._commands = commands
        self._store = store

    async def reserve(self, place: KeyPlace, requests: int | None, tokens: int | None) -> float:
        """Count a request if so many of a minute, and so many tokens, are not reached. Answers the seconds to wait, 0
        when it is counted."""
        most = ["" if limit is None else limit for limit in (requests, tokens)]
        return float(await self._script(_RESERVE, self._keys(place), [SPAN_S, *most])) / 1000

    async def add_tokens(self, place: KeyPlace, tokens: int) -> None:
        await self._script(_ADD, self._keys(place)[1:], [SPAN_S, tokens])

    def _keys(self, place: KeyPlace) -> list[Word]:
        slot = f"{{{':'.join(place)}}}"
        return [self._store.key("budget", slot, "requests"), self._store.key("budget", slot, "tokens")]

    async def _script(self, script: Script, keys: list[Word], words: list[Word]) -> Any:
        try:
            return await self._commands.script(script, keys=keys, arguments=words)
        except ResponseError as exc:  # it answers, and cannot do what it must
            self._commands.note_away(exc)
            raise StoreAway(str(exc)) from exc
