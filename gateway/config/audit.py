"""Sections about the audit trail."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from gateway.audit import patterns, policy, redaction
from gateway.config.values import Bytes, Name, Seconds, Secret, SecretUrl, Section


class CheckpointsTo(Section):
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


class AuditRule(Section):
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


class AuditRedact(Section):
    """What never stands in the trail or in kept bodies as itself, but as `hmac:<kid>:<hex>`."""

    paths: list[Annotated[str, AfterValidator(_check_path)]] = Field(default=["metadata.*"])
    """Fields of bodies, at any depth; `*` for any name, `$.` in front for the top of the body. Lists need no word."""
    patterns: list[Annotated[str, AfterValidator(_check_pattern)]] = Field(default=["email", "card", "key"])
    """What is looked for in every text: `email`, `card`, `key`, and expressions of your own in the README's dialect."""
    clear: list[Name] = Field(default_factory=list)
    """Facts of a record that stand as they are beside those that always do. The patterns count there too."""


class AuditBodies(Section):
    """Bodies that the policy keeps. They lie apart from the records, and may go sooner."""

    max_bytes: Bytes = 256 * 1024
    """Of one body; what is longer is cut and says so. JSON of more than 16 times this is not kept, only its digest."""
    binary: bool = False
    """Keep also what is not JSON, such as uploads that are held in memory, as it is: nothing in it is redacted."""
    keep_s: Seconds = 30 * 86_400
    """How long bodies are kept. The records that name them stay."""
    keep_bytes: Bytes = 10 * 1024 * 1024 * 1024
    """How much the bodies of this folder may take, compressed; beyond it the oldest go."""


class Audit(Section):
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
