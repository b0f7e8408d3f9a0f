"""One thread, run in turn by assistants of two providers: one history, and to each its own bill."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway.store.tenant_usage import UsageCounts
from tests.auditing.conftest import audited, written
from tests.conformance.conftest import ok
from tests.conformance.served.conftest import ADD, Served
from tests.conftest import Running, StartGateway, StartVendor, eventually
from tests.simulators.answers import Answer, Calls, Says
from tests.simulators.model_simulator import ModelSimulator

FINISHED = "generation.finished"


def heard(body: Any) -> list[Any]:
    return [(each["role"], each["content"]) for each in body["messages"]]


async def test_assistants_of_two_providers_share_a_thread(
    serving: None, start_vendor: StartVendor, start_gateway: StartGateway, tmp_path: Path
) -> None:
    vendors = [await start_vendor(name) for name in ("openai_chat", "groq_chat")]
    folder = tmp_path / "audit"
    gateway = await start_gateway(*vendors, change=audited(folder))
    models: list[ModelSimulator] = [vendor.simulator for vendor in vendors]  # type: ignore[misc]
    one = Served(gateway, models[0], vendors[0].name)
    first = await one.assistant()
    path = "/providers/groq_chat/v1"
    second = (await ok(gateway, "POST", f"{path}/assistants", {"model": "llama", "tools": [ADD]}))["id"]
    thread = await one.thread("Who are you?")
    of_thread = f"/v1/threads/{thread}"

    models[0].script(Answer((Says("I am one."),), usage=(10, 1)), Answer((Says("One again."),), usage=(30, 3)))
    models[1].script(
        Answer((Says("Let me see."), Calls("add", id="call_1")), usage=(20, 2)), Answer((Says("Two."),), usage=(40, 4))
    )
    runs = []
    for assistant in (first, second, first):
        run = await one.end(await ok(gateway, "POST", f"{of_thread}/runs", {"assistant_id": assistant}))
        if run["status"] == "requires_action":
            outputs = {"tool_outputs": [{"tool_call_id": "call_1", "output": "3"}]}
            run = await one.end(await ok(gateway, "POST", f"{of_thread}/runs/{run['id']}/submit_tool_outputs", outputs))
        assert (run["status"], run["assistant_id"], run["thread_id"]) == ("completed", assistant, thread)
        runs.append(run)
        await ok(gateway, "POST", f"{of_thread}/messages", {"role": "user", "content": "And you?"})

    # what each heard is all that was said, by whomever
    assert len(models[0].bodies) == len(models[1].bodies) == 2
    before = [("user", "Who are you?"), ("assistant", "I am one."), ("user", "And you?")]
    assert heard(models[1].bodies[0]) == before
    *tool_round, last, asked = heard(models[0].bodies[1])[3:]
    assert heard(models[0].bodies[1])[:3] == before
    assert [role for role, _ in tool_round] == ["assistant", "tool"]
    assert (last, asked) == (("assistant", "Two."), ("user", "And you?"))

    # ids are the assistants' own, in every object, and lead to them by either path
    messages = (await ok(gateway, "GET", f"{of_thread}/messages?order=asc"))["data"]
    by = [each["assistant_id"] for each in messages if each["role"] == "assistant"]
    assert by == [first, second, second, first]
    steps = await one.steps(runs[1])
    assert {each["assistant_id"] for each in steps} == {second}
    assert (await ok(gateway, "GET", f"{path}/assistants/{second}"))["id"] == second
    assert [each["assistant_id"] for each in (await ok(gateway, "GET", f"{of_thread}/runs?order=asc"))["data"]] == [
        *(first, second, first)
    ]
    assert not re.search(r"@", str(messages) + str(steps) + str(runs))  # how the store names one of elsewhere

    # calls, tokens and usage are those of the provider that was asked
    await eventually(lambda: len(written(folder, "run.settled")) == 3)
    asked_of = [(each["provider"], each["run"], each["usage"]["total_tokens"]) for each in written(folder, FINISHED)]
    ids = [run["id"] for run in runs]
    assert asked_of == [
        ("openai_chat", ids[0], 11),
        ("groq_chat", ids[1], 22),
        ("groq_chat", ids[1], 44),
        ("openai_chat", ids[2], 33),
    ]
    settled = {
        each["run"]: (each["provider"], each["usage"]["total_tokens"]) for each in written(folder, "run.settled")
    }
    assert [settled[run] for run in ids] == [("openai_chat", 11), ("groq_chat", 66), ("openai_chat", 33)]
    assert {each["thread"] for each in written(folder, FINISHED)} == {thread}
    assert await used(gateway) == {"openai_chat": (2, 40, 4), "groq_chat": (1, 60, 6)}


async def used(gateway: Running) -> dict[str, tuple[int, int, int]]:
    """Runs, tokens of prompts and of answers, by provider."""
    shared = gateway.app.shared
    assert shared is not None
    await shared.flush()
    counts: dict[str, UsageCounts] = {}
    for place, each in (await shared.tenant_usage.read("alice", f"{datetime.now(UTC):%Y-%m}")).items():
        counts[place.provider] = counts.get(place.provider, UsageCounts()) + each
    return {name: (each.runs, each.prompt, each.completion) for name, each in counts.items() if each.runs}
