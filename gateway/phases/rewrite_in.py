"""The provider's answer as the caller gets it: public ids, the reference's shapes, one kind of error. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import unescape
from typing import Any

from gateway import codec, google_errors, shapes
from gateway.errors import NEVER_REPEAT, GatewayError, error_fields
from gateway.lists import Page, complete
from gateway.model import Reply, Target
from gateway.operations import DELETED_OBJECTS, Operation
from gateway.phases.judge import Refusal, blames_key, may_have_run, says_no_money
from gateway.public_ids import PublicIds, rewrite_all_prose

CROSSING_TO_CALLER = (
    "openai-processing-ms",
    "openai-version",
    "openai-poll-after-ms",
    "retry-after",
    "retry-after-ms",
)
"""A provider's headers that callers get; besides them `x-ratelimit-*` on accounts that are `owned_by` the tenant, and
`x-request-id` as `x-upstream-request-id`. Everything else stays here: cookies, organisation, project, servers."""

_PROSE_LIMIT = 2000
_TAGS = re.compile(r"<(script|style)\b.*?(?:</\1\s*>|\Z)|<[^<>]*>", re.DOTALL | re.IGNORECASE)
"""Written so that the time grows with the text and not with its square."""


def crossing_headers(headers: Mapping[str, str], target: Target) -> dict[str, str]:
    """The part of a provider's headers that callers get."""
    crossing = {name: headers[name] for name in CROSSING_TO_CALLER if name in headers}
    if target.account.owned_by is not None:
        crossing |= {name.lower(): value for name, value in headers.items() if name.lower().startswith("x-ratelimit-")}
    if "x-request-id" in headers:
        crossing["x-upstream-request-id"] = headers["x-request-id"]
    return crossing


def rewrite_in(
    operation: Operation, document: dict[str, Any], *, target: Target, public: PublicIds, page: Page | None
) -> dict[str, Any]:
    """A successful answer in the reference's shape, with public ids. Changes `document`."""
    mend = target.provider.mend
    if operation.answers == "list":
        if "has_more" not in document and page is not None:
            document = complete(document, page)
        for item in document["data"]:
            if type(item) is dict:
                mend(item)
        listed = {"data": [operation.shape], "first_id": operation.kind, "last_id": operation.kind}
        shapes.rewrite(document, listed, public)
    else:
        if document or operation.answers != "deleted":
            mend(document)
        shapes.rewrite(document, operation.shape, public)
    return document


def deleted(operation: Operation, shown: str) -> dict[str, Any]:
    """The answer of a deletion that is known to have happened though its own answer never came."""
    return {"id": shown, "object": DELETED_OBJECTS[operation.name], "deleted": True}


def as_reply(document: dict[str, Any], headers: Mapping[str, str]) -> Reply:
    """Successes are 200: some vendors say 201, and programs compare."""
    return Reply(200, codec.dumps(document), headers)


def read_refusal(status: int, raw: bytes) -> Refusal:
    """What an error answer says to us: its status and what is in its body, whatever its shape. A 400 that wants
    money is a 402."""
    fields = error_fields(raw)
    code = fields.get("code")
    code = code if isinstance(code, str) else google_errors.reason_of(fields)
    status = 402 if status == 400 and says_no_money(fields.get("message")) else status
    return Refusal(status, code, google_errors.rest_s(fields))


def refuse(
    operation: Operation,
    refusal: Refusal,
    raw: bytes,
    *,
    headers: Mapping[str, str],
    target: Target,
    public: PublicIds,
) -> Reply:
    """The provider's own last words, in OpenAI's envelope, with public ids and masked secrets.

    Raises GatewayError 502 `upstream_credentials_exhausted` in place of what concerns our keys.
    """
    if blames_key(refusal):
        raise GatewayError(
            502,
            f"provider '{target.provider.name}' accepts none of the keys of account '{target.account.name}'",
            code="upstream_credentials_exhausted",
            type="server_error",
            source="gateway",
            headers=NEVER_REPEAT,
        )
    error = in_envelope(raw, public, default_type=_default_type(refusal.status))
    status = refusal.status if refusal.status >= 400 else 502  # a redirect is no answer of this API
    answered = crossing_headers(headers, target) | (NEVER_REPEAT if may_have_run(operation, refusal) else {})
    return Reply(status, error, answered)


def in_envelope(raw: bytes, public: PublicIds, *, default_type: str, default_code: str | None = None) -> bytes:
    """What a provider says went wrong, in whatever shape, as OpenAI's SDKs expect it of answers and stream events."""
    fields = error_fields(raw)
    message = fields.pop("message", None) or _prose(raw)
    param = fields.pop("param", None)
    error = {
        "message": public.in_prose(message)[:_PROSE_LIMIT],
        "type": fields.pop("type", None) or default_type,
        "param": param,
        "code": fields.pop("code", None) or default_code,
    }
    return codec.dumps({"error": error | rewrite_all_prose(fields, public.in_prose)})


def _prose(raw: bytes) -> str:
    """Text or HTML as one line of words."""
    text = unescape(_TAGS.sub(" ", raw[: 64 * 1024].decode("utf-8", "replace")))
    return " ".join(text.split()) or "the provider gave no reason"


def _default_type(status: int) -> str:
    if status == 429:
        return "rate_limit_error"
    return "server_error" if status >= 500 else "invalid_request_error"
