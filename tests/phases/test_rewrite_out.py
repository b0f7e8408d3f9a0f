"""The request as the provider gets it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from gateway import __version__
from gateway.errors import GatewayError
from gateway.lists import Page, read_page
from gateway.model import Outbound
from gateway.operations import BY_NAME, match
from gateway.phases.locate import Located
from gateway.phases.receive import Body
from gateway.phases.rewrite_out import Beta, read_beta, rewrite_body, rewrite_out
from tests.values import DIRECTORY, any_json, located, public, target, unhurried

SIDE = target("side")
THREAD = public("t_1")
OURS = {"User-Agent": f"threads-gateway/{__version__}", "Accept-Encoding": "gzip, deflate"}
ACME = {"OpenAI-Organization": "org-of-acme", "OpenAI-Project": "proj-of-acme"}


def headers(*pairs: tuple[str, str]) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict(pairs))


def sent(
    request: str,
    given: CIMultiDictProxy[str] | None = None,
    *,
    page: Page | None = None,
    streaming: bool = False,
    found: Located | None = None,
    **more: Any,
) -> Outbound:
    method, _, url = request.partition(" ")
    path, _, query = url.partition("?")
    return rewrite_out(
        match(method, path).operation,
        found or located(request, **more),
        raw_query=query,
        page=page,
        headers=given if given is not None else headers(),
        beta=read_beta(given if given is not None else headers()),
        streaming=streaming,
    )


# --- headers -------------------------------------------------------------------------------------------------------


def test_of_a_callers_headers_few_cross() -> None:
    """Each name is either here or there: nothing crosses that nobody thought of."""
    crossing = [
        ("Content-Type", "application/json; charset=utf-8"),
        ("accept", "text/event-stream"),
        ("User-Agent", "OpenAI/Python 3.54.0"),
        ("X-Stainless-Lang", "python"),
        ("x-stainless-retry-count", "2"),
        ("openai-beta", "assistants=v2"),
    ]
    staying = [
        ("Authorization", "Bearer planted"),
        ("api-key", "planted"),
        ("Proxy-Authorization", "Basic planted"),
        ("Cookie", "planted"),
        ("OpenAI-Organization", "planted"),
        ("OpenAI-Project", "planted"),
        ("X-Request-Id", "planted"),
        ("X-Gateway-Provider", "planted"),
        ("Idempotency-Key", "planted"),
        ("Host", "planted"),
        ("Origin", "planted"),
        ("Referer", "planted"),
        ("X-Forwarded-For", "planted"),
        ("Forwarded", "planted"),
        ("Via", "planted"),
        ("X-Real-Ip", "planted"),
        ("Traceparent", "planted"),
        ("Connection", "planted"),
        ("Keep-Alive", "planted"),
        ("Transfer-Encoding", "planted"),
        ("Content-Length", "planted"),
        ("Content-Encoding", "planted"),
        ("Accept-Encoding", "planted"),
        ("Expect", "planted"),
        ("Upgrade", "planted"),
        ("TE", "planted"),
        ("If-None-Match", "planted"),
        ("Range", "planted"),
        ("X-Anything-Else", "planted"),
    ]
    outbound = sent("POST /v1/threads", headers(*crossing, *staying))
    assert {name.lower(): value for name, value in outbound.headers.items()} == {
        **{name.lower(): value for name, value in crossing},
        **{name.lower(): value for name, value in ACME.items()},
        "accept-encoding": "gzip, deflate",
    }
    assert "planted" not in repr(outbound)


def test_a_request_says_who_it_is_from_and_what_it_is_for() -> None:
    assert sent("POST /v1/threads").headers == {**OURS, **ACME, "OpenAI-Beta": "assistants=v2"}


def test_organisation_and_project_are_the_accounts() -> None:
    assert sent("POST /v1/threads", tenant="carol").headers == {**OURS, "OpenAI-Beta": "assistants=v2"}  # has neither
    account = replace(SIDE.account, organization="org", project="proj")
    beside = Located(replace(SIDE, account=account))  # a vendor that has no such headers
    assert sent("POST /v1/threads", found=beside).headers == OURS


def test_no_secret_is_in_an_outbound_request() -> None:
    for tenant in ("alice", "carol"):
        shown = repr(sent("POST /v1/threads", tenant=tenant))
        assert not any(
            key.secret.reveal() in shown for found in DIRECTORY.targets.values() for key in found.account.keys
        )


@pytest.mark.parametrize(
    ("request_", "streaming", "encoding"),
    [
        ("POST /v1/threads", False, "gzip, deflate"),
        ("POST /v1/threads/runs", True, "identity"),  # passes as it comes
        (f"GET /v1/files/{public('f', 'file')}/content", False, "identity"),
        (f"GET /v1/files/{public('f', 'file')}", False, "gzip, deflate"),
    ],
)
def test_what_is_read_may_be_packed_and_what_passes_through_not(request_: str, streaming: bool, encoding: str) -> None:
    assert sent(request_, streaming=streaming).headers["Accept-Encoding"] == encoding


@pytest.mark.parametrize(
    ("lines", "others", "reference", "aiml"),
    [
        ([], (), "assistants=v2", None),
        (["assistants=v2"], (), "assistants=v2", None),
        ([" assistants=v2 ,"], (), "assistants=v2", None),
        (["assistants=v2, files=v3"], ("files=v3",), "assistants=v2,files=v3", "files=v3"),
        (["files=v3", "assistants=v2, x"], ("files=v3", "x"), "assistants=v2,files=v3,x", "files=v3,x"),
        (["files=v3"], ("files=v3",), "assistants=v2,files=v3", "files=v3"),
    ],
)
def test_the_beta_header_is_v2_in_the_vendors_dialect(
    lines: list[str], others: tuple[str, ...], reference: str, aiml: str | None
) -> None:
    given = headers(*(("OpenAI-Beta", line) for line in lines))
    assert read_beta(given) == Beta("v2", others, any("assistants=" in line for line in lines))
    assert sent("POST /v1/threads", given).headers.get("OpenAI-Beta") == reference
    assert sent("POST /providers/side/v1/threads", given).headers.get("OpenAI-Beta") == aiml


@pytest.mark.parametrize(
    "line", ["assistants=v1, assistants=v2", "x, assistants=v3", "assistants=v3", "assistants=", "assistants=v2x"]
)
def test_another_version_of_the_protocol_is_refused(line: str) -> None:
    with pytest.raises(GatewayError, match="is not served; set the header 'OpenAI-Beta: assistants=v2'") as refused:
        read_beta(headers(("OpenAI-Beta", "assistants=v2"), ("openai-beta", line)))
    assert (refused.value.status, refused.value.code, refused.value.param) == (400, "invalid_beta", "OpenAI-Beta")


# --- method, path, query -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "url"),
    [
        ("POST /v1/threads", "https://main.example/v1/threads"),
        ("POST /threads/runs", "https://main.example/v1/threads/runs"),
        ("POST /providers/side/v1/threads", "https://api.aimlapi.com/threads"),  # without /v1, as that vendor has it
        (f"GET /v1/threads/{THREAD}", "https://main.example/v1/threads/t_1"),
        (f"DELETE /providers/side/v1/threads/{public('t_1', at=SIDE)}", "https://api.aimlapi.com/threads/t_1"),
        (
            f"POST /v1/threads/{THREAD}/runs/{public('r', 'run')}/submit_tool_outputs",
            "https://main.example/v1/threads/t_1/runs/r/submit_tool_outputs",
        ),
        (
            f"GET /v1/vector_stores/{public('v', 'vector_store')}/files/{public('f', 'file')}/content",
            "https://main.example/v1/vector_stores/v/files/f/content",
        ),
    ],
)
def test_the_path_is_the_operations_at_the_providers_base(request_: str, url: str) -> None:
    outbound = sent(request_)
    assert (outbound.method, outbound.url) == (request_.partition(" ")[0], url)


@pytest.mark.parametrize(
    ("upstream", "segment"),
    [
        ("a/b", "a%2Fb"),
        ("a?b#c", "a%3Fb%23c"),
        ("a b+c", "a%20b%2Bc"),
        ("é", "%C3%A9"),
        ("a%2Fb", "a%252Fb"),
        ("a_-.~b", "a_-.~b"),
    ],
)
def test_a_strange_id_stays_one_segment(upstream: str, segment: str) -> None:
    found = replace(located(), path_ids={"thread": upstream})
    assert sent("GET /v1/threads/x", found=found).url == f"https://main.example/v1/threads/{segment}"


@pytest.mark.parametrize("query", ["limit=5&order=asc", "a=%7E~&b=+%20&&c=é&LIMIT=1", "x", "="])
def test_a_query_without_ids_goes_through_letter_for_letter(query: str) -> None:
    assert sent(f"GET /v1/threads/{THREAD}/messages?{query}").url.partition("?")[2] == query


def test_ids_in_a_query_are_the_providers() -> None:
    query = f"limit=5&after={public('m/1', 'message')}&run_id={public('r', 'run')}&x=a%20b&include[]=y&x=z"
    outbound = sent(f"GET /v1/threads/{THREAD}/messages?{query}")
    assert outbound.url.partition("?")[2] == "limit=5&after=m%2F1&run_id=r&x=a+b&include%5B%5D=y&x=z"


@pytest.mark.parametrize(
    ("query", "one_more", "sent_query"),
    [
        ("", True, "limit=21"),
        ("", False, ""),
        ("limit=5", True, "limit=6"),
        ("limit=5", False, "limit=5"),
        ("limit=100", True, "limit=100"),
        ("limit=0", True, "limit=0"),  # the vendor may say what is wrong with it
        ("limit=ten&order=asc", True, "limit=ten&order=asc"),
        ("order=asc&limit=5&limit=7", True, "order=asc&limit=8"),
        (f"order=asc&limit=5&after={public('m', 'message')}", True, "order=asc&after=m&limit=100"),
    ],
)
def test_more_than_the_limit_is_asked_for_where_that_tells_whether_there_is_more(
    query: str, one_more: bool, sent_query: str
) -> None:
    found = located(f"GET /v1/threads/{THREAD}/messages?{query}")
    page = read_page(found.query, default_limit=20, max_limit=100, ask_one_more=one_more)
    outbound = sent(f"GET /v1/threads/{THREAD}/messages?{query}", page=page)
    assert outbound.url.partition("?")[2] == sent_query


# --- body ----------------------------------------------------------------------------------------------------------


def body_of(raw: bytes) -> Body:
    return Body(raw, json.loads(raw))


def rewritten(request: str, raw: bytes) -> bytes:
    body = body_of(raw)
    found = match(*request.split(" ", 1)).operation
    return rewrite_body(found, body, located(request, body.document))


@pytest.mark.parametrize(
    "raw",
    [
        b"{}",
        b'{ "metadata" : {"a":"\\u00e9", "n": 1.0, "big": 123456789012345678901234567890} }',
        b'{"messages":[{"role":"user","content":"\\ud800 thread_abc \xc3\xa9"}]}',
        b'{"metadata":{"file_ids":"not ids"},"messages":null}',
        b'{"a":1,"a":2}',
    ],
)
def test_a_body_without_ids_goes_through_byte_for_byte(raw: bytes) -> None:
    assert rewritten("POST /v1/threads", raw) == raw


@settings(unhurried, max_examples=30)
@given(st.dictionaries(st.text(), any_json))
def test_any_body_without_ids_goes_through_byte_for_byte(document: dict[str, Any]) -> None:
    raw = json.dumps({"metadata": document}, indent=1).encode()
    assert rewritten("POST /v1/threads", raw) == raw


def test_what_is_no_json_goes_through_byte_for_byte() -> None:
    raw = b'--x\r\nContent-Disposition: form-data; name="file_id"\r\n\r\n\xff\r\n--x--'
    assert rewrite_body(BY_NAME["upload_file"], Body(raw), located("POST /v1/files")) == raw
    assert rewrite_body(BY_NAME["get_thread"], Body(), located(f"GET /v1/threads/{THREAD}")) == b""


def test_ids_in_a_body_are_the_providers_and_all_else_stays() -> None:
    document = {
        "assistant_id": public("asst_1", "assistant"),
        "instructions": f"say {THREAD} \ud800",
        "metadata": {"n": 123456789012345678901234567890, "é": [1.5, None, True]},
        "thread": {"messages": [{"role": "user", "content": THREAD, "file_ids": [public("f", "file")] * 2}]},
    }
    raw = json.dumps(document).encode()
    told = json.loads(rewritten("POST /v1/threads/runs", raw))
    document["assistant_id"] = "asst_1"
    document["thread"]["messages"][0]["file_ids"] = ["f", "f"]  # type: ignore[index]
    assert told == document


@pytest.mark.parametrize(
    "raw",
    [
        b'{"assistant_id":null,"assistant_id":null}',
        b'{"metadata":{"my_id":"1","my_id":"2"}}',
        b'{"assistant\\u005fid":null,"assistant_id":null}',
    ],
)
def test_a_body_that_could_hide_an_id_is_refused(raw: bytes) -> None:
    """Of two equal names a vendor may heed the one that we do not."""
    with pytest.raises(GatewayError) as refused:
        rewritten("POST /v1/threads/runs", raw)
    assert (refused.value.status, refused.value.code) == (400, "duplicate_name")


def test_of_two_ids_of_one_name_only_the_checked_one_is_sent() -> None:
    raw = b'{"assistant_id":"asst_theirs","assistant_id":"%s"}' % public("asst_1", "assistant").encode()
    assert rewritten("POST /v1/threads/runs", raw) == b'{"assistant_id":"asst_1"}'
