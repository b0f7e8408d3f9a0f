"""Every operation of the API in one table: Assistants and Threads (v2, and what only v1 had), files, vector stores.

A template's parameter is named after the kind of its id: `/threads/{thread}/runs/{run}`. Source of paths, bodies and
answers: the OpenAPI description of 2026-08-21 and the SDK's types.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal
from urllib.parse import unquote

from gateway import shapes
from gateway.errors import GatewayError
from gateway.shapes import Shape

Answers = Literal["object", "list", "deleted", "bytes", "page", "any"]
Version = Literal["v1", "v2"]
"""Of the protocol, as a caller or a provider speaks it."""


@dataclass(frozen=True)
class Operation:
    """One row of the table.

    `answers` says what a success looks like: one object, a list with cursors, a deletion, raw bytes, a page whose
    cursor is the vendor's own, or anything at all. `shape` is where ids stand in the object or in each item of the
    list. `kind` is what the operation is about: the kind of the object answered, or of the listed items and hence of
    its cursors.
    """

    name: str
    method: str
    template: str
    kind: str
    answers: Answers
    shape: Shape
    body: Shape | None = None
    """Ids in the JSON body; None for an operation that takes no JSON object."""
    upload: bool = False
    """The body is multipart/form-data and goes through as it comes."""
    streams: bool = False
    """Answers events when the body says `"stream": true`."""
    cacheable: bool = False
    """A success may be kept and answered again until something under the thread is written."""
    owned: Literal["create", "delete", "list"] | None = None
    """What it does to the account-level objects whose owner the gateway remembers."""
    default_limit: int = 20
    max_limit: int = 100
    only_in: Version | None = None
    """The version of the protocol that alone has it."""
    is_repeatable: bool = False
    """A POST that leaves nothing behind: sent twice, it costs twice and does no harm."""
    filters: tuple[str, ...] = ()
    """Query parameters that a list kept by the gateway must apply itself, each comparing a field of the object."""

    @property
    def is_safe(self) -> bool:
        """Whether sending it twice does no more than sending it once."""
        return self.is_repeatable or self.method in ("GET", "DELETE")

    @cached_property
    def sent(self) -> Shape:
        """Where an id in a JSON body must be the caller's: where `body` has ids, and in fields that hold ids in the
        answer. A vendor that keeps what it is sent would give such a field back, and there an id is made public."""
        if not isinstance(self.body, dict) or self.answers != "object":
            return self.body or {}
        told = self.shape if isinstance(self.shape, dict) else {}
        return {name: each for name, each in told.items() if _is_ids(each)} | self.body

    @property
    def changes(self) -> str | None:
        """The kind of the account-level object that it changes or deletes, itself or what is below it; None where it
        makes a new one, only reads, or is about a thread."""
        root = self.template.split("/")[2:3]
        if self.method == "GET" or self.answers == "page" or not root:
            return None
        kind = root[0].strip("{}")
        return kind if kind in ("assistant", "file", "vector_store") else None

    @property
    def is_of_files(self) -> bool:
        """Whether it is about files or vector stores, and about nothing else."""
        return self.template.startswith(("/files", "/vector_stores"))

    @property
    def makes_run(self) -> bool:
        return self.name in ("create_run", "create_thread_and_run")

    @property
    def query_kinds(self) -> Mapping[str, str]:
        """Which query parameters hold ids, and of which kind."""
        if self.answers != "list":
            return {}
        cursors = {"after": self.kind, "before": self.kind}
        return cursors | {"run_id": "run"} if self.name == "list_messages" else cursors


def _is_ids(shape: Shape) -> bool:
    """Whether it is an id, or a list of ids."""
    return isinstance(shape[0] if isinstance(shape, list) else shape, str) and shape != shapes.PROSE


def _rows(
    template: str, kind: str, shape: Shape, *, body: Shape, modify: Shape, cacheable: bool = False
) -> list[Operation]:
    """Create, retrieve, modify and delete of one kind of object."""
    one = f"{template}/{{{kind}}}"
    owned = kind in ("assistant", "vector_store")
    return [
        Operation(
            f"create_{kind}",
            "POST",
            template,
            kind,
            "object",
            shape,
            body=body,
            owned="create" if owned else None,
        ),
        Operation(f"get_{kind}", "GET", one, kind, "object", shape, cacheable=cacheable),
        Operation(f"modify_{kind}", "POST", one, kind, "object", shape, body=modify),
        Operation(f"delete_{kind}", "DELETE", one, kind, "deleted", {"id": kind}, owned="delete" if owned else None),
    ]


_RUNS = "/threads/{thread}/runs"
_RUN = "/threads/{thread}/runs/{run}"
_MESSAGES = "/threads/{thread}/messages"
_ASSISTANT_FILES = "/assistants/{assistant}/files"
_MESSAGE_FILES = "/threads/{thread}/messages/{message}/files"
_STORE = "/vector_stores/{vector_store}"
_BATCHES = "/vector_stores/{vector_store}/file_batches"
_RESOURCES: Shape = {"tool_resources": shapes.NEW_THREAD["tool_resources"]}  # type: ignore[index, call-overload]

OPERATIONS: tuple[Operation, ...] = (
    # assistants
    Operation("list_assistants", "GET", "/assistants", "assistant", "list", shapes.ASSISTANT, owned="list"),
    *_rows(
        "/assistants",
        "assistant",
        shapes.ASSISTANT,
        body=shapes.NEW_ASSISTANT,
        modify=shapes.NEW_ASSISTANT,
        cacheable=True,
    ),
    Operation("list_assistant_files", "GET", _ASSISTANT_FILES, "file", "list", shapes.ASSISTANT_FILE, only_in="v1"),
    Operation(
        "create_assistant_file",
        "POST",
        _ASSISTANT_FILES,
        "file",
        "object",
        shapes.ASSISTANT_FILE,
        body={"file_id": "file"},
        only_in="v1",
    ),
    Operation(
        "get_assistant_file",
        "GET",
        f"{_ASSISTANT_FILES}/{{file}}",
        "file",
        "object",
        shapes.ASSISTANT_FILE,
        only_in="v1",
    ),
    Operation(
        "delete_assistant_file",
        "DELETE",
        f"{_ASSISTANT_FILES}/{{file}}",
        "file",
        "deleted",
        {"id": "file"},
        only_in="v1",
    ),
    # threads
    *_rows(
        "/threads",
        "thread",
        shapes.THREAD,
        body=shapes.NEW_THREAD,
        modify=_RESOURCES,
        cacheable=True,
    ),
    Operation(
        "create_thread_and_run",
        "POST",
        "/threads/runs",
        "run",
        "object",
        shapes.RUN,
        body=shapes.NEW_THREAD_AND_RUN,
        streams=True,
    ),
    # messages
    Operation("list_messages", "GET", _MESSAGES, "message", "list", shapes.MESSAGE, cacheable=True),
    *_rows(
        _MESSAGES,
        "message",
        shapes.MESSAGE,
        body=shapes.NEW_MESSAGE,
        modify={},
        cacheable=True,
    ),
    Operation("list_message_files", "GET", _MESSAGE_FILES, "file", "list", shapes.MESSAGE_FILE, only_in="v1"),
    Operation(
        "get_message_file", "GET", f"{_MESSAGE_FILES}/{{file}}", "file", "object", shapes.MESSAGE_FILE, only_in="v1"
    ),
    # runs
    Operation("list_runs", "GET", _RUNS, "run", "list", shapes.RUN),
    Operation("create_run", "POST", _RUNS, "run", "object", shapes.RUN, body=shapes.NEW_RUN, streams=True),
    Operation("get_run", "GET", _RUN, "run", "object", shapes.RUN, cacheable=True),
    Operation("modify_run", "POST", _RUN, "run", "object", shapes.RUN, body={}),
    Operation("cancel_run", "POST", f"{_RUN}/cancel", "run", "object", shapes.RUN, body={}),
    Operation(
        "submit_tool_outputs",
        "POST",
        f"{_RUN}/submit_tool_outputs",
        "run",
        "object",
        shapes.RUN,
        body={},  # tool_call ids belong to their run and stay as the model made them
        streams=True,
    ),
    # steps
    Operation("list_run_steps", "GET", f"{_RUN}/steps", "step", "list", shapes.STEP, cacheable=True),
    Operation("get_run_step", "GET", f"{_RUN}/steps/{{step}}", "step", "object", shapes.STEP, cacheable=True),
    # files
    Operation("upload_file", "POST", "/files", "file", "object", shapes.FILE, upload=True, owned="create"),
    Operation(
        "list_files",
        "GET",
        "/files",
        "file",
        "list",
        shapes.FILE,
        owned="list",
        default_limit=10_000,
        max_limit=10_000,
        filters=("purpose",),
    ),
    Operation("get_file", "GET", "/files/{file}", "file", "object", shapes.FILE),
    Operation("delete_file", "DELETE", "/files/{file}", "file", "deleted", {"id": "file"}, owned="delete"),
    Operation("get_file_content", "GET", "/files/{file}/content", "file", "bytes", {}),
    # vector stores
    Operation(
        "list_vector_stores",
        "GET",
        "/vector_stores",
        "vector_store",
        "list",
        shapes.VECTOR_STORE,
        owned="list",
    ),
    *_rows(
        "/vector_stores",
        "vector_store",
        shapes.VECTOR_STORE,
        body=shapes.NEW_VECTOR_STORE,
        modify={},
    ),
    Operation("list_store_files", "GET", f"{_STORE}/files", "file", "list", shapes.STORE_FILE),
    Operation(
        "create_store_file",
        "POST",
        f"{_STORE}/files",
        "file",
        "object",
        shapes.STORE_FILE,
        body=shapes.NEW_STORE_FILE,
    ),
    Operation("get_store_file", "GET", f"{_STORE}/files/{{file}}", "file", "object", shapes.STORE_FILE),
    Operation("modify_store_file", "POST", f"{_STORE}/files/{{file}}", "file", "object", shapes.STORE_FILE, body={}),
    Operation("delete_store_file", "DELETE", f"{_STORE}/files/{{file}}", "file", "deleted", {"id": "file"}),
    Operation("get_store_file_content", "GET", f"{_STORE}/files/{{file}}/content", "file", "page", {"file_id": "file"}),
    Operation("create_batch", "POST", _BATCHES, "batch", "object", shapes.BATCH, body=shapes.NEW_BATCH),
    Operation("get_batch", "GET", f"{_BATCHES}/{{batch}}", "batch", "object", shapes.BATCH),
    Operation("cancel_batch", "POST", f"{_BATCHES}/{{batch}}/cancel", "batch", "object", shapes.BATCH, body={}),
    Operation("list_batch_files", "GET", f"{_BATCHES}/{{batch}}/files", "file", "list", shapes.STORE_FILE),
    Operation("search_vector_store", "POST", f"{_STORE}/search", "file", "page", shapes.SEARCH_PAGE, body={}),
)

BY_NAME: Mapping[str, Operation] = {operation.name: operation for operation in OPERATIONS}

DELETED_OBJECTS = {
    "delete_assistant": "assistant.deleted",
    "delete_thread": "thread.deleted",
    "delete_message": "thread.message.deleted",
    "delete_assistant_file": "assistant.file.deleted",
    "delete_file": "file",
    "delete_vector_store": "vector_store.deleted",
    "delete_store_file": "vector_store.file.deleted",
}
"""The `object` of each deletion's answer, for the deletion whose first answer was lost on the way."""


@dataclass(frozen=True)
class Matched:
    """What a request's path says: the operation, its ids as shown (kind → public id, not yet verified), and the
    provider that the base URL names, if any."""

    operation: Operation
    shown: Mapping[str, str]
    provider: str | None = None


@dataclass
class _Node:
    literals: dict[str, _Node] = field(default_factory=dict)
    parameter: tuple[str, _Node] | None = None
    operations: dict[str, Operation] = field(default_factory=dict)


def _build() -> _Node:
    root = _Node()
    for operation in OPERATIONS:
        node = root
        for segment in operation.template.strip("/").split("/"):
            if segment.startswith("{"):
                if node.parameter is None:
                    node.parameter = (segment.strip("{}"), _Node())
                node = node.parameter[1]
            else:
                node = node.literals.setdefault(segment, _Node())
        node.operations[operation.method] = operation
    return root


_ROOT = _build()


def match(method: str, raw_path: str, version: Version = "v2") -> Matched:
    """The operation of a request, under `/v1/…`, at the root, under `/openai/…` as Azure's clients call it, or any of
    these under `/providers/{name}`. `version` is the protocol that the caller speaks.

    Raises GatewayError 404 for a path of no operation and 405, with `allow`, for a wrong method.
    """
    matched = find(method, raw_path, version)
    if matched is None:
        raise unknown_path(method, raw_path)
    return matched


def split(raw_path: str) -> tuple[str | None, list[str]]:
    """The provider that the base URL names, and the path's segments below the base URL, as they came."""
    segments = raw_path.split("/")[1:]
    provider = None
    if len(segments) > 2 and segments[0] == "providers":
        provider, segments = unquote(segments[1]), segments[2:]
    if segments[:1] in (["v1"], ["openai"]):
        segments = segments[1:]
    return provider, segments


def find(method: str, raw_path: str, version: Version = "v2") -> Matched | None:
    """As `match`, but None for a path of no operation."""
    provider, segments = split(raw_path)
    found = [
        (spoken, shown)
        for operations, shown in _matching(_ROOT, segments, {})
        if (spoken := {name: each for name, each in operations.items() if each.only_in in (None, version)})
    ]
    for operations, shown in found:
        if operation := operations.get(method):
            return Matched(operation, shown, provider)
    if not found:
        return None
    allowed = ", ".join(sorted({name for operations, _ in found for name in operations}))
    raise GatewayError(
        405,
        f"Not allowed to {method} on {raw_path[:200]}; allowed: {allowed}",
        code="method_not_allowed",
        headers={"allow": allowed},
    )


def _matching(
    node: _Node, segments: Sequence[str], shown: dict[str, str]
) -> list[tuple[dict[str, Operation], dict[str, str]]]:
    """All rows of the table that a path can mean, literal words first: `POST /threads/runs` is not a thread's id."""
    if not segments:
        return [(node.operations, shown)] if node.operations else []
    first, rest = segments[0], segments[1:]
    found = []
    if literal := node.literals.get(first):
        found += _matching(literal, rest, shown)
    if node.parameter and first:
        kind, below = node.parameter
        found += _matching(below, rest, shown | {kind: unquote(first)})
    return found


def unknown_path(method: str, raw_path: str, hint: str = "") -> GatewayError:
    """The 404 for a path of no operation; `hint` says what would make it one."""
    if split(raw_path)[1][:1] == ["uploads"]:
        message = "upload in parts is not offered by this gateway; use POST /v1/files"
    else:
        message = f"Invalid URL ({method} {raw_path[:200]}){hint}"
    return GatewayError(404, message, code="unknown_url")
