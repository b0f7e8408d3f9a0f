"""Where ids stand. The tables here were written from the published description of the API, not from the code."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GatewayError
from gateway.operations import BY_NAME, OPERATIONS
from gateway.shapes import NEW_RUN, find_slots, rewrite, shape_of_event
from gateway.shapes import OBJECTS as STREAMED
from tests.values import any_json, unhurried

_MESSAGE_FILES = ["attachments[].file_id", "content[].image_file.file_id", "file_ids[]"]
_RESOURCES = [
    ("code_interpreter.file_ids[]", "file"),
    ("file_search.vector_store_ids[]", "vector_store"),
    ("file_search.vector_stores[].file_ids[]", "file"),
]


def _below(prefix: str, rows: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(f"{prefix}.{path}", kind) for path, kind in rows]


_FILES_OF_MESSAGE = [(path, "file") for path in _MESSAGE_FILES]
_THREAD = _below("messages[]", _FILES_OF_MESSAGE) + _below("tool_resources", _RESOURCES)

REQUESTS: dict[str, list[tuple[str, str]]] = {
    "create_assistant": [*_below("tool_resources", _RESOURCES), ("file_ids[]", "file")],
    "modify_assistant": [*_below("tool_resources", _RESOURCES), ("file_ids[]", "file")],
    "create_thread": _THREAD,
    "modify_thread": _below("tool_resources", _RESOURCES),
    "create_message": _FILES_OF_MESSAGE,
    "modify_message": [],
    "create_run": [
        ("assistant_id", "assistant"),
        *_below("additional_messages[]", _FILES_OF_MESSAGE),
        *_below("tool_resources", _RESOURCES),
    ],
    "modify_run": [],
    "cancel_run": [],
    "submit_tool_outputs": [],
    "create_thread_and_run": [
        ("assistant_id", "assistant"),
        *_below("thread", _THREAD),
        *_below("tool_resources", _RESOURCES),
    ],
    "create_vector_store": [("file_ids[]", "file")],
    "modify_vector_store": [],
    "create_store_file": [("file_id", "file")],
    "create_assistant_file": [("file_id", "file")],
    "modify_store_file": [],
    "create_batch": [("file_ids[]", "file"), ("files[].file_id", "file")],
    "cancel_batch": [],
    "search_vector_store": [],
}
"""Operation → the ids in its JSON body, `[]` for every item of an array."""

_ANNOTATIONS = "content[].text.annotations[]"
_OUTPUTS = [
    ("tool_calls[].code_interpreter.outputs[].image.file_id", "file"),
    ("tool_calls[].file_search.results[].file_id", "file"),
    ("message_creation.message_id", "message"),
]
_CONTENT = [
    ("content[].image_file.file_id", "file"),
    (f"{_ANNOTATIONS}.file_citation.file_id", "file"),
    (f"{_ANNOTATIONS}.file_path.file_id", "file"),
    ("file_ids[]", "file"),
]
_STORED = _below("tool_resources", _RESOURCES[:2])

OBJECTS: dict[str, list[tuple[str, str]]] = {
    "assistant": [("id", "assistant"), *_STORED, ("file_ids[]", "file")],
    "assistant.file": [("id", "file"), ("assistant_id", "assistant")],
    "thread.message.file": [("id", "file"), ("message_id", "message")],
    "thread": [("id", "thread"), *_STORED],
    "thread.message": [
        ("id", "message"),
        ("thread_id", "thread"),
        ("assistant_id", "assistant"),
        ("run_id", "run"),
        ("attachments[].file_id", "file"),
        *_CONTENT,
    ],
    "thread.run": [
        ("id", "run"),
        ("thread_id", "thread"),
        ("assistant_id", "assistant"),
        *_STORED,
        ("file_ids[]", "file"),
        ("last_error.message", "prose"),
    ],
    "thread.run.step": [
        ("id", "step"),
        ("run_id", "run"),
        ("thread_id", "thread"),
        ("assistant_id", "assistant"),
        *_below("step_details", _OUTPUTS),
        ("last_error.message", "prose"),
    ],
    "thread.message.delta": [("id", "message"), *_below("delta", _CONTENT)],
    "thread.run.step.delta": [("id", "step"), *_below("delta.step_details", _OUTPUTS)],
    "file": [("id", "file"), ("status_details", "prose")],
    "vector_store": [("id", "vector_store")],
    "vector_store.file": [("id", "file"), ("vector_store_id", "vector_store"), ("last_error.message", "prose")],
    "vector_store.files_batch": [("id", "batch"), ("vector_store_id", "vector_store")],
    "file_content": [("file_id", "file")],
    "search_results": [("data[].file_id", "file")],
}
"""What vendors answer → the ids in it."""

ANSWERS: dict[str, str] = {
    "assistant": "list_assistants create_assistant get_assistant modify_assistant",
    "assistant.file": "list_assistant_files create_assistant_file get_assistant_file",
    "thread.message.file": "list_message_files get_message_file",
    "thread": "create_thread get_thread modify_thread",
    "thread.message": "list_messages create_message get_message modify_message",
    "thread.run": "list_runs create_run get_run modify_run cancel_run submit_tool_outputs create_thread_and_run",
    "thread.run.step": "list_run_steps get_run_step",
    "file": "upload_file list_files get_file",
    "vector_store": "list_vector_stores create_vector_store get_vector_store modify_vector_store",
    "vector_store.file": "list_store_files create_store_file get_store_file modify_store_file list_batch_files",
    "vector_store.files_batch": "create_batch get_batch cancel_batch",
    "search_results": "search_vector_store",
    "file_content": "get_store_file_content",
}
"""Object → the operations that answer it, or a list of it."""

DELETIONS = {
    "delete_assistant": "assistant",
    "delete_assistant_file": "file",
    "delete_thread": "thread",
    "delete_message": "message",
    "delete_file": "file",
    "delete_vector_store": "vector_store",
    "delete_store_file": "file",
}

LOOK_ALIKE = "thread_abc123abc123abc123abc123 run_abc123abc123abc123abc123 file-abc123abc123abc123abc123"
ID = "asst_abc123abc123abc123abc123"
_SCHEMA = {"type": "object", "properties": {"file_id": {"enum": [ID]}, "thread_id": {"const": ID}}, "required": [ID]}
_FUNCTION = {"name": "thread_abc123", "description": LOOK_ALIKE, "parameters": _SCHEMA}
USER_DATA: dict[str, Any] = {
    "metadata": {"thread_id": ID, ID: LOOK_ALIKE, "file_ids": ID},
    "instructions": LOOK_ALIKE,
    "additional_instructions": ID,
    "description": ID,
    "name": ID,
    "model": "ft:gpt-4o:asst_abc123abc123abc123abc123",
    "role": ID,
    "tools": [{"type": "function", "function": _FUNCTION}, {"type": "file_search", "file_search": {"file_id": ID}}],
    "tool_choice": {"type": "function", "function": {"name": ID}},
    "response_format": {"type": "json_schema", "json_schema": {"name": ID, "schema": _SCHEMA}},
    "tool_outputs": [{"tool_call_id": "call_abc123", "output": ID}],
    "required_action": {
        "submit_tool_outputs": {"tool_calls": [{"id": "call_abc123", "function": {"name": ID, "arguments": ID}}]}
    },
    "query": ID,
    "filters": {"type": "eq", "key": "file_id", "value": ID},
    "filename": ID,
    "attributes": {"file_id": ID},
    "next_page": ID,
    "something_new": {"file_id": ID, "thread_id": [ID]},
}
"""What belongs to the caller, though every word of it looks like an id."""

TEXTS: list[dict[str, Any]] = [
    {"type": "text", "text": LOOK_ALIKE},
    {"type": "text", "text": {"value": LOOK_ALIKE, "annotations": [{"type": "file_path", "text": ID, "quote": ID}]}},
    {"type": "text", "text": {"value": ID, "annotations": [{"file_citation": {"quote": ID}, "start_index": 0}]}},
    {"type": "image_url", "image_url": {"url": f"https://example.com/{ID}"}},
    {"type": "refusal", "refusal": ID},
]
CALLS: list[dict[str, Any]] = [
    {"id": "call_abc123", "type": "function", "function": {"name": ID, "arguments": ID, "output": ID}},
    {"id": "call_abc123", "code_interpreter": {"input": ID, "outputs": [{"type": "logs", "logs": ID}]}},
    {"id": "call_abc123", "file_search": {"results": [{"file_name": ID, "content": [{"text": ID}], "score": 1}]}},
]


def at(path: str, value: Any) -> Any:
    """The smallest document with `value` at a path; arrays have two items."""
    name, _, rest = path.partition(".")
    inner = at(rest, value) if rest else value
    return {name.removesuffix("[]"): [inner, copy.deepcopy(inner)] if name.endswith("[]") else inner}


def params(path: str) -> list[str]:
    """Every place that a path means, with numbers."""
    head, array, tail = path.partition("[]")
    return [f"{head}[{place}]{rest}" for place in (0, 1) for rest in params(tail)] if array else [path]


def merged(documents: Iterator[dict[str, Any]]) -> dict[str, Any]:
    """One document that has everything the given ones have."""
    whole: dict[str, Any] = {}
    for document in documents:
        for name, value in document.items():
            whole[name] = _both(whole[name], value) if name in whole else value
    return whole


def _both(one: Any, other: Any) -> Any:
    if isinstance(one, dict):
        return merged(iter((one, other)))
    if isinstance(one, list):
        return [_both(*pair) for pair in zip(one, other, strict=True)]
    return one


def slots(operation: str, body: Any) -> list[tuple[str, str, str]]:
    return [(slot.param, slot.kind, slot.shown) for slot in find_slots(body, BY_NAME[operation].body)]  # type: ignore[arg-type]


def named(kind: str, value: str) -> str:
    return f"public {kind} of {value}"


# --- requests ------------------------------------------------------------------------------------------------------


def test_the_table_of_requests_is_whole() -> None:
    assert set(REQUESTS) == {operation.name for operation in OPERATIONS if operation.body is not None}


@pytest.mark.parametrize(
    ("operation", "path", "kind"), [(name, *row) for name, rows in REQUESTS.items() for row in rows]
)
def test_an_id_in_a_request_is_found_and_can_be_replaced(operation: str, path: str, kind: str) -> None:
    body = at(path, "mine")
    assert slots(operation, body) == [(param, kind, "mine") for param in params(path)]
    for slot in find_slots(body, BY_NAME[operation].body):  # type: ignore[arg-type]
        slot.fill("theirs")
    assert body == at(path, "theirs")


@pytest.mark.parametrize("operation", REQUESTS)
def test_all_ids_of_a_request_are_found_together_and_nothing_else(operation: str) -> None:
    rows = REQUESTS[operation]
    body = {**USER_DATA, **merged(at(path, "mine") for path, _ in rows)}
    expected = sorted((param, kind, "mine") for path, kind in rows for param in params(path))
    assert sorted(slots(operation, body)) == expected


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("create_message", {"content": ID}),
        ("create_message", {"content": TEXTS}),
        ("create_thread", {"messages": [{"content": ID}, {"content": TEXTS, "metadata": {"file_ids": ID}}]}),
        ("create_run", {"additional_messages": [{"content": LOOK_ALIKE}]}),
        ("submit_tool_outputs", {"tool_outputs": [{"tool_call_id": "call_abc123", "output": ID}]}),
        ("create_batch", {"files": [{"attributes": {"file_id": ID}}]}),
        # null is how some clients leave a field out
        ("create_run", {"assistant_id": None, "additional_messages": None}),
        ("create_message", {"content": TEXTS, "attachments": None, "file_ids": None}),
        ("create_thread", {"messages": None, "tool_resources": {"code_interpreter": None, "file_search": {}}}),
    ],
)
def test_users_words_in_a_request_are_no_ids(operation: str, body: dict[str, Any]) -> None:
    assert slots(operation, body) == []


@pytest.mark.parametrize(
    ("operation", "body", "param", "words"),
    [
        ("create_run", {"assistant_id": 5}, "assistant_id", "expected a string, but got an integer"),
        ("create_run", {"assistant_id": 10**30}, "assistant_id", "got an integer"),
        ("create_run", {"assistant_id": True}, "assistant_id", "got a boolean"),
        ("create_run", {"assistant_id": 0.5}, "assistant_id", "got a decimal number"),
        ("create_run", {"assistant_id": [ID]}, "assistant_id", "got an array"),
        ("create_run", {"assistant_id": {"id": ID}}, "assistant_id", "got an object"),
        ("create_run", {"additional_messages": {"0": {}}}, "additional_messages", "expected an array"),
        ("create_message", {"file_ids": ID}, "file_ids", "expected an array, but got a string"),
        ("create_message", {"file_ids": [ID, None]}, "file_ids[1]", "expected a string, but got null"),
        ("create_message", {"content": {"image_file": {"file_id": ID}}}, "content", "expected an array"),
        ("create_message", {"content": [ID]}, "content[0]", "expected an object, but got a string"),
        ("create_message", {"attachments": [{"file_id": [ID]}]}, "attachments[0].file_id", "expected a string"),
        ("create_thread", {"messages": [[]]}, "messages[0]", "expected an object, but got an array"),
        ("create_thread", {"tool_resources": [ID]}, "tool_resources", "expected an object"),
        (
            "create_thread_and_run",
            {"thread": {"messages": [{}, {"attachments": ID}]}},
            "thread.messages[1].attachments",
            "expected an array",
        ),
        (
            "modify_assistant",
            {"tool_resources": {"file_search": {"vector_store_ids": {"0": ID}}}},
            "tool_resources.file_search.vector_store_ids",
            "expected an array, but got an object",
        ),
        ("create_batch", {"files": [ID]}, "files[0]", "expected an object"),
        ("create_thread", [], "body", "expected an object, but got an array"),
    ],
)
def test_a_wrong_type_where_an_id_belongs_is_refused(operation: str, body: Any, param: str, words: str) -> None:
    """A vendor may coerce what we do not know: an id must not slip past the tenant's check in a strange form."""
    with pytest.raises(GatewayError) as refused:
        slots(operation, body)
    error = refused.value
    assert (error.status, error.code, error.param) == (400, "invalid_type", param)
    assert error.message.startswith(f"Invalid type for '{param}': ")
    assert words in error.message


@unhurried
@given(st.sampled_from(sorted(REQUESTS)), any_json)
def test_any_body_is_walked_or_refused(operation: str, body: Any) -> None:
    before = copy.deepcopy(body)
    try:
        found = slots(operation, body)
    except GatewayError as refused:
        assert refused.param  # noqa: PT017  both outcomes are good, this one if it names the parameter
    else:
        assert all(isinstance(shown, str) for _, _, shown in found)
    assert body == before


# --- answers -------------------------------------------------------------------------------------------------------


def test_the_table_of_answers_is_whole() -> None:
    answering = {name for names in ANSWERS.values() for name in names.split()}
    assert answering | set(DELETIONS) == {operation.name for operation in OPERATIONS if operation.shape}


@pytest.mark.parametrize(
    ("operation", "path", "kind"),
    [
        (operation, *row)
        for name, operations in ANSWERS.items()
        for operation in operations.split()
        for row in OBJECTS[name]
    ]
    + [(operation, "id", kind) for operation, kind in DELETIONS.items()],
)
def test_an_id_in_an_answer_becomes_public(operation: str, path: str, kind: str) -> None:
    answered = rewrite(at(path, "theirs"), BY_NAME[operation].shape, named)
    assert answered == at(path, f"public {kind} of theirs")


@pytest.mark.parametrize(
    ("name", "path", "kind"),
    [(name, *row) for name, rows in OBJECTS.items() if name in STREAMED for row in rows],
)
def test_an_id_in_an_event_becomes_public(name: str, path: str, kind: str) -> None:
    data = {"object": name, **at(path, "theirs")}
    expected = {"object": name, **at(path, f"public {kind} of theirs")}
    assert rewrite(data, shape_of_event("", data), named) == expected


@pytest.mark.parametrize("name", OBJECTS)
def test_users_words_in_an_answer_stay_byte_for_byte(name: str) -> None:
    operation = BY_NAME[ANSWERS[name].split()[0]] if name in ANSWERS else None
    answered: dict[str, Any] = {
        "object": name,
        **USER_DATA,
        "content": TEXTS,
        "delta": {"content": TEXTS, "step_details": {"tool_calls": CALLS}, "role": ID},
        "step_details": {"type": "tool_calls", "tool_calls": CALLS},
        "last_error": {"code": ID},
    }
    shape = operation.shape if operation else shape_of_event(name, answered)
    before = json.dumps(answered)
    assert json.dumps(rewrite(answered, shape, named)) == before


@pytest.mark.parametrize(
    ("operation", "answered"),
    [
        ("get_message", {"id": None, "run_id": None, "assistant_id": None, "attachments": None, "file_ids": None}),
        ("get_message", {"id": 5, "content": "just text", "attachments": "none"}),
        ("get_message", {"content": [None, 1, "x", [{"image_file": {"file_id": "x"}}], {"image_file": "x"}]}),
        ("get_message", {"content": [{"text": "x"}, {"text": {"annotations": {"file_path": {"file_id": "x"}}}}]}),
        ("get_thread", {"id": "", "tool_resources": [{"code_interpreter": {"file_ids": ["x"]}}]}),
        ("get_thread", {"tool_resources": {"code_interpreter": {"file_ids": "x"}, "file_search": []}}),
        ("get_run", {"last_error": "x", "thread_id": {"id": "x"}}),
        ("search_vector_store", {"data": {"file_id": "x"}}),
        ("get_run_step", {"step_details": {"tool_calls": [{"code_interpreter": {"outputs": None}}]}}),
        ("get_thread", []),
        ("get_thread", "x"),
    ],
)
def test_a_wrong_type_in_an_answer_is_left_alone(operation: str, answered: Any) -> None:
    """Vendors differ, and nothing they say may be lost."""
    before = copy.deepcopy(answered)
    assert rewrite(answered, BY_NAME[operation].shape, named) == before


@unhurried
@given(st.sampled_from(OPERATIONS), any_json)
def test_any_answer_passes(operation: Any, answered: Any) -> None:
    before = copy.deepcopy(answered)
    assert rewrite(answered, operation.shape, lambda kind, value: value) == before


# --- events --------------------------------------------------------------------------------------------------------

_RUN = "created queued in_progress requires_action completed incomplete failed cancelling cancelled expired"
_STEP = "created in_progress completed failed cancelled expired"
_MESSAGE = "created in_progress completed incomplete"
EVENTS = {
    "thread.created": "thread",
    **{f"thread.run.{verb}": "thread.run" for verb in _RUN.split()},
    **{f"thread.run.step.{verb}": "thread.run.step" for verb in _STEP.split()},
    "thread.run.step.delta": "thread.run.step.delta",
    **{f"thread.message.{verb}": "thread.message" for verb in _MESSAGE.split()},
    "thread.message.delta": "thread.message.delta",
}
"""Event → the object in its data."""


@pytest.mark.parametrize(("event", "name"), EVENTS.items())
def test_an_event_is_known_by_its_object_or_by_its_name(event: str, name: str) -> None:
    by_object = shape_of_event("", {"object": name})
    assert shape_of_event(event, {"object": name}) is by_object
    assert shape_of_event(event, {}) is by_object
    assert shape_of_event(event, {"object": "a vendor's own word"}) is by_object
    assert shape_of_event(event, {"object": 5}) is by_object


def test_the_object_decides_where_event_and_object_disagree() -> None:
    said = {"object": "thread.message", "id": "theirs"}
    assert rewrite(said, shape_of_event("thread.run.created", said), named)["id"] == "public message of theirs"


@pytest.mark.parametrize("event", ["", "ping", "thread.widget.created", "thread.run.step.tool.created", "response.x"])
def test_an_event_nobody_has_heard_of_has_its_plain_ids_replaced(event: str) -> None:
    kinds = ("assistant", "thread", "message", "run", "step", "file", "vector_store")
    data = {"object": "a.widget", "id": "w", "metadata": {"thread_id": "x"}, "text": ID, "other_id": ID}
    data |= {f"{kind}_id": "theirs" for kind in kinds}
    expected = data | {f"{kind}_id": f"public {kind} of theirs" for kind in kinds} | {"id": "public by_prefix of w"}
    assert rewrite(data, shape_of_event(event, data), named) == expected


@pytest.mark.parametrize("name", ["Assistant_ID", "ASSISTANT_ID", "a\u017f\u017fistant_id"])
def test_a_name_in_other_capitals_cannot_hide_an_id(name: str) -> None:
    """Parsers that do not tell capitals apart, Go's among them, would read it."""
    with pytest.raises(GatewayError) as refused:
        list(find_slots({name: "asst_raw"}, NEW_RUN))
    assert (refused.value.status, refused.value.param) == (400, name)
