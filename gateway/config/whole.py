"""All sections together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from gateway.config.audit import Audit
from gateway.config.demo import Demo
from gateway.config.process import AlertsConfig, Cache, Idempotency, Limits, Listener, Store
from gateway.config.providers import Provider
from gateway.config.tenants import PricesConfig, SharedObject, TenantConfig
from gateway.config.values import Name, Secret, Section


class Config(Section):
    """Everything the gateway knows before it starts."""

    providers: Annotated[Mapping[Name, Provider], Field(min_length=1)]
    """Providers by name; the name also stands in `/providers/{name}/v1`."""
    tenants: Annotated[Mapping[Name, TenantConfig], Field(min_length=1)]
    """Tenants by name."""
    shared: list[SharedObject] = Field(default_factory=list)
    """Objects that tenants have in common, such as one assistant for fifty of them."""
    signing_keys: list[Secret] = Field(default_factory=list)
    """Keys that sign ids, at least 16 characters each. All verify, the first signs. Default with the embedded
    Valkey: one is made in its folder. Whoever loses them loses every id ever issued."""
    listener: Listener = Listener()
    limits: Limits = Limits()
    store: Store = Store()
    cache: Cache = Cache()
    alerts: AlertsConfig = AlertsConfig()
    idempotency: Idempotency = Idempotency()
    prices: PricesConfig = PricesConfig()
    audit: Audit = Audit()
    demo: Demo | None = None
