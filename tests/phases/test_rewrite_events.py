"""A provider's stream events as the caller gets them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.phases.rewrite_events import EventRewriter, error_data, read_object, run_as_events
from gateway.sse import Event, EventParser
from gateway.vendors import VENDORS
from tests.values import any_json, located, public, public_ids, unhurried

LONG = "abc123abc123abc123abc123"
THREAD = f"thread_{LONG}"
PUBLIC = public_ids(located(f"POST /v1/threads/{public(THREAD)}/runs"))


def rewriter(vendor: str = "openai") -> EventRewriter:
    return EventRewriter(PUBLIC, VENDORS[vendor].mend)


def rewritten(event: Event, vendor: str = "openai") -> Event:
    """The one event that a caller reads."""
    (told,) = EventParser().feed(rewriter(vendor)(event))
    return told


def data_of(event: Event) -> Any:
    assert event.data is not None
    return json.loads(event.data)


def of_json(name: str, document: Any) -> Event:
    return Event(name, json.dumps(document).encode())


@pytest.mark.parametrize(
    ("name", "document", "told"),
    [
        ("thread.created", {"id": THREAD}, {"id": public(THREAD)}),
        (
            "thread.run.created",
            {"object": "thread.run", "id": "r", "thread_id": THREAD, "metadata": {"thread_id": THREAD}},
            {
                "object": "thread.run",
                "id": public("r", "run"),
                "thread_id": public(THREAD),
                "metadata": {"thread_id": THREAD},
            },
        ),
        (
            "thread.message.delta",
            {"id": "m", "delta": {"content": [{"text": {"value": f"{THREAD}\u2028\nevent: done"}}]}},
            {"id": public("m", "message"), "delta": {"content": [{"text": {"value": f"{THREAD}\u2028\nevent: done"}}]}},
        ),
        (
            "thread.run.failed",
            {"id": "r", "last_error": {"code": "server_error", "message": f"{THREAD} with sk-abcdefgh1"}},
            {
                "id": public("r", "run"),
                "last_error": {"code": "server_error", "message": f"{public(THREAD)} with sk-***"},
            },
        ),
        ("", {"object": "thread.run.step", "id": "s"}, {"object": "thread.run.step", "id": public("s", "step")}),
        ("vendor.extra", {"run_id": "r", "x": THREAD}, {"run_id": public("r", "run"), "x": THREAD}),
        ("vendor.extra", {"error": "x", "id": 5}, {"error": "x", "id": 5}),
    ],
)
def test_ids_in_an_event_become_public(name: str, document: dict[str, Any], told: dict[str, Any]) -> None:
    event = rewritten(of_json(name, document))
    assert (event.name, data_of(event)) == (name, told)


def test_an_events_object_is_mended_like_an_answer() -> None:
    event = of_json("thread.created", {"id": THREAD, "metadata": None})
    assert data_of(rewritten(event, "aimlapi")) == {"id": public(THREAD), "metadata": {}}


@pytest.mark.parametrize(
    "event",
    [
        Event("x", b"no JSON"),
        Event("x", b"two\nlines"),
        Event("x", b""),
        Event("x", None),
        Event("", b"[1, 2]"),
        Event("", b'"thread_1"'),
        Event("", b'{"broken": '),
        Event("", b"<html>\xff"),
        Event("", None, [b": keep-alive"]),
        Event("", b"17", [b"id: 7", b"retry: 10", b": note"]),
    ],
    ids=str,
)
def test_what_is_no_object_passes_as_it_came(event: Event) -> None:
    before = event.encode()
    assert rewriter()(event) == before


def test_comments_and_other_fields_of_an_event_stay() -> None:
    event = rewritten(Event("thread.created", b'{"id":"t"}', [b"id: 7", b": note"]))
    assert event == Event("thread.created", f'{{"id":"{public("t")}"}}'.encode(), [b"id: 7", b": note"])


# --- errors --------------------------------------------------------------------------------------------------------

WORDS = f"Thread {THREAD} already has an active run r2; sk-abcdefgh1"
TOLD = f"Thread {public(THREAD)} already has an active run {public('r2', 'run')}; sk-***"


@pytest.mark.parametrize(
    ("name", "document", "error"),
    [
        ("error", {"error": {"message": WORDS, "type": "t", "code": "c", "param": "p"}}, ("t", "c", "p")),
        ("error", {"message": WORDS, "type": "t", "code": "c", "param": "p"}, ("t", "c", "p")),  # unwrapped
        ("error", {"message": WORDS}, ("server_error", "provider_error", None)),
        ("error", {"error": WORDS}, ("server_error", "provider_error", None)),
        ("error", {"detail": WORDS}, ("server_error", "provider_error", None)),
        ("error", WORDS, ("server_error", "provider_error", None)),
        ("", {"error": {"message": WORDS, "code": "c"}}, ("server_error", "c", None)),  # without a name
        ("message", {"error": {"message": WORDS}}, ("server_error", "provider_error", None)),
    ],
)
def test_an_error_event_is_one_that_the_sdks_raise_from(
    name: str, document: Any, error: tuple[str, str, str | None]
) -> None:
    event = rewritten(of_json(name, document))
    kind, code, param = error
    assert event.name == name
    assert data_of(event) == {"error": {"message": TOLD, "type": kind, "param": param, "code": code}}


def test_an_error_that_is_no_json_is_told_in_its_own_words() -> None:
    event = rewritten(Event("error", f"<b>{WORDS}</b>\n\xff".encode()))
    assert data_of(event)["error"]["message"] == f"{TOLD} \xff"
    assert data_of(rewritten(Event("error", b"")))["error"]["message"] == "the provider gave no reason"


def test_every_text_of_an_error_event_is_masked() -> None:
    event = rewritten(of_json("error", {"error": {"message": "x", "details": [{"at": WORDS}]}}))
    assert data_of(event)["error"]["details"] == [{"at": TOLD}]


def test_a_failed_run_is_an_object_and_no_error() -> None:
    document = {"object": "thread.run", "id": "r", "error": {"message": "x"}}
    assert data_of(rewritten(of_json("thread.run.failed", document)))["id"] == public("r", "run")


@pytest.mark.parametrize("code", ["invalid_api_key", "insufficient_quota", "billing_hard_limit_reached"])
def test_what_is_about_our_key_is_not_told_in_a_stream_either(code: str) -> None:
    for document in ({"error": {"message": "pay", "code": code}}, {"message": "pay", "code": code}):
        error = data_of(rewritten(of_json("error", document)))["error"]
        assert error["code"] == "upstream_credentials_exhausted"
        assert "pay" not in error["message"]


def test_our_own_error_event_has_the_envelope() -> None:
    assert json.loads(error_data("cut off \ud800", "stream_broken")) == {
        "error": {"message": "cut off \ud800", "type": "server_error", "param": None, "code": "stream_broken"}
    }


# --- the end -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "is_last"),
    [
        (Event("done", b"[DONE]"), True),
        (Event("", b"[DONE]"), True),
        (Event("done", None), True),
        (Event("done", b"{}"), True),
        (Event("thread.run.completed", b"{}"), False),
        (Event("error", b"{}"), False),
        (Event("", b'{"text":"[DONE]"}'), False),
        (Event("", b"[DONE] not"), False),
    ],
)
def test_a_stream_knows_its_last_event(event: Event, is_last: bool) -> None:
    rewrite = rewriter()
    before = event.encode()
    assert not rewrite.is_done
    told = rewrite(event)
    assert rewrite.is_done == is_last
    assert told == before or not is_last


def test_events_are_counted_and_comments_are_not() -> None:
    rewrite = rewriter()
    for event in (Event("", None, [b": x"]), Event("a", b"{}"), Event("b", b"x"), Event("done", b"[DONE]")):
        rewrite(event)
    assert rewrite.events == 3


def test_a_run_that_came_as_one_object_becomes_a_stream() -> None:
    run = {"id": "run_1", "status": "requires_action", "n": 10**30}
    parser = EventParser()
    first, last = parser.feed(run_as_events(run))
    assert (first.name, data_of(first)) == ("thread.run.requires_action", run)
    assert (last.name, last.data) == ("done", b"[DONE]")


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        ([b'{"object": "thread.run",', b'"id": "r", "status": "queued"}'], ["thread.run.queued", "done"]),
        ([b'{"id": "r", "status": "queued"}'], ["thread.run.queued", "done"]),
        ([b'{"error": {"message": "m"}}'], ["error"]),
        ([b'{"detail":', b'"m"}'], ["error"]),
    ],
)
def test_an_answer_under_a_streams_label_is_told_as_events(lines: list[bytes], names: list[str]) -> None:
    """A parser of events takes its lines for fields without a meaning."""
    rewrite = rewriter()
    told = list(EventParser().feed(rewrite(Event("", None, lines))))
    assert [event.name for event in told] == names
    assert rewrite.is_done
    if names == ["error"]:
        assert data_of(told[0])["error"]["message"] == "m"
    else:
        assert data_of(told[0])["id"] == public("r", "run")


# --- anything ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "document"),
    [
        (b'{"a":1}', {"a": 1}),
        (b' \n{"a":1} ', {"a": 1}),
        (b"{}", {}),
        (b'{"a":"\\ud800"}', {"a": "\ud800"}),
        (b"[{}]", None),
        (b'"{}"', None),
        (b"{", None),
        (b"{}{}", None),
        (b"", None),
        (None, None),
    ],
)
def test_an_object_is_read_where_there_is_one(data: bytes | None, document: Any) -> None:
    assert read_object(data) == document


@unhurried
@given(st.sampled_from(["", "error", "thread.created", "thread.run.failed", "x"]), any_json)
def test_any_json_makes_one_event(name: str, document: Any) -> None:
    told = rewritten(of_json(name, document))
    assert told.name == name
    assert told.data


@unhurried
@given(st.sampled_from(["", "error", "x"]), st.binary().filter(lambda data: b"\r" not in data))
def test_any_bytes_make_one_event(name: str, data: bytes) -> None:
    assert rewritten(Event(name, data)).data is not None
