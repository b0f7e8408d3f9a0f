"""The simulators of chat completions stream in the manner of their vendors, refuse what these refuse, and fail as they
are told to."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import openai
import pytest
from openai import AsyncOpenAI

from gateway.engine.models.chat_completions import DIALECTS
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
    ToolCall,
    ToolOutput,
    Usage,
)
from gateway.engine.models.model_api import ModelApi
from gateway.phases.blame import told_rest_s
from tests.sdk import http_client
from tests.simulators import faults
from tests.simulators.answers import Answer, Breaks, Calls, Declines, Says, Thinks, calls, says
from tests.simulators.asking import ask, calls_in, text_in
from tests.simulators.base import KEYS
from tests.simulators.chat_completions import (
    MODELS,
    REFUSALS,
    RETRY_AFTER,
    ChatCompletions,
    as_json,
    refuse,
    without_done,
)
from tests.simulators.threads_server.server import let_others_run

VENDORS = sorted(name.removesuffix("_chat") for name in MODELS)
ONE, TWO, OTHER = KEYS
ADD, FIND = ({"type": "function", "function": {"name": name}} for name in ("add", "find"))
HELLO: list[dict[str, Any]] = [{"role": "user", "content": "hello"}]
TOOLS = (Function("add"), Function("find"))

Start = Callable[..., Awaitable[ChatCompletions]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    started: list[ChatCompletions] = []

    async def start(vendor: str = "openai", **settings: Any) -> ChatCompletions:
        simulator = MODELS[f"{vendor}_chat"](**settings)
        await simulator.start()
        started.append(simulator)
        return simulator

    yield start
    for simulator in started:
        await simulator.stop()


@pytest.fixture
async def vendor(start: Start) -> ChatCompletions:
    return await start()


@pytest.fixture
async def client(vendor: ChatCompletions) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(api_key=ONE, base_url=vendor.url, max_retries=0, http_client=http_client()) as client:
        yield client


class Engine:
    """Asks as the gateway's engine does, and reads what comes."""

    def __init__(self, vendor: ChatCompletions, session: aiohttp.ClientSession, api: ModelApi) -> None:
        self._vendor, self._session, self._api = vendor, session, api

    async def __call__(self, text: str = "hello", *rounds: Round, **more: Any) -> list[Delta]:
        generation = Generation("m", (Message("user", (Text(text),)), *rounds), **more)
        headers = {"Authorization": f"Bearer {ONE}", "api-key": ONE}
        params = {"api-version": "2024-10-21"}
        return await ask(self._session, self._vendor.url, self._api, generation, headers, params=params)


@pytest.fixture
def engine(vendor: ChatCompletions, session: aiohttp.ClientSession) -> Engine:
    return Engine(vendor, session, DIALECTS["openai"])


async def engine_of(name: str, start: Start, session: aiohttp.ClientSession) -> tuple[ChatCompletions, Engine]:
    vendor = await start(name)
    return vendor, Engine(vendor, session, DIALECTS.get(name, DIALECTS["openai"]))


# --- answers --------------------------------------------------------------------------------------------------------


async def test_the_sdk_streams_from_it(client: AsyncOpenAI, vendor: ChatCompletions) -> None:
    vendor.script(
        Answer((Says("Let me see. "), Calls("add", ('{"a"', ":1}"), "call_a"), Calls("find", ("{", "}"), "call_b"))),
        Answer((Declines("I'd "), Declines("rather not"))),
        says("cut ", "short", reason="length", usage=(7, 2)),
    )
    heard: list[Any] = []
    for _ in range(3):
        async with client.chat.completions.stream(
            model="gpt-4o",
            messages=HELLO,  # type: ignore[arg-type]
            tools=[ADD, FIND],  # type: ignore[list-item]
            stream_options={"include_usage": True},
        ) as stream:
            try:
                heard.append(await stream.get_final_completion())
            except openai.LengthFinishReasonError as cut:
                heard.append(cut.completion)
    called, declined, short = ((each.choices[0].message, each.choices[0].finish_reason, each.usage) for each in heard)
    assert (called[0].content, called[1]) == ("Let me see. ", "tool_calls")
    made = [(call.id, call.function.name, call.function.arguments) for call in called[0].tool_calls]
    assert made == [("call_a", "add", '{"a":1}'), ("call_b", "find", "{}")]
    assert (declined[0].refusal, declined[1]) == ("I'd rather not", "stop")
    assert (short[0].content, short[1], short[2].total_tokens) == ("cut short", "length", 9)
    assert [body["messages"] for body in vendor.bodies] == [HELLO] * 3
    assert {each.key for each in vendor.journal} == {ONE}


async def test_without_a_script_it_is_the_echo_model(engine: Engine, vendor: ChatCompletions) -> None:
    assert text_in(await engine("Grüße 👋")) == "You said: Grüße 👋"
    assert calls_in(await engine('call add {"a": [1]} call find', tools=TOOLS)) == [
        ("add", '{"a": [1]}'),
        ("find", "{}"),
    ]
    answered = Round((ToolCall("call_1", "add", "{}"),), (ToolOutput("call_1", "3"),))
    assert text_in(await engine("call add", answered, tools=TOOLS)) == "The tools answered: 3"
    assert isinstance((await engine("fail"))[-1], Failure)
    assert (await engine("truncate"))[-1] == Finish("length")


async def test_an_answer_may_depend_on_the_request(engine: Engine, vendor: ChatCompletions) -> None:
    vendor.script(lambda body: says(body["messages"][0]["content"].upper()))
    assert text_in(await engine("quiet")) == "QUIET"


@pytest.mark.parametrize("name", VENDORS)
async def test_in_every_manner_it_says_the_same(name: str, start: Start, session: aiohttp.ClientSession) -> None:
    """Words, thoughts, two calls and their outputs, usage, an error in the middle: as the engine's reader has it."""
    vendor, engine = await engine_of(name, start, session)
    two = (Calls("add", ('{"a"', ":1}")), Calls("find", ("{", "}")))
    error = {"message": "gone", "type": "server_error", "code": None}
    vendor.script(
        Answer((Thinks("Hm"), Says("Hel"), Says("lo")), usage=(5, 2)),
        Answer((Thinks("Hm"), *two)),
        Answer((Says("Hel"), Breaks(error))),
    )
    deltas = await engine()
    assert (text_in(deltas), deltas[-1]) == ("Hello", Finish("stop"))
    told = [delta for delta in deltas if isinstance(delta, Usage)]
    assert told == ([] if name == "plain" else [Usage(5, 2, 7)])

    deltas = await engine("use them", tools=TOOLS)
    assert (calls_in(deltas), deltas[-1]) == ([("add", '{"a":1}'), ("find", "{}")], Finish("tool_calls"))

    items: list[Any] = [delta for delta in deltas if isinstance(delta, Carried)]
    begun = [delta for delta in deltas if isinstance(delta, CallBegun)]
    for call, (_, arguments) in zip(begun, calls_in(deltas), strict=True):
        items.append(ToolCall(call.id, call.name, arguments))
    outputs = tuple(ToolOutput(call.id, "3") for call in begun)
    broken = await engine("use them", Round(tuple(items), outputs), tools=TOOLS)
    assert (text_in(broken), type(broken[-1])) == ("Hel", Failure)
    assert len(vendor.bodies) == 3


@pytest.mark.parametrize("name", ["deepseek", "gemini"])
async def test_who_wants_something_back_with_a_call_insists(
    name: str, start: Start, session: aiohttp.ClientSession
) -> None:
    vendor, engine = await engine_of(name, start, session)
    vendor.script(Answer((Thinks("Hm"), Calls("add"))))
    [call] = [delta for delta in await engine(tools=TOOLS) if isinstance(delta, CallBegun)]
    forgotten = Round((ToolCall(call.id, "add", "{}"),), (ToolOutput(call.id, "3"),))
    [failure] = await engine("hello", forgotten, tools=TOOLS)
    assert isinstance(failure, Failure)
    assert "must be passed back" in failure.message


async def test_a_request_that_does_not_stream_gets_one_object(client: AsyncOpenAI, vendor: ChatCompletions) -> None:
    vendor.script(calls(Calls("add", ("{", "}")), usage=(3, 1)))
    done = await client.chat.completions.create(model="m", messages=HELLO)  # type: ignore[arg-type]
    [call] = done.choices[0].message.tool_calls or []
    assert (call.function.arguments, done.choices[0].finish_reason) == ("{}", "tool_calls")  # type: ignore[union-attr]
    assert done.usage is not None
    assert done.usage.total_tokens == 4
    assert [model.id async for model in client.models.list()] == ["gpt-4o"]


# --- refusals -------------------------------------------------------------------------------------------------------


def assistant(*ids: str, **more: Any) -> dict[str, Any]:
    made = [{"id": each, "type": "function", "function": {"name": "add", "arguments": "{}"}} for each in ids]
    return {"role": "assistant", "content": None, "tool_calls": made, **more}


def tool(call_id: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": "3"}


def image(**more: Any) -> list[Any]:
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a.test/b.png", **more}}]}]


STRICT = {"type": "function", "function": {"name": "add", "strict": True, "parameters": {"type": "object"}}}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no model": ({"model": None}, "'model'"),
    "no messages": ({"messages": []}, "empty array"),
    "a field nobody knows": ({"assistant_id": "a"}, "'assistant_id'"),
    "a role nobody knows": ({"messages": [{"role": "model", "content": "x"}]}, "'model'"),
    "no role": ({"messages": [{"content": "x"}]}, "role"),
    "a message that is a text": ({"messages": ["x"]}, r"messages\[0\]"),
    "a field of another role": ({"messages": [{**HELLO[0], "tool_call_id": "x"}]}, "tool_call_id"),
    "a field of Threads": ({"messages": [{**HELLO[0], "attachments": []}]}, "attachments"),
    "no content": ({"messages": [{"role": "user"}]}, "content"),
    "an assistant who says nothing": ({"messages": [{"role": "assistant", "content": None}]}, "content"),
    "no parts": ({"messages": [{"role": "user", "content": []}]}, "empty array"),
    "a part of Threads": ({"messages": [{"role": "user", "content": [{"type": "image_file"}]}]}, "image_file"),
    "a text of Threads": ({"messages": [{"role": "user", "content": [{"type": "text", "text": {}}]}]}, "a string"),
    "an image from the assistant": ({"messages": [image()[0] | {"role": "assistant"}]}, "image_url"),
    "an image by another way": ({"messages": image(url="file-abc")}, "image URL"),
    "an image's detail": ({"messages": image(detail=None)}, "'auto'"),
    "an output without its call": ({"messages": [*HELLO, tool("call_a")]}, "must be a response"),
    "a call without its output": ({"messages": [*HELLO, assistant("call_a", "call_b"), tool("call_a")]}, "call_b"),
    "an output too late": ({"messages": [assistant("call_a"), *HELLO, tool("call_a")]}, "call_a"),
    "an output twice": ({"messages": [assistant("call_a"), tool("call_a"), tool("call_a")]}, "must be a response"),
    "an id twice": ({"messages": [assistant("call_a", "call_a"), tool("call_a")]}, "same id"),
    "an id too long": ({"messages": [assistant("c" * 41), tool("c" * 41)]}, "accepted"),
    "no calls": ({"messages": [*HELLO, assistant()]}, "empty array"),
    "a call with an output in it": (
        {"messages": [assistant("a", tool_calls=[{**assistant("a")["tool_calls"][0], "output": None}])]},
        "output",
    ),
    "thoughts": ({"messages": [{"role": "assistant", "content": "x", "reasoning_content": "y"}]}, "reasoning_content"),
    "no tools": ({"tools": []}, "empty array"),
    "a tool of Threads": ({"tools": [{"type": "file_search"}]}, "file_search"),
    "a name with a space": ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "pattern"),
    "no parameters": ({"tools": [{"type": "function", "function": {"name": "a", "parameters": None}}]}, "an object"),
    "a strict schema that is not closed": ({"tools": [STRICT]}, "additionalProperties"),
    "a choice without tools": ({"tool_choice": "auto"}, "only allowed"),
    "a choice of no tool": (
        {"tools": [ADD], "tool_choice": {"type": "function", "function": {"name": "x"}}},
        "no tool",
    ),
    "parallel calls without tools": ({"parallel_tool_calls": True}, "only allowed"),
    "too warm": ({"temperature": 2.1}, "temperature"),
    "no tokens": ({"max_completion_tokens": 0}, "max_completion_tokens"),
    "two limits": ({"max_completion_tokens": 9, "max_tokens": 9}, "same time"),
    "the old limit for a model that thinks": ({"model": "o3-mini", "max_tokens": 9}, "max_completion_tokens"),
    "a temperature for a model that thinks": ({"model": "gpt-5", "temperature": 0.5}, "temperature"),
    "an effort nobody knows": ({"reasoning_effort": "some"}, "reasoning_effort|some"),
    "JSON unsaid": ({"response_format": {"type": "json_object"}}, "the word 'json'"),
    "a format of Threads": ({"response_format": "auto"}, "response_format"),
    "a schema without a name": ({"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}}, "name"),
    "options of no stream": ({"stream": False, "stream_options": {"include_usage": True}}, "only allowed"),
}


async def post(
    vendor: ChatCompletions, session: aiohttp.ClientSession, change: dict[str, Any], *, whole: bool = False
) -> tuple[int, Any]:
    """Status, and the error where there is one; with `whole` as the vendor wrapped it."""
    body = {"model": "gpt-4o", "messages": HELLO, "stream": True, **change}
    headers = {"Authorization": f"Bearer {ONE}"}
    async with session.post(f"{vendor.url}/chat/completions", json=body, headers=headers) as response:
        is_json = response.content_type == "application/json"
        said = await response.json() if is_json else await response.text()
        return response.status, said["error"] if is_json and not whole else said


@pytest.mark.parametrize(("change", "words"), WRONG.values(), ids=WRONG)
async def test_what_openai_refuses_is_refused(
    change: dict[str, Any], words: str, vendor: ChatCompletions, session: aiohttp.ClientSession
) -> None:
    vendor.script(says("still to come"))
    status, error = await post(vendor, session, change)
    assert (status, error["type"]) == (400, "invalid_request_error")
    assert re.search(words, error["message"])
    assert "still to come" in (await post(vendor, session, {}))[1]


RIGHT: list[dict[str, Any]] = [
    {"messages": [*HELLO, assistant("call_a", "call_b"), tool("call_b"), tool("call_a"), *HELLO]},
    {"messages": [{"role": "developer", "content": [{"type": "text", "text": "x"}]}, *image(detail="low")]},
    {"tools": [ADD], "tool_choice": "required", "parallel_tool_calls": False},
    {"temperature": None, "max_completion_tokens": 5, "stream_options": {"include_usage": True}},
    {"messages": [{"role": "user", "content": "as JSON"}], "response_format": {"type": "json_object"}},
    {"model": "o3", "reasoning_effort": "low", "max_completion_tokens": 9, "temperature": 1},
]


@pytest.mark.parametrize("change", RIGHT)
async def test_what_openai_takes_is_taken(
    change: dict[str, Any], vendor: ChatCompletions, session: aiohttp.ClientSession
) -> None:
    status, events = await post(vendor, session, change)
    assert (status, events[-14:]) == (200, "data: [DONE]\n\n")


@pytest.mark.parametrize("name", VENDORS)
async def test_no_vendor_refuses_what_the_engine_builds_for_it(
    name: str, start: Start, session: aiohttp.ClientSession
) -> None:
    """Of a thread in which all happened that can happen: broken arguments, calls nobody answered, two runs in a row."""
    vendor, _ = await engine_of(name, start, session)
    api = DIALECTS.get(name, DIALECTS["openai"])
    turns = (
        Message("user", (Text("look "), ImageUrl("https://a.test/b.png", "low"))),
        Message("user", (Text("at this"),)),
        Round(
            (Text("Well"), ToolCall("call_" + "x" * 50, "add", "{"), ToolCall("b", "find", "{}")),
            (ToolOutput("b", ""), ToolOutput("call_" + "x" * 50, "3")),
        ),
        Message("assistant", (Text(""),)),
        Round((ToolCall("c", "add", "{}"),), ()),
        Message("assistant", (Text("done"),)),
        Message("user", (Text("as JSON"),)),
    )
    plain = Generation("m", turns, instructions="Be brief.")
    formats = api.build(Generation("m", turns, response_format={"type": "json_object"}, temperature=0.0, top_p=1.0))
    tools = api.build(Generation("m", turns, tools=TOOLS, tool_choice=NamedTool("function", "find")))
    limited = api.build(Generation("m", turns, tools=TOOLS, tool_choice="none", max_completion_tokens=1))
    for request in (api.build(plain), formats, tools, limited):
        headers = {"Authorization": f"Bearer {ONE}", "api-key": ONE, "Content-Type": "application/json"}
        url = vendor.url + request.path
        async with session.post(url, data=request.body, headers=headers) as response:
            assert response.status == 200, await response.text()


async def test_mistral_refuses_in_its_own_way(start: Start, session: aiohttp.ClientSession) -> None:
    vendor = await start("mistral")
    status, _ = await post(vendor, session, {"stream_options": {"include_usage": True}}, whole=True)
    assert status == 422
    for messages in (
        [*HELLO, *HELLO],
        [assistant("abcdefghi"), tool("abcdefghi"), *HELLO],
        [assistant("a"), tool("a")],
    ):
        status, error = await post(vendor, session, {"messages": messages}, whole=True)
        assert (status, error["object"]) == (400, "error")


async def test_keys_models_and_places_are_checked(start: Start, client: AsyncOpenAI, vendor: ChatCompletions) -> None:
    with pytest.raises(openai.AuthenticationError) as refused:
        await client.with_options(api_key="sk-unknown-key-9999").chat.completions.create(model="m", messages=[])
    assert refused.value.code == "invalid_api_key"
    vendor.models = frozenset({"gpt-4o"})
    with pytest.raises(openai.NotFoundError) as missing:
        await client.chat.completions.create(model="m", messages=HELLO)  # type: ignore[arg-type]
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError, match="Invalid URL"):
        await client.embeddings.create(model="m", input="x")
    await client.with_options(api_key=OTHER).models.list()
    assert [each.account for each in vendor.journal] == [None, "acme", "acme", "bolt"]


# --- faults ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REFUSALS)
async def test_it_refuses_as_it_is_told(name: str, engine: Engine, vendor: ChatCompletions) -> None:
    codes = {"bad prompt": "invalid_prompt", "too long": "invalid_prompt", "filtered": "invalid_prompt"}
    codes |= {"no model": "invalid_prompt", "too fast": "rate_limit_exceeded"}
    vendor.faults.add(refuse(name))
    [failure] = await engine()
    assert isinstance(failure, Failure)
    assert failure.code == codes.get(name, "server_error")
    assert text_in(await engine()) == "You said: hello"


RESTS_S = dict(zip(RETRY_AFTER, [None, 2, 0.05, 0.05, 86_400, None, 1.5], strict=True))


@pytest.mark.parametrize(("name", "rest_s"), RESTS_S.items())
async def test_it_says_when_to_come_again(
    name: str, rest_s: float | None, vendor: ChatCompletions, session: aiohttp.ClientSession
) -> None:
    vendor.faults.add(refuse("too fast", RETRY_AFTER[name]))
    async with session.post(f"{vendor.url}/chat/completions", headers={"Authorization": f"Bearer {ONE}"}) as response:
        assert told_rest_s(response.headers, now=0) == rest_s


WHOLE = Answer((Says("Hel"), Says("lo"), Calls("add", ('{"a"', ":1}"))))
CUTS: dict[str, tuple[faults.Act, str, list[tuple[str, str]]]] = {
    "before a word": (faults.cut_stream(1), "", []),
    "within the text": (faults.cut_stream(2), "Hel", []),
    "within an event": (faults.cut_behind(b'"content":"lo'), "Hel", []),
    "within the arguments": (faults.cut_stream(5), "Hello", [("add", '{"a"')]),
    "hard": (faults.cut_stream(3, reset=True), "Hello", []),
}


@pytest.mark.parametrize(("act", "text", "made"), CUTS.values(), ids=CUTS)
async def test_streams_are_cut_where_it_is_said(
    act: faults.Act, text: str, made: list[tuple[str, str]], engine: Engine, vendor: ChatCompletions
) -> None:
    vendor.script(WHOLE)
    vendor.faults.add(act)
    deltas = await engine(tools=TOOLS)
    assert deltas[-1] == Failure("server_error", "cut")
    assert (text_in(deltas), calls_in(deltas)) == (text, made)


async def test_a_cut_behind_the_last_word_loses_only_figures(engine: Engine, vendor: ChatCompletions) -> None:
    vendor.faults.add(faults.cut_behind(b'"finish_reason":"stop"}],"usage":null}\n\n'))
    deltas = await engine()
    assert (text_in(deltas), deltas[-1]) == ("You said: hello", Finish("stop"))


@pytest.mark.parametrize(
    "act", [without_done(), as_json(), faults.slow(3, let_others_run)], ids=["no end", "JSON", "slow"]
)
async def test_answers_of_odd_form_are_whole(act: faults.Act, engine: Engine, vendor: ChatCompletions) -> None:
    vendor.faults.add(act)
    deltas = await engine()
    assert (text_in(deltas), deltas[-1]) == ("You said: hello", Finish("stop"))


async def test_a_stream_stalls_until_the_caller_leaves(engine: Engine, vendor: ChatCompletions) -> None:
    vendor.faults.add(faults.stall_stream(2, asyncio.Event()))
    asking = asyncio.create_task(engine())
    received = await vendor.arrived(path="/chat/completions$")
    asking.cancel()
    await vendor.disconnected(received)


async def test_garbage_is_no_answer(engine: Engine, vendor: ChatCompletions) -> None:
    vendor.faults.add(faults.garbage(b"<html>"))
    vendor.faults.add(faults.garbage([b'data: {"choices": [', b"oops\n\n"], "text/event-stream"))
    for _ in range(2):
        [failure] = await engine()
        assert isinstance(failure, Failure)
        assert failure.code == "server_error"
