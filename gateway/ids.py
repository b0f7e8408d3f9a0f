"""Ids that carry their own address.

    thread_abc123 + Xk4p + 0f3c9a…            upstream id + route (4) + tag (20 hex digits = 80 bits)

*route* names provider and account; *tag* is a keyed BLAKE2b over tenant, kind, route and upstream id. So an id finds
its account without any table, and an id of another tenant, another kind or a forged one fails the check in memory.
The tail has a fixed length and consists of letters and digits only, so patterns such as `run_\\w+` in clients still
match a whole id.

Signing keys are a list: each of them verifies; an answer is signed with the key of the id that the request carried,
so that one thread keeps one spelling, and with the first key otherwise.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import NamedTuple

ROUTE_LENGTH = 4
TAG_BYTES = 10
TAIL_LENGTH = ROUTE_LENGTH + 2 * TAG_BYTES

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class SignedId(NamedTuple):
    """What a verified public id says. `key` is the place of the signing key in the list."""

    upstream: str
    route: str
    key: int


def _prefixed(text: str) -> bytes:
    data = text.encode("utf-8", "surrogatepass")
    return len(data).to_bytes(4, "big") + data


def route_of(provider_id: str, account_id: str) -> str:
    """Four letters or digits that name an account in every id issued for it. Collisions are possible (one in
    14.7 million pairs) and are refused when the configuration is read."""
    digest = hashlib.blake2b(_prefixed(provider_id) + _prefixed(account_id), digest_size=8, person=b"route").digest()
    number = int.from_bytes(digest, "big")
    characters = []
    for _ in range(ROUTE_LENGTH):
        number, place = divmod(number, 62)
        characters.append(_BASE62[place])
    return "".join(characters)


class IdSigner:
    """Signs and verifies ids. Pure and in memory; safe to share between requests.

    The hash state over key, tenant and kind is kept and copied: hashing starts from it for every id.
    Tenants and kinds come from the configuration, so the number of kept states is bounded.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys or any(len(key) < 16 for key in keys):
            raise ValueError("a signing key has at least 16 bytes")
        # BLAKE2b takes keys of at most 64 bytes; a longer secret is reduced first.
        self._keys = [key if len(key) <= 64 else hashlib.blake2b(key).digest() for key in keys]
        self._states: dict[tuple[int, str, str], hashlib.blake2b] = {}

    def __repr__(self) -> str:
        return f"<IdSigner with {len(self._keys)} keys>"

    def spelling(self, key: int) -> str:
        """A name for the ids that the key of this number signs, the same after keys were added or removed; one for all
        numbers of no key."""
        return self.sign("", kind="", tenant="", route="", key=key) if 0 <= key < len(self._keys) else "raw"

    def sign(self, upstream: str, *, kind: str, tenant: str, route: str, key: int = 0) -> str:
        """The public id of `upstream`; the same inputs always give the same id."""
        return upstream + route + self._tag(key, tenant, kind, route, upstream)

    def verify(self, public: str, *, kind: str, tenant: str) -> SignedId | None:
        """What `public` says if it was issued for this tenant and kind, else None: no reason is given."""
        upstream, tail = public[:-TAIL_LENGTH], public[-TAIL_LENGTH:]
        if not upstream or not tail.isascii():
            return None
        route, tag = tail[:ROUTE_LENGTH], tail[ROUTE_LENGTH:]
        for place in range(len(self._keys)):
            if hmac.compare_digest(self._tag(place, tenant, kind, route, upstream), tag):
                return SignedId(upstream, route, place)
        return None

    def _tag(self, key: int, tenant: str, kind: str, route: str, upstream: str) -> str:
        state = self._states.get((key, tenant, kind))
        if state is None:
            state = hashlib.blake2b(_prefixed(tenant) + _prefixed(kind), digest_size=TAG_BYTES, key=self._keys[key])
            self._states[key, tenant, kind] = state
        state = state.copy()
        state.update(_prefixed(route) + _prefixed(upstream))
        return state.hexdigest()
