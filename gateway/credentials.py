"""How a key is presented to its provider: fixed headers for most, a token that has to be fetched for some."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from gateway.model import Key, Target


class KeyRefused(Exception):
    """Whoever gives tokens for the provider does not accept the key."""


class Credentials(Protocol):
    """What presents one key. Made once, kept as long as the key, used by many requests at the same time."""

    async def headers(self) -> Mapping[str, str]:
        """The headers that present the key. May wait for a token.

        Raises KeyRefused when the key is not good for one, AttemptFailed when none can be had now.
        """

    def renew(self, refused: Mapping[str, str]) -> bool:
        """The provider refused these headers: forget them, unless others have taken their place already. False when
        the next would be the same."""


class FixedHeaders:
    """Credentials that never change."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = headers

    async def headers(self) -> Mapping[str, str]:
        return self._headers

    def renew(self, refused: Mapping[str, str]) -> bool:
        return False


class Keyring:
    """The credentials of every key that was used, kept as long as the process."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], Credentials] = {}

    def __call__(self, target: Target, key: Key) -> Credentials:
        place = (target.account.route, key.fingerprint)
        if (credentials := self._kept.get(place)) is None:
            present = target.provider.vendor.present
            credentials = self._kept[place] = present(key.secret.reveal(), target.account.options)
        return credentials


Present = Callable[[str, Mapping[str, str]], Credentials]
"""A key's secret and its account's `options` → what presents it."""


def bearer(secret: str, options: Mapping[str, str]) -> Credentials:
    """The usual way to present a key."""
    return FixedHeaders({"Authorization": f"Bearer {secret}"})
