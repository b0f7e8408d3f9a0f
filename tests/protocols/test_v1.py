"""Both directions together: what goes up comes down the same, and nobody's own words are touched."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway import shapes
from gateway.operations import BY_NAME, OPERATIONS
from gateway.protocols import v1
from tests.protocols.v1_schemas import (
    ANY_OBJECT,
    FUNCTION_PARAMETERS,
    LISTS,
    METADATA,
    OBJECTS,
    REQUESTS,
    WORDS,
    Strategy,
    document,
    objects,
)

TRANSLATED = {
    "create_assistant": {"tools", "file_ids"},
    "modify_assistant": {"tools", "file_ids"},
    "create_thread": {"messages"},
    "create_message": {"file_ids"},
    "create_run": {"tools", "tool_choice", "additional_messages"},
    "create_thread_and_run": {"tools", "tool_choice", "thread"},
    "assistant": {"tools", "file_ids"},
    "thread.message": {"file_ids"},
    "thread.run": {"tools", "tool_choice", "file_ids", "status"},
    "thread.run.step": {"step_details"},
    "thread.run.step.delta": {"delta"},
}
"""Fields whose value differs between the versions. Every other field of v1 has to pass as it is."""

ADDED_UP = {"tool_resources", "attachments", "parallel_tool_calls"}
"""Fields that only v2 has."""

REQUEST_FIELDS = [(name, field) for name, schema in REQUESTS.items() for field in schema]
OBJECT_FIELDS = [(name, field) for name, schema in OBJECTS.items() for field in schema]


# A busy machine is no fault: neither a slow example nor slow drawing fails a test.
SOME = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
FEW = settings(SOME, max_examples=10)


def requests(name: str) -> Strategy:
    """Bodies for which one v2 call is enough."""
    bodies = document(REQUESTS[name])
    if name != "modify_assistant":
        return bodies
    tools = REQUESTS[name]["tools"].filter(lambda tools: {"type": "retrieval"} not in tools)
    return bodies.filter(lambda body: not body.get("file_ids")) | bodies.flatmap(
        lambda body: tools.map(lambda given: body | {"tools": given})
    )


@pytest.mark.parametrize(("name", "field"), REQUEST_FIELDS)
@FEW
@given(data=st.data())
def test_every_field_of_a_v1_request_is_handled(name: str, field: str, data: st.DataObject) -> None:
    """It passes as it is or is translated; either way it comes back."""
    body = data.draw(requests(name)) | {field: data.draw(REQUESTS[name][field])}
    if v1.needs_several_calls(BY_NAME[name], body):
        body["tools"] = []
    up = v1.request_up(BY_NAME[name], body)
    if field not in TRANSLATED.get(name, set()):
        assert up[field] == body[field]
    assert up.keys() - ADDED_UP <= body.keys()
    assert v1.request_down(BY_NAME[name], up) == body


@pytest.mark.parametrize(("name", "field"), OBJECT_FIELDS)
@FEW
@given(data=st.data())
def test_every_field_of_a_v1_object_is_handled(name: str, field: str, data: st.DataObject) -> None:
    answer = data.draw(objects(name)) | {field: data.draw(OBJECTS[name][field])}
    up = v1.answer_up(answer)
    if field not in TRANSLATED.get(name, set()):
        assert up[field] == answer[field]
    assert up.keys() - ADDED_UP <= answer.keys()
    assert v1.answer_down(up) == answer


@pytest.mark.parametrize("name", REQUESTS)
@SOME
@given(data=st.data())
def test_a_v1_request_survives_going_up_and_down(name: str, data: st.DataObject) -> None:
    body = data.draw(requests(name))
    before = deepcopy(body)
    up = v1.request_up(BY_NAME[name], body)
    once_up = deepcopy(up)
    assert v1.request_down(BY_NAME[name], up) == body == before, "and neither way changes what it is given"
    assert up == once_up


@SOME
@given(answer=ANY_OBJECT | LISTS)
def test_a_v1_answer_survives_going_up_and_down(answer: dict[str, Any]) -> None:
    before = deepcopy(answer)
    up = v1.answer_up(answer)
    once_up = deepcopy(up)
    assert v1.answer_down(up) == answer == before
    assert v1.answer_up(v1.answer_down(up)) == up == once_up, "up of down keeps all that v1 can express"


@SOME
@given(answer=ANY_OBJECT | LISTS)
def test_what_has_gone_one_way_already_stays(answer: dict[str, Any]) -> None:
    """Some servers speak a mixture; translating twice does no harm."""
    up = v1.answer_up(answer)
    assert v1.answer_up(up) == up
    assert v1.answer_down(answer) == answer


@pytest.mark.parametrize("name", sorted(name for name in BY_NAME if name not in REQUESTS))
@FEW
@given(body=st.dictionaries(WORDS, WORDS | METADATA))
def test_operations_that_v1_shares_or_lacks_pass(name: str, body: dict[str, Any]) -> None:
    """Files and vector stores have no versions."""
    assert v1.request_up(BY_NAME[name], body) == body == v1.request_down(BY_NAME[name], body)


def test_every_operation_with_a_body_in_v1_is_in_the_table() -> None:
    versioned = {row.name for row in OPERATIONS if row.body is not None and row.kind in ("assistant", "thread")}
    versioned |= {row.name for row in OPERATIONS if row.body is not None and row.kind in ("message", "run", "step")}
    assert versioned == set(REQUESTS)


@SOME
@given(metadata=METADATA, parameters=FUNCTION_PARAMETERS, text=WORDS)
def test_user_data_is_the_very_same_object_afterwards(metadata: Any, parameters: Any, text: str) -> None:
    """Not equal but identical: nothing walked into it."""
    tools = [{"type": "function", "function": {"name": "f", "parameters": parameters}}]
    body = {
        "metadata": metadata,
        "tools": tools,
        "thread": {"metadata": metadata, "messages": [{"role": "user", "content": text, "metadata": metadata}]},
    }
    for translate in (v1.request_up, v1.request_down):
        moved = translate(BY_NAME["create_thread_and_run"], body)
        message = moved["thread"]["messages"][0]
        assert moved["tools"][0]["function"]["parameters"] is parameters
        assert moved["metadata"] is moved["thread"]["metadata"] is message["metadata"] is metadata
        assert message["content"] is text
    call = {"type": "function", "id": "call_1", "function": {"name": "f", "arguments": text, "output": text}}
    step = {"object": "thread.run.step", "metadata": metadata, "step_details": {"tool_calls": [call]}}
    for answer in (v1.answer_up(step), v1.answer_down(step)):
        assert answer["step_details"]["tool_calls"][0] is call
        assert answer["metadata"] is metadata


@pytest.mark.parametrize("name", ["create_assistant", "create_message", "create_thread", "create_thread_and_run"])
@SOME
@given(data=st.data())
def test_ids_can_be_replaced_in_place_afterwards(name: str, data: st.DataObject) -> None:
    """No list stands in a result twice, so no id is replaced twice, and the caller's own body keeps its ids."""
    body = data.draw(requests(name))
    before = deepcopy(body)
    up = v1.request_up(BY_NAME[name], body)
    shape = BY_NAME[name].body
    assert shape is not None
    slots = list(shapes.find_slots(up, shape))
    for slot in slots:
        slot.fill(f"{slot.shown}!")
    assert all(slot.shown.count("!") == 1 for slot in slots)
    assert body == before


@SOME
@given(answer=objects("assistant") | objects("thread.message") | objects("thread.run"))
def test_every_id_that_went_up_is_found_by_the_walk_over_answers(answer: dict[str, Any]) -> None:
    """An id in a place that the walk does not know would reach the caller as the provider spells it."""
    up = shapes.rewrite(deepcopy(v1.answer_up(answer)), shapes.OBJECTS.get(answer["object"], shapes.ASSISTANT), mark)
    assert v1.answer_down(up)["file_ids"] == [f"{file}!" for file in answer["file_ids"]]


def mark(_: str, shown: str) -> str:
    return f"{shown}!"
