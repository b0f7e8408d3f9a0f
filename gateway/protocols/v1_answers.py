"""Answers and stream events, both ways. Nothing is refused: what has no word becomes its nearest shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from gateway.protocols.v1_fields import (
    CODE_INTERPRETER,
    FILE_SEARCH,
    RETRIEVAL,
    assistant_file_ids,
    attached_file_ids,
    attachments,
    changed,
    each,
    has_tool,
    tool_down,
    tool_up,
    without,
)

Document = dict[str, Any]


def answer_down(document: Document) -> Document:
    """A v2 object as v1 shows it; a list object with every object in it.

    The object's own `object` field decides; deletions, files and what nobody knows pass as they are. What an answer
    has of v1's fields already stays.
    """
    return _answer(document, _DOWN)


def answer_up(document: Document) -> Document:
    """A v1 object as v2 shows it, with the fields that v2 always has: `attachments`, `tool_resources`,
    `parallel_tool_calls`. What an answer has of them already stays."""
    return _answer(document, _UP)


def event_down(name: str, data: Document) -> tuple[str, Document]:
    """A stream event as v1 names and shows it. `thread.run.incomplete` is the one name that v1 lacks."""
    return ("thread.run.completed" if name == "thread.run.incomplete" else name), _told(name, data, _DOWN)


def event_up(name: str, data: Document) -> tuple[str, Document]:
    """A stream event as v2 names and shows it. The run itself says whether it ended `incomplete`."""
    up = _told(name, data, _UP)
    is_incomplete = name == "thread.run.completed" and up.get("status") == "incomplete"
    return ("thread.run.incomplete" if is_incomplete else name), up


def _told(name: str, data: Document, table: Mapping[str, Callable[[Document], Document]]) -> Document:
    """An event's object. Where it does not say what it is, the event's name does, as it does for its ids: the
    object's word, mostly with a verb behind (`thread.run.created`)."""
    if "object" in data:
        return _answer(data, table)
    translate = table.get(name) or table.get(name.rpartition(".")[0])
    return data if translate is None else translate(data)


def _answer(document: Document, table: Mapping[str, Callable[[Document], Document]]) -> Document:
    if document.get("object") == "list":
        return changed(document, {"data": partial(each, change=lambda item: _answer(item, table))})
    translate = table.get(str(document.get("object")))
    return document if translate is None else translate(document)


# --- assistants, threads and runs ----------------------------------------------------------------------------------
def _assistant_down(assistant: Document) -> Document:
    down = changed(assistant, {"tools": partial(each, change=tool_down), "tool_choice": tool_down})
    down.setdefault("file_ids", assistant_file_ids(assistant))
    down.pop("tool_resources", None)
    return down


def _assistant_up(assistant: Document) -> Document:
    """The files stand where v2 lists them for the code interpreter, whichever tool the assistant has: a vector store
    that could be named does not exist."""
    up = changed(assistant, {"tools": partial(each, change=tool_up), "tool_choice": tool_up})
    given = up.pop("file_ids", None)
    file_ids = list(given) if type(given) is list else []
    has_place = bool(file_ids) or has_tool(up.get("tools"), CODE_INTERPRETER)
    up.setdefault("tool_resources", {CODE_INTERPRETER: {"file_ids": file_ids}} if has_place else {})
    return up


def _thread_down(thread: Document) -> Document:
    return without(thread, "tool_resources")


def _thread_up(thread: Document) -> Document:
    return {"tool_resources": {}} | thread


def _run_down(run: Document) -> Document:
    """A run of v1. Its description has no status `incomplete`: a run that hits a token limit ends as completed and
    says why in `incomplete_details`."""
    down = _assistant_down(run)
    down.pop("parallel_tool_calls", None)
    if down.get("status") == "incomplete":
        down["status"] = "completed"
    return down


def _run_up(run: Document) -> Document:
    """A run of v2. In v1 several function calls at once could not be switched off."""
    up: Document = {"parallel_tool_calls": True}
    up |= _assistant_up(run)
    if up.get("status") == "completed" and up.get("incomplete_details"):
        up["status"] = "incomplete"
    return up


# --- messages ------------------------------------------------------------------------------------------------------
def _message_down(message: Document) -> Document:
    down = changed(message, {"content": partial(each, change=_part_down)})
    down.setdefault("file_ids", attached_file_ids(down.pop("attachments", None)))
    return down


def _message_up(message: Document) -> Document:
    up = dict(message)
    file_ids = up.pop("file_ids", None)
    up.setdefault("attachments", attachments(file_ids if type(file_ids) is list else []))
    return up


def _part_down(part: Document) -> Document:
    """A content part of a stored message. v1 knows texts and image files: a refusal and the address of an image
    become texts, so that a program that reads `text.value` reads what was said."""
    kind = part.get("type")
    if kind == "refusal":
        return {"type": "text", "text": {"value": part.get("refusal") or "", "annotations": []}}
    if kind == "image_url":
        return {"type": "text", "text": {"value": _address(part), "annotations": []}}
    if kind == "text" and type(part.get("text")) is dict:
        annotated = changed(part["text"], {"annotations": partial(each, change=_annotation_down)})
        return {**part, "text": annotated}
    return part


def _annotation_down(annotation: Document) -> Document:
    """A citation with the `quote` that v1 requires and v2 no longer sends."""
    citation = annotation.get("file_citation")
    if type(citation) is not dict or "quote" in citation:
        return annotation
    return {**annotation, "file_citation": {**citation, "quote": ""}}


def _message_delta_down(event: Document) -> Document:
    """The same for a piece of a message, where every field but `index` and `type` may be missing."""
    return _in_delta(event, {"content": partial(each, change=_part_delta_down)})


def _part_delta_down(part: Document) -> Document:
    kind, rest = part.get("type"), without(part, "refusal", "image_url")
    if kind == "refusal":
        return rest | {"type": "text", "text": {"value": part["refusal"]} if "refusal" in part else {}}
    if kind == "image_url":
        return rest | {"type": "text", "text": {"value": _address(part)}}
    return part


def _address(part: Document) -> Any:
    image = part.get("image_url")
    return image.get("url", "") if type(image) is dict else ""


# --- steps ---------------------------------------------------------------------------------------------------------
def _call_down(call: Document) -> Document:
    """A search is an empty object in v1: its ranking and results stay behind."""
    if call.get("type") != FILE_SEARCH:
        return call
    down = without(call, FILE_SEARCH) | {"type": RETRIEVAL}
    return down | {RETRIEVAL: {}} if FILE_SEARCH in call else down


def _call_up(call: Document) -> Document:
    if call.get("type") != RETRIEVAL:
        return call
    up = without(call, RETRIEVAL) | {"type": FILE_SEARCH}
    return up | {FILE_SEARCH: call[RETRIEVAL]} if RETRIEVAL in call else up


def _step(step: Document, call: Callable[[Document], Document]) -> Document:
    return changed(step, {"step_details": partial(_step_details, call=call)})


def _step_details(details: Any, call: Callable[[Document], Document]) -> Any:
    return changed(details, {"tool_calls": partial(each, change=call)}) if type(details) is dict else details


def _step_delta(event: Document, call: Callable[[Document], Document]) -> Document:
    return _in_delta(event, {"step_details": partial(_step_details, call=call)})


def _in_delta(event: Document, changes: Mapping[str, Callable[[Any], Any]]) -> Document:
    return changed(event, {"delta": lambda delta: changed(delta, changes) if type(delta) is dict else delta})


_DOWN: Mapping[str, Callable[[Document], Document]] = {
    "assistant": _assistant_down,
    "thread": _thread_down,
    "thread.message": _message_down,
    "thread.message.delta": _message_delta_down,
    "thread.run": _run_down,
    "thread.run.step": partial(_step, call=_call_down),
    "thread.run.step.delta": partial(_step_delta, call=_call_down),
}

_UP: Mapping[str, Callable[[Document], Document]] = {
    "assistant": _assistant_up,
    "thread": _thread_up,
    "thread.message": _message_up,
    "thread.run": _run_up,
    "thread.run.step": partial(_step, call=_call_up),
    "thread.run.step.delta": partial(_step_delta, call=_call_up),
}
"""A piece of a message goes up as it is: v2 knows every field of v1's but `file_ids`, and has none for files."""
