"""Reading an answer, and what readers of all model APIs promise of the order of their deltas: see
`gateway.engine.models.generation`."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.engine.models.generation import (
    Annotation,
    CallArguments,
    CallBegun,
    Delta,
    Failure,
    Finish,
    HostedCall,
    RefusalDelta,
    TextDelta,
    Usage,
)
from gateway.engine.models.model_api import ModelApi


def make_id(index: int) -> str:
    return f"made_{index}"


def read(api: ModelApi, pieces: Iterable[bytes]) -> list[Delta]:
    """All that an answer says which ends in good order. Made-up ids are `made_` and the index of the call."""
    reader = api.read(make_id)
    deltas = [delta for piece in pieces for delta in reader.feed(piece)]
    deltas += reader.close()
    assert reader.is_over
    return deltas


def check_order(deltas: list[Delta]) -> None:
    *before, last = deltas
    assert isinstance(last, Finish | Failure)
    assert not any(isinstance(delta, Finish | Failure) for delta in before)
    assert [place for place, delta in enumerate(before) if isinstance(delta, Usage)] in ([], [len(before) - 1])
    begun: dict[int, str] = {}
    for delta in before:
        if isinstance(delta, CallBegun) or (isinstance(delta, HostedCall) and delta.index not in begun):
            assert delta.index == len(begun)
            begun[delta.index] = delta.id
        elif isinstance(delta, HostedCall):
            assert begun[delta.index] == delta.id
        elif isinstance(delta, CallArguments):
            assert delta.index in begun
        if isinstance(delta, TextDelta | RefusalDelta | CallArguments):
            assert delta.text
    assert len(set(begun.values())) == len(begun)
    check_citations(before)
    functions = {delta.index for delta in before if isinstance(delta, CallBegun)}
    if last == Finish("tool_calls"):
        assert functions == {delta.index for delta in before if isinstance(delta, CallArguments)} != set()


def check_citations(deltas: list[Delta]) -> None:
    """What a citation says stands in the text stands there, or nowhere: callers replace it."""
    texts: dict[int, str] = {}
    for delta in deltas:
        if isinstance(delta, TextDelta):
            texts[delta.index] = texts.get(delta.index, "") + delta.text
    for delta in deltas:
        if isinstance(delta, Annotation):
            text, start, end = (delta.value[name] for name in ("text", "start_index", "end_index"))
            said = texts.get(delta.index, "")
            assert text
            assert said[start:end] == text or (start, end, text in said) == (0, 0, False)
