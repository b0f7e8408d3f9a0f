"""Anthropic: `POST /v1/messages`, streamed, and `GET /v1/models`.

What no script says is answered as the echo model would (`gateway.demo.model` has the words). Requests are checked
strictly (`anthropic_requests`), answers streamed as `anthropic_answers` has it. Thinking is signed for the model and
for all that was said before it, as newer models have it (platform.claude.com, preserved thinking, read 2026-11-22):
what led to a call is wanted back with it as long as nobody spoke since, and is refused if it, or what stands before
it, changed. Marked prefixes are kept for ever, whatever their length; words count as tokens.

What it may refuse with is in `REFUSALS`: `simulator.faults.add(refuse("overloaded"))`. Streams are broken with the
other faults: those of `faults`, and `without_stop`, `as_json` here.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from aiohttp import web

from gateway.demo.echo import Asked
from tests.simulators import faults
from tests.simulators.answers import Answer, Calls, Declines, Says, Thinks
from tests.simulators.anthropic_answers import STOPPED, Figures, contents, stream, whole
from tests.simulators.anthropic_requests import blocks_of, check, refused
from tests.simulators.model_simulator import ModelSimulator
from tests.simulators.threads_server.ask import Ask, read_json
from tests.simulators.threads_server.dialect import Dialect
from tests.simulators.threads_server.refusal import Json, Refused
from tests.simulators.threads_server.server import SSE, Reply, encode_json, json_reply

ORGANIZATION = "9d50ef40-6cc8-4ca6-9d35-1dc9cf26235c"
"""Stands in headers and errors, and is here to prove that it does not cross the gateway."""
_TYPES = {401: "authentication_error", 402: "billing_error", 403: "permission_error", 404: "not_found_error"} | {
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def error_body(refused: Refused) -> Json:
    kind = refused.code or _TYPES.get(refused.status, "invalid_request_error")
    error = {"type": kind, "message": refused.message}
    return {"type": "error", "error": error, "request_id": f"req_{secrets.token_hex(12)}"}


def headers(account: str, asked: Mapping[str, str]) -> Mapping[str, str]:
    limits = ("requests", "tokens", "input-tokens", "output-tokens")
    told = {
        f"anthropic-ratelimit-{kind}-{name}": value
        for kind in limits
        for name, value in (("limit", "1000"), ("remaining", "999"), ("reset", "2099-10-21T07:28:00Z"))
    }
    owner = {"anthropic-organization-id": ORGANIZATION} if account else {}
    return {"request-id": f"req_{secrets.token_hex(12)}", **owner, **told}


def wrong_key(key: str | None) -> Refused:
    return Refused("x-api-key header is required" if key is None else "invalid x-api-key", status=401)


ANTHROPIC = Dialect(
    "anthropic",
    prefix="/v1",
    read_key=lambda sent: sent.get("x-api-key"),
    headers=headers,
    error_body=error_body,
    wrong_key=wrong_key,
)


@dataclass(eq=False)
class AnthropicMessages(ModelSimulator):
    """`models` None: there are all; `most_tokens` is what `max_tokens` may be."""

    models: frozenset[str] | None = None
    most_tokens: int = 64_000
    _owed: dict[str, list[Json]] = field(default_factory=dict, init=False)
    """Id of a call → the thoughts that led to it."""
    _signed: dict[str, tuple[str, str]] = field(default_factory=dict, init=False)
    """Signature → the thought, and what it is bound to."""
    _kept: set[str] = field(default_factory=set, init=False)
    """Digests of prefixes in the cache."""

    def is_generation(self, path: str) -> bool:
        return path.endswith("/messages")

    @property
    def settings(self) -> Mapping[str, str]:
        return {"serve": "threads", "model_api": "anthropic_messages"}

    def reply(self, ask: Ask) -> Reply:
        key = self.key_of(ask)
        account = self.keys.get(key or "")
        vendor_headers = self.dialect.headers(account or "", ask.headers)
        try:
            if account is None:
                raise self.dialect.wrong_key(key)
            if ask.headers.get("anthropic-version") != "2023-06-01":
                raise refused("anthropic-version: header is required")
            return self._answer(ask, vendor_headers)
        except Refused as refusal:
            return json_reply(refusal.status, self.dialect.error_body(refusal), vendor_headers)

    def _answer(self, ask: Ask, headers: Mapping[str, str]) -> Reply:
        match ask.method, ask.path.removeprefix(self.dialect.prefix):
            case "GET", "/models":
                listed = [{"type": "model", "id": name} for name in sorted(self.models or {"claude-haiku-5-5"})]
                return json_reply(200, {"data": listed, "has_more": False}, headers)
            case "POST", "/messages":
                return self._generate(ask, headers)
        raise Refused("Not found", status=404)

    def _generate(self, ask: Ask, headers: Mapping[str, str]) -> Reply:
        if not ask.headers.get("Content-Type", "").startswith("application/json"):
            raise refused("content-type: must be application/json")
        body = read_json(ask.body)
        check(body, most_tokens=self.most_tokens)
        if self.models is not None and body["model"] not in self.models:
            raise Refused(f"model: {body['model']}", status=404)
        self._check_thoughts(body)
        bound_to = binding(body, len(body["messages"]))
        asked = as_asked(body)
        answer = self.next_answer(body, asked)
        blocks = contents(answer, bound_to)
        self._remember(blocks, bound_to)
        told: Any = {"model": body["model"], "figures": self._figures(body, answer, asked)}
        if not body.get("stream"):
            return json_reply(200, whole(answer, blocks, **told), headers)
        return Reply(200, {**headers, "Content-Type": SSE}, events=tuple(stream(answer, blocks, **told)))

    # Thinking.

    def _remember(self, blocks: list[tuple[Json, list[Json]]], bound_to: str) -> None:
        thoughts: list[Json] = []
        for begun, deltas in blocks:
            if begun["type"] == "thinking":
                thought, signature = (delta.get("thinking") or delta.get("signature", "") for delta in deltas)
                thoughts.append({"type": "thinking", "thinking": thought, "signature": signature})
                self._signed[signature] = (thought, bound_to)
            elif begun["type"] == "tool_use":
                self._owed[begun["id"]] = list(thoughts)

    def _check_thoughts(self, body: Json) -> None:
        messages = body["messages"]
        for place, message in enumerate(messages):
            for number, block in enumerate(_content(message)):
                if block["type"] != "thinking":
                    continue
                if self._signed.get(block["signature"]) != (block["thinking"], binding(body, place)):
                    raise refused(f"messages.{place}.content.{number}: Invalid `signature` in `thinking` block")
        spoken = max((place for place, each in enumerate(messages) if _is_spoken(each)), default=0)
        for place, message in enumerate(messages[spoken:], spoken):
            content = _content(message)
            for number, block in enumerate(content):
                owed = self._owed.get(block["id"], []) if block["type"] == "tool_use" else []
                if any(thought not in content[:number] for thought in owed):
                    text = "Expected `thinking` or `redacted_thinking`, but found `tool_use`."
                    raise refused(f"messages.{place}.content.{number}.type: {text}")

    # Tokens.

    def _figures(self, body: Json, answer: Answer, asked: Asked) -> Figures:
        if answer.usage is not None:
            return Figures(answer.usage[0], 0, 0, answer.usage[1])
        read = written = words = 0
        digest = hashlib.sha256()
        for block in blocks_of(body):
            digest.update(json.dumps(_unmarked(block)).encode())
            words += _words_in(block)
            if "cache_control" in block:
                if digest.hexdigest() in self._kept:
                    read = words
                written = words
                self._kept.add(digest.hexdigest())
        return Figures(asked.prompt_tokens - written, written - read, read, _words_of(answer))


def as_asked(body: Json) -> Asked:
    """The request as the echo model sees it."""
    messages = body["messages"]
    spoken = max((place for place, each in enumerate(messages) if _is_spoken(each)), default=0)
    words = [block["text"] for block in _content(messages[spoken]) if block["type"] == "text"]
    choice = body.get("tool_choice") or {}
    names = tuple(tool["name"] for tool in body.get("tools") or ()) if choice.get("type") != "none" else ()
    forced = {"any": next(iter(names), None), "tool": choice.get("name")}.get(choice.get("type", ""))
    return Asked(
        body["model"],
        prompt="".join(words),
        functions=names,
        forced=forced,
        one_call=choice.get("disable_parallel_tool_use") is True,
        rounds=tuple(
            tuple(block.get("content", "") for block in _content(each) if block["type"] == "tool_result")
            for each in messages[spoken + 1 :]
            if each["role"] == "user"
        ),
        prompt_tokens=sum(map(_words_in, blocks_of(body))),
        wants_usage=True,
    )


def binding(body: Json, count: int) -> str:
    """What an answer's thinking is bound to: model, system prompt, tools, and so many messages, without their marks."""
    said = [{**each, "content": _unmarked(_content(each))} for each in body["messages"][:count]]
    return json.dumps([body["model"], _unmarked(body.get("system")), _unmarked(body.get("tools")), said])


def _content(message: Json) -> list[Json]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _is_spoken(message: Json) -> bool:
    """By the user, and more than results."""
    return message["role"] == "user" and any(block["type"] != "tool_result" for block in _content(message))


def _unmarked(value: Any) -> Any:
    if isinstance(value, list):
        return [_unmarked(each) for each in value]
    return {name: each for name, each in value.items() if name != "cache_control"} if isinstance(value, dict) else value


def _words_in(block: Json) -> int:
    texts = (block.get(name) for name in ("text", "content", "description", "name"))
    return sum(len(text.split()) for text in texts if isinstance(text, str))


def _words_of(answer: Answer) -> int:
    texts = [piece.text for piece in answer.pieces if isinstance(piece, Says | Declines | Thinks)]
    texts += [" ".join((call.name, *call.arguments)) for call in answer.pieces if isinstance(call, Calls)]
    return sum(len(text.split()) for text in texts)


MODELS: Mapping[str, Callable[..., AnthropicMessages]] = {"anthropic_messages": partial(AnthropicMessages, ANTHROPIC)}
"""Makers of simulators by name."""


# How it fails.

RETRY_AFTER: Mapping[str, Mapping[str, str]] = {
    "nothing": {},
    "seconds": {"retry-after": "2"},
    "a date": {"retry-after": "Wed, 21 Oct 2099 07:28:00 GMT"},
    "resets": {
        "anthropic-ratelimit-requests-remaining": "49",
        "anthropic-ratelimit-requests-reset": "1970-01-01T00:00:03Z",
        "anthropic-ratelimit-input-tokens-remaining": "0",
        "anthropic-ratelimit-input-tokens-reset": "1970-01-01T00:00:41Z",
    },
}
"""How it says when to come again; dates from a clock that stands at the beginning."""

REFUSALS: Mapping[str, tuple[int, Json]] = {
    "bad prompt": (400, {"message": "messages.0.content.0.image.source: Could not process image"}),
    "too long": (400, {"message": "prompt is too long: 200012 tokens > 200000 maximum"}),
    "wrong key": (401, {"message": "invalid x-api-key"}),
    "no money": (402, {"message": "There is an issue with your billing or payment information."}),
    "no credit": (
        400,
        {
            "message": "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to"
            " upgrade or purchase credits."
        },
    ),
    "spent": (
        400,
        {
            "message": "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00"
            " UTC."
        },
    ),
    "forbidden": (403, {"message": "Your API key does not have permission to use the specified resource."}),
    "no model": (404, {"message": "model: claude-none"}),
    "too large": (413, {"message": "Request exceeds the maximum size"}),
    "too fast": (
        429,
        {
            "message": "This request would exceed your organization's rate limit of 30,000 input tokens per minute"
            f" (org: {ORGANIZATION}, model: m). For details, refer to: https://docs.claude.com/en/api/rate-limits."
        },
    ),
    "failed": (500, {"message": "Internal server error"}),
    "too slow": (504, {"message": "Request timeout"}),
    "overloaded": (529, {"message": "Overloaded"}),
}
"""Status and error, as Anthropic's page of errors and public issues show them."""


def refuse(name: str, headers: Mapping[str, str] | None = None) -> faults.Act:
    """One of `REFUSALS`; for what is too fast, with one of `RETRY_AFTER`."""
    code, error = REFUSALS[name]
    body = error_body(Refused(error["message"], status=code))
    return faults.status(code, body, headers=dict(headers or {}))


def without_stop() -> faults.Act:
    """All of the answer, but for `message_stop`."""
    return faults.transform(lambda payload: [payload.replace(STOPPED, b"")])


def as_json() -> faults.Act:
    """An answer in one message, though a stream was asked for."""

    async def act(exchange: faults.Exchange) -> web.StreamResponse:
        body: Any = read_json(exchange.ask.body)
        body.pop("stream")
        ask = replace(exchange.ask, body=encode_json(body))
        return await exchange.send(exchange.server.reply(ask))

    return act
