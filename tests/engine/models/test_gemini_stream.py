"""Answers of Gemini: however their bytes arrive, the same deltas."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.engine.models import answer_reader
from gateway.engine.models.gemini import DIALECTS
from gateway.engine.models.generation import Failure, Finish, TextDelta
from gateway.engine.models.model_api import Reader
from tests.engine.models import promises
from tests.engine.models.gemini_streams import HELLO, SAY_HELLO, STREAMS, USED, call, chunk, counts, event, text
from tests.engine.models.promises import check_order, make_id
from tests.values import any_json, unhurried


def reader() -> Reader:
    return DIALECTS["google"].read(make_id)


read = partial(promises.read, DIALECTS["google"])


_odd_part = st.fixed_dictionaries(
    {}, optional={"text": any_json, "functionCall": any_json, "thought": any_json, "thoughtSignature": any_json}
)
_odd_candidate = st.fixed_dictionaries(
    {},
    optional={
        "index": any_json,
        "content": st.fixed_dictionaries({"parts": st.lists(_odd_part, max_size=3) | any_json}) | any_json,
        "finishReason": st.sampled_from(["STOP", "MAX_TOKENS", "SAFETY", "OTHER"]) | any_json,
    },
)
_odd_chunk = st.fixed_dictionaries(
    {},
    optional={
        "candidates": st.lists(_odd_candidate, max_size=2) | any_json,
        "usageMetadata": any_json,
        "promptFeedback": any_json,
        "error": any_json,
    },
)
_scraps = st.sampled_from([*(raw for raw, _ in STREAMS.values()), b"data: ", b"\n\n", b"{", b"[", b"]"])


@unhurried
@given(st.lists(_scraps | _odd_chunk.map(event) | any_json.map(event) | st.binary(max_size=8), max_size=6))
def test_nothing_that_comes_breaks_it(pieces: list[bytes]) -> None:
    check_order(read(pieces))


def test_text_and_calls_go_on_at_once() -> None:
    """Not with the next event, and not at the end."""
    reading = reader()
    first, second = chunk(text("Hel")), chunk(call())
    assert reading.feed(first + second[:-2]) == [TextDelta(0, "Hel")]
    assert len(reading.feed(second[-2:])) == 2


def test_it_is_answered_with_the_reason_and_over_with_the_stream() -> None:
    """No mark says that the stream is over."""
    reading = reader()
    assert reading.feed(SAY_HELLO + chunk(reason="STOP", usageMetadata=counts())) == HELLO
    assert (reading.is_answered, reading.is_over) == (True, False)
    assert reading.close() == [USED, Finish("stop")]
    assert reading.is_over
    assert (reading.feed(SAY_HELLO), reading.close(), reading.cut("too slow")) == ([], [], [])


def test_a_cut_before_the_reason_is_a_failure_and_after_it_none() -> None:
    reading = reader()
    reading.feed(chunk(text("Hel"), usageMetadata=counts()))
    assert not reading.is_answered
    assert reading.cut("silent for 60 s") == [USED, Failure("server_error", "silent for 60 s")]
    reading = reader()
    reading.feed(SAY_HELLO + chunk(reason="MAX_TOKENS"))
    assert reading.cut("the connection was lost") == [Finish("length")]


@pytest.mark.parametrize("begin", [b"[{", b"data: "], ids=["JSON", "an event"])
def test_an_answer_without_end_is_not_kept_in_memory(begin: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_reader, "_MAX_DOCUMENT_BYTES", 1000)
    reading = reader()
    assert reading.feed(begin) == []
    assert reading.feed(b" " * 980) == []
    assert reading.feed(b" " * 30) == [Failure("server_error", "the model's provider sent more than can be read")]
    assert reading.is_over
