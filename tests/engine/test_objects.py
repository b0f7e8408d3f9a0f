"""Objects of served threads keep to the description that the gateway publishes, at every step of their lives."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.engine import objects
from tests.described import OPERATIONS, faults, of_version, resolve

NOW = 1_790_000_000
KEPT = objects.new_assistant(
    {"model": "m-1", "instructions": "Be brief.", "temperature": 0.2, "name": None}, id="asst_1", now=NOW
)
ASSISTANT = objects.assistant(KEPT)


def described(operation: str, value: Any) -> list[str]:
    """What the description of an operation's answer says against a value."""
    found = OPERATIONS[operation].answers
    return faults(value, resolve(of_version(found["application/json"], "v2")))


def run(**given: Any) -> dict[str, Any]:
    return objects.run({"assistant_id": "asst_1", **given}, ASSISTANT, id="run_1", thread="thread_1", now=NOW)


def test_new_objects_are_as_described() -> None:
    said = {"role": "user", "content": [{"type": "text", "text": "hi"}]}
    assert described("create_assistant", ASSISTANT) == []
    assert described("create_thread", objects.thread({}, id="thread_1", now=NOW)) == []
    assert described("create_message", objects.message(said, id="msg_1", thread="thread_1", now=NOW)) == []
    assert described("create_run", run()) == []
    assert described("get_run_step", objects.step(run(), objects.message_details("msg_1"), id="step_1", now=NOW)) == []


def test_text_becomes_a_part_whether_it_came_alone_or_in_one() -> None:
    part = {"type": "text", "text": {"value": "hi", "annotations": []}}
    for content in ("hi", [{"type": "text", "text": "hi"}]):
        made = objects.message({"role": "user", "content": content}, id="msg_1", thread="thread_1", now=NOW)
        assert made["content"] == [part]


def test_a_run_takes_what_it_is_not_told_from_its_assistant() -> None:
    made = run(model="m-2", temperature=None, additional_instructions="In French.")
    assert (made["model"], made["temperature"], made["top_p"]) == ("m-2", 0.2, 1.0)
    assert made["instructions"] == "Be brief. In French."
    assert made["expires_at"] == NOW + 600
    assert made["truncation_strategy"] == {"type": "auto", "last_messages": None}


@pytest.mark.parametrize(
    ("status", "stamp"),
    [("completed", "completed_at"), ("failed", "failed_at"), ("cancelled", "cancelled_at"), ("expired", None)],
)
def test_a_run_that_is_over_says_when_and_waits_for_nothing(status: str, stamp: str | None) -> None:
    call = objects.function_call("call_1", "f", "{}")
    waiting = objects.waiting_run(objects.started_run(run(), now=NOW + 1), [call], None)
    assert described("get_run", waiting) == []
    ended = objects.ended_run(waiting, status, now=NOW + 2, usage=None)
    assert described("get_run", ended) == []
    assert (ended["status"], ended["required_action"]) == (status, None)
    assert ended["expires_at"] == (NOW + 600 if status == "expired" else None)
    assert stamp is None or ended[stamp] == NOW + 2


def test_what_a_run_waits_for_does_not_show_outputs() -> None:
    call = objects.function_call("call_1", "f", "{}", "7")
    waiting = objects.waiting_run(run(), [call], None)
    [asked] = waiting["required_action"]["submit_tool_outputs"]["tool_calls"]
    assert asked == {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled", "expired"])
def test_a_step_that_is_over_says_when(status: str) -> None:
    begun = objects.step(run(), objects.calls_details([]), id="step_1", now=NOW)
    ended = objects.ended_step(begun, status, now=NOW + 3)
    assert described("get_run_step", ended) == []
    assert ended[f"{status}_at"] == NOW + 3


def test_a_reply_is_whole_or_says_why_it_is_not() -> None:
    begun = objects.reply(run(), id="msg_2", now=NOW)
    assert begun["content"] == []
    content = [objects.text_part("Hal")]
    for made in (
        objects.whole_reply(begun, content, now=NOW),
        objects.cut_reply(begun, content, why="max_completion_tokens", now=NOW),
        objects.cut_reply(begun, content, why="anything else", now=NOW),
    ):
        assert described("get_message", made) == []
    assert made["incomplete_details"] == {"reason": "run_failed"}


def test_nothing_that_is_made_changes_what_it_was_made_of() -> None:
    before = run()
    kept = dict(before)
    objects.ended_run(objects.started_run(before, now=NOW), "completed", now=NOW, usage=None)
    assert before == kept


def test_null_brings_an_assistants_default_back_and_never_takes_its_model() -> None:
    changes = objects.assistant_changes({"instructions": None, "temperature": None, "model": None})
    changed = objects.assistant({**KEPT, **changes})
    assert (changed["instructions"], changed["temperature"], changed["model"]) == (None, 1.0, "m-1")


def test_a_model_is_told_only_what_somebody_said() -> None:
    """Some refuse a temperature even if it is their default."""
    assert objects.said({"top_p": None, "tool_choice": "none"}, KEPT) == {"temperature": 0.2, "tool_choice": "none"}
    assert objects.said({"temperature": 1.0}, KEPT) == {"temperature": 1.0}


def test_usage_is_added_field_by_field() -> None:
    first = {
        "prompt_tokens": 3,
        "completion_tokens": 1,
        "total_tokens": 4,
        "prompt_token_details": {"cached_tokens": 2},
    }
    assert objects.added_usage(None, None) is None
    assert objects.added_usage(first, None) == first
    assert objects.added_usage(first, first) == {
        "prompt_tokens": 6,
        "completion_tokens": 2,
        "total_tokens": 8,
        "prompt_token_details": {"cached_tokens": 4},
    }
