"""The seam between the engine and the APIs of models.

A file beside this one defines a frozen dataclass with the methods of `ModelApi`; its fields are what vendors of that
API differ in, with the inventor's own behaviour as default, and its `DIALECTS` names the known ones. All of it is pure:
the engine signs, sends, waits and keeps the time.

    body of an operation   → `faults`   what is asked of the model in vain, before anything is stored (`offers`)
    thread, run, assistant → Generation → `build` → request   (`history` has the rules that vendors share)
    answer                 → `read`     → deltas, in the order that `generation` promises (`answer_reader`)
    answer without success → `failure`  → what the run's `last_error` says (`failures`)

What a vendor wants back unread in the next generation of a run is a delta too, `Carried`, and stands in its place among
the items of its round: reasoning and hosted calls of Responses, where Anthropic's thinking stood, Gemini's signatures,
fields that some of chat completions put beside contents and calls. Nobody but the API that made it looks inside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from gateway.engine.models.generation import Delta, Failure, Generation, Json, ModelRequest
from gateway.engine.models.offers import Fault, Offer

MakeCallId = Callable[[int], str]
"""The index of a call in its generation → an id for it, where the vendor gave none. Asked at most once an index."""


class Reader(Protocol):
    """One answer with a status of success, while it arrives. `generation` says what order its deltas keep."""

    @property
    def is_answered(self) -> bool:
        """The model has said why it stopped; only figures can follow. Worth waiting a second, not a stall's time:
        `cut` then gives an answer that is whole."""

    @property
    def is_over(self) -> bool:
        """The last delta was given: whatever the vendor still sends is nothing to read."""

    def feed(self, chunk: bytes) -> list[Delta]:
        """What these bytes complete; a chunk may end anywhere. Nothing, once it is over."""

    def close(self) -> list[Delta]:
        """The answer ended in good order. Gives the end, if it was not given yet."""

    def cut(self, why: str) -> list[Delta]:
        """The answer broke off or stood still too long; `why` is told to the caller if the answer is not whole."""


class ModelApi(Protocol):
    """One dialect of one API."""

    @property
    def offer(self) -> Offer:
        """What it can have. Where that is tools of the vendor's own, its files and vector stores are callers' too."""

    def faults(self, body: Json) -> tuple[Fault, ...]:
        """What a body that creates or changes an assistant, thread, message or run asks of the model in vain. Its
        shape has been checked already."""

    def build(self, generation: Generation) -> ModelRequest:
        """Raises `CannotCarry` where the generation says what this dialect cannot: a body that came in before the
        provider changed its dialect."""

    def read(self, make_call_id: MakeCallId) -> Reader:
        """A reader for one answer."""

    def failure(self, status: int, headers: Mapping[str, str], raw: bytes, *, now: float) -> Failure:
        """What an answer without success means for the run. Names of `headers` are lower case or the mapping does not
        mind; `now` is seconds since 1970, for vendors that name a date."""
