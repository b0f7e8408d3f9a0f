"""What hosted tools work on: files and vector stores of assistants, threads and messages, by upstream ids. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.engine.models.generation import HostedTool

Json = dict[str, Any]


@dataclass(frozen=True)
class Resources:
    """Each id once."""

    vector_stores: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    """For the code interpreter."""

    def __add__(self, more: Resources) -> Resources:
        return Resources(_once(self.vector_stores, more.vector_stores), _once(self.files, more.files))

    def needed_by(self, tools: Iterable[Json]) -> bool:
        """Whether one of these tools works on any of it."""
        kinds = {tool["type"] for tool in tools}
        return bool(("file_search" in kinds and self.vector_stores) or ("code_interpreter" in kinds and self.files))


def resources_of(tool_resources: Mapping[str, Any] | None) -> Resources:
    given = tool_resources or {}
    search, code = given.get("file_search") or {}, given.get("code_interpreter") or {}
    return Resources(tuple(search.get("vector_store_ids") or ()), tuple(code.get("file_ids") or ()))


def needs_resources(tools: Iterable[Json]) -> bool:
    return any(tool["type"] != "function" for tool in tools)


def hosted_tool(tool: Json, resources: Resources) -> HostedTool:
    """A tool of a run with what it works on."""
    settings = dict(tool.get(tool["type"]) or {})
    if tool["type"] == "file_search":
        settings["vector_store_ids"] = list(resources.vector_stores)
    elif tool["type"] == "code_interpreter":
        settings["file_ids"] = list(resources.files)
    return HostedTool(tool["type"], settings)


def with_vector_stores(tool_resources: Mapping[str, Any] | None, stores: Sequence[str]) -> Json:
    """`tool_resources` with these stores behind its own, and nothing that is still to be made."""
    given = dict(tool_resources or {})
    search = {name: value for name, value in (given.get("file_search") or {}).items() if name != "vector_stores"}
    known = search.get("vector_store_ids") or []
    if stores:
        search["vector_store_ids"] = list(_once(known, stores))
    return {**given, "file_search": search} if search or "file_search" in given else given


def attached_files(messages: Iterable[Mapping[str, Any]], tool: str) -> tuple[str, ...]:
    """Files that messages attach for a tool."""
    return _once(
        attachment["file_id"]
        for message in messages
        for attachment in message.get("attachments") or ()
        if any(each["type"] == tool for each in attachment.get("tools") or ())
    )


def _once(*ids: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(each for some in ids for each in some))
