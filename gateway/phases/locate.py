"""Which provider and account a request is for: the ids in it say so.

Pure and in memory: an id of another tenant, another kind or a forged one ends here, without a call to store or
provider.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from gateway.errors import GatewayError, bad_request, unknown_id
from gateway.ids import IdSigner, SignedId
from gateway.model import Account, Directory, ObjectPlace, Provider, Target, Tenant
from gateway.operations import Matched
from gateway.shapes import Slot

RAW = -1
"""Spelling of a caller who goes on with ids from before the gateway."""

_RAW_ID = re.compile(r"[A-Za-z0-9_-]{1,256}")

HomeOf = Callable[[Tenant, Provider], Account]
"""Tenant and provider → the account in which that tenant creates things there."""


@dataclass(frozen=True)
class Located:
    """A request with its place: `path_ids`, `query` and `slots` hold upstream ids now, or are ready to take them.

    `spelling` is how ids are written in the answer: the number of a signing key, or RAW. `known` maps every upstream
    id of the request back to what the caller wrote.
    """

    target: Target
    path_ids: Mapping[str, str] = field(default_factory=dict)
    query: Sequence[tuple[str, str]] = ()
    """The query with upstream ids."""
    query_has_ids: bool = False
    """Whether the query differs from what came; otherwise it goes through letter for letter."""
    slots: Sequence[tuple[Slot, str]] = ()
    spelling: int = 0
    known: Mapping[str, str] = field(default_factory=dict)
    runs_at: Target | None = None
    """Where the assistant of a new run is, if that is another account than its thread's: served threads and assistants
    of one gateway can meet, for the gateway has both."""


@dataclass(frozen=True)
class _Claim:
    """One id of the request: where it stands, what it says. `signed` is None for an id without a valid tail."""

    kind: str
    shown: str
    param: str
    signed: SignedId | None


def locate(
    matched: Matched,
    raw_query: str,
    slots: Sequence[Slot],
    *,
    tenant: Tenant,
    directory: Directory,
    signer: IdSigner,
    chosen_provider: str | None,
    home_of: HomeOf,
) -> Located:
    """The target of a request and its ids, verified.

    An id decides; without one the provider named by base URL or header, else the tenant's default, and there its
    home account. Raises GatewayError: 404 for an id that was never issued to this tenant, 400 for ids of different
    accounts and for no provider at all, 403 for a provider the tenant may not use, 410 for one that is gone.
    """
    pairs = parse_qsl(raw_query, keep_blank_values=True, encoding="utf-8", errors="replace")
    kinds = matched.operation.query_kinds

    def claim(kind: str, shown: str, param: str) -> _Claim:
        return _Claim(kind, shown, param, signer.verify(shown, kind=kind, tenant=tenant.id))

    path_claims = [claim(kind, shown, kind) for kind, shown in matched.shown.items()]
    query_claims = [claim(kinds[name], value, name) for name, value in pairs if name in kinds and value]
    body_claims = [claim(slot.kind, slot.shown, slot.param) for slot in slots]
    claims = [*path_claims, *query_claims, *body_claims]
    runs_at = _elsewhere(claims, tenant=tenant, directory=directory) if matched.operation.makes_run else None
    target = _target(claims, runs_at, tenant=tenant, directory=directory) or _chosen(
        tenant, directory=directory, chosen_provider=chosen_provider, home_of=home_of
    )
    upstream = [_upstream_id(claim, target, tenant) for claim in claims]
    known = {up: claim.shown for claim, up in zip(claims, upstream, strict=True)}
    found = iter(upstream)
    path_ids = {claim.kind: next(found) for claim in path_claims}
    query = [(name, next(found) if name in kinds and value else value) for name, value in pairs]
    filled = list(zip(slots, found, strict=True))
    return Located(target, path_ids, query, bool(query_claims), filled, _spelling(claims), known, runs_at)


def _elsewhere(claims: Sequence[_Claim], *, tenant: Tenant, directory: Directory) -> Target | None:
    """The account of a run's assistant, where it is not that of its thread and both are served."""
    thread, assistant = (_place_of(claims, kind, directory) for kind in ("thread", "assistant"))
    if thread is None or assistant is None or thread.account.route == assistant.account.route:
        return None
    if not (thread.provider.is_served and assistant.provider.is_served):
        return None
    _allow(assistant.provider, tenant)
    return assistant


def _place_of(claims: Sequence[_Claim], kind: str, directory: Directory) -> Target | None:
    routes = (claim.signed.route for claim in claims if claim.signed is not None and claim.kind == kind)
    return directory.targets.get(next(routes, ""))


def _target(claims: Sequence[_Claim], runs_at: Target | None, *, tenant: Tenant, directory: Directory) -> Target | None:
    """The account that the signed ids agree on, None without any. `runs_at` is where the assistant may be."""
    first: _Claim | None = None
    for claim in claims:
        if claim.signed is None:
            continue
        if first is None or first.signed is None:
            first = claim
        elif claim.signed.route != first.signed.route and not _is_of(claim, runs_at):
            raise _disagreement(first, claim, directory)
    if first is None or first.signed is None:
        return None
    target = directory.targets.get(first.signed.route)
    if target is None:
        raise GatewayError(
            410,
            f"'{first.shown}' lives at a provider or account that this gateway no longer has",
            code="provider_removed",
            source="gateway",
        )
    _allow(target.provider, tenant)
    return target


def _is_of(claim: _Claim, runs_at: Target | None) -> bool:
    if runs_at is None or claim.signed is None:
        return False
    return claim.kind == "assistant" and claim.signed.route == runs_at.account.route


def _disagreement(first: _Claim, second: _Claim, directory: Directory) -> GatewayError:
    def place(claim: _Claim) -> str:
        found = directory.targets.get(claim.signed.route) if claim.signed else None
        return f"account '{found.account.name}' of provider '{found.provider.name}'" if found else "a removed account"

    return bad_request(
        f"'{second.param}' belongs to {place(second)}, but '{first.param}' to {place(first)}; "
        "objects of different accounts cannot meet",
        param=second.param,
        code="account_mismatch",
    )


def _allow(provider: Provider, tenant: Tenant) -> None:
    if provider.name not in tenant.providers:
        raise GatewayError(
            403,
            f"this key may not use provider '{provider.name}'",
            code="provider_not_allowed",
            type="permission_error",
        )


def _chosen(tenant: Tenant, *, directory: Directory, chosen_provider: str | None, home_of: HomeOf) -> Target:
    name = chosen_provider or tenant.default_provider
    if name is None:
        raise bad_request(
            "no provider: use the base URL /providers/{name}/v1 or the header x-gateway-provider; yours are: "
            + ", ".join(sorted(tenant.providers)),
            param="x-gateway-provider",
            code="provider_required",
        )
    provider = directory.providers.get(name)
    if provider is None:
        raise GatewayError(404, f"no provider is named '{name[:64]}'", code="unknown_provider")
    _allow(provider, tenant)
    return Target(provider, home_of(tenant, provider))


def _upstream_id(claim: _Claim, target: Target, tenant: Tenant) -> str:
    if claim.signed is not None:
        if ObjectPlace(claim.signed.route, claim.kind, claim.signed.upstream) in tenant.withdrawn:
            raise unknown_id(claim.kind, claim.shown)
        return claim.signed.upstream
    account = target.account
    if account.raw_ids and account.owned_by == tenant.id and _RAW_ID.fullmatch(claim.shown):
        return claim.shown
    raise unknown_id(claim.kind, claim.shown)


def _spelling(claims: Sequence[_Claim]) -> int:
    """One thread keeps one spelling: that of the request's first id, which is the thread's where there is one."""
    if not claims:
        return 0
    return claims[0].signed.key if claims[0].signed else RAW
