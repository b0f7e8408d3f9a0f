"""JSON schemas as Gemini takes them, for parameters of functions (`parametersJsonSchema`) and for answers
(`responseJsonSchema`).

Whole schemas may be sent, but only the keywords of `_TAKEN` are heeded, as the reference says of answers
(GenerateContentConfig in python-genai 3.4.0, read 2026-11-22). Of parameters it says nothing:
the same is taken for granted. A keyword that constrains and is not heeded is refused, because whoever says it counts on
it; one that only annotates is sent. `const` is said as an `enum` of one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from gateway.engine.models.generation import Json
from gateway.engine.models.offers import Fault

_HEEDED = """
$id $defs $ref $anchor type format title description enum items prefixItems minItems maxItems minimum maximum
anyOf oneOf properties additionalProperties required propertyOrdering
"""
_TAKEN = frozenset(_HEEDED.split())
"""`oneOf` is read as `anyOf`; `propertyOrdering` is Gemini's own."""
_ANNOTATES = frozenset(["$schema", "$comment", "default", "example", "examples", "deprecated", "readOnly", "writeOnly"])
_BY_NAME = ("properties", "$defs")
_LISTED = ("anyOf", "oneOf", "prefixItems")
_INNER = ("items", "additionalProperties")


def faults(schema: Any, place: str) -> Iterator[Fault]:
    """What of a schema is not heeded, from outside in; `param` ends in the keyword's own path."""
    waiting: deque[tuple[str, Any]] = deque([(place, schema)])
    while waiting:
        here, part = waiting.popleft()
        if type(part) is dict:
            yield from _of_keywords(part, here)
            waiting.extend(_parts(part, here))


def _of_keywords(schema: Json, place: str) -> Iterator[Fault]:
    for keyword, value in schema.items():
        if keyword not in _TAKEN | _ANNOTATES | {"const"} and not keyword.startswith("x-"):
            yield Fault(f"{place}.{keyword}", f"this provider's models do not heed '{keyword}' in a schema")
        elif "$ref" in schema and not keyword.startswith("$"):
            yield Fault(
                f"{place}.{keyword}", f"this provider's models take nothing beside '$ref', and here is '{keyword}'"
            )
        elif not all(map(_is_text_or_number, _values(keyword, value))):
            yield Fault(f"{place}.{keyword}", f"this provider's models take only texts and numbers in '{keyword}'")


def _parts(schema: Json, place: str) -> Iterator[tuple[str, Any]]:
    for keyword, value in schema.items():
        if keyword in _BY_NAME and type(value) is dict:
            yield from ((f"{place}.{keyword}.{name}", each) for name, each in value.items())
        elif keyword in _LISTED and type(value) is list:
            yield from ((f"{place}.{keyword}[{number}]", each) for number, each in enumerate(value))
        elif keyword in _INNER:
            yield f"{place}.{keyword}", value


def _values(keyword: str, value: Any) -> list[Any]:
    if keyword == "const":
        return [value]
    return value if keyword == "enum" and type(value) is list else []


def _is_text_or_number(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def as_sent(schema: Json) -> Json:
    """A schema without faults, in the words that are heeded."""
    sent = dict(schema)
    waiting = [sent]
    while waiting:
        part = waiting.pop()
        if "const" in part:
            part["enum"] = [part.pop("const")]
        for keyword, value in part.items():
            if keyword in _BY_NAME and type(value) is dict:
                part[keyword] = copied = {name: _copied(each) for name, each in value.items()}
                waiting += [each for each in copied.values() if type(each) is dict]
            elif keyword in _LISTED and type(value) is list:
                part[keyword] = listed = [_copied(each) for each in value]
                waiting += [each for each in listed if type(each) is dict]
            elif keyword in _INNER and type(value) is dict:
                part[keyword] = inner = dict(value)
                waiting.append(inner)
    return sent


def _copied(value: Any) -> Any:
    return dict(value) if type(value) is dict else value


def says_nothing(parameters: Json) -> bool:
    """Whether they are those of a function without any. They can be left away (FunctionDeclaration in python-genai);
    whether an object without properties is taken is unknown."""
    if parameters.get("properties") or parameters.get("additionalProperties"):
        return False
    return parameters.keys() <= {"type", "properties", "required", "additionalProperties", "$schema"}
