"""The echo model behind chat completions: what a request says, and its answer in events. No I/O.

What it does is told by the words of the last user message: see `model`. A word counts as a token.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gateway import codec
from gateway.demo.model import Plan, decide, split_words

Json = dict[str, Any]

DONE = b"data: [DONE]\n\n"
FAILURE = "The echo model was asked to fail."


@dataclass(frozen=True)
class Asked:
    """What a request says to the echo model. `rounds` are the outputs of tools since the last user message, one tuple
    for each message that called some."""

    model: str
    prompt: str = ""
    functions: tuple[str, ...] = ()
    forced: str | None = None
    """The function that has to be called."""
    one_call: bool = False
    rounds: tuple[tuple[str, ...], ...] = ()
    prompt_tokens: int = 0
    wants_usage: bool = False


def read(body: Any) -> Asked:
    """The request as the echo model sees it. Raises ValueError, in words for the caller, for what it cannot answer."""
    if not isinstance(body, dict) or not isinstance(model := body.get("model"), str):
        raise ValueError("The body must be a JSON object that names a model.")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(each, dict) for each in messages):
        raise ValueError("'messages' must be an array of objects, at least one.")
    if body.get("stream") is not True:
        raise ValueError("The echo model only streams: send 'stream': true.")
    said = max((place for place, each in enumerate(messages) if each.get("role") == "user"), default=None)
    functions = _functions(body)
    options = body.get("stream_options")
    return Asked(
        model,
        prompt="" if said is None else text_of(messages[said].get("content")),
        functions=functions,
        forced=_forced(body.get("tool_choice"), functions),
        one_call=body.get("parallel_tool_calls") is False,
        rounds=_rounds(messages[0 if said is None else said + 1 :]),
        prompt_tokens=sum(_count(text_of(each.get("content"))) for each in messages),
        wants_usage=isinstance(options, dict) and options.get("include_usage") is True,
    )


def text_of(content: Any) -> str:
    """The text of a message's content; other parts say nothing to the echo model."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = (part.get("text") for part in parts if isinstance(part, dict))
    return "".join(text for text in texts if isinstance(text, str))


def _functions(body: Json) -> tuple[str, ...]:
    tools = body.get("tools")
    if not isinstance(tools, list) or body.get("tool_choice") == "none":
        return ()
    told = (tool.get("function") for tool in tools if isinstance(tool, dict))
    names = (function.get("name") for function in told if isinstance(function, dict))
    return tuple(name for name in names if isinstance(name, str))


def _forced(choice: Any, functions: tuple[str, ...]) -> str | None:
    if choice == "required" and functions:
        return functions[0]
    function = choice.get("function") if isinstance(choice, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    return name if name in functions else None


def _rounds(messages: list[Json]) -> tuple[tuple[str, ...], ...]:
    rounds: list[list[str]] = []
    for message in messages:
        if message.get("role") == "assistant" and message.get("tool_calls"):
            rounds.append([])
        elif message.get("role") == "tool" and rounds:
            rounds[-1].append(text_of(message.get("content")))
    return tuple(map(tuple, rounds))


def answer(asked: Asked) -> Plan:
    plan = decide(asked.prompt, functions=asked.functions, rounds=asked.rounds)
    if asked.forced is not None and not asked.rounds and not plan.calls:
        return Plan(calls=((asked.forced, "{}"),))
    return Plan(calls=plan.calls[:1]) if asked.one_call and plan.calls else plan


def events(asked: Asked, plan: Plan, *, answer_id: str, now: int) -> Iterator[bytes]:
    """The answer as OpenAI streams it, event by event. `now` is in seconds; ids of calls are made of `answer_id`."""

    def chunk(choices: list[Json], usage: Json | None = None) -> bytes:
        head: Json = {"id": f"chatcmpl-{answer_id}", "object": "chat.completion.chunk", "created": now}
        told = {"usage": usage} if asked.wants_usage else {}
        return event({**head, "model": asked.model, "choices": choices, **told})

    def delta(said: Json, reason: str | None = None) -> bytes:
        return chunk([{"index": 0, "delta": said, "finish_reason": reason}])

    yield delta({"role": "assistant", "content": None if plan.calls else ""})
    for index, (name, arguments) in enumerate(plan.calls):
        begun = {"id": f"call_{answer_id}{index}", "type": "function", "function": {"name": name, "arguments": ""}}
        yield delta({"tool_calls": [{"index": index, **begun}]})
        yield delta({"tool_calls": [{"index": index, "function": {"arguments": arguments}}]})
    words = words_of(plan)
    for word in words:
        yield delta({"content": word})
    if plan.ending == "failed":
        yield event({"error": {"message": FAILURE, "type": "server_error", "param": None, "code": None}})
        return
    yield delta({}, reason_of(plan))
    if asked.wants_usage:
        spoken = sum(map(_count, words)) + sum(1 + _count(arguments) for _, arguments in plan.calls)
        total = asked.prompt_tokens + spoken
        yield chunk([], {"prompt_tokens": asked.prompt_tokens, "completion_tokens": spoken, "total_tokens": total})
    yield DONE


def words_of(plan: Plan) -> list[str]:
    """The pieces in which the text is streamed: half of them where it breaks off."""
    words = [] if plan.calls else split_words(plan.text)
    return words if plan.ending == "completed" else words[: (len(words) + 1) // 2]


def reason_of(plan: Plan) -> str:
    return "tool_calls" if plan.calls else "length" if plan.ending == "incomplete" else "stop"


def event(data: Json) -> bytes:
    return b"data: " + codec.dumps(data) + b"\n\n"


def _count(text: str) -> int:
    return len(text.split())
