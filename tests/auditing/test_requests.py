"""What requests leave in the audit trail, at a gateway that runs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.audit.trail import AuditUnavailable, Trail
from gateway.audit.verify import verify
from tests.auditing.conftest import audited, written
from tests.conftest import Dial, Events, Running, StartGateway, StartVendor, Vendor, eventually
from tests.simulators import faults
from tests.wire import request

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

TERMINAL = b"event: thread.run.completed\n"


@pytest.fixture
async def vendor(start_vendor: StartVendor) -> Vendor:
    return await start_vendor("openai")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "audit"


@pytest.fixture
async def gateway(start_gateway: StartGateway, vendor: Vendor, folder: Path) -> Running:
    return await start_gateway(vendor, change=audited(folder))


async def test_a_write_is_in_the_trail_before_the_provider_is_asked_and_again_before_it_is_answered(
    gateway: Running, vendor: Vendor, folder: Path
) -> None:
    until = asyncio.Event()
    vendor.simulator.faults.add(faults.hold(until), method="POST")
    asking = asyncio.create_task(gateway.call("POST", "/v1/threads", {"metadata": {"a": "b"}}))
    await eventually(lambda: bool(vendor.simulator.journal))
    [started] = written(folder, "request.started")
    assert (started["tenant"], started["operation"], started["provider"]) == ("alice", "create_thread", "openai")
    assert written(folder, "request.finished") == []
    until.set()
    status, made, headers = await asking
    assert status == 200
    [finished] = written(folder, "request.finished")
    assert (finished["request_id"], finished["status"]) == (headers["x-request-id"], 200)
    assert (finished["outcome"], finished["thread"]) == ("done", made["id"])
    assert finished["attempts"][0]["key"] in ("one", "two")
    assert 0 < finished["first_byte_s"] <= finished["duration_s"]


async def test_a_plain_read_leaves_one_record_that_says_all(gateway: Running, folder: Path) -> None:
    _, made, _ = await gateway.call("POST", "/v1/threads", {})
    await gateway.call("GET", f"/v1/threads/{made['id']}")
    [read] = written(folder, operation="get_thread")
    assert read["kind"] == "request.finished"
    assert (read["tenant"], read["method"], read["public_ids"]) == ("alice", "GET", [made["id"]])


async def test_the_end_of_a_stream_waits_for_its_record(
    gateway: Running, vendor: Vendor, folder: Path, dial: Dial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deltas pass; the terminal event and `done` come once the record is acknowledged."""
    _, assistant, _ = await gateway.call("POST", "/v1/assistants", {"model": "m"})
    thread = {"messages": [{"role": "user", "content": "Hello"}]}
    body = orjson.dumps({"assistant_id": assistant["id"], "thread": thread, "stream": True})
    may_write, is_asked = asyncio.Event(), asyncio.Event()
    write = Trail.write

    async def late(self: Trail, kind: str, facts: Mapping[str, Any], content: Any = None) -> None:
        if kind == "request.finished":
            is_asked.set()
            await may_write.wait()
        await write(self, kind, facts, content)

    monkeypatch.setattr(Trail, "write", late)
    wire = await dial(gateway)
    await wire.send(request("POST", "/v1/threads/runs", body))
    before = await wire.until(b"event: thread.run.step.completed\n")
    await is_asked.wait()
    assert TERMINAL not in before
    may_write.set()
    assert TERMINAL in await wire.until(b"data: [DONE]\n\n")
    [finished] = written(folder, "request.finished", operation="create_thread_and_run")
    assert (finished["run_status"], finished["outcome"]) == ("completed", "done")
    assert finished["events"] > 5
    assert finished["text_length"] > 0
    await eventually(lambda: bool(written(folder, "run.settled", run=finished["run"])))


async def test_who_is_refused_leaves_a_record_too(gateway: Running, folder: Path) -> None:
    for path, body, tenant in (
        ("/v1/threads/thread_nobodys", None, "alice"),
        ("/v1/threads", {"messages": 1}, "alice"),
        ("/v1/threads", None, None),
        ("/v1/nothing", None, "alice"),
    ):
        method = "GET" if body is None else "POST"
        headers = {} if tenant else {"Authorization": "Bearer sk-wrong-key-of-nobody"}
        await gateway.call(method, path, body, headers=headers)
    assert [each["status"] for each in written(folder, "request.finished")] == [404, 400, 401, 404]
    assert {each["outcome"] for each in written(folder, "request.finished")} == {"refused"}


async def test_a_caller_who_leaves_is_told_of(gateway: Running, vendor: Vendor, folder: Path, dial: Dial) -> None:
    until = asyncio.Event()
    vendor.simulator.faults.add(faults.hold(until), method="POST")
    wire = await dial(gateway)
    await wire.send(request("POST", "/v1/threads", b"{}"))
    await eventually(lambda: bool(written(folder, "request.started")))
    wire.close()
    await eventually(lambda: bool(written(folder, "request.finished", outcome="caller_left")))
    until.set()


async def test_health_probes_are_no_requests_of_anybody(gateway: Running, folder: Path) -> None:
    async with gateway.session.get(f"{gateway.url}/healthz") as response:
        assert response.status == 200
    assert written(folder, "request.finished") == []


async def test_what_cannot_be_recorded_is_not_done_where_the_mode_says_so(
    start_gateway: StartGateway, vendor: Vendor, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await start_gateway(vendor, change=audited(folder, on_error="closed"))
    check = Trail.check

    def fails(self: Trail) -> None:
        raise AuditUnavailable("no space")

    monkeypatch.setattr(Trail, "check", fails)
    status, answer, headers = await gateway.call("POST", "/v1/threads", {})
    assert (status, answer["error"]["code"]) == (503, "audit_unavailable")
    assert headers["retry-after"] == "1"
    assert not vendor.simulator.journal
    monkeypatch.setattr(Trail, "check", check)
    assert (await gateway.call("POST", "/v1/threads", {}))[0] == 200


async def test_what_was_done_and_cannot_be_recorded_is_not_answered(
    start_gateway: StartGateway,
    vendor: Vendor,
    folder: Path,
    dial: Dial,
    monkeypatch: pytest.MonkeyPatch,
    events: Events,
) -> None:
    gateway = await start_gateway(vendor, change=audited(folder, on_error="closed"))
    write = Trail.write

    async def fails(self: Trail, kind: str, facts: Mapping[str, Any], content: Any = None) -> None:
        if kind == "request.finished":
            raise AuditUnavailable("no space")
        await write(self, kind, facts, content)

    monkeypatch.setattr(Trail, "write", fails)
    wire = await dial(gateway)
    await wire.send(request("POST", "/v1/threads", b"{}"))
    assert await wire.rest() == b""
    assert len(vendor.simulator.journal) == 1
    assert events.named("request.done")[-1]["outcome"] == "broken_off"


async def test_what_the_policy_keeps_is_kept_apart_and_can_be_read_again(
    start_gateway: StartGateway, vendor: Vendor, folder: Path
) -> None:
    rules = [{"operation": "create_thread_and_run", "level": "full"}, {"operation": "get_*", "level": "none"}]
    gateway = await start_gateway(vendor, change=audited(folder, policy=rules))
    async with gateway.sdk() as client:
        assistant = await client.beta.assistants.create(model="m")
        async with client.beta.threads.create_and_run_stream(
            assistant_id=assistant.id,
            thread={"messages": [{"role": "user", "content": "Write to bob@example.com"}], "metadata": {"who": "bob"}},
        ) as stream:
            await stream.until_done()
            run = stream.current_run
        await client.beta.assistants.retrieve(assistant.id)
    assert run is not None
    from gateway.audit import bodies

    [finished] = written(folder, "request.finished", run=run.id)
    [started] = written(folder, "request.started", operation="create_thread_and_run")
    asked = orjson.loads(bodies.read(folder / "bodies", started["content"]["request"]))
    answered = orjson.loads(bodies.read(folder / "bodies", finished["content"]["answer"]))
    assert asked["thread"]["metadata"]["who"].startswith("hmac:")
    assert "bob@example.com" not in str(asked)
    assert answered["runs"][0]["id"] == run.id
    assert "You said" in str(answered["messages"])
    assert written(folder, operation="get_assistant") == []


async def test_the_chain_of_a_gateway_that_stopped_is_whole(
    start_gateway: StartGateway, vendor: Vendor, folder: Path
) -> None:
    gateway = await start_gateway(vendor, change=audited(folder))
    await asyncio.gather(*(gateway.call("POST", "/v1/threads", {}) for _ in range(20)))
    await gateway.app.stop()
    report = verify(folder)
    assert report.is_good
    assert len(written(folder, "request.finished")) == 20
