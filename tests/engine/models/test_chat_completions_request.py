"""Requests of chat completions: what a caller said is said, in the words the vendor knows."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import orjson
import pytest
from hypothesis import given

from gateway.engine.models.chat_completions import DIALECTS, ChatCompletions
from gateway.engine.models.generation import (
    CallArguments,
    CallBegun,
    Carried,
    Function,
    Generation,
    HostedTool,
    ImageFile,
    ImageUrl,
    NamedTool,
    RefusalText,
    Round,
    Text,
    ToolCall,
    ToolOutput,
)
from gateway.engine.models.model_api import ModelApi
from gateway.engine.models.offers import CannotCarry, Offer
from tests.engine.models.chat_completions_streams import DONE, call, calls, chunk
from tests.engine.models.values import assistant, generation, round_of, user
from tests.values import any_text, unhurried

OPENAI = DIALECTS["openai"]
WEATHER = Function("weather", "Tells it", {"type": "object", "properties": {}}, strict=True)


def request(asked: Generation, dialect: ModelApi = OPENAI) -> dict[str, Any]:
    built = dialect.build(asked)
    assert (built.path, built.headers) == ("/chat/completions", {})
    body: dict[str, Any] = orjson.loads(built.body)
    return body


def messages(asked: Generation, dialect: ModelApi = OPENAI) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = request(asked, dialect)["messages"]
    return sent


def test_nothing_is_sent_that_nobody_said() -> None:
    assert request(generation(user("Hi"))) == {
        "model": "gpt-x",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_all_that_was_said_is_sent() -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": {"type": "object"}}}
    asked = generation(
        user("Hi"),
        instructions="Be brief.",
        tools=(WEATHER, Function("time")),
        tool_choice=NamedTool("function", "time"),
        parallel_tool_calls=False,
        temperature=0.0,
        top_p=0.5,
        response_format=schema,
        reasoning_effort="low",
        max_completion_tokens=256,
    )
    assert request(asked) == {
        "model": "gpt-x",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "weather",
                    "description": "Tells it",
                    "parameters": {"type": "object", "properties": {}},
                    "strict": True,
                },
            },
            {"type": "function", "function": {"name": "time"}},
        ],
        "tool_choice": {"type": "function", "function": {"name": "time"}},
        "parallel_tool_calls": False,
        "temperature": 0.0,
        "top_p": 0.5,
        "response_format": schema,
        "reasoning_effort": "low",
        "max_completion_tokens": 256,
    }


@pytest.mark.parametrize(
    ("said", "fields"),
    [
        # Refused by OpenAI without tools; they say nothing then.
        ({"tool_choice": "auto", "parallel_tool_calls": True}, {}),
        ({"tool_choice": "none"}, {}),
        # Cannot be: the vendor says so.
        ({"tool_choice": "required"}, {"tool_choice": "required"}),
        ({"tools": (Function("time"),), "tool_choice": "none"}, {"tool_choice": "none"}),
        # The default, which some models refuse to hear.
        ({"tools": (Function("time"),), "parallel_tool_calls": True}, {}),
        ({"tools": (Function("time"),), "parallel_tool_calls": False}, {"parallel_tool_calls": False}),
        ({"response_format": {"type": "text"}}, {}),
        ({"response_format": {"type": "json_object"}}, {"response_format": {"type": "json_object"}}),
    ],
)
def test_what_counts_only_together(said: dict[str, Any], fields: dict[str, Any]) -> None:
    sent = request(generation(user("Hi"), **said))
    rest = {"model", "messages", "stream", "stream_options", "tools"}
    assert {name: value for name, value in sent.items() if name not in rest} == fields


@pytest.mark.parametrize(
    ("parts", "content"),
    [
        (["Hi"], "Hi"),
        (["a", "b"], [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]),
        (
            ["Look", ImageUrl("https://x/y.png", "low"), ImageUrl("data:image/png;base64,AAAA")],
            [
                {"type": "text", "text": "Look"},
                {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
            ],
        ),
        ([ImageUrl("https://x/y.png")], [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]),
    ],
)
def test_the_contents_of_a_message(parts: list[Any], content: Any) -> None:
    assert messages(generation(user(*parts))) == [{"role": "user", "content": content}]


def test_a_refusal_goes_back_as_words() -> None:
    assert messages(generation(user("Hi"), assistant(RefusalText("No.")), user("Why?")))[1] == {
        "role": "assistant",
        "content": "No.",
    }


def test_a_round_is_a_message_with_calls_and_their_outputs() -> None:
    thought = Carried("responses", {"type": "reasoning"})
    asked = generation(user("Hi"), assistant("Let me see"), round_of(thought, call_a="7", call_b=""))
    called = [
        {"id": name, "type": "function", "function": {"name": "weather", "arguments": '{"city":"Bonn"}'}}
        for name in ("call_a", "call_b")
    ]
    assert messages(asked)[1:] == [
        {"role": "assistant", "content": "Let me see", "tool_calls": called},
        {"role": "tool", "tool_call_id": "call_a", "content": "7"},
        {"role": "tool", "tool_call_id": "call_b", "content": ""},
    ]
    assert messages(generation(user("Hi"), round_of(call_a="7")))[1]["content"] is None


def round_read_by(dialect: ModelApi, raw: bytes) -> Round:
    """What an engine makes of an answer with calls, and outputs for them."""
    deltas = dialect.read(lambda index: f"made_{index}").feed(raw)
    made = [delta for delta in deltas if isinstance(delta, CallBegun)]
    written = {delta.index: delta.text for delta in deltas if isinstance(delta, CallArguments)}
    carried = [delta for delta in deltas if isinstance(delta, Carried)]
    return Round(
        (*(ToolCall(begun.id, begun.name, written[begun.index]) for begun in made), *carried),
        tuple(ToolOutput(begun.id, f"output {begun.index}") for begun in made),
    )


THOUGHTFUL = (
    chunk({"role": "assistant", "content": None, "reasoning_content": "Rain,"})
    + chunk({"reasoning_content": " I guess."})
    + chunk(
        calls(
            call("{}", index=0, id="call_a", name="weather")
            | {"extra_content": {"google": {"thought_signature": "x"}}},
            call("{}", index=1, id="", name="time"),
        ),
        "tool_calls",
    )
    + DONE
)


def test_thoughts_go_back_to_those_who_want_them() -> None:
    """Without them DeepSeek and Gemini refuse the second round of every run."""
    turn = round_read_by(DIALECTS["deepseek"], THOUGHTFUL)
    sent = messages(generation(user("Hi"), turn), DIALECTS["deepseek"])[1]
    assert sent["reasoning_content"] == "Rain, I guess."
    assert "extra_content" not in sent["tool_calls"][0]
    turn = round_read_by(DIALECTS["gemini"], THOUGHTFUL)
    sent = messages(generation(user("Hi"), turn), DIALECTS["gemini"])[1]
    assert sent["tool_calls"][0]["extra_content"] == {"google": {"thought_signature": "x"}}
    assert "extra_content" not in sent["tool_calls"][1]
    assert "reasoning_content" not in sent


def test_nobody_else_hears_of_thoughts() -> None:
    assert not any(isinstance(item, Carried) for item in round_read_by(OPENAI, THOUGHTFUL).items)
    for name in ("deepseek", "gemini"):  # the run goes on with another provider
        turn = round_read_by(DIALECTS[name], THOUGHTFUL)
        sent = OPENAI.build(generation(user("Hi"), turn)).body
        assert b"guess" not in sent
        assert b"signature" not in sent


def test_thoughts_that_led_to_no_call_are_forgotten() -> None:
    raw = chunk({"reasoning_content": "Hm"}) + chunk({"content": "Hello"}, "stop") + DONE
    assert not any(isinstance(delta, Carried) for delta in DIALECTS["deepseek"].read(str).feed(raw))


def test_what_was_carried_for_another_api_leaves_no_empty_round() -> None:
    paused = Round((Text("I searched."), Carried("messages", {"type": "server_tool_use"})))
    assert messages(generation(user("Hi"), paused))[1:] == [{"role": "assistant", "content": "I searched."}]


def test_a_call_that_nobody_answered_is_not_sent() -> None:
    assert messages(generation(user("Hi"), round_of(call_a=None), user("Well?"))) == [
        {"role": "user", "content": "Hi"},
        {"role": "user", "content": "Well?"},
    ]


def test_a_tool_round_comes_back_as_the_model_said_it() -> None:
    """From a vendor's stream, over the tool's outputs, into the next request: names, ids and arguments, broken ones
    too, are the model's."""
    said = ['{"city":"Bonn"}', '{"city": Rom', "{}"]
    raw = chunk(
        calls(
            call(said[0], index=0, id="call_a", name="weather"),
            call(said[1], index=1, id="call_b", name="wether"),
            call(None, index=2, id="", name="time"),
        ),
        "tool_calls",
    )
    turn = round_read_by(OPENAI, raw + DONE)
    first, *outputs = messages(generation(user("Hi"), turn))[1:]
    assert [(sent["id"], sent["function"]["name"]) for sent in first["tool_calls"]] == [
        ("call_a", "weather"),
        ("call_b", "wether"),
        ("made_2", "time"),
    ]
    assert [sent["function"]["arguments"] for sent in first["tool_calls"]] == said
    assert [(sent["tool_call_id"], sent["content"]) for sent in outputs] == [
        ("call_a", "output 0"),
        ("call_b", "output 1"),
        ("made_2", "output 2"),
    ]


@pytest.mark.parametrize(
    ("name", "said", "there", "absent"),
    [
        ("mistral", {"max_completion_tokens": 9}, {"max_tokens": 9}, {"stream_options", "max_completion_tokens"}),
        ("ollama", {"max_completion_tokens": 9}, {"max_tokens": 9}, {"max_completion_tokens"}),
        ("ollama", {"tools": (Function("t"),), "parallel_tool_calls": True}, {}, {"parallel_tool_calls"}),
        ("deepseek", {"response_format": {"type": "json_object"}}, {"response_format": {"type": "json_object"}}, set()),
    ],
)
def test_a_dialect_has_its_own_words(name: str, said: dict[str, Any], there: dict[str, Any], absent: set[str]) -> None:
    sent = request(generation(user("Hi"), **said), DIALECTS[name])
    assert there.items() <= sent.items()
    assert not absent & set(sent)


def test_the_role_of_instructions_is_the_dialects() -> None:
    asked = generation(user("Hi"), instructions="Be brief.")
    assert messages(asked, ChatCompletions(instructions_role="developer"))[0]["role"] == "developer"


def test_strict_is_not_said_to_those_who_do_not_know_it() -> None:
    loose = dataclasses.replace(WEATHER, strict=False)
    (sent,) = request(generation(user("Hi"), tools=(loose,)), DIALECTS["ollama"])["tools"]
    assert "strict" not in sent["function"]
    (sent,) = request(generation(user("Hi"), tools=(loose,)))["tools"]
    assert sent["function"]["strict"] is False


def test_where_turns_must_be_taken_they_are() -> None:
    asked = generation(user("a"), user("b"), round_of(call_a="7"), user("c"))
    assert [sent["role"] for sent in messages(asked, DIALECTS["mistral"])] == ["user"]
    assert [sent["role"] for sent in messages(asked)] == ["user", "user", "assistant", "tool", "user"]


@pytest.mark.parametrize(
    ("name", "told", "kept"),
    [
        ("openai", "call_abc", True),
        ("openai", "x" * 40, True),
        ("openai", "x" * 41, False),
        ("openai", "", False),
        ("mistral", "aB3dE6gH9", True),
        ("mistral", "call_abc", False),
        ("mistral", "call_0fypS1hVX", False),
    ],
)
def test_ids_of_calls_fit_the_vendor(name: str, told: str, kept: bool) -> None:
    """A thread may hold another vendor's ids. Call and output have the same; two of them stay two."""
    turn = Round(
        (ToolCall(told, "weather", "{}"), ToolCall(told + "2", "weather", "{}")),
        (ToolOutput(told, "7"), ToolOutput(told + "2", "8")),
    )
    first, *outputs = messages(generation(user("Hi"), turn), DIALECTS[name])[1:]
    ids = [sent["id"] for sent in first["tool_calls"]]
    assert ids == [sent["tool_call_id"] for sent in outputs]
    assert len(set(ids)) == 2
    assert (ids[0] == told) is kept
    for sent in ids:
        assert 1 <= len(sent) <= 40
        assert name != "mistral" or (len(sent) == 9 and sent.isalnum())


@pytest.mark.parametrize(
    ("name", "asked", "param"),
    [
        ("openai", generation(user("Hi"), tools=(HostedTool("file_search"),)), "tools[0].type"),
        ("openai", generation(user("Hi"), tool_choice=NamedTool("file_search")), "tool_choice"),
        ("openai", generation(user(ImageFile("file-1"))), "messages[0].content[0]"),
        ("openai", generation(assistant(ImageUrl("https://x/y.png"))), "messages[0].content[0]"),
        ("ollama", generation(user("Hi"), tools=(WEATHER,)), "tools[0].function.strict"),
        ("ollama", generation(user("Hi"), parallel_tool_calls=False), "parallel_tool_calls"),
        ("deepseek", generation(user("Hi"), response_format={"type": "json_schema"}), "response_format"),
    ],
)
def test_what_cannot_be_said_is_never_left_out(name: str, asked: Generation, param: str) -> None:
    """Refused at creation already; this is for what was stored while the provider could."""
    with pytest.raises(CannotCarry) as raised:
        DIALECTS[name].build(asked)
    assert raised.value.fault.param == param


def test_an_image_that_is_still_a_file_is_not_sent() -> None:
    with pytest.raises(CannotCarry):
        ChatCompletions(Offer(image_files=True)).build(generation(user(ImageFile("file-1"))))


@unhurried
@given(any_text, any_text)
def test_every_text_arrives(text: str, output: str) -> None:
    """Half characters too: the standard library writes what orjson refuses."""
    asked = generation(user("Hi", text), Round((Text(text), ToolCall("c", "n", text)), (ToolOutput("c", output),)))
    first, second, third = json.loads(OPENAI.build(asked).body)["messages"]
    assert first["content"] == ([{"type": "text", "text": "Hi"}, {"type": "text", "text": text}] if text else "Hi")
    assert second["content"] == (text or None)
    assert second["tool_calls"][0]["function"]["arguments"] == text
    assert third["content"] == output
