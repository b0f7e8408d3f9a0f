"""Keys that may use only some models: what they create, modify and run; the assistant's model is read where it
decides."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.model import Scope
from tests.conftest import Events, Running, StartGateway, StartVendor, Vendor, edit
from tests.simulators import faults

V1 = {"OpenAI-Beta": "assistants=v1"}
V2 = {"OpenAI-Beta": "assistants=v2"}


class Stage:
    """A gateway in front of one vendor, an unrestricted key (alice's own) and one that may use `good` only."""

    def __init__(self, vendor: Vendor, gateway: Running, key: str, beta: dict[str, str]) -> None:
        self.vendor = vendor
        self.gateway = gateway
        self.key = key
        self.beta = beta

    async def call(self, path: str, body: Any, *, key: str | None = None, method: str = "POST") -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {key or self.key}", **self.beta}
        status, answer, _ = await self.gateway.call(method, f"/v1{path}", body, headers=headers)
        return status, answer

    async def assistant(self, model: str) -> str:
        status, answer = await self.call("/assistants", {"model": model}, key="alice-key")
        assert status == 200, answer
        made: str = answer["id"]
        return made

    async def thread(self) -> str:
        messages = [{"role": "user", "content": "x"}]
        made: str = (await self.call("/threads", {"messages": messages}))[1]["id"]
        return made

    def asked(self) -> list[tuple[str, str]]:
        """What the vendor was asked since the last time."""
        journal = self.vendor.simulator.journal
        seen = [(each.method, each.path) for each in journal]
        journal.clear()
        return seen


StartStage = Any


@pytest.fixture
def start_stage(start_vendor: StartVendor, start_gateway: StartGateway) -> StartStage:
    async def start(vendor: str = "openai", beta: dict[str, str] = V2, **change: Any) -> Stage:
        running = await start_vendor(vendor)
        gateway = await start_gateway(running, change=edit(**change))
        assert gateway.app.shared is not None
        scope = Scope(models=frozenset({"good"}))
        key, _ = await gateway.app.shared.tenant_keys.issue("alice", scope=scope)
        return Stage(running, gateway, key, beta)

    return start


def refusal(told: tuple[int, Any]) -> str:
    status, answer = told
    error = answer["error"]
    assert (status, error["code"], error["param"]) == (403, "scope_not_allowed", "model")
    message: str = error["message"]
    return message


@pytest.mark.parametrize("beta", [V1, V2], ids=["v1", "v2"])
@pytest.mark.parametrize("vendor", ["openai", "openai_v1", "aimlapi"])
async def test_only_allowed_models_are_created_modified_and_run(
    vendor: str, beta: dict[str, str], start_stage: StartStage
) -> None:
    """Callers of both versions, in front of providers of both."""
    stage = await start_stage(vendor, beta)
    good, bad, thread = await stage.assistant("good"), await stage.assistant("bad"), await stage.thread()
    stage.asked()
    runs, both = f"/threads/{thread}/runs", "/threads/runs"
    new = {"thread": {"messages": [{"role": "user", "content": "x"}]}}
    for path, body in (
        ("/assistants", {"model": "bad"}),
        ("/assistants", {"name": "none"}),
        (f"/assistants/{good}", {"model": "bad"}),
        (runs, {"assistant_id": good, "model": "bad"}),
        (both, {"assistant_id": good, "model": "bad", **new}),
    ):
        assert "may only use the models good" in refusal(await stage.call(path, body))
    assert stage.asked() == [], "nothing was sent"
    for path, body in ((runs, {"assistant_id": bad}), (both, {"assistant_id": bad, "model": None, **new})):
        assert f"assistant '{bad}' has 'bad'" in refusal(await stage.call(path, body))
    assert {method for method, _ in stage.asked()} == {"GET"}, "the assistant was read, and no more"
    for path, body in (
        ("/assistants", {"model": "good"}),
        (f"/assistants/{good}", {"model": "good", "name": "n"}),
        (f"/assistants/{bad}", {"name": "n"}),
        (both, {"assistant_id": bad, "model": "good", **new}),
        (both, {"assistant_id": good, **new}),
    ):
        status, answer = await stage.call(path, body)
        assert status == 200, (path, body, answer)


async def test_the_read_stands_in_the_log_line_of_the_run(start_stage: StartStage, events: Events) -> None:
    stage = await start_stage()
    thread = await stage.thread()
    good = await stage.assistant("good")
    stage.asked()
    assert (await stage.call(f"/threads/{thread}/runs", {"assistant_id": good}))[0] == 200
    assert [method for method, _ in stage.asked()] == ["GET", "POST"]
    line = events.named("request.done")[-1]
    assert [each["operation"] for each in line["attempts"]] == ["get_assistant", "create_run"]


async def test_names_are_those_that_callers_use(start_stage: StartStage) -> None:
    stage = await start_stage(providers__openai__models={"good": "deployment", "bad": "other"})
    good, bad, thread = await stage.assistant("good"), await stage.assistant("bad"), await stage.thread()
    runs = f"/threads/{thread}/runs"
    assert "has 'bad'" in refusal(await stage.call(runs, {"assistant_id": bad}))
    assert "not 'deployment'" in refusal(await stage.call(runs, {"assistant_id": good, "model": "deployment"}))
    assert (await stage.call(runs, {"assistant_id": good}))[0] == 200


async def test_what_the_assistant_says_counts_when_the_run_is_made(start_stage: StartStage) -> None:
    """Not what a cache remembers of it."""
    stage = await start_stage(cache__ttl_s=30)
    made, thread = await stage.assistant("good"), await stage.thread()
    await stage.call(f"/assistants/{made}", None, method="GET")
    upstream = made[:-24]
    stage.vendor.simulator.worlds["acme"].assistants.get(upstream)["model"] = "bad"
    assert "has 'bad'" in refusal(await stage.call(f"/threads/{thread}/runs", {"assistant_id": made}))


async def test_an_assistant_that_cannot_be_read_lets_nothing_through(start_stage: StartStage) -> None:
    stage = await start_stage(providers__openai__max_attempts=1)
    good, thread = await stage.assistant("good"), await stage.thread()
    runs = f"/threads/{thread}/runs"
    for fault, status, code in (
        (faults.status(500), 502, "provider_broken_answer"),
        (faults.status(403), 502, "provider_broken_answer"),
        (faults.status(200, {"id": "x", "object": "assistant"}), 403, "scope_not_allowed"),
    ):
        stage.vendor.simulator.faults.add(fault, path="/assistants/", times=1)
        stage.asked()
        told = await stage.call(runs, {"assistant_id": good})
        assert (told[0], told[1]["error"]["code"]) == (status, code)
        assert "POST" not in {method for method, _ in stage.asked()}
    stage.vendor.simulator.worlds["acme"].assistants.delete(good[:-24])
    status, answer = await stage.call(runs, {"assistant_id": good})
    assert (status, answer["error"]["message"]) == (404, f"No assistant found with id '{good}'.")
    assert "names neither a model nor an assistant" in refusal(await stage.call(runs, {}))


async def test_what_passes_through_names_an_allowed_model_too(start_stage: StartStage) -> None:
    stage = await start_stage(providers__openai__passthrough=["chat/completions", "models", "audio/*"])
    stage.asked()
    for body in ({"messages": []}, {"model": "bad", "messages": []}):
        refusal(await stage.call("/chat/completions", body))
    assert stage.asked() == []
    await stage.call("/chat/completions", {"model": "good", "messages": []})
    await stage.call("/models", None, method="GET")
    assert [method for method, _ in stage.asked()] == ["POST", "GET"]
