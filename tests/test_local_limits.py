"""A replica alone: its share of every limit, and what it remembers."""

from __future__ import annotations

from gateway.local_limits import LocalLimits
from gateway.store.limits import Check, Standing, Verdict

NOW = 1_800_000_000.0
RATE, HELD = Check("rate", 6, "rate"), Check("held", 4, "held")
BYTES, TOLD = Check("used", 100, "bytes", "2027-01-15"), Check("told", 100, "tokens", "2027-01-15")


def admitted(
    local: LocalLimits, *checks: Check, times: int = 1, replicas: int = 2, now: float = NOW
) -> list[int | None]:
    """The places of the checks that refused."""
    return [local.admit(f"r{number}", checks, now, replicas).refused for number in range(times)]


def test_each_replica_grants_its_share_and_never_nothing() -> None:
    assert admitted(LocalLimits(), RATE, times=4) == [None, None, None, 0]
    assert admitted(LocalLimits(), HELD, times=3) == [None, None, 0]
    assert admitted(LocalLimits(), RATE, times=2, replicas=100) == [None, 0]


def test_what_one_check_refuses_counts_in_none() -> None:
    local = LocalLimits()
    assert admitted(local, RATE, HELD, times=3) == [None, None, 1]
    assert local.admit("x", [RATE], NOW, 2).standings[0].used == 3


def test_a_minute_later_and_after_its_end_a_request_is_forgotten() -> None:
    local = LocalLimits()
    admitted(local, RATE, HELD, times=2)
    assert local.held == {"held": {"r0", "r1"}}
    local.release("r0", [RATE, HELD])
    local.release("r0", [RATE, HELD])
    local.release("r1", [RATE, HELD])
    assert local.held == {}
    assert admitted(local, RATE, times=4, now=NOW + 60) == [None, None, None, 0]


def test_what_the_store_said_of_a_day_stands_with_what_came_on_top() -> None:
    local = LocalLimits()
    assert admitted(local, BYTES) == [None], "nothing is known: nobody is refused for that"
    local.note("r", [BYTES, TOLD], Verdict(None, [Standing(90), Standing(500)]), NOW)
    assert admitted(local, BYTES, TOLD) == [None], "a limit that is only told refuses nobody"
    local.add("bytes", "2027-01-15", 10)
    local.add("bytes", "2027-01-16", 10_000)
    assert admitted(local, BYTES, TOLD) == [0]
    assert admitted(local, BYTES._replace(field="2027-01-16")) == [None], "another day"


def test_what_is_remembered_is_bounded_and_the_last_used_stays() -> None:
    local = LocalLimits(known_limit=3)
    for number in range(100):
        local.note("r", [RATE._replace(key=f"rate{number}")], Verdict(None, [Standing(1)]), NOW)
        local.note("r", [BYTES._replace(key=f"bytes{number}")], Verdict(None, [Standing(100)]), NOW)
        admitted(local, RATE, times=3)
    assert (len(local._windows), len(local._used)) == (3, 3)
    assert admitted(local, RATE) == [0]
    assert admitted(local, BYTES._replace(key="bytes99")) == [0]
