"""What no single field can see: names that lead nowhere, keys that stand twice, routes that collide."""

from __future__ import annotations

import importlib.util
import re
import ssl
from collections.abc import Iterator, Mapping

from gateway import passthrough, vendors
from gateway.audit import policy
from gateway.config.providers import Account, Provider
from gateway.config.tenants import SharedObject, TenantConfig
from gateway.config.values import Secret
from gateway.config.whole import Config
from gateway.engine.models import MODEL_APIS
from gateway.ids import TAIL_LENGTH, route_of
from gateway.shapes import PREFIX_KINDS


def contradictions(config: Config) -> Iterator[str]:
    """One line for each."""
    for name, provider in config.providers.items():
        yield from _provider_faults(name, provider, config.tenants)
    for name, tenant in config.tenants.items():
        yield from _tenant_faults(name, tenant, config.providers)
    yield from _shared_faults(config)
    yield from _twins(config)
    for place, key in enumerate(config.signing_keys):
        if len(key.reveal().encode()) < 16:
            yield f"signing_keys[{place}]: has fewer than 16 characters"
    if config.store.url is not None and not config.signing_keys:
        yield "signing_keys: is missing; with a store of your own the gateway does not make one up"
    if config.store.url is not None:
        yield from _store_url_faults(config.store.url.reveal())
    if config.alerts.webhook is not None and not re.match(r"https?://", config.alerts.webhook.reveal()):
        yield "alerts.webhook: begins with http:// or https://"
    for name in config.prices.models:
        if name not in config.providers:
            yield f"prices.models.{name}: no provider is named {name}"
    yield from _audit_faults(config)
    if config.demo and config.demo.provider not in config.providers:
        yield f"demo.provider: no provider is named {config.demo.provider}"
    if config.listener.tls:
        try:
            config.listener.tls.context()
        except (OSError, ssl.SSLError) as exc:
            yield f"listener.tls: certificate and private key cannot be used: {exc.strerror or exc}"


def _store_url_faults(url: str) -> Iterator[str]:
    if re.match(r"rediss?\+cluster://", url):
        if not re.fullmatch(r"[^/]+//([^/?]*@)?[^/?@]+/?(\?.*)?", url):
            yield "store.url: names servers of the cluster, host:port,host:port, and no database"
    elif not re.match(r"(rediss?|unix)://", url):
        yield "store.url: begins with redis://, rediss://, unix://, redis+cluster:// or rediss+cluster://"


def _audit_faults(config: Config) -> Iterator[str]:
    audit = config.audit
    webhook = audit.checkpoint_to.webhook
    if webhook is not None and not re.match(r"https?://", webhook.reveal()):
        yield "audit.checkpoint_to.webhook: begins with http:// or https://"
    if audit.signing_key is not None:
        from gateway.audit.checkpoints import read_signing_key  # only who has such a key waits for this import

        try:
            read_signing_key(audit.signing_key.reveal())
        except ValueError as exc:
            yield f"audit.signing_key: {exc}"
    for place, rule in enumerate(audit.policy):
        for fault in policy.faults_of(rule, list(config.providers)):
            yield f"audit.policy[{place}].{fault}"
    if audit.hmac_key is not None and len(audit.hmac_key.reveal()) < 16:
        yield "audit.hmac_key: has fewer than 16 characters"


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # not even its parent
        return False


def _provider_faults(name: str, provider: Provider, tenants: Mapping[str, TenantConfig]) -> Iterator[str]:
    if provider.base_url is None and vendors.VENDORS[provider.vendor].base_url is None:
        yield f"providers.{name}.base_url: is missing; vendor {provider.vendor} has no address of its own"
    if provider.proxy is not None and not re.match(r"https?://", provider.proxy.reveal()):
        yield f"providers.{name}.proxy: begins with http:// or https://"
    vendor = vendors.VENDORS[provider.vendor]
    if vendor.needs is not None and not _is_installed(vendor.needs[0]):
        yield f"providers.{name}.vendor: {vendor.name} needs more: pip install 'threads-gateway[{vendor.needs[1]}]'"
    for place, pattern in enumerate(provider.passthrough):
        if (fault := passthrough.fault_of(pattern, is_shared=provider.is_shared)) is not None:
            yield f"providers.{name}.passthrough[{place}]: {fault}"
    if provider.api_version is not None and vendor.api_version is None:
        yield f"providers.{name}.api_version: vendor {vendor.name} has none"
    yield from _serving_faults(f"providers.{name}", provider)
    try:
        provider.tls_context()
    except (OSError, ssl.SSLError) as exc:
        yield f"providers.{name}: ca_file or client_cert cannot be used: {exc.strerror or exc}"
    for account_name, account in provider.accounts.items():
        where = f"providers.{name}.accounts.{account_name}"
        for option in sorted(vendor.required_options - account.options.keys()):
            yield f"{where}.options.{option}: is missing; vendor {vendor.name} needs it"
        for option in sorted(account.options.keys() - vendor.required_options - vendor.allowed_options):
            yield f"{where}.options.{option}: vendor {vendor.name} has no such option"
        if account.owned_by is not None and account.owned_by not in tenants:
            yield f"{where}.owned_by: no tenant is named {account.owned_by}"
        if account.raw_ids and account.owned_by is None:
            yield f"{where}.raw_ids: needs owned_by: ids without a signature tell no tenants apart"


def _serving_faults(where: str, provider: Provider) -> Iterator[str]:
    if provider.serve is None:
        if not vendors.VENDORS[provider.vendor].has_threads:
            yield f"{where}.serve: is missing; vendor {provider.vendor} has no threads of its own: serve: threads"
        for setting in ("model_api", "dialect", "max_tokens"):
            if getattr(provider, setting) is not None:
                yield f"{where}.{setting}: needs serve: threads; what is forwarded asks no model"
        return
    dialects = MODEL_APIS.get(provider.model_api or "")
    if provider.model_api is None:
        yield f"{where}.model_api: is missing; serve: threads needs it: {', '.join(sorted(MODEL_APIS))}"
    elif dialects is None:
        yield f"{where}.model_api: unknown model API; known: {', '.join(sorted(MODEL_APIS))}"
    elif provider.dialect is not None and provider.dialect not in dialects:
        yield f"{where}.dialect: {provider.model_api} has no such dialect; known: {', '.join(sorted(dialects))}"
    if vendors.VENDORS[provider.vendor].protocol == "v1":
        yield f"{where}.vendor: {provider.vendor} is a server of threads; served threads ask for models"
    for name, account in provider.accounts.items():
        if account.raw_ids:
            yield f"{where}.accounts.{name}.raw_ids: threads that are served here were never anywhere else"


def _tenant_faults(name: str, tenant: TenantConfig, providers: Mapping[str, Provider]) -> Iterator[str]:
    where = f"tenants.{name}"
    allowed = tenant.providers if tenant.providers is not None else list(providers)
    for provider in tenant.providers or []:
        if provider not in providers:
            yield f"{where}.providers: no provider is named {provider}"
    if tenant.default_provider is not None and tenant.default_provider not in allowed:
        yield f"{where}.default_provider: {tenant.default_provider} is none of the tenant's providers"
    for provider, account in tenant.home_accounts.items():
        if provider not in providers:
            yield f"{where}.home_accounts: no provider is named {provider}"
        elif account not in providers[provider].accounts:
            yield f"{where}.home_accounts.{provider}: no account of {provider} is named {account}"
        elif providers[provider].accounts[account].owned_by not in (None, name):
            yield f"{where}.home_accounts.{provider}: {account} is owned by another tenant"
    for provider in allowed:
        if provider in providers and not any(a.owned_by in (None, name) for a in providers[provider].accounts.values()):
            yield f"{where}.providers: {provider} has no account that is not owned by another tenant"


def _shared_faults(config: Config) -> Iterator[str]:
    seen: dict[tuple[str, str, str, str], int] = {}
    for place, entry in enumerate(config.shared):
        where = f"shared[{place}]"
        what = (entry.provider, entry.account, entry.kind, entry.id)
        if (first := seen.setdefault(what, place)) != place:
            yield f"{where}: the same object as shared[{first}]"
        provider = config.providers.get(entry.provider)
        if provider is None:
            yield f"{where}.provider: no provider is named {entry.provider}"
        elif (account := provider.accounts.get(entry.account)) is None:
            yield f"{where}.account: no account of {entry.provider} is named {entry.account}"
        else:
            yield from _shared_id_faults(where, entry, provider, account)
            for name in entry.tenants:
                if (tenant := config.tenants.get(name)) is not None:
                    yield from _reach_faults(f"{where}.tenants", entry, name, tenant, provider)
        for field in ("tenants", "withdrawn_from"):
            for name in getattr(entry, field):
                if name not in config.tenants:
                    yield f"{where}.{field}: no tenant is named {name}"
        for name in sorted(set(entry.tenants) & set(entry.withdrawn_from)):
            yield f"{where}.withdrawn_from: {name} is listed in tenants too"


def _shared_id_faults(where: str, entry: SharedObject, provider: Provider, account: Account) -> Iterator[str]:
    if account.owned_by is not None:
        yield f"{where}.account: {entry.account} is owned by tenant {account.owned_by}; nobody else reaches it"
    if provider.serve is not None and entry.kind != "assistant":
        yield f"{where}.kind: provider {entry.provider} serves threads; of such only assistants can be shared"
    if entry.kind == "vector_store" and vendors.VENDORS[provider.vendor].protocol == "v1":
        yield f"{where}.kind: vendor {provider.vendor} has no vector stores"
    for prefix, kind in PREFIX_KINDS.items():
        if entry.id.startswith(prefix) and kind != entry.kind:
            yield f"{where}.id: {entry.id} begins like the id of another kind: {kind}"
    route = route_of(provider.id or entry.provider, account.id or entry.account)
    if re.search(rf"{route}[0-9a-f]{{{TAIL_LENGTH - len(route)}}}$", entry.id):
        yield f"{where}.id: {entry.id} is a public id; the provider's own is without the last {TAIL_LENGTH} characters"


def _reach_faults(
    where: str, entry: SharedObject, name: str, tenant: TenantConfig, provider: Provider
) -> Iterator[str]:
    """Why a listed tenant could never use the object: what it creates would be elsewhere."""
    if tenant.providers is not None and entry.provider not in tenant.providers:
        yield f"{where}: {name} may not use provider {entry.provider}"
        return
    own = next((each for each, account in provider.accounts.items() if account.owned_by == name), None)
    home = tenant.home_accounts.get(entry.provider, own)
    if home not in (None, entry.account):
        yield f"{where}: the home account of {name} at {entry.provider} is {home}, and accounts cannot meet"


def _twins(config: Config) -> Iterator[str]:
    routes: dict[str, str] = {}
    secrets: dict[Secret, str] = {}
    for name, provider in config.providers.items():
        for account_name, account in provider.accounts.items():
            where = f"providers.{name}.accounts.{account_name}"
            route = route_of(provider.id or name, account.id or account_name)
            if route in routes:
                yield f"{where}: its ids would look like those of {routes[route]}; give one of them another `id`"
            routes[route] = where
            for key_name, key in account.keys.items():
                if key.secret in secrets:
                    yield f"{where}.keys.{key_name}: the same secret as {secrets[key.secret]}"
                secrets[key.secret] = f"{where}.keys.{key_name}"
    owners: dict[str, str] = {}
    for name, tenant in config.tenants.items():
        for digest in tenant.keys:
            if digest in owners:
                yield f"tenants.{name}.keys: a key that tenant {owners[digest]} has too"
            owners[digest] = name
    ids: dict[str, str] = {}
    for name, tenant in config.tenants.items():
        if (same := tenant.id or name) in ids:
            yield f"tenants.{name}.id: the same as that of tenant {ids[same]}"
        ids[same] = name
