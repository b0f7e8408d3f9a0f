"""The path of one request, end to end: a caller, a whole gateway, a vendor."""

from __future__ import annotations

from tests.conftest import Events, StartGateway, StartVendor


async def test_one_line_is_written_for_a_request_and_tells_both_ids(
    start_vendor: StartVendor, start_gateway: StartGateway, events: Events
) -> None:
    """The operator finds a thread by either spelling of its id."""
    gateway = await start_gateway(await start_vendor("openai"))
    status, thread, headers = await gateway.call("POST", "/v1/threads", {})
    assert status == 200
    (line,) = events.named("request.done")
    assert line["request_id"] == headers["x-request-id"]
    assert line["public_id"] == thread["id"]
    assert thread["id"].startswith(line["upstream_id"])
    assert line["attempts"][0]["key"] in ("one", "two")
