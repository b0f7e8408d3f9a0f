"""The simulator of Anthropic streams as it does, refuses what it refuses, and fails as it is told to."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from gateway.engine.models.anthropic_messages import DIALECTS
from gateway.engine.models.generation import (
    CallBegun,
    Carried,
    Delta,
    Failure,
    Finish,
    Function,
    Generation,
    ImageUrl,
    Message,
    NamedTool,
    Round,
    Text,
    TextDelta,
    ToolCall,
    ToolOutput,
    Usage,
)
from gateway.phases.blame import told_rest_s
from tests.simulators import faults, find_models
from tests.simulators.answers import Answer, Breaks, Calls, Declines, Says, Thinks, calls, says
from tests.simulators.anthropic_messages import (
    ORGANIZATION,
    REFUSALS,
    RETRY_AFTER,
    AnthropicMessages,
    as_json,
    refuse,
    without_stop,
)
from tests.simulators.asking import ask, calls_in, text_in
from tests.simulators.base import KEYS
from tests.simulators.threads_server.server import let_others_run

ONE, _, OTHER = KEYS
API = DIALECTS["anthropic"]
TOOLS = (Function("add"), Function("find"))
HELLO: list[dict[str, Any]] = [{"role": "user", "content": "hello"}]


@pytest.fixture
async def vendor() -> AsyncIterator[AnthropicMessages]:
    simulator = find_models()["anthropic_messages"]()
    assert isinstance(simulator, AnthropicMessages)
    await simulator.start()
    yield simulator
    await simulator.stop()


class Engine:
    """Asks as the gateway's engine does, and reads what comes."""

    def __init__(self, vendor: AnthropicMessages, session: aiohttp.ClientSession) -> None:
        self._vendor, self._session = vendor, session

    async def __call__(self, text: str = "hello", *rounds: Round, model: str = "m", **more: Any) -> list[Delta]:
        return await self.ask(Generation(model, (Message("user", (Text(text),)), *rounds), **more))

    async def ask(self, generation: Generation) -> list[Delta]:
        return await ask(self._session, self._vendor.url, API, generation, {"x-api-key": ONE})


@pytest.fixture
def engine(vendor: AnthropicMessages, session: aiohttp.ClientSession) -> Engine:
    return Engine(vendor, session)


def answered(deltas: list[Delta], *, forget: bool = False) -> Round:
    """A round of these deltas, each call with the output 3."""
    begun = [delta for delta in deltas if isinstance(delta, CallBegun)]
    said = [Text(text_in(deltas))] if text_in(deltas) else []
    made = [ToolCall(call.id, name, told) for call, (name, told) in zip(begun, calls_in(deltas), strict=True)]
    kept = [delta for delta in deltas if isinstance(delta, Carried) and not forget]
    return Round((*said, *made, *kept), tuple(ToolOutput(call.id, "3") for call in begun))


# --- answers ----------------------------------------------------------------------------------------------------------


async def test_without_a_script_it_is_the_echo_model(engine: Engine, vendor: AnthropicMessages) -> None:
    assert text_in(await engine("Grüße 👋")) == "You said: Grüße 👋"
    both = 'call add {"a": [1]} call find'
    deltas = await engine(both, tools=TOOLS)
    assert calls_in(deltas) == [("add", '{"a": [1]}'), ("find", "{}")]
    assert text_in(await engine(both, answered(deltas), tools=TOOLS)) == "The tools answered: 3; 3"
    assert calls_in(await engine(both, tools=TOOLS, parallel_tool_calls=False)) == [("add", '{"a": [1]}')]
    assert calls_in(await engine("hello", tools=TOOLS, tool_choice="required")) == [("add", "{}")]
    assert calls_in(await engine("hello", tools=TOOLS, tool_choice=NamedTool("function", "find"))) == [("find", "{}")]
    assert calls_in(await engine(both, tools=TOOLS, tool_choice="none")) == []
    assert isinstance((await engine("fail"))[-1], Failure)
    assert (await engine("truncate"))[-1] == Finish("length")


async def test_an_answer_may_depend_on_the_request(engine: Engine, vendor: AnthropicMessages) -> None:
    vendor.script(lambda body: says(body["messages"][0]["content"][0]["text"].upper()))
    assert text_in(await engine("quiet")) == "QUIET"


async def test_it_says_what_the_script_says(engine: Engine, vendor: AnthropicMessages) -> None:
    vendor.script(
        Answer((Thinks("Hm"), Says("Hel"), Says("lo")), usage=(5, 2)),
        Answer((Thinks("Hm"), Says("So:"), Calls("add", ('{"a"', ":1}"), "toolu_a"), Thinks("Ah"), Calls("find"))),
        Answer((Declines("I'd "), Declines("rather not"))),
        says("cut", reason="model_context_window_exceeded"),
        Answer((Says("Hel"), Breaks({"message": "Overloaded", "type": "overloaded_error"}))),
        says("I search", reason="pause_turn"),
    )
    assert await engine() == [TextDelta(0, "Hel"), TextDelta(0, "lo"), Usage(5, 2, 7), Finish("stop")]
    deltas = await engine(tools=TOOLS)
    assert (text_in(deltas), calls_in(deltas)) == ("So:", [("add", '{"a":1}'), ("find", "{}")])
    assert [type(delta) for delta in deltas[-3:]] == [Carried, Usage, Finish]
    deltas = await engine()
    assert (text_in(deltas), deltas[-1]) == ("I'd rather not", Finish("content_filter"))
    assert (await engine())[-1] == Finish("length")
    assert (await engine())[-1] == Failure("server_error", "Overloaded", vendor_code="overloaded_error")
    assert (await engine())[-1] == Finish("paused")


async def test_thinking_is_wanted_back_unchanged(engine: Engine, vendor: AnthropicMessages) -> None:
    vendor.script(Answer((Thinks("Hm"), Calls("add"), Thinks("Ah"), Calls("find"))))
    deltas = await engine(tools=TOOLS)
    assert text_in(await engine("hello", answered(deltas), tools=TOOLS)) == "The tools answered: 3; 3"

    [failure] = await engine("hello", answered(deltas, forget=True), tools=TOOLS)
    assert isinstance(failure, Failure)
    assert "Expected `thinking`" in failure.message

    [carried] = [delta for delta in deltas if isinstance(delta, Carried)]
    thought, *rest = carried.value["layout"]
    changed = Carried(carried.api, {**carried.value, "layout": [{**thought, "thinking": "Hm!"}, *rest]})
    turned = answered([changed if delta is carried else delta for delta in deltas])
    said: dict[str, Any] = {"tools": TOOLS}
    for text, turn, more in (
        ("hello", turned, said),
        ("hello", answered(deltas), {**said, "instructions": "Be brief."}),
        ("hello", answered(deltas), {**said, "model": "n"}),
        ("hello", answered(deltas), {"tools": TOOLS[:1]}),
        ("hello!", answered(deltas), said),
    ):
        [failure] = await engine(text, turn, **more)
        assert isinstance(failure, Failure)
        assert "Invalid `signature`" in failure.message


async def test_what_is_marked_is_found_again(engine: Engine, vendor: AnthropicMessages) -> None:
    """Of three requests of one run each finds all that the one before said in the cache."""
    more: dict[str, Any] = {"instructions": "one two three", "tools": TOOLS}
    vendor.script(calls(Calls("add")), calls(Calls("find")))
    rounds: list[Round] = []
    told: list[Usage] = []
    for _ in range(3):
        deltas = await engine("hello", *rounds, **more)
        told += [delta for delta in deltas if isinstance(delta, Usage)]
        rounds.append(answered(deltas))
    assert [usage.cached_tokens for usage in told] == [0, told[0].prompt_tokens, told[1].prompt_tokens]
    assert told[0].prompt_tokens == 3 + 2 + 1


# --- refusals ---------------------------------------------------------------------------------------------------------


def tool(name: str = "add", **more: Any) -> dict[str, Any]:
    return {"name": name, "input_schema": {"type": "object"}, **more}


def use(name: str = "a", **more: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": name, "name": "add", "input": {}, **more}


def result(name: str = "a", **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": name, **more}


def said(text: Any = "hello") -> dict[str, Any]:
    return {"type": "text", "text": text}


def talk(*contents: Any, **more: Any) -> dict[str, Any]:
    """Messages of user and assistant in turn."""
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[n % 2], "content": each} for n, each in enumerate(contents)], **more}


def image(**source: Any) -> dict[str, Any]:
    return talk([{"type": "image", "source": source}])


MARK = {"cache_control": {"type": "ephemeral"}}
CLOSED = {"type": "object", "additionalProperties": False}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no model": ({"model": None}, "model: Field required"),
    "no limit": ({"max_tokens": None}, "max_tokens: Field required"),
    "a limit of nothing": ({"max_tokens": 0}, "max_tokens"),
    "a limit too high": ({"max_tokens": 64_001}, "64001 > 64000"),
    "no messages": ({"messages": []}, "at least one"),
    "a field nobody knows": ({"parallel_tool_calls": False}, "parallel_tool_calls: Extra inputs are not permitted"),
    "a role nobody knows": ({"messages": [{"role": "system", "content": "x"}]}, "role"),
    "the assistant first": ({"messages": [{"role": "assistant", "content": "x"}, *HELLO]}, "first message"),
    "the assistant last": (talk("a", "b"), "prefill"),
    "no content": (talk([]), "non-empty"),
    "white space": (talk([said(" \n")]), "non-whitespace"),
    "a text of Threads": (talk([said({"value": "x"})]), "valid string"),
    "a part of Threads": (talk([{"type": "image_url"}]), "image_url"),
    "an image from the assistant": (talk("a", [{"type": "image", "source": {}}], "b"), "image"),
    "an image of another kind": (image(type="base64", media_type="image/bmp", data="A"), "media_type"),
    "an image by another way": (image(type="url", url="file-1"), "HTTPS"),
    "a file": (image(type="file", file_id="file-1"), "file"),
    "a call from the user": (talk([use()], tools=[tool()]), "tool_use"),
    "a call without its result": (talk("a", [use()], "b", tools=[tool()]), "without `tool_result`"),
    "half the results": (talk("a", [use("a"), use("b")], [result("a")], tools=[tool()]), "immediately after: b"),
    "a result too late": (talk("a", [use()], [said(), result()], tools=[tool()]), "without `tool_result`"),
    "a result without its call": (talk("a", "b", [result()], tools=[tool()]), "unexpected `tool_use_id`"),
    "an id twice": (talk("a", [use()], [result()], [use()], [result()], tools=[tool()]), "must be unique"),
    "an id of another form": (talk("a", [use("f.x:0")], [result("f.x:0")], tools=[tool()]), "should match pattern"),
    "an input that is a text": (talk("a", [use(input="{}")], [result()], tools=[tool()]), "valid dictionary"),
    "calls, but no tools": (talk("a", [use()], [result()]), "must define tools"),
    "a tool of OpenAI's form": ({"tools": [{"type": "function", "function": {"name": "a"}}]}, "Extra inputs"),
    "a tool without a schema": ({"tools": [{"name": "a"}]}, "input_schema"),
    "a tool's name with a space": ({"tools": [tool("a b")]}, "pattern"),
    "a strict schema that is not closed": ({"tools": [tool(strict=True)]}, "additionalProperties"),
    "a choice without tools": ({"tool_choice": {"type": "auto"}}, "only be specified"),
    "a choice of no tool": ({"tools": [tool()], "tool_choice": {"type": "tool", "name": "x"}}, "not found"),
    "a choice of OpenAI's form": ({"tools": [tool()], "tool_choice": {"type": "function"}}, "expected tags"),
    "parallel calls of none": (
        {"tools": [tool()], "tool_choice": {"type": "none", "disable_parallel_tool_use": True}},
        "Extra inputs",
    ),
    "too warm": ({"temperature": 1.1}, "temperature"),
    "two ways to sample": ({"temperature": 0.5, "top_p": 0.5}, "cannot both"),
    "an effort nobody knows": ({"output_config": {"effort": "minimal"}}, "effort"),
    "a format of OpenAI's form": ({"output_config": {"format": {"type": "json_object"}}}, "format"),
    "a format that is not closed": (
        {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
        "additionalProperties",
    ),
    "five marks": (talk([said() | MARK] * 5), "maximum of 4"),
    "a mark on a thought": (
        talk("a", [{"type": "thinking", "thinking": "x", "signature": "y", **MARK}], "b"),
        "Extra inputs",
    ),
    "a thought of its own": (talk("a", [{"type": "thinking", "thinking": "x", "signature": "y"}], "b"), "signature"),
}


async def post(
    vendor: AnthropicMessages, session: aiohttp.ClientSession, change: dict[str, Any], **headers: str
) -> tuple[int, Any]:
    body = {"model": "m", "max_tokens": 9, "messages": HELLO, "stream": True, **change}
    greeting = {"x-api-key": ONE, "anthropic-version": "2023-06-01", **headers}
    async with session.post(f"{vendor.url}/messages", json=body, headers=greeting) as response:
        is_json = response.content_type == "application/json"
        return response.status, await response.json() if is_json else await response.text()


@pytest.mark.parametrize(("change", "words"), WRONG.values(), ids=WRONG)
async def test_what_anthropic_refuses_is_refused(
    change: dict[str, Any], words: str, vendor: AnthropicMessages, session: aiohttp.ClientSession
) -> None:
    vendor.script(says("still to come"))
    status, told = await post(vendor, session, change)
    assert (status, told["type"], told["error"]["type"]) == (400, "error", "invalid_request_error")
    assert told["request_id"].startswith("req_")
    assert re.search(re.escape(words), told["error"]["message"]), told
    assert "still to come" in (await post(vendor, session, {}))[1]


RIGHT: list[dict[str, Any]] = [
    talk("a", [said(), use("a"), use("b")], [result("b", content="x"), result("a"), said()], tools=[tool() | MARK]),
    image(type="base64", media_type="image/png", data="AAAA"),
    {"system": "Be brief.", "temperature": 0, "metadata": {"user_id": "x"}, "stop_sequences": ["x"]},
    {"system": [said() | MARK], "tools": [tool(strict=True, input_schema=CLOSED)], "tool_choice": {"type": "any"}},
    {"output_config": {"effort": "max", "format": {"type": "json_schema", "schema": CLOSED}}},
    talk("a", "b", "c"),
]


@pytest.mark.parametrize("change", RIGHT)
async def test_what_anthropic_takes_is_taken(
    change: dict[str, Any], vendor: AnthropicMessages, session: aiohttp.ClientSession
) -> None:
    status, events = await post(vendor, session, change)
    assert status == 200, events
    assert events.endswith('data: {"type":"message_stop"}\n\n')


async def test_it_does_not_refuse_what_the_engine_builds_for_it(engine: Engine, vendor: AnthropicMessages) -> None:
    """Of a thread in which all happened that can happen: broken arguments, calls nobody answered, two runs in a row,
    another vendor's ids, one of them twice, a greeting first and the assistant last."""
    twice = Round((ToolCall("functions.add:0", "add", "{"),), (ToolOutput("functions.add:0", ""),))
    turns = (
        Message("assistant", (Text("Welcome"),)),
        Message("user", (Text("look "), ImageUrl("https://a.test/b.png", "high"), Text(" "))),
        Message("user", (Text("at this"),)),
        Round(
            (Text("Well"), ToolCall("call_" + "x" * 80, "add", "{"), ToolCall("b", "find", "[]")),
            (ToolOutput("b", ""), ToolOutput("call_" + "x" * 80, "3")),
        ),
        Message("assistant", (Text(""),)),
        twice,
        twice,
        Round((ToolCall("c", "add", "{}"),), ()),
        Message("assistant", (Text("done"),)),
    )
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": CLOSED}}
    for more in (
        {},
        {"instructions": "Be brief.", "temperature": 1.0, "top_p": 1.0},
        {"tools": TOOLS, "tool_choice": NamedTool("function", "find"), "parallel_tool_calls": False},
        {"tools": TOOLS, "tool_choice": "none", "parallel_tool_calls": False, "max_completion_tokens": 1},
        {"response_format": wanted, "reasoning_effort": "high", "temperature": 0.5},
    ):
        deltas = await engine.ask(Generation("m", turns, **more))  # type: ignore[arg-type]
        assert isinstance(deltas[-1], Finish), deltas


async def test_keys_versions_models_and_places_are_checked(
    vendor: AnthropicMessages, session: aiohttp.ClientSession
) -> None:
    vendor.models = frozenset({"m"})
    for change, headers, status, kind in (
        ({}, {"x-api-key": "sk-ant-unknown"}, 401, "authentication_error"),
        ({}, {"anthropic-version": "2024-01-01"}, 400, "invalid_request_error"),
        ({"model": "n"}, {}, 404, "not_found_error"),
        ({}, {"x-api-key": OTHER}, 200, None),
    ):
        found, told = await post(vendor, session, change, **headers)
        assert (found, told["error"]["type"] if kind else None) == (status, kind)
    greeting = {"x-api-key": ONE, "anthropic-version": "2023-06-01"}
    async with session.get(f"{vendor.url}/models", headers=greeting) as response:
        assert [each["id"] for each in (await response.json())["data"]] == ["m"]
        assert response.headers["anthropic-organization-id"] == ORGANIZATION
    async with session.get(f"{vendor.url}/models", headers={"Authorization": f"Bearer {ONE}"}) as response:
        assert response.status == 401
    assert [each.account for each in vendor.journal] == [None, "acme", "acme", "bolt", "acme", None]


# --- faults -----------------------------------------------------------------------------------------------------------

CODES = dict.fromkeys(("bad prompt", "too long", "no model", "too large"), "invalid_prompt")
CODES |= {"too fast": "rate_limit_exceeded"}


@pytest.mark.parametrize("name", REFUSALS)
async def test_it_refuses_as_it_is_told(name: str, engine: Engine, vendor: AnthropicMessages) -> None:
    vendor.faults.add(refuse(name))
    [failure] = await engine()
    assert isinstance(failure, Failure)
    assert failure.code == CODES.get(name, "server_error")
    assert not re.search(f"billing|credit|usage limits|x-api-key|API key|{ORGANIZATION}", failure.message)
    assert text_in(await engine()) == "You said: hello"


RESTS_S = dict(zip(RETRY_AFTER, [None, 2, 86_400, 41], strict=True))


@pytest.mark.parametrize(("name", "rest_s"), RESTS_S.items())
def test_it_says_when_to_come_again(name: str, rest_s: float | None) -> None:
    assert told_rest_s(RETRY_AFTER[name], now=0) == rest_s


WHOLE = Answer((Says("Hel"), Says("lo"), Calls("add", ('{"a"', ":1}"))))
CUTS: dict[str, tuple[faults.Act, str, list[tuple[str, str]]]] = {
    "before a word": (faults.cut_stream(3), "", []),
    "within the text": (faults.cut_stream(4), "Hel", []),
    "within an event": (faults.cut_behind(b'"text_delta","text":"lo'), "Hel", []),
    "within the arguments": (faults.cut_behind(b'"partial_json":"{\\"a\\""}}\n\n'), "Hello", [("add", '{"a"')]),
    "hard": (faults.cut_stream(5, reset=True), "Hello", []),
}


@pytest.mark.parametrize(("act", "text", "made"), CUTS.values(), ids=CUTS)
async def test_streams_are_cut_where_it_is_said(
    act: faults.Act, text: str, made: list[tuple[str, str]], engine: Engine, vendor: AnthropicMessages
) -> None:
    vendor.script(WHOLE)
    vendor.faults.add(act)
    deltas = await engine(tools=TOOLS)
    assert deltas[-1] == Failure("server_error", "cut")
    assert (text_in(deltas), calls_in(deltas)) == (text, made)


@pytest.mark.parametrize(
    "act",
    [without_stop(), as_json(), faults.slow(3, let_others_run)],
    ids=["no end", "JSON", "slow"],
)
async def test_answers_of_odd_form_are_whole(act: faults.Act, engine: Engine, vendor: AnthropicMessages) -> None:
    vendor.faults.add(act)
    deltas = await engine()
    assert (text_in(deltas), deltas[-1]) == ("You said: hello", Finish("stop"))


async def test_garbage_is_no_answer(engine: Engine, vendor: AnthropicMessages) -> None:
    vendor.faults.add(faults.garbage(b"<html>"))
    vendor.faults.add(faults.garbage([b'data: {"type": ', b"oops\n\n"], "text/event-stream"))
    for _ in range(2):
        [failure] = await engine()
        assert isinstance(failure, Failure)
        assert failure.code == "server_error"
