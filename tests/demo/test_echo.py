"""The echo model, without a socket: what it makes of a request, told by the gateway's own reader of such answers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.demo import echo
from gateway.engine.models.chat_completions import DIALECTS
from gateway.engine.models.generation import (
    CallArguments,
    CallBegun,
    Delta,
    Failure,
    Finish,
    Function,
    Generation,
    Message,
    Round,
    Text,
    TextDelta,
    ToolCall,
    ToolOutput,
    Usage,
)
from tests.values import any_json, unhurried

ADD, FIND = ({"type": "function", "function": {"name": name}} for name in ("add", "find"))
ENGINE = DIALECTS["openai"]


def ask(text: Any, **more: Any) -> dict[str, Any]:
    return {"model": "m", "stream": True, "messages": [{"role": "user", "content": text}], **more}


def answered(body: Any) -> list[Delta]:
    asked = echo.read(body)
    reader = ENGINE.read(str)
    told = echo.events(asked, echo.answer(asked), answer_id="1", now=1)
    deltas = [delta for event in told for delta in reader.feed(event)]
    return deltas + reader.close()


def spoken(body: Any) -> str:
    return "".join(delta.text for delta in answered(body) if isinstance(delta, TextDelta))


def test_it_says_what_it_was_told_word_by_word() -> None:
    assert answered(ask("Grüße 👋 world")) == [
        *(TextDelta(0, word) for word in ("You ", "said: ", "Grüße ", "👋 ", "world")),
        Finish("stop"),
    ]


def test_the_last_user_message_counts_and_all_its_texts() -> None:
    parts = [{"type": "text", "text": "a "}, {"type": "image_url", "image_url": {"url": "u"}}, {"text": "b"}]
    body = ask("first")
    body["messages"] += [{"role": "assistant", "content": "x"}, {"role": "user", "content": parts}]
    assert spoken(body) == "You said: a b"
    assert spoken(ask("x") | {"messages": [{"role": "system", "content": "x"}]}) == "You said: "


def test_a_long_text_comes_in_a_bounded_number_of_pieces() -> None:
    deltas = answered(ask("word " * 1000))
    assert len(deltas) <= 41
    assert spoken(ask("word " * 1000)) == "You said: " + "word " * 1000


def test_usage_comes_last_when_it_is_asked_for() -> None:
    body = ask("one two", stream_options={"include_usage": True})
    assert answered(body)[-2:] == [Usage(2, 4, 6), Finish("stop")]
    assert not any(isinstance(delta, Usage) for delta in answered(ask("one two")))


@pytest.mark.parametrize(
    ("said", "more", "calls"),
    [
        ('call add {"a": [1]} call find', {}, [("add", '{"a": [1]}'), ("find", "{}")]),
        ("call add call find", {"parallel_tool_calls": False}, [("add", "{}")]),
        ("call add {a}", {}, [("add", "{}")]),
        ("call other", {}, []),
        ("call add", {"tool_choice": "none"}, []),
        ("hello", {"tool_choice": "required"}, [("add", "{}")]),
        ("hello", {"tool_choice": {"type": "function", "function": {"name": "find"}}}, [("find", "{}")]),
        ("call add " + '{"a":' * 100_000, {}, [("add", "{}")]),
    ],
)
def test_words_and_choices_make_it_call(said: str, more: dict[str, Any], calls: list[tuple[str, str]]) -> None:
    deltas = answered(ask(said, tools=[ADD, FIND], **more))
    begun = [delta for delta in deltas if isinstance(delta, CallBegun)]
    arguments = [delta.text for delta in deltas if isinstance(delta, CallArguments)]
    assert list(zip([call.name for call in begun], arguments, strict=True)) == calls
    assert len({call.id for call in begun}) == len(begun)
    assert deltas[-1] == Finish("tool_calls" if calls else "stop")


def test_it_speaks_of_the_outputs_when_its_calls_are_answered() -> None:
    """The request is the engine's own."""
    asked = Message("user", (Text("call add again find"),))
    first = Round((ToolCall("call_1", "add", "{}"),), (ToolOutput("call_1", "3"),))
    second = Round((ToolCall("call_2", "find", "{}"),), (ToolOutput("call_2", "4"),))
    tools = (Function("add"), Function("find"))

    def build(*rounds: Round) -> Any:
        return echo.codec.loads(ENGINE.build(Generation("m", (asked, *rounds), tools=tools)).body)

    assert [delta.name for delta in answered(build(first)) if isinstance(delta, CallBegun)] == ["find"]
    assert spoken(build(first, second)) == "The tools answered: 3; 4"
    later = Message("user", (Text("thanks"),))
    body = echo.codec.loads(ENGINE.build(Generation("m", (asked, first, later), tools=tools)).body)
    assert spoken(body) == "You said: thanks"


def test_words_end_it_half_way() -> None:
    assert answered(ask("please fail"))[-2:] == [
        TextDelta(0, "said: "),
        Failure("server_error", echo.FAILURE, vendor_code="server_error"),
    ]
    assert answered(ask("please truncate"))[-2:] == [TextDelta(0, "said: "), Finish("length")]


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        {"model": "m"},
        {"model": "m", "stream": True, "messages": []},
        {"model": "m", "stream": True, "messages": ["hi"]},
        {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
        {"stream": True, "messages": [{"role": "user", "content": "hi"}]},
    ],
)
def test_what_is_no_request_is_refused(body: Any) -> None:
    with pytest.raises(ValueError, match=r"\.$"):
        echo.read(body)


_members = ["content", "messages", "model", "tools", "tool_choice", "stream_options", "parallel_tool_calls"]
_messages = st.lists(
    st.dictionaries(st.sampled_from(["role", "content", "tool_calls"]), any_json | st.sampled_from(["user", "tool"])),
    min_size=1,
    max_size=3,
)


@unhurried
@given(st.dictionaries(st.sampled_from(_members), any_json), _messages)
def test_no_body_breaks_it(body: dict[str, Any], messages: list[Any]) -> None:
    try:
        deltas = answered({"model": "m", **body, "stream": True, "messages": messages})
    except ValueError:
        return
    assert isinstance(deltas[-1], Finish | Failure)
