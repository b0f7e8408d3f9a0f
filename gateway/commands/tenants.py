"""`threads-gateway tenants`: show, make, disable and enable them, those of the configuration and those made here."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Sequence

from gateway.callers import Callers, has_home
from gateway.commands.arguments import allowance_of
from gateway.commands.command_failed import CommandFailed
from gateway.commands.open_shared import open_shared, tell
from gateway.commands.print_rows import Row, print_rows
from gateway.commands.switches import not_there, switch, switch_cells
from gateway.config import Allowance, Config
from gateway.model import Directory, Provider, Tenant
from gateway.store.shared import Shared


async def run(given: argparse.Namespace, config: Config) -> int:
    """Do what the command line says. The exit code. Raises CommandFailed."""
    known = Directory(config)
    async with open_shared(config) as shared:
        callers = callers_of(known, shared)
        match given.act:
            case "list":
                shown: Sequence[Tenant] = list(callers.tenants().values())
            case "create":
                shown = [await _create(given, known, callers, shared)]
            case _:
                shown = [find_tenant(given.name, callers)]
                await switch(given, "tenant", shown[0], shared)
    keys = live_keys(known, shared)
    print_rows([_row(each, keys[each.id], known, shared) for each in shown], as_json=given.as_json)
    return 0


def callers_of(known: Directory, shared: Shared) -> Callers:
    return Callers(known, shared.tenants, shared.tenant_keys)


def find_tenant(name: str, callers: Callers) -> Tenant:
    """By name or id. Raises CommandFailed, which says the names there are."""
    tenants = callers.tenants()
    found = next((each for each in tenants.values() if each.name == name), tenants.get(name))
    if found is None:
        raise not_there("tenant", name, (each.name for each in tenants.values()))
    return found


def find_provider(name: str, known: Directory) -> Provider:
    """Raises CommandFailed, which says the names there are."""
    if name not in known.providers:
        raise not_there("provider", name, known.providers)
    return known.providers[name]


def live_keys(known: Directory, shared: Shared) -> Counter[str]:
    """How many keys can be used now, by the tenant's id."""
    now = time.time()
    counts = Counter(known.tenants[name].id for name, _ in known.configured_keys())
    counts.update(key.tenant for key in shared.tenant_keys.all(now) if key.state(now) == "live")
    return counts


async def _create(given: argparse.Namespace, known: Directory, callers: Callers, shared: Shared) -> Tenant:
    if any(given.name in (each.name, each.id) for each in callers.tenants().values()):
        raise _exists(given.name)
    providers = [find_provider(name, known) for name in given.provider] if given.provider else None
    for provider in providers or ():
        if not has_home(provider, tenant=""):
            raise CommandFailed(
                f"provider {provider.name!r} has no account that is not owned by another tenant", code=2
            )
    default = find_provider(given.default_provider, known) if given.default_provider is not None else None
    if default is not None and providers is not None and default not in providers:
        raise CommandFailed(f"--default-provider {default.name!r} is not among --provider", code=2)
    made = await shared.tenants.add(
        given.name,
        providers=frozenset(each.id for each in providers) if providers is not None else None,
        default_provider=default.id if default is not None else None,
        allowance=allowance_of(given),
    )
    if made is None:
        raise _exists(given.name)
    await tell(shared, "create", "tenant", made.name, "")
    return callers.tenants()[made.id]


def _exists(name: str) -> CommandFailed:
    return CommandFailed(f"there is a tenant {name!r} already; names and ids are never given twice", code=2)


def limits_in_words(allowance: Allowance) -> str:
    return ", ".join(f"{name} {value}" for name, value in allowance.model_dump(exclude_none=True).items())


def _row(tenant: Tenant, keys: int, known: Directory, shared: Shared) -> Row:
    return {
        "tenant": tenant.name,
        "id": tenant.id,
        "from": "config" if known.tenants.get(tenant.name) is tenant else "store",
        "providers": ", ".join(sorted(tenant.providers)),
        "keys": keys,
        "limits": limits_in_words(tenant.allowance),
        **switch_cells("tenant", tenant, shared),
    }
