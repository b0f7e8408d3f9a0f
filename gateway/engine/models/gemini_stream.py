"""Answers of Gemini's `streamGenerateContent`, sans I/O: bytes in, deltas out.

What comes, and from where it is known (types and client of python-genai 3.4.0, streams recorded in vercel/ai,
gemini-cli at 2026-08-21; all read 2026-11-22):

- with `alt=sse` each event is a whole `GenerateContentResponse`; without it, as proxies may have it, all of them are
  one JSON array. Nothing says that the stream is over but its end.
- parts are added to; calls come whole, in one part, several in one chunk; a last chunk may have an empty text only.
- `finishReason` stands in the last chunk, in older versions in each. A stream without one is broken off (gemini-cli).
- `usageMetadata` stands in each chunk and grows. Thoughts are counted beside the candidates, what tools put into the
  prompt beside the prompt.
- `thought: true` marks parts of thoughts; a `thoughtSignature` may stand in any part, a text of no characters included.
- a prompt that is blocked has no candidates, but a `promptFeedback`.
- an error within a stream comes as JSON that is no event, line by line (python-genai's `_iter_response_stream`).

A signature in a call goes back in that call; one in a text only with the calls that it led to.
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
    Failure,
    Finish,
    Json,
    TextDelta,
    Usage,
)
from gateway.engine.models.model_api import MakeCallId
from gateway.sse import Event

API = "gemini"

_REASONS: Mapping[str, Literal["stop", "length", "content_filter"]] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",  # of a request; what would go on with it is nothing that we ask for
    **dict.fromkeys(
        (
            "SAFETY",
            "RECITATION",
            "BLOCKLIST",
            "PROHIBITED_CONTENT",
            "SPII",
            "IMAGE_SAFETY",
            "IMAGE_PROHIBITED_CONTENT",
            "IMAGE_RECITATION",
            "ESCALATION",
            "MODEL_ARMOR",
        ),
        "content_filter",
    ),
}
_FAILURES: Mapping[str, str] = {
    "MALFORMED_FUNCTION_CALL": "the model wrote a function call that cannot be read",
    "MALFORMED_RESPONSE": "the model wrote an answer that cannot be read",
    "UNEXPECTED_TOOL_CALL": "the model called a function where it must not",
    "TOO_MANY_TOOL_CALLS": "the model called too many functions in a row",
    "LANGUAGE": "the model does not answer in this language",
    "MISSING_THOUGHT_SIGNATURE": "the model's provider misses the signature of a thought",
    "PUP_LIMITED_DISABLED": "the model's provider has limited the gateway's account; whoever runs it has to act",
    "OTHER": "the model's provider gave up in the middle of its answer",
}
"""What is in neither is unknown: a failure that has no words but its name. Behind calls it is taken for theirs, since a
call comes whole (aimock 1.43 ends them with `FUNCTION_CALL`)."""
_UNSAID = ("FINISH_REASON_UNSPECIFIED", "BLOCK_REASON_UNSPECIFIED", "BLOCKED_REASON_UNSPECIFIED")
_BLOCKED = "SAFETY"


class StreamReader(AnswerReader):
    """Reads one answer. See `model_api.Reader` for what it promises."""

    def __init__(self, make_call_id: MakeCallId) -> None:
        super().__init__()
        self._make_call_id = make_call_id
        self._reason: str | None = None
        self._counts: Json = {}
        """The last that were told; they are read at the end, because each chunk has some."""
        self._calls: list[str] = []
        """Their ids."""
        self._held: list[Delta] = []
        """Signatures of texts, until a call follows."""

    @property
    def is_answered(self) -> bool:
        return self._reason is not None

    def _rest(self, *, is_closed: bool) -> list[Delta] | None:
        return self._finish(self._reason) if self._reason is not None else None

    def _used(self) -> Usage | None:
        return _usage(self._counts)

    def _read(self, event: Event) -> list[Delta]:
        raw = event.data
        if raw is None and event.others and event.others[0].lstrip()[:1] in (b"{", b"["):
            raw = b"\n".join(event.others)
        if not raw:
            return []
        try:
            document = codec.loads(raw)
        except ValueError:
            document = None
        deltas: list[Delta] = []
        for chunk in document if type(document) is list else [document]:
            if type(chunk) is dict and chunk.get("error"):
                deltas += self._end(failure_in_stream(codec.dumps(chunk)))
            elif type(chunk) is dict:
                deltas += self._read_chunk(chunk)
            elif self._reason is None:
                # After the reason the answer is whole, whatever follows it.
                deltas += self._end(unreadable("sent what is not JSON"))
            if self._is_over:
                break
        return deltas

    def _read_chunk(self, chunk: Json) -> list[Delta]:
        self._was_understood |= not chunk.keys().isdisjoint(("candidates", "promptFeedback", "usageMetadata"))
        counts = chunk.get("usageMetadata")
        if type(counts) is dict and "promptTokenCount" in counts:
            self._counts = counts
        feedback = chunk.get("promptFeedback")
        if type(feedback) is dict and _said(feedback.get("blockReason")):
            self._reason = _BLOCKED
        candidate = _first_candidate(chunk.get("candidates"))
        if candidate is None:
            return []
        content = candidate.get("content")
        parts = content.get("parts") if type(content) is dict else None
        deltas: list[Delta] = []
        for part in parts if type(parts) is list else ():
            if type(part) is dict and not part.get("thought"):
                deltas += self._read_part(part)
        if deltas:
            self._reason = None  # what was said to be the end before this was none
        if reason := _said(candidate.get("finishReason")):
            self._reason = reason
        return deltas

    def _read_part(self, part: Json) -> list[Delta]:
        signature = part.get("thoughtSignature")
        call = part.get("functionCall")
        if type(call) is dict:
            return self._read_call(call, signature)
        if type(signature) is str and signature:
            self._held.append(Carried(API, {"signature": signature}))
        text = part.get("text")
        return [TextDelta(0, text)] if type(text) is str and text else []

    def _read_call(self, call: Json, signature: Any) -> list[Delta]:
        told, name, args = call.get("id"), call.get("name"), call.get("args")
        if not (told or name or args):
            return []
        index = len(self._calls)
        call_id = told if type(told) is str and told and told not in self._calls else self._make_call_id(index)
        self._calls.append(call_id)
        held, self._held = self._held, []
        begun = CallBegun(index, call_id, name if type(name) is str else "")
        deltas: list[Delta] = [*held, begun, CallArguments(index, codec.dumps(args).decode() if args else "{}")]
        if type(signature) is str and signature:
            deltas.append(Carried(API, {"call": call_id, "signature": signature}))
        return deltas

    def _finish(self, reason: str) -> list[Delta]:
        ending = _REASONS.get(reason)
        if ending is None and self._calls and reason not in _FAILURES:
            ending = "stop"
        if ending is None:
            words = _FAILURES.get(reason, _FAILURES["OTHER"])
            return self._end(Failure("server_error", f"{words} ({reason})", vendor_code=reason))
        if ending == "stop" and self._calls:
            return [*self._held, *self._end(Finish("tool_calls"))]
        return self._end(Finish(ending))


def _said(reason: Any) -> str:
    """A reason in capitals, "" for none."""
    said = reason.upper() if type(reason) is str else ""
    return "" if said in _UNSAID else said[:64]


def _first_candidate(candidates: Any) -> Json | None:
    """More than one is never asked for; where a vendor sends more, the others are not the answer."""
    for candidate in candidates if type(candidates) is list else ():
        if type(candidate) is dict and candidate.get("index") in (0, None):
            return candidate
    return None


def _usage(counts: Json) -> Usage | None:
    prompt = count(counts, "promptTokenCount") + count(counts, "toolUsePromptTokenCount")
    thoughts = count(counts, "thoughtsTokenCount")
    completion = count(counts, "candidatesTokenCount") + thoughts
    if not (prompt or completion):
        return None
    return Usage(
        prompt,
        completion,
        count(counts, "totalTokenCount") or prompt + completion,
        cached_tokens=count(counts, "cachedContentTokenCount"),
        reasoning_tokens=thoughts,
    )
