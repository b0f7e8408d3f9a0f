"""Google's Gemini API: `POST /models/{model}:streamGenerateContent`, as events with `alt=sse`, else as a JSON array.

What no script says is answered as the echo model would. Requests are checked strictly, see `gemini_requests`. A model
whose name has no generation in it is of the third: its calls have ids and, the first of each answer, a signature that
is wanted back.

What it may refuse with is in `REFUSALS`: `simulator.faults.add(refuse("too fast"))`. Streams are broken with the faults
of `faults`.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from gateway.demo.echo import Asked
from tests.simulators import faults
from tests.simulators.answers import Answer, Breaks, Calls, Declines, Says, Thinks
from tests.simulators.gemini_requests import check, check_signatures, last_spoken, of_kind
from tests.simulators.model_simulator import ModelSimulator
from tests.simulators.threads_server.ask import Ask, read_json
from tests.simulators.threads_server.dialect import Dialect
from tests.simulators.threads_server.refusal import Json, Refused
from tests.simulators.threads_server.server import SSE, Reply, encode_json, json_reply

_ASKS = re.compile(r"/v1beta/(models|tunedModels)/([^/:]+):(streamGenerateContent|generateContent)")
_STATUSES = {
    400: "INVALID_ARGUMENT",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_REASONS = {"stop": "STOP", "tool_calls": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"}
BLOCKED = "blocked"
"""The reason of an answer whose prompt was blocked."""


def google_error(status: int, message: str, *details: Json, named: str | None = None) -> Json:
    said = {"code": status, "message": message, "status": named or _STATUSES.get(status, "UNKNOWN")}
    return {"error": {**said, "details": list(details)} if details else said}


def _detail(kind: str, **said: Any) -> Json:
    return {"@type": f"type.googleapis.com/google.rpc.{kind}", **said}


def _reason(reason: str) -> Json:
    return _detail("ErrorInfo", reason=reason, domain="googleapis.com")


def read_key(headers: Mapping[str, str]) -> str | None:
    return headers.get("x-goog-api-key")


def wrong_key(key: str | None) -> Refused:
    if key is None:
        text = "Method doesn't allow unregistered callers (callers without established identity)."
        return Refused(
            f"{text} Please use API Key or other form of API consumer identity to call this API.", status=403
        )
    return Refused("API key not valid. Please pass a valid API key.", code="API_KEY_INVALID")


def error_body(refused: Refused) -> Json:
    details = [_reason(refused.code)] if refused.code else []
    return google_error(refused.status, refused.message, *details)


DIALECT = Dialect("gemini", prefix="/v1beta", read_key=read_key, wrong_key=wrong_key, error_body=error_body)


@dataclass(eq=False)
class Gemini(ModelSimulator):
    """`models` None: there are all."""

    dialect: Dialect = DIALECT
    models: frozenset[str] | None = None
    _given: dict[str, str] = field(default_factory=dict, init=False)
    """Signatures by the ids of calls."""

    def is_generation(self, path: str) -> bool:
        return _ASKS.fullmatch(path) is not None

    @property
    def settings(self) -> Mapping[str, str]:
        return {"serve": "threads", "model_api": "gemini"}

    @property
    def models_asked(self) -> list[str]:
        """As they stood in the paths, in order."""
        found = (_ASKS.fullmatch(each.path) for each in self.journal)
        return [f"{match[1]}/{unquote(match[2])}" for match in found if match]

    def reply(self, ask: Ask) -> Reply:
        key = self.key_of(ask)
        try:
            if key not in self.keys:
                raise self.dialect.wrong_key(key)
            return self._answer(ask)
        except Refused as refused:
            error = self.dialect.error_body(refused)
            is_array = self.is_generation(ask.path) and ask.query.get("alt") != "sse"
            return json_reply(refused.status, [error] if is_array else error, {})

    def _answer(self, ask: Ask) -> Reply:
        if (ask.method, ask.path) == ("GET", "/v1beta/models"):
            names = sorted(self.models or {"gemini-3.8-flash"})
            listed = [{"name": f"models/{name}", "version": "001", "displayName": name} for name in names]
            return json_reply(200, {"models": listed}, {})
        asked = _ASKS.fullmatch(ask.path) if ask.method == "POST" else None
        if asked is None:
            raise Refused(f"Requested entity was not found: {ask.path}", status=404)
        if not ask.headers.get("Content-Type", "").startswith("application/json"):
            raise Refused("Invalid content type: it must be application/json.")
        model, body = unquote(asked[2]), read_json(ask.body)
        if self.models is not None and model not in self.models:
            text = f"models/{model} is not found for API version v1beta, or is not supported for generateContent."
            raise Refused(text, status=404)
        return self._generate(model, body, is_sse=ask.query.get("alt") == "sse")

    def _generate(self, model: str, body: Json, *, is_sse: bool) -> Reply:
        named = re.search(r"gemini-(\d)", model)
        generation = int(named[1]) if named else 3
        check(body, generation=generation)
        if generation > 2:
            check_signatures(body["contents"], self._given)
        asked = as_asked(model, body)
        chunks = list(self._chunks(self.next_answer(body, asked), asked, signs=generation > 2))
        if is_sse:
            events = tuple(each if isinstance(each, bytes) else _event(each) for each in chunks)
            return Reply(200, {"Content-Type": SSE}, events=events)
        whole = b"[" + b",\r\n".join(each if isinstance(each, bytes) else encode_json(each) for each in chunks) + b"]"
        return Reply(200, {"Content-Type": "application/json; charset=UTF-8"}, whole)

    def _chunks(self, answer: Answer, asked: Asked, *, signs: bool) -> Iterator[Json | bytes]:
        """Bytes are of an error, which is no event."""
        stream = _Stream(asked.model, *(answer.usage or (asked.prompt_tokens, None)))
        if answer.reason == BLOCKED:
            yield stream.told({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}})
            return
        reason = _REASONS.get(answer.reason or "stop", answer.reason)
        has_signed = not signs
        for piece in answer.pieces:
            match piece:
                case Says(text) | Declines(text):
                    yield stream.part({"text": text})
                case Thinks(text):  # nobody asked for them; they are counted
                    stream.count_thought(text)
                case Calls():
                    if (part := self._call(piece, signs=signs, is_first=not has_signed)) is None:
                        reason = "MALFORMED_FUNCTION_CALL"
                        break
                    has_signed = True
                    yield stream.part(part)
                case Breaks(error):
                    yield json.dumps(google_error(500, error["message"]), indent=2).encode() + b"\n\n"
                    return
        yield stream.part({"text": ""}, reason)

    def _call(self, call: Calls, *, signs: bool, is_first: bool) -> Json | None:
        """None for arguments that are no object: this vendor's parser takes them for no call."""
        try:
            args = json.loads("".join(call.arguments))
        except ValueError:
            args = None
        if not isinstance(args, dict):
            return None
        call_id = call.id or secrets.token_hex(4)
        part: Json = {"functionCall": {"name": call.name, "args": args, **({"id": call_id} if signs else {})}}
        if is_first:
            self._given[call_id] = part["thoughtSignature"] = base64.b64encode(secrets.token_bytes(24)).decode()
        return part


def as_asked(model: str, body: Json) -> Asked:
    """The request as the echo model sees it."""
    contents = body["contents"]
    said = last_spoken(contents)
    calling = body.get("toolConfig", {}).get("functionCallingConfig", {})
    declared = [each["name"] for tool in body.get("tools", []) for each in tool.get("functionDeclarations", [])]
    functions = () if calling.get("mode") == "NONE" else tuple(declared)
    forced = [*calling.get("allowedFunctionNames", []), *functions] if calling.get("mode") == "ANY" else [None]
    answers = [of_kind(each, "functionResponse") for each in contents[said + 1 :]]
    told = [*contents, body.get("systemInstruction", {"parts": []})]
    return Asked(
        model,
        prompt="".join(of_kind(contents[said], "text")),
        functions=functions,
        forced=forced[0],
        rounds=tuple(tuple(str(each["response"].get("output")) for each in given) for given in answers if given),
        prompt_tokens=sum(_words(text) for each in told for text in of_kind(each, "text")),
        wants_usage=True,
    )


class _Stream:
    """One answer, whose figures grow. `candidates` are the tokens of its end, None for words as they come."""

    def __init__(self, model: str, prompt: int, candidates: int | None) -> None:
        self._head = {"modelVersion": model, "responseId": secrets.token_urlsafe(16)}
        self._prompt, self._candidates = prompt, candidates
        self._spoken = self._thought = 0

    def count_thought(self, text: str) -> None:
        self._thought += _words(text)

    def part(self, part: Json, reason: str | None = None) -> Json:
        call = part.get("functionCall")
        self._spoken += 1 + _words(json.dumps(call["args"])) if call else _words(part["text"])
        ended = {} if reason is None else {"finishReason": reason}
        content = {"parts": [part], "role": "model"}
        return self.told({"candidates": [{"content": content, **ended, "index": 0}]})

    def told(self, said: Json) -> Json:
        spoken = self._spoken if self._candidates is None else self._candidates
        usage = {"promptTokenCount": self._prompt, "candidatesTokenCount": spoken}
        if self._thought:
            usage["thoughtsTokenCount"] = self._thought
        return {**said, "usageMetadata": {**usage, "totalTokenCount": sum(usage.values())}, **self._head}


def _event(data: Json) -> bytes:
    return b"data: " + encode_json(data) + b"\r\n\r\n"


def _words(text: str) -> int:
    return len(text.split())


MODELS: Mapping[str, Callable[..., Gemini]] = {"gemini_native": Gemini}


# How it fails.

_QUOTA = "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"
_EXCEEDED = "You exceeded your current quota, please check your plan and billing details."
REFUSALS: Mapping[str, tuple[int, Json]] = {
    "bad prompt": (400, google_error(400, "Unable to process input image. Please retry.")),
    "wrong key": (
        400,
        google_error(400, "API key not valid. Please pass a valid API key.", _reason("API_KEY_INVALID")),
    ),
    "expired key": (400, google_error(400, "API key expired. Please renew the API key.", _reason("API_KEY_INVALID"))),
    "country": (
        400,
        google_error(400, "User location is not supported for the API use.", named="FAILED_PRECONDITION"),
    ),
    "leaked key": (403, google_error(403, "Your API key was reported as leaked. Please use another API key.")),
    "no model": (404, google_error(404, "models/m is not found for API version v1beta.")),
    "too fast": (
        429,
        google_error(
            429,
            f"{_EXCEEDED} Please retry in 12.5s.",
            _detail("QuotaFailure", violations=[{"quotaId": _QUOTA, "quotaValue": "5"}]),
            _detail("RetryInfo", retryDelay="12.5s"),
        ),
    ),
    "exhausted": (429, google_error(429, "Resource has been exhausted (e.g. check quota).")),
    "failed": (500, google_error(500, "An internal error has occurred.")),
    "overloaded": (503, google_error(503, "The model is overloaded. Please try again later.")),
    "too slow": (504, google_error(504, "The request timed out. Please try again.")),
}
"""Status and body, as ai.google.dev (API errors), gemini-cli's tests and public issues show them; read 2026-11-22."""


def refuse(name: str, headers: Mapping[str, str] | None = None) -> faults.Act:
    """One of `REFUSALS`."""
    code, body = REFUSALS[name]
    return faults.status(code, body, headers=dict(headers or {}))


def as_array() -> faults.Act:
    """An answer in one array, though events were asked for."""

    async def act(exchange: faults.Exchange) -> web.StreamResponse:
        return await exchange.send(exchange.server.reply(replace(exchange.ask, query={})))

    return act
