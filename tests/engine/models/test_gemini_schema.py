"""JSON schemas: what Gemini heeds passes, what it does not is named by its path."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given

from gateway.engine.models.gemini_schema import as_sent, faults
from tests.values import any_json, unhurried

HEEDED: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$defs": {"pattern": {"type": "object", "properties": {"next": {"$ref": "#/$defs/pattern"}}}},
    "type": "object",
    "title": "Query",
    "properties": {
        "not": {"type": ["string", "null"], "description": "a name, not a keyword", "format": "date-time"},
        "size": {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 9}, {"enum": ["s", 1, 2.5]}], "default": 1},
        "tags": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 3},
        "pair": {"prefixItems": [{"type": "number"}, {"oneOf": [{"type": "boolean"}]}], "x-order": 2},
        "any": True,
    },
    "required": ["size"],
    "additionalProperties": False,
    "propertyOrdering": ["size", "tags"],
}


def params(schema: Any) -> list[str]:
    return [fault.param for fault in faults(schema, "s")]


def test_what_is_heeded_passes() -> None:
    assert params(HEEDED) == []
    assert params(None) == params(True) == params({}) == []


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        (
            {"properties": {"a": {"pattern": "^x"}, "b": {"minLength": 1}}},
            ["properties.a.pattern", "properties.b.minLength"],
        ),
        ({"items": {"exclusiveMinimum": 0}}, ["items.exclusiveMinimum"]),
        ({"additionalProperties": {"const": None}}, ["additionalProperties.const"]),
        ({"anyOf": [{}, {"multipleOf": 2}]}, ["anyOf[1].multipleOf"]),
        ({"oneOf": [{"uniqueItems": True}]}, ["oneOf[0].uniqueItems"]),
        ({"prefixItems": [{"contains": {}}]}, ["prefixItems[0].contains"]),
        ({"$defs": {"A": {"patternProperties": {}}}}, ["$defs.A.patternProperties"]),
        ({"definitions": {}, "nullable": True, "strict": True}, ["definitions", "nullable", "strict"]),
        ({"allOf": [{"not": {}}], "if": {}}, ["allOf", "if"]),
        ({"$ref": "#/$defs/A", "$comment": "x", "description": "beside"}, ["description"]),
        ({"enum": ["a", None]}, ["enum"]),
        ({"enum": [True]}, ["enum"]),
        # From outside in.
        ({"properties": {"a": {"not": {}}}, "not": {}}, ["not", "properties.a.not"]),
    ],
)
def test_what_is_not_heeded_is_named(schema: Any, named: list[str]) -> None:
    assert params(schema) == [f"s.{name}" for name in named]


def test_a_constant_is_said_as_an_enum_of_one() -> None:
    schema: dict[str, Any] = {
        "properties": {"const": {"const": "a"}, "b": {"items": {"anyOf": [{"const": 1}, True]}}},
        "$defs": {"A": {"prefixItems": [{"type": "string", "const": "x"}]}},
        "additionalProperties": {"const": 2.5},
        "default": {"const": "stays"},
    }
    before = copy.deepcopy(schema)
    assert params(schema) == []
    assert as_sent(schema) == {
        "properties": {"const": {"enum": ["a"]}, "b": {"items": {"anyOf": [{"enum": [1]}, True]}}},
        "$defs": {"A": {"prefixItems": [{"type": "string", "enum": ["x"]}]}},
        "additionalProperties": {"enum": [2.5]},
        "default": {"const": "stays"},
    }
    assert as_sent(HEEDED) == HEEDED
    assert before == schema


def test_a_schema_may_be_deep() -> None:
    schema: dict[str, Any] = {"pattern": "x"}
    for _ in range(5000):
        schema = {"items": schema}
    assert len(params(schema)) == 1
    assert "items" in as_sent(schema)


@unhurried
@given(any_json)
def test_whatever_stands_there_is_judged(schema: Any) -> None:
    assert all(param.startswith("s.") for param in params(schema))
