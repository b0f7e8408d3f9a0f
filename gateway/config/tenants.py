"""Sections about tenants: what they may do and use, what they share, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from gateway.config.values import KeyDigest, Money, Name, Section


class Allowance(Section):
    """How much a tenant, or one of its keys, may use; beyond it 429. What is not set is not limited."""

    requests_per_minute: Annotated[int, Field(gt=0)] | None = None
    """Requests of any kind."""
    concurrent_requests: Annotated[int, Field(gt=0)] | None = None
    """Requests under way at one time, in all replicas together, streams included."""
    concurrent_streams: Annotated[int, Field(gt=0)] | None = None
    """Streams under way at one time, in all replicas together."""
    tokens_per_day: Annotated[int, Field(gt=0)] | None = None
    """Tokens of runs, both ways, from midnight UTC; once they are used no further run begins."""
    tokens_per_month: Annotated[int, Field(gt=0)] | None = None
    """The same from the first of the month, UTC."""
    bytes_per_day: Annotated[int, Field(gt=0)] | None = None
    """Bodies of requests and answers together, from midnight UTC."""


class TenantConfig(Section):
    """Somebody who calls the gateway. Tenants never see each other's objects."""

    id: Name | None = None
    """What ids issued for this tenant are bound to; never changes. Default: the tenant's name."""
    keys: Annotated[list[KeyDigest], Field(min_length=1)]
    """Keys the tenant presents: `sha256:<hex digest>`, or a reference to the key itself."""
    providers: list[Name] | None = None
    """Providers the tenant may use. Default: all."""
    default_provider: Name | None = None
    """Where a request goes that names no provider and carries no id. Default: the only provider, if there is one."""
    home_accounts: Mapping[Name, Name] = Field(default_factory=dict)
    """Provider → account in which this tenant creates things. Default: chosen once by hashing, then remembered."""
    beta_header: Literal["optional", "required"] = "optional"
    """Whether assistants and threads need the header `OpenAI-Beta: assistants=…`, as they did at OpenAI; missing, it
    means v2."""
    limits: Allowance = Allowance()
    """What all keys of the tenant may use together."""


class SharedObject(Section):
    """An object at a provider that the listed tenants read and run, and cannot change or delete. Keep the entry as long
    as the object lives: it is what keeps tenants who saw the object from changing it."""

    kind: Literal["assistant", "file", "vector_store"]
    """What it is."""
    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,256}$")]
    """Its id as the provider says it, not a public id of the gateway."""
    provider: Name
    """Where it is."""
    account: Name
    """The account it is in, one that tenants share."""
    tenants: list[Name] = Field(default_factory=list)
    """Who reads and runs it. It stands at the older end of their lists, in the order of the configuration. It meets
    only what is in the same account, so that must be their home account."""
    withdrawn_from: list[Name] = Field(default_factory=list)
    """Tenants who were listed once: whatever id of it they kept is answered 404."""


class Price(Section):
    """What a provider takes for a model, for a million tokens, in `prices.currency`."""

    input: Money
    """Tokens of the prompt."""
    output: Money
    """Tokens of the answer."""
    cached_input: Money | None = None
    """Tokens of the prompt that the provider had in its cache. Default: as `input`."""


class PricesConfig(Section):
    """What `tenants usage` reckons costs with. A model without a price costs nobody knows how much, never nothing."""

    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")] = "USD"
    """Three letters; all prices are in it."""
    models: Mapping[Name, Mapping[str, Price]] = Field(default_factory=dict)
    """Provider → model as callers name it → price. A name that ends in `*` is for all that begin so; the longest that
    fits counts."""
