"""How a vendor speaks, as data. The defaults are OpenAI's ways; a dialect names what is different."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from gateway.demo.ground import OPENAI_PREFIXES
from gateway.demo.refusal import Json, Refused

HeaderMaker = Callable[[str, Mapping[str, str]], Mapping[str, str]]


def openai_error(refused: Refused) -> Json:
    fields = {"message": refused.message, "type": refused.type, "param": refused.param, "code": refused.code}
    return {"error": fields}


def bare_error(refused: Refused) -> Json:
    """The body of common web frameworks, for vendors that document none."""
    return {
        "statusCode": refused.status,
        "error": HTTPStatus(refused.status).phrase,
        "message": refused.message,
    }


def no_headers(account: str, asked: Mapping[str, str]) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True)
class Dialect:
    """The ways in which vendors differ.

    `bare_lists`, `metadata_null` and `create_status` concern assistants and threads only: files and vector
    stores are not in the documentation of the vendors that need them, and are as at OpenAI.
    """

    name: str
    prefix: str = ""
    """What stands before every path."""
    create_status: int = 200
    """Of every creation, streamed or not."""
    bare_lists: bool = False
    """Messages, runs and steps come as an array, assistants as a list object without cursors."""
    metadata_null: bool = False
    """Empty metadata comes back as null."""
    needs_beta_header: bool = False
    poll_after_ms: int | None = None
    """Sent with a run that has not ended, as a hint to polling callers."""
    id_prefixes: Mapping[str, str] = field(default_factory=lambda: OPENAI_PREFIXES)
    error_body: Callable[[Refused], Json] = openai_error
    headers: HeaderMaker = no_headers
    """From the account's name and the request's headers, the vendor's own headers of every answer."""

    def shape_object(self, record: Json) -> Json:
        if self.metadata_null and record.get("metadata") == {}:
            return record | {"metadata": None}
        return record

    def shape_list(self, page: Json, *, is_of_assistants: bool) -> Json | list[Json]:
        rows = [self.shape_object(row) for row in page["data"]]
        if not self.bare_lists:
            return page | {"data": rows}
        return {"object": "list", "data": rows} if is_of_assistants else rows


# Read 2026-11-21: docs.aimlapi.com, the Assistants pages. The body of an error is not documented there.
AIMLAPI = Dialect("aimlapi", create_status=201, bare_lists=True, metadata_null=True)
