"""What can go wrong, and the one way in which it is told to callers.

    GatewayError     facts: status, code, source, param, may a client repeat it
    ├─ (as is)       raised by a phase, told to the caller as OpenAI's envelope
    └─ AttemptFailed an attempt ended without a usable answer; `gateway.flow` decides what follows
    BrokenOff        our headers are out already: the connection is cut, because no error can be answered any more

`source` says who has to act: the caller, the provider, or whoever runs the gateway.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gateway import codec

Source = Literal["caller", "provider", "gateway"]

NEVER_REPEAT = {"x-should-retry": "false"}
"""Stops the retries the official SDKs make by themselves on 408, 409, 429 and 5xx, POSTs included."""

_DEPTH_LIMIT = 100

KIND_WORDS = {"step": "run step", "vector_store": "vector store", "batch": "file batch"}


@dataclass
class GatewayError(Exception):
    """A request ends with this answer. `message` never holds a secret or a body; it starts lower case only when
    it is our own sentence and not one that OpenAI's clients parse."""

    status: int
    message: str
    code: str | None = None
    type: str = "invalid_request_error"
    param: str | None = None
    source: Source = "caller"
    headers: Mapping[str, str] = field(default_factory=dict)
    may_have_run: bool = False
    """What was asked may have been done all the same."""

    def __str__(self) -> str:
        return f"{self.status} {self.code or self.type}: {self.message}"


@dataclass
class AttemptFailed(GatewayError):
    """An attempt at a provider gave no usable answer.

    `arrived` is False only when it is certain that the provider saw nothing of the request (refused, not resolved,
    no TLS): then any request may be sent again.
    """

    arrived: bool = True

    def __post_init__(self) -> None:
        self.source = "provider"
        self.type = "server_error"


class BrokenOff(ConnectionError):
    """An answer had begun and cannot be ended honestly. aiohttp closes the connection when a handler raises this."""


def envelope(error: GatewayError) -> bytes:
    """The body OpenAI's SDKs expect of an error."""
    return codec.dumps(
        {"error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code}}
    )


def unknown_id(kind: str, shown: str) -> GatewayError:
    """The same words for an id that never was, a forged one and another tenant's: nobody learns which."""
    return GatewayError(404, f"No {KIND_WORDS.get(kind, kind)} found with id '{shown}'.")


def bad_request(message: str, *, param: str | None = None, code: str | None = None, status: int = 400) -> GatewayError:
    return GatewayError(status, message, code=code, param=param)


def wrong_type(param: str, expected: str, value: Any) -> GatewayError:
    """OpenAI's own sentence for a value of the wrong JSON type."""
    got = {bool: "a boolean", dict: "an object", list: "an array", str: "a string", int: "an integer"}
    seen = got.get(type(value), "a decimal number" if isinstance(value, float) else "null")
    message = f"Invalid type for '{param}': expected {expected}, but got {seen} instead."
    return bad_request(message, param=param, code="invalid_type")


def tenant_disabled(reason: str) -> GatewayError:
    """`reason` is what the person wrote who disabled it."""
    message = f"this gateway serves you no more for the time being: {reason}"
    return GatewayError(403, message, code="tenant_disabled", type="permission_error")


def provider_disabled(name: str, reason: str) -> GatewayError:
    return GatewayError(
        503,
        f"provider '{name}' is out of use: {reason}",
        code="provider_disabled",
        type="server_error",
        source="gateway",
        headers={"retry-after": "30"},
    )


def audit_unavailable() -> GatewayError:
    return GatewayError(
        503,
        "nothing is done that cannot be recorded, and the gateway's audit trail cannot be written; try again shortly",
        code="audit_unavailable",
        type="server_error",
        source="gateway",
        headers={"retry-after": "1"},
    )


def store_unavailable(what: str, advice: str = "try again shortly") -> GatewayError:
    return GatewayError(
        503,
        f"{what} needs the gateway's store, which cannot be reached; {advice}",
        code="store_unavailable",
        type="server_error",
        source="gateway",
        headers={"retry-after": "1"},
    )


def error_fields(raw: bytes) -> dict[str, Any]:
    """The fields of an error body of any shape, also in a list, as Google has it where streams are JSON; `message` is a
    text or missing. What is no JSON, or absurdly deep, has none."""
    try:
        document = codec.loads(raw)
    except ValueError:
        return {}
    if codec.is_deeper_than(document, raw, _DEPTH_LIMIT):
        return {}
    if type(document) is list and len(document) == 1 and type(document[0]) is dict and "error" in document[0]:
        document = document[0]
    inner = document.get("error") if type(document) is dict else None
    if type(inner) is dict:
        fields = dict(inner)
    elif type(document) is dict:
        fields = {name: document[name] for name in ("type", "param", "code") if name in document}
        # Frameworks say the status in `error` ("Not Found") and what happened beside it.
        names = ("message", "detail", "description", "error_description", "error", "title")
        fields["message"] = next((document[name] for name in names if document.get(name)), None)
    else:
        fields = {"message": document}
    message = fields.get("message")
    if message is not None and type(message) is not str:
        fields["message"] = codec.dumps(message).decode()
    return fields
