"""Objects as they are stored: a document as it was first written, and patches, each the members that one kind of
change has set.

A patch has the name of its change, and a later change of that name replaces it. Different changes never touch the same
patch, so none has to be read before it is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gateway import codec

Document = dict[str, Any]

MESSAGE_PATCHES = ("metadata", "ended")
STEP_PATCHES = ("ended",)
RUN_PATCHES = ("metadata", "ended")
THREAD_PATCHES = ("metadata", "tool_resources")
ASSISTANT_PATCHES = (
    "model",
    "name",
    "description",
    "instructions",
    "reasoning_effort",
    "tools",
    "tool_resources",
    "metadata",
    "temperature",
    "top_p",
    "response_format",
)


def encode(document: Mapping[str, Any]) -> bytes:
    return codec.dumps(dict(document))


def decode(raw: bytes) -> Document:
    document: Document = codec.loads(raw)
    return document


def as_patches(changes: Mapping[str, Any], allowed: Sequence[str]) -> list[str | bytes]:
    """Name and patch of each changed member, for a script. Raises ValueError for a member that cannot change."""
    if unknown := set(changes) - set(allowed):
        raise ValueError(f"cannot be changed: {', '.join(sorted(unknown))}")
    return [word for name, value in changes.items() for word in (name, encode({name: value}))]


def fields_of(id: str, patches: Sequence[str]) -> list[str]:  # noqa: A002  it is called so everywhere
    """The fields of a hash that make an object."""
    return [id, *(f"{id}:{patch}" for patch in patches)]


def assemble(fields: Iterable[bytes | None]) -> Document:
    """The object: its document first, patches over it."""
    document: Document = {}
    for field in fields:
        if field is not None:
            document |= decode(field)
    return document
