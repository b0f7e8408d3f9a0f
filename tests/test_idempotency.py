"""Requests with an Idempotency-Key: whole gateways, two of them on one store, in front of vendors that fail."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import openai
import orjson
import pytest
from aiohttp import FormData, web
from redis import Redis
from ruamel.yaml import YAML

import gateway
from gateway.sse import EventParser
from tests.conftest import (
    Events,
    Running,
    StartGateway,
    StartVendor,
    Vendor,
    edit,
    environ_for,
    eventually,
    settings_for,
)
from tests.simulators import faults
from tests.simulators.faults import Act
from tests.store.conftest import OwnValkey, gate, own_valkey, plain  # noqa: F401
from tests.store.gate import Gate
from tests.test_attempts import say_nothing
from tests.test_passthrough import Elsewhere, elsewhere  # noqa: F401

_numbers = count()
ROOT = Path(gateway.__file__).parents[1]
V1 = {"OpenAI-Beta": "assistants=v1"}
MESSAGE = {"role": "user", "content": "hello"}
Told = tuple[int, Any, Mapping[str, str]]

# The SDK marks every Assistants method as deprecated, in words that vary.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@dataclass
class Stage:
    """Two replicas in front of one vendor."""

    vendor: Vendor
    one: Running
    two: Running
    plain: Any
    prefix: str

    async def post(
        self, path: str, body: Any = None, *, key: str = "key", replica: int = 1, headers: Any = (), **more: Any
    ) -> Told:
        gateway = self.one if replica == 1 else self.two
        return await gateway.call("POST", f"/v1{path}", body, headers={"Idempotency-Key": key, **dict(headers)}, **more)

    async def make(self, path: str, body: Any = None, **more: Any) -> str:
        """Without a key."""
        status, made, _ = await self.one.call("POST", f"/v1{path}", {} if body is None else body, **more)
        assert status == 200, made
        made_id: str = made["id"]
        return made_id

    @property
    def heard(self) -> int:
        """How many POSTs the vendor heard."""
        return sum(received.method == "POST" for received in self.vendor.simulator.journal)

    def fail(self, act: Act, path: str = "", times: int | None = 1) -> None:
        self.vendor.simulator.faults.add(act, method="POST", path=path, times=times)

    def age(self, seconds: float) -> None:
        """Let time pass for the records."""
        for record in self.plain.keys(f"{self.prefix}:idem:*"):
            for name in ("at", "until"):
                if (told := self.plain.hget(record, name)) is not None:
                    self.plain.hset(record, name, int(told) - int(seconds * 1000))


@pytest.fixture
async def stage(start_vendor: StartVendor, start_gateway: StartGateway, plain: Redis) -> Stage:  # noqa: F811
    vendor = await start_vendor("openai")
    prefix = f"idempotency-{next(_numbers)}"
    change = edit(
        store__prefix=prefix,
        limits={"buffer_bytes": 10_000},
        providers__openai__timeouts={"connect_s": 0.5, "first_byte_s": 5},
    )
    one, two = [await start_gateway(vendor, change=change) for _ in range(2)]
    return Stage(vendor, one, two, plain, prefix)


@pytest.fixture
async def thread(stage: Stage) -> str:
    thread = await stage.make("/threads", {"messages": [MESSAGE]})
    stage.vendor.simulator.journal.clear()
    return thread


def code(told: Told) -> tuple[int, str | None]:
    return told[0], told[1]["error"]["code"]


def never_again(told: Told) -> bool:
    """Whether the SDKs leave it at that."""
    return told[2].get("x-should-retry") == "false"


def form(content: bytes = b"a text", name: str = "a.txt") -> FormData:
    """Each time with another boundary."""
    form = FormData()
    form.add_field("purpose", "assistants")
    form.add_field("file", content, filename=name)
    return form


# --- the first answer -----------------------------------------------------------------------------------------------
async def test_a_repeat_gets_the_first_answer_from_every_replica(stage: Stage, events: Events) -> None:
    """Byte for byte, and the vendor hears of it once."""
    first = await stage.post("/threads", {"metadata": {"a": "b"}})
    assert (first[0], "idempotent-replayed" in first[2]) == (200, False)
    for replica in (2, 1, 2):
        status, answer, headers = await stage.post("/threads", {"metadata": {"a": "b"}}, replica=replica)
        assert (status, answer) == first[:2]
        assert headers["idempotent-replayed"] == "true"
        assert headers["x-request-id"] != first[2]["x-request-id"]
        assert headers["x-upstream-request-id"] == first[2]["x-upstream-request-id"]
    assert (stage.heard, stage.vendor.simulator.created["thread"]) == (1, 1)
    lines = events.named("request.done")
    assert [(line["idempotency"], line["status"], len(line["attempts"])) for line in lines] == [
        ("first", 200, 1),
        *[("repeat", 200, 0)] * 3,
    ]


POSTS: dict[str, tuple[str, Any]] = {
    "create_assistant": ("/assistants", {"model": "m"}),
    "modify_assistant": ("/assistants/{assistant}", {"name": "Ann"}),
    "create_thread": ("/threads", {"messages": [MESSAGE]}),
    "modify_thread": ("/threads/{thread}", {"metadata": {"a": "b"}}),
    "create_message": ("/threads/{thread}/messages", MESSAGE),
    "create_run": ("/threads/{thread}/runs", {"assistant_id": "{assistant}"}),
    "create_thread_and_run": ("/threads/runs", {"assistant_id": "{assistant}", "thread": {"messages": [MESSAGE]}}),
    "upload_file": ("/files", None),
    "create_vector_store": ("/vector_stores", {"name": "a"}),
    "no body at all": ("/threads", None),
}


@pytest.mark.parametrize("name", POSTS)
async def test_any_post_may_carry_a_key(stage: Stage, thread: str, name: str) -> None:
    assistant = await stage.make("/assistants", {"model": "m"})
    path, body = POSTS[name]
    ids = {"thread": thread, "assistant": assistant}
    body = orjson.loads(orjson.dumps(body).replace(b"{assistant}", assistant.encode()))
    heard = stage.heard
    first, again = [
        await stage.post(path.format(**ids), body, replica=replica, data=form() if path == "/files" else None)
        for replica in (1, 2)
    ]
    assert first[0] == 200, first
    assert again[:2] == first[:2]
    assert again[2]["idempotent-replayed"] == "true"
    assert stage.heard == heard + 1


async def test_what_a_v1_caller_asks_in_several_calls_is_done_once(stage: Stage) -> None:
    _, file, _ = await stage.one.call("POST", "/v1/files", data=form())
    assistant = await stage.make("/assistants", {"model": "m", "tools": [{"type": "retrieval"}]}, headers=V1)
    path, body = f"/assistants/{assistant}/files", {"file_id": file["id"]}
    first = await stage.post(path, body, headers=V1)
    heard = len(stage.vendor.simulator.journal)
    again = await stage.post(path, body, headers=V1, replica=2)
    assert (first[0], again[:2]) == (200, first[:2])
    assert len(stage.vendor.simulator.journal) == heard


async def test_after_a_day_the_key_is_new(stage: Stage) -> None:
    _, first, _ = await stage.post("/threads", {})
    stage.age(86_390)
    assert (await stage.post("/threads", {}))[1] == first
    stage.age(11)
    status, second, headers = await stage.post("/threads", {})
    assert (status, "idempotent-replayed" in headers) == (200, False)
    assert second["id"] != first["id"]


async def test_reads_and_deletions_have_no_use_for_a_key(stage: Stage, thread: str) -> None:
    headers = {"Idempotency-Key": "key"}
    for method, path, status in (
        ("GET", f"/v1/threads/{thread}", 200),
        ("GET", "/v1/assistants", 200),
        ("DELETE", f"/v1/threads/{thread}", 200),
        ("DELETE", f"/v1/threads/{thread}", 404),
    ):
        assert (await stage.one.call(method, path, headers=headers))[0] == status
    assert stage.plain.keys(f"{stage.prefix}:idem:*") == []


BAD_KEYS = {"empty": [""], "too long": ["k" * 256], "not ASCII": ["schlüssel"], "a tab": ["a\tb"], "two": ["a", "b"]}


@pytest.mark.parametrize("name", BAD_KEYS)
async def test_what_cannot_be_a_key_is_refused(stage: Stage, name: str) -> None:
    headers = [("Authorization", "Bearer alice-key"), *(("Idempotency-Key", value) for value in BAD_KEYS[name])]
    async with stage.one.session.post(stage.one.url + "/v1/threads", json={}, headers=headers) as response:
        error = (await response.json())["error"]
        assert (response.status, error["param"], error["code"]) == (400, "Idempotency-Key", "invalid_value")
    assert stage.heard == 0


async def test_a_key_may_be_long_and_odd(stage: Stage) -> None:
    for key in ("k" * 255, '"quoted: {}"', "a b", "~", "*"):
        first, again = [await stage.post("/threads", {}, key=key, replica=replica) for replica in (1, 2)]
        assert (first[0], again[:2]) == (200, first[:2])
    assert stage.heard == 5


# --- the same key, another request ------------------------------------------------------------------------------------
async def test_another_request_with_the_key_is_refused(stage: Stage, thread: str) -> None:
    path = f"/threads/{thread}/messages"
    assert (await stage.post(path, MESSAGE))[0] == 200
    other = await stage.make("/threads")
    heard = stage.heard
    for told in (
        await stage.post(path, {**MESSAGE, "content": "hello!"}),
        await stage.post(path, {**MESSAGE, "metadata": {}}, replica=2),
        await stage.post(f"/threads/{other}/messages", MESSAGE),
        await stage.post(f"/threads/{thread}", MESSAGE),
        await stage.post("/threads", {}),
        await stage.post(f"{path}?include[]=x", MESSAGE),
        await stage.post(path, MESSAGE, headers=V1),
    ):
        assert code(told) == (422, "idempotency_key_reused")
        assert never_again(told)
    assert stage.heard == heard


async def test_the_same_json_written_otherwise_is_the_same_request(stage: Stage, thread: str) -> None:
    """Some languages write an object's names in another order each time."""
    path = f"/threads/{thread}/messages"
    headers = {"Content-Type": "application/json"}
    bodies = (
        b'{"role":"user","content":"hello","metadata":{"a":"1","b":"2"}}',
        b'{ "metadata": {"b": "2", "a": "1"}, "content": "h\\u0065llo", "role": "user" }',
    )
    first, again = [await stage.post(path, data=body, headers=headers) for body in bodies]
    assert (first[0], again[:2]) == (200, first[:2])
    assert stage.heard == 1
    for body in (b'{"metadata":{"n":12345678901234567890123,"a":"\\ud800"},"a":1}',):
        for _ in range(2):
            assert (await stage.post("/threads", data=body, headers=headers, key="odd"))[0] in (200, 400)
    assert stage.heard == 2


async def test_tenants_have_keys_of_their_own(stage: Stage) -> None:
    made = [await stage.post("/threads", {}, tenant=tenant) for tenant in ("alice", "bob", "carol")]
    assert [status for status, _, _ in made] == [200] * 3
    assert len({answer["id"] for _, answer, _ in made}) == 3
    assert not any("idempotent-replayed" in headers for _, _, headers in made)
    assert (await stage.post("/threads", {"metadata": {}}, tenant="bob", key="other"))[0] == 200
    assert code(await stage.post("/threads", {"metadata": {}}, tenant="bob")) == (422, "idempotency_key_reused")


@pytest.mark.parametrize("content", [b"a text", b"\r\n--x" * 10_000], ids=["in memory", "on disk"])
async def test_a_form_counts_by_its_parts(stage: Stage, content: bytes) -> None:
    """Clients draw another boundary for each attempt."""
    first = await stage.post("/files", data=form(content))
    again = await stage.post("/files", data=form(content), replica=2)
    assert (first[0], again[:2]) == (200, first[:2])
    assert again[2]["idempotent-replayed"] == "true"
    one, *_ = stage.vendor.simulator.journal
    assert (stage.heard, one.method) == (1, "POST")
    for other in (form(content + b"!"), form(content, "b.txt")):
        assert code(await stage.post("/files", data=other)) == (422, "idempotency_key_reused")


# --- refusals ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("status", [400, 404, 413, 415, 422])
async def test_a_refusal_of_the_body_is_kept(stage: Stage, thread: str, status: int) -> None:
    stage.fail(faults.status(status), times=None)
    path = f"/threads/{thread}/messages"
    first = await stage.post(path, MESSAGE)
    heard = stage.heard
    again = await stage.post(path, MESSAGE, replica=2)
    assert (first[0], again[:2]) == (status, first[:2])
    assert again[2]["idempotent-replayed"] == "true"
    assert stage.heard == heard


async def test_a_refusal_as_large_as_a_book_is_asked_for_again(stage: Stage) -> None:
    stage.fail(faults.status(400, {"error": {"message": "no", "more": "x" * 300_000}}), times=2)
    first, again = [await stage.post("/threads", {}) for _ in range(2)]
    assert (first[0], again[:2], "idempotent-replayed" in again[2]) == (400, first[:2], False)
    assert stage.heard == 2


async def test_so_is_one_of_the_gateway_itself(stage: Stage, thread: str) -> None:
    """Of what a v1 caller cannot ask for, say."""
    body = {"model": "m", "file_ids": ["file-1"], "tool_resources": {"code_interpreter": {"file_ids": []}}}
    first, again = [await stage.post("/assistants", body, headers=V1, replica=replica) for replica in (1, 2)]
    assert first[0] in (400, 404)
    assert again[:2] == first[:2]
    assert stage.heard == 0


@pytest.mark.parametrize("status", [401, 403, 429, 302])
async def test_a_refusal_for_another_reason_leaves_the_key_free(stage: Stage, thread: str, status: int) -> None:
    """Keys, limits and permissions change; nothing was carried out."""
    stage.fail(faults.status(status), times=2)
    path = f"/threads/{thread}/messages"
    assert (await stage.post(path, MESSAGE))[0] in (status, 502)
    stage.vendor.simulator.faults.clear()
    for app in (stage.one.app, stage.two.app):  # keys that were refused rest
        assert app.shared is not None
        for pool in app.pools.values():
            for each in pool.target.account.keys:
                app.shared.keys.revive(pool.place(each))
    again = await stage.post(path, {**MESSAGE, "content": "even another"}, replica=2)
    assert (again[0], "idempotent-replayed" in again[2]) == (200, False)


async def test_a_thread_that_is_locked_is_asked_again(stage: Stage, thread: str) -> None:
    """Programs wait for the run and repeat."""
    tools = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
    await stage.make(f"/threads/{thread}/messages", {"role": "user", "content": "call add"})
    assistant = await stage.make("/assistants", {"model": "m", "tools": tools})
    run = await stage.make(f"/threads/{thread}/runs", {"assistant_id": assistant})
    for path, body in (("messages", MESSAGE), ("runs", {"assistant_id": assistant})):
        status, answer, _ = await stage.post(f"/threads/{thread}/{path}", body, key=path)
        assert (status, "active" in answer["error"]["message"]) == (400, True)
    path = f"/v1/threads/{thread}/runs/{run}"
    await stage.one.call("POST", f"{path}/cancel")
    while (await stage.one.call("GET", path))[1]["status"] != "cancelled":
        pass
    assert (await stage.post(f"/threads/{thread}/messages", MESSAGE, key="messages"))[0] == 200


async def test_what_never_arrived_leaves_the_key_free(stage: Stage, thread: str) -> None:
    path = f"/threads/{thread}/messages"
    await stage.vendor.simulator.refuse()
    assert code(await stage.post(path, MESSAGE)) == (502, "provider_unreachable")
    await stage.vendor.simulator.allow()
    assert (await stage.post(path, MESSAGE, replica=2))[0] == 200
    assert (await stage.post(path, MESSAGE))[2]["idempotent-replayed"] == "true"


# --- outcomes nobody knows --------------------------------------------------------------------------------------------
UNKNOWN: dict[str, Act] = {
    "cut after the work": faults.cut_before_answer(),
    "cut before the work": faults.cut_before_work(),
    "cut in the answer": faults.cut(10),
    "HTML": faults.garbage(b"<html>all is well</html>"),
    **{str(status): faults.status(status, applied=True) for status in (408, 409, 500, 502, 503)},
}


@pytest.mark.parametrize("how", UNKNOWN)
async def test_an_unknown_outcome_is_never_sent_again(stage: Stage, thread: str, how: str) -> None:
    """Its caller is told where to look, by every replica."""
    stage.fail(UNKNOWN[how])
    path = f"/threads/{thread}/messages"
    first = await stage.post(path, MESSAGE)
    assert first[0] == int(how) if how.isdigit() else code(first)[1] == "outcome_unknown"
    assert never_again(first)
    for replica in (1, 2, 1):
        told = await stage.post(path, MESSAGE, replica=replica)
        assert code(told) == (409, "outcome_unknown")
        assert f"thread '{thread}'" in told[1]["error"]["message"]
        assert never_again(told)
    assert stage.heard == 1
    assert (await stage.post(path, MESSAGE, key="another"))[0] == 200


async def test_one_that_timed_out_is_unknown_too(start_vendor: StartVendor, start_gateway: StartGateway) -> None:
    vendor = await start_vendor("openai")
    gateway = await start_gateway(
        vendor, change=edit(providers__openai__timeouts={"first_byte_s": 0.1, "connect_s": 0.2})
    )
    vendor.simulator.faults.add(say_nothing())
    headers = {"Idempotency-Key": "key"}
    assert code(await gateway.call("POST", "/v1/threads", {}, headers=headers)) == (504, "outcome_unknown")
    told = await gateway.call("POST", "/v1/threads", {}, headers=headers)
    assert code(told) == (409, "outcome_unknown")
    assert "look at what there is" in told[1]["error"]["message"]
    assert len(vendor.simulator.journal) == 1


async def test_the_innermost_object_is_the_place_to_look(stage: Stage, thread: str) -> None:
    assistant = await stage.make("/assistants", {"model": "m"})
    run = await stage.make(f"/threads/{thread}/runs", {"assistant_id": assistant})
    stage.fail(faults.status(500))
    path, body = f"/threads/{thread}/runs/{run}", {"metadata": {"a": "b"}}
    await stage.post(path, body)
    _, answer, _ = await stage.post(path, body)
    assert f"run '{run}'" in answer["error"]["message"]


# --- while the first is in work ---------------------------------------------------------------------------------------
async def test_repeats_wait_for_the_first_and_get_its_answer(stage: Stage, thread: str) -> None:
    release = asyncio.Event()
    stage.fail(faults.hold(release))
    path = f"/threads/{thread}/messages"
    asking = [asyncio.create_task(stage.post(path, MESSAGE, replica=1 + number % 2)) for number in range(20)]
    await stage.vendor.simulator.arrived(path="/messages$", method="POST")
    assert code(await stage.post(path, {**MESSAGE, "content": "other"})) == (422, "idempotency_key_reused")
    release.set()
    told = await asyncio.gather(*asking)
    assert {status for status, _, _ in told} == {200}
    assert len({answer["id"] for _, answer, _ in told}) == 1
    assert sum("idempotent-replayed" in headers for _, _, headers in told) == 19
    assert stage.heard == 1


async def test_those_who_wait_for_what_never_arrived_try_it_themselves(stage: Stage, thread: str) -> None:
    """One of them, and the others wait for that one."""
    release, path = asyncio.Event(), f"/threads/{thread}/messages"

    async def refuse(exchange: faults.Exchange) -> web.StreamResponse:
        await release.wait()
        return await faults.status(403)(exchange)

    stage.fail(refuse)
    asking = [asyncio.create_task(stage.post(path, MESSAGE, replica=1 + number % 2)) for number in range(6)]
    await stage.vendor.simulator.arrived(path="/messages$", method="POST")
    release.set()
    told = await asyncio.gather(*asking)
    assert sorted(status for status, _, _ in told) == [200] * 5 + [403]
    assert stage.heard == 2


async def test_a_repeat_does_not_wait_for_ever(start_vendor: StartVendor, start_gateway: StartGateway) -> None:
    """It is told to ask again, and the SDKs do."""
    vendor, release = await start_vendor("openai"), asyncio.Event()
    gateway = await start_gateway(vendor, change=edit(idempotency__wait_s=0.05))
    vendor.simulator.faults.add(faults.hold(release))
    headers = {"Idempotency-Key": "key"}
    first = asyncio.create_task(gateway.call("POST", "/v1/threads", {}, headers=headers))
    await vendor.simulator.arrived()
    told = await gateway.call("POST", "/v1/threads", {}, headers=headers)
    assert code(told) == (409, "request_in_progress")
    assert (told[2]["retry-after"], "x-should-retry" in told[2]) == ("1", False)
    release.set()
    assert (await first)[0] == 200
    assert (await gateway.call("POST", "/v1/threads", {}, headers=headers))[1] == (await first)[1]


@pytest.mark.parametrize("upload", [False, True])
async def test_a_request_goes_on_when_its_caller_leaves(stage: Stage, events: Events, upload: bool) -> None:
    """Who loses a connection is who will ask again. Its line in the log says all that happened."""
    release = asyncio.Event()
    path = "/files" if upload else "/threads"

    def ask(replica: int) -> asyncio.Task[Told]:
        body: Any
        data, body = (form(b"x" * 50_000), None) if upload else (None, {"metadata": {}})
        return asyncio.create_task(stage.post(path, body, replica=replica, data=data))

    stage.fail(faults.hold(release))
    leaving = ask(1)
    received = await stage.vendor.simulator.arrived(path=f"{path}$", method="POST")
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    again = ask(2)
    await asyncio.sleep(0.05)
    assert received.ending == ""
    release.set()
    status, answer, headers = await again
    assert (status, headers["idempotent-replayed"]) == (200, "true")
    assert answer["id"]
    await eventually(lambda: len(events.named("request.done")) == 2)
    [line] = [line for line in events.named("request.done") if line["idempotency"] == "first"]
    assert (line["outcome"], [attempt["status"] for attempt in line["attempts"]]) == ("caller_left", [200])
    assert stage.heard == 1


async def test_a_caller_who_leaves_before_anything_was_sent_leaves_the_key_free(
    stage: Stage,
    start_gateway: StartGateway,
    gate: Gate,  # noqa: F811
    events: Events,
) -> None:
    """At once: its repeat need not wait for any lease."""
    slow = await start_gateway(stage.vendor, change=edit(store={"url": gate.url, "prefix": stage.prefix}))
    gate.hold()
    before = len(gate.commands)
    headers = {"Idempotency-Key": "key"}
    leaving = asyncio.create_task(slow.call("POST", "/v1/threads", {}, headers=headers))
    await gate.until(lambda gate: any(b"EVAL" in command for command in gate.commands[before:]))
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    await eventually(lambda: bool(events.named("request.done")))
    gate.release()
    async with asyncio.timeout(5):
        assert (await stage.post("/threads", {}))[0] == 200
    assert stage.heard == 1


async def test_a_replica_that_stops_leaves_an_unknown_outcome(stage: Stage, thread: str) -> None:
    """Whether its caller is still there or has left."""
    path = f"/threads/{thread}/messages"
    stage.fail(say_nothing(), times=2)
    asking = [asyncio.create_task(stage.post(path, MESSAGE, key=key)) for key in ("stays", "leaves")]
    await stage.vendor.simulator.arrived(2, path="/messages$", method="POST")
    asking[1].cancel()
    await asyncio.gather(asking[1], return_exceptions=True)
    await stage.one.app.stop(grace_s=0.1)
    await asyncio.gather(*asking, return_exceptions=True)
    for key in ("stays", "leaves"):
        assert code(await stage.post(path, MESSAGE, key=key, replica=2)) == (409, "outcome_unknown")
    assert stage.heard == 2


async def test_a_replica_that_dies_leaves_an_unknown_outcome(
    stage: Stage,
    thread: str,
    start_gateway: StartGateway,
    gate: Gate,  # noqa: F811
    events: Events,
) -> None:
    """When its lease has run out. Dead or out of the store's reach: from outside it is the same, but this one lives
    and still gives its caller the answer."""
    cut_off = await start_gateway(
        stage.vendor, change=edit(store={"url": gate.url, "prefix": stage.prefix, "timeout_s": 0.2})
    )
    release, path = asyncio.Event(), f"/threads/{thread}/messages"
    stage.fail(faults.hold(release))
    headers = {"Idempotency-Key": "key"}
    first = asyncio.create_task(cut_off.call("POST", f"/v1{path}", MESSAGE, headers=headers))
    await stage.vendor.simulator.arrived(path="/messages$", method="POST")
    await gate.stop()
    waiting = asyncio.create_task(stage.post(path, MESSAGE))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    stage.age(31)
    assert code(await waiting) == (409, "outcome_unknown")
    release.set()
    assert (await first)[0] == 200
    [lost] = events.named("idempotency.lost")
    assert (lost["tenant"], lost["level"]) == ("alice", "warning")
    assert code(await stage.post(path, MESSAGE)) == (409, "outcome_unknown")
    assert stage.heard == 1


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_happens_nothing_is_done_twice(stage: Stage, seed: int) -> None:
    """Many callers repeat a few requests through both replicas, some leave, and the vendor fails in every way. Those
    who get an answer get the same one."""
    chance = random.Random(seed)
    acts = [faults.status(403), faults.status(429), faults.cut_before_answer(), faults.status(500, applied=True)]
    for act in chance.choices(acts, k=8):
        stage.fail(act)

    async def ask(key: str) -> Told:
        await asyncio.sleep(chance.random() / 20)
        return await stage.post("/threads", {"metadata": {"key": key}}, key=key, replica=chance.choice((1, 2)))

    asking = [(key, asyncio.create_task(ask(key))) for key in chance.choices("abcdef", k=60)]
    await asyncio.sleep(0.02)
    for _, task in chance.sample(asking, 15):
        task.cancel()
    await asyncio.gather(*(task for _, task in asking), return_exceptions=True)
    made = [thread.json["metadata"]["key"] for thread in stage.vendor.simulator.worlds["acme"].threads._shelf]
    assert len(made) == len(set(made))
    answers: dict[str, set[str]] = {}
    for key, task in asking:
        if not task.cancelled() and task.result()[0] == 200:
            answers.setdefault(key, set()).add(task.result()[1]["id"])
    assert answers
    assert {len(ids) for ids in answers.values()} == {1}


async def test_a_process_that_is_killed_leaves_an_unknown_outcome(
    stage: Stage, thread: str, valkey: str, tmp_path: Path
) -> None:
    """In the middle of a request, without a word."""
    settings = settings_for([stage.vendor], valkey)
    edit(store__prefix=stage.prefix)(settings)
    config = tmp_path / "gateway.yaml"
    with config.open("w") as file:
        YAML(typ="safe", pure=True).dump(settings, file)
    run = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from gateway import cli; cli.main(sys.argv[1:])"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", run, "serve", "--config", str(config)),
        env={**os.environ, **environ_for([stage.vendor])},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    async with asyncio.timeout(20):
        while (line := orjson.loads(await process.stderr.readline()))["event"] != "gateway.started":
            pass
    stage.fail(say_nothing())
    path, headers = f"/threads/{thread}/messages", {"Authorization": "Bearer alice-key", "Idempotency-Key": "key"}
    asking = asyncio.create_task(stage.one.session.post(f"{line['url']}/v1{path}", json=MESSAGE, headers=headers))
    await stage.vendor.simulator.arrived(path="/messages$", method="POST")
    process.kill()
    await process.communicate()
    with pytest.raises(aiohttp.ClientError):
        await asking
    waiting = asyncio.create_task(stage.post(path, MESSAGE))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    stage.age(31)
    assert code(await waiting) == (409, "outcome_unknown")
    assert stage.heard == 1


# --- what is not kept -------------------------------------------------------------------------------------------------
async def test_of_a_large_answer_the_ids_are_kept(stage: Stage, thread: str) -> None:
    path = f"/threads/{thread}/messages"
    for size, is_kept in ((250_000, True), (256 * 1024, False)):
        body = {"role": "user", "content": "x" * size}
        first = await stage.post(path, body, key=str(size))
        assert first[0] == 200
        told = await stage.post(path, body, key=str(size), replica=2)
        if is_kept:
            assert told[:2] == first[:2]
        else:
            assert code(told) == (409, "answer_not_kept")
            assert f"id '{first[1]['id']}', thread_id '{thread}'" in told[1]["error"]["message"]
            assert never_again(told)
    assert stage.heard == 2
    assert sum(stage.plain.memory_usage(key) for key in stage.plain.keys(f"{stage.prefix}:idem:*")) < 400_000


@pytest.mark.parametrize("path", ["/threads/{thread}/runs", "/threads/runs"])
async def test_a_stream_is_told_by_its_run(stage: Stage, thread: str, path: str) -> None:
    """From its first event on: a repeat need not wait for its end."""
    body: dict[str, Any] = {"assistant_id": await stage.make("/assistants", {"model": "m"}), "stream": True}
    if path == "/threads/runs":
        body["thread"] = {"messages": [MESSAGE]}
    release, path, heard = asyncio.Event(), path.format(thread=thread), stage.heard
    stage.fail(faults.stall_stream(3, release), path="/runs$")
    headers = {"Authorization": "Bearer alice-key", "Idempotency-Key": "key"}
    async with stage.one.session.post(f"{stage.one.url}/v1{path}", json=body, headers=headers) as response:
        assert response.status == 200
        begun = b""
        while b"thread.run.created" not in begun or not begun.endswith(b"\n\n"):
            begun += await response.content.readany()
        [event] = [event for event in EventParser().feed(begun) if event.name == "thread.run.created"]
        run = orjson.loads(event.data or b"")["id"]
        during = await stage.post(path, body, replica=2)
        release.set()
        assert (await response.read()).endswith(b"event: done\ndata: [DONE]\n\n")
    for told in (during, await stage.post(path, body), await stage.post(path, body, replica=2)):
        assert code(told) == (409, "stream_not_replayable")
        assert f"run '{run}'" in told[1]["error"]["message"]
        assert never_again(told)
    assert stage.heard == heard + 1


async def test_a_stream_whose_caller_leaves_is_told_by_its_run(stage: Stage, thread: str) -> None:
    body = {"assistant_id": await stage.make("/assistants", {"model": "m"}), "stream": True}
    path = f"/threads/{thread}/runs"
    stage.fail(faults.stall_stream(3, asyncio.Event()), path="/runs$")
    headers = {"Authorization": "Bearer alice-key", "Idempotency-Key": "key"}
    async with stage.one.session.post(f"{stage.one.url}/v1{path}", json=body, headers=headers) as response:
        await response.content.readuntil(b"\n\n")
        response.close()
    assert code(await stage.post(path, body)) == (409, "stream_not_replayable")


@pytest.mark.parametrize("how", ["no event", "no stream", "no headers"])
async def test_a_stream_that_told_of_no_run_is_unknown(stage: Stage, thread: str, how: str) -> None:
    body = {"assistant_id": await stage.make("/assistants", {"model": "m"}), "stream": True}
    path, heard = f"/threads/{thread}/runs", stage.heard
    acts = {"no event": faults.cut(0), "no stream": faults.garbage(b"<p>"), "no headers": faults.cut_before_answer()}
    stage.fail(acts[how])
    if how == "no event":
        with pytest.raises(aiohttp.ClientPayloadError):
            await stage.post(path, body)
    else:
        assert code(await stage.post(path, body)) == (504, "outcome_unknown")
    assert code(await stage.post(path, body, replica=2)) == (409, "outcome_unknown")
    assert stage.heard == heard + 1


async def test_a_stream_whose_caller_leaves_before_the_first_event_is_unknown(stage: Stage, thread: str) -> None:
    """Whatever the gateway still hears of its run: there is nobody to stream to."""
    body = {"assistant_id": await stage.make("/assistants", {"model": "m"}), "stream": True}
    path = f"/threads/{thread}/runs"
    stage.fail(faults.hold(asyncio.Event()))
    leaving = asyncio.create_task(stage.post(path, body))
    await stage.vendor.simulator.arrived(path="/runs$", method="POST")
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    assert code(await stage.post(path, body)) == (409, "outcome_unknown")


async def test_a_refused_stream_is_a_refusal(stage: Stage, thread: str) -> None:
    body = {"assistant_id": await stage.make("/assistants", {"model": "m"}), "stream": True}
    stage.fail(faults.status(400))
    first, again = [await stage.post(f"/threads/{thread}/runs", body) for _ in range(2)]
    assert (first[0], again[:2], again[2]["idempotent-replayed"]) == (400, first[:2], "true")


# --- paths that pass through ------------------------------------------------------------------------------------------
async def test_what_passes_through_has_keys_too(
    elsewhere: Elsewhere,  # noqa: F811
    start_vendor: StartVendor,
    start_gateway: StartGateway,
) -> None:
    """JSON is given again, and what went by in pieces is not."""
    change = edit(
        providers__openai__base_url=elsewhere.url + "/v1",
        providers__openai__passthrough=["chat/completions", "embeddings", "audio/*"],
    )
    gateway = await start_gateway(await start_vendor("openai"), change=change)

    async def answer(request: web.Request) -> web.StreamResponse:
        number = len(elsewhere.heard)
        if request.path.endswith("speech"):
            return web.Response(body=bytes([number]), content_type="audio/mpeg")
        if b"stream" in await request.read():
            return web.Response(body=b'data: {"n": 1}\n\ndata: [DONE]\n\n', content_type="text/event-stream")
        return web.json_response({"n": number}, status=400 if b"bad" in await request.read() else 200)

    elsewhere.answer = answer

    async def twice(path: str, body: Any) -> list[Told]:
        headers = {"Idempotency-Key": path + str(body)}
        return [await gateway.call("POST", f"/v1/{path}", body, headers=headers) for _ in range(2)]

    for path, body, status in (
        ("chat/completions", {"model": "m"}, 200),
        ("embeddings", {"model": "m"}, 200),
        ("embeddings", {"model": "bad"}, 400),
    ):
        first, again = await twice(path, body)
        assert (first[0], again[:2], again[2]["idempotent-replayed"]) == (status, first[:2], "true")
    for path, asked in (("chat/completions", {"stream": True}), ("audio/speech", {"input": True})):
        first, again = await twice(path, asked)
        assert first[0] == 200
        assert code(again) == (409, "stream_not_replayable")
    assert len(elsewhere.heard) == 5


# --- without the store ------------------------------------------------------------------------------------------------
async def test_without_the_store_no_key_can_be_honoured(
    start_vendor: StartVendor,
    start_gateway: StartGateway,
    own_valkey: OwnValkey,  # noqa: F811
) -> None:
    """And nothing is sent; what has no key goes on. The SDKs ask again by themselves."""
    vendor = await start_vendor("openai")
    gateway = await start_gateway(vendor, change=edit(store__url=own_valkey.url))
    headers = {"Idempotency-Key": "key"}
    _, first, _ = await gateway.call("POST", "/v1/threads", {}, headers=headers)
    own_valkey.kill()
    for _ in range(2):
        told = await gateway.call("POST", "/v1/threads", {}, headers=headers)
        assert code(told) == (503, "store_unavailable")
        assert (told[2]["retry-after"], "x-should-retry" in told[2]) == ("1", False)
    assert len(vendor.simulator.journal) == 1
    assert (await gateway.call("POST", "/v1/threads", {}))[0] == 200
    await own_valkey.start()

    async def again() -> Told:
        return await gateway.call("POST", "/v1/threads", {}, headers=headers)

    async with asyncio.timeout(10):
        while (told := await again())[0] == 503:
            await asyncio.sleep(0.02)
    assert told[:2] == (200, first), "the store has what it had acknowledged"


# --- the official SDK -------------------------------------------------------------------------------------------------
async def test_the_sdk_repeats_what_it_lost_and_gets_the_first_answer(stage: Stage) -> None:
    """It sends the same key with each attempt and counts them itself."""
    release = asyncio.Event()
    stage.fail(faults.hold(release))
    key = {"Idempotency-Key": "from-the-program"}
    async with stage.one.sdk(max_retries=2, timeout=0.3) as client:
        making = asyncio.create_task(client.beta.threads.create(metadata={"a": "b"}, extra_headers=key))
        received = await stage.vendor.simulator.arrived(path="/threads$", method="POST")
        await asyncio.sleep(0.4)  # its patience ends
        release.set()
        made = await making
    assert made.metadata == {"a": "b"}
    assert received.headers["x-stainless-retry-count"] == "0"
    assert (stage.heard, stage.vendor.simulator.created["thread"]) == (1, 1)


async def test_the_sdk_leaves_an_unknown_outcome_alone(stage: Stage) -> None:
    """However many repeats it is allowed, and when the program asks again."""
    stage.fail(faults.cut_before_answer(), times=None)
    key = {"Idempotency-Key": "from-the-program"}
    async with stage.one.sdk(max_retries=3) as client:
        with pytest.raises(openai.InternalServerError) as first:
            await client.beta.threads.create(extra_headers=key)
        with pytest.raises(openai.ConflictError) as again:
            await client.beta.threads.create(extra_headers=key)
        with pytest.raises(openai.UnprocessableEntityError):
            await client.beta.threads.create(metadata={"a": "b"}, extra_headers=key)
    assert (first.value.code, again.value.code) == ("outcome_unknown", "outcome_unknown")
    assert stage.heard == 1


async def test_the_sdk_sends_no_key_unless_it_is_told_to(stage: Stage) -> None:
    """It makes one for every POST, and has no name for the header (openai-python 3.54.0). A program that gives it the
    name has keys for all its attempts."""
    async with stage.one.sdk() as client:
        await client.beta.threads.create()
        assert stage.plain.keys(f"{stage.prefix}:idem:*") == []
        client._idempotency_header = "Idempotency-Key"
        await client.beta.threads.create()
        await client.beta.threads.create()
    assert len(stage.plain.keys(f"{stage.prefix}:idem:*")) == 2
    assert stage.vendor.simulator.created["thread"] == 3
