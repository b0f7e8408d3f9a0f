"""Requests to Gemini: everything that was said is in them, in its words, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given

from gateway.engine.models.gemini import DIALECTS
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
from gateway.engine.models.history import GO_ON, NOTHING_SAID
from gateway.engine.models.offers import CannotCarry
from tests.engine.models.gemini_streams import BONN, call, chunk, text
from tests.engine.models.values import assistant, generation, round_of, user
from tests.values import any_text, unhurried

GOOGLE = DIALECTS["google"]
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = Function("weather", "Tells it", CITY)
NOBODY = {"role": "user", "parts": [{"text": NOTHING_SAID}]}
THEN = {"role": "user", "parts": [{"text": GO_ON}]}
SKIP = "skip_thought_signature_validator"


def of(asked: Generation, model: str) -> Generation:
    return Generation(model=model, **{name: getattr(asked, name) for name in asked.__slots__ if name != "model"})


def request(asked: Generation) -> dict[str, Any]:
    built = GOOGLE.build(asked)
    assert built.headers == {}
    body: dict[str, Any] = orjson.loads(built.body)
    return body


def contents(*turns: Any, model: str = "gemini-3.8-flash", **said: Any) -> list[Any]:
    sent: list[Any] = request(of(generation(*turns, **said), model))["contents"]
    return sent


def says(role: str, *texts: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"text": each} for each in texts]}


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("gemini-3.8-flash", "/models/gemini-3.8-flash"),
        ("models/gemini-3.8-flash", "/models/gemini-3.8-flash"),
        ("tunedModels/my-own", "/tunedModels/my-own"),
        ("a/b?c=#d é:x", "/models/a%2Fb%3Fc%3D%23d%20%C3%A9%3Ax"),
        ("models/../x", "/models/..%2Fx"),
    ],
)
def test_the_model_is_in_the_path(model: str, path: str) -> None:
    """Whatever it is called: no name leads elsewhere, or says something else of the request."""
    built = GOOGLE.build(of(generation(user("Hi")), model))
    assert built.path == f"{path}:streamGenerateContent?alt=sse"
    assert b"model" not in built.body


def test_nothing_is_sent_that_nobody_said() -> None:
    assert request(generation(user("Hi"))) == {"contents": [says("user", "Hi")]}


def test_all_that_was_said_is_sent() -> None:
    schema = {"type": "object", "properties": {"n": {"type": ["integer", "null"]}}, "additionalProperties": False}
    asked = generation(
        user("Hi"),
        instructions="Be brief.",
        tools=(WEATHER, Function("time")),
        tool_choice=NamedTool("function", "time"),
        temperature=0.0,
        top_p=0.5,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "n", "description": "A number", "schema": schema},
        },
        reasoning_effort="low",
        max_completion_tokens=256,
    )
    assert request(of(asked, "gemini-3.8-flash")) == {
        "contents": [says("user", "Hi")],
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "tools": [
            {
                "functionDeclarations": [
                    {"name": "weather", "description": "Tells it", "parametersJsonSchema": CITY},
                    {"name": "time"},
                ]
            }
        ],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["time"]}},
        "generationConfig": {
            "temperature": 0.0,
            "topP": 0.5,
            "maxOutputTokens": 256,
            "thinkingConfig": {"thinkingLevel": "LOW"},
            "responseMimeType": "application/json",
            "responseJsonSchema": {"description": "A number", **schema},
        },
    }


STRICT = Function("weather", None, CITY, strict=True)


@pytest.mark.parametrize(
    ("said", "mode"),
    [
        ({"tools": (WEATHER,)}, None),
        ({"tools": (WEATHER,), "tool_choice": "auto"}, None),
        ({"tools": (WEATHER,), "tool_choice": "none"}, {"mode": "NONE"}),
        ({"tools": (WEATHER,), "tool_choice": "required"}, {"mode": "ANY"}),
        # The model is held to the schema, and may still speak.
        ({"tools": (WEATHER, STRICT)}, {"mode": "VALIDATED"}),
        ({"tools": (STRICT,), "tool_choice": "required"}, {"mode": "ANY"}),
        ({"tools": (STRICT,), "tool_choice": "none"}, {"mode": "NONE"}),
        ({"tool_choice": "none"}, None),
        # Cannot be: the vendor says so.
        ({"tool_choice": "required"}, {"mode": "ANY"}),
        ({"parallel_tool_calls": True, "tools": (WEATHER,)}, None),
    ],
)
def test_how_tools_are_chosen(said: dict[str, Any], mode: Any) -> None:
    sent = request(generation(user("Hi"), **said))
    assert sent.get("toolConfig") == (mode and {"functionCallingConfig": mode})


@pytest.mark.parametrize(
    ("parameters", "sent"),
    [
        (None, False),
        ({}, False),
        ({"type": "object", "properties": {}, "additionalProperties": False, "required": []}, False),
        ({"type": "object", "additionalProperties": {"type": "string"}}, True),
        (CITY, True),
    ],
)
def test_a_function_without_parameters_has_no_schema(parameters: Any, sent: bool) -> None:
    [tool] = request(generation(user("Hi"), tools=(Function("f", None, parameters),)))["tools"]
    assert ("parametersJsonSchema" in tool["functionDeclarations"][0]) is sent


@pytest.mark.parametrize(
    ("wanted", "config"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, {"responseMimeType": "application/json"}),
        (
            {"type": "json_schema", "json_schema": {"name": "n", "description": "d", "schema": {"$ref": "#/$defs/n"}}},
            {"responseMimeType": "application/json", "responseJsonSchema": {"$ref": "#/$defs/n"}},
        ),
    ],
)
def test_the_format_of_the_answer(wanted: Any, config: Any) -> None:
    assert request(generation(user("Hi"), response_format=wanted)).get("generationConfig") == config


@pytest.mark.parametrize(
    ("model", "effort", "config"),
    [
        # The vendor's table.
        ("gemini-3.1-pro-preview", "minimal", {"thinkingLevel": "LOW"}),
        ("gemini-3.1-flash-lite", "minimal", {"thinkingLevel": "MINIMAL"}),
        ("gemini-3-flash-preview", "minimal", {"thinkingLevel": "MINIMAL"}),
        ("gemini-3-flash-preview", "medium", {"thinkingLevel": "MEDIUM"}),
        ("gemini-2.5-flash", "none", {"thinkingBudget": 0}),
        ("gemini-2.5-flash", "minimal", {"thinkingBudget": 1024}),
        ("models/gemini-2.5-pro", "low", {"thinkingBudget": 1024}),
        ("gemini-2.5-pro", "medium", {"thinkingBudget": 8192}),
        ("gemini-2.5-pro", "high", {"thinkingBudget": 24576}),
        # What came after it.
        ("gemini-3.5-flash", "minimal", {"thinkingLevel": "MINIMAL"}),
        ("gemini-3.8-flash", "minimal", {"thinkingLevel": "LOW"}),
        ("gemini-3.8-flash", "high", {"thinkingLevel": "HIGH"}),
        ("gemini-4-neon", "xhigh", {"thinkingLevel": "XHIGH"}),
        ("gemini-4-neon", "minimal", {"thinkingLevel": "LOW"}),
        ("gemini-flash-latest", "minimal", {"thinkingLevel": "LOW"}),
        # Of which nothing is known.
        ("tunedModels/my-own", "none", {"thinkingBudget": 0}),
        ("tunedModels/my-own", "minimal", {"thinkingLevel": "MINIMAL"}),
    ],
)
def test_an_effort_is_a_level_or_a_budget(model: str, effort: str, config: Any) -> None:
    sent = request(of(generation(user("Hi"), reasoning_effort=effort), model))
    assert sent["generationConfig"] == {"thinkingConfig": config}


PNG = "data:image/png;base64,iVBORw0KGgo="


@pytest.mark.parametrize(
    ("image", "part"),
    [
        (PNG, {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}),
        ("data:image/webp;name=a;base64,AAAA", {"inlineData": {"mimeType": "image/webp", "data": "AAAA"}}),
        (
            "https://x.test/a.JPG?s=1#f",
            {"fileData": {"fileUri": "https://x.test/a.JPG?s=1#f", "mimeType": "image/jpeg"}},
        ),
        ("https://x.test/a", {"fileData": {"fileUri": "https://x.test/a"}}),
        ("https://x.test/a.php", {"fileData": {"fileUri": "https://x.test/a.php"}}),
    ],
)
def test_an_image_is_inline_or_at_its_address(image: str, part: Any) -> None:
    assert contents(user("Look", ImageUrl(image))) == [{"role": "user", "parts": [{"text": "Look"}, part]}]


@pytest.mark.parametrize(
    ("details", "resolution"),
    [
        ((None,), None),
        (("auto", "auto"), None),
        (("low", "low"), "MEDIA_RESOLUTION_LOW"),
        (("low", None), None),
        (("low", "high"), "MEDIA_RESOLUTION_HIGH"),
    ],
)
def test_the_detail_of_images_is_one_for_all(details: Any, resolution: Any) -> None:
    sent = request(generation(user("Look", *(ImageUrl(PNG, detail) for detail in details))))
    assert sent.get("generationConfig", {}).get("mediaResolution") == resolution


# --- turns ----------------------------------------------------------------------------------------------------------


def test_neighbours_of_one_role_are_one_content() -> None:
    assert contents(user("a"), user("b"), assistant("c"), assistant(RefusalText("No.")), user("d")) == [
        says("user", "a", "b"),
        says("model", "c", "No."),
        says("user", "d"),
    ]


@pytest.mark.parametrize(
    ("turns", "sent"),
    [
        ([], [NOBODY]),
        ([user("")], [NOBODY]),
        ([assistant("Hi")], [NOBODY, says("model", "Hi"), THEN]),
        ([assistant("Hi"), user("a")], [NOBODY, says("model", "Hi"), says("user", "a")]),
        ([user("a"), assistant("Hi")], [says("user", "a"), says("model", "Hi"), THEN]),
    ],
)
def test_the_user_has_the_first_and_the_last_word(turns: Any, sent: Any) -> None:
    """Else the request is refused, and a run of OpenAI's is not."""
    assert contents(*turns, instructions="Be brief.") == sent


def parts_of(asked: list[Any]) -> list[Any]:
    return [(content["role"], content["parts"]) for content in asked]


def test_a_round_is_calls_and_what_was_answered_in_their_order() -> None:
    turn = Round(
        (
            Text("One moment."),
            ToolCall("call_a", "weather", '{"city":"Bonn"}'),
            ToolCall("call_b", "time", "{}"),
        ),
        (ToolOutput("call_b", ""), ToolOutput("call_a", '{"sky":"grey"}')),
    )
    asked = contents(user("Hi"), assistant("Let me see."), turn, model="gemini-2.5-flash")
    assert parts_of(asked)[1:] == [
        (
            "model",
            [
                {"text": "Let me see."},
                {"text": "One moment."},
                {"functionCall": {"id": "call_a", "name": "weather", "args": BONN}},
                {"functionCall": {"id": "call_b", "name": "time", "args": {}}},
            ],
        ),
        (
            "user",
            [
                {"functionResponse": {"id": "call_a", "name": "weather", "response": {"output": '{"sky":"grey"}'}}},
                {"functionResponse": {"id": "call_b", "name": "time", "response": {"output": ""}}},
            ],
        ),
    ]


def test_what_the_user_says_next_is_no_part_of_what_functions_answered() -> None:
    asked = contents(user("Hi"), round_of(call_a="7"), user("Well?"))
    assert [content["role"] for content in asked] == ["user", "model", "user", "user"]
    assert asked[-1] == says("user", "Well?")


@pytest.mark.parametrize("written", ['{"city": Bonn', "", "[1]", "null", '"Bonn"', "1e999"])
def test_arguments_that_are_no_object_go_back_as_they_were_written(written: str) -> None:
    """By another vendor's model, earlier in the thread."""
    turn = Round((ToolCall("call_a", "weather", written),), (ToolOutput("call_a", "7"),))
    assert contents(user("Hi"), turn)[1]["parts"][0]["functionCall"]["args"] == {"arguments": written}


def test_a_call_that_nobody_answered_is_not_sent() -> None:
    assert contents(user("Hi"), round_of(call_a=None), user("Well?")) == [says("user", "Hi", "Well?")]


def round_read(raw: bytes) -> Round:
    """What an engine makes of an answer with calls, and outputs for them."""
    reading = GOOGLE.read(lambda index: f"made_{index}")
    deltas = reading.feed(raw) + reading.close()
    written = {delta.index: delta.text for delta in deltas if isinstance(delta, CallArguments)}
    items = [
        ToolCall(delta.id, delta.name, written[delta.index]) if isinstance(delta, CallBegun) else delta
        for delta in deltas
        if isinstance(delta, CallBegun | Carried)
    ]
    return Round(tuple(items), tuple(ToolOutput(item.id, "7") for item in items if isinstance(item, ToolCall)))


def test_a_round_comes_back_as_the_model_said_it() -> None:
    """From the vendor's stream, over the outputs, into the next request: ids, names, arguments, and signatures where
    they were. Without them Gemini 3 refuses the second round of every run."""
    said = [
        text("", thoughtSignature="t"),
        call(args=BONN, id="fc_1", signature="s"),
        call("time", {}, id="fc_2"),
    ]
    turn = round_read(chunk(*said, reason="STOP"))
    asked = contents(user("Hi"), turn)
    assert asked[1] == {"role": "model", "parts": said}
    assert [part["functionResponse"]["id"] for part in asked[2]["parts"]] == ["fc_1", "fc_2"]
    second = round_read(chunk(call("time", {}, id="fc_3", signature="u"), reason="STOP"))
    asked = contents(user("Hi"), turn, second)
    assert [asked[1]["parts"], asked[3]["parts"]] == [said, [call("time", {}, id="fc_3", signature="u")]]


def signatures(asked: list[Any]) -> list[Any]:
    return [part.get("thoughtSignature") for content in asked for part in content["parts"] if "functionCall" in part]


def test_signatures_of_earlier_turns_are_not_sent() -> None:
    """They may be another model's, and nobody looks at them."""
    turn = round_read(chunk(text("", thoughtSignature="t"), call(args=BONN, signature="s"), reason="STOP"))
    for model in ("gemini-3.8-flash", "gemini-2.5-flash"):
        asked = contents(user("Hi"), turn, assistant("Rain."), user("And in Rome?"), model=model)
        assert signatures(asked) == [None]
        assert b"thoughtSignature" not in orjson.dumps(asked)


@pytest.mark.parametrize(
    ("model", "sent"),
    [
        ("gemini-3.8-flash", [SKIP, None, SKIP]),
        ("gemini-4-neon", [SKIP, None, SKIP]),
        ("gemini-2.5-flash", [None, None, None]),
        ("gemini-2.0-flash", [None, None, None]),
        ("tunedModels/my-own", [None, None, None]),
    ],
)
def test_calls_of_this_turn_that_have_no_signature_say_so(model: str, sent: Any) -> None:
    """Those of another vendor's model, with which the run began: the first of each round."""
    carried = Carried("chat_completions", {"calls": {}})
    asked = contents(user("Hi"), round_of(carried, call_a="7", call_b="8"), round_of(call_c="9"), model=model)
    assert signatures(asked) == sent
    assert signatures(contents(user("Hi"), round_of(call_a="7"), user("Well?"), model=model)) == [None]


# --- what cannot be said --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        (generation(user("Hi"), tools=(HostedTool("file_search"),)), "tools[0].type"),
        (generation(user("Hi"), parallel_tool_calls=False), "parallel_tool_calls"),
        (generation(user(ImageFile("file-1"))), "messages[0].content[0]"),
        (generation(user(ImageUrl("http://x.test/a.png"))), "content"),
        (generation(user("Hi"), temperature=2.1), "temperature"),
        (generation(user("Hi"), reasoning_effort="max"), "reasoning_effort"),
        (of(generation(user("Hi"), reasoning_effort="xhigh"), "gemini-2.5-flash"), "reasoning_effort"),
        (of(generation(user("Hi"), reasoning_effort="none"), "gemini-3.8-flash"), "reasoning_effort"),
        (of(generation(user("Hi"), reasoning_effort="none"), "gemini-2.5-pro"), "reasoning_effort"),
        (
            generation(user("Hi"), tools=(WEATHER, Function("f", None, {"allOf": []}))),
            "tools[1].function.parameters.allOf",
        ),
        (generation(user("Hi"), tools=(Function("1st"),)), "tools[0].function.name"),
        (
            generation(user("Hi"), response_format={"type": "json_schema", "json_schema": {"schema": {"not": {}}}}),
            "response_format.json_schema.schema.not",
        ),
    ],
)
def test_what_cannot_be_said_is_never_left_out(asked: Generation, param: str) -> None:
    """Refused at creation already; this is for what was stored while the provider could."""
    with pytest.raises(CannotCarry) as raised:
        GOOGLE.build(asked)
    assert raised.value.fault.param == param


def function(parameters: Any = None, name: str = "f") -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def image(url: str) -> dict[str, Any]:
    return {
        "role": "user",
        "content": [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": url}}],
    }


HTTP = image("http://x.test/a.png")


@pytest.mark.parametrize(
    ("body", "params"),
    [
        (
            {"tools": [function(CITY), {"type": "function"}], "reasoning_effort": "none", "model": "gemini-2.5-flash"},
            [],
        ),
        ({"tools": None, "response_format": "auto", "messages": [{"content": "x"}], "thread": None}, []),
        ({"tools": [function(), function({"pattern": "x"}, "-f")]}, ["name", "parameters.pattern"]),
        ({"parallel_tool_calls": False}, ["parallel_tool_calls"]),
        ({"reasoning_effort": "max"}, ["reasoning_effort"]),
        ({"reasoning_effort": "xhigh"}, []),
        ({"reasoning_effort": "xhigh", "model": "gemini-2.5-flash"}, ["reasoning_effort"]),
        ({"reasoning_effort": "none"}, []),
        ({"reasoning_effort": "none", "model": "gemini-3.8-flash"}, ["reasoning_effort"]),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"if": {}}}}},
            ["response_format.json_schema.schema.if"],
        ),
        (image(PNG), []),
        (HTTP, ["content[1].image_url.url"]),
        (image("data:image/svg+xml,<svg/>"), ["content[1].image_url.url"]),
        ({"messages": [image(PNG), HTTP]}, ["messages[1].content[1].image_url.url"]),
        ({"additional_messages": [HTTP]}, ["additional_messages[0].content[1].image_url.url"]),
        ({"thread": {"messages": ["?", HTTP]}}, ["thread.messages[1].content[1].image_url.url"]),
    ],
)
def test_it_is_refused_by_name_before_anything_is_stored(body: dict[str, Any], params: list[str]) -> None:
    told = [fault.param for fault in GOOGLE.faults(body)]
    assert [param.removeprefix("tools[1].function.") for param in told] == params


@unhurried
@given(any_text, any_text)
def test_every_text_arrives(said: str, output: str) -> None:
    """Half characters too: the standard library writes what orjson refuses."""
    turn = Round((Text(said), ToolCall("c", "n", json.dumps({"a": said}))), (ToolOutput("c", output),))
    first, second, third = json.loads(GOOGLE.build(generation(user("Hi", said), turn)).body)["contents"]
    assert first["parts"][1:] == ([{"text": said}] if said else [])
    assert second["parts"][-1]["functionCall"]["args"] == {"a": said}
    assert third["parts"][0]["functionResponse"]["response"] == {"output": output}
