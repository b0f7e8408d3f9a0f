"""Providers and tenants that a person takes out of use, while the gateway runs."""

from __future__ import annotations

from tests.conftest import StartGateway, StartVendor, Vendor, edit, eventually


async def test_a_disabled_provider_and_tenant_are_told_why(
    start_vendor: StartVendor, start_gateway: StartGateway
) -> None:
    """Also what would have come from the cache; other providers and tenants go on, and health pages too."""
    first, second = await start_vendor("openai"), await start_vendor("openai", name="side")
    gateway = await start_gateway(first, second, change=edit(cache__ttl_s=30))
    switches = gateway.app.shared.switches  # type: ignore[union-attr]
    _, made, _ = await gateway.call("POST", "/v1/threads", {})
    assert (await gateway.call("GET", f"/v1/threads/{made['id']}"))[2]["x-gateway-cache"] == "hit"
    asked = len(first.simulator.journal)
    switches.disable("provider", "openai", "they bill us twice")
    status, answer, headers = await gateway.call("GET", f"/v1/threads/{made['id']}")
    assert (status, answer["error"]["code"], headers["retry-after"]) == (503, "provider_disabled", "30")
    assert answer["error"]["message"] == "provider 'openai' is out of use: they bill us twice"
    assert len(first.simulator.journal) == asked
    assert (await gateway.call("POST", "/providers/side/v1/threads", {}))[0] == 200
    switches.enable("provider", "openai")
    assert (await gateway.call("GET", f"/v1/threads/{made['id']}"))[0] == 200
    switches.disable("tenant", "bob", "unpaid")
    status, answer, _ = await gateway.call("POST", "/v1/threads", {}, tenant="bob")
    assert (status, answer["error"]["code"]) == (403, "tenant_disabled")
    assert "unpaid" in answer["error"]["message"]
    assert (await gateway.call("POST", "/v1/threads", {}))[0] == 200
    assert (await gateway.call("GET", "/healthz", tenant="bob"))[0] == 200


async def test_it_is_in_force_at_every_replica_within_a_second(
    start_vendor: StartVendor, start_gateway: StartGateway
) -> None:
    vendor: Vendor = await start_vendor("openai")
    change = edit(store__prefix=f"switches-{id(vendor)}")
    one, two = await start_gateway(vendor, change=change), await start_gateway(vendor, change=change)
    assert one.app.shared is not None
    assert two.app.shared is not None
    one.app.shared.switches.disable("tenant", "alice", "for now")
    shared = two.app.shared
    await eventually(lambda: shared.switches.reason_of("tenant", "alice") == "for now", within_s=1)
    assert (await two.call("POST", "/v1/threads", {}))[0] == 403
