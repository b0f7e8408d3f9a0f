"""Providers and tenants that a person has disabled, and tenants that were erased, shared by all replicas.

That a tenant was erased is never taken back: it is what keeps gateways from writing anything of it again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from gateway.store.connection import Store
from gateway.store.mirror import Mirror

Switched = Literal["provider", "tenant"]
IsErased = Callable[[str], bool]
"""Whether nothing of a tenant, by id, may be written any more."""


def nobody(tenant: str) -> bool:
    """Where no tenant was ever erased."""
    return False


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
        self._erased: frozenset[str] = frozenset()
        self._seen = -1

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

    def mark_erased(self, tenant: str, reason: str, *, with_usage: bool) -> None:
        """Have nothing of a tenant (by id) written any more; `with_usage`: what it uses is not counted either. In force
        when this returns; the other replicas are told in the background."""
        said = asdict(Switch(reason, self.mirror.now()))
        for field in (f"erased:{tenant}", *([f"erased-usage:{tenant}"] if with_usage else [])):
            if self.mirror.get(field, 0.0) is None:
                self.mirror.put(field, said)

    def is_erased(self, tenant: str) -> bool:
        """In memory."""
        return self.mirror.get(f"erased:{tenant}", 0.0) is not None

    def is_usage_erased(self, tenant: str) -> bool:
        """Whether even the counts of what it used are gone. In memory."""
        return self.mirror.get(f"erased-usage:{tenant}", 0.0) is not None

    def erased(self) -> frozenset[str]:
        """Every tenant that was erased; the same set until something changes. In memory."""
        if self._seen != self.mirror.changes:
            self._seen = self.mirror.changes
            marks = (field.partition(":") for field in self.mirror.all(0.0))
            self._erased = frozenset(tenant for what, _, tenant in marks if what == "erased")
        return self._erased


def _read(said: Mapping[str, Any]) -> Switch:
    return Switch(str(said["reason"]), float(said["since_s"]))
