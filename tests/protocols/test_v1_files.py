"""The file objects that only v1 has, out of the objects that hold them."""

from __future__ import annotations

import pytest

from gateway.lists import read_page
from gateway.protocols import v1

ASSISTANT = {
    "id": "asst_1",
    "object": "assistant",
    "created_at": 7,
    "tool_resources": {"code_interpreter": {"file_ids": ["a", "b", "c"]}},
}
MESSAGE = {
    "id": "msg_1",
    "object": "thread.message",
    "created_at": 8,
    "attachments": [{"file_id": "a", "tools": []}, {"file_id": "b", "tools": []}],
}


def test_files_of_an_assistant() -> None:
    first = v1.assistant_files(ASSISTANT)[0]
    assert first == {"id": "a", "object": "assistant.file", "created_at": 7, "assistant_id": "asst_1"}
    assert [file["id"] for file in v1.assistant_files(ASSISTANT)] == v1.assistant_file_ids(ASSISTANT) == ["a", "b", "c"]


def test_files_of_a_message() -> None:
    assert v1.message_files(MESSAGE)[1] == {
        "id": "b",
        "object": "thread.message.file",
        "created_at": 8,
        "message_id": "msg_1",
    }


def test_what_holds_no_files_has_none() -> None:
    for holder in ({}, {"tool_resources": None}, {"tool_resources": {"code_interpreter": None}}, {"attachments": None}):
        assert v1.assistant_files(holder) == []
        assert v1.message_files(holder) == []


@pytest.mark.parametrize(
    ("query", "shown", "more"),
    [
        ({}, "cba", False),  # newest first, as every list
        ({"order": "asc"}, "abc", False),
        ({"limit": "2"}, "cb", True),
        ({"limit": "3"}, "cba", False),  # a full page is not yet a hint of more
        ({"limit": "2", "after": "c"}, "ba", False),
        ({"order": "asc", "after": "a", "limit": "1"}, "b", True),
        ({"before": "a", "limit": "1"}, "b", True),  # the nearest ones
        ({"after": "a"}, "", False),
    ],
)
def test_a_page_of_files(query: dict[str, str], shown: str, more: bool) -> None:
    page = read_page(list(query.items()), default_limit=20, max_limit=100, ask_one_more=False)
    answer = v1.list_files(v1.assistant_files(ASSISTANT), page)
    assert "".join(file["id"] for file in answer["data"]) == shown
    assert answer["object"] == "list"
    assert answer["has_more"] is more
    assert answer["first_id"] == (shown[0] if shown else None)
    assert answer["last_id"] == (shown[-1] if shown else None)


def test_no_files_are_an_empty_page() -> None:
    page = read_page([], default_limit=20, max_limit=100, ask_one_more=False)
    assert v1.list_files([], page) == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }
