"""A running gateway deletes the bodies of tenants that were erased, and its trail says so."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.audit import bodies
from gateway.audit.verify import verify
from gateway.store.connection import Store
from gateway.store.shared import Shared
from tests.auditing.test_requests import audited, written
from tests.conftest import Events, Running, StartGateway, StartVendor, Vendor, eventually
from tests.simulators import faults

FULL = [{"level": "full"}]


@pytest.fixture
async def vendor(start_vendor: StartVendor) -> Vendor:
    return await start_vendor("openai")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "audit"


@pytest.fixture
async def gateway(start_gateway: StartGateway, vendor: Vendor, folder: Path) -> Running:
    return await start_gateway(vendor, change=audited(folder, policy=FULL))


def shared_of(gateway: Running) -> Shared:
    assert gateway.app.shared is not None
    return gateway.app.shared


def erased(folder: Path) -> list[Mapping[str, Any]]:
    return written(folder, "tenant.erased")


def has_folder(folder: Path, tenant: str) -> bool:
    return bodies.sizes_of(folder / "bodies", tenant) is not None


async def test_the_bodies_go_and_the_record_says_how_many(gateway: Running, folder: Path) -> None:
    for tenant in ("alice", "bob"):
        await gateway.call("POST", "/v1/threads", {"metadata": {"a": "b"}}, tenant=tenant)
    sizes = bodies.sizes_of(folder / "bodies", "alice")
    assert sizes
    shared_of(gateway).switches.mark_erased("alice", "asked for", with_usage=False)
    await eventually(lambda: not has_folder(folder, "alice"))
    [record] = erased(folder)
    told = {name: record[name] for name in ("tenant", "tenant_id", "bodies", "bytes")}
    assert told == {"tenant": "alice", "tenant_id": "alice", "bodies": len(sizes), "bytes": sum(sizes)}
    assert bodies.sizes_of(folder / "bodies", "bob")
    [finished] = written(folder, "request.finished", tenant="alice")
    with pytest.raises(bodies.BodyGone):
        bodies.read(folder / "bodies", finished["content"]["answer"])
    await gateway.app.stop()
    assert verify(folder).is_good


async def test_what_is_under_way_keeps_nothing_any_more(gateway: Running, vendor: Vendor, folder: Path) -> None:
    until = asyncio.Event()
    vendor.simulator.faults.add(faults.hold(until), method="POST")
    asking = asyncio.create_task(gateway.call("POST", "/v1/threads", {"metadata": {"a": "b"}}))
    await eventually(lambda: bool(vendor.simulator.journal))
    shared_of(gateway).switches.mark_erased("alice", "asked for", with_usage=False)
    await eventually(lambda: bool(erased(folder)))
    until.set()
    assert (await asking)[0] == 200
    [finished] = written(folder, "request.finished", tenant="alice")
    assert "content" not in finished
    await eventually(lambda: not has_folder(folder, "alice"))


async def test_a_gateway_that_did_not_run_does_it_at_its_start_and_tells_once(
    start_gateway: StartGateway, vendor: Vendor, folder: Path
) -> None:
    """Also when the command has emptied the folder. Of tenants that it has nothing of it says nothing."""
    kept: list[dict[str, Any]] = []

    def change(settings: dict[str, Any]) -> None:
        audited(folder, policy=FULL)(settings)
        settings["store"] = kept[0]["store"] if kept else settings["store"]
        kept.append(settings)

    gateway = await start_gateway(vendor, change=change)
    await gateway.call("POST", "/v1/threads", {}, tenant="alice")
    await gateway.app.stop()
    assert bodies.erase(folder / "bodies", "alice")
    await mark(gateway, "alice", "bob")
    for _ in range(2):
        gateway = await start_gateway(vendor, change=change)
        await eventually(lambda: not has_folder(folder, "alice"))
        await gateway.app.stop()
    assert [(each["tenant_id"], each["bodies"]) for each in erased(folder)] == [("alice", 0)]


async def mark(gateway: Running, *tenants: str) -> None:
    """As the command does it, in the store of a gateway that does not run."""
    settings = gateway.app._config.store
    assert settings.url is not None
    store = Store(settings.url.reveal(), prefix=settings.prefix, timeout_s=1)
    shared = Shared(store)
    for tenant in tenants:
        shared.switches.mark_erased(tenant, "asked for", with_usage=False)
    await shared.flush()
    await shared.close()
    await store.close()


async def test_a_disk_that_fails_is_tried_again(
    gateway: Running, folder: Path, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    await gateway.call("POST", "/v1/threads", {}, tenant="alice")
    erase, failures = bodies.erase, [OSError(5, "Input/output error")]

    def fails_once(folder: Path, tenant: str) -> Any:
        if failures:
            raise failures.pop()
        return erase(folder, tenant)

    monkeypatch.setattr(bodies, "erase", fails_once)
    monkeypatch.setattr("gateway.erasing._AGAIN_S", 0)
    shared_of(gateway).switches.mark_erased("alice", "asked for", with_usage=False)
    await eventually(lambda: not has_folder(folder, "alice"))
    [failed] = events.named("audit.keeping_failed")
    assert (failed["work"], failed["reason"]) == ("erase", "Input/output error")
