"""What is told of a run whose time is over and whose replica is gone: the events of its end, as its holder would have
told them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from gateway.engine.store.documents import (
    MESSAGE_PATCHES,
    RUN_PATCHES,
    STEP_PATCHES,
    Document,
    assemble,
    decode,
    encode,
    fields_of,
)
from gateway.engine.store.endings import Ending
from gateway.engine.store.keys import thread_key
from gateway.engine.store.scripts import read_fields
from gateway.store.connection import Store

_PATCHES: Mapping[str, Sequence[str]] = {"message": MESSAGE_PATCHES, "step": STEP_PATCHES}
_NAMES = {"message": "thread.message.incomplete", "step": "thread.run.step.expired"}
_PARTS = {"message": "m", "step": "s"}


async def expiry_events(
    store: Store, thread: str, run: str, at_work: Mapping[str, bytes], ending: Ending
) -> list[tuple[str, bytes]]:
    """Names and data. `at_work` is what the thread knows of the run in work (its `:a`). Raises StoreAway."""
    run_patch, *patches = map(decode, ending.patches())
    patch_of = dict(zip(("message", "step"), patches, strict=True))
    told: list[tuple[str, bytes]] = []
    for kind, id_ in _left_open(at_work):
        fields = fields_of(id_, _PATCHES[kind])
        left = assemble(await read_fields(store, thread_key(store, thread, _PARTS[kind]), fields))
        told.append((_NAMES[kind], encode(_shown(left | patch_of[kind]))))
    expired = assemble(await read_fields(store, thread_key(store, thread, "r"), fields_of(run, RUN_PATCHES)))
    if (started := at_work.get("started")) is not None:
        expired["started_at"] = int(started)
    if (usage := at_work.get("usage")) is not None:
        expired["usage"] = decode(usage)
    return [*told, ("thread.run.expired", encode(expired | run_patch))]


def _left_open(at_work: Mapping[str, bytes]) -> Iterator[tuple[str, str]]:
    """Messages, then steps."""
    for kind in ("message", "step"):
        for field in sorted(at_work):
            if field.startswith(f"{kind}:"):
                yield kind, field.removeprefix(f"{kind}:")


def _shown(document: Document) -> Document:
    """What the engine keeps in it for itself begins with a low line."""
    return {name: value for name, value in document.items() if not name.startswith("_")}
