"""A gateway whose trail's disk fails: it goes on or refuses, as `on_error` says, and recovers without a restart."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.audit import trail as trail_module
from gateway.audit.verify import verify
from tests.auditing.conftest import audited, written
from tests.conftest import Dial, Events, Running, StartGateway, Vendor, edit, eventually
from tests.simulators import faults
from tests.wire import request

TIMEOUT_S = 0.3


class Disk:
    """What the trail's folder lies on. A fault is one of the system's calls, for files of this folder alone."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._fault: Callable[[], None] | None = None
        self._works = threading.Event()
        real_write, real_open = os.write, os.open

        def write(descriptor: int, data: Any) -> int:
            if os.readlink(f"/proc/self/fd/{descriptor}").startswith(str(self.folder)):
                self._meet()
            return real_write(descriptor, data)

        def open_(path: Any, *more: Any, **named: Any) -> int:
            if str(path).startswith(str(self.folder)):
                self._meet()
            return real_open(path, *more, **named)

        patch.setattr(os, "write", write)
        patch.setattr(os, "open", open_)

    def _meet(self) -> None:
        if (fault := self._fault) is not None:
            fault()

    def fail(self, how: str) -> None:
        self._works.clear()
        if how == "hangs":
            self._fault = lambda: self._works.wait(20)  # type: ignore[assignment, return-value]
            return
        if how != "full":
            shutil.rmtree(self.folder)  # a file that is open can be written whatever becomes of its permissions
        self._fault = {"full": self._full, "removed": None, "forbidden": self._forbidden}[how]

    def mend(self) -> None:
        self._fault = None
        self._works.set()

    @staticmethod
    def _full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    @staticmethod
    def _forbidden() -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


@pytest.fixture
def disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(folder, monkeypatch)


async def create(gateway: Running) -> int:
    return (await gateway.call("POST", "/v1/threads", {}))[0]


@pytest.mark.parametrize("how", ["full", "removed", "forbidden", "hangs"])
async def test_open_goes_on_and_one_record_tells_how_many_are_missing(
    how: str, start_gateway: StartGateway, vendor: Vendor, folder: Path, disk: Disk, events: Events
) -> None:
    gateway = await start_gateway(vendor, change=audited(folder, on_error="open", timeout_s=TIMEOUT_S))
    assert await create(gateway) == 200
    disk.fail(how)
    async with asyncio.timeout(5):
        assert await asyncio.gather(*(create(gateway) for _ in range(10))) == [200] * 10
    disk.mend()
    is_lost = how in ("full", "forbidden")
    await eventually(lambda: len(events.named("audit.recovered")) == (how != "removed"))
    assert await create(gateway) == 200
    after = written(folder, "request.finished")
    assert len(after) == (1 if how != "removed" and how != "forbidden" else 0) + (0 if is_lost else 10) + 1
    gaps = [(each["lost"], each["kinds"]) for each in written(folder, "trail.gap")]
    assert gaps == ([(20, {"request.started": 10, "request.finished": 10})] if is_lost else [])
    assert len(events.named("audit.failed")) == (how != "removed")
    await gateway.app.stop(grace_s=1)
    if how in ("full", "hangs"):
        assert verify(folder).is_good


@pytest.mark.parametrize("how", ["full", "forbidden", "hangs"])
async def test_closed_asks_nobody_until_it_can_be_recorded_again(
    how: str, start_gateway: StartGateway, vendor: Vendor, folder: Path, disk: Disk
) -> None:
    gateway = await start_gateway(vendor, change=audited(folder, on_error="closed", timeout_s=TIMEOUT_S))
    assert await create(gateway) == 200
    disk.fail(how)
    async with asyncio.timeout(5):
        first = await asyncio.gather(*(gateway.call("POST", "/v1/threads", {}) for _ in range(10)))
        then = [await gateway.call(method, "/v1/assistants") for method in ("GET", "POST")]
    for status, answer, headers in (*first, *then):
        assert (status, answer["error"]["code"], headers["retry-after"]) == (503, "audit_unavailable", "1")
    assert len(vendor.simulator.journal) == 1
    assert (await gateway.session.get(f"{gateway.url}/healthz")).status == 200
    disk.mend()
    await eventually(lambda: _can_be_recorded(gateway))
    assert await create(gateway) == 200
    assert len(vendor.simulator.journal) == 2
    assert len(written(folder, "request.finished", status=200)) == (1 if how == "forbidden" else 2)


def _can_be_recorded(gateway: Running) -> bool:
    server = gateway.app._server
    assert server is not None
    try:
        server.gateway._auditing.trail.check()  # type: ignore[union-attr]
    except trail_module.AuditUnavailable:
        return False
    return True


@pytest.mark.parametrize("how", ["full", "hangs"])
async def test_closed_breaks_off_what_was_done_and_cannot_be_recorded(
    how: str, start_gateway: StartGateway, vendor: Vendor, folder: Path, disk: Disk, dial: Dial, events: Events
) -> None:
    """A whole answer, a stream that has begun, and a file: nobody takes them for whole."""
    gateway = await start_gateway(vendor, change=audited(folder, on_error="closed", timeout_s=TIMEOUT_S))
    _, assistant, _ = await gateway.call("POST", "/v1/assistants", {"model": "m", "instructions": "Be brief."})
    asked = b'{"assistant_id": "%s", "stream": true}' % assistant["id"].encode()
    until = asyncio.Event()
    vendor.simulator.faults.add(faults.hold(until), method="POST", path="/threads$")
    vendor.simulator.faults.add(faults.stall_stream(2, until), method="POST", path="/runs$")
    vendor.simulator.faults.add(faults.hold(until), method="GET")
    whole, stream, read = await dial(gateway), await dial(gateway), await dial(gateway)
    await whole.send(request("POST", "/v1/threads", b"{}"))
    await stream.send(request("POST", "/v1/threads/runs", asked))
    await read.send(request("GET", f"/v1/assistants/{assistant['id']}"))
    await stream.until(b"event: ")
    await eventually(lambda: len(vendor.simulator.journal) == 4)
    disk.fail(how)
    until.set()
    assert await whole.rest() == b""
    assert await read.rest() == b""
    rest = await stream.rest()
    assert b"event: thread.run.completed" not in rest
    assert b"[DONE]" not in rest
    assert not rest.endswith(b"0\r\n\r\n")
    await eventually(lambda: len(events.named("request.done")) == 4)
    assert [line["outcome"] for line in events.named("request.done")[1:]] == ["broken_off"] * 3
    disk.mend()
    await eventually(lambda: _can_be_recorded(gateway))
    assert await create(gateway) == 200


async def test_bodies_that_cannot_be_kept_count_as_records_that_cannot_be_written(
    start_gateway: StartGateway, vendor: Vendor, folder: Path, disk: Disk
) -> None:
    """`closed` refuses before the provider is asked, and the trail says what became of the request."""
    rules = edit(audit__policy=[{"level": "request"}])

    def change(settings: dict[str, Any]) -> None:
        audited(folder, on_error="closed")(settings)
        rules(settings)

    gateway = await start_gateway(vendor, change=change)
    disk.folder = folder / "bodies"
    assert await create(gateway) == 200
    disk.fail("full")
    status, answer, _ = await gateway.call("POST", "/v1/threads", {})
    assert (status, answer["error"]["code"]) == (503, "audit_unavailable")
    assert len(vendor.simulator.journal) == 1
    disk.mend()
    assert await create(gateway) == 200
    await eventually(lambda: len(written(folder, "request.finished")) == 3)
    [refused] = written(folder, "request.finished", status=503)
    assert (refused["outcome"], refused["error_code"]) == ("refused", "audit_unavailable")
