"""The configuration: one YAML file, read once, checked as a whole, frozen.

Every setting is described at its field; `config/gateway.yaml` shows them all. Sizes end in `_bytes`, durations in `_s`
(seconds). Secrets come from the environment (`${NAME}`) or a file (`file:/path`, relative to the configuration's own
folder) and never stand in the file itself.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import ssl
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    HttpUrl,
    PlainValidator,
    ValidationError,
    ValidationInfo,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from gateway import passthrough, vendors
from gateway.audit import patterns, policy, redaction
from gateway.engine.models import MODEL_APIS
from gateway.ids import TAIL_LENGTH, route_of
from gateway.shapes import PREFIX_KINDS
from gateway.strategies import STRATEGIES

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_ENV = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class ConfigError(Exception):
    """The configuration cannot be used. `faults` has one line for each thing to mend, without any secret."""

    def __init__(self, file: str, faults: list[str]) -> None:
        super().__init__("\n".join(f"{file}: {fault}" for fault in faults))
        self.faults = faults


class Secret:
    """A secret value. Only `reveal` shows it; repr, str and errors show where it came from."""

    __slots__ = ("_value", "origin")

    def __init__(self, value: str, origin: str) -> None:
        self._value = value
        self.origin = origin

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return f"<secret from {self.origin}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(_read_secret)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "pattern": r"^(\$\{[A-Za-z_][A-Za-z0-9_]*\}|file:.+)$"}


def _read_secret(value: Any, info: ValidationInfo) -> Secret:
    """Resolve a reference. Never repeats `value` in an error unless it is a reference: it may be the secret itself."""
    source: Source = info.context or Source()
    if isinstance(value, str) and (match := _ENV.fullmatch(value)):
        found = source.environ.get(match[1], "")
        if not found:
            raise PydanticCustomError("secret", f"the environment has no {match[1]}")
        return Secret(found, value)
    if isinstance(value, str) and value.startswith("file:"):
        path = source.folder / value.removeprefix("file:")
        source.files.add(path)
        try:
            found = path.read_text().strip()
        except (OSError, ValueError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else "not text"
            raise PydanticCustomError("secret", f"{value} cannot be read: {reason}") from exc
        if not found:
            raise PydanticCustomError("secret", f"{value} is empty")
        return Secret(found, value)
    raise PydanticCustomError("secret", "a secret is written as ${ENV_NAME} or file:/path, never as itself")


class Source:
    """Where references of a configuration are resolved: the environment and the folder of the file."""

    def __init__(self, folder: Path = Path(), environ: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.environ = os.environ if environ is None else environ
        self.files: set[Path] = set()
        """What was read besides the configuration itself: files with secrets."""


def _check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise PydanticCustomError("name", "a name has letters, digits, '.', '_' and '-', at most 64")
    return name


def _digest_of(value: Any, info: ValidationInfo) -> str:
    """A tenant's key is kept as its SHA-256; a reference is read, digested and forgotten."""
    if isinstance(value, str) and _DIGEST.fullmatch(value):
        return value
    if isinstance(value, str) and value.startswith("sha256:"):
        raise PydanticCustomError("digest", "sha256: is followed by 64 lower-case hex digits")
    return digest_of_key(_read_secret(value, info).reveal())


def digest_of_key(key: str) -> str:
    """How a tenant's key is written in the configuration without being shown."""
    return "sha256:" + hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def _existing_file(value: Any, info: ValidationInfo) -> Path:
    source: Source = info.context or Source()
    path = source.folder / str(value)
    if not path.is_file():
        raise PydanticCustomError("file", "no such file")
    return path


def _known_vendor(name: str) -> str:
    if name not in vendors.VENDORS:
        known = ", ".join(sorted(vendors.VENDORS))
        raise PydanticCustomError("vendor", f"unknown vendor; known: {known}")
    return name


def _known_strategy(name: str) -> str:
    if name not in STRATEGIES:
        raise PydanticCustomError("strategy", f"unknown strategy; known: {', '.join(sorted(STRATEGIES))}")
    return name


def _url_or_secret(value: Any, info: ValidationInfo) -> Secret:
    """A URL may stand in the file as long as it holds no password."""
    if isinstance(value, str) and "://" in value:
        if "@" in value:
            raise PydanticCustomError("secret", "a URL with a password is written as ${ENV_NAME} or file:/path")
        return Secret(value, "the configuration")
    return _read_secret(value, info)


def _no_credentials(url: HttpUrl) -> HttpUrl:
    if url.username or url.password or url.query or url.fragment:
        raise PydanticCustomError("secret", "a base URL has no credentials, no query and no fragment")
    return url


Name = Annotated[str, AfterValidator(_check_name)]
StrategyName = Annotated[str, AfterValidator(_known_strategy)]
VendorName = Annotated[str, AfterValidator(_known_vendor)]
BaseUrl = Annotated[HttpUrl, AfterValidator(_no_credentials)]
SecretUrl = Annotated[Secret, PlainValidator(_url_or_secret, json_schema_input_type=str)]
KeyDigest = Annotated[
    str, BeforeValidator(_digest_of, json_schema_input_type=str), Field(json_schema_extra={"type": "string"})
]
ExistingFile = Annotated[Path, BeforeValidator(_existing_file, json_schema_input_type=str)]
Bytes = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0)]
Money = Annotated[Decimal, Field(ge=0, allow_inf_nan=False)]


class _Section(BaseModel):
    """Frozen, and a setting nobody knows is a fault: a misspelt limit must not be a missing limit."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=False)


class TLS(_Section):
    """Serve HTTPS. Without this section the listener speaks plain HTTP."""

    certificate: ExistingFile
    """PEM file with the certificate and its chain."""
    private_key: ExistingFile
    """PEM file with the private key."""

    def context(self) -> ssl.SSLContext:
        """Raises ssl.SSLError or OSError when the files do not fit together."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.certificate, self.private_key)
        return context


class Listener(_Section):
    """Where callers reach the gateway."""

    host: str = "127.0.0.1"
    """Address to listen on; `0.0.0.0` for every interface."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """TCP port; 0 takes a free one."""
    tls: TLS | None = None
    """HTTPS with this certificate; leave out for plain HTTP."""
    keepalive_s: Seconds = 75
    """How long an idle connection of a caller stays open."""
    write_timeout_s: Seconds = 120
    """How long a caller may take to accept the next piece of an answer before the connection is cut."""
    stream_comment_s: Seconds = 15
    """After how much silence of a stream a comment goes to the caller, so that nothing between takes it for dead."""
    shutdown_s: Seconds = 30
    """After SIGTERM: how long running requests and streams may take to end. Ctrl-C waits one second."""


class Limits(_Section):
    """Bounds of one request, and of all of them for the spool."""

    header_bytes: Bytes = 32 * 1024
    """All header lines of a request together; beyond it 431."""
    path_bytes: Bytes = 8 * 1024
    """Path and query of a request; beyond it 414."""
    json_bytes: Bytes = 16 * 1024 * 1024
    """A JSON body; beyond it 413. It is held in memory."""
    json_depth: Annotated[int, Field(gt=0, le=900)] = 100
    """How deep arrays and objects of a JSON body may nest; beyond it 400."""
    upload_bytes: Bytes = 512 * 1024 * 1024
    """A file upload; beyond it 413. It is never held whole in memory."""
    buffer_bytes: Bytes = 1024 * 1024
    """An upload above this goes to an unlinked temporary file, so that it can be sent again where that is safe."""
    spool_bytes: Bytes = 4 * 1024 * 1024 * 1024
    """All temporary files of uploads together; beyond it 503."""
    receive_s: Seconds = 60
    """How long a caller may pause while sending a body; beyond it 408."""
    runs_at_once: Annotated[int, Field(gt=0)] = 500
    """Served runs that one process works on at one time; others stay queued, in the order in which they came."""
    answer_bytes: Bytes = 64 * 1024 * 1024
    """A provider's JSON answer, or one stream event; beyond it 502. It is held in memory."""


class Store(_Section):
    """The Redis or Valkey that holds what replicas share. Without `url` the gateway runs a Valkey of its own."""

    url: SecretUrl | None = None
    """`redis://…`, `rediss://…` or `unix://…`; of a cluster `redis+cluster://host:port,host:port` or `rediss+cluster://…`
    with some of its servers. By reference when it holds a password. Redis 6.2, Valkey 7.2 or newer. Leave out for the
    embedded Valkey."""
    data_dir: Path = Path("var/valkey")
    """Embedded Valkey: folder of its append-only file and, if none is configured, of the signing key. Relative to
    the working directory. Back it up."""
    prefix: Name = "tg"
    """First word of every key in the store, so that one server can hold several gateways."""
    timeout_s: Seconds = 1
    """How long one command may take before the store counts as away."""
    keep_unused_threads_s: Seconds | None = None
    """Served threads to which no message and no run was added for so long are deleted, with all below them. An hour may
    pass until they are. Default: they are kept until somebody deletes them."""


class Cache(_Section):
    """Answers kept in the store. Whatever a replica writes drops them for all replicas."""

    ttl_s: Annotated[float, Field(ge=0, le=30)] = 30
    """How long threads, messages and assistants are kept, which may change at the provider without the gateway; 0 keeps
    nothing and reads nothing."""
    final_ttl_s: Annotated[float, Field(ge=0, le=86_400)] = 3600
    """How long runs that are over, and their steps, are kept."""
    timeout_s: Annotated[float, Field(gt=0, le=0.3)] = 0.25
    """How long a request waits for the cache; then it goes on without, and so do all until the store is back."""


class Idempotency(_Section):
    """What becomes of requests that carry an `Idempotency-Key`. The store keeps it, for all replicas."""

    keep_s: Annotated[float, Field(ge=60, le=604_800)] = 86_400
    """How long the first answer to a key is given again to whoever repeats the request."""
    wait_s: Annotated[float, Field(ge=0, le=60)] = 10
    """How long a repeat waits while the first request is in work; then it gets 409."""


class Key(_Section):
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


class Account(_Section):
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


class Timeouts(_Section):
    """How long a provider may take, for each attempt."""

    connect_s: Seconds = 5
    """Until the connection, TLS included, stands."""
    first_byte_s: Seconds = 120
    """From the last byte sent to the answer's headers; `connect_s` is granted on top."""
    idle_s: Seconds = 300
    """Between two pieces of an answer or two events of a stream."""
    total_s: Seconds = 1800
    """For all attempts of one request together, streams included."""


class Rotation(_Section):
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


class Provider(_Section):
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
    """Value of the `api-version` query for vendors that have one. Default: the vendor's."""
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


class Allowance(_Section):
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


class TenantConfig(_Section):
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


class SharedObject(_Section):
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


class AlertsConfig(_Section):
    """Whom to tell of keys that died, end soon or are of another account, and of accounts that are down."""

    webhook: SecretUrl | None = None
    """Gets a POST with a JSON object for each; by reference when the URL is a secret, as Slack's are."""


class Price(_Section):
    """What a provider takes for a model, for a million tokens, in `prices.currency`."""

    input: Money
    """Tokens of the prompt."""
    output: Money
    """Tokens of the answer."""
    cached_input: Money | None = None
    """Tokens of the prompt that the provider had in its cache. Default: as `input`."""


class PricesConfig(_Section):
    """What `tenants usage` reckons costs with. A model without a price costs nobody knows how much, never nothing."""

    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")] = "USD"
    """Three letters; all prices are in it."""
    models: Mapping[Name, Mapping[str, Price]] = Field(default_factory=dict)
    """Provider → model as callers name it → price. A name that ends in `*` is for all that begin so; the longest that
    fits counts."""


class CheckpointsTo(_Section):
    """Where checkpoints of the audit trail go beside the log: out of reach of whoever could rewrite its files."""

    valkey: bool = False
    """To the store: the newest of each start of each replica."""
    file: Path | None = None
    """To a file elsewhere, one a line; it only grows."""
    webhook: SecretUrl | None = None
    """As a POST with a JSON object; by reference when the URL is a secret."""


def _listed(value: Any) -> Any:
    """One value may stand without brackets."""
    return [value] if isinstance(value, str | int) else value


def _check_statuses(given: list[int | str]) -> list[int | str]:
    try:
        policy.statuses_of(given)
    except ValueError as exc:
        raise PydanticCustomError("status", str(exc)) from exc
    return given


def _check_path(path: str) -> str:
    try:
        redaction.steps_of(path)
    except ValueError as exc:
        raise PydanticCustomError("path", str(exc)) from exc
    return path


def _check_pattern(pattern: str) -> str:
    if (fault := patterns.fault_of(pattern)) is not None:
        raise PydanticCustomError("pattern", fault)
    return pattern


Globs = Annotated[list[str], BeforeValidator(_listed, json_schema_input_type=str | list[str])]
Statuses = Annotated[
    list[int | str],
    BeforeValidator(_listed, json_schema_input_type=int | str | list[int | str]),
    AfterValidator(_check_statuses),
]


class AuditRule(_Section):
    """How much is recorded of which requests. A request takes the first rule of which every condition holds."""

    tenant: Globs | None = None
    """Names of tenants, `*` for any characters; one, or a list."""
    operation: Globs | None = None
    """Names of operations as in the log, `*` for any characters: `get_*`."""
    provider: Globs | None = None
    """Names of providers, `*` for any characters."""
    status: Statuses | None = None
    """Of the answer: `404`, `5xx`, or a list of these. Known at the end only: until then what may be kept is held."""
    level: Literal["none", "metadata", "request", "full"]
    """`metadata`: no message content; `request`: and the body of the request; `full`: and the answer; `none`: nothing,
    for plain reads that went well."""


class AuditRedact(_Section):
    """What never stands in the trail or in kept bodies as itself, but as `hmac:<kid>:<hex>`."""

    paths: list[Annotated[str, AfterValidator(_check_path)]] = ["metadata.*"]
    """Fields of bodies, at any depth; `*` for any name, `$.` in front for the top of the body. Lists need no word."""
    patterns: list[Annotated[str, AfterValidator(_check_pattern)]] = ["email", "card", "key"]
    """What is looked for in every text: `email`, `card`, `key`, and expressions of your own in the README's dialect."""
    clear: list[Name] = Field(default_factory=list)
    """Facts of a record that stand as they are beside those that always do. The patterns count there too."""


class AuditBodies(_Section):
    """Bodies that the policy keeps. They lie apart from the records, and may go sooner."""

    max_bytes: Bytes = 256 * 1024
    """Of one body; what is longer is cut and says so. JSON of more than 16 times this is not kept, only its digest."""
    binary: bool = False
    """Keep also what is not JSON, such as uploads that are held in memory, as it is: nothing in it is redacted."""
    keep_s: Seconds = 30 * 86_400
    """How long bodies are kept. The records that name them stay."""
    keep_bytes: Bytes = 10 * 1024 * 1024 * 1024
    """How much the bodies of this folder may take, compressed; beyond it the oldest go."""


class Audit(_Section):
    """The audit trail: a record of every request, in files that show whether anybody changed them."""

    enabled: bool = True
    """Whether it is kept at all."""
    dir: Path = Path("var/audit")
    """Folder of its files, relative to the working directory. Replicas may share one."""
    replica: Name | None = None
    """First word of this process's files; the same after a restart, another one for each replica. Default: the host's
    name."""
    mode: Literal["buffered", "ack", "fsync"] = "ack"
    """What an answer waits for: `buffered` nothing, up to 100 ms of records go with a crash; `ack` until the system has
    the record, which survives a crash of the gateway; `fsync` until the disk has it, which survives a loss of power."""
    on_error: Literal["open", "closed"] = "open"
    """When nothing can be recorded: `open` goes on, and a record says later what is missing; `closed` answers 503."""
    timeout_s: Seconds = 5
    """How long a record may take before the trail counts as unavailable."""
    rotate_bytes: Bytes = 64 * 1024 * 1024
    """A file that is larger is sealed, and the next one begun."""
    rotate_s: Seconds = 86_400
    """The same for a file that is older, if it has records."""
    compress: bool = True
    """Compress sealed files (zstd)."""
    keep_s: Annotated[float, Field(ge=0)] = 90 * 86_400
    """How long files are kept after their last record; 0: for ever."""
    keep_bytes: Annotated[int, Field(ge=0)] = 10 * 1024 * 1024 * 1024
    """How much all files that are not written any more may have, as they lie on the disk; the oldest go first. 0:
    without bound."""
    checkpoint_s: Seconds = 60
    """How often a checkpoint is signed, if there is something new."""
    checkpoint_to: CheckpointsTo = CheckpointsTo()
    """Where it goes beside the log."""
    signing_key: Secret | None = None
    """Ed25519 private key in PEM that signs checkpoints. Default: one is made in `dir`."""
    hmac_key: Secret | None = None
    """Key of the `hmac:` forms, at least 16 characters. Default: one is made beside the trail, as `hmac.key`."""
    policy: list[AuditRule] = Field(default_factory=list)
    """Rules, first match wins; what no rule is about is recorded as `metadata`."""
    redact: AuditRedact = AuditRedact()
    bodies: AuditBodies = AuditBodies()


class DemoVendor(_Section):
    """A provider that is there only while the environment has its key. It is configured like any other; without the key
    it is as if it were not written."""

    key: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    """The name of its key in the environment."""
    model: str
    """One of its models, to show in the greeting."""


class Demo(_Section):
    """Run the bundled echo model, so that the gateway can be tried without any account."""

    port: Annotated[int, Field(ge=0, le=65535)] = 8090
    """Port of the echo model on 127.0.0.1."""
    provider: Name = "demo"
    """The provider it stands in for; it accepts that provider's keys."""
    vendors: Mapping[Name, DemoVendor] = Field(default_factory=dict)
    """Provider → real vendor to use as soon as there is a key. The first that has one, else the echo model, is the
    default of tenants that say neither `default_provider` nor `providers`."""
    tenant_key: str | None = None
    """A tenant's key to show in the greeting. It is public, which is why it may stand here."""


class Config(_Section):
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


def load(path: Path, environ: Mapping[str, str] | None = None, *, files: set[Path] | None = None) -> Config:
    """Read and check the whole file. Raises ConfigError with every fault found. To `files` are added those that hold
    its secrets."""
    source = Source(path.parent, environ)
    try:
        return check(_read(path), source, name=str(path))
    finally:
        if files is not None:
            files |= source.files


def _read(path: Path) -> Any:
    try:
        return YAML(typ="safe", pure=True).load(path.read_text())
    except OSError as exc:
        raise ConfigError(str(path), [f"cannot be read: {exc.strerror}"]) from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(str(path), ["is not UTF-8 text"]) from exc
    except YAMLError as exc:
        raise ConfigError(str(path), [_yaml_fault(exc)]) from exc


def check(document: Any, source: Source, *, name: str) -> Config:
    """A document as a configuration; `name` is what faults call it. Raises ConfigError with every fault found."""
    try:
        document = _without_nulls(document)
        misnamed = list(_misnamed_vendors(document))
        config = Config.model_validate(_settle_demo(document, source.environ), context=source)
    except ValidationError as exc:
        raise ConfigError(name, [_fault(error) for error in exc.errors(include_url=False)]) from exc
    if faults := [*misnamed, *_contradictions(config)]:
        raise ConfigError(name, faults)
    return config


def _without_nulls(document: Any) -> Any:
    """A name without a value, such as a section of which every line is commented out, is as good as not written."""
    if isinstance(document, dict):
        return {name: _without_nulls(value) for name, value in document.items() if value is not None}
    return [_without_nulls(item) for item in document] if isinstance(document, list) else document


def _settle_demo(document: Any, environ: Mapping[str, str]) -> Any:
    """The document without the providers of demo vendors that have no key, and with the default that follows. What is
    not of the right form is left for the check of the whole."""
    demo = _section(document, "demo")
    listed = _section(demo, "vendors")
    providers, tenants = _section(document, "providers"), _section(document, "tenants")
    if not listed or not providers or not tenants:
        return document
    ready = [name for name in listed if environ.get(str(_section(listed, name).get("key"))) and name in providers]
    default = ready[0] if ready else demo.get("provider", "demo")
    return document | {
        "providers": {name: each for name, each in providers.items() if name in ready or name not in listed},
        "tenants": {
            name: {"default_provider": default, **each} if isinstance(each, dict) and "providers" not in each else each
            for name, each in tenants.items()
        },
    }


def _misnamed_vendors(document: Any) -> Iterator[str]:
    """Looked for before those without a key are taken away."""
    for name in _section(_section(document, "demo"), "vendors"):
        if name not in _section(document, "providers"):
            yield f"demo.vendors.{name}: no provider is named {name}"


def _section(document: Any, name: str) -> dict[str, Any]:
    section = document.get(name) if isinstance(document, dict) else None
    return section if isinstance(section, dict) else {}


def _yaml_fault(exc: YAMLError) -> str:
    """One line, without the source text that the parser quotes: it may hold a secret."""
    if isinstance(exc, MarkedYAMLError) and exc.problem_mark:
        mark, problem = exc.problem_mark, exc.problem or "not valid YAML"
        if twice := re.match(r'found duplicate key "([^"]*)"', problem):
            problem = f"'{twice[1]}' is given twice"
        else:
            # What is quoted is a character, or else the file's own words.
            problem = re.sub(r"""(['"])(.*?)\1""", lambda quoted: quoted[0] if len(quoted[2]) <= 2 else "…", problem)
        return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"
    return "not valid YAML"


_NEVER_SHOWN = frozenset({"secret", "digest", "dict_type", "list_type", "mapping_type", "model_type"})
"""Faults whose value is a secret, or may be one: it stands where a list or a section of secrets should."""


def _fault(error: Any) -> str:
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"])
    where = where.lstrip(".").replace(".[key]", "") or "the file"
    given = error["input"]
    if error["type"] == "extra_forbidden":
        return f"{where}: no such setting"
    if error["type"] == "missing":
        return f"{where}: is missing"
    shown = ""
    if error["type"] not in _NEVER_SHOWN and isinstance(given, (str, int, float)) and not set("@?") & set(str(given)):
        shown = f" (given: {given!r})"
    return f"{where}: {error['msg']}{shown}"


def _store_url_faults(url: str) -> Iterator[str]:
    if re.match(r"rediss?\+cluster://", url):
        if not re.fullmatch(r"[^/]+//([^/?]*@)?[^/?@]+/?(\?.*)?", url):
            yield "store.url: names servers of the cluster, host:port,host:port, and no database"
    elif not re.match(r"(rediss?|unix)://", url):
        yield "store.url: begins with redis://, rediss://, unix://, redis+cluster:// or rediss+cluster://"


def _contradictions(config: Config) -> Iterator[str]:
    """What no single field can see: names that lead nowhere, keys that stand twice, routes that collide."""
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
        yield f"{where}.kind: provider {entry.provider} serves threads, and has assistants only"
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
