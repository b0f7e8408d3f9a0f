"""`threads-gateway tenants erase`: remove what is kept of a tenant. What providers hold stays there."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable

from gateway.audit import bodies
from gateway.callers import Callers
from gateway.commands.command_failed import CommandFailed
from gateway.commands.open_shared import open_store, shared_of, tell
from gateway.commands.print_rows import Row, print_rows
from gateway.commands.tenants import callers_of, find_tenant
from gateway.config import Config
from gateway.engine.store.erase_holdings import erase_holdings
from gateway.model import Directory
from gateway.store.erase_tenant import erase_tenant
from gateway.store.shared import Shared
from gateway.store.tenant_keys import IssuedKey, fingerprint_of_digest

_HEARD_S = 1.5
"""By then every gateway that reaches the store knows, and writes nothing of the tenant any more."""


async def run(
    given: argparse.Namespace, config: Config, *, pause: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> int:
    """Do what the command line says, and print what was removed. The exit code. Raises CommandFailed; then it can be
    said again, and goes on."""
    known = Directory(config)
    async with open_store(config) as store, shared_of(store) as shared:
        tenant, name = _whom(given, callers_of(known, shared), shared)
        removed = await _mark(given, tenant, name, shared)
        await pause(_HEARD_S)
        removed |= await erase_holdings(store, tenant, now=time.time())
        removed |= await erase_tenant(store, tenant, with_usage=given.usage)
        removed["times of last use"] = await shared.last_use.forget(_fingerprints(tenant, known, shared))
    try:
        deleted = await asyncio.to_thread(bodies.erase, config.audit.dir / "bodies", tenant)
    except OSError as exc:
        raise CommandFailed(f"bodies under audit.dir {config.audit.dir} cannot be deleted: {exc.strerror}") from exc
    removed["files of bodies, by this command"] = len(deleted)
    rows: list[Row] = [
        {"tenant": name, "id": tenant, "what": what, "removed": count} for what, count in removed.items()
    ]
    print_rows(rows, as_json=given.as_json)
    return 0


def _whom(given: argparse.Namespace, callers: Callers, shared: Shared) -> tuple[str, str]:
    """Id and name. One that is gone from the configuration goes by its id, if it was disabled or `--yes` is said."""
    switches = shared.switches
    try:
        found = find_tenant(given.name, callers)
    except CommandFailed:
        if not given.yes and switches.get("tenant", given.name) is None:
            raise
        return given.name, given.name
    if not given.yes and switches.get("tenant", found.id) is None:
        raise CommandFailed(
            f"tenant {found.name!r} is not disabled: disable it and let its requests end, then erase it; or say --yes"
        )
    return found.id, found.name


async def _mark(given: argparse.Namespace, tenant: str, name: str, shared: Shared) -> dict[str, int]:
    """Disabled, erased, its keys revoked. How many keys."""
    reason = given.reason or "erased"
    if shared.switches.get("tenant", tenant) is None:
        shared.switches.disable("tenant", tenant, reason)
    shared.switches.mark_erased(tenant, reason, with_usage=given.usage)
    keys = [key for key in _issued(tenant, shared) if key.revoked_s is None or key.name]
    for key in keys:
        shared.tenant_keys.erase(key)
    await tell(shared, "erase", "tenant", name, given.reason or "")
    return {"issued keys, revoked": len(keys)}


def _issued(tenant: str, shared: Shared) -> list[IssuedKey]:
    return [key for key in shared.tenant_keys.all(0.0) if key.tenant == tenant]


def _fingerprints(tenant: str, known: Directory, shared: Shared) -> set[str]:
    configured = {digest for name, digest in known.configured_keys() if known.tenants[name].id == tenant}
    return {fingerprint_of_digest(digest) for digest in configured} | {
        key.fingerprint for key in _issued(tenant, shared)
    }
