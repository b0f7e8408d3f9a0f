"""Which key of the account the next attempt uses."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from gateway.model import Account, Key

Strategy = Callable[[str, Sequence[Key]], Key]
"""Route of the account and its ready keys, at least one → the key to use."""


def choose_key(account: Account, *, refused: Collection[str], strategy: Strategy) -> Key | None:
    """A key of this account and never another's; None when the provider refused all of them for this request."""
    ready = [key for key in account.keys if key.name not in refused]
    return strategy(account.route, ready) if ready else None
