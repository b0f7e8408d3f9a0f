"""v1 callers in front of v2 providers: what their bodies become."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import GatewayError
from gateway.operations import BY_NAME
from gateway.protocols import v1

BOTH = [{"type": "file_search"}, {"type": "code_interpreter"}]
RETRIEVAL, CODE = {"type": "retrieval"}, {"type": "code_interpreter"}
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "retrieval", "file_ids": ["a"]}}}
STORE = {"file_ids": ["a", "b"], "metadata": {"threads_gateway": "assistants=v1"}}
MESSAGE = {"role": "user", "content": "hello", "file_ids": ["a"]}
MESSAGE_UP = {"role": "user", "content": "hello", "attachments": [{"file_id": "a", "tools": BOTH}]}

ROWS: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    # what it shows, operation, v1, v2
    ("a body without files is the same", "create_message", {"content": "hi"}, {"content": "hi"}),
    ("a message's file goes to both tools", "create_message", MESSAGE, MESSAGE_UP),
    ("no files stay no files", "create_message", {"file_ids": []}, {"attachments": []}),
    ("null is no list to translate", "create_message", {"file_ids": None}, {}),
    (
        "an empty v2 field beside files",
        "create_message",
        {"file_ids": ["a"], "attachments": []},
        {"attachments": [{"file_id": "a", "tools": BOTH}]},
    ),
    ("a v2 field alone passes", "create_message", {"attachments": [1]}, {"attachments": [1]}),
    ("messages of a new thread", "create_thread", {"messages": [MESSAGE]}, {"messages": [MESSAGE_UP]}),
    ("what is no message passes", "create_thread", {"messages": [1, None]}, {"messages": [1, None]}),
    ("what is no list passes", "create_thread", {"messages": "x"}, {"messages": "x"}),
    (
        "messages of a thread with a run",
        "create_thread_and_run",
        {"assistant_id": "asst_1", "thread": {"messages": [MESSAGE], "metadata": {}}},
        {"assistant_id": "asst_1", "thread": {"messages": [MESSAGE_UP], "metadata": {}}},
    ),
    ("what is no thread passes", "create_thread_and_run", {"thread": "x"}, {"thread": "x"}),
    ("an assistant without a word of files", "create_assistant", {"model": "m"}, {"model": "m"}),
    ("messages of a run", "create_run", {"additional_messages": [MESSAGE]}, {"additional_messages": [MESSAGE_UP]}),
    ("a null list of them", "create_run", {"additional_messages": None}, {"additional_messages": None}),
    (
        "tools of a run, by name only",
        "create_run",
        {"tools": [RETRIEVAL, CODE, FUNCTION, "odd"]},
        {"tools": [{"type": "file_search"}, CODE, FUNCTION, "odd"]},
    ),
    ("a choice of retrieval", "create_run", {"tool_choice": RETRIEVAL}, {"tool_choice": {"type": "file_search"}}),
    ("other choices", "create_run", {"tool_choice": "auto"}, {"tool_choice": "auto"}),
    ("settings that both versions have", "create_run", {"max_prompt_tokens": 256}, {"max_prompt_tokens": 256}),
    ("fields that nobody knows", "create_run", {"new": {"file_ids": [1]}}, {"new": {"file_ids": [1]}}),
    (
        "an assistant's files without a tool: kept for the tool that may come later",
        "create_assistant",
        {"model": "m", "file_ids": ["a", "b"]},
        {"model": "m", "tool_resources": {"code_interpreter": {"file_ids": ["a", "b"]}}},
    ),
    (
        "for the code interpreter",
        "create_assistant",
        {"tools": [CODE], "file_ids": ["a", "b"]},
        {"tools": [CODE], "tool_resources": {"code_interpreter": {"file_ids": ["a", "b"]}}},
    ),
    (
        "for retrieval: searched, and listed where they are read back from",
        "create_assistant",
        {"tools": [RETRIEVAL], "file_ids": ["a", "b"]},
        {
            "tools": [{"type": "file_search"}],
            "tool_resources": {
                "code_interpreter": {"file_ids": ["a", "b"]},
                "file_search": {"vector_stores": [STORE]},
            },
        },
    ),
    (
        "retrieval without files makes no vector store",
        "create_assistant",
        {"tools": [RETRIEVAL], "file_ids": []},
        {"tools": [{"type": "file_search"}], "tool_resources": {"code_interpreter": {"file_ids": []}}},
    ),
    (
        "a change that takes every file away lets the vector store go",
        "modify_assistant",
        {"file_ids": []},
        {"tool_resources": {"code_interpreter": {"file_ids": []}, "file_search": {"vector_store_ids": []}}},
    ),
    (
        "a change of files that nothing searches",
        "modify_assistant",
        {"tools": [CODE], "file_ids": ["a"]},
        {
            "tools": [CODE],
            "tool_resources": {"code_interpreter": {"file_ids": ["a"]}, "file_search": {"vector_store_ids": []}},
        },
    ),
    ("a change of tools alone", "modify_assistant", {"tools": [RETRIEVAL]}, {"tools": [{"type": "file_search"}]}),
    ("metadata is the caller's own", "modify_run", {"metadata": {"file_ids": "a"}}, {"metadata": {"file_ids": "a"}}),
    ("tool outputs have no versions", "submit_tool_outputs", {"tool_outputs": [1]}, {"tool_outputs": [1]}),
]


@pytest.mark.parametrize(("name", "body", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_what_a_v1_body_becomes(name: str, body: dict[str, Any], expected: dict[str, Any]) -> None:
    assert v1.request_up(BY_NAME[name], body) == expected


REFUSED: list[tuple[str, str, dict[str, Any], str, str]] = [
    # what it shows, operation, body, param, code
    ("no list", "create_message", {"file_ids": "a"}, "file_ids", "invalid_type"),
    ("no string", "create_message", {"file_ids": ["a", 1]}, "file_ids[1]", "invalid_type"),
    (
        "the place in a thread",
        "create_thread_and_run",
        {"thread": {"messages": [{}, {"file_ids": 1}]}},
        "thread.messages[1].file_ids",
        "invalid_type",
    ),
    (
        "two ways to say it: taking one would lose the other",
        "create_run",
        {"additional_messages": [{"file_ids": ["a"], "attachments": [{"file_id": "b"}]}]},
        "additional_messages[0].attachments",
        "ambiguous_files",
    ),
    (
        "the same for assistants",
        "create_assistant",
        {"file_ids": ["a"], "tool_resources": {"code_interpreter": {"file_ids": ["b"]}}},
        "tool_resources",
        "ambiguous_files",
    ),
    (
        "and for changes of them",
        "modify_assistant",
        {"tools": [CODE], "file_ids": ["a"], "tool_resources": {"file_search": {"vector_store_ids": ["vs_1"]}}},
        "tool_resources",
        "ambiguous_files",
    ),
]


@pytest.mark.parametrize(
    ("name", "body", "param", "code"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_what_is_refused_and_how(name: str, body: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(GatewayError) as refused:
        v1.request_up(BY_NAME[name], body)
    assert (refused.value.status, refused.value.param, refused.value.code) == (400, param, code)


def test_files_that_cannot_be_searched_go_to_the_code_interpreter_alone() -> None:
    """A provider refuses a whole request for one `.csv` in a vector store; v1 took it."""
    up = v1.request_up(BY_NAME["create_message"], {"file_ids": ["csv", "pdf"]}, unsearchable={"csv"})
    assert up["attachments"] == [{"file_id": "csv", "tools": [CODE]}, {"file_id": "pdf", "tools": BOTH}]
    body = {"tools": [RETRIEVAL], "file_ids": ["csv", "pdf"]}
    up = v1.request_up(BY_NAME["create_assistant"], body, unsearchable={"csv"})
    assert up["tool_resources"]["code_interpreter"]["file_ids"] == ["csv", "pdf"]
    assert up["tool_resources"]["file_search"]["vector_stores"][0]["file_ids"] == ["pdf"]
    up = v1.request_up(BY_NAME["create_assistant"], body, unsearchable={"csv", "pdf"})
    assert "file_search" not in up["tool_resources"], "a vector store without a file is none"


SEVERAL: list[tuple[str, str, dict[str, Any], bool]] = [
    # what it shows, operation, body, may take several calls
    ("making an assistant is one call", "create_assistant", {"file_ids": ["a"], "tools": [RETRIEVAL]}, False),
    ("a new name", "modify_assistant", {"name": "x"}, False),
    ("other tools", "modify_assistant", {"tools": [CODE]}, False),
    ("null says nothing", "modify_assistant", {"tools": None, "file_ids": None}, False),
    ("files: the old vector store may have to go", "modify_assistant", {"file_ids": []}, True),
    ("retrieval for files it may have", "modify_assistant", {"tools": [RETRIEVAL]}, True),
    ("under its v2 name too", "modify_assistant", {"tools": [{"type": "file_search"}]}, True),
]


@pytest.mark.parametrize(("name", "body", "several"), [row[1:] for row in SEVERAL], ids=[row[0] for row in SEVERAL])
def test_which_bodies_may_take_several_calls(name: str, body: dict[str, Any], several: bool) -> None:
    assert v1.needs_several_calls(BY_NAME[name], body) is several


@pytest.mark.parametrize("tools", [None, [RETRIEVAL], [CODE]])
def test_a_change_of_files_names_them_for_the_code_interpreter(tools: Any) -> None:
    """Whether they are searched too is not for one call to say."""
    body = {"file_ids": ["a"]} | ({} if tools is None else {"tools": tools})
    up = v1.request_up(BY_NAME["modify_assistant"], body)
    assert up["tool_resources"] == v1.assistant_resources(["a"])
    assert v1.needs_several_calls(BY_NAME["modify_assistant"], body)


def test_resources_for_a_change_with_a_new_vector_store() -> None:
    assert v1.assistant_resources(["a"], vector_store_ids=["vs_1"]) == {
        "code_interpreter": {"file_ids": ["a"]},
        "file_search": {"vector_store_ids": ["vs_1"]},
    }
    assert v1.is_own_store({"id": "vs_1", "metadata": dict(v1.STORE_METADATA)})
    assert not v1.is_own_store({"id": "vs_1", "metadata": {}})
    assert not v1.is_own_store({"id": "vs_1"})
