"""Answers of chat completions: whatever a vendor makes of the form, however its bytes arrive, the same deltas."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.engine.models import answer_reader
from gateway.engine.models.chat_completions import DIALECTS, ChatCompletions
from gateway.engine.models.generation import (
    CallBegun,
    Delta,
    Failure,
    Finish,
    TextDelta,
)
from gateway.engine.models.model_api import ModelApi
from tests.engine.models import promises
from tests.engine.models.chat_completions_streams import (
    DONE,
    HELLO,
    SAY_HELLO,
    STOP,
    STREAMS,
    USED,
    chunk,
    event,
    no_choices,
    usage,
)
from tests.engine.models.promises import check_order, make_id
from tests.values import any_json, unhurried


def read(pieces: Iterable[bytes], dialect: ModelApi = DIALECTS["openai"]) -> list[Delta]:
    return promises.read(dialect, pieces)


_odd_delta = st.dictionaries(st.sampled_from(["content", "tool_calls", "refusal", "function_call", "role"]), any_json)
_odd_choice = st.fixed_dictionaries(
    {}, optional={"index": any_json, "delta": _odd_delta | any_json, "message": any_json, "finish_reason": any_json}
)
_odd_chunk = st.fixed_dictionaries(
    {},
    optional={
        "choices": st.lists(_odd_choice, max_size=2) | any_json,
        "usage": any_json,
        "x_groq": any_json,
        "error": any_json,
    },
)
_scraps = st.sampled_from([*(raw for raw, _ in STREAMS.values()), DONE, b"data: ", b"\n\n", b"{", b"event: error\n"])


@unhurried
@given(st.lists(_scraps | _odd_chunk.map(event) | any_json.map(event) | st.binary(max_size=8), max_size=6))
def test_nothing_that_comes_breaks_it(pieces: list[bytes]) -> None:
    check_order(read(pieces))


_entries = st.fixed_dictionaries(
    {},
    optional={
        "index": st.sampled_from([0, 1, 2, None, "0"]),
        "id": st.sampled_from(["call_a", "call_b", "", None]),
        "function": st.fixed_dictionaries(
            {},
            optional={
                "name": st.sampled_from(["weather", "time", "", None]),
                "arguments": st.sampled_from(["", "{}", '{"a":', "1}", {}, {"a": 1}, None, [1]]),
            },
        ),
    },
)


@unhurried
@given(st.lists(st.lists(_entries, max_size=3), max_size=5), st.sampled_from([None, "stop", "tool_calls", "length"]))
def test_calls_of_any_form_keep_the_order(chunks: list[list[dict[str, object]]], reason: str | None) -> None:
    raw = b"".join(chunk({"tool_calls": entries}) for entries in chunks) + chunk({}, reason) + DONE
    check_order(read([raw]))


def test_text_goes_on_at_once() -> None:
    """Not with the next event, and not at the end."""
    reader = DIALECTS["openai"].read(make_id)
    first, second = chunk({"content": "Hel"}), chunk({"content": "lo"})
    assert reader.feed(first + second[:-1]) == [TextDelta(0, "Hel")]
    assert reader.feed(second[-1:]) == [TextDelta(0, "lo")]


def test_a_name_goes_on_before_the_arguments_are_there() -> None:
    reader = DIALECTS["openai"].read(make_id)
    entry = {"index": 0, "id": "call_a", "function": {"name": "weather", "arguments": ""}}
    assert reader.feed(chunk({"tool_calls": [entry]})) == [CallBegun(0, "call_a", "weather")]


def test_the_end_is_told_at_done_without_waiting_for_the_connection() -> None:
    reader = DIALECTS["openai"].read(make_id)
    assert reader.feed(SAY_HELLO + chunk({}, "stop") + no_choices(usage=usage())) == HELLO
    assert reader.is_answered
    assert not reader.is_over
    assert reader.feed(DONE) == [USED, STOP]
    assert reader.is_over
    assert reader.feed(SAY_HELLO) == []
    assert reader.close() == []
    assert reader.cut("too slow") == []


def test_a_cut_before_the_reason_is_a_failure() -> None:
    reader = DIALECTS["openai"].read(make_id)
    reader.feed(chunk({"content": "Hel"}, usage=usage()))
    assert not reader.is_answered
    assert reader.cut("the model's provider was silent for 60 s") == [
        USED,
        Failure("server_error", "the model's provider was silent for 60 s"),
    ]
    assert reader.is_over


def test_a_cut_after_the_reason_takes_nothing_away() -> None:
    reader = DIALECTS["openai"].read(make_id)
    reader.feed(SAY_HELLO + chunk({}, "length"))
    assert reader.cut("the connection was lost") == [Finish("length")]


def test_a_vendor_that_never_says_that_it_ended_may_be_believed() -> None:
    assert read([SAY_HELLO], ChatCompletions(ends_unsaid=True)) == [*HELLO, STOP]
    assert isinstance(read([b"<html>"], ChatCompletions(ends_unsaid=True))[-1], Failure)


@pytest.mark.parametrize("begin", [b'{"choices":', b"data: "], ids=["JSON", "an event"])
def test_an_answer_without_end_is_not_kept_in_memory(begin: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_reader, "_MAX_DOCUMENT_BYTES", 1000)
    reader = DIALECTS["openai"].read(make_id)
    assert reader.feed(begin) == []
    assert reader.feed(b" " * 980) == []
    assert reader.feed(b" " * 30) == [Failure("server_error", "the model's provider sent more than can be read")]
    assert reader.is_over


def test_what_was_said_before_an_event_without_end_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_reader, "_MAX_DOCUMENT_BYTES", 1000)
    deltas = read([SAY_HELLO + b"data: " + b"x" * 2000])
    assert deltas == [*HELLO, Failure("server_error", "the model's provider sent more than can be read")]
