"""Answers of chat completions, sans I/O: bytes in, deltas out, in every form that was seen.

What is accepted, and who sends it (issues are GitHub's; all read 2026-11-22):

- a first chunk without choices: Azure, with `prompt_filter_results` (learn.microsoft.com, answers 1533887)
- usage in a last chunk whose choices are empty, with `stream_options`; with `choices: null` or none (vLLM, as the crate
  openai-interface notes); in every chunk, growing (vllm#7262); in a chunk before the last (litellm#17136: xAI); as
  `x_groq.usage` (vercel/ai#1651); or never. The last one counts.
- tool calls without `index` (ollama#7881, and Gemini's compatible endpoint: openai-python#2806), all with index 0
  (ollama#15457), with an empty `id` (meilisearch#5712: Gemini), whole in one chunk, with arguments that are an object
  (text-generation-inference#2136, llama.cpp#20198); `function_call`, the form before tools
- contents that are null or a list of parts, `thinking` among them (Mistral: braintrust-sdk-javascript#1857).
  Reasoning (`reasoning_content`, `reasoning`) is not part of a message; where a vendor wants it back with the calls it
  led to, it is carried
- errors as `{"error": {…}}` (OpenAI, OpenRouter: its streaming page), `{"object": "error", …}` (vLLM: goose#8031), an
  `error` event (Groq: groq-python#120), or `finish_reason: "error"` (OpenRouter, Mistral)
- comments as keep-alives (OpenRouter), no `[DONE]` at the end, JSON instead of a stream: who does it is unknown

An end without `[DONE]`, without a reason and without final usage looks like one that was cut (opencode#40061), so it
is a failure; `ends_unsaid` is for servers that always end so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from gateway import codec
from gateway.engine.models.answer_reader import AnswerReader, count
from gateway.engine.models.failures import failure_in_stream, unreadable
from gateway.engine.models.generation import (
    CallArguments,
    CallBegun,
    Carried,
    Delta,
    Finish,
    Json,
    RefusalDelta,
    TextDelta,
    Usage,
)
from gateway.engine.models.model_api import MakeCallId
from gateway.sse import Event

API = "chat_completions"

_REASONS: Mapping[str, Literal["stop", "tool_calls", "length", "content_filter", "error"]] = {
    "stop": "stop",
    "eos": "stop",  # some gateways, as the crate openai-interface notes
    "eos_token": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_calls": "tool_calls",
    "tool_call": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "length": "length",
    "model_length": "length",  # Mistral: the context is full
    "max_tokens": "length",
    "max_output_tokens": "length",
    "content_filter": "content_filter",
    "safety": "content_filter",
    "error": "error",
    "insufficient_system_resource": "error",  # DeepSeek
}
"""In lower case. Mistral's and DeepSeek's as their generated clients list them; what is missing here is a stop."""


class StreamReader(AnswerReader):
    """Reads one answer. See `model_api.Reader` for what it promises; the settings are those of `ChatCompletions`."""

    def __init__(
        self,
        make_call_id: MakeCallId,
        *,
        carried_in_messages: tuple[str, ...],
        carried_in_calls: tuple[str, ...],
        ends_unsaid: bool,
    ) -> None:
        super().__init__()
        self._carried_in_messages = carried_in_messages
        self._ends_unsaid = ends_unsaid
        self._has_spoken = False
        self._had_final_usage = False
        self._reason: str | None = None
        self._usage: Usage | None = None
        self._calls = _Calls(make_call_id, carried_in_calls)
        self._carried: dict[str, list[str]] = {}

    @property
    def is_answered(self) -> bool:
        return self._reason is not None

    def _rest(self, *, is_closed: bool) -> list[Delta] | None:
        is_end = self._had_final_usage or ((self._ends_unsaid or self._is_document) and self._was_understood)
        return self._finish() if self._reason is not None or (is_closed and is_end) else None

    def _used(self) -> Usage | None:
        return self._usage

    def _read(self, event: Event) -> list[Delta]:
        if not (raw := event.data):
            return []
        if not raw.startswith(b"{") and raw.strip() == b"[DONE]":
            return self._finish() if self._was_understood else self._end(unreadable("gave an empty answer"))
        try:
            document = codec.loads(raw)
        except ValueError:
            document = None
        if type(document) is list and len(document) == 1:
            document = document[0]  # Gemini's compatible endpoint wraps errors so (OpenChatCut#6)
        if event.name == "error" or (
            type(document) is dict and (document.get("error") or document.get("object") == "error")
        ):
            return self._end(failure_in_stream(raw))
        if type(document) is not dict:
            # After the reason the answer is whole, whatever follows it.
            return [] if self._reason is not None else self._end(unreadable("sent what is not JSON"))
        return self._read_chunk(document)

    def _read_chunk(self, chunk: Json) -> list[Delta]:
        choices = chunk.get("choices")
        self._was_understood |= "choices" in chunk
        if usage := _usage_of(chunk):
            self._usage = usage
            self._had_final_usage = self._has_spoken and not choices
        choice = _first_choice(choices)
        if choice is None:
            return []
        said = choice.get("delta")
        if type(said) is not dict:
            said = choice.get("message")
        deltas = self._read_delta(said) if type(said) is dict else []
        if deltas:
            # What was said to be the end before this was none.
            self._has_spoken, self._had_final_usage, self._reason = True, False, None
        if reason := choice.get("finish_reason"):
            self._reason = str(reason).lower()
            if _REASONS.get(self._reason) == "error":
                return deltas + self._end(unreadable("gave up in the middle of its answer"))
        return deltas

    def _read_delta(self, delta: Json) -> list[Delta]:
        deltas: list[Delta] = []
        if text := _text(delta.get("content")):
            deltas.append(TextDelta(0, text))
        if type(refusal := delta.get("refusal")) is str and refusal:
            deltas.append(RefusalDelta(0, refusal))
        if type(calls := delta.get("tool_calls")) is list:
            for entry in calls:
                if type(entry) is dict:
                    deltas += self._calls.read(entry)
        for name in self._carried_in_messages:
            if type(thought := delta.get(name)) is str and thought:
                self._carried.setdefault(name, []).append(thought)
        if type(function := delta.get("function_call")) is dict:
            deltas += self._calls.read({"index": 0, "function": function})
        return deltas

    def _finish(self) -> list[Delta]:
        """The end as the model said it, or as what it did tells: OpenAI says `stop` after a call that was forced."""
        reason = _REASONS.get(self._reason or "", "stop")
        assert reason != "error"
        if reason not in ("stop", "tool_calls"):
            return self._end(Finish(reason))
        if self._calls.is_empty:
            return self._end(Finish("stop"))
        return [*self._calls.close(), *self._carry(), *self._end(Finish("tool_calls"))]

    def _carry(self) -> list[Delta]:
        message = {name: "".join(texts) for name, texts in self._carried.items()}
        calls = self._calls.carried
        return [Carried(API, {"message": message, "calls": calls})] if message or calls else []


class _Call:
    """A tool call as it comes in. `index` is None until it was begun, which takes its name."""

    __slots__ = ("arguments", "carried", "id", "index", "name", "told_id")

    def __init__(self) -> None:
        self.index: int | None = None
        self.told_id = ""
        self.id = ""
        self.name = ""
        self.carried: Json = {}
        self.arguments: list[str] = []

    @property
    def is_whole(self) -> bool:
        """Its arguments are an object already: more of them would be another call's."""
        if not self.arguments or not self.arguments[-1].rstrip().endswith("}"):
            return False
        try:
            return type(codec.loads("".join(self.arguments).encode("utf-8", "surrogatepass"))) is dict
        except ValueError:
            return False


class _Calls:
    """The tool calls of one answer, put together from entries of `tool_calls`."""

    def __init__(self, make_call_id: MakeCallId, carried: tuple[str, ...]) -> None:
        self._make_call_id = make_call_id
        self._names_carried = carried
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}
        self._begun = 0
        self._ids: set[str] = set()

    @property
    def is_empty(self) -> bool:
        return not self._calls

    @property
    def carried(self) -> Json:
        """What goes back with calls, by their ids. All have begun."""
        return {call.id: call.carried for call in self._calls if call.carried}

    def read(self, entry: Json) -> list[Delta]:
        """What an entry adds; one that says nothing adds nothing."""
        function = entry.get("function")
        function = function if type(function) is dict else {}
        told_id, name = (value if type(value) is str else "" for value in (entry.get("id"), function.get("name")))
        arguments = _arguments(function.get("arguments"))
        if not (told_id or name or arguments):
            return []
        call = self._call_of(entry.get("index"), told_id=told_id, name=name, has_arguments=bool(arguments))
        call.told_id = call.told_id or told_id
        call.name = call.name or name
        call.carried |= {key: entry[key] for key in self._names_carried if entry.get(key) is not None}
        if arguments:
            call.arguments.append(arguments)
        if call.index is not None:
            return [CallArguments(call.index, arguments)] if arguments else []
        return self._begin(call) if call.name else []

    def close(self) -> list[Delta]:
        """The rest of calls that the model is done with: a name that never came, arguments that it left out."""
        deltas: list[Delta] = []
        for call in self._calls:
            if call.index is None:
                deltas += self._begin(call)
            if not call.arguments and call.index is not None:
                deltas.append(CallArguments(call.index, "{}"))
        return deltas

    def _call_of(self, index: Any, *, told_id: str, name: str, has_arguments: bool) -> _Call:
        """The call that an entry goes on with, or a new one. A name begins a call; a name alone may only be said again,
        so another id must come with it, or arguments where those so far are whole."""
        if type(index) is int:
            call = self._by_index.get(index)
        elif told_id:
            call = next((known for known in self._calls if known.told_id == told_id), None)
        else:
            call = self._calls[-1] if self._calls and not name else None
        if call is not None and name and call.name:
            is_another = bool(told_id and call.told_id and told_id != call.told_id)
            if is_another or (has_arguments and call.is_whole):
                call = None
        if call is None:
            call = _Call()
            self._calls.append(call)
        if type(index) is int:
            self._by_index[index] = call
        return call

    def _begin(self, call: _Call) -> list[Delta]:
        call.index = self._begun
        self._begun += 1
        call.id = call.told_id
        if not call.id or call.id in self._ids:
            call.id = self._make_call_id(call.index)
        self._ids.add(call.id)
        begun: list[Delta] = [CallBegun(call.index, call.id, call.name)]
        return [*begun, CallArguments(call.index, "".join(call.arguments))] if call.arguments else begun


def _first_choice(choices: Any) -> Json | None:
    """More than one is never asked for; where a vendor sends more, the others are not the answer."""
    for choice in choices if type(choices) is list else ():
        if type(choice) is dict and choice.get("index") in (0, None):
            return choice
    return None


def _text(content: Any) -> str:
    if type(content) is str:
        return content
    parts = content if type(content) is list else ()
    texts = (part.get("text") for part in parts if type(part) is dict and part.get("type") == "text")
    return "".join(text for text in texts if type(text) is str)


def _arguments(value: Any) -> str:
    """An empty object may be a place kept for text that is still to come; if none comes, the call gets one."""
    if type(value) is str:
        return value
    return codec.dumps(value).decode() if value else ""


def _usage_of(chunk: Json) -> Usage | None:
    if usage := _usage(chunk.get("usage")):
        return usage
    groq = chunk.get("x_groq")
    return _usage(groq.get("usage")) if type(groq) is dict else None


def _usage(value: Any) -> Usage | None:
    if type(value) is not dict:
        return None
    prompt, completion = count(value, "prompt_tokens"), count(value, "completion_tokens")
    if not (prompt or completion):
        return None
    return Usage(
        prompt,
        completion,
        count(value, "total_tokens") or prompt + completion,
        cached_tokens=count(value.get("prompt_tokens_details"), "cached_tokens"),
        reasoning_tokens=count(value.get("completion_tokens_details"), "reasoning_tokens"),
    )
