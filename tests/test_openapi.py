"""The OpenAPI document: valid, and neither more nor less than what the gateway does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import orjson
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from gateway import __version__, openapi, shapes
from gateway.errors import bad_request, envelope
from gateway.operations import BY_NAME, Operation
from gateway.phases.rewrite_in import CROSSING_TO_CALLER
from tests.conftest import Running, StartGateway, StartVendor
from tests.described import DOCUMENT, METHODS, OPERATIONS, Described, faults, places_of_ids, resolve

README = (Path(__file__).parent.parent / "README.md").read_text()
BOTH = [pytest.param(OPERATIONS[name], BY_NAME[name], id=name) for name in BY_NAME if name in OPERATIONS]


def places_in(shape: Any, place: str = "") -> set[tuple[str, str]]:
    """Every place of an id in a shape and its kind, as `places_of_ids` tells them of a schema."""
    shape = getattr(shape, "shape", shape)
    if isinstance(shape, str):
        return {(place, shape)}
    if isinstance(shape, list):
        return places_in(shape[0], f"{place}[]")
    below = [places_in(inner, f"{place}.{name}" if place else name) for name, inner in shape.items()]
    return {each for places in below for each in places}


def test_it_is_valid() -> None:
    assert [str(error) for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()] == []


def test_it_has_the_operations_of_the_table_and_no_other() -> None:
    described = {(each.name, each.method, each.template) for each in OPERATIONS.values()}
    assert described == {(each.name, each.method, each.template) for each in BY_NAME.values()}
    allowed = {*METHODS, "parameters"}
    assert all(set(path) <= allowed for path in DOCUMENT["paths"].values())


@pytest.mark.parametrize(("described", "operation"), BOTH)
def test_a_path_has_a_parameter_for_each_id(described: Described, operation: Operation) -> None:
    """Named after the id's kind."""
    holes = re.findall(r"\{(\w+)\}", operation.template)
    assert {name: resolve(schema)["x-id-kind"] for name, schema in described.of_place("path").items()} == {
        kind: kind for kind in holes
    }
    assert all(described.parameters[name]["required"] for name in holes)


@pytest.mark.parametrize(("described", "operation"), BOTH)
def test_a_query_has_the_ids_limits_and_filters_of_the_table(described: Described, operation: Operation) -> None:
    query = {name: resolve(schema) for name, schema in described.of_place("query").items()}
    kinds = {name: schema["x-id-kind"] for name, schema in query.items() if "x-id-kind" in schema}
    assert kinds == operation.query_kinds
    assert ("order" in query) == ("limit" in query) == (operation.answers == "list")
    if limit := query.get("limit"):
        assert (limit["default"], limit["minimum"], limit["maximum"]) == (
            operation.default_limit,
            1,
            operation.max_limit,
        )
    assert set(operation.filters) <= set(query)


@pytest.mark.parametrize(("described", "operation"), BOTH)
def test_a_body_has_its_ids_where_the_shapes_have_them(described: Described, operation: Operation) -> None:
    """Both ways: an id that the document does not call one, or that the gateway would not verify, fails."""
    wanted = "multipart/form-data" if operation.upload else "application/json"
    assert set(described.body) == (set() if operation.body is None and not operation.upload else {wanted})
    found = places_of_ids(described.body[wanted]) if described.body else set()
    assert found == places_in(operation.body or {})


@pytest.mark.parametrize(("described", "operation"), BOTH)
def test_an_answer_has_its_ids_where_the_shapes_have_them(described: Described, operation: Operation) -> None:
    if operation.answers == "bytes":
        assert set(described.answers) == {"application/octet-stream"}
        return
    shape: Any = operation.shape
    if operation.answers == "list":
        shape = {"data": [shape], "first_id": operation.kind, "last_id": operation.kind}
    assert places_of_ids(described.answers["application/json"]) == places_in(shape)


@pytest.mark.parametrize(("described", "operation"), BOTH)
def test_those_that_stream_say_so(described: Described, operation: Operation) -> None:
    assert ("text/event-stream" in described.answers) == operation.streams
    body = described.body.get("application/json", {})
    options = [resolve(option) for option in body.get("anyOf", [body])]
    assert {"stream" in resolve(option).get("properties", {}) for option in options} == {operation.streams}


def test_an_event_has_its_ids_where_the_shapes_have_them() -> None:
    events = DOCUMENT["components"]["schemas"]["StreamEvent"]["anyOf"]
    found: dict[str, set[tuple[str, str]]] = {}
    for event in events:
        for option in event["properties"]["data"].get("anyOf", ()):
            word = resolve(option)["properties"]["object"]["const"]
            found[word] = found.get(word, set()) | places_of_ids(option)
    assert found == {word: places_in(shape) for word, shape in shapes.OBJECTS.items()}


@pytest.mark.parametrize(("described", "operation"), BOTH)
def test_every_refusal_is_an_envelope(described: Described, operation: Operation) -> None:
    """And what can only happen to a body is not said of operations that take none."""
    schema = {"$ref": "#/components/schemas/Error"}
    refusals = {status: response for status, response in described.responses.items() if status != "200"}
    assert all(each["content"] == {"application/json": {"schema": schema}} for each in refusals.values())
    assert ({"408", "413", "415"} <= set(refusals)) == (not operation.is_safe)
    assert not faults(orjson.loads(envelope(bad_request("no", param="x", code="y"))), schema)


def test_it_names_the_codes_that_the_readme_names() -> None:
    table = README.partition("## When something fails")[2].partition("\nThe provider's own errors")[0]
    told = " ".join(each["description"] for each in DOCUMENT["components"]["responses"].values())
    rows = [line.split("|")[2] for line in table.splitlines() if line.startswith("| ")]
    assert [code for row in rows for code in re.findall(r"`(\w+)`", row) if f"`{code}`" not in told] == []


def test_it_names_every_header_that_crosses() -> None:
    assert set(CROSSING_TO_CALLER) <= set(DOCUMENT["components"]["headers"])


def test_nothing_in_it_is_unused() -> None:
    text = openapi.document().decode()
    for section in ("schemas", "responses", "requestBodies", "parameters", "headers"):
        names = DOCUMENT["components"][section]
        assert [name for name in names if f'"#/components/{section}/{name}"' not in text] == []


# --- served ---------------------------------------------------------------------------------------------------------


@pytest.fixture
async def gateway(start_vendor: StartVendor, start_gateway: StartGateway) -> Running:
    return await start_gateway(await start_vendor("openai"))


async def test_it_is_served_to_everybody(gateway: Running) -> None:
    """Generators of clients have no key."""
    async with gateway.session.get(gateway.url + "/openapi.json") as response:
        assert (response.status, response.content_type) == (200, "application/json")
        assert response.headers["Cache-Control"] == "public, max-age=3600"
        served = await response.json()
    assert served == DOCUMENT
    assert served["info"]["version"] == __version__


async def test_its_head_has_no_body(gateway: Running) -> None:
    async with gateway.session.head(gateway.url + "/openapi.json") as response:
        assert (response.status, await response.read()) == (200, b"")
        assert int(response.headers["Content-Length"]) == len(openapi.document())


async def test_it_can_only_be_read(gateway: Running) -> None:
    status, answer, _ = await gateway.call("POST", "/openapi.json", {})
    assert (status, answer["error"]["code"]) == (404, "unknown_url")
