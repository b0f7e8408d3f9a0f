"""Tenants made at run time, shared by all replicas.

One is made once and never removed: whoever got its id would be given the objects of the one before. So the id has
random letters behind the name, which no configuration had before, and a tenant can only be disabled (`switches.py`).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.config import Allowance
from gateway.model import UNLIMITED
from gateway.store.connection import Store
from gateway.store.mirror import Mirror


@dataclass(frozen=True, slots=True)
class StoredTenant:
    """What was said when it was made. Providers are named by their ids, None stands for all; `created_s` is seconds
    since 1970."""

    id: str
    name: str
    created_s: float
    providers: frozenset[str] | None = None
    default_provider: str | None = None
    allowance: Allowance = UNLIMITED


class StoredTenants:
    """All of them, mirrored in this process."""

    def __init__(self, store: Store, *, clock: Callable[[], float] = time.time) -> None:
        self.mirror = Mirror(store, "tenants", read=_read, clock=clock)
        self._by_id: dict[str, StoredTenant] = {}
        self._seen = -1

    def by_id(self) -> Mapping[str, StoredTenant]:
        """The same mapping until something changes. In memory."""
        if self._seen != self.mirror.changes:
            self._seen = self.mirror.changes
            self._by_id = {tenant.id: tenant for tenant in self.mirror.all(self.mirror.now()).values()}
        return self._by_id

    async def add(
        self,
        name: str,
        *,
        providers: frozenset[str] | None = None,
        default_provider: str | None = None,
        allowance: Allowance = UNLIMITED,
    ) -> StoredTenant | None:
        """Make a tenant, which stands when this returns; None if there is one of this name. Raises StoreAway: then it
        may have been made."""
        tenant = StoredTenant(
            f"{name}.{secrets.token_hex(8)}", name, self.mirror.now(), providers, default_provider, allowance
        )
        # The field is the name, so that of two who make it at one time one is refused.
        return tenant if await self.mirror.add(name, _told(tenant)) else None


def _told(tenant: StoredTenant) -> dict[str, Any]:
    return {
        "id": tenant.id,
        "name": tenant.name,
        "created_s": tenant.created_s,
        "providers": sorted(tenant.providers) if tenant.providers is not None else None,
        "default_provider": tenant.default_provider,
        "limits": tenant.allowance.model_dump(exclude_none=True),
    }


def _read(said: Mapping[str, Any]) -> StoredTenant:
    providers = said["providers"]
    return StoredTenant(
        str(said["id"]),
        str(said["name"]),
        float(said["created_s"]),
        frozenset(map(str, providers)) if providers is not None else None,
        said["default_provider"],
        Allowance.model_validate(said["limits"]),
    )
