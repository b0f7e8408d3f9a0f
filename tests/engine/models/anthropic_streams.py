"""Streams of Anthropic's Messages API as its reference and public issues show them, and what each must be read as."""

from __future__ import annotations

from typing import Any

from gateway import codec
from gateway.engine.models.anthropic_messages_stream import API
from gateway.engine.models.generation import (
    CallArguments,
    CallBegun,
    Carried,
    Delta,
    Failure,
    Finish,
    TextDelta,
    Usage,
)

MODEL = "claude-haiku-4-5-20251001"
STOP = Finish("stop")
USED = Usage(5, 2, 7)


def event(kind: str, **more: Any) -> bytes:
    return f"event: {kind}\n".encode() + b"data: " + codec.dumps({"type": kind, **more}) + b"\n\n"


def start(**usage: Any) -> bytes:
    """`message_start`, as documented: an empty message with the prompt's tokens."""
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": [],
        "stop_reason": None,
    }
    return event("message_start", message={**message, "usage": {"input_tokens": 5, "output_tokens": 1, **usage}})


def block(index: int, begun: dict[str, Any], *deltas: dict[str, Any], stops: bool = True) -> bytes:
    raw = event("content_block_start", index=index, content_block=begun)
    raw += b"".join(event("content_block_delta", index=index, delta=delta) for delta in deltas)
    return raw + event("content_block_stop", index=index) if stops else raw


def text(index: int, *pieces: str, **more: Any) -> bytes:
    return block(
        index, {"type": "text", "text": ""}, *({"type": "text_delta", "text": each} for each in pieces), **more
    )


def use(index: int, *pieces: str, told: str = "toolu_a", name: str = "weather", **more: Any) -> bytes:
    begun = {"type": "tool_use", "id": told, "name": name, "input": {}}
    return block(index, begun, *({"type": "input_json_delta", "partial_json": each} for each in pieces), **more)


def think(index: int, *pieces: str, signature: str = "c2ln", **more: Any) -> bytes:
    signed = {"type": "signature_delta", "signature": signature}
    said = ({"type": "thinking_delta", "thinking": each} for each in pieces)
    return block(index, {"type": "thinking", "thinking": "", "signature": ""}, *said, signed, **more)


def end(reason: str | None = "end_turn", **usage: Any) -> bytes:
    told = {"output_tokens": 2, **usage}
    return event("message_delta", delta={"stop_reason": reason, "stop_sequence": None}, usage=told) + event(
        "message_stop"
    )


def weather(index: int = 0, told: str = "toolu_a", *arguments: str) -> list[Delta]:
    return [CallBegun(index, told, "weather"), *(CallArguments(index, each) for each in arguments or ("{}",))]


def carried(*layout: Any) -> Carried:
    return Carried(API, {"model": MODEL, "layout": list(layout)})


def error(kind: str, message: str = "its words") -> bytes:
    return event("error", error={"type": kind, "message": message}, request_id="req_1")


HELLO: list[Delta] = [TextDelta(0, "Hel"), TextDelta(0, "lo")]
THOUGHT = {"type": "thinking", "thinking": "Rain, I guess.", "signature": "c2ln"}
PING = event("ping")
CALLED = Finish("tool_calls")
BROKE_OFF = Failure("server_error", "the model's provider broke off its answer")
NO_JSON = Failure("server_error", "the model's provider sent what is not JSON")
UNREADABLE = Failure("server_error", "the model's provider gave no answer that can be read")

STREAMS: dict[str, tuple[bytes, list[Delta]]] = {
    "a text": (start() + text(0, "Hel", "lo") + end(), [*HELLO, USED, STOP]),
    "pings, and what is not known": (
        PING
        + start()
        + event("vendor_news", index=0)
        + block(0, {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}})
        + block(1, {"type": "text", "text": ""}, {"type": "citations_delta", "citation": {}}, stops=False)
        + PING
        + event("content_block_delta", index=1, delta={"type": "text_delta", "text": "Hel"})
        + event("content_block_delta", index=9, delta={"type": "text_delta", "text": "whose?"})
        + event("content_block_delta", index=1, delta={"type": "new_delta", "text": "?"})
        + event("content_block_delta", index=1, delta={"type": "text_delta", "text": "lo"})
        + end(),
        [*HELLO, USED, STOP],
    ),
    "two texts": (
        start() + text(0, "One") + text(1) + text(2, "Two") + end(),
        [TextDelta(0, "One"), TextDelta(1, "Two"), USED, STOP],
    ),
    "a text that stands in the block's start": (
        start() + block(0, {"type": "text", "text": "Hel"}, {"type": "text_delta", "text": "lo"}) + end(),
        [*HELLO, USED, STOP],
    ),
    "tokens of the cache, and of thinking": (
        start(cache_creation_input_tokens=100, cache_read_input_tokens=3000, service_tier="standard")
        + text(0, "Hel", "lo")
        + end(output_tokens=20, output_tokens_details={"thinking_tokens": 7}, cache_read_input_tokens=None),
        [*HELLO, Usage(3105, 20, 3125, cached_tokens=3000, reasoning_tokens=7), STOP],
    ),
    "figures that are counted on": (
        start(input_tokens=1) + text(0, "Hel", "lo") + end(input_tokens=9, cache_read_input_tokens=4, output_tokens=3),
        [*HELLO, Usage(13, 3, 16, cached_tokens=4), STOP],
    ),
    "no figures": (
        event("message_start", message={"model": MODEL}) + text(0, "Hel", "lo") + end(output_tokens="many"),
        [*HELLO, STOP],
    ),
    "a call": (
        start() + text(0, "Hel", "lo") + use(1, "", '{"ci', 'ty":1}') + end("tool_use"),
        [*HELLO, *weather(0, "toolu_a", '{"ci', 'ty":1}'), USED, CALLED],
    ),
    "two calls in parallel": (
        start() + use(0, '{"a":1}') + use(1, "{}", told="toolu_b") + end("tool_use"),
        [*weather(0, "toolu_a", '{"a":1}'), *weather(1, "toolu_b"), USED, CALLED],
    ),
    "calls without input": (
        start() + use(0) + use(1, "", told="toolu_b", stops=False) + end("tool_use"),
        [*weather(), *weather(1, "toolu_b"), USED, CALLED],
    ),
    "input in the block's start": (
        start()
        + block(0, {"type": "tool_use", "id": "toolu_a", "name": "weather", "input": {"a": [1]}})
        + end("tool_use"),
        [*weather(0, "toolu_a", '{"a":[1]}'), USED, CALLED],
    ),
    "broken input, an unknown tool": (
        start() + use(0, '{"city": Bonn', name="wether") + end("tool_use"),
        [CallBegun(0, "toolu_a", "wether"), CallArguments(0, '{"city": Bonn'), USED, CALLED],
    ),
    "ids that are missing or stand twice": (
        start() + use(0, told="") + use(1) + use(2) + end("tool_use"),
        [*weather(0, "made_0"), *weather(1), *weather(2, "made_2"), USED, CALLED],
    ),
    "a call whose end was not told, nor that it is one": (
        start() + use(0, "{}", stops=False) + end("end_turn"),
        [*weather(), USED, CALLED],
    ),
    "tool_use without a call": (start() + text(0, "Hel", "lo") + end("tool_use"), [*HELLO, USED, STOP]),
    "thinking before a text is forgotten": (
        start() + think(0, "Hm") + text(1, "Hel", "lo") + end(),
        [*HELLO, USED, STOP],
    ),
    "thinking before calls goes back": (
        start()
        + think(0, "Rain, ", "I guess.")
        + text(1, "Hel", "lo")
        + block(2, {"type": "redacted_thinking", "data": "b3BhcXVl"})
        + use(3, "{}")
        + text(4)
        + end("tool_use"),
        [
            *HELLO,
            *weather(),
            carried(THOUGHT, "text", {"type": "redacted_thinking", "data": "b3BhcXVl"}, "tool_use"),
            USED,
            CALLED,
        ],
    ),
    "thinking that is not shown": (
        start() + think(0) + use(1, "{}") + end("tool_use"),
        [*weather(), carried({**THOUGHT, "thinking": ""}, "tool_use"), USED, CALLED],
    ),
    "the limit": (start() + text(0, "Hel", "lo") + end("max_tokens"), [*HELLO, USED, Finish("length")]),
    "the context is full": (
        start() + text(0, "Hel", "lo") + end("model_context_window_exceeded"),
        [*HELLO, USED, Finish("length")],
    ),
    "a call cut by the limit": (
        start() + use(0, '{"ci', stops=False) + end("max_tokens"),
        [*weather(0, "toolu_a", '{"ci'), USED, Finish("length")],
    ),
    "a word at which to stop": (start() + text(0, "Hel", "lo") + end("stop_sequence"), [*HELLO, USED, STOP]),
    "a refusal after half an answer": (
        start() + text(0, "Hel", "lo") + end("refusal"),
        [*HELLO, USED, Finish("content_filter")],
    ),
    "a refusal at once": (start() + end("refusal"), [USED, Finish("content_filter")]),
    "a turn that is paused": (
        start() + think(0, "Rain, ", "I guess.") + text(1, "Hel", "lo") + end("pause_turn"),
        [*HELLO, carried(THOUGHT, "text"), USED, Finish("paused")],
    ),
    "a reason nobody knows": (start() + text(0, "Hel", "lo") + end("compaction"), [*HELLO, USED, STOP]),
    "no reason": (start() + text(0, "Hel", "lo") + end(None), [*HELLO, USED, STOP]),
    "one index for all": (
        start()
        + think(0, "Rain, I guess.")
        + use(0, stops=False)
        + use(0, told="toolu_b", stops=False)
        + end("tool_use"),
        [
            CallBegun(0, "toolu_a", "weather"),
            CallBegun(1, "toolu_b", "weather"),
            CallArguments(0, "{}"),
            CallArguments(1, "{}"),
            carried(THOUGHT, "tool_use", "tool_use"),
            USED,
            CALLED,
        ],
    ),
    "no message_stop": (
        (start() + text(0, "Hel", "lo") + end()).removesuffix(event("message_stop")),
        [*HELLO, USED, STOP],
    ),
    "events without their names": (
        b"".join(
            line + b"\n"
            for line in (start() + text(0, "Hel", "lo") + end()).split(b"\n")
            if not line.startswith(b"event:")
        ),
        [*HELLO, USED, STOP],
    ),
    "CR LF": ((start() + text(0, "Hel", "lo") + end()).replace(b"\n", b"\r\n"), [*HELLO, USED, STOP]),
    "what comes after the end": (start() + text(0, "Hel", "lo") + end() + text(1, "more"), [*HELLO, USED, STOP]),
    "garbage after the reason": (
        (start() + text(0, "Hel", "lo") + end()).removesuffix(event("message_stop")) + b"data: [DONE]\n\n",
        [*HELLO, USED, STOP],
    ),
    "text beyond ASCII": (
        start() + text(0, "Grüße, 世界 ", "🧵\u2028.") + end(),
        [TextDelta(0, "Grüße, 世界 "), TextDelta(0, "🧵\u2028."), USED, STOP],
    ),
    "overloaded in the middle": (
        start() + text(0, "Hel", "lo", stops=False) + error("overloaded_error", "Overloaded"),
        [*HELLO, Usage(5, 1, 6), Failure("server_error", "Overloaded", vendor_code="overloaded_error")],
    ),
    "too fast, at the beginning": (
        error("rate_limit_error"),
        [Failure("rate_limit_exceeded", "its words", vendor_code="rate_limit_error")],
    ),
    "an error that only its name tells": (
        start() + b"event: error\ndata: upstream went away\n\n",
        [Usage(5, 1, 6), Failure("server_error", "the model's provider failed")],
    ),
    "our key": (
        error("authentication_error", "invalid x-api-key"),
        [
            Failure(
                "server_error",
                "the model's provider does not let the gateway in; whoever runs it has to act",
                vendor_code="authentication_error",
            )
        ],
    ),
    "cut within a text": (start() + text(0, "Hel", "lo", stops=False), [*HELLO, Usage(5, 1, 6), BROKE_OFF]),
    "cut within input": (
        start() + use(0, '{"ci', stops=False),
        [*weather(0, "toolu_a", '{"ci'), Usage(5, 1, 6), BROKE_OFF],
    ),
    "cut within an event": ((start() + text(0, "Hel", "lo"))[:-12], [*HELLO, Usage(5, 1, 6), NO_JSON]),
    "garbage in the middle": (
        start() + text(0, "Hel", "lo") + b"data: <html>\n\n" + end(),
        [*HELLO, Usage(5, 1, 6), NO_JSON],
    ),
    "JSON that is no object": (start() + b"data: [1]\n\n", [Usage(5, 1, 6), NO_JSON]),
    "an end and nothing else": (event("message_stop"), [UNREADABLE]),
    "pings and nothing else": (PING + PING, [UNREADABLE]),
    "HTML": (b"<!doctype html>\n<h1>Welcome</h1>\n", [UNREADABLE]),
    "nothing": (b"", [UNREADABLE]),
    "JSON instead of a stream": (
        b"\n"
        + codec.dumps(
            {
                "type": "message",
                "model": MODEL,
                "content": [
                    {"type": "thinking", "thinking": "Rain, I guess.", "signature": "c2ln"},
                    {"type": "text", "text": "Hello"},
                    {"type": "tool_use", "id": "toolu_a", "name": "weather", "input": {"a": 1}},
                    {"type": "tool_use", "id": "toolu_b", "name": "weather", "input": {}},
                    None,
                ],
                "stop_reason": "tool_use",
                "usage": {"input_tokens": 5, "output_tokens": 2},
            }
        ),
        [
            TextDelta(0, "Hello"),
            *weather(0, "toolu_a", '{"a":1}'),
            *weather(1, "toolu_b"),
            carried(THOUGHT, "text", "tool_use", "tool_use"),
            USED,
            CALLED,
        ],
    ),
    "JSON instead of a stream, an error": (
        codec.dumps({"type": "error", "error": {"type": "api_error", "message": "gone"}}),
        [Failure("server_error", "gone", vendor_code="api_error")],
    ),
    "JSON instead of a stream, of something else": (b'{"status":"ok"}', [UNREADABLE]),
    "JSON instead of a stream, cut": (b'{"type":"message","content":[{"type":"te', [NO_JSON]),
}
"""What is sent → what is read. Made-up ids are `made_` and the index of the call."""
