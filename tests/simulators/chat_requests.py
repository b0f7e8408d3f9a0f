"""What vendors of chat completions refuse, so that a bad request of the engine shows. The rules are OpenAI's; each says
where another vendor has one of its own. Sources: OpenAI's reference and the issues that
`gateway.engine.models.chat_completions` names, read 2026-11-22.

Not known, and simple here: in which order OpenAI looks at things; the exact words, where nobody has to match them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from tests.simulators.threads_server.refusal import Json, Refused, Rule, missing, wrong_type, wrong_value

_FIELDS = """
audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens
messages metadata modalities model n parallel_tool_calls prediction presence_penalty
prompt_cache_key prompt_cache_retention reasoning_effort response_format safety_identifier seed
service_tier stop store stream stream_options temperature tool_choice tools top_logprobs top_p user
verbosity web_search_options
"""
OPENAIS_FIELDS = frozenset(_FIELDS.split())
_NULLABLE = frozenset(
    {"max_completion_tokens", "max_tokens", "reasoning_effort", "stream", "stream_options", "temperature", "top_p"}
)
NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
REASONING = re.compile(r"o\d|gpt-5(?!-chat)")
"""Models that think, and refuse `max_tokens` and any temperature but 1 (gollm#33)."""

_RULES: Mapping[str, Rule] = {
    "model": Rule("a string", (str,)),
    "messages": Rule("an array of objects", (list,)),
    "tools": Rule("an array of objects", (list,), 128),
    "stream": Rule("a boolean", (bool,)),
    "stream_options": Rule("an object", (dict,)),
    "parallel_tool_calls": Rule("a boolean", (bool,)),
    "temperature": Rule("a decimal", (int, float), 2, 0),
    "top_p": Rule("a decimal", (int, float), 1, 0),
    "max_tokens": Rule("an integer", (int,), None, 1),
    "max_completion_tokens": Rule("an integer", (int,), None, 1),
    "response_format": Rule("an object", (dict,)),
}
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh")


@dataclass(frozen=True)
class Taste:
    """What one vendor takes. The defaults are OpenAI's."""

    lacks: frozenset[str] = frozenset()
    """Fields of OpenAI's that it refuses."""
    unknown_status: int = 400
    wants_turns: bool = False
    """Whether a user's message may not follow a tool's, nor a message one of its own role, nor an assistant's be last
    (smolagents#757)."""
    call_id: re.Pattern[str] = field(default_factory=lambda: re.compile(r".{1,40}", re.DOTALL))
    in_messages: frozenset[str] = frozenset()
    """What it takes in an assistant's message besides, and wants with the calls it led to."""
    in_calls: frozenset[str] = frozenset()
    """What it takes in a call besides, and wants with its own."""
    formats: frozenset[str] = frozenset({"text", "json_object", "json_schema"})


TASTES = {
    "openai": Taste(),
    "mistral": Taste(
        frozenset({"stream_options", "max_completion_tokens"}),
        unknown_status=422,
        wants_turns=True,
        call_id=re.compile("[A-Za-z0-9]{9}"),
    ),
    "deepseek": Taste(
        frozenset({"parallel_tool_calls"}),
        in_messages=frozenset({"reasoning_content"}),
        formats=frozenset({"text", "json_object"}),
    ),
    "gemini": Taste(in_calls=frozenset({"extra_content"})),
}
"""Those that differ from OpenAI's."""


def check(body: Json, taste: Taste) -> None:
    """Raise `Refused` for the first fault of a request."""
    for name in ("model", "messages"):
        if body.get(name) is None:
            raise missing(name)
    for name in sorted(body.keys() - (OPENAIS_FIELDS - taste.lacks)):
        raise unknown(name, taste.unknown_status)
    for name, rule in _RULES.items():
        if name in body and (body[name] is not None or name not in _NULLABLE):
            rule.check(name, body[name])
    _check_messages(body["messages"], taste)
    _check_tools(body)
    _check_numbers(body)
    _check_format(body, taste)
    if (options := body.get("stream_options")) is not None:
        if not body.get("stream"):
            raise refused("The 'stream_options' parameter is only allowed when 'stream' is enabled.", "stream_options")
        only(options, {"include_usage", "include_obfuscation"}, "stream_options")


def refused(message: str, param: str | None = None, code: str | None = None) -> Refused:
    return Refused(message, param=param, code=code)


def unknown(name: str, status: int = 400) -> Refused:
    return Refused(f"Unknown parameter: '{name}'.", status=status, param=name, code="unknown_parameter")


def only(value: Json, names: Collection[str], place: str) -> None:
    for name in sorted(value.keys() - set(names)):
        raise unknown(f"{place}.{name}")


# Messages.

_ROLES: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    "system": (frozenset({"name"}), frozenset({"text"})),
    "developer": (frozenset({"name"}), frozenset({"text"})),
    "user": (frozenset({"name"}), frozenset({"text", "image_url", "input_audio", "file"})),
    "assistant": (frozenset({"name", "refusal", "tool_calls"}), frozenset({"text", "refusal"})),
    "tool": (frozenset({"tool_call_id"}), frozenset({"text"})),
}
"""Role → fields besides `role` and `content`, and kinds of parts."""


def _check_messages(messages: list[Any], taste: Taste) -> None:
    if not messages:
        raise refused("Invalid 'messages': empty array. Expected an array with minimum length 1.", "messages")
    for place, message in enumerate(messages):
        where = f"messages[{place}]"
        if not isinstance(message, dict):
            raise wrong_type(where, "an object", message)
        if "role" not in message:
            raise missing(f"{where}.role")
        if (role := message["role"]) not in _ROLES:
            raise wrong_value(f"{where}.role", role, tuple(_ROLES))
        _check_message(message, where, taste)
    _check_calls_are_answered(messages)
    if taste.wants_turns:
        _check_turns(messages)


def _check_message(message: Json, where: str, taste: Taste) -> None:
    role, content = message["role"], message.get("content")
    names, kinds = _ROLES[role]
    more = taste.in_messages if role == "assistant" else frozenset()
    only(message, {"role", "content", *names, *more}, where)
    if "tool_calls" in message:
        _check_calls(message["tool_calls"], f"{where}.tool_calls", taste)
    if role == "tool" and not isinstance(message.get("tool_call_id"), str):
        raise missing(f"{where}.tool_call_id")
    if content is None:
        if role != "assistant" or not (message.get("tool_calls") or message.get("refusal")):
            raise refused(f"Invalid value for 'content': expected a string, got null. ({where})", f"{where}.content")
    elif isinstance(content, list):
        if not content:
            raise refused(f"Invalid '{where}.content': empty array.", f"{where}.content")
        for place, part in enumerate(content):
            _check_part(part, f"{where}.content[{place}]", kinds)
    elif not isinstance(content, str):
        raise wrong_type(f"{where}.content", "one of a string or array of objects", content)


def _check_part(part: Any, where: str, kinds: frozenset[str]) -> None:
    if not isinstance(part, dict):
        raise wrong_type(where, "an object", part)
    if (kind := part.get("type")) not in kinds:
        raise wrong_value(f"{where}.type", kind, sorted(kinds))
    only(part, {"type", str(kind)}, where)
    if kind != "image_url":
        if kind in ("text", "refusal") and not isinstance(part.get(kind), str):
            raise wrong_type(f"{where}.{kind}", "a string", part.get(kind))
        return
    image = part.get("image_url")
    if not isinstance(image, dict):
        raise wrong_type(f"{where}.image_url", "an object", image)
    only(image, {"url", "detail"}, f"{where}.image_url")
    if not re.match(r"https?://|data:image/[a-z]+;base64,", str(image.get("url"))):
        raise refused("Invalid image URL: it is neither http(s) nor a data URL.", f"{where}.image_url.url")
    if "detail" in image and image["detail"] not in ("auto", "low", "high"):
        raise wrong_value(f"{where}.image_url.detail", image["detail"], ("low", "high", "auto"))


def _check_calls(calls: Any, where: str, taste: Taste) -> None:
    if not isinstance(calls, list):
        raise wrong_type(where, "an array of objects", calls)
    if not calls:
        raise refused(f"Invalid '{where}': empty array. Expected an array with minimum length 1.", where)
    for place, call in enumerate(calls):
        here = f"{where}[{place}]"
        if not isinstance(call, dict):
            raise wrong_type(here, "an object", call)
        only(call, {"id", "type", "function", *taste.in_calls}, here)
        for name in ("id", "type", "function"):
            if name not in call:
                raise missing(f"{here}.{name}")
        if not isinstance(call["id"], str) or not taste.call_id.fullmatch(call["id"]):
            raise refused(f"Invalid '{here}.id': not of a form that is accepted.", f"{here}.id")
        if call["type"] != "function":
            raise wrong_value(f"{here}.type", call["type"], ("function", "custom"))
        only(call["function"], {"name", "arguments"}, f"{here}.function")
        for name in ("name", "arguments"):
            if not isinstance(call["function"].get(name), str):
                raise wrong_type(f"{here}.function.{name}", "a string", call["function"].get(name))


def _check_calls_are_answered(messages: list[Json]) -> None:
    """Each call right behind it, by one message of a tool, and nothing else there."""
    waiting: set[str] = set()
    for place, message in enumerate(messages):
        if message["role"] == "tool":
            if (call_id := message["tool_call_id"]) not in waiting:
                text = "Invalid parameter: messages with role 'tool' must be a response to a preceding message with"
                raise refused(f"{text} 'tool_calls' (id {call_id!r}).", f"messages.[{place}].role")
            waiting.remove(call_id)
            continue
        if waiting:
            break
        ids = [call["id"] for call in message.get("tool_calls", ())]
        waiting = set(ids)
        if len(ids) != len(waiting):
            raise refused("Two tool calls of one message have the same id.", f"messages.[{place}].tool_calls")
    if waiting:
        text = "An assistant message with 'tool_calls' must be followed by tool messages responding to each"
        told = f"{text} 'tool_call_id'. The following tool_call_ids did not have response messages: "
        raise refused(told + ", ".join(sorted(waiting)), "messages")


def _check_turns(messages: list[Json]) -> None:
    for before, message in pairwise(messages):
        roles = before["role"], message["role"]
        if roles in {("user", "user"), ("assistant", "assistant"), ("tool", "user")}:
            raise refused(f"Unexpected role '{roles[1]}' after role '{roles[0]}'")
    if messages[-1]["role"] == "assistant":
        raise refused("Expected last role User or Tool (or Assistant with prefix True) for serving but got assistant")


def check_sent_back(messages: list[Json], owed: Mapping[tuple[str, str], str], taste: Taste) -> None:
    """Raise `Refused` unless the calls of this turn come with what the vendor gave with them. `owed` has the field by
    name and arguments of a call."""
    last = max((place for place, message in enumerate(messages) if message["role"] == "user"), default=-1)
    for place, message in enumerate(messages[last + 1 :], last + 1):
        for call in message.get("tool_calls", ()):
            name = owed.get((call["function"]["name"], call["function"]["arguments"]))
            if name is not None and name not in (message if name in taste.in_messages else call):
                raise refused(f"The '{name}' of a call must be passed back.", f"messages[{place}]")


# Tools.


def _check_tools(body: Json) -> None:
    tools = body.get("tools")
    if tools == []:
        raise refused("Invalid 'tools': empty array. Expected an array with minimum length 1.", "tools")
    for name in ("tool_choice", "parallel_tool_calls"):
        if tools is None and name in body and body[name] != "none":
            raise refused(f"'{name}' is only allowed when 'tools' are specified.", name)
    names = [_check_tool(tool, f"tools[{place}]") for place, tool in enumerate(tools or [])]
    choice = body.get("tool_choice")
    if isinstance(choice, dict):
        only(choice, {"type", "function"}, "tool_choice")
        if choice.get("type") != "function" or choice.get("function", {}).get("name") not in names:
            raise refused("Invalid value for 'tool_choice': no tool has this name.", "tool_choice")
    elif choice is not None and choice not in ("auto", "none", "required"):
        raise wrong_value("tool_choice", choice, ("none", "auto", "required"))
    if body.get("parallel_tool_calls") is not None and re.match(r"o\d", body["model"]):
        raise refused("Unsupported parameter: 'parallel_tool_calls' is not supported with this model.")


def _check_tool(tool: Any, where: str) -> str:
    if not isinstance(tool, dict):
        raise wrong_type(where, "an object", tool)
    if tool.get("type") != "function":
        raise wrong_value(f"{where}.type", tool.get("type"), ("function", "custom"))
    only(tool, {"type", "function"}, where)
    function = tool.get("function")
    if not isinstance(function, dict):
        raise missing(f"{where}.function")
    only(function, {"name", "description", "parameters", "strict"}, f"{where}.function")
    name, strict = function.get("name"), function.get("strict")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise refused(f"Invalid '{where}.function.name': string does not match pattern.", f"{where}.function.name")
    if not isinstance(function.get("description", ""), str):
        raise wrong_type(f"{where}.function.description", "a string", function["description"])
    if not isinstance(parameters := function.get("parameters", {}), dict):
        raise wrong_type(f"{where}.function.parameters", "an object", parameters)
    if strict is not None and not isinstance(strict, bool):
        raise wrong_type(f"{where}.function.strict", "a boolean", strict)
    if strict:
        _check_strict(parameters, f"function '{name}'")
    return name


def _check_strict(schema: Json, whose: str) -> None:
    """Only of the outermost object, where whoever forgets it forgets it first."""
    if schema.get("additionalProperties") is not False:
        raise refused(
            f"Invalid schema for {whose}: 'additionalProperties' is required to be supplied and to be false.",
            code="invalid_function_parameters",
        )


# The rest.


def _check_numbers(body: Json) -> None:
    if "max_tokens" in body and "max_completion_tokens" in body:
        raise refused("Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.")
    if not REASONING.match(body["model"]):
        return
    if "max_tokens" in body:
        text = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'."
        raise refused(text, "max_tokens", "unsupported_parameter")
    if body.get("temperature", 1) != 1:
        text = "Unsupported value: 'temperature' does not support this with this model. Only the default (1) is."
        raise refused(text, "temperature", "unsupported_value")


def _check_format(body: Json, taste: Taste) -> None:
    effort = body.get("reasoning_effort")
    if effort is not None and effort not in _EFFORTS:
        raise wrong_value("reasoning_effort", effort, _EFFORTS)
    wanted = body.get("response_format")
    if wanted is None:
        return
    if (kind := wanted.get("type")) not in taste.formats:
        raise wrong_value("response_format.type", kind, sorted(taste.formats))
    if kind == "json_object" and "json" not in json.dumps(body["messages"]).lower():
        text = "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'."
        raise refused(text, "messages")
    if kind == "json_schema":
        told = wanted.get("json_schema")
        if not isinstance(told, dict):
            raise missing("response_format.json_schema")
        only(told, {"name", "description", "schema", "strict"}, "response_format.json_schema")
        if not NAME.fullmatch(str(told.get("name", ""))):
            raise missing("response_format.json_schema.name")
        if told.get("strict"):
            _check_strict(told.get("schema", {}), f"response_format '{told['name']}'")
