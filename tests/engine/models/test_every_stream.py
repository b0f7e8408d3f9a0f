"""Recorded and documented streams of every model API: however their bytes arrive, the same deltas."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.engine.models import MODEL_APIS
from gateway.engine.models.generation import Delta
from gateway.engine.models.model_api import ModelApi
from tests.engine.models import (
    anthropic_streams,
    chat_completions_streams,
    gemini_streams,
    responses_streams,
)
from tests.engine.models.promises import check_order, read
from tests.values import unhurried

STREAMS = {
    "anthropic_messages": anthropic_streams.STREAMS,
    "chat_completions": chat_completions_streams.STREAMS,
    "gemini": gemini_streams.STREAMS,
    "responses": responses_streams.STREAMS,
}
SAMPLES = {
    f"{name}, {what}": (next(iter(MODEL_APIS[name].values())), raw, deltas)
    for name, streams in STREAMS.items()
    for what, (raw, deltas) in streams.items()
}


def test_every_model_api_has_some() -> None:
    assert STREAMS.keys() == MODEL_APIS.keys()


@pytest.mark.parametrize(("api", "raw", "deltas"), SAMPLES.values(), ids=SAMPLES)
def test_a_stream_is_read_as_it_is_meant(api: ModelApi, raw: bytes, deltas: list[Delta]) -> None:
    assert read(api, [raw]) == deltas
    check_order(deltas)


@pytest.mark.parametrize(("api", "raw", "deltas"), SAMPLES.values(), ids=SAMPLES)
def test_byte_by_byte_it_is_the_same(api: ModelApi, raw: bytes, deltas: list[Delta]) -> None:
    """Characters of UTF-8 are cut too."""
    assert read(api, (raw[place : place + 1] for place in range(len(raw)))) == deltas


@pytest.mark.parametrize("name", STREAMS)
@unhurried
@given(data=st.data())
def test_it_does_not_matter_where_it_is_cut(name: str, data: st.DataObject) -> None:
    what = data.draw(st.sampled_from(list(STREAMS[name])))
    api, raw, deltas = SAMPLES[f"{name}, {what}"]
    places = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    assert read(api, [raw[begin:end] for begin, end in zip([0, *places], [*places, len(raw)], strict=True)]) == deltas
