"""Requests of Responses: what a caller said is said, in the words the vendor knows, and nothing is stored there."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given

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
    TextDelta,
    ToolCall,
    ToolOutput,
)
from gateway.engine.models.model_api import ModelApi
from gateway.engine.models.offers import CannotCarry
from gateway.engine.models.responses import DIALECTS
from tests.engine.models.responses_streams import CREATED, STREAMS, code, done, ended, function, said, search, thought
from tests.engine.models.values import assistant, generation, round_of, user
from tests.values import any_text, unhurried

OPENAI = DIALECTS["openai"]
WEATHER = Function("weather", "Tells it", {"type": "object", "properties": {}}, strict=True)
SEARCH = HostedTool("file_search", {"vector_store_ids": ["vs_1"]})
CODE = HostedTool("code_interpreter", {"file_ids": ["file-1"]})


def request(asked: Generation, dialect: ModelApi = OPENAI) -> dict[str, Any]:
    built = dialect.build(asked)
    assert (built.path, built.headers) == ("/responses", {})
    body: dict[str, Any] = orjson.loads(built.body)
    return body


def items(asked: Generation, dialect: ModelApi = OPENAI) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = request(asked, dialect)["input"]
    return sent


def test_nothing_is_sent_that_nobody_said() -> None:
    """Among it the truncation: history is fitted before, and what does not fit then fails."""
    assert request(generation(user("Hi"))) == {
        "model": "gpt-x",
        "input": [{"role": "user", "content": "Hi"}],
        "store": False,
        "stream": True,
    }


def test_all_that_was_said_is_sent() -> None:
    schema = {"name": "n", "description": None, "strict": True, "schema": {"type": "object"}}
    asked = generation(
        user("Hi"),
        instructions="Be brief.",
        tools=(WEATHER, Function("time"), SEARCH, CODE),
        tool_choice=NamedTool("function", "time"),
        parallel_tool_calls=False,
        temperature=0.0,
        top_p=0.5,
        response_format={"type": "json_schema", "json_schema": schema},
        reasoning_effort="low",
        max_completion_tokens=256,
    )
    assert request(asked) == {
        "model": "gpt-x",
        "instructions": "Be brief.",
        "input": [{"role": "user", "content": "Hi"}],
        "store": False,
        "stream": True,
        "include": ["reasoning.encrypted_content", "file_search_call.results", "code_interpreter_call.outputs"],
        "tools": [
            {
                "type": "function",
                "name": "weather",
                "description": "Tells it",
                "parameters": {"type": "object", "properties": {}},
                "strict": True,
            },
            # Left out, `strict` would not be false.
            {"type": "function", "name": "time", "parameters": {"type": "object", "properties": {}}, "strict": False},
            {"type": "file_search", "vector_store_ids": ["vs_1"]},
            {"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["file-1"]}},
        ],
        "tool_choice": {"type": "function", "name": "time"},
        "parallel_tool_calls": False,
        "temperature": 0.0,
        "top_p": 0.5,
        "text": {"format": {"type": "json_schema", "name": "n", "strict": True, "schema": {"type": "object"}}},
        "reasoning": {"effort": "low"},
        "max_output_tokens": 256,
    }


@pytest.mark.parametrize(
    ("said", "fields"),
    [
        ({"tool_choice": "auto", "parallel_tool_calls": True}, {}),
        ({"tool_choice": "none", "parallel_tool_calls": False}, {}),
        # Cannot be: the vendor says so.
        ({"tool_choice": "required"}, {"tool_choice": "required"}),
        ({"tools": (Function("time"),), "tool_choice": "none"}, {"tool_choice": "none"}),
        ({"tools": (Function("time"),), "parallel_tool_calls": True}, {}),
        ({"tools": (SEARCH,), "tool_choice": NamedTool("file_search")}, {"tool_choice": {"type": "file_search"}}),
        ({"tools": (CODE,), "tool_choice": NamedTool("code_interpreter")}, {"tool_choice": {"type": CODE.type}}),
        ({"response_format": {"type": "text"}}, {}),
        ({"response_format": {"type": "json_object"}}, {"text": {"format": {"type": "json_object"}}}),
        # The least that may be asked for, where a run has less left.
        ({"max_completion_tokens": 16}, {"max_output_tokens": 16}),
        ({"max_completion_tokens": 1}, {"max_output_tokens": 16}),
    ],
)
def test_what_counts_only_together(said: dict[str, Any], fields: dict[str, Any]) -> None:
    sent = request(generation(user("Hi"), **said))
    rest = {"model", "input", "store", "stream", "tools", "include"}
    assert {name: value for name, value in sent.items() if name not in rest} == fields


@pytest.mark.parametrize(
    ("model", "said", "asks"),
    [
        *(
            (name, {}, True)
            for name in ("o1", "o3-mini", "o4-mini-2025-04-16", "ft:o4-mini:org::x", "gpt-5", "gpt-5.2")
        ),
        *((name, {}, True) for name in ("GPT-5-nano", "gpt-5.2-chat-latest", "my-gpt5-deployment", "openai/gpt-5.1")),
        *((name, {}, False) for name in ("gpt-4o", "gpt-4.1-mini", "gpt-35-turbo", "gpt-5-chat-latest", "prod")),
        *((name, {}, False) for name in ("gpt-oss-120b", "chatgpt-4o-latest", "gpt-4o3")),
        ("prod", {"reasoning_effort": "low"}, True),
        ("prod", {"reasoning_effort": "none"}, False),
    ],
)
def test_thoughts_are_asked_for_where_there_are_any(model: str, said: dict[str, Any], asks: bool) -> None:
    """OpenAI refuses the wish for models that do not think; without it a model that does forgets in each round."""
    for name, dialect in DIALECTS.items():
        sent = request(Generation(model, (user("Hi"),), **said), dialect).get("include", [])
        assert ("reasoning.encrypted_content" in sent) is (asks or name == "xai")


@pytest.mark.parametrize(
    ("settings", "tool"),
    [
        (
            {
                "vector_store_ids": ["vs_1", "vs_2"],
                "max_num_results": 5,
                "ranking_options": {"ranker": "auto", "score_threshold": 0.5},
            },
            {
                "type": "file_search",
                "vector_store_ids": ["vs_1", "vs_2"],
                "max_num_results": 5,
                "ranking_options": {"ranker": "auto", "score_threshold": 0.5},
            },
        ),
        # The ranker that Threads show for their default has no such name here.
        (
            {
                "vector_store_ids": ["vs_1"],
                "max_num_results": None,
                "ranking_options": {"ranker": "default_2024_08_21", "score_threshold": 0.0},
            },
            {"type": "file_search", "vector_store_ids": ["vs_1"], "ranking_options": {"score_threshold": 0.0}},
        ),
        (
            {"vector_store_ids": ["vs_1"], "ranking_options": {"ranker": "default_2024_08_21"}},
            {"type": "file_search", "vector_store_ids": ["vs_1"]},
        ),
        ({"vector_store_ids": []}, None),
        ({}, None),
    ],
)
def test_where_a_search_looks(settings: dict[str, Any], tool: dict[str, Any] | None) -> None:
    """In Threads an assistant may search without a vector store, and finds nothing."""
    sent = request(generation(user("Hi"), tools=(HostedTool("file_search", settings),)))
    assert sent.get("tools") == ([tool] if tool else None)
    assert sent.get("include") == (["file_search_call.results"] if tool else None)


def test_code_without_files_has_a_container_all_the_same() -> None:
    (tool,) = request(generation(user("Hi"), tools=(HostedTool("code_interpreter"),)))["tools"]
    assert tool == {"type": "code_interpreter", "container": {"type": "auto"}}


@pytest.mark.parametrize(
    ("parts", "content"),
    [
        (["Hi"], "Hi"),
        (["a", "b"], [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]),
        (
            ["Look", ImageUrl("https://x/y.png", "low"), ImageUrl("data:image/png;base64,AAAA"), ImageFile("file-1")],
            [
                {"type": "input_text", "text": "Look"},
                {"type": "input_image", "image_url": "https://x/y.png", "detail": "low"},
                {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "auto"},
                {"type": "input_image", "file_id": "file-1", "detail": "auto"},
            ],
        ),
    ],
)
def test_the_contents_of_a_message(parts: list[Any], content: Any) -> None:
    assert items(generation(user(*parts))) == [{"role": "user", "content": content}]


def test_what_the_assistant_said_goes_back_as_words() -> None:
    asked = generation(user("Hi"), assistant(RefusalText("No.")), user("Why?"), assistant("a", RefusalText("b")))
    assert items(asked)[1::2] == [
        {"role": "assistant", "content": "No."},
        {"role": "assistant", "content": [{"type": "output_text", "text": each} for each in "ab"]},
    ]


def test_a_round_is_its_items_and_their_outputs() -> None:
    asked = generation(user("Hi"), assistant("Let me see"), round_of(call_a="7", call_b=""))
    called = {"type": "function_call", "name": "weather", "arguments": '{"city":"Bonn"}'}
    assert items(asked)[1:] == [
        {"role": "assistant", "content": "Let me see"},
        called | {"call_id": "call_a"},
        called | {"call_id": "call_b"},
        {"type": "function_call_output", "call_id": "call_a", "output": "7"},
        {"type": "function_call_output", "call_id": "call_b", "output": ""},
    ]


def round_read(raw: bytes) -> Round:
    """What an engine makes of an answer with calls, and outputs for them."""
    deltas = OPENAI.read(lambda index: f"made_{index}").feed(raw)
    written = {delta.index: delta.text for delta in deltas if isinstance(delta, CallArguments)}
    made: list[Any] = []
    for delta in deltas:
        if isinstance(delta, CallBegun):
            made.append(ToolCall(delta.id, delta.name, written[delta.index]))
        elif isinstance(delta, TextDelta):
            made.append(Text(delta.text))
        elif isinstance(delta, Carried):
            made.append(delta)
    outputs = tuple(ToolOutput(item.id, f"output of {item.id}") for item in made if isinstance(item, ToolCall))
    return Round(tuple(made), outputs)


THOUGHTFUL = (
    CREATED
    + done(0, **thought("sealed", id="rs_0"))
    + done(1, **search(results=[]))
    + done(2, **thought("sealed too"))
    + done(3, **code(code="plot()", outputs=[{"type": "image", "url": "data:image/png;base64,AAAA"}]))
    + said(4, "One moment.")
    + done(5, **function("{}"))
    + done(6, **function('{"city": Rom', "", "wether"))
    + ended()
)


def test_a_tool_round_comes_back_as_the_model_said_it() -> None:
    """In its order, with what only the vendor can read; names, ids and arguments, broken ones too, are the model's. An
    image that was shown does not go back, and neither do ids of what the vendor was told not to store."""
    assert items(generation(user("Hi"), round_read(THOUGHTFUL)))[1:] == [
        {"id": "rs_0", "type": "reasoning", "summary": [], "encrypted_content": "sealed"},
        search(results=[]),
        {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "sealed too"},
        code(code="plot()", outputs=[]),
        {"role": "assistant", "content": "One moment."},
        {"type": "function_call", "call_id": "call_a", "name": "weather", "arguments": "{}"},
        {"type": "function_call", "call_id": "made_3", "name": "wether", "arguments": '{"city": Rom'},
        {"type": "function_call_output", "call_id": "call_a", "output": "output of call_a"},
        {"type": "function_call_output", "call_id": "made_3", "output": "output of made_3"},
    ]


def test_what_was_carried_goes_back_only_within_its_run() -> None:
    """What an earlier run carried may be another account's, who alone can read it: a 400 for ever after."""
    turn = round_read(THOUGHTFUL)
    sent = items(generation(user("Hi"), turn, assistant("Rain."), user("And now?"), turn))
    kinds = [item.get("type", item.get("role")) for item in sent]
    own = ["reasoning", "file_search_call", "reasoning", "code_interpreter_call", "assistant"]
    rest = ["function_call"] * 2 + ["function_call_output"] * 2
    assert kinds == ["user", "assistant", *rest, "assistant", "user", *own, *rest]


def test_a_phase_goes_back_with_what_was_said() -> None:
    raw, _ = STREAMS["a comment, and then a call"]
    assert items(generation(user("Hi"), round_read(raw)))[1] == {
        "role": "assistant",
        "content": "I shall look.",
        "phase": "commentary",
    }


def test_nobody_else_hears_of_thoughts() -> None:
    foreign = Round((Carried("messages", {"type": "thinking", "secret": "x"}), ToolCall("c", "n", "{}")), ())
    assert b"secret" not in OPENAI.build(generation(user("Hi"), foreign)).body


def test_a_call_that_nobody_answered_is_not_sent() -> None:
    """Nor what the model thought before it: it would stand before another item than its own."""
    thoughts = Carried("responses", thought("sealed"))
    assert items(generation(user("Hi"), round_of(thoughts, call_a=None), user("Well?"))) == [
        {"role": "user", "content": "Hi"},
        {"role": "user", "content": "Well?"},
    ]


@pytest.mark.parametrize(("told", "kept"), [("call_abc", True), ("x" * 64, True), ("x" * 65, False), ("", False)])
def test_ids_of_calls_fit_the_vendor(told: str, kept: bool) -> None:
    """A thread may hold another vendor's ids. Call and output have the same; two of them stay two."""
    other = (told or "x" * 70) + "2"
    turn = Round(
        (ToolCall(told, "weather", "{}"), ToolCall(other, "weather", "{}")),
        (ToolOutput(told, "7"), ToolOutput(other, "8")),
    )
    sent = [item["call_id"] for item in items(generation(user("Hi"), turn))[1:]]
    assert sent[:2] == sent[2:]
    assert len(set(sent)) == 2
    assert (sent[0] == told) is kept
    assert all(1 <= len(each) <= 64 for each in sent)


def test_where_instructions_are_not_heard_they_are_a_message() -> None:
    sent = request(generation(user("Hi"), instructions="Be brief."), DIALECTS["openresponses"])
    assert "instructions" not in sent
    assert sent["input"][0] == {"role": "system", "content": "Be brief."}


@pytest.mark.parametrize(
    ("name", "asked", "param"),
    [
        ("openai", generation(user("Hi"), tools=(HostedTool("browser"),)), "tools[0].type"),
        ("openai", generation(assistant(ImageUrl("https://x/y.png"))), "messages[0].content[0]"),
        ("openai", generation(user("Hi"), tool_choice=NamedTool("file_search")), "tool_choice"),
        (
            "openai",
            generation(user("Hi"), tools=(HostedTool("file_search"),), tool_choice=NamedTool("file_search")),
            "tool_choice",
        ),
        ("xai", generation(user("Hi"), tools=(SEARCH,)), "tools[0].type"),
        ("xai", generation(user("Hi"), tools=(WEATHER,), tool_choice=NamedTool("file_search")), "tool_choice"),
        ("openresponses", generation(user("Hi"), tools=(CODE,)), "tools[0].type"),
        ("openresponses", generation(user(ImageFile("file-1"))), "messages[0].content[0]"),
    ],
)
def test_what_cannot_be_said_is_never_left_out(name: str, asked: Generation, param: str) -> None:
    with pytest.raises(CannotCarry) as raised:
        DIALECTS[name].build(asked)
    assert raised.value.fault.param == param


def test_what_is_offered_is_no_fault() -> None:
    body = {
        "tools": [{"type": "file_search"}, {"type": "code_interpreter"}],
        "tool_choice": {"type": "file_search"},
        "tool_resources": {"file_search": {"vector_store_ids": ["vs_1"]}, "code_interpreter": {"file_ids": ["file-1"]}},
        "messages": [{"role": "user", "content": [{"type": "image_file", "image_file": {"file_id": "file-1"}}]}],
    }
    assert OPENAI.faults(body) == ()
    assert len(DIALECTS["xai"].faults(body)) == 6


@unhurried
@given(any_text, any_text)
def test_every_text_arrives(text: str, output: str) -> None:
    """Half characters too: the standard library writes what orjson refuses."""
    asked = generation(user("Hi", text), Round((Text(text), ToolCall("c", "n", text)), (ToolOutput("c", output),)))
    first, *middle, call, given_ = json.loads(OPENAI.build(asked).body)["input"]
    assert first["content"] == ([{"type": "input_text", "text": each} for each in ("Hi", text)] if text else "Hi")
    assert [item["content"] for item in middle] == ([text] if text else [])
    assert (call["arguments"], given_["output"]) == (text, output)
