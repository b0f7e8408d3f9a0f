"""The simulators of Responses stream as their vendors do, refuse what these refuse, and fail as they are told to."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import openai
import pytest
from openai import AsyncOpenAI

from gateway.engine.models.generation import (
    Annotation,
    CallArguments,
    CallBegun,
    Carried,
    Delta,
    Failure,
    Finish,
    Function,
    Generation,
    HostedCall,
    HostedTool,
    ImageFile,
    ImageUrl,
    Message,
    NamedTool,
    Round,
    Text,
    ToolCall,
    ToolOutput,
    Usage,
)
from gateway.engine.models.responses import DIALECTS
from tests.engine.models.promises import check_order
from tests.simulators import faults
from tests.simulators.answers import (
    Answer,
    Breaks,
    Calls,
    Cites,
    Declines,
    Found,
    Interprets,
    Links,
    Says,
    Searches,
    Thinks,
    says,
)
from tests.simulators.asking import ask, text_in
from tests.simulators.base import KEYS
from tests.simulators.chat_completions import REFUSALS, as_json, refuse
from tests.simulators.responses import MODELS, Responses
from tests.simulators.threads_server.server import let_others_run

VENDORS = sorted(MODELS)
ONE, TWO, OTHER = KEYS
TOOLS = (Function("add"), Function("find"))
HOSTED = (HostedTool("file_search", {"vector_store_ids": ["vs_1"]}), HostedTool("code_interpreter"))
ADD = {"type": "function", "name": "add", "parameters": {}, "strict": False}

Start = Callable[..., Awaitable[Responses]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    started: list[Responses] = []

    async def start(vendor: str = "openai_responses", **settings: Any) -> Responses:
        started.append(MODELS[vendor](**settings))
        await started[-1].start()
        return started[-1]

    yield start
    for simulator in started:
        await simulator.stop()


@pytest.fixture
async def vendor(start: Start) -> Responses:
    return await start()


@pytest.fixture
async def client(vendor: Responses) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(api_key=ONE, base_url=vendor.url, max_retries=0) as client:
        yield client


class Engine:
    """Asks as the gateway's engine does, and reads what comes."""

    def __init__(self, vendor: Responses, session: aiohttp.ClientSession) -> None:
        self._vendor, self._session = vendor, session
        self.api = DIALECTS[vendor.called or "openai"]

    async def __call__(self, text: str = "hello", *rounds: Round, key: str = ONE, **more: Any) -> list[Delta]:
        generation = Generation("gpt-5", (Message("user", (Text(text),)), *rounds), **more)
        headers = {"Authorization": f"Bearer {key}", "api-key": key}
        deltas = await ask(self._session, self._vendor.url, self.api, generation, headers)
        check_order(deltas)
        return deltas


@pytest.fixture
def engine(vendor: Responses, session: aiohttp.ClientSession) -> Engine:
    return Engine(vendor, session)


def calls_in(deltas: list[Delta]) -> list[ToolCall]:
    told: dict[int, str] = {}
    for delta in deltas:
        if isinstance(delta, CallArguments):
            told[delta.index] = told.get(delta.index, "") + delta.text
    begun = [delta for delta in deltas if isinstance(delta, CallBegun)]
    return [ToolCall(delta.id, delta.name, told.get(delta.index, "")) for delta in begun]


def round_of(deltas: list[Delta]) -> Round:
    calls = calls_in(deltas)
    carried = (delta for delta in deltas if isinstance(delta, Carried))
    return Round((*carried, *calls), tuple(ToolOutput(call.id, "3") for call in calls))


# --- answers --------------------------------------------------------------------------------------------------------


async def test_the_sdk_streams_from_it(client: AsyncOpenAI, vendor: Responses) -> None:
    """Its types know every event, in the order it expects."""
    searched = (Searches(("rain",), (Found("file-1", "a.pdf", "It rains."),)), Interprets(("1", "+1"), ("2",)))
    vendor.script(
        Answer((Thinks("Hm"), Says("Let me see. "), Calls("add", ('{"a"', ":1}"), "call_a"))),
        Answer((*searched, Says("Rain"), Cites("file-1", "a.pdf"), Says(" "), Links("cfile_1", "x.csv"))),
        Answer((Declines("I'd "), Declines("rather not"))),
        says("cut ", "short", reason="length", usage=(7, 2)),
    )
    heard: list[Any] = []
    tools: Any = [ADD, {"type": "file_search", "vector_store_ids": ["vs_1"]}]
    tools.append({"type": "code_interpreter", "container": {"type": "auto"}})
    for _ in range(4):
        async with client.responses.stream(
            model="gpt-5", input="hello", tools=tools, include=["file_search_call.results"]
        ) as stream:
            async for event in stream:
                if event.type in ("response.completed", "response.incomplete"):
                    heard.append(event.response)
    called, found, declined, short = heard
    assert [item.type for item in called.output] == ["reasoning", "message", "function_call"]
    assert (called.output[2].call_id, called.output[2].arguments) == ("call_a", '{"a":1}')
    search, code, message = found.output
    assert (search.results[0].file_id, code.code, code.outputs) == ("file-1", "1+1", None)
    assert [note.type for note in message.content[0].annotations] == ["file_citation", "container_file_citation"]
    assert message.content[0].text == "Rain sandbox:/mnt/data/x.csv"
    assert declined.output[0].content[0].refusal == "I'd rather not"
    assert (short.status, short.incomplete_details.reason, short.usage.total_tokens) == (
        *("incomplete", "max_output_tokens"),
        9,
    )


@pytest.mark.parametrize("name", VENDORS)
async def test_in_every_manner_it_says_the_same(name: str, start: Start, session: aiohttp.ClientSession) -> None:
    """Words, thoughts, two calls and their outputs, usage, an error in the middle: as the engine's reader has it."""
    vendor = await start(name)
    engine = Engine(vendor, session)
    two = (Calls("add", ('{"a"', ":1}")), Calls("find", ("{", "}")))
    vendor.script(
        Answer((Thinks("Hm"), Says("Hel"), Says("lo")), usage=(5, 2)),
        Answer((Thinks("Hm"), *two)),
        Answer((Says("Hel"), Breaks({"message": "gone", "type": "server_error", "code": None}))),
    )
    deltas = await engine()
    assert (text_in(deltas), deltas[-2:]) == ("Hello", [Usage(5, 2, 7, reasoning_tokens=1), Finish("stop")])
    deltas = await engine("use them", tools=TOOLS)
    assert [(call.name, call.arguments) for call in calls_in(deltas)] == [("add", '{"a":1}'), ("find", "{}")]
    broken = await engine("use them", round_of(deltas), tools=TOOLS)
    assert (text_in(broken), type(broken[-1])) == ("Hel", Failure)
    # Thoughts went back, and before their calls.
    kinds = [item.get("type") for item in vendor.bodies[-1]["input"]]
    assert kinds[-5:] == ["reasoning", "function_call", "function_call", *["function_call_output"] * 2]
    assert len(vendor.bodies) == 3


async def test_without_a_script_it_is_the_echo_model(engine: Engine) -> None:
    assert text_in(await engine("Grüße 👋")) == "You said: Grüße 👋"
    calls = calls_in(await engine('call add {"a": [1]} call find', tools=TOOLS))
    assert [(call.name, call.arguments) for call in calls] == [("add", '{"a": [1]}'), ("find", "{}")]
    answered = Round((ToolCall("call_1", "add", "{}"),), (ToolOutput("call_1", "3"),))
    assert text_in(await engine("call add", answered, tools=TOOLS)) == "The tools answered: 3"
    assert calls_in(await engine("hello", tools=TOOLS, tool_choice=NamedTool("function", "find")))[0].name == "find"
    assert isinstance((await engine("fail"))[-1], Failure)
    assert (await engine("truncate"))[-1] == Finish("length")


async def test_tools_that_the_vendor_runs_are_told_of(engine: Engine, vendor: Responses) -> None:
    vendor.script(
        Answer(
            (
                Searches(("rain",), (Found("file-1", "a.pdf", "It rains."),)),
                Interprets(("plot", "()"), ("ok",), ("cfile_1",)),
                Says("See"),
                Cites("file-1", "a.pdf"),
                Says(": "),
                Links("cfile_2", "x.csv"),
                Calls("add"),
            )
        )
    )
    deltas = await engine("look it up", tools=(*TOOLS, *HOSTED))
    hosted = [delta for delta in deltas if isinstance(delta, HostedCall)]
    assert [(each.index, each.type) for each in hosted] == [(0, "file_search")] * 2 + [(1, "code_interpreter")] * 5
    assert hosted[1].delta["results"][0]["file_id"] == "file-1"
    assert hosted[-1].delta["outputs"][0]["image"]["file_id"] == "cfile_1"
    assert text_in(deltas) == "See【0:0†source】: sandbox:/mnt/data/x.csv"
    assert [delta.value["type"] for delta in deltas if isinstance(delta, Annotation)] == ["file_citation", "file_path"]
    # What they found goes back, and is taken.
    assert text_in(await engine("look it up", round_of(deltas), tools=(*TOOLS, *HOSTED))) == "The tools answered: 3"
    sent = [item.get("type", "message") for item in vendor.bodies[-1]["input"]]
    assert sent == ["message", "file_search_call", "code_interpreter_call", "function_call", "function_call_output"]


async def test_thoughts_are_read_by_nobody_else(engine: Engine, vendor: Responses) -> None:
    vendor.script(Answer((Thinks("Hm"), Calls("add"))))
    turn = round_of(await engine(tools=TOOLS))
    [failure] = await engine("hello", turn, key=OTHER, tools=TOOLS)
    assert isinstance(failure, Failure)
    assert "could not be verified" in failure.message


# --- refusals -------------------------------------------------------------------------------------------------------


def item(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, **fields}


USER = {"role": "user", "content": "hello"}
CALL = item("function_call", call_id="call_a", name="add", arguments="{}")
OUTPUT = item("function_call_output", call_id="call_a", output="3")
THOUGHT = item("reasoning", id="rs_1", summary=[])
IMAGE = {"type": "input_image", "image_url": "https://a.test/b.png", "detail": "auto"}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no model": ({"model": None}, "'model'"),
    "no input": ({"input": []}, "empty array"),
    "a field of chat completions": ({"messages": []}, "'messages'"),
    "a role nobody knows": ({"input": [{"role": "tool", "content": "x"}]}, "'tool'"),
    "a message that is a text": ({"input": ["x"]}, r"input\[0\]"),
    "a part of chat completions": ({"input": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}, "'text'"),
    "a part of the other role": (
        {"input": [{"role": "assistant", "content": [{"type": "input_text", "text": "x"}]}]},
        "input_text",
    ),
    "an image without detail": ({"input": [{"role": "user", "content": [IMAGE | {"detail": None}]}]}, "None"),
    "an image twice": ({"input": [{"role": "user", "content": [IMAGE | {"file_id": "file-1"}]}]}, "image_url"),
    "an image by another way": ({"input": [{"role": "user", "content": [IMAGE | {"image_url": "x"}]}]}, "image URL"),
    "an item nobody knows": ({"input": [item("tool_call")]}, "tool_call"),
    "an output without its call": ({"input": [USER, OUTPUT]}, "No tool call found"),
    "an output before its call": ({"input": [OUTPUT, CALL]}, "No tool call found"),
    "a call without its output": ({"input": [USER, CALL]}, "No tool output found"),
    "a call twice": ({"input": [CALL, CALL, OUTPUT]}, "same call_id"),
    "an id too long": ({"input": [CALL | {"call_id": "c" * 65}]}, "maximum length 64"),
    "a call with an output in it": ({"input": [CALL | {"output": "3"}, OUTPUT]}, "output"),
    "arguments that are an object": ({"input": [CALL | {"arguments": {}}, OUTPUT]}, "arguments"),
    "the id of a call": ({"input": [CALL | {"id": "fc_1"}, OUTPUT]}, "not persisted"),
    "the id of a message": ({"input": [{"role": "assistant", "content": "x", "id": "msg_1"}, USER]}, "not persisted"),
    "thoughts without content": ({"input": [USER, THOUGHT, CALL, OUTPUT]}, "not persisted"),
    "thoughts of somebody else": ({"input": [THOUGHT | {"encrypted_content": "x"}, CALL, OUTPUT]}, "verified"),
    "thoughts at the end": ({"input": [USER, THOUGHT | {"encrypted_content": "x"}]}, "required following item"),
    "a tool of chat completions": ({"tools": [{"type": "function", "function": {"name": "add"}}]}, "function"),
    "no word about strictness": ({"tools": [{"type": "function", "name": "add", "parameters": {}}]}, "strict"),
    "a name with a space": ({"tools": [ADD | {"name": "a b"}]}, "pattern"),
    "a strict schema that is not closed": ({"tools": [ADD | {"strict": True}]}, "additionalProperties"),
    "a search of nothing": ({"tools": [{"type": "file_search", "vector_store_ids": []}]}, "vector_store_ids"),
    "a ranker of Threads": (
        {
            "tools": [
                {
                    "type": "file_search",
                    "vector_store_ids": ["vs_1"],
                    "ranking_options": {"ranker": "default_2024_08_21"},
                }
            ]
        },
        "default_2024_08_21",
    ),
    "code without a container": ({"tools": [{"type": "code_interpreter"}]}, "container"),
    "a choice without tools": ({"tool_choice": "required"}, "'tools'"),
    "a choice of no tool": ({"tools": [ADD], "tool_choice": {"type": "function", "name": "x"}}, "not found"),
    "a choice of chat completions": (
        {"tools": [ADD], "tool_choice": {"type": "function", "function": {"name": "add"}}},
        "function",
    ),
    "too warm": ({"temperature": 2.1}, "temperature"),
    "too few tokens": ({"max_output_tokens": 15}, ">= 16"),
    "a temperature for a model that thinks": ({"model": "gpt-5", "temperature": 0.5}, "temperature"),
    "an effort nobody knows": ({"model": "o3", "reasoning": {"effort": "some"}}, "some"),
    "an effort of a model that does not think": ({"reasoning": {"effort": "low"}}, "reasoning.effort"),
    "thoughts of a model that does not think": ({"include": ["reasoning.encrypted_content"]}, "not supported with"),
    "something else": ({"include": ["everything"]}, "everything"),
    "a format of chat completions": ({"response_format": {"type": "text"}}, "response_format"),
    "JSON unsaid": ({"text": {"format": {"type": "json_object"}}}, "the word 'json'"),
    "a schema in an object": ({"text": {"format": {"type": "json_schema", "json_schema": {}}}}, "json_schema"),
    "a schema without a name": ({"text": {"format": {"type": "json_schema", "schema": {}}}}, "name"),
}


async def post(vendor: Responses, session: aiohttp.ClientSession, change: dict[str, Any]) -> tuple[int, Any]:
    """Status, and the error where there is one."""
    body = {"model": "gpt-4o", "input": [USER], "store": False, "stream": True, **change}
    headers = {"Authorization": f"Bearer {ONE}"}
    async with session.post(f"{vendor.url}/responses", json=body, headers=headers) as response:
        is_json = response.content_type == "application/json"
        return response.status, (await response.json())["error"] if is_json else await response.text()


@pytest.mark.parametrize(("change", "words"), WRONG.values(), ids=WRONG)
async def test_what_openai_refuses_is_refused(
    change: dict[str, Any], words: str, vendor: Responses, session: aiohttp.ClientSession
) -> None:
    vendor.script(says("still to come"))
    status, error = await post(vendor, session, change)
    assert (status, error["type"]) in ((400, "invalid_request_error"), (404, "invalid_request_error"))
    assert re.search(words, error["message"])
    assert "still to come" in (await post(vendor, session, {}))[1]


RIGHT: list[dict[str, Any]] = [
    {"input": "hello"},
    {"input": [USER, CALL, CALL | {"call_id": "call_b"}, OUTPUT | {"call_id": "call_b"}, OUTPUT, USER]},
    {"input": [{"role": "developer", "content": [{"type": "input_text", "text": "x"}]}, USER]},
    {"tools": [ADD], "tool_choice": "required", "parallel_tool_calls": False},
    {"temperature": None, "max_output_tokens": 16},
    {"input": "as JSON", "text": {"format": {"type": "json_object"}}},
    {"model": "o3", "reasoning": {"effort": "low"}, "include": ["reasoning.encrypted_content"]},
]


@pytest.mark.parametrize("change", RIGHT)
async def test_what_openai_takes_is_taken(
    change: dict[str, Any], vendor: Responses, session: aiohttp.ClientSession
) -> None:
    status, events = await post(vendor, session, change)
    assert status == 200
    assert "event: response.completed\n" in events


@pytest.mark.parametrize("name", VENDORS)
async def test_no_vendor_refuses_what_the_engine_builds_for_it(
    name: str, start: Start, session: aiohttp.ClientSession
) -> None:
    """Of a thread in which all happened that can happen: broken arguments, calls nobody answered, two runs in a row."""
    vendor = await start(name)
    api = DIALECTS[vendor.called or "openai"]
    has_more = vendor.called is None
    images = (ImageUrl("https://a.test/b.png", "low"), ImageUrl("https://a.test/c.png"))
    files = (ImageFile("file-1"),) if has_more else ()
    turns = (
        Message("user", (Text("look "), *images, *files)),
        Message("user", (Text("at this"),)),
        Round(
            (
                Carried("responses", {"type": "reasoning", "id": "rs_9", "summary": [], "encrypted_content": "x"}),
                Text("Well"),
                ToolCall("call_" + "x" * 70, "add", "{"),
                ToolCall("b", "find", "{}"),
            ),
            (ToolOutput("b", ""), ToolOutput("call_" + "x" * 70, "3")),
        ),
        Message("assistant", (Text(""),)),
        Round((ToolCall("c", "add", "{}"),), ()),
        Message("assistant", (Text("done"), Text("and done"))),
        Message("user", (Text("as JSON"),)),
    )
    tools = (*TOOLS, *HOSTED) if has_more else TOOLS
    built = [
        Generation("gpt-5", turns, instructions="Be brief.", reasoning_effort="low"),
        Generation("m", turns, response_format={"type": "json_object"}, temperature=0.0, top_p=1.0),
        Generation("m", turns, tools=tools, tool_choice=NamedTool("function", "find"), parallel_tool_calls=False),
        Generation("m", turns, tools=tools, tool_choice="none", max_completion_tokens=1),
    ]
    built += [Generation("m", turns, tools=tools, tool_choice=NamedTool(each.type)) for each in HOSTED if has_more]
    for generation in built:
        request = api.build(generation)
        headers = {"Authorization": f"Bearer {ONE}", "api-key": ONE, "Content-Type": "application/json"}
        async with session.post(vendor.url + request.path, data=request.body, headers=headers) as response:
            assert response.status == 200, await response.text()


async def test_keys_models_and_places_are_checked(client: AsyncOpenAI, vendor: Responses) -> None:
    with pytest.raises(openai.AuthenticationError):
        await client.with_options(api_key="sk-unknown-key-9999").responses.create(model="m", input="hello")
    assert (await client.responses.create(model="m", input="hello")).output_text == "You said: hello"
    vendor.models = frozenset({"gpt-4o"})
    with pytest.raises(openai.NotFoundError) as missing:
        await client.responses.create(model="m", input="hello")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError, match="Invalid URL"):
        await client.embeddings.create(model="m", input="x")
    assert [each.account for each in vendor.journal] == [None, "acme", "acme", "acme"]


# --- faults ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REFUSALS)
async def test_it_refuses_as_it_is_told(name: str, engine: Engine, vendor: Responses) -> None:
    codes = dict.fromkeys(("bad prompt", "too long", "filtered", "no model"), "invalid_prompt")
    codes["too fast"] = "rate_limit_exceeded"
    vendor.faults.add(refuse(name))
    [failure] = await engine()
    assert isinstance(failure, Failure)
    assert failure.code == codes.get(name, "server_error")
    assert text_in(await engine()) == "You said: hello"


WHOLE = Answer((Says("Hel"), Says("lo"), Calls("add", ('{"a"', ":1}"))))
CUTS: dict[str, tuple[faults.Act, str, list[str]]] = {
    "before the beginning": (faults.cut_stream(0), "", []),
    "before a word": (faults.cut_stream(4), "", []),
    "within the text": (faults.cut_stream(5), "Hel", []),
    "within an event": (faults.cut_behind(b'"delta":"lo'), "Hel", []),
    "after the text": (faults.cut_stream(6), "Hello", []),
    "within the arguments": (faults.cut_stream(11), "Hello", ['{"a"']),
    "before the last event": (faults.cut_stream(14), "Hello", ['{"a":1}']),
    "hard": (faults.cut_stream(6, reset=True), "Hello", []),
}


@pytest.mark.parametrize(("act", "text", "arguments"), CUTS.values(), ids=CUTS)
async def test_streams_are_cut_where_it_is_said(
    act: faults.Act, text: str, arguments: list[str], engine: Engine, vendor: Responses
) -> None:
    vendor.script(WHOLE)
    vendor.faults.add(act)
    deltas = await engine(tools=TOOLS)
    assert deltas[-1] == Failure("server_error", "cut")
    assert (text_in(deltas), [call.arguments for call in calls_in(deltas)]) == (text, arguments)


@pytest.mark.parametrize("act", [as_json(), faults.slow(3, let_others_run)], ids=["JSON", "slow"])
async def test_answers_of_odd_form_are_whole(act: faults.Act, engine: Engine, vendor: Responses) -> None:
    vendor.faults.add(act)
    deltas = await engine()
    assert (text_in(deltas), deltas[-1]) == ("You said: hello", Finish("stop"))


async def test_a_stream_stalls_until_the_caller_leaves(engine: Engine, vendor: Responses) -> None:
    vendor.faults.add(faults.stall_stream(5, asyncio.Event()))
    asking = asyncio.create_task(engine())
    received = await vendor.arrived(path="/responses$")
    asking.cancel()
    await vendor.disconnected(received)
