"""Where a tenant creates things: its home account at each provider, chosen once and remembered.

Set in the configuration, else by rendezvous hashing; the store remembers a hashed choice at first use, because an
account that joins later must not move anybody. Lookups are in memory; while the store is away the hash decides.
"""

from __future__ import annotations

from collections.abc import Mapping

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

    def forget(self) -> None:
        """The directory has changed: `settle` reads anew what is remembered; meanwhile the hash decides."""
        self._homes.clear()

    async def settle(self) -> None:
        """Read what is remembered and remember what was not, for all tenants. Raises StoreAway."""
        for provider in self._directory.providers.values():
            remembered = await self._remembered(provider)
            for tenant in self._directory.tenants.values():
                if provider.name in tenant.providers:
                    home = _usable(provider, remembered.get(tenant.id), tenant)
                    self._homes[tenant.id, provider.id] = home or await self._remember(tenant, provider)

    async def _remembered(self, provider: Provider) -> Mapping[str, str]:
        found = await self._store.run(lambda redis: redis.hgetall(self._key(provider)))
        return {str(tenant): str(account) for tenant, account in found.items()}

    async def _remember(self, tenant: Tenant, provider: Provider) -> Account:
        choice = self._hashed(tenant, provider)
        if provider.name not in tenant.homes:
            await self._store.run(lambda redis: redis.hset(self._key(provider), tenant.id, choice.id))
            log.info("home.chosen", tenant=tenant.name, provider=provider.name, account=choice.name)
        return choice

    def _key(self, provider: Provider) -> str:
        return self._store.key("homes", provider.id)


def _usable(provider: Provider, account_id: str | None, tenant: Tenant) -> Account | None:
    """The remembered account, unless the configuration says otherwise or it is gone or another tenant's by now."""
    if provider.name in tenant.homes:
        return None
    found = next((account for account in provider.accounts.values() if account.id == account_id), None)
    return found if found is not None and found.owned_by in (None, tenant.id) else None
