"""What a caller may use: which limits there are to look at, and how they are told. Pure.

Refusals are worded and coded as OpenAI's (public issues of its SDKs, 2023–2026): `rate_limit_exceeded` for what comes
back by itself soon, `insufficient_quota` for a day or month that is used up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

from gateway.config import Allowance
from gateway.errors import NEVER_REPEAT, GatewayError
from gateway.model import Caller
from gateway.operations import Operation
from gateway.store.limits import Check, Places, Standing
from gateway.store.token_counts import fields_of

PlacesOf = Callable[[str, str | None], Places]

_HELD_AGAIN_S = 1.0
"""When to ask again after a limit of what is under way: nobody knows when something ends."""
_WORDS = {
    "requests_per_minute": "requests per min (RPM)",
    "concurrent_requests": "concurrent requests",
    "concurrent_streams": "concurrent streams",
    "tokens_per_day": "tokens per day",
    "tokens_per_month": "tokens per month",
    "bytes_per_day": "bytes per day",
}


_ORDER = (
    "tokens_per_month",
    "tokens_per_day",
    "bytes_per_day",
    "requests_per_minute",
    "concurrent_requests",
    "concurrent_streams",
)
"""The longest wait first."""


_FAMILIES: dict[str, Literal["requests", "tokens"]] = {
    "requests_per_minute": "requests",
    "tokens_per_day": "tokens",
    "tokens_per_month": "tokens",
}


class Limit(NamedTuple):
    """One setting of an allowance. `whose` are words for a message; `ends_s` is when the day or month is over (seconds
    since 1970), 0 for what has none; `shown` the family of `x-ratelimit-*` that tells of it."""

    name: str
    whose: str
    check: Check
    ends_s: float = 0.0
    shown: Literal["", "requests", "tokens"] = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """The limits of a caller on one day (UTC), the longest first: of several that are reached, a caller is told of the
    one it waits for longest. `bytes` are key and field of what counts its bytes."""

    tenant: str
    runs: Sequence[Limit]
    """For what begins a run."""
    others: Sequence[Limit]
    streams: Sequence[Limit]
    """For streams, besides."""
    bytes: Sequence[tuple[str, str]]


def begins_run(operation: Operation) -> bool:
    """Whether it may use tokens that were not granted yet. Tool outputs go on with a run that was."""
    return operation.makes_run or (operation.answers == "any" and operation.method == "POST")


def may_stream(operation: Operation) -> bool:
    """Whether `"stream": true` in its body means a stream."""
    return operation.streams or operation.answers == "any"


def plan_of(caller: Caller, now: float, places_of: PlacesOf) -> Plan | None:
    """What is to be looked at for a caller; None for one without any limit."""
    tenant, fingerprint = caller.tenant, caller.key_fingerprint
    name = f"tenant '{tenant.name}'"
    of_key = _limits(
        caller.allowance, f"key {fingerprint} of {name}", now, places_of(tenant.id, fingerprint), fingerprint
    )
    of_tenant = _limits(tenant.allowance, name, now, places_of(tenant.id, None), None)
    limits = _show([*of_tenant, *of_key])
    if not limits:
        return None
    ordered = sorted(limits, key=lambda limit: _ORDER.index(limit.name))
    everything = [limit for limit in ordered if limit.name != "concurrent_streams"]
    counted = [(limit.check.key, limit.check.field) for limit in limits if limit.name == "bytes_per_day"]
    return Plan(
        tenant=tenant.id,
        runs=everything,
        others=list(_without_tokens(everything)),
        streams=[limit for limit in ordered if limit.name == "concurrent_streams"],
        bytes=counted,
    )


def _limits(allowance: Allowance, whose: str, now: float, places: Places, fingerprint: str | None) -> Iterator[Limit]:
    day, month = fields_of(now, fingerprint)
    checks: dict[str, tuple[Literal["rate", "held", "used"], str, str, float]] = {
        "requests_per_minute": ("rate", places.rate, "", 0.0),
        "concurrent_requests": ("held", places.requests, "", 0.0),
        "concurrent_streams": ("held", places.streams, "", 0.0),
        "tokens_per_day": ("used", places.tokens, day, midnight_s(now)),
        "tokens_per_month": ("used", places.tokens, month, _month_end_s(now)),
        "bytes_per_day": ("used", places.bytes, day, midnight_s(now)),
    }
    for name, (kind, key, field, ends_s) in checks.items():
        if (most := getattr(allowance, name)) is not None:
            yield Limit(name, whose, Check(kind, most, key, field), ends_s)


def _show(limits: Sequence[Limit]) -> list[Limit]:
    """The first of each family is shown: the tenant's own limits stand before those of the key, and a limit of the day
    before one of the month."""
    told: set[str] = set()
    shown: list[Limit] = []
    for limit in limits:
        family = _FAMILIES.get(limit.name)
        if family is not None and family not in told:
            told.add(family)
            shown.append(limit._replace(shown=family))
        else:
            shown.append(limit)
    return shown


def _without_tokens(limits: Sequence[Limit]) -> Iterator[Limit]:
    """What is not about tokens; those that headers show are only told of."""
    for limit in limits:
        if not limit.name.startswith("tokens"):
            yield limit
        elif limit.shown:
            yield limit._replace(check=limit.check._replace(kind="told"))


def midnight_s(now: float) -> float:
    """When the day (UTC) of `now` is over."""
    day = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return (day + timedelta(days=1)).timestamp()


def _month_end_s(now: float) -> float:
    first = datetime.fromtimestamp(now, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (first + timedelta(days=32)).replace(day=1).timestamp()


# --- how it is told ---------------------------------------------------------------------------------------------------
def headers(limits: Sequence[Limit], standings: Sequence[Standing], now: float) -> dict[str, str]:
    """`x-ratelimit-*` as OpenAI has them: limit, what remains, and the time until all of it is there again."""
    told: dict[str, str] = {}
    for limit, standing in zip(limits, standings, strict=True):
        if limit.shown:
            reset_s = limit.ends_s - now if limit.ends_s else standing.reset_s
            told[f"x-ratelimit-limit-{limit.shown}"] = str(limit.check.limit)
            told[f"x-ratelimit-remaining-{limit.shown}"] = str(max(0, limit.check.limit - standing.used))
            told[f"x-ratelimit-reset-{limit.shown}"] = duration(reset_s)
    return told


def refusal(limit: Limit, standing: Standing, now: float) -> GatewayError:
    """429 for a limit that is reached."""
    most, used, what = limit.check.limit, standing.used, _WORDS[limit.name]
    if limit.ends_s:
        ends_in_s = max(1, math.ceil(limit.ends_s - now))
        message = f"You exceeded your current quota: {what} for {limit.whose}: Limit {most}, Used {used}."
        return GatewayError(
            429,
            f"{message} It begins anew in {duration(ends_in_s)}.",
            code="insufficient_quota",
            type="insufficient_quota",
            headers={"retry-after": str(ends_in_s), **NEVER_REPEAT},  # hours: no client should wait so long by itself
        )
    wait_s = standing.wait_s or _HELD_AGAIN_S
    message = f"Rate limit reached for {limit.whose} on {what}: Limit {most}, Used {used}, Requested 1."
    return GatewayError(
        429,
        f"{message} Please try again in {duration(wait_s)}.",
        code="rate_limit_exceeded",
        type="requests",
        headers={"retry-after": str(max(1, math.ceil(wait_s))), "retry-after-ms": str(math.ceil(wait_s * 1000))},
    )


def duration(seconds: float) -> str:
    """As Go writes one, to the millisecond: `0s`, `120ms`, `8.64s`, `6m0s`, `7h0m12s`."""
    ms = max(0, math.ceil(round(seconds * 1000, 3)))
    if 0 < ms < 1000:
        return f"{ms}ms"
    minutes, ms = divmod(ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    rest = f"{ms // 1000}.{ms % 1000:03}".rstrip("0").rstrip(".") if ms % 1000 else str(ms // 1000)
    return f"{hours}h{minutes}m{rest}s" if hours else f"{minutes}m{rest}s" if minutes else f"{rest}s"
