"""Values for the tests of the pure parts: one small configured world, and requests located in it. No I/O.

Provider `main` (OpenAI's dialect) has account acme, which is shared, and bolt, which carol owns alone and where she
goes on with ids from before the gateway. Provider `side` (AIML API's dialect) has an account acme too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from gateway.config import Config, Source
from gateway.ids import IdSigner
from gateway.model import Account, Directory, Provider, Target, Tenant
from gateway.operations import BY_NAME, match
from gateway.phases.locate import Located, locate
from gateway.public_ids import PublicIds
from gateway.shapes import find_slots

unhurried = settings(deadline=None)
"""For property tests: the machine may be busy with other things."""

any_text = st.text(st.characters(exclude_categories=()))
"""Every text JSON can hold, lone surrogates included."""

any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | any_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=12,
)

ENVIRON = {
    "ACME_ONE": "sk-acme-one",
    "ACME_TWO": "sk-acme-two",
    "BOLT": "sk-bolt",
    "SIDE": "side-key",
    **{name.upper(): f"{name}-key" for name in ("alice", "bob", "carol", "dave", "erin")},
}

SETTINGS: dict[str, Any] = {
    "providers": {
        "main": {
            "vendor": "openai",
            "base_url": "https://main.example/v1/",
            "accounts": {
                "acme": {
                    "keys": {"one": {"secret": "${ACME_ONE}"}, "two": {"secret": "${ACME_TWO}"}},
                    "organization": "org-of-acme",
                    "project": "proj-of-acme",
                },
                "bolt": {"keys": {"one": {"secret": "${BOLT}"}}, "owned_by": "carol", "raw_ids": True},
            },
        },
        "side": {"vendor": "aimlapi", "accounts": {"acme": {"keys": {"one": {"secret": "${SIDE}"}}}}},
    },
    "tenants": {
        "alice": {"id": "alice-of-old", "keys": ["${ALICE}"], "default_provider": "main"},
        "bob": {"keys": ["${BOB}"], "providers": ["main"]},  # the only provider is the default
        "carol": {"keys": ["${CAROL}"], "default_provider": "main", "home_accounts": {"main": "bolt"}},
        "dave": {"keys": ["${DAVE}"]},  # no default
        "erin": {"keys": ["${ERIN}"], "providers": ["side"]},
    },
}


def config_of(settings: Mapping[str, Any]) -> Config:
    return Config.model_validate(settings, context=Source(environ=ENVIRON))


DIRECTORY = Directory(config_of(SETTINGS))
SIGNER = IdSigner([b"the first signing key", b"the second signing key"])


def target(provider: str = "main", account: str = "acme") -> Target:
    found = DIRECTORY.providers[provider]
    return Target(found, found.accounts[account])


def home_of(tenant: Tenant, provider: Provider) -> Account:
    return provider.accounts[tenant.homes.get(provider.name, "acme")]


def public(
    upstream: str, kind: str = "thread", *, tenant: str = "alice", at: Target | None = None, key: int = 0
) -> str:
    """The public id of an upstream id."""
    route = (at or target()).account.route
    return SIGNER.sign(upstream, kind=kind, tenant=DIRECTORY.tenants[tenant].id, route=route, key=key)


def located(
    request: str = "POST /v1/threads",
    body: dict[str, Any] | None = None,
    *,
    tenant: str = "alice",
    header: str | None = None,
    directory: Directory = DIRECTORY,
) -> Located:
    """The outcome of `locate` for a request such as "GET /v1/threads/thread_1?limit=2"; `header` is the provider
    named by a header."""
    method, _, url = request.partition(" ")
    path, _, query = url.partition("?")
    matched = match(method, path)
    return locate(
        matched,
        query,
        list(find_slots(body, matched.operation.sent)) if body is not None else [],
        tenant=directory.tenants[tenant],
        directory=directory,
        signer=SIGNER,
        chosen_provider=matched.provider or header,
        home_of=home_of,
    )


def public_ids(found: Located | None = None, tenant: str = "alice") -> PublicIds:
    """How the answer to a located request calls things."""
    return PublicIds(SIGNER, tenant=DIRECTORY.tenants[tenant].id, located=found or Located(target()))


READ = BY_NAME["get_thread"]
DELETE = BY_NAME["delete_thread"]
WRITE = BY_NAME["create_thread"]
