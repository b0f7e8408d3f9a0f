"""Requests of v1 callers for v2 providers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

from gateway.operations import Operation
from gateway.protocols.v1_fields import (
    CODE_INTERPRETER,
    FILE_SEARCH,
    RETRIEVAL,
    STORE_METADATA,
    assistant_resources,
    attachments,
    changed,
    each,
    has_tool,
    tool_up,
)
from gateway.protocols.v1_refusals import ambiguous_files, read_file_ids

Files = Collection[str]


def request_up(operation: Operation, document: dict[str, Any], *, unsearchable: Files = ()) -> dict[str, Any]:
    """The body that asks a v2 provider for what a v1 body asks.

    `unsearchable` are files that file search cannot read and that only the code interpreter gets. A provider answers
    400 `unsupported_file` to the whole request if one of the files is such a file (`.csv` and `.xlsx` in public
    reports of 2024–2026); v1 took them. Nothing was written then, so the request may be sent again with these named.

    Raises GatewayError 400: `invalid_type` for `file_ids` that are no list of strings; `ambiguous_files` for
    `file_ids` beside the v2 field that they become.
    """
    translate = _UP.get(operation.name)
    return document if translate is None else translate(document, unsearchable)


def needs_several_calls(operation: Operation, document: Mapping[str, Any]) -> bool:
    """Whether a v1 body may take more than one v2 call, depending on what the assistant has already.

    v2 makes a vector store along with an assistant but not along with a change of one (public reports: `Unknown
    parameter: 'tool_resources.file_search.vector_stores'`), and one that the change leaves behind is never deleted.
    """
    if operation.name != "modify_assistant":
        return False
    tools = document.get("tools")
    return document.get("file_ids") is not None or has_tool(tools, RETRIEVAL) or has_tool(tools, FILE_SEARCH)


def _new_assistant_up(document: dict[str, Any], unsearchable: Files) -> dict[str, Any]:
    up = changed(document, {"tools": partial(each, change=tool_up)})
    file_ids = _take_file_ids(up, beside="tool_resources")
    if file_ids is None:
        return up
    up["tool_resources"] = {CODE_INTERPRETER: {"file_ids": file_ids}}
    searched = [file for file in file_ids if file not in unsearchable]
    if searched and has_tool(up.get("tools"), FILE_SEARCH):
        store = {"file_ids": searched, "metadata": dict(STORE_METADATA)}
        up["tool_resources"][FILE_SEARCH] = {"vector_stores": [store]}
    return up


def _changed_assistant_up(document: dict[str, Any], _: Files) -> dict[str, Any]:
    """Files as the code interpreter gets them. Those that are searched need a vector store too, which has to be there
    before (`needs_several_calls`)."""
    up = changed(document, {"tools": partial(each, change=tool_up)})
    file_ids = _take_file_ids(up, beside="tool_resources")
    if file_ids is None:
        return up
    up["tool_resources"] = assistant_resources(file_ids)
    return up


def _message_up(message: dict[str, Any], unsearchable: Files, param: str = "") -> dict[str, Any]:
    up = dict(message)
    file_ids = _take_file_ids(up, beside="attachments", param=param)
    if file_ids is not None:
        up["attachments"] = attachments(file_ids, unsearchable)
    return up


def _thread_up(thread: Any, unsearchable: Files, param: str = "") -> Any:
    if type(thread) is not dict:
        return thread
    return changed(thread, {"messages": partial(_messages_up, unsearchable=unsearchable, param=f"{param}messages")})


def _run_up(run: dict[str, Any], unsearchable: Files) -> dict[str, Any]:
    return changed(
        run,
        {
            "tools": partial(each, change=tool_up),
            "tool_choice": tool_up,
            "additional_messages": partial(_messages_up, unsearchable=unsearchable, param="additional_messages"),
            "thread": partial(_thread_up, unsearchable=unsearchable, param="thread."),
        },
    )


def _messages_up(messages: Any, unsearchable: Files, param: str) -> Any:
    if type(messages) is not list:
        return messages
    return [
        _message_up(message, unsearchable, f"{param}[{place}].") if type(message) is dict else message
        for place, message in enumerate(messages)
    ]


_UP: Mapping[str, Callable[[dict[str, Any], Files], dict[str, Any]]] = {
    "create_assistant": _new_assistant_up,
    "modify_assistant": _changed_assistant_up,
    "create_thread": _thread_up,
    "create_message": _message_up,
    "create_run": _run_up,
    "create_thread_and_run": _run_up,
}
"""Every other body is the same in both versions: `metadata`, `tool_outputs` and `stream`."""


def _take_file_ids(document: dict[str, Any], *, beside: str, param: str = "") -> list[str] | None:
    """The `file_ids` of a body, taken out of it; None for a body without."""
    given = document.pop("file_ids", None)
    if given is None:
        return None
    file_ids = read_file_ids(given, f"{param}file_ids")
    if document.get(beside):
        raise ambiguous_files(f"{param}{beside}")
    return file_ids
