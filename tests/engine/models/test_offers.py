"""What is refused at creation: named, and never ignored."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from gateway.engine.models.offers import UNSUPPORTED, Offer, faults
from tests.values import any_json, unhurried

PLAIN = Offer()
BARE = Offer(
    tool_choices=frozenset({"none", "auto"}),
    strict_functions=False,
    parallel_tool_calls=False,
    response_formats=frozenset({"text"}),
    reasoning_effort=False,
    max_temperature=1.0,
    image_urls=False,
)
PICKY = Offer(image_details=frozenset({"auto", "high"}), image_types=frozenset({"image/png", "image/gif"}))
RICH = Offer(hosted_tools=frozenset({"file_search"}), image_files=True, assistant_images=True)
BOTH = Offer(hosted_tools=frozenset({"file_search", "code_interpreter"}))

SEARCH = {"type": "file_search"}
CODE = {"type": "code_interpreter"}
FUNCTION = {"type": "function", "function": {"name": "weather"}}
STRICT = {"type": "function", "function": {"name": "weather", "strict": True}}
URL = {"type": "image_url", "image_url": {"url": "https://x/y.png"}}
FILE = {"type": "image_file", "image_file": {"file_id": "file-1"}}
TEXT = {"type": "text", "text": "Hi"}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "n"}}
ATTACHED = {"file_id": "file-1", "tools": [SEARCH]}


def message(*content: Any, role: str = "user", **more: Any) -> dict[str, Any]:
    return {"role": role, "content": list(content), **more}


def image(url: str = "https://x/y.png", **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **more}}


@pytest.mark.parametrize(
    ("offer", "body", "params"),
    [
        # Assistants and runs.
        (PLAIN, {"model": "m", "tools": [FUNCTION, STRICT]}, []),
        (PLAIN, {"tools": [FUNCTION, SEARCH, CODE]}, ["tools[1].type", "tools[2].type"]),
        (PLAIN, {"tools": [{"type": "browser"}]}, ["tools[0].type"]),
        (RICH, {"tools": [SEARCH]}, []),
        (RICH, {"tools": [SEARCH, CODE]}, ["tools[1].type"]),
        (BARE, {"tools": [STRICT, FUNCTION]}, ["tools[0].function.strict"]),
        (PLAIN, {"tools": [], "tool_resources": {}}, []),
        (PLAIN, {"tools": None, "tool_resources": None}, []),
        (PLAIN, {"tool_resources": {"code_interpreter": {"file_ids": []}, "file_search": None}}, []),
        (
            PLAIN,
            {"tool_resources": {"code_interpreter": {"file_ids": ["file-1"]}}},
            ["tool_resources.code_interpreter"],
        ),
        (
            PLAIN,
            {"tool_resources": {"file_search": {"vector_stores": [{"file_ids": ["file-1"]}]}}},
            ["tool_resources.file_search"],
        ),
        (RICH, {"tool_resources": {"file_search": {"vector_store_ids": ["vs_1"]}}}, []),
        (PLAIN, {"tool_choice": SEARCH}, ["tool_choice"]),
        (RICH, {"tool_choice": SEARCH}, []),
        (PLAIN, {"tool_choice": FUNCTION, "parallel_tool_calls": False, "response_format": SCHEMA}, []),
        (PLAIN, {"tool_choice": "required", "reasoning_effort": "high", "temperature": 2}, []),
        (BARE, {"tool_choice": "required"}, ["tool_choice"]),
        (BARE, {"tool_choice": FUNCTION}, ["tool_choice"]),
        (BARE, {"tool_choice": "auto", "parallel_tool_calls": True, "response_format": "auto"}, []),
        (BARE, {"tool_choice": None, "parallel_tool_calls": None, "response_format": None}, []),
        (BARE, {"reasoning_effort": None, "temperature": None}, []),
        (BARE, {"response_format": {"type": "text"}, "temperature": 1}, []),
        (BARE, {"parallel_tool_calls": False}, ["parallel_tool_calls"]),
        (BARE, {"response_format": SCHEMA}, ["response_format"]),
        (BARE, {"response_format": {"type": "json_object"}}, ["response_format"]),
        (BARE, {"reasoning_effort": "none"}, ["reasoning_effort"]),
        (BARE, {"temperature": 1.1}, ["temperature"]),
        # Messages, wherever they are.
        (PLAIN, message(TEXT, URL), []),
        (PLAIN, {"role": "user", "content": "Hi", "attachments": []}, []),
        (PLAIN, message(TEXT, FILE), ["content[1]"]),
        (RICH, message(TEXT, FILE), []),
        (BARE, message(TEXT, URL), ["content[1]"]),
        (PLAIN, message(URL, role="assistant"), ["content[0]"]),
        (RICH, message(URL, role="assistant"), []),
        (PLAIN, message(TEXT, attachments=[ATTACHED]), ["attachments[0]"]),
        (RICH, message(TEXT, attachments=[ATTACHED]), []),
        (RICH, message(TEXT, attachments=[{"file_id": "file-1", "tools": [SEARCH, CODE]}]), ["attachments[0]"]),
        (RICH, message(TEXT, attachments=[{"file_id": "file-1", "tools": []}]), ["attachments[0]"]),
        (PICKY, message(TEXT, image(detail="high"), image(detail="auto"), image(detail=None)), []),
        (PICKY, message(TEXT, image(detail="low")), ["content[1].image_url.detail"]),
        (PLAIN, message(image("data:image/svg+xml,<svg/>", detail="low")), []),
        (PICKY, message(image("data:image/png;base64,AAAA"), image("DATA:image/GIF;base64,AAAA")), []),
        (PICKY, message(image("data:image/svg+xml;base64,AAAA")), ["content[0].image_url.url"]),
        (PICKY, message(image("data:image/png,AAAA")), ["content[0].image_url.url"]),
        (PICKY, message(image("data:")), ["content[0].image_url.url"]),
        (PLAIN, {"messages": [message(TEXT), message(FILE)]}, ["messages[1].content[0]"]),
        (PLAIN, {"additional_messages": [message(FILE)]}, ["additional_messages[0].content[0]"]),
        # A thread with its run.
        (
            PLAIN,
            {
                "assistant_id": "asst_1",
                "thread": {
                    "messages": [message(TEXT, attachments=[ATTACHED])],
                    "tool_resources": {"file_search": {"vector_store_ids": ["vs_1"]}},
                },
                "tool_resources": {"code_interpreter": {"file_ids": ["file-1"]}},
                "tools": [CODE],
            },
            [
                "tools[0].type",
                "tool_resources.code_interpreter",
                "thread.tool_resources.file_search",
                "thread.messages[0].attachments[0]",
            ],
        ),
        # What a caller may say of these elsewhere is its own.
        (PLAIN, {"metadata": {"tools": "file_search"}, "instructions": "use code_interpreter"}, []),
    ],
)
def test_what_cannot_be_carried_is_named(offer: Offer, body: dict[str, Any], params: list[str]) -> None:
    assert [fault.param for fault in faults(body, offer)] == params


def test_a_fault_is_a_400_that_says_what_is_wrong() -> None:
    (fault,) = faults({"tools": [SEARCH]}, PLAIN)
    error = fault.as_error()
    assert (error.status, error.param, error.code) == (400, "tools[0].type", UNSUPPORTED)
    assert "file_search" in error.message


@pytest.mark.parametrize(
    ("offer", "body", "words"),
    [
        (PLAIN, {"tools": [SEARCH]}, "no tool 'file_search': only functions, which you carry out yourself"),
        (RICH, {"tools": [CODE]}, "no tool 'code_interpreter': only file_search and functions, which you carry out"),
        (BOTH, {"tools": [{"type": "browser"}]}, "'browser': only code_interpreter, file_search and functions, which"),
        (PLAIN, message(TEXT, attachments=[ATTACHED]), "cannot read files: put the text into the message"),
        (RICH, message(attachments=[{"file_id": "file-1", "tools": [SEARCH, CODE]}]), "no tool 'code_interpreter'"),
        (RICH, message(attachments=[{"file_id": "file-1"}]), "read files by a tool only: name it in the attachment"),
    ],
)
def test_a_fault_says_what_there_is_instead(offer: Offer, body: dict[str, Any], words: str) -> None:
    (fault,) = faults(body, offer)
    assert words in fault.message


@unhurried
@given(any_json)
def test_a_body_of_any_shape_is_no_trouble(value: Any) -> None:
    """Its shape is somebody else's to refuse."""
    names = (
        "tools",
        "tool_resources",
        "tool_choice",
        "thread",
        "messages",
        "content",
        "attachments",
        "response_format",
    )
    for name in names:
        faults({name: value}, BARE)
        faults({name: value}, PICKY)
        faults({name: [value]}, BARE)
        faults({"thread": {name: value}}, BARE)
