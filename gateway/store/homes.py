"""Where a tenant creates things: its home account at each provider, chosen once and remembered.

Set in the configuration, else by rendezvous hashing; the store remembers a hashed choice at first use, because an
account that joins later must not move anybody. Lookups are in memory; while the store is away the hash decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from gateway.model import Account, Directory, Provider, Tenant, rendezvous
from gateway.store.connection import Store, do_each
from gateway.store.switches import IsErased, nobody
from gateway.telemetry import log


class Homes:
    """The homes of every tenant, which are those of the directory unless `tenants` tells of more, by id. Of one that
    `is_erased` nothing is remembered."""

    def __init__(
        self,
        store: Store,
        directory: Directory,
        tenants: Callable[[], Mapping[str, Tenant]] | None = None,
        *,
        is_erased: IsErased = nobody,
    ) -> None:
        self._store = store
        self._directory = directory
        self._tenants = tenants or (lambda: directory.tenants)
        self._is_erased = is_erased
        self._settled: Mapping[str, Tenant] | None = None
        """The tenants that have been settled last."""
        self._homes: dict[tuple[str, str], Account] = {}

    def __call__(self, tenant: Tenant, provider: Provider) -> Account:
        """The tenant's home account at a provider it may use."""
        home = self._homes.get((tenant.id, provider.id))
        return home if home is not None else self._hashed(tenant, provider)

    def _hashed(self, tenant: Tenant, provider: Provider) -> Account:
        if (name := tenant.homes.get(provider.name)) is not None:
            return provider.accounts[name]
        # An account of one's own comes first; another tenant's is never a home.
        own = {a.id: a for a in provider.accounts.values() if a.owned_by == tenant.id}
        shared = {a.id: a for a in provider.accounts.values() if a.owned_by is None}
        candidates = own or shared
        return candidates[rendezvous(tenant.id, sorted(candidates))]

    def forget(self) -> None:
        """The directory has changed: `settle` reads anew what is remembered; meanwhile the hash decides."""
        self._homes.clear()
        self._settled = None

    async def settle(self) -> None:
        """Read what is remembered and remember what was not, for all tenants. Raises StoreAway."""
        tenants = self._tenants()
        await do_each(
            partial(self._settle, provider, tenants.values()) for provider in self._directory.providers.values()
        )
        self._settled = tenants

    async def settle_new(self) -> None:
        """As `settle`, for tenants that have come since. Raises StoreAway."""
        tenants = self._tenants()
        if tenants is self._settled:
            return
        await do_each(partial(self._settle_new, provider) for provider in self._directory.providers.values())
        self._settled = tenants

    async def _settle_new(self, provider: Provider) -> None:
        tenants = self._tenants().values()
        await self._settle(provider, [each for each in tenants if (each.id, provider.id) not in self._homes])

    async def _settle(self, provider: Provider, tenants: Iterable[Tenant]) -> None:
        using = [each for each in tenants if provider.name in each.providers and not self._is_erased(each.id)]
        for tenant, remembered in zip(using, await self._remembered(using, provider), strict=True):
            home = _usable(provider, remembered, tenant)
            self._homes[tenant.id, provider.id] = home or await self._remember(tenant, provider, remembered)

    async def _remembered(self, tenants: Sequence[Tenant], provider: Provider) -> Sequence[str | None]:
        if not tenants:
            return ()
        ids = [tenant.id for tenant in tenants]
        found = await self._store.run(lambda redis: redis.hmget(self._key(provider), ids))
        return [str(account) if account is not None else None for account in found]

    async def _remember(self, tenant: Tenant, provider: Provider, before: str | None) -> Account:
        """The account that is the home from now on, in place of the one remembered before if that cannot be it."""
        choice, key = self._hashed(tenant, provider), self._key(provider)
        if provider.name in tenant.homes:
            return choice
        if before is not None:
            await self._store.run(lambda redis: redis.hset(key, tenant.id, choice.id))
        elif not await self._store.run(lambda redis: redis.hsetnx(key, tenant.id, choice.id)):
            # Another replica was first, perhaps with other accounts in its configuration.
            first = await self._store.run(lambda redis: redis.hget(key, tenant.id))
            return _usable(provider, str(first), tenant) or choice
        log.info("home.chosen", tenant=tenant.name, provider=provider.name, account=choice.name)
        return choice

    def _key(self, provider: Provider) -> str:
        return self._store.key("homes", provider.id)


def keys(store: Store) -> str:
    """A pattern of the keys of all providers, also those that are gone: hashes, tenant's id → home."""
    return store.key("homes", "*")


def _usable(provider: Provider, account_id: str | None, tenant: Tenant) -> Account | None:
    """The remembered account, unless the configuration says otherwise or it is gone or another tenant's by now."""
    if provider.name in tenant.homes:
        return None
    found = next((account for account in provider.accounts.values() if account.id == account_id), None)
    return found if found is not None and found.owned_by in (None, tenant.id) else None
