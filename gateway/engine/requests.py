"""What the bodies of requests for served threads may say, operation by operation. Pure.

Forwarded requests are for their vendor to judge and never come here. Limits: the published OpenAPI description of
2026-08-21.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.engine.container_files import split_file
from gateway.engine.fields import (
    AnyObject,
    Anything,
    Array,
    Choice,
    Decimal,
    Field,
    Flag,
    Integer,
    Metadata,
    Object,
    OneOf,
    Text,
    WordOr,
)
from gateway.engine.models.offers import UNSUPPORTED
from gateway.errors import bad_request
from gateway.operations import Operation
from gateway.shapes import find_slots

_ID = Text(min_chars=1)
_LABEL = Text()

_FUNCTION = Object(
    {"name": Text(64, 1), "description": Text(), "parameters": AnyObject(), "strict": Flag()}, required=("name",)
)
_TOOL = OneOf(
    {
        "code_interpreter": Object({"type": _LABEL}),
        "file_search": Object({"type": _LABEL, "file_search": AnyObject()}),
        "function": Object({"type": _LABEL, "function": _FUNCTION}, required=("function",)),
    }
)
_NEW_STORES = Array(
    Object({"file_ids": Array(_ID), "chunking_strategy": AnyObject(), "metadata": Metadata()}), max_items=1
)


def _tool_resources(**more: Field) -> Field:
    search = Object({"vector_store_ids": Array(_ID, max_items=1), **more})
    return Object({"code_interpreter": Object({"file_ids": Array(_ID, max_items=20)}), "file_search": search})


_TOOL_RESOURCES = _tool_resources()
_NEW_TOOL_RESOURCES = _tool_resources(vector_stores=_NEW_STORES)
"""Of what is being created: a vector store may be described there."""
_JSON_SCHEMA = Object(
    {"name": Text(64, 1), "description": Text(), "schema": AnyObject(), "strict": Flag()}, required=("name",)
)
_RESPONSE_FORMAT = WordOr(
    Choice("auto"),
    OneOf(
        {
            "text": Object({"type": _LABEL}),
            "json_object": Object({"type": _LABEL}),
            "json_schema": Object({"type": _LABEL, "json_schema": _JSON_SCHEMA}, required=("json_schema",)),
        }
    ),
)
_TOOL_CHOICE = WordOr(
    Choice("none", "auto", "required"),
    OneOf(
        {
            "function": Object(
                {"type": _LABEL, "function": Object({"name": Text(64, 1)}, required=("name",))},
                required=("function",),
            ),
            "code_interpreter": Object({"type": _LABEL}),
            "file_search": Object({"type": _LABEL}),
        }
    ),
)
_TRUNCATION = Object({"type": Choice("auto", "last_messages"), "last_messages": Integer(minimum=1)}, required=("type",))
_DETAIL = Choice("auto", "low", "high")
_PART = OneOf(
    {
        "text": Object({"type": _LABEL, "text": Text(256_000, 1)}, required=("text",)),
        "image_url": Object(
            {"type": _LABEL, "image_url": Object({"url": Text(min_chars=1), "detail": _DETAIL}, required=("url",))},
            required=("image_url",),
        ),
        "image_file": Object(
            {"type": _LABEL, "image_file": Object({"file_id": _ID, "detail": _DETAIL}, required=("file_id",))},
            required=("image_file",),
        ),
    }
)


class _Content:
    """Text, or an array of parts."""

    def __call__(self, param: str, value: Any) -> None:
        if type(value) is str:
            Text(256_000, 1)(param, value)
        else:
            Array(_PART, min_items=1)(param, value)


_ATTACHMENT = Object({"file_id": _ID, "tools": Array(_TOOL)}, required=("file_id", "tools"))
_MESSAGE = Object(
    {
        "role": Choice("user", "assistant"),
        "content": _Content(),
        "attachments": Array(_ATTACHMENT),
        "metadata": Metadata(),
    },
    required=("role", "content"),
)
_THREAD: Mapping[str, Field] = {
    "messages": Array(_MESSAGE),
    "tool_resources": _NEW_TOOL_RESOURCES,
    "metadata": Metadata(),
}
_SAMPLING: Mapping[str, Field] = {
    "temperature": Decimal(0, 2),
    "top_p": Decimal(0, 1),
    "response_format": _RESPONSE_FORMAT,
    "reasoning_effort": Text(min_chars=1),  # which efforts there are depends on the model: its vendor judges
}
_ASSISTANT: Mapping[str, Field] = {
    "model": Text(min_chars=1),
    "name": Text(256),
    "description": Text(512),
    "instructions": Text(256_000),
    "tools": Array(_TOOL, max_items=128),
    "tool_resources": _TOOL_RESOURCES,
    "metadata": Metadata(),
    **_SAMPLING,
}
_RUN: Mapping[str, Field] = {
    "assistant_id": _ID,
    "model": Text(min_chars=1),
    "instructions": Text(256_000),
    "tools": Array(_TOOL, max_items=128),
    "tool_resources": _TOOL_RESOURCES,
    "metadata": Metadata(),
    "stream": Flag(),
    "max_prompt_tokens": Integer(minimum=256),
    "max_completion_tokens": Integer(minimum=256),
    "truncation_strategy": _TRUNCATION,
    "tool_choice": _TOOL_CHOICE,
    "parallel_tool_calls": Flag(),
    **_SAMPLING,
}
_TOOL_OUTPUT = Object({"tool_call_id": _ID, "output": Text()})

BODIES: Mapping[str, Field] = {
    "create_assistant": Object({**_ASSISTANT, "tool_resources": _NEW_TOOL_RESOURCES}, required=("model",)),
    "modify_assistant": Object(_ASSISTANT),
    "create_thread": Object(_THREAD),
    "modify_thread": Object({"tool_resources": _TOOL_RESOURCES, "metadata": Metadata()}),
    "create_message": _MESSAGE,
    "modify_message": Object({"metadata": Metadata()}),
    "create_run": Object(
        {**_RUN, "additional_instructions": Text(256_000), "additional_messages": Array(_MESSAGE)},
        required=("assistant_id",),
    ),
    "create_thread_and_run": Object({**_RUN, "thread": Object(_THREAD)}, required=("assistant_id",)),
    "modify_run": Object({"metadata": Metadata()}),
    "cancel_run": Anything(),
    "submit_tool_outputs": Object({"tool_outputs": Array(_TOOL_OUTPUT), "stream": Flag()}, required=("tool_outputs",)),
}
"""By operation. Runs take as many tools as assistants: OpenAI's description says 20, its API took 128 (unknown which
counts; the larger refuses nobody)."""


CONTENTS = "step_details.tool_calls[*].file_search.results[*].content"
"""All that `include[]` can ask for."""


def check_body(operation: str, body: Mapping[str, Any]) -> None:
    """Raises GatewayError 400 for the first thing that a body must not say, naming the parameter."""
    BODIES[operation]("", body)


def refuse_container_files(body: Mapping[str, Any], operation: Operation) -> None:
    """Raises GatewayError 400 for a file that a code interpreter made: nothing else at the vendor can read it."""
    for slot in find_slots(body, operation.sent):
        if slot.kind == "file" and split_file(slot.shown) is not None:
            message = "a file that the code interpreter made stays in its container: download it and upload it"
            raise bad_request(message, param=slot.param, code=UNSUPPORTED)
