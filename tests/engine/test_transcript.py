"""What a model said is asked back as it said it: written down by one run, read by the next."""

from __future__ import annotations

from typing import Any

import pytest

from gateway import codec
from gateway.engine import objects
from gateway.engine.models.generation import (
    CallArguments,
    CallBegun,
    Carried,
    Delta,
    Finish,
    Message,
    Round,
    Text,
    TextDelta,
    ToolCall,
    ToolOutput,
    Usage,
)
from gateway.engine.transcript import Transcript, read_transcript, with_outputs
from gateway.engine.writing import Writing, answered_step, shown_step

NOW = 1_790_000_000
ASSISTANT = objects.assistant(objects.new_assistant({"model": "m"}, id="asst_1", now=NOW))
RUN = objects.run({}, ASSISTANT, id="run_1", thread="thread_1", now=NOW)
ASKED = objects.message({"role": "user", "content": "Hi"}, id="msg_1", thread="thread_1", now=NOW)
THOUGHT = Carried("chat_completions", {"message": {"reasoning_content": "hm"}, "calls": {}})

BEFORE = (TextDelta(0, "Let me "), TextDelta(0, "see."), CallBegun(0, "call_1", "add"), CallArguments(0, "{}"))
BETWEEN = (CallBegun(0, "call_1", "add"), CallArguments(0, "{}"), TextDelta(0, "Let me see."))


def write(*deltas: Delta) -> list[dict[str, Any]]:
    """What is stored of a generation that calls tools, in the order of its beginnings."""
    writing = Writing(RUN, lambda: NOW)
    changes = [*writing.take([*deltas, Usage(3, 2, 5), Finish("tool_calls")]).changes, *writing.wait().changes]
    stored: dict[str, dict[str, Any]] = {}
    for change in changes:
        stored[change.document["id"]] = codec.loads(codec.dumps(change.document))
    return list(stored.values())


def answered(stored: list[dict[str, Any]]) -> list[dict[str, Any]]:
    outputs = [{"tool_call_id": "call_1", "output": "7"}]
    return [answered_step(each, outputs, now=NOW) if each.get("type") == "tool_calls" else each for each in stored]


@pytest.mark.parametrize(
    ("deltas", "items"),
    [
        ((*BEFORE, THOUGHT), (Text("Let me see."), ToolCall("call_1", "add", "{}"), THOUGHT)),
        ((*BETWEEN, THOUGHT), (ToolCall("call_1", "add", "{}"), Text("Let me see."), THOUGHT)),
    ],
    ids=["text first", "call first"],
)
def test_a_round_goes_back_in_its_order(deltas: tuple[Delta, ...], items: tuple[Any, ...]) -> None:
    """In the run itself before and after it is answered, and in those that follow."""
    stored = write(*deltas)
    waiting = read_transcript([ASKED, *stored], "run_1")
    assert waiting.turns == [Message("user", (Text("Hi"),))]
    assert waiting.rounds == [Round(items)]
    assert waiting.waiting is not None
    assert (waiting.used or {})["total_tokens"] == 5
    outputs = (ToolOutput("call_1", "7"),)
    given = with_outputs(waiting, [{"tool_call_id": "call_1", "output": "7"}])
    assert given.rounds == [Round(items, outputs)]
    again = read_transcript([ASKED, *answered(stored)], "run_1")
    assert (again.rounds, again.waiting, again.used) == (given.rounds, None, waiting.used)
    later = read_transcript([ASKED, *answered(stored)], "run_2")
    assert later == Transcript([*waiting.turns, Round(items, outputs)], [], None, None)


def test_outputs_go_to_the_model_in_the_order_of_its_calls() -> None:
    """In whichever order they were submitted, so that what a model is told is the same in each later request: a vendor
    whose calls have no ids pairs them by their order, and one that keeps what was said looks for the same beginning."""
    stored = write(*BEFORE, CallBegun(1, "call_2", "add"), CallArguments(1, '{"a": 1}'))
    submitted = [{"tool_call_id": "call_2", "output": "8"}, {"tool_call_id": "call_1", "output": "7"}]
    given = with_outputs(read_transcript([ASKED, *stored], "run_1"), submitted)
    kept = [answered_step(each, submitted, now=NOW) if each.get("type") == "tool_calls" else each for each in stored]
    assert given.rounds[0].outputs == (ToolOutput("call_1", "7"), ToolOutput("call_2", "8"))
    assert given.rounds == read_transcript([ASKED, *kept], "run_1").rounds


def test_callers_see_nothing_of_what_is_kept_for_models() -> None:
    [step] = [each for each in answered(write(*BEFORE, THOUGHT)) if each.get("type") == "tool_calls"]
    assert b"reasoning_content" in codec.dumps(step)
    assert b"reasoning_content" not in codec.dumps(shown_step(step))
    assert shown_step(step)["usage"]["total_tokens"] == 5


def test_what_a_run_was_torn_from_goes_back_to_no_model() -> None:
    torn = objects.reply(RUN, id="msg_2", now=NOW)
    cut = objects.cut_reply(torn, [objects.text_part("Half")], why="failed", now=NOW)
    assert read_transcript([ASKED, cut], "run_1").turns == [Message("user", (Text("Hi"),))]
    assert read_transcript([ASKED, cut], "run_2").turns[1:] == [Message("assistant", (Text("Half"),))]
