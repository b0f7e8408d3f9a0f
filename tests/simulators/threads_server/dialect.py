"""How a vendor speaks, as data and small functions. Where a dialect says nothing, it speaks as OpenAI did."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from tests.simulators.threads_server.ask import Ask, bearer_key, read_json
from tests.simulators.threads_server.ground import OPENAI_PREFIXES
from tests.simulators.threads_server.refusal import Json, Refused
from tests.simulators.threads_server.routes import ROUTES, Route

HeaderMaker = Callable[[str, Mapping[str, str]], Mapping[str, str]]


def openai_error(refused: Refused) -> Json:
    kind = "server_error" if refused.status >= 500 else "invalid_request_error"
    return {"error": {"message": refused.message, "type": kind, "param": refused.param, "code": refused.code}}


def bare_error(refused: Refused) -> Json:
    """The body of common web frameworks, for vendors that document none."""
    return {
        "statusCode": refused.status,
        "error": HTTPStatus(refused.status).phrase,
        "message": refused.message,
    }


def openai_wrong_key(key: str | None) -> Refused:
    if key is None:
        text = "You didn't provide an API key. You need to provide your API key in an Authorization header "
        return Refused(text + "using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).", status=401)
    masked = key[:8] + "*" * max(len(key) - 12, 3) + key[-4:] if len(key) > 12 else "*" * len(key)
    link = "https://platform.openai.com/account/api-keys"
    message = f"Incorrect API key provided: {masked}. You can find your API key at {link}."
    return Refused(message, status=401, code="invalid_api_key")


def no_headers(account: str, asked: Mapping[str, str]) -> Mapping[str, str]:
    return {}


def accept_all(route: Route, ask: Ask) -> None:
    """Nothing is wanted of a request beside its key."""


def as_sent(route: Route, body: bytes) -> Json:
    return read_json(body)


def as_it_is(record: Json) -> Json:
    return record


def null_metadata(record: Json) -> Json:
    """Empty metadata comes back as null."""
    return record | {"metadata": None} if record.get("metadata") == {} else record


@dataclass(frozen=True)
class Dialect:
    """The ways in which vendors differ.

    `create_status`, `bare_lists`, `shape_object` and `event_names` concern assistants and threads only: files
    and vector stores are not in the documentation of the vendors that need them, and are as at OpenAI.
    """

    name: str
    prefix: str = ""
    """What stands before every path."""
    routes: tuple[Route, ...] = ROUTES
    """The operations there are; the first that matches answers."""
    id_prefixes: Mapping[str, str] = field(default_factory=lambda: OPENAI_PREFIXES)

    read_key: Callable[[Mapping[str, str]], str | None] = bearer_key
    """The key in a request's headers, None where there is none."""
    needs_beta_header: str | None = None
    """The version that `OpenAI-Beta` has to name, and no other, under /assistants and /threads."""
    check: Callable[[Route, Ask], None] = accept_all
    """Raises `Refused` for what the vendor does not want in a request, or misses in it: a query parameter, say."""
    read_body: Callable[[Route, bytes], Json] = as_sent
    """The body as a world takes it, in the shapes of OpenAI's version 2. Raises `Refused`."""

    create_status: int = 200
    """Of every creation, streamed or not."""
    bare_lists: bool = False
    """Messages, runs and steps come as an array, assistants as a list object without cursors."""
    shape_object: Callable[[Json], Json] = as_it_is
    """An object of a world as the vendor shows it: alone, in a list or in an event. Makes a new one."""
    event_names: Mapping[str, str] = field(default_factory=dict)
    """Those events that the vendor calls differently."""
    poll_after_ms: int | None = None
    """Sent with a run that has not ended, as a hint to polling callers."""
    headers: HeaderMaker = no_headers
    """From the account's name and the request's headers, the vendor's own headers of every answer."""
    error_body: Callable[[Refused], Json] = openai_error
    wrong_key: Callable[[str | None], Refused] = openai_wrong_key
    """The refusal of this key, which is unknown, or of a request without one."""

    def shape_list(self, page: Json, *, is_of_assistants: bool) -> Json | list[Json]:
        rows = [self.shape_object(row) for row in page["data"]]
        if not self.bare_lists:
            return page | {"data": rows}
        return {"object": "list", "data": rows} if is_of_assistants else rows


# Read 2026-11-21: docs.aimlapi.com, the Assistants pages. The body of an error is not documented there.
AIMLAPI = Dialect("aimlapi", create_status=201, bare_lists=True, shape_object=null_metadata)
