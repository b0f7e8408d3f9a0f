"""The manners in which vendors of chat completions stream an answer.

Sources of the manners are those that `gateway.engine.models.chat_completions` and `chat_completions_stream` name, all
read 2026-11-22. Where a vendor's streams were not seen, it streams as OpenAI does.
"""

from __future__ import annotations

import json
import secrets
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from gateway.demo.echo import DONE, Asked
from tests.simulators.answers import Answer, Breaks, Calls, Declines, Says, Thinks
from tests.simulators.threads_server.refusal import Json
from tests.simulators.threads_server.server import encode_json


def openai_call_id() -> str:
    return "call_" + "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(24))


def nine_letters() -> str:
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(9))


@dataclass(frozen=True)
class Manner:
    """How one vendor streams. The defaults are OpenAI's."""

    first: bytes = b""
    """What comes before the first chunk."""
    usage: Literal["asked", "always", "growing", "x_groq", "null_choices", "before_last", "never"] = "asked"
    """`asked`: in a last chunk without choices, if `stream_options` want it; `null_choices`: there they are null;
    `always`: with the reason; `growing`: in each chunk; `x_groq`: in the field of that name, with the reason;
    `before_last`: with the reason, and an empty chunk behind."""
    whole_calls: bool = False
    """Each call comes in one chunk."""
    index: Literal["counted", "zero", "none"] = "counted"
    make_call_id: Callable[[], str] | None = openai_call_id
    """None: calls come with an empty id."""
    arguments_as_object: bool = False
    call_reason: str = "tool_calls"
    thoughts: Literal["reasoning_content", "reasoning", "parts"] = "reasoning_content"
    signature: Json | None = None
    """Stands in each call, and is wanted back with it."""
    error: Literal["object", "event", "bare", "reason"] = "object"
    """`event`: named so; `bare`: an object of the kind `error`; `reason`: beside a choice whose reason is `error`."""
    keep_alive: bytes = b""
    """Before each chunk."""
    says_done: bool = True


AZURES_FIRST = {
    "choices": [],
    "created": 0,
    "id": "",
    "model": "",
    "object": "",
    "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {"hate": {"filtered": False}}}],
}


def encode(data: Json, name: str = "") -> bytes:
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + encode_json(data) + b"\n\n"


MANNERS = {
    "openai": Manner(),
    "azure": Manner(first=encode(AZURES_FIRST)),
    "groq": Manner(usage="x_groq", error="event"),
    "mistral": Manner(usage="always", whole_calls=True, make_call_id=nine_letters, thoughts="parts"),
    "deepseek": Manner(),
    "gemini": Manner(
        whole_calls=True,
        index="none",
        make_call_id=None,
        call_reason="stop",
        signature={"extra_content": {"google": {"thought_signature": "c2lnbmVk"}}},
    ),
    "ollama": Manner(whole_calls=True, index="zero", call_reason="stop"),
    "vllm": Manner(usage="null_choices", error="bare"),
    "vllm_before": Manner(usage="growing", error="bare"),
    "openrouter": Manner(keep_alive=b": OPENROUTER PROCESSING\n\n", error="reason", thoughts="reasoning"),
    "xai": Manner(usage="before_last"),
    "aimlapi": Manner(),
    "tgi": Manner(whole_calls=True, arguments_as_object=True),
    "plain": Manner(usage="never", says_done=False, whole_calls=True),
}
"""By vendor; `plain` is a server that does the least that can be read."""


@dataclass(frozen=True)
class _Stream:
    """One answer, as events."""

    manner: Manner
    model: str
    id: str
    created: int
    wants_usage: bool
    usage: Json

    def chunk(self, choices: list[Json] | None, **more: Any) -> bytes:
        head = {"id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model}
        if self.manner.usage == "asked" and self.wants_usage:
            more = {"usage": None, **more}
        return encode({**head, "system_fingerprint": "fp_1", "choices": choices, **more})

    def delta(self, said: Json, reason: str | None = None, **more: Any) -> bytes:
        if self.manner.usage == "growing":
            more["usage"] = self.usage
        choice = {"index": 0, "delta": said, "logprobs": None, "finish_reason": reason}
        return self.manner.keep_alive + self.chunk([choice], **more)

    def call(self, place: int, call: Calls) -> Iterator[bytes]:
        manner = self.manner
        told: Json = {} if manner.index == "none" else {"index": place if manner.index == "counted" else 0}
        begun = {**told, "id": self._id_of(call), "type": "function", **(manner.signature or {})}
        if manner.whole_calls:
            whole: Any = "".join(call.arguments)
            if manner.arguments_as_object:
                whole = json.loads(whole)
            yield self.delta({"tool_calls": [begun | {"function": {"name": call.name, "arguments": whole}}]})
            return
        yield self.delta({"tool_calls": [begun | {"function": {"name": call.name, "arguments": ""}}]})
        for piece in call.arguments:
            yield self.delta({"tool_calls": [{**told, "function": {"arguments": piece}}]})

    def _id_of(self, call: Calls) -> str:
        if call.id is not None or self.manner.make_call_id is None:
            return call.id or ""
        return self.manner.make_call_id()

    def thought(self, text: str) -> bytes:
        if self.manner.thoughts == "parts":
            thinking = {"type": "thinking", "thinking": [{"type": "text", "text": text}]}
            return self.delta({"content": [thinking]})
        return self.delta({self.manner.thoughts: text})

    def broken(self, error: Json) -> bytes:
        match self.manner.error:
            case "object":
                return encode({"error": error})
            case "event":
                return encode({"error": error}, "error")
            case "bare":
                return encode({"object": "error", **error})
            case "reason":
                choice = {"index": 0, "delta": {"content": ""}, "finish_reason": "error"}
                return self.chunk([choice], error=error)

    def end(self, reason: str) -> Iterator[bytes]:
        match self.manner.usage:
            case "always" | "before_last":
                yield self.delta({}, reason, usage=self.usage)
            case "x_groq":
                yield self.delta({}, reason, x_groq={"id": "req_1", "usage": self.usage})
            case _:
                yield self.delta({}, reason)
        if self.manner.usage == "asked" and self.wants_usage:
            yield self.chunk([], usage=self.usage)
        elif self.manner.usage == "null_choices" and self.wants_usage:
            yield self.chunk(None, usage=self.usage)
        elif self.manner.usage == "before_last":
            yield self.chunk([], usage=None)
        if self.manner.says_done:
            yield DONE


def stream(answer: Answer, asked: Asked, manner: Manner, *, now: int) -> Iterator[bytes]:
    """The answer to this request, event by event."""
    told = _Stream(
        manner,
        asked.model,
        f"chatcmpl-{secrets.token_hex(12)}",
        now,
        asked.wants_usage,
        usage_of(answer, asked),
    )
    if manner.first:
        yield manner.first
    yield told.delta({"role": "assistant", "content": None if answer.calls else "", "refusal": None})
    place = 0
    for piece in answer.pieces:
        match piece:
            case Says(text):
                yield told.delta({"content": text})
            case Declines(text):
                yield told.delta({"refusal": text})
            case Thinks(text):
                yield told.thought(text)
            case Calls():
                yield from told.call(place, piece)
                place += 1
            case Breaks(error):
                yield told.broken(error)
                return
    yield from told.end(answer.reason or (manner.call_reason if answer.calls else "stop"))


def whole(answer: Answer, asked: Asked, *, now: int) -> Json:
    """The answer as one object, as for a request that does not stream."""
    texts = [piece.text for piece in answer.pieces if isinstance(piece, Says)]
    declined = [piece.text for piece in answer.pieces if isinstance(piece, Declines)]
    made = [
        {
            "id": call.id or openai_call_id(),
            "type": "function",
            "function": {"name": call.name, "arguments": "".join(call.arguments)},
        }
        for call in answer.calls
    ]
    message = {"role": "assistant", "content": "".join(texts) or None, "refusal": "".join(declined) or None}
    reason = answer.reason or ("tool_calls" if made else "stop")
    choice = {"index": 0, "message": message | ({"tool_calls": made} if made else {}), "finish_reason": reason}
    head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "object": "chat.completion", "created": now}
    return {**head, "model": asked.model, "choices": [choice], "usage": usage_of(answer, asked)}


def usage_of(answer: Answer, asked: Asked) -> Json:
    prompt, completion = answer.usage or (asked.prompt_tokens, _words_in(answer))
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _words_in(answer: Answer) -> int:
    texts = [piece.text for piece in answer.pieces if isinstance(piece, Says | Declines | Thinks)]
    texts += ["".join((call.name, " ", *call.arguments)) for call in answer.calls]
    return sum(len(text.split()) for text in texts)
