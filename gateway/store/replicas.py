"""How many gateways share the store: each says every few seconds that it lives, and remembers how many did.

One that was killed counts for `_DEAD_S`; one that ends takes itself out. The clock is the store's.
"""

from __future__ import annotations

import secrets

from gateway.store.connection import Store

BEAT_S = 5.0
_DEAD_S = 15

# KEYS: sorted set. ARGV: this replica, seconds after which one counts as dead. Answers how many live.
_BEAT = """
local now = tonumber(redis.call('TIME')[1])
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
return redis.call('ZCARD', KEYS[1])
"""


class Replicas:
    """Those of one store, this one included."""

    def __init__(self, store: Store) -> None:
        self.count = 1
        """How many were last seen. In memory."""
        self._store = store
        self._key = store.key("replicas")
        self._id = secrets.token_hex(8)

    async def beat(self) -> None:
        """Say that this one lives, and learn how many do. Raises StoreAway; then what was last seen stands."""
        count = await self._store.run(lambda redis: redis.eval(_BEAT, 1, self._key, self._id, str(_DEAD_S)))
        self.count = max(1, int(count))

    async def leave(self) -> None:
        """This one ends. Raises StoreAway."""
        await self._store.run(lambda redis: redis.zrem(self._key, self._id))
