"""What a simulated model answers, in no vendor's words. A model API's simulator says how it is streamed."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.demo.echo import FAILURE, words_of
from gateway.demo.model import Plan
from tests.simulators.threads_server.refusal import Json


@dataclass(frozen=True)
class Says:
    text: str


@dataclass(frozen=True)
class Declines:
    """Words of a refusal."""

    text: str


@dataclass(frozen=True)
class Thinks:
    text: str


@dataclass(frozen=True)
class Calls:
    """A call; the arguments are streamed in these pieces, and need not be JSON. Without an `id` one is made."""

    name: str
    arguments: tuple[str, ...] = ("{}",)
    id: str | None = None


@dataclass(frozen=True)
class Breaks:
    """An error in the middle of the stream, which ends it."""

    error: Json


Piece = Says | Declines | Thinks | Calls | Breaks


@dataclass(frozen=True)
class Answer:
    """The pieces in order. `reason` None: `tool_calls` or `stop`, as it is. `usage` are tokens of prompt and answer,
    None for words as the echo model counts them."""

    pieces: tuple[Piece, ...]
    reason: str | None = None
    usage: tuple[int, int] | None = None

    @property
    def calls(self) -> tuple[Calls, ...]:
        return tuple(piece for piece in self.pieces if isinstance(piece, Calls))


def says(*texts: str, reason: str | None = None, usage: tuple[int, int] | None = None) -> Answer:
    return Answer(tuple(map(Says, texts)), reason, usage)


def calls(*made: Calls, reason: str | None = None, usage: tuple[int, int] | None = None) -> Answer:
    return Answer(made, reason, usage)


def of_plan(plan: Plan) -> Answer:
    """What the echo model would do."""
    if plan.calls:
        return calls(*(Calls(name, (arguments,)) for name, arguments in plan.calls))
    said = tuple(map(Says, words_of(plan)))
    if plan.ending == "failed":
        return Answer((*said, Breaks({"message": FAILURE, "type": "server_error", "param": None, "code": None})))
    return Answer(said, "length" if plan.ending == "incomplete" else None)
