"""What the conformance tests share: one example of every operation, a stage of objects to try it on, and a memory of
every id that a vendor ever made.

Vendors differ in the version of the protocol they speak. What v1 lacks stands here and nowhere else: which operations
(`having`), and which examples there are instead (`examples_of`). That it is refused is the promise of
`test_v1_providers.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import openai
import orjson
import pytest
from yarl import URL

from gateway.ids import TAIL_LENGTH, IdSigner, route_of
from gateway.operations import BY_NAME, OPERATIONS, Version
from gateway.vendors import VENDORS as KNOWN
from tests.conftest import SIGNING_KEY, TENANT_KEYS, Running, StartGateway, StartVendor, Vendor, edit
from tests.simulators import find_vendors
from tests.simulators.threads_server.dialect import openai_error
from tests.simulators.threads_server.ground import Ids

VENDORS = sorted(find_vendors().keys() & KNOWN)
NEWEST = f"openai-python {openai.__version__.partition('.')[0]}.x"
"""The SDK in the suite's own environment, as a client."""


def names_params(vendor: Vendor) -> bool:
    """Whether the vendor's errors say which parameter they are about; those of Azure's kind do not."""
    return vendor.simulator.dialect.error_body is openai_error


def takes_unknown_fields(vendor: Vendor) -> bool:
    """Whether the vendor takes fields that it does not know; the one of v1 refuses them by name."""
    return version_of(vendor) == "v2"


def query_heard(vendor: Vendor) -> str:
    """The last query that reached the vendor, without what its dialect puts into every URL."""
    return re.sub(r"&?api-version=[^&]*$", "", vendor.simulator.journal[-1].query)


UNCACHED = edit(cache__ttl_s=0)
"""For tests that change a vendor's world behind the gateway's back."""


@pytest.fixture
def start_gateway(start_gateway: StartGateway) -> StartGateway:
    """With the cache that other tests do without: what is promised here holds with it."""

    async def start(*vendors: Vendor, change: Callable[[dict[str, Any]], None] = lambda settings: None) -> Running:
        def cached(settings: dict[str, Any]) -> None:
            settings["cache"] = {}
            change(settings)

        return await start_gateway(*vendors, change=cached)

    return start


TWINS = frozenset({"apilaplas"})
"""Vendors that differ from another in their address alone; what the README's table counts is tested of them too."""
COUNTED = frozenset({"test_sdk", "test_clients", "test_protocol_v1", "test_v1_providers"})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The rest of what is the same for twins is left to `make test-long`."""
    for item in items:
        named = getattr(item, "callspec", None)
        if named is not None and named.params.get("vendor") in TWINS and item.path.stem not in COUNTED:
            item.add_marker(pytest.mark.long)


@pytest.fixture(params=VENDORS)
async def vendor(request: pytest.FixtureRequest, start_vendor: StartVendor) -> Vendor:
    """Each vendor in turn, found and not listed."""
    return await start_vendor(request.param)


# --- one example of every operation ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Example:
    """A call that a vendor accepts. `{kind}` in body and query stands for the id of an object of that kind."""

    body: Any = None
    query: Mapping[str, str] = field(default_factory=dict)
    upload: str | None = None
    """Purpose of the file that is uploaded; the body is a form then."""


_CURSORS: dict[str, dict[str, str]] = {
    kind: {"after": f"{{{kind}}}", "before": f"{{{kind}}}", "limit": "3", "order": "asc"}
    for kind in ("assistant", "message", "run", "step", "file", "vector_store")
}
_RESOURCES = {
    "code_interpreter": {"file_ids": ["{file}"]},
    "file_search": {"vector_store_ids": ["{vector_store}"], "vector_stores": [{"file_ids": ["{file}"]}]},
}
_MESSAGE = {
    "role": "user",
    "content": [{"type": "text", "text": "hello"}, {"type": "image_file", "image_file": {"file_id": "{file}"}}],
    "attachments": [{"file_id": "{file}", "tools": [{"type": "code_interpreter"}]}],
    "file_ids": ["{file}"],
}
TOOLS = [
    {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}},
    {"type": "code_interpreter"},
    {"type": "file_search"},
]
_ASSISTANT = {"model": "gpt-4o", "tools": TOOLS, "tool_resources": _RESOURCES, "file_ids": ["{file}"]}
_THREAD = {"messages": [_MESSAGE], "tool_resources": _RESOURCES}
_RUN = {"assistant_id": "{assistant}", "tool_resources": _RESOURCES}
_OUTPUTS = {"tool_outputs": [{"tool_call_id": "{call}", "output": "3"}]}

EXAMPLES: Mapping[str, Example] = {
    # In this order all of them succeed on one stage, except for those that need a run in a status of its own.
    "list_assistants": Example(query=_CURSORS["assistant"]),
    "list_messages": Example(query=_CURSORS["message"] | {"run_id": "{run}"}),
    "list_runs": Example(query=_CURSORS["run"]),
    "list_run_steps": Example(query=_CURSORS["step"]),
    "list_files": Example(query=_CURSORS["file"]),
    "list_vector_stores": Example(query=_CURSORS["vector_store"]),
    "list_store_files": Example(query=_CURSORS["file"]),
    "list_batch_files": Example(query=_CURSORS["file"]),
    "list_assistant_files": Example(query=_CURSORS["file"]),
    "list_message_files": Example(query=_CURSORS["file"]),
    "get_assistant_file": Example(),
    "get_message_file": Example(),
    "create_assistant_file": Example({"file_id": "{file}"}),
    "get_assistant": Example(),
    "get_thread": Example(),
    "get_message": Example(),
    "get_run": Example(),
    "get_run_step": Example(query={"include[]": "step_details.tool_calls[*].file_search.results[*].content"}),
    "get_file": Example(),
    "get_file_content": Example(),
    "get_vector_store": Example(),
    "get_store_file": Example(),
    "get_store_file_content": Example(),
    "get_batch": Example(),
    "search_vector_store": Example({"query": "words"}),
    "create_assistant": Example(_ASSISTANT),
    "modify_assistant": Example(_ASSISTANT),
    "create_thread": Example(_THREAD),
    "modify_thread": Example({"tool_resources": _RESOURCES, "metadata": {"a": "b"}}),
    "create_message": Example(_MESSAGE),
    "modify_message": Example({"metadata": {"a": "b"}}),
    "modify_run": Example({"metadata": {"a": "b"}}),
    "upload_file": Example(upload="assistants"),
    "create_vector_store": Example({"name": "store", "file_ids": ["{file}"]}),
    "modify_vector_store": Example({"name": "renamed"}),
    "create_store_file": Example({"file_id": "{file}"}),
    "modify_store_file": Example({"attributes": {"a": "b"}}),
    "create_batch": Example({"files": [{"file_id": "{file}"}], "file_ids": ["{file}"]}),
    "cancel_batch": Example({}),
    "submit_tool_outputs": Example(_OUTPUTS),
    "cancel_run": Example({}),
    "create_run": Example(_RUN | {"additional_messages": [_MESSAGE]}),
    "create_thread_and_run": Example(_RUN | {"thread": _THREAD}),
    "delete_assistant_file": Example(),
    "delete_store_file": Example(),
    "delete_message": Example(),
    "delete_thread": Example(),
    "delete_assistant": Example(),
    "delete_vector_store": Example(),
    "delete_file": Example(),
}

_FILES_IN_V1 = {
    "code_interpreter": {"file_ids": ["{file}"]},
    "file_search": {"vector_stores": [{"file_ids": ["{file}"]}]},
}
_MESSAGE_IN_V1 = {
    "role": "user",
    "content": [{"type": "text", "text": "hello"}],
    "attachments": [{"file_id": "{file}", "tools": [{"type": "code_interpreter"}]}],
}
_MESSAGES_IN_V1 = [_MESSAGE_IN_V1, {"role": "user", "content": "hello", "file_ids": ["{file}"]}]
_IN_V1: Mapping[str, Example] = {
    "get_run_step": Example(),
    "create_assistant": Example({"model": "gpt-4o", "tools": TOOLS, "tool_resources": _FILES_IN_V1}),
    "modify_assistant": Example({"model": "gpt-4o", "tools": TOOLS, "file_ids": ["{file}"]}),
    "create_thread": Example({"messages": _MESSAGES_IN_V1}),
    "modify_thread": Example({"metadata": {"a": "b"}}),
    "create_message": Example(_MESSAGE_IN_V1),
    "create_run": Example({"assistant_id": "{assistant}", "additional_messages": _MESSAGES_IN_V1}),
    "create_thread_and_run": Example({"assistant_id": "{assistant}", "thread": {"messages": _MESSAGES_IN_V1}}),
}
"""What a v2 caller may say to a v1 provider where the reference's example holds more than v1 can express."""

LACKING: Mapping[Version, frozenset[str]] = {
    "v1": frozenset({"delete_message"} | {each.name for each in OPERATIONS if each.template.startswith("/vector_")}),
    "v2": frozenset(),
}
"""Operations that a version of the protocol does not have."""

_EXAMPLES: Mapping[Version, Mapping[str, Example]] = {
    "v1": {name: _IN_V1.get(name, example) for name, example in EXAMPLES.items() if name not in LACKING["v1"]},
    "v2": EXAMPLES,
}


def version_of(vendor: Vendor) -> Version:
    return KNOWN[vendor.simulator.dialect.name].protocol


def examples_of(vendor: Vendor | None) -> Mapping[str, Example]:
    """One example of every operation that the vendor has; without a vendor, the reference's."""
    return EXAMPLES if vendor is None else _EXAMPLES[version_of(vendor)]


def having(*operations: str) -> list[str]:
    """The names of the vendors that have these operations."""
    return [name for name in VENDORS if not LACKING[KNOWN[name].protocol] & set(operations)]


def speaking(version: Version) -> list[str]:
    """The names of the vendors that speak this version of the protocol."""
    return [name for name in VENDORS if KNOWN[name].protocol == version]


WAITING = frozenset({"submit_tool_outputs", "cancel_run"})
"""Operations that want a run that waits for tool outputs."""
STREAMING = frozenset(name for name, operation in BY_NAME.items() if operation.streams)

_HOLE = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Call:
    """One HTTP call, ready to be made."""

    method: str
    path: str
    body: Any = None
    upload: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def payload(self) -> dict[str, Any]:
        """Keyword arguments of an aiohttp request."""
        if self.upload is not None:
            form = aiohttp.FormData({"purpose": self.upload})
            form.add_field("file", b"some words", filename="words.txt", content_type="text/plain")
            return {"data": form}
        return {} if self.body is None else {"json": self.body}


def compose(
    name: str,
    ids: Mapping[str, str],
    put: Mapping[str, str] | None = None,
    *,
    vendor: Vendor | None = None,
    base: str = "/v1",
    stream: bool = False,
    query_of: Collection[str] | None = None,
) -> Call:
    """The vendor's example of an operation with these ids. `put` gives single places another id (`path.thread`,
    `query.after`, `body.messages[0].file_ids[0]`); `query_of` names the query parameters to keep, by default all."""
    operation, example = BY_NAME[name], examples_of(vendor)[name]
    put = put or {}

    def at(place: str, kind: str) -> str:
        return put.get(place, ids[kind])

    path = _HOLE.sub(lambda hole: quote(at(f"path.{hole[1]}", hole[1]), safe=""), operation.template)
    query = {
        key: fill(value, at, f"query.{key}")
        for key, value in example.query.items()
        if query_of is None or key in query_of
    }
    body: Any = None if example.body is None else fill(example.body, at, "body")
    body = body | {"stream": True} if stream else body
    headers = {"OpenAI-Beta": f"assistants={operation.only_in}"} if operation.only_in else {}
    return Call(
        operation.method, base + path + (f"?{urlencode(query)}" if query else ""), body, example.upload, headers
    )


def fill(value: Any, at: Callable[[str, str], str], place: str) -> Any:
    if isinstance(value, str):
        hole = _HOLE.fullmatch(value)
        return at(place, hole[1]) if hole else value
    if isinstance(value, list):
        return [fill(item, at, f"{place}[{number}]") for number, item in enumerate(value)]
    if isinstance(value, dict):
        return {name: fill(item, at, f"{place}.{name}") for name, item in value.items()}
    return value


def id_places(name: str, vendor: Vendor | None = None) -> dict[str, str]:
    """Every place of an operation's example in which an id of the gateway stands → its kind."""
    example = examples_of(vendor)[name]
    found = {f"path.{hole[1]}": hole[1] for hole in _HOLE.finditer(BY_NAME[name].template)}
    return found | holes_in(example.query, "query") | holes_in(example.body, "body")


def holes_in(value: Any, place: str) -> dict[str, str]:
    """Every place within that waits for an id of the gateway → its kind."""
    found: dict[str, str] = {}

    def note(place: str, kind: str) -> str:
        if kind != "call":  # made by the model, belongs to its run, never rewritten
            found[place] = kind
        return ""

    fill(value, note, place)
    return found


# --- a stage --------------------------------------------------------------------------------------------------------


async def ok(gateway: Running, method: str, path: str, body: Any = None, *, tenant: str = "alice", **more: Any) -> Any:
    """The JSON of a call that must succeed."""
    status, answer, _ = await gateway.call(method, path, body, tenant=tenant, **more)
    assert status == 200, (method, path, answer)
    return answer


async def make(
    gateway: Running,
    name: str,
    ids: Mapping[str, str],
    *,
    vendor: Vendor | None = None,
    tenant: str = "alice",
    base: str = "/v1",
) -> Any:
    """The answer to an operation's example, which must succeed."""
    call = compose(name, ids, vendor=vendor, base=base)
    return await ok(gateway, call.method, call.path, tenant=tenant, **call.payload)


async def stage(
    gateway: Running,
    tenant: str = "alice",
    *,
    vendor: Vendor | None = None,
    say: str = "hello",
    base: str = "/v1",
    wait: bool = True,
) -> dict[str, str]:
    """One object of every kind that the vendor has, made through the gateway by one tenant: kind → public id. The run
    has ended, or waits for outputs if `say` calls the function `add`. With `base` at another provider."""

    async def create(path: str, body: Any = None, **more: Any) -> Any:
        return await ok(gateway, "POST", base + path, body, tenant=tenant, **more)

    ids = {"file": (await make(gateway, "upload_file", {}, tenant=tenant, base=base))["id"]}
    resources: dict[str, Any] = {"code_interpreter": {"file_ids": [ids["file"]]}}
    if "create_vector_store" in examples_of(vendor):
        store = ids["vector_store"] = (await create("/vector_stores", {"name": "store"}))["id"]
        batch = await create(f"/vector_stores/{store}/file_batches", {"file_ids": [ids["file"]]})
        ids["batch"] = batch["id"]
        resources["file_search"] = {"vector_store_ids": [store]}
    ids["assistant"] = (await create("/assistants", {"model": "m", "tools": TOOLS, "tool_resources": resources}))["id"]
    thread = (await create("/threads"))["id"]
    ids["thread"] = thread
    attached = [{"file_id": ids["file"], "tools": [{"type": "code_interpreter"}]}]
    said = {"role": "user", "content": say, "attachments": attached}
    ids["message"] = (await create(f"/threads/{thread}/messages", said))["id"]
    run = await create(f"/threads/{thread}/runs", {"assistant_id": ids["assistant"]})
    while wait and run["status"] in ("queued", "in_progress"):
        run = await ok(gateway, "GET", f"{base}/threads/{thread}/runs/{run['id']}", tenant=tenant)
    ids["run"] = run["id"]
    if wait:
        steps = await ok(gateway, "GET", f"{base}/threads/{thread}/runs/{run['id']}/steps", tenant=tenant)
        ids["step"] = steps["data"][-1]["id"]
    if action := run["required_action"]:
        ids["call"] = action["submit_tool_outputs"]["tool_calls"][0]["id"]
    return ids


def retrieved(ids: Mapping[str, str]) -> list[str]:
    """The kinds on a stage that have an operation of their own to read one, `get_{kind}`."""
    return [kind for kind in ids if f"get_{kind}" in BY_NAME]


# --- every id that was ever made ------------------------------------------------------------------------------------

GATEWAY_KINDS = {"file_batch": "batch"}
"""Kinds that the simulators call otherwise."""
_SIGNER = IdSigner([SIGNING_KEY.encode()])


@dataclass(frozen=True)
class Remembering(Ids):
    """Makes ids and keeps them: upstream id → kind."""

    made: dict[str, str] = field(default_factory=dict)

    def new(self, kind: str) -> str:
        made = super().new(kind)
        self.made[made] = GATEWAY_KINDS.get(kind, kind)
        return made


@dataclass(frozen=True)
class Issued:
    """The ids that a vendor made in one account since `remember`, those of streams and of deleted objects included.
    Ids of tool calls are left out: they belong to their run and are never rewritten."""

    provider: str
    account: str
    memory: Remembering

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return ((upstream, kind) for upstream, kind in self.memory.made.items() if kind != "call")

    def public(self, upstream: str, tenant: str = "alice") -> str:
        kind = self.memory.made[upstream]
        return _SIGNER.sign(upstream, kind=kind, tenant=tenant, route=route_of(self.provider, self.account))

    def bare(self, raw: bytes, tenant: str = "alice") -> set[str]:
        """Ids in these bytes without exactly the tail that their kind, account and tenant ask for."""
        found = [upstream for upstream, _ in self if upstream.encode() in raw]
        for upstream in found:
            raw = raw.replace(self.public(upstream, tenant).encode(), b"")
        return {upstream for upstream in found if upstream.encode() in raw}

    def tailed(self, raw: bytes) -> set[str]:
        """Ids in these bytes with any tail at all."""
        ids = [upstream for upstream, _ in self if upstream.encode() in raw]
        tail = rf"[0-9A-Za-z]{{4}}[0-9a-f]{{{TAIL_LENGTH - 4}}}"
        return {upstream for upstream in ids if re.search(re.escape(upstream).encode() + tail.encode(), raw)}


def remember(vendor: Vendor, account: str = "acme") -> Issued:
    """Keep every id that the vendor makes in this account from now on."""
    ground = vendor.simulator.worlds[account].ground
    ground.ids = memory = Remembering(ground.ids.prefixes)
    return Issued(vendor.name, account, memory)


def upstream_of(public: str) -> str:
    return public[:-TAIL_LENGTH]


# --- plain calls ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Heard:
    """An answer as it came, every byte of it."""

    status: int
    headers: bytes
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


async def hear(gateway: Running, call: Call, *, tenant: str = "alice", **more: Any) -> Heard:
    """Make a call and keep status line and headers as well as the body, events as they came."""
    headers = {"Authorization": f"Bearer {TENANT_KEYS[tenant]}", **call.headers} | more.pop("headers", {})
    options = {"headers": headers, **call.payload, **more}
    url = URL(gateway.url + call.path, encoded=True)
    async with gateway.session.request(call.method, url, **options) as response:
        body = await response.read()
        lines = b"\r\n".join(name + b": " + value for name, value in response.raw_headers)
        return Heard(response.status, lines, body)
