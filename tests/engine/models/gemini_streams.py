"""Streams as Gemini sends them, or as close as its types and recorded ones show, and what each must be read as."""

from __future__ import annotations

from typing import Any

from gateway import codec
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


def candidate(*parts: Any, reason: str | None = None, **more: Any) -> dict[str, Any]:
    """An answer's piece whose only candidate has these parts; without any it has no content."""
    said = {"content": {"role": "model", "parts": list(parts)}} if parts else {}
    ended = {} if reason is None else {"finishReason": reason}
    return {"candidates": [{**said, **ended, "index": 0}], **more, "modelVersion": "gemini-3.8-flash"}


def event(data: Any, end: bytes = b"\r\n\r\n") -> bytes:
    return b"data: " + codec.dumps(data) + end


def chunk(*parts: Any, reason: str | None = None, **more: Any) -> bytes:
    return event(candidate(*parts, reason=reason, **more))


def text(said: str, **more: Any) -> dict[str, Any]:
    return {"text": said, **more}


def call(name: str = "weather", args: Any = ..., **more: Any) -> dict[str, Any]:
    """A part; `id` and what else is said stands in the call, `signature` in the part."""
    signature = {"thoughtSignature": more.pop("signature")} if "signature" in more else {}
    return {"functionCall": {"name": name, **({} if args is ... else {"args": args}), **more}, **signature}


def counts(prompt: int = 5, candidates: int = 2, **more: int) -> dict[str, Any]:
    return {"promptTokenCount": prompt, "candidatesTokenCount": candidates, **more}


BONN = {"city": "Bonn"}
HELLO: list[Delta] = [TextDelta(0, "Hel"), TextDelta(0, "lo")]
SAY_HELLO = chunk(text("Hel")) + chunk(text("lo"))
STOP = Finish("stop")
CALLS = Finish("tool_calls")
USED = Usage(5, 2, 7)
ENDED = chunk(text(""), reason="STOP")
BROKEN = Failure("server_error", "the model's provider broke off its answer")


def weather(index: int = 0, told: str = "made_0", arguments: str = '{"city":"Bonn"}') -> list[Delta]:
    return [CallBegun(index, told, "weather"), CallArguments(index, arguments)]


def signed(signature: str, call_id: str | None = None) -> Carried:
    return Carried("gemini", {"signature": signature} if call_id is None else {"call": call_id, "signature": signature})


def failed(words: str, reason: str) -> Failure:
    return Failure("server_error", f"{words} ({reason})", vendor_code=reason)


STREAMS: dict[str, tuple[bytes, list[Delta]]] = {
    "Gemini 3: usage grows, the last chunk has an empty text and a signature": (
        chunk(text("Hel"), usageMetadata=counts(5, 1, totalTokenCount=108, thoughtsTokenCount=102))
        + chunk(text("lo"), usageMetadata=counts(5, 2, totalTokenCount=109, thoughtsTokenCount=102))
        + chunk(
            text("", thoughtSignature="c2lnbmVk"),
            reason="STOP",
            usageMetadata=counts(5, 3, totalTokenCount=110, thoughtsTokenCount=102, cachedContentTokenCount=4),
        ),
        [*HELLO, Usage(5, 105, 110, cached_tokens=4, reasoning_tokens=102), STOP],
    ),
    "Gemini 3: a call with its signature, the reason behind it": (
        chunk(call(args=BONN, id="fc_1", signature="c2lnbmVk"), usageMetadata=counts())
        + chunk(text(""), reason="STOP", usageMetadata=counts(totalTokenCount=7)),
        [*weather(told="fc_1"), signed("c2lnbmVk", "fc_1"), USED, CALLS],
    ),
    "calls in parallel: ids are made, the first has the signature": (
        chunk(call(args=BONN, signature="x"), call(args={"city": "Rome"}), call("time"), reason="STOP"),
        [
            *weather(),
            signed("x", "made_0"),
            *weather(1, "made_1", '{"city":"Rome"}'),
            CallBegun(2, "made_2", "time"),
            CallArguments(2, "{}"),
            CALLS,
        ],
    ),
    "one id for two calls": (
        chunk(call(args=BONN, id="a"), call(args=BONN, id="a"), reason="STOP"),
        [*weather(told="a"), *weather(1, "made_1"), CALLS],
    ),
    "text with a signature, then a call": (
        chunk(text("Hel")) + chunk(text("lo", thoughtSignature="t")) + chunk(call(args=BONN), reason="STOP"),
        [*HELLO, signed("t"), *weather(), CALLS],
    ),
    "a call, then a signature in an empty text": (
        chunk(call(args=BONN)) + chunk(text("", thoughtSignature="t"), reason="STOP"),
        [*weather(), signed("t"), CALLS],
    ),
    "several parts in a chunk": (chunk(text("Hel"), text("lo"), reason="STOP"), [*HELLO, STOP]),
    "thoughts, which nobody sees": (
        chunk(text("**Thinking**", thought=True)) + SAY_HELLO + ENDED,
        [*HELLO, STOP],
    ),
    "older versions: a reason in each chunk": (
        chunk(text("Hel"), reason="STOP") + chunk(text("lo"), reason="STOP"),
        [*HELLO, STOP],
    ),
    "the limit of tokens": (SAY_HELLO + chunk(reason="MAX_TOKENS"), [*HELLO, Finish("length")]),
    "the limit of tokens of a request": (SAY_HELLO + chunk(reason="CONTINUATION"), [*HELLO, Finish("length")]),
    "the limit of tokens while it thinks": (
        chunk(reason="MAX_TOKENS", usageMetadata={"promptTokenCount": 5, "thoughtsTokenCount": 9}),
        [Usage(5, 9, 14, reasoning_tokens=9), Finish("length")],
    ),
    **{
        f"filtered: {reason}": (chunk(text("Hel")) + chunk(reason=reason), [HELLO[0], Finish("content_filter")])
        for reason in (
            *("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY"),
            *("IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "ESCALATION", "MODEL_ARMOR"),
        )
    },
    "a call that is filtered": (chunk(call(args=BONN), reason="SAFETY"), [*weather(), Finish("content_filter")]),
    "a blocked prompt": (
        event({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 5}}),
        [Usage(5, 0, 5), Finish("content_filter")],
    ),
    "a prompt that is judged, and not blocked": (
        event({"promptFeedback": {"safetyRatings": []}}) + SAY_HELLO + ENDED,
        [*HELLO, STOP],
    ),
    "a broken call": (
        chunk(reason="MALFORMED_FUNCTION_CALL", usageMetadata=counts()),
        [USED, failed("the model wrote a function call that cannot be read", "MALFORMED_FUNCTION_CALL")],
    ),
    "a call of nobody's": (
        chunk(reason="UNEXPECTED_TOOL_CALL"),
        [failed("the model called a function where it must not", "UNEXPECTED_TOOL_CALL")],
    ),
    "an account that is limited": (
        chunk(reason="PUP_LIMITED_DISABLED"),
        [
            failed(
                "the model's provider has limited the gateway's account; whoever runs it has to act",
                "PUP_LIMITED_DISABLED",
            )
        ],
    ),
    "a language": (chunk(reason="LANGUAGE"), [failed("the model does not answer in this language", "LANGUAGE")]),
    **{
        f"a reason without words: {reason}": (
            SAY_HELLO + chunk(reason=reason),
            [*HELLO, failed("the model's provider gave up in the middle of its answer", reason.upper())],
        )
        for reason in ("OTHER", "NEW_REASON", "FUNCTION_CALL", "late")
    },
    "calls, and a reason of theirs: aimock": (
        chunk(call(args=BONN), usageMetadata=counts()) + chunk(reason="FUNCTION_CALL"),
        [*weather(), USED, CALLS],
    ),
    "calls, and a reason without words: OTHER": (
        chunk(call(args=BONN), reason="OTHER"),
        [*weather(), failed("the model's provider gave up in the middle of its answer", "OTHER")],
    ),
    "calls, and a failure": (
        chunk(call(args=BONN), reason="TOO_MANY_TOOL_CALLS"),
        [*weather(), failed("the model called too many functions in a row", "TOO_MANY_TOOL_CALLS")],
    ),
    "a reason that says nothing": (SAY_HELLO + chunk(reason="FINISH_REASON_UNSPECIFIED"), [*HELLO, BROKEN]),
    "no reason": (SAY_HELLO, [*HELLO, BROKEN]),
    "an empty answer": (ENDED, [STOP]),
    "no candidates, and figures that are none": (
        event({"candidates": [], "usageMetadata": {"trafficType": "ON_DEMAND", "promptTokenCount": "5"}})
        + event({"candidates": None, "usageMetadata": None})
        + SAY_HELLO
        + ENDED,
        [*HELLO, STOP],
    ),
    "figures of tools in the prompt": (
        chunk(text("Hel"), text("lo"), reason="STOP", usageMetadata=counts(toolUsePromptTokenCount=3)),
        [*HELLO, Usage(8, 2, 10), STOP],
    ),
    "figures alone at the end": (SAY_HELLO + ENDED + event({"usageMetadata": counts()}), [*HELLO, USED, STOP]),
    "another candidate": (
        SAY_HELLO + event({"candidates": [{"index": 1, "content": {"parts": [text("no")]}}]}) + ENDED,
        [*HELLO, STOP],
    ),
    "contents and parts of other kinds": (
        event({"candidates": [{"content": None}, "?"]})
        + event({"candidates": [{"content": {"parts": None}}]})
        + chunk("?", {"executableCode": {"code": "1"}}, {"text": None}, {"functionCall": {}}, {"functionCall": "f"})
        + SAY_HELLO
        + ENDED,
        [*HELLO, STOP],
    ),
    "a call without a name": (
        chunk({"functionCall": {"args": {"a": 1}}}, reason="STOP"),
        [CallBegun(0, "made_0", ""), CallArguments(0, '{"a":1}'), CALLS],
    ),
    "a keep-alive, and the last blank line is missing": (
        b": wait\n\n" + (SAY_HELLO + ENDED).rstrip(),
        [*HELLO, STOP],
    ),
    "lines that end in LF": ((SAY_HELLO + ENDED).replace(b"\r\n", b"\n"), [*HELLO, STOP]),
    "an error in an event": (
        SAY_HELLO + event({"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}),
        [*HELLO, Failure("server_error", "overloaded", vendor_code="503")],
    ),
    "an error line by line, after the usage": (
        chunk(text("Hel"), usageMetadata=counts())
        + b'{\n  "error": {\n    "code": 500,\n    "message": "An internal error has occurred.",\n'
        + b'    "status": "INTERNAL"\n  }\n}\n\n',
        [HELLO[0], USED, Failure("server_error", "An internal error has occurred.", vendor_code="500")],
    ),
    "an error about our account, in a list": (
        b'[{"error": {"code": 429, "message": "check your billing", "status": "RESOURCE_EXHAUSTED"}}]',
        [Failure("rate_limit_exceeded", "the model's provider is asked too often (status 429)", vendor_code="429")],
    ),
    "without alt=sse: an array": (
        b"[" + b",\r\n".join(codec.dumps(candidate(text(said))) for said in ("Hel", "lo")) + b",\r\n"
        b'{"candidates": [{"finishReason": "STOP"}],\n'
        b' "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 2}}]',
        [*HELLO, USED, STOP],
    ),
    "an array that ends in an error": (
        b"[" + codec.dumps(candidate(text("Hel"))) + b', {"error": {"code": 503, "message": "gone"}}]',
        [HELLO[0], Failure("server_error", "gone", vendor_code="503")],
    ),
    "an array that is cut": (
        b"[" + codec.dumps(candidate(text("Hel"))) + b", {",
        [Failure("server_error", "the model's provider sent what is not JSON")],
    ),
    "one object": (codec.dumps(candidate(text("Hel"), text("lo"), reason="STOP")), [*HELLO, STOP]),
    "nothing": (b"", [Failure("server_error", "the model's provider gave no answer that can be read")]),
    "an empty array": (b"[]", [Failure("server_error", "the model's provider gave no answer that can be read")]),
    "a page": (b"<html>Bad Gateway", [Failure("server_error", "the model's provider gave no answer that can be read")]),
    "no JSON": (b"data: {oops\n\n", [Failure("server_error", "the model's provider sent what is not JSON")]),
    "no JSON after the reason": (SAY_HELLO + ENDED + b"data: [DONE]\n\n", [*HELLO, STOP]),
    "characters beyond ASCII": (
        chunk(text("Grüße 👋🏽 \u2028 ")) + chunk(text("中文"), reason="STOP"),
        [TextDelta(0, "Grüße 👋🏽 \u2028 "), TextDelta(0, "中文"), STOP],
    ),
}
