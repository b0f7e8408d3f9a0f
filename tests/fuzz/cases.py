"""Requests made from the OpenAPI document: as it describes them, and with something wrong."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any
from urllib.parse import quote, urlencode

from hypothesis import strategies as st

from tests.described import DOCUMENT, Described, Schema, of_version, resolve
from tests.values import any_json, any_text

Strategy = st.SearchStrategy[Any]
Draw = Callable[[Strategy], Any]

KINDS = ("assistant", "thread", "message", "run", "step", "file", "vector_store", "batch")
BASES = ("/v1", "", "/openai", "/providers/openai/v1")
_CALL_ID = DOCUMENT["components"]["schemas"]["ToolCallId"]
_BOUNDARY = "frontier"
_SHORT, _FEW = 40, 3
"""Longest text and list of a described value, unless its schema asks for more."""


@dataclass(frozen=True)
class Case:
    """A request whose target and body may have holes for ids. `is_described` says that nothing is wrong with it."""

    name: str
    method: str
    target: str
    headers: tuple[str, ...] = ()
    body: bytes = b""
    busy: bool = False
    is_described: bool = True


# --- what the document describes ------------------------------------------------------------------------------------


def values(schema: Schema) -> Strategy:
    """What fits a schema. An id is a hole of its kind."""
    schema = resolve(schema)
    if kind := schema.get("x-id-kind"):
        return st.just(f"{{{kind}}}")
    if schema is _CALL_ID:
        return st.just("{call}")
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "anyOf" in schema:
        return st.one_of([values(option) for option in schema["anyOf"]])
    kinds = schema.get("type", "anything")
    return st.one_of([_OF_TYPE[kind](schema) for kind in ([kinds] if isinstance(kinds, str) else kinds)])


def _objects(schema: Schema) -> Strategy:
    inner = {name: values(each) for name, each in schema.get("properties", {}).items()}
    needed = {name: inner.pop(name) for name in schema.get("required", ())}
    if inner or needed:
        # A field that nobody described now and then: it passes.
        return st.fixed_dictionaries(needed, optional=inner | {"x_new": st.sampled_from([None, 1, "é", {"id": [{}]}])})
    if "additionalProperties" not in schema:
        return st.dictionaries(any_text, any_json, max_size=_FEW)
    names = st.text(max_size=schema["propertyNames"]["maxLength"])
    return st.dictionaries(names, values(schema["additionalProperties"]), max_size=_FEW)


def _lists(schema: Schema) -> Strategy:
    least, most = schema.get("minItems", 0), min(schema.get("maxItems", _FEW), _FEW)
    return st.lists(values(schema["items"]), min_size=least, max_size=most)


def _texts(schema: Schema) -> Strategy:
    least, most = schema.get("minLength", 0), min(schema.get("maxLength", _SHORT), _SHORT)
    texts = st.text(any_characters, min_size=least, max_size=most)
    return st.sampled_from(schema["examples"]) | texts if "examples" in schema else texts


any_characters = st.characters(exclude_categories=())
_OF_TYPE: dict[str, Callable[[Schema], Strategy]] = {
    "object": _objects,
    "array": _lists,
    "string": _texts,
    "integer": lambda schema: st.integers(schema.get("minimum"), schema.get("maximum")),
    "number": lambda schema: st.floats(
        schema.get("minimum"), schema.get("maximum"), allow_nan=False, allow_infinity=False
    ),
    "boolean": lambda schema: st.booleans(),
    "null": lambda schema: st.none(),
    "anything": lambda schema: any_json,
}


@cache
def _body(described_body: str, version: str) -> Strategy:
    return values(of_version(json.loads(described_body), version))


@st.composite
def described(draw: Draw, operation: Described, version: str) -> Case:
    """A request as the document describes it."""
    query = [
        (name, str(value))
        for name, schema in operation.of_place("query").items()
        if draw(st.booleans())
        for value in _as_list(draw(values(schema)))
    ]
    base = draw(st.sampled_from(BASES))
    if base == "/openai":
        query.append(("api-version", "2024-05-01-preview"))
    headers = [f"OpenAI-Beta: assistants={version}"] if version == "v1" or draw(st.booleans()) else []
    if draw(st.booleans()):
        headers.append("x-gateway-provider: openai")
    body = b""
    for kind, schema in operation.body.items():
        value = draw(_body(json.dumps(schema), version))
        body = as_form(value) if kind == "multipart/form-data" else json.dumps(value).encode()
        headers.append(f"Content-Type: {kind}" + ("; boundary=" + _BOUNDARY if kind.startswith("multipart") else ""))
    return Case(
        operation.name,
        operation.method,
        base + operation.template + _encoded(query),
        tuple(headers),
        body,
        busy=draw(st.booleans()),
    )


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _encoded(query: list[tuple[str, str]]) -> str:
    return "?" + urlencode(query, safe="{}", errors="surrogatepass") if query else ""


def as_form(value: Any) -> bytes:
    """A multipart body; the field `file` is a file."""
    parts = []
    for name, content in value.items():
        is_file = name == "file"
        line = f'form-data; name="{name}"' + ('; filename="a.txt"' if is_file else "")
        text = content if isinstance(content, str) else json.dumps(content)
        parts.append(f"--{_BOUNDARY}\r\nContent-Disposition: {line}\r\n\r\n{text}\r\n".encode("utf-8", "surrogatepass"))
    return b"".join(parts) + f"--{_BOUNDARY}--\r\n".encode()


# --- what is wrong with it ------------------------------------------------------------------------------------------


@st.composite
def broken(draw: Draw, operation: Described, version: str) -> Case:
    """A described request with one to three things wrong."""
    case: Case = draw(described(operation, version))
    for _ in range(draw(st.integers(1, 3))):
        case = draw(st.sampled_from(_WRONGS))(draw, case)
    return replace(case, is_described=False)


def _nested(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


other_ids = st.builds("{{{}{}}}".format, st.sampled_from(["", "bob.", "forged."]), st.sampled_from(KINDS))
odd = st.one_of(
    st.sampled_from([None, True, 0, -1, 10**30, 1e308, "", "\x00", "\ud800", "x" * 5000, [], {}, [[]], {"id": 1}]),
    st.sampled_from([_nested(99), _nested(101), {"error": {"message": "no"}}, {"file_id": "{bob.file}"}]),
    other_ids,
    any_json,
)
_ODD_HEADERS = (
    "OpenAI-Beta: assistants=v3",
    "OpenAI-Beta: assistants=v1, assistants=v2",
    "OpenAI-Beta: \xff, responses=v1",
    "x-gateway-provider: nobody",
    "x-gateway-provider: \xe9\xe9",
    "x-request-id: \xff\xfe",
    "x-request-id: " + "9" * 4000,
    "Idempotency-Key: one for all",
    "Idempotency-Key: \xff",
    "Idempotency-Key:",
    "Content-Type: application/json",
    "Content-Type: text/plain",
    "Content-Type: multipart/form-data",
    "Content-Type: multipart/form-data; boundary=other",
    "Content-Type: ;;;",
    "Content-Encoding: gzip",
    "Content-Encoding: deflate, gzip",
    "Accept-Encoding: br;q=9, *;q=nan",
    "Accept: text/event-stream",
    "Range: bytes=5-1",
    "If-Match: *",
    "x-stainless-\xe9: \xff",
    "User-Agent: \t",
    "Cookie: a=b; " * 50,
    "api-key: other-key",
    "X-Forwarded-For: ::1, unknown",
    "Expect: 100-continue",
    "Expect: much",
    "Connection: close",
    "Upgrade: websocket",
)
_TEXT_SPOILS = (
    b"NaN",
    b"1e999",
    b"-0",
    b"1" * 400,
    b'"\\ud800"',
    b'"\\u0000"',
    b"'x'",
    b"//",
    b"{",
    b"]",
    b",",
    b"\xff",
)


def _wrong_path(draw: Draw, case: Case) -> Case:
    path, mark, query = case.target.partition("?")
    segments = path.split("/")
    place = draw(st.integers(1, len(segments) - 1))
    segments[place] = draw(
        other_ids
        | any_text.map(lambda text: quote(text, safe="", errors="surrogatepass"))
        | st.sampled_from(["", ".", "..", "%2e%2e", "%00", "%ff", "%", "a%2Fb", "runs", "x" * 300, "{thread}%20", "é"])
    )
    return replace(case, target="/".join(segments) + mark + query)


def _wrong_query(draw: Draw, case: Case) -> Case:
    name = draw(st.sampled_from(["limit", "order", "after", "before", "run_id", "include[]", "purpose", "api-version"]))
    value = draw(
        other_ids
        | any_text.map(lambda text: quote(text, safe="", errors="surrogatepass"))
        | st.sampled_from(["0", "-1", "1e3", "١", "9" * 30, "%", "%ff", "%00", "ASC", "a&a", "=", ";", "#"])
    )
    return replace(case, target=case.target + ("&" if "?" in case.target else "?") + f"{name}={value}")


def _wrong_header(draw: Draw, case: Case) -> Case:
    return replace(case, headers=(*case.headers, draw(st.sampled_from(_ODD_HEADERS))))


def _missing_header(draw: Draw, case: Case) -> Case:
    return replace(case, headers=case.headers[:-1])


def _wrong_method(draw: Draw, case: Case) -> Case:
    return replace(
        case, method=draw(st.sampled_from(["GET", "POST", "DELETE", "PUT", "PATCH", "OPTIONS", "TRACE", "X"]))
    )


def _wrong_value(draw: Draw, case: Case) -> Case:
    """One place of a JSON body, or the whole, is something else, has another name, is missing or is a list."""
    try:
        value = json.loads(case.body)
    except (ValueError, RecursionError):
        return replace(case, body=json.dumps(draw(odd)).encode())
    holder = {"": value}
    places = list(_places(holder))
    container, key = places[draw(st.integers(0, len(places) - 1))]
    change = draw(st.sampled_from(["replace", "remove", "wrap", "rename"]))
    if change == "replace" or container is holder:
        container[key] = draw(odd)
    elif change == "wrap":
        container[key] = [container[key]]
    else:
        inner = container.pop(key)
        if change == "rename" and isinstance(container, dict):
            container[draw(st.sampled_from([key.upper(), key.title(), key + "\x00", "file_ids", "id"]))] = inner
    return replace(case, body=json.dumps(holder[""]).encode())


def _places(value: Any) -> Any:
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)


def _wrong_bytes(draw: Draw, case: Case) -> Case:
    """A piece of the body is cut out or something is put between."""
    start = draw(st.integers(0, len(case.body)))
    stop = draw(st.integers(start, min(start + 40, len(case.body))))
    junk = draw(st.sampled_from(_TEXT_SPOILS) | st.binary(max_size=8))
    return replace(case, body=case.body[:start] + junk + case.body[stop:])


def _other_encoding(draw: Draw, case: Case) -> Case:
    text = case.body.decode("utf-8", "replace")
    return replace(case, body=text.encode(draw(st.sampled_from(["utf-16", "utf-32-le", "utf-8-sig", "utf-7"]))))


def _gzipped(body: bytes) -> bytes:
    return gzip.compress(body, mtime=0)


def _bare_deflate(body: bytes) -> bytes:
    return zlib.compress(body)[2:-4]


def _packed(draw: Draw, case: Case) -> Case:
    """Packed as told, otherwise, in half, or with a bomb."""
    pack = draw(st.sampled_from([_gzipped, zlib.compress, _bare_deflate]))
    packed = pack(case.body if draw(st.booleans()) else b" " * 2**20)
    cut = draw(st.sampled_from([len(packed), len(packed) // 2, 1]))
    told = draw(st.sampled_from(["gzip", "deflate", "br", "zstd", "identity", "gzip, gzip", "x"]))
    return replace(case, body=packed[:cut], headers=(*case.headers, f"Content-Encoding: {told}"))


def _very_deep(draw: Draw, case: Case) -> Case:
    levels = draw(st.sampled_from([100, 101, 1025, 30_000]))
    opening, closing = draw(st.sampled_from([(b"[", b"]"), (b'{"a":', b"}"), (b'{"file_ids":[', b"]}")]))
    start = case.body.find(b"{") + 1
    return replace(case, body=case.body[:start] + b'"x_deep":' + opening * levels + b"1" + closing * levels + b"}")


def _said_twice(draw: Draw, case: Case) -> Case:
    """A name stands twice in the outermost object, once for another tenant's object."""
    name = draw(st.sampled_from(["assistant_id", "file_ids", "file_id", "tool_resources", "stream", "model"]))
    word = draw(st.sampled_from([name, "".join(f"\\u{ord(letter):04x}" for letter in name)]))
    value = json.dumps(draw(odd))
    start = case.body.find(b"{") + 1
    return replace(case, body=case.body[:start] + f'"{word}":{value},'.encode() + case.body[start:])


_WRONGS = (
    _wrong_path,
    _wrong_query,
    _wrong_header,
    _missing_header,
    _wrong_method,
    _wrong_value,
    _wrong_value,
    _wrong_value,
    _wrong_bytes,
    _other_encoding,
    _said_twice,
    _packed,
    _very_deep,
)
