"""CPU of the model APIs without any network: of a delta read from a stream, of a request built from a thread, and of
all that one run with a tool needs.

    make bench        or: python tests/bench/model_apis.py [rounds]

Reading is measured beside the two things that nobody can do without, splitting the stream and parsing its JSON. All of
it runs interleaved in one process, so that what the machine does meanwhile falls on all alike.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

import orjson

from gateway.engine.models import MODEL_APIS
from gateway.engine.models.generation import (
    CallArguments,
    CallBegun,
    Carried,
    Delta,
    Function,
    Generation,
    Message,
    Round,
    Text,
    ToolCall,
    ToolOutput,
)
from gateway.engine.models.history import Truncation, fit
from gateway.engine.models.model_api import ModelApi
from gateway.sse import EventParser

DELTAS = 2000
BUILDS = 100
WORD, PIECE = " word", " 1,"
TOOL = Function("weather", "Tells it", {"type": "object", "properties": {"city": {"type": "string"}}})


@dataclass(frozen=True)
class Sample:
    """A vendor's answers as it streams them, event by event: a text of so many words, a call of `TOOL` with
    arguments in so many pieces."""

    name: str
    api: ModelApi
    model: str
    text: Callable[[int], list[bytes]]
    call: Callable[[int], list[bytes]]


def event(data: object, name: str = "", end: bytes = b"\n\n") -> bytes:
    named = f"event: {name}\n".encode() if name else b""
    return named + b"data: " + orjson.dumps(data) + end


# --- chat completions, as OpenAI --------------------------------------------------------------------------------------
def chat_chunk(delta: dict[str, object], reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
    known = {"id": "chatcmpl-BmFNfh09effTOgFZYLMgnXUS6Jk9g", "object": "chat.completion.chunk", "created": 1750838567}
    told = {**known, "model": "gpt-4o-2024-08-06", "service_tier": "default", "system_fingerprint": "fp_1"}
    return event({**told, "choices": [choice], "usage": None})


def chat_text(words: int) -> list[bytes]:
    return [*[chat_chunk({"content": WORD})] * words, chat_chunk({}, "stop"), b"data: [DONE]\n\n"]


def chat_call(pieces: int) -> list[bytes]:
    function = {"name": TOOL.name, "arguments": ""}
    begun = chat_chunk({"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": function}]})
    piece = chat_chunk({"tool_calls": [{"index": 0, "function": {"arguments": PIECE}}]})
    return [begun, *[piece] * pieces, chat_chunk({}, "tool_calls"), b"data: [DONE]\n\n"]


# --- Responses, as OpenAI: with names, and padded ---------------------------------------------------------------------
ITEM = {"id": "fc_1", "type": "function_call", "call_id": "call_1", "name": TOOL.name, "arguments": ""}
THOUGHT = {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "x" * 1200}


def responses_event(kind: str, **fields: object) -> bytes:
    return event({"type": kind, "sequence_number": 1234, "output_index": 1, **fields}, kind)


def responses_delta(kind: str, text: str, **more: object) -> bytes:
    item_id = "msg_67ccd2bf17f0819081ff3bb2cf6508e60bb6a6b452d3795b"
    return responses_event(f"response.{kind}.delta", item_id=item_id, delta=text, obfuscation="Iz8nbUm3TrqKDL", **more)


def responses_answer(*events: bytes) -> list[bytes]:
    figures = {"input_tokens": 5, "output_tokens": 100, "total_tokens": 105}
    begun = responses_event("response.created", response={"status": "in_progress", "output": [], "tools": []})
    ended = {"status": "completed", "output": [], "usage": figures}
    return [begun, *events, responses_event("response.completed", response=ended)]


def responses_text(words: int) -> list[bytes]:
    return responses_answer(*[responses_delta("output_text", WORD, content_index=0, logprobs=[])] * words)


def responses_call(pieces: int) -> list[bytes]:
    return responses_answer(
        responses_event("response.output_item.done", item=THOUGHT, output_index=0),
        responses_event("response.output_item.added", item=ITEM),
        *[responses_delta("function_call_arguments", PIECE)] * pieces,
        responses_event("response.output_item.done", item={**ITEM, "arguments": PIECE * pieces}),
    )


# --- Anthropic's Messages ---------------------------------------------------------------------------------------------
def claudes_event(kind: str, **more: object) -> bytes:
    return event({"type": kind, **more}, kind)


def claudes_block(index: int, begun: dict[str, object], *deltas: dict[str, object]) -> list[bytes]:
    told = [claudes_event("content_block_delta", index=index, delta=delta) for delta in deltas]
    begin = claudes_event("content_block_start", index=index, content_block=begun)
    return [begin, *told, claudes_event("content_block_stop", index=index)]


def claudes_answer(reason: str, *events: bytes) -> list[bytes]:
    figures = {"input_tokens": 25, "cache_read_input_tokens": 2000, "output_tokens": 1}
    message = {"id": "msg_01XFDUDYJgAACzvnptvVoYEL", "type": "message", "role": "assistant", "content": []}
    start = claudes_event("message_start", message={**message, "model": "claude-haiku-5-5", "usage": figures})
    end = claudes_event("message_delta", delta={"stop_reason": reason}, usage={"output_tokens": 100})
    return [start, *events, end, claudes_event("message_stop")]


def claudes_text(words: int) -> list[bytes]:
    said: list[dict[str, object]] = [{"type": "text_delta", "text": WORD}] * words
    return claudes_answer("end_turn", *claudes_block(0, {"type": "text", "text": ""}, *said))


def claudes_call(pieces: int) -> list[bytes]:
    thought = claudes_block(
        0,
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": "Hm. " * 50},
        {"type": "signature_delta", "signature": "x" * 1200},
    )
    written: list[dict[str, object]] = [{"type": "input_json_delta", "partial_json": PIECE}] * pieces
    begun = {"type": "tool_use", "id": "toolu_1", "name": TOOL.name, "input": {}}
    return claudes_answer("tool_use", *thought, *claudes_block(1, begun, *written))


# --- Gemini, as recorded of the third generation: each event has the figures ------------------------------------------
def gemini_chunk(part: dict[str, object], **more: object) -> bytes:
    usage = {"promptTokenCount": 9, "candidatesTokenCount": 23, "totalTokenCount": 334, "thoughtsTokenCount": 302}
    details = [{"modality": "TEXT", "tokenCount": 9}]
    candidate = {"content": {"parts": [part], "role": "model"}, "index": 0, **more}
    told = {"candidates": [candidate], "usageMetadata": {**usage, "promptTokensDetails": details}}
    return event({**told, "modelVersion": "gemini-3-pro", "responseId": "M3iLaY-AI7zTxN8P3Piw4Qg"}, end=b"\r\n\r\n")


def gemini_text(words: int) -> list[bytes]:
    return [*[gemini_chunk({"text": WORD})] * words, gemini_chunk({"text": ""}, finishReason="STOP")]


def gemini_call(pieces: int) -> list[bytes]:
    """Whole, whatever its length."""
    call = {"name": TOOL.name, "id": "fc_1", "args": {"values": [1] * pieces}}
    signed = gemini_chunk({"functionCall": call, "thoughtSignature": "x" * 1200})
    return [signed, gemini_chunk({"text": ""}, finishReason="STOP")]


SAMPLES = [
    Sample("chat completions", MODEL_APIS["chat_completions"]["openai"], "gpt-4o", chat_text, chat_call),
    Sample("Responses", MODEL_APIS["responses"]["openai"], "gpt-5", responses_text, responses_call),
    Sample("Anthropic", MODEL_APIS["anthropic_messages"]["anthropic"], "claude-haiku-5-5", claudes_text, claudes_call),
    Sample("Gemini", MODEL_APIS["gemini"]["google"], "gemini-3-pro", gemini_text, gemini_call),
]


# --- what is measured -------------------------------------------------------------------------------------------------
def needed(events: Sequence[bytes]) -> None:
    parser = EventParser()
    for each in events:
        for found in parser.feed(each):
            if found.data and found.data != b"[DONE]":
                orjson.loads(found.data)


def read(events: Sequence[bytes], api: ModelApi) -> list[Delta]:
    reader = api.read("call_{}".format)
    deltas = [delta for each in events for delta in reader.feed(each)]
    deltas += reader.close()
    assert reader.is_over
    return deltas


def build(turns: Sequence[Message | Round], rounds: Sequence[Round], sample: Sample) -> None:
    fitted = fit(turns, rounds, truncation=Truncation(), max_prompt_tokens=10**6)
    sample.api.build(Generation(sample.model, fitted.turns, instructions="Be brief.", tools=(TOOL,)))


def thread(messages: int) -> list[Message | Round]:
    """Every fourth exchange with a tool; 400 characters a message."""
    turns: list[Message | Round] = []
    for number in range(messages // 2):
        turns.append(Message("user", (Text("what " * 80),)))
        if number % 4 == 0:
            call = ToolCall(f"call_{number}", TOOL.name, '{"city":"Bonn"}')
            turns.append(Round((call,), (ToolOutput(call.id, "rain " * 20),)))
        turns.append(Message("assistant", (Text("word " * 80),)))
    return turns


def round_of(deltas: Sequence[Delta]) -> Round:
    """What an answer with one call comes to, with its output."""
    arguments = "".join(delta.text for delta in deltas if isinstance(delta, CallArguments))
    kept = [delta for delta in deltas if isinstance(delta, CallBegun | Carried)]
    items = [each if isinstance(each, Carried) else ToolCall(each.id, each.name, arguments) for each in kept]
    (called,) = (item.id for item in items if isinstance(item, ToolCall))
    return Round(tuple(items), (ToolOutput(called, "rain"),))


def whole_run(sample: Sample) -> Callable[[], None]:
    """Two requests built and two answers read: a call with 10 pieces of arguments, then 100 words."""
    asked, called, said = [Message("user", (Text("what " * 80),))], sample.call(10), sample.text(100)
    answered = round_of(read(called, sample.api))

    def run() -> None:
        build(asked, [], sample)
        read(called, sample.api)
        build(asked, [answered], sample)
        read(said, sample.api)

    return run


def repeated(work: Callable[[], object], times: int = BUILDS) -> Callable[[], object]:
    def all_of_it() -> None:
        for _ in range(times):
            work()

    return all_of_it


Work = tuple[Callable[[], object], int]


def measured(sample: Sample) -> dict[str, Work]:
    """By what each costs: what is done, and how often that is in it."""
    words, short, long = sample.text(DELTAS), thread(10), thread(100)
    work: dict[str, Work] = {
        "a text delta, split and parsed": (lambda: needed(words), DELTAS),
        "a text delta, read": (lambda: read(words, sample.api), DELTAS),
    }
    if sample.call is gemini_call:
        call = sample.call(10)
        work["a whole call, split and parsed"] = (repeated(lambda: needed(call)), BUILDS)
        work["a whole call, read"] = (repeated(lambda: read(call, sample.api)), BUILDS)
    else:
        pieces = sample.call(DELTAS)
        work["an arguments delta, split and parsed"] = (lambda: needed(pieces), DELTAS)
        work["an arguments delta, read"] = (lambda: read(pieces, sample.api), DELTAS)
    work["10 messages, fitted and built"] = (repeated(lambda: build(short, [], sample)), BUILDS)
    work["100 messages, fitted and built"] = (repeated(lambda: build(long, [], sample)), BUILDS)
    work["a run with a tool: all built, all read"] = (repeated(whole_run(sample)), BUILDS)
    return work


def main(rounds: int = 30) -> None:
    works = {(sample.name, name): work for sample in SAMPLES for name, work in measured(sample).items()}
    spent: dict[tuple[str, str], list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, (work, count) in works.items():
            before = time.process_time_ns()
            work()
            if number:  # the first round warms up
                spent[name].append((time.process_time_ns() - before) / count / 1000)
    for (api, what), figures in spent.items():
        low, middle, high = min(figures), statistics.median(figures), max(figures)
        print(f"{api:17} {what:39} {middle:7.2f} µs CPU ({low:.2f}–{high:.2f})")
    print(f"medians of {rounds} rounds; each delta came in a read of its own")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
