"""Dead keys are tried with a cheap read, and come back by themselves when the provider accepts them again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from gateway.credentials import KeyRefused, Keyring
from gateway.ending import end
from gateway.errors import AttemptFailed
from gateway.model import Key
from gateway.phases.ask import ask
from gateway.phases.judge import Refusal, names_wrong_key
from gateway.pool import Pool
from gateway.telemetry import log
from gateway.upstream import Upstream

_FIRST_S = 5.0
_LOOK_S = 1.0
_PATIENCE_S = 10.0
_PROOFS = 3
"""Objects that a new key is asked for: the first may be gone by now."""


@dataclass
class _Plan:
    """When a key is tried next, and after how long once more. Times of the event loop's clock."""

    due: float
    pause_s: float


class Probing:
    """Looks every second which keys are due. `start`, then `close`."""

    def __init__(
        self,
        pools: Mapping[str, Pool],
        upstreams: Mapping[str, Upstream],
        keyring: Keyring,
        *,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._pools = pools
        self._upstreams = upstreams
        self._keyring = keyring
        self._pause = pause
        self._plans: dict[tuple[str, str], _Plan] = {}
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._running = asyncio.create_task(self._run(), name="probing")

    async def close(self) -> None:
        if self._running is not None:
            await end([self._running])

    async def _run(self) -> None:
        while True:
            await self._pause(_LOOK_S)
            try:
                await self.look()
            except Exception:
                log.exception("probing.crashed")

    async def look(self) -> None:
        """Try every key that is due, and warn of those that end soon."""
        for pool in self._pools.values():
            pool.warn_of_expiry()
        now = asyncio.get_running_loop().time()
        wanted = {
            (pool.target.account.route, key.name): (pool, key)
            for pool in self._pools.values()
            for key in pool.doubtful()
        }
        for place in self._plans.keys() - wanted.keys():
            del self._plans[place]
        due = []
        for place, (pool, key) in wanted.items():
            plan = self._plans.setdefault(place, _Plan(now + _FIRST_S, _FIRST_S))
            if plan.due <= now:
                plan.pause_s = min(2 * plan.pause_s, pool.longest_probe_s)
                plan.due = now + plan.pause_s
                due.append(self.probe(pool, key))
        await asyncio.gather(*due)

    async def probe(self, pool: Pool, key: Key) -> bool | None:
        """Whether the provider accepts the key; None if that cannot be told now. The pool is told. A key without money
        is accepted: that it cannot pay is for the next request to find out."""
        refusal = await self._ask(pool, key)
        if refusal is None or refusal.status == 408 or refusal.status >= 500:
            return None
        is_wrong = names_wrong_key(refusal)
        if refusal.status != 401 and not is_wrong:
            pool.revive(key)
            return True
        pool.kill(key, "invalid_api_key" if is_wrong else "unauthorized")
        return False

    async def belongs(self, pool: Pool, key: Key) -> bool | None:
        """Whether a key finds what others of its account made or read; None if that cannot be told: nothing was seen
        yet, or the provider does not say."""
        for path in pool.proofs()[:_PROOFS]:
            answer = await self._ask(pool, key, path)
            if answer is not None and answer.status < 300:
                return True
            if answer is None or answer.status != 404:
                return None
        return False if pool.proofs() else None

    async def _ask(self, pool: Pool, key: Key, path: str | None = None) -> Refusal | None:
        """What a read is answered; None for no answer."""
        upstream = self._upstreams[pool.target.provider.name]
        try:
            return await ask(
                pool.target, key, upstream=upstream, keyring=self._keyring, path=path, patience_s=_PATIENCE_S
            )
        except KeyRefused:
            return Refusal(401)
        except AttemptFailed:
            return None
