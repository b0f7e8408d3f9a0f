"""Names of token counts: by day and month in UTC, apart for each key, in the tenant's slot."""

from __future__ import annotations

from gateway.store.connection import Store
from gateway.store.token_counts import fields_of, key_of

END_OF_THE_YEAR_S = 1_798_761_599.9  # 2026-12-31T23:59:59.9Z


def test_days_and_months_change_at_midnight_utc() -> None:
    assert fields_of(END_OF_THE_YEAR_S) == ("2026-12-31", "2026-12")
    assert fields_of(END_OF_THE_YEAR_S + 0.2) == ("2027-01-01", "2027-01")


def test_a_key_has_fields_of_its_own() -> None:
    assert fields_of(END_OF_THE_YEAR_S, "a1b2") == ("2026-12-31:a1b2", "2026-12:a1b2")


async def test_the_hash_is_in_the_tenants_slot() -> None:
    store = Store("redis://127.0.0.1:1", prefix="tg", timeout_s=1)
    assert key_of(store, "shop") == "tg:tokens:{shop}"
    await store.close()
