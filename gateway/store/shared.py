"""What replicas and operators share beside cached answers: the states of keys, switches, tenants and their keys,
counts, acts, and how many gateways there are.

A gateway `start`s it and follows; a command only `load`s it, reads or changes, and `flush`es.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from gateway.ending import end
from gateway.store.acts import Acts
from gateway.store.connection import Store, StoreAway, do_each
from gateway.store.key_states import KeyStates
from gateway.store.key_usage import KeyUsage
from gateway.store.last_use import LastUse
from gateway.store.replicas import BEAT_S, Replicas
from gateway.store.subscription import Subscription
from gateway.store.switches import Switches
from gateway.store.tenant_keys import IssuedKeys
from gateway.store.tenant_usage import TenantUsage
from gateway.store.tenants import StoredTenants

_REFRESH_S = 0.5
"""Messages come within milliseconds; this is for the one that is lost. Two of these make the second within which
everything is in force everywhere."""
_COUNT_S = 1.0
_COUNT_TENANTS_S = 5.0
"""Less often, for it takes a write for each tenant."""


class Shared:
    """All of it, for one store. `start` after the store's `connect`; `close` before the store's."""

    def __init__(
        self,
        store: Store,
        *,
        clock: Callable[[], float] = time.time,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.keys = KeyStates(store, clock=clock)
        self.switches = Switches(store, clock=clock)
        self.tenants = StoredTenants(store, clock=clock)
        self.tenant_keys = IssuedKeys(store, clock=clock)
        self.usage = KeyUsage(store)
        self.tenant_usage = TenantUsage(store, clock=clock, is_erased=self.switches.is_usage_erased)
        self.last_use = LastUse(store, clock=clock, is_erased=self.switches.is_erased)
        self.acts = Acts(store)
        self.replicas = Replicas(store)
        self._store = store
        self._pause = pause
        self.on_follow: list[Callable[[], Awaitable[None]]] = []
        """Called whenever all of this has been read; may raise StoreAway."""
        # Keys after their tenants: a key whose tenant is not known yet would open nothing.
        self._mirrors = (self.keys.mirror, self.switches.mirror, self.tenants.mirror, self.tenant_keys.mirror)
        heard_by = {mirror.channel: mirror.hear for mirror in self._mirrors}
        self.subscription = Subscription(store, heard_by, pause=pause)
        self._working: list[asyncio.Task[None]] = []

    async def load(self) -> None:
        """Read what is shared, and tell what the store does not know. Raises StoreAway."""
        await do_each(mirror.settle for mirror in self._mirrors)

    async def flush(self) -> None:
        """Tell the store what it has not been told. Raises StoreAway."""
        await do_each(mirror.flush for mirror in self._mirrors)
        await self._count()
        await self._count_tenants()

    async def start(self) -> None:
        """Know what is shared, and follow it from now on. Does not raise: without the store this process's own
        knowledge decides, until it is back."""
        with suppress(StoreAway):
            await self._follow()
            await self.replicas.beat()
        self._store.on_return.append(self._follow)
        self.subscription.start()
        self._working = [
            asyncio.create_task(self._repeat(_REFRESH_S, self._follow), name="shared.follow"),
            asyncio.create_task(self._repeat(_COUNT_S, self._count), name="shared.count"),
            asyncio.create_task(self._repeat(_COUNT_TENANTS_S, self._count_tenants), name="shared.count_tenants"),
            asyncio.create_task(self._repeat(BEAT_S, self.replicas.beat), name="shared.beat"),
        ]

    def knowing(self, work: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        """Work that tells the store of tenants, or does so late; it begins when it is known who was erased meanwhile.
        Raises StoreAway."""

        async def begin() -> None:
            await self.switches.mirror.refresh()
            await work()

        return begin

    async def _follow(self) -> None:
        await do_each((self._read, self.acts.follow))

    async def _read(self) -> None:
        await self.load()
        await do_each(self.on_follow)

    async def _count(self) -> None:
        await do_each((self.usage.flush, self.knowing(self.last_use.flush)))

    async def _count_tenants(self) -> None:
        await self.knowing(self.tenant_usage.flush)()

    async def _repeat(self, every_s: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await self._pause(every_s)
            with suppress(StoreAway):
                await work()

    async def close(self) -> None:
        """Follow no more, and tell the store what is left, if it is there."""
        await end(self._working)
        await self.subscription.close()
        for mirror in self._mirrors:
            await mirror.close()
        with suppress(StoreAway):
            await self._count()
            await self._count_tenants()
            if self._working:
                await self.replicas.leave()
