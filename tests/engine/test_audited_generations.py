"""What calls of models leave in the audit trail: who sent what to which vendor in which thread, before it is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.audit.trail import AuditUnavailable, Trail
from gateway.cli import main
from tests.auditing.conftest import audited, written
from tests.conftest import Running, eventually
from tests.engine.conftest import TOOLS, StartServing
from tests.engine.scripted_model import Answer, Refused, ScriptedModel, calls, says
from tests.engine.test_running import Listener, abandon, quick  # noqa: F401  a fixture
from tests.engine.test_serving import gated

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

STARTED, FINISHED = "generation.started", "generation.finished"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "audit"


async def begin(gateway: Running, **more: Any) -> tuple[Any, str]:
    """A run in a new thread, as it is answered at once, and the request's id."""
    _, assistant, _ = await gateway.call("POST", "/v1/assistants", {"model": "m-1", "tools": TOOLS})
    thread = {"messages": [{"role": "user", "content": "canary in the question"}]}
    body = {"assistant_id": assistant["id"], "thread": thread, **more}
    status, run, headers = await gateway.call("POST", "/v1/threads/runs", body)
    assert status == 200, run
    return run, headers["x-request-id"]


async def ended(gateway: Running, run: Any) -> Any:
    path = f"/v1/threads/{run['thread_id']}/runs/{run['id']}"
    async with asyncio.timeout(8):
        while run["status"] in ("queued", "in_progress", "cancelling"):
            _, run, _ = await gateway.call("GET", path)
            await asyncio.sleep(0.01)
    return run


async def test_a_call_is_in_the_trail_before_the_vendor_is_asked_and_again_before_its_run_ends(
    model: ScriptedModel, start_serving: StartServing, folder: Path
) -> None:
    answer, go_on = gated("Hm")
    model.script.append(answer)
    gateway = await start_serving(model, change=audited(folder))
    run, request = await begin(gateway)
    await eventually(lambda: len(model.journal) == 1)
    [started] = written(folder, STARTED)
    assert (started["tenant"], started["request_id"], started["operation"]) == ("alice", request, "ask_model")
    assert (started["provider"], started["vendor"], started["account"]) == ("served", "openai", "acme")
    assert (started["thread"], started["run"]) == (run["thread_id"], run["id"])
    assert started["public_ids"] == [run["thread_id"], run["id"]]
    ids = zip(started["public_ids"], started["upstream_ids"], strict=True)
    assert all(public.startswith(own) for public, own in ids)
    assert (started["model"], started["upstream_model"], started["level"]) == ("m-1", "m-1", "metadata")
    assert written(folder, FINISHED) == []
    go_on.set()
    run = await ended(gateway, run)
    [finished] = written(folder, FINISHED)
    chain = {"seq", "time", "kind", "prev", "h"}
    assert {name: finished[name] for name in started.keys() - chain} == {
        name: started[name] for name in started.keys() - chain
    }
    assert (finished["outcome"], finished["finish_reason"], finished["status"]) == ("done", "stop", 200)
    assert finished["usage"]["total_tokens"] == run["usage"]["total_tokens"] == 15
    [attempt] = finished["attempts"]
    assert (attempt["key"], attempt["status"], attempt["operation"]) == ("one", 200, "ask_model")
    assert 0 < attempt["duration_s"] <= finished["first_byte_s"] <= finished["duration_s"]
    assert b"canary" not in b"".join(map(orjson.dumps, written(folder)))


async def test_each_call_names_the_request_that_led_to_it_and_every_attempt(
    model: ScriptedModel, start_serving: StartServing, folder: Path
) -> None:
    model.script += [calls(("add", "{}")), Refused(503, {"error": {"message": "later"}}), says("3.")]
    gateway = await start_serving(model, change=audited(folder))
    run, first = await begin(gateway)
    run = await ended(gateway, run)
    [call] = run["required_action"]["submit_tool_outputs"]["tool_calls"]
    path = f"/v1/threads/{run['thread_id']}/runs/{run['id']}/submit_tool_outputs"
    body = {"tool_outputs": [{"tool_call_id": call["id"], "output": "3"}]}
    _, run, headers = await gateway.call("POST", path, body)
    await ended(gateway, run)
    one, two = written(folder, FINISHED)
    assert [each["request_id"] for each in (one, two)] == [first, headers["x-request-id"]]
    assert (one["finish_reason"], two["finish_reason"]) == ("tool_calls", "stop")
    assert [attempt["status"] for attempt in two["attempts"]] == [503, 200]
    assert two["attempts_total"] == 2
    assert one["generation_id"] != two["generation_id"]


REFUSED = Refused(400, {"error": {"message": "canary of the vendor", "type": "invalid_request_error"}})


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (REFUSED, {"outcome": "failed", "error_code": "invalid_prompt", "status": 400}),
        (says("Ha", finish="length"), {"outcome": "done", "finish_reason": "length", "status": 200}),
        (None, {"outcome": "stopped", "status": 200}),
    ],
    ids=["refused", "cut short", "cancelled"],
)
async def test_what_came_of_a_call_is_told(
    model: ScriptedModel,
    start_serving: StartServing,
    folder: Path,
    answer: Answer | Refused | None,
    expected: Mapping[str, Any],
) -> None:
    gateway = await start_serving(model, change=audited(folder))
    model.script.append(answer or gated("Hm")[0])
    run, _ = await begin(gateway)
    if answer is None:
        await eventually(lambda: len(model.journal) == 1)
        await gateway.call("POST", f"/v1/threads/{run['thread_id']}/runs/{run['id']}/cancel", {})
    await ended(gateway, run)
    [finished] = written(folder, FINISHED)
    assert {name: finished.get(name) for name in expected} == expected
    assert b"canary" not in b"".join(map(orjson.dumps, written(folder)))


async def test_who_took_a_run_over_says_so_and_the_request_that_began_it(
    quick: None,  # noqa: F811
    model: ScriptedModel,
    start_serving: StartServing,
    folder: Path,
) -> None:
    answer, _ = gated("Half a sen")
    model.script.append(answer)
    dead, alive = [await start_serving(model, change=audited(folder, replica=name)) for name in ("r1", "r2")]
    run, request = await begin(dead)
    await eventually(lambda: len(model.journal) == 1)
    await abandon(dead)
    await ended(alive, run)
    lost, taken = written(folder, STARTED)
    assert [each["request_id"] for each in (lost, taken)] == [request, request]
    assert (lost.get("takeovers"), taken["takeovers"]) == (None, 1)
    [finished] = written(folder, FINISHED)
    assert finished["generation_id"] == taken["generation_id"]
    await dead.app.stop(grace_s=0)
    assert [each["outcome"] for each in written(folder, FINISHED)] == ["done", "broken_off"]


# --- when nothing can be recorded ------------------------------------------------------------------------------------
def fail(monkeypatch: pytest.MonkeyPatch, *kinds: str) -> None:
    """A disk that has no room for these records, at a trail that is closed then."""
    write = Trail.write

    async def refuse(self: Trail, kind: str, facts: Mapping[str, Any], content: Any = None) -> None:
        if kind in kinds:
            raise AuditUnavailable("the disk is full")
        await write(self, kind, facts, content)

    monkeypatch.setattr(Trail, "write", refuse)


async def test_a_model_is_not_asked_what_cannot_be_recorded(
    model: ScriptedModel, start_serving: StartServing, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await start_serving(model, change=audited(folder, on_error="closed"))
    fail(monkeypatch, STARTED)
    run = await ended(gateway, (await begin(gateway))[0])
    assert (run["status"], run["last_error"]["code"]) == ("failed", "server_error")
    assert "audit trail" in run["last_error"]["message"]
    assert model.journal == []
    assert written(folder, FINISHED) == []


async def test_no_answer_looks_whole_that_is_not_in_the_trail(
    model: ScriptedModel, start_serving: StartServing, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await start_serving(model, change=audited(folder, on_error="closed"))
    fail(monkeypatch, FINISHED)
    run = await ended(gateway, (await begin(gateway))[0])
    assert (run["status"], run["last_error"]["code"]) == ("failed", "server_error")
    assert run["usage"]["total_tokens"] == 15
    _, messages, _ = await gateway.call("GET", f"/v1/threads/{run['thread_id']}/messages?limit=1")
    assert messages["data"][0]["status"] == "incomplete"


# --- questions -------------------------------------------------------------------------------------------------------
def ask(capsys: pytest.CaptureFixture[str], folder: Path, *words: str) -> Sequence[Mapping[str, Any]]:
    assert main(["audit", *words, "--dir", str(folder), "--json"]) == 0
    rows: list[Mapping[str, Any]] = orjson.loads(capsys.readouterr().out)
    return rows


@pytest.mark.parametrize("level", ["metadata", "request", "full"])
async def test_what_was_sent_to_the_vendor_in_a_thread_can_be_asked(
    model: ScriptedModel,
    start_serving: StartServing,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    level: str,
) -> None:
    """`audit thread` tells of the call, `audit show` of the request has it too, with what the policy keeps."""
    model.script.append(calls(("add", '{"a": 1}'), before="Let me see."))
    policy = [{"operation": "ask_model", "level": level}]
    gateway = await start_serving(model, change=audited(folder, policy=policy))
    run, request = await begin(gateway)
    await ended(gateway, run)
    await gateway.app.stop(grace_s=1)

    told = ask(capsys, folder, "thread", run["thread_id"])
    [row] = [each for each in told if each["what"] == "ask_model"]
    assert (row["by"], row["via"], row["object"], row["tokens"]) == ("alice", "served/acme", run["id"], "10+5")
    assert row["outcome"] == "done"
    assert main(["audit", "show", request, "--content", "--dir", str(folder)]) == 0
    assert "generation.finished" in capsys.readouterr().out
    shown = ask(capsys, folder, "show", request, "--content")
    kinds = ["request.started", "request.finished", STARTED, FINISHED]
    assert sorted(each["kind"] for each in shown) == sorted(kinds)
    bodies = {body["part"]: body for each in shown for body in each.get("bodies", ())}
    assert bodies.keys() == {"metadata": set(), "request": {"request"}, "full": {"request", "answer"}}[level]
    assert {body["found"] for body in bodies.values()} <= {"proven"}
    if "request" in bodies:
        assert bodies["request"]["body"]["messages"][-1] == {"role": "user", "content": "canary in the question"}
    if "answer" in bodies:
        said = bodies["answer"]["body"]
        assert said["content"][0]["text"]["value"] == "Let me see."
        assert said["tool_calls"][0]["function"] == {"name": "add", "arguments": '{"a": 1}', "output": None}
    own = next(each["generation_id"] for each in shown if each["kind"] == STARTED)
    assert [each["kind"] for each in ask(capsys, folder, "show", own)] == [STARTED, FINISHED]


async def test_a_stream_ends_after_the_record(model: ScriptedModel, start_serving: StartServing, folder: Path) -> None:
    gateway = await start_serving(model, change=audited(folder))
    _, assistant, _ = await gateway.call("POST", "/v1/assistants", {"model": "m-1", "instructions": "Speak."})
    body = {"assistant_id": assistant["id"], "stream": True}
    heard = await Listener(gateway, "POST", "/v1/threads/runs", body).listen(until="thread.run.completed")
    assert heard.names[-1] == "thread.run.completed"
    assert len(written(folder, FINISHED)) == 1
