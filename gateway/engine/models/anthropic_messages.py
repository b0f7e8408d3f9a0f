"""Anthropic's Messages API: requests. Answers are read in `anthropic_messages_stream`.

What it wants differently, and what becomes of it. Sources: Anthropic's documentation (platform.claude.com) and its
SDK for Python, 0.121, unless another is named; issues are GitHub's; all read 2026-11-22.

- User and assistant take turns, and each says something. Neighbours of one role become one message; texts of white
  space alone are refused (home-assistant#175637) and say nothing, so they are left out. The first message has to be
  the user's (documented once, refused at Bedrock: anthropic-sdk-typescript#622), newer models refuse an assistant's
  as the last (vscode-unify-chat-provider#249) and older ones would finish its sentence: a thread that is otherwise
  gets a user's message there, `NOTHING_SAID` or `GO_ON`, in the requests of the run only.
- A round is a message with its calls and one that begins with all results. Calls have an object as input: what is
  none is wrapped as the documentation of fine-grained streaming has it. Their ids have letters, digits, `_` and `-`
  (cline#8942) and stand once in a conversation (claude-code#21317); others are replaced, calls and results alike. A
  history with calls needs tools (inspect_ai#176): if the assistant has none now, those of the history are named, and
  none may be called.
- Thinking goes back in its place with the calls it led to, within the run: its signature holds for one model
  (llxprt-code#2335), and newer models refuse it when instructions, tools or messages before it have changed since
  (preserved thinking). Nothing but `max_prompt_tokens`, when it cuts a thread anew between two rounds, changes them.
- `max_tokens` is required. 32 000 is within what every model has (64K at the least) and, as it is streamed, no
  promise.
- `temperature: 1` and `top_p: 1` are what is meant without them, and are not sent: models since 4.7 refuse both,
  those since 4.1 the two together. Other values are sent, and the vendor says what the model does not take.
- `reasoning_effort` is `output_config.effort`, which the SDK calls its other name; `none` and `minimal` are not among
  its values. JSON schemas are `output_config.format`, with name and description of the format as title and
  description; schemas that are not closed are refused by the vendor. There is no JSON mode without a schema.
- Images are looked at in full detail, always; `low` cannot be had.
- The prompt's cache is marked behind the tools, the instructions, and the ends of this request's and of the last
  request's history: four places, as many as there may be. A prefix that is too short to be kept costs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from gateway import codec
from gateway.engine.models.anthropic_messages_stream import API, StreamReader
from gateway.engine.models.call_ids import CallIds
from gateway.engine.models.failures import failure_of_answer
from gateway.engine.models.generation import (
    Carried,
    Failure,
    Function,
    Generation,
    ImageFile,
    ImageUrl,
    Json,
    Message,
    ModelRequest,
    NamedTool,
    Part,
    RefusalText,
    Round,
    Text,
    ToolCall,
    Turn,
)
from gateway.engine.models.history import GO_ON, NOTHING_SAID, settle
from gateway.engine.models.model_api import MakeCallId, ModelApi
from gateway.engine.models.offers import IMAGE_IS_FILE, CannotCarry, Fault, Offer, faults, require

INVALID_JSON = "INVALID_JSON"
"""The only member of an input that is no object in truth."""

_VERSION = {"anthropic-version": "2023-06-01"}
_CACHED: Json = {"type": "ephemeral"}
_CALL_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""That they may be longer is not documented."""

_OFFER = Offer(
    response_formats=frozenset({"text", "json_schema"}),
    max_temperature=1.0,
    image_details=frozenset({"auto", "high"}),
    image_types=frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"}),
)


@dataclass(frozen=True)
class AnthropicMessages:
    """How one vendor speaks it. The defaults are Anthropic's."""

    offer: Offer = field(default_factory=lambda: _OFFER)
    max_tokens: int = 32_000
    """Where neither the run nor the provider says another."""
    efforts: frozenset[str] = frozenset({"low", "medium", "high", "xhigh", "max"})

    def faults(self, body: Json) -> tuple[Fault, ...]:
        wanted = body.get("response_format")
        own = _own_faults(body.get("reasoning_effort"), wanted if type(wanted) is dict else {}, self)
        return (*faults(body, self.offer), *own)

    def build(self, generation: Generation) -> ModelRequest:
        require(generation, self.offer)
        for fault in _own_faults(generation.reasoning_effort, generation.response_format or {}, self):
            raise CannotCarry(fault)
        return ModelRequest("/messages", codec.dumps(_request(generation, self)), _VERSION)

    def read(self, make_call_id: MakeCallId) -> StreamReader:
        return StreamReader(make_call_id)

    def failure(self, status: int, headers: Mapping[str, str], raw: bytes, *, now: float) -> Failure:
        return failure_of_answer(status, headers, raw, now=now)


DIALECTS: Mapping[str, ModelApi] = {"anthropic": AnthropicMessages()}


def _own_faults(effort: object, wanted: Json, dialect: AnthropicMessages) -> Iterator[Fault]:
    if effort is not None and not (type(effort) is str and effort in dialect.efforts):
        known = ", ".join(sorted(dialect.efforts))
        yield Fault(
            "reasoning_effort", f"this provider's models cannot think with effort '{effort}': they know {known}"
        )
    if wanted.get("type") == "json_schema":
        told = wanted.get("json_schema")
        if type(told) is not dict or type(told.get("schema")) is not dict:
            yield Fault(
                "response_format.json_schema.schema", "this provider's models need the schema that they answer in"
            )


def _request(generation: Generation, dialect: AnthropicMessages) -> Json:
    request: Json = {
        "model": generation.model,
        "max_tokens": generation.max_completion_tokens or dialect.max_tokens,
        "stream": True,
    }
    request |= _tool_fields(generation)
    if generation.instructions.strip():
        request["system"] = [_text(generation.instructions) | {"cache_control": _CACHED}]
    request["messages"] = _messages(generation)
    for name, value in (("temperature", generation.temperature), ("top_p", generation.top_p)):
        if value is not None and value != 1:
            request[name] = value
    if output := _output_config(generation):
        request["output_config"] = output
    return request


def _output_config(generation: Generation) -> Json:
    config: Json = {} if generation.reasoning_effort is None else {"effort": generation.reasoning_effort}
    wanted = generation.response_format or {}
    if wanted.get("type") == "json_schema":
        told = wanted["json_schema"]
        named = {"title": told.get("name"), "description": told.get("description")}
        schema = {name: text for name, text in named.items() if text} | told["schema"]
        config["format"] = {"type": "json_schema", "schema": schema}
    return config


# Tools.


def _tool_fields(generation: Generation) -> Json:
    """A choice that forces a call is sent even without tools, so that the caller hears it cannot be."""
    choice = _tool_choice(generation)
    tools = [_tool(tool) for tool in generation.tools if isinstance(tool, Function)]
    if not tools and choice is None:
        tools = _tools_of_history(generation)
        choice = {"type": "none"} if tools else None
    fields: Json = {}
    if tools:
        fields["tools"] = [*tools[:-1], tools[-1] | {"cache_control": _CACHED}]
    if choice is not None:
        fields["tool_choice"] = choice
    return fields


def _tool_choice(generation: Generation) -> Json | None:
    wanted = generation.tool_choice
    if isinstance(wanted, NamedTool):
        choice: Json = {"type": "tool", "name": wanted.name}
    elif wanted == "required":
        choice = {"type": "any"}
    elif not generation.tools:
        return None
    elif wanted == "none":
        return {"type": "none"}
    elif wanted == "auto" or generation.parallel_tool_calls is False:
        choice = {"type": "auto"}
    else:
        return None
    return choice | {"disable_parallel_tool_use": True} if generation.parallel_tool_calls is False else choice


def _tool(tool: Function) -> Json:
    said = {
        "name": tool.name,
        "description": tool.description,
        "input_schema": {"type": "object", **(tool.parameters or {})},
        "strict": tool.strict or None,
    }
    return {name: value for name, value in said.items() if value is not None}


def _tools_of_history(generation: Generation) -> list[Json]:
    rounds = [turn for turn in settle(generation.turns, api=API) if isinstance(turn, Round)]
    names = dict.fromkeys(call.name for turn in rounds for call in turn.calls)
    return [_tool(Function(name)) for name in names]


# Messages.


def _messages(generation: Generation) -> list[Json]:
    """Where nobody but the assistant has spoken since, the user's word stands before the run's own rounds: there it was
    when the first of them was asked for, and what is signed or cached holds for what came before it."""
    begin = _begin_of_own_rounds(generation.turns)
    messages: list[Json] = []
    ids = CallIds(_CALL_ID)
    for turn in settle(generation.turns[:begin], api=API):
        _add(messages, turn, ids, model=None)
    if not messages or messages[0]["role"] == "assistant":
        messages.insert(0, {"role": "user", "content": [_text(NOTHING_SAID)]})
    _let_user_speak(messages)
    own = settle(generation.turns[begin:], api=API)
    for turn in own:
        _add(messages, turn, ids, model=generation.model)
    if own and isinstance(own[-1], Message):
        _let_user_speak(messages)  # else a turn that the vendor itself paused: it goes on with that
    _mark(messages)
    return messages


def _begin_of_own_rounds(turns: Sequence[Turn]) -> int:
    """Place of the first of the rounds that nobody has spoken after: those of the run, unless it has none."""
    begin = len(turns)
    while begin and isinstance(turn := turns[begin - 1], Round) and len(turn.outputs) >= len(turn.calls):
        begin -= 1
    return begin


def _add(messages: list[Json], turn: Turn, ids: CallIds, *, model: str | None) -> None:
    """`model` is who is asked, None where thinking stays behind."""
    if isinstance(turn, Message):
        _say(messages, turn.role, [_part(part) for part in turn.parts if _says_something(part)])
        return
    names = ids.of(turn)
    _say(messages, "assistant", _blocks(turn, names, model))
    _say(messages, "user", [_result(names[given.call_id], given.output) for given in turn.outputs])


def _say(messages: list[Json], role: str, blocks: list[Json]) -> None:
    if not blocks:
        return
    if messages and messages[-1]["role"] == role:
        messages[-1]["content"] += blocks
    else:
        messages.append({"role": role, "content": blocks})


def _let_user_speak(messages: list[Json]) -> None:
    if messages[-1]["role"] == "assistant":
        messages.append({"role": "user", "content": [_text(GO_ON)]})


def _mark(messages: list[Json]) -> None:
    """The end of the history, which the next request will begin with, and where the last one ended: a mark is only
    found again within twenty blocks of another."""
    last = len(messages) - 1
    answered = next((place for place in range(last, -1, -1) if messages[place]["role"] == "assistant"), 0)
    for place in {last, answered - 1}:
        if place >= 0:
            block = messages[place]["content"][-1]
            if block["type"] not in ("thinking", "redacted_thinking"):
                block["cache_control"] = _CACHED


# Rounds.


def _blocks(turn: Round, names: Mapping[str, str], model: str | None) -> list[Json]:
    """What the model said, in its order; with its thinking, if it is this model's affair."""
    words = iter([_text(item.text) for item in turn.items if isinstance(item, Text | RefusalText)])
    calls = iter([_call(call, names[call.id]) for call in turn.calls])
    layout = _layout(turn, model)
    if layout is None:
        said = [item for item in turn.items if not isinstance(item, Carried)]
        blocks = [next(calls) if isinstance(item, ToolCall) else next(words) for item in said]
    else:
        rest = {"text": words, "tool_use": calls}
        placed = [next(rest[each], None) if isinstance(each, str) else each for each in layout]
        blocks = [*(block for block in placed if block), *words, *calls]
    return [block for block in blocks if block["type"] != "text" or block["text"].strip()]


def _layout(turn: Round, model: str | None) -> list[Json | str] | None:
    """How the answer was laid out, with its thinking; None where that is another model's affair."""
    carried = next((item.value for item in turn.items if isinstance(item, Carried)), None)
    if carried is None or model is None:
        return None
    told: str = carried["model"]
    is_another = all(name.startswith("claude-") for name in (told, model)) and _undated(told) != _undated(model)
    layout: list[Json | str] = carried["layout"]
    return None if is_another else layout


def _undated(model: str) -> str:
    """`claude-haiku-4-5` answers as `claude-haiku-4-5-20251001`."""
    return re.sub(r"-(\d{8}|latest|0)$", "", model)


def _call(call: ToolCall, name: str) -> Json:
    return {"type": "tool_use", "id": name, "name": call.name, "input": _input(call.arguments)}


def _input(arguments: str) -> Json:
    try:
        value = codec.loads(arguments.encode("utf-8", "surrogatepass"))
    except ValueError:
        value = None
    if type(value) is dict:
        return value
    return {INVALID_JSON: arguments} if arguments.strip() else {}


def _result(name: str, output: str) -> Json:
    result: Json = {"type": "tool_result", "tool_use_id": name}
    return result | {"content": output} if output.strip() else result


# Parts.


def _says_something(part: Part) -> bool:
    return not isinstance(part, Text | RefusalText) or part.text.strip() != ""


def _text(text: str) -> Json:
    return {"type": "text", "text": text}


def _part(part: Part) -> Json:
    if isinstance(part, Text | RefusalText):
        return _text(part.text)
    if isinstance(part, ImageFile):
        raise CannotCarry(IMAGE_IS_FILE)
    return {"type": "image", "source": _source(part)}


def _source(image: ImageUrl) -> Json:
    if image.url[:5].lower() != "data:":
        return {"type": "url", "url": image.url}
    kind, _, data = image.url[5:].partition(",")
    return {"type": "base64", "media_type": kind.partition(";")[0].lower(), "data": data}
