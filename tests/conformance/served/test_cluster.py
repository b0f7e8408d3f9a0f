"""A gateway whose store is a cluster."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster import ValkeyCluster
from tests.conformance import test_sdk as scenarios
from tests.conformance.served.conftest import ADD, Serve
from tests.conftest import StartGateway, StartVendor, edit, eventually

pytestmark = [
    pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning"),
    pytest.mark.one_server,  # these have the cluster anyway
]


async def test_threads_are_served_from_a_cluster(serve: Serve, valkey_cluster: ValkeyCluster) -> None:
    served = await serve(change=edit(store__url=valkey_cluster.url))
    async with served.gateway.sdk() as sdk:
        await scenarios.streams(sdk, tools=[ADD])


async def test_replicas_share_on_a_cluster_what_they_share_on_one_server(
    start_vendor: StartVendor, start_gateway: StartGateway, valkey_cluster: ValkeyCluster
) -> None:
    """Records of idempotency, limits, cached objects, the index of owners, and messages about what is disabled."""
    vendor = await start_vendor()
    places = {"store": {"url": valkey_cluster.url, "prefix": "shared-on-a-cluster"}, "cache__ttl_s": 30}
    limits = {"requests_per_minute": 10}
    one, two = [await start_gateway(vendor, change=edit(**places, tenants__bob__limits=limits)) for _ in range(2)]

    repeated: dict[str, Any] = {"headers": {"idempotency-key": "once"}}
    _, made, _ = await one.call("POST", "/v1/assistants", {"model": "m"}, **repeated)
    _, again, _ = await two.call("POST", "/v1/assistants", {"model": "m"}, **repeated)
    assert made["id"] == again["id"]
    status, listed, _ = await two.call("GET", "/v1/assistants")
    assert (status, [each["id"] for each in listed["data"]]) == (200, [made["id"]])

    for gateway in (one, two):  # for the list has read it
        _, _, headers = await gateway.call("GET", f"/v1/assistants/{made['id']}")
        assert headers["x-gateway-cache"] == "hit"

    left = []
    for gateway in (one, two, one):
        _, _, headers = await gateway.call("GET", "/v1/assistants", tenant="bob")
        left.append(headers["x-ratelimit-remaining-requests"])
    assert left == ["9", "8", "7"]

    assert one.app.shared is not None
    assert two.app.shared is not None
    one.app.shared.switches.disable("tenant", "alice", "does not pay")
    switches = two.app.shared.switches
    await eventually(lambda: switches.reason_of("tenant", "alice") == "does not pay")
    assert (await two.call("GET", f"/v1/assistants/{made['id']}"))[0] == 403
