"""Costs are exact, and what has no price has no cost."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import PricesConfig
from gateway.prices import cost_of, price_of
from gateway.store.tenant_usage import UsageCounts
from tests.values import unhurried

PRICES = PricesConfig.model_validate(
    {
        "models": {
            "up": {
                "gpt-4o": {"input": 2.5, "output": 10, "cached_input": 1.25},
                "gpt-4o*": {"input": 3, "output": 12},
                "gpt-*": {"input": 1, "output": 2},
                "free": {"input": 0, "output": 0},
            }
        }
    }
)


@pytest.mark.parametrize(
    ("provider", "model", "expected"),
    [
        ("up", "gpt-4o", "2.5"),  # the name itself
        ("up", "gpt-4o-2024-08-06", "3"),  # the longest that fits
        ("up", "gpt-3.5-turbo", "1"),
        ("up", "free", "0"),
        ("up", "claude", None),
        ("up", "", None),
        ("side", "gpt-4o", None),
    ],
)
def test_the_name_that_fits_best_has_the_price(provider: str, model: str, expected: str | None) -> None:
    price = price_of(PRICES, provider, model)
    assert (str(price.input) if price else None) == expected


@pytest.mark.parametrize(
    ("model", "counts", "expected"),
    [
        ("gpt-4o", UsageCounts(prompt=1_000_000), "2.5"),
        ("gpt-4o", UsageCounts(completion=1), "0.00001"),
        ("gpt-4o", UsageCounts(prompt=3, cached=1, completion=7), "0.00007625"),
        ("gpt-4o-mini", UsageCounts(prompt=3, cached=3), "0.000009"),  # no price of its own for what was cached
        ("free", UsageCounts(prompt=10**12, completion=10**12), "0"),
        ("gpt-4o", UsageCounts(), "0"),
    ],
)
def test_tokens_cost_what_the_table_says(model: str, counts: UsageCounts, expected: str) -> None:
    price = price_of(PRICES, "up", model)
    assert price is not None
    assert cost_of(price, counts) == Decimal(expected)


parts = st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)), max_size=20)


@unhurried
@given(parts)
def test_the_cost_of_all_is_the_sum_of_the_costs(counted: list[tuple[int, int]]) -> None:
    price = price_of(PRICES, "up", "gpt-4o")
    assert price is not None
    each = [UsageCounts(prompt=prompt, completion=completion) for prompt, completion in counted]
    assert sum((cost_of(price, counts) for counts in each), Decimal(0)) == cost_of(price, sum(each, UsageCounts()))
