"""OpenAI's Responses, and the vendors that speak it: requests. Answers are read in `responses_stream`.

Nothing is stored at the vendor (`store: false`): the whole history goes with each request, and what a model thought or
a tool of the vendor's found goes back with the calls it led to, within the run. Sources: OpenAI's reference as
openai-python's types repeat it, unless another is named; issues are GitHub's; all read 2026-11-22.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from gateway import codec
from gateway.engine.models.call_ids import CallIds
from gateway.engine.models.failures import failure_of_answer
from gateway.engine.models.generation import (
    Carried,
    Failure,
    Function,
    Generation,
    HostedTool,
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
from gateway.engine.models.history import settle_or_begin
from gateway.engine.models.model_api import MakeCallId, ModelApi
from gateway.engine.models.offers import CannotCarry, Fault, Offer, faults, require
from gateway.engine.models.responses_items import API
from gateway.engine.models.responses_stream import StreamReader

_LEAST_OUTPUT_TOKENS = 16
"""OpenAI and Azure refuse less (hindsight#58, lingua#186). A run may ask for 256 or more, but little can be left of it
after some rounds; then it may take up to 15 tokens more than it was given."""

_CALL_ID = re.compile(r".{1,64}", re.DOTALL)
"""Its length (9router#393; OpenAI's own ids were seen to be longer: dsh-plugin-subscriptions#29)."""

_REASONING = re.compile(r"(?<![a-z0-9])(o[1-9]|gpt-?[5-9](\.\d+)?)(?![a-z0-9.])")
_CHAT_ONLY = re.compile(r"gpt-?[5-9]-chat")
"""Models of OpenAI's that think, by name, as vercel/ai tells them: the o series, GPT 5 and later; not gpt-5-chat
(pydantic-ai#3326), but gpt-5.2-chat. Azure's deployments are mostly called after their model."""


@dataclass(frozen=True)
class Responses:
    """How one vendor speaks it. The defaults are OpenAI's."""

    offer: Offer = field(
        default_factory=lambda: Offer(hosted_tools=frozenset({"file_search", "code_interpreter"}), image_files=True)
    )
    instructions_in: Literal["instructions", "system message"] = "instructions"
    asks_for_thoughts: Literal["if they may be", "always"] = "if they may be"
    """OpenAI and Azure refuse `include: ["reasoning.encrypted_content"]` for models that do not think: 400 "Encrypted
    content is not supported with this model" (pydantic-ai#2865, hermes-agent#23450)."""

    def faults(self, body: Json) -> tuple[Fault, ...]:
        return faults(body, self.offer)

    def build(self, generation: Generation) -> ModelRequest:
        require(generation, self.offer)
        return ModelRequest("/responses", codec.dumps(_request(generation, self)))

    def read(self, make_call_id: MakeCallId) -> StreamReader:
        return StreamReader(make_call_id)

    def failure(self, status: int, headers: Mapping[str, str], raw: bytes, *, now: float) -> Failure:
        return failure_of_answer(status, headers, raw, now=now)


DIALECTS: Mapping[str, ModelApi] = {
    # And Azure's /openai/v1, which vercel/ai and its recorded streams treat alike. Unknown there: whether an image may
    # be a file (in 2025 its page said not yet), and whether what code made can be fetched.
    "openai": Responses(),
    # Thoughts may always be asked for (vercel/ai, hermes-agent#23435); effort is refused by models without the dial,
    # and the caller hears so. Its tools search collections, which are no vector stores, and cannot be chosen
    # (vercel/ai); what a container may be given is unknown. So functions only.
    "xai": Responses(Offer(), asks_for_thoughts="always"),
    # Servers of the specification (openresponses.org/reference): functions only. `instructions` were seen to be
    # ignored (OpenRouterTeam/typescript-sdk#156, d-inference#731), a message of the system never.
    "openresponses": Responses(Offer(), instructions_in="system message"),
}


def _request(generation: Generation, dialect: Responses) -> Json:
    """`truncation` is not said: its default is `disabled`, and `history.fit` has dropped what a run wants dropped. With
    `auto` the vendor would drop more, from the beginning, and nobody would hear of it."""
    tools = [tool for tool in map(_tool, generation.tools) if tool is not None]
    request: Json = {"model": generation.model, "input": list(_input(generation, dialect)), "store": False}
    request["stream"] = True
    if generation.instructions and dialect.instructions_in == "instructions":
        request["instructions"] = generation.instructions
    request |= _tool_fields(generation, tools)
    limit, format_ = generation.max_completion_tokens, _format(generation.response_format)
    said = {
        "include": _include(generation, tools, dialect) or None,
        "temperature": generation.temperature,
        "top_p": generation.top_p,
        "reasoning": generation.reasoning_effort and {"effort": generation.reasoning_effort},
        "max_output_tokens": None if limit is None else max(limit, _LEAST_OUTPUT_TOKENS),
        "text": format_ and {"format": format_},
    }
    return request | {name: value for name, value in said.items() if value is not None}


def _include(generation: Generation, tools: list[Json], dialect: Responses) -> list[str]:
    kinds = {tool["type"] for tool in tools}
    found = ["file_search_call.results"] if "file_search" in kinds else []
    made = ["code_interpreter_call.outputs"] if "code_interpreter" in kinds else []
    return [*(["reasoning.encrypted_content"] if _may_think(generation, dialect) else []), *found, *made]


def _may_think(generation: Generation, dialect: Responses) -> bool:
    """Where it is not asked for thoughts, a model that thinks begins to think anew in each round."""
    if dialect.asks_for_thoughts == "always":
        return True
    name = generation.model.lower()
    is_known = _REASONING.search(name) is not None and _CHAT_ONLY.search(name) is None
    return is_known or generation.reasoning_effort not in (None, "none")


def _format(wanted: Json | None) -> Json | None:
    """Flat where chat completions and Threads have an object within. Text is the default."""
    if wanted is None or wanted.get("type") == "text":
        return None
    schema = wanted.get("json_schema")
    said = {name: value for name, value in schema.items() if value is not None} if type(schema) is dict else {}
    return {"type": wanted.get("type"), **said}


# Tools.


def _tool_fields(generation: Generation, tools: list[Json]) -> Json:
    """As with chat completions: `true` is the default of parallel calls, and some models refuse to hear of it; without
    tools only a choice that forces a call is sent, so that the caller hears it cannot be."""
    fields: Json = {"tools": tools} if tools else {}
    if tools and generation.parallel_tool_calls is False:
        fields["parallel_tool_calls"] = False
    choice = generation.tool_choice
    if isinstance(choice, NamedTool):
        if choice.type != "function" and all(tool["type"] != choice.type for tool in tools):
            raise CannotCarry(Fault("tool_choice", f"the tool '{choice.type}' has nothing to work on"))
        fields["tool_choice"] = (
            {"type": choice.type} if choice.name is None else {"type": "function", "name": choice.name}
        )
    elif choice == "required" or (choice is not None and tools):
        fields["tool_choice"] = choice
    return fields


def _tool(tool: Function | HostedTool) -> Json | None:
    """None for a search of nothing: without vector stores Threads find nothing, and OpenAI requires one."""
    if isinstance(tool, Function):
        return _function(tool)
    if tool.type == "code_interpreter":
        files = tool.settings.get("file_ids")
        return {"type": tool.type, "container": {"type": "auto", **({"file_ids": files} if files else {})}}
    stores, most = tool.settings.get("vector_store_ids"), tool.settings.get("max_num_results")
    if not stores:
        return None
    ranking = _ranking(tool.settings.get("ranking_options") or {})
    limits = {"max_num_results": most} if most is not None else {}
    return {
        "type": tool.type,
        "vector_store_ids": stores,
        **limits,
        **({"ranking_options": ranking} if ranking else {}),
    }


def _function(tool: Function) -> Json:
    """Left out, `strict` is no `false`: the vendor makes the schema strict where it can (OpenAI's guide, as rig#2477
    quotes it), and models then fill in every optional parameter. All but the description must be there."""
    described = {} if tool.description is None else {"description": tool.description}
    parameters = tool.parameters if tool.parameters is not None else {"type": "object", "properties": {}}
    return {
        "type": "function",
        "name": tool.name,
        **described,
        "parameters": parameters,
        "strict": bool(tool.strict),
    }


def _ranking(options: Json) -> Json:
    """The rankers of Threads have other names (`default_2024_08_21`); each API's default is `auto`."""
    kept = {name: value for name, value in options.items() if value is not None}
    return {name: value for name, value in kept.items() if name != "ranker" or value == "auto"}


# The history.


def _input(generation: Generation, dialect: Responses) -> Iterator[Json]:
    if generation.instructions and dialect.instructions_in == "system message":
        yield {"role": "system", "content": generation.instructions}
    ids = CallIds(_CALL_ID)
    for turn in settle_or_begin(_without_others(generation.turns), api=API):
        if isinstance(turn, Round):
            yield from _round(turn, ids.of(turn))
        else:
            yield {"role": turn.role, "content": _content(turn)}


def _without_others(turns: Sequence[Turn]) -> Iterator[Turn]:
    """Only the rounds behind the last message keep what was carried. Those before it are other runs', perhaps of
    another vendor or account: what these encrypted cannot be verified and is refused (openai-agents-python#2063)."""
    own = max((place for place, turn in enumerate(turns) if isinstance(turn, Message)), default=-1)
    for place, turn in enumerate(turns):
        if isinstance(turn, Round) and place < own:
            yield Round(tuple(item for item in turn.items if not isinstance(item, Carried)), turn.outputs)
        else:
            yield turn


def _round(turn: Round, ids: Mapping[str, str]) -> Iterator[Json]:
    """Items without ids: those of calls and messages are looked for in what the vendor did not store (vercel/ai#15795,
    langchain#38372). Calls and outputs find each other by `call_id`."""
    phase: Json = {}
    for item in turn.items:
        if isinstance(item, Carried) and "type" not in item.value:
            phase = item.value
        elif isinstance(item, Carried):
            yield item.value
        elif isinstance(item, ToolCall):
            called = {"name": item.name, "arguments": item.arguments}
            yield {"type": "function_call", "call_id": ids[item.id], **called}
        else:
            yield {"role": "assistant", "content": item.text, **phase}
    for given in turn.outputs:
        yield {"type": "function_call_output", "call_id": ids[given.call_id], "output": given.output}


def _content(message: Message) -> str | list[Json]:
    """A text where there is nothing but one. A refusal goes back as a text: the part of that name belongs to messages
    with an id."""
    if len(message.parts) == 1 and isinstance(only := message.parts[0], Text | RefusalText):
        return only.text
    kind = "output_text" if message.role == "assistant" else "input_text"
    return [_part(part, kind) for part in message.parts]


def _part(part: Part, kind: str) -> Json:
    match part:
        case Text(text) | RefusalText(text):
            return {"type": kind, "text": text}
        case ImageUrl(url, detail):
            return {"type": "input_image", "image_url": url, "detail": detail or "auto"}
        case ImageFile(file_id, detail):
            return {"type": "input_image", "file_id": file_id, "detail": detail or "auto"}
