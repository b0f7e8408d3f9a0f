"""Streams as vendors send them, or as close to it as public issues and references show, and what each must be read as.

`chunk` and `call` shorten them; what matters in a row is written out.
"""

from __future__ import annotations

from typing import Any

from gateway import codec
from gateway.engine.models.generation import (
    CallArguments,
    CallBegun,
    Delta,
    Failure,
    Finish,
    RefusalDelta,
    TextDelta,
    Usage,
)

DONE = b"data: [DONE]\n\n"


def event(data: Any, name: str = "") -> bytes:
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + codec.dumps(data) + b"\n\n"


def chunk(delta: Any = None, reason: str | None = None, **more: Any) -> bytes:
    """One event whose only choice has this delta."""
    choice = {"index": 0, "delta": {} if delta is None else delta, "finish_reason": reason}
    return event({"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "m", "choices": [choice], **more})


def calls(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"tool_calls": list(entries)}


def call(arguments: Any = None, *, index: Any = ..., id: Any = ..., name: Any = ...) -> dict[str, Any]:  # noqa: A002
    """An entry of `tool_calls`; what is not given is not in it."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not ...}
    told = {key: value for key, value in (("index", index), ("id", id)) if value is not ...}
    return {**told, "type": "function", "function": function}


def usage(prompt: int = 5, completion: int = 2, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion, **more}


def no_choices(**more: Any) -> bytes:
    return event({"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [], **more})


HELLO: list[Delta] = [TextDelta(0, "Hel"), TextDelta(0, "lo")]
SAY_HELLO = chunk({"role": "assistant", "content": "Hel"}) + chunk({"content": "lo"})
STOP = Finish("stop")
USED = Usage(5, 2, 7)
FAILED = Failure("server_error", "the model's provider broke off its answer")


def weather(index: int = 0, told: str = "call_a", arguments: str = '{"city":"Bonn"}') -> list[Delta]:
    return [CallBegun(index, told, "weather"), CallArguments(index, arguments)]


STREAMS: dict[str, tuple[bytes, list[Delta]]] = {
    "OpenAI": (
        chunk({"role": "assistant", "content": "", "refusal": None})
        + chunk({"content": "Hel"}, usage=None)
        + chunk({"content": "lo"}, usage=None)
        + chunk({}, "stop", usage=None)
        + no_choices(usage=usage(completion_tokens_details={"reasoning_tokens": 1}))
        + DONE,
        [*HELLO, Usage(5, 2, 7, reasoning_tokens=1), STOP],
    ),
    "OpenAI, tokens from its cache": (
        SAY_HELLO + chunk({}, "stop") + no_choices(usage=usage(prompt_tokens_details={"cached_tokens": 4})) + DONE,
        [*HELLO, Usage(5, 2, 7, cached_tokens=4), STOP],
    ),
    "OpenAI, two calls in parallel": (
        chunk({"role": "assistant", "content": None})
        + chunk(calls(call("", index=0, id="call_a", name="weather")))
        + chunk(calls(call('{"ci', index=0)))
        + chunk(calls(call('ty":1}', index=0)))
        + chunk(calls(call("", index=1, id="call_b", name="time")))
        + chunk(calls(call("{}", index=1)))
        + chunk({}, "tool_calls")
        + DONE,
        [
            CallBegun(0, "call_a", "weather"),
            CallArguments(0, '{"ci'),
            CallArguments(0, 'ty":1}'),
            CallBegun(1, "call_b", "time"),
            CallArguments(1, "{}"),
            Finish("tool_calls"),
        ],
    ),
    "OpenAI, a forced call ends in stop": (
        chunk(calls(call('{"city":"Bonn"}', index=0, id="call_a", name="weather"))) + chunk({}, "stop") + DONE,
        [*weather(), Finish("tool_calls")],
    ),
    "OpenAI, a refusal": (
        chunk({"role": "assistant", "refusal": "I'd"}) + chunk({"refusal": " rather not"}) + chunk({}, "stop") + DONE,
        [RefusalDelta(0, "I'd"), RefusalDelta(0, " rather not"), STOP],
    ),
    "OpenAI, the limit of tokens": (SAY_HELLO + chunk({}, "length") + DONE, [*HELLO, Finish("length")]),
    "text and a call": (
        SAY_HELLO
        + chunk(calls(call('{"city":"Bonn"}', index=0, id="call_a", name="weather")))
        + chunk({}, "tool_calls")
        + DONE,
        [*HELLO, *weather(), Finish("tool_calls")],
    ),
    "Azure: the prompt's filter first, annotations between": (
        no_choices(prompt_filter_results=[{"prompt_index": 0, "content_filter_results": {}}])
        + SAY_HELLO
        + event({"choices": [{"index": 0, "content_filter_offsets": {"start": 0}, "finish_reason": None}]})
        + chunk({}, "stop")
        + DONE,
        [*HELLO, STOP],
    ),
    "Azure: filtered": (SAY_HELLO + chunk({}, "content_filter") + DONE, [*HELLO, Finish("content_filter")]),
    "vLLM: usage in each chunk, growing": (
        chunk({"role": "assistant", "content": ""}, usage=usage(5, 0))
        + chunk({"content": "Hel"}, usage=usage(5, 1))
        + chunk({"content": "lo"}, usage=usage(5, 2))
        + chunk({}, "stop", usage=usage(5, 2))
        + DONE,
        [*HELLO, USED, STOP],
    ),
    "usage where choices are null": (
        SAY_HELLO + chunk({}, "stop") + event({"choices": None, "usage": usage()}) + DONE,
        [*HELLO, USED, STOP],
    ),
    "usage without choices": (
        SAY_HELLO + chunk({}, "stop") + event({"usage": usage()}) + DONE,
        [*HELLO, USED, STOP],
    ),
    "xAI: usage before a last chunk without": (
        SAY_HELLO + chunk({}, "stop", usage=usage()) + no_choices(usage=None) + DONE,
        [*HELLO, USED, STOP],
    ),
    "Groq: usage in x_groq": (
        SAY_HELLO + chunk({}, "stop", x_groq={"id": "req_1", "usage": usage()}) + DONE,
        [*HELLO, USED, STOP],
    ),
    "usage without a total, and with figures that are none": (
        SAY_HELLO
        + chunk({}, "stop", usage={"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": None})
        + no_choices(usage={"prompt_tokens": "many", "completion_tokens": -1})
        + no_choices(usage=[])
        + DONE,
        [*HELLO, USED, STOP],
    ),
    "Mistral: contents as parts, with its thoughts": (
        chunk({"role": "assistant", "content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}]})
        + chunk({"content": [{"type": "text", "text": "Hel"}]})
        + chunk({"content": [{"type": "text", "text": "l"}, "?", {"type": "text", "text": "o"}]})
        + chunk({"content": ""}, "stop", usage=usage())
        + DONE,
        [*HELLO, USED, STOP],
    ),
    "Mistral: whole calls in the last chunk, the context full": (
        chunk({"content": "Hel"}) + chunk({"content": "lo"}, "model_length") + DONE,
        [*HELLO, Finish("length")],
    ),
    "reasoning beside the message": (
        chunk({"role": "assistant", "content": None, "reasoning_content": "Let me think"})
        + chunk({"reasoning": "more", "reasoning_details": [{"type": "reasoning.text"}], "content": None})
        + SAY_HELLO
        + chunk({}, "stop")
        + DONE,
        [*HELLO, STOP],
    ),
    "Ollama: whole calls, all with index 0": (
        chunk(calls(call('{"city":"Bonn"}', index=0, id="call_a", name="weather")))
        + chunk(calls(call('{"city":"Rome"}', index=0, id="call_b", name="weather")))
        + chunk({}, "stop")
        + DONE,
        [*weather(), *weather(1, "call_b", '{"city":"Rome"}'), Finish("tool_calls")],
    ),
    "whole calls with index 0 and no ids": (
        chunk(calls(call('{"city":"Bonn"}', index=0, name="weather")))
        + chunk(calls(call('{"city":"Rome"}', index=0, name="weather")))
        + chunk({}, "tool_calls")
        + DONE,
        [*weather(0, "made_0"), *weather(1, "made_1", '{"city":"Rome"}'), Finish("tool_calls")],
    ),
    "Ollama before 0.4.7: no index": (
        chunk(
            calls(
                call('{"city":"Bonn"}', id="call_a", name="weather"),
                call('{"city":"Rome"}', id="call_b", name="weather"),
            )
        )
        + chunk({}, "stop")
        + DONE,
        [*weather(), *weather(1, "call_b", '{"city":"Rome"}'), Finish("tool_calls")],
    ),
    "no index, the arguments in pieces": (
        chunk(calls(call("", id="call_a", name="weather")))
        + chunk(calls(call('{"city":')))
        + chunk(calls(call('"Bonn"}')))
        + chunk(calls(call('{"city":"Rome"}', id="call_b", name="weather")))
        + chunk({}, "tool_calls")
        + DONE,
        [
            CallBegun(0, "call_a", "weather"),
            CallArguments(0, '{"city":'),
            CallArguments(0, '"Bonn"}'),
            *weather(1, "call_b", '{"city":"Rome"}'),
            Finish("tool_calls"),
        ],
    ),
    "no index, the id said each time": (
        chunk(calls(call('{"city":', id="call_a", name="weather")))
        + chunk(calls(call('"Bonn"}', id="call_a")))
        + chunk({}, "tool_calls")
        + DONE,
        [*weather(0, "call_a", '{"city":'), CallArguments(0, '"Bonn"}'), Finish("tool_calls")],
    ),
    "Gemini: index null, id empty": (
        chunk(
            calls(
                call('{"city":"Bonn"}', index=None, id="", name="weather"),
                call('{"city":"Rome"}', index=None, id="", name="weather"),
            ),
            "stop",
        )
        + DONE,
        [*weather(0, "made_0"), *weather(1, "made_1", '{"city":"Rome"}'), Finish("tool_calls")],
    ),
    "one id for two calls": (
        chunk(
            calls(
                call('{"city":"Bonn"}', index=0, id="call_a", name="weather"),
                call('{"city":"Rome"}', index=1, id="call_a", name="weather"),
            ),
            "tool_calls",
        )
        + DONE,
        [*weather(), *weather(1, "made_1", '{"city":"Rome"}'), Finish("tool_calls")],
    ),
    "one id for two calls without index": (
        chunk(
            calls(
                call('{"city":"Bonn"}', id="call_a", name="weather"),
                call('{"city":"Rome"}', id="call_a", name="weather"),
            ),
            "tool_calls",
        )
        + DONE,
        [*weather(), *weather(1, "made_1", '{"city":"Rome"}'), Finish("tool_calls")],
    ),
    "name and id said again with each piece": (
        chunk(calls(call('{"city":', index=0, id="call_a", name="weather")))
        + chunk(calls(call('"Bonn"}', index=0, id="call_a", name="weather")))
        + chunk({}, "tool_calls")
        + DONE,
        [*weather(0, "call_a", '{"city":'), CallArguments(0, '"Bonn"}'), Finish("tool_calls")],
    ),
    "another id with each piece, as older vLLM": (
        chunk(calls(call('{"city":', index=0, id="call_a", name="weather")))
        + chunk(calls(call('"Bonn"}', index=0, id="call_b")))
        + chunk({}, "tool_calls")
        + DONE,
        [*weather(0, "call_a", '{"city":'), CallArguments(0, '"Bonn"}'), Finish("tool_calls")],
    ),
    "the name after the first arguments": (
        chunk(calls(call('{"city":', index=0, id="call_a")))
        + chunk(calls(call('"Bonn"}', index=0, name="weather")))
        + chunk({}, "tool_calls")
        + DONE,
        [*weather(), Finish("tool_calls")],
    ),
    "the id after the name, which was given one already": (
        chunk(calls(call('{"city":', index=0, name="weather")))
        + chunk(calls(call('"Bonn"}', index=0, id="call_a")))
        + chunk(calls(call("{}", index=0, id="call_b", name="time")))
        + chunk({}, "tool_calls")
        + DONE,
        [
            *weather(0, "made_0", '{"city":'),
            CallArguments(0, '"Bonn"}'),
            CallBegun(1, "call_b", "time"),
            CallArguments(1, "{}"),
            Finish("tool_calls"),
        ],
    ),
    "arguments as an object": (
        chunk(calls(call({"city": "Bonn"}, index=0, id="call_a", name="weather")), "tool_calls") + DONE,
        [*weather(), Finish("tool_calls")],
    ),
    "an empty object as a place for arguments": (
        chunk(calls(call({}, index=0, id="call_a", name="weather")))
        + chunk(calls(call('{"city":"Bonn"}', index=0)))
        + chunk({}, "tool_calls")
        + DONE,
        [*weather(), Finish("tool_calls")],
    ),
    "no arguments at all": (
        chunk(calls(call(None, index=0, id="call_a", name="weather")), "tool_calls") + DONE,
        [*weather(arguments="{}"), Finish("tool_calls")],
    ),
    "broken arguments and an unknown tool": (
        chunk(calls(call('{"city": Bonn', index=0, id="call_a", name="wether")), "tool_calls") + DONE,
        [CallBegun(0, "call_a", "wether"), CallArguments(0, '{"city": Bonn'), Finish("tool_calls")],
    ),
    "a call without a name": (
        chunk(calls(call("{}", index=0, id="call_a")), "tool_calls") + DONE,
        [CallBegun(0, "call_a", ""), CallArguments(0, "{}"), Finish("tool_calls")],
    ),
    "entries that say nothing": (
        chunk({"content": "Hel", "tool_calls": []})
        + chunk({"content": "lo", "tool_calls": [{}, None, {"index": 0, "function": None}], "function_call": None})
        + chunk({"tool_calls": None}, "stop")
        + DONE,
        [*HELLO, STOP],
    ),
    "function_call, from before tools": (
        chunk({"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": ""}})
        + chunk({"function_call": {"arguments": '{"city":"Bonn"}'}})
        + chunk({}, "function_call")
        + DONE,
        [*weather(0, "made_0"), Finish("tool_calls")],
    ),
    "tool_calls as the reason of no call": (SAY_HELLO + chunk({}, "tool_calls") + DONE, [*HELLO, STOP]),
    "a call cut by the limit": (
        chunk(calls(call('{"city":', index=0, id="call_a", name="weather"))) + chunk({}, "length") + DONE,
        [*weather(arguments='{"city":'), Finish("length")],
    ),
    "the role in each chunk, the reason empty": (
        chunk({"role": "assistant", "content": "Hel"}, "")
        + chunk({"role": "assistant", "content": "lo"}, "")
        + chunk({"role": "assistant", "content": ""}, "stop")
        + DONE,
        [*HELLO, STOP],
    ),
    "a reason in each chunk": (
        chunk({"content": "Hel"}, "stop") + chunk({"content": "lo"}, "stop") + DONE,
        [*HELLO, STOP],
    ),
    "a reason nobody knows, in capitals": (SAY_HELLO + chunk({}, "FINISHED") + DONE, [*HELLO, STOP]),
    "the limit in capitals": (SAY_HELLO + chunk({}, "MAX_TOKENS") + DONE, [*HELLO, Finish("length")]),
    "no reason, but [DONE]": (SAY_HELLO + DONE, [*HELLO, STOP]),
    "a call, no reason, but [DONE]": (
        chunk(calls(call('{"city":"Bonn"}', index=0, id="call_a", name="weather"))) + DONE,
        [*weather(), Finish("tool_calls")],
    ),
    "no reason and no [DONE], but final usage": (SAY_HELLO + no_choices(usage=usage()), [*HELLO, USED, STOP]),
    "a reason, no [DONE]": (SAY_HELLO + chunk({}, "stop"), [*HELLO, STOP]),
    "the last blank line is missing": ((SAY_HELLO + chunk({}, "stop") + DONE).rstrip(b"\n"), [*HELLO, STOP]),
    "CR LF, no space, [DONE] with spaces": (
        (SAY_HELLO + chunk({}, "stop") + b"data:  [DONE] \n\n").replace(b"data: {", b"data:{").replace(b"\n", b"\r\n"),
        [*HELLO, STOP],
    ),
    "named events and what others keep alive with": (
        b": OPENROUTER PROCESSING\n\nevent: ping\n\ndata:\n\n"
        + event({"type": "ping"})
        + SAY_HELLO.replace(b"data: ", b"event: chunk\ndata: ")
        + chunk({}, "stop")
        + DONE,
        [*HELLO, STOP],
    ),
    "what comes after the end": (
        SAY_HELLO + chunk({}, "stop") + DONE + chunk({"content": "more"}) + b"data: <html>\n\n",
        [*HELLO, STOP],
    ),
    "garbage after the reason": (SAY_HELLO + chunk({}, "stop") + b"data: <html>\n\n" + DONE, [*HELLO, STOP]),
    "several choices, in any order": (
        event({"choices": [{"index": 1, "delta": {"content": "No"}}, {"index": 0, "delta": {"content": "Hel"}}]})
        + event({"choices": [{"index": 1, "delta": {"content": "No"}, "finish_reason": "length"}]})
        + chunk({"content": "lo"}, "stop")
        + DONE,
        [*HELLO, STOP],
    ),
    "choices without index": (
        event({"choices": [{"delta": {"content": "Hel"}}]})
        + event({"choices": [None, {"delta": {"content": "lo"}, "finish_reason": "stop"}]})
        + DONE,
        [*HELLO, STOP],
    ),
    "text beyond ASCII": (
        chunk({"content": "Grüße, 世界 "}) + chunk({"content": "🧵\u2028."}, "stop") + DONE,
        [TextDelta(0, "Grüße, 世界 "), TextDelta(0, "🧵\u2028."), STOP],
    ),
    "half a character in JSON": (
        b'data: {"choices":[{"index":0,"delta":{"content":"\\ud83e"}}]}\n\n' + chunk({}, "stop") + DONE,
        [TextDelta(0, "\ud83e"), STOP],
    ),
    "JSON instead of a stream": (
        b"\n"
        + codec.dumps(
            {
                "object": "chat.completion",
                "choices": [
                    {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}
                ],
                "usage": usage(),
            }
        ),
        [TextDelta(0, "Hello"), USED, STOP],
    ),
    "JSON instead of a stream, with calls": (
        codec.dumps({"choices": [{"message": calls(call({"city": "Bonn"}, id="call_a", name="weather"))}]}),
        [*weather(), Finish("tool_calls")],
    ),
    "JSON instead of a stream, an error": (
        b'{"error":{"message":"slow down","code":"rate_limit_exceeded"}}',
        [Failure("rate_limit_exceeded", "slow down", vendor_code="rate_limit_exceeded")],
    ),
    "JSON instead of a stream, of something else": (
        b'{"status":"ok"}',
        [Failure("server_error", "the model's provider gave no answer that can be read")],
    ),
    "JSON instead of a stream, cut": (
        b'{"choices":[{"message":{"content":"Hel',
        [Failure("server_error", "the model's provider sent what is not JSON")],
    ),
    "messages in a stream, beside deltas that are none": (
        event({"choices": [{"index": 0, "delta": None, "message": {"content": "Hel"}}]})
        + event({"choices": [{"index": 0, "delta": {"content": "lo"}, "message": {"content": "Hello"}}]})
        + chunk({}, "stop")
        + DONE,
        [*HELLO, STOP],
    ),
    "messages in a stream": (
        event({"choices": [{"index": 0, "message": {"content": "Hello"}, "finish_reason": "stop"}]}) + DONE,
        [TextDelta(0, "Hello"), STOP],
    ),
    "OpenAI: an error in the middle": (
        SAY_HELLO
        + event({"error": {"message": "The server had an error", "type": "server_error", "code": None}})
        + DONE,
        [*HELLO, Failure("server_error", "The server had an error", vendor_code="server_error")],
    ),
    "OpenRouter: an error beside a choice": (
        SAY_HELLO
        + event(
            {
                "error": {"code": 429, "message": "too many"},
                "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}],
            }
        ),
        [*HELLO, Failure("rate_limit_exceeded", "too many", vendor_code="429")],
    ),
    "vLLM: an error object": (
        SAY_HELLO + event({"object": "error", "message": "bad", "type": "BadRequestError", "code": 400}) + DONE,
        [*HELLO, Failure("invalid_prompt", "bad", vendor_code="400")],
    ),
    "Groq: an error event": (
        SAY_HELLO + event({"error": {"message": "tool call failed", "code": "tool_use_failed"}}, "error"),
        [*HELLO, Failure("server_error", "tool call failed", vendor_code="tool_use_failed")],
    ),
    "an error event that is no JSON": (
        SAY_HELLO + b"event: error\ndata: upstream went away\n\n",
        [*HELLO, Failure("server_error", "the model's provider failed")],
    ),
    "Gemini: an error in a list": (
        SAY_HELLO + b'data: [{"error":{"code":429,"message":"slow down","status":"RESOURCE_EXHAUSTED"}}]\n\n',
        [
            *HELLO,
            Failure("rate_limit_exceeded", "the model's provider is asked too often (status 429)", vendor_code="429"),
        ],
    ),
    "an error after the usage": (
        chunk({"content": "Hel"}, usage=usage()) + event({"error": "gone"}),
        [TextDelta(0, "Hel"), USED, Failure("server_error", "gone")],
    ),
    "an error about our key": (
        event({"error": {"message": "Incorrect API key provided: sk-abcdefgh1234", "code": "invalid_api_key"}}),
        [
            Failure(
                "server_error",
                "the model's provider does not let the gateway in; whoever runs it has to act",
                vendor_code="invalid_api_key",
            )
        ],
    ),
    "an error that is null": (chunk({"content": "Hel"}, error=None) + chunk({"content": "lo"}, "stop"), [*HELLO, STOP]),
    "error as the reason": (
        SAY_HELLO + chunk({}, "error") + DONE,
        [*HELLO, Failure("server_error", "the model's provider gave up in the middle of its answer")],
    ),
    "no reason, no [DONE]": (SAY_HELLO, [*HELLO, FAILED]),
    "usage at the beginning only": (no_choices(usage=usage()) + SAY_HELLO, [*HELLO, USED, FAILED]),
    "usage and nothing else": (no_choices(usage=usage()), [USED, FAILED]),
    "a reason that more text refuted, and a cut": (
        chunk({"content": "Hel"}, "stop") + chunk({"content": "lo"}),
        [*HELLO, FAILED],
    ),
    "cut within an event": (
        SAY_HELLO + chunk({"content": "more"})[:40],
        [*HELLO, Failure("server_error", "the model's provider sent what is not JSON")],
    ),
    "garbage in the middle": (
        SAY_HELLO + b"data: <html>bad gateway</html>\n\n" + chunk({}, "stop"),
        [*HELLO, Failure("server_error", "the model's provider sent what is not JSON")],
    ),
    "JSON that is no object": (
        SAY_HELLO + b"data: null\n\n" + chunk({}, "stop"),
        [*HELLO, Failure("server_error", "the model's provider sent what is not JSON")],
    ),
    "HTML": (
        b"<!doctype html>\n<h1>Welcome</h1>\n",
        [Failure("server_error", "the model's provider gave no answer that can be read")],
    ),
    "nothing": (b"", [Failure("server_error", "the model's provider gave no answer that can be read")]),
    "[DONE] and nothing else": (DONE, [Failure("server_error", "the model's provider gave an empty answer")]),
    "an answer without a word": (chunk({"role": "assistant", "content": ""}) + chunk({}, "stop") + DONE, [STOP]),
}
"""What is sent → what is read. Made-up ids are `made_` and the index of the call."""
