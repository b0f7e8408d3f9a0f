"""A trail from the configuration: its writer, what keeps its files, what signs how far it has come."""

from __future__ import annotations

import asyncio
import hashlib
import re
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from gateway import __version__
from gateway.audit.chain import GENESIS, Position
from gateway.audit.checkpoints import Checkpoints, FileSink, Sink, WebhookSink, find_or_make_key
from gateway.audit.file_set import FileSet
from gateway.audit.files import new_boot
from gateway.audit.repair import bind, clear_unfinished
from gateway.audit.retention import Keeping
from gateway.audit.trail import Trail
from gateway.audit.writer import ContentStore
from gateway.config import Config
from gateway.store.checkpoints import StoredCheckpoints
from gateway.store.connection import Store

_NO_NAME = re.compile(r"[^A-Za-z0-9_.-]")


def open_trail(
    config: Config,
    *,
    store: Store | None = None,
    content_store: ContentStore | None = None,
    retain: Callable[[], Iterable[tuple[str, int, str]]] = list,
) -> Trail:
    """The trail of this process, to be started. Touches no disk. `store` is needed for `checkpoint_to.valkey`;
    `retain` is called from time to time."""
    settings = config.audit
    folder, replica, boot = settings.dir, replica_name(settings.replica), new_boot(time.time())
    facts = {"version": __version__, "config": config_digest(config), "mode": settings.mode}

    def open_files(skipped: Callable[[], Mapping[str, int]]) -> FileSet:
        if folder.is_dir():
            clear_unfinished(folder, replica)
        previous, head = bind(folder, replica)
        return FileSet(
            folder,
            replica=replica,
            boot=boot,
            facts=facts,
            previous=previous,
            head=head or GENESIS,
            sync=settings.mode == "fsync",
            skipped=skipped,
            on_sealed=on_sealed,
        )

    def on_sealed(_: Path, position: Position) -> None:
        keeping.sealed()
        checkpoints.sealed(position)

    trail = Trail(
        open_files,
        mode=settings.mode,
        on_error=settings.on_error,
        timeout_s=settings.timeout_s,
        rotate_bytes=settings.rotate_bytes,
        rotate_s=settings.rotate_s,
        content_store=content_store,
    )
    keeping = Keeping(
        folder,
        replica,
        boot=boot,
        is_open=lambda: trail.position is not None,
        tell=partial(_tell, trail, settings.timeout_s),
        is_compressing=settings.compress,
        keep_s=settings.keep_s,
        keep_bytes=settings.keep_bytes,
        retain=retain,
    )
    pem = settings.signing_key.reveal() if settings.signing_key is not None else None
    checkpoints = Checkpoints(
        folder,
        partial(find_or_make_key, folder, pem),
        position=lambda: trail.position,
        every_s=settings.checkpoint_s,
        sinks=_sinks(config, store, f"{replica}-{boot}"),
    )
    trail.attach(keeping=keeping, checkpoints=checkpoints)
    return trail


def replica_name(configured: str | None) -> str:
    """This host's name, where none is configured, as names may be."""
    return configured or _NO_NAME.sub("_", socket.gethostname()) or "gateway"


def config_digest(config: Config) -> str:
    """Of everything that is configured, save the secrets themselves: those show where they come from."""
    return "sha256:" + hashlib.sha256(repr(config).encode()).hexdigest()


def _tell(trail: Trail, timeout_s: float, kind: str, facts: Mapping[str, Any]) -> None:
    """Record something from another thread than the loop's. Raises what `write_surely` raises, and TimeoutError."""
    asyncio.run_coroutine_threadsafe(trail.write_surely(kind, facts), trail.loop).result(2 * timeout_s)


def _sinks(config: Config, store: Store | None, boot: str) -> list[Sink]:
    to = config.audit.checkpoint_to
    sinks: list[Sink] = []
    if to.file is not None:
        sinks.append(FileSink(to.file))
    if to.webhook is not None:
        sinks.append(WebhookSink(to.webhook.reveal()))
    if to.valkey and store is not None:
        sinks.append(StoredCheckpoints(store, boot))
    return sinks
