"""`threads-gateway tenants usage`: what tenants used, by tenant, provider, model and day, and what that costs."""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from gateway.commands.command_failed import CommandFailed
from gateway.commands.open_shared import open_shared
from gateway.commands.print_rows import Cell, Row, print_rows
from gateway.commands.tenants import callers_of
from gateway.config import Config, PricesConfig
from gateway.model import Directory
from gateway.prices import cost_of, price_of
from gateway.store.tenant_usage import TenantUsage, UsageCounts

_MICRO = Decimal("0.000001")


@dataclass(frozen=True)
class Used:
    """Something that was used, under the names that people know. `cost` is that of the tokens whose price is known;
    `without_cost` are the runs of which nobody knows what they cost."""

    tenant: str
    provider: str
    model: str
    day: str
    counts: UsageCounts
    cost: Decimal
    without_cost: int


async def run(given: argparse.Namespace, config: Config) -> int:
    """Print what the command line asks for. The exit code. Raises CommandFailed."""
    today = datetime.now(UTC).date()
    since, until = given.since or today.replace(day=1), given.until or today
    if since > until:
        raise CommandFailed(f"--since {since} is after --until {until}", code=2)
    directory = Directory(config)
    async with open_shared(config) as shared:
        names = {tenant.id: tenant.name for tenant in callers_of(directory, shared).tenants().values()}
        if given.tenant is not None:
            names = await _only(given.tenant, names, shared.tenant_usage, since, until)
        providers = {provider.id: provider.name for provider in directory.providers.values()}
        found = [
            used
            for tenant, name in names.items()
            for used in await _used(shared.tenant_usage, tenant, name, since, until, providers, config.prices)
        ]
    print_rows(list(_rows(found, given.by, config.prices.currency)), as_json=given.as_json)
    return 0


async def _only(asked: str, names: Mapping[str, str], usage: TenantUsage, since: date, until: date) -> dict[str, str]:
    """The tenant of this name; or of this id, if it is gone and has used something. Raises
    CommandFailed."""
    for tenant, name in names.items():
        if name == asked:
            return {tenant: name}
    for month in _months(since, until):
        if await usage.read(asked, month):
            return {asked: asked}
    there = ", ".join(names.values())
    raise CommandFailed(f"no tenant is named {asked!r}, and none of this id used anything; there are: {there}", code=2)


async def _used(
    usage: TenantUsage,
    tenant: str,
    name: str,
    since: date,
    until: date,
    providers: Mapping[str, str],
    prices: PricesConfig,
) -> list[Used]:
    found = []
    for month in _months(since, until):
        for place, counts in (await usage.read(tenant, month)).items():
            if not str(since) <= place.day <= str(until):
                continue
            provider = providers.get(place.provider, place.provider)
            price = price_of(prices, provider, place.model)
            cost = cost_of(price, counts) if price is not None else Decimal(0)
            without_cost = counts.runs if price is None else counts.unknown
            found.append(Used(name, provider, place.model, place.day, counts, cost, without_cost))
    return found


def _months(since: date, until: date) -> Iterator[str]:
    """From the first to the last, as they are counted: `2026-11`."""
    day = since.replace(day=1)
    while day <= until:
        yield f"{day:%Y-%m}"
        day = (day + timedelta(days=31)).replace(day=1)


def _rows(found: Sequence[Used], by: Sequence[str], currency: str) -> Iterator[Row]:
    """One for each of what `by` tells apart, in its order."""
    groups: defaultdict[tuple[str, ...], list[Used]] = defaultdict(list)
    for used in found:
        groups[tuple(getattr(used, name) for name in by)].append(used)
    for place, group in sorted(groups.items()):
        counts = sum((used.counts for used in group), UsageCounts())
        without_cost = sum(used.without_cost for used in group)
        yield {
            **dict(zip(by, place, strict=True)),
            "requests": counts.requests,
            "errors": counts.errors,
            "runs": counts.runs,
            "usage_unknown": counts.unknown,
            "prompt_tokens": counts.prompt,
            "cached_tokens": counts.cached,
            "completion_tokens": counts.completion,
            "cost": _cost(group, counts.runs, without_cost),
            "cost_unknown": without_cost,
            "currency": currency,
        }


def _cost(group: Sequence[Used], runs: int, without_cost: int) -> Cell:
    """Of those runs whose cost is known; nothing where nothing ran."""
    if not runs:
        return None
    if runs == without_cost:
        return "unknown"
    return sum((used.cost for used in group), Decimal(0)).quantize(_MICRO)
