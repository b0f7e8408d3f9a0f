"""The way from a command to what the running gateways share: the same configuration, the same store."""

from __future__ import annotations

import getpass
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.commands.command_failed import CommandFailed
from gateway.config import Config
from gateway.config import Store as StoreConfig
from gateway.store.acts import Act, Acted
from gateway.store.connection import Store, StoreAway
from gateway.store.embedded import EmbeddedStoreError, EmbeddedValkey
from gateway.store.shared import Shared


@asynccontextmanager
async def open_shared(config: Config) -> AsyncIterator[Shared]:
    """What is shared, as it is now. Raises CommandFailed when the store is not there, or leaves within the context."""
    async with open_store(config) as store, shared_of(store) as shared:
        yield shared


@asynccontextmanager
async def shared_of(store: Store) -> AsyncIterator[Shared]:
    """The same of a store that is open."""
    shared = Shared(store)
    try:
        await shared.load()
        yield shared
    finally:
        await shared.close()


@asynccontextmanager
async def open_store(config: Config) -> AsyncIterator[Store]:
    """The gateways' store. Raises CommandFailed when it is not there, or leaves within the context."""
    store = Store(_url(config.store), prefix=config.store.prefix, timeout_s=config.store.timeout_s)
    try:
        yield store
    except StoreAway as exc:
        raise CommandFailed(_nobody_there(config.store)) from exc
    finally:
        await store.close()


def _url(settings: StoreConfig) -> str:
    if settings.url is not None:
        return settings.url.reveal()
    try:
        return EmbeddedValkey(settings.data_dir).url
    except EmbeddedStoreError as exc:
        raise CommandFailed(exc.message) from exc


def _nobody_there(settings: StoreConfig) -> str:
    if settings.url is not None:
        return "the store does not answer, so nothing can be read or changed; see store.url"
    return (
        f"no gateway runs on store.data_dir {settings.data_dir.absolute()}: its Valkey does not answer. Start the "
        "gateway, or run this in the folder where it was started"
    )


async def tell(shared: Shared, act: str, kind: Acted, name: str, reason: str) -> None:
    """Tell the store of what was changed, and then who did it. Raises StoreAway."""
    await shared.flush()
    await shared.acts.add(Act(_who(), act, kind, name, int(time.time()), reason))


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = f"uid{os.getuid()}"
    return f"{user}@{socket.gethostname()}"
