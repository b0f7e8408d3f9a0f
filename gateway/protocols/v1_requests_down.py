"""Requests of v2 callers for v1 providers. What v1 cannot say is refused; nothing is left out silently."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from gateway.errors import wrong_type
from gateway.operations import Operation
from gateway.protocols.v1_fields import (
    CODE_INTERPRETER,
    FILE_SEARCH,
    FILE_TOOLS,
    STORE_METADATA,
    changed,
    tool_down,
    unique,
    without,
)
from gateway.protocols.v1_refusals import ambiguous_files, read_file_ids, refuse_said, unsupported_in_v1

_ONLY_IN_V2: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "reasoning_effort": ((None,), "leave it out"),
    "parallel_tool_calls": ((None, True), "leave it out, and expect several calls at once"),
}
"""Settings of assistants and runs that v1 has no field for: the values that change nothing, and what to do."""


def request_down(operation: Operation, document: dict[str, Any]) -> dict[str, Any]:
    """The body that asks a v1 provider for what a v2 body asks.

    Raises GatewayError 400 `unsupported_in_v1`, naming the parameter, for what v1 cannot say, and `invalid_type`
    where a body cannot be understood.
    """
    translate = _DOWN.get(operation.name)
    return document if translate is None else translate(document)


def check_down(operation: Operation, query: Iterable[str]) -> None:
    """Raises GatewayError 400 `unsupported_in_v1` for an operation or a query parameter, by name, that v1 lacks."""
    if operation.name == "delete_message":
        raise unsupported_in_v1(None, "deleting one message", "delete the thread instead")
    for name in query:
        if name.partition("[")[0] == "include" and operation.name in ("create_run", "list_run_steps", "get_run_step"):
            raise unsupported_in_v1(name, f"'{name}'", "leave it out")


# --- assistants and runs -------------------------------------------------------------------------------------------
def _new_assistant_down(document: dict[str, Any]) -> dict[str, Any]:
    return _with_files(_settings_down(document), takes_stores=True)


def _changed_assistant_down(document: dict[str, Any]) -> dict[str, Any]:
    return _with_files(_settings_down(document), takes_stores=False)


def _run_down(document: dict[str, Any]) -> dict[str, Any]:
    down = _settings_down(document)
    _drop_resources(down, "", "a run uses the files of its assistant and of its thread's messages")
    return changed(
        down,
        {
            "additional_messages": partial(_messages_down, param="additional_messages"),
            "thread": partial(_thread_down, param="thread."),
        },
    )


def _settings_down(document: dict[str, Any]) -> dict[str, Any]:
    """What assistants and runs have in common."""
    down = dict(document)
    for name, (harmless, advice) in _ONLY_IN_V2.items():
        if name in down and not any(down[name] is value for value in harmless):
            raise unsupported_in_v1(name, f"'{name}'", advice)
        down.pop(name, None)
    return changed(down, {"tools": _tools_down, "tool_choice": _tool_choice_down, "response_format": _format_down})


def _tools_down(tools: Any) -> Any:
    if type(tools) is not list:
        return tools
    return [_tool_down(tool, f"tools[{place}]") if type(tool) is dict else tool for place, tool in enumerate(tools)]


def _tool_down(tool: dict[str, Any], param: str) -> Any:
    """A tool without settings that v1 lacks: limits and ranking of the search, `strict` of a function. A function's
    schema is the caller's own and stays as it is."""
    function = tool.get("function")
    if type(function) is dict and "strict" in function:
        if function["strict"]:
            raise unsupported_in_v1(f"{param}.function.strict", "a strict function", "leave 'strict' out")
        return {**tool, "function": without(function, "strict")}
    if tool.get("type") == FILE_SEARCH and FILE_SEARCH in tool:
        refuse_said(tool[FILE_SEARCH], f"{param}.{FILE_SEARCH}", "a setting of file search", "leave it out")
        tool = without(tool, FILE_SEARCH)
    return tool_down(tool)


def _tool_choice_down(choice: Any) -> Any:
    if choice == "required":
        raise unsupported_in_v1("tool_choice", "'required'", "name one tool, or send 'auto'")
    return tool_down(choice)


def _format_down(response_format: Any) -> Any:
    if type(response_format) is dict and response_format.get("type") == "json_schema":
        advice = "send {'type': 'json_object'} and describe the schema in the instructions"
        raise unsupported_in_v1("response_format", "a response format with a JSON schema", advice)
    return response_format


# --- files of assistants -------------------------------------------------------------------------------------------
def _with_files(document: dict[str, Any], *, takes_stores: bool) -> dict[str, Any]:
    """An assistant's body with `file_ids` for `tool_resources`: of both tools together, because v1 cannot keep a file
    from one of them."""
    resources = document.pop("tool_resources", None)
    if resources is None:
        return document
    if type(resources) is not dict:
        raise wrong_type("tool_resources", "an object", resources)
    lists = [_files_of_tool(tool, resource, takes_stores=takes_stores) for tool, resource in resources.items()]
    known = [file_ids for file_ids in lists if file_ids is not None]
    if known:
        if document.get("file_ids"):
            raise ambiguous_files("tool_resources")
        document["file_ids"] = unique(file for file_ids in known for file in file_ids)
    return document


def _files_of_tool(tool: str, resource: Any, *, takes_stores: bool) -> list[str] | None:
    """The files that a tool is given; None where nothing is said about them."""
    param = f"tool_resources.{tool}"
    if type(resource) is not dict:
        refuse_said(resource, param, "'tool_resources' of this kind", "leave it out")
        return None
    if tool == CODE_INTERPRETER:
        refuse_said(without(resource, "file_ids"), param, "more than 'file_ids' for a tool", "leave it out")
        given = resource.get("file_ids")
        return None if given is None else read_file_ids(given, f"{param}.file_ids")
    if tool == FILE_SEARCH and takes_stores and resource.get("vector_stores"):
        refuse_said(without(resource, "vector_stores"), param, "a vector store", "leave it out")
        return _files_of_stores(resource["vector_stores"], f"{param}.vector_stores")
    refuse_said(resource, param, "a vector store", "name the files in 'tool_resources.code_interpreter.file_ids'")
    return None


def _files_of_stores(stores: Any, param: str) -> list[str]:
    """The files of vector stores that are to be made with an assistant. A store with settings of its own, or without
    files, is more than a list of files and refused."""
    if type(stores) is not list:
        raise wrong_type(param, "an array", stores)
    found: list[str] = []
    for place, store in enumerate(stores):
        at = f"{param}[{place}]"
        if type(store) is not dict:
            raise wrong_type(at, "an object", store)
        settings = without(store, "file_ids")
        if settings.get("chunking_strategy") == {"type": "auto"}:
            del settings["chunking_strategy"]
        if settings.get("metadata") == STORE_METADATA:
            del settings["metadata"]
        refuse_said(settings, at, "a setting of a vector store", "leave it out")
        if not store.get("file_ids"):
            raise unsupported_in_v1(f"{at}.file_ids", "a vector store without files", "name its files, or leave it out")
        found += read_file_ids(store["file_ids"], f"{at}.file_ids")
    return found


# --- threads and messages ------------------------------------------------------------------------------------------
def _drop_resources(document: dict[str, Any], param: str, advice: str) -> None:
    """Take out `tool_resources` that say nothing; refuse those that say something."""
    refuse_said(document.pop("tool_resources", None), f"{param}tool_resources", "'tool_resources' here", advice)


def _thread_down(thread: Any, param: str = "") -> Any:
    if type(thread) is not dict:
        return thread
    down = dict(thread)
    _drop_resources(down, param, "attach the files to a message")
    return changed(down, {"messages": partial(_messages_down, param=f"{param}messages")})


def _messages_down(messages: Any, param: str) -> Any:
    if type(messages) is not list:
        return messages
    return [
        _message_down(message, f"{param}[{place}].") if type(message) is dict else message
        for place, message in enumerate(messages)
    ]


def _message_down(message: dict[str, Any], param: str = "") -> dict[str, Any]:
    """A message with `file_ids` for `attachments`. An empty list is left out: v1 takes one to ten files or none."""
    down = changed(message, {"content": partial(_content_down, param=f"{param}content")})
    attached = down.pop("attachments", None)
    if not attached:
        return down
    if type(attached) is not list:
        raise wrong_type(f"{param}attachments", "an array", attached)
    if down.get("file_ids"):
        raise ambiguous_files(f"{param}attachments")
    down["file_ids"] = unique(
        _attached_file(attachment, f"{param}attachments[{place}]") for place, attachment in enumerate(attached)
    )
    return down


def _attached_file(attachment: Any, param: str) -> str:
    """The file of an attachment for the code interpreter, for file search or for both: v1 gives it to whichever of
    them the assistant has."""
    if type(attachment) is not dict:
        raise wrong_type(param, "an object", attachment)
    file = attachment.get("file_id")
    if type(file) is not str:
        raise wrong_type(f"{param}.file_id", "a string", file)
    tools = attachment.get("tools")
    names = [tool.get("type") if type(tool) is dict else None for tool in tools] if type(tools) is list else []
    if not names or not all(name in FILE_TOOLS for name in names):
        advice = "send 'file_search', 'code_interpreter' or both"
        raise unsupported_in_v1(f"{param}.tools", "an attachment for no tool or for another tool", advice)
    refuse_said(without(attachment, "file_id", "tools"), param, "more than a file and its tools", "leave it out")
    return file


def _content_down(content: Any, param: str) -> Any:
    """One text. v1 has no parts in requests, and joining several texts would change what was said."""
    if type(content) is not list:
        return content
    for place, part in enumerate(content):
        if type(part) is not dict or part.get("type") != "text" or type(part.get("text")) is not str:
            raise unsupported_in_v1(f"{param}[{place}]", "a content part that is no text", "send text only")
        refuse_said(without(part, "type", "text"), f"{param}[{place}]", "more than the text of a part", "leave it out")
    if len(content) != 1:
        raise unsupported_in_v1(param, f"a message of {len(content)} content parts", "send one text a message")
    return content[0]["text"]


_DOWN: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "create_assistant": _new_assistant_down,
    "modify_assistant": _changed_assistant_down,
    "create_thread": _thread_down,
    "modify_thread": _thread_down,
    "create_message": _message_down,
    "create_run": _run_down,
    "create_thread_and_run": _run_down,
}
"""Every other body is the same in both versions: `metadata`, `tool_outputs` and `stream`."""
