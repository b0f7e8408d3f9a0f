"""What an answer tells the owner index."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.operations import BY_NAME, OPERATIONS
from gateway.phases.note_owner import OwnerChange, note_owner

IN_PLACE = {"tool_resources": {"file_search": {"vector_stores": [{"file_ids": ["f"]}]}}}
MADE = {"tool_resources": {"file_search": {"vector_store_ids": ["vs_1"]}}}

USED_AND_IN_PLACE = {"tool_resources": {"file_search": {"vector_stores": [{}], "vector_store_ids": ["vs_0"]}}}
USED_AND_MADE = {"tool_resources": {"file_search": {"vector_store_ids": ["vs_0", "vs_1"]}}}


@pytest.mark.parametrize(
    ("operation", "sent", "answered", "created"),
    [
        ("create_assistant", {}, {"id": "asst_1"}, {"assistant": ["asst_1"]}),
        ("upload_file", None, {"id": "file-1"}, {"file": ["file-1"]}),
        ("create_vector_store", {"file_ids": ["f"]}, {"id": "vs_1"}, {"vector_store": ["vs_1"]}),
        # vector stores described in place are made by the vendor
        ("create_assistant", IN_PLACE, {"id": "a", **MADE}, {"assistant": ["a"], "vector_store": ["vs_1"]}),
        ("create_thread", IN_PLACE, {"id": "thread_1", **MADE}, {"vector_store": ["vs_1"]}),
        # those that are only used are not
        ("create_assistant", MADE, {"id": "a", **MADE}, {"assistant": ["a"]}),
        ("create_thread", MADE, {"id": "thread_1", **MADE}, {}),
        ("create_thread", USED_AND_IN_PLACE, {"id": "thread_1", **USED_AND_MADE}, {"vector_store": ["vs_1"]}),
        ("create_thread", {}, {"id": "thread_1"}, {}),
        ("create_thread", None, {"id": "thread_1"}, {}),
        ("create_message", {}, {"id": "msg_1"}, {}),
        ("modify_assistant", {}, {"id": "asst_1"}, {}),
        ("get_assistant", None, {"id": "asst_1"}, {}),
        # answers of a strange shape
        ("create_assistant", {}, {}, {}),
        ("create_assistant", {}, {"id": None}, {}),
        ("create_assistant", {}, {"id": 5}, {}),
        ("create_thread", IN_PLACE, {"id": "t"}, {}),
        ("create_thread", IN_PLACE, {"tool_resources": None}, {}),
        ("create_thread", IN_PLACE, {"tool_resources": {"file_search": []}}, {}),
        ("create_thread", IN_PLACE, {"tool_resources": {"file_search": {"vector_store_ids": None}}}, {}),
        (
            "create_thread",
            IN_PLACE,
            {"tool_resources": {"file_search": {"vector_store_ids": ["vs_1", 5, None]}}},
            {"vector_store": ["vs_1"]},
        ),
        ("create_thread", {"tool_resources": "x"}, {"id": "t"}, {}),
        ("create_thread", {"tool_resources": {"file_search": {"vector_stores": []}}}, MADE, {}),
    ],
)
def test_what_was_created_is_noted(
    operation: str, sent: dict[str, Any] | None, answered: dict[str, Any], created: dict[str, list[str]]
) -> None:
    assert note_owner(BY_NAME[operation], sent, answered, {}) == OwnerChange(created=created)


@pytest.mark.parametrize("kind", ["assistant", "file", "vector_store"])
def test_what_was_deleted_is_forgotten(kind: str) -> None:
    change = note_owner(BY_NAME[f"delete_{kind}"], None, {}, {kind: "x_1"})
    assert change == OwnerChange(removed={kind: ["x_1"]})


def test_nothing_is_forgotten_when_something_is_only_taken_out() -> None:
    """A file that leaves a vector store, or a message that leaves a thread, is nobody's entry."""
    for operation in OPERATIONS:
        if operation.owned != "delete":
            assert note_owner(operation, {}, {}, {operation.kind: "x"}).removed == {}
