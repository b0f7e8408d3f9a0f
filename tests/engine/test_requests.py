"""Bodies of requests for served threads: what passes, and OpenAI's sentence for what does not."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.engine.requests import BODIES, check_body
from gateway.errors import GatewayError
from tests.described import OPERATIONS, of_version, resolve

GOOD: list[tuple[str, dict[str, Any]]] = [
    ("create_assistant", {"model": "m"}),
    ("create_assistant", {"model": "m", "name": None, "tools": [{"type": "function", "function": {"name": "f"}}]}),
    ("create_assistant", {"model": "m", "response_format": "auto", "temperature": 0, "top_p": 1}),
    ("create_assistant", {"model": "m", "tools": [{"type": "file_search", "file_search": {"max_num_results": 3}}]}),
    ("modify_assistant", {}),
    ("create_thread", {"messages": [{"role": "user", "content": "hello"}], "metadata": {"a": "b"}}),
    ("create_message", {"role": "assistant", "content": [{"type": "text", "text": "hello"}]}),
    (
        "create_message",
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}}]},
    ),
    ("create_run", {"assistant_id": "asst_1", "tool_choice": {"type": "function", "function": {"name": "f"}}}),
    ("create_run", {"assistant_id": "asst_1", "truncation_strategy": {"type": "last_messages", "last_messages": 1}}),
    (
        "create_run",
        {
            "assistant_id": "asst_1",
            "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}},
        },
    ),
    ("create_thread_and_run", {"assistant_id": "asst_1", "thread": {"messages": []}, "stream": True}),
    ("submit_tool_outputs", {"tool_outputs": [{"tool_call_id": "call_1", "output": "7"}], "stream": None}),
    ("cancel_run", {"anything": 1}),
]

BAD: list[tuple[str, dict[str, Any], str, str, str]] = [
    (
        "create_assistant",
        {},
        "model",
        "missing_required_parameter",
        "Missing required parameter: 'model'.",
    ),
    (
        "create_assistant",
        {"model": None},
        "model",
        "invalid_type",
        "Invalid type for 'model': expected a string, but got null instead.",
    ),
    (
        "create_assistant",
        {"model": "m", "colour": 1},
        "colour",
        "unknown_parameter",
        "Unknown parameter: 'colour'.",
    ),
    (
        "create_assistant",
        {"model": "m", "tools": [{"type": "telepathy"}]},
        "tools[0].type",
        "invalid_value",
        "Invalid value: 'telepathy'. Supported values are: 'code_interpreter', 'file_search', and 'function'.",
    ),
    (
        "create_assistant",
        {"model": "m", "tools": [{"type": "function", "function": {}}]},
        "tools[0].function.name",
        "missing_required_parameter",
        "Missing required parameter: 'tools[0].function.name'.",
    ),
    (
        "create_assistant",
        {"model": "m", "name": "n" * 257},
        "name",
        "string_above_max_length",
        "Invalid 'name': string too long. Expected a string with maximum length 256, but got a string with length 257"
        " instead.",
    ),
    (
        "create_assistant",
        {"model": "m", "tools": [{"type": "code_interpreter"}] * 129},
        "tools",
        "array_above_max_length",
        "Invalid 'tools': array too long. Expected an array with maximum length 128, but got an array with length 129"
        " instead.",
    ),
    (
        "create_assistant",
        {"model": "m", "temperature": 2.5},
        "temperature",
        "decimal_above_max_value",
        "Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 2.5 instead.",
    ),
    (
        "create_run",
        {"assistant_id": "asst_1", "max_completion_tokens": 255},
        "max_completion_tokens",
        "integer_below_min_value",
        "Invalid 'max_completion_tokens': integer below minimum value. Expected a value >= 256, but got 255 instead.",
    ),
    (
        "create_run",
        {"assistant_id": "asst_1", "stream": "yes"},
        "stream",
        "invalid_type",
        "Invalid type for 'stream': expected a boolean, but got a string instead.",
    ),
    (
        "create_run",
        {"assistant_id": "asst_1", "tool_choice": "maybe"},
        "tool_choice",
        "invalid_value",
        "Invalid value: 'maybe'. Supported values are: 'none', 'auto', and 'required'.",
    ),
    (
        "create_message",
        {"role": "system", "content": "x"},
        "role",
        "invalid_value",
        "Invalid value: 'system'. Supported values are: 'user' and 'assistant'.",
    ),
    (
        "create_message",
        {"role": "user", "content": []},
        "content",
        "empty_array",
        "Invalid 'content': empty array. Expected an array with minimum length 1, but got an empty array instead.",
    ),
    (
        "create_message",
        {"role": "user", "content": ""},
        "content",
        "empty_string",
        "Invalid 'content': empty string. Expected a string with minimum length 1, but got an empty string instead.",
    ),
    (
        "create_thread",
        {"metadata": {"modified": True}},
        "metadata.modified",
        "invalid_type",
        "Invalid type for 'metadata.modified': expected a string, but got a boolean instead.",
    ),
    (
        "modify_run",
        {"metadata": {str(number): "" for number in range(17)}},
        "metadata",
        "object_above_max_properties",
        "Invalid 'metadata': too many properties. Expected an object with at most 16 properties, but got an object with"
        " 17 properties instead.",
    ),
    (
        "create_thread_and_run",
        {"assistant_id": "asst_1", "thread": {"messages": [{"role": "user"}]}},
        "thread.messages[0].content",
        "missing_required_parameter",
        "Missing required parameter: 'thread.messages[0].content'.",
    ),
    (
        "submit_tool_outputs",
        {"tool_outputs": [{"output": 7}]},
        "tool_outputs[0].output",
        "invalid_type",
        "Invalid type for 'tool_outputs[0].output': expected a string, but got an integer instead.",
    ),
]


@pytest.mark.parametrize(("operation", "body"), GOOD)
def test_what_openai_took_passes(operation: str, body: dict[str, Any]) -> None:
    check_body(operation, body)


@pytest.mark.parametrize(("operation", "body", "param", "code", "message"), BAD)
def test_what_openai_refused_is_refused_in_its_words(
    operation: str, body: dict[str, Any], param: str, code: str, message: str
) -> None:
    with pytest.raises(GatewayError) as refused:
        check_body(operation, body)
    assert refused.value == GatewayError(400, message, code=code, param=param)


@pytest.mark.parametrize("value", [True, None, "x", 1.5, [], {}])
def test_a_truth_value_is_no_number(value: Any) -> None:
    """null is as good as nothing; everything else must be an integer."""
    if value is None:
        check_body("create_run", {"assistant_id": "a", "max_prompt_tokens": value})
        return
    with pytest.raises(GatewayError, match="expected an integer"):
        check_body("create_run", {"assistant_id": "a", "max_prompt_tokens": value})


@pytest.mark.parametrize("operation", sorted(set(BODIES) - {"cancel_run"}))
def test_what_the_openapi_document_describes_is_what_may_be_said(operation: str) -> None:
    described = of_version(OPERATIONS[operation].body["application/json"], "v2")
    assert set(BODIES[operation].fields) == set(resolve(described)["properties"])  # type: ignore[attr-defined]
