"""The rest of a vendor's API, for programs that use one client for everything: which paths may go through, and where
ids stand in their bodies. Pure.

What a provider's `passthrough` lists goes to the tenant's home account with its keys, bodies and answers as they are.
Only ids are translated, and only whole strings under the names of `KINDS`, which say what they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from gateway.errors import GatewayError
from gateway.operations import OPERATIONS, Operation
from gateway.shapes import Slot

STATELESS: Mapping[str, str] = {
    "chat/completions": "POST",
    "completions": "POST",
    "embeddings": "POST",
    "moderations": "POST",
    "models": "GET",
    "models/*": "GET",
    "audio/*": "POST",
    "images/*": "POST",
}
"""What stores nothing that a later call reads, and the method for which that is so: a GET on `chat/completions` lists
what any tenant of the account has stored, a DELETE on `models` takes a model from all of them. Source: OpenAI's API
reference, read 2026-11-21."""

OPERATION = "passthrough"
"""How the log and scopes of keys call all of it."""

_OURS = frozenset(operation.template.split("/")[1] for operation in OPERATIONS) | {"uploads"}
_METHODS = ("GET", "POST", "DELETE")
_PATTERN = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*(/\*)?")
_SEGMENT = re.compile(r"(?:[A-Za-z0-9_.~:@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+")

_FILES = ("file_id", "file_ids", "input_file", "input_file_id", "output_file_id", "error_file_id")
KINDS: Mapping[str, str] = {
    **dict.fromkeys((*_FILES, "training_file", "validation_file", "result_files"), "file"),
    **dict.fromkeys(("vector_store_id", "vector_store_ids"), "vector_store"),
}
"""Names of fields that hold an id or a list of ids, and of which kind."""

_USERS_OWN = frozenset({"metadata", "parameters", "schema", "arguments"})
"""Names of fields in which nothing is an id, whatever it is called."""


def fault_of(pattern: str, *, is_shared: bool) -> str | None:
    """What is wrong with an entry of `passthrough`, None if nothing is. `is_shared`: an account of the provider is not
    `owned_by` one tenant."""
    if not _PATTERN.fullmatch(pattern):
        return f"{pattern!r} is no path such as chat/completions or audio/*"
    root = pattern.split("/")[0]
    if root in _OURS:
        return f"{pattern} is served by the gateway itself"
    if is_shared and _stateless_method(pattern.replace("*", "x").split("/")) is None:
        stateless = ", ".join(STATELESS)
        return (
            f"{pattern} stores or reads what other calls stored, so every account of the provider must be owned_by"
            f" one tenant; without that only these may be listed: {stateless}"
        )
    return None


def _stateless_method(segments: Sequence[str]) -> str | None:
    """The method with which this path stores nothing and tells nothing that was stored."""
    whole, below = "/".join(segments), f"{segments[0]}/*" if len(segments) > 1 else ""
    return STATELESS.get(whole) or STATELESS.get(below)


@dataclass(frozen=True)
class Passthrough:
    """What one provider lets through. `is_shared` as in `fault_of`."""

    patterns: Sequence[str] = ()
    is_shared: bool = True

    def find(self, method: str, segments: Sequence[str], *, is_upload: bool) -> Operation | None:
        """The operation of a request whose path has these segments, as they came; None for one that is not listed.

        Raises GatewayError 405 for a method that is not let through.
        """
        if not segments or not all(map(_is_plain, segments)) or not self._lists("/".join(map(unquote, segments))):
            return None
        methods: Sequence[str] = _METHODS
        if self.is_shared:
            only = _stateless_method([unquote(segment) for segment in segments])
            methods = (only,) if only is not None else ()
        if method not in methods:
            allowed = ", ".join(sorted(methods))
            raise GatewayError(
                405,
                f"Not allowed to {method} on /{'/'.join(segments)[:200]} here; allowed: {allowed}",
                code="method_not_allowed",
                headers={"allow": allowed},
            )
        return Operation(OPERATION, method, "/" + "/".join(segments), "", "any", {}, upload=is_upload)

    def _lists(self, path: str) -> bool:
        """`models` lets single models through too; otherwise what lies below a path is listed with `/*`."""
        for pattern in self.patterns:
            below = pattern.removesuffix("*") if pattern.endswith("/*") else "models/" if pattern == "models" else None
            if path == pattern or (below is not None and path.startswith(below)):
                return True
        return False


def _is_plain(segment: str) -> bool:
    """No way up, nor a way to hide one: servers decode again and take backslashes for slashes."""
    return bool(_SEGMENT.fullmatch(segment)) and not {".", ".."} & set(re.split(r"[/\\]", unquote(unquote(segment))))


def find_ids(value: Any, param: str = "") -> Iterator[Slot]:
    """Every string that stands where an id does, in a request or an answer."""
    if type(value) is list:
        for place, item in enumerate(value):
            yield from find_ids(item, f"{param}[{place}]")
    elif type(value) is dict:
        for name, inner in value.items():
            at = f"{param}.{name}" if param else name
            kind = KINDS.get(name.casefold())  # to some parsers capitals make no difference
            if kind is not None and type(inner) in (str, list):
                yield from _ids_under(value, name, kind, at)
            elif name not in _USERS_OWN:
                yield from find_ids(inner, at)


def _ids_under(holder: dict[str, Any], name: str, kind: str, param: str) -> Iterator[Slot]:
    inner = holder[name]
    if type(inner) is str:
        if inner:
            yield Slot(holder, name, kind, param)
        return
    for place, item in enumerate(inner):
        if type(item) is str and item:
            yield Slot(inner, place, kind, f"{param}[{place}]")
        else:
            yield from find_ids(item, f"{param}[{place}]")


_NAMES = re.compile(b"|".join(rb'"%s"' % name.encode() for name in KINDS))


def may_hold_ids(raw: bytes) -> bool:
    """Whether JSON has one of the names at all; most answers have not and need no look inside."""
    return _NAMES.search(raw) is not None


def sign_ids(document: Any, public: Callable[[str, str], str]) -> bool:
    """Make the upstream ids of an answer public, in place. Whether there were any."""
    slots = list(find_ids(document))
    for slot in slots:
        slot.fill(public(slot.kind, slot.shown))
    return bool(slots)
