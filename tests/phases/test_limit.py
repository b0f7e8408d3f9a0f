"""Which limits a caller has, and in which words they are told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.config import Allowance
from gateway.model import UNLIMITED, Caller
from gateway.operations import BY_NAME, Operation
from gateway.phases.limit import Plan, begins_run, duration, headers, may_stream, plan_of, refusal
from gateway.store.limits import Places, Standing
from tests.values import DIRECTORY

NOON = 1_800_014_400.0  # 2027-01-15 12:00 UTC
ALL = Allowance(
    requests_per_minute=1,
    concurrent_requests=2,
    concurrent_streams=3,
    tokens_per_day=4,
    tokens_per_month=5,
    bytes_per_day=6,
)
PASSED = Operation("passthrough", "POST", "/chat/completions", "", "any", {})


def places(tenant: str, fingerprint: str | None) -> Places:
    return Places(*(f"{what}:{tenant}:{fingerprint or ''}" for what in Places._fields))


def plan(of_tenant: Allowance = UNLIMITED, of_key: Allowance = UNLIMITED) -> Plan | None:
    tenant = replace(DIRECTORY.tenants["alice"], allowance=of_tenant)
    return plan_of(Caller(tenant, "0123456789ab", of_key), NOON, places)


def names(limits: object) -> list[tuple[str, str, str]]:
    return [(limit.name, limit.check.kind, limit.shown) for limit in limits]  # type: ignore[attr-defined]


def test_without_limits_there_is_nothing_to_look_at() -> None:
    assert plan() is None


def test_what_takes_longest_is_looked_at_first_and_tokens_only_for_runs() -> None:
    found = plan(ALL)
    assert found is not None
    assert names(found.runs) == [
        ("tokens_per_month", "used", ""),
        ("tokens_per_day", "used", "tokens"),
        ("bytes_per_day", "used", ""),
        ("requests_per_minute", "rate", "requests"),
        ("concurrent_requests", "held", ""),
    ]
    assert names(found.others) == [
        ("tokens_per_day", "told", "tokens"),
        ("bytes_per_day", "used", ""),
        ("requests_per_minute", "rate", "requests"),
        ("concurrent_requests", "held", ""),
    ]
    assert names(found.streams) == [("concurrent_streams", "held", "")]


def test_a_key_is_looked_at_beside_its_tenant_in_places_of_its_own() -> None:
    found = plan(Allowance(requests_per_minute=9), Allowance(requests_per_minute=2, bytes_per_day=7))
    assert found is not None
    assert [(limit.check.limit, limit.check.key, limit.whose, limit.shown) for limit in found.runs] == [
        (7, "bytes:alice-of-old:0123456789ab", "key 0123456789ab of tenant 'alice'", ""),
        (9, "rate:alice-of-old:", "tenant 'alice'", "requests"),
        (2, "rate:alice-of-old:0123456789ab", "key 0123456789ab of tenant 'alice'", ""),
    ]
    assert found.bytes == [("bytes:alice-of-old:0123456789ab", "2027-01-15:0123456789ab")]


def test_headers_tell_of_the_key_where_the_tenant_has_no_limit_and_of_the_month_where_the_day_has_none() -> None:
    found = plan(Allowance(tokens_per_month=100), Allowance(requests_per_minute=2))
    assert found is not None
    assert headers(found.runs, [Standing(130), Standing(1, 0.0, 59.5)], NOON) == {
        "x-ratelimit-limit-tokens": "100",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "396h0m0s",  # from the 15th at noon to the end of January
        "x-ratelimit-limit-requests": "2",
        "x-ratelimit-remaining-requests": "1",
        "x-ratelimit-reset-requests": "59.5s",
    }


def test_a_tenants_month_is_shown_before_a_keys_day() -> None:
    found = plan(Allowance(tokens_per_month=100), Allowance(tokens_per_day=50))
    assert found is not None
    assert [(limit.check.limit, limit.shown) for limit in found.runs] == [(100, "tokens"), (50, "")]
    assert names(found.others) == [("tokens_per_month", "told", "tokens")]


@pytest.mark.parametrize(
    ("name", "code", "retry_after", "words"),
    [
        (
            "requests_per_minute",
            "rate_limit_exceeded",
            "21",
            "on requests per min (RPM): Limit 1, Used 9, Requested 1.",
        ),
        ("concurrent_requests", "rate_limit_exceeded", "21", "on concurrent requests: Limit 2, Used 9, Requested 1."),
        ("tokens_per_day", "insufficient_quota", "43200", "tokens per day for tenant 'alice': Limit 4, Used 9."),
        ("tokens_per_month", "insufficient_quota", "1425600", "tokens per month for tenant 'alice': Limit 5, Used 9."),
        ("bytes_per_day", "insufficient_quota", "43200", "bytes per day for tenant 'alice': Limit 6, Used 9."),
    ],
)
def test_a_refusal_names_the_limit_and_when_to_come_again(name: str, code: str, retry_after: str, words: str) -> None:
    found = plan(ALL)
    assert found is not None
    limit = next(limit for limit in found.runs if limit.name == name)
    error = refusal(limit, Standing(9, 20.0001), NOON)
    assert (error.status, error.code, error.source) == (429, code, "caller")
    assert words in error.message
    assert error.headers["retry-after"] == retry_after
    is_soon = code == "rate_limit_exceeded"
    assert (error.headers.get("retry-after-ms"), error.headers.get("x-should-retry")) == (
        ("20001", None) if is_soon else (None, "false")
    )
    assert ("Please try again in 20.001s." in error.message) == is_soon


def test_what_is_under_way_may_end_any_moment() -> None:
    found = plan(ALL)
    assert found is not None
    error = refusal(found.streams[0], Standing(3), NOON)
    assert error.headers == {"retry-after": "1", "retry-after-ms": "1000"}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (-1, "0s"),
        (0.0001, "1ms"),
        (0.12, "120ms"),
        (0.9999, "1s"),
        (1, "1s"),
        (8.64, "8.64s"),
        (59.837, "59.837s"),
        (60, "1m0s"),
        (360, "6m0s"),
        (25_212.5, "7h0m12.5s"),
        (86_400, "24h0m0s"),
    ],
)
def test_durations_are_written_as_openai_writes_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("operation", "begins", "streams"),
    [
        (BY_NAME["create_run"], True, True),
        (BY_NAME["create_thread_and_run"], True, True),
        (BY_NAME["submit_tool_outputs"], False, True),  # of a run that was granted
        (BY_NAME["cancel_run"], False, False),
        (BY_NAME["create_thread"], False, False),
        (PASSED, True, True),
        (replace(PASSED, method="GET"), False, True),
    ],
)
def test_what_begins_a_run_and_what_may_stream(operation: Operation, begins: bool, streams: bool) -> None:
    assert (begins_run(operation), may_stream(operation)) == (begins, streams)
