"""Every field of protocol v1 that an operation of this API sends or gets, as strategies.

Written down by hand from the OpenAPI description of 2024-04-16. A schema is `{field: strategy}`; `document` makes an
object with any of the fields, since clients and older servers leave out even required ones.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

Strategy = st.SearchStrategy[Any]
Schema = dict[str, Strategy]

TRAPS = (
    "file_ids",
    "attachments",
    "tool_resources",
    "type",
    "retrieval",
    "file_search",
    "code_interpreter",
    "incomplete",
    "object",
    "thread.run",
    "strict",
    "refusal",
    "quote",
    "content",
)
"""Words of the protocol that a caller's own data may well contain."""

WORDS = st.sampled_from(TRAPS) | st.text(max_size=8)
USER_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
METADATA = st.none() | st.dictionaries(WORDS, WORDS, max_size=3)
TIME = st.none() | st.integers(0, 2**31)
COUNT = st.none() | st.integers(256, 10_000)
NUMBER = st.none() | st.floats(0, 1)
TEXT = st.none() | WORDS


def ids(prefix: str) -> Strategy:
    return st.integers(0, 99).map(lambda number: f"{prefix}{number}")


def document(schema: Schema, *, always: Schema | None = None) -> Strategy:
    """Objects with any of the schema's fields, and with all of `always`."""
    return st.fixed_dictionaries(always or {}, optional={k: v for k, v in schema.items() if k not in (always or {})})


def one_of(name: str, schema: Schema) -> Strategy:
    """Objects of a `oneOf` that say what they are."""
    return document(schema, always={"type": st.just(name)})


FILE = ids("file-")
FILES = st.lists(FILE, unique=True, max_size=4)
MESSAGE_FILES = st.lists(FILE, unique=True, min_size=1, max_size=4)
"""v1 takes one to ten files with a message that it is sent."""

# --- tools ---------------------------------------------------------------------------------------------------------
FUNCTION_PARAMETERS = st.dictionaries(WORDS, USER_JSON, max_size=3)
FUNCTION_OBJECT: Schema = {"description": WORDS, "name": WORDS, "parameters": FUNCTION_PARAMETERS}
TOOLS = st.lists(
    one_of("code_interpreter", {})
    | one_of("retrieval", {})
    | one_of("function", {"function": document(FUNCTION_OBJECT)}),
    max_size=4,
)
TOOL_CHOICE = st.sampled_from(["none", "auto", None]) | st.one_of(
    one_of("code_interpreter", {}),
    one_of("retrieval", {}),
    one_of("function", {"function": st.fixed_dictionaries({"name": WORDS})}),
)
RESPONSE_FORMAT = st.sampled_from(["none", "auto", None, {"type": "text"}, {"type": "json_object"}])
TRUNCATION = st.none() | one_of("auto", {}) | one_of("last_messages", {"last_messages": st.integers(1, 9)})

# --- requests ------------------------------------------------------------------------------------------------------
ASSISTANT_REQUEST: Schema = {
    "model": WORDS,
    "name": TEXT,
    "description": TEXT,
    "instructions": TEXT,
    "tools": TOOLS,
    "file_ids": FILES,
    "metadata": METADATA,
    "temperature": NUMBER,
    "top_p": NUMBER,
    "response_format": RESPONSE_FORMAT,
}
MESSAGE_REQUEST: Schema = {
    "role": st.sampled_from(["user", "assistant"]),
    "content": WORDS,
    "file_ids": MESSAGE_FILES,
    "metadata": METADATA,
}
MESSAGES = st.lists(document(MESSAGE_REQUEST), max_size=3)
THREAD_REQUEST: Schema = {"messages": MESSAGES, "metadata": METADATA}
ANY_RUN_REQUEST: Schema = {
    "assistant_id": ids("asst_"),
    "model": TEXT,
    "instructions": TEXT,
    "tools": st.none() | TOOLS,
    "metadata": METADATA,
    "temperature": NUMBER,
    "top_p": NUMBER,
    "stream": st.none() | st.booleans(),
    "max_prompt_tokens": COUNT,
    "max_completion_tokens": COUNT,
    "truncation_strategy": TRUNCATION,
    "tool_choice": TOOL_CHOICE,
    "response_format": RESPONSE_FORMAT,
}
METADATA_REQUEST: Schema = {"metadata": METADATA}
REQUESTS: dict[str, Schema] = {
    "create_assistant": ASSISTANT_REQUEST,
    "modify_assistant": ASSISTANT_REQUEST,
    "create_thread": THREAD_REQUEST,
    "modify_thread": METADATA_REQUEST,
    "create_message": MESSAGE_REQUEST,
    "modify_message": METADATA_REQUEST,
    "create_run": ANY_RUN_REQUEST | {"additional_instructions": TEXT, "additional_messages": st.none() | MESSAGES},
    "create_thread_and_run": ANY_RUN_REQUEST | {"thread": document(THREAD_REQUEST)},
    "modify_run": METADATA_REQUEST,
    "cancel_run": {},
    "submit_tool_outputs": {
        "tool_outputs": st.lists(document({"tool_call_id": ids("call_"), "output": WORDS}), max_size=2),
        "stream": st.none() | st.booleans(),
    },
}
"""By the operation's name. The description demands a `thread_id` in two bodies that have no such property."""

# --- objects -------------------------------------------------------------------------------------------------------
USAGE = st.none() | document(
    {"completion_tokens": st.integers(0), "prompt_tokens": st.integers(0), "total_tokens": st.integers(0)}
)
LAST_ERROR = st.none() | document({"code": WORDS, "message": WORDS})
IMAGE_FILE: Schema = {"image_file": document({"file_id": FILE})}
ANNOTATION: Schema = {"text": WORDS, "start_index": st.integers(0), "end_index": st.integers(0)}
FILE_CITATION = {"file_id": FILE, "quote": WORDS}
FILE_PATH = document({"file_id": FILE})
ANNOTATIONS = st.lists(
    one_of("file_citation", ANNOTATION | {"file_citation": st.fixed_dictionaries(FILE_CITATION)})
    | one_of("file_path", ANNOTATION | {"file_path": FILE_PATH}),
    max_size=2,
)
CONTENT = st.lists(
    one_of("image_file", IMAGE_FILE) | one_of("text", {"text": document({"value": WORDS, "annotations": ANNOTATIONS})}),
    max_size=3,
)
INDEX: Schema = {"index": st.integers(0, 3)}
ANNOTATIONS_DELTA = st.lists(
    one_of("file_citation", INDEX | ANNOTATION | {"file_citation": document(FILE_CITATION)})
    | one_of("file_path", INDEX | ANNOTATION | {"file_path": FILE_PATH}),
    max_size=2,
)
CONTENT_DELTA = st.lists(
    one_of("image_file", INDEX | IMAGE_FILE)
    | one_of("text", INDEX | {"text": document({"value": WORDS, "annotations": ANNOTATIONS_DELTA})}),
    max_size=3,
)
REQUIRED_ACTION = st.none() | one_of(
    "submit_tool_outputs",
    {
        "submit_tool_outputs": document(
            {
                "tool_calls": st.lists(
                    one_of(
                        "function",
                        {"id": ids("call_"), "function": document({"name": WORDS, "arguments": WORDS})},
                    ),
                    max_size=2,
                )
            }
        )
    },
)
OUTPUTS = st.lists(
    one_of("logs", INDEX | {"logs": WORDS}) | one_of("image", INDEX | {"image": FILE_PATH}),
    max_size=2,
)
CALL: Schema = INDEX | {"id": ids("call_")}
CALLS = st.lists(
    one_of("code_interpreter", CALL | {"code_interpreter": document({"input": WORDS, "outputs": OUTPUTS})})
    | one_of("retrieval", CALL | {"retrieval": st.just({})})
    | one_of("function", CALL | {"function": document({"name": WORDS, "arguments": WORDS, "output": TEXT})}),
    max_size=3,
)
"""Calls of steps and of their deltas; only the latter have an `index`."""
STEP_DETAILS = one_of("message_creation", {"message_creation": document({"message_id": ids("msg_")})}) | one_of(
    "tool_calls", {"tool_calls": CALLS}
)
ENDINGS: Schema = dict.fromkeys(("cancelled_at", "failed_at", "completed_at"), TIME)

OBJECTS: dict[str, Schema] = {
    "assistant": {
        "id": ids("asst_"),
        "created_at": TIME,
        "name": TEXT,
        "description": TEXT,
        "model": WORDS,
        "instructions": TEXT,
        "tools": TOOLS,
        "file_ids": FILES,
        "metadata": METADATA,
    },
    "thread": {"id": ids("thread_"), "created_at": TIME, "metadata": METADATA},
    "thread.message": {
        "id": ids("msg_"),
        "created_at": TIME,
        "thread_id": ids("thread_"),
        "status": st.sampled_from(["in_progress", "incomplete", "completed"]),
        "incomplete_details": st.none() | document({"reason": WORDS}),
        "completed_at": TIME,
        "incomplete_at": TIME,
        "role": st.sampled_from(["user", "assistant"]),
        "content": CONTENT,
        "assistant_id": st.none() | ids("asst_"),
        "run_id": st.none() | ids("run_"),
        "file_ids": FILES,
        "metadata": METADATA,
    },
    "thread.message.delta": {
        "id": ids("msg_"),
        "delta": document({"role": st.just("assistant"), "content": CONTENT_DELTA, "file_ids": FILES}),
    },
    "thread.run": ENDINGS
    | {
        "id": ids("run_"),
        "created_at": TIME,
        "thread_id": ids("thread_"),
        "assistant_id": ids("asst_"),
        "status": st.sampled_from(
            ["queued", "in_progress", "requires_action", "cancelling", "cancelled", "failed", "completed", "expired"]
        ),
        "required_action": REQUIRED_ACTION,
        "last_error": LAST_ERROR,
        "expires_at": TIME,
        "started_at": TIME,
        "incomplete_details": st.none() | document({"reason": WORDS}),
        "model": WORDS,
        "instructions": WORDS,
        "tools": TOOLS,
        "file_ids": FILES,
        "metadata": METADATA,
        "usage": USAGE,
        "temperature": NUMBER,
        "top_p": NUMBER,
        "max_prompt_tokens": COUNT,
        "max_completion_tokens": COUNT,
        "truncation_strategy": TRUNCATION,
        "tool_choice": TOOL_CHOICE,
        "response_format": RESPONSE_FORMAT,
    },
    "thread.run.step": ENDINGS
    | {
        "id": ids("step_"),
        "created_at": TIME,
        "assistant_id": ids("asst_"),
        "thread_id": ids("thread_"),
        "run_id": ids("run_"),
        "type": st.sampled_from(["message_creation", "tool_calls"]),
        "status": st.sampled_from(["in_progress", "cancelled", "failed", "completed", "expired"]),
        "step_details": STEP_DETAILS,
        "last_error": LAST_ERROR,
        "expired_at": TIME,
        "metadata": METADATA,
        "usage": USAGE,
    },
    "thread.run.step.delta": {"id": ids("step_"), "delta": document({"step_details": STEP_DETAILS})},
    "assistant.file": {"id": FILE, "created_at": TIME, "assistant_id": ids("asst_")},
    "thread.message.file": {"id": FILE, "created_at": TIME, "message_id": ids("msg_")},
    "assistant.deleted": {"id": ids("asst_"), "deleted": st.booleans()},
    "assistant.file.deleted": {"id": FILE, "deleted": st.booleans()},
    "thread.deleted": {"id": ids("thread_"), "deleted": st.booleans()},
}
"""By the value of their `object` field, which stands in every one of them besides."""

ALWAYS: dict[str, Schema] = {
    name: {"file_ids": schema["file_ids"]} for name, schema in OBJECTS.items() if "file_ids" in schema
}
"""Fields that no answer of v1 lacks (recorded), and whose absence a translation would end."""


def objects(name: str) -> Strategy:
    return document(OBJECTS[name], always={"object": st.just(name), **ALWAYS.get(name, {})})


ANY_OBJECT = st.one_of([objects(name) for name in OBJECTS])
LISTS = st.fixed_dictionaries(
    {"object": st.just("list"), "data": st.lists(ANY_OBJECT, max_size=3), "has_more": st.booleans()},
    optional={"first_id": st.none() | WORDS, "last_id": st.none() | WORDS},
)
