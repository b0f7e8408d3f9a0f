"""What a field of a request may hold, and OpenAI's sentences for what it may not.

A field is called with its `param` (`tools[0].function.name`) and its value, and raises GatewayError 400 for the first
fault. The sentences and codes are those that OpenAI's API answers (recorded answers and public issues, 2024–2026);
clients match on them. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from gateway.errors import GatewayError, bad_request, wrong_type


class Field(Protocol):
    """What one value may be."""

    def __call__(self, param: str, value: Any) -> None: ...


@dataclass(frozen=True)
class Anything:
    """A caller's own affair."""

    def __call__(self, param: str, value: Any) -> None:
        return


@dataclass(frozen=True)
class Flag:
    def __call__(self, param: str, value: Any) -> None:
        if type(value) is not bool:
            raise wrong_type(param, "a boolean", value)


@dataclass(frozen=True)
class Text:
    max_chars: int | None = None
    min_chars: int = 0

    def __call__(self, param: str, value: Any) -> None:
        if type(value) is not str:
            raise wrong_type(param, "a string", value)
        if self.max_chars is not None and len(value) > self.max_chars:
            raise _too_long(param, "string", self.max_chars, len(value))
        if len(value) < self.min_chars:
            raise bad_request(
                f"Invalid '{param}': empty string. Expected a string with minimum length {self.min_chars}, but got an"
                " empty string instead.",
                param=param,
                code="empty_string",
            )


@dataclass(frozen=True)
class Integer:
    minimum: int | None = None

    def __call__(self, param: str, value: Any) -> None:
        if type(value) is not int:
            raise wrong_type(param, "an integer", value)
        _check_range(param, "integer", value, self.minimum, None)


@dataclass(frozen=True)
class Decimal:
    minimum: float
    maximum: float

    def __call__(self, param: str, value: Any) -> None:
        if type(value) not in (int, float):
            raise wrong_type(param, "a decimal", value)
        _check_range(param, "decimal", value, self.minimum, self.maximum)


class Choice:
    """One of some words."""

    def __init__(self, *words: str) -> None:
        self.words = words

    def __call__(self, param: str, value: Any) -> None:
        if type(value) is not str:
            raise wrong_type(param, "a string", value)
        if value not in self.words:
            raise wrong_value(param, value, self.words)


@dataclass(frozen=True)
class Array:
    of: Field
    max_items: int | None = None
    min_items: int = 0

    def __call__(self, param: str, value: Any) -> None:
        if type(value) is not list:
            raise wrong_type(param, "an array", value)
        if self.max_items is not None and len(value) > self.max_items:
            raise _too_long(param, "array", self.max_items, len(value))
        if len(value) < self.min_items:
            raise bad_request(
                f"Invalid '{param}': empty array. Expected an array with minimum length {self.min_items}, but got an"
                " empty array instead.",
                param=param,
                code="empty_array",
            )
        for place, item in enumerate(value):
            self.of(f"{param}[{place}]", item)


@dataclass(frozen=True)
class Object:
    """An object of which every field is known. `required` ones must be there; null stands for an absent one of the
    others, as it did at OpenAI."""

    fields: Mapping[str, Field]
    required: Sequence[str] = ()

    def __call__(self, param: str, value: Any) -> None:
        if type(value) is not dict:
            raise wrong_type(param or "body", "an object", value)
        for name in self.required:
            if name not in value:
                raise missing(_below(param, name))
        for name, inner in value.items():
            found = self.fields.get(name)
            if found is None:
                raise _unknown(_below(param, name))
            if inner is not None or name in self.required:
                found(_below(param, name), inner)


@dataclass(frozen=True)
class OneOf:
    """Objects that their `type` tells apart."""

    types: Mapping[str, Field] = field(default_factory=dict)

    def __call__(self, param: str, value: Any) -> None:
        if type(value) is not dict:
            raise wrong_type(param, "an object", value)
        if "type" not in value:
            raise missing(f"{param}.type")
        name = value["type"]
        if type(name) is not str:
            raise wrong_type(f"{param}.type", "a string", name)
        if name not in self.types:
            raise wrong_value(f"{param}.type", name, list(self.types))
        self.types[name](param, value)


@dataclass(frozen=True)
class WordOr:
    """One of some words, or what another field may hold."""

    words: Choice
    other: Field

    def __call__(self, param: str, value: Any) -> None:
        if type(value) is str:
            self.words(param, value)
        else:
            self.other(param, value)


@dataclass(frozen=True)
class AnyObject:
    """An object whose inside is a caller's own affair, such as a JSON schema."""

    def __call__(self, param: str, value: Any) -> None:
        if type(value) is not dict:
            raise wrong_type(param, "an object", value)


@dataclass(frozen=True)
class Metadata:
    """Pairs of strings."""

    max_pairs: int = 16
    max_name_chars: int = 64
    value: Text = Text(512)

    def __call__(self, param: str, value: Any) -> None:
        if type(value) is not dict:
            raise wrong_type(param, "an object", value)
        if len(value) > self.max_pairs:
            raise bad_request(
                f"Invalid '{param}': too many properties. Expected an object with at most {self.max_pairs} properties,"
                f" but got an object with {len(value)} properties instead.",
                param=param,
                code="object_above_max_properties",
            )
        for name, each in value.items():
            if len(name) > self.max_name_chars:
                raise bad_request(
                    f"Invalid property name in '{param}': '{name[:100]}' is too long. Expected a string with maximum"
                    f" length {self.max_name_chars}, but got a string with length {len(name)} instead.",
                    param=param,
                    code="property_name_above_max_length",
                )
            self.value(f"{param}.{name}", each)


def missing(param: str) -> GatewayError:
    return bad_request(f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")


def wrong_value(param: str, value: str, words: Sequence[str]) -> GatewayError:
    *others, last = (f"'{word}'" for word in words)
    supported = f"{', '.join(others)}{',' if len(others) > 1 else ''} and {last}" if others else last
    message = f"Invalid value: '{value[:100]}'. Supported values are: {supported}."
    return bad_request(message, param=param, code="invalid_value")


def _unknown(param: str) -> GatewayError:
    return bad_request(f"Unknown parameter: '{param[:200]}'.", param=param[:200], code="unknown_parameter")


def _too_long(param: str, noun: str, maximum: int, length: int) -> GatewayError:
    a_noun = f"an {noun}" if noun == "array" else f"a {noun}"
    return bad_request(
        f"Invalid '{param}': {noun} too long. Expected {a_noun} with maximum length {maximum}, but got {a_noun} with"
        f" length {length} instead.",
        param=param,
        code=f"{noun}_above_max_length",
    )


def _check_range(param: str, noun: str, value: float, minimum: float | None, maximum: float | None) -> None:
    if minimum is not None and value < minimum:
        words, code, sign, bound = "below minimum", "below_min", ">=", minimum
    elif maximum is not None and not value <= maximum:
        words, code, sign, bound = "above maximum", "above_max", "<=", maximum
    else:
        return
    raise bad_request(
        f"Invalid '{param}': {noun} {words} value. Expected a value {sign} {bound:g}, but got {value} instead.",
        param=param,
        code=f"{noun}_{code}_value",
    )


def _below(param: str, name: str) -> str:
    return f"{param}.{name}" if param else name
