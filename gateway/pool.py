"""The keys of one account: which may be used now, which is chosen, and what outcomes say of them.

Health is looked at once, here, before the strategy chooses. What is learnt about a key is shared by all replicas
(`store/key_states.py`); requests under way and the breaker are this process's own.
"""

from __future__ import annotations

import hashlib
import math
import random
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from gateway.alerts import Tell, tell_nobody
from gateway.breaker import Breaker
from gateway.budgets import Budgets
from gateway.config import Rotation
from gateway.errors import NEVER_REPEAT, AttemptFailed, GatewayError
from gateway.model import Key, Target
from gateway.operations import BY_NAME
from gateway.phases.blame import UNCLEAR_S, Blame, blame
from gateway.phases.judge import Refusal
from gateway.phases.rewrite_out import path_of
from gateway.store.key_states import KeyPlace, KeyState, KeyStates
from gateway.store.key_usage import KeyUsage
from gateway.strategies import STRATEGIES
from gateway.strategies.strategy import Choice
from gateway.telemetry import log

_PROBED = ("invalid_api_key", "unauthorized")
"""Why keys are out that a probe decides about."""
_OF_NO_USE = (*_PROBED, "no_money")
"""Why keys are out for which waiting a little does not help."""
_PROVING = ("thread", "assistant", "file", "vector_store")
"""Kinds of objects that are found by their own id alone."""
_SEEN_LIMIT = 10_000
_FORBIDDEN_IN_A_ROW = 5
_FORBIDDEN_REST_S = 60.0
_WARNED_AHEAD_S = 7 * 86_400
_MISMATCH_REST_S = 300.0
"""Long enough to be looked into, and not for ever: a provider may have been slow to show what was just made."""
_FIRST_BACKOFF_S, _LONGEST_BACKOFF_S = 1.0, 60.0


@dataclass
class _Use:
    """What this process knows of one key."""

    in_flight: int = 0
    limited_in_a_row: int = 0
    forbidden: set[str] = field(default_factory=set)


class Lease:
    """A key in use by one attempt. `release` once the attempt has its whole answer; more often does no harm."""

    def __init__(self, key: Key, use: _Use) -> None:
        self.key = key
        self._use: _Use | None = use
        use.in_flight += 1

    def release(self) -> None:
        if self._use is not None:
            self._use.in_flight -= 1
            self._use = None


class Pool:
    """Lives as long as the account is configured. `clock` tells seconds since 1970, `chance` a number from 0 to 1."""

    def __init__(
        self,
        target: Target,
        rotation: Rotation,
        *,
        states: KeyStates,
        usage: KeyUsage,
        budgets: Budgets,
        alert: Tell = tell_nobody,
        clock: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.target = target
        self._rotation = rotation
        self.limits_belong_to = rotation.rate_limits_belong_to or target.provider.vendor.rate_limits_belong_to
        self._strategy = STRATEGIES[rotation.strategy]()
        self._states = states
        self._usage = usage
        self._budgets = budgets
        self._alert = alert
        self._warned: set[str] = set()
        self._clock = clock
        self._chance = chance
        self._uses: defaultdict[str, _Use] = defaultdict(_Use)
        """By fingerprint: a new secret under an old name is another key."""
        self._breaker = Breaker(rotation.breaker_failures, rotation.breaker_open_s, clock=clock)
        self._seen: OrderedDict[str, tuple[str, str]] = OrderedDict()
        """Upstream id → its kind and the fingerprint of the key that made or read it, for those that were seen last."""

    def update(self, target: Target, rotation: Rotation) -> None:
        """The account as another configuration has it. Keys that are gone are used no more; what they are at ends by
        itself."""
        if rotation.strategy != self._rotation.strategy:
            self._strategy = STRATEGIES[rotation.strategy]()
        self.target, self._rotation = target, rotation
        self.limits_belong_to = rotation.rate_limits_belong_to or target.provider.vendor.rate_limits_belong_to
        self._breaker.failures, self._breaker.first_open_s = rotation.breaker_failures, rotation.breaker_open_s

    @property
    def longest_probe_s(self) -> float:
        return self._rotation.longest_probe_s

    def proofs(self) -> list[str]:
        """Paths of objects that keys of this account have made or read, the last seen first."""
        return [
            path_of(BY_NAME[f"get_{kind}"], {kind: upstream})
            for upstream, (kind, _) in reversed(self._seen.items())
            if kind in _PROVING
        ]

    # --- before an attempt -----------------------------------------------------------------------------------------
    def check(self, model: str) -> None:
        """Raises GatewayError: 503 while the breaker is open, 429 while the account rests."""
        now = self._clock()
        if (resting := self._states.get(self._place_of_model(model), now)) is not None and resting.until_s is not None:
            raise self._limited(f"{self._name} has reached its rate limit", resting.until_s - now)
        # Last, for a request that the breaker lets through may be its one trial.
        if (wait_s := self._breaker.wait_s()) > 0:
            raise GatewayError(
                503,
                f"{self._name} failed {self._rotation.breaker_failures} times in a row and is not asked for a while",
                code="account_down",
                type="server_error",
                source="provider",
                headers=_retry_after(wait_s),
            )

    async def take(self, *, refused: Collection[str], thread: str | None) -> Lease | None:
        """A key of this account and never another's; None when none is ready that was not refused already. Waits for
        the store only for keys that have a budget."""
        try:
            while ready := [key for key in self.ready() if key.name not in refused]:
                key = self._strategy(Choice(ready, thread, self.in_flight()))
                if await self._budgets.reserve(self.place(key), key):
                    return Lease(key, self._uses[key.fingerprint])
        except BaseException:  # the caller has left
            self.note_given_up()
            raise
        return None

    def in_flight(self) -> dict[str, int]:
        """Requests under way in this process, by name of key; streams until their end."""
        return {key.name: self._uses[key.fingerprint].in_flight for key in self.target.account.keys}

    def ready(self) -> list[Key]:
        now = self._clock()
        return [key for key in self._healthy(now) if self._budget_used_until_s(key) <= now]

    def _healthy(self, now: float) -> list[Key]:
        """Those of which the provider has said nothing bad; a budget may be used."""
        return [key for key in self.target.account.keys if key.is_valid(now) and self._state(key, now) is None]

    def _budget_used_until_s(self, key: Key) -> float:
        return self._budgets.used_until_s(self.place(key), key) if key.has_budget else 0.0

    def _state(self, key: Key, now: float) -> KeyState | None:
        return self._states.get(self.place(key), now)

    def doubtful(self) -> list[Key]:
        """Keys that a probe may bring back, or must look at: those that the provider did not accept."""
        now = self._clock()
        states = {key: self._state(key, now) for key in self.target.account.keys if key.is_valid(now)}
        return [key for key, state in states.items() if state is not None and state.why in _PROBED]

    def warn_of_expiry(self) -> None:
        """Say once of every key that it ends within seven days."""
        now = self._clock()
        for key in self.target.account.keys:
            if key.expires_at_s is None or not now < key.expires_at_s < now + _WARNED_AHEAD_S:
                continue
            if key.fingerprint not in self._warned:
                self._warned.add(key.fingerprint)
                expires_at = datetime.fromtimestamp(key.expires_at_s, UTC).isoformat(timespec="seconds")
                log.warning("key.expires_soon", **self._where, key=key.name, expires_at=expires_at)
                self._alert("key.expires_soon", **self._where, key=key.name, expires_at=expires_at)

    def place(self, key: Key) -> KeyPlace:
        return KeyPlace.of(self.target.account, key)

    def _place_of_model(self, model: str) -> KeyPlace:
        """Where the account's rest for one model is kept, beside those of its keys; "" for requests that name none."""
        return KeyPlace(self.target.account.route, hashlib.blake2b(model.encode(), digest_size=6).hexdigest())

    def nothing_ready(self) -> GatewayError:
        """Why no key can be used: 429 with the soonest `retry-after` while one only rests, else 502."""
        now = self._clock()
        keys = [key for key in self.target.account.keys if key.is_valid(now)]
        states = [self._state(key, now) for key in keys]
        resting = [state for state in states if state is not None and state.why not in _OF_NO_USE]
        ends = [state.until_s for state in resting if state.until_s is not None]
        used = [self._budget_used_until_s(key) for key, state in zip(keys, states, strict=True) if state is None]
        if used:
            return self._limited(f"all keys of {self._name} rest or have used their budgets", min(ends + used) - now)
        if ends:
            return self._limited(f"all keys of {self._name} are resting", min(ends) - now)
        return GatewayError(
            502,
            f"{self._name} has no key that can be used",
            code="upstream_credentials_exhausted",
            type="server_error",
            source="gateway",
            headers=NEVER_REPEAT,
        )

    def _limited(self, what: str, wait_s: float) -> GatewayError:
        seconds = max(1, math.ceil(wait_s))
        return GatewayError(
            429,
            f"{what}; try again in {seconds} s",
            code="rate_limit_exceeded",
            type="rate_limit_error",
            source="provider",
            headers=_retry_after(wait_s),
        )

    @property
    def _name(self) -> str:
        return f"account '{self.target.account.name}' of provider '{self.target.provider.name}'"

    # --- after an attempt ------------------------------------------------------------------------------------------
    def note_success(self, key: Key, ids: Mapping[str, str]) -> None:
        """The provider did what was asked, with this key. `ids` are upstream ids of what it was about, by kind."""
        self._count(key, errors=0)
        use = self._uses[key.fingerprint]
        use.limited_in_a_row = 0
        use.forbidden.clear()
        self._note_answer()
        for kind, upstream in ids.items():
            self._seen[upstream] = (kind, key.fingerprint)
            self._seen.move_to_end(upstream)
        while len(self._seen) > _SEEN_LIMIT:
            self._seen.popitem(last=False)

    def forget(self, upstream: str) -> None:
        """An object was deleted: that it is not found says nothing of a key any more."""
        self._seen.pop(upstream, None)

    def note_refusal(
        self, key: Key, outcome: Refusal | AttemptFailed, headers: Mapping[str, str], *, about: str, model: str
    ) -> None:
        """The provider did not do what was asked. `about` is the upstream id of what it was asked about."""
        self._count(key, errors=1)
        found = blame(
            outcome,
            headers,
            limits_belong_to=self.limits_belong_to,
            no_money_s=self._rotation.no_money_s,
            now=self._clock(),
        )
        if found.kind != "account_failed":
            self._note_answer()
        match found.kind:
            case "account_failed":
                if self._breaker.note_failure():
                    log.error("account.down", **self._where, why=found.why)
                    self._alert("account.down", **self._where, why=found.why)
            case "account_rests":
                if found.rest_s:
                    now = self._clock()
                    state = KeyState("resting", now, now + found.rest_s, found.why)
                    self._states.put(self._place_of_model(model), state)
                    log.warning("account.rests", **self._where, model=model, rest_s=round(found.rest_s, 3))
            case "key_rests":
                self._rest(key, found)
            case "key_dead":
                self._kill(key, found.why)
            case "key_forbidden":
                self._count_forbidden(key, about)

    def note_mismatch(self, key: Key, upstream: str) -> None:
        """The key did not find what another key of the account did: it seems to be of another account."""
        log.error("key.account_mismatch", **self._where, key=key.name, seen=upstream)
        self._alert("key.account_mismatch", **self._where, key=key.name)
        now = self._clock()
        self._put(key, KeyState("resting", now, now + _MISMATCH_REST_S, "account_mismatch"))

    def doubts(self, key: Key, outcome: Refusal | AttemptFailed, about: str, refused: Collection[str]) -> bool:
        """Whether this 404 may be the key's fault: another key that is ready has seen the object just now."""
        if isinstance(outcome, AttemptFailed) or outcome.status != 404:
            return False
        _, seen_by = self._seen.get(about, ("", ""))
        return any(
            other.fingerprint == seen_by for other in self.ready() if other.name not in refused and other is not key
        )

    def note_given_up(self) -> None:
        """Nobody was asked, or nobody waited for what the provider would have said."""
        self._breaker.forget_trial()

    def _note_answer(self) -> None:
        if self._breaker.note_success():
            log.info("account.up", **self._where)

    def _rest(self, key: Key, found: Blame) -> None:
        use = self._uses[key.fingerprint]
        rest_s = found.rest_s
        if rest_s is None:
            backoff_s = min(_LONGEST_BACKOFF_S, _FIRST_BACKOFF_S * 2**use.limited_in_a_row)
            rest_s = backoff_s * (0.5 + self._chance() / 2)
        use.limited_in_a_row += 1
        if rest_s <= 0:
            return
        now = self._clock()
        log.warning("key.rests", **self._where, key=key.name, why=found.why, rest_s=round(rest_s, 3))
        self._put(key, KeyState("resting", now, now + rest_s, found.why))

    def _kill(self, key: Key, why: str) -> None:
        """Unless it is the last that is good: a vendor's own trouble must not take all keys. A probe will tell."""
        if len(self._healthy(self._clock())) <= 1:
            self._rest(key, Blame("key_rests", "unauthorized", UNCLEAR_S))
            return
        self.kill(key, why)

    def kill(self, key: Key, why: str) -> None:
        """The key is out until a probe or a person brings it back."""
        state = self._state(key, self._clock())
        if state is None or state.kind != "dead":
            log.error("key.dead", **self._where, key=key.name, why=why)
            self._alert("key.dead", **self._where, key=key.name, why=why)
            self._put(key, KeyState("dead", self._clock(), None, why))

    def revive(self, key: Key) -> None:
        """The key has proved to be good."""
        log.info("key.ready", **self._where, key=key.name)
        self._states.clear(self.place(key))

    def _count_forbidden(self, key: Key, about: str) -> None:
        use = self._uses[key.fingerprint]
        use.forbidden.add(about)
        if len(use.forbidden) >= _FORBIDDEN_IN_A_ROW:
            use.forbidden.clear()
            self._rest(key, Blame("key_rests", "forbidden", _FORBIDDEN_REST_S))

    def _put(self, key: Key, state: KeyState) -> None:
        """A state is never made shorter: of several requests that find something out, each says what it heard."""
        known = self._state(key, state.since_s)
        if known is None or (known.kind != "dead" and known.until_s is not None and _ends(state) > known.until_s):
            self._states.put(self.place(key), state)

    def _count(self, key: Key, *, errors: int) -> None:
        self._usage.note(self.place(key), self._clock(), requests=1, errors=errors)

    @property
    def _where(self) -> dict[str, str]:
        return {"provider": self.target.provider.name, "account": self.target.account.name}


def _ends(state: KeyState) -> float:
    return state.until_s if state.until_s is not None else math.inf


def _retry_after(wait_s: float) -> dict[str, str]:
    return {"retry-after": str(max(1, math.ceil(wait_s)))}
