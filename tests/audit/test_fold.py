"""Streams, folded: what is told of each, and the messages they amount to."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.fold import Fold, Folded
from gateway.phases.pass_through import PassedAnswer, PassedEvents
from gateway.phases.rewrite_events import EventRewriter
from gateway.sse import EventParser
from tests.values import any_json, unhurried

USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}


def run(status: str, **more: Any) -> dict[str, Any]:
    return {"id": "run_1", "object": "thread.run", "thread_id": "thread_1", "status": status, **more}


def delta(text: str, message: str = "msg_1", index: int = 0) -> dict[str, Any]:
    part = {"index": index, "type": "text", "text": {"value": text}}
    return {"id": message, "object": "thread.message.delta", "delta": {"content": [part]}}


def message(text: str, status: str = "completed", name: str = "msg_1") -> dict[str, Any]:
    parts = [{"type": "text", "text": {"value": text, "annotations": []}}]
    return {"id": name, "object": "thread.message", "thread_id": "thread_1", "status": status, "content": parts}


def step(status: str, name: str = "step_1") -> dict[str, Any]:
    return {"id": name, "object": "thread.run.step", "thread_id": "thread_1", "status": status, "usage": {"x": 1}}


STREAM: list[tuple[str, dict[str, Any]]] = [
    ("thread.run.created", run("queued")),
    ("thread.run.in_progress", run("in_progress")),
    ("thread.run.step.created", step("in_progress")),
    ("thread.message.created", message("", "in_progress")),
    ("thread.message.delta", delta("Hel")),
    ("thread.message.delta", delta("lo ü")),
    ("thread.message.completed", message("Hello ü")),
    ("thread.run.step.completed", step("completed")),
    ("thread.run.completed", run("completed", usage=USAGE)),
]


def fold(events: list[tuple[str, dict[str, Any]]], max_bytes: int = 1_000_000) -> Fold:
    folding = Fold(max_bytes)
    for name, data in events:
        folding(name, data, orjson.dumps(data))
    folding("done", None, b"[DONE]")
    return folding


@pytest.mark.parametrize("max_bytes", [0, 1_000_000])
def test_every_stream_tells_how_it_went(max_bytes: int) -> None:
    assert fold(STREAM, max_bytes).folded() == Folded(10, 7, "thread_1", "run_1", "completed", USAGE)


def test_a_stream_amounts_to_its_last_objects() -> None:
    folded = orjson.loads(fold(STREAM).content() or b"")
    assert folded == {
        "events": 10,
        "is_cut": False,
        "messages": [message("Hello ü")],
        "steps": [step("completed")],
        "runs": [run("completed", usage=USAGE)],
    }


def test_at_metadata_nothing_of_what_was_said_is_held() -> None:
    folding = fold(STREAM, 0)
    assert folding.content() == b'{"events":10,"is_cut":false}'
    assert not folding._pieces
    assert not folding._whole


def test_of_a_stream_that_was_cut_stays_what_had_come() -> None:
    call = {"index": 0, "function": {"name": "look", "arguments": '{"a'}}
    tools = {"id": "step_1", "object": "thread.run.step.delta", "delta": {"step_details": {"tool_calls": [call]}}}
    folded = orjson.loads(fold([*STREAM[:6], ("thread.run.step.delta", tools)]).content() or b"")
    assert folded["messages"] == [{"id": "msg_1", "is_whole": False, "content.0": "Hello ü"}]
    assert folded["steps"] == [
        {"id": "step_1", "is_whole": False, "0.function.name": "look", "0.function.arguments": '{"a'}
    ]
    assert folded["runs"] == [run("in_progress")]


def test_text_counts_once_and_also_where_it_came_whole() -> None:
    whole = ("thread.message.completed", message("Hello", name="msg_2"))
    assert fold([*STREAM, whole]).folded().text_length == 12


def test_vendors_that_leave_out_what_an_object_is_are_understood() -> None:
    """The event's name tells."""
    named = [(name, {key: value for key, value in data.items() if key != "object"}) for name, data in STREAM]
    assert fold(named).folded() == fold(STREAM).folded()
    assert orjson.loads(fold(named).content() or b"").keys() == orjson.loads(fold(STREAM).content() or b"").keys()


def test_a_run_that_needs_tools_is_kept_as_it_stands() -> None:
    needs = run("requires_action", required_action={"type": "submit_tool_outputs"})
    folding = fold([*STREAM[:2], ("thread.run.requires_action", needs)])
    assert folding.folded().run_status == "requires_action"
    assert orjson.loads(folding.content() or b"")["runs"] == [needs]


def test_an_error_is_kept() -> None:
    folding = Fold(1000)
    folding("error", None, b'{"error":{"message":"no"}}')
    assert orjson.loads(folding.content() or b"")["errors"] == [{"error": {"message": "no"}}]


@pytest.mark.parametrize("limit", [100, 1000, 5000])
def test_what_is_held_is_bounded_whatever_comes(limit: int) -> None:
    events = [("thread.message.delta", delta("x" * (n % 7), f"msg_{n}", n)) for n in range(3000)]
    events += [("thread.message.completed", message("y" * 90, name=f"msg_{n}")) for n in range(0, 3000, 3)]
    folding = fold([*events, *STREAM], limit)
    content = folding.content() or b""
    assert orjson.loads(content)["is_cut"] is True
    assert len(content) < 3 * limit + 200
    assert len(folding._spoke) <= 1000
    assert folding.folded().run_status == "completed"


def test_a_later_state_takes_the_place_of_an_earlier_one() -> None:
    """A run is told of a dozen times; only the last counts against what may be held."""
    events = [("thread.run.in_progress", run("in_progress", n=n)) for n in range(1000)]
    folded = orjson.loads(fold(events, 2000).content() or b"")
    assert (folded["is_cut"], folded["runs"]) == (False, [run("in_progress", n=999)])


def test_chat_completions_are_folded() -> None:
    def chunk(**delta: Any) -> dict[str, Any]:
        return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta}]}

    tool = {"index": 0, "function": {"name": "look", "arguments": "{}"}}
    last = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [], "usage": USAGE}
    folding = fold([("", chunk(content="Hi ")), ("", chunk(content="you")), ("", chunk(tool_calls=[tool])), ("", last)])
    assert (folding.folded().text_length, folding.folded().usage) == (6, USAGE)
    (completion,) = orjson.loads(folding.content() or b"")["completions"]
    assert completion["0.content"] == "Hi you"
    assert completion["0.tool_calls.0.arguments"] == "{}"


def test_responses_are_folded() -> None:
    done = {"type": "response.completed", "response": {"id": "resp_1", "usage": USAGE}}
    folding = fold([("response.output_text.delta", {"delta": "Hi"}), ("response.completed", done)])
    assert (folding.folded().text_length, folding.folded().usage) == (2, USAGE)
    assert orjson.loads(folding.content() or b"")["responses"] == [done]


@unhurried
@given(st.lists(st.tuples(st.sampled_from([name for name, _ in STREAM] + ["error", ""]), any_json)))
def test_nothing_a_provider_may_send_raises(events: list[tuple[str, Any]]) -> None:
    folding = Fold(10_000)
    for name, value in events:
        for shape in (value, {"object": name.rpartition(".")[0], "delta": value, "content": value, "id": value}):
            data = shape if type(shape) is dict else {"object": "thread.message.delta", "delta": {"content": shape}}
            folding(name, data, b"{}")
    orjson.loads(folding.content() or b"")


class Public:
    """Ids as they come."""

    def __call__(self, kind: str, upstream: str) -> str:
        return upstream + "PUBLIC"

    def in_prose(self, text: str) -> str:
        return text


def events_of(raw: bytes) -> list[Any]:
    parser = EventParser()
    return [*parser.feed(raw), *parser.close()]


def test_the_rewriter_tells_of_events_as_the_caller_gets_them() -> None:
    heard = []
    rewriter = EventRewriter(Public(), lambda data: None, hear=lambda *told: heard.append(told))  # type: ignore[arg-type]
    raw = b"event: thread.run.queued\ndata: " + orjson.dumps(run("queued")) + b"\n\n"
    raw += b'event: error\ndata: {"message": "no"}\n\nevent: odd\ndata: text\n\nevent: done\ndata: [DONE]\n\n'
    sent = b"".join(map(rewriter, events_of(raw)))
    public = run("queued") | {"id": "run_1PUBLIC", "thread_id": "thread_1PUBLIC"}
    assert heard[0] == ("thread.run.queued", public, orjson.dumps(public))
    assert heard[1][:2] == ("error", None)
    assert b'"error":{' in heard[1][2]
    assert [name for name, *_ in heard] == ["thread.run.queued", "error", "done"]
    assert all(data in sent for _, _, data in heard)


def test_a_run_in_place_of_a_stream_is_told_of_too() -> None:
    heard = []
    rewriter = EventRewriter(Public(), lambda data: None, hear=lambda *told: heard.append(told))  # type: ignore[arg-type]
    for event in events_of(orjson.dumps(run("completed")) + b"\n\n"):
        rewriter(event)
    assert [name for name, *_ in heard] == ["thread.run.completed"]


def test_events_that_pass_through_are_told_of() -> None:
    heard = []
    passed = PassedEvents(PassedAnswer(Public(), {}), Public(), hear=lambda *told: heard.append(told))  # type: ignore[arg-type]
    for event in events_of(b'data: {"id": "x"}\n\ndata: [DONE]\n\n'):
        passed(event)
    assert heard == [("", {"id": "x"}, b'{"id": "x"}'), ("", None, b"[DONE]")]
