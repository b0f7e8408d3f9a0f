"""Keys, accounts and tenants that change in a running gateway, without a lost request."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from ruamel.yaml import YAML

from gateway.app import App
from gateway.config import load
from tests.conftest import Events, Running, StartVendor, Vendor, environ_for, eventually, settings_for
from tests.simulators import faults


@dataclass
class Managed:
    """A gateway whose configuration lies in a file, and whose keys lie in files of their own, mounted as Kubernetes
    mounts secrets: a folder behind a link, replaced at once."""

    folder: Path
    settings: dict[str, Any]
    environ: dict[str, str]
    app: App
    running: Running
    mounts: int = 0

    @property
    def path(self) -> Path:
        return self.folder / "gateway.yaml"

    def mount(self, **secrets: str) -> None:
        """Put other secrets into the mounted folder."""
        self.mounts += 1
        data = self.folder / f"..data{self.mounts}"
        data.mkdir()
        for name, secret in secrets.items():
            (data / name).write_text(secret)
        link = self.folder / "..new"
        link.symlink_to(data.name)
        os.replace(link, self.folder / "secrets")

    def write(self) -> None:
        with self.path.open("w") as file:
            YAML(typ="safe", pure=True).dump(self.settings, file)

    async def reload(self) -> bool:
        self.write()
        assert self.app.reloading is not None
        return await self.app.reloading.reload("a test")


StartManaged = Callable[..., Awaitable[Managed]]


@pytest.fixture
async def start_managed(
    tmp_path: Path, valkey: str, session: aiohttp.ClientSession, events: Events
) -> AsyncIterator[StartManaged]:
    started: list[App] = []

    async def start(vendor: Vendor, **secrets: str) -> Managed:
        settings = settings_for([vendor], valkey)
        keys = {name: f"file:secrets/{name}" for name in secrets}
        settings["providers"][vendor.name]["accounts"]["acme"]["keys"] = keys
        environ = environ_for([vendor])
        managed = Managed(tmp_path, settings, environ, None, None)  # type: ignore[arg-type]
        managed.mount(**secrets)
        managed.write()
        managed.app = App(load(managed.path, environ), lambda files: load(managed.path, environ, files=files))
        await managed.app.start()
        started.append(managed.app)
        managed.running = Running(managed.app, session)
        return managed

    yield start
    for app in started:
        await app.stop(grace_s=1)


KEYS = {f"sk-{number}": "acme" for number in range(30)} | {"sk-elsewhere": "elsewhere", "sk-openai-bolt-one": "bolt"}


@pytest.fixture
async def vendor(start_vendor: StartVendor) -> Vendor:
    return await start_vendor("openai", keys=KEYS)


def pool_of(managed: Managed) -> Any:
    return next(pool for pool in managed.app.pools.values() if pool.target.account.name == "acme")


def keys_of(managed: Managed) -> list[str]:
    return [key.secret.reveal() for key in pool_of(managed).ready()]


@pytest.fixture(autouse=True)
def bolt(monkeypatch: pytest.MonkeyPatch) -> None:
    """The account that carol owns has a key of its own in every configuration here."""

    def environ(vendors: Any) -> dict[str, str]:
        from tests.conftest import SIGNING_KEY, TENANT_KEYS

        tenants = {name.upper(): key for name, key in TENANT_KEYS.items()}
        return {**tenants, "SIGNING_KEY": SIGNING_KEY, "OPENAI_2": "sk-openai-bolt-one"}

    monkeypatch.setattr(f"{__name__}.environ_for", environ)


async def test_a_secret_that_is_mounted_anew_is_in_use_within_moments(
    start_managed: StartManaged, vendor: Vendor, events: Events
) -> None:
    managed = await start_managed(vendor, one="sk-1", two="sk-2")
    _, made, _ = await managed.running.call("POST", "/v1/threads", {})
    managed.mount(one="sk-3", two="sk-2")
    await eventually(lambda: keys_of(managed) == ["sk-3", "sk-2"])
    assert [(told["key"], told["event"]) for told in events if told["event"] in ("key.joined", "key.unproven")] == [
        ("one", "key.joined")
    ]
    assert (await managed.running.call("GET", f"/v1/threads/{made['id']}"))[0] == 200
    assert vendor.simulator.journal[-1].key in ("sk-2", "sk-3")


async def test_a_key_of_another_account_does_not_join(
    start_managed: StartManaged, vendor: Vendor, events: Events
) -> None:
    """It was asked for something that another key has made."""
    managed = await start_managed(vendor, one="sk-1")
    _, made, _ = await managed.running.call("POST", "/v1/threads", {})
    managed.settings["providers"]["openai"]["accounts"]["acme"]["keys"]["two"] = "file:secrets/two"
    managed.mount(one="sk-1", two="sk-elsewhere")
    await managed.reload()
    assert len(events.named("key.account_mismatch")) >= 1
    assert keys_of(managed) == ["sk-1"]
    for _ in range(4):
        assert (await managed.running.call("GET", f"/v1/threads/{made['id']}"))[0] == 200


async def test_where_nothing_was_seen_yet_a_key_joins_with_a_warning(
    start_managed: StartManaged, vendor: Vendor, events: Events
) -> None:
    managed = await start_managed(vendor, one="sk-1")
    managed.mount(one="sk-2")
    assert await managed.reload()
    assert [told["key"] for told in events.named("key.unproven")] == ["one"]
    assert keys_of(managed) == ["sk-2"]


async def test_a_configuration_with_a_fault_changes_nothing(
    start_managed: StartManaged, vendor: Vendor, events: Events
) -> None:
    managed = await start_managed(vendor, one="sk-1")
    managed.settings["providers"]["openai"]["rotation"] = {"strategy": "dance"}
    managed.settings["providers"]["openai"]["accounts"]["acme"]["keys"]["two"] = "file:secrets/nowhere"
    assert not await managed.reload()
    [refused] = events.named("config.refused")
    assert refused["level"] == "error"
    assert sorted(fault.split(":")[0] for fault in refused["faults"]) == [
        "providers.openai.accounts.acme.keys.two.secret",
        "providers.openai.rotation.strategy",
    ]
    assert keys_of(managed) == ["sk-1"]
    assert (await managed.running.call("POST", "/v1/threads", {}))[0] == 200


async def test_tenants_accounts_and_providers_come_and_go(
    start_managed: StartManaged, start_vendor: StartVendor, vendor: Vendor
) -> None:
    managed = await start_managed(vendor, one="sk-1")
    _, made, _ = await managed.running.call("POST", "/v1/threads", {})
    _, theirs, _ = await managed.running.call("POST", "/v1/threads", {}, tenant="bob")
    other = await start_vendor("openai", name="other", keys={"sk-other": "acme"})
    accounts = {"main": {"keys": {"one": "file:secrets/other"}}}
    managed.settings["providers"]["other"] = {"vendor": "openai", "base_url": other.simulator.url, "accounts": accounts}
    del managed.settings["tenants"]["bob"]
    managed.mount(one="sk-1", other="sk-other")
    assert await managed.reload()
    assert (await managed.running.call("GET", f"/v1/threads/{made['id']}"))[0] == 200
    assert (await managed.running.call("GET", f"/v1/threads/{theirs['id']}", tenant="bob"))[0] == 401
    status, there, _ = await managed.running.call("POST", "/providers/other/v1/threads", {})
    assert (status, len(other.simulator.journal)) == (200, 1)
    del managed.settings["providers"]["other"]
    assert await managed.reload()
    status, answer, _ = await managed.running.call("GET", f"/v1/threads/{there['id']}")
    assert (status, answer["error"]["code"]) == (410, "provider_removed")


async def test_what_counts_only_at_start_is_said(start_managed: StartManaged, vendor: Vendor, events: Events) -> None:
    managed = await start_managed(vendor, one="sk-1")
    managed.settings["limits"] = {"json_bytes": 100}
    assert await managed.reload()
    assert [told["sections"] for told in events.named("config.needs_restart")] == [["limits"]]


async def test_a_stream_of_a_removed_key_ends_by_itself(start_managed: StartManaged, vendor: Vendor) -> None:
    managed = await start_managed(vendor, one="sk-1")
    _, assistant, _ = await managed.running.call("POST", "/v1/assistants", {"model": "m"})
    release = asyncio.Event()
    vendor.simulator.faults.add(faults.stall_stream(2, release), path="/threads/runs")
    body = {"assistant_id": assistant["id"], "thread": {"messages": [{"role": "user", "content": "x"}]}, "stream": True}
    headers = {"Authorization": "Bearer alice-key"}
    url = managed.running.url + "/v1/threads/runs"
    async with managed.running.session.post(url, json=body, headers=headers) as response:
        await response.content.readany()
        managed.mount(one="sk-2")
        assert await managed.reload()
        assert (await managed.running.call("POST", "/v1/threads", {}))[0] == 200
        assert vendor.simulator.journal[-1].key == "sk-2"
        release.set()
        assert (await response.read()).endswith(b"event: done\ndata: [DONE]\n\n")


@pytest.mark.parametrize(
    ("callers", "requests", "rotations"),
    [(20, 400, 4), pytest.param(50, 10_000, 10, marks=[pytest.mark.long, pytest.mark.timeout(600)])],
)
async def test_keys_rotate_under_load_and_no_request_fails(
    start_managed: StartManaged, vendor: Vendor, callers: int, requests: int, rotations: int
) -> None:
    """Each rotation takes the oldest of two keys away, at the vendor too, once the gateway has the newest."""
    managed = await start_managed(vendor, one="sk-0", two="sk-1")
    _, made, _ = await managed.running.call("POST", "/v1/threads", {})
    done = 0
    statuses: list[int] = []

    async def call() -> None:
        nonlocal done
        while done < requests:
            done += 1
            if done % 3:
                status, _, _ = await managed.running.call("GET", f"/v1/threads/{made['id']}")
            else:
                status, _, _ = await managed.running.call("POST", f"/v1/threads/{made['id']}", {"metadata": {}})
            statuses.append(status)

    async def rotate() -> None:
        for number in range(rotations):
            target = requests * (number + 1) // (rotations + 1)
            while done < target:
                await asyncio.sleep(0.002)
            managed.mount(one=f"sk-{number + 1}", two=f"sk-{number + 2}")
            assert managed.app.reloading is not None
            assert await managed.app.reloading.reload("a test")
            vendor.simulator.keys = {key: account for key, account in KEYS.items() if key != f"sk-{number}"}

    await asyncio.gather(rotate(), *(call() for _ in range(callers)))
    assert len(statuses) >= requests
    assert set(statuses) == {200}
    assert keys_of(managed) == [f"sk-{rotations}", f"sk-{rotations + 1}"]


async def test_what_is_shared_comes_and_goes_with_the_configuration(
    start_managed: StartManaged, vendor: Vendor
) -> None:
    managed = await start_managed(vendor, one="sk-1")
    upstream = vendor.simulator.worlds["acme"].assistants.create({"model": "m"})["id"]
    entry = {"kind": "assistant", "id": upstream, "provider": "openai", "account": "acme", "tenants": ["alice"]}
    counts = []
    for managed.settings["shared"] in ([], [entry], []):
        assert await managed.reload()
        _, listed, _ = await managed.running.call("GET", "/v1/assistants")
        counts.append(len(listed["data"]))
    assert counts == [0, 1, 0]
