"""`threads-gateway tenant-keys`: issue, show and revoke the keys that tenants call with."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from fnmatch import fnmatchcase

from gateway.callers import Callers
from gateway.commands.arguments import allowance_of
from gateway.commands.command_failed import CommandFailed
from gateway.commands.open_shared import open_shared, tell
from gateway.commands.print_rows import Cell, Row, moment, print_rows
from gateway.commands.switches import was_erased
from gateway.commands.tenants import callers_of, find_provider, find_tenant, limits_in_words
from gateway.config import Config
from gateway.model import Directory, Scope, Tenant
from gateway.operations import BY_NAME
from gateway.passthrough import OPERATION as PASSTHROUGH
from gateway.store.shared import Shared
from gateway.store.tenant_keys import IssuedKey, fingerprint_of_digest


async def run(given: argparse.Namespace, config: Config) -> int:
    """Do what the command line says. The exit code. Raises CommandFailed."""
    known = Directory(config)
    async with open_shared(config) as shared:
        callers = callers_of(known, shared)
        tenant = find_tenant(given.tenant, callers) if given.tenant is not None else None
        match given.act:
            case "list":
                used = await shared.last_use.all()
                rows = [*_configured_rows(known, tenant), *_issued_rows(known, callers, shared, tenant)]
                rows = [{**row, "last_used": moment(used.get(str(row["fingerprint"])))} for row in rows]
            case "create":
                assert tenant is not None
                rows = [await _create(given, known, tenant, shared)]
            case _:
                rows = [await _revoke(given, known, callers, tenant, shared)]
    print_rows(rows, as_json=given.as_json)
    return 0


async def _create(given: argparse.Namespace, known: Directory, tenant: Tenant, shared: Shared) -> Row:
    """The act is written before the key is shown: what cannot be written down is no use to anybody."""
    if shared.switches.is_erased(tenant.id):
        raise was_erased(tenant.name)
    expires_s = time.time() + given.expires_in if given.expires_in is not None else given.expires_at
    scope = _scope(given, known, tenant)
    secret, key = await shared.tenant_keys.issue(
        tenant.id, name=given.name or "", expires_s=expires_s, scope=scope, allowance=allowance_of(given)
    )
    await tell(shared, "create", "tenant_key", _called(tenant.name, key), "")
    return {"key": secret, **_row(key, tenant.name, known)}


def _scope(given: argparse.Namespace, known: Directory, tenant: Tenant) -> Scope:
    """Raises CommandFailed for what nobody could use."""
    for pattern in given.operation or ():
        if not any(fnmatchcase(name, pattern) for name in (*BY_NAME, PASSTHROUGH)):
            raise CommandFailed(f"--operation {pattern!r} fits no operation; try 'get_*', create_run", code=2)
    for name in given.provider or ():
        if find_provider(name, known).name not in tenant.providers:
            raise CommandFailed(f"tenant {tenant.name!r} may not use provider {name!r}", code=2)
    return Scope(
        is_read_only=given.read_only,
        may_delete=not given.no_delete,
        operations=tuple(given.operation) if given.operation else None,
        providers=frozenset(known.providers[name].id for name in given.provider) if given.provider else None,
        models=frozenset(given.model) if given.model else None,
    )


async def _revoke(
    given: argparse.Namespace, known: Directory, callers: Callers, tenant: Tenant | None, shared: Shared
) -> Row:
    now = time.time()
    if any(fingerprint_of_digest(digest) == given.key for _, digest in known.configured_keys()):
        raise CommandFailed(f"key {given.key!r} stands in the configuration; take it out there", code=2)
    issued = [key for key in shared.tenant_keys.all(now) if tenant is None or key.tenant == tenant.id]
    found = [key for key in issued if given.key in (key.fingerprint, key.name)]
    standing = [key for key in found if key.revoked_s is None]
    if not found:
        raise CommandFailed(f"no key has the fingerprint or the name {given.key!r}; see tenant-keys list", code=2)
    if not standing:
        raise CommandFailed(f"key {given.key!r} was revoked at {moment(found[-1].revoked_s)}")
    if len(standing) > 1:
        fingerprints = ", ".join(f"{_name_of(key.tenant, callers)}/{key.fingerprint}" for key in standing)
        raise CommandFailed(f"{len(standing)} keys have this name, say a fingerprint: {fingerprints}", code=2)
    key = shared.tenant_keys.revoke(standing[0], given.reason)
    name = _name_of(key.tenant, callers)
    await tell(shared, "revoke", "tenant_key", _called(name, key), given.reason)
    return _row(key, name, known)


def _configured_rows(known: Directory, tenant: Tenant | None) -> Iterator[Row]:
    for name, digest in known.configured_keys():
        if tenant is None or tenant.name == name:
            yield {
                **dict.fromkeys(("tenant", "key_name", "fingerprint", "from", "state", "created", "expires")),
                "tenant": name,
                "fingerprint": fingerprint_of_digest(digest),
                "from": "config",
                "state": "live",
                **dict.fromkeys(("scope", "limits", "reason")),
            }


def _issued_rows(known: Directory, callers: Callers, shared: Shared, tenant: Tenant | None) -> Iterator[Row]:
    for key in shared.tenant_keys.all(time.time()):
        if tenant is None or tenant.id == key.tenant:
            row = _row(key, _name_of(key.tenant, callers), known)
            yield row if key.tenant in callers.tenants() else {**row, "state": "tenant gone"}


def _name_of(tenant_id: str, callers: Callers) -> str:
    found = callers.tenants().get(tenant_id)
    return found.name if found is not None else tenant_id


def _called(tenant: str, key: IssuedKey) -> str:
    return "/".join(word for word in (tenant, key.name, key.fingerprint) if word)


def _row(key: IssuedKey, tenant: str, known: Directory) -> dict[str, Cell]:
    return {
        "tenant": tenant,
        "key_name": key.name or None,
        "fingerprint": key.fingerprint,
        "from": "store",
        "state": key.state(time.time()),
        "created": moment(key.created_s),
        "expires": moment(key.expires_s),
        "scope": _scope_in_words(key.scope, known) or None,
        "limits": limits_in_words(key.allowance) or None,
        "reason": key.reason or None,
    }


def _scope_in_words(scope: Scope, known: Directory) -> str:
    names = {provider.id: name for name, provider in known.providers.items()}
    lists = {
        "operations": scope.operations,
        "providers": [names.get(each, each) for each in scope.providers] if scope.providers is not None else None,
        "models": scope.models,
    }
    words = ["read-only"] if scope.is_read_only else []
    words += ["no delete"] if not scope.may_delete else []
    words += [f"{what} {', '.join(sorted(each))}" for what, each in lists.items() if each is not None]
    return "; ".join(words)
