"""Disabling and enabling, which providers and tenants have in common."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from gateway.commands.command_failed import CommandFailed
from gateway.commands.open_shared import tell
from gateway.commands.print_rows import Cell, moment
from gateway.model import Provider, Tenant
from gateway.store.shared import Shared
from gateway.store.switches import Switched

_NAMES_SHOWN = 20


async def switch(given: argparse.Namespace, kind: Switched, what: Provider | Tenant, shared: Shared) -> None:
    """Do what the command line says. Raises StoreAway, and CommandFailed for a tenant that was erased."""
    if kind == "tenant" and shared.switches.is_erased(what.id):
        raise was_erased(what.name)
    if given.act == "disable":
        shared.switches.disable(kind, what.id, given.reason)
    else:
        shared.switches.enable(kind, what.id)
    await tell(shared, given.act, kind, what.name, given.reason or "")


def switch_cells(kind: Switched, what: Provider | Tenant, shared: Shared) -> dict[str, Cell]:
    found = shared.switches.get(kind, what.id)
    is_erased = kind == "tenant" and shared.switches.is_erased(what.id)
    return {
        "state": "erased" if is_erased else "disabled" if found else "enabled",
        "since": moment(found.since_s) if found else None,
        "reason": found.reason if found else None,
    }


def was_erased(name: str) -> CommandFailed:
    return CommandFailed(f"tenant {name!r} was erased, which is for ever; make another one")


def not_there(kind: Switched, name: str, names: Iterable[str]) -> CommandFailed:
    """Nothing has this name; the message has those there are."""
    there = list(names)
    more = f" and {len(there) - _NAMES_SHOWN} more" if len(there) > _NAMES_SHOWN else ""
    return CommandFailed(f"no {kind} is named {name!r}; there are: {', '.join(there[:_NAMES_SHOWN])}{more}", code=2)
