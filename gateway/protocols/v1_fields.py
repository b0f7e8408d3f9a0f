"""Fields that requests and answers share: names of tools, and where files are named."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

RETRIEVAL = "retrieval"
FILE_SEARCH = "file_search"
CODE_INTERPRETER = "code_interpreter"

FILE_TOOLS = (FILE_SEARCH, CODE_INTERPRETER)
"""The v2 tools that read files. OpenAI's own mapping of v1 messages names them in this order (migration guide)."""

STORE_METADATA: Mapping[str, str] = {"threads_gateway": "assistants=v1"}
"""What a vector store carries that exists only because a v1 assistant has files. Such a store may be changed and
deleted with the assistant's files; any other may serve assistants of v2 callers too."""

Change = Callable[[Any], Any]


def changed(document: Mapping[str, Any], changes: Mapping[str, Change]) -> dict[str, Any]:
    """A copy in which the fields that are there and have a change are changed."""
    return {name: changes[name](value) if name in changes else value for name, value in document.items()}


def without(document: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """A copy that lacks some fields."""
    return {name: value for name, value in document.items() if name not in names}


def each(value: Any, change: Change) -> Any:
    """A list with every object in it changed; what is no list, or no object, as it is."""
    if type(value) is not list:
        return value
    return [change(item) if type(item) is dict else item for item in value]


def unique(names: Iterable[str]) -> list[str]:
    """The names in order, each once."""
    return list(dict.fromkeys(names))


def tool_up(tool: Any) -> Any:
    """A tool, or a choice of one, under its v2 name."""
    return _renamed(tool, RETRIEVAL, FILE_SEARCH)


def tool_down(tool: Any) -> Any:
    """A tool, or a choice of one, under its v1 name. Settings beside the name stay: a caller that sends back the
    tools it read then loses none."""
    return _renamed(tool, FILE_SEARCH, RETRIEVAL)


def _renamed(tool: Any, before: str, after: str) -> Any:
    if type(tool) is dict and tool.get("type") == before:
        return {**tool, "type": after}
    return tool


def has_tool(tools: Any, name: str) -> bool:
    """Whether a list of tools has one of this type."""
    return type(tools) is list and any(type(tool) is dict and tool.get("type") == name for tool in tools)


def attachments(file_ids: Iterable[str], unsearchable: Collection[str] = ()) -> list[dict[str, Any]]:
    """Files of a v1 message as v2 attaches them: for every tool that reads files, because the message does not know
    which tool the assistant of a later run will have, and v1 let it use whichever it has."""
    return [
        {
            "file_id": file,
            "tools": [{"type": tool} for tool in FILE_TOOLS if not (tool == FILE_SEARCH and file in unsearchable)],
        }
        for file in file_ids
    ]


def attached_file_ids(attached: Any) -> list[str]:
    """The files of a message's `attachments`, each once; v2 callers may attach one twice, for different tools."""
    if type(attached) is not list:
        return []
    return unique(file for item in attached if type(item) is dict and type(file := item.get("file_id")) is str)


def assistant_file_ids(assistant: Mapping[str, Any]) -> list[str]:
    """The v1 `file_ids` of a v2 assistant or run: the files of its code interpreter.

    What only a vector store holds is not among them: it may be shared, and hold more files than v1 could name.
    """
    return _resources(assistant, CODE_INTERPRETER, "file_ids")


def assistant_store_ids(assistant: Mapping[str, Any]) -> list[str]:
    """The vector stores that a v2 assistant searches."""
    return _resources(assistant, FILE_SEARCH, "vector_store_ids")


def _resources(assistant: Mapping[str, Any], tool: str, field: str) -> list[str]:
    found: Any = assistant.get("tool_resources")
    for name in (tool, field):
        found = found.get(name) if type(found) is dict else None
    return [each for each in found if type(each) is str] if type(found) is list else []


def assistant_resources(file_ids: Iterable[str], *, vector_store_ids: Iterable[str] = ()) -> dict[str, Any]:
    """The `tool_resources` with which a v2 `modify_assistant` sets the files of a v1 assistant.

    The code interpreter's list always names them all, whether or not the assistant has that tool: it is where
    `file_ids` are read back from, and adding the tool later makes the files usable, as in v1. Without a vector store
    an attached one is let go.
    """
    return {
        CODE_INTERPRETER: {"file_ids": list(file_ids)},
        FILE_SEARCH: {"vector_store_ids": list(vector_store_ids)},
    }


def is_own_store(vector_store: Mapping[str, Any]) -> bool:
    """Whether a vector store exists only for the files of a v1 assistant."""
    return vector_store.get("metadata") == STORE_METADATA
