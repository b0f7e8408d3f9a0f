"""What is answered from the cache, and what must not be: whole gateways, two of them on one store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson
import pytest

from gateway.sse import EventParser
from tests.conftest import Events, Running, StartGateway, StartVendor, Vendor, edit
from tests.simulators import faults
from tests.simulators.faults import Act
from tests.store.conftest import OwnValkey, own_valkey  # noqa: F401

V1 = {"OpenAI-Beta": "assistants=v1"}
FRESH = {"Cache-Control": "no-cache"}
TAIL = 24


@dataclass
class Stage:
    """Two replicas in front of one vendor."""

    vendor: Vendor
    one: Running
    two: Running

    async def ask(
        self, method: str, path: str, body: Any = None, *, replica: int = 1, status: int = 200, **more: Any
    ) -> tuple[Any, str | None]:
        """The answer and what the cache did."""
        gateway = self.one if replica == 1 else self.two
        got, answer, headers = await gateway.call(method, f"/v1{path}", body, **more)
        assert got == status, answer
        return answer, headers.get("x-gateway-cache")

    async def make(self, path: str, body: Any = None, **more: Any) -> str:
        made, _ = await self.ask("POST", path, body or {}, **more)
        made_id: str = made["id"]
        return made_id

    async def found(self, path: str, **more: Any) -> str | None:
        return (await self.ask("GET", path, **more))[1]

    async def until_over(self, path: str) -> Any:
        while (run := (await self.ask("GET", path))[0])["status"] in ("queued", "in_progress"):
            pass
        return run

    @property
    def asked(self) -> list[str]:
        """What the vendor was asked."""
        return [f"{each.method} {each.path.removeprefix('/v1')}" for each in self.vendor.simulator.journal]

    @property
    def world(self) -> Any:
        return self.vendor.simulator.worlds["acme"]


@pytest.fixture
async def stage(start_vendor: StartVendor, start_gateway: StartGateway) -> Stage:
    vendor = await start_vendor("openai")
    change = edit(cache__ttl_s=30, store__prefix=f"caching-{id(vendor)}", providers__openai__max_attempts=1)
    return Stage(vendor, await start_gateway(vendor, change=change), await start_gateway(vendor, change=change))


@dataclass(frozen=True)
class Talk:
    """A thread with a message in it, and an assistant."""

    assistant: str
    thread: str
    message: str


@pytest.fixture
async def talk(stage: Stage) -> Talk:
    thread = await stage.make("/threads")
    message = await stage.make(f"/threads/{thread}/messages", {"role": "user", "content": "hello"})
    return Talk(await stage.make("/assistants", {"model": "m"}), thread, message)


# --- what is kept --------------------------------------------------------------------------------------------------
async def test_what_was_read_is_answered_by_every_replica_without_the_vendor(
    stage: Stage, talk: Talk, events: Events
) -> None:
    """Byte for byte; creations fill too."""
    for path in (
        f"/threads/{talk.thread}",
        f"/threads/{talk.thread}/messages",
        f"/threads/{talk.thread}/messages/{talk.message}",
        f"/assistants/{talk.assistant}",
    ):
        first, _ = await stage.ask("GET", path, headers=FRESH)
        assert await stage.ask("GET", path) == (first, "miss")
        asked = len(stage.asked)
        assert await stage.ask("GET", path) == (first, "hit")
        assert await stage.ask("GET", path, replica=2) == (first, "hit")
        assert len(stage.asked) == asked
        line = events.named("request.done")[-1]
        assert (line["cache"], line["attempts"], line["status"]) == ("hit", [], 200)


async def test_a_creation_is_found_at_once(stage: Stage) -> None:
    thread = await stage.make("/threads", {"metadata": {"a": "b"}})
    assert await stage.found(f"/threads/{thread}", replica=2) == "hit"
    assistant = await stage.make("/assistants", {"model": "m"})
    assert await stage.found(f"/assistants/{assistant}", replica=2) == "hit"
    message = await stage.make(f"/threads/{thread}/messages", {"role": "user", "content": "hello"})
    kept, outcome = await stage.ask("GET", f"/threads/{thread}/messages/{message}", replica=2)
    assert outcome == "hit"
    assert kept == (await stage.ask("GET", f"/threads/{thread}/messages/{message}", headers=FRESH))[0]


async def test_answers_that_differ_are_kept_apart(stage: Stage, talk: Talk) -> None:
    """By tenant, by query, by version of the protocol; the order of a query's parameters makes no difference."""
    path = f"/threads/{talk.thread}/messages"
    await stage.ask("GET", f"{path}?limit=1&order=asc")
    assert await stage.found(f"{path}?order=asc&limit=1") == "hit"
    assert await stage.found(f"{path}?order=desc&limit=1") == "miss"
    assert await stage.found(f"{path}?limit=1&order=asc", headers=V1) == "miss"
    older, outcome = await stage.ask("GET", f"{path}?limit=1&order=asc", headers=V1)
    assert (outcome, older["data"][0]["file_ids"]) == ("hit", [])
    status, _, _ = await stage.one.call("GET", f"/v1{path}?limit=1&order=asc", tenant="bob")
    assert status == 404


async def test_a_rotated_signing_key_spells_what_is_kept_anew(
    stage: Stage, talk: Talk, start_gateway: StartGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread keeps the spelling it was asked under, on old and new replicas alike."""
    path = f"/threads/{talk.thread}/messages"
    kept, _ = await stage.ask("GET", path)

    def rotated(settings: dict[str, Any]) -> None:
        prefix = f"caching-{id(stage.vendor)}"
        edit(cache__ttl_s=30, store__prefix=prefix)(settings)
        settings["signing_keys"] = ["${ALICE_IS_LONG_ENOUGH}", "${SIGNING_KEY}"]

    monkeypatch.setattr("tests.conftest.environ_for", _with_another_key)
    later = await start_gateway(stage.vendor, change=rotated)
    status, answer, headers = await later.call("GET", f"/v1{path}")
    assert (status, answer, headers["x-gateway-cache"]) == (200, kept, "hit")


def _with_another_key(vendors: Any) -> Mapping[str, str]:
    from tests.conftest import SIGNING_KEY, TENANT_KEYS

    keys = {f"{v.name.upper()}_{n}": key for v in vendors for n, key in enumerate(v.keys)}
    tenants = {name.upper(): key for name, key in TENANT_KEYS.items()}
    return {**keys, **tenants, "SIGNING_KEY": SIGNING_KEY, "ALICE_IS_LONG_ENOUGH": "a newer signing key"}


async def test_readers_at_once_ask_the_vendor_once(stage: Stage, talk: Talk) -> None:
    path = f"/threads/{talk.thread}/messages"
    release = asyncio.Event()
    stage.vendor.simulator.faults.add(faults.hold(release), path="/messages$")
    reads = [asyncio.create_task(stage.ask("GET", path)) for _ in range(20)]
    await stage.vendor.simulator.arrived(path="/messages$", method="GET")
    release.set()
    answers = await asyncio.gather(*reads)
    assert {outcome for _, outcome in answers} == {"miss"}
    assert all(answer == answers[0][0] for answer, _ in answers)
    assert stage.asked.count(f"GET /threads/{talk.thread[:-TAIL]}/messages") == 1


async def test_no_cache_asks_the_vendor_and_leaves_nothing_older_behind(stage: Stage, talk: Talk) -> None:
    """What changed elsewhere is seen at once by who asks for it, and from then on by all."""
    path = f"/threads/{talk.thread}"
    await stage.ask("GET", path)
    stage.world.threads.modify(talk.thread[:-TAIL], {"metadata": {"a": "new"}})
    assert (await stage.ask("GET", path))[0]["metadata"] == {}
    fresh, outcome = await stage.ask("GET", path, headers=FRESH, replica=2)
    assert (fresh["metadata"], outcome) == ({"a": "new"}, "bypass")
    assert (await stage.ask("GET", path))[0]["metadata"] == {"a": "new"}


async def test_failures_are_not_kept(stage: Stage, talk: Talk) -> None:
    path = f"/threads/{talk.thread}/messages"
    for status in (500, 404, 429):
        stage.vendor.simulator.faults.add(faults.status(status), method="GET", path="/messages", times=None)
        assert await stage.found(path, status=status) == "miss"
        stage.vendor.simulator.faults.clear()
    assert await stage.found(path) == "miss"


# --- what drops it -------------------------------------------------------------------------------------------------
WRITES = {
    "modify_thread": ("POST", "/threads/{thread}", {"metadata": {"a": "1"}}),
    "create_message": ("POST", "/threads/{thread}/messages", {"role": "user", "content": "more"}),
    "modify_message": ("POST", "/threads/{thread}/messages/{message}", {"metadata": {"a": "1"}}),
    "delete_message": ("DELETE", "/threads/{thread}/messages/{message}", None),
    "create_run": ("POST", "/threads/{thread}/runs", {"assistant_id": "{assistant}"}),
    "refused": ("POST", "/threads/{thread}/messages", {"role": "nobody", "content": "more"}),
}


@pytest.mark.parametrize("name", WRITES)
async def test_a_write_through_one_replica_drops_the_thread_for_all(stage: Stage, talk: Talk, name: str) -> None:
    method, path, body = WRITES[name]
    ids = {"thread": talk.thread, "message": talk.message, "assistant": talk.assistant}
    for replica in (1, 2):
        await stage.ask("GET", f"/threads/{talk.thread}/messages", replica=replica)
    assert await stage.found(f"/threads/{talk.thread}/messages") == "hit"
    sent = orjson.loads(orjson.dumps(body).decode().replace("{assistant}", talk.assistant))
    await stage.ask(method, path.format(**ids), sent, replica=2, status=400 if name == "refused" else 200)
    assert await stage.found(f"/threads/{talk.thread}/messages") in ("miss", "bypass")
    assert await stage.found(f"/assistants/{talk.assistant}") == "hit", "an assistant is no part of a thread"


async def test_a_changed_assistant_is_read_anew(stage: Stage, talk: Talk) -> None:
    path = f"/assistants/{talk.assistant}"
    await stage.ask("GET", path)
    await stage.ask("POST", path, {"name": "Ann"}, replica=2)
    assert (await stage.ask("GET", path))[0]["name"] == "Ann"
    await stage.ask("DELETE", path, replica=2)
    await stage.ask("GET", path, status=404)


UNKNOWN = {
    "cut after the work": faults.cut_before_answer(),
    "cut before the work": faults.cut_before_work(),
    "500": faults.status(500, applied=True),
}


@pytest.mark.parametrize("how", UNKNOWN)
async def test_after_a_write_of_unknown_outcome_nothing_is_kept(stage: Stage, talk: Talk, how: str) -> None:
    """It may still happen at any moment of the provider's total timeout."""
    path = f"/threads/{talk.thread}"
    await stage.ask("GET", path)
    stage.vendor.simulator.faults.add(UNKNOWN[how], method="POST")
    status, _, _ = await stage.one.call("POST", f"/v1{path}", {"metadata": {"a": "1"}})
    assert status >= 500
    for replica in (1, 2, 1, 2):
        assert await stage.found(path, replica=replica) == "bypass"


async def test_a_writer_who_leaves_leaves_an_unknown_outcome(stage: Stage, talk: Talk) -> None:
    path, release = f"/threads/{talk.thread}", asyncio.Event()
    await stage.ask("GET", path)
    stage.vendor.simulator.faults.add(faults.hold(release), method="POST")
    leaving = asyncio.create_task(stage.ask("POST", path, {"metadata": {"a": "1"}}))
    await stage.vendor.simulator.arrived(method="POST", path=f"{talk.thread[:-TAIL]}$")
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)

    async def is_blocked() -> bool:
        return await stage.found(path, replica=2) == "bypass"

    async with asyncio.timeout(5):
        while not await is_blocked():
            await asyncio.sleep(0.005)


# --- runs ------------------------------------------------------------------------------------------------------------
async def test_while_a_run_works_nothing_of_its_thread_is_kept(stage: Stage, talk: Talk) -> None:
    """A program that watches the messages sees the answer the moment it is there."""
    messages = f"/threads/{talk.thread}/messages"
    run = await stage.make(f"/threads/{talk.thread}/runs", {"assistant_id": talk.assistant})
    path = f"/threads/{talk.thread}/runs/{run}"
    assert [await stage.found(messages, replica=replica) for replica in (1, 2, 1)] == ["bypass"] * 3
    over = await stage.until_over(path)
    assert over["status"] == "completed"
    listed, outcome = await stage.ask("GET", messages, replica=2)
    assert (outcome, listed["data"][0]["role"]) == ("miss", "assistant")
    assert await stage.found(messages) == "hit"
    assert await stage.found(path) in ("miss", "hit")
    assert await stage.ask("GET", path, replica=2) == (over, "hit")
    steps = f"{path}/steps"
    assert [await stage.found(steps), await stage.found(steps, replica=2)] == ["miss", "hit"]
    [step] = (await stage.ask("GET", steps))[0]["data"]
    assert [await stage.found(f"{steps}/{step['id']}") for _ in range(2)] == ["miss", "hit"]


async def test_a_run_that_can_still_change_is_never_kept(stage: Stage, talk: Talk) -> None:
    tools = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
    body = {
        "assistant_id": talk.assistant,
        "tools": tools,
        "additional_messages": [{"role": "user", "content": "call add"}],
    }
    run = await stage.make(f"/threads/{talk.thread}/runs", body)
    path = f"/threads/{talk.thread}/runs/{run}"
    while (waiting := (await stage.ask("GET", path))[0])["status"] != "requires_action":
        pass
    assert [await stage.found(path), await stage.found(f"{path}/steps")] == ["bypass", "bypass"]
    call = waiting["required_action"]["submit_tool_outputs"]["tool_calls"][0]["id"]
    await stage.ask("POST", f"{path}/submit_tool_outputs", {"tool_outputs": [{"tool_call_id": call, "output": "3"}]})
    await stage.until_over(path)
    assert [await stage.found(path) for _ in range(2)] == ["miss", "hit"]


async def test_steps_are_kept_only_of_a_run_that_was_seen_to_be_over(stage: Stage, talk: Talk) -> None:
    run = await stage.make(f"/threads/{talk.thread}/runs", {"assistant_id": talk.assistant})
    path = f"/threads/{talk.thread}/runs/{run}"
    await stage.until_over(path)
    await stage.ask("POST", f"/threads/{talk.thread}", {"metadata": {}}, replica=2)
    assert [await stage.found(f"{path}/steps") for _ in range(2)] == ["miss", "miss"]


@pytest.mark.parametrize("path", ["/threads/{thread}/runs", "/threads/runs"])
async def test_a_stream_keeps_its_thread_out_until_its_run_is_over(stage: Stage, talk: Talk, path: str) -> None:
    """And what it said is there the moment it is done."""
    release = asyncio.Event()
    stage.vendor.simulator.faults.add(faults.stall_stream(3, release), method="POST", path="/runs$")
    headers = {"Authorization": "Bearer alice-key"}
    body: dict[str, Any] = {"assistant_id": talk.assistant, "stream": True}
    if path == "/threads/runs":
        body["thread"] = {"messages": [{"role": "user", "content": "hello"}]}
    url = stage.one.url + "/v1" + path.format(thread=talk.thread)
    async with stage.one.session.post(url, json=body, headers=headers) as response:
        begun = b""
        while b"thread.run.created" not in begun or not begun.endswith(b"\n\n"):
            begun += await response.content.readany()
        [run] = [event for event in EventParser().feed(begun) if event.name == "thread.run.created"]
        thread = orjson.loads(run.data or b"")["thread_id"]
        assert [await stage.found(f"/threads/{thread}/messages", replica=2) for _ in range(2)] == ["bypass"] * 2
        release.set()
        assert (await response.read()).endswith(b"event: done\ndata: [DONE]\n\n")
    listed, outcome = await stage.ask("GET", f"/threads/{thread}/messages", replica=2)
    assert (outcome, listed["data"][0]["role"]) == ("miss", "assistant")
    assert await stage.found(f"/threads/{thread}/messages") == "hit"


async def test_a_stream_that_says_nothing_of_a_run_leaves_an_unknown_outcome(stage: Stage, talk: Talk) -> None:
    stage.vendor.simulator.faults.add(faults.cut(0), method="POST", path="/runs$")
    body = {"assistant_id": talk.assistant, "stream": True}
    with pytest.raises(aiohttp.ClientPayloadError):
        await stage.one.call("POST", f"/v1/threads/{talk.thread}/runs", body)
    assert await stage.found(f"/threads/{talk.thread}/messages", replica=2) == "bypass"


async def test_a_message_that_is_being_written_is_not_kept(stage: Stage, talk: Talk) -> None:
    def say(status: bytes) -> Act:
        object_ = b'"object":"thread.message"'
        return faults.transform(lambda body: [body.replace(object_, object_ + b',"status":"' + status + b'"')])

    for path in (f"/threads/{talk.thread}/messages", f"/threads/{talk.thread}/messages/{talk.message}"):
        for status, expected in ((b"in_progress", ["miss", "miss"]), (b"completed", ["miss", "hit"])):
            await stage.ask("POST", f"/threads/{talk.thread}", {"metadata": {}})
            stage.vendor.simulator.faults.clear()
            stage.vendor.simulator.faults.add(say(status), method="GET", path="/messages", times=None)
            assert [await stage.found(path) for _ in range(2)] == expected


# --- without the store -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("fault", ["frozen", "killed"])
async def test_without_the_store_requests_go_on_and_the_cache_comes_back(
    start_vendor: StartVendor,
    start_gateway: StartGateway,
    own_valkey: OwnValkey,  # noqa: F811
    fault: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A request that waits loses 0.3 s at most; the best of three, for the machine may stand still meanwhile."""
    monkeypatch.setattr("gateway.store.server._REST_S", 0.05)
    vendor = await start_vendor("openai")
    change = edit(cache__ttl_s=30, store__url=own_valkey.url)
    gateway = await start_gateway(vendor, change=change)
    _, thread, _ = await gateway.call("POST", "/v1/threads", {})
    path = f"/v1/threads/{thread['id']}"

    async def read() -> tuple[str, float]:
        started = time.perf_counter()
        status, _, headers = await gateway.call("GET", path)
        assert status == 200
        return headers["x-gateway-cache"], time.perf_counter() - started

    first, later = [], []
    for _ in range(3 if fault == "frozen" else 1):
        assert (await read())[0] == "hit"
        if fault == "frozen":
            own_valkey.freeze()
        else:
            own_valkey.kill()
        outcome, waited_s = await read()
        assert outcome == "bypass"
        first.append(waited_s)
        outcome, waited_s = await read()
        assert outcome == "bypass"
        later.append(waited_s)
        status, _, _ = await gateway.call("POST", path, {"metadata": {"a": "1"}})
        assert status == 200
        if fault == "frozen":
            own_valkey.thaw()
        else:
            await own_valkey.start()
        async with asyncio.timeout(10):
            while (await read())[0] != "hit":
                await asyncio.sleep(0.02)
    assert min(first) < 0.35
    assert min(later) < 0.1
