"""Another configuration in a running gateway: keys, accounts, providers and tenants, without a lost request.

A configuration with a fault changes nothing. A new key joins after it has found what other keys of its account made or
read; until then the old ones go on. Requests that are under way end as they began.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from gateway.config import Config, ConfigError
from gateway.ending import end
from gateway.model import Account, Directory, Key, Target
from gateway.pool import Pool
from gateway.probing import Probing
from gateway.store.connection import StoreAway
from gateway.store.homes import Homes
from gateway.telemetry import log
from gateway.upstream import Upstream

Load = Callable[[set[Path]], Config]
"""Reads the configuration again; adds the files that hold its secrets. Raises ConfigError."""

_LOOK_S = 1.0
_FIXED = ("listener", "limits", "store", "cache", "signing_keys", "alerts", "idempotency", "audit", "demo")
"""Sections that count only at start."""

Signature = Mapping[Path, tuple[int, int, int] | None]


class Reloading:
    """Holds what a reload replaces: `upstreams` and `pools` are changed in place, `make_pool` makes a new one."""

    def __init__(
        self,
        config: Config,
        load: Load,
        *,
        directory: Directory,
        homes: Homes,
        upstreams: dict[str, Upstream],
        pools: dict[str, Pool],
        make_pool: Callable[[Target, Config], Pool],
        probing: Probing,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._config = config
        self._load = load
        self._directory = directory
        self._homes = homes
        self._upstreams = upstreams
        self._pools = pools
        self._make_pool = make_pool
        self._probing = probing
        self._pause = pause
        self._files: set[Path] = set()
        self._working: set[asyncio.Task[object]] = set()
        self._retired: list[Upstream] = []
        self._reloading = asyncio.Lock()
        self.on_reload: list[Callable[[Config, str, Sequence[str]], None]] = []
        """Told of each configuration that is taken, why, and which of its sections wait for a restart."""

    def start(self) -> None:
        self._work(self._watch())

    def reload_soon(self, reason: str) -> None:
        self._work(self.reload(reason))

    def _work(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.create_task(work)
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    async def _watch(self) -> None:
        """Reload whenever a file with a secret is another than a second ago, until cancelled. Kubernetes renames the
        folder behind it, so what counts is the file that the name leads to."""
        with suppress(ConfigError):
            await asyncio.to_thread(self._read)
        before = await asyncio.to_thread(self._signature)
        await self._catch_up()
        while True:
            await self._pause(_LOOK_S)
            after = await asyncio.to_thread(self._signature)
            if after != before:
                before = after
                await self.reload("a file with a secret has changed")

    async def _catch_up(self) -> None:
        """A file may have changed after the gateway read it and before this looked at it first."""
        try:
            is_same = await asyncio.to_thread(self._read) == self._config
        except ConfigError:
            is_same = False
        if not is_same:
            await self.reload("the configuration has changed since the start")

    def _read(self) -> Config:
        files: set[Path] = set()
        try:
            return self._load(files)
        finally:
            self._files = files or self._files

    def _signature(self) -> Signature:
        return {path: _stat(path) for path in sorted(self._files)}

    async def reload(self, reason: str) -> bool:
        """Read the configuration again and take it. Whether it was taken: one with faults is logged and changes
        nothing."""
        async with self._reloading:
            try:
                config = await asyncio.to_thread(self._read)
            except ConfigError as error:
                log.error("config.refused", reason=reason, faults=error.faults)
                return False
            fixed = [name for name in _FIXED if getattr(config, name) != getattr(self._config, name)]
            if fixed:
                log.warning("config.needs_restart", sections=fixed)
            await self._take(config)
            log.info("config.reloaded", reason=reason)
            for callback in self.on_reload:
                callback(config, reason, fixed)
            return True

    async def _take(self, config: Config) -> None:
        new = Directory(config)
        for name, provider in config.providers.items():
            before = self._config.providers.get(name)
            if before is None or _transport(provider) != _transport(before):
                if name in self._upstreams:
                    self._retired.append(self._upstreams[name])
                self._upstreams[name] = Upstream(provider)
        taken: dict[str, tuple[Target, Pool]] = {}
        for route, target in new.targets.items():
            pool = self._pools.get(route)
            if pool is None:
                taken[route] = (target, self._make_pool(target, config))
            else:
                await self._prove(pool, target.account)
                taken[route] = (target, pool)
        for route, (target, pool) in taken.items():
            pool.update(target, config.providers[target.provider.name].rotation)
            self._pools[route] = pool
        self._directory.update(config)
        self._config = config
        self._homes.forget()
        try:
            await self._homes.settle()
        except StoreAway:
            return  # it settles when the store is back

    async def _prove(self, pool: Pool, account: Account) -> None:
        """Look at the keys that are new to an account, while the old ones work."""
        known = {key.fingerprint for key in pool.target.account.keys}
        for key in (key for key in account.keys if key.fingerprint not in known):
            await self._prove_key(pool, key)

    async def _prove_key(self, pool: Pool, key: Key) -> None:
        where = {"provider": pool.target.provider.name, "account": pool.target.account.name, "key": key.name}
        belongs = await self._probing.belongs(pool, key)
        if belongs:
            log.info("key.joined", **where)
        elif belongs is None:
            log.warning("key.unproven", **where)
        else:
            pool.note_mismatch(key, "what the account's other keys have seen")

    async def close(self) -> None:
        """Stop, and close the connections that reloads have replaced."""
        await end(self._working)
        for upstream in self._retired:
            await upstream.close()


def _stat(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _transport(provider: object) -> tuple[object, ...]:
    """The settings that connections are made with."""
    return tuple(getattr(provider, name) for name in ("proxy", "ca_file", "client_cert", "timeouts"))
