"""One attempt at a provider: send, and read what has to be read whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway import codec
from gateway.config import Limits
from gateway.errors import AttemptFailed
from gateway.model import Outbound
from gateway.operations import DELETED_OBJECTS, Operation
from gateway.phases.receive import Body
from gateway.upstream import Relayed, Upstream


@dataclass(frozen=True)
class Response:
    """What an attempt brought. Of a success that is relayed, `relayed` is still open and must be left as a context;
    of any other answer `raw` is the whole body, and `document` its JSON if it is a success. `key` is the fingerprint of
    the key that was used, where the answer is one provider's to one call."""

    status: int
    headers: Mapping[str, str]
    raw: bytes = b""
    document: Any = None
    relayed: Relayed | None = None
    key: str = ""
    again: str | None = None
    """What leads to the beginning of the stream that is relayed, where it can be told again: ids of thread and run, and
    the event before it."""

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


async def send(
    operation: Operation,
    outbound: Outbound,
    body: Body,
    payload: bytes,
    *,
    key: str,
    credentials: Mapping[str, str],
    upstream: Upstream,
    limits: Limits,
    deadline: float,
) -> Response:
    """Send once and wait for the answer. `payload` are the rewritten bytes of a body that is not spooled;
    `credentials` the headers that present the key, `key` its fingerprint.

    Raises AttemptFailed when the provider gave no usable answer: unreachable, too slow, cut off, not JSON.
    """
    answer = await upstream.open(
        outbound,
        credentials,
        body=body.chunks() or payload,
        size_bytes=body.spooled.size_bytes if body.spooled else len(payload),
        deadline=deadline,
    )
    is_success = 200 <= answer.status < 300
    if is_success and (operation.answers in ("bytes", "any") or (body.wants_stream and operation.streams)):
        return Response(answer.status, answer.headers, relayed=answer, key=key)
    async with answer:
        raw = await answer.read(limits.answer_bytes)
    document = _parse(operation, raw) if is_success else None
    return Response(answer.status, answer.headers, raw, document, key=key)


def _parse(operation: Operation, raw: bytes) -> Any:
    """The JSON of a success. A deletion may have nothing to say."""
    if not raw.strip() and operation.name in DELETED_OBJECTS:
        return {}
    try:
        document = codec.loads(raw)
    except ValueError as exc:
        raise _broken("answered something that is not JSON") from exc
    if operation.answers == "list":
        document = {"data": document} if type(document) is list else document
        if type(document) is not dict or type(document.get("data")) is not list:
            raise _broken("answered something that is not a list")
    elif type(document) is not dict:
        raise _broken("answered something that is not an object")
    return document


def _broken(what: str) -> AttemptFailed:
    return AttemptFailed(502, what, code="provider_broken_answer")
