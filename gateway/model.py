"""The frozen values that phases pass to each other, and the directory they are looked up in."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple

from gateway import __version__
from gateway.config import Allowance, Config, Secret, SharedObject, Timeouts, digest_of_key
from gateway.config import Key as KeyConfig
from gateway.config import Provider as ProviderConfig
from gateway.engine.models import MODEL_APIS
from gateway.engine.models.model_api import ModelApi
from gateway.ids import route_of
from gateway.operations import Operation
from gateway.passthrough import Passthrough
from gateway.vendors import VENDORS
from gateway.vendors.vendor import Vendor

UNLIMITED = Allowance()


@dataclass(frozen=True)
class Key:
    """One secret of an account; `name` is what logs show."""

    name: str
    secret: Secret
    weight: float = 1
    not_before_s: float = 0
    """Seconds since 1970, as `expires_at_s`."""
    expires_at_s: float | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None

    @property
    def has_budget(self) -> bool:
        return self.requests_per_minute is not None or self.tokens_per_minute is not None

    @cached_property
    def fingerprint(self) -> str:
        """Tells secrets apart without showing one."""
        return fingerprint_of(self.secret)

    def is_valid(self, now: float) -> bool:
        return self.not_before_s <= now and (self.expires_at_s is None or now < self.expires_at_s)


@dataclass(frozen=True)
class Account:
    """One organisation or project at a provider."""

    id: str
    name: str
    route: str
    keys: tuple[Key, ...]
    organization: str | None = None
    project: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    owned_by: str | None = None
    """Id of the tenant who alone uses it."""
    raw_ids: bool = False


@dataclass(frozen=True)
class Provider:
    """A configured endpoint."""

    id: str
    name: str
    vendor: Vendor
    base_url: str
    """Without a slash at its end."""
    accounts: Mapping[str, Account]
    timeouts: Timeouts
    max_attempts: int
    api_version: str | None = None
    upstream_models: Mapping[str, str] = field(default_factory=dict)
    """Model as callers say it → as the provider calls it."""
    public_models: Mapping[str, str] = field(default_factory=dict)
    """The reverse; where several names lead to one model, the first in the configuration."""

    passthrough: Passthrough = field(default_factory=Passthrough)

    model_api: ModelApi | None = None
    """How its models are asked, where threads are served by the gateway itself; None where they are forwarded."""
    max_tokens: int | None = None
    """Of one answer, where the run does not say; None: as the model API has it."""
    models_asked: Mapping[str, str] = field(default_factory=dict)
    """Of served threads: model as callers say it → as the provider calls it. Served objects hold callers' names, so
    nothing of them is ever translated, and the two mappings above are empty."""

    @property
    def is_served(self) -> bool:
        """Whether the gateway keeps the threads itself."""
        return self.model_api is not None

    @property
    def has_files(self) -> bool:
        """Whether the models of a served provider work on its files and vector stores, which are callers' then."""
        return self.model_api is not None and bool(
            self.model_api.offer.hosted_tools or self.model_api.offer.image_files
        )

    def serves(self, operation: Operation) -> bool:
        """Whether the gateway carries it out itself. What passes through goes to the provider in any case."""
        return self.is_served and operation.answers != "any" and not (operation.is_of_files and self.has_files)

    @cached_property
    def fingerprint(self) -> str:
        """Differs where the same answer of the provider would be told otherwise."""
        said = (__version__, self.vendor.name, sorted(self.public_models.items()))
        return hashlib.blake2b(repr(said).encode(), digest_size=6).hexdigest()

    def upstream_model(self, asked: Mapping[str, Any]) -> str | None:
        """What this provider calls the model that a body names; None where the body says nothing that it calls
        otherwise."""
        return self.upstream_models.get(str(asked.get("model"))) if self.upstream_models else None

    def mend(self, answer: dict[str, Any]) -> None:
        """Bring one answered object to the reference's shape and to callers' names of models, in place."""
        self.vendor.mend(answer)
        if self.public_models and (public := self.public_models.get(str(answer.get("model")))) is not None:
            answer["model"] = public


@dataclass(frozen=True)
class Target:
    """Where one request goes."""

    provider: Provider
    account: Account


class ObjectPlace(NamedTuple):
    """One account-level object of a provider."""

    route: str
    kind: str
    upstream: str


@dataclass(frozen=True)
class Tenant:
    """Who calls. `homes` names an account for a provider where the configuration does; the rest is remembered."""

    id: str
    name: str
    providers: frozenset[str]
    default_provider: str | None
    homes: Mapping[str, str]
    needs_beta_header: bool = False
    allowance: Allowance = UNLIMITED
    """Of all its keys together."""
    shared: Mapping[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    """Objects that it reads and runs and cannot change: route and kind → upstream ids, as the configuration has them
    in order."""
    withdrawn: frozenset[ObjectPlace] = frozenset()
    """Objects that were shared with it once."""

    def shares(self, place: ObjectPlace) -> bool:
        """Whether this object is one of those that it cannot change."""
        return place.upstream in self.shared.get((place.route, place.kind), ())

    def has_seen_shared(self, route: str) -> bool:
        """Whether an object of this account is or was shared with it. Then it may have ids of what is not its own: the
        answers about such an object name files and vector stores."""
        return any(route == each for each, _ in self.shared) or any(route == place.route for place in self.withdrawn)


@dataclass(frozen=True)
class Scope:
    """What a key may be used for, of what its tenant may. None: for all of it."""

    is_read_only: bool = False
    may_delete: bool = True
    operations: tuple[str, ...] | None = None
    """Globs of operations' names."""
    providers: frozenset[str] | None = None
    """By their ids, which a new name does not change."""
    models: frozenset[str] | None = None
    """As callers say them."""


UNRESTRICTED = Scope()


@dataclass(frozen=True)
class Caller:
    """A tenant and the key it presented, of which only a fingerprint is kept. `tenant` has the providers that the key's
    scope leaves."""

    tenant: Tenant
    key_fingerprint: str
    allowance: Allowance = UNLIMITED
    """Of this key alone."""
    scope: Scope = UNRESTRICTED


Stranger = Literal["unknown", "unsure", "expired", "revoked"]
"""Why a key is no caller's. `unsure`: it may have been issued, and this process was not told of it yet."""


@dataclass(frozen=True)
class Outbound:
    """A request as the provider will get it, without any secret. Every attempt starts from the same one."""

    method: str
    url: str
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Reply:
    """A whole JSON answer for the caller, ready to be sent."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class Directory:
    """Who may call and what stands behind: built from the configuration, read by the phases. A request that is under
    way keeps the values it was given."""

    def __init__(self, config: Config) -> None:
        self.update(config)

    def update(self, config: Config) -> None:
        """Take another configuration's place, all at once."""
        tenant_ids = {name: tenant.id or name for name, tenant in config.tenants.items()}
        self.providers: Mapping[str, Provider] = {
            name: _provider(name, config, tenant_ids) for name in config.providers
        }
        self.targets: Mapping[str, Target] = {
            account.route: Target(provider, account)
            for provider in self.providers.values()
            for account in provider.accounts.values()
        }
        self.tenants: Mapping[str, Tenant] = {name: _tenant(name, config) for name in config.tenants}
        self.shared_objects = frozenset(_place_of(entry, config) for entry in config.shared)
        self._secrets = frozenset(key.secret for target in self.targets.values() for key in target.account.keys)
        self._callers: Mapping[str, Caller] = {
            digest: Caller(self.tenants[name], digest.removeprefix("sha256:")[:12])
            for name, tenant in config.tenants.items()
            for digest in tenant.keys
        }

    def configured_keys(self) -> list[tuple[str, str]]:
        """Tenant's name and digest of every key of the configuration."""
        return [(caller.tenant.name, digest) for digest, caller in self._callers.items()]

    def has_secret(self, word: str) -> bool:
        """Whether it is a key of one of the accounts, or of one of the tenants of the configuration."""
        return Secret(word, "") in self._secrets or digest_of_key(word) in self._callers

    def key(self, route: str, fingerprint: str) -> Key | None:
        """A configured key of a provider's account."""
        target = self.targets.get(route)
        keys = target.account.keys if target is not None else ()
        return next((key for key in keys if key.fingerprint == fingerprint), None)

    def caller(self, digest: str) -> Caller | None:
        """The caller whose key has this digest (`sha256:…`)."""
        return self._callers.get(digest)


def _provider(name: str, config: Config, tenant_ids: Mapping[str, str]) -> Provider:
    given = config.providers[name]
    vendor = VENDORS[given.vendor]
    provider_id = given.id or name
    accounts = {
        account_name: Account(
            id=account.id or account_name,
            name=account_name,
            route=route_of(provider_id, account.id or account_name),
            keys=tuple(_key(key_name, key) for key_name, key in account.keys.items()),
            organization=account.organization,
            project=account.project,
            options=dict(account.options),
            owned_by=tenant_ids[account.owned_by] if account.owned_by else None,
            raw_ids=account.raw_ids,
        )
        for account_name, account in given.accounts.items()
    }
    base_url = str(given.base_url or vendor.base_url).rstrip("/")
    names = {} if given.serve else dict(given.models)
    return Provider(
        id=provider_id,
        name=name,
        vendor=vendor,
        base_url=base_url,
        accounts=accounts,
        timeouts=given.timeouts,
        max_attempts=given.max_attempts,
        api_version=given.api_version or (None if given.serve else vendor.api_version),
        upstream_models=names,
        passthrough=Passthrough(tuple(given.passthrough), is_shared=given.is_shared),
        public_models={upstream: public for public, upstream in reversed(list(names.items()))},
        model_api=_model_api(given) if given.serve else None,
        max_tokens=given.max_tokens,
        models_asked=dict(given.models) if given.serve else {},
    )


def _model_api(given: ProviderConfig) -> ModelApi:
    dialects = MODEL_APIS[given.model_api or ""]
    return dialects[given.dialect] if given.dialect else next(iter(dialects.values()))


def _key(name: str, given: KeyConfig) -> Key:
    return Key(
        name,
        given.secret,
        weight=given.weight,
        not_before_s=given.not_before.timestamp() if given.not_before else 0,
        expires_at_s=given.expires_at.timestamp() if given.expires_at else None,
        requests_per_minute=given.requests_per_minute,
        tokens_per_minute=given.tokens_per_minute,
    )


def fingerprint_of(secret: Secret) -> str:
    """The first 12 hex digits of its SHA-256."""
    return hashlib.sha256(secret.reveal().encode("utf-8", "surrogateescape")).hexdigest()[:12]


def _tenant(name: str, config: Config) -> Tenant:
    given = config.tenants[name]
    providers = frozenset(given.providers if given.providers is not None else config.providers)
    only = next(iter(providers)) if len(providers) == 1 else None
    return Tenant(
        given.id or name,
        name,
        providers,
        given.default_provider or only,
        dict(given.home_accounts),
        given.beta_header == "required",
        given.limits,
        _shared_with(name, config),
        frozenset(_place_of(entry, config) for entry in config.shared if name in entry.withdrawn_from),
    )


def _shared_with(name: str, config: Config) -> dict[tuple[str, str], tuple[str, ...]]:
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for entry in config.shared:
        if name in entry.tenants:
            place = _place_of(entry, config)
            found[place.route, place.kind] = (*found.get((place.route, place.kind), ()), place.upstream)
    return found


def _place_of(entry: SharedObject, config: Config) -> ObjectPlace:
    provider = config.providers[entry.provider]
    route = route_of(provider.id or entry.provider, provider.accounts[entry.account].id or entry.account)
    return ObjectPlace(route, entry.kind, entry.id)


def rendezvous(tenant: str, accounts: Sequence[str]) -> str:
    """The account that hashing gives a tenant: stable, evenly spread, and few tenants move when an account joins."""
    return max(accounts, key=lambda account: hashlib.blake2b(f"{tenant}\0{account}".encode()).digest())
