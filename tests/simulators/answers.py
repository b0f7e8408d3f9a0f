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
class Found:
    file_id: str
    file_name: str
    text: str
    score: float = 0.9


@dataclass(frozen=True)
class Searches:
    """A search that the vendor makes itself."""

    queries: tuple[str, ...]
    found: tuple[Found, ...] = ()


@dataclass(frozen=True)
class Cites:
    """A citation of a file that was searched, where the text has got to."""

    file_id: str
    file_name: str


@dataclass(frozen=True)
class Interprets:
    """Code that the vendor runs itself: in these pieces, with these logs. `shows` are ids of the images it shows."""

    code: tuple[str, ...]
    logs: tuple[str, ...] = ()
    shows: tuple[str, ...] = ()


@dataclass(frozen=True)
class Links:
    """A path in the text, of a file that code has made."""

    file_id: str
    file_name: str


@dataclass(frozen=True)
class Breaks:
    """An error in the middle of the stream, which ends it."""

    error: Json


Piece = Says | Declines | Thinks | Calls | Searches | Cites | Interprets | Links | Breaks
"""Those of tools that the vendor runs are for APIs that have such tools."""


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
