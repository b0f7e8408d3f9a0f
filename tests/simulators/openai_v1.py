"""OpenAI, version 1 of the protocol (`OpenAI-Beta: assistants=v1`), as its OpenAPI description of 2024-04-16 has it.

Source: github.com/openai/openai-openapi, `openapi.yaml` at commit af97d0a, read 2026-11-21. The world behind is the
one of version 2: what version 1 does not know is refused here, requests are lifted into the shapes of version 2 and
answers lowered out of them by `v1_shapes`. Both owe nothing to the gateway's own translation, so that either can
prove the other wrong.

How the two versions meet, where the description leaves it open:

* A file of an assistant is one for both of its tools, and counts as attached when the assistant was made.
* A run that is cut short ends as `completed`, with `incomplete_details`: there is no status for it.
* Assistants are shown without `temperature`, `top_p` and `response_format`, which only requests are said to have.
* How unknown query parameters were treated is not known. Those of version 2 are refused, because that shows mistakes.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from tests.simulators.base import Simulator
from tests.simulators.openai import OPENAI
from tests.simulators.threads_server.ask import Ask, read_json
from tests.simulators.threads_server.ground import Plain, Query, Shelf
from tests.simulators.threads_server.refusal import Json, Refused, Rule, check_fields, wrong_type, wrong_value
from tests.simulators.threads_server.routes import MESSAGE, ROUTES, RUN, THREAD, B, Q, Route
from tests.simulators.threads_server.world import World
from tests.simulators.v1_shapes import file_ids_of, lift, lift_message, lower, resources

VENDOR = "openai_v1"

ASSISTANT_FILES = Rule("an array of strings", (list,), 20)
MESSAGE_FILES = Rule("an array of strings", (list,), 10)
TOOL_TYPES = ("code_interpreter", "retrieval", "function")
V2_QUERY = ("include", "include[]")

# ---- what may be said -------------------------------------------------------------------------------------

_ASSISTANT = "model name description instructions tools file_ids metadata temperature top_p response_format"
_RUN = (
    "assistant_id model instructions tools metadata temperature top_p stream max_prompt_tokens "
    "max_completion_tokens truncation_strategy tool_choice response_format"
)
BODY_FIELDS: Mapping[str, str] = {
    "/assistants": _ASSISTANT,
    "/assistants/{assistant_id}": _ASSISTANT,
    "/assistants/{assistant_id}/files": "file_id",
    "/threads": "messages metadata",
    "/threads/runs": f"{_RUN} thread",
    THREAD: "metadata",
    f"{THREAD}/messages": "role content file_ids metadata",
    MESSAGE: "metadata",
    f"{THREAD}/runs": f"{_RUN} additional_instructions additional_messages",
    RUN: "metadata",
    f"{RUN}/submit_tool_outputs": "tool_outputs stream",
}
"""The fields of the bodies, by route."""

INNER_FIELDS: Mapping[str, str] = {
    "thread": BODY_FIELDS["/threads"],
    "messages": BODY_FIELDS[f"{THREAD}/messages"],
    "additional_messages": BODY_FIELDS[f"{THREAD}/messages"],
    "tools": "type function",
    "function": "name description parameters",
    "tool_choice": "type function",
    "tool_outputs": "tool_call_id output",
    "truncation_strategy": "type last_messages",
    "response_format": "type",
}
"""Those of the objects in them, by the name of the field that holds one or an array of them."""


def check(route: Route, ask: Ask) -> None:
    if route.is_of_threads:
        refuse_unknown({name: None for name in ask.query if name in V2_QUERY}, "")


def read_body(route: Route, body: bytes) -> Json:
    decoded = read_json(body)
    refuse_unknown(decoded, BODY_FIELDS[route.template])
    if route.template == f"{THREAD}/messages":
        check_message(decoded)
        return lift_message(decoded)
    check_values(decoded)
    check_values(decoded.get("thread") or {})
    lifted = lift(decoded)
    if route.template.startswith("/assistants") and decoded.get("file_ids") is not None:
        lifted["tool_resources"] = resources(lifted.pop("file_ids"))
    return lifted


def refuse_unknown(body: Json, known: str, path: str = "") -> None:
    """Raise `Refused` for the first field, however deep, that version 1 does not have."""
    for name, value in body.items():
        if name not in known.split():
            where = path + name
            raise Refused(f"Unknown parameter: '{where}'.", param=where, code="unknown_parameter")
        if name in INNER_FIELDS:
            for inner_path, inner in objects_in(path + name, value):
                refuse_unknown(inner, INNER_FIELDS[name], f"{inner_path}.")


def objects_in(path: str, value: object) -> Iterator[tuple[str, Json]]:
    """The value if it is an object, its items if it is an array of such, each with its path."""
    items = [(f"{path}[{place}]", item) for place, item in enumerate(value)] if isinstance(value, list) else []
    for where, item in items or [(path, value)]:
        if isinstance(item, dict):
            yield where, item


def check_values(body: Json) -> None:
    """Raise `Refused` for what the fields of version 1 may not hold, those of a message aside."""
    check_fields(body)
    if body.get("file_ids") is not None:
        ASSISTANT_FILES.check("file_ids", body["file_ids"])
    for place, tool in enumerate(body.get("tools") or []):
        require_one_of(TOOL_TYPES, f"tools[{place}].type", tool["type"])
    check_option("tool_choice", body.get("tool_choice"), TOOL_TYPES)
    check_option("response_format", body.get("response_format"), ("text", "json_object"))
    for name in ("messages", "additional_messages"):
        for place, message in enumerate(body.get(name) or []):
            check_message(message, f"{name}[{place}].")


def check_message(message: Json, path: str = "") -> None:
    check_fields(message)
    if message.get("content") is not None and not isinstance(message["content"], str):
        raise wrong_type(f"{path}content", "a string", message["content"])
    if message.get("file_ids") is not None:
        MESSAGE_FILES.check(f"{path}file_ids", message["file_ids"])


def check_option(name: str, value: Any, types: tuple[str, ...]) -> None:
    """A field that holds `none`, `auto` or an object of one of these types."""
    if isinstance(value, dict):
        require_one_of(types, f"{name}.type", value.get("type"))
    elif value is not None:
        require_one_of(("none", "auto"), name, value)


def require_one_of(supported: tuple[str, ...], name: str, value: object) -> None:
    if value not in supported:
        raise wrong_value(name, value, supported)


# ---- files of assistants and messages ---------------------------------------------------------------------


def assistant_files(world: World, assistant_id: str) -> Shelf[Plain]:
    return shelve(world, world.assistants.get(assistant_id), "assistant.file", "assistant_id")


def message_files(world: World, thread_id: str, message_id: str) -> Shelf[Plain]:
    return shelve(world, world.threads.get_message(thread_id, message_id), "thread.message.file", "message_id")


def shelve(world: World, holder: Json, type_name: str, holder_field: str) -> Shelf[Plain]:
    """The files of the holder as a shelf, which has limits, cursors and words for an unknown id."""
    shelf: Shelf[Plain] = Shelf(replace(world.ground, created=Counter()), "file")
    for file_id in file_ids_of(holder):
        row = {"id": file_id, "object": type_name, "created_at": holder["created_at"], holder_field: holder["id"]}
        shelf.put(Plain(row))
    return shelf


def list_assistant_files(world: World, assistant_id: str, query: Query) -> Json:
    return assistant_files(world, assistant_id).page(query)


def attach_file(world: World, assistant_id: str, body: Json) -> Json:
    check_fields(body, "file_id")
    file_id = world.files.use(body["file_id"]).json["id"]
    kept = file_ids_of(world.assistants.get(assistant_id))
    set_files(world, assistant_id, [*kept, file_id] if file_id not in kept else kept)
    return get_assistant_file(world, assistant_id, file_id)


def get_assistant_file(world: World, assistant_id: str, file_id: str) -> Json:
    return assistant_files(world, assistant_id).find(file_id).json


def detach_file(world: World, assistant_id: str, file_id: str) -> Json:
    """The file itself stays."""
    files = assistant_files(world, assistant_id)
    answer = files.drop(file_id, "assistant.file.deleted")
    set_files(world, assistant_id, [each.json["id"] for each in files])
    return answer


def set_files(world: World, assistant_id: str, file_ids: Iterable[str]) -> None:
    listed = list(file_ids)
    ASSISTANT_FILES.check("file_ids", listed)
    world.assistants.modify(assistant_id, {"tool_resources": resources(listed)})


def list_message_files(world: World, thread_id: str, message_id: str, query: Query) -> Json:
    return message_files(world, thread_id, message_id).page(query)


def get_message_file(world: World, thread_id: str, message_id: str, file_id: str) -> Json:
    return message_files(world, thread_id, message_id).find(file_id).json


def is_known_to_v1(route: Route) -> bool:
    """There was no deleting of messages, and there were no vector stores."""
    is_late = (route.method, route.template) == ("DELETE", MESSAGE) or route.template.startswith("/vector_stores")
    return not is_late


OF_ASSISTANT = "/assistants/{assistant_id}/files"
FILE_ROUTES = (
    Route("GET", OF_ASSISTANT, lambda w: partial(list_assistant_files, w), Q),
    Route("POST", OF_ASSISTANT, lambda w: partial(attach_file, w), B, is_creation=True),
    Route("GET", OF_ASSISTANT + "/{file_id}", lambda w: partial(get_assistant_file, w)),
    Route("DELETE", OF_ASSISTANT + "/{file_id}", lambda w: partial(detach_file, w)),
    Route("GET", MESSAGE + "/files", lambda w: partial(list_message_files, w), Q),
    Route("GET", MESSAGE + "/files/{file_id}", lambda w: partial(get_message_file, w)),
)

OPENAI_V1 = replace(
    OPENAI,
    name=VENDOR,
    routes=(*filter(is_known_to_v1, ROUTES), *FILE_ROUTES),
    needs_beta_header="assistants=v1",
    check=check,
    read_body=read_body,
    shape_object=lower,
    event_names={"thread.run.incomplete": "thread.run.completed"},
    poll_after_ms=None,
)
SIMULATOR: Callable[..., Simulator] = partial(Simulator, OPENAI_V1)
