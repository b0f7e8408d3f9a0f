"""What the server refuses, in the words OpenAI used, because clients match on them.

The rules for body fields are one table: a field has the same limits wherever it occurs. Fields that are not
in the table are not looked at.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

METADATA_MAX_PAIRS = 16
METADATA_MAX_KEY_CHARS = 64
METADATA_MAX_VALUE_CHARS = 512


class Refused(Exception):
    """A request that is answered with an error; the dialect decides the shape of its body."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.param = param
        self.code = code


@dataclass(frozen=True)
class Rule:
    """What a field may hold: `minimum` bounds numbers, `maximum` also the length of texts and arrays."""

    expected: str
    types: tuple[type, ...]
    maximum: int | None = None
    minimum: int | None = None

    def check(self, name: str, value: object) -> None:
        """Raise `Refused` unless the value fits."""
        if not isinstance(value, self.types) or (isinstance(value, bool) and bool not in self.types):
            raise wrong_type(name, self.expected, value)
        if isinstance(value, (str, list)):
            self._check_length(name, value)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            self._check_value(name, value)

    def _check_length(self, name: str, value: str | list[object]) -> None:
        if self.maximum is None or len(value) <= self.maximum:
            return
        noun = "string" if isinstance(value, str) else "array"
        a_noun = f"a {noun}" if noun == "string" else f"an {noun}"
        raise Refused(
            f"Invalid '{name}': {noun} too long. Expected {a_noun} with maximum length {self.maximum}, "
            f"but got {a_noun} with length {len(value)} instead.",
            param=name,
            code=f"{noun}_above_max_length",
        )

    def _check_value(self, name: str, value: float) -> None:
        noun = "decimal" if float in self.types else "integer"
        if self.minimum is not None and value < self.minimum:
            words, code, sign, bound = "below minimum", "below_min", ">=", self.minimum
        elif self.maximum is not None and value > self.maximum:
            words, code, sign, bound = "above maximum", "above_max", "<=", self.maximum
        else:
            return
        raise Refused(
            f"Invalid '{name}': {noun} {words} value. Expected a value {sign} {bound}, but got {value} instead.",
            param=name,
            code=f"{noun}_{code}_value",
        )


TEXT = Rule("a string", (str,))
RULES: Mapping[str, Rule] = {
    "model": TEXT,
    "assistant_id": TEXT,
    "file_id": TEXT,
    "name": Rule("a string", (str,), 256),
    "description": Rule("a string", (str,), 512),
    "instructions": Rule("a string", (str,), 256_000),
    "additional_instructions": TEXT,
    "tools": Rule("an array of objects", (list,), 128),
    "tool_resources": Rule("an object", (dict,)),
    "tool_outputs": Rule("an array of objects", (list,)),
    "messages": Rule("an array of objects", (list,)),
    "additional_messages": Rule("an array of objects", (list,)),
    "attachments": Rule("an array of objects", (list,)),
    "file_ids": Rule("an array of strings", (list,)),
    "thread": Rule("an object", (dict,)),
    "metadata": Rule("an object", (dict,)),
    "temperature": Rule("a decimal", (int, float), 2, 0),
    "top_p": Rule("a decimal", (int, float), 1, 0),
    "max_prompt_tokens": Rule("an integer", (int,), None, 256),
    "max_completion_tokens": Rule("an integer", (int,), None, 256),
    "stream": Rule("a boolean", (bool,)),
    "parallel_tool_calls": Rule("a boolean", (bool,)),
}

REQUIRED_INSIDE: Mapping[str, tuple[str, ...]] = {
    "tools": ("type",),
    "attachments": ("file_id",),
    "tool_outputs": ("tool_call_id",),
    "messages": ("role", "content"),
    "additional_messages": ("role", "content"),
}


def check_fields(body: Json, *required: str) -> None:
    """Raise `Refused` for the first field missing, of the wrong type or out of range; null means absent."""
    for name in required:
        if body.get(name) is None:
            raise missing(name)
    for name, rule in RULES.items():
        if body.get(name) is not None:
            rule.check(name, body[name])
    for name, inner in REQUIRED_INSIDE.items():
        for place, item in enumerate(body.get(name) or []):
            check_item(f"{name}[{place}]", item, inner)
    check_metadata(body.get("metadata") or {})


def check_item(path: str, item: object, required: tuple[str, ...]) -> None:
    if not isinstance(item, dict):
        raise wrong_type(path, "an object", item)
    for name in required:
        if item.get(name) is None:
            raise missing(f"{path}.{name}")


def check_metadata(metadata: Json) -> None:
    """Raise `Refused` unless the pairs keep to the limits of number, length and type."""
    if len(metadata) > METADATA_MAX_PAIRS:
        raise Refused(
            f"Invalid 'metadata': too many properties. Expected an object with at most {METADATA_MAX_PAIRS} "
            f"properties, but got an object with {len(metadata)} properties instead.",
            param="metadata",
            code="object_above_max_properties",
        )
    for key, value in metadata.items():
        if len(key) > METADATA_MAX_KEY_CHARS:
            raise Refused(
                f"Invalid property name in 'metadata': '{key}' is too long. Expected a string with maximum "
                f"length {METADATA_MAX_KEY_CHARS}, but got a string with length {len(key)} instead.",
                param=f"metadata.{key}",
                code="property_name_above_max_length",
            )
        Rule("a string", (str,), METADATA_MAX_VALUE_CHARS).check(f"metadata.{key}", value)


def missing(name: str) -> Refused:
    return Refused(f"Missing required parameter: '{name}'.", param=name, code="missing_required_parameter")


def wrong_type(name: str, expected: str, value: object) -> Refused:
    names = {bool: "a boolean", int: "an integer", float: "a decimal", str: "a string", list: "an array"}
    got = "null" if value is None else names.get(type(value), "an object")
    message = f"Invalid type for '{name}': expected {expected}, but got {got} instead."
    return Refused(message, param=name, code="invalid_type")


def wrong_value(name: str, value: object, supported: Collection[str]) -> Refused:
    *others, last = (f"'{each}'" for each in supported)
    message = f"Invalid value: '{value}'. Supported values are: {', '.join(others)} and {last}."
    return Refused(message, param=name, code="invalid_value")


def not_found(label: str, object_id: str) -> Refused:
    return Refused(f"No {label} found with id '{object_id}'.", status=404)
