"""`threads-gateway shared`: the objects that tenants have in common, and what each of them calls them."""

from __future__ import annotations

import argparse

from gateway.commands.command_failed import CommandFailed
from gateway.commands.print_rows import Row, print_rows
from gateway.config import Config, SharedObject
from gateway.ids import IdSigner
from gateway.model import Directory
from gateway.store.embedded import EmbeddedValkey


async def run(given: argparse.Namespace, config: Config) -> int:
    """Print a row for each object and tenant; no gateway need run. The exit code. Raises CommandFailed without a
    signing key."""
    directory, signer = Directory(config), IdSigner(_signing_keys(config))
    rows = [_row(entry, name, directory, signer) for entry in config.shared for name in entry.tenants]
    print_rows(rows, as_json=given.as_json)
    return 0


def _signing_keys(config: Config) -> list[bytes]:
    if config.signing_keys:
        return [secret.reveal().encode() for secret in config.signing_keys]
    try:
        return [EmbeddedValkey.read_signing_key(config.store.data_dir).encode()]
    except OSError as exc:
        raise CommandFailed(
            f"no signing key under store.data_dir {config.store.data_dir.absolute()}: {exc.strerror}. It is made when"
            " the gateway starts first; run this in the folder where that was"
        ) from exc


def _row(entry: SharedObject, tenant: str, directory: Directory, signer: IdSigner) -> Row:
    account = directory.providers[entry.provider].accounts[entry.account]
    return {
        "kind": entry.kind,
        "id": entry.id,
        "provider": entry.provider,
        "account": entry.account,
        "tenant": tenant,
        "public_id": signer.sign(entry.id, kind=entry.kind, tenant=directory.tenants[tenant].id, route=account.route),
    }
