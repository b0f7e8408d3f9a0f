"""A run's time is over: while its model speaks, and while it waits for its caller. The clock is the test's."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.conformance.conftest import ok
from tests.conformance.served.conftest import ADD, Served
from tests.conformance.served.test_runs import stream
from tests.conftest import Events, eventually
from tests.simulators import faults


async def pass_minutes(served: Served, minutes: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """And let the gateway look after its runs, as it does each second."""
    running = served.gateway.app.running
    assert running is not None
    monkeypatch.setattr(running, "_clock", lambda: time.time() + minutes * 60)
    await running.sweep()
    await running.renew()


async def test_a_run_that_waits_expires_ten_minutes_after_it_was_made(
    served: Served, monkeypatch: pytest.MonkeyPatch, events: Events
) -> None:
    run = await served.run("call add", ADD)
    [call] = run["required_action"]["submit_tool_outputs"]["tool_calls"]
    path = f"/v1/threads/{run['thread_id']}/runs/{run['id']}"
    assert run["expires_at"] == run["created_at"] + 600
    await pass_minutes(served, 9.9, monkeypatch)
    assert (await ok(served.gateway, "GET", path))["status"] == "requires_action"
    await pass_minutes(served, 10.1, monkeypatch)
    expired = await ok(served.gateway, "GET", path)
    assert (expired["status"], expired["required_action"]) == ("expired", None)
    assert expired["expires_at"] == run["expires_at"]
    assert expired["usage"]["total_tokens"] > 0
    [step] = await served.steps(run)
    assert (step["status"], step["expired_at"]) == ("expired", pytest.approx(run["expires_at"], abs=60))
    outputs = {"tool_outputs": [{"tool_call_id": call["id"], "output": "3"}]}
    status, error = await served.refusal("POST", f"{path}/submit_tool_outputs", outputs)
    assert (status, error["message"]) == (400, 'Runs in status "expired" do not accept tool outputs.')
    [settled] = events.named("run.settled")
    assert (settled["status"], settled["total_tokens"]) == ("expired", expired["usage"]["total_tokens"])
    said = {"role": "user", "content": "hello"}
    assert await ok(served.gateway, "POST", f"/v1/threads/{run['thread_id']}/messages", said)  # the thread is free


async def test_a_run_whose_model_stands_still_expires_and_who_listens_is_told(
    served: Served, monkeypatch: pytest.MonkeyPatch, events: Events
) -> None:
    """As the sweep ends it that finds a run of a replica that is gone: with what the store has of it."""
    served.model.faults.add(faults.stall_stream(3, asyncio.Event()))
    assistant, thread = await served.assistant(), await served.thread("some words to be said")
    listening = asyncio.create_task(stream(served, thread, {"assistant_id": assistant}))
    asked = await served.model.arrived(method="POST")
    before = f"/v1/threads/{thread}/messages?limit=1"
    while (await ok(served.gateway, "GET", before))["data"][0]["role"] == "user":  # it has begun to speak
        await asyncio.sleep(0)
    await pass_minutes(served, 10.1, monkeypatch)
    async with asyncio.timeout(5):
        told = await listening
    names = [name for name, _, _ in told]
    ending = ["thread.message.incomplete", "thread.run.step.expired", "thread.run.expired", "done"]
    assert names[-4:] == ending
    ended = told[-2][2]
    assert (ended["status"], ended["last_error"]) == ("expired", None)
    [run] = (await ok(served.gateway, "GET", f"/v1/threads/{thread}/runs"))["data"]
    assert run == ended
    [message] = (await ok(served.gateway, "GET", before))["data"]
    assert (message["status"], message["incomplete_details"]) == ("incomplete", {"reason": "run_expired"})
    await served.model.disconnected(asked)
    await eventually(lambda: [each["status"] for each in events.named("run.settled")] == ["expired"])
