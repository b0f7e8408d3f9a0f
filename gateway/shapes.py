"""Where ids stand: one table for every object of the API, and the two walks over it.

A shape is a *kind* (the value is an id of that kind), a dict (fields of an object), a list with one shape (items of
an array), or one of the markers below. What no shape names is user data or unknown, and is never looked at. Facts:
the published OpenAPI description of 2026-08-21 (v2) and recorded answers of 2023–2026.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from gateway.errors import bad_request, wrong_type

PROSE = "prose"
"""Marker: text of the vendor in which ids of the request may stand, such as `last_error.message`."""

BY_PREFIX = "by_prefix"
"""Marker: an id in an object we do not know; its kind is guessed from its prefix or it stays."""

PREFIX_KINDS = {
    "asst_": "assistant",
    "thread_": "thread",
    "msg_": "message",
    "run_": "run",
    "step_": "step",
    "file-": "file",
    "assistant-": "file",  # Azure's files
    "vs_": "vector_store",
    "vsfb_": "batch",
}
"""Usual beginnings of ids. A field tells an id's kind; a prefix is only asked in prose and in unknown objects."""


@dataclass(frozen=True)
class TextOr:
    """A field that is either plain text (user data) or the given shape, such as a message's `content`."""

    shape: Any


Shape = str | dict[str, Any] | list[Any] | TextOr
"""Recursive: values of the dict and the item of the list are shapes again."""

_FILES: Shape = ["file"]
_TOOL_RESOURCES: Shape = {
    "code_interpreter": {"file_ids": _FILES},
    "file_search": {"vector_store_ids": ["vector_store"], "vector_stores": [{"file_ids": _FILES}]},
}
_ATTACHMENTS: Shape = [{"file_id": "file"}]
_CONTENT: Shape = [
    {
        "image_file": {"file_id": "file"},
        "text": {"annotations": [{"file_citation": {"file_id": "file"}, "file_path": {"file_id": "file"}}]},
    }
]
_LAST_ERROR: Shape = {"message": PROSE}

# --- what callers send ---------------------------------------------------------------------------------------------
NEW_MESSAGE: Shape = {
    "content": TextOr([{"image_file": {"file_id": "file"}}]),
    "attachments": _ATTACHMENTS,
    "file_ids": _FILES,
}
NEW_ASSISTANT: Shape = {"tool_resources": _TOOL_RESOURCES, "file_ids": _FILES}
NEW_THREAD: Shape = {"messages": [NEW_MESSAGE], "tool_resources": _TOOL_RESOURCES}
NEW_RUN: Shape = {
    "assistant_id": "assistant",
    "additional_messages": [NEW_MESSAGE],
    "tool_resources": _TOOL_RESOURCES,  # undocumented here, but runs answer it
}
NEW_THREAD_AND_RUN: Shape = {
    "assistant_id": "assistant",
    "thread": NEW_THREAD,
    "tool_resources": _TOOL_RESOURCES,
}
NEW_VECTOR_STORE: Shape = {"file_ids": _FILES}
NEW_STORE_FILE: Shape = {"file_id": "file"}
NEW_BATCH: Shape = {"file_ids": _FILES, "files": [{"file_id": "file"}]}

# --- what vendors answer -------------------------------------------------------------------------------------------
ASSISTANT: Shape = {"id": "assistant", "tool_resources": _TOOL_RESOURCES, "file_ids": _FILES}
THREAD: Shape = {"id": "thread", "tool_resources": _TOOL_RESOURCES}
MESSAGE: Shape = {
    "id": "message",
    "thread_id": "thread",
    "assistant_id": "assistant",
    "run_id": "run",
    "attachments": _ATTACHMENTS,
    "file_ids": _FILES,
    "content": _CONTENT,
}
ASSISTANT_FILE: Shape = {"id": "file", "assistant_id": "assistant"}
MESSAGE_FILE: Shape = {"id": "file", "message_id": "message"}
MESSAGE_DELTA: Shape = {"id": "message", "delta": {"content": _CONTENT, "file_ids": _FILES}}
RUN: Shape = {
    "id": "run",
    "thread_id": "thread",
    "assistant_id": "assistant",
    "tool_resources": _TOOL_RESOURCES,
    "file_ids": _FILES,
    "last_error": _LAST_ERROR,
}
_STEP_DETAILS: Shape = {
    "message_creation": {"message_id": "message"},
    "tool_calls": [
        {
            "code_interpreter": {"outputs": [{"image": {"file_id": "file"}}]},
            "file_search": {"results": [{"file_id": "file"}]},
        }
    ],
}
STEP: Shape = {
    "id": "step",
    "run_id": "run",
    "thread_id": "thread",
    "assistant_id": "assistant",
    "step_details": _STEP_DETAILS,
    "last_error": _LAST_ERROR,
}
STEP_DELTA: Shape = {"id": "step", "delta": {"step_details": _STEP_DETAILS}}
FILE: Shape = {"id": "file", "status_details": PROSE}
VECTOR_STORE: Shape = {"id": "vector_store"}
STORE_FILE: Shape = {"id": "file", "vector_store_id": "vector_store", "last_error": _LAST_ERROR}
BATCH: Shape = {"id": "batch", "vector_store_id": "vector_store"}
SEARCH_PAGE: Shape = {"data": [{"file_id": "file"}]}
UNKNOWN: Shape = {
    "id": BY_PREFIX,
    "assistant_id": "assistant",
    "thread_id": "thread",
    "message_id": "message",
    "run_id": "run",
    "step_id": "step",
    "file_id": "file",
    "vector_store_id": "vector_store",
}

OBJECTS: dict[str, Shape] = {
    "thread": THREAD,
    "thread.message": MESSAGE,
    "thread.message.delta": MESSAGE_DELTA,
    "thread.run": RUN,
    "thread.run.step": STEP,
    "thread.run.step.delta": STEP_DELTA,
}
"""Shapes of streamed objects, by the value of their `object` field and by the beginning of their event's name."""


def shape_of_event(name: str, data: dict[str, Any]) -> Shape:
    """The shape of one stream event. The object's own word decides; where it is none we know, the event's name does,
    which is the object's word and mostly a verb (`thread.run.created`); an event nobody has heard of has the ids that
    every object names alike rewritten, and nothing else."""
    word = data.get("object")
    if type(word) is str and word in OBJECTS:
        return OBJECTS[word]
    words = (name, name.rpartition(".")[0])
    return next((OBJECTS[word] for word in words if word in OBJECTS), UNKNOWN)


def rewrite(value: Any, shape: Shape, replace: Callable[[str, str], str]) -> Any:
    """Answer → caller: put `replace(kind, id)` where `shape` has ids. Containers are changed in place; what does not
    fit the shape is left alone, because vendors differ and nothing they say may be lost."""
    if type(shape) is str:
        return replace(shape, value) if value and type(value) is str else value
    if type(shape) is dict:
        if type(value) is dict:
            for name, inner in shape.items():
                found = value.get(name)
                if found:
                    value[name] = rewrite(found, inner, replace)
    elif type(value) is list:
        inner = shape.shape[0] if type(shape) is TextOr else shape[0]  # type: ignore[index]
        for place, item in enumerate(value):
            value[place] = rewrite(item, inner, replace)
    return value


class Slot(NamedTuple):
    """One id in a request body: `container[key]` holds it; `param` names it in errors (`messages[0].file_ids[1]`)."""

    container: Any
    key: str | int
    kind: str
    param: str

    @property
    def shown(self) -> str:
        return str(self.container[self.key])

    def fill(self, upstream: str) -> None:
        self.container[self.key] = upstream


def find_slots(value: Any, shape: Shape, param: str = "") -> Iterator[Slot]:
    """Caller → provider: every id in a request body.

    Raises GatewayError 400 `invalid_type` where the body does not fit the shape. Vendors coerce what we do not know
    (a single id for a list of ids, say); an id that slips past this walk would slip past the tenant check too.
    """
    if type(shape) is TextOr:
        if type(value) is str:
            return
        shape = shape.shape
    if type(shape) is list:
        if type(value) is not list:
            raise wrong_type(param, "an array", value)
        for place in range(len(value)):
            yield from _slots_in(value, place, shape[0], f"{param}[{place}]")
    elif type(shape) is dict:
        if type(value) is not dict:
            raise wrong_type(param or "body", "an object", value)
        for name in value:
            if name not in shape and name.casefold() in shape:
                # Some vendors' parsers do not tell capitals apart: what we take for unknown would be an id to them.
                raise bad_request(f"Unknown parameter: '{name}'.", param=name, code="unknown_parameter")
        for name, inner in shape.items():
            if value.get(name) is not None:
                yield from _slots_in(value, name, inner, f"{param}.{name}" if param else name)


def _slots_in(container: Any, key: str | int, shape: Shape, param: str) -> Iterator[Slot]:
    value = container[key]
    if type(shape) is not str:
        yield from find_slots(value, shape, param)
    elif type(value) is not str:
        raise wrong_type(param, "a string", value)
    else:
        yield Slot(container, key, shape, param)
