"""Sending scripts: by their digest, with the text only to a server that does not know it yet.

Other parts of the gateway send the text each time; these scripts are long, and a run takes a dozen of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from redis.client import NEVER_DECODE
from redis.exceptions import NoScriptError

from gateway.store.coalescer import Script, Word
from gateway.store.connection import Store, StoreAway

Call = tuple[Sequence[str], Sequence[Word]]
"""Keys, all of one slot, and arguments."""


async def run_script(store: Store, script: Script, keys: Sequence[str], *arguments: Word) -> Any:
    """The script's answer, with words as bytes. Raises StoreAway."""
    return await store.run(lambda redis: _send(redis, script, keys, arguments))


async def run_often(store: Store, script: Script, calls: Sequence[Call]) -> list[Any]:
    """One script's answers to several calls, sent together. For a call whose part of the store is away the answer is
    StoreAway; if all is away, that is raised."""
    if not store.is_cluster:
        return await store.run(lambda redis: _send_all(redis, script, calls)) if calls else []
    answers = await asyncio.gather(
        *(run_script(store, script, keys, *arguments) for keys, arguments in calls), return_exceptions=True
    )
    failures = [answer for answer in answers if isinstance(answer, BaseException)]
    for failure in failures:
        if not isinstance(failure, StoreAway) or len(failures) == len(calls):
            raise failure
    return answers


async def read_fields(store: Store, key: str, fields: Sequence[str]) -> list[bytes | None]:
    """Fields of a hash. Raises StoreAway."""
    return await store.run(lambda redis: _read(redis, key, fields))


async def read_hash(store: Store, key: str) -> dict[bytes, bytes]:
    """All fields of a small hash. Raises StoreAway."""
    return await store.run(lambda redis: _read_all(redis, key))


async def _read_all(redis: Redis, key: str) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = await redis.execute_command("HGETALL", key, **{NEVER_DECODE: True})  # type: ignore[no-untyped-call]
    return found


async def _read(redis: Redis, key: str, fields: Sequence[str]) -> list[bytes | None]:
    found: list[bytes | None] = await redis.execute_command("HMGET", key, *fields, **{NEVER_DECODE: True})  # type: ignore[no-untyped-call]
    return found


async def _send(redis: Redis, script: Script, keys: Sequence[str], arguments: Sequence[Word]) -> Any:
    try:
        return await _execute(redis, "EVALSHA", script.digest, (keys, arguments))
    except NoScriptError:
        return await _execute(redis, "EVAL", script.text, (keys, arguments))


async def _send_all(redis: Redis, script: Script, calls: Sequence[Call]) -> list[Any]:
    async with redis.pipeline(transaction=False) as pipe:
        # Before the first call, so that none is refused for a script that the server does not know.
        pipe.script_load(script.text)
        for call in calls:
            _execute(pipe, "EVALSHA", script.digest, call)
        answers: list[Any] = await pipe.execute()
        return answers[1:]


def _execute(client: Any, command: str, script: str, call: Call) -> Any:
    keys, arguments = call
    return client.execute_command(command, script, len(keys), *keys, *arguments, **{NEVER_DECODE: True})
