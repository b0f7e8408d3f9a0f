"""The simulator of Gemini streams as its vendor does, refuses what that refuses, and fails as it is told to."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from gateway.engine.models.gemini import DIALECTS
from gateway.engine.models.generation import (
    CallArguments,
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
from tests.simulators import faults
from tests.simulators.answers import Answer, Breaks, Calls, Says, Thinks, calls, says
from tests.simulators.asking import ask, calls_in, text_in
from tests.simulators.base import KEYS
from tests.simulators.gemini import BLOCKED, REFUSALS, Gemini, as_array, refuse

ONE, *_ = KEYS
GOOGLE = DIALECTS["google"]
TOOLS = (Function("add"), Function("find"))
OURS = "the model's provider does not let the gateway in; whoever runs it has to act"


@pytest.fixture
async def vendor() -> AsyncIterator[Gemini]:
    simulator = Gemini()
    await simulator.start()
    yield simulator
    await simulator.stop()


class Engine:
    """Asks as the gateway's engine does, and reads what comes."""

    def __init__(self, vendor: Gemini, session: aiohttp.ClientSession) -> None:
        self._vendor, self._session = vendor, session
        self.model = "gemini-3.8-flash"

    async def __call__(self, text: str = "hello", *rounds: Round, **more: Any) -> list[Delta]:
        turns = (Message("user", (Text(text),)), *rounds)
        generation = Generation(self.model, more.pop("turns", turns), **more)
        return await ask(self._session, self._vendor.url, GOOGLE, generation, {"x-goog-api-key": ONE})


@pytest.fixture
def engine(vendor: Gemini, session: aiohttp.ClientSession) -> Engine:
    return Engine(vendor, session)


def round_of(deltas: list[Delta], output: str = "3", *, forgets: bool = False) -> Round:
    """What an engine makes of an answer with calls."""
    told = [delta.text for delta in deltas if isinstance(delta, CallArguments)]
    items: list[Any] = []
    for delta in deltas:
        if isinstance(delta, CallBegun):
            items.append(ToolCall(delta.id, delta.name, told[delta.index]))
        elif isinstance(delta, Carried) and not forgets:
            items.append(delta)
    return Round(tuple(items), tuple(ToolOutput(item.id, output) for item in items if isinstance(item, ToolCall)))


# --- answers --------------------------------------------------------------------------------------------------------


async def test_without_a_script_it_is_the_echo_model(engine: Engine, vendor: Gemini) -> None:
    deltas = await engine("Grüße 👋")
    assert (text_in(deltas), deltas[-1]) == ("You said: Grüße 👋", Finish("stop"))
    assert deltas[-2] == Usage(2, 4, 6)
    called = await engine('call add {"a": [1]} call find again find', tools=TOOLS)
    assert (calls_in(called), called[-1]) == ([("add", '{"a":[1]}'), ("find", "{}")], Finish("tool_calls"))
    again = await engine("call add call find again find", round_of(called), tools=TOOLS)
    assert calls_in(again) == [("find", "{}")]
    ended = await engine("call add call find again find", round_of(called), round_of(again, "4"), tools=TOOLS)
    assert text_in(ended) == "The tools answered: 3; 3; 4"
    assert isinstance((await engine("fail"))[-1], Failure)
    assert (await engine("truncate"))[-1] == Finish("length")
    chosen = await engine("hello", tools=TOOLS, tool_choice=NamedTool("function", "find"))
    assert calls_in(chosen) == [("find", "{}")]
    assert calls_in(await engine("call add", tools=TOOLS, tool_choice="none")) == []
    assert vendor.models_asked == ["models/gemini-3.8-flash"] * 8


async def test_what_a_script_says_is_streamed(engine: Engine, vendor: Gemini) -> None:
    vendor.script(
        Answer((Thinks("Hm hm"), Says("Hel"), Says("lo")), usage=(5, 2)),
        Answer((Says("Hel"), Breaks({"message": "gone"}))),
        says("Hel", reason="content_filter"),
        calls(Calls("add", ('{"a', "oops"))),
        Answer((), reason=BLOCKED),
        says("Hel", reason="OTHER"),
        lambda body: says(body["contents"][0]["parts"][0]["text"].upper()),
    )
    said = await engine()
    assert (text_in(said), said[-2:]) == ("Hello", [Usage(5, 4, 9, reasoning_tokens=2), Finish("stop")])
    assert (await engine())[-1] == Failure("server_error", "gone", vendor_code="500")
    assert (await engine())[-1] == Finish("content_filter")
    assert "MALFORMED_FUNCTION_CALL" in str((await engine())[-1])
    assert await engine() == [Usage(1, 0, 1), Finish("content_filter")]
    assert "(OTHER)" in str((await engine())[-1])
    assert text_in(await engine("quiet")) == "QUIET"


async def test_without_events_it_is_one_array(engine: Engine, vendor: Gemini) -> None:
    vendor.faults.add(as_array())
    assert text_in(await engine("hello")) == "You said: hello"


@pytest.mark.parametrize("model", ["gemini-3.8-flash", "tunedModels/my-own", "gpt-4o"])
async def test_who_calls_functions_wants_the_signature_back(model: str, engine: Engine) -> None:
    engine.model = model
    called = await engine("call add call find", tools=TOOLS)
    assert len([delta for delta in called if isinstance(delta, Carried)]) == 1
    assert text_in(await engine("call add", round_of(called), tools=TOOLS)) == "The tools answered: 3; 3"
    forgotten = round_of(called, forgets=True)
    answered = await engine("call add", forgotten, tools=TOOLS)
    if model.startswith("gemini-3"):  # what has no signature says so
        assert text_in(answered) == "The tools answered: 3; 3"
    else:
        assert "is missing a thought_signature" in str(answered[-1])
    wrong = Carried("gemini", {"call": forgotten.calls[0].id, "signature": "another's"})
    torn = Round((wrong, *forgotten.items), forgotten.outputs)
    assert "Corrupted thought signature" in str(await engine("call add", torn, tools=TOOLS))


async def test_an_older_model_gives_neither_ids_nor_signatures(engine: Engine) -> None:
    engine.model = "gemini-2.5-flash"
    called = await engine("call add call find", tools=TOOLS)
    assert [delta.id for delta in called if isinstance(delta, CallBegun)] == ["made_0", "made_1"]
    assert not any(isinstance(delta, Carried) for delta in called)
    assert text_in(await engine("call add", round_of(called), tools=TOOLS)) == "The tools answered: 3; 3"


async def test_images_and_formats_are_taken(engine: Engine) -> None:
    look = (Text("look"), ImageUrl("https://a.test/b.png", "low"), ImageUrl("data:image/png;base64,AAAA"))
    schema = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}
    deltas = await engine(turns=(Message("user", look),), response_format=schema, reasoning_effort="low", top_p=0.5)
    assert text_in(deltas) == "You said: look"


# --- refusals -------------------------------------------------------------------------------------------------------

HELLO = {"role": "user", "parts": [{"text": "hello"}]}


def called(*ids: str, **more: Any) -> dict[str, Any]:
    parts = [{"functionCall": {"id": each, "name": "add", "args": {}}, "thoughtSignature": "x"} for each in ids]
    return {"role": "model", "parts": parts, **more}


def answered(*ids: str) -> dict[str, Any]:
    said = {"name": "add", "response": {"output": "3"}}
    return {"role": "user", "parts": [{"functionResponse": {"id": each, **said}} for each in ids]}


def part(role: str = "user", **said: Any) -> dict[str, Any]:
    return {"contents": [{"role": role, "parts": [said]}]}


def config(**said: Any) -> dict[str, Any]:
    return {"generationConfig": said}


def tools(*functions: dict[str, Any], **choice: Any) -> dict[str, Any]:
    chosen = {"toolConfig": {"functionCallingConfig": choice}} if choice else {}
    return {"tools": [{"functionDeclarations": list(functions)}], **chosen}


ADD = {"name": "add"}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no contents": ({"contents": []}, "contents is not specified"),
    "a field nobody knows": ({"model": "m"}, 'Unknown name "model": Cannot find field'),
    "a field of a part": (part(text="x", type="text"), r"""Unknown name "type" at 'contents\[0\]\.parts\[0\]'"""),
    "a role of OpenAI's": (part("assistant", text="x"), "valid role"),
    "no parts": ({"contents": [{"role": "user", "parts": []}]}, "must not be empty"),
    "a part with nothing": (part(), "must have one initialized field"),
    "a part with two": (part(text="x", inlineData={}), "must have one initialized field"),
    "a text that is none": (part(text=1), "TYPE_STRING"),
    "an image without a type": (part(inlineData={"data": "AAAA"}), "input image"),
    "an image by another way": (part(fileData={"fileUri": "http://a.test"}), "file uri"),
    "arguments as a text": (
        {"contents": [HELLO, called("a") | {"parts": [{"functionCall": {"name": "a", "args": "{}"}}]}]},
        "Struct",
    ),
    "a call of the user's": (part(functionCall={"name": "a"}), "by the model"),
    "an answer of the model's": (part("model", functionResponse={"name": "a"}), "by the user"),
    "a call of nothing": (part("model", functionCall={"args": {}}), "Name cannot be empty"),
    "the model first": (part("model", text="x"), "first turn"),
    "the model last": ({"contents": [HELLO, {"role": "model", "parts": [{"text": "x"}]}]}, "ending with a model turn"),
    "a call after the model's words": (
        {"contents": [HELLO, {"role": "model", "parts": [{"text": "x"}]}, called("a"), answered("a")]},
        "function call turn comes immediately",
    ),
    "an answer without its call": ({"contents": [HELLO, answered("a")]}, "function response turn comes immediately"),
    "too few answers": ({"contents": [HELLO, called("a", "b"), answered("a")]}, "number of function response parts"),
    "no answer": ({"contents": [HELLO, called("a"), HELLO]}, "number of function response parts"),
    "another's answer": ({"contents": [HELLO, called("a"), answered("b")]}, "functionResponse.id does not match"),
    "a name with a space": (tools({"name": "a b"}), "Invalid function name"),
    "a name twice": (tools(ADD, ADD), "Duplicate"),
    "two kinds of parameters": (tools({**ADD, "parameters": {}, "parametersJsonSchema": {}}), "exclusive"),
    "parameters that are none": (tools({**ADD, "parametersJsonSchema": []}), "an object"),
    "a field of a function": (tools({**ADD, "strict": True}), 'Unknown name "strict"'),
    "a mode of OpenAI's": (tools(ADD, mode="required"), "mode"),
    "a mode without functions": (tools(mode="ANY"), "without function_declarations"),
    "a function that is not there": (tools(ADD, mode="ANY", allowedFunctionNames=["x"]), "invalid function name"),
    "names where any may be called": (tools(ADD, mode="AUTO", allowedFunctionNames=["add"]), "mode is ANY"),
    "too warm": (config(temperature=2.1), "temperature"),
    "another format": (config(responseMimeType="text/csv"), "allowed mimetypes"),
    "a schema without a format": (config(responseJsonSchema={}), "response_mime_type"),
    "two ways to think": (config(thinkingConfig={"thinkingBudget": 1, "thinkingLevel": "LOW"}), "only one"),
    "a level nobody knows": (config(thinkingConfig={"thinkingLevel": "MAX"}), "MAX"),
}


async def post(vendor: Gemini, session: aiohttp.ClientSession, change: dict[str, Any], **more: Any) -> tuple[int, Any]:
    """Status, and the body where it is JSON."""
    path = more.get("path", "/models/gemini-3.8-flash:streamGenerateContent?alt=sse")
    headers = {"x-goog-api-key": more["key"]} if "key" in more else {"x-goog-api-key": ONE}
    body = {"contents": [HELLO], **change}
    async with session.post(vendor.url + path, json=body, headers=headers if more.get("key", ONE) else {}) as response:
        is_json = response.content_type == "application/json"
        return response.status, await response.json() if is_json else await response.text()


@pytest.mark.parametrize(("change", "words"), WRONG.values(), ids=WRONG)
async def test_what_google_refuses_is_refused(
    change: dict[str, Any], words: str, vendor: Gemini, session: aiohttp.ClientSession
) -> None:
    vendor.script(says("still to come"))
    status, body = await post(vendor, session, change)
    assert (status, body["error"]["code"], body["error"]["status"]) == (400, 400, "INVALID_ARGUMENT")
    assert re.search(words, body["error"]["message"])
    assert "still to come" in (await post(vendor, session, {}))[1]


async def test_keys_models_and_paths(vendor: Gemini, session: aiohttp.ClientSession) -> None:
    status, body = await post(vendor, session, {}, key="sk-unknown")
    assert (status, body["error"]["details"][0]["reason"]) == (400, "API_KEY_INVALID")
    assert (await post(vendor, session, {}, key=""))[0] == 403
    vendor.models = frozenset({"m"})
    assert (await post(vendor, session, {}))[0] == 404
    assert (await post(vendor, session, {}, path="/models/m:streamGenerateContent"))[1][0]["candidates"]
    status, body = await post(vendor, session, {"a": 1}, path="/models/m:streamGenerateContent")
    assert (status, body[0]["error"]["code"]) == (400, 400)
    assert (await post(vendor, session, {}, path="/models/m:countTokens"))[0] == 404
    async with session.get(f"{vendor.url}/models", headers={"x-goog-api-key": ONE}) as response:
        assert [each["name"] for each in (await response.json())["models"]] == ["models/m"]


MEANT: dict[str, tuple[str, float | None, bool]] = {
    "bad prompt": ("invalid_prompt", None, False),
    "wrong key": ("server_error", None, True),
    "expired key": ("server_error", None, True),
    "country": ("server_error", None, True),
    "leaked key": ("server_error", None, True),
    "no model": ("invalid_prompt", None, False),
    "too fast": ("rate_limit_exceeded", 12.5, False),
    "exhausted": ("rate_limit_exceeded", None, False),
    "failed": ("server_error", None, False),
    "overloaded": ("server_error", None, False),
    "too slow": ("server_error", None, False),
}
"""The code of the run, how long to wait, whether it is ours to act."""


@pytest.mark.parametrize("name", REFUSALS)
async def test_a_refusal_means_what_it_says(name: str, engine: Engine, vendor: Gemini) -> None:
    vendor.faults.add(refuse(name))
    [failure] = await engine()
    assert isinstance(failure, Failure)
    code, wait_s, is_ours = MEANT[name]
    assert (failure.code, failure.retry_after_s, failure.message == OURS) == (code, wait_s, is_ours)
    assert "billing" not in failure.message


@pytest.mark.parametrize("after_events", [0, 1, 2])
async def test_a_stream_that_is_cut_is_a_failure(after_events: int, engine: Engine, vendor: Gemini) -> None:
    vendor.script(says("Hel", "lo"))
    vendor.faults.add(faults.cut_stream(after_events))
    deltas = await engine()
    assert (text_in(deltas), type(deltas[-1])) == ("Hello"[: (0, 3, 5)[after_events]], Failure)


async def test_whoever_leaves_stops_it(vendor: Gemini, session: aiohttp.ClientSession) -> None:
    vendor.faults.add(faults.stall_stream(1, asyncio.Event()))
    asking = asyncio.create_task(post(vendor, session, {}))
    received = await vendor.arrived()
    asking.cancel()
    await vendor.disconnected(received)
