"""When each key of a tenant was last presented, at whichever replica: to see whether one that is to go is still in use.

To about a minute: a key in steady use is told of once a minute, so that the store hears little of busy ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from gateway.store.connection import Store
from gateway.store.switches import IsErased, nobody

_EVERY_S = 60


class LastUse:
    """Keys go by their fingerprints; `clock` tells seconds since 1970. Of a tenant that `is_erased` nothing is told."""

    def __init__(self, store: Store, *, clock: Callable[[], float] = time.time, is_erased: IsErased = nobody) -> None:
        self._store = store
        self._is_erased = is_erased
        self._key = store.key("tenant_keys_used")
        self._clock = clock
        self._noted: dict[str, float] = {}
        self._late: dict[str, tuple[str, float]] = {}
        """Of what was noted, what the store has not been told: whose it is, and when."""

    def note(self, fingerprint: str, *, tenant: str) -> None:
        """A key of a tenant, by id, was presented. In memory."""
        now = self._clock()
        if now - self._noted.get(fingerprint, 0) >= _EVERY_S:
            self._noted[fingerprint] = now
            self._late[fingerprint] = tenant, now

    async def flush(self) -> None:
        """Tell the store. Raises StoreAway; the rest stays for the next time."""
        telling, self._late = self._late, {}
        times = {
            fingerprint: int(at_s) for fingerprint, (tenant, at_s) in telling.items() if not self._is_erased(tenant)
        }
        if not times:
            return
        try:
            await self._store.run(lambda redis: redis.hset(self._key, mapping=times))  # type: ignore[arg-type]
        except BaseException:
            self._late = telling | self._late
            raise

    async def forget(self, fingerprints: Collection[str]) -> int:
        """How many were known. Raises StoreAway."""
        if not fingerprints:
            return 0
        return int(await self._store.run(lambda redis: redis.hdel(self._key, *fingerprints)))

    async def all(self) -> dict[str, int]:
        """Fingerprint → second since 1970. Raises StoreAway."""
        found = await self._store.run(lambda redis: redis.hgetall(self._key))
        return {str(fingerprint): int(at_s) for fingerprint, at_s in found.items()}
