"""Answers of Anthropic's Messages API, sans I/O: bytes in, deltas out.

Documented (platform.claude.com: streaming, stop reasons, thinking; Anthropic's SDK for Python, 0.121; read 2026-11-22):

- `message_start`, then for each block of the content `content_block_start`, `…_delta`, `…_stop`, then `message_delta`
  with the reason and the figures, `message_stop`. Figures grow, the last count; a prompt's tokens are `input_tokens`
  and those that went to and came from the cache. `ping` comes anywhere, and kinds of events, blocks and deltas may be
  added: what is not known is passed over.
- a tool's input comes as pieces of JSON text, none for an empty one; two blocks of text are two contents
- thinking is not part of the message. Its blocks go back with the calls they led to, unread and in their place, thus as
  the layout of the whole answer; so does the layout of a turn that the vendor paused
- `error` events, `overloaded_error` first of all; a `refusal` may come after half an answer

Not documented, and read anyway: JSON instead of a stream, input that stands in the block's start, an end without
`message_stop`. Unknown reasons are a stop, or calls if there are some.
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
    TextDelta,
    Usage,
)
from gateway.engine.models.model_api import MakeCallId
from gateway.sse import Event

API = "anthropic_messages"

_REASONS: Mapping[str, Literal["length", "content_filter", "paused"]] = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
    "pause_turn": "paused",
}
"""All others (`end_turn`, `stop_sequence`, `tool_use`) end as what was said tells."""


class _Block:
    """A block of the content as it comes in. `index` counts texts or calls among their own kind; None: it is told of
    with its first letter, or not at all."""

    __slots__ = ("begun", "index", "is_open", "kind", "pieces", "signature")

    def __init__(self, begun: Json) -> None:
        self.begun = begun
        self.kind = begun.get("type")
        self.index: int | None = None
        self.is_open = True
        self.pieces: list[str] = []
        self.signature: list[str] = []

    def laid_out(self) -> Json | str:
        """What stands for it in the layout: thinking as it goes back, a text or a call by its kind alone, because the
        thread has it."""
        if self.kind != "thinking":
            return self.begun if self.kind == "redacted_thinking" else str(self.kind)
        signed = {"signature": "".join(self.signature)} if self.signature else {}
        return {**self.begun, "thinking": "".join(self.pieces), **signed}


class StreamReader(AnswerReader):
    """Reads one answer. See `model_api.Reader` for what it promises."""

    def __init__(self, make_call_id: MakeCallId) -> None:
        super().__init__()
        self._make_call_id = make_call_id
        self._reason: str | None = None
        self._figures: Json = {}
        self._model = ""
        self._blocks: list[_Block] = []
        self._by_index: dict[Any, _Block] = {}
        """The last that began under each of the vendor's indexes."""
        self._texts = 0
        self._call_ids: list[str] = []

    @property
    def is_answered(self) -> bool:
        return self._reason is not None

    def _rest(self, *, is_closed: bool) -> list[Delta] | None:
        return self._finish() if self._reason is not None else None

    def _used(self) -> Usage | None:
        return _usage(self._figures)

    def _read(self, event: Event) -> list[Delta]:
        if not event.data:
            return []
        told = _object(event.data)
        if event.name == "error" or (told is not None and told.get("type") == "error"):
            return self._end(failure_in_stream(event.data))
        if told is None:
            # After the reason the answer is whole, whatever follows it.
            return [] if self._reason is not None else self._end(unreadable("sent what is not JSON"))
        return self._read_message(told) if told.get("type") == "message" else self._read_told(told)

    def _read_message(self, message: Json) -> list[Delta]:
        """A whole message, as if its blocks had come one by one."""
        deltas = self._read_told({"type": "message_start", "message": {**message, "content": []}})
        blocks = message.get("content")
        for index, block in enumerate(blocks if type(blocks) is list else ()):
            deltas += self._read_told({"type": "content_block_start", "index": index, "content_block": block})
            deltas += self._read_told({"type": "content_block_stop", "index": index})
        return deltas + self._read_told({"type": "message_delta", "delta": message})

    def _read_told(self, event: Json) -> list[Delta]:
        match event.get("type"):
            case "content_block_delta":
                return self._read_delta(self._by_index.get(_key(event)), _part(event, "delta"))
            case "content_block_start":
                return self._begin(_key(event), _part(event, "content_block"))
            case "content_block_stop":
                block = self._by_index.get(_key(event))
                return self._close(block) if block is not None else []
            case "message_start":
                message = _part(event, "message")
                self._was_understood = True
                self._model = str(message.get("model") or "")
                self._note_figures(message)
            case "message_delta":
                self._was_understood = True
                self._note_figures(event)
                if type(reason := _part(event, "delta").get("stop_reason")) is str:
                    self._reason = reason
            case "message_stop" if self._was_understood:
                return self._finish()
        return []

    # --- blocks ----------------------------------------------------------------------------------------------------
    def _begin(self, key: Any, begun: Json) -> list[Delta]:
        self._was_understood = True
        block = self._by_index[key] = _Block(begun)
        self._blocks.append(block)
        if block.kind == "tool_use":
            return [self._begin_call(block)]
        return self._add(block, begun.get("thinking" if block.kind == "thinking" else "text"))

    def _begin_call(self, block: _Block) -> CallBegun:
        block.index = len(self._call_ids)
        told, name = block.begun.get("id"), block.begun.get("name")
        is_new = type(told) is str and told != "" and told not in self._call_ids
        self._call_ids.append(str(told) if is_new else self._make_call_id(block.index))
        return CallBegun(block.index, self._call_ids[-1], name if type(name) is str else "")

    def _read_delta(self, block: _Block | None, delta: Json) -> list[Delta]:
        if block is None:
            return []
        match delta.get("type"), block.kind:
            case "text_delta", "text":
                return self._add(block, delta.get("text"))
            case "input_json_delta", "tool_use":
                return self._add(block, delta.get("partial_json"))
            case "thinking_delta", "thinking":
                return self._add(block, delta.get("thinking"))
            case "signature_delta", "thinking" if type(signature := delta.get("signature")) is str:
                block.signature.append(signature)
        return []

    def _add(self, block: _Block, text: Any) -> list[Delta]:
        if type(text) is not str or not text:
            return []
        if block.kind != "text":
            block.pieces.append(text)
            return [CallArguments(block.index, text)] if block.index is not None else []
        if block.index is None:
            block.index, self._texts = self._texts, self._texts + 1
        return [TextDelta(block.index, text)]

    def _close(self, block: _Block) -> list[Delta]:
        """The rest of a call: input that did not come in pieces."""
        was_open, block.is_open = block.is_open, False
        if not was_open or block.kind != "tool_use" or block.pieces:
            return []
        given = block.begun.get("input")
        return self._add(block, codec.dumps(given).decode() if given else "{}")

    # --- the end ---------------------------------------------------------------------------------------------------
    def _finish(self) -> list[Delta]:
        """The end as the model said it, or as what it did tells."""
        reason = _REASONS.get(self._reason or "")
        if reason in ("length", "content_filter"):
            return self._end(Finish(reason))
        closed = [delta for block in self._blocks for delta in self._close(block)]
        if reason == "paused" and not self._call_ids:
            return [self._carried(), *self._end(Finish("paused"))]
        if not self._call_ids:
            return self._end(Finish("stop"))
        thought = any(block.kind in ("thinking", "redacted_thinking") for block in self._blocks)
        return [*closed, *([self._carried()] if thought else []), *self._end(Finish("tool_calls"))]

    def _carried(self) -> Carried:
        known = ("text", "tool_use", "thinking", "redacted_thinking")
        told = [block for block in self._blocks if block.kind in known]
        layout = [block.laid_out() for block in told if block.kind != "text" or block.index is not None]
        return Carried(API, {"model": self._model, "layout": layout})

    def _note_figures(self, where: Json) -> None:
        figures = _part(where, "usage")
        self._figures |= {name: value for name, value in figures.items() if value is not None}


def _usage(figures: Json) -> Usage | None:
    cached = count(figures, "cache_read_input_tokens")
    prompt = count(figures, "input_tokens") + count(figures, "cache_creation_input_tokens") + cached
    completion = count(figures, "output_tokens")
    if not (prompt or completion):
        return None
    thought = count(_part(figures, "output_tokens_details"), "thinking_tokens")
    return Usage(prompt, completion, prompt + completion, cached_tokens=cached, reasoning_tokens=thought)


def _object(raw: bytes) -> Json | None:
    try:
        document = codec.loads(raw)
    except ValueError:
        return None
    return document if type(document) is dict else None


def _part(event: Json, name: str) -> Json:
    part = event.get(name)
    return part if type(part) is dict else {}


def _key(event: Json) -> Any:
    index = event.get("index")
    return index if type(index) in (int, str) else None
