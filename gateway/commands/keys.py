"""`threads-gateway keys`: show, test, rest, drain and revive the keys of providers."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.commands.command_failed import CommandFailed
from gateway.commands.open_shared import open_shared, tell
from gateway.commands.print_rows import Row, moment, print_rows
from gateway.config import Config
from gateway.model import Account, Directory, Key, Provider, Target
from gateway.store.key_states import OPERATOR, KeyPlace, KeyState
from gateway.store.key_usage import KeyCounts
from gateway.store.shared import Shared

if TYPE_CHECKING:
    from gateway.commands.try_key import Trial


@dataclass(frozen=True)
class Configured:
    """A key of the configuration, and where it stands."""

    provider: Provider
    account: Account
    key: Key

    @property
    def name(self) -> str:
        return f"{self.provider.name}/{self.account.name}/{self.key.name}"

    @property
    def place(self) -> KeyPlace:
        return KeyPlace.of(self.account, self.key)

    @property
    def target(self) -> Target:
        return Target(self.provider, self.account)

    def cells(self) -> dict[str, str | int | float | None]:
        return {
            "provider": self.provider.name,
            "account": self.account.name,
            "key": self.key.name,
            "fingerprint": self.place.fingerprint,
        }


async def run(given: argparse.Namespace, config: Config) -> int:
    """Do what the command line says. The exit code. Raises CommandFailed."""
    chosen = choose(Directory(config), provider=given.provider, account=given.account, key=given.key)
    if given.act == "test":
        return await _test(chosen, config, as_json=given.as_json)
    async with open_shared(config) as shared:
        if given.act != "list":
            await _act(given, _only(chosen), shared)
        counts = await shared.usage.counts()
    print_rows([_row(key, shared, counts) for key in chosen], as_json=given.as_json)
    return 0


def choose(directory: Directory, *, provider: str | None, account: str | None, key: str | None) -> list[Configured]:
    """The keys with these names, in the configuration's order. Raises CommandFailed, which says the names there are."""
    found = [
        Configured(each, account_, key_)
        for each in directory.providers.values()
        for account_ in each.accounts.values()
        for key_ in account_.keys
    ]
    found = _named(found, "provider", provider, {each.name: each.provider.name for each in found})
    found = _named(found, "account", account, {each.name: each.account.name for each in found})
    return _named(found, "key", key, {each.name: each.key.name for each in found})


def _named(found: Sequence[Configured], what: str, wanted: str | None, names: Mapping[str, str]) -> list[Configured]:
    chosen = [each for each in found if wanted is None or names[each.name] == wanted]
    if not chosen:
        known = ", ".join(names if what == "key" else dict.fromkeys(names.values()))
        raise CommandFailed(f"no {what} is named {wanted!r}; there are: {known}", code=2)
    return chosen


def _only(chosen: Sequence[Configured]) -> Configured:
    if len(chosen) > 1:
        names = ", ".join(each.name for each in chosen)
        raise CommandFailed(f"{len(chosen)} keys have this name, say --provider and --account: {names}", code=2)
    return chosen[0]


async def _act(given: argparse.Namespace, key: Configured, shared: Shared) -> None:
    now = time.time()
    match given.act:
        case "rest":
            shared.keys.put(key.place, KeyState("resting", now, now + given.for_s, OPERATOR, given.reason))
        case "drain":
            until_s = now + given.for_s if given.for_s is not None else None
            shared.keys.put(key.place, KeyState("draining", now, until_s, OPERATOR, given.reason))
        case _:
            shared.keys.revive(key.place)
    await tell(shared, given.act, "key", key.name, given.reason or "")


def _row(key: Configured, shared: Shared, counts: Mapping[KeyPlace, KeyCounts]) -> Row:
    state = shared.keys.get(key.place, time.time())
    used = counts.get(key.place, KeyCounts())
    return {
        **key.cells(),
        "state": state.kind if state else "ready",
        "since": moment(state.since_s) if state else None,
        "until": moment(state.until_s) if state else None,
        "why": state.why if state else None,
        "note": state.note if state else None,
        "requests": used.requests,
        "errors": used.errors,
        "tokens": used.tokens,
        "last_used": moment(used.last_used_s),
    }


async def _test(chosen: Sequence[Configured], config: Config, *, as_json: bool) -> int:
    """Also without the store: then nobody is told."""
    # Only this command speaks to providers; the others answer sooner without an HTTP client.
    from gateway.commands.try_key import try_key
    from gateway.upstream import Upstream

    names = {each.provider.name for each in chosen}
    upstreams = {name: Upstream(config.providers[name]) for name in names}
    try:
        trials = await asyncio.gather(
            *(try_key(each.target, each.key, upstreams[each.provider.name]) for each in chosen)
        )
    finally:
        for upstream in upstreams.values():
            await upstream.close()
    with suppress(CommandFailed):
        async with open_shared(config) as shared:
            for each, trial in zip(chosen, trials, strict=True):
                await tell(shared, "test", "key", each.name, _in_words(trial))
    print_rows([{**each.cells(), **vars(trial)} for each, trial in zip(chosen, trials, strict=True)], as_json=as_json)
    return 0 if all(trial.outcome == "good" for trial in trials) else 1


def _in_words(trial: Trial) -> str:
    return " ".join(str(word) for word in (trial.outcome, trial.status, trial.code) if word is not None)
