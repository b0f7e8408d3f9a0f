"""How Anthropic streams an answer (platform.claude.com, streaming; its SDK's types; read 2026-11-22)."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.simulators.answers import Answer, Breaks, Calls, Declines, Piece, Says, Thinks
from tests.simulators.threads_server.refusal import Json
from tests.simulators.threads_server.server import encode_json

_REASONS = {"stop": "end_turn", "tool_calls": "tool_use", "length": "max_tokens", "content_filter": "refusal"}
"""What `Answer.reason` means here; others are the vendor's own."""
_ERRORS = ("overloaded_error", "rate_limit_error", "invalid_request_error", "timeout_error", "authentication_error")
STOPPED = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


@dataclass(frozen=True)
class Figures:
    """Tokens. Those of the prompt are in three parts, and stand in no two of them."""

    fresh: int
    written: int
    cached: int
    completion: int

    def told(self, output: int) -> Json:
        return {
            "input_tokens": self.fresh,
            "cache_creation_input_tokens": self.written,
            "cache_read_input_tokens": self.cached,
            "output_tokens": output,
        }


def encode(kind: str, **more: Any) -> bytes:
    return f"event: {kind}\n".encode() + b"data: " + encode_json({"type": kind, **more}) + b"\n\n"


def call_id() -> str:
    return f"toolu_{secrets.token_hex(12)}"


def sign(thought: str, bound_to: str) -> str:
    """Made so that a changed thought shows, or a change of what it is bound to."""
    return hashlib.sha256(f"{thought}\0{bound_to}".encode()).hexdigest()


def reason_of(answer: Answer) -> str:
    declines = any(isinstance(piece, Declines) for piece in answer.pieces)
    said = answer.reason or ("content_filter" if declines else "tool_calls" if answer.calls else "stop")
    return _REASONS.get(said, said)


def contents(answer: Answer, bound_to: str) -> list[tuple[Json, list[Json]]]:
    """The blocks: how each begins, and its deltas. Words in a row are one block."""
    blocks: list[tuple[Json, list[Json]]] = []
    last: type[Piece] | None = None
    for piece in answer.pieces:
        match piece:
            case Says(text) | Declines(text):
                if last not in (Says, Declines):
                    blocks.append(({"type": "text", "text": ""}, []))
                blocks[-1][1].append({"type": "text_delta", "text": text})
            case Thinks(text):
                signed = {"type": "signature_delta", "signature": sign(text, bound_to)}
                begun = {"type": "thinking", "thinking": "", "signature": ""}
                blocks.append((begun, [{"type": "thinking_delta", "thinking": text}, signed]))
            case Calls(name, arguments, told):
                begun = {"type": "tool_use", "id": told or call_id(), "name": name, "input": {}}
                pieces = () if "".join(arguments) in ("", "{}") else arguments
                blocks.append((begun, [{"type": "input_json_delta", "partial_json": each} for each in ("", *pieces)]))
            case Breaks():
                break
        last = type(piece)
    return blocks


def stream(answer: Answer, blocks: list[tuple[Json, list[Json]]], *, model: str, figures: Figures) -> Iterator[bytes]:
    """The answer, event by event."""
    message = {"id": f"msg_{secrets.token_hex(12)}", "type": "message", "role": "assistant", "model": model}
    empty = {"content": [], "stop_reason": None, "stop_sequence": None, "usage": figures.told(1)}
    yield encode("message_start", message={**message, **empty})
    breaks = next((piece for piece in answer.pieces if isinstance(piece, Breaks)), None)
    for index, (begun, deltas) in enumerate(blocks):
        yield encode("content_block_start", index=index, content_block=begun)
        if index == 0:
            yield encode("ping")
        for delta in deltas:
            yield encode("content_block_delta", index=index, delta=delta)
        if breaks is None or index < len(blocks) - 1:
            yield encode("content_block_stop", index=index)
    if breaks is not None:
        yield encode("error", error=error_of(breaks.error))
        return
    delta = {"stop_reason": reason_of(answer), "stop_sequence": None}
    yield encode("message_delta", delta=delta, usage=figures.told(figures.completion))
    yield STOPPED


def error_of(error: Json) -> Json:
    kind = error.get("type")
    return {"type": kind if kind in _ERRORS else "api_error", "message": error["message"]}


def whole(answer: Answer, blocks: list[tuple[Json, list[Json]]], *, model: str, figures: Figures) -> Json:
    """The answer as one message, as for a request that does not stream."""
    content = [_whole_block(begun, deltas) for begun, deltas in blocks]
    head = {"id": f"msg_{secrets.token_hex(12)}", "type": "message", "role": "assistant", "model": model}
    ended = {"stop_reason": reason_of(answer), "stop_sequence": None, "usage": figures.told(figures.completion)}
    return {**head, "content": content, **ended}


def _whole_block(begun: Json, deltas: list[Json]) -> Json:
    if begun["type"] == "tool_use":
        written = "".join(delta["partial_json"] for delta in deltas)
        return {**begun, "input": json.loads(written) if written else {}}
    texts = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}
    block = dict(begun)
    for delta in deltas:
        name = texts[delta["type"]]
        block[name] += delta[name]
    return block
