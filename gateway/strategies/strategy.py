"""What a strategy is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from gateway.model import Key


@dataclass(frozen=True)
class Choice:
    """`ready` are keys of one account, at least one, whose health has been looked at. `thread` is the upstream id of
    the thread that the request is about; `in_flight` the requests under way by name of key."""

    ready: Sequence[Key]
    thread: str | None = None
    in_flight: Mapping[str, int] = field(default_factory=dict)


class Strategy(Protocol):
    """A way to choose. Made once for each account, used by one event loop."""

    def __call__(self, choice: Choice) -> Key: ...
