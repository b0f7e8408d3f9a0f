"""Answers of Responses: however their bytes arrive, the same deltas."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.engine.models import answer_reader
from gateway.engine.models.generation import CallBegun, Failure, TextDelta
from gateway.engine.models.responses import DIALECTS
from gateway.engine.models.responses_items import EVENTS
from tests.engine.models import promises
from tests.engine.models.promises import check_order, make_id
from tests.engine.models.responses_streams import (
    CREATED,
    DONE,
    HELLO,
    SAY_HELLO,
    STOP,
    STREAMS,
    USED,
    added,
    ended,
    event,
    function,
    said,
    usage,
)
from tests.values import any_json, unhurried

read = partial(promises.read, DIALECTS["openai"])


_kinds = st.sampled_from(["message", "function_call", "file_search_call", "code_interpreter_call", "reasoning", "x"])
_contents = st.fixed_dictionaries(
    {"type": st.sampled_from(["output_text", "refusal"])},
    optional={
        "text": st.sampled_from(["", "a", "ab", "abc"]) | any_json,
        "refusal": st.sampled_from(["no"]) | any_json,
        "annotations": any_json
        | st.lists(
            st.fixed_dictionaries(
                {"type": st.sampled_from(["file_citation", "container_file_citation", "url_citation"])},
                optional={
                    "file_id": st.sampled_from(["file-1", "cfile_1"]) | any_json,
                    "index": st.integers(-1, 4) | any_json,
                    "start_index": st.integers(-1, 3) | any_json,
                    "end_index": st.integers(-1, 4) | any_json,
                    "filename": st.just("a.pdf") | any_json,
                    "container_id": any_json,
                },
            ),
            max_size=3,
        ),
    },
)
_items = st.fixed_dictionaries(
    {"type": _kinds | any_json},
    optional={
        "id": st.sampled_from(["a", "b", ""]) | any_json,
        "call_id": st.sampled_from(["call_a", "call_b"]) | any_json,
        "name": st.sampled_from(["weather", ""]) | any_json,
        "arguments": st.sampled_from(["", "{}", '{"a":1}']) | any_json,
        "code": st.sampled_from(["", "1", "1+1"]) | any_json,
        "outputs": any_json | st.just([{"type": "logs", "logs": "2"}, {"type": "image"}]),
        "results": any_json | st.just([{}]),
        "phase": any_json,
        "content": any_json | st.lists(_contents, max_size=2),
        "encrypted_content": any_json,
    },
)
_odd_events = st.builds(
    lambda kind, fields: event(kind, **fields),
    st.sampled_from(list(EVENTS)),
    st.fixed_dictionaries(
        {},
        optional={
            "output_index": st.integers(0, 2) | any_json,
            "content_index": st.integers(0, 1) | any_json,
            "item_id": st.sampled_from(["a", "b"]) | any_json,
            "item": _items | any_json,
            "delta": st.sampled_from(["a", "b", "{}"]) | any_json,
            "annotation": _contents.map(lambda content: content.get("annotations")) | any_json,
        },
    ),
)
_odd_ends = st.builds(
    lambda kind, value: event(kind, response=value),
    st.sampled_from(["response.created", "response.completed", "response.incomplete", "response.failed"]),
    any_json
    | st.fixed_dictionaries(
        {},
        optional={
            "output": any_json | st.lists(_items, max_size=2),
            "usage": any_json,
            "error": any_json,
            "incomplete_details": any_json,
            "tools": any_json | st.lists(st.fixed_dictionaries({"type": st.just("file_search")}), max_size=1),
        },
    ),
)
_scraps = st.sampled_from(
    [*(raw for raw, _ in STREAMS.values()), DONE, b"data: ", b"\n\n", b"{", b"event: error\n", b"data: 1\n\n"]
)


@unhurried
@given(st.lists(_odd_events | _odd_ends | _scraps | st.binary(max_size=8), max_size=6))
def test_nothing_that_comes_breaks_it(pieces: list[bytes]) -> None:
    check_order(read(pieces))


def test_text_goes_on_at_once() -> None:
    """Not with the next event, and not at the end."""
    reader = DIALECTS["openai"].read(make_id)
    first, second = said(0, "Hel"), said(0, "lo")
    assert reader.feed(CREATED + first + second[:-1]) == [TextDelta(0, "Hel")]
    assert reader.feed(second[-1:]) == [TextDelta(0, "lo")]


def test_a_name_goes_on_before_the_arguments_are_there() -> None:
    reader = DIALECTS["openai"].read(make_id)
    assert reader.feed(CREATED + added(0, **function(""))) == [CallBegun(0, "call_a", "weather")]


def test_the_end_is_told_at_once_without_waiting_for_the_connection() -> None:
    reader = DIALECTS["openai"].read(make_id)
    assert reader.feed(SAY_HELLO) == HELLO
    assert not reader.is_answered
    assert reader.feed(ended(usage=usage())) == [USED, STOP]
    assert reader.is_over
    assert (reader.feed(SAY_HELLO), reader.close(), reader.cut("too slow")) == ([], [], [])


def test_a_cut_before_the_end_is_a_failure() -> None:
    reader = DIALECTS["openai"].read(make_id)
    reader.feed(SAY_HELLO)
    assert reader.cut("the model's provider was silent for 60 s") == [
        Failure("server_error", "the model's provider was silent for 60 s")
    ]
    assert reader.is_over


@pytest.mark.parametrize("begin", [b'{"object":', b"data: "], ids=["JSON", "an event"])
def test_an_answer_without_end_is_not_kept_in_memory(begin: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_reader, "_MAX_DOCUMENT_BYTES", 1000)
    reader = DIALECTS["openai"].read(make_id)
    assert reader.feed(begin) == []
    assert reader.feed(b" " * 980) == []
    assert reader.feed(b" " * 30) == [Failure("server_error", "the model's provider sent more than can be read")]
    assert reader.is_over
