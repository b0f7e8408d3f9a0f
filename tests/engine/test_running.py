"""No run is lost: replicas die, stop and freeze, the store goes away, callers are cut off; each run ends once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import openai
import pytest
from redis.exceptions import BusyLoadingError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeout

from gateway.ending import end
from gateway.engine.job import Job
from gateway.engine.store.leases import Expired, Taken
from gateway.engine.store.messages import Messages
from gateway.engine.store.results import Claim
from gateway.sse import Event, EventParser
from gateway.store.connection import StoreAway
from tests.conftest import TENANT_KEYS, Events, Running, edit, eventually
from tests.engine.conftest import Stage, StartServing
from tests.engine.scripted_model import ScriptedModel, calls, says, text
from tests.engine.test_serving import gated, run_of, texts
from tests.store.conftest import OwnValkey

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the SDK marks every Assistants method so


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases of half a second, so that a dead replica is missed soon."""
    monkeypatch.setattr("gateway.engine.store.stored.LEASE_S", 0.5)
    for name in ("_RENEW_S", "_SWEEP_S"):
        monkeypatch.setattr(f"gateway.engine.running.{name}", 0.1)


async def make(gateway: Running, **more: Any) -> tuple[str, str]:
    """A thread with a message, and an assistant."""
    async with gateway.sdk() as sdk:
        assistant = await sdk.beta.assistants.create(model="m-1", **more)
        thread = await sdk.beta.threads.create(messages=[{"role": "user", "content": "Hi"}])
        return thread.id, assistant.id


class Listener:
    """One who listens to a stream, and may be cut off at any event."""

    def __init__(self, gateway: Running, method: str, path: str, body: Any = None, **headers: str) -> None:
        self.gateway = gateway
        self.method, self.path, self.body = method, path, body
        self.headers = {"Authorization": f"Bearer {TENANT_KEYS['alice']}", **headers}
        self.events: list[Event] = []
        self.answered: dict[str, str] = {}

    @property
    def last_id(self) -> str:
        return self.events[-1].others[0].decode().removeprefix("id: ")

    @property
    def names(self) -> list[str]:
        return [event.name for event in self.events]

    async def listen(self, *, until: str = "done", count: int = 1) -> Listener:
        """Until so many events of a name have come, or to the end."""
        session, parser = self.gateway.session, EventParser()
        url = self.gateway.url + self.path
        async with session.request(self.method, url, json=self.body, headers=self.headers) as response:
            assert response.status == 200, await response.text()
            self.answered = dict(response.headers)
            async for piece in response.content.iter_any():
                for event in parser.feed(piece):
                    self.events += [event] if event.data is not None else []
                    if self.names.count(until) == count:
                        return self
        return self


async def abandon(gateway: Running) -> None:
    """As good as dead: it renews nothing, takes nothing over, and its work stands still."""
    running = gateway.app.running
    assert running is not None
    await end(running._upkeep)


# --- replicas ---------------------------------------------------------------------------------------------------------
async def test_a_run_of_a_dead_replica_is_taken_over(
    quick: None, model: ScriptedModel, start_serving: StartServing, events: Events
) -> None:
    """What was told in part ends incomplete, the run goes on from what is stored, and a zombie writes nothing."""
    answer, go_on = gated("Half a sen")
    model.script.append(answer)
    dead, alive = await start_serving(model), await start_serving(model)
    thread, assistant = await make(dead)
    heard = Listener(dead, "POST", f"/v1/threads/{thread}/runs", {"assistant_id": assistant, "stream": True})
    await heard.listen(until="thread.message.delta")
    await abandon(dead)
    async with alive.sdk() as sdk:
        [run] = (await sdk.beta.threads.runs.list(thread)).data
        again = await Listener(
            alive, "GET", f"/v1/threads/{thread}/runs/{run.id}?stream=true&starting_after={heard.last_id}"
        ).listen()
        assert again.names[:3] == ["thread.message.incomplete", "thread.run.step.failed", "thread.run.in_progress"]
        assert again.names[-2:] == ["thread.run.completed", "done"]
        go_on.set()
        await asyncio.sleep(0.05)  # the zombie has said all it has to say
        run = await sdk.beta.threads.runs.retrieve(run.id, thread_id=thread)
        assert run.status == "completed"
        messages = (await sdk.beta.threads.messages.list(thread, order="asc")).data
        assert [each.status for each in messages] == ["completed", "incomplete", "completed"]
        assert [part.text.value for part in messages[2].content] == ["Hello there."]  # type: ignore[union-attr]
    [taken] = events.named("run.taken_over")
    assert taken["takeovers"] == 1


async def test_tool_outputs_outlive_the_replica_that_took_them(
    quick: None, model: ScriptedModel, start_serving: StartServing
) -> None:
    answer, _ = gated()
    model.script += [calls(("add", "{}")), answer, says("It was 3.")]
    dead, alive = await start_serving(model), await start_serving(model)
    tool: Any = {"type": "function", "function": {"name": "add"}}
    thread, assistant = await make(dead, tools=[tool])
    async with dead.sdk() as sdk:
        run = await sdk.beta.threads.runs.create_and_poll(thread_id=thread, assistant_id=assistant, poll_interval_ms=20)
        outputs: Any = [{"tool_call_id": "call_add0", "output": "3"}]
        await sdk.beta.threads.runs.submit_tool_outputs(run.id, thread_id=thread, tool_outputs=outputs)
        await eventually(lambda: len(model.journal) == 2)
    await abandon(dead)
    async with alive.sdk() as sdk:
        run = await sdk.beta.threads.runs.poll(run.id, thread, poll_interval_ms=20)
        assert run.status == "completed"
        assert run.usage is not None
        assert run.usage.total_tokens == 30
    assert model.journal[2]["messages"] == model.journal[1]["messages"]
    assert model.journal[2]["messages"][-1] == {"role": "tool", "tool_call_id": "call_add0", "content": "3"}


async def test_what_is_taken_over_is_worked_on_though_another_run_cannot_be_read(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease is held here: nobody else would."""
    running = stage.gateway.app.running
    assert running is not None
    await abandon(stage.gateway)
    taken = Taken(Claim("thread_1", "run_1", "fence", 2, 0.0), "in_progress", {}, None, 1, (), ())

    async def sweep(**_: Any) -> list[Any]:
        return [Expired("thread_2", "run_2", {"tenant": "alice"}), taken]

    async def away(*_: str) -> Any:
        raise StoreAway("away")

    begun: list[Job] = []
    monkeypatch.setattr(running._stored.leases, "sweep", sweep)
    monkeypatch.setattr(running._stored.runs, "get", away)
    monkeypatch.setattr(running, "begin", begun.append)
    assert await running.sweep() == 2
    assert [job.claim for job in begun] == [taken.claim]


async def test_a_run_that_kills_its_replicas_is_given_up(
    quick: None, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.engine.working._MOST_TAKEOVERS", 0)
    answer, _ = gated()
    stage.model.script.append(answer)
    thread = await stage.thread()
    run = await stage.sdk.beta.threads.runs.create(thread, assistant_id=stage.assistant)
    running = stage.gateway.app.running
    assert running is not None
    await eventually(lambda: len(stage.model.journal) == 1)
    for claim in running._stored.leases.held:
        running._stored.leases.drop(claim)
    ended = await stage.sdk.beta.threads.runs.poll(run.id, thread, poll_interval_ms=20)
    assert ended.status == "failed"
    assert ended.last_error is not None
    assert ended.last_error.code == "server_error"


@pytest.mark.parametrize("is_there", [True, False])
async def test_a_run_whose_provider_was_taken_away_fails_and_says_so(
    is_there: bool, stage: Stage, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reload has removed it, or made one of it that threads are forwarded to."""
    stage.model.script.append(calls(("add", "{}")))
    thread = await stage.thread()
    run = await run_of(stage, thread)
    running = stage.gateway.app.running
    assert running is not None
    forwarded = {
        route: replace(target, provider=replace(target.provider, model_api=None))
        for route, target in running._directory.targets.items()
    }
    monkeypatch.setattr(running, "_directory", SimpleNamespace(targets=forwarded if is_there else {}))
    outputs: Any = [{"tool_call_id": "call_add0", "output": "3"}]
    ended = await stage.sdk.beta.threads.runs.submit_tool_outputs_and_poll(
        run_id=run.id, thread_id=thread, tool_outputs=outputs, poll_interval_ms=10
    )
    assert ended.last_error is not None
    assert (ended.status, ended.last_error.code) == ("failed", "server_error")
    assert ended.last_error.message == "the provider of the run's assistant serves no threads any more"
    assert len(stage.model.journal) == 1
    assert events.named("generation.crashed") == []


async def test_a_stop_in_good_order_hands_runs_over(
    model: ScriptedModel, start_serving: StartServing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once: the leases here are as long as ever."""
    monkeypatch.setattr("gateway.engine.running._SWEEP_S", 0.1)
    answer, _ = gated("Hm")
    model.script.append(answer)
    leaving, staying = await start_serving(model), await start_serving(model)
    thread, assistant = await make(leaving)
    async with leaving.sdk() as sdk:
        run = await sdk.beta.threads.runs.create(thread, assistant_id=assistant)
    await eventually(lambda: len(model.journal) == 1)
    async with asyncio.timeout(3):
        await leaving.app.stop(grace_s=0.1)
    async with staying.sdk() as sdk, asyncio.timeout(3):
        assert (await sdk.beta.threads.runs.poll(run.id, thread, poll_interval_ms=20)).status == "completed"


async def test_a_stop_in_good_order_waits_for_runs(model: ScriptedModel, start_serving: StartServing) -> None:
    answer, go_on = gated("Hm")
    model.script.append(answer)
    leaving, staying = await start_serving(model), await start_serving(model)
    thread, assistant = await make(leaving)
    async with leaving.sdk() as sdk:
        run = await sdk.beta.threads.runs.create(thread, assistant_id=assistant)
    await eventually(lambda: len(model.journal) == 1)
    stopping = asyncio.create_task(leaving.app.stop(grace_s=5))
    await asyncio.sleep(0)
    go_on.set()
    async with asyncio.timeout(3):
        await stopping
    async with staying.sdk() as sdk:
        assert (await sdk.beta.threads.runs.retrieve(run.id, thread_id=thread)).status == "completed"
    assert len(model.journal) == 1


async def test_a_run_is_cancelled_on_another_replica(
    quick: None, model: ScriptedModel, start_serving: StartServing
) -> None:
    answer, _ = gated("Hm")
    model.script.append(answer)
    works, asked = await start_serving(model), await start_serving(model)
    thread, assistant = await make(works)
    async with asked.sdk() as sdk, works.sdk() as other:
        run = await other.beta.threads.runs.create(thread, assistant_id=assistant)
        await eventually(lambda: len(model.journal) == 1)
        await sdk.beta.threads.runs.cancel(run.id, thread_id=thread)
        assert (await sdk.beta.threads.runs.poll(run.id, thread, poll_interval_ms=20)).status == "cancelled"
    await eventually(lambda: model.left == 1)


async def test_only_so_many_runs_are_worked_on_at_once(model: ScriptedModel, start_serving: StartServing) -> None:
    """The others wait in their order, and can be cancelled."""

    def one_at_once(settings: dict[str, Any]) -> None:
        settings["limits"] = {"runs_at_once": 1}

    gateway = await start_serving(model, change=one_at_once)
    answer, go_on = gated("first")
    model.script += [answer, says("second")]
    async with gateway.sdk() as sdk:
        places = [await make(gateway) for _ in range(3)]
        runs = [await sdk.beta.threads.runs.create(thread, assistant_id=assistant) for thread, assistant in places]
        await eventually(lambda: len(model.journal) == 1)
        await sdk.beta.threads.runs.cancel(runs[2].id, thread_id=places[2][0])
        assert (await sdk.beta.threads.runs.retrieve(runs[1].id, thread_id=places[1][0])).status == "queued"
        go_on.set()
        ended = [
            await sdk.beta.threads.runs.poll(run.id, thread, poll_interval_ms=20)
            for run, (thread, _) in zip(runs, places, strict=True)
        ]
    assert [run.status for run in ended] == ["completed", "completed", "cancelled"]
    assert len(model.journal) == 2


# --- time -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("waits", [False, True], ids=["while it works", "while it waits"])
async def test_a_run_expires(stage: Stage, monkeypatch: pytest.MonkeyPatch, events: Events, waits: bool) -> None:
    monkeypatch.setattr("gateway.engine.objects.RUN_LIFE_S", 2)
    answer, _ = gated("Hm")
    stage.model.script.append(calls(("add", "{}")) if waits else answer)
    thread = await stage.thread()
    async with asyncio.timeout(8):
        run = await stage.sdk.beta.threads.runs.create(thread, assistant_id=stage.assistant)
        while run.status in ("queued", "in_progress", "requires_action"):
            await asyncio.sleep(0.05)
            run = await stage.sdk.beta.threads.runs.retrieve(run.id, thread_id=thread)
    assert (run.status, run.expires_at) == ("expired", run.created_at + 2)
    assert (run.usage.total_tokens if run.usage else None) == (15 if waits else None)
    assert await texts(stage, thread) == (["Hello?"] if waits else ["Hello?", "Hm"])
    await eventually(lambda: len(events.named("run.settled")) == 1)
    monkeypatch.undo()
    assert (await run_of(stage, thread)).status == "completed"


async def test_threads_that_nobody_uses_are_deleted_where_that_is_wanted(
    model: ScriptedModel, start_serving: StartServing, monkeypatch: pytest.MonkeyPatch, events: Events
) -> None:
    """After the time that is configured, and not before; by default never."""

    def two_days(settings: dict[str, Any]) -> None:
        settings["store"]["keep_unused_threads_s"] = 2 * 86_400

    keeping, deleting = await start_serving(model), await start_serving(model, change=two_days)
    thread, _ = await make(keeping)
    before = time.time()
    for gateway, days, status in ((keeping, 1000, 200), (deleting, 1.9, 200), (deleting, 2.1, 404)):
        running = gateway.app.running
        assert running is not None
        monkeypatch.setattr(running, "_clock", lambda days=days: before + days * 86_400)
        await running.forget()
        assert (await gateway.call("GET", f"/v1/threads/{thread}"))[0] == status
    assert [event["count"] for event in events.named("threads.forgotten")] == [1]


# --- the store --------------------------------------------------------------------------------------------------------
async def test_a_generation_outlives_a_store_that_stands_still(
    own_valkey: OwnValkey, model: ScriptedModel, start_serving: StartServing
) -> None:
    """What is told meanwhile reaches who listens; what ends meanwhile is stored when it is back. Others get 503."""
    answer, go_on = gated("Hm, ")
    model.script.append(answer)
    gateway = await start_serving(model, url=own_valkey.url, change=_hasty_store)
    thread, assistant = await make(gateway)
    heard = Listener(gateway, "POST", f"/v1/threads/{thread}/runs", {"assistant_id": assistant, "stream": True})
    listening = asyncio.create_task(heard.listen())
    await eventually(lambda: "thread.message.delta" in heard.names)
    own_valkey.freeze()
    try:
        go_on.set()
        await eventually(lambda: heard.names.count("thread.message.delta") == 2)
        status, answer_, headers = await gateway.call("GET", f"/v1/threads/{thread}")
        assert (status, answer_["error"]["code"]) == (503, "store_unavailable")
        assert "retry-after" in headers
        said = {"role": "user", "content": "x"}
        status, answer_, headers = await gateway.call("POST", f"/v1/threads/{thread}/messages", said)
        assert (status, answer_["error"]["code"]) == (503, "store_unavailable")
        assert not listening.done()
    finally:
        own_valkey.thaw()
    async with asyncio.timeout(10):
        await listening
    assert heard.names[-2:] == ["thread.run.completed", "done"]
    async with gateway.sdk(max_retries=5) as sdk:  # so hasty a store may be thought away once more
        [message, _] = (await sdk.beta.threads.messages.list(thread)).data
        assert message.content[0].text.value == "Hm, and more"  # type: ignore[union-attr]


async def test_a_write_whose_answer_was_lost_is_not_done_twice(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by an SDK that repeats what failed, nor by a repeat with the same key, which is told where to look."""
    append = Messages.append

    async def loses(self: Messages, *given: Any, **more: Any) -> Any:
        await append(self, *given, **more)
        raise StoreAway("lost") from why

    thread = await stage.thread()
    path, said = f"/v1/threads/{thread}/messages", {"role": "user", "content": "x"}
    key = {"Idempotency-Key": "once"}
    monkeypatch.setattr(Messages, "append", loses)
    why: Exception
    for failed in (RedisTimeout("Timeout reading"), RedisConnectionError("Connection closed by server.")):
        why = failed
        status, answer, headers = await stage.gateway.call("POST", path, said)
        assert (status, answer["error"]["code"]) == (503, "store_unavailable")
        assert headers["x-should-retry"] == "false"
        assert "look whether" in answer["error"]["message"]
    why = BusyLoadingError("it loads its data")
    _, _, headers = await stage.gateway.call("POST", path, said)
    assert "x-should-retry" not in headers
    why = RedisTimeout("Timeout reading")
    assert (await stage.gateway.call("POST", path, said, headers=key))[0] == 503
    monkeypatch.undo()
    for _ in range(2):
        status, answer, _ = await stage.gateway.call("POST", path, said, headers=key)
        assert (status, answer["error"]["code"]) == (409, "outcome_unknown")
    assert await texts(stage, thread) == ["Hello?", *["x"] * 4]


def _hasty_store(settings: dict[str, Any]) -> None:
    settings["store"]["timeout_s"] = 0.4


# --- streams ----------------------------------------------------------------------------------------------------------
@pytest.fixture
def counting(model: ScriptedModel) -> None:
    async def count(body: dict[str, Any]) -> AsyncIterator[bytes]:
        for number in range(20):
            yield text(f"{number} ")
            await asyncio.sleep(0.002)
        async for piece in says()(body):
            yield piece

    model.otherwise = count


async def test_the_sdk_reads_on_after_a_silence_in_which_a_stream_was_kept_alive(
    model: ScriptedModel, start_serving: StartServing
) -> None:
    """To it, a blank line after an event with an `id` is one more event, which is empty."""
    gateway = await start_serving(model, change=edit(listener__stream_comment_s=0.02))
    answer, go_on = gated("Hm")
    model.script.append(answer)
    thread, assistant = await make(gateway)
    async with (
        gateway.sdk() as sdk,
        sdk.beta.threads.runs.stream(thread_id=thread, assistant_id=assistant) as stream,
    ):
        async for _ in stream.text_deltas:
            asyncio.get_running_loop().call_later(0.1, go_on.set)
        assert (await stream.get_final_run()).status == "completed"


async def test_a_stream_is_taken_up_where_it_was_cut_off(
    counting: None, model: ScriptedModel, start_serving: StartServing
) -> None:
    """On another replica, by header or by query, while the run works and after it; nothing twice, nothing missed."""
    first, second = await start_serving(model), await start_serving(model)
    thread, assistant = await make(first)
    cut = Listener(first, "POST", f"/v1/threads/{thread}/runs", {"assistant_id": assistant, "stream": True})
    await cut.listen(until="thread.message.delta", count=3)
    run = (await _one_run(first, thread)).id
    path = f"/v1/threads/{thread}/runs/{run}?stream=true"
    rest = await Listener(second, "GET", path, **{"Last-Event-ID": cut.last_id}).listen()
    whole = await Listener(second, "GET", path).listen()
    later = await Listener(first, "GET", f"{path}&starting_after={cut.last_id}").listen()
    assert [*cut.events, *rest.events] == whole.events
    assert later.events == rest.events
    assert whole.names.count("thread.message.delta") == 20
    status, refused, _ = await first.call("GET", f"{path}&starting_after=yesterday")
    assert (status, refused["error"]["param"]) == (400, "starting_after")


async def _one_run(gateway: Running, thread: str) -> Any:
    async with gateway.sdk() as sdk:
        [run] = (await sdk.beta.threads.runs.list(thread)).data
        return run


@pytest.mark.parametrize("quick_s", [0.0, 30.0], ids=["a slow model", "a quick model"])
async def test_only_what_a_quick_model_says_waits_for_company_and_never_its_first_words(
    counting: None, stage: Stage, monkeypatch: pytest.MonkeyPatch, quick_s: float
) -> None:
    monkeypatch.setattr("gateway.engine.asking._QUICK_S", quick_s)
    monkeypatch.setattr("gateway.engine.asking._TOGETHER_S", 30.0)
    thread = await stage.thread()
    body = {"assistant_id": stage.assistant, "stream": True}
    heard = Listener(stage.gateway, "POST", f"/v1/threads/{thread}/runs", body)
    async with asyncio.timeout(10):
        await heard.listen(until="thread.message.delta" if quick_s else "done")
    said = heard.names.count("thread.message.delta")
    assert said < 20 if quick_s else said == 20


@pytest.mark.parametrize("after_s", [0.0, 0.01])
async def test_the_connection_of_a_model_that_has_ended_is_used_again(stage: Stage, after_s: float) -> None:
    """Though its answer ends a little after it has said all: what is connected anew costs the next run more."""

    async def answer(_: Any) -> AsyncIterator[bytes]:
        async for piece in says("Hello")(_):
            yield piece
        await asyncio.sleep(after_s)

    stage.model.otherwise = answer
    thread = await stage.thread()
    for _ in range(3):
        await run_of(stage, thread)
    assert len(stage.model.ports) == 3
    assert len(set(stage.model.ports)) == 1


async def test_a_run_that_was_not_streamed_tells_no_events(stage: Stage) -> None:
    thread = await stage.thread()
    run = await run_of(stage, thread)
    status, refused, _ = await stage.gateway.call("GET", f"/v1/threads/{thread}/runs/{run.id}?stream=true")
    assert (status, refused["error"]["code"]) == (404, "events_gone")


@pytest.mark.parametrize("one_call", [False, True], ids=["run", "thread and run"])
async def test_a_repeat_with_its_key_gets_the_stream_again(
    counting: None, model: ScriptedModel, start_serving: StartServing, one_call: bool
) -> None:
    first, second = await start_serving(model), await start_serving(model)
    thread, assistant = await make(first)
    path = "/v1/threads/runs" if one_call else f"/v1/threads/{thread}/runs"
    body = {"assistant_id": assistant, "stream": True, "instructions": "Count."}
    key = {"Idempotency-Key": "k-1"}
    cut = await Listener(first, "POST", path, body, **key).listen(until="thread.message.delta")
    again = await Listener(second, "POST", path, body, **key).listen()
    resumed = await Listener(second, "POST", path, body, **key, **{"Last-Event-ID": cut.last_id}).listen()
    assert again.events[: len(cut.events)] == cut.events
    assert again.events[len(cut.events) :] == resumed.events
    assert again.names[-2:] == ["thread.run.completed", "done"]
    assert again.answered["idempotent-replayed"] == "true"
    assert len(model.journal) == 1


async def test_a_repeat_of_outputs_gets_the_stream_that_they_began(stage: Stage) -> None:
    stage.model.script.append(calls(("add", "{}")))
    thread = await stage.thread()
    run = await run_of(stage, thread)
    path = f"/v1/threads/{thread}/runs/{run.id}/submit_tool_outputs"
    body = {"tool_outputs": [{"tool_call_id": "call_add0", "output": "3"}], "stream": True}
    first, again = [
        await Listener(stage.gateway, "POST", path, body, **{"Idempotency-Key": "k-2"}).listen() for _ in range(2)
    ]
    assert again.events == first.events
    assert again.names[0] == "thread.run.step.completed"


async def test_many_runs_at_once_each_end_once(model: ScriptedModel, start_serving: StartServing) -> None:
    gateways = [await start_serving(model) for _ in range(2)]
    places = [await make(gateways[0]) for _ in range(20)]
    listeners = [
        Listener(gateways[number % 2], "POST", f"/v1/threads/{thread}/runs", {"assistant_id": name, "stream": True})
        for number, (thread, name) in enumerate(places)
    ]
    async with asyncio.timeout(10):
        await asyncio.gather(*(listener.listen() for listener in listeners))
    assert all(listener.names[-2:] == ["thread.run.completed", "done"] for listener in listeners)
    async with gateways[0].sdk() as sdk:
        for thread, _ in places:
            assert len((await sdk.beta.threads.messages.list(thread)).data) == 2


async def test_a_thread_that_is_deleted_ends_its_run(quick: None, stage: Stage) -> None:
    answer, _ = gated("Hm")
    stage.model.script.append(answer)
    thread = await stage.thread()
    run = await stage.sdk.beta.threads.runs.create(thread, assistant_id=stage.assistant)
    await eventually(lambda: len(stage.model.journal) == 1)
    await stage.sdk.beta.threads.delete(thread)
    await eventually(lambda: stage.model.left == 1)
    with suppress(openai.NotFoundError):
        await stage.sdk.beta.threads.runs.retrieve(run.id, thread_id=thread)
        pytest.fail("the run is still there")


@pytest.fixture
async def own_valkey(tmp_path: Path) -> AsyncIterator[OwnValkey]:
    server = OwnValkey(tmp_path / "own")
    await server.start()
    yield server
    await server.stop()
