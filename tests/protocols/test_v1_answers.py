"""Answers and events: each object in both directions."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from gateway.protocols import v1

BOTH = [{"type": "file_search"}, {"type": "code_interpreter"}]
SEARCH, RETRIEVAL, CODE = {"type": "file_search"}, {"type": "retrieval"}, {"type": "code_interpreter"}
RANKED = {"type": "file_search", "file_search": {"ranking_options": {"score_threshold": 0.0}}}


def text(value: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": {"value": value, "annotations": []}, **more}


def cited(**citation: Any) -> dict[str, Any]:
    annotation = {"type": "file_citation", "text": "[1]", "file_citation": citation}
    return {"type": "text", "text": {"value": "as said[1]", "annotations": [annotation]}}


def path() -> dict[str, Any]:
    annotation = {"type": "file_path", "text": "sandbox:/mnt/data/a", "file_path": {"file_id": "a"}}
    return {"type": "text", "text": {"value": "sandbox:/mnt/data/a", "annotations": [annotation]}}


def message(**fields: Any) -> dict[str, Any]:
    return {"object": "thread.message", "id": "msg_1", **fields}


def assistant(**fields: Any) -> dict[str, Any]:
    return {"object": "assistant", "id": "asst_1", **fields}


def run(**fields: Any) -> dict[str, Any]:
    return {"object": "thread.run", "id": "run_1", **fields}


def calls(*each: dict[str, Any], kind: str = "thread.run.step") -> dict[str, Any]:
    details = {"type": "tool_calls", "tool_calls": list(each)}
    inner = {"step_details": details}
    return {"object": kind, "id": "step_1"} | (inner if kind == "thread.run.step" else {"delta": inner})


def delta(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"object": "thread.message.delta", "id": "msg_1", "delta": {"content": list(parts)}}


def files(*file_ids: str) -> dict[str, Any]:
    return {"code_interpreter": {"file_ids": list(file_ids)}}


DOWN: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    # what it shows, v2, v1
    ("an assistant without files", assistant(tools=[], tool_resources={}), assistant(tools=[], file_ids=[])),
    ("whose resources are null", assistant(tool_resources=None), assistant(file_ids=[])),
    ("with files", assistant(tool_resources=files("a", "b")), assistant(file_ids=["a", "b"])),
    (
        "a vector store may be shared and has no files to show",
        assistant(tools=[SEARCH], tool_resources={"file_search": {"vector_store_ids": ["vs_1"]}}),
        assistant(tools=[RETRIEVAL], file_ids=[]),
    ),
    (
        "settings of the search stay beside the old name, for a caller that sends its tools back",
        assistant(tools=[RANKED, CODE], tool_resources={}),
        assistant(tools=[{**RANKED, "type": "retrieval"}, CODE], file_ids=[]),
    ),
    (
        "fields that only v2 has and nobody misses",
        assistant(reasoning_effort="low"),
        assistant(reasoning_effort="low", file_ids=[]),
    ),
    ("a thread", {"object": "thread", "id": "t", "tool_resources": files("a")}, {"object": "thread", "id": "t"}),
    (
        "a message's files, each once",
        message(attachments=[{"file_id": "a", "tools": [CODE]}, {"file_id": "a", "tools": [SEARCH]}, {"tools": []}]),
        message(file_ids=["a"]),
    ),
    ("no attachments", message(attachments=[]), message(file_ids=[])),
    ("null attachments", message(attachments=None), message(file_ids=[])),
    ("recorded messages have no status", message(content=[text("hi")]), message(content=[text("hi")], file_ids=[])),
    (
        "a refusal is what the assistant said",
        message(content=[{"type": "refusal", "refusal": "I won't"}]),
        message(content=[text("I won't")], file_ids=[]),
    ),
    (
        "an image's address",
        message(content=[{"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}}]),
        message(content=[text("https://x/y.png")], file_ids=[]),
    ),
    ("an odd one", message(content=[{"type": "image_url"}, 1]), message(content=[text(""), 1], file_ids=[])),
    (
        "an image file is known",
        message(content=[{"type": "image_file", "image_file": {"file_id": "a", "detail": "low"}}]),
        message(content=[{"type": "image_file", "image_file": {"file_id": "a", "detail": "low"}}], file_ids=[]),
    ),
    (
        "a citation gets the quote that v1 programs read",
        message(content=[cited(file_id="a")]),
        message(content=[cited(file_id="a", quote="")], file_ids=[]),
    ),
    ("a path has none", message(content=[path()]), message(content=[path()], file_ids=[])),
    (
        "one that has it keeps it",
        message(content=[cited(file_id="a", quote="said")]),
        message(content=[cited(file_id="a", quote="said")], file_ids=[]),
    ),
    (
        "a run that hit a token limit",
        run(status="incomplete", incomplete_details={"reason": "max_prompt_tokens"}, parallel_tool_calls=True),
        run(status="completed", incomplete_details={"reason": "max_prompt_tokens"}, file_ids=[]),
    ),
    (
        "recorded runs name the files of their assistant",
        run(status="queued", tools=[SEARCH], tool_choice=SEARCH, tool_resources=files("a")),
        run(status="queued", tools=[RETRIEVAL], tool_choice=RETRIEVAL, file_ids=["a"]),
    ),
    (
        "recorded usage has more to it",
        run(usage={"total_tokens": 1, "prompt_token_details": {"cached_tokens": 0}}),
        run(usage={"total_tokens": 1, "prompt_token_details": {"cached_tokens": 0}}, file_ids=[]),
    ),
    (
        "a search is empty in v1: ids in its results would be nobody's to rewrite",
        calls({"id": "call_1", "type": "file_search", "file_search": {"results": [{"file_id": "a"}]}}, CODE),
        calls({"id": "call_1", "type": "retrieval", "retrieval": {}}, CODE),
    ),
    (
        "a piece of one",
        calls({"index": 0, "type": "file_search", "file_search": {}}, kind="thread.run.step.delta"),
        calls({"index": 0, "type": "retrieval", "retrieval": {}}, kind="thread.run.step.delta"),
    ),
    (
        "a message creation",
        {"object": "thread.run.step", "step_details": {"type": "message_creation"}, "expires_at": 1},
        {"object": "thread.run.step", "step_details": {"type": "message_creation"}, "expires_at": 1},
    ),
    (
        "a step without details",
        {"object": "thread.run.step", "step_details": None},
        {"object": "thread.run.step", "step_details": None},
    ),
    (
        "pieces of a refusal",
        delta({"index": 0, "type": "refusal", "refusal": "I "}, {"index": 0, "type": "refusal"}),
        delta({"index": 0, "type": "text", "text": {"value": "I "}}, {"index": 0, "type": "text", "text": {}}),
    ),
    (
        "an address in pieces",
        delta({"index": 1, "type": "image_url", "image_url": {"url": "u"}}),
        delta({"index": 1, "type": "text", "text": {"value": "u"}}),
    ),
    (
        "a piece of a text, where a citation may lack its quote",
        delta({"index": 0, **cited(file_id="a")}),
        delta({"index": 0, **cited(file_id="a")}),
    ),
    ("no delta", {"object": "thread.message.delta", "delta": None}, {"object": "thread.message.delta", "delta": None}),
    (
        "a list",
        {"object": "list", "data": [message(attachments=[]), 1], "first_id": None, "last_id": None, "has_more": False},
        {"object": "list", "data": [message(file_ids=[]), 1], "first_id": None, "last_id": None, "has_more": False},
    ),
    ("a list that is none", {"object": "list", "data": {}}, {"object": "list", "data": {}}),
    (
        "a deletion",
        {"object": "thread.deleted", "id": "t", "deleted": True},
        {"object": "thread.deleted", "id": "t", "deleted": True},
    ),
    ("a vector store", {"object": "vector_store", "file_ids": 1}, {"object": "vector_store", "file_ids": 1}),
    ("what does not say what it is", {"tool_resources": 1}, {"tool_resources": 1}),
    ("or says it oddly", {"object": ["thread"]}, {"object": ["thread"]}),
]


@pytest.mark.parametrize(("given", "expected"), [row[1:] for row in DOWN], ids=[row[0] for row in DOWN])
def test_what_v1_callers_see_of_v2_objects(given: dict[str, Any], expected: dict[str, Any]) -> None:
    before = deepcopy(given)
    assert v1.answer_down(given) == expected
    assert given == before
    assert v1.answer_down(expected) == expected


UP: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    # what it shows, v1, v2
    ("an assistant without files", assistant(tools=[], file_ids=[]), assistant(tools=[], tool_resources={})),
    (
        "the code interpreter always has its list",
        assistant(tools=[CODE], file_ids=[]),
        assistant(tools=[CODE], tool_resources=files()),
    ),
    (
        "files of retrieval stand where they can be named",
        assistant(tools=[RETRIEVAL], file_ids=["a"]),
        assistant(tools=[SEARCH], tool_resources=files("a")),
    ),
    ("an old server without the field", assistant(), assistant(tool_resources={})),
    ("or with null in it", assistant(file_ids=None), assistant(tool_resources={})),
    ("a thread", {"object": "thread", "id": "t"}, {"object": "thread", "id": "t", "tool_resources": {}}),
    ("a message", message(file_ids=["a"]), message(attachments=[{"file_id": "a", "tools": BOTH}])),
    ("a message without files", message(file_ids=[]), message(attachments=[])),
    ("an old server's", message(), message(attachments=[])),
    (
        "a run",
        run(status="completed", tools=[RETRIEVAL], tool_choice=RETRIEVAL, file_ids=["a"], incomplete_details=None),
        run(
            status="completed",
            tools=[SEARCH],
            tool_choice=SEARCH,
            tool_resources=files("a"),
            incomplete_details=None,
            parallel_tool_calls=True,
        ),
    ),
    (
        "a run that hit a token limit",
        run(status="completed", incomplete_details={"reason": "max_completion_tokens"}, file_ids=[]),
        run(
            status="incomplete",
            incomplete_details={"reason": "max_completion_tokens"},
            tool_resources={},
            parallel_tool_calls=True,
        ),
    ),
    (
        "a search",
        calls({"id": "call_1", "type": "retrieval", "retrieval": {}}, {"type": "retrieval"}, CODE),
        calls({"id": "call_1", "type": "file_search", "file_search": {}}, {"type": "file_search"}, CODE),
    ),
    (
        "a piece of one",
        calls({"index": 0, "type": "retrieval", "retrieval": {}}, kind="thread.run.step.delta"),
        calls({"index": 0, "type": "file_search", "file_search": {}}, kind="thread.run.step.delta"),
    ),
    (
        "a piece of a message has no place for files in v2, and keeps the field that ids are replaced in",
        {"object": "thread.message.delta", "delta": {"file_ids": ["a"]}},
        {"object": "thread.message.delta", "delta": {"file_ids": ["a"]}},
    ),
    (
        "a quote stays",
        message(content=[cited(file_id="a", quote="q")], file_ids=[]),
        message(content=[cited(file_id="a", quote="q")], attachments=[]),
    ),
    ("a v1 file", {"object": "assistant.file", "id": "a"}, {"object": "assistant.file", "id": "a"}),
    (
        "a list",
        {"object": "list", "data": [message(file_ids=[])]},
        {"object": "list", "data": [message(attachments=[])]},
    ),
]


@pytest.mark.parametrize(("given", "expected"), [row[1:] for row in UP], ids=[row[0] for row in UP])
def test_what_v2_callers_see_of_v1_objects(given: dict[str, Any], expected: dict[str, Any]) -> None:
    before = deepcopy(given)
    assert v1.answer_up(given) == expected
    assert given == before
    assert v1.answer_up(expected) == expected


ENDED = {"incomplete_details": {"reason": "max_prompt_tokens"}, "file_ids": []}


@pytest.mark.parametrize(
    ("name", "data", "down", "status"),
    [
        (
            "thread.run.incomplete",
            run(status="incomplete"),
            "thread.run.completed",
            "completed",
        ),  # the one that v1 lacks
        ("thread.run.failed", run(status="failed"), "thread.run.failed", "failed"),
        (
            "thread.message.incomplete",
            message(status="incomplete"),
            "thread.message.incomplete",
            "incomplete",
        ),  # v1 has it
        ("thread.run.step.delta", calls(kind="thread.run.step.delta"), "thread.run.step.delta", None),
        ("thread.news", {"object": "news", "status": "incomplete"}, "thread.news", "incomplete"),  # nobody knows it
        ("error", {"error": {"message": "x"}}, "error", None),
    ],
)
def test_events_as_v1_callers_see_them(name: str, data: dict[str, Any], down: str, status: str | None) -> None:
    seen, shown = v1.event_down(name, data)
    assert (seen, shown.get("status")) == (down, status)


@pytest.mark.parametrize(
    ("name", "data", "up"),
    [
        ("thread.run.completed", run(status="completed", **ENDED), "thread.run.incomplete"),  # only the run tells
        ("thread.run.completed", run(status="completed", file_ids=[]), "thread.run.completed"),
        ("thread.message.completed", message(status="completed"), "thread.message.completed"),
        ("thread.message.incomplete", message(status="incomplete"), "thread.message.incomplete"),
    ],
)
def test_events_as_v2_callers_see_them(name: str, data: dict[str, Any], up: str) -> None:
    seen, shown = v1.event_up(name, data)
    assert seen == up
    assert v1.event_down(seen, shown)[0] == name


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("thread.run.completed", run(status="completed", **ENDED)),
        ("thread.message.completed", message(file_ids=["a"])),
        ("thread.run.step.created", calls({"type": "retrieval", "retrieval": {}})),
        ("thread.run.step.delta", calls({"type": "retrieval"}, kind="thread.run.step.delta")),
        ("thread.created", {"object": "thread", "id": "t"}),
    ],
)
def test_an_event_tells_what_an_object_is_that_does_not(name: str, data: dict[str, Any]) -> None:
    """Without `object` the ids are found by the event's name; what belongs to the other version is too."""
    mute = {field: value for field, value in data.items() if field != "object"}
    seen, shown = v1.event_up(name, data)
    assert v1.event_up(name, mute) == (seen, {field: value for field, value in shown.items() if field != "object"})
    assert v1.event_down(seen, v1.event_up(name, mute)[1])[1] == mute
