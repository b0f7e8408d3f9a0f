"""Who calls: headers → Caller."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gateway.config import digest_of_key
from gateway.errors import GatewayError, store_unavailable
from gateway.model import Caller, Stranger

Find = Callable[[str], Caller | Stranger]
"""Digest of a key → whose it is, or why it opens nothing."""

_REFUSALS: Mapping[Stranger, str] = {
    "unknown": "Incorrect API key provided. Use a key of this gateway, not a provider's.",
    "expired": "Incorrect API key provided: this key has expired.",
    "revoked": "Incorrect API key provided: this key was revoked.",
}
"""What a key was is told to nobody but who has the whole of it."""


def authenticate(headers: Mapping[str, str], find: Find) -> Caller:
    """The caller whose key is presented as `Authorization: Bearer …` or `api-key: …`.

    Keys are looked up by their SHA-256. The time of the lookup could tell how much of a digest is right, and nobody can
    choose keys by their digests: so it tells nothing of how much of a guess was right.
    Raises GatewayError 401 with OpenAI's code, and 503 for a key that may have been issued while the store is away; the
    presented key is not repeated in it.
    """
    presented = headers.get("api-key", "")
    scheme, _, bearer = headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        presented = bearer.strip()
    if not presented:
        raise _refused("You didn't provide an API key. Send the key of this gateway as 'Authorization: Bearer KEY'.")
    found = find(digest_of_key(presented))
    if isinstance(found, Caller):
        return found
    if found == "unsure":
        raise store_unavailable("a key that this replica does not know")
    raise _refused(_REFUSALS[found])


def _refused(message: str) -> GatewayError:
    return GatewayError(401, message, code="invalid_api_key", headers={"www-authenticate": "Bearer"})
