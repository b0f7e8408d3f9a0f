"""The README's table of what reaches a model: fields of assistants, threads and runs × model APIs, written from
requests that are built.

    python -m tests.fields_table     # writes it; a test fails where that would change something

Each row is a field that somebody says. What its words are at the vendor is the difference that they make to a request;
what is refused is what the model API finds fault with.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from gateway.engine.models import MODEL_APIS
from gateway.engine.models.generation import (
    Function,
    Generation,
    HostedTool,
    ImageFile,
    ImageUrl,
    Message,
    NamedTool,
    Round,
    Text,
    ToolCall,
    ToolOutput,
)
from gateway.engine.models.model_api import ModelApi

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- what reaches a model: written by tests/fields_table.py -->", "<!-- what reaches a model: end -->"

WORDS = "…"
"""Stands for the caller's own words, which are not shown."""
_SCHEMA = {
    "type": "object",
    "properties": {WORDS: {"type": "string"}},
    "required": [WORDS],
    "additionalProperties": False,
}
_FUNCTION = Function("fn", None, {"type": "object", "properties": {}})
_ASKED = Message("user", (Text("Hello"),))
_DATA = "data:image/png;base64,iVBORw0KGgo="
_URL = "https://example.com/a.png"


@dataclass(frozen=True)
class Field:
    """`body` is what a caller sends; `said` what the engine makes of it, beside a generation that says `before`."""

    name: str
    body: Mapping[str, Any]
    said: Mapping[str, Any]
    before: Mapping[str, Any] = field(default_factory=dict)


def _user(*parts: Any) -> Mapping[str, Any]:
    return {"turns": (Message("user", (Text("Hello"), *parts)),)}


def _format(kind: str, **more: Any) -> Field:
    wanted = {"type": kind, **more}
    return Field(f"response_format `{kind}`", {"response_format": wanted}, {"response_format": wanted})


def _choice(choice: str) -> Field:
    return Field(
        f"tool_choice `{choice}`",
        {"tools": [], "tool_choice": choice},
        {"tools": (_FUNCTION,), "tool_choice": choice},
        {"tools": (_FUNCTION,)},
    )


def _hosted(name: str, **settings: Any) -> Field:
    body = {"tools": [{"type": name}], "tool_resources": {name: settings}}
    return Field(f"tools `{name}`", body, {"tools": (HostedTool(name, settings),)})


def _image(name: str, kind: str, part: ImageUrl | ImageFile) -> Field:
    content = [{"type": "text", "text": "Hello"}, {"type": kind, kind: {}}]
    return Field(name, {"role": "user", "content": content}, _user(part))


_CALLED = (_ASKED, Round((ToolCall("call_1", "fn", "{}"),), (ToolOutput("call_1", WORDS),)))

FIELDS = (
    Field("instructions, additional_instructions", {}, {"instructions": WORDS}),
    Field("messages, additional_messages: `user`", {}, {"turns": (Message("user", (Text(WORDS),)),)}),
    Field("messages: `assistant`", {}, {"turns": (_ASKED, Message("assistant", (Text(WORDS),)), _ASKED)}),
    _image("image_url", "image_url", ImageUrl(_URL)),
    _image("image_url, a `data:` URL", "image_url", ImageUrl(_DATA)),
    Field(
        "image_url.detail `low`",
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": _DATA, "detail": "low"}}]},
        _user(ImageUrl(_DATA, "low")),
        _user(ImageUrl(_DATA)),
    ),
    _image("image_file", "image_file", ImageFile("file_1")),
    Field("tools `function`", {"tools": [{"type": "function", "function": {"name": "fn"}}]}, {"tools": (_FUNCTION,)}),
    Field(
        "tools `function`: strict",
        {"tools": [{"type": "function", "function": {"name": "fn", "strict": True, "parameters": _SCHEMA}}]},
        {"tools": (replace(_FUNCTION, parameters=_SCHEMA, strict=True),)},
        {"tools": (replace(_FUNCTION, parameters=_SCHEMA),)},
    ),
    _hosted("file_search", vector_store_ids=["vs_1"]),
    _hosted("code_interpreter", file_ids=["file_1"]),
    _choice("none"),
    _choice("auto"),
    _choice("required"),
    Field(
        "tool_choice: a function",
        {"tool_choice": {"type": "function", "function": {"name": "fn"}}},
        {"tools": (_FUNCTION,), "tool_choice": NamedTool("function", "fn")},
        {"tools": (_FUNCTION,)},
    ),
    Field(
        "parallel_tool_calls `false`",
        {"parallel_tool_calls": False},
        {"tools": (_FUNCTION,), "parallel_tool_calls": False},
        {"tools": (_FUNCTION,)},
    ),
    Field("tool_outputs", {}, {"turns": _CALLED, "tools": (_FUNCTION,)}, {"turns": (_ASKED,), "tools": (_FUNCTION,)}),
    Field("temperature `0.5`", {"temperature": 0.5}, {"temperature": 0.5}),
    Field("temperature `1.5`", {"temperature": 1.5}, {"temperature": 1.5}),
    Field("top_p `0.5`", {"top_p": 0.5}, {"top_p": 0.5}),
    _format("json_object"),
    _format("json_schema", json_schema={"name": "answer", "schema": _SCHEMA, "strict": True}),
    Field("reasoning_effort `low`", {"reasoning_effort": "low"}, {"reasoning_effort": "low"}),
    Field("max_completion_tokens", {}, {"max_completion_tokens": 4096}),
)


def cell(api: ModelApi, row: Field) -> str:
    """What the field becomes in this dialect."""
    if api.faults(dict(row.body)):
        return "refused"
    plain = Generation(model="m", turns=(_ASKED,))
    before, after = (
        Counter(_leaves(orjson.loads(api.build(replace(plain, **said)).body)))
        for said in (row.before, {**row.before, **row.said})
    )
    leaves = list(after - before)
    own = [leaf for leaf in leaves if _is_own(leaf[1])]
    return ", ".join(dict.fromkeys(_shown(*leaf) for leaf in own or leaves)) or "not said: it is the default"


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Path and value of everything in a document; places in lists do not count."""
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from _leaves(item, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and value:
        for item in value:
            yield from _leaves(item, f"{path}[]")
    else:
        yield path, orjson.dumps(value).decode()


_SCHEMAS = re.compile(r"(schema|parameters|parametersJsonSchema|responseJsonSchema)\..*")
"""Within a schema it is the caller's."""


def _is_own(value: str) -> bool:
    """Whether it is what the caller said, and not a word of the vendor's around it."""
    return any(words in value for words in (WORDS, _URL, "iVBOR", "file_1", "vs_1", '"fn"', "4096"))


def _shown(path: str, value: str) -> str:
    if (schema := _SCHEMAS.search(path)) is not None:
        path = path[: schema.end(1)]
    return f"`{path}`" if _is_own(value) else f"`{path}: {value}`"


def render() -> str:
    first = {name: next(iter(dialects.items())) for name, dialects in MODEL_APIS.items()}
    lines = [
        "| said | " + " | ".join(f"`{name}`" for name in first) + " |",
        "| --- |" + " --- |" * len(first),
        *(f"| {each.name} | " + " | ".join(cell(api, each) for _, api in first.values()) + " |" for each in FIELDS),
        "",
        "Where dialects differ from the first of their API:",
        "",
        *_differences(),
    ]
    return "\n".join(lines)


def _differences() -> Iterator[str]:
    for name, dialects in MODEL_APIS.items():
        (_, usual), *others = dialects.items()
        for dialect, api in others:
            differs = [f"{each.name}: {cell(api, each)}" for each in FIELDS if cell(api, each) != cell(usual, each)]
            if differs:
                yield f"- `{name}`, `{dialect}`: " + "; ".join(differs)


def written(text: str) -> str:
    """The README with the table as it should be."""
    head, rest = text.split(BEGIN)
    return f"{head}{BEGIN}\n{render()}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    README.write_text(written(README.read_text()))
