"""How many tokens a tenant and each of its keys have used: one hash for each tenant, by day and by month (UTC).

Settlement adds to it, once for each run; limits read it. Both do so in scripts of their own, so only the names of key
and fields stand here.
"""

from __future__ import annotations

from datetime import UTC, datetime

from gateway.store.connection import Store


def key_of(store: Store, tenant: str) -> str:
    """The hash. Its slot is the tenant's, so that one script can take it together with others of the tenant."""
    return store.key("tokens", f"{{{tenant}}}")


def keys_of(store: Store, tenant: str) -> tuple[str, ...]:
    """As in `erase_tenant.py`."""
    return (key_of(store, tenant),)


def fields_of(now: float, fingerprint: str | None = None) -> tuple[str, str]:
    """The fields of the day and of the month of `now` (seconds since 1970), for one key of the tenant or for all."""
    moment = datetime.fromtimestamp(now, UTC)
    whose = f":{fingerprint}" if fingerprint else ""
    return f"{moment:%Y-%m-%d}{whose}", f"{moment:%Y-%m}{whose}"
