from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.connection import Connection, ConnectionPool
from redis.exceptions import DataError

from gateway.store.connection import Store
from gateway.store.packing import pack_in_c

WORDS: list[tuple[Any, ...]] = [
    ("GET", "key"),
    ("SET", b"k\r\n", "ä€", 5, -(2**70), 0.1, 1e22, float("inf"), b"", "", memoryview(b"view")),
    ("SCRIPT LOAD", "return 1"),
    (b"CLIENT SETNAME", "me"),
    ("EVALSHA", "0" * 40, 1, "{k}", "x" * 10_000),
]


@pytest.mark.one_server
@pytest.mark.parametrize("words", WORDS, ids=[str(words[0]) for words in WORDS])
async def test_what_is_packed_in_c_is_what_redis_py_packs(valkey: str, words: tuple[Any, ...]) -> None:
    connection = pack_in_c(ConnectionPool.from_url(valkey)).make_connection()  # type: ignore[no-untyped-call]
    assert b"".join(connection.pack_command(*words)) == b"".join(Connection().pack_command(*words))


@pytest.mark.one_server
@pytest.mark.parametrize("word", [None, True, [1]])
async def test_what_is_no_word_is_refused_as_redis_py_refuses_it(valkey: str, word: Any) -> None:
    pool = pack_in_c(ConnectionPool.from_url(valkey, decode_responses=True))
    redis = Redis(connection_pool=pool)
    with pytest.raises(DataError):
        await redis.execute_command("ECHO", word)  # type: ignore[no-untyped-call]
    assert await redis.execute_command("ECHO", "word") == "word"  # type: ignore[no-untyped-call]
    await pool.disconnect()


async def test_more_than_the_socket_takes_at_once_goes_out_in_order(valkey: str, prefix: str) -> None:
    store = Store(valkey, prefix="tg", timeout_s=5)
    large = [bytes([number]) * 5_000_000 for number in range(65, 70)]
    for value in large:
        await store.run(lambda redis, value=value: redis.execute_command("APPEND", prefix, value))  # type: ignore[misc]
    assert await store.run(lambda redis: redis.get(prefix)) == b"".join(large).decode()
    await store.run(lambda redis: redis.delete(prefix))
    await store.close()
