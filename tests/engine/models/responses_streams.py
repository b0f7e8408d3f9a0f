"""Streams of Responses, in the form of those that were recorded (see `gateway.engine.models.responses_items`), and what
each must be read as. `Recorded` shortens them; what matters in a row is written out."""

from __future__ import annotations

from typing import Any

from gateway import codec
from gateway.engine.models.generation import (
    Annotation,
    CallArguments,
    CallBegun,
    Carried,
    Delta,
    Failure,
    Finish,
    HostedCall,
    RefusalDelta,
    TextDelta,
    Usage,
)

DONE = b"data: [DONE]\n\n"
API = "responses"


def event(kind: str, *, name: str | None = None, **fields: Any) -> bytes:
    """`name` is that of the `event:` line, the event's type if it is not given; none if it is empty."""
    line = kind if name is None else name
    return (f"event: {line}\n".encode() if line else b"") + b"data: " + codec.dumps({"type": kind, **fields}) + b"\n\n"


def response(status: str = "in_progress", **more: Any) -> dict[str, Any]:
    head = {"id": "resp_1", "object": "response", "status": status, "error": None, "incomplete_details": None}
    return {**head, "model": "m", "output": [], "usage": None, **more}


def usage(prompt: int = 5, completion: int = 2, *, cached: int = 0, thought: int = 0) -> dict[str, Any]:
    details = {
        "input_tokens_details": {"cached_tokens": cached},
        "output_tokens_details": {"reasoning_tokens": thought},
    }
    return {"input_tokens": prompt, "output_tokens": completion, "total_tokens": prompt + completion, **details}


CREATED = event("response.created", response=response()) + event("response.in_progress", response=response())


def added(place: int, **item: Any) -> bytes:
    return event("response.output_item.added", output_index=place, item=item)


def done(place: int, **item: Any) -> bytes:
    return event("response.output_item.done", output_index=place, item=item)


def said(place: int, text: str, content: int = 0) -> bytes:
    where = {"output_index": place, "content_index": content, "item_id": "msg_1"}
    return event("response.output_text.delta", **where, delta=text, logprobs=[])


def cited(place: int, annotation: dict[str, Any], content: int = 0) -> bytes:
    where = {"output_index": place, "content_index": content, "item_id": "msg_1", "annotation_index": 0}
    return event("response.output_text.annotation.added", **where, annotation=annotation)


def text(whole: str, *annotations: dict[str, Any]) -> dict[str, Any]:
    return {"type": "output_text", "text": whole, "annotations": list(annotations), "logprobs": []}


def message(*contents: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": list(contents),
        **more,
    }


def function(arguments: str, call_id: str = "call_a", name: str = "weather") -> dict[str, Any]:
    item = {"id": "fc_1", "type": "function_call", "status": "completed", "arguments": arguments}
    return {**item, "call_id": call_id, "name": name}


def argued(place: int, delta: str) -> bytes:
    return event("response.function_call_arguments.delta", output_index=place, item_id="fc_1", delta=delta)


def citation(index: int, file_id: str = "file-1") -> dict[str, Any]:
    return {"type": "file_citation", "file_id": file_id, "filename": "a.pdf", "index": index}


def made(start: int, end: int, file_id: str = "cfile_1", filename: str = "x.csv") -> dict[str, Any]:
    told = {"container_id": "cntr_1", "start_index": start, "end_index": end, "file_id": file_id, "filename": filename}
    return {"type": "container_file_citation", **told}


def mark(number: int, start: int, file_id: str = "file-1", index: int = 0) -> list[Delta]:
    """What a citation becomes."""
    marker = f"【{index}:{number}†source】"
    span = {"text": marker, "start_index": start, "end_index": start + len(marker)}
    value = {"type": "file_citation", **span, "file_citation": {"file_id": file_id}}
    return [TextDelta(index, marker), Annotation(index, value)]


def link(path: str, start: int, end: int, file_id: str = "cfile_1") -> Annotation:
    file = {"file_id": file_id, "container_id": "cntr_1"}
    return Annotation(0, {"type": "file_path", "text": path, "start_index": start, "end_index": end, "file_path": file})


def ended(status: str = "completed", **more: Any) -> bytes:
    return event(f"response.{status}", response=response(status, **more))


GAVE_UP = Failure("server_error", "the model's provider gave up in the middle of its answer")


def completed(status: str | None, **more: Any) -> bytes:
    """The event that says the answer is complete, around one of this status."""
    return event("response.completed", response={**response("completed", **more), "status": status})


def code(**more: Any) -> dict[str, Any]:
    return {"id": "ci_1", "type": "code_interpreter_call", "status": "completed", "container_id": "cntr_1", **more}


def coded(place: int, delta: str) -> bytes:
    return event("response.code_interpreter_call_code.delta", output_index=place, item_id="ci_1", delta=delta)


def code_said(delta: dict[str, Any], index: int = 0, call_id: str = "ci_1") -> HostedCall:
    return HostedCall(index, call_id, "code_interpreter", delta)


def search(**more: Any) -> dict[str, Any]:
    return {"id": "fs_1", "type": "file_search_call", "status": "completed", "queries": ["rain"], **more}


def search_said(delta: dict[str, Any]) -> HostedCall:
    return HostedCall(0, "fs_1", "file_search", delta)


def thought(sealed: str | None, **more: Any) -> dict[str, Any]:
    return {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": sealed, **more}


FOUND = {"attributes": {}, "file_id": "file-1", "filename": "a.pdf", "score": 0.9, "text": "It rains."}
RESULT = {
    "file_id": "file-1",
    "file_name": "a.pdf",
    "score": 0.9,
    "content": [{"type": "text", "text": "It rains."}],
}
HELLO: list[Delta] = [TextDelta(0, "Hel"), TextDelta(0, "lo")]
SAY_HELLO = CREATED + added(0, **message()) + said(0, "Hel") + said(0, "lo")
HELLO_DONE = done(0, **message(text("Hello")))
STOP = Finish("stop")
USED = Usage(5, 2, 7)
BROKEN = Failure("server_error", "the model's provider broke off its answer")
PATH = "sandbox:/mnt/data/x.csv"
PIXEL = "data:image/png;base64,AAAA"


def weather(index: int = 0, call_id: str = "call_a", arguments: str = '{"city":"Bonn"}') -> list[Delta]:
    return [CallBegun(index, call_id, "weather"), CallArguments(index, arguments)]


STREAMS: dict[str, tuple[bytes, list[Delta]]] = {
    "a text": (
        SAY_HELLO
        + event("response.output_text.done", output_index=0, content_index=0, text="Hello")
        + HELLO_DONE
        + ended(output=[message(text("Hello"))], usage=usage(cached=4, thought=1)),
        [*HELLO, Usage(5, 2, 7, cached_tokens=4, reasoning_tokens=1), STOP],
    ),
    "a refusal, after a text": (
        CREATED
        + added(0, **message())
        + said(0, "Well.")
        + event("response.refusal.delta", output_index=0, content_index=1, delta="I'd")
        + event("response.refusal.delta", output_index=0, content_index=1, delta=" rather not")
        + done(0, **message(text("Well."), {"type": "refusal", "refusal": "I'd rather not"}))
        + ended(),
        [TextDelta(0, "Well."), RefusalDelta(1, "I'd"), RefusalDelta(1, " rather not"), STOP],
    ),
    "two messages": (
        CREATED + said(0, "One.") + done(0, **message(text("One."))) + said(1, "Two.") + ended(usage=usage()),
        [TextDelta(0, "One."), TextDelta(1, "Two."), USED, STOP],
    ),
    "two calls in parallel": (
        CREATED
        + added(0, **function(""))
        + argued(0, '{"ci')
        + argued(0, 'ty":1}')
        + done(0, **function('{"city":1}'))
        + added(1, **function("", "call_b", "time"))
        + argued(1, "{}")
        + done(1, **function("{}", "call_b", "time"))
        + ended(),
        [
            CallBegun(0, "call_a", "weather"),
            CallArguments(0, '{"ci'),
            CallArguments(0, 'ty":1}'),
            CallBegun(1, "call_b", "time"),
            CallArguments(1, "{}"),
            Finish("tool_calls"),
        ],
    ),
    "thoughts before a call": (
        CREATED
        + added(0, **thought("not this one"))
        + event("response.reasoning_summary_text.delta", output_index=0, summary_index=0, delta="Hm")
        + done(0, **thought("this one", summary=[{"type": "summary_text", "text": "Hm"}]))
        + added(1, **function(""))
        + argued(1, '{"city":"Bonn"}')
        + done(1, **function('{"city":"Bonn"}'))
        + ended(),
        [
            Carried(API, thought("this one", summary=[{"type": "summary_text", "text": "Hm"}])),
            *weather(),
            Finish("tool_calls"),
        ],
    ),
    "thoughts without content are only a name": (
        CREATED
        + added(0, **thought(None))
        + done(0, **thought(None, content=[]))
        + SAY_HELLO[len(CREATED) :]
        + ended(),
        [*HELLO, STOP],
    ),
    "thoughts in the open": (
        CREATED
        + done(0, **thought(None, content=[{"type": "reasoning_text", "text": "Hm"}]))
        + said(1, "Hi")
        + ended(),
        [
            Carried(
                API,
                {
                    "id": "rs_1",
                    "type": "reasoning",
                    "summary": [],
                    "content": [{"type": "reasoning_text", "text": "Hm"}],
                },
            ),
            TextDelta(0, "Hi"),
            STOP,
        ],
    ),
    "a comment, and then a call": (
        CREATED
        + added(0, **message(phase="commentary"))
        + said(0, "I shall look.")
        + done(0, **message(text("I shall look."), phase="commentary"))
        + added(1, **function('{"city":"Bonn"}'))
        + done(1, **function('{"city":"Bonn"}'))
        + ended(),
        [Carried(API, {"phase": "commentary"}), TextDelta(0, "I shall look."), *weather(), Finish("tool_calls")],
    ),
    "a search": (
        event(
            "response.created",
            response=response(
                tools=[
                    {"type": "function", "name": "x"},
                    {
                        "type": "file_search",
                        "ranking_options": {"ranker": "auto", "score_threshold": 0.5, "hybrid_search": None},
                    },
                ]
            ),
        )
        + added(0, **search(queries=[], results=None, status="in_progress"))
        + event("response.file_search_call.searching", output_index=0, item_id="fs_1")
        + done(0, **search(results=[FOUND]))
        + added(1, **message())
        + said(1, "It rains")
        + cited(1, citation(8))
        + said(1, ".")
        + cited(1, citation(9, "file-2"))
        + done(1, **message(text("It rains.", citation(8), citation(9, "file-2"))))
        + ended(),
        [
            search_said({}),
            search_said({"ranking_options": {"ranker": "auto", "score_threshold": 0.5}, "results": [RESULT]}),
            Carried(API, search(results=[FOUND])),
            TextDelta(0, "It rains"),
            *mark(0, 8),
            TextDelta(0, "."),
            *mark(1, 21, "file-2"),
            STOP,
        ],
    ),
    "a search that tells nothing of what it found": (
        CREATED + added(0, **search(results=None)) + done(0, **search(results=None)) + said(1, "Hi") + ended(),
        [search_said({}), Carried(API, search()), TextDelta(0, "Hi"), STOP],
    ),
    "citations that only the whole message has": (
        CREATED
        + said(0, "It ")
        + done(0, **message(text("It rains. Sun.", citation(14, "file-2"), citation(8), {"type": "url_citation"})))
        + ended(),
        [
            TextDelta(0, "It "),
            TextDelta(0, "rains"),
            *mark(0, 8),
            TextDelta(0, ". Sun."),
            *mark(1, 26, "file-2"),
            STOP,
        ],
    ),
    "code": (
        CREATED
        + added(0, **code(code="", outputs=[], status="in_progress"))
        + event("response.code_interpreter_call.in_progress", output_index=0, item_id="ci_1")
        + coded(0, "1")
        + coded(0, "+1")
        + event("response.code_interpreter_call_code.done", output_index=0, item_id="ci_1", code="1+1")
        + done(0, **code(code="1+1", outputs=[{"type": "logs", "logs": "2"}, {"type": "logs", "logs": ""}]))
        + said(1, "Two")
        + ended(),
        [
            code_said({"input": ""}),
            code_said({"input": "1"}),
            code_said({"input": "+1"}),
            code_said(
                {"outputs": [{"index": 0, "type": "logs", "logs": "2"}, {"index": 1, "type": "logs", "logs": ""}]}
            ),
            Carried(API, code(code="1+1", outputs=[{"type": "logs", "logs": "2"}, {"type": "logs", "logs": ""}])),
            TextDelta(0, "Two"),
            STOP,
        ],
    ),
    "code whose outputs nobody asked for": (
        CREATED + done(0, **code(code="1", outputs=None)) + said(1, "Hi") + ended(),
        [
            code_said({"input": ""}),
            code_said({"input": "1"}),
            Carried(API, code(code="1", outputs=[])),
            TextDelta(0, "Hi"),
            STOP,
        ],
    ),
    "a file that code made, and what was cited before": (
        CREATED
        + said(0, "See")
        + cited(0, citation(3))
        + said(0, f". [Here]({PATH})!")
        + cited(0, made(12, 35))
        + ended(),
        [TextDelta(0, "See"), *mark(0, 3), TextDelta(0, f". [Here]({PATH})!"), link(PATH, 24, 47), STOP],
    ),
    "a file whose span counts in another unit": (
        CREATED + said(0, f"🧵🧵 {PATH}") + cited(0, made(5, 28)) + ended(),
        [TextDelta(0, f"🧵🧵 {PATH}"), link(PATH, 3, 26), STOP],
    ),
    "a file that stands there under another name": (
        CREATED + said(0, "Take sandbox:/mnt/data/X.csv") + cited(0, made(5, 28)) + ended(),
        [TextDelta(0, "Take sandbox:/mnt/data/X.csv"), link("sandbox:/mnt/data/X.csv", 5, 28), STOP],
    ),
    "images that code showed have their files at the end": (
        CREATED
        + added(0, **code(code="", outputs=[]))
        + done(
            0,
            **code(
                code="plot()",
                outputs=[
                    {"type": "image", "url": PIXEL},
                    {"type": "logs", "logs": "ok"},
                    {"type": "image", "url": PIXEL},
                ],
            ),
        )
        + said(1, "Look")
        + cited(1, made(0, 0, "cfile_1", "cfile_1.png"))
        + cited(1, made(0, 0, "cfile_2", "cfile_2.png"))
        + ended(),
        [
            code_said({"input": ""}),
            code_said({"input": "plot()"}),
            code_said({"outputs": [{"index": 1, "type": "logs", "logs": "ok"}]}),
            Carried(API, code(code="plot()", outputs=[{"type": "logs", "logs": "ok"}])),
            TextDelta(0, "Look"),
            *(
                code_said(
                    {
                        "outputs": [
                            {
                                "index": place,
                                "type": "image",
                                "image": {"file_id": file_id, "container_id": "cntr_1"},
                            }
                        ]
                    }
                )
                for place, file_id in ((0, "cfile_1"), (2, "cfile_2"))
            ),
            STOP,
        ],
    ),
    "a file of no image and of no place": (
        CREATED + said(0, "Look") + cited(0, made(0, 0)) + ended(),
        [TextDelta(0, "Look"), link(PATH, 0, 0), STOP],
    ),
    "code, and a call of a function": (
        CREATED
        + done(0, **code(code="1", outputs=[]))
        + added(1, **function(""))
        + argued(1, '{"city":"Bonn"}')
        + done(1, **function('{"city":"Bonn"}'))
        + ended(),
        [
            code_said({"input": ""}),
            code_said({"input": "1"}),
            Carried(API, code(code="1", outputs=[])),
            *weather(1),
            Finish("tool_calls"),
        ],
    ),
    "an item of a kind to come": (
        CREATED
        + added(0, type="dream_call", id="dc_1")
        + event("response.dream_call.dreaming", output_index=0)
        + done(0, type="dream_call", id="dc_1", dream="sheep", more=None)
        + said(1, "Hi")
        + ended(),
        [Carried(API, {"type": "dream_call", "id": "dc_1", "dream": "sheep"}), TextDelta(0, "Hi"), STOP],
    ),
    "GitHub: another id in each event": (
        CREATED
        + added(0, **message() | {"id": "a"})
        + event("response.output_text.delta", output_index=0, content_index=0, item_id="b", delta="Hel")
        + event("response.output_text.delta", output_index=0, content_index=0, item_id="c", delta="lo")
        + done(0, **message(text("Hello")) | {"id": "d"})
        + ended(output=[message(text("Hello")) | {"id": "e"}]),
        [*HELLO, STOP],
    ),
    "no output_index": (
        CREATED
        + event("response.output_item.added", item=function(""))
        + event("response.function_call_arguments.delta", item_id="fc_1", delta='{"city":"Bonn"}')
        + event("response.output_item.done", item=function('{"city":"Bonn"}'))
        + ended(),
        [*weather(), Finish("tool_calls")],
    ),
    "one output_index for all": (
        CREATED
        + added(0, **function("") | {"id": "fc_1"})
        + argued(0, '{"city":"Bonn"}')
        + added(0, **function("", "call_b") | {"id": "fc_2"})
        + argued(0, '{"city":"Rome"}')
        + ended(),
        [*weather(), *weather(1, "call_b", '{"city":"Rome"}'), Finish("tool_calls")],
    ),
    "items that are only done": (
        CREATED + HELLO_DONE + done(1, **function('{"city":"Bonn"}')) + ended(),
        [TextDelta(0, "Hello"), *weather(), Finish("tool_calls")],
    ),
    "the last event alone": (
        ended(output=[message(text("Hello")), function('{"city":"Bonn"}')], usage=usage()),
        [TextDelta(0, "Hello"), *weather(), USED, Finish("tool_calls")],
    ),
    "an item that the last event completes": (
        CREATED + said(0, "Hel") + ended(output=[message(text("Hello"))]),
        [*HELLO, STOP],
    ),
    "a text that is another in the end": (
        CREATED + said(0, "Hallo") + HELLO_DONE + ended(),
        [TextDelta(0, "Hallo"), STOP],
    ),
    "arguments before their call": (
        CREATED + argued(0, '{"city":') + argued(0, '"Bonn"}') + done(0, **function('{"city":"Bonn"}')) + ended(),
        [*weather(), Finish("tool_calls")],
    ),
    "arguments that came with the beginning": (
        CREATED + added(0, **function('{"city":"Bonn"}')) + ended(),
        [*weather(), Finish("tool_calls")],
    ),
    "no arguments at all": (
        CREATED + added(0, **function("")) + done(0, **function("")) + ended(),
        [*weather(arguments="{}"), Finish("tool_calls")],
    ),
    "a call without a name and an id": (
        CREATED + done(0, type="function_call", arguments='{"a":1}') + ended(),
        [CallBegun(0, "made_0", ""), CallArguments(0, '{"a":1}'), Finish("tool_calls")],
    ),
    "one id for two calls": (
        CREATED + done(0, **function('{"city":"Bonn"}')) + done(1, **function('{"city":"Rome"}')) + ended(),
        [*weather(), *weather(1, "made_1", '{"city":"Rome"}'), Finish("tool_calls")],
    ),
    "the limit of tokens": (
        SAY_HELLO + ended("incomplete", incomplete_details={"reason": "max_output_tokens"}, usage=usage()),
        [*HELLO, USED, Finish("length")],
    ),
    "the limit of tokens, inside a call": (
        CREATED
        + added(0, **function(""))
        + argued(0, '{"city":')
        + done(0, **function('{"city":') | {"status": "incomplete"})
        + ended("incomplete", incomplete_details={"reason": "max_output_tokens"}),
        [*weather(arguments='{"city":'), Finish("length")],
    ),
    "the limit of tokens, spent on thoughts": (
        CREATED + added(0, **thought(None)) + ended("incomplete", incomplete_details={"reason": "max_output_tokens"}),
        [Finish("length")],
    ),
    "incomplete, nobody says why": (SAY_HELLO + ended("incomplete"), [*HELLO, Finish("length")]),
    "filtered": (
        SAY_HELLO + ended("incomplete", incomplete_details={"reason": "content_filter"}),
        [*HELLO, Finish("content_filter")],
    ),
    "incomplete for a reason to come": (
        SAY_HELLO + ended("incomplete", incomplete_details={"reason": "steered"}),
        [*HELLO, Failure("server_error", "the model's provider left its answer incomplete")],
    ),
    "a call that only the end knows of": (
        SAY_HELLO + ended(output=[message(text("Hello")), function('{"city":"Bonn"}')], usage=usage()),
        [*HELLO, *weather(), USED, Finish("tool_calls")],
    ),
    "a call that the end repeats elsewhere": (
        CREATED
        + added(1, **function(""))
        + done(1, **function('{"city":"Bonn"}'))
        + ended(output=[function('{"city":"Bonn"}')]),
        [*weather(), Finish("tool_calls")],
    ),
    "said to be complete, and cut short within: aimock": (
        SAY_HELLO + completed("incomplete", incomplete_details={"reason": "max_output_tokens"}, usage=usage()),
        [*HELLO, USED, Finish("length")],
    ),
    "said to be complete, and filtered within": (
        SAY_HELLO + completed("incomplete", incomplete_details={"reason": "content_filter"}),
        [*HELLO, Finish("content_filter")],
    ),
    "said to be complete, and failed within": (
        SAY_HELLO + completed("failed", error={"code": "server_error", "message": "gone"}, usage=usage()),
        [*HELLO, USED, Failure("server_error", "gone", vendor_code="server_error")],
    ),
    "said to be complete, and cancelled within": (SAY_HELLO + completed("cancelled"), [*HELLO, GAVE_UP]),
    "cancelled": (SAY_HELLO + ended("cancelled", usage=usage()), [*HELLO, USED, GAVE_UP]),
    "said to be complete, without a status": (SAY_HELLO + completed(None, usage=usage()), [*HELLO, USED, STOP]),
    "said to have failed, and incomplete within": (
        SAY_HELLO + event("response.failed", response=response("incomplete", error={"message": "gone"})),
        [*HELLO, Failure("server_error", "gone")],
    ),
    "failed": (
        SAY_HELLO
        + ended("failed", error={"code": "server_error", "message": "The server had an error"}, usage=usage()),
        [*HELLO, USED, Failure("server_error", "The server had an error", vendor_code="server_error")],
    ),
    "failed for an image": (
        CREATED + ended("failed", error={"code": "image_too_large", "message": "Too large"}),
        [Failure("invalid_prompt", "Too large", vendor_code="image_too_large")],
    ),
    "failed, nobody says why": (
        SAY_HELLO + ended("failed"),
        [*HELLO, Failure("server_error", "the model's provider gave up in the middle of its answer")],
    ),
    "an error, wrapped, and the failure that says it again": (
        CREATED
        + event("error", error={"type": "insufficient_quota", "code": "insufficient_quota", "message": "No money"})
        + ended("failed", error={"code": "insufficient_quota", "message": "No money"}),
        [
            Failure(
                "server_error",
                "the model's provider does not let the gateway in; whoever runs it has to act",
                vendor_code="insufficient_quota",
            )
        ],
    ),
    "an error, its fields in the event": (
        SAY_HELLO + event("error", code="rate_limit_exceeded", message="slow down", param=None, sequence_number=5),
        [*HELLO, Failure("rate_limit_exceeded", "slow down", vendor_code="rate_limit_exceeded")],
    ),
    "an error without a code": (
        SAY_HELLO + event("error", code=None, message="oops", param=None),
        [*HELLO, Failure("server_error", "oops")],
    ),
    "an error without a type": (
        SAY_HELLO + b'data: {"error":{"code":429,"message":"too many"}}\n\n',
        [*HELLO, Failure("rate_limit_exceeded", "too many", vendor_code="429")],
    ),
    "xAI: an error that is a text": (
        SAY_HELLO + b'data: {"code":"400","error":"Argument not supported: stop"}\n\n',
        [*HELLO, Failure("invalid_prompt", "Argument not supported: stop", vendor_code="400")],
    ),
    "an error event that is no JSON": (
        SAY_HELLO + b"event: error\ndata: upstream went away\n\n",
        [*HELLO, Failure("server_error", "the model's provider failed")],
    ),
    "no names, keep-alives, [DONE]": (
        (b": ping\n\n" + SAY_HELLO + HELLO_DONE + ended(usage=usage()) + DONE).replace(b"event: ", b"other: "),
        [*HELLO, USED, STOP],
    ),
    "CR LF, and what comes after the end": (
        (SAY_HELLO + ended() + said(0, "more") + b"data: <html>\n\n").replace(b"\n", b"\r\n"),
        [*HELLO, STOP],
    ),
    "the last blank line is missing": ((SAY_HELLO + ended()).rstrip(b"\n"), [*HELLO, STOP]),
    "text beyond ASCII": (
        CREATED + said(0, "Grüße, 世界 ") + said(0, "🧵\u2028.") + ended(),
        [TextDelta(0, "Grüße, 世界 "), TextDelta(0, "🧵\u2028."), STOP],
    ),
    "half a character in JSON": (
        CREATED
        + b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"\\ud83e"}\n\n'
        + ended(),
        [TextDelta(0, "\ud83e"), STOP],
    ),
    "events that say nothing": (
        CREATED
        + event("response.output_item.added", output_index=0, item=None)
        + said(0, "")
        + event("response.output_text.delta", output_index=0, delta=None)
        + event("response.output_item.done", output_index=3)
        + event("keepalive", name="keepalive")
        + b"event: ping\n\ndata:\n\n"
        + ended(),
        [STOP],
    ),
    "JSON instead of a stream": (
        b"\n" + codec.dumps(response("completed", output=[message(text("Hello"))], usage=usage())),
        [TextDelta(0, "Hello"), USED, STOP],
    ),
    "JSON instead of a stream, with a call": (
        codec.dumps(response("completed", output=[thought("x"), function('{"city":"Bonn"}')])),
        [Carried(API, thought("x")), *weather(), Finish("tool_calls")],
    ),
    "JSON instead of a stream, incomplete": (
        codec.dumps(
            response("incomplete", output=[message(text("Hel"))], incomplete_details={"reason": "max_output_tokens"})
        ),
        [TextDelta(0, "Hel"), Finish("length")],
    ),
    "JSON instead of a stream, failed": (
        codec.dumps(response("failed", error={"code": "rate_limit_exceeded", "message": "slow down"})),
        [Failure("rate_limit_exceeded", "slow down", vendor_code="rate_limit_exceeded")],
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
        codec.dumps(response("completed", output=[message(text("Hello"))]))[:90],
        [Failure("server_error", "the model's provider sent what is not JSON")],
    ),
    "Azure: another API's stream": (
        b'data: {"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n' + DONE,
        [Failure("server_error", "the model's provider gave no answer that can be read")],
    ),
    "cut after the beginning": (CREATED, [BROKEN]),
    "cut within the text": (SAY_HELLO, [*HELLO, BROKEN]),
    "cut within the arguments": (
        CREATED + added(0, **function("")) + argued(0, '{"city":'),
        [*weather(arguments='{"city":'), BROKEN],
    ),
    "cut within an event": (
        SAY_HELLO + said(0, "more")[:60],
        [*HELLO, Failure("server_error", "the model's provider sent what is not JSON")],
    ),
    "[DONE] before the end": (SAY_HELLO + DONE, [*HELLO, BROKEN]),
    "garbage in the middle": (
        SAY_HELLO + b"data: <html>bad gateway</html>\n\n" + ended(),
        [*HELLO, Failure("server_error", "the model's provider sent what is not JSON")],
    ),
    "HTML": (
        b"<!doctype html>\n<h1>Welcome</h1>\n",
        [Failure("server_error", "the model's provider gave no answer that can be read")],
    ),
    "nothing": (b"", [Failure("server_error", "the model's provider gave no answer that can be read")]),
    "an answer without a word": (CREATED + ended(), [STOP]),
}
"""What is sent → what is read. Made-up ids are `made_` and the index of the call."""
