"""Google's Gemini API: requests to `streamGenerateContent`. Answers are read in `gemini_stream`, schemas are judged in
`gemini_schema`.

Sources, read 2026-11-22: ai.google.dev (docs: function calling, thought signatures, thinking, OpenAI compatibility,
file input methods, API errors); the types of Google's client python-genai 3.4.0; google-gemini/gemini-cli and vercel/ai
at 2026-08-22; issues are GitHub's.

Roles are `user` and `model`. A call and what a function answered have the same name and id: ids are always sent, on
both sides, because Gemini 3 and newer want them back (function calling) and take them where they gave none
(laravel/ai#390). Proxies that refuse the field were seen (kimi-cli#1582); they cannot be asked so.

Thoughts are neither asked for nor shown. Their signatures stand in calls, and are wanted back at the same part for all
that was called since the user last spoke, else 400 (thought signatures). Older ones are not looked at, and may be
another model's, which would be a 400: they are not sent. A call that never had one, because another vendor's model made
it, gets the word that the vendor gives for such cases.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from gateway import codec
from gateway.engine.models import gemini_schema
from gateway.engine.models.failures import failure_of_answer
from gateway.engine.models.gemini_stream import API, StreamReader
from gateway.engine.models.generation import (
    Carried,
    Failure,
    Function,
    Generation,
    ImageUrl,
    Json,
    Message,
    ModelRequest,
    NamedTool,
    Part,
    RefusalText,
    Round,
    Text,
    Turn,
)
from gateway.engine.models.history import GO_ON, NOTHING_SAID, settle
from gateway.engine.models.model_api import MakeCallId, ModelApi
from gateway.engine.models.offers import IMAGE_IS_FILE, CannotCarry, Fault, Offer, faults, require

_NO_SIGNATURE = "skip_thought_signature_validator"
"""For calls without a signature, as a last resort (thought signatures; gemini-cli and vercel/ai send it so)."""
_WANTS_SIGNATURES = re.compile(r"gemini-(?![12]\b)")
"""Generations 1 and 2 check none (thought signatures; vercel/ai)."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]*")

_DATA_URL = re.compile(r"data:(image/[^;,]+)(?:;[^;,]*)*?;base64,(.*)", re.DOTALL)
_IMAGE_TYPES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "heic": "image/heic",
    "heif": "image/heif",
}
"""Those that are documented, by the end of a URL's path. Where it tells nothing, neither do we: the type is optional
(GeminiDotnet#10)."""

_BUDGETS = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24576}
_LEVELS = {"minimal": "MINIMAL", "low": "LOW", "medium": "MEDIUM", "high": "HIGH", "xhigh": "XHIGH"}
"""The vendor's own table, of its compatible endpoint: budgets are for 2.5, levels for what came after. `xhigh` is not
in the table, but a level has that name; which models know it is unknown, and theirs to say."""
_EFFORTS = ("none", *_LEVELS)
_THINKS_BY_BUDGET = re.compile(r"gemini-2\.5\b")
_HAS_NO_MINIMAL = re.compile(r"gemini-(?:3\.1-pro|3\.(?:[7-9]|\d\d)|[4-9]|\d\d|\w+-latest)")
"""There the table, docs.cloud.google.com (models, thinking) and vercel/ai say `LOW`."""


@dataclass(frozen=True)
class Gemini:
    """How Google speaks it."""

    offer: Offer = field(default_factory=lambda: Offer(parallel_tool_calls=False))

    def faults(self, body: Json) -> tuple[Fault, ...]:
        return (*faults(body, self.offer), *_faults(body))

    def build(self, generation: Generation) -> ModelRequest:
        require(generation, self.offer)
        return ModelRequest(_path(generation.model), codec.dumps(_request(generation)))

    def read(self, make_call_id: MakeCallId) -> StreamReader:
        return StreamReader(make_call_id)

    def failure(self, status: int, headers: Mapping[str, str], raw: bytes, *, now: float) -> Failure:
        return failure_of_answer(status, headers, raw, now=now)


DIALECTS: Mapping[str, ModelApi] = {"google": Gemini()}


# What is refused before anything is stored.


def _faults(body: Json) -> Iterator[Fault]:
    for number, tool in enumerate(_objects(body.get("tools"))):
        function = tool.get("function")
        if type(function) is dict:
            yield from _of_function(function.get("name"), function.get("parameters"), f"tools[{number}].function")
    yield from _of_format(body.get("response_format"))
    effort, model = body.get("reasoning_effort"), body.get("model")
    if type(effort) is str and (fault := _of_effort(effort, model if type(model) is str else "")) is not None:
        yield fault
    thread = body.get("thread")
    for place, messages in (
        ("", [body]),
        ("messages", body.get("messages")),
        ("additional_messages", body.get("additional_messages")),
        ("thread.messages", thread.get("messages") if type(thread) is dict else None),
    ):
        for number, message in enumerate(_objects(messages)):
            yield from _of_images(message, f"{place}[{number}]." if place else "")


def _of_function(name: Any, parameters: Any, place: str) -> Iterator[Fault]:
    if type(name) is str and not _NAME.fullmatch(name):
        yield Fault(f"{place}.name", "this provider's models take names that begin with a letter or an underscore")
    yield from gemini_schema.faults(parameters, f"{place}.parameters")


def _of_format(wanted: Any) -> Iterator[Fault]:
    described = wanted.get("json_schema") if type(wanted) is dict else None
    if type(described) is dict:
        yield from gemini_schema.faults(described.get("schema"), "response_format.json_schema.schema")


def _of_effort(effort: str, model: str) -> Fault | None:
    """`model` may be a name that only callers know, or "" for none: then what all have is asked for."""
    known = tuple(_BUDGETS) if _THINKS_BY_BUDGET.search(model) else _EFFORTS
    if effort not in known:
        told = ", ".join(known)
        return Fault("reasoning_effort", f"this provider's models have no effort '{effort}': they know {told}")
    cannot_rest = _WANTS_SIGNATURES.search(model) or (_THINKS_BY_BUDGET.search(model) and "-pro" in model)
    if effort == "none" and cannot_rest:
        return Fault("reasoning_effort", "this model cannot be kept from thinking: the least it knows is 'minimal'")
    return None


def _of_images(message: Json, prefix: str) -> Iterator[Fault]:
    for number, part in enumerate(_objects(message.get("content"))):
        image = part.get("image_url")
        url = image.get("url") if type(image) is dict else None
        if type(url) is str and not _is_taken(url):
            yield _no_image(f"{prefix}content[{number}].image_url.url")


def _is_taken(url: str) -> bool:
    """https since 2026-01-12, public or signed (blog.google, increased file limits)."""
    return url.startswith("https://") or _DATA_URL.fullmatch(url) is not None


def _no_image(place: str) -> Fault:
    return Fault(place, "this provider's models take images at https:// and in data: URLs with base64, no others")


def _objects(value: Any) -> Iterator[Json]:
    """Numbers must be kept: what is no object is an empty one."""
    for item in value if type(value) is list else ():
        yield item if type(item) is dict else {}


# What is asked.


def _path(model: str) -> str:
    """A bare name is one of `models/`; those of tuned models have their own prefix."""
    kind, slash, name = model.partition("/")
    if not slash or kind not in ("models", "tunedModels"):
        kind, name = "models", model
    return f"/{kind}/{quote(name, safe='')}:streamGenerateContent?alt=sse"


def _request(generation: Generation) -> Json:
    request: Json = {"contents": _contents(generation)}
    if generation.instructions:
        request["systemInstruction"] = {"parts": [{"text": generation.instructions}]}
    if generation.tools:
        request["tools"] = [{"functionDeclarations": list(_declarations(generation))}]
    if (calling := _calling(generation)) is not None:
        request["toolConfig"] = {"functionCallingConfig": calling}
    if config := _config(generation):
        request["generationConfig"] = config
    return request


def _declarations(generation: Generation) -> Iterator[Json]:
    for number, tool in enumerate(generation.tools):
        assert isinstance(tool, Function)
        _refuse(_of_function(tool.name, tool.parameters, f"tools[{number}].function"))
        parameters = tool.parameters
        if parameters is not None:
            parameters = None if gemini_schema.says_nothing(parameters) else gemini_schema.as_sent(parameters)
        said = {"name": tool.name, "description": tool.description, "parametersJsonSchema": parameters}
        yield {name: value for name, value in said.items() if value is not None}


def _calling(generation: Generation) -> Json | None:
    """`ANY` and `VALIDATED` hold the model to the schemas, the latter for whoever may also speak: that is `strict`."""
    choice = generation.tool_choice
    if isinstance(choice, NamedTool):
        return {"mode": "ANY", "allowedFunctionNames": [choice.name]}
    if choice == "required":
        return {"mode": "ANY"}
    if choice == "none":
        return {"mode": "NONE"} if generation.tools else None
    is_strict = any(isinstance(tool, Function) and tool.strict for tool in generation.tools)
    return {"mode": "VALIDATED"} if is_strict else None


def _config(generation: Generation) -> Json:
    said = {
        "temperature": generation.temperature,
        "topP": generation.top_p,
        "maxOutputTokens": generation.max_completion_tokens,
        "mediaResolution": _resolution(generation),
        "thinkingConfig": _thinking(generation),
        **_format(generation.response_format),
    }
    return {name: value for name, value in said.items() if value is not None}


def _format(wanted: Json | None) -> Json:
    """The name of a schema has no place here, its description is the schema's."""
    if wanted is None or wanted.get("type") == "text":
        return {}
    _refuse(_of_format(wanted))
    described = wanted.get("json_schema") or {}
    schema, description = described.get("schema"), described.get("description")
    if schema is not None:
        schema = gemini_schema.as_sent(schema)
        if description is not None and "$ref" not in schema:
            schema = {"description": description, **schema}
    return {"responseMimeType": "application/json", "responseJsonSchema": schema}


def _thinking(generation: Generation) -> Json | None:
    effort, model = generation.reasoning_effort, generation.model
    if effort is None:
        return None
    if (fault := _of_effort(effort, model)) is not None:
        raise CannotCarry(fault)
    if _THINKS_BY_BUDGET.search(model):
        return {"thinkingBudget": _BUDGETS[effort]}
    if effort == "none":
        return {"thinkingBudget": 0}  # a model of which nothing is known, or that never thinks: its vendor judges
    return {"thinkingLevel": "LOW" if effort == "minimal" and _HAS_NO_MINIMAL.search(model) else _LEVELS[effort]}


def _resolution(generation: Generation) -> str | None:
    """One for all images, as the finest asks; `auto` and silence leave it to the vendor."""
    details = {
        part.detail
        for turn in generation.turns
        if isinstance(turn, Message)
        for part in turn.parts
        if isinstance(part, ImageUrl)
    }
    if "high" in details:
        return "MEDIA_RESOLUTION_HIGH"
    return "MEDIA_RESOLUTION_LOW" if details == {"low"} else None


def _refuse(found: Iterator[Fault]) -> None:
    for fault in found:
        raise CannotCarry(fault)


# Contents.


def _contents(generation: Generation) -> list[Json]:
    """They begin with the user (gemini-cli, `historyHardening.ts`), end with the user ("Requests ending with a model
    turn are not supported", Zoo-Code#1052) and cannot be empty; what calls comes right behind what the user said."""
    turns = settle(generation.turns, api=API)
    contents: list[Json] = []
    spoke = _last_user_message(turns)
    for place, turn in enumerate(turns):
        if isinstance(turn, Round):
            said, answers = _round(turn, is_current=place > spoke, model=generation.model)
            _say(contents, "model", said)
            _say(contents, "user", answers)
        else:
            _say(contents, "user" if turn.role == "user" else "model", [_part(part) for part in turn.parts])
    if not contents or contents[0]["role"] == "model":
        contents.insert(0, {"role": "user", "parts": [{"text": NOTHING_SAID}]})
    if contents[-1]["role"] == "model":
        _say(contents, "user", [{"text": GO_ON}])
    return contents


def _say(contents: list[Json], role: str, parts: list[Json]) -> None:
    """Neighbours of one role are one content; outputs of functions stay for themselves."""
    last = contents[-1] if contents else None
    if last is not None and last["role"] == role and "functionResponse" not in last["parts"][0]:
        last["parts"] += parts
    elif parts:
        contents.append({"role": role, "parts": parts})


def _last_user_message(turns: Sequence[Turn]) -> int:
    places = (place for place, turn in enumerate(turns) if isinstance(turn, Message) and turn.role == "user")
    return max(places, default=-1)


def _part(part: Part) -> Json:
    if isinstance(part, Text | RefusalText):
        return {"text": part.text}
    if not isinstance(part, ImageUrl):
        raise CannotCarry(IMAGE_IS_FILE)
    if inline := _DATA_URL.fullmatch(part.url):
        return {"inlineData": {"mimeType": inline[1], "data": inline[2]}}
    if not _is_taken(part.url):
        raise CannotCarry(_no_image("content"))
    kind = _IMAGE_TYPES.get(urlsplit(part.url).path.rpartition(".")[2].lower())
    return {"fileData": {"fileUri": part.url} | ({"mimeType": kind} if kind else {})}


def _round(turn: Round, *, is_current: bool, model: str) -> tuple[list[Json], list[Json]]:
    """What the model said, and what its functions answered, in the order of its calls."""
    carried = [item.value for item in turn.items if isinstance(item, Carried)] if is_current else []
    signatures = {value["call"]: value["signature"] for value in carried if "call" in value}
    if is_current and turn.calls and turn.calls[0].id not in signatures and _WANTS_SIGNATURES.search(model):
        signatures[turn.calls[0].id] = _NO_SIGNATURE
    parts: list[Json] = []
    for item in turn.items:
        if isinstance(item, Text | RefusalText):
            parts.append({"text": item.text})
        elif isinstance(item, Carried):
            if is_current and "call" not in item.value:
                # It came with a text of which the stream chose the borders; empty ones come with it too.
                parts.append({"text": "", "thoughtSignature": item.value["signature"]})
        else:
            call = {"functionCall": {"id": item.id, "name": item.name, "args": _arguments(item.arguments)}}
            signature = signatures.get(item.id)
            parts.append(call | {"thoughtSignature": signature} if signature is not None else call)
    given = {output.call_id: output.output for output in turn.outputs}
    answers: list[Json] = [
        {"functionResponse": {"id": call.id, "name": call.name, "response": {"output": given[call.id]}}}
        for call in turn.calls
    ]
    return parts, answers


def _arguments(text: str) -> Json:
    """They must be an object. Another vendor's model may have written something else, which goes back as it is."""
    try:
        arguments = codec.loads(text.encode("utf-8", "surrogatepass"))
    except ValueError:
        arguments = None
    return arguments if type(arguments) is dict else {"arguments": text}
