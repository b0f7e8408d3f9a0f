"""Where a tenant creates things: its home account at each provider, chosen once and remembered.

Set in the configuration, else by rendezvous hashing; the store remembers a hashed choice at first use, because an
account that joins later must not move anybody. Lookups are in memory; while the store is away the hash decides.
"""

from __future__ import annotations

from gateway.model import Account, Directory, Provider, Tenant, rendezvous
from gateway.store.connection import Store
from gateway.telemetry import log


class Homes:
    """The homes of every tenant of a directory."""

    def __init__(self, store: Store, directory: Directory) -> None:
        self._store = store
        self._directory = directory
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

    async def settle(self) -> None:
        """Read what is remembered and remember what was not, for all tenants. Raises StoreAway."""
        for tenant in self._directory.tenants.values():
            for provider in self._directory.providers.values():
                if provider.name in tenant.providers:
                    self._homes[tenant.id, provider.id] = await self._settled(tenant, provider)

    async def _settled(self, tenant: Tenant, provider: Provider) -> Account:
        choice = self._hashed(tenant, provider)
        if provider.name in tenant.homes:
            return choice
        key, field = self._store.key("homes", provider.id), tenant.id
        remembered = await self._store.run(lambda redis: redis.hget(key, field))
        by_id = {account.id: account for account in provider.accounts.values()}
        home = by_id.get(str(remembered))
        if home is not None and home.owned_by in (None, tenant.id):
            return home
        await self._store.run(lambda redis: redis.hset(key, field, choice.id))
        log.info("home.chosen", tenant=tenant.name, provider=provider.name, account=choice.name)
        return choice
