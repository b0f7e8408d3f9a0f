"""`threads-gateway providers`: show, disable and enable them."""

from __future__ import annotations

import argparse
import time

from gateway.commands.open_shared import open_shared
from gateway.commands.print_rows import Row, print_rows
from gateway.commands.switches import not_there, switch, switch_cells
from gateway.config import Config
from gateway.model import Directory, Provider
from gateway.store.key_states import KeyPlace
from gateway.store.shared import Shared


async def run(given: argparse.Namespace, config: Config) -> int:
    """Do what the command line says. The exit code. Raises CommandFailed."""
    there = Directory(config).providers
    if given.act != "list" and given.name not in there:
        raise not_there("provider", given.name, there)
    shown = list(there.values()) if given.act == "list" else [there[given.name]]
    async with open_shared(config) as shared:
        if given.act != "list":
            await switch(given, "provider", shown[0], shared)
    print_rows([_row(each, shared) for each in shown], as_json=given.as_json)
    return 0


def _row(provider: Provider, shared: Shared) -> Row:
    now = time.time()
    places = [KeyPlace.of(account, key) for account in provider.accounts.values() for key in account.keys]
    return {
        "provider": provider.name,
        "vendor": provider.vendor.name,
        "accounts": len(provider.accounts),
        "keys": len(places),
        "keys_ready": sum(shared.keys.get(place, now) is None for place in places),
        **switch_cells("provider", provider, shared),
    }
