"""The OpenAPI document as tests use it: operations with everything resolved, schemas of one version, places of ids."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from jsonschema import Draft202012Validator

from gateway import openapi

Schema = Mapping[str, Any]

DOCUMENT: dict[str, Any] = orjson.loads(openapi.document())
V1 = "V1"
"""How the name of a schema ends that only callers of protocol v1 send or get."""
METHODS = ("get", "post", "delete")


def resolve(node: Any) -> Any:
    """What a reference points at, itself resolved; anything else as it is."""
    while "$ref" in node:
        found: Any = DOCUMENT
        for word in node["$ref"].removeprefix("#/").split("/"):
            found = found[word]
        node = found
    return node


def of_version(schema: Schema, version: str) -> Schema:
    """Of alternatives that belong to one version each, this version's."""
    options = schema.get("anyOf", ())
    names = [option.get("$ref", "") for option in options]
    if not any(name.endswith(V1) for name in names):
        return schema
    return next(option for option, name in zip(options, names, strict=True) if name.endswith(V1) == (version == "v1"))


@dataclass(frozen=True)
class Described:
    """One operation of the document."""

    name: str
    method: str
    template: str
    parameters: Mapping[str, Any]
    """By name, those of its path included."""
    body: Mapping[str, Any]
    """Content type → schema; empty where it takes none."""
    answers: Mapping[str, Any]
    """Content type → schema of the success."""
    responses: Mapping[str, Any]
    """Status → resolved response."""

    def of_place(self, place: str) -> dict[str, Any]:
        """The schemas of its parameters in path, query or header."""
        return {name: each["schema"] for name, each in self.parameters.items() if each["in"] == place}


def _described() -> Iterator[Described]:
    for template, path in DOCUMENT["paths"].items():
        for method in METHODS:
            if operation := path.get(method):
                given = [resolve(each) for each in (*path["parameters"], *operation.get("parameters", ()))]
                responses = {status: resolve(each) for status, each in operation["responses"].items()}
                yield Described(
                    operation["operationId"],
                    method.upper(),
                    template,
                    {each["name"]: each for each in given},
                    _content(resolve(operation.get("requestBody", {}))),
                    _content(responses["200"]),
                    responses,
                )


def _content(holder: Mapping[str, Any]) -> dict[str, Any]:
    return {kind: media.get("schema", {}) for kind, media in holder.get("content", {}).items()}


OPERATIONS: Mapping[str, Described] = {each.name: each for each in _described()}


def faults(value: Any, schema: Schema) -> list[str]:
    """What does not fit the schema, and where."""
    whole = {**schema, "components": DOCUMENT["components"]}
    return [f"{error.json_path}: {error.message[:300]}" for error in Draft202012Validator(whole).iter_errors(value)]


def places_of_ids(schema: Schema, place: str = "") -> set[tuple[str, str]]:
    """Every place of an id in what a schema describes, all alternatives together, and its kind: `data[].id`, "run"."""
    schema = resolve(schema)
    found = {(place, schema["x-id-kind"])} if "x-id-kind" in schema else set()
    if schema.get("x-ids-inside"):
        found.add((place, "prose"))
    for option in schema.get("anyOf", ()):
        found |= places_of_ids(option, place)
    for name, inner in schema.get("properties", {}).items():
        found |= places_of_ids(inner, f"{place}.{name}" if place else name)
    if "items" in schema:
        found |= places_of_ids(schema["items"], f"{place}[]")
    return found
