"""What vendors of Responses refuse, so that a bad request of the engine shows. Sources: openai-python's types and the
issues that `gateway.engine.models.responses` names, read 2026-11-22.

Not known, and simple here: in which order OpenAI looks at things; the exact words, where nobody has to match them;
whether ids of items of tools that the vendor runs are looked for (here they are not).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.simulators.chat_requests import NAME, REASONING, only, refused, unknown
from tests.simulators.threads_server.refusal import Json, Refused, Rule, missing, wrong_type, wrong_value

_FIELDS = """
background conversation include input instructions max_output_tokens max_tool_calls metadata model
parallel_tool_calls previous_response_id prompt prompt_cache_key prompt_cache_retention reasoning safety_identifier
service_tier store stream stream_options temperature text tool_choice tools top_logprobs top_p truncation user
"""
_KNOWN = frozenset(_FIELDS.split())
_RULES: Mapping[str, Rule] = {
    "model": Rule("a string", (str,)),
    "instructions": Rule("a string", (str,)),
    "include": Rule("an array of strings", (list,)),
    "tools": Rule("an array of objects", (list,), 128),
    "store": Rule("a boolean", (bool,)),
    "stream": Rule("a boolean", (bool,)),
    "parallel_tool_calls": Rule("a boolean", (bool,)),
    "temperature": Rule("a decimal", (int, float), 2, 0),
    "top_p": Rule("a decimal", (int, float), 1, 0),
    "max_output_tokens": Rule("an integer", (int,), None, 16),
    "reasoning": Rule("an object", (dict,)),
    "text": Rule("an object", (dict,)),
}
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_INCLUDES = (
    "file_search_call.results",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
)
_CALL_ID = Rule("a string", (str,), 64)


@dataclass(frozen=True)
class Taste:
    """What one vendor takes. The defaults are OpenAI's."""

    hosted: frozenset[str] = frozenset({"file_search", "code_interpreter"})
    thinks: re.Pattern[str] = REASONING
    """The models for which thoughts may be asked, encrypted; they refuse a temperature."""
    hears_instructions: bool = True
    """Servers were seen that take `instructions` and forget them."""


TASTES = {
    "xai": Taste(hosted=frozenset(), thinks=re.compile("")),
    "open": Taste(hosted=frozenset(), hears_instructions=False),
}
"""Those that differ from OpenAI's."""


def check(body: Json, taste: Taste, sealed: Mapping[str, str]) -> None:
    """Raise `Refused` for the first fault of a request. `sealed` are the encrypted thoughts that this account was
    given, with the ids of their items."""
    for name in ("model", "input"):
        if body.get(name) is None:
            raise missing(name)
    for name in sorted(body.keys() - _KNOWN):
        raise unknown(name)
    for name, rule in _RULES.items():
        if body.get(name) is not None:
            rule.check(name, body[name])
    _check_input(body["input"], taste, sealed, is_stored=body.get("store") is not False)
    _check_tools(body, taste)
    _check_include(body, taste)
    _check_numbers(body, taste)
    _check_format(body)


# Items.


def _check_input(items: Any, taste: Taste, sealed: Mapping[str, str], *, is_stored: bool) -> None:
    if isinstance(items, str):
        return
    if not isinstance(items, list):
        raise wrong_type("input", "one of a string or array of objects", items)
    if not items:
        raise refused("Invalid 'input': empty array. Expected an array with minimum length 1.", "input")
    for place, item in enumerate(items):
        where = f"input[{place}]"
        if not isinstance(item, dict):
            raise wrong_type(where, "an object", item)
        kind = item.get("type", "message")
        if kind == "message":
            _check_message(item, where)
        elif (fields := _ITEMS.get(kind)) is None or (
            kind.removesuffix("_call") not in (kind, *taste.hosted, "function")
        ):
            raise wrong_value(f"{where}.type", kind, sorted(_ITEMS))
        else:
            _check_item(item, where, *fields)
        if not is_stored and "id" in item and kind in ("message", "function_call", "function_call_output"):
            raise _not_found(item["id"])
        if kind == "reasoning":
            _check_thoughts(item, items[place + 1 :], sealed, is_stored=is_stored)
    _check_calls_are_answered(items)


_ITEMS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    "function_call": (frozenset({"call_id", "name", "arguments"}), frozenset({"id", "status"})),
    "function_call_output": (frozenset({"call_id", "output"}), frozenset({"id", "status"})),
    "reasoning": (frozenset({"id", "summary"}), frozenset({"encrypted_content", "content", "status"})),
    "file_search_call": (frozenset({"id", "queries", "status"}), frozenset({"results"})),
    "code_interpreter_call": (frozenset({"id", "code", "container_id", "outputs", "status"}), frozenset()),
}
"""Type → fields that must be there, and that may."""
_HOSTED = {"file_search_call": "file_search", "code_interpreter_call": "code_interpreter"}
_PARTS: Mapping[str, tuple[str, ...]] = {
    "user": ("input_text", "input_image", "input_file"),
    "system": ("input_text",),
    "developer": ("input_text",),
    "assistant": ("output_text",),
}


def _check_item(item: Json, where: str, must: frozenset[str], may: frozenset[str]) -> None:
    only(item, {"type", *must, *may}, where)
    for name in sorted(must):
        if name not in item:
            raise missing(f"{where}.{name}")
    if "call_id" in item:
        _CALL_ID.check(f"{where}.call_id", item["call_id"])
    for name in ("name", "arguments", "output"):
        if name in item and not isinstance(item[name], str):
            raise wrong_type(f"{where}.{name}", "a string", item[name])


def _check_message(item: Json, where: str) -> None:
    if (role := item.get("role")) not in _PARTS:
        raise wrong_value(f"{where}.role", role, tuple(_PARTS))
    only(item, {"type", "role", "content", *(("id", "status", "phase") if role == "assistant" else ())}, where)
    content = item.get("content")
    if isinstance(content, str):
        return
    if not isinstance(content, list):
        raise wrong_type(f"{where}.content", "one of a string or array of objects", content)
    for place, part in enumerate(content):
        _check_part(part, f"{where}.content[{place}]", _PARTS[role])


def _check_part(part: Any, where: str, kinds: tuple[str, ...]) -> None:
    if not isinstance(part, dict):
        raise wrong_type(where, "an object", part)
    if (kind := part.get("type")) not in kinds:
        raise wrong_value(f"{where}.type", kind, kinds)
    if kind != "input_image":
        only(part, {"type", "text"}, where)
        if not isinstance(part.get("text"), str):
            raise wrong_type(f"{where}.text", "a string", part.get("text"))
        return
    only(part, {"type", "image_url", "file_id", "detail"}, where)
    if part.get("detail") not in ("auto", "low", "high", "original"):
        raise wrong_value(f"{where}.detail", part.get("detail"), ("low", "high", "auto", "original"))
    url = part.get("image_url")
    if (url is None) == (part.get("file_id") is None):
        raise refused(f"Missing required parameter: '{where}.image_url' or '{where}.file_id'.", f"{where}.image_url")
    if url is not None and not re.match(r"https?://|data:image/[a-z]+;base64,", str(url)):
        raise refused("Invalid image URL: it is neither http(s) nor a data URL.", f"{where}.image_url")


def _check_thoughts(item: Json, behind: list[Any], sealed: Mapping[str, str], *, is_stored: bool) -> None:
    if not behind:
        text = f"Item '{item['id']}' of type 'reasoning' was provided without its required following item."
        raise refused(text, "input")
    content = item.get("encrypted_content")
    if content is None:
        if not is_stored and not item.get("content"):
            raise _not_found(item["id"])
        return
    if sealed.get(content) != item["id"]:
        text = f"The encrypted content for item {item['id']} could not be verified."
        raise refused(f"{text} Reason: Encrypted content item_id did not match the target item id.")


def _not_found(item_id: Any) -> Refused:
    text = f"Item with id '{item_id}' not found. Items are not persisted when `store` is set to false."
    told = "Try again with `store` set to true, or remove this item from your input."
    return Refused(f"{text} {told}", status=404, param="input")


def _check_calls_are_answered(items: list[Json]) -> None:
    calls = [item["call_id"] for item in items if item.get("type") == "function_call"]
    seen: set[str] = set()
    for item in items:
        call_id = item.get("call_id")
        if item.get("type") == "function_call":
            seen.add(str(call_id))
        elif item.get("type") == "function_call_output" and call_id not in seen:
            raise refused(f"No tool call found for function call output with call_id {call_id}.", "input")
    if len(calls) != len(set(calls)):
        raise refused("Two function calls have the same call_id.", "input")
    answered = {item["call_id"] for item in items if item.get("type") == "function_call_output"}
    for call_id in calls:
        if call_id not in answered:
            raise refused(f"No tool output found for function call {call_id}.", "input")


# Tools.


def _check_tools(body: Json, taste: Taste) -> None:
    tools = body.get("tools") or []
    names = [_check_tool(tool, f"tools[{place}]", taste) for place, tool in enumerate(tools)]
    choice = body.get("tool_choice")
    if isinstance(choice, dict):
        only(choice, {"type", "name"} if choice.get("type") == "function" else {"type"}, "tool_choice")
        if choice.get("name", choice.get("type")) not in names:
            text = f"Tool choice '{choice.get('name', choice.get('type'))}' not found in 'tools' parameter."
            raise refused(text, "tool_choice")
    elif choice is not None and choice not in ("auto", "none", "required"):
        raise wrong_value("tool_choice", choice, ("none", "auto", "required"))
    if choice == "required" and not tools:
        raise refused("Tool choice 'required' must be specified with 'tools' parameter.", "tool_choice")


def _check_tool(tool: Any, where: str, taste: Taste) -> str:
    """The name by which it may be chosen."""
    if not isinstance(tool, dict):
        raise wrong_type(where, "an object", tool)
    kind = tool.get("type")
    if kind in taste.hosted:
        _check_hosted(tool, where)
        return str(kind)
    if kind != "function":
        raise wrong_value(f"{where}.type", kind, ("function", *sorted(taste.hosted)))
    only(tool, {"type", "name", "description", "parameters", "strict"}, where)
    name = tool.get("name")
    if not isinstance(name, str):
        raise missing(f"{where}.name")
    if not NAME.fullmatch(name):
        raise refused(f"Invalid '{where}.name': string does not match pattern.", f"{where}.name")
    for field, types in {"parameters": (dict, type(None)), "strict": (bool, type(None)), "description": (str,)}.items():
        if field not in tool and field != "description":
            raise missing(f"{where}.{field}")
        if field in tool and not isinstance(tool[field], types):
            raise wrong_type(f"{where}.{field}", f"one of {types}", tool[field])
    if tool["strict"] and (tool["parameters"] or {}).get("additionalProperties") is not False:
        text = "'additionalProperties' is required to be supplied and to be false."
        raise refused(f"Invalid schema for function '{name}': {text}", code="invalid_function_parameters")
    return name


def _check_hosted(tool: Json, where: str) -> None:
    if tool["type"] == "file_search":
        only(tool, {"type", "vector_store_ids", "max_num_results", "ranking_options", "filters"}, where)
        stores = tool.get("vector_store_ids")
        if not isinstance(stores, list) or not stores:
            raise missing(f"{where}.vector_store_ids")
        if "max_num_results" in tool:
            Rule("an integer", (int,), 50, 1).check(f"{where}.max_num_results", tool["max_num_results"])
        ranking = tool.get("ranking_options", {})
        only(ranking, {"ranker", "score_threshold", "hybrid_search"}, f"{where}.ranking_options")
        if ranking.get("ranker", "auto") not in ("auto", "default-2024-11-15"):
            raise wrong_value(f"{where}.ranking_options.ranker", ranking["ranker"], ("auto", "default-2024-11-15"))
        return
    only(tool, {"type", "container"}, where)
    container = tool.get("container")
    if container is None:
        raise missing(f"{where}.container")
    if isinstance(container, dict):
        only(container, {"type", "file_ids", "memory_limit"}, f"{where}.container")
        if container.get("type") != "auto":
            raise wrong_value(f"{where}.container.type", container.get("type"), ("auto", "auto"))


# The rest.


def _check_include(body: Json, taste: Taste) -> None:
    for wanted in body.get("include") or []:
        if wanted not in _INCLUDES:
            raise wrong_value("include", wanted, _INCLUDES)
        if wanted == "reasoning.encrypted_content" and not taste.thinks.match(body["model"]):
            raise refused("Encrypted content is not supported with this model.", "include")


def _check_numbers(body: Json, taste: Taste) -> None:
    if REASONING.match(body["model"]) and body.get("temperature") is not None:
        raise refused("Unsupported parameter: 'temperature' is not supported with this model.", "temperature")
    if (reasoning := body.get("reasoning")) is not None:
        only(reasoning, {"effort", "summary"}, "reasoning")
        if reasoning.get("effort") not in (None, *_EFFORTS):
            raise wrong_value("reasoning.effort", reasoning["effort"], _EFFORTS)
        if not taste.thinks.match(body["model"]):
            text = "Unsupported parameter: 'reasoning.effort' is not supported with this model."
            raise refused(text, "reasoning.effort", "unsupported_parameter")


def _check_format(body: Json) -> None:
    if (text := body.get("text")) is None:
        return
    only(text, {"format", "verbosity"}, "text")
    wanted = text.get("format") or {"type": "text"}
    if (kind := wanted.get("type")) not in ("text", "json_object", "json_schema"):
        raise wrong_value("text.format.type", kind, ("json_object", "json_schema", "text"))
    if kind == "json_object" and "json" not in json.dumps(body["input"]).lower():
        raise refused("Response input messages must contain the word 'json' in some form.", "input")
    if kind == "json_schema":
        only(wanted, {"type", "name", "description", "schema", "strict"}, "text.format")
        for name in ("name", "schema"):
            if name not in wanted:
                raise missing(f"text.format.{name}")
        if wanted.get("strict") and wanted["schema"].get("additionalProperties") is not False:
            raise refused("Invalid schema for response_format: 'additionalProperties' is required to be false.")
    elif wanted.keys() != {"type"}:
        only(wanted, {"type"}, "text.format")
