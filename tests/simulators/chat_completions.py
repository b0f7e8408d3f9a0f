"""Vendors of chat completions: `POST …/chat/completions`, streamed.

What no script says is answered as the echo model would (`gateway.demo.model` has the words). A script is a list of
answers to come: `simulator.script(says("Hel", "lo"))`. Requests are checked strictly, see `chat_requests`, and the
vendor's manner of streaming is one of `chat_answers.MANNERS`.

What a vendor may refuse with is in `REFUSALS`: `simulator.faults.add(refuse("too fast"))`. Streams are broken with the
other faults: those of `faults`, and `without_done`, `as_json` here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from aiohttp import web

from gateway.demo import echo
from tests.simulators import azure, faults, openai
from tests.simulators.answers import Answer, Thinks
from tests.simulators.chat_answers import MANNERS, Manner, stream, whole
from tests.simulators.chat_requests import TASTES, Taste, check, check_sent_back
from tests.simulators.model_simulator import ModelSimulator
from tests.simulators.threads_server.ask import Ask, read_json
from tests.simulators.threads_server.dialect import Dialect, openai_error, openai_wrong_key
from tests.simulators.threads_server.refusal import Json, Refused
from tests.simulators.threads_server.server import SSE, Reply, encode_json, json_reply


@dataclass(eq=False)
class ChatCompletions(ModelSimulator):
    """`dialect` is how the vendor greets and errs, as for the other simulators; `models` None: there are all."""

    manner: Manner = field(default_factory=Manner)
    taste: Taste = field(default_factory=Taste)
    models: frozenset[str] | None = None
    called: str | None = None
    """The dialect's name in a configuration, where it has one."""
    _owed: dict[tuple[str, str], str] = field(default_factory=dict, init=False)

    def is_generation(self, path: str) -> bool:
        return path.endswith("/chat/completions")

    @property
    def settings(self) -> Mapping[str, str]:
        dialect = {"dialect": self.called} if self.called else {}
        return {"serve": "threads", "model_api": "chat_completions", **dialect}

    def reply(self, ask: Ask) -> Reply:
        key = self.key_of(ask)
        account = self.keys.get(key or "")
        vendor_headers = self.dialect.headers(account or "", ask.headers)
        try:
            if account is None:
                raise self.dialect.wrong_key(key)
            return self._answer(ask, vendor_headers)
        except Refused as refused:
            return json_reply(refused.status, self.dialect.error_body(refused), vendor_headers)

    def _answer(self, ask: Ask, headers: Mapping[str, str]) -> Reply:
        match ask.method, ask.path.removeprefix(self.dialect.prefix):
            case "GET", "/models":
                names = sorted(self.models or {"gpt-4o"})
                listed = [{"id": name, "object": "model", "created": 1, "owned_by": "system"} for name in names]
                return json_reply(200, {"object": "list", "data": listed}, headers)
            case "POST", "/chat/completions":
                return self._complete(ask, headers)
        raise Refused(f"Invalid URL ({ask.method} {ask.path})", status=404)

    def _complete(self, ask: Ask, headers: Mapping[str, str]) -> Reply:
        if not ask.headers.get("Content-Type", "").startswith("application/json"):
            raise Refused("Invalid content type: it must be application/json.", status=415)
        body = read_json(ask.body)
        check(body, self.taste)
        check_sent_back(body["messages"], self._owed, self.taste)
        if self.models is not None and body["model"] not in self.models:
            text = f"The model `{body['model']}` does not exist or you do not have access to it."
            raise Refused(text, status=404, code="model_not_found")
        asked = echo.read({**body, "stream": True})
        answer = self.next_answer(body, asked)
        self._remember(answer)
        if not body.get("stream"):
            return json_reply(200, whole(answer, asked, now=self.now()), headers)
        events = tuple(stream(answer, asked, self.manner, now=self.now()))
        return Reply(200, {**headers, "Content-Type": SSE}, events=events)

    def _remember(self, answer: Answer) -> None:
        """What is owed: the thoughts that led to calls, where there were some, and signatures always."""
        thinks = any(isinstance(piece, Thinks) for piece in answer.pieces)
        for name in (*(self.taste.in_messages if thinks else ()), *self.taste.in_calls):
            for call in answer.calls:
                self._owed[call.name, "".join(call.arguments)] = name


# The vendors.


def bare_error(refused: Refused) -> Json:
    """vLLM's and Mistral's (goose#8031)."""
    error = openai_error(refused)["error"]
    return {"object": "error", **error, "code": refused.status}


def google_error(refused: Refused) -> list[Json]:
    """In a list, as Gemini's compatible endpoint has it (OpenChatCut#6)."""
    statuses = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 429: "RESOURCE_EXHAUSTED"}
    named = statuses.get(refused.status, "UNAVAILABLE")
    return [{"error": {"code": refused.status, "message": refused.message, "status": named}}]


_OPENAI = Dialect("openai", prefix="/v1", headers=openai.headers, wrong_key=openai_wrong_key)
_DIALECTS: Mapping[str, Dialect] = {
    "azure": replace(azure.AZURE, prefix="/openai/v1"),
    "groq": replace(_OPENAI, prefix="/openai/v1"),
    "mistral": replace(_OPENAI, error_body=bare_error),
    "gemini": replace(_OPENAI, prefix="/v1beta/openai", error_body=google_error),  # type: ignore[arg-type]
    "vllm": replace(_OPENAI, error_body=bare_error),
    "vllm_before": replace(_OPENAI, error_body=bare_error),
    "openrouter": replace(_OPENAI, prefix="/api/v1"),
    "aimlapi": replace(_OPENAI, name="aimlapi"),
}
"""By vendor, where it differs from OpenAI's. The name is the vendor's in a configuration."""


def _maker(vendor: str) -> Callable[..., ChatCompletions]:
    called = vendor if vendor in ("mistral", "deepseek", "gemini", "ollama") else None
    taste = TASTES.get(vendor, TASTES["openai"])
    return partial(ChatCompletions, _DIALECTS.get(vendor, _OPENAI), manner=MANNERS[vendor], taste=taste, called=called)


MODELS: Mapping[str, Callable[..., ChatCompletions]] = {f"{vendor}_chat": _maker(vendor) for vendor in MANNERS}
"""Makers of simulators by name: `openai_chat`, `mistral_chat` …"""


# How they fail.

RETRY_AFTER: Mapping[str, Mapping[str, str]] = {
    "nothing": {},
    "seconds": {"retry-after": "2"},
    "a fraction": {"retry-after": "0.05"},
    "milliseconds": {"retry-after-ms": "50", "retry-after": "1"},
    "a date": {"retry-after": "Wed, 21 Oct 2099 07:28:00 GMT"},
    "no number": {"retry-after": "soon"},
    "tokens reset": {
        "x-ratelimit-remaining-requests": "99",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-requests": "6ms",
        "x-ratelimit-reset-tokens": "1.5s",
    },
}
"""How vendors say when to come again."""

REFUSALS: Mapping[str, tuple[int, Json]] = {
    "bad prompt": (400, {"message": "Invalid prompt: it was flagged.", "code": "invalid_prompt"}),
    "too long": (
        400,
        {
            "message": "This model's maximum context length is 128000 tokens. Your messages resulted in 130000 tokens.",
            "code": "context_length_exceeded",
            "param": "messages",
        },
    ),
    "filtered": (400, {"message": "The response was filtered.", "code": "content_filter", "param": "prompt"}),
    "wrong key": (401, {"message": "Incorrect API key provided: sk-acme-o***1111.", "code": "invalid_api_key"}),
    "no money": (402, {"message": "Insufficient balance.", "code": "insufficient_balance"}),
    "forbidden": (
        403,
        {"message": "Project `proj_9f3KxTq2LmZ0` has no access to this model.", "code": "model_not_allowed"},
    ),
    "no model": (404, {"message": "The model `m` does not exist.", "code": "model_not_found"}),
    "too fast": (
        429,
        {
            "message": "Rate limit reached for requests in organization org-9f3KxTq2LmZ0. Please try again in 1s.",
            "type": "requests",
            "code": "rate_limit_exceeded",
        },
    ),
    "no quota": (
        429,
        {
            "message": "You exceeded your current quota, please check your plan and billing details.",
            "type": "insufficient_quota",
            "code": "insufficient_quota",
        },
    ),
    "failed": (500, {"message": "The server had an error while processing your request.", "type": "server_error"}),
    "overloaded": (503, {"message": "The engine is currently overloaded.", "type": "overloaded_error"}),
}
"""Status and error, as OpenAI's reference and public issues show them."""


def refuse(name: str, headers: Mapping[str, str] | None = None) -> faults.Act:
    """One of `REFUSALS`; for what is too fast, with one of `RETRY_AFTER`."""
    code, error = REFUSALS[name]
    body = {"error": {"type": "invalid_request_error", "param": None, "code": None, **error}}
    return faults.status(code, body, headers=dict(headers or {}))


def without_done() -> faults.Act:
    """All of the answer, but for `[DONE]`."""
    return faults.transform(lambda payload: [payload.replace(echo.DONE, b"")])


def as_json() -> faults.Act:
    """An answer in one object, though a stream was asked for."""

    async def act(exchange: faults.Exchange) -> web.StreamResponse:
        body: Any = read_json(exchange.ask.body)
        for name in ("stream", "stream_options"):
            body.pop(name, None)
        ask = replace(exchange.ask, body=encode_json(body))
        return await exchange.send(exchange.server.reply(ask))

    return act
