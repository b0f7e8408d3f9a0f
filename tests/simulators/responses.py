"""Vendors of Responses: `POST …/responses`, streamed.

What no script says is answered as the echo model would (`gateway.demo.model` has the words). A script may search and
run code too: `simulator.script(Answer((Searches(("rain",), (Found("file-1", "a.pdf", "…"),)), Says("It rains."))))`.
Requests are checked strictly, see `responses_requests`, and how it is streamed is in `responses_answers`.

The refusals of `chat_completions` are these vendors' too, and the other faults those of `faults`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from gateway.demo import echo
from tests.simulators import azure, openai
from tests.simulators.model_simulator import ModelSimulator
from tests.simulators.responses_answers import MANNERS, Manner, Stream, new_id
from tests.simulators.responses_requests import TASTES, Taste, check
from tests.simulators.threads_server.ask import Ask, read_json
from tests.simulators.threads_server.dialect import Dialect, openai_wrong_key
from tests.simulators.threads_server.refusal import Json, Refused
from tests.simulators.threads_server.server import SSE, Reply, json_reply


@dataclass(eq=False)
class Responses(ModelSimulator):
    """`dialect` is how the vendor greets and errs, as for the other simulators; `models` None: there are all."""

    manner: Manner = field(default_factory=Manner)
    taste: Taste = field(default_factory=Taste)
    models: frozenset[str] | None = None
    called: str | None = None
    """The dialect's name in a configuration, where it has one."""
    _sealed: dict[str, dict[str, str]] = field(default_factory=dict, init=False)
    """Account → encrypted content → id of its item."""

    def is_generation(self, path: str) -> bool:
        return path.endswith("/responses")

    @property
    def settings(self) -> Mapping[str, str]:
        dialect = {"dialect": self.called} if self.called else {}
        return {"serve": "threads", "model_api": "responses", **dialect}

    def reply(self, ask: Ask) -> Reply:
        key = self.key_of(ask)
        account = self.keys.get(key or "")
        vendor_headers = self.dialect.headers(account or "", ask.headers)
        try:
            if account is None:
                raise self.dialect.wrong_key(key)
            if (ask.method, ask.path.removeprefix(self.dialect.prefix)) != ("POST", "/responses"):
                raise Refused(f"Invalid URL ({ask.method} {ask.path})", status=404)
            return self._generate(ask, account, vendor_headers)
        except Refused as refused:
            return json_reply(refused.status, self.dialect.error_body(refused), vendor_headers)

    def _generate(self, ask: Ask, account: str, headers: Mapping[str, str]) -> Reply:
        if not ask.headers.get("Content-Type", "").startswith("application/json"):
            raise Refused("Invalid content type: it must be application/json.", status=415)
        body = read_json(ask.body)
        sealed = self._sealed.setdefault(account, {})
        check(body, self.taste, sealed)
        if self.models is not None and body["model"] not in self.models:
            text = f"The model '{body['model']}' does not exist or you do not have access to it."
            raise Refused(text, status=404, code="model_not_found")

        def seal(item_id: str) -> str:
            content = new_id("gAAAAAB")
            sealed[content] = item_id
            return content

        wants_thoughts = "reasoning.encrypted_content" in (body.get("include") or [])
        asked = echo.read(as_chat(body, self.taste))
        stream = Stream(self.manner, body, asked, self.now(), seal if wants_thoughts else None)
        events = tuple(stream.of(self.next_answer(body, asked)))
        if not body.get("stream"):
            last = next(event for event in reversed(events) if event != echo.DONE)
            return json_reply(200, read_json(last.split(b"data: ", 1)[1])["response"], headers)
        return Reply(200, {**headers, "Content-Type": SSE}, events=events)


def as_chat(body: Json, taste: Taste) -> Json:
    """The request as the echo model reads it: in the form of chat completions."""
    given = body["input"]
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    messages: list[Json] = []
    if body.get("instructions") and taste.hears_instructions:
        messages.append({"role": "system", "content": body["instructions"]})
    for item in items:
        match item.get("type", "message"):
            case "message":
                messages.append({"role": item["role"], "content": item["content"]})
            case "function_call":
                if not (messages and messages[-1].get("tool_calls")):
                    messages.append({"role": "assistant", "tool_calls": []})
                messages[-1]["tool_calls"].append({"id": item["call_id"]})
            case "function_call_output":
                messages.append({"role": "tool", "content": item["output"]})
    tools = [{"function": {"name": tool["name"]}} for tool in body.get("tools") or [] if tool["type"] == "function"]
    choice = body.get("tool_choice")
    chosen = {"function": {"name": choice.get("name")}} if isinstance(choice, dict) else choice
    told = {"model": body["model"], "messages": messages, "stream": True, "tools": tools, "tool_choice": chosen}
    return {**told, "parallel_tool_calls": body.get("parallel_tool_calls")}


# The vendors.

_OPENAI = Dialect("openai", prefix="/v1", headers=openai.headers, wrong_key=openai_wrong_key)
_DIALECTS: Mapping[str, Dialect] = {"azure": replace(azure.AZURE, prefix="/openai/v1")}
"""By vendor, where it differs from OpenAI's. The name is the vendor's in a configuration."""


def _maker(vendor: str) -> Callable[..., Responses]:
    called = {"xai": "xai", "open": "openresponses"}.get(vendor)
    taste = TASTES.get(vendor, Taste())
    return partial(Responses, _DIALECTS.get(vendor, _OPENAI), manner=MANNERS[vendor], taste=taste, called=called)


MODELS: Mapping[str, Callable[..., Responses]] = {f"{vendor}_responses": _maker(vendor) for vendor in MANNERS}
"""Makers of simulators by name; `open_responses` is a server of the open specification."""
