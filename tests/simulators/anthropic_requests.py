"""What Anthropic's Messages API refuses, so that a bad request of the engine shows. Sources: Anthropic's documentation
and SDK, and the issues that `gateway.engine.models.anthropic_messages` names, read 2026-11-22; sentences as public
issues show them, where they do.

Stricter than it may be: the first message has to be the user's, the last one too, as newer models have it;
`temperature` and `top_p` exclude each other. Not known, and simple here: in which order it looks at things.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from tests.simulators.threads_server.refusal import Json, Refused

_FIELDS = """
cache_control container inference_geo max_tokens messages metadata model output_config service_tier stop_sequences
stream system temperature thinking tool_choice tools top_k top_p
"""
FIELDS = frozenset(_FIELDS.split())
EFFORTS = ("low", "medium", "high", "xhigh", "max")
MOST_MARKS = 4
_CALL_ID = re.compile(r"[a-zA-Z0-9_-]+")
_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_MEDIA_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")

_BLOCKS: Mapping[str, tuple[str, frozenset[str], frozenset[str]]] = {
    "text": ("user assistant", frozenset({"text"}), frozenset({"citations", "cache_control"})),
    "image": ("user", frozenset({"source"}), frozenset({"cache_control"})),
    "tool_result": ("user", frozenset({"tool_use_id"}), frozenset({"content", "is_error", "cache_control"})),
    "tool_use": ("assistant", frozenset({"id", "name", "input"}), frozenset({"caller", "cache_control"})),
    "thinking": ("assistant", frozenset({"thinking", "signature"}), frozenset()),
    "redacted_thinking": ("assistant", frozenset({"data"}), frozenset()),
}
"""Kind of block → the roles that may say it, the fields it needs, and those it may have. Those of server tools,
documents and the like are left out: nobody here sends them."""


def refused(message: str) -> Refused:
    return Refused(message)


def check(body: Json, *, most_tokens: int) -> None:
    """Raise `Refused` for the first fault of a request."""
    _only(body, FIELDS, "")
    for name in ("model", "max_tokens", "messages"):
        if body.get(name) is None:
            raise refused(f"{name}: Field required")
    limit = body["max_tokens"]
    if type(limit) is not int or limit < 1:
        raise refused("max_tokens: Input should be greater than or equal to 1")
    if limit > most_tokens:
        told = f"max_tokens: {limit} > {most_tokens}, which is the maximum allowed number of output tokens for"
        raise refused(f"{told} {body['model']}")
    _check_sampling(body)
    _check_system(body.get("system"))
    _check_tools(body)
    _check_output(body.get("output_config"))
    _check_messages(body["messages"], has_tools=bool(body.get("tools")))
    if (found := len(marked(body))) > MOST_MARKS:
        raise refused(f"A maximum of {MOST_MARKS} blocks with cache_control may be provided. Found {found}.")


def blocks_of(body: Json) -> list[Json]:
    """All that can be marked, in the order in which the model hears it."""
    system = body.get("system")
    said = [each["content"] for each in body["messages"]]
    return [
        *(body.get("tools") or ()),
        *(system if isinstance(system, list) else ()),
        *(block for content in said if isinstance(content, list) for block in content),
    ]


def marked(body: Json) -> list[Json]:
    return [block for block in blocks_of(body) if block.get("cache_control") is not None]


def _only(value: Json, names: Collection[str], place: str) -> None:
    for name in sorted(value.keys() - set(names)):
        raise refused(f"{place}{name}: Extra inputs are not permitted")


def _check_sampling(body: Json) -> None:
    for name in ("temperature", "top_p"):
        value = body.get(name, 1)
        if type(value) not in (int, float) or not 0 <= value <= 1:
            raise refused(f"{name}: range: 0..1")
    if "temperature" in body and "top_p" in body:
        raise refused("`temperature` and `top_p` cannot both be specified for this model. Please use only one.")


def _check_system(system: Any) -> None:
    if system is None or isinstance(system, str):
        return
    if not isinstance(system, list) or not system:
        raise refused("system: Input should be a valid list")
    for place, block in enumerate(system):
        _check_block(block, "user", f"system.{place}.")


def _check_output(config: Any) -> None:
    if config is None:
        return
    _only(config, {"effort", "format"}, "output_config.")
    if config.get("effort", "high") not in EFFORTS:
        raise refused(f"output_config.effort: Input should be {', '.join(EFFORTS)}")
    if (wanted := config.get("format")) is not None:
        _only(wanted, {"type", "schema"}, "output_config.format.")
        if wanted.get("type") != "json_schema" or not isinstance(wanted.get("schema"), dict):
            raise refused("output_config.format: Input should be a JSON schema")
        _check_closed(wanted["schema"], "output_config.format.schema")


def _check_closed(schema: Json, place: str) -> None:
    """Only of the outermost object, where whoever forgets it forgets it first."""
    if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
        raise refused(f"{place}: For 'object' type, 'additionalProperties' must be explicitly set to false")


# Tools.


def _check_tools(body: Json) -> None:
    tools = body.get("tools") or []
    for place, tool in enumerate(tools):
        _check_tool(tool, f"tools.{place}.custom.")
    choice = body.get("tool_choice")
    if choice is None:
        return
    if not tools:
        raise refused("tool_choice: tool_choice may only be specified while providing tools")
    kind = choice.get("type")
    if kind not in ("auto", "any", "tool", "none"):
        raise refused("tool_choice: Input tag does not match any of the expected tags: 'auto', 'any', 'tool', 'none'")
    more = {"none": set(), "tool": {"disable_parallel_tool_use", "name"}}.get(kind, {"disable_parallel_tool_use"})
    _only(choice, {"type", *more}, f"tool_choice.{kind}.")
    if kind == "tool" and choice.get("name") not in [tool["name"] for tool in tools]:
        raise refused(f"Tool '{choice.get('name')}' not found in provided tools")


def _check_tool(tool: Json, place: str) -> None:
    _only(tool, {"name", "description", "input_schema", "strict", "type", "cache_control"}, place)
    if not isinstance(tool.get("name"), str) or not _TOOL_NAME.fullmatch(tool["name"]):
        raise refused(f"{place}name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
    schema = tool.get("input_schema")
    if not isinstance(schema, dict) or schema.get("type") != "object":
        raise refused(f"{place}input_schema.type: Field required")
    if not isinstance(tool.get("description", ""), str):
        raise refused(f"{place}description: Input should be a valid string")
    if tool.get("strict"):
        _check_closed(schema, f"{place}input_schema")


# Messages.


def _check_messages(messages: Any, *, has_tools: bool) -> None:
    if not isinstance(messages, list) or not messages:
        raise refused("messages: at least one message is required")
    for place, message in enumerate(messages):
        _only(message, {"role", "content"}, f"messages.{place}.")
        if message.get("role") not in ("user", "assistant"):
            raise refused(f"messages.{place}.role: Input should be 'user' or 'assistant'")
        content = message.get("content")
        if isinstance(content, str):
            content = [{"type": "text", "text": content}]
        if not isinstance(content, list) or not content:
            raise refused(f"messages.{place}: all messages must have non-empty content")
        for number, block in enumerate(content):
            _check_block(block, message["role"], f"messages.{place}.content.{number}.")
            if block["type"] in ("tool_use", "tool_result") and not has_tools:
                raise refused("Requests which include `tool_use` or `tool_result` blocks must define tools")
    if messages[0]["role"] != "user":
        raise refused('messages: first message must use the "user" role')
    _check_calls(messages)
    if messages[-1]["role"] != "user":
        text = "This model does not support assistant message prefill."
        raise refused(f"{text} The conversation must end with a user message.")


def _check_block(block: Any, role: str, place: str) -> None:
    kind = block.get("type") if isinstance(block, dict) else None
    if kind not in _BLOCKS or role not in _BLOCKS[kind][0].split():
        raise refused(f"{place.removesuffix('.')}: Input tag '{kind}' does not match any of the expected tags")
    _, needed, more = _BLOCKS[kind]
    _only(block, {"type", *needed, *more}, f"{place}{kind}.")
    for name in sorted(needed - block.keys()):
        raise refused(f"{place}{kind}.{name}: Field required")
    match kind:
        case "text":
            if not isinstance(block["text"], str):
                raise refused(f"{place}text.text: Input should be a valid string")
            if not block["text"].strip():
                raise refused("messages: text content blocks must contain non-whitespace text")
        case "image":
            _check_source(block["source"], f"{place}image.source.")
        case "tool_use":
            if not isinstance(block["id"], str) or not _CALL_ID.fullmatch(block["id"]):
                raise refused(f"{place}tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'")
            if not isinstance(block["input"], dict):
                raise refused(f"{place}tool_use.input: Input should be a valid dictionary")
        case "tool_result":
            if "content" in block and not isinstance(block["content"], str | list):
                raise refused(f"{place}tool_result.content: Input should be a valid string")


def _check_source(source: Json, place: str) -> None:
    match source.get("type"):
        case "base64":
            _only(source, {"type", "media_type", "data"}, place)
            if source.get("media_type") not in _MEDIA_TYPES:
                raise refused(f"{place}base64.media_type: Input should be {', '.join(_MEDIA_TYPES)}")
        case "url":
            _only(source, {"type", "url"}, place)
            if not re.match("https?://", str(source.get("url"))):
                raise refused(f"{place}url.url: Only HTTPS URLs are supported.")
        case kind:
            raise refused(f"{place}type: Input tag '{kind}' does not match any of the expected tags")


def _check_calls(messages: list[Json]) -> None:
    """Each call right behind it, in the next message, by one result that stands before anything else."""
    waiting: list[str] = []
    seen: set[str] = set()
    for place, message in enumerate(messages):
        content = message["content"] if isinstance(message["content"], list) else []
        answered = [block["tool_use_id"] for block in content if block["type"] == "tool_result"]
        for name in answered:
            if name not in waiting:
                text = f"messages.{place}: unexpected `tool_use_id` found in `tool_result` blocks: {name}. Each"
                raise refused(
                    f"{text} `tool_result` block must have a corresponding `tool_use` block in the previous message."
                )
        early = [block["type"] for block in content[: len(answered)]]
        if left := [name for name in waiting if name not in answered or set(early) != {"tool_result"}]:
            text = f"messages.{place - 1}: `tool_use` ids were found without `tool_result` blocks immediately after:"
            told = "Each `tool_use` block must have a corresponding `tool_result` block in the next message."
            raise refused(f"{text} {', '.join(left)}. {told}")
        waiting = [block["id"] for block in content if block["type"] == "tool_use"]
        if len(set(waiting)) < len(waiting) or seen & set(waiting):
            raise refused(f"messages.{place}: `tool_use` ids must be unique")
        seen |= set(waiting)
    if waiting:
        text = "messages: `tool_use` ids were found without `tool_result` blocks immediately after:"
        raise refused(f"{text} {', '.join(waiting)}.")
