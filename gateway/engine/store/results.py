"""What an operation can answer other than the object that was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal, NamedTuple

from gateway.engine.store.ids import Kind

RunStatus = Literal[
    "queued",
    "in_progress",
    "requires_action",
    "cancelling",
    "cancelled",
    "failed",
    "completed",
    "incomplete",
    "expired",
]


@dataclass(frozen=True, slots=True)
class Done:
    """It is so now."""


@dataclass(frozen=True, slots=True)
class Absent:
    """There is no such thing, or no more."""

    kind: Kind


@dataclass(frozen=True, slots=True)
class RunActive:
    """Refused while this run is in work."""

    run: str


@dataclass(frozen=True, slots=True)
class NothingToRun:
    """The thread has no message of a user, and the run no instructions."""


@dataclass(frozen=True, slots=True)
class WrongStatus:
    """The run's status does not allow it."""

    status: RunStatus


@dataclass(frozen=True, slots=True)
class WrongOutputs:
    """Outputs must be for all calls of the round, each once; both lists in the order they were given in."""

    expected: tuple[str, ...]
    got: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UnknownCursor:
    """The list has no such place, and never had."""

    parameter: Literal["after", "before"]


class Lost(Enum):
    """Why a claim counts no more: its holder stops working."""

    TAKEN = "taken"
    """Another claim has replaced it."""
    ENDED = "ended"
    """The run has ended: it expired, or was cancelled while it waited."""
    GONE = "gone"
    """The thread was deleted."""


@dataclass(frozen=True, slots=True)
class Written:
    """A write of the work was made, and the run's status after it: `cancelling` asks for an end."""

    status: RunStatus


class Claim(NamedTuple):
    """The right to work on a run, until it is lost. `epoch` counts the run's claims and starts its event ids anew."""

    thread: str
    run: str
    fence: str
    epoch: int
    expires_at: float
