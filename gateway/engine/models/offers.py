"""What runs over a model API can have, and the refusal of what they cannot, before anything is stored.

Nothing a caller says is dropped silently: it is carried, or it is a fault here. What says nothing (null, an empty
list, a default) is no fault.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gateway.engine.models.generation import (
    Function,
    Generation,
    ImageFile,
    ImageUrl,
    Json,
    Message,
    NamedTool,
)
from gateway.errors import GatewayError, bad_request

UNSUPPORTED = "unsupported_by_model_api"


@dataclass(frozen=True)
class Fault:
    """`param` is the field, as in `tools[0].type`; `message` is for the caller."""

    param: str
    message: str

    def as_error(self) -> GatewayError:
        return bad_request(self.message, param=self.param, code=UNSUPPORTED)


IMAGE_IS_FILE = Fault("content", "the image is a file, and nobody has put it into the message")
"""For dialects whose vendor has no files."""


class CannotCarry(ValueError):
    """A generation says what its dialect has no words for."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


@dataclass(frozen=True)
class Offer:
    """The defaults are what OpenAI's chat completions offer."""

    hosted_tools: frozenset[str] = frozenset()
    """Tools that the vendor runs by itself."""
    tool_choices: frozenset[str] = frozenset({"none", "auto", "required", "function"})
    strict_functions: bool = True
    parallel_tool_calls: bool = True
    """Whether `false` is heeded."""
    response_formats: frozenset[str] = frozenset({"text", "json_object", "json_schema"})
    reasoning_effort: bool = True
    max_temperature: float = 2.0
    image_urls: bool = True
    image_details: frozenset[str] = frozenset({"auto", "low", "high"})
    image_types: frozenset[str] | None = None
    """Media types that `data:` URLs may have; None: the vendor judges."""
    image_files: bool = False
    assistant_images: bool = False
    """Whether messages of the assistant may hold images."""


def faults(body: Json, offer: Offer) -> tuple[Fault, ...]:
    """All faults of the body of any operation: the fields have one meaning wherever they stand."""
    return tuple(_of_body(body, offer))


def require(generation: Generation, offer: Offer) -> None:
    """The same rules at the last moment, for what was stored when the provider offered more. Raises CannotCarry."""
    choice = generation.tool_choice
    body: Json = {
        "tools": [
            {"type": "function", "function": {"strict": tool.strict}}
            if isinstance(tool, Function)
            else {"type": tool.type}
            for tool in generation.tools
        ],
        "tool_choice": {"type": choice.type} if isinstance(choice, NamedTool) else choice,
        "parallel_tool_calls": generation.parallel_tool_calls,
        "response_format": generation.response_format,
        "reasoning_effort": generation.reasoning_effort,
        "temperature": generation.temperature,
        "messages": [
            {"role": turn.role, "content": [_as_content(part)]}
            for turn in generation.turns
            if isinstance(turn, Message)
            for part in turn.parts
            if isinstance(part, ImageFile | ImageUrl)
        ],
    }
    for fault in faults(body, offer):
        raise CannotCarry(fault)


def _as_content(part: ImageFile | ImageUrl) -> Json:
    if isinstance(part, ImageFile):
        return {"type": "image_file"}
    return {"type": "image_url", "image_url": {"url": part.url, "detail": part.detail}}


def _of_body(body: Json, offer: Offer) -> Iterator[Fault]:
    for place, tool in _objects(body.get("tools"), "tools"):
        yield from _of_tool(tool, place, offer)
    yield from _of_resources(body, "", offer)
    yield from _of_parameters(body, offer)
    thread = body.get("thread")
    if type(thread) is dict:
        yield from _of_resources(thread, "thread.", offer)
        for place, message in _objects(thread.get("messages"), "thread.messages"):
            yield from _of_message(message, f"{place}.", offer)
    for name in ("messages", "additional_messages"):
        for place, message in _objects(body.get(name), name):
            yield from _of_message(message, f"{place}.", offer)
    yield from _of_message(body, "", offer)


def _of_tool(tool: Json, place: str, offer: Offer) -> Iterator[Fault]:
    kind = str(tool.get("type"))
    if kind != "function":
        if kind not in offer.hosted_tools:
            yield Fault(f"{place}.type", _no_tool(kind, offer))
        return
    function = tool.get("function")
    if type(function) is dict and function.get("strict") and not offer.strict_functions:
        yield Fault(f"{place}.function.strict", "this provider's models cannot be held to a function's schema")


def _of_resources(body: Json, prefix: str, offer: Offer) -> Iterator[Fault]:
    resources = body.get("tool_resources")
    if type(resources) is not dict:
        return
    for tool, resource in resources.items():
        if tool not in offer.hosted_tools and _says_something(resource):
            yield Fault(f"{prefix}tool_resources.{tool}", _no_tool(tool, offer))


def _of_message(message: Json, prefix: str, offer: Offer) -> Iterator[Fault]:
    for place, attachment in _objects(message.get("attachments"), f"{prefix}attachments"):
        tools = [str(tool.get("type")) for _, tool in _objects(attachment.get("tools"), "")]
        missing = next((tool for tool in tools if tool not in offer.hosted_tools), None)
        if not offer.hosted_tools:
            yield Fault(place, "this provider's models cannot read files: put the text into the message")
        elif missing is not None:
            yield Fault(place, _no_tool(missing, offer))
        elif not tools:
            yield Fault(place, "this provider's models read files by a tool only: name it in the attachment's 'tools'")
    for place, part in _objects(message.get("content"), f"{prefix}content"):
        yield from _of_image(part, message.get("role"), place, offer)


def _of_image(part: Json, role: Any, place: str, offer: Offer) -> Iterator[Fault]:
    kind = part.get("type")
    if kind not in ("image_url", "image_file"):
        return
    if role == "assistant" and not offer.assistant_images:
        yield Fault(place, "this provider's models take images from the user only, not in an assistant's message")
    elif kind == "image_file" and not offer.image_files:
        yield Fault(place, "this provider's models cannot read files: give the image as an image_url")
    elif kind == "image_url" and not offer.image_urls:
        yield Fault(place, "this provider's models take no images")
    elif type(image := part.get(kind)) is dict and kind == "image_url":
        yield from _of_url(image, f"{place}.image_url", offer)


def _of_url(image: Json, place: str, offer: Offer) -> Iterator[Fault]:
    detail = image.get("detail")
    if type(detail) is str and detail not in offer.image_details:
        yield Fault(
            f"{place}.detail", f"this provider's models cannot be told to look at an image with '{detail}' detail"
        )
    url = image.get("url")
    if offer.image_types is None or type(url) is not str or url[:5].lower() != "data:":
        return
    kind, _, coding = url[5:100].partition(",")[0].lower().partition(";")
    if kind not in offer.image_types or coding != "base64":
        known = ", ".join(sorted(offer.image_types))
        yield Fault(f"{place}.url", f"this provider's models take no such data: URL, but {known}, each in base64")


def _of_parameters(body: Json, offer: Offer) -> Iterator[Fault]:
    wanted = body.get("response_format")
    kind = wanted.get("type") if type(wanted) is dict else None
    if type(kind) is str and kind not in offer.response_formats:
        known = ", ".join(sorted(offer.response_formats))
        yield Fault("response_format", f"this provider's models cannot answer in '{kind}': they know {known}")
    choice = body.get("tool_choice")
    kind = choice.get("type") if type(choice) is dict else choice
    if type(kind) is str and kind not in offer.tool_choices | offer.hosted_tools:
        yield Fault("tool_choice", f"this provider's models cannot be told to choose tools by '{kind}'")
    if body.get("parallel_tool_calls") is False and not offer.parallel_tool_calls:
        yield Fault("parallel_tool_calls", "this provider's models cannot be kept from calling tools in parallel")
    if body.get("reasoning_effort") is not None and not offer.reasoning_effort:
        yield Fault("reasoning_effort", "this provider's models have no such setting")
    warmth = body.get("temperature")
    if isinstance(warmth, int | float) and warmth > offer.max_temperature:
        yield Fault("temperature", f"this provider's models take at most {offer.max_temperature:g}")


def _objects(value: Any, place: str) -> Iterator[tuple[str, Json]]:
    for number, item in enumerate(value if type(value) is list else ()):
        if type(item) is dict:
            yield f"{place}[{number}]", item


def _says_something(value: Any) -> bool:
    if type(value) is dict:
        return any(map(_says_something, value.values()))
    if type(value) is list:
        return any(map(_says_something, value))
    return value is not None


def _no_tool(kind: str, offer: Offer) -> str:
    hosted = f"{', '.join(sorted(offer.hosted_tools))} and " if offer.hosted_tools else ""
    return f"this provider's models have no tool '{kind}': only {hosted}functions, which you carry out yourself"
