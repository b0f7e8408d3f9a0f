"""Objects as the engine writes them, as far as the store looks at them, and short ways to get into a state."""

from __future__ import annotations

from typing import Any

from gateway.engine.store.ids import mint
from gateway.engine.store.lists import Page, Window
from gateway.engine.store.results import Claim
from gateway.engine.store.runs import Started
from gateway.engine.store.work import Change
from tests.engine.store.conftest import Replica

NOW = 1_800_000_000.0
CONTEXT = {"tenant": "alice"}
CALLS = [{"id": f"call_{name}", "type": "function", "function": {"name": name, "arguments": "{}"}} for name in "ab"]
OUTPUTS = [{"tool_call_id": f"call_{name}", "output": name} for name in "ab"]


def thread() -> dict[str, Any]:
    return {"id": mint("thread"), "object": "thread", "created_at": int(NOW), "metadata": {}, "tool_resources": None}


def message(role: str = "user", text: str = "hello", **more: Any) -> dict[str, Any]:
    return {
        "id": mint("message"),
        "object": "thread.message",
        "created_at": int(NOW),
        "status": "completed",
        "role": role,
        "content": [{"type": "text", "text": {"value": text, "annotations": []}}],
        "metadata": {},
        **more,
    }


def run(**more: Any) -> dict[str, Any]:
    return {
        "id": mint("run"),
        "object": "thread.run",
        "created_at": int(NOW),
        "expires_at": int(NOW) + 600,
        "status": "queued",
        "started_at": None,
        "required_action": None,
        "tools": [],
        "temperature": 1.0,
        "metadata": {},
        **more,
    }


def step(of: Claim, kind: str = "message_creation", **more: Any) -> dict[str, Any]:
    return {"id": mint("step"), "object": "thread.run.step", "run_id": of.run, "type": kind, **more}


def assistant(**more: Any) -> dict[str, Any]:
    return {"id": mint("assistant"), "object": "assistant", "model": "m", "tools": [], "metadata": {}, **more}


async def make_thread(at: Replica, *messages: dict[str, Any]) -> str:
    made = thread()
    await at.threads.create(made, messages or (message(),), tenant="alice", now=NOW)
    id_: str = made["id"]
    return id_


async def make_run(at: Replica, of: str, *, now: float = NOW, **more: Any) -> Claim:
    """A run that this replica works on."""
    created = run(created_at=int(now), expires_at=int(now) + 600, **more)
    started = await at.runs.create(of, created, needs_user_message=True, context=CONTEXT, now=now)
    assert isinstance(started, Started)
    await at.work.start(started.claim, now=now)
    return started.claim


async def make_waiting(at: Replica, of: str) -> Claim:
    """A run that waits for tool outputs, with its step open."""
    claim = await make_run(at, of)
    await at.work.require_action(claim, CALLS, Change("begin", "step", step(claim, "tool_calls", status="in_progress")))
    return claim


async def listed(at: Replica, of: str) -> list[str]:
    """The texts of a thread's messages, oldest first."""
    page = await at.messages.list(of, Window(limit=100, order="asc"))
    assert isinstance(page, Page)
    return [made["content"][0]["text"]["value"] if made["content"] else "" for made in page.objects]
