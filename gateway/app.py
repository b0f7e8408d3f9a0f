"""The composition root: builds everything once from a configuration, starts it, and closes it in reverse."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress

from gateway.alerts import Alerts, Tell, tell_nobody
from gateway.attempts import Attempts, Send
from gateway.audit.bodies import Bodies
from gateway.audit.hmac_key import HmacKeyUnusable, load_hmac_key
from gateway.audit.opening import open_trail
from gateway.audit.policy import Policy
from gateway.audit.redaction import Redactor
from gateway.auditing import Auditing, NoAuditing
from gateway.budgets import Budgets
from gateway.caching import Caching
from gateway.callers import Callers
from gateway.config import Config
from gateway.credentials import Keyring
from gateway.demo.echo_server import EchoServer
from gateway.ending import end
from gateway.engine.asking import Asking, CountTokens
from gateway.engine.running import Running
from gateway.engine.serving import Serving
from gateway.engine.store.stored import open_stored
from gateway.engine.vector_stores import VectorStores
from gateway.erasing import Erasing
from gateway.flow import Gateway
from gateway.health import Health
from gateway.idempotency import Idempotency
from gateway.ids import IdSigner
from gateway.limiting import Limiting
from gateway.model import Directory, Target
from gateway.ownership import Ownership
from gateway.phases.read_facts import Run
from gateway.polling import Polling
from gateway.pool import Pool
from gateway.probing import Probing
from gateway.recipes import Recipes
from gateway.reloading import Load, Reloading
from gateway.scoping import Scoping
from gateway.server import Server
from gateway.settlement import Settled, Settlement
from gateway.store.budgets import BudgetCounts
from gateway.store.cache import ThreadCache
from gateway.store.cluster_coalescer import ClusterCoalescer, open_coalescer
from gateway.store.coalescer import Coalescer
from gateway.store.connection import Store, StoreAway
from gateway.store.embedded import EmbeddedValkey
from gateway.store.homes import Homes
from gateway.store.idempotency import IdempotencyRecords
from gateway.store.key_states import KeyPlace
from gateway.store.limits import LimitCounts
from gateway.store.noted_runs import Ended, NotedRuns
from gateway.store.owner_index import OwnerIndex
from gateway.store.shared import Shared
from gateway.store.switches import IsErased
from gateway.targets import Targets
from gateway.telemetry import log
from gateway.upstream import Upstream

_LEASE_S = 120.0
"""How long a read may take for its answer to be kept."""
_INTERRUPT_S = 1.0
_HURRY_S = 0.05


class CannotStart(Exception):
    """The gateway cannot start; the message is one line that says what to mend."""


class App:
    """A whole gateway in this process. `start`, then `stop`; both once."""

    def __init__(self, config: Config, load: Load | None = None) -> None:
        """`load` reads the configuration again; without it nothing is ever reloaded."""
        self._config = config
        self._load = load
        self._closing = AsyncExitStack()
        self._health: Health | None = None
        self._server: Server | None = None
        self._listening: asyncio.Server | None = None
        self.cache: ThreadCache | None = None
        self.pools: dict[str, Pool] = {}
        self.reloading: Reloading | None = None
        self.shared: Shared | None = None
        self.probing: Probing | None = None
        self.settlement: Settlement | None = None
        self.polling: Polling | None = None
        self.running: Running | None = None
        self.limiting: Limiting | None = None
        self.budgets: Budgets | None = None
        self.url = ""

    async def start(self) -> None:
        """Listen and be ready. Raises CannotStart; what had begun is closed by then."""
        try:
            await self._start()
        except BaseException:
            await self._closing.aclose()
            raise

    async def _start(self) -> None:
        config = self._config
        bound = self._bind()
        self._closing.callback(bound.close)
        directory = Directory(config)
        url, signing_keys = await self._open_store()
        store = Store(url, prefix=config.store.prefix, timeout_s=config.store.timeout_s)
        self._closing.push_async_callback(store.close)
        shared = self.shared = Shared(store)
        is_erased = shared.switches.is_erased
        auditing = await self._open_audit(store, directory, is_erased)
        coalescer = self._open_coalescer(url)
        cache = self.cache = self._open_cache(coalescer, is_erased)
        callers = Callers(directory, shared.tenants, shared.tenant_keys)
        homes = Homes(store, directory, callers.tenants, is_erased=is_erased)
        index = OwnerIndex(store, is_erased=is_erased)
        self._closing.callback(index.close)
        await self._meet_store(store, shared, homes, index)
        await cache.catch_up()
        await self._start_demo()
        upstreams = {name: Upstream(provider) for name, provider in config.providers.items()}
        self._closing.push_async_callback(_close_all, upstreams)
        self._health = Health(lambda: store.is_ready)
        self._closing.push_async_callback(shared.close)
        await shared.start()
        budgets = self.budgets = Budgets(BudgetCounts(coalescer, store), directory, lambda: shared.replicas.count)
        self._closing.push_async_callback(budgets.drain)
        attempts = self._open_keys(directory, homes, upstreams, shared, budgets)

        def count_for_key(place: KeyPlace, tokens: int, at_s: float) -> None:
            shared.usage.note(place, at_s, tokens=tokens)
            budgets.note_tokens(place, tokens, at_s)

        targets = self._open_serving(store, directory, attempts, count_for_key, auditing, is_erased)
        ownership = Ownership(index, targets)
        self._closing.push_async_callback(ownership.drain)
        idempotency = self._open_idempotency(store, is_erased)
        settlement = self._open_settlement(store, directory, targets, shared, count_for_key)
        signer = IdSigner(signing_keys)
        gateway = Gateway(
            config,
            directory=directory,
            callers=callers,
            last_use=shared.last_use,
            signer=signer,
            home_of=homes,
            scoping=Scoping(targets),
            recipes=Recipes(targets),
            ownership=ownership,
            caching=Caching(cache, config.cache, signer),
            switches=shared.switches,
            idempotency=idempotency,
            settlement=settlement,
            usage=shared.tenant_usage,
            limiting=self._open_limiting(coalescer, store, shared),
            auditing=auditing,
            health=self._health,
        )
        if isinstance(auditing, Auditing):
            self._open_erasing(auditing, callers, shared)
            self._tell_trail(auditing, shared, settlement)
        await self._listen(gateway, bound)

    async def _meet_store(self, store: Store, shared: Shared, homes: Homes, index: OwnerIndex) -> None:
        """What is to be known of it before anything is written, now and each time it is back."""
        await store.connect()
        with suppress(StoreAway):  # then hashing decides until the store is back
            await shared.switches.mirror.settle()  # of a tenant that was erased nothing must be written
            await homes.settle()
        store.on_return += [shared.knowing(homes.settle), shared.knowing(index.flush)]
        shared.on_follow.append(homes.settle_new)

    def _tell_trail(self, auditing: Auditing, shared: Shared, settlement: Settlement) -> None:
        """What is no request and belongs into it."""
        shared.acts.on_act.append(auditing.note_act)
        settlement.on_settled.append(auditing.note_settled)
        if self.reloading is not None:
            self.reloading.on_reload.append(auditing.note_reload)

    def _bind(self) -> socket.socket:
        """Take the port before anything else is started: that it is in use is the commonest fault."""
        listener = self._config.listener
        try:
            return socket.create_server((listener.host, listener.port), family=_family(listener.host), backlog=1024)
        except (OSError, OverflowError) as exc:
            raise CannotStart(f"cannot listen on {listener.host}:{listener.port}: {_reason(exc)}") from exc

    async def _open_store(self) -> tuple[str, list[bytes]]:
        """The store's URL, and the signing keys."""
        settings = self._config.store
        keys = [secret.reveal().encode() for secret in self._config.signing_keys]
        if settings.url is not None:
            url = settings.url.reveal()
        else:
            valkey = EmbeddedValkey(settings.data_dir)
            self._closing.push_async_callback(valkey.close)
            await valkey.start()
            valkey.watch()
            url = valkey.url
            keys = keys or [(await valkey.signing_key()).encode()]
        return url, keys

    async def _open_audit(self, store: Store, directory: Directory, is_erased: IsErased) -> Auditing | NoAuditing:
        """The trail, if the configuration wants one. Raises CannotStart when its folder cannot be used."""
        settings = self._config.audit
        if not settings.enabled:
            return NoAuditing()
        try:
            key = await asyncio.to_thread(load_hmac_key, settings.dir, settings.hmac_key)
        except HmacKeyUnusable as exc:
            raise CannotStart(f"audit.hmac_key: {exc}") from exc
        except OSError as exc:
            raise CannotStart(f"audit.dir {settings.dir} cannot be used: {_reason(exc)}") from exc
        redactor = Redactor(key, settings.redact, is_key=directory.has_secret, words=_words(self._config))
        folder, is_synced = settings.dir / "bodies", settings.mode == "fsync"
        bodies = Bodies(folder, secrets.token_hex(8), settings.bodies, redactor, is_synced=is_synced)
        trail = open_trail(self._config, store=store, content_store=bodies, retain=bodies.retain)
        trail.start()
        self._closing.push_async_callback(trail.close)
        most = settings.bodies.max_bytes
        return Auditing(trail, Policy(settings.policy), redactor, max_bytes=most, is_erased=is_erased)

    def _open_erasing(self, auditing: Auditing, callers: Callers, shared: Shared) -> None:
        def name_of(tenant: str) -> str:
            found = callers.tenants().get(tenant)
            return found.name if found is not None else tenant

        erasing = Erasing(shared.switches, auditing, self._config.audit.dir / "bodies", name_of)
        self._closing.push_async_callback(erasing.close)
        shared.on_follow.append(erasing.follow)

    def _open_keys(
        self,
        directory: Directory,
        homes: Homes,
        upstreams: dict[str, Upstream],
        shared: Shared,
        budgets: Budgets,
    ) -> Attempts:
        """All that concerns keys: pools, probes, reloading; and what sends with them."""
        config = self._config
        keyring, alert = Keyring(), self._open_alerts()

        def make_pool(target: Target, config: Config) -> Pool:
            rotation = config.providers[target.provider.name].rotation
            return Pool(target, rotation, states=shared.keys, usage=shared.usage, budgets=budgets, alert=alert)

        pools = self.pools = {route: make_pool(target, config) for route, target in directory.targets.items()}
        probing = self.probing = Probing(pools, upstreams, keyring)
        self._closing.push_async_callback(probing.close)
        probing.start()
        if self._load is not None:
            self.reloading = Reloading(
                config,
                self._load,
                directory=directory,
                homes=homes,
                upstreams=upstreams,
                pools=pools,
                make_pool=make_pool,
                probing=probing,
            )
            self._closing.push_async_callback(self.reloading.close)
            self.reloading.start()
        return Attempts(upstreams, pools, limits=config.limits, keyring=keyring)

    def _open_alerts(self) -> Tell:
        if self._config.alerts.webhook is None:
            return tell_nobody
        alerts = Alerts(self._config.alerts.webhook.reveal())
        self._closing.push_async_callback(alerts.close)
        alerts.start()
        return alerts

    def _open_coalescer(self, url: str) -> Coalescer | ClusterCoalescer:
        coalescer = open_coalescer(url, timeout_s=self._config.cache.timeout_s)
        self._closing.push_async_callback(coalescer.close)
        return coalescer

    def _open_cache(self, coalescer: Coalescer | ClusterCoalescer, is_erased: IsErased) -> ThreadCache:
        cache = ThreadCache(coalescer, prefix=self._config.store.prefix, lease_s=_LEASE_S, is_erased=is_erased)
        self._closing.push_async_callback(cache.drain)
        coalescer.on_return.append(cache.catch_up)
        return cache

    def _open_limiting(self, coalescer: Coalescer | ClusterCoalescer, store: Store, shared: Shared) -> Limiting:
        counts = LimitCounts(coalescer, store, is_erased=shared.switches.is_erased)
        limiting = self.limiting = Limiting(counts, lambda: shared.replicas.count)
        self._closing.push_async_callback(limiting.close)
        coalescer.on_return.append(shared.knowing(limiting.flush))
        limiting.start()
        return limiting

    def _open_idempotency(self, store: Store, is_erased: IsErased) -> Idempotency:
        records = IdempotencyRecords(store, keep_s=self._config.idempotency.keep_s, is_erased=is_erased)
        self._closing.push_async_callback(records.close)
        records.tend()
        idempotency = Idempotency(records, self._config.idempotency)
        self._closing.push_async_callback(idempotency.drain)
        return idempotency

    def _open_serving(
        self,
        store: Store,
        directory: Directory,
        attempts: Attempts,
        count: CountTokens,
        auditing: Auditing | NoAuditing,
        is_erased: IsErased,
    ) -> Targets:
        """Threads that are served here, beside what is sent to providers."""

        async def settle(tenant: str, route: str, run: Run) -> None:
            if self.settlement is not None and run.is_over:
                await self.settlement.see(tenant, route, [run])
            elif self.settlement is not None:
                await self.settlement.settle(tenant, route, [Ended(run.id, run.status, run.usage)])

        stored = open_stored(store, owner=f"{socket.gethostname()}:{os.getpid()}")
        stores = VectorStores(attempts)
        running = self.running = Running(
            stored,
            Asking(attempts, count),
            stores,
            directory,
            settle,
            at_once=self._config.limits.runs_at_once,
            keep_unused_s=self._config.store.keep_unused_threads_s,
            auditing=auditing,
        )
        self._closing.push_async_callback(running.close)
        if any(provider.is_served for provider in directory.providers.values()):
            running.start()
        return Targets(attempts, Serving(stored, running, stores, is_erased=is_erased))

    def _open_settlement(
        self, store: Store, directory: Directory, send: Send, shared: Shared, count_for_key: CountTokens
    ) -> Settlement:
        """What counts the tokens of runs, and looks at those that nobody else looks at."""

        def count_settled(settled: Settled) -> None:
            run, usage = settled.run, settled.usage
            if run.key and usage is not None:  # a served run has none: each call of its models was counted
                count_for_key(KeyPlace(run.route, run.key), usage.total, settled.at_s)

        runs = NotedRuns(store, is_erased=shared.switches.is_erased)
        settlement = self.settlement = Settlement(runs, answer_bytes=self._config.limits.answer_bytes)
        settlement.on_settled.append(count_settled)
        store.on_return.append(shared.knowing(settlement.flush))
        self._closing.push_async_callback(settlement.close)
        polling = self.polling = Polling(runs, settlement, send, directory=directory, switches=shared.switches)
        self._closing.push_async_callback(polling.close)
        polling.start()
        return settlement

    async def _start_demo(self) -> None:
        demo = self._config.demo
        if demo is None:
            return
        accounts = self._config.providers[demo.provider].accounts.values()
        server = EchoServer([key.secret.reveal() for account in accounts for key in account.keys.values()])
        try:
            await server.start(demo.port)
        except OSError as exc:
            await server.stop()
            raise CannotStart(f"the echo model cannot listen on 127.0.0.1:{demo.port}: {_reason(exc)}") from exc
        self._closing.push_async_callback(server.stop)
        log.info("demo.started", url=server.url)

    async def _listen(self, gateway: Gateway, bound: socket.socket) -> None:
        listener = self._config.listener
        self._server = Server(gateway, listener, self._config.limits)
        context = listener.tls.context() if listener.tls else None
        self._listening = await asyncio.get_running_loop().create_server(self._server, sock=bound, ssl=context)
        host, port = bound.getsockname()[:2]
        self.url = f"{'https' if context else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
        log.info("gateway.started", url=self.url)

    async def stop(self, grace_s: float | None = None) -> None:
        """Accept nothing more, let running requests end for `grace_s` (default `listener.shutdown_s`), cancel what
        is left, close everything."""
        grace_s = self._config.listener.shutdown_s if grace_s is None else grace_s
        log.info("gateway.stopping", grace_s=grace_s)
        if self._health is not None:
            self._health.is_draining = True
        if self._listening is not None:
            self._listening.close()
        try:
            if self._server is not None:
                await asyncio.sleep(0)  # requests accepted just now get their handlers first
                await self._end_work(self._server, grace_s)
        finally:
            await self._closing.aclose()
        log.info("gateway.stopped")

    async def _end_work(self, server: Server, grace_s: float) -> None:
        """Requests and runs side by side. Cancelled itself it waits until the requests were cancelled too."""
        runs = asyncio.create_task(self._end_runs(grace_s))
        try:
            await self._end_requests(server, grace_s)
            await runs
        finally:
            await end([runs])

    async def _end_runs(self, grace_s: float) -> None:
        if self.running is not None:
            await self.running.drain(grace_s)

    async def _end_requests(self, server: Server, grace_s: float) -> None:
        """Let requests end for `grace_s`, then cancel them. Cancelled itself it does the latter at once."""
        server.pre_shutdown()
        try:
            # aiohttp waits so long twice: for the handlers, then for what is left of the connections.
            await server.shutdown(grace_s / 2)
        except asyncio.CancelledError:
            await server.shutdown(_HURRY_S)
            raise


def _reason(exc: Exception) -> str:
    """The system's own words: Python adds the address, which is said already."""
    if isinstance(exc, OSError) and exc.errno and exc.errno > 0:
        return os.strerror(exc.errno)
    return str(getattr(exc, "strerror", None) or exc)


async def _close_all(upstreams: Mapping[str, Upstream]) -> None:
    for upstream in upstreams.values():
        await upstream.close()


def _words(config: Config) -> set[str]:
    """What stands in paths beside the API's words and ids, and is no secret."""
    passing = {word for each in config.providers.values() for path in each.passthrough for word in path.split("/")}
    return {*config.providers, *passing} - {"*"}


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


async def run_until_signalled(config: Config, load: Load, on_started: Callable[[str], None]) -> None:
    """Serve until SIGTERM (running requests get `listener.shutdown_s`) or SIGINT (they get one second). SIGHUP has the
    configuration read again by `load`."""
    app = App(config, load)
    received: asyncio.Queue[signal.Signals] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, received.put_nowait, number)
    await app.start()
    if app.reloading is not None:
        loop.add_signal_handler(signal.SIGHUP, app.reloading.reload_soon, "SIGHUP")
    on_started(app.url)
    first = await received.get()
    stopping = asyncio.create_task(app.stop(_INTERRUPT_S if first is signal.SIGINT else None))
    hurry = asyncio.create_task(received.get())
    await asyncio.wait((stopping, hurry), return_when=asyncio.FIRST_COMPLETED)
    if not stopping.done():  # a second signal: whoever sends it will not wait
        stopping.cancel()
        await asyncio.wait((stopping,))
    hurry.cancel()
