"""`tenants erase` after everything that a tenant can have served: nothing of it is left, nothing of others touched."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.conformance.test_erased_tenants import Dump, dump, erase, flush
from tests.conftest import Running, eventually
from tests.engine.conftest import StartServing
from tests.engine.scripted_model import ScriptedModel, calls, chunk
from tests.engine.test_running import quick  # noqa: F401  a fixture
from tests.engine.test_serving import gated


async def call(gateway: Running, tenant: str, method: str, path: str, body: Any = None) -> Any:
    status, answer, _ = await gateway.call(method, f"/v1{path}", body, tenant=tenant)
    assert status == 200, answer
    return answer


async def whole_session(gateway: Running, model: ScriptedModel, tenant: str) -> asyncio.Event:
    """A word of the tenant's in every field there is: of what is finished, of a run that waits for outputs and of one
    whose model stands still in the middle of a word until the event is set."""
    word = f"canary-{tenant}"
    said, meta = {"role": "user", "content": word, "metadata": {word: word}}, {word: word}
    function = {"name": f"f-{word}", "description": word, "parameters": {"type": "object", "title": word}}
    described = {"model": f"m-{word}", "name": word, "description": word, "instructions": word, "metadata": meta}
    tools = [{"type": "function", "function": function}]
    assistant = (await call(gateway, tenant, "POST", "/assistants", {**described, "tools": tools}))["id"]
    await call(gateway, tenant, "POST", f"/assistants/{assistant}", {"name": f"again {word}", "metadata": meta})
    deleted = (await call(gateway, tenant, "POST", "/assistants", described))["id"]
    await call(gateway, tenant, "DELETE", f"/assistants/{deleted}")

    async def in_thread(*answers: Any, stream: bool = True) -> tuple[str, Any]:
        model.script += answers
        thread = (await call(gateway, tenant, "POST", "/threads", {"messages": [said], "metadata": meta}))["id"]
        await call(gateway, tenant, "POST", f"/threads/{thread}", {"metadata": meta})
        gone = (await call(gateway, tenant, "POST", f"/threads/{thread}/messages", said))["id"]
        await call(gateway, tenant, "POST", f"/threads/{thread}/messages/{gone}", {"metadata": meta})
        await call(gateway, tenant, "DELETE", f"/threads/{thread}/messages/{gone}")
        more = {"additional_messages": [said], "additional_instructions": word, "instructions": word, "metadata": meta}
        body = {"assistant_id": assistant, "stream": stream, **more}
        answer = await call(gateway, tenant, "POST", f"/threads/{thread}/runs", body)
        [run] = (await call(gateway, tenant, "GET", f"/threads/{thread}/runs"))["data"]
        assert word in str(answer)
        return thread, run

    calling = calls((f"f-{word}", f'{{"a": "{word}"}}'), before=word)
    thread, run = await in_thread(calling)
    asked = run["required_action"]["submit_tool_outputs"]["tool_calls"][0]["id"]
    path = f"/threads/{thread}/runs/{run['id']}"
    refusing = chunk({"refusal": word}) + chunk(finish="stop") + b"data: [DONE]\n\n"

    async def refuse(body: Any) -> Any:
        yield refusing

    model.script.append(refuse)
    outputs = {"tool_outputs": [{"tool_call_id": asked, "output": word}], "stream": True}
    await call(gateway, tenant, "POST", f"{path}/submit_tool_outputs", outputs)
    await call(gateway, tenant, "POST", path, {"metadata": meta})
    await in_thread(calling)
    still, go_on = gated(word)
    before = len(model.journal)
    await in_thread(still, stream=False)
    await eventually(lambda: len(model.journal) == before + 1)
    return go_on


def split(dumped: Dump) -> tuple[set[str], Dump]:
    """The keys that hold something of alice, and what of bob they hold."""
    alices = {key for key, held in dumped.items() if "canary-alice" in key or "canary-alice" in repr(held)}
    bobs = {
        key: {name: each for name, each in held.items() if "canary-bob" in f"{name}{each}"}
        if type(held) is dict
        else held
        for key, held in dumped.items()
        if "canary-bob" in repr(held)
    }
    return alices, bobs


async def test_nothing_that_an_erased_tenant_had_served_is_left(
    quick: None,  # noqa: F811
    model: ScriptedModel,
    start_serving: StartServing,
    valkey: str,
    store_prefix: str,
) -> None:
    gateway = await start_serving(model)
    going_on = [await whole_session(gateway, model, tenant) for tenant in ("bob", "alice")]
    await flush(gateway)
    alices, bobs = split(await dump(valkey, store_prefix))
    parts = {key.rpartition("}:")[2].partition(":run")[0] for key in alices if key.startswith("{")}
    assert parts >= {"t", "m", "r", "s", "a", "ev"}
    assert any(key.startswith("asst:") for key in alices)

    told = await erase(gateway, "alice", "--yes", "--usage")
    assert (told["served threads"], told["served assistants"]) == (3, 1)
    alices, bobs_now = split(await dump(valkey, store_prefix))
    assert alices == set()
    assert bobs_now == bobs
    await eventually(lambda: model.left == 1)  # nobody listens to her model any more
    for event in going_on:
        event.set()
    running = gateway.app.running
    assert running is not None
    await eventually(lambda: not running._tasks)

    assert split(await dump(valkey, store_prefix))[0] == set()
    listed = (await call(gateway, "bob", "GET", "/assistants"))["data"]
    assert [each["name"] for each in listed] == ["again canary-bob"]
    after = await dump(valkey, store_prefix)
    assert {key for key, held in after.items() if "alice" in key or "alice" in repr(held)} <= {
        *(key for key in after if key.startswith(("switches", "acts", "tenant_keys"))),
    }
    again = await erase(gateway, "alice", "--yes")
    assert {what: count for what, count in again.items() if count} == {}
