"""OpenAI's chat completions, and the many servers that speak it, more or less: requests. Answers are read in
`chat_completions_stream`.

What vendors disagree about are the fields of `ChatCompletions`. Sources: OpenAI's reference unless another is named;
issues are GitHub's; all read 2026-11-22.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from gateway import codec
from gateway.engine.models.call_ids import CallIds
from gateway.engine.models.chat_completions_stream import API, StreamReader
from gateway.engine.models.failures import failure_of_answer
from gateway.engine.models.generation import (
    Carried,
    Failure,
    Function,
    Generation,
    ImageFile,
    Json,
    Message,
    ModelRequest,
    NamedTool,
    Part,
    RefusalText,
    Round,
    Text,
)
from gateway.engine.models.history import GO_ON, alternate, settle_or_begin
from gateway.engine.models.model_api import MakeCallId, ModelApi
from gateway.engine.models.offers import IMAGE_IS_FILE, CannotCarry, Fault, Offer, faults, require

_UP_TO_40 = re.compile(r".{1,40}", re.DOTALL)
_NINE_ALPHANUMERICS = re.compile(r"[A-Za-z0-9]{9}")


@dataclass(frozen=True)
class ChatCompletions:
    """How one vendor speaks it. The defaults are OpenAI's."""

    offer: Offer = field(default_factory=Offer)
    max_tokens_field: Literal["max_completion_tokens", "max_tokens"] = "max_completion_tokens"
    """OpenAI refuses `max_tokens` for reasoning models (gollm#33), others know nothing else."""
    asks_for_usage: bool = True
    """Whether `stream_options.include_usage` may be said."""
    instructions_role: Literal["system", "developer"] = "system"
    """OpenAI takes either for every model; templates of other vendors' models seldom know `developer`."""
    must_alternate: bool = False
    """Whether user and assistant must take turns, as `history.alternate` makes them, and the assistant not the last."""
    call_ids: Literal["up_to_40", "nine_alphanumerics"] = "up_to_40"
    """Ids that do not fit are replaced in requests, calls and outputs alike. OpenAI: at most 40 characters
    (autogen#6377)."""
    carries_in_messages: tuple[str, ...] = ()
    """Texts beside the content that the vendor wants back with the calls they led to."""
    carries_in_calls: tuple[str, ...] = ()
    """Fields of a call that the vendor wants back with it."""
    ends_unsaid: bool = False
    """Whether a clean end counts as one where the vendor says neither a reason nor `[DONE]`."""

    def faults(self, body: Json) -> tuple[Fault, ...]:
        return faults(body, self.offer)

    def build(self, generation: Generation) -> ModelRequest:
        require(generation, self.offer)
        return ModelRequest("/chat/completions", codec.dumps(_request(generation, self)))

    def read(self, make_call_id: MakeCallId) -> StreamReader:
        return StreamReader(
            make_call_id,
            carried_in_messages=self.carries_in_messages,
            carried_in_calls=self.carries_in_calls,
            ends_unsaid=self.ends_unsaid,
        )

    def failure(self, status: int, headers: Mapping[str, str], raw: bytes, *, now: float) -> Failure:
        return failure_of_answer(status, headers, raw, now=now)


DIALECTS: Mapping[str, ModelApi] = {
    # And whatever is not known to differ in requests: Azure, Groq, Together, vLLM, AIML API. Of AIML API only the
    # endpoint is known (docs.aimlapi.com); a model's template on vLLM may want turns taken (vllm#6862).
    "openai": ChatCompletions(),
    # Its API refuses fields it does not know (422): stream_options (openai-agents-python#442), max_completion_tokens
    # (eca#231). Ids of calls (magentic#276), a user's message after a tool's output (mistral-vibe#578) and an
    # assistant's as the last (smolagents#757) are 400s. Whether one may be the first is unknown.
    "mistral": ChatCompletions(
        max_tokens_field="max_tokens", asks_for_usage=False, must_alternate=True, call_ids="nine_alphanumerics"
    ),
    # JSON mode, no schemas (llm-exe#662, inspect_ai#4916), no word about parallel calls (DeepSeek-V3#883). Thoughts
    # that led to calls are wanted back, else 400 (GitNexus#43, pi#3636). The newer name of the limit: unknown, so the
    # older. Whether `strict` is heeded: unknown, so it is refused.
    "deepseek": ChatCompletions(
        Offer(response_formats=frozenset({"text", "json_object"}), strict_functions=False, parallel_tool_calls=False),
        max_tokens_field="max_tokens",
        carries_in_messages=("reasoning_content",),
    ),
    # The compatible endpoint: signatures of thoughts stand in calls and are wanted back, else 400 (securo#884,
    # OpenChatCut#6, hermes-agent#15054).
    "gemini": ChatCompletions(carries_in_calls=("extra_content",)),
    # docs.ollama.com/api/openai-compatibility lists what it heeds; parallel_tool_calls is not there (ollama#9156), nor
    # is strict, and what is not there is ignored.
    "ollama": ChatCompletions(Offer(parallel_tool_calls=False, strict_functions=False), max_tokens_field="max_tokens"),
}


def _request(generation: Generation, dialect: ChatCompletions) -> Json:
    request: Json = {
        "model": generation.model,
        "messages": list(_messages(generation, dialect)),
        "stream": True,
    }
    if dialect.asks_for_usage:
        request["stream_options"] = {"include_usage": True}
    request |= _tool_fields(generation, dialect)
    wanted = generation.response_format
    said = {
        "temperature": generation.temperature,
        "top_p": generation.top_p,
        "reasoning_effort": generation.reasoning_effort,
        dialect.max_tokens_field: generation.max_completion_tokens,
        # Text is every server's default, and some do not know the field.
        "response_format": None if wanted == {"type": "text"} else wanted,
    }
    return request | {name: value for name, value in said.items() if value is not None}


def _tool_fields(generation: Generation, dialect: ChatCompletions) -> Json:
    """OpenAI refuses `parallel_tool_calls` and `tool_choice` where there are no tools (camel#3706), and the former for
    some models whatever it says (semantic-kernel#10365), so `true`, the default, is not sent. A choice that forces a
    call is sent even without tools, so that the caller hears it cannot be."""
    fields: Json = {}
    if generation.tools:
        fields["tools"] = [_tool(tool, dialect) for tool in generation.tools if isinstance(tool, Function)]
        if generation.parallel_tool_calls is False:
            fields["parallel_tool_calls"] = False
    choice = generation.tool_choice
    if isinstance(choice, NamedTool):
        fields["tool_choice"] = {"type": "function", "function": {"name": choice.name}}
    elif choice == "required" or (choice is not None and generation.tools):
        fields["tool_choice"] = choice
    return fields


def _tool(tool: Function, dialect: ChatCompletions) -> Json:
    said = {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": tool.strict if dialect.offer.strict_functions else None,
    }
    return {"type": "function", "function": {name: value for name, value in said.items() if value is not None}}


def _messages(generation: Generation, dialect: ChatCompletions) -> Iterator[Json]:
    if generation.instructions:
        yield {"role": dialect.instructions_role, "content": generation.instructions}
    turns = settle_or_begin(generation.turns, api=API)
    if dialect.must_alternate:
        turns = alternate(turns)
        if isinstance(last := turns[-1], Message) and last.role == "assistant":
            turns.append(Message("user", (Text(GO_ON),)))
    ids = _call_ids(dialect)
    for turn in turns:
        if isinstance(turn, Round):
            yield from _round(turn, dialect, ids.of(turn))
        else:
            yield {"role": turn.role, "content": _content(turn)}


def _round(turn: Round, dialect: ChatCompletions, ids: Mapping[str, str]) -> Iterator[Json]:
    words = [_words(item) for item in turn.items if isinstance(item, Text | RefusalText)]
    carried = [item.value for item in turn.items if isinstance(item, Carried)]
    calls = [
        {
            "id": ids[call.id],
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
            **_sent_back(dialect.carries_in_calls, [value.get("calls", {}).get(call.id, {}) for value in carried]),
        }
        for call in turn.calls
    ]
    beside = _sent_back(dialect.carries_in_messages, [value.get("message", {}) for value in carried])
    message: Json = {"role": "assistant", "content": _joined(words) if words else None, **beside}
    yield message | {"tool_calls": calls} if calls else message
    for given in turn.outputs:
        yield {"role": "tool", "tool_call_id": ids[given.call_id], "content": given.output}


def _sent_back(names: tuple[str, ...], carried: list[Json]) -> Json:
    """Only what this dialect knows: the run may have begun with another."""
    return {name: value for fields in carried for name, value in fields.items() if name in names}


def _content(message: Message) -> str | list[Json]:
    return _joined([_part(part) for part in message.parts])


def _joined(parts: list[Json]) -> str | list[Json]:
    """A text where there is nothing but one: every server takes that."""
    if len(parts) == 1 and parts[0]["type"] == "text":
        text: str = parts[0]["text"]
        return text
    return parts


def _part(part: Part) -> Json:
    if isinstance(part, Text | RefusalText):
        return _words(part)
    if isinstance(part, ImageFile):
        raise CannotCarry(IMAGE_IS_FILE)
    image = {"url": part.url} if part.detail is None else {"url": part.url, "detail": part.detail}
    return {"type": "image_url", "image_url": image}


def _words(item: Text | RefusalText) -> Json:
    """A refusal goes back as a text: only OpenAI knows the part of that name."""
    return {"type": "text", "text": item.text}


def _call_ids(dialect: ChatCompletions) -> CallIds:
    if dialect.call_ids == "nine_alphanumerics":
        return CallIds(_NINE_ALPHANUMERICS, letters=9)
    return CallIds(_UP_TO_40)
