"""CPU of a model API without any network: of a delta read from a stream, and of a request built from a thread.

    make bench        or: python tests/bench/model_apis.py [rounds]

Reading is measured beside the two things that nobody can do without, splitting the stream and parsing its JSON, in
interleaved rounds of one process.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

import orjson

from gateway.engine.models import MODEL_APIS
from gateway.engine.models.generation import Function, Generation, Message, Round, Text, ToolCall, ToolOutput
from gateway.engine.models.history import Truncation, fit
from gateway.engine.models.model_api import ModelApi
from gateway.sse import EventParser

DELTAS = 2000
BUILDS = 100
OPENAI, GOOGLE = MODEL_APIS["chat_completions"]["openai"], MODEL_APIS["gemini"]["google"]


def chunk(delta: dict[str, object], reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
    known = {"id": "chatcmpl-BmFNfh09effTOgFZYLMgnXUS6Jk9g", "object": "chat.completion.chunk", "created": 1750838567}
    told = {**known, "model": "gpt-4o-2024-08-06", "service_tier": "default", "system_fingerprint": "fp_1"}
    return b"data: " + orjson.dumps({**told, "choices": [choice], "usage": None}) + b"\n\n"


def argument(text: str) -> dict[str, object]:
    return {"tool_calls": [{"index": 0, "function": {"arguments": text}}]}


BEGUN = {"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}}]}
TEXT = [chunk({"content": " word"}) for _ in range(DELTAS)] + [chunk({}, "stop"), b"data: [DONE]\n\n"]
CALL = [chunk(BEGUN), *(chunk(argument(" 1,")) for _ in range(DELTAS)), chunk({}, "tool_calls"), b"data: [DONE]\n\n"]


def gemini_chunk(text: str, **more: object) -> bytes:
    """As recorded of Gemini 3: an event of its own for each piece, each with the figures."""
    usage = {"promptTokenCount": 9, "candidatesTokenCount": 23, "totalTokenCount": 334, "thoughtsTokenCount": 302}
    details = [{"modality": "TEXT", "tokenCount": 9}]
    candidate = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0, **more}
    told = {"candidates": [candidate], "usageMetadata": {**usage, "promptTokensDetails": details}}
    known = {"modelVersion": "gemini-3-pro-preview", "responseId": "M3iLaY-AI7zTxN8P3Piw4Qg"}
    return b"data: " + orjson.dumps({**told, **known}) + b"\r\n\r\n"


GEMINI_TEXT = [gemini_chunk(" word") for _ in range(DELTAS)] + [gemini_chunk("", finishReason="STOP")]


def needed(pieces: list[bytes]) -> int:
    parser = EventParser()
    documents = [orjson.loads(event.data) for piece in pieces[:-1] for event in parser.feed(piece) if event.data]
    return len(documents)


def read(pieces: list[bytes], api: ModelApi = OPENAI) -> int:
    reader = api.read(str)
    count = sum(len(reader.feed(piece)) for piece in pieces) + len(reader.close())
    assert reader.is_over
    return count


def thread(messages: int) -> tuple[Message | Round, ...]:
    """Every fourth exchange with a tool; 400 characters a message."""
    turns: list[Message | Round] = []
    for number in range(messages // 2):
        turns.append(Message("user", (Text("what " * 80),)))
        if number % 4 == 0:
            call = ToolCall(f"call_{number}", "weather", '{"city":"Bonn"}')
            turns.append(Round((call,), (ToolOutput(call.id, "rain " * 20),)))
        turns.append(Message("assistant", (Text("word " * 80),)))
    return tuple(turns)


def build(turns: tuple[Message | Round, ...], api: ModelApi = OPENAI) -> int:
    fitted = fit(turns, [], truncation=Truncation(), max_prompt_tokens=10**6)
    tools = (Function("weather", "Tells it", {"type": "object", "properties": {"city": {"type": "string"}}}),)
    return len(api.build(Generation("gpt-4o", fitted.turns, instructions="Be brief.", tools=tools)).body)


def main(rounds: int = 30) -> None:
    short, long = thread(10), thread(100)
    measured: dict[str, tuple[Callable[[], int], int]] = {
        "splitting and parsing, a text delta": (lambda: needed(TEXT), DELTAS),
        "read, a text delta": (lambda: read(TEXT), DELTAS),
        "splitting and parsing, an arguments delta": (lambda: needed(CALL), DELTAS),
        "read, an arguments delta": (lambda: read(CALL), DELTAS),
        "fit and build, a thread of 10 messages": (lambda: sum(build(short) for _ in range(BUILDS)), BUILDS),
        "fit and build, a thread of 100 messages": (lambda: sum(build(long) for _ in range(BUILDS)), BUILDS),
        "Gemini: splitting and parsing, a text delta": (lambda: needed(GEMINI_TEXT), DELTAS),
        "Gemini: read, a text delta": (lambda: read(GEMINI_TEXT, GOOGLE), DELTAS),
        "Gemini: fit and build, 10 messages": (lambda: sum(build(short, GOOGLE) for _ in range(BUILDS)), BUILDS),
        "Gemini: fit and build, 100 messages": (lambda: sum(build(long, GOOGLE) for _ in range(BUILDS)), BUILDS),
    }
    spent: dict[str, list[float]] = {name: [] for name in measured}
    for number in range(rounds + 1):
        for name, (work, count) in measured.items():
            before = time.process_time_ns()
            work()
            if number:  # the first round warms up
                spent[name].append((time.process_time_ns() - before) / count / 1000)
    for name, figures in spent.items():
        low, middle, high = min(figures), statistics.median(figures), max(figures)
        print(f"{name:44} {middle:7.2f} µs CPU ({low:.2f}–{high:.2f})")
    print(f"medians of {rounds} rounds; each delta came in a read of its own")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
