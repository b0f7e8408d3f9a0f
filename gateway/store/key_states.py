"""The health of keys, shared by all replicas: which rest until when, which are dead, which a person has taken out.

What gateways found and what a person decided stand side by side, and neither overwrites the other: a drained key stays
drained whatever a running request still finds out about it. A person's word counts first; reviving takes both away.

A key is known by its account's route and by a fingerprint of its secret, so that a new secret under an old name begins
ready, and the store never sees a secret.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, get_args

from gateway.model import Account, Key
from gateway.store.connection import Store
from gateway.store.mirror import Mirror

Kind = Literal["resting", "dead", "draining"]

OPERATOR = "operator"
"""The `why` of what a person decided."""


class KeyPlace(NamedTuple):
    """A key as the store knows it: its account's route, and its fingerprint."""

    route: str
    fingerprint: str

    @classmethod
    def of(cls, account: Account, key: Key) -> KeyPlace:
        return cls(account.route, key.fingerprint)


@dataclass(frozen=True, slots=True)
class KeyState:
    """Why a key is not used. A key without a state is ready.

    `until_s` and `since_s` are seconds since 1970; without `until_s` it lasts until somebody revives the key. `why` is
    a short code such as `rate_limited`, `invalid_api_key`, `no_money`, `operator`; `note` a person's own words.
    """

    kind: Kind
    since_s: float
    until_s: float | None
    why: str
    note: str | None = None


class KeyStates:
    """The states of all keys, mirrored in this process."""

    def __init__(self, store: Store, *, clock: Callable[[], float] = time.time) -> None:
        self.mirror = Mirror(store, "keys", read=_read, clock=clock)

    def get(self, place: KeyPlace, now: float) -> KeyState | None:
        """Why the key is not to be used at `now` (seconds since 1970); None when it is ready. In memory."""
        decided = self.mirror.get(_field(place, OPERATOR), now)
        return decided if decided is not None else self.mirror.get(_field(place), now)

    def all(self, now: float) -> dict[KeyPlace, KeyState]:
        """Every key that is not ready."""
        found: dict[KeyPlace, KeyState] = {}
        for field, state in self.mirror.all(now).items():
            route, fingerprint, *decided = field.split(":")
            if decided or (route, fingerprint) not in found:
                found[KeyPlace(route, fingerprint)] = state
        return found

    def put(self, place: KeyPlace, state: KeyState) -> None:
        """A key's new state, in force when this returns; the other replicas are told in the background.

        It takes the place of an earlier one, be that longer; but only a person's (`why` is OPERATOR) of a person's.
        """
        field = _field(place, OPERATOR) if state.why == OPERATOR else _field(place)
        self.mirror.put(field, asdict(state), until_s=state.until_s)

    def clear(self, place: KeyPlace) -> None:
        """The key has proved to be good: what gateways found is over, what a person decided is not."""
        if self.mirror.get(_field(place), self.mirror.now()) is not None:
            self.mirror.clear(_field(place))

    def revive(self, place: KeyPlace) -> None:
        """A person wants the key to be used. Also told when this process knows of nothing: another may."""
        self.mirror.clear(_field(place))
        self.mirror.clear(_field(place, OPERATOR))


def _field(place: KeyPlace, *decided: str) -> str:
    return ":".join((*place, *decided))


def _read(said: Mapping[str, Any]) -> KeyState:
    if said["kind"] not in get_args(Kind):
        raise ValueError(said["kind"])
    return KeyState(said["kind"], float(said["since_s"]), said["until_s"], said["why"], said.get("note"))
