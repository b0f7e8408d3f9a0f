"""Requests of Anthropic's Messages API: what a caller said is said, in the order and the form that the vendor takes."""

from __future__ import annotations

import itertools
import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.engine.models.anthropic_messages import DIALECTS, INVALID_JSON, AnthropicMessages
from gateway.engine.models.anthropic_messages_stream import API
from gateway.engine.models.generation import (
    Carried,
    Function,
    Generation,
    HostedTool,
    ImageFile,
    ImageUrl,
    Message,
    NamedTool,
    RefusalText,
    Round,
    Text,
    ToolCall,
    ToolOutput,
    Turn,
)
from gateway.engine.models.history import GO_ON, NOTHING_SAID
from gateway.engine.models.offers import CannotCarry, Offer
from tests.engine.models.values import assistant, generation, round_of, user
from tests.values import any_json, any_text, unhurried

CLAUDE = DIALECTS["anthropic"]
CACHED = {"cache_control": {"type": "ephemeral"}}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "additionalProperties": False}
WEATHER = Function("weather", "Tells it", SCHEMA, strict=True)
THOUGHT = {"type": "thinking", "thinking": "Rain, I guess.", "signature": "c2ln"}


def request(asked: Generation) -> dict[str, Any]:
    built = CLAUDE.build(asked)
    assert (built.path, built.headers) == ("/messages", {"anthropic-version": "2023-06-01"})
    body: dict[str, Any] = orjson.loads(built.body)
    return body


def messages(*turns: Turn, **said: Any) -> list[tuple[str, list[dict[str, Any]]]]:
    """Role and content of each, without the marks of the cache."""
    return [
        (
            sent["role"],
            [{name: value for name, value in block.items() if name not in CACHED} for block in sent["content"]],
        )
        for sent in request(generation(*turns, **said))["messages"]
    ]


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def use(name: str, tool: str = "weather", **given: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": name, "name": tool, "input": given}


def result(name: str, *content: str) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": name, **({"content": content[0]} if content else {})}


def carried(*layout: Any, model: str = "gpt-x") -> Carried:
    return Carried(API, {"model": model, "layout": list(layout)})


def test_nothing_is_sent_that_nobody_said_but_for_the_limit_that_must_be() -> None:
    assert request(generation(user("Hi"))) == {
        "model": "gpt-x",
        "max_tokens": 32_000,
        "stream": True,
        "messages": [{"role": "user", "content": [text("Hi") | CACHED]}],
    }


def test_all_that_was_said_is_sent() -> None:
    asked = generation(
        user("Hi"),
        instructions="Be brief.",
        tools=(WEATHER, Function("time")),
        tool_choice=NamedTool("function", "time"),
        parallel_tool_calls=False,
        temperature=0.0,
        top_p=0.5,
        response_format={"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": SCHEMA}},
        reasoning_effort="low",
        max_completion_tokens=256,
    )
    assert request(asked) == {
        "model": "gpt-x",
        "max_tokens": 256,
        "stream": True,
        "system": [text("Be brief.") | CACHED],
        "messages": [{"role": "user", "content": [text("Hi") | CACHED]}],
        "tools": [
            {"name": "weather", "description": "Tells it", "input_schema": SCHEMA, "strict": True},
            {"name": "time", "input_schema": {"type": "object"}, **CACHED},
        ],
        "tool_choice": {"type": "tool", "name": "time", "disable_parallel_tool_use": True},
        "temperature": 0.0,
        "top_p": 0.5,
        "output_config": {
            "effort": "low",
            "format": {"type": "json_schema", "schema": {"title": "n", **SCHEMA}},
        },
    }


ONE = (Function("time"),)


@pytest.mark.parametrize(
    ("said", "choice"),
    [
        ({"tool_choice": "auto", "parallel_tool_calls": False}, None),  # refused without tools, and says nothing then
        ({"tool_choice": "none"}, None),
        ({"tool_choice": "required"}, {"type": "any"}),  # cannot be: the vendor says so
        ({"tools": ONE}, None),
        ({"tools": ONE, "parallel_tool_calls": True}, None),
        ({"tools": ONE, "parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        ({"tools": ONE, "tool_choice": "auto"}, {"type": "auto"}),
        ({"tools": ONE, "tool_choice": "none", "parallel_tool_calls": False}, {"type": "none"}),
        (
            {"tools": ONE, "tool_choice": "required", "parallel_tool_calls": False},
            {"type": "any", "disable_parallel_tool_use": True},
        ),
    ],
)
def test_how_tools_are_chosen(said: dict[str, Any], choice: Any) -> None:
    assert request(generation(user("Hi"), **said)).get("tool_choice") == choice


@pytest.mark.parametrize(
    ("parameters", "schema"),
    [
        (None, {"type": "object"}),
        ({}, {"type": "object"}),
        ({"properties": {"a": {}}}, {"type": "object", "properties": {"a": {}}}),
        ({"type": "object", "$defs": {}}, {"type": "object", "$defs": {}}),
    ],
)
def test_a_function_has_a_schema_even_where_it_takes_nothing(parameters: Any, schema: Any) -> None:
    [sent] = request(generation(user("Hi"), tools=(Function("f", parameters=parameters, strict=False),)))["tools"]
    assert sent == {"name": "f", "input_schema": schema, **CACHED}


@pytest.mark.parametrize(
    ("told", "schema"),
    [
        ({"name": "n", "description": "d"}, {"title": "n", "description": "d", "type": "object"}),
        ({"name": "n", "schema": {"type": "object", "title": "t"}}, {"title": "t", "type": "object"}),
    ],
)
def test_name_and_description_of_a_format_are_told_in_its_schema(told: Any, schema: Any) -> None:
    wanted = {"type": "json_schema", "json_schema": {"schema": {"type": "object"}, **told}}
    assert request(generation(user("Hi"), response_format=wanted))["output_config"]["format"]["schema"] == schema


@pytest.mark.parametrize("said", [{"temperature": 1}, {"top_p": 1.0}, {"temperature": 1.0, "top_p": 1}, {}])
def test_what_means_no_change_is_not_said(said: dict[str, Any]) -> None:
    """Programs say both, and newer models refuse to hear either."""
    assert not {"temperature", "top_p", "output_config"} & set(request(generation(user("Hi"), **said)))


# --- turns ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("turns", "sent"),
    [
        ([], [("user", [text(NOTHING_SAID)])]),
        ([user("a"), user("b", "c")], [("user", [text("a"), text("b"), text("c")])]),
        ([user("a"), assistant("b"), assistant("c"), user("d")], [("user", "a"), ("assistant", "bc"), ("user", "d")]),
        ([assistant("a"), user("b")], [("user", [text(NOTHING_SAID)]), ("assistant", "a"), ("user", "b")]),
        ([user("a"), assistant("b")], [("user", "a"), ("assistant", "b"), ("user", [text(GO_ON)])]),
        ([assistant("a")], [("user", [text(NOTHING_SAID)]), ("assistant", "a"), ("user", [text(GO_ON)])]),
        ([user(" \n", "a", ""), user("\t"), user("b")], [("user", "ab")]),
        ([user(" ")], [("user", [text(NOTHING_SAID)])]),
        ([user("a"), assistant("  "), user("b")], [("user", "ab")]),
        (
            [user("a"), assistant(RefusalText("No.")), user("b")],
            [("user", "a"), ("assistant", [text("No.")]), ("user", "b")],
        ),
    ],
)
def test_user_and_assistant_take_turns(turns: list[Turn], sent: list[Any]) -> None:
    """Letters stand for a block each."""
    told = [(role, [text(letter) for letter in said] if isinstance(said, str) else said) for role, said in sent]
    assert messages(*turns) == told


def test_calls_are_answered_in_the_next_message_before_anything_else_is_said() -> None:
    turns = (user("a"), assistant("Let me see"), round_of(call_a="7", call_b=""), user("b"))
    assert messages(*turns)[1:] == [
        ("assistant", [text("Let me see"), use("call_a", city="Bonn"), use("call_b", city="Bonn")]),
        ("user", [result("call_a", "7"), result("call_b"), text("b")]),
    ]


def test_rounds_follow_each_other() -> None:
    roles = [role for role, _ in messages(user("a"), round_of(call_a="7"), round_of(call_b="8"))]
    assert roles == ["user", "assistant", "user", "assistant", "user"]


def test_a_call_that_nobody_answered_is_not_sent() -> None:
    assert messages(user("a"), round_of(Text("I look."), call_a="7", call_b=None), user("b"))[1:] == [
        ("assistant", [text("I look."), use("call_a", city="Bonn")]),
        ("user", [result("call_a", "7"), text("b")]),
    ]
    assert messages(user("a"), round_of(call_a=None), user("b")) == [("user", [text("a"), text("b")])]


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ('{"city":"Bonn","n":[1,2.0,null]}', {"city": "Bonn", "n": [1, 2.0, None]}),
        ('{"n":123456789012345678901234567890}', {"n": 123456789012345678901234567890}),
        ("{}", {}),
        ("", {}),
        (" ", {}),
        ('{"city": Bonn', {INVALID_JSON: '{"city": Bonn'}),
        ("[1]", {INVALID_JSON: "[1]"}),
        ('"Bonn"', {INVALID_JSON: '"Bonn"'}),
        ("null", {INVALID_JSON: "null"}),
        ("NaN", {INVALID_JSON: "NaN"}),
    ],
)
def test_an_input_is_an_object_whatever_the_model_wrote(arguments: str, given: Any) -> None:
    turn = Round((ToolCall("a", "weather", arguments),), (ToolOutput("a", "7"),))
    body = json.loads(CLAUDE.build(generation(user("Hi"), turn)).body)
    assert body["messages"][1]["content"] == [use("a", **given)]


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("toolu_01A-b", True),
        ("call_abc", True),
        ("x" * 64, True),
        ("x" * 65, False),
        ("functions.weather:0", False),
        ("", False),
        ("ü", False),
        ("\ud83e", False),
    ],
)
def test_ids_of_calls_fit_the_vendor(told: str, kept: bool) -> None:
    """A thread may hold another vendor's ids, one of them twice: each stays with its own result."""
    rounds = [Round((ToolCall(told, "weather", f'{{"n":{n}}}'),), (ToolOutput(told, str(n)),)) for n in (1, 2)]
    sent = messages(user("Hi"), rounds[0], rounds[1])
    ids = []
    for n, (called, answered) in enumerate(((sent[1], sent[2]), (sent[3], sent[4])), 1):
        ids.append(called[1][0]["id"])
        assert called == ("assistant", [use(ids[-1], n=n)])
        assert answered == ("user", [result(ids[-1], str(n))])
    assert len(set(ids)) == 2
    assert (ids[0] == told) is kept
    assert all(0 < len(each) <= 64 and each.replace("_", "").replace("-", "").isalnum() for each in ids)


def test_a_history_with_calls_names_their_tools_where_the_assistant_has_none() -> None:
    body = request(generation(user("Hi"), round_of(call_a="7"), assistant("7"), user("And now?")))
    assert body["tools"] == [{"name": "weather", "input_schema": {"type": "object"}, **CACHED}]
    assert body["tool_choice"] == {"type": "none"}
    body = request(generation(user("Hi"), round_of(call_a=None), user("And now?")))
    assert not {"tools", "tool_choice"} & set(body)
    forced = request(generation(user("Hi"), round_of(call_a="7"), user("b"), tool_choice="required"))
    assert "tools" not in forced  # nobody is made to call what is not there


# --- images -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "source"),
    [
        (ImageUrl("https://x/y.png"), {"type": "url", "url": "https://x/y.png"}),
        (ImageUrl("https://x/y.png", "high"), {"type": "url", "url": "https://x/y.png"}),
        (
            ImageUrl("data:image/png;base64,AAAA", "auto"),
            {"type": "base64", "media_type": "image/png", "data": "AAAA"},
        ),
        (ImageUrl("DATA:Image/WebP;base64,AA=="), {"type": "base64", "media_type": "image/webp", "data": "AA=="}),
    ],
)
def test_images_are_sent_as_they_are(image: ImageUrl, source: dict[str, str]) -> None:
    assert messages(user("Look", image)) == [("user", [text("Look"), {"type": "image", "source": source}])]


# --- thinking ---------------------------------------------------------------------------------------------------------


def test_thinking_goes_back_in_its_place() -> None:
    """Text that was stored as one message, calls and thoughts: as the model had them in order."""
    redacted = {"type": "redacted_thinking", "data": "x"}
    told = carried(THOUGHT, "text", redacted, "text", "tool_use", THOUGHT, "tool_use")
    turn = round_of(Text("One. "), Text("Two."), told, call_a="7", call_b="8")
    [_, sent, _] = messages(user("Hi"), turn)
    calls = [use("call_a", city="Bonn"), THOUGHT, use("call_b", city="Bonn")]
    assert sent == ("assistant", [THOUGHT, text("One. "), redacted, text("Two."), *calls])


@pytest.mark.parametrize(
    ("before", "after", "goes_back"),
    [
        ([], [], True),
        ([round_of(call_z="1")], [round_of(call_y="2")], True),  # several rounds of one run
        ([], [assistant("Rain.")], False),  # the run is over
        ([], [user("Well?")], False),
        ([], [assistant("Rain."), user("Well?")], False),
    ],
)
def test_thinking_goes_back_within_its_run_only(before: list[Turn], after: list[Turn], goes_back: bool) -> None:
    turn = round_of(carried(THOUGHT, "tool_use"), call_a="7")
    sent = request(generation(user("Hi"), *before, turn, *after))
    assert (THOUGHT in [block for each in sent["messages"] for block in each["content"]]) is goes_back
    assert use("call_a", city="Bonn") in [block for each in sent["messages"] for block in each["content"]]


@pytest.mark.parametrize(
    ("told", "asked", "goes_back"),
    [
        ("claude-haiku-4-5-20251001", "claude-haiku-4-5", True),
        ("claude-opus-5", "claude-opus-5", True),
        ("claude-opus-5-5", "claude-opus-5", False),
        ("claude-opus-5", "claude-sonnet-5", False),
        ("", "claude-opus-5", True),
        ("anthropic/claude-4.5-haiku", "claude-haiku-4.5", True),  # a server between may have names of its own
    ],
)
def test_thinking_goes_back_to_its_own_model_only(told: str, asked: str, goes_back: bool) -> None:
    turns = (user("Hi"), round_of(carried(THOUGHT, "tool_use", model=told), call_a="7"))
    assert (b"I guess" in CLAUDE.build(Generation(asked, turns)).body) is goes_back


def test_a_layout_that_no_longer_fits_loses_nothing() -> None:
    turn = round_of(Text("One."), carried(THOUGHT, "text", "text", "tool_use"), call_a="7", call_b="8")
    [_, sent, _] = messages(user("Hi"), turn)
    assert sent == ("assistant", [THOUGHT, text("One."), use("call_a", city="Bonn"), use("call_b", city="Bonn")])


def test_a_turn_that_the_vendor_paused_goes_back_as_the_last() -> None:
    paused = Round((Text("I search."), carried(THOUGHT, "text")))
    elsewhere = Round((Text("I search."), Carried("responses", {})))  # of another vendor's, only the words are left
    assert messages(user("Hi"), elsewhere)[-1] == ("user", [text(GO_ON)])
    assert messages(user("Hi"), paused) == [("user", [text("Hi")]), ("assistant", [THOUGHT, text("I search.")])]


# --- the cache --------------------------------------------------------------------------------------------------------


def marks(body: dict[str, Any]) -> list[str]:
    """Where they are: `messages 2` is the last block of the third message."""
    places = [
        f"{name} {len(body.get(name, ()))}"
        for name in ("tools", "system")
        for block in body.get(name, ())[-1:]
        if "cache_control" in block
    ]
    for place, sent in enumerate(body["messages"]):
        places += [f"messages {place}" for block in sent["content"] if "cache_control" in block]
        assert not any("cache_control" in block for block in sent["content"][:-1])
    return places


@pytest.mark.parametrize(
    ("turns", "places"),
    [
        ([user("a")], [0]),
        ([user("a"), assistant("b"), user("c")], [0, 2]),
        ([user("a"), assistant("b"), user("c"), round_of(call_a="7"), round_of(call_b="8")], [4, 6]),
        ([user("a"), assistant("b")], [0, 2]),
        ([assistant("a"), user("b")], [0, 2]),
        ([], [0]),
    ],
)
def test_the_stable_beginning_is_marked(turns: list[Turn], places: list[int]) -> None:
    body = request(generation(*turns, instructions="Be brief.", tools=(WEATHER, *ONE)))
    assert marks(body) == ["tools 2", "system 1", *(f"messages {place}" for place in places)]


def test_what_was_asked_before_is_the_beginning_of_what_is_asked_now() -> None:
    """Else nothing is found in the cache: marks aside, a request goes on where the last one ended."""
    cancelled = round_of(Text("I look."), call_z=None)
    rounds = [round_of(carried(THOUGHT, "tool_use"), call_a="7"), round_of(call_b="8")]
    for history in ([user("a")], [user("a"), assistant("b")], [assistant("a")], [], [user("a"), cancelled]):
        for count in range(len(rounds)):
            before, after = messages(*history, *rounds[:count]), messages(*history, *rounds[: count + 1])
            assert after[: len(before)] == before


# --- what cannot be said ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        (generation(user("Hi"), tools=(HostedTool("file_search"),)), "tools[0].type"),
        (generation(user("Hi"), temperature=1.5), "temperature"),
        (generation(user("Hi"), reasoning_effort="minimal"), "reasoning_effort"),
        (generation(user("Hi"), reasoning_effort="none"), "reasoning_effort"),
        (generation(user("Hi"), response_format={"type": "json_object"}), "response_format"),
        (
            generation(user("Hi"), response_format={"type": "json_schema", "json_schema": {"name": "n"}}),
            "response_format.json_schema.schema",
        ),
        (generation(user(ImageFile("file-1"))), "messages[0].content[0]"),
        (generation(user(ImageUrl("https://x/y.png", "low"))), "messages[0].content[0].image_url.detail"),
        (generation(user(ImageUrl("data:image/bmp;base64,AAAA"))), "messages[0].content[0].image_url.url"),
        (generation(assistant(ImageUrl("https://x/y.png"))), "messages[0].content[0]"),
    ],
)
def test_what_cannot_be_said_is_never_left_out(asked: Generation, param: str) -> None:
    with pytest.raises(CannotCarry) as raised:
        CLAUDE.build(asked)
    assert raised.value.fault.param == param


def test_it_is_refused_at_creation_already() -> None:
    body = {"reasoning_effort": "minimal", "response_format": {"type": "json_schema"}, "temperature": 2}
    found = {fault.param for fault in CLAUDE.faults(body)}
    assert found == {"reasoning_effort", "response_format.json_schema.schema", "temperature"}
    assert CLAUDE.faults({"reasoning_effort": "max", "response_format": "auto", "temperature": 1}) == ()


@unhurried
@given(any_json)
def test_a_body_of_any_shape_is_no_trouble(value: Any) -> None:
    for name in ("reasoning_effort", "response_format", "messages"):
        CLAUDE.faults({name: value})
    CLAUDE.faults({"response_format": {"type": "json_schema", "json_schema": value}})


def test_an_image_that_is_still_a_file_is_not_sent() -> None:
    with pytest.raises(CannotCarry):
        AnthropicMessages(Offer(image_files=True)).build(generation(user(ImageFile("file-1"))))


# --- whatever comes ---------------------------------------------------------------------------------------------------


@unhurried
@given(any_text, any_text)
def test_every_text_arrives_that_is_more_than_white_space(said: str, output: str) -> None:
    asked = generation(user("Hi", said), Round((Text(said), ToolCall("c", "n", said)), (ToolOutput("c", output),)))
    first, second, third = json.loads(CLAUDE.build(asked).body)["messages"]
    told = [text(said)] if said.strip() else []
    assert [each["text"] for each in first["content"]] == ["Hi", *(each["text"] for each in told)]
    assert second["content"][:-1] == told
    assert third["content"][0].get("content", "") == (output if output.strip() else "")


_ids = st.sampled_from(["a", "b", "functions.x:0"])
_rounds = st.builds(
    Round,
    st.tuples(
        st.lists(st.sampled_from([Text(" "), Text("word"), carried(THOUGHT, "text", "tool_use")]), max_size=3),
        st.lists(_ids, max_size=3, unique=True),
    ).map(lambda drawn: (*drawn[0], *(ToolCall(name, "weather", "{}") for name in drawn[1]))),
    st.lists(
        st.builds(ToolOutput, _ids, st.sampled_from(["", "7"])), max_size=3, unique_by=lambda one: one.call_id
    ).map(tuple),
)
_words = st.sampled_from([Text(""), Text(" "), Text("word"), ImageUrl("https://x/y.png")])
_messages = st.builds(Message, st.just("user"), st.lists(_words, max_size=2).map(tuple)) | st.builds(
    Message, st.just("assistant"), st.lists(st.sampled_from([Text(" "), Text("word")]), max_size=2).map(tuple)
)


@unhurried
@given(st.lists(_messages | _rounds, max_size=8))
def test_any_history_can_be_sent(turns: list[Turn]) -> None:
    """By the vendor's rules of turns, calls and marks."""
    body = request(generation(*turns))
    sent = body["messages"]
    assert sent[0]["role"] == "user"
    assert all(each["content"] for each in sent)
    assert all(before["role"] != after["role"] for before, after in itertools.pairwise(sent))
    called: list[str] = []
    seen: set[str] = set()
    for each in sent:
        answered = [block["tool_use_id"] for block in each["content"] if block["type"] == "tool_result"]
        assert sorted(answered) == sorted(called)
        assert all(block["type"] == "tool_result" for block in each["content"][: len(answered)])
        called = [block["id"] for block in each["content"] if block["type"] == "tool_use"]
        assert not seen & set(called)
        seen |= set(called)
        assert all(block["text"].strip() for block in each["content"] if block["type"] == "text")
    assert not called
    assert bool(seen) is ("tools" in body)
    assert len(marks(body)) <= 4
