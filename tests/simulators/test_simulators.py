"""The simulators answer the real OpenAI SDK, speak their vendors' dialects, and fail as they are told to."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import aiohttp
import openai
import pytest
from openai import AsyncAssistantEventHandler, AsyncOpenAI

from tests.sdk import http_client
from tests.simulators import faults
from tests.simulators.base import Simulator
from tests.simulators.conftest import ONE, OTHER, TWO, V2, VENDORS, Caller, StartSimulator
from tests.simulators.threads_server import AIMLAPI, Ids, Refused, ThreadsServer, World
from tests.simulators.threads_server.dialect import bare_error
from tests.simulators.threads_server.files import Content, Form
from tests.simulators.threads_server.routes import ROUTES
from tests.simulators.threads_server.run import LIFE_S

# The SDK marks every Assistants method as deprecated, in words that vary.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

ADD = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
FIND = {"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}


@pytest.fixture
async def vendor(start_simulator: StartSimulator) -> Simulator:
    return await start_simulator("openai")


@pytest.fixture
async def client(vendor: Simulator) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(
        api_key=ONE, base_url=vendor.url, max_retries=0, http_client=http_client(), default_headers=V2
    ) as opened:
        yield opened


@pytest.fixture
def world() -> World:
    """A world whose clock is moved by hand: `world.ground.now = …`."""
    numbers = iter(range(10**6))
    return World(now=lambda: 1_000, ids=Ids(tail=lambda: f"{next(numbers):024}"))


def stage(world: World, text: str, *tools: dict[str, Any]) -> tuple[str, str]:
    """The ids of a thread with this message and of an assistant with these tools."""
    assistant = world.assistants.create({"model": "m", "tools": list(tools)})
    thread = world.threads.create({"messages": [{"role": "user", "content": text}]})
    return thread["id"], assistant["id"]


# ---- with the SDK -----------------------------------------------------------------------------------------


async def test_sdk_assistants_live_and_die(client: AsyncOpenAI) -> None:
    made = await client.beta.assistants.create(model="gpt-4o", name="Ann", metadata={"a": "1"})
    changed = await client.beta.assistants.update(made.id, name="Bea", metadata={"b": "2"})
    assert (changed.name, changed.metadata) == ("Bea", {"a": "1", "b": "2"})
    assert [each.id async for each in client.beta.assistants.list()] == [made.id]
    assert (await client.beta.assistants.delete(made.id)).deleted
    with pytest.raises(openai.NotFoundError, match=f"No assistant found with id '{made.id}'."):
        await client.beta.assistants.retrieve(made.id)


async def test_sdk_pages_through_messages_in_both_orders(client: AsyncOpenAI) -> None:
    thread = await client.beta.threads.create()
    texts = [f"{number} ✨" for number in range(5)]
    for text in texts:
        await client.beta.threads.messages.create(thread.id, role="user", content=text)

    async def read(**query: Any) -> list[str]:
        pages = client.beta.threads.messages.list(thread.id, **query)
        return [message.content[0].text.value async for message in pages]  # type: ignore[union-attr]

    assert await read(limit=2, order="asc") == texts
    assert await read(limit=2) == texts[::-1]
    page = await client.beta.threads.messages.list(thread.id, order="asc")
    nearest = await client.beta.threads.messages.list(thread.id, order="asc", before=page.data[4].id, limit=2)
    assert [each.id for each in nearest.data] == [page.data[2].id, page.data[3].id]
    assert nearest.has_more


async def test_sdk_polls_a_run_to_its_end(client: AsyncOpenAI, vendor: Simulator) -> None:
    assistant = await client.beta.assistants.create(model="gpt-4o")
    asked: Any = {"messages": [{"role": "user", "content": "Grüße 👋"}]}
    run = await client.beta.threads.create_and_run_poll(assistant_id=assistant.id, thread=asked, poll_interval_ms=1)
    assert (run.status, run.expires_at) == ("completed", None)
    [answer, _] = (await client.beta.threads.messages.list(run.thread_id)).data
    assert answer.content[0].text.value == "You said: Grüße 👋"  # type: ignore[union-attr]
    assert vendor.created == {"assistant": 1, "thread": 1, "message": 1, "run": 1, "step": 1, "reply": 1}


async def test_sdk_submits_tool_outputs_in_two_rounds(client: AsyncOpenAI) -> None:
    assistant = await client.beta.assistants.create(model="gpt-4o", tools=[ADD, FIND])  # type: ignore[list-item]
    asked: Any = {"messages": [{"role": "user", "content": 'call add {"a": [1]} call find again add'}]}
    run = await client.beta.threads.create_and_run_poll(assistant_id=assistant.id, thread=asked, poll_interval_ms=1)
    seen = []
    while run.required_action:
        calls = run.required_action.submit_tool_outputs.tool_calls
        seen.append([(each.function.name, each.function.arguments) for each in calls])
        outputs: Any = [{"tool_call_id": each.id, "output": f"<{each.id}>"} for each in calls]
        run = await client.beta.threads.runs.submit_tool_outputs_and_poll(
            run_id=run.id, thread_id=run.thread_id, tool_outputs=outputs, poll_interval_ms=1
        )
    assert seen == [[("add", '{"a": [1]}'), ("find", "{}")], [("add", "{}")]]
    [answer, _] = (await client.beta.threads.messages.list(run.thread_id)).data
    assert answer.content[0].text.value.count("<call_") == 3  # type: ignore[union-attr]
    steps = [step async for step in client.beta.threads.runs.steps.list(run.id, thread_id=run.thread_id)]
    assert [step.type for step in steps] == ["message_creation", "tool_calls", "tool_calls"]
    assert all(step.status == "completed" for step in steps)


async def test_sdk_streams_a_run_through_a_tool_round(client: AsyncOpenAI) -> None:
    assistant = await client.beta.assistants.create(model="gpt-4o", tools=[ADD])  # type: ignore[list-item]
    thread = await client.beta.threads.create(messages=[{"role": "user", "content": "call add"}])
    handler = AsyncAssistantEventHandler()
    async with client.beta.threads.runs.stream(
        thread_id=thread.id, assistant_id=assistant.id, event_handler=handler
    ) as stream:
        run = await stream.get_final_run()
    assert run.status == "requires_action"
    assert run.required_action is not None
    [waiting] = run.required_action.submit_tool_outputs.tool_calls
    async with client.beta.threads.runs.submit_tool_outputs_stream(
        run_id=run.id,
        thread_id=thread.id,
        tool_outputs=[{"tool_call_id": waiting.id, "output": "\u2028event: done\n"}],
        event_handler=AsyncAssistantEventHandler(),
    ) as stream:
        text = "".join([delta async for delta in stream.text_deltas])
        run = await stream.get_final_run()
    assert text == "The tools answered: \u2028event: done\n"
    assert run.status == "completed"


async def test_sdk_gets_images_files_and_citations(client: AsyncOpenAI) -> None:
    notes = await client.files.create(file=("nötes.txt", b"one\r\n\x00two\r\n--"), purpose="assistants")
    assert (await client.files.content(notes.id)).content == b"one\r\n\x00two\r\n--"
    assert notes.filename == "nötes.txt"
    assistant = await client.beta.assistants.create(
        model="gpt-4o",
        tools=[{"type": "code_interpreter"}, {"type": "file_search"}],
        tool_resources={"file_search": {"vector_stores": [{"file_ids": [notes.id]}]}},
    )
    assert assistant.tool_resources is not None
    [store_id] = assistant.tool_resources.file_search.vector_store_ids  # type: ignore[union-attr,misc]
    assert (await client.vector_stores.retrieve(store_id)).file_counts.completed == 1

    async def ask(text: str) -> tuple[Any, Any]:
        thread: Any = {"messages": [{"role": "user", "content": text}]}
        run = await client.beta.threads.create_and_run_poll(
            assistant_id=assistant.id, thread=thread, poll_interval_ms=1
        )
        return run, (await client.beta.threads.messages.list(run.thread_id, run_id=run.id)).data[0].content

    _, [image, text] = await ask("plot")
    assert (await client.files.content(image.image_file.file_id)).content.startswith(b"\x89PNG")
    [link] = text.text.annotations
    assert text.text.value[link.start_index : link.end_index] == link.text == "sandbox:/mnt/data/plot.csv"
    assert (await client.files.retrieve(link.file_path.file_id)).purpose == "assistants_output"

    run, [text] = await ask("search")
    assert text.text.annotations[0].file_citation.file_id == notes.id
    shown: Any = ["step_details.tool_calls[*].file_search.results[*].content"]
    for include, file_ids in ((openai.omit, None), (shown, [notes.id])):
        steps = client.beta.threads.runs.steps.list(run.id, thread_id=run.thread_id, include=include)
        search: Any = (await steps).data[-1].step_details.tool_calls[0].file_search  # type: ignore[union-attr]
        assert (search.results and [each.file_id for each in search.results]) == file_ids


async def test_sdk_keeps_files_and_vector_stores(client: AsyncOpenAI) -> None:
    files = [await client.files.create(file=b"text", purpose="assistants") for _ in range(3)]
    await client.files.create(file=b"else", purpose="vision")
    assert len((await client.files.list(purpose="assistants")).data) == 3
    store = await client.vector_stores.create(name="s", file_ids=[files[0].id])
    added = await client.vector_stores.files.create_and_poll(files[1].id, vector_store_id=store.id)
    assert (added.id, added.status) == (files[1].id, "completed")
    batch = await client.vector_stores.file_batches.create_and_poll(store.id, file_ids=[files[2].id])
    assert (batch.status, batch.file_counts.total) == ("completed", 1)
    listed = client.vector_stores.file_batches.list_files(batch.id, vector_store_id=store.id)
    assert [each.id async for each in listed] == [files[2].id]
    found = await client.vector_stores.search(store.id, query="text", max_num_results=2)
    assert [each.file_id for each in found.data] == [files[0].id, files[1].id]
    await client.vector_stores.files.delete(files[0].id, vector_store_id=store.id)
    assert (await client.vector_stores.retrieve(store.id)).file_counts.total == 2
    assert (await client.vector_stores.delete(store.id)).deleted
    assert (await client.files.delete(files[0].id)).deleted
    with pytest.raises(openai.NotFoundError, match=f"No such File object: {files[0].id}"):
        await client.files.retrieve(files[0].id)


# ---- the world --------------------------------------------------------------------------------------------


def test_a_stream_tells_events_in_the_recorded_order(world: World) -> None:
    _, assistant = stage(world, "unused")
    thread = {"messages": [{"role": "user", "content": "one two"}]}
    body = {"assistant_id": assistant, "thread": thread, "stream": True}
    events: Any = world.runs.create_with_thread(body)
    message = ["thread.message.created", "thread.message.in_progress", *["thread.message.delta"] * 4]
    assert [name for name, _ in events] == [
        "thread.created",
        *(f"thread.run.{each}" for each in ("created", "queued", "in_progress")),
        *("thread.run.step.created", "thread.run.step.in_progress"),
        *(*message, "thread.message.completed"),
        *("thread.run.step.completed", "thread.run.completed", "done"),
    ]
    told = dict(reversed(events))
    assert told["thread.message.created"]["content"] == []
    assert told["thread.run.created"]["expires_at"] == 1_000 + LIFE_S
    assert told["thread.run.completed"]["expires_at"] is None
    assert told["done"] == "[DONE]"


@pytest.mark.parametrize(
    ("word", "status", "fact"),
    [
        ("fail", "failed", "last_error"),
        ("truncate", "incomplete", "incomplete_details"),
        ("expire", "expired", "usage"),
    ],
)
def test_words_of_the_user_decide_how_a_run_ends(world: World, word: str, status: str, fact: str) -> None:
    thread, assistant = stage(world, f"please {word}")
    run = world.runs.create(thread, {"assistant_id": assistant}, {})
    assert isinstance(run, dict)
    assert [world.runs.get(thread, run["id"])["status"] for _ in range(3)] == ["in_progress", status, status]
    assert run[fact]
    if word == "fail":
        assert run["id"] in run["last_error"]["message"]
        assert thread in run["last_error"]["message"]


def test_an_active_run_locks_its_thread_until_it_is_cancelled_or_expires(world: World) -> None:
    thread, assistant = stage(world, "call add", ADD)
    body = {"assistant_id": assistant}
    run: Any = world.runs.create(thread, body, {})
    with pytest.raises(Refused, match=f"Can't add messages to {thread} while a run {run['id']} is active."):
        world.threads.add_message(thread, {"role": "user", "content": "x"})
    with pytest.raises(Refused, match=f"Thread {thread} already has an active run {run['id']}."):
        world.runs.create(thread, body, {})
    with pytest.raises(Refused, match=r'Runs in status "queued" do not accept tool outputs\.'):
        world.runs.submit_tool_outputs(thread, run["id"], {"tool_outputs": []})
    assert world.runs.cancel(thread, run["id"])["status"] == "cancelling"
    assert world.runs.get(thread, run["id"])["status"] == "cancelled"
    with pytest.raises(Refused, match=r"Cannot cancel run with status 'cancelled'\."):
        world.runs.cancel(thread, run["id"])

    run = world.runs.create(thread, body, {})
    world.runs.get(thread, run["id"])
    assert world.runs.get(thread, run["id"])["status"] == "requires_action"
    expected = run["required_action"]["submit_tool_outputs"]["tool_calls"][0]["id"]
    with pytest.raises(Refused) as refused:
        world.runs.submit_tool_outputs(thread, run["id"], {"tool_outputs": [{"tool_call_id": "call_x"}]})
    assert refused.value.message == f"Expected tool outputs for call_ids ['{expected}'], got ['call_x']"
    world.ground.now = lambda: 1_000 + LIFE_S
    assert world.threads.add_message(thread, {"role": "user", "content": "x"})
    assert run["status"] == "expired"


@pytest.mark.parametrize(
    ("body", "param", "code", "message"),
    [
        (
            {"metadata": {"modified": True}},
            "metadata.modified",
            "invalid_type",
            "Invalid type for 'metadata.modified': expected a string, but got a boolean instead.",
        ),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata", "object_above_max_properties", "17 prop"),
        ({"metadata": {"k" * 65: ""}}, f"metadata.{'k' * 65}", "property_name_above_max_length", "length 65"),
        ({"metadata": {"k": "v" * 513}}, "metadata.k", "string_above_max_length", "maximum length 512"),
        ({"temperature": 2.5}, "temperature", "decimal_above_max_value", "<= 2, but got 2.5 instead."),
        ({"model": None}, "model", "missing_required_parameter", "Missing required parameter: 'model'."),
        ({"tools": [{}]}, "tools[0].type", "missing_required_parameter", "tools[0].type"),
    ],
)
def test_fields_out_of_bounds_are_refused_by_name(
    world: World, body: dict[str, Any], param: str, code: str, message: str
) -> None:
    with pytest.raises(Refused) as refused:
        world.assistants.create({"model": "m", **body})
    assert (refused.value.status, refused.value.param, refused.value.code) == (400, param, code)
    assert message in refused.value.message


def test_a_run_needs_something_to_do(world: World) -> None:
    assistant = world.assistants.create({"model": "m"})["id"]
    with pytest.raises(Refused) as refused:
        world.runs.create(world.threads.create({})["id"], {"assistant_id": assistant}, {})
    assert refused.value.code == "invalid_thread"
    assert world.created["run"] == 0


def test_attachments_must_exist_and_become_resources_of_the_thread(world: World) -> None:
    thread = world.threads.create({})["id"]
    attached = {"file_id": "file-x", "tools": [{"type": "file_search"}, {"type": "code_interpreter"}]}
    message = {"role": "user", "content": "read", "attachments": [attached]}
    with pytest.raises(Refused, match=r"No file found with id 'file-x'\."):
        world.threads.add_message(thread, message)
    form = Form({"purpose": "assistants"}, Content(b"text", "text/plain", "a.txt"))
    attached["file_id"] = world.files.upload(form)["id"]
    assert "status" not in world.threads.add_message(thread, message)
    resources = world.threads.get(thread)["tool_resources"]
    assert resources["code_interpreter"] == {"file_ids": [attached["file_id"]]}
    assert world.stores.list_files(resources["file_search"]["vector_store_ids"][0], {})["data"]


# ---- the dialects -----------------------------------------------------------------------------------------


def test_the_vendors_are_found() -> None:
    assert set(VENDORS) == {"openai", "openai_v1", "aimlapi", "apilaplas", "azure", "foundry"}


@pytest.mark.parametrize("name", ["openai", "aimlapi", "apilaplas"])
async def test_lists_statuses_and_metadata_differ_between_vendors(
    name: str, start_simulator: StartSimulator, session: aiohttp.ClientSession
) -> None:
    call = Caller(await start_simulator(name), session)
    is_openai = name == "openai"
    beta = {} if is_openai else {"OpenAI-Beta": ""}
    empty: dict[str, str] | None = {} if is_openai else None
    status, thread, _ = await call("POST", "/threads", {}, headers=beta)
    assert status == (200 if is_openai else 201)
    assert (thread["metadata"], thread["tool_resources"]) == (empty, {})
    assistant = (await call("POST", "/assistants", {"model": "m"}))[1]["id"]
    path = f"/threads/{thread['id']}/messages"
    nothing: Any = {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}
    assert (await call("GET", path))[1] == (nothing if is_openai else [])
    await call("POST", path, {"role": "user", "content": "hi"})
    listed = (await call("GET", path))[1]
    assert (listed["data"] if is_openai else listed)[0]["metadata"] == empty
    assistants = (await call("GET", "/assistants"))[1]
    assert ("first_id" in assistants, len(assistants["data"])) == (is_openai, 1)
    status, error, _ = await call("GET", path + "?limit=101")
    assert (status, error["error"]["code"]) == (400, "integer_above_max_value")
    assert (await call("GET", "/files"))[1] == nothing
    run = {"assistant_id": assistant, "stream": True}
    status, stream, headers = await call("POST", f"/threads/{thread['id']}/runs", run)
    assert status == (200 if is_openai else 201)
    assert headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert stream.endswith(b"event: done\ndata: [DONE]\n\n")
    assert (b'"metadata":null' in stream) is not is_openai


async def test_every_route_answers(call: Caller, vendor: Simulator) -> None:
    """Each is called once on objects that exist; a 400 may only say that a run is in the wrong status."""
    world = vendor.worlds["acme"]
    thread, assistant = stage(world, "call add", ADD)
    run: Any = world.runs.create(thread, {"assistant_id": assistant}, {})
    world.runs.get(thread, run["id"])
    world.runs.get(thread, run["id"])
    file = world.files.upload(Form({"purpose": "assistants"}, Content(b"x", "text/plain", "a.txt")))["id"]
    store = world.stores.create({})["id"]
    batch = world.stores.add_batch(store, {"file_ids": [file]})["id"]
    ids = {"assistant_id": assistant, "thread_id": thread, "run_id": run["id"], "file_id": file}
    ids |= {"vector_store_id": store, "batch_id": batch}
    ids["message_id"] = world.threads.list_messages(thread, {})["data"][0]["id"]
    ids["step_id"] = world.runs.list_steps(thread, run["id"], {})["data"][0]["id"]
    body = {"model": "m", "assistant_id": assistant, "file_id": file, "file_ids": [file], "query": "x"}
    body |= {
        "role": "user",
        "content": "hi",
        "tool_outputs": [],
        "attributes": {"a": 1},
        "metadata": {"b": "2"},
    }
    body |= {"thread": {"messages": [{"role": "user", "content": "hi"}]}}
    in_order = sorted(ROUTES, key=lambda route: (route.method == "DELETE", -len(route.template)))
    for route in in_order:
        status, answer, _ = await call(route.method, route.template.format(**ids), body)
        words = ("is active", "tool outputs", "multipart", "active run")
        expected = status == 200 or any(each in answer["error"]["message"] for each in words)
        assert expected, (route.method, route.template, answer)


async def test_openai_wants_its_header_and_names_the_account(call: Caller) -> None:
    status, error, _ = await call("POST", "/threads", {}, headers={"OpenAI-Beta": ""})
    assert (status, error["error"]["code"]) == (400, "invalid_beta")
    _, _, headers = await call("POST", "/threads", {}, headers={"OpenAI-Organization": "org-x"})
    assert (headers["openai-organization"], headers["openai-project"]) == ("org-x", "proj_acme")
    assert headers["x-request-id"].startswith("req_")
    assert "__cf_bm" in headers["set-cookie"]


async def test_accounts_are_apart_and_their_keys_are_not(call: Caller, vendor: Simulator) -> None:
    thread = (await call("POST", "/threads", {}))[1]["id"]
    assert (await call("GET", f"/threads/{thread}", key=TWO))[0] == 200
    status, error, _ = await call("GET", f"/threads/{thread}", key=OTHER)
    assert (status, error["error"]["message"]) == (404, f"No thread found with id '{thread}'.")
    status, error, _ = await call("GET", f"/threads/{thread}", key="sk-unknown-key-9999")
    assert (status, error["error"]["code"]) == (401, "invalid_api_key")
    assert "sk-unkno*******9999. You can find" in error["error"]["message"]
    assert [(each.account, each.key) for each in vendor.journal[1:3]] == [("acme", TWO), ("bolt", OTHER)]


async def test_what_is_no_operation_is_refused(call: Caller) -> None:
    assert (await call("GET", "/uploads"))[0] == 404
    assert (await call("PUT", "/threads"))[0] == 405
    assert (await call("POST", "/threads", data=b"{", headers={"Content-Type": "application/json"}))[0] == 400
    message = (await call("GET", "/threads/new"))[1]["error"]["message"]
    assert message == "Invalid 'thread_id': 'new'. Expected an ID that begins with 'thread'."


async def test_a_dialect_may_have_other_error_bodies(session: aiohttp.ClientSession) -> None:
    simulator = Simulator(replace(AIMLAPI, error_body=bare_error))
    await simulator.start()
    status, error, _ = await Caller(simulator, session)("GET", "/threads/thread_x")
    assert (status, error["error"]) == (404, "Not Found")
    await simulator.stop()


async def test_a_vendor_may_ignore_list_parameters(call: Caller, vendor: Simulator) -> None:
    thread = (await call("POST", "/threads", {"messages": [{"role": "user", "content": "x"}] * 30}))[1]["id"]
    page = (await call("GET", f"/threads/{thread}/messages?limit=2"))[1]
    path = f"/threads/{thread}/messages?limit=2&after={page['last_id']}"
    vendor.ignore_parameters(cursor=True)
    assert (await call("GET", path))[1]["data"] == page["data"]
    vendor.ignore_parameters(limit=True)
    assert len((await call("GET", path))[1]["data"]) == 28


async def test_it_listens_on_loopback_only() -> None:
    with pytest.raises(ValueError, match="not a loopback address"):
        await ThreadsServer().start("0.0.0.0")


# ---- the faults -------------------------------------------------------------------------------------------

BROKEN = (aiohttp.ClientError, ConnectionError)


async def test_a_fault_applies_to_what_it_is_meant_for(call: Caller, vendor: Simulator) -> None:
    limited = faults.status(429, headers={"retry-after": "1"})
    by_second_key: Any = {"path": "/threads$", "where": lambda received: received.key == TWO}
    fault = vendor.faults.add(limited, method="POST", **by_second_key, times=2, skip=1)
    statuses = [(await call("POST", "/threads", {}, key=key))[0] for key in (ONE, TWO, TWO, TWO, TWO)]
    assert statuses == [200, 200, 429, 429, 200]
    assert len(fault.hits) == 2
    assert vendor.created["thread"] == 3


@pytest.mark.parametrize("reset", [False, True])
async def test_cuts_tell_whether_the_work_was_done(call: Caller, vendor: Simulator, reset: bool) -> None:
    vendor.faults.add(faults.cut_before_work(reset=reset))
    vendor.faults.add(faults.cut_before_answer(reset=reset))
    vendor.faults.add(faults.cut(20, reset=reset))
    for done in (0, 1, 2):
        with pytest.raises(BROKEN):
            await call("POST", "/threads", {})
        assert vendor.created["thread"] == done
    assert [received.ending for received in vendor.journal] == ["cut"] * 3


async def test_every_vendor_fails_in_its_own_words(any_vendor: Simulator, session: aiohttp.ClientSession) -> None:
    call = Caller(any_vendor, session)
    refused = (await call("GET", "/threads/thread_x"))[1]["error"]
    any_vendor.faults.add(faults.status(503))
    status, answer, _ = await call("POST", "/threads", {})
    assert (status, answer["error"]["message"], answer["error"].keys()) == (503, "Simulated 503.", refused.keys())
    for act in (faults.cut_before_work(), faults.cut_before_answer()):
        any_vendor.faults.add(act)
        with pytest.raises(BROKEN):
            await call("POST", "/threads", {})
    assert any_vendor.created["thread"] == 1


async def test_every_vendor_stalls_goes_away_and_comes_back(
    any_vendor: Simulator, session: aiohttp.ClientSession
) -> None:
    call = Caller(any_vendor, session)
    assistant = (await call("POST", "/assistants", {"model": "m", "instructions": "x"}))[1]["id"]
    run = {"assistant_id": assistant, "stream": True}
    any_vendor.faults.add(faults.stall_stream(3, asyncio.Event()))
    asking = asyncio.create_task(call("POST", "/threads/runs", run))
    received = await any_vendor.arrived(path="/runs$")
    asking.cancel()
    await any_vendor.disconnected(received)
    assert (received.key, received.account, any_vendor.created["run"]) == (ONE, "acme", 1)
    await any_vendor.refuse()
    with pytest.raises(aiohttp.ClientConnectorError):
        await call("POST", "/threads", {})
    await any_vendor.allow()
    _, stream, _ = await call("POST", "/threads/runs", run)
    assert stream.endswith(b"event: done\ndata: [DONE]\n\n")


async def test_a_stream_is_cut_between_or_inside_events(call: Caller, vendor: Simulator) -> None:
    assistant = (await call("POST", "/assistants", {"model": "m", "instructions": "x"}))[1]["id"]
    vendor.faults.add(faults.cut(300))
    with pytest.raises(aiohttp.ClientPayloadError):
        await call("POST", "/threads/runs", {"assistant_id": assistant, "stream": True})
    assert vendor.created["run"] == 1


async def test_answers_are_garbage_dribbled_or_cut_anew(call: Caller, vendor: Simulator) -> None:
    pauses = []

    async def pause() -> None:
        pauses.append(1)

    vendor.faults.add(faults.garbage(b"<html>"))
    vendor.faults.add(faults.garbage([b"a", b"b"], "text/plain", applied=False))
    vendor.faults.add(faults.slow(10, pause))
    vendor.faults.add(faults.transform(lambda body: [b" ", body[:1], body[1:]]))
    answers = [await call("POST", "/threads", {}) for _ in range(4)]
    assert [answer[0] for answer in answers] == [200] * 4
    assert [answers[0][1], answers[1][1]] == [b"<html>", b"ab"]
    assert len(pauses) > 5
    assert answers[3][1]["object"] == "thread"
    assert vendor.created["thread"] == 3


async def test_held_and_stalled_answers_show_when_the_caller_leaves(call: Caller, vendor: Simulator) -> None:
    never = asyncio.Event()
    vendor.faults.add(faults.hold(never), path="/threads$")
    vendor.faults.add(faults.stall_stream(3, never), path="/runs$")
    assistant = (await call("POST", "/assistants", {"model": "m", "instructions": "x"}))[1]["id"]
    for path, body in (("/threads", {}), ("/threads/runs", {"assistant_id": assistant, "stream": True})):
        asking = asyncio.create_task(call("POST", path, body))
        received = await vendor.arrived(path=path + "$")
        assert vendor.created[path.rsplit("/")[-1].removesuffix("s")] == 1
        asking.cancel()
        assert await vendor.disconnected(received) < 1
        assert received.ending == "left"


async def test_a_held_answer_comes_when_it_is_let_go(call: Caller, vendor: Simulator) -> None:
    go = asyncio.Event()
    vendor.faults.add(faults.hold(go))
    asking = asyncio.create_task(call("POST", "/threads", {}))
    await vendor.arrived()
    go.set()
    assert (await asking)[0] == 200


async def test_a_vendor_that_is_away_refuses_and_comes_back_with_its_state(call: Caller, vendor: Simulator) -> None:
    thread = (await call("POST", "/threads", {}))[1]["id"]
    await vendor.refuse()
    with pytest.raises(aiohttp.ClientConnectorError):
        await call("GET", f"/threads/{thread}")
    await vendor.allow()
    assert (await call("GET", f"/threads/{thread}"))[0] == 200


async def test_the_journal_shows_what_came(call: Caller, vendor: Simulator) -> None:
    await call("POST", "/threads?a=1&a=%20", {"unknown": 1})
    [received] = vendor.journal
    assert (received.path, received.query, received.body) == ("/v1/threads", "a=1&a=%20", b'{"unknown": 1}')
    assert received.headers["openai-beta"] == "assistants=v2"
    form = aiohttp.FormData({"purpose": "assistants"})
    form.add_field("file", b"x" * 2**20, filename="big.bin")
    assert (await call("POST", "/files", data=form))[1]["bytes"] == 2**20
    assert (vendor.journal[1].body, vendor.journal[1].length > 2**20) == (b"", True)
