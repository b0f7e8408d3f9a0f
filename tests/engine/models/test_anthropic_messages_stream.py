"""Answers of Anthropic's Messages API: however their bytes arrive, the same deltas."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import codec
from gateway.engine.models import answer_reader
from gateway.engine.models.anthropic_messages import DIALECTS
from gateway.engine.models.generation import (
    CallBegun,
    Failure,
    TextDelta,
    Usage,
)
from tests.engine.models import promises
from tests.engine.models.anthropic_streams import (
    CALLED,
    PING,
    STOP,
    STREAMS,
    USED,
    end,
    event,
    start,
    text,
    use,
)
from tests.engine.models.promises import check_order
from tests.values import any_json, unhurried

read = partial(promises.read, DIALECTS["anthropic"])


_kinds = st.sampled_from(["text", "tool_use", "thinking", "redacted_thinking", "text_delta", "input_json_delta"])
_odd_part = st.fixed_dictionaries(
    {},
    optional={
        "type": _kinds | any_json,
        **dict.fromkeys(("text", "thinking", "partial_json", "id", "name", "stop_reason"), st.just("x") | any_json),
        "input": any_json,
        "usage": any_json,
    },
)
_odd_event = st.fixed_dictionaries(
    {"type": st.sampled_from(["content_block_start", "content_block_delta", "content_block_stop", "message_delta"])},
    optional={
        "index": st.sampled_from([0, 1]) | any_json,
        **dict.fromkeys(("content_block", "delta", "message"), _odd_part | any_json),
        "usage": any_json,
    },
).map(lambda drawn: b"data: " + codec.dumps(drawn) + b"\n\n")
_scraps = st.sampled_from([*(raw for raw, _ in STREAMS.values()), b"data: ", b"\n\n", b"{", b"event: error\n"])


@unhurried
@given(st.lists(_scraps | _odd_event | st.binary(max_size=8), max_size=6))
def test_nothing_that_comes_breaks_it(pieces: list[bytes]) -> None:
    check_order(read(pieces))


@unhurried
@given(any_json)
def test_a_message_of_any_form_breaks_nothing(value: Any) -> None:
    for name in ("content", "stop_reason", "usage", "model"):
        check_order(read([codec.dumps({"type": "message", "content": [value], name: value})]))


def test_text_and_names_go_on_at_once() -> None:
    reader = DIALECTS["anthropic"].read(str)
    raw = start() + text(0, "Hel")
    assert reader.feed(raw) == [TextDelta(0, "Hel")]
    assert reader.feed(use(1, stops=False)) == [CallBegun(0, "toolu_a", "weather")]


def test_the_end_is_told_at_message_stop_without_waiting_for_the_connection() -> None:
    reader = DIALECTS["anthropic"].read(str)
    reader.feed(start() + text(0, "Hel", "lo"))
    assert not reader.is_answered
    reader.feed(end().removesuffix(event("message_stop")))
    assert reader.is_answered
    assert not reader.is_over
    assert reader.feed(event("message_stop")) == [USED, STOP]
    assert (reader.is_over, reader.feed(PING), reader.close(), reader.cut("late")) == (True, [], [], [])


def test_a_cut_before_the_reason_is_a_failure_and_after_it_takes_nothing_away() -> None:
    reader = DIALECTS["anthropic"].read(str)
    reader.feed(start() + text(0, "Hel"))
    assert reader.cut("too slow") == [Usage(5, 1, 6), Failure("server_error", "too slow")]
    reader = DIALECTS["anthropic"].read(str)
    reader.feed((start() + use(0) + end("tool_use")).removesuffix(event("message_stop")))
    assert reader.cut("too slow") == [USED, CALLED]


@pytest.mark.parametrize("begin", [b'{"type":', b"data: "], ids=["JSON", "an event"])
def test_an_answer_without_end_is_not_kept_in_memory(begin: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_reader, "_MAX_DOCUMENT_BYTES", 1000)
    reader = DIALECTS["anthropic"].read(str)
    assert reader.feed(begin + b" " * 980) == []
    assert reader.feed(b" " * 30) == [Failure("server_error", "the model's provider sent more than can be read")]
