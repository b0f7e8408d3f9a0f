"""How much is recorded of which request: the rules of the configuration, first match wins. Pure.

    none      a plain read that went well leaves nothing; what was refused is recorded as with metadata
    metadata  everything but what people said (the default)
    request   and the body of the request
    full      and the body of the answer, a stream as the messages it amounts to

Tenant, operation and provider are known before a provider is asked, the status only at the end. Rules that name no
status decide at once. Where a rule with a status may still match, bodies are held until the end and kept or dropped
then.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from fnmatch import fnmatchcase, translate
from typing import TYPE_CHECKING

from gateway.operations import OPERATIONS

if TYPE_CHECKING:
    from gateway.config import AuditRule

_STATUS = re.compile(r"[1-5](?:[0-9]{2}|xx)")
_READS = frozenset(operation.name for operation in OPERATIONS if operation.method == "GET")
_OPERATIONS = frozenset(operation.name for operation in OPERATIONS) | {"passthrough", "ask_model"}
_PLANS_KEPT = 16_384


class Level(IntEnum):
    """More than the level below it."""

    NONE = 0
    METADATA = 1
    REQUEST = 2
    FULL = 3

    @property
    def word(self) -> str:
        """As the configuration and the records call it."""
        return self.name.lower()


@dataclass(frozen=True)
class Plan:
    """What becomes of requests of one tenant, operation and provider: `by_status` in the order of the rules, and what
    counts when none of these match. `certain` is the least and `possible` the most that any outcome asks for: bodies
    below `possible` need not be held, those up to `certain` can be kept with `request.started`."""

    by_status: tuple[tuple[frozenset[int], Level], ...]
    otherwise: Level
    certain: Level
    possible: Level

    def level(self, status: int | None) -> Level:
        """The level of a request that ended with this status; None if it ended without one."""
        found = next((level for statuses, level in self.by_status if status in statuses), self.otherwise)
        if found is Level.NONE and (status is None or status >= 400):
            return Level.METADATA  # nobody tries ids, or keys, without leaving a trace
        return found


class Policy:
    """The rules, ready to be asked. One lookup for each request; what was found is remembered."""

    def __init__(self, rules: Sequence[AuditRule] = ()) -> None:
        self._rules = [_Compiled.of(rule) for rule in rules]
        self._plans: dict[tuple[str | None, str | None, str | None], Plan] = {}

    def plan(self, tenant: str | None, operation: str | None, provider: str | None) -> Plan:
        """What is recorded of such requests; None for what is not known, as of a request without a good key."""
        plan = self._plans.get((tenant, operation, provider))
        if plan is None:
            if len(self._plans) >= _PLANS_KEPT:
                self._plans.clear()
            plan = self._plans[tenant, operation, provider] = self._find(tenant, operation, provider)
        return plan

    def _find(self, tenant: str | None, operation: str | None, provider: str | None) -> Plan:
        by_status: list[tuple[frozenset[int], Level]] = []
        otherwise = Level.METADATA
        for rule in self._rules:
            if rule.matches(tenant, operation, provider):
                if rule.statuses is None:
                    otherwise = rule.level
                    break
                by_status.append((rule.statuses, rule.level))
        levels = [otherwise, *(level for _, level in by_status)]
        return Plan(tuple(by_status), otherwise, min(levels), max(levels))


@dataclass(frozen=True)
class _Compiled:
    tenant: re.Pattern[str] | None
    operation: re.Pattern[str] | None
    provider: re.Pattern[str] | None
    statuses: frozenset[int] | None
    level: Level

    @classmethod
    def of(cls, rule: AuditRule) -> _Compiled:
        statuses = statuses_of(rule.status) if rule.status is not None else None
        level = Level[rule.level.upper()]
        return cls(_any_of(rule.tenant), _any_of(rule.operation), _any_of(rule.provider), statuses, level)

    def matches(self, tenant: str | None, operation: str | None, provider: str | None) -> bool:
        """A condition on what is not known does not hold."""
        asked = ((self.tenant, tenant), (self.operation, operation), (self.provider, provider))
        return all(
            pattern is None or (value is not None and pattern.match(value) is not None) for pattern, value in asked
        )


def _any_of(globs: Sequence[str] | None) -> re.Pattern[str] | None:
    return None if globs is None else re.compile("|".join(map(translate, globs)))


def statuses_of(given: Sequence[int | str]) -> frozenset[int]:
    """`[404, "5xx"]` as numbers. Raises ValueError for what is no status."""
    found: set[int] = set()
    for each in map(str, given):
        if not _STATUS.fullmatch(each):
            raise ValueError(f"{each!r} is no status such as 404 or 5xx")
        found.update(range(int(each[0]) * 100, int(each[0]) * 100 + 100) if each.endswith("xx") else [int(each)])
    return frozenset(found)


def faults_of(rule: AuditRule, providers: Sequence[str]) -> Iterator[str]:
    """What is wrong with a rule beside the shape of its fields; `providers` are the configured ones. Tenants are not
    looked at: some are made while the gateway runs."""
    matched = _OPERATIONS
    if rule.operation is not None:
        matched = frozenset(name for name in _OPERATIONS if any(fnmatchcase(name, glob) for glob in rule.operation))
        for glob in rule.operation:
            if not any(fnmatchcase(name, glob) for name in _OPERATIONS):
                yield f"operation: no operation is named {glob}"
    for glob in rule.provider or ():
        if not any(fnmatchcase(name, glob) for name in providers):
            yield f"provider: no provider is named {glob}"
    if rule.level == "none" and (written := sorted(matched - _READS)):
        yield f"level: none is for plain reads alone; this rule is about {written[0]} too"
