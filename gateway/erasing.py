"""What a running gateway does about tenants that were erased (`tenants erase`): the bodies that it has kept of them go,
and its audit trail says so.

The mark in the store says who was erased, not a message, so that a gateway which did not run then learns of it too. A
tenant's folder goes last: where there is one, what was in it has not been told of, whoever has emptied it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from gateway.audit import bodies
from gateway.audit.trail import AuditUnavailable
from gateway.auditing import Auditing
from gateway.ending import end
from gateway.store.switches import Switches
from gateway.telemetry import log

_AGAIN_S = 60.0


class Erasing:
    """Lives as long as the process. `name_of` tells a tenant's name by its id; `folder` is where bodies are kept;
    `clock` is monotonic."""

    def __init__(
        self,
        switches: Switches,
        auditing: Auditing,
        folder: Path,
        name_of: Callable[[str], str],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._switches = switches
        self._auditing = auditing
        self._folder = folder
        self._name_of = name_of
        self._clock = clock
        self._known: frozenset[str] | None = None
        """Those that were erased before this process began; None until the store has told."""
        self._done: set[str] = set()
        self._not_before = 0.0
        self._working: asyncio.Task[None] | None = None
        self._is_closed = False

    async def follow(self) -> None:
        """Begin what is to be done, if anything. To be called whenever what is shared was read; does not wait."""
        erased = self._switches.erased()
        if self._known is None:
            self._known = erased
        is_busy = self._is_closed or (self._working is not None and not self._working.done())
        if erased > self._done and not is_busy and self._clock() >= self._not_before:
            self._working = asyncio.create_task(self._carry_out(sorted(erased - self._done)), name="erasing")

    async def _carry_out(self, tenants: Iterable[str]) -> None:
        for tenant in tenants:
            try:
                await self._erase(tenant)
            except (OSError, AuditUnavailable) as exc:
                reason = getattr(exc, "strerror", None) or type(exc).__name__
                log.error("audit.keeping_failed", work="erase", reason=reason)
                self._not_before = self._clock() + _AGAIN_S
                return
            self._done.add(tenant)

    async def _erase(self, tenant: str) -> None:
        """Each deletion is told before it is done. What was on its way to the disk when the tenant was erased is there
        once the record is, so it is looked for once more."""
        kept = await asyncio.to_thread(bodies.sizes_of, self._folder, tenant)
        if kept is None and self._known is not None and tenant in self._known:
            return
        while True:
            await self._auditing.tell_erased(tenant, self._name_of(tenant), kept or ())
            await asyncio.to_thread(bodies.erase, self._folder, tenant)
            if not (kept := await asyncio.to_thread(bodies.sizes_of, self._folder, tenant)):
                break
        await asyncio.to_thread(bodies.remove_folder, self._folder, tenant)

    async def close(self) -> None:
        """What is not done by then is done at the next start."""
        self._is_closed = True
        if self._working is not None:
            await end([self._working])
