"""What tokens cost. Exact: money is never a float. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from gateway.config import Price, PricesConfig
from gateway.store.tenant_usage import UsageCounts

_MILLION_DIGITS = 6


def price_of(prices: PricesConfig, provider: str, model: str) -> Price | None:
    """The price of a model by the names of the configuration; None for one that nobody gave."""
    named: Mapping[str, Price] = prices.models.get(provider, {})
    if model in named:
        return named[model]
    fitting = [name for name in named if name.endswith("*") and model.startswith(name[:-1])]
    return named[max(fitting, key=len)] if fitting else None


def cost_of(price: Price, counts: UsageCounts) -> Decimal:
    """Of the tokens that are known."""
    cached_input = price.input if price.cached_input is None else price.cached_input
    millionths = (
        (counts.prompt - counts.cached) * price.input + counts.cached * cached_input + counts.completion * price.output
    )
    return millionths.scaleb(-_MILLION_DIGITS)
