"""`threads-gateway providers` and `threads-gateway tenants`: show, disable and enable them."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping

from gateway.commands.command_failed import CommandFailed
from gateway.commands.open_shared import open_shared, tell
from gateway.commands.print_rows import Row, moment, print_rows
from gateway.config import Config
from gateway.model import Directory, Provider, Tenant
from gateway.store.key_states import KeyPlace
from gateway.store.shared import Shared
from gateway.store.switches import Switched


async def run(given: argparse.Namespace, config: Config) -> int:
    """Do what the command line says. The exit code. Raises CommandFailed."""
    directory = Directory(config)
    kind: Switched = "provider" if given.command == "providers" else "tenant"
    there: Mapping[str, Provider | Tenant] = directory.providers if kind == "provider" else directory.tenants
    if given.act != "list" and given.name not in there:
        raise CommandFailed(f"no {kind} is named {given.name!r}; there are: {', '.join(there)}", code=2)
    async with open_shared(config) as shared:
        if given.act == "disable":
            shared.switches.disable(kind, there[given.name].id, given.reason)
        elif given.act == "enable":
            shared.switches.enable(kind, there[given.name].id)
        if given.act != "list":
            await tell(shared, given.act, kind, given.name, given.reason or "")
    shown = there.values() if given.act == "list" else [there[given.name]]
    print_rows([_row(kind, each, shared) for each in shown], as_json=given.as_json)
    return 0


def _row(kind: Switched, each: Provider | Tenant, shared: Shared) -> Row:
    switch = shared.switches.get(kind, each.id)
    return {
        kind: each.name,
        **(_key_cells(each, shared) if isinstance(each, Provider) else {}),
        "state": "disabled" if switch else "enabled",
        "since": moment(switch.since_s) if switch else None,
        "reason": switch.reason if switch else None,
    }


def _key_cells(provider: Provider, shared: Shared) -> dict[str, str | int | float | None]:
    now = time.time()
    places = [KeyPlace.of(account, key) for account in provider.accounts.values() for key in account.keys]
    return {
        "vendor": provider.vendor.name,
        "accounts": len(provider.accounts),
        "keys": len(places),
        "keys_ready": sum(shared.keys.get(place, now) is None for place in places),
    }
