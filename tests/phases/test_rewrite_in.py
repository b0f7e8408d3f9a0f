"""The answer as the caller gets it, good or bad."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from gateway import codec
from gateway.errors import GatewayError
from gateway.lists import read_page
from gateway.model import Reply
from gateway.operations import BY_NAME, DELETED_OBJECTS
from gateway.phases.judge import Refusal
from gateway.phases.rewrite_in import as_reply, crossing_headers, deleted, read_refusal, refuse, rewrite_in
from tests.values import READ, WRITE, any_json, located, public, public_ids, target, unhurried

MAIN, BOLT, SIDE = target(), target("main", "bolt"), target("side")
LONG = "abc123abc123abc123abc123"
THREAD = f"thread_{LONG}"
PUBLIC = public_ids(located(f"GET /v1/threads/{public(THREAD)}"))


def answered(operation: str, document: Any, at: Any = MAIN, query: str = "") -> Any:
    found = BY_NAME[operation]
    pairs = [(name, value) for name, _, value in (pair.partition("=") for pair in query.split("&")) if name]
    page = read_page(pairs, default_limit=20, max_limit=100, ask_one_more=True) if found.answers == "list" else None
    return rewrite_in(found, document, target=at, public=PUBLIC, page=page)


# --- successes -----------------------------------------------------------------------------------------------------


def test_ids_become_public_and_what_is_unknown_stays() -> None:
    run = {"id": "run_1", "thread_id": THREAD, "new": [{"id": "x"}], "usage": None, "metadata": {"id": "x"}}
    told = {**run, "id": public("run_1", "run"), "thread_id": public(THREAD)}
    assert answered("get_run", run) == told


def test_a_list_has_public_ids_all_over() -> None:
    listed = {
        "object": "list",
        "data": [{"id": "msg_2", "thread_id": THREAD}, {"id": "msg_1", "file_ids": ["f"]}],
        "first_id": "msg_2",
        "last_id": "msg_1",
        "has_more": True,
        "total": 7,
    }
    first, last = public("msg_2", "message"), public("msg_1", "message")
    assert answered("list_messages", listed) == {
        "object": "list",
        "data": [{"id": first, "thread_id": public(THREAD)}, {"id": last, "file_ids": [public("f", "file")]}],
        "first_id": first,
        "last_id": last,
        "has_more": True,
        "total": 7,
    }


def test_an_array_becomes_a_list_with_public_ids() -> None:
    bare = {"data": [{"id": "m3", "metadata": None}, {"id": "m2"}, {"id": "m1"}]}
    ids = [public(name, "message") for name in ("m3", "m2")]
    assert answered("list_messages", bare, SIDE, "limit=2") == {
        "object": "list",
        "data": [{"id": ids[0], "metadata": {}}, {"id": ids[1]}],
        "first_id": ids[0],
        "last_id": ids[1],
        "has_more": True,
    }


def test_an_empty_list_has_no_first_and_no_last() -> None:
    assert answered("list_runs", {"data": []}) == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }


@pytest.mark.parametrize(
    ("at", "given", "told"), [(SIDE, None, {}), (SIDE, {"a": "1"}, {"a": "1"}), (SIDE, {}, {}), (MAIN, None, None)]
)
def test_a_vendors_missing_metadata_is_empty(at: Any, given: Any, told: Any) -> None:
    """Programs write into it. The reference never says null, so there null is somebody's own."""
    assert answered("get_thread", {"id": "t", "metadata": given}, at)["metadata"] == told
    assert answered("list_runs", {"data": [{"metadata": given}, 5]}, at)["data"] == [{"metadata": told}, 5]


def test_metadata_that_is_not_there_is_not_invented() -> None:
    assert answered("delete_thread", {"id": "t"}, SIDE) == {"id": public("t")}
    assert answered("delete_thread", {}, SIDE) == {}


@pytest.mark.parametrize(("operation", "name"), DELETED_OBJECTS.items())
def test_a_deletion_whose_answer_was_lost_is_told_all_the_same(operation: str, name: str) -> None:
    kind = BY_NAME[operation].kind
    lost = answered(operation, deleted(BY_NAME[operation], "x_1"))
    assert lost == {"id": public("x_1", kind), "object": name, "deleted": True}


def test_every_success_is_200() -> None:
    assert as_reply({"a": "é\ud800"}, {"x": "y"}) == Reply(200, b'{"a":"\\u00e9\\ud800"}', {"x": "y"})


# --- headers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("at", "limits_cross"), [(MAIN, False), (BOLT, True)], ids=["shared", "owned"])
def test_of_a_providers_headers_few_cross(at: Any, limits_cross: bool) -> None:
    """Each name is either here or there: nothing crosses that nobody thought of."""
    crossing = {
        "openai-processing-ms": "17",
        "openai-version": "2020-10-01",
        "openai-poll-after-ms": "500",
        "retry-after": "2",
        "retry-after-ms": "2000",
    }
    limits = {"x-ratelimit-limit-requests": "10", "x-ratelimit-remaining-tokens": "9", "x-ratelimit-reset-x": "1s"}
    staying = (
        "Set-Cookie openai-organization openai-project Server CF-RAY cf-cache-status alt-svc Strict-Transport-Security "
        "Content-Type Content-Length Content-Encoding Transfer-Encoding Connection Date Via X-Envoy-Decorator "
        "x-should-retry WWW-Authenticate Location access-control-expose-headers x-anything-else ratelimit-limit "
        "azureml-model-session x-ms-region apim-request-id"
    )
    given = CIMultiDict({name.title(): value for name, value in {**crossing, **limits}.items()})
    given.update(dict.fromkeys(staying.split(), "planted"))
    given["X-Request-ID"] = "req_theirs"
    expected = crossing | {"x-upstream-request-id": "req_theirs"} | (limits if limits_cross else {})
    assert crossing_headers(given, at) == expected


# --- refusals ------------------------------------------------------------------------------------------------------


def refused(raw: bytes, status: int = 400, *, operation: Any = READ, headers: Any = None, at: Any = MAIN) -> Reply:
    found = read_refusal(status, raw)
    return refuse(operation, found, raw, headers=headers or CIMultiDict(), target=at, public=PUBLIC)


def told(raw: bytes, status: int = 400) -> dict[str, Any]:
    envelope = json.loads(refused(raw, status).body)
    assert envelope.keys() == {"error"}
    error: dict[str, Any] = envelope["error"]
    assert error.keys() >= {"message", "type", "param", "code"}
    assert isinstance(error["message"], str)
    assert isinstance(error["type"], str)
    return error


def test_openais_own_error_is_passed_on() -> None:
    error = {"message": "No good.", "type": "invalid_request_error", "param": "metadata.x", "code": "invalid_type"}
    assert told(json.dumps({"error": error}).encode()) == error


def test_what_else_an_error_says_is_passed_on() -> None:
    inner = {"code": "DeploymentNotFound", "message": "x", "innererror": {"trace": [f"at {THREAD}", 1, 10**30, 0.5]}}
    assert told(json.dumps({"error": inner}).encode(), 404) == {
        "code": "DeploymentNotFound",
        "message": "x",
        "type": "invalid_request_error",
        "param": None,
        "innererror": {"trace": [f"at {public(THREAD)}", 1, 10**30, 0.5]},
    }


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b'{"error":{"message":"words"}}', "words"),
        (b'{"error":{"message":["a","b"]}}', '["a","b"]'),
        (b'{"error":{"message":{"en":"a"}}}', '{"en":"a"}'),
        (b'{"error":{"message":""}}', '{"error":{"message":""}}'),  # all that was said
        (b'{"error":{}}', '{"error":{}}'),
        (b'{"error":"words"}', "words"),
        (b'{"error":["a","b"]}', '["a","b"]'),
        (b'{"error":null,"message":"words"}', "words"),
        (b'{"error":"Bad Request","message":"words","statusCode":400}', "words"),
        (b'{"error":"Bad Request","message":["a","b"],"statusCode":400}', '["a","b"]'),
        (b'{"error":true,"message":"words"}', "words"),
        (b'{"error":"invalid_grant","error_description":"words"}', "words"),
        (b'{"message":"words"}', "words"),
        (b'{"message":["a","b"]}', '["a","b"]'),
        (b'{"detail":"words"}', "words"),
        (b'{"detail":[{"loc":["body"],"msg":"words"}]}', '[{"loc":["body"],"msg":"words"}]'),
        (b'{"title":"words","status":400}', "words"),
        (b'{"description":"words"}', "words"),
        (b'{"wrong":"words"}', '{"wrong":"words"}'),
        (b'["a","b"]', '["a","b"]'),
        (b'[{"error":{"message":"words"}}]', "words"),  # Google, where streams are JSON
        (b'[{"error":"words"},{}]', '[{"error":"words"},{}]'),
        (b'"words"', "words"),
        (b"17", "17"),
        (b"true", "true"),
        (b"null", "null"),
        (b"{}", "{}"),
        (b"[]", "[]"),
        (b"words and words", "words and words"),
        (b"  words\r\n  and\twords ", "words and words"),
        (b"{broken", "{broken"),
        (b"\xff\xfe words", "\ufffd\ufffd words"),
        (b"", "the provider gave no reason"),
        (b" \n", "the provider gave no reason"),
        (b"<html></html>", "the provider gave no reason"),
        (
            b"<!DOCTYPE html><html><head><style>b { x: y }</style><title>502 Bad Gateway</title>"
            b"<script type='a'>if (a < b) {}</script></head>"
            b"<body><h1>Bad&nbsp;Gateway</h1>\n<hr>nginx &lt;1.2&gt;</body></html>",
            "502 Bad Gateway Bad Gateway nginx <1.2>",
        ),
        (b"<p>words</p><script>var x = 1", "words"),  # cut off
        (b"<p>words</p><style>" + b"b { x: y }\n" * 10_000 + b"</style>", "words"),
    ],
)
def test_an_error_of_any_shape_is_told_in_the_envelope(raw: bytes, message: str) -> None:
    error = told(raw)
    assert error["message"] == message
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("raw", "fields"),
    [
        (b'{"error":{"message":"x","type":"t","code":"c","param":"p"}}', ("t", "c", "p")),
        (b'{"error":{"message":"x","type":null,"code":null,"param":null}}', ("invalid_request_error", None, None)),
        (b'{"error":{"message":"x","code":404}}', ("invalid_request_error", 404, None)),
        (b'{"message":"x","type":"t","code":"c","param":"p"}', ("t", "c", "p")),
        (b'{"error":"x","code":"c"}', ("invalid_request_error", "c", None)),
        (b"x", ("invalid_request_error", None, None)),
    ],
)
def test_type_code_and_parameter_are_the_vendors_if_it_says_them(raw: bytes, fields: tuple[Any, ...]) -> None:
    error = told(raw)
    assert (error["type"], error["code"], error["param"]) == fields


@pytest.mark.parametrize(
    ("status", "answered_", "kind"),
    [
        (400, 400, "invalid_request_error"),
        (403, 403, "invalid_request_error"),
        (404, 404, "invalid_request_error"),
        (429, 429, "rate_limit_error"),
        (500, 500, "server_error"),
        (503, 503, "server_error"),
        (599, 599, "server_error"),
        (302, 502, "invalid_request_error"),  # a redirect is no answer of this API
        (304, 502, "invalid_request_error"),
    ],
)
def test_the_status_is_the_vendors(status: int, answered_: int, kind: str) -> None:
    assert refused(b"x", status).status == answered_
    assert told(b"x", status)["type"] == kind


def test_ids_in_an_error_are_public_and_secrets_masked() -> None:
    sentence = f"No thread found with id '{THREAD}'. Key sk-acme-one or sk-abcdefgh1 of org-abcdefgh1"
    masked = f"No thread found with id '{public(THREAD)}'. Key *** or sk-*** of org-***"
    for raw in (
        json.dumps({"error": {"message": sentence, "hint": sentence, "param": THREAD}}).encode(),
        json.dumps({"error": sentence}).encode(),
        json.dumps({"detail": [sentence]}).encode(),
        sentence.encode(),
        f"<p>{sentence}</p>".encode(),
    ):
        assert masked in told(raw)["message"]
    error = told(json.dumps({"error": {"message": "x", "hint": sentence, "param": THREAD}}).encode())
    assert (error["hint"], error["param"]) == (masked, THREAD)  # a parameter's name is never touched


@pytest.mark.parametrize(
    ("status", "raw"),
    [
        (401, b'{"error":{"message":"Incorrect API key provided: sk-acme-one","code":"invalid_api_key"}}'),
        (401, b"<html>sk-acme-one</html>"),
        (402, b'{"message":"pay for sk-acme-one"}'),
        (429, b'{"error":{"message":"sk-acme-one","code":"insufficient_quota"}}'),
        (429, b'{"code":"billing_hard_limit_reached","message":"sk-acme-one"}'),
    ],
)
def test_what_is_about_our_key_is_not_told(status: int, raw: bytes) -> None:
    with pytest.raises(GatewayError) as caught:
        refused(raw, status)
    error = caught.value
    assert (error.status, error.code) == (502, "upstream_credentials_exhausted")
    assert (error.source, error.type) == ("gateway", "server_error")
    assert error.message == "provider 'main' accepts none of the keys of account 'acme'"
    assert error.headers == {"x-should-retry": "false"}


@pytest.mark.parametrize(
    ("operation", "status", "must_not_repeat"),
    [
        (WRITE, 500, True),
        (WRITE, 409, True),
        (WRITE, 408, True),
        (WRITE, 429, False),
        (WRITE, 400, False),
        (READ, 500, False),
        (READ, 429, False),
    ],
)
def test_the_sdks_are_kept_from_repeating_what_may_have_been_done(
    operation: Any, status: int, must_not_repeat: bool
) -> None:
    given = CIMultiDict({"Retry-After": "3", "X-Should-Retry": "true", "Set-Cookie": "x"})
    headers = {"retry-after": "3"} | ({"x-should-retry": "false"} if must_not_repeat else {})
    assert refused(b"x", status, operation=operation, headers=given).headers == headers


@pytest.mark.parametrize(
    "raw",
    [
        rb'{"error":{"message":"a \ud800"}}',
        rb'{"error":{"message":"x","more":["\udfff"],"\ud800":1}}',
        b'{"error":{"message":"x","n":123456789012345678901234567890}}',
        b'{"error":{"message":"x","more":' + b"[" * 900 + b"]" * 900 + b"}}",
        b'{"message":' + b"[" * 900 + b"]" * 900 + b"}",
        b"[" * 100_000,
    ],
    ids=lambda raw: str(raw[:30]),
)
def test_a_strange_error_is_told_all_the_same(raw: bytes) -> None:
    assert told(raw, 500)["message"]


@unhurried
@given(any_json, st.sampled_from([400, 403, 404, 409, 422, 500, 503]))
def test_any_json_makes_an_envelope(document: Any, status: int) -> None:
    for shape in (
        document,
        {"error": document},
        {"message": document},
        {"error": {"message": document, "x": document}},
    ):
        assert told(json.dumps(shape).encode(), status)["message"]


@unhurried
@given(st.binary())
def test_any_bytes_make_an_envelope(raw: bytes) -> None:
    assert told(raw, 500)["message"]


def test_a_long_sentence_is_cut() -> None:
    assert len(told(b"word " * 10_000)["message"]) == 2000
    assert len(told(json.dumps({"error": {"message": "x" * 100_000}}).encode())["message"]) == 2000


@pytest.mark.parametrize("text", ["<", "<script", "<script>", "<style>", "<a ", "&", "thread_", "<!--", "</"])
def test_a_hostile_error_takes_no_longer_than_any_other(text: str) -> None:
    began = time.perf_counter()
    told(text.encode() * (300_000 // len(text)))
    assert time.perf_counter() - began < 1


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b'{"error":{"code":"insufficient_quota"}}', "insufficient_quota"),
        (b'{"error":{"code":404}}', None),
        (b'{"error":{}}', None),
        (b'{"code":"x"}', "x"),
        (b'{"error":"x","code":"y"}', "y"),
        (b"[]", None),
        (b'[{"code":"x"}]', None),
        (b'[{"error":{"code":"x"}}]', "x"),
        (b'"x"', None),
        (b"<html>", None),
        (b"", None),
    ],
)
def test_the_code_of_a_refusal_is_found(raw: bytes, code: str | None) -> None:
    assert read_refusal(418, raw) == Refusal(418, code)


@pytest.mark.parametrize(
    ("status", "message", "read_as"),
    [
        (400, "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing.", 402),
        (400, "You have reached your specified API usage limits. You will regain access on 2026-12-01.", 402),
        (400, "messages: at least one message is required", 400),
        (500, "Your credit balance is too low", 500),
    ],
)
def test_what_wants_money_in_other_words_is_a_402(status: int, message: str, read_as: int) -> None:
    raw = codec.dumps({"type": "error", "error": {"type": "invalid_request_error", "message": message}})
    assert read_refusal(status, raw) == Refusal(read_as)
