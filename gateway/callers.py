"""Who may call: the tenants and keys of the configuration, and those made at run time. All of it in memory.

The configuration comes first. A tenant that it names by the id of one made at run time is the configuration's from
then on, with the keys that were issued to it; where it only takes the name, the other goes on under its id. Either is
logged.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from gateway.model import Caller, Directory, Provider, Scope, Stranger, Tenant
from gateway.store.tenant_keys import IssuedKey, IssuedKeys
from gateway.store.tenants import StoredTenant, StoredTenants
from gateway.telemetry import log


class Callers:
    """Everybody who may call. `clock` tells seconds since 1970."""

    def __init__(
        self,
        directory: Directory,
        stored: StoredTenants,
        keys: IssuedKeys,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._directory = directory
        self._stored = stored
        self._keys = keys
        self._clock = clock
        self._tenants: Mapping[str, Tenant] = {}
        self._made: dict[str, tuple[StoredTenant, object, Tenant]] = {}
        """Of stored tenants by id, with the configured providers that each was made with."""
        self._made_of: tuple[object, object] | None = None
        """The configured and the stored tenants that `_tenants` was made of."""
        self._callers: dict[str, tuple[IssuedKey, Tenant, Caller]] = {}
        self._conflicts: set[str] = set()

    def __call__(self, digest: str) -> Caller | Stranger:
        """The caller whose key has this digest (`sha256:…`)."""
        caller = self._directory.caller(digest)
        return caller if caller is not None else self._issued(digest)

    def _issued(self, digest: str) -> Caller | Stranger:
        now = self._clock()
        key = self._keys.get(digest, now)
        tenant = self.tenants().get(key.tenant) if key is not None else None
        if key is None or tenant is None:
            return "unknown" if self._stored.mirror.is_fresh() and self._keys.mirror.is_fresh() else "unsure"
        state = key.state(now)
        if state != "live":
            self._callers.pop(digest, None)
            return state
        made = self._callers.get(digest)
        if made is None or made[0] is not key or made[1] is not tenant:
            narrowed = _narrow(tenant, key.scope, self._directory.providers)
            made = key, tenant, Caller(narrowed, key.fingerprint, key.allowance, key.scope)
            self._callers[digest] = made
        return made[2]

    def tenants(self) -> Mapping[str, Tenant]:
        """By id, those of the configuration first. The same mapping until something changes."""
        made_of = (self._directory.tenants, self._stored.by_id())
        if self._made_of is None or made_of[0] is not self._made_of[0] or made_of[1] is not self._made_of[1]:
            self._made_of = made_of
            self._tenants = self._make_tenants()
        return self._tenants

    def _make_tenants(self) -> dict[str, Tenant]:
        tenants = {tenant.id: tenant for tenant in self._directory.tenants.values()}
        for stored in self._stored.by_id().values():
            if stored.id in tenants:
                self._tell(stored, "its id: the configuration's settings count")
                continue
            tenants[stored.id] = self._make_tenant(stored)
        return tenants

    def _make_tenant(self, stored: StoredTenant) -> Tenant:
        """The same value as before unless what it says has changed: there may be thousands."""
        providers = self._directory.providers
        made = self._made.get(stored.id)
        if made is None or made[0] is not stored or made[1] is not providers:
            is_taken = stored.name in self._directory.tenants
            if is_taken:
                self._tell(stored, "its name: it goes on under its id")
            made = stored, providers, _tenant(stored, stored.id if is_taken else stored.name, providers)
            self._made[stored.id] = made
        return made[2]

    def _tell(self, stored: StoredTenant, why: str) -> None:
        if stored.id not in self._conflicts:
            self._conflicts.add(stored.id)
            log.warning("tenant.conflict", tenant=stored.name, id=stored.id, why=f"the configuration has {why}")


def _tenant(stored: StoredTenant, name: str, configured: Mapping[str, Provider]) -> Tenant:
    """With those of its providers that the configuration has, and in which it can create something."""
    usable = {
        provider.id: provider.name
        for provider in configured.values()
        if (stored.providers is None or provider.id in stored.providers) and has_home(provider, stored.id)
    }
    default = usable.get(stored.default_provider) if stored.default_provider is not None else None
    return _with_providers(
        Tenant(stored.id, name, frozenset(), default, {}, allowance=stored.allowance), frozenset(usable.values())
    )


def has_home(provider: Provider, tenant: str) -> bool:
    """Whether a tenant (by id) can have its home at a provider."""
    return any(account.owned_by in (None, tenant) for account in provider.accounts.values())


def _narrow(tenant: Tenant, scope: Scope, configured: Mapping[str, Provider]) -> Tenant:
    """The tenant as one of its keys may act for it."""
    if scope.providers is None:
        return tenant
    named = {name for name in tenant.providers if name in configured and configured[name].id in scope.providers}
    return _with_providers(tenant, frozenset(named))


def _with_providers(tenant: Tenant, providers: frozenset[str]) -> Tenant:
    """The default stays if it is one of them; a single provider is always the default."""
    only = next(iter(providers)) if len(providers) == 1 else None
    default = tenant.default_provider if tenant.default_provider in providers else only
    return replace(tenant, providers=providers, default_provider=default)
