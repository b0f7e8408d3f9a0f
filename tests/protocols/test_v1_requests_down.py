"""v2 callers in front of v1 providers: what their bodies become, and what v1 cannot say."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import GatewayError
from gateway.operations import BY_NAME
from gateway.protocols import v1

SEARCH, CODE = {"type": "file_search"}, {"type": "code_interpreter"}
SCHEMA = {"type": "object", "properties": {"strict": {"type": "file_search"}}}
TEXT = {"type": "text", "text": "hello"}
OWN = {"threads_gateway": "assistants=v1"}


def attached(*tools: Any, file: Any = "a") -> dict[str, Any]:
    return {"attachments": [{"file_id": file, "tools": list(tools)}]}


ROWS: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    # what it shows, operation, v2, v1
    ("a file for both tools", "create_message", attached(SEARCH, CODE), {"file_ids": ["a"]}),
    ("a file for one tool is a file for all in v1", "create_message", attached(SEARCH), {"file_ids": ["a"]}),
    ("for the other one", "create_message", attached(CODE), {"file_ids": ["a"]}),
    (
        "a file attached twice, for different tools",
        "create_message",
        {"attachments": attached(SEARCH)["attachments"] + attached(CODE)["attachments"]},
        {"file_ids": ["a"]},
    ),
    ("none: v1 takes one to ten", "create_message", {"attachments": []}, {}),
    ("null", "create_message", {"attachments": None}, {}),
    ("one text part is a text", "create_message", {"content": [TEXT]}, {"content": "hello"}),
    ("a text is a text", "create_message", {"content": "hello"}, {"content": "hello"}),
    ("what is no content passes", "create_message", {"content": 1}, {"content": 1}),
    (
        "messages of a thread with a run",
        "create_thread_and_run",
        {"thread": {"messages": [{"content": [TEXT]}, 1], "tool_resources": {}}},
        {"thread": {"messages": [{"content": "hello"}, 1]}},
    ),
    ("what is no thread passes", "create_thread_and_run", {"thread": 1}, {"thread": 1}),
    (
        "messages of a run",
        "create_run",
        {"additional_messages": [attached(CODE)]},
        {"additional_messages": [{"file_ids": ["a"]}]},
    ),
    ("a null list of them", "create_run", {"additional_messages": None}, {"additional_messages": None}),
    ("tools by name", "create_run", {"tools": [SEARCH, CODE, 1]}, {"tools": [{"type": "retrieval"}, CODE, 1]}),
    ("no tools", "create_run", {"tools": None}, {"tools": None}),
    ("what is no list of them", "create_run", {"tools": "x"}, {"tools": "x"}),
    ("what is no list of messages", "create_thread", {"messages": "x"}, {"messages": "x"}),
    ("null for one tool", "create_assistant", {"tool_resources": {"code_interpreter": None}}, {}),
    (
        "the gateway's own vector store",
        "create_assistant",
        {"tool_resources": {"file_search": {"vector_stores": [{"file_ids": ["a"], "metadata": OWN}]}}},
        {"file_ids": ["a"]},
    ),
    ("a tool nobody knows", "create_run", {"tools": [{"type": "x"}]}, {"tools": [{"type": "x"}]}),
    ("empty settings", "create_run", {"tools": [{**SEARCH, "file_search": {}}]}, {"tools": [{"type": "retrieval"}]}),
    (
        "a function that is not strict",
        "create_run",
        {"tools": [{"type": "function", "function": {"name": "f", "strict": False, "parameters": SCHEMA}}]},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}]},
    ),
    ("a choice of file search", "create_run", {"tool_choice": SEARCH}, {"tool_choice": {"type": "retrieval"}}),
    ("other choices", "create_run", {"tool_choice": "none"}, {"tool_choice": "none"}),
    ("limits that v1 has too", "create_run", {"max_prompt_tokens": 256}, {"max_prompt_tokens": 256}),
    (
        "a format that v1 has too",
        "create_run",
        {"response_format": {"type": "text"}},
        {"response_format": {"type": "text"}},
    ),
    ("the default spelt out", "create_run", {"parallel_tool_calls": True}, {}),
    ("settings of nothing", "create_run", {"parallel_tool_calls": None, "reasoning_effort": None}, {}),
    ("resources that say nothing", "create_run", {"tool_resources": {"file_search": {"vector_store_ids": []}}}, {}),
    ("a thread's resources that say nothing", "modify_thread", {"tool_resources": {"file_search": None}}, {}),
    ("fields that nobody knows", "create_run", {"new": {"attachments": 1}}, {"new": {"attachments": 1}}),
    (
        "an assistant's files",
        "modify_assistant",
        {"tools": [SEARCH], "tool_resources": {"code_interpreter": {"file_ids": ["a"]}}},
        {"tools": [{"type": "retrieval"}], "file_ids": ["a"]},
    ),
    (
        "taking them away",
        "modify_assistant",
        {"tool_resources": {"code_interpreter": {"file_ids": []}}},
        {"file_ids": []},
    ),
    ("no word about files", "modify_assistant", {"tool_resources": {"code_interpreter": {}}}, {}),
    ("no word about resources", "modify_assistant", {"tool_resources": None}, {}),
    (
        "a vector store that is not there is let go",
        "modify_assistant",
        {"tool_resources": {"file_search": {"vector_store_ids": []}}},
        {},
    ),
    (
        "a vector store of plain files is what v1 does with an assistant's files",
        "create_assistant",
        {
            "tool_resources": {
                "code_interpreter": {"file_ids": ["a", "b"]},
                "file_search": {
                    "vector_stores": [{"file_ids": ["b", "c"], "metadata": {}, "chunking_strategy": {"type": "auto"}}]
                },
            }
        },
        {"file_ids": ["a", "b", "c"]},
    ),
]


@pytest.mark.parametrize(("name", "body", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_what_a_v2_body_becomes(name: str, body: dict[str, Any], expected: dict[str, Any]) -> None:
    assert v1.request_down(BY_NAME[name], body) == expected


def search(**resource: Any) -> dict[str, Any]:
    return {"tool_resources": {"file_search": resource}}


def store(**settings: Any) -> dict[str, Any]:
    return search(vector_stores=[{"file_ids": ["a"], **settings}])


STATIC = {"type": "static", "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 0}}
STORES = "tool_resources.file_search.vector_stores"

UNSUPPORTED: list[tuple[str, str, dict[str, Any], str]] = [
    # what it shows, operation, body, param
    ("thinking harder", "create_assistant", {"reasoning_effort": "high"}, "reasoning_effort"),
    ("or in a run", "create_run", {"reasoning_effort": "none"}, "reasoning_effort"),
    ("one call at a time", "create_run", {"parallel_tool_calls": False}, "parallel_tool_calls"),
    ("some tool or other", "create_thread_and_run", {"tool_choice": "required"}, "tool_choice"),
    ("structured outputs", "create_assistant", {"response_format": {"type": "json_schema"}}, "response_format"),
    (
        "settings of the search",
        "create_run",
        {"tools": [CODE, {**SEARCH, "file_search": {"ranking_options": {"score_threshold": 0.5}}}]},
        "tools[1].file_search.ranking_options.score_threshold",
    ),
    (
        "a strict function",
        "create_assistant",
        {"tools": [{"type": "function", "function": {"name": "f", "strict": True}}]},
        "tools[0].function.strict",
    ),
    (
        "a vector store",
        "create_assistant",
        search(vector_store_ids=["vs_1"]),
        "tool_resources.file_search.vector_store_ids",
    ),
    (
        "and files besides",
        "create_assistant",
        search(vector_stores=[{"file_ids": ["a"]}], vector_store_ids=["vs_1"]),
        "tool_resources.file_search.vector_store_ids",
    ),
    ("chunks", "create_assistant", store(chunking_strategy=STATIC), f"{STORES}[0].chunking_strategy.type"),
    ("metadata of a vector store", "create_assistant", store(metadata={"k": "v"}), f"{STORES}[0].metadata.k"),
    ("a vector store without files", "create_assistant", search(vector_stores=[{}]), f"{STORES}[0].file_ids"),
    ("v2 has no vector stores here either", "modify_assistant", store(), STORES),
    ("another tool's resources", "create_assistant", {"tool_resources": {"bing": {"id": 1}}}, "tool_resources.bing.id"),
    (
        "files in another form",
        "create_assistant",
        {"tool_resources": {"code_interpreter": "a"}},
        "tool_resources.code_interpreter",
    ),
    ("of another form", "create_assistant", {"tool_resources": {"bing": "x"}}, "tool_resources.bing"),
    (
        "more than files",
        "create_assistant",
        {"tool_resources": {"code_interpreter": {"data_sources": [1]}}},
        "tool_resources.code_interpreter.data_sources",
    ),
    (
        "files of a thread",
        "create_thread",
        {"tool_resources": {"code_interpreter": {"file_ids": ["a"]}}},
        "tool_resources.code_interpreter.file_ids",
    ),
    ("or a change of them", "modify_thread", store(), STORES),
    (
        "or with a run",
        "create_thread_and_run",
        {"thread": search(vector_store_ids=["vs_1"])},
        "thread.tool_resources.file_search.vector_store_ids",
    ),
    ("resources of a run", "create_thread_and_run", store(), STORES),
    (
        "an image",
        "create_thread",
        {"messages": [{"content": [TEXT, {"type": "image_file", "image_file": {"file_id": "a"}}]}]},
        "messages[0].content[1]",
    ),
    ("several texts", "create_message", {"content": [TEXT, TEXT]}, "content"),
    ("no text", "create_message", {"content": []}, "content"),
    ("a text with more to it", "create_message", {"content": [{**TEXT, "x": 1}]}, "content[0].x"),
    ("a text that is none", "create_message", {"content": [{"type": "text", "text": {"value": "x"}}]}, "content[0]"),
    ("an attachment for nothing", "create_message", attached(), "attachments[0].tools"),
    ("without tools", "create_message", {"attachments": [{"file_id": "a"}]}, "attachments[0].tools"),
    (
        "for another tool, in a run",
        "create_run",
        {"additional_messages": [attached(CODE, {"type": ["odd"]})]},
        "additional_messages[0].attachments[0].tools",
    ),
    (
        "more than a file",
        "create_message",
        {"attachments": [{"file_id": "a", "tools": [CODE], "data_source": {"type": "uri"}}]},
        "attachments[0].data_source.type",
    ),
]


@pytest.mark.parametrize(
    ("name", "body", "param"), [row[1:] for row in UNSUPPORTED], ids=[row[0] for row in UNSUPPORTED]
)
def test_what_v1_cannot_say_is_refused_by_name(name: str, body: dict[str, Any], param: str) -> None:
    with pytest.raises(GatewayError) as refused:
        v1.request_down(BY_NAME[name], body)
    error = refused.value
    assert (error.status, error.code, error.param) == (400, "unsupported_in_v1", param)
    assert " cannot be expressed in protocol v1, which this provider speaks; " in error.message


def test_a_refusal_says_what_and_what_to_do() -> None:
    with pytest.raises(GatewayError) as refused:
        v1.request_down(BY_NAME["create_run"], {"parallel_tool_calls": False})
    assert refused.value.message == (
        "'parallel_tool_calls' cannot be expressed in protocol v1, which this provider speaks;"
        " leave it out, and expect several calls at once"
    )


MALFORMED: list[tuple[str, str, dict[str, Any], str, str]] = [
    # what it shows, operation, body, param, code
    ("resources", "create_assistant", {"tool_resources": []}, "tool_resources", "invalid_type"),
    ("vector stores", "create_assistant", search(vector_stores={"a": 1}), STORES, "invalid_type"),
    ("a vector store", "create_assistant", search(vector_stores=["vs_1"]), f"{STORES}[0]", "invalid_type"),
    ("its files", "create_assistant", store(file_ids="a"), f"{STORES}[0].file_ids", "invalid_type"),
    ("attachments", "create_message", {"attachments": {"a": 1}}, "attachments", "invalid_type"),
    ("an attachment", "create_message", {"attachments": ["a"]}, "attachments[0]", "invalid_type"),
    ("its file", "create_message", attached(CODE, file=None), "attachments[0].file_id", "invalid_type"),
    (
        "two ways to say it",
        "create_message",
        attached(CODE) | {"file_ids": ["b"]},
        "attachments",
        "ambiguous_files",
    ),
    (
        "the same for assistants",
        "create_assistant",
        {"tool_resources": {"code_interpreter": {"file_ids": ["a"]}}, "file_ids": ["b"]},
        "tool_resources",
        "ambiguous_files",
    ),
]


@pytest.mark.parametrize(
    ("name", "body", "param", "code"), [row[1:] for row in MALFORMED], ids=[row[0] for row in MALFORMED]
)
def test_what_cannot_be_understood_is_refused_by_name(name: str, body: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(GatewayError) as refused:
        v1.request_down(BY_NAME[name], body)
    assert (refused.value.status, refused.value.param, refused.value.code) == (400, param, code)


@pytest.mark.parametrize(
    ("name", "query", "param"),
    [
        ("delete_message", [], None),  # v1 deletes threads only
        ("get_run_step", ["include[]"], "include[]"),  # results of searches do not exist
        ("list_run_steps", ["limit", "include[0]"], "include[0]"),  # as some clients spell arrays
        ("create_run", ["include"], "include"),
    ],
)
def test_operations_and_queries_that_v1_lacks_are_refused(name: str, query: list[str], param: str | None) -> None:
    with pytest.raises(GatewayError) as refused:
        v1.check_down(BY_NAME[name], query)
    assert (refused.value.code, refused.value.param) == ("unsupported_in_v1", param)


@pytest.mark.parametrize("name", ["list_messages", "list_run_steps", "delete_thread", "list_vector_stores"])
def test_operations_that_v1_has_or_that_have_no_version_pass(name: str) -> None:
    v1.check_down(BY_NAME[name], ["limit", "order", "after", "before", "run_id"])
