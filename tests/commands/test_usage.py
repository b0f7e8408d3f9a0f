"""`tenants usage`: what a person sees of what tenants used."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from ruamel.yaml import YAML

from gateway.phases.read_facts import Usage
from gateway.store.noted_runs import Ended, NotedRun, NotedRuns, Settling
from tests.commands.conftest import Scene

DAY_S = 86_400
NOVEMBER_S = 1_794_000_000.0  # 2026-11-06
PRICES = {"currency": "EUR", "models": {"openai": {"gpt-4o": {"input": 2.5, "output": 10}}}}


def price(scene: Scene) -> None:
    yaml = YAML(typ="safe", pure=True)
    settings: dict[str, Any] = yaml.load(scene.shell.config.read_text())
    with scene.shell.config.open("w") as file:
        yaml.dump({**settings, "prices": PRICES}, file)


async def use(
    scene: Scene,
    run: str,
    usage: Usage | None,
    *,
    tenant: str = "alice",
    provider: str = "openai",
    model: str = "gpt-4o",
    at_s: float = NOVEMBER_S,
) -> None:
    runs = NotedRuns(scene.shared._store)
    names = dict.fromkeys(("tenant_name", "tenant_key", "provider_name", "account_name", "key"), "x")
    others = dict.fromkeys(("upstream_model", "assistant", "public_run", "public_thread", "thread"), "x")
    noted = NotedRun(
        tenant=tenant,
        route="aaaa",
        run=run,
        provider=provider,
        model=model,
        noted_s=at_s,
        expires_s=at_s,
        **names,
        **others,
    )
    await runs.note(noted)
    assert await runs.settle(Settling(tenant, "aaaa", [Ended(run, "completed", usage)], "a", at_s))


NOVEMBER = ("--since", "2026-11-01", "--until", "2026-11-30")


@pytest.fixture
async def used(scene: Scene) -> Scene:
    """What alice and bob used in November, and something on the days around it."""
    price(scene)
    await use(scene, "run_1", Usage(1000, 100, 1100, cached=10))
    await use(scene, "run_2", Usage(1, 1, 2))
    await use(scene, "run_3", None)
    await use(scene, "run_4", Usage(5, 5, 10), model="")
    await use(scene, "run_5", Usage(7, 7, 14), at_s=NOVEMBER_S + DAY_S)
    await use(scene, "run_6", Usage(9, 9, 18), at_s=NOVEMBER_S + 30 * DAY_S)
    await use(scene, "run_7", Usage(3, 3, 6), tenant="bob", provider="gone")
    return scene


async def test_rows_by_tenant_provider_model_and_day_with_their_cost(used: Scene) -> None:
    rows = (await used.run("tenants", "usage", *NOVEMBER, "--json")).rows
    shown = [(row["tenant"], row["provider"], row["model"], row["day"], row["runs"], row["cost"]) for row in rows]
    assert shown == [
        ("alice", "openai", "", "2026-11-06", 1, "unknown"),
        ("alice", "openai", "gpt-4o", "2026-11-06", 3, "0.003512"),
        ("alice", "openai", "gpt-4o", "2026-11-07", 1, "0.000088"),
        ("bob", "gone", "gpt-4o", "2026-11-06", 1, "unknown"),
    ]
    assert rows[1] == {
        "tenant": "alice",
        "provider": "openai",
        "model": "gpt-4o",
        "day": "2026-11-06",
        "requests": 0,
        "errors": 0,
        "runs": 3,
        "usage_unknown": 1,
        "prompt_tokens": 1001,
        "cached_tokens": 10,
        "completion_tokens": 101,
        "cost": "0.003512",
        "cost_unknown": 1,
        "currency": "EUR",
    }


async def test_columns_are_summed_up_over_what_is_not_asked_for_also_as_a_table(used: Scene) -> None:
    rows = (await used.run("tenants", "usage", *NOVEMBER, "--by", "model,tenant", "--json")).rows
    assert [(row["tenant"], row["model"], row["runs"], row["cost"], row["cost_unknown"]) for row in rows] == [
        ("alice", "", 1, "unknown", 1),
        ("alice", "gpt-4o", 4, "0.003600", 1),
        ("bob", "gpt-4o", 1, "unknown", 1),
    ]
    assert not {"provider", "day"} & set(rows[0])
    lines = (await used.run("tenants", "usage", *NOVEMBER, "--by", "tenant")).out.splitlines()
    heads = "TENANT  REQUESTS  ERRORS  RUNS  USAGE UNKNOWN  PROMPT TOKENS  CACHED TOKENS  COMPLETION TOKENS  COST"
    assert re.split(r" {2,}", lines[0])[:9] == re.split(r" {2,}", heads)
    assert re.sub(r" {2,}", " ", lines[1]) == "alice 0 0 5 1 1013 10 113 0.003600 2 EUR"


async def test_dates_and_tenants_narrow_it_down(used: Scene) -> None:
    async def runs(*words: str) -> int:
        rows = (await used.run("tenants", "usage", *words, "--json")).rows
        return sum(row["runs"] for row in rows)

    assert await runs("--since", "2026-11-07", "--until", "2026-11-07") == 1
    assert await runs("--since", "2026-11-07", "--until", "2027-01-31", "--tenant", "alice") == 2
    assert await runs("--tenant", "carol", *NOVEMBER) == 0
    await use(used, "run_8", Usage(1, 1, 2), tenant="gone-since")
    assert await runs("--tenant", "gone-since", *NOVEMBER) == 1


async def test_this_month_is_shown_when_nothing_is_said(scene: Scene) -> None:
    await use(scene, "run_1", Usage(1, 1, 2), at_s=datetime.now(UTC).timestamp())
    scene.shared.tenant_usage.note("alice", "openai", "", is_error=True)
    await scene.shared.tenant_usage.flush()
    rows = (await scene.run("tenants", "usage", "--json")).rows
    assert [(row["model"], row["requests"], row["errors"], row["runs"], row["cost"]) for row in rows] == [
        ("", 1, 1, 0, None),  # nothing ran, so nothing was to pay
        ("gpt-4o", 0, 0, 1, "unknown"),
    ]


async def test_what_cannot_be_asked_is_said(scene: Scene) -> None:
    ended = await scene.run("tenants", "usage", "--tenant", "nobody", expect=2)
    assert "no tenant is named 'nobody'" in ended.err
    assert "alice, bob, carol" in ended.err
    ended = await scene.run("tenants", "usage", "--since", "2026-11-02", "--until", "2026-11-01", expect=2)
    assert "--since 2026-11-02 is after --until 2026-11-01" in ended.err
