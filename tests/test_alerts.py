"""A webhook is told of what a person should look at, and is never in anybody's way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from aiohttp import web

from gateway.alerts import Alerts
from tests.conftest import Events, StartGateway, StartVendor, edit, eventually
from tests.simulators import faults
from tests.test_rotation import REVOKED, with_key


class Hook:
    """Hears alerts; `answers` are its statuses to come, then 200."""

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []
        self.answers: list[int] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        status = self.answers.pop(0) if self.answers else 200
        if status == 200:
            self.heard.append(orjson.loads(await request.read()))
        return web.Response(status=status)


@pytest.fixture
async def hook() -> AsyncIterator[Hook]:
    hook = Hook()
    app = web.Application()
    app.router.add_post("/hook", hook.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    hook.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    yield hook
    await runner.cleanup()


async def test_a_webhook_hears_of_keys_and_accounts(
    hook: Hook, start_vendor: StartVendor, start_gateway: StartGateway
) -> None:
    vendor = await start_vendor("aimlapi")

    def change(settings: dict[str, Any]) -> None:
        keys = settings["providers"]["aimlapi"]["accounts"]["acme"]["keys"]
        soon = datetime.now(UTC) + timedelta(days=3)
        keys["one"] = {"secret": keys["one"], "expires_at": soon.isoformat()}
        edit(alerts__webhook=hook.url, providers__aimlapi__rotation={"breaker_failures": 3})(settings)

    gateway = await start_gateway(vendor, change=change)
    _, made, _ = await gateway.call("POST", "/v1/threads", {})
    vendor.simulator.faults.add(REVOKED, where=with_key(vendor, 1), times=1)
    await gateway.call("GET", f"/v1/threads/{made['id']}")
    vendor.simulator.faults.add(faults.status(500), times=None)
    await gateway.call("GET", f"/v1/threads/{made['id']}")
    for _ in range(2):
        await gateway.app.probing.look()  # type: ignore[union-attr]
    await eventually(lambda: len(hook.heard) == 3)
    by_event = {told["event"]: told for told in hook.heard}
    assert set(by_event) == {"key.dead", "account.down", "key.expires_soon"}
    assert (by_event["key.dead"]["key"], by_event["key.dead"]["provider"]) == ("two", "aimlapi")
    assert by_event["key.expires_soon"]["key"] == "one"
    assert not [key for key in vendor.keys if key in str(hook.heard)]


async def test_a_webhook_that_fails_is_told_again_and_then_given_up(hook: Hook, events: Events) -> None:
    pauses = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    alerts = Alerts(hook.url, pause=pause)
    alerts.start()
    hook.answers = [500, 404]
    alerts("key.dead", key="a")
    await eventually(lambda: len(hook.heard) == 1)
    assert pauses == [1, 2]
    hook.answers = [500] * 5
    alerts("key.dead", key="b")
    alerts("key.dead", key="c")
    await eventually(lambda: len(hook.heard) == 2)
    assert [told["key"] for told in hook.heard] == ["a", "c"]
    assert [event["reason"] for event in events.named("alert.lost")] == ["status 500"]
    await alerts.close()


async def test_alerts_that_pile_up_are_dropped_and_said(hook: Hook, events: Events) -> None:
    waiting = asyncio.Event()

    async def pause(seconds: float) -> None:
        await waiting.wait()

    alerts = Alerts(hook.url, pause=pause)
    alerts.start()
    hook.answers = [500]
    for number in range(150):
        alerts("key.dead", key=str(number))
    assert 40 <= len(events.named("alert.lost")) <= 50
    await alerts.close()
