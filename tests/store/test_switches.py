"""Providers and tenants that a person has disabled."""

from __future__ import annotations

from gateway.store.switches import Switch
from tests.store.conftest import Clock, OpenReplica


async def test_what_is_disabled_says_why_until_it_is_enabled(open_replica: OpenReplica) -> None:
    a, b = await open_replica(is_started=False), await open_replica(is_started=False)
    switches = a.shared.switches
    assert switches.reason_of("tenant", "shop") is None
    switches.disable("tenant", "shop", "does not pay")
    assert switches.reason_of("tenant", "shop") == "does not pay"
    assert switches.get("tenant", "shop") == Switch("does not pay", Clock().now)
    assert switches.reason_of("provider", "shop") is None
    await a.shared.flush()
    await b.shared.load()
    assert b.shared.switches.reason_of("tenant", "shop") == "does not pay"
    b.shared.switches.enable("tenant", "shop")
    await b.shared.flush()
    await a.shared.load()
    assert switches.reason_of("tenant", "shop") is None
    assert switches.get("tenant", "shop") is None
