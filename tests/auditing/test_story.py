"""What `audit thread` and `audit stats` tell of a session that went through two replicas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.cli import main
from tests.auditing.conftest import audited, written
from tests.conformance.conftest import TOOLS, ok
from tests.conftest import StartGateway, Vendor, edit, eventually


def ask(capsys: pytest.CaptureFixture[str], folder: Path, *words: str) -> list[dict[str, Any]]:
    """Rows of an answer; also in the form for people, which must not fail."""
    assert main(["audit", *words, "--dir", str(folder)]) == 0
    assert capsys.readouterr().out
    assert main(["audit", *words, "--dir", str(folder), "--json"]) == 0
    rows: list[dict[str, Any]] = orjson.loads(capsys.readouterr().out)
    return rows


async def test_a_run_with_a_tool_is_told_in_order_across_replicas_and_its_tokens_once(
    start_gateway: StartGateway, vendor: Vendor, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = edit(store__prefix=f"story-{id(vendor)}")
    replicas = []
    for name in ("r1", "r2"):

        def change(settings: dict[str, Any], name: str = name) -> None:
            audited(folder, replica=name)(settings)
            store(settings)

        replicas.append(await start_gateway(vendor, change=change))
    one, two = replicas
    assistant = (await ok(one, "POST", "/v1/assistants", {"model": "m", "tools": TOOLS}))["id"]
    await ok(two, "POST", "/v1/threads", {})  # another thread, of which nothing is told
    thread = (await ok(two, "POST", "/v1/threads", {}))["id"]
    path = f"/v1/threads/{thread}"
    await ok(one, "POST", f"{path}/messages", {"role": "user", "content": "call add"})
    run = await ok(two, "POST", f"{path}/runs", {"assistant_id": assistant})
    reads = 0
    while run["status"] in ("queued", "in_progress"):
        run, reads = await ok(one, "GET", f"{path}/runs/{run['id']}"), reads + 1
    call = run["required_action"]["submit_tool_outputs"]["tool_calls"][0]["id"]
    outputs = {"tool_outputs": [{"tool_call_id": call, "output": "3"}], "stream": True}
    status, _, _ = await two.call("POST", f"{path}/runs/{run['id']}/submit_tool_outputs", outputs)
    assert status == 200
    for gateway in (one, two, two):  # requests that see the usage too
        over = await ok(gateway, "GET", f"{path}/runs/{run['id']}")
    await eventually(lambda: bool(written(folder, "run.settled")))
    status, _, _ = await one.call("GET", path, tenant="bob")
    assert status == 404
    await ok(one, "DELETE", path)

    told = ask(capsys, folder, "thread", thread)
    assert [row["time"] for row in told] == sorted(row["time"] for row in told)
    requests = [row["what"] for row in told if row["what"] != "run.settled"]
    assert requests == [
        *("create_thread", "create_message", "create_run", *["get_run"] * reads, "submit_tool_outputs"),
        *(*["get_run"] * 3, "get_thread", "delete_thread"),
    ]
    by_name = {row["what"]: row for row in told}
    assert by_name["create_run"]["run"] == "queued"
    assert by_name["submit_tool_outputs"]["run"] == "completed"
    assert by_name["get_thread"]["status"] == 404
    assert all(row["by"].startswith("bob/" if row["what"] == "get_thread" else "alice") for row in told), told
    [settled] = [row for row in told if row["what"] == "run.settled"]
    usage = over["usage"]
    assert (settled["object"], settled["run"]) == (run["id"], "completed")
    assert settled["tokens"] == f"{usage['prompt_tokens']}+{usage['completion_tokens']}"

    [alice] = [row for row in ask(capsys, folder, "stats") if row["tenant"] == "alice"]
    assert (alice["tokens_in"], alice["tokens_out"]) == (usage["prompt_tokens"], usage["completion_tokens"])
    assert alice["requests"] == len(requests) + 1  # the assistant, and the other thread, but not what bob asked
