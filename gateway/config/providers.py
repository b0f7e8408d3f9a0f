"""Sections about providers, their accounts and keys."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from gateway import vendors
from gateway.config.values import BaseUrl, ExistingFile, Name, Seconds, Secret, SecretUrl, Section
from gateway.strategies import STRATEGIES


def _known_vendor(name: str) -> str:
    if name not in vendors.VENDORS:
        known = ", ".join(sorted(vendors.VENDORS))
        raise PydanticCustomError("vendor", f"unknown vendor; known: {known}")
    return name


def _known_strategy(name: str) -> str:
    if name not in STRATEGIES:
        raise PydanticCustomError("strategy", f"unknown strategy; known: {', '.join(sorted(STRATEGIES))}")
    return name


StrategyName = Annotated[str, AfterValidator(_known_strategy)]


VendorName = Annotated[str, AfterValidator(_known_vendor)]


class Key(Section):
    """One secret of an account. Keys of one account are interchangeable."""

    secret: Secret
    """What the provider calls an API key, by reference."""
    weight: Annotated[float, Field(gt=0)] = 1
    """How often it is used beside the other keys of its account, with `rotation.strategy: weighted`."""
    requests_per_minute: Annotated[int, Field(gt=0)] | None = None
    """How often it is used in any minute, by all replicas together; then other keys are, or callers get 429 before the
    provider says so. Default: as often as the provider allows."""
    tokens_per_minute: Annotated[int, Field(gt=0)] | None = None
    """How many tokens of runs, both ways, it may have used in the last minute to be used again. They are known after a
    run, so those under way come on top."""
    not_before: AwareDatetime | None = None
    """From when it may be used, with a time zone: `2026-12-01T00:00:00Z`."""
    expires_at: AwareDatetime | None = None
    """Until when; warned of seven days ahead."""


def _expand(key: Any) -> Any:
    """`main: ${NAME}` is short for `main: {secret: ${NAME}}`."""
    return {"secret": key} if isinstance(key, str) else key


KeyOrReference = Annotated[Key, BeforeValidator(_expand, json_schema_input_type=Key | Secret)]


class Account(Section):
    """One organisation or project at a provider. Threads live in an account and nowhere else."""

    id: Name | None = None
    """What ids issued for this account are bound to; never changes. Default: the account's name. Set it to the old
    name when you rename an account."""
    keys: Annotated[Mapping[Name, KeyOrReference], Field(min_length=1)]
    """The account's keys by name: `main: ${OPENAI_KEY}`, or `main: {secret: ${OPENAI_KEY}}`."""
    organization: str | None = None
    """Sent as the vendor's organisation header, where it has one."""
    project: str | None = None
    """Sent as the vendor's project header, where it has one."""
    owned_by: Name | None = None
    """The tenant who alone uses this account: its lists are then the provider's own, and rate-limit headers cross."""
    options: Mapping[str, str] = Field(default_factory=dict)
    """What the vendor needs to know of an account beside its keys; see the vendor's section in the README."""
    raw_ids: bool = False
    """Let the owning tenant go on with ids it had before the gateway. Needs `owned_by`."""


class Timeouts(Section):
    """How long a provider may take, for each attempt."""

    connect_s: Seconds = 5
    """Until the connection, TLS included, stands."""
    first_byte_s: Seconds = 120
    """From the last byte sent to the answer's headers; `connect_s` is granted on top."""
    idle_s: Seconds = 300
    """Between two pieces of an answer or two events of a stream."""
    total_s: Seconds = 1800
    """For all attempts of one request together, streams included."""


class Rotation(Section):
    """How the keys of an account take turns, and what takes them out."""

    strategy: StrategyName = "round_robin"
    """`round_robin`, `weighted`, `least_in_flight`, or `sticky`: the same key for the same thread."""
    rate_limits_belong_to: Literal["key", "account"] | None = None
    """Whether another key helps after a 429. Default: as documented of the vendor."""
    no_money_s: Seconds = 600
    """How long a key rests for which the provider wants money (402, `insufficient_quota`)."""
    longest_probe_s: Seconds = 300
    """A dead key is tried after 5 s, then at twice the time, up to this."""
    breaker_failures: Annotated[int, Field(ge=1)] = 10
    """After so many failures in a row (5xx, cut, unreachable) the account is not asked for a while."""
    breaker_open_s: Seconds = 5
    """For how long; twice as long each time, up to a minute."""


class Provider(Section):
    """A configured endpoint of a vendor."""

    id: Name | None = None
    """What ids issued for this provider are bound to; never changes. Default: the provider's name."""
    vendor: VendorName
    """How the endpoint speaks: one of the vendors listed in the README."""
    base_url: BaseUrl | None = None
    """Where the API begins, for example `https://api.openai.com/v1`. Default: the vendor's own address."""
    serve: Literal["threads"] | None = None
    """`threads`: the gateway itself keeps assistants, threads, messages, runs and steps, in its store, and asks this
    provider only for the model's answers. `vendor` then says how keys are presented and where it is."""
    model_api: str | None = None
    """With `serve`: the API in which models are asked, below `base_url`: `chat_completions`, `responses`,
    `anthropic_messages` or `gemini`."""
    dialect: str | None = None
    """With `serve`: how the provider speaks that API, where it differs; see "Serving threads" in the README."""
    max_tokens: Annotated[int, Field(gt=0)] | None = None
    """With `serve`: how many tokens one answer may have where the run does not say (`max_completion_tokens`); beyond
    it the run is `incomplete`. Default: 32000 for `anthropic_messages`, which has to be told; for others as many as the
    model has."""
    accounts: Annotated[Mapping[Name, Account], Field(min_length=1)]
    """Accounts at this provider, by name."""
    api_version: str | None = None
    """Value of the `api-version` query for vendors that have one. Default: the vendor's; with `serve` none, as Azure's
    `/openai/v1` wants it."""
    models: Mapping[str, str] = Field(default_factory=dict)
    """Model names as callers say them → as this provider calls them. Names that are not listed pass as they are."""
    passthrough: list[str] = Field(default_factory=list)
    """Paths of the vendor's other API that go through to the tenant's home account: `chat/completions`, `audio/*`.
    What stores things (`responses`, `batches`) only if every account here is `owned_by` one tenant."""
    proxy: SecretUrl | None = None
    """Outgoing HTTP proxy for this provider, `http://host:port`; by reference when it holds a password."""
    ca_file: ExistingFile | None = None
    """PEM file of the authorities to trust in place of the system's."""
    client_cert: ExistingFile | None = None
    """PEM file with a client certificate and its private key, for providers that ask for one."""
    timeouts: Timeouts = Timeouts()
    """How long this provider may take."""
    rotation: Rotation = Rotation()
    """How keys rotate at this provider."""
    max_attempts: Annotated[int, Field(ge=1, le=10)] = 3
    """Attempts for one request, the first one included; a request that must not run twice has fewer."""

    @property
    def is_shared(self) -> bool:
        """Whether tenants share one of its accounts."""
        return any(account.owned_by is None for account in self.accounts.values())

    def tls_context(self) -> ssl.SSLContext | bool:
        """Whom to trust and how to show who we are; True for the system's way.

        Raises ssl.SSLError or OSError when a file cannot be used.
        """
        if self.ca_file is None and self.client_cert is None:
            return True
        context = ssl.create_default_context(cafile=self.ca_file)
        if self.client_cert is not None:
            context.load_cert_chain(self.client_cert)
        return context
