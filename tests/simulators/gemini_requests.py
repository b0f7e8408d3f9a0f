"""What Gemini refuses, so that a bad request of the engine shows. Sources: those that `gateway.engine.models.gemini`
names, read 2026-11-22; the words are those of public issues where they were seen.

Not known, and strict here: whether contents may begin with the model; whether neighbours of one role, as python-genai's
chats send them, are one turn; in which order things are looked at.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from tests.simulators.threads_server.refusal import Json, Refused

SKIP = "skip_thought_signature_validator"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,127}")
_CONFIG = """
candidateCount frequencyPenalty imageConfig logprobs maxOutputTokens mediaResolution presencePenalty responseJsonSchema
responseLogprobs responseMimeType responseModalities responseSchema seed speechConfig stopSequences temperature
thinkingConfig topK topP
"""
_FIELDS: Mapping[str, frozenset[str]] = {
    name: frozenset(fields.split())
    for name, fields in {
        "": "contents tools toolConfig safetySettings systemInstruction generationConfig cachedContent serviceTier",
        "content": "role parts",
        "part": "text inlineData fileData functionCall functionResponse thought thoughtSignature mediaResolution",
        "inlineData": "mimeType data",
        "fileData": "mimeType fileUri",
        "functionCall": "id name args",
        "functionResponse": "id name response",
        "tool": "functionDeclarations googleSearch codeExecution urlContext",
        "function": "name description parameters parametersJsonSchema response responseJsonSchema behavior",
        "toolConfig": "functionCallingConfig retrievalConfig",
        "functionCallingConfig": "mode allowedFunctionNames",
        "generationConfig": _CONFIG,
        "thinkingConfig": "includeThoughts thinkingBudget thinkingLevel",
    }.items()
}
"""Kind of object → what it may have."""
_DATA = ("text", "inlineData", "fileData", "functionCall", "functionResponse")


def invalid(message: str) -> Refused:
    return Refused(message)


def check(body: Json, *, generation: int) -> None:
    """Raise `Refused` for the first fault of a request to a model of this generation: 2, 3 …"""
    _only(body, "", "")
    if not body.get("contents"):
        raise invalid("* GenerateContentRequest.contents: contents is not specified\n")
    for place, content in enumerate(body["contents"]):
        _check_content(content, f"contents[{place}]", ("user", "model"))
    if (told := body.get("systemInstruction")) is not None:
        _check_content(told, "system_instruction", ("user", "system", None))
    _check_turns(body["contents"], generation)
    names = list(_check_tools(body.get("tools", [])))
    _check_choice(body.get("toolConfig", {}), names)
    _check_config(body.get("generationConfig", {}), generation=generation, has_tools=bool(names))


def _only(value: Any, kind: str, place: str) -> None:
    if not isinstance(value, dict):
        raise invalid(f"Invalid value at '{place}' ({kind}), {value!r}")
    for name in sorted(value.keys() - _FIELDS[kind]):
        where = f" at '{place}'" if place else ""
        raise invalid(f'Invalid JSON payload received. Unknown name "{name}"{where}: Cannot find field.')


# Contents.


def _check_content(content: Any, place: str, roles: Collection[str | None]) -> None:
    _only(content, "content", place)
    if content.get("role") not in roles:
        raise invalid("Please use a valid role: user, model.")
    if not content.get("parts"):
        raise invalid(f"* GenerateContentRequest.{place}.parts: contents.parts must not be empty.\n")
    for number, part in enumerate(content["parts"]):
        _check_part(part, f"{place}.parts[{number}]", content.get("role"))


def _check_part(part: Any, place: str, role: str | None) -> None:
    _only(part, "part", place)
    said = [name for name in _DATA if name in part]
    if len(said) != 1:
        raise invalid(
            f"* GenerateContentRequest.{place}.data: required oneof field 'data' must have one initialized field"
        )
    [kind] = said
    if kind == "text":
        if not isinstance(part["text"], str):
            raise invalid(f"Invalid value at '{place}.text' (TYPE_STRING), {part['text']!r}")
        return
    value = part[kind]
    _only(value, kind, f"{place}.{kind}")
    if kind == "inlineData" and not (value.get("mimeType") and value.get("data")):
        raise invalid(f"Unable to process input image at {place}.")
    if kind == "fileData" and not re.match(r"https://|gs://", str(value.get("fileUri"))):
        raise invalid(f"Invalid or unsupported file uri: {value.get('fileUri')}")
    for name, wanted, roles in (("functionCall", "args", "model"), ("functionResponse", "response", "user")):
        if kind == name:
            if role != roles:
                raise invalid(f"Please ensure that {name} is said by the {roles}.")
            if not value.get("name"):
                raise invalid(f"* GenerateContentRequest.{place}.{name}.name: Name cannot be empty.")
            if not isinstance(value.get(wanted, {}), dict):
                raise invalid(
                    f"Invalid value at '{place}.{name}.{wanted}' (type.googleapis.com/google.protobuf.Struct)"
                )


def last_spoken(contents: list[Json]) -> int:
    """Where the user last said something that is no function's answer: there a turn begins."""
    return max(
        (
            place
            for place, content in enumerate(contents)
            if content["role"] == "user" and any("functionResponse" not in part for part in content["parts"])
        ),
        default=-1,
    )


def of_kind(content: Json, kind: str) -> list[Any]:
    """What parts of this kind hold."""
    return [part[kind] for part in content["parts"] if kind in part]


def _check_turns(contents: list[Json], generation: int) -> None:
    if contents[0]["role"] != "user":
        raise invalid("Please ensure that the first turn is the user's.")
    if contents[-1]["role"] == "model" and generation > 2:
        raise invalid("Requests ending with a model turn are not supported.")
    for before, content, after in zip([None, *contents], contents, [*contents[1:], None], strict=False):
        calls, answers = of_kind(content, "functionCall"), of_kind(content, "functionResponse")
        if calls and (before is None or before["role"] != "user"):
            text = "Please ensure that function call turn comes immediately after a user turn or after a function"
            raise invalid(f"{text} response turn.")
        if calls and len(of_kind(after or {"parts": []}, "functionResponse")) != len(calls):
            text = "Please ensure that the number of function response parts is equal to the number of function call"
            raise invalid(f"{text} parts of the function call turn.")
        called = of_kind(before, "functionCall") if before is not None else []
        if answers and not called:
            raise invalid("Please ensure that function response turn comes immediately after a function call turn.")
        for call, answer in zip(called, answers, strict=True) if answers else ():
            for name in ("name", "id"):
                if call.get(name) != answer.get(name):
                    raise invalid(f"functionResponse.{name} does not match functionCall.{name}")


def check_signatures(contents: list[Json], given: Mapping[str, str]) -> None:
    """Raise `Refused` unless the first call of each of this turn's steps has its signature. `given` are those that this
    vendor gave, by the ids of calls."""
    for content in contents[last_spoken(contents) + 1 :]:
        first = next((part for part in content["parts"] if "functionCall" in part), None)
        if first is None:
            continue
        call, signature = first["functionCall"], first.get("thoughtSignature")
        if signature is None:
            raise invalid(
                "Function call is missing a thought_signature in functionCall parts. This is required for tools to "
                "work correctly, and missing thought_signature may lead to degraded model performance. Additional "
                f"data, function call `default_api:{call['name']}` , position {contents.index(content) + 1}."
            )
        if signature not in (SKIP, given.get(call.get("id", ""))):
            raise invalid("Corrupted thought signature.")


# Tools, and the rest.


def _check_tools(tools: Any) -> Iterator[str]:
    seen: set[str] = set()
    for place, tool in enumerate(tools):
        _only(tool, "tool", f"tools[{place}]")
        for number, function in enumerate(tool.get("functionDeclarations", [])):
            here = f"tools[{place}].function_declarations[{number}]"
            _only(function, "function", here)
            name = function.get("name", "")
            if not _NAME.fullmatch(name):
                raise invalid(f"* GenerateContentRequest.{here}.name: Invalid function name. Must start with a letter")
            if name in seen:
                raise invalid(f"Duplicate function declaration found: {name}")
            if "parameters" in function and "parametersJsonSchema" in function:
                raise invalid(f"* GenerateContentRequest.{here}: parameters and parameters_json_schema are exclusive")
            if not isinstance(function.get("parametersJsonSchema", {}), dict):
                raise invalid(f"* GenerateContentRequest.{here}.parameters_json_schema: must describe an object")
            seen.add(name)
            yield name


def _check_choice(config: Any, names: Collection[str]) -> None:
    _only(config, "toolConfig", "tool_config")
    calling = config.get("functionCallingConfig", {})
    _only(calling, "functionCallingConfig", "tool_config.function_calling_config")
    mode, allowed = calling.get("mode", "AUTO"), calling.get("allowedFunctionNames", [])
    if mode not in ("AUTO", "ANY", "NONE", "VALIDATED"):
        raise invalid(f"Invalid value at 'tool_config.function_calling_config.mode', \"{mode}\"")
    if mode == "ANY" and not names:
        raise invalid("Function calling config is set without function_declarations.")
    if allowed and mode not in ("ANY", "VALIDATED"):
        raise invalid("Allowed function names should only be set when function calling mode is ANY.")
    for name in allowed:
        if name not in names:
            raise invalid(f"allowed_function_names contains an invalid function name: {name}")


def _check_config(config: Any, *, generation: int, has_tools: bool) -> None:
    _only(config, "generationConfig", "generation_config")
    for name, most in (("temperature", 2), ("topP", 1), ("maxOutputTokens", 2**31)):
        value = config.get(name, 1)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
            raise invalid(
                f"* GenerateContentRequest.generation_config.{name}: {name} must be in the range [0.0, {most}]."
            )
    kind = config.get("responseMimeType", "text/plain")
    if kind not in ("text/plain", "application/json", "text/x.enum"):
        raise invalid(f"* GenerateContentRequest.generation_config.response_mime_type: allowed mimetypes, not {kind}")
    if "responseJsonSchema" in config and kind != "application/json":
        raise invalid("response_json_schema needs response_mime_type: application/json")
    if kind == "application/json" and has_tools and generation < 3:
        raise invalid("Function calling with a response mime type: 'application/json' is unsupported")
    thinking = config.get("thinkingConfig", {})
    _only(thinking, "thinkingConfig", "generation_config.thinking_config")
    if len(thinking.keys() & {"thinkingBudget", "thinkingLevel"}) == 2:
        raise invalid("You can only set only one of thinking budget and thinking level.")
    if thinking.get("thinkingLevel", "LOW") not in ("MINIMAL", "LOW", "MEDIUM", "HIGH", "XHIGH"):
        raise invalid(
            f"Invalid value at 'generation_config.thinking_config.thinking_level', {thinking['thinkingLevel']}"
        )
    if "thinkingLevel" in thinking and generation < 3:
        raise invalid("Thinking level is not supported for this model.")
