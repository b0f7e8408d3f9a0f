"""Who calls: headers → Caller."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.config import digest_of_key
from gateway.errors import GatewayError
from gateway.model import Caller, Directory


def authenticate(headers: Mapping[str, str], directory: Directory) -> Caller:
    """The caller whose key is presented as `Authorization: Bearer …` or `api-key: …`.

    Keys are compared by their SHA-256, so the time taken tells nothing of how much of a guess was right.
    Raises GatewayError 401 with OpenAI's code; the presented key is not repeated in it.
    """
    presented = headers.get("api-key", "")
    scheme, _, bearer = headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        presented = bearer.strip()
    if not presented:
        raise _refused("You didn't provide an API key. Send the key of this gateway as 'Authorization: Bearer KEY'.")
    caller = directory.caller(digest_of_key(presented))
    if caller is None:
        raise _refused("Incorrect API key provided. Use a key of this gateway, not a provider's.")
    return caller


def _refused(message: str) -> GatewayError:
    return GatewayError(401, message, code="invalid_api_key", headers={"www-authenticate": "Bearer"})
