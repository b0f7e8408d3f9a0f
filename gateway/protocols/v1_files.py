"""Files of assistants and messages as v1's objects of their own, read from the v2 object they belong to.

v2 has no such objects. Nobody remembers when a file was attached: `created_at` is the one of the assistant or message,
the latest moment that is certainly not too late.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gateway.lists import Page, complete
from gateway.protocols.v1_fields import assistant_file_ids, attached_file_ids


def assistant_files(assistant: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The `assistant.file` objects of a v2 assistant, oldest first, as v1 orders `file_ids`."""
    return _files(assistant_file_ids(assistant), assistant, "assistant.file", "assistant_id")


def message_files(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The `thread.message.file` objects of a v2 message, in the order of its attachments."""
    return _files(attached_file_ids(message.get("attachments")), message, "thread.message.file", "message_id")


def _files(file_ids: list[str], parent: Mapping[str, Any], kind: str, parent_field: str) -> list[dict[str, Any]]:
    return [
        {"id": file, "object": kind, "created_at": parent.get("created_at"), parent_field: parent.get("id")}
        for file in file_ids
    ]


def list_files(files: list[dict[str, Any]], page: Page) -> dict[str, Any]:
    """The list object for one page of such files."""
    ordered = files if page.order == "asc" else files[::-1]
    # Nothing was asked of a vendor, so the window is cut here.
    return complete({"object": "list", "data": ordered}, replace(page, asked=0))
