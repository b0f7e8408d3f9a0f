"""Providers and tenants that a person has disabled, shared by all replicas."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from gateway.store.connection import Store
from gateway.store.mirror import Mirror

Switched = Literal["provider", "tenant"]


@dataclass(frozen=True, slots=True)
class Switch:
    """Why something is disabled, in a person's words, and since when (seconds since 1970)."""

    reason: str
    since_s: float


class Switches:
    """What is disabled, mirrored in this process. Providers and tenants are named by their `id`, which a new name does
    not change."""

    def __init__(self, store: Store, *, clock: Callable[[], float] = time.time) -> None:
        self.mirror = Mirror(store, "switches", read=_read, clock=clock)

    def reason_of(self, kind: Switched, id: str) -> str | None:  # noqa: A002  it is called so everywhere
        """Why it is disabled, None when it is not. In memory."""
        switch = self.get(kind, id)
        return switch.reason if switch is not None else None

    def get(self, kind: Switched, id: str) -> Switch | None:  # noqa: A002
        return self.mirror.get(f"{kind}:{id}", 0.0)

    def disable(self, kind: Switched, id: str, reason: str) -> None:  # noqa: A002
        """In force when this returns; the other replicas are told in the background."""
        self.mirror.put(f"{kind}:{id}", asdict(Switch(reason, self.mirror.now())))

    def enable(self, kind: Switched, id: str) -> None:  # noqa: A002
        self.mirror.clear(f"{kind}:{id}")


def _read(said: Mapping[str, Any]) -> Switch:
    return Switch(str(said["reason"]), float(said["since_s"]))
