"""Served assistants, threads and messages: made, changed, listed, deleted and refused as at OpenAI."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from tests.engine.conftest import Stage, StartServing
from tests.engine.scripted_model import ScriptedModel, says
from tests.sdk import http_client

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the SDK marks every Assistants method so


async def test_assistants_are_made_changed_listed_and_deleted(stage: Stage) -> None:
    assistants = stage.sdk.beta.assistants
    made = await assistants.create(model="m-1", name="Ada", temperature=0.3, metadata={"a": "b"})
    assert (made.top_p, made.tools, made.metadata, made.temperature) == (1.0, [], {"a": "b"}, 0.3)
    assert await assistants.retrieve(made.id) == made
    changed = await assistants.update(made.id, name="Bea", temperature=None, model="m-2")
    assert (changed.name, changed.temperature, changed.model, changed.metadata) == ("Bea", 1.0, "m-2", {"a": "b"})
    listed = await assistants.list()
    assert [each.id for each in listed.data] == [made.id, stage.assistant]
    assert [each.id for each in (await assistants.list(order="asc", limit=1)).data] == [stage.assistant]
    deleted = await assistants.delete(made.id)
    assert (deleted.id, deleted.object, deleted.deleted) == (made.id, "assistant.deleted", True)
    with pytest.raises(openai.NotFoundError, match=f"No assistant found with id '{made.id}'."):
        await assistants.retrieve(made.id)
    assert [each.id for each in (await assistants.list()).data] == [stage.assistant]


async def test_an_account_of_one_tenant_is_listed_as_it_is(model: ScriptedModel, start_serving: StartServing) -> None:
    gateway = await start_serving(model)
    async with gateway.sdk("carol") as carol, gateway.sdk("bob") as bob:
        ids = [(await carol.beta.assistants.create(model=f"m-{number}")).id for number in range(5)]
        pages = await carol.beta.assistants.list(order="asc", limit=2)
        assert [each.id async for each in pages] == ids
        assert [each.id for each in (await carol.beta.assistants.list(limit=2, before=ids[1])).data] == ids[3:1:-1]
        assert (await bob.beta.assistants.list()).data == []
        with pytest.raises(openai.NotFoundError, match=f"No assistant found with id '{ids[0]}'."):
            await bob.beta.assistants.retrieve(ids[0])


async def test_threads_are_made_changed_and_deleted(stage: Stage) -> None:
    threads = stage.sdk.beta.threads
    made = await threads.create(messages=[{"role": "user", "content": "Hi"}], metadata={"a": "b"})
    assert await threads.retrieve(made.id) == made
    assert (await threads.update(made.id, metadata={"c": "d"})).metadata == {"c": "d"}
    assert (await threads.delete(made.id)).deleted
    for call in (threads.retrieve, threads.delete, threads.messages.list, threads.runs.list):
        with pytest.raises(openai.NotFoundError, match=f"No thread found with id '{made.id}'."):
            await call(made.id)


async def test_messages_are_made_changed_listed_and_deleted(stage: Stage) -> None:
    thread = await stage.thread("one", "two", "three", "four", "five")
    messages = stage.sdk.beta.threads.messages
    pages = messages.list(thread, order="asc", limit=2)
    listed = [each async for each in pages]
    assert [each.content[0].text.value for each in listed] == ["one", "two", "three", "four", "five"]  # type: ignore[union-attr]
    ids = [each.id for each in listed]
    page = await messages.list(thread, limit=2, after=ids[3])
    assert ([each.id for each in page.data], page.has_more) == ([ids[2], ids[1]], True)
    assert [each.id for each in (await messages.list(thread, limit=2, before=ids[0])).data] == [ids[2], ids[1]]
    changed = await messages.update(ids[0], thread_id=thread, metadata={"a": "b"})
    assert changed == await messages.retrieve(ids[0], thread_id=thread)
    assert (changed.status, changed.metadata, changed.attachments) == ("completed", {"a": "b"}, [])
    assert (await messages.delete(ids[0], thread_id=thread)).object == "thread.message.deleted"
    with pytest.raises(openai.NotFoundError, match=f"No message found with id '{ids[0]}'."):
        await messages.retrieve(ids[0], thread_id=thread)
    image: Any = {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}}
    made = await messages.create(thread, role="user", content=[{"type": "text", "text": "See"}, image])
    assert made.content[1].model_dump(exclude_none=True) == image
    await stage.sdk.beta.threads.runs.create_and_poll(
        thread_id=thread, assistant_id=stage.assistant, poll_interval_ms=20
    )
    assert stage.model.journal[-1]["messages"][-1]["content"] == [{"type": "text", "text": "See"}, image]


async def test_an_empty_list_is_empty(stage: Stage) -> None:
    thread = (await stage.sdk.beta.threads.create()).id
    status, listed, _ = await stage.gateway.call("GET", f"/v1/threads/{thread}/messages")
    empty = {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}
    assert (status, listed) == (200, empty)


async def test_runs_and_steps_are_read_changed_and_listed(stage: Stage) -> None:
    thread = await stage.thread()
    runs = stage.sdk.beta.threads.runs
    made = [
        (await runs.create_and_poll(thread_id=thread, assistant_id=stage.assistant, poll_interval_ms=20)).id
        for _ in range(3)
    ]
    assert [each.id async for each in runs.list(thread, order="asc", limit=2)] == made
    changed = await runs.update(made[0], thread_id=thread, metadata={"a": "b"})
    assert changed.metadata == {"a": "b"}
    assert changed == await runs.retrieve(made[0], thread_id=thread)
    [step] = (await runs.steps.list(made[1], thread_id=thread)).data
    assert step.run_id == made[1]
    with pytest.raises(openai.NotFoundError, match=f"No run step found with id '{step.id}'."):
        await runs.steps.retrieve(step.id, run_id=made[0], thread_id=thread)


REFUSED: list[tuple[str, str, dict[str, Any], str, str | None, str]] = [
    ("POST", "/assistants", {}, "model", "missing_required_parameter", "Missing required parameter: 'model'."),
    ("POST", "/assistants", {"model": "m", "colour": 1}, "colour", "unknown_parameter", "Unknown parameter: 'colour'."),
    (
        *("POST", "/assistants", {"model": "m", "tools": [{"type": "file_search"}]}),
        *("tools[0].type", "unsupported_by_model_api"),
        "this provider's models have no tool 'file_search': only functions, which you carry out yourself",
    ),
    (
        *("POST", "/threads", {"metadata": {"modified": True}}, "metadata.modified", "invalid_type"),
        "Invalid type for 'metadata.modified': expected a string, but got a boolean instead.",
    ),
    (
        *("POST", "/threads", {"tool_resources": {"file_search": {"vector_stores": [{"metadata": {"a": "b"}}]}}}),
        *("tool_resources.file_search", "unsupported_by_model_api", ""),
    ),
    ("GET", "/threads/{thread}/messages?limit=0", {}, "limit", "invalid_value", ""),
    ("GET", "/threads/{thread}/messages?order=up", {}, "order", "invalid_value", ""),
    ("POST", "/threads/{thread}/messages", {"role": "system", "content": "x"}, "role", "invalid_value", ""),
    ("POST", "/threads/{thread}/runs", {"assistant_id": "{assistant}", "temperature": 3}, "temperature", None, ""),
    ("GET", "/threads/{thread}/runs/{thread}", {}, "", None, ""),
    ("GET", "/vector_stores", {}, "", "unsupported_by_model_api", ""),
]


@pytest.mark.parametrize(("method", "path", "body", "param", "code", "message"), REFUSED)
async def test_what_cannot_be_is_refused_in_openais_words(
    stage: Stage, method: str, path: str, body: dict[str, Any], param: str, code: str | None, message: str
) -> None:
    names = {"{thread}": await stage.thread(), "{assistant}": stage.assistant}
    for name, id_ in names.items():
        path = path.replace(name, id_)
    body = {name: names.get(value, value) if isinstance(value, str) else value for name, value in body.items()}
    status, answer, _ = await stage.gateway.call(method, f"/v1{path}", body if method == "POST" else None)
    error = answer["error"]
    assert (status, error["type"]) == (404 if path.count("thread_") == 2 else 400, "invalid_request_error")
    assert not param or error["param"] == param
    assert code is None or error["code"] == code
    assert not message or error["message"] == message


async def test_a_run_needs_something_to_go_by(stage: Stage) -> None:
    bare = await stage.sdk.beta.assistants.create(model="m-1")
    thread = (await stage.sdk.beta.threads.create()).id
    with pytest.raises(openai.BadRequestError, match="Run creation requires a Thread with a user message") as refused:
        await stage.sdk.beta.threads.runs.create(thread, assistant_id=bare.id)
    assert refused.value.code == "invalid_thread"
    gone = await stage.sdk.beta.assistants.create(model="m-1")
    await stage.sdk.beta.assistants.delete(gone.id)
    with pytest.raises(openai.NotFoundError, match=f"No assistant found with id '{gone.id}'."):
        await stage.sdk.beta.threads.runs.create(thread, assistant_id=gone.id)


async def test_a_thread_is_run_with_assistants_of_other_providers(
    model: ScriptedModel, other_model: ScriptedModel, start_serving: StartServing
) -> None:
    """The history is ours: each model hears what the other said. Ids stay their own."""
    gateway = await start_serving(model, other_model)
    model.otherwise, other_model.otherwise = says("from the first"), says("from the second")
    async with gateway.sdk() as first, gateway.sdk(path="/providers/served1/v1") as second:
        here = (await first.beta.assistants.create(model="m-1")).id
        there = (await second.beta.assistants.create(model="m-2")).id
        thread = (await first.beta.threads.create(messages=[{"role": "user", "content": "Hi"}])).id
        for assistant in (here, there, here):
            run = await first.beta.threads.runs.create_and_poll(
                thread_id=thread, assistant_id=assistant, poll_interval_ms=20
            )
            assert (run.status, run.assistant_id) == ("completed", assistant)
        messages = (await first.beta.threads.messages.list(thread, order="asc")).data
        assert [each.assistant_id for each in messages] == [None, here, there, here]
        [step] = (await first.beta.threads.runs.steps.list(run.id, thread_id=thread)).data
        assert step.assistant_id == here
    assert [each["content"] for each in other_model.journal[-1]["messages"]] == ["Hi", "from the first"]
    assert [each["content"] for each in model.journal[-1]["messages"]][-1] == "from the second"
    assert (model.keys[-1], other_model.keys[-1]) == ("Bearer sk-served-ONE", "Bearer sk-served1-ONE")
    async with gateway.sdk("bob") as bob:
        made = (await bob.beta.threads.create(messages=[{"role": "user", "content": "Hi"}])).id
        with pytest.raises(openai.NotFoundError):
            await bob.beta.threads.runs.create(made, assistant_id=there)


async def test_a_caller_of_v1_is_served(stage: Stage) -> None:
    headers = {"OpenAI-Beta": "assistants=v1"}
    status, made, _ = await stage.gateway.call("POST", "/v1/assistants", {"model": "m-1"}, headers=headers)
    assert (status, made["file_ids"]) == (200, [])
    said = {"messages": [{"role": "user", "content": "Hi", "file_ids": []}]}
    status, run, _ = await stage.gateway.call(
        "POST", "/v1/threads/runs", {"assistant_id": made["id"], "thread": said}, headers=headers
    )
    assert (status, run["file_ids"]) == (200, [])
    async with AsyncOpenAI(
        base_url=stage.gateway.url + "/v1",
        api_key="alice-key",
        default_headers=headers,
        max_retries=0,
        http_client=http_client(),
    ) as sdk:
        ended = await sdk.beta.threads.runs.poll(run["id"], run["thread_id"], poll_interval_ms=20)
        assert ended.status == "completed"
        messages = (await sdk.beta.threads.messages.list(run["thread_id"])).data
        assert [each.content[0].text.value for each in messages] == ["Hello there.", "Hi"]  # type: ignore[union-attr]
    path = f"/v1/threads/{run['thread_id']}/runs"
    body = {"assistant_id": made["id"], "stream": True}
    status, streamed, _ = await stage.gateway.call("POST", path, body, headers=headers)
    assert (status, streamed.count("event: thread.message.delta")) == (200, 3)
    assert '"file_ids":[]' in streamed
    assert '"attachments"' not in streamed
    status, refused, _ = await stage.gateway.call(
        "POST", "/v1/assistants", {"model": "m-1", "tools": [{"type": "retrieval"}]}, headers=headers
    )
    assert (status, refused["error"]["code"]) == (400, "unsupported_by_model_api")
