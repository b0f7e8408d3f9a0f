"""The configuration: one YAML file, read once, checked as a whole, frozen.

Every setting is described at its field; `config/gateway.yaml` shows them all. Sizes end in `_bytes`, durations in `_s`
(seconds). Secrets come from the environment (`${NAME}`) or a file (`file:/path`, relative to the configuration's own
folder) and never stand in the file itself.
"""

from gateway.config.audit import Audit, AuditBodies, AuditRedact, AuditRule
from gateway.config.process import Cache, Idempotency, Limits, Listener, Store
from gateway.config.providers import Key, Provider, Rotation, Timeouts
from gateway.config.reading import ConfigError, check, load
from gateway.config.tenants import Allowance, Price, PricesConfig, SharedObject, TenantConfig
from gateway.config.values import Secret, Source, digest_of_key
from gateway.config.whole import Config

__all__ = [
    "Allowance",
    "Audit",
    "AuditBodies",
    "AuditRedact",
    "AuditRule",
    "Cache",
    "Config",
    "ConfigError",
    "Idempotency",
    "Key",
    "Limits",
    "Listener",
    "Price",
    "PricesConfig",
    "Provider",
    "Rotation",
    "Secret",
    "SharedObject",
    "Source",
    "Store",
    "TenantConfig",
    "Timeouts",
    "check",
    "digest_of_key",
    "load",
]
