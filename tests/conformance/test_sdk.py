"""The newest official SDK drives every operation of every vendor through the gateway, its helpers included.

The scenarios know nothing of vendors: what works with one works with all that speak its version of the protocol, and
what needs version 2 stands apart. `sdk` is an `AsyncOpenAI`, typed loosely,
because the unions of its models would drown the promises.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import openai
import pytest
from openai import AsyncAssistantEventHandler, BaseModel
from openai.types.beta.threads import Message
from pydantic import ValidationError

from gateway.operations import BY_NAME, Version
from tests.conformance.conftest import NEWEST, TOOLS, examples_of, names_params, speaking, version_of
from tests.conftest import Events, StartGateway, Vendor

# The SDK marks its Assistants methods as deprecated, some of them in one word.
pytestmark = [
    pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning"),
    pytest.mark.client(name=NEWEST, door="OpenAI"),
]

Scenario = Callable[[Any], Awaitable[None]]
Tools = Sequence[Mapping[str, Any]]
POLL: dict[str, Any] = {"poll_interval_ms": 1}


def checked(model: Any) -> Any:
    """The SDK builds its models without looking; this looks. Stored messages have no status, at OpenAI neither."""
    assert isinstance(model, BaseModel)
    if "metadata" in model.model_fields_set:
        assert model.metadata is not None  # type: ignore[attr-defined]
    try:
        type(model).model_validate(model.to_dict())
    except ValidationError as exc:
        odd = [(fault["loc"], fault["type"]) for fault in exc.errors()]
        assert isinstance(model, Message)
        assert odd == [(("status",), "missing")]
    return model


def ids_of(page: Any, *, more: bool) -> list[str]:
    """The ids of one page, which must be whole."""
    ids = [checked(item).id for item in page.data]
    first, last = (ids[0], ids[-1]) if ids else (None, None)
    assert (page.object, page.first_id, page.last_id, page.has_more) == ("list", first, last, more)
    return ids


async def all_ids(items: AsyncIterator[Any]) -> list[str]:
    return [checked(item).id async for item in items]


async def page_through(listing: Callable[..., Any], made: Sequence[str]) -> None:
    """A list, both ways and with both cursors. It may have other items than `made`, which are in order of creation."""

    def mine(ids: Sequence[str]) -> list[str]:
        return [each for each in ids if each in made]

    made = list(made)
    for query, expected in (
        ({"limit": 2, "order": "asc"}, made),
        ({"limit": 2, "order": "desc"}, made[::-1]),
        ({"limit": 1}, made[::-1]),
        ({"limit": 100}, made[::-1]),
        ({"limit": 1, "order": "asc", "after": made[1]}, made[2:]),
        ({"limit": 1, "order": "asc", "after": made[0], "before": made[2]}, made[1:2]),
        ({"limit": 1, "order": "desc", "after": made[2], "before": made[0]}, made[1:2]),
        ({"limit": 100, "order": "asc", "before": made[2]}, made[:2]),
        ({"limit": 100, "order": "desc", "before": made[0]}, made[:0:-1]),
        ({"order": "asc", "after": made[1], "before": made[0]}, []),
    ):
        assert mine(await all_ids(listing(**query))) == expected, query


async def until_ended(sdk: Any, run: Any) -> Any:
    return checked(await sdk.beta.threads.runs.poll(run_id=run.id, thread_id=run.thread_id, **POLL))


def outputs_for(run: Any, output: str = "3") -> list[dict[str, str]]:
    assert run.status == "requires_action"
    calls = run.required_action.submit_tool_outputs.tool_calls
    return [{"tool_call_id": call.id, "output": output} for call in calls]


def asking(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


async def last_content(sdk: Any, run: Any) -> Any:
    page = await sdk.beta.threads.messages.list(run.thread_id, run_id=run.id, order="desc", limit=1)
    assert len(ids_of(page, more=False)) == 1
    return page.data[0].content


# --- scenarios ------------------------------------------------------------------------------------------------------


async def assistants(sdk: Any, tools: Tools = TOOLS) -> None:
    given = {
        "model": "gpt-4o",
        "name": "Ann",
        "description": "d",
        "instructions": "i",
        "tools": tools,
        "metadata": {"a": "1"},
    }
    raw = await sdk.beta.assistants.with_raw_response.create(**given)
    assert raw.status_code == 200
    made = checked(raw.parse())
    assert {name: made.to_dict()[name] for name in given} == given
    changed = checked(await sdk.beta.assistants.update(made.id, name="Bea", metadata={"b": "2"}))
    assert (changed.id, changed.name, changed.metadata["b"]) == (made.id, "Bea", "2")
    assert checked(await sdk.beta.assistants.retrieve(made.id)) == changed
    others = [checked(await sdk.beta.assistants.create(model="m")) for _ in range(4)]
    assert others[0].metadata == {}
    await page_through(sdk.beta.assistants.list, [made.id, *(each.id for each in others)])
    gone = checked(await sdk.beta.assistants.delete(others[1].id))
    assert (gone.id, gone.object, gone.deleted) == (others[1].id, "assistant.deleted", True)
    assert others[1].id not in await all_ids(sdk.beta.assistants.list())


async def sampling(sdk: Any) -> None:
    given = {"temperature": 0.5, "top_p": 0.9, "response_format": {"type": "json_object"}}
    made = checked(await sdk.beta.assistants.create(model="gpt-4o", **given))
    assert {name: made.to_dict()[name] for name in given} == given
    assert checked(await sdk.beta.assistants.retrieve(made.id)) == made


async def threads(sdk: Any) -> None:
    empty = checked(await sdk.beta.threads.create())
    assert empty.metadata == {}
    empty.metadata["programs"] = "write into it"
    thread = checked(await sdk.beta.threads.create(**asking("hello"), metadata={"a": "1"}))
    changed = checked(await sdk.beta.threads.update(thread.id, metadata={"b": "2"}))
    assert (changed.id, changed.metadata["b"]) == (thread.id, "2")
    assert checked(await sdk.beta.threads.retrieve(thread.id)) == changed
    gone = checked(await sdk.beta.threads.delete(thread.id))
    assert (gone.id, gone.object, gone.deleted) == (thread.id, "thread.deleted", True)


async def messages(sdk: Any) -> None:
    thread = await sdk.beta.threads.create()
    assert ids_of(await sdk.beta.threads.messages.list(thread.id), more=False) == []
    made = [
        checked(await sdk.beta.threads.messages.create(thread.id, role="user", content=f"{n} ✨")) for n in range(5)
    ]
    assert {each.thread_id for each in made} == {thread.id}

    def listing(**query: Any) -> Any:
        return sdk.beta.threads.messages.list(thread.id, **query)

    ids = [each.id for each in made]
    await page_through(listing, ids)
    assert ids_of(await listing(limit=2, order="asc"), more=True) == ids[:2]
    assert ids_of(await listing(limit=5), more=False) == ids[::-1]
    assert ids_of(await listing(limit=2, order="asc", before=ids[4]), more=True) == ids[2:4]
    changed = checked(await sdk.beta.threads.messages.update(ids[0], thread_id=thread.id, metadata={"a": "1"}))
    assert (changed.metadata, changed.content[0].text.value) == ({"a": "1"}, "0 ✨")
    assert checked(await sdk.beta.threads.messages.retrieve(ids[0], thread_id=thread.id)) == changed


async def attachments(sdk: Any) -> None:
    file = await sdk.files.create(file=b"attached", purpose="assistants")
    thread = await sdk.beta.threads.create()
    attached = [{"file_id": file.id, "tools": [{"type": "code_interpreter"}]}]
    made = await sdk.beta.threads.messages.create(thread.id, role="user", content="read", attachments=attached)
    assert checked(made).attachments[0].file_id == file.id
    kept = checked(await sdk.beta.threads.messages.retrieve(made.id, thread_id=thread.id))
    assert kept.attachments == made.attachments


async def files_of_threads(sdk: Any) -> None:
    file = await sdk.files.create(file=b"attached", purpose="assistants")
    attached = [{"file_id": file.id, "tools": [{"type": "code_interpreter"}]}]
    thread = await sdk.beta.threads.create()
    await sdk.beta.threads.messages.create(thread.id, role="user", content="read", attachments=attached)
    thread = checked(await sdk.beta.threads.retrieve(thread.id))
    assert thread.tool_resources.code_interpreter.file_ids == [file.id]
    emptied = {"code_interpreter": {"file_ids": []}}
    thread = checked(await sdk.beta.threads.update(thread.id, tool_resources=emptied))
    assert thread.tool_resources.code_interpreter.file_ids == []


async def deleted_messages(sdk: Any) -> None:
    thread = await sdk.beta.threads.create()
    ids = [(await sdk.beta.threads.messages.create(thread.id, role="user", content=f"{n}")).id for n in range(5)]
    gone = checked(await sdk.beta.threads.messages.delete(ids[0], thread_id=thread.id))
    assert (gone.id, gone.object, gone.deleted) == (ids[0], "thread.message.deleted", True)
    assert await all_ids(sdk.beta.threads.messages.list(thread.id, order="asc")) == ids[1:]


async def runs(sdk: Any, tools: Tools = TOOLS) -> None:
    assistant = await sdk.beta.assistants.create(model="gpt-4o", tools=tools)
    thread = await sdk.beta.threads.create(**asking("Grüße 👋"))
    made = []
    for _ in range(3):
        run = checked(
            await sdk.beta.threads.runs.create_and_poll(thread_id=thread.id, assistant_id=assistant.id, **POLL)
        )
        assert (run.status, run.thread_id, run.assistant_id) == ("completed", thread.id, assistant.id)
        made.append(run.id)
    await page_through(lambda **query: sdk.beta.threads.runs.list(thread.id, **query), made)
    changed = checked(await sdk.beta.threads.runs.update(made[0], thread_id=thread.id, metadata={"a": "1"}))
    assert checked(await sdk.beta.threads.runs.retrieve(made[0], thread_id=thread.id)) == changed
    [answer] = (await sdk.beta.threads.messages.list(thread.id, run_id=made[0])).data
    assert (answer.run_id, answer.assistant_id) == (made[0], assistant.id)
    assert answer.content[0].text.value == "You said: Grüße 👋"


async def cancelling(sdk: Any) -> None:
    assistant = await sdk.beta.assistants.create(model="gpt-4o")
    thread = await sdk.beta.threads.create()
    run = checked(await sdk.beta.threads.runs.create(thread.id, assistant_id=assistant.id, **_additional("again")))
    assert run.metadata == {}
    assert checked(await sdk.beta.threads.runs.cancel(run.id, thread_id=thread.id)).status == "cancelling"
    assert (await until_ended(sdk, run)).status == "cancelled"


def _additional(text: str) -> dict[str, Any]:
    return {"additional_messages": asking(text)["messages"]}


async def create_and_run(sdk: Any) -> None:
    assistant = await sdk.beta.assistants.create(model="gpt-4o")
    raw = await sdk.beta.threads.with_raw_response.create_and_run(assistant_id=assistant.id, thread=asking("one"))
    assert raw.status_code == 200
    assert (await until_ended(sdk, checked(raw.parse()))).status == "completed"
    run = checked(await sdk.beta.threads.create_and_run_poll(assistant_id=assistant.id, thread=asking("two"), **POLL))
    assert (await last_content(sdk, run))[0].text.value == "You said: two"
    async with sdk.beta.threads.create_and_run_stream(assistant_id=assistant.id, thread=asking("three")) as stream:
        assert "".join([piece async for piece in stream.text_deltas]) == "You said: three"
        run = checked(await stream.get_final_run())
    assert (await last_content(sdk, run))[0].text.value == "You said: three"


async def tools(sdk: Any, others: Tools = TOOLS) -> None:
    find = {"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}
    assistant = await sdk.beta.assistants.create(model="gpt-4o", tools=[*others, find])
    prompt = 'call add {"a": [1]} call find again add'
    run = await sdk.beta.threads.create_and_run_poll(assistant_id=assistant.id, thread=asking(prompt), **POLL)
    rounds = 0
    while run.status == "requires_action":
        rounds += 1
        run = checked(
            await sdk.beta.threads.runs.submit_tool_outputs_and_poll(
                run_id=run.id, thread_id=run.thread_id, tool_outputs=outputs_for(run), **POLL
            )
        )
    assert (rounds, run.status) == (2, "completed")
    assert (await last_content(sdk, run))[0].text.value == "The tools answered: 3; 3; 3"

    def listing(**query: Any) -> Any:
        return sdk.beta.threads.runs.steps.list(run.id, thread_id=run.thread_id, **query)

    steps = await all_ids(listing(order="asc"))
    await page_through(listing, steps)
    step = checked(await sdk.beta.threads.runs.steps.retrieve(steps[0], run_id=run.id, thread_id=run.thread_id))
    assert (step.id, step.run_id, step.thread_id, step.assistant_id) == (
        steps[0],
        run.id,
        run.thread_id,
        assistant.id,
    )
    assert step.step_details.tool_calls[0].function.arguments == '{"a": [1]}'
    last = checked(await sdk.beta.threads.runs.steps.retrieve(steps[2], run_id=run.id, thread_id=run.thread_id))
    message = await sdk.beta.threads.messages.retrieve(
        last.step_details.message_creation.message_id, thread_id=run.thread_id
    )
    assert message.run_id == run.id

    run = await sdk.beta.threads.create_and_run_poll(assistant_id=assistant.id, thread=asking("call add"), **POLL)
    run = await sdk.beta.threads.runs.submit_tool_outputs(
        run.id, thread_id=run.thread_id, tool_outputs=outputs_for(run)
    )
    assert (await until_ended(sdk, run)).status == "completed"


class Listener(AsyncAssistantEventHandler):
    """Writes down what it hears."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []
        self.text = ""
        self.tool_calls: list[Any] = []
        self.images: list[str] = []
        self.ids: set[str] = set()

    async def on_event(self, event: Any) -> None:
        checked(event.data)
        self.heard.append(event.event)
        self.ids.add(event.data.id)

    async def on_text_done(self, text: Any) -> None:
        self.text += text.value

    async def on_tool_call_done(self, tool_call: Any) -> None:
        self.tool_calls.append(tool_call)

    async def on_image_file_done(self, image_file: Any) -> None:
        self.images.append(image_file.file_id)

    async def on_exception(self, exception: Exception) -> None:
        raise exception


async def streams(sdk: Any, tools: Tools = TOOLS) -> None:
    assistant = await sdk.beta.assistants.create(model="gpt-4o", tools=tools)
    thread = await sdk.beta.threads.create(**asking('call add {"a": 1}'))
    listener = Listener()
    async with sdk.beta.threads.runs.stream(
        thread_id=thread.id, assistant_id=assistant.id, event_handler=listener
    ) as stream:
        await stream.until_done()
        run = checked(await stream.get_final_run())
    assert [call.function.arguments for call in listener.tool_calls] == ['{"a": 1}']
    assert listener.heard[0] == "thread.run.created"
    assert listener.heard[-1] == "thread.run.requires_action"
    step_ids = set(await all_ids(sdk.beta.threads.runs.steps.list(run.id, thread_id=thread.id)))
    assert listener.ids == {run.id} | step_ids

    listener = Listener()
    async with sdk.beta.threads.runs.submit_tool_outputs_stream(
        run_id=run.id,
        thread_id=thread.id,
        tool_outputs=outputs_for(run, "\u2028event: done\n"),
        event_handler=listener,
    ) as stream:
        await stream.until_done()
        steps, spoken = await stream.get_final_run_steps(), await stream.get_final_messages()
    assert listener.text == "The tools answered: \u2028event: done\n"
    assert listener.heard[-1] == "thread.run.completed"
    [message] = map(checked, spoken)
    kept = await sdk.beta.threads.messages.retrieve(message.id, thread_id=thread.id)
    assert (kept.content, kept.run_id) == (message.content, run.id)
    assert checked(steps[-1]).step_details.message_creation.message_id == message.id

    raw = await sdk.beta.threads.runs.create(thread.id, assistant_id=assistant.id, stream=True, **_additional("hi"))
    names = [event.event async for event in raw]
    assert names[-1] == "thread.run.completed"
    assert await sdk.beta.threads.runs.list(thread.id, limit=1)


async def code(sdk: Any) -> None:
    assistant = await sdk.beta.assistants.create(model="gpt-4o", tools=TOOLS)
    listener = Listener()
    async with sdk.beta.threads.create_and_run_stream(
        assistant_id=assistant.id, thread=asking("plot"), event_handler=listener
    ) as stream:
        run = await stream.get_final_run()
    [shown] = listener.images
    call = listener.tool_calls[0]  # the SDK says it again when the message is done
    assert "plot(1, 1)" in call.code_interpreter.input
    image, text = await last_content(sdk, run)
    assert image.image_file.file_id == shown
    assert (await sdk.files.content(shown)).content.startswith(b"\x89PNG")
    [link] = text.text.annotations
    assert text.text.value[link.start_index : link.end_index] == link.text == "sandbox:/mnt/data/plot.csv"
    assert checked(await sdk.files.retrieve(link.file_path.file_id)).purpose == "assistants_output"
    step = (await sdk.beta.threads.runs.steps.list(run.id, thread_id=run.thread_id, order="asc")).data[0]
    assert checked(step).step_details.tool_calls[0].code_interpreter.outputs[1].image.file_id == shown


async def search(sdk: Any) -> None:
    notes = await sdk.files.create(file=("nötes.txt", b"words"), purpose="assistants")
    resources = {"file_search": {"vector_stores": [{"file_ids": [notes.id]}]}}
    assistant = checked(await sdk.beta.assistants.create(model="gpt-4o", tools=TOOLS, tool_resources=resources))
    assert [tool.type for tool in assistant.tools] == ["function", "code_interpreter", "file_search"]
    run = await sdk.beta.threads.create_and_run_poll(assistant_id=assistant.id, thread=asking("search"), **POLL)
    [text] = await last_content(sdk, run)
    assert text.text.annotations[0].file_citation.file_id == notes.id
    steps = await sdk.beta.threads.runs.steps.list(run.id, thread_id=run.thread_id, order="asc")
    [call] = checked(steps.data[0]).step_details.tool_calls
    assert (call.type, call.file_search.results) == ("file_search", None)
    listener = Listener()
    chosen = {"tool_choice": {"type": "file_search"}}
    async with sdk.beta.threads.create_and_run_stream(
        assistant_id=assistant.id, thread=asking("search"), event_handler=listener, **chosen
    ) as stream:
        run = checked(await stream.get_final_run())
    assert run.to_dict()["tool_choice"] == chosen["tool_choice"]
    assert {call.type for call in listener.tool_calls} == {"file_search"}
    assert (await last_content(sdk, run))[0].text.annotations[0].file_citation.file_id == notes.id


async def found(sdk: Any) -> None:
    notes = await sdk.files.create(file=("nötes.txt", b"words"), purpose="assistants")
    resources = {"file_search": {"vector_stores": [{"file_ids": [notes.id]}]}}
    assistant = await sdk.beta.assistants.create(model="gpt-4o", tools=TOOLS, tool_resources=resources)
    [store_id] = assistant.tool_resources.file_search.vector_store_ids
    assert checked(await sdk.vector_stores.retrieve(store_id)).file_counts.completed == 1
    run = await sdk.beta.threads.create_and_run_poll(assistant_id=assistant.id, thread=asking("search"), **POLL)
    shown = ["step_details.tool_calls[*].file_search.results[*].content"]
    for include, file_ids in ((openai.omit, None), (shown, [notes.id])):
        steps = await sdk.beta.threads.runs.steps.list(run.id, thread_id=run.thread_id, include=include, order="asc")
        results = checked(steps.data[0]).step_details.tool_calls[0].file_search.results
        assert (results and [each.file_id for each in results]) == file_ids


async def endings(sdk: Any) -> None:
    assistant = await sdk.beta.assistants.create(model="gpt-4o")
    for word, status in (("fail", "failed"), ("truncate", "incomplete"), ("expire", "expired")):
        run = await sdk.beta.threads.create_and_run_poll(assistant_id=assistant.id, thread=asking(word), **POLL)
        assert checked(run).status == status
        if status == "failed":
            assert run.last_error.message == f"Sorry, something went wrong with {run.id} in {run.thread_id}."


async def files(sdk: Any) -> None:
    data = b"one\r\n\x00two\r\n--"
    raw = await sdk.files.with_raw_response.create(file=("nötes.txt", data), purpose="assistants")
    assert raw.status_code == 200
    notes = checked(raw.parse())
    assert (notes.filename, notes.bytes, notes.purpose) == ("nötes.txt", len(data), "assistants")
    made = [notes.id] + [(await sdk.files.create(file=b"x", purpose="assistants")).id for _ in range(4)]
    picture = await sdk.files.create(file=b"x", purpose="vision")
    assert picture.id not in await all_ids(sdk.files.list(purpose="assistants"))
    assert picture.id in await all_ids(sdk.files.list())
    for order, expected in (("asc", made), ("desc", made[::-1])):
        listed = await all_ids(sdk.files.list(purpose="assistants", order=order, limit=2))
        assert [each for each in listed if each in made] == expected
    assert checked(await sdk.files.retrieve(notes.id)).id == notes.id
    assert (await sdk.files.content(notes.id)).content == data
    assert checked(await sdk.files.wait_for_processing(notes.id, poll_interval=0.001)).status == "processed"
    gone = checked(await sdk.files.delete(notes.id))
    assert (gone.id, gone.object, gone.deleted) == (notes.id, "file", True)
    assert notes.id not in await all_ids(sdk.files.list())


async def vector_stores(sdk: Any) -> None:
    uploaded = [(await sdk.files.create(file=b"words", purpose="assistants")).id for _ in range(4)]
    store = checked(await sdk.vector_stores.create(name="s", file_ids=uploaded[:1], metadata={"a": "1"}))
    others = [checked(await sdk.vector_stores.create()).id for _ in range(2)]
    await page_through(sdk.vector_stores.list, [store.id, *others])
    changed = checked(await sdk.vector_stores.update(store.id, name="t", metadata={"b": "2"}))
    assert (changed.id, changed.name, changed.metadata["b"]) == (store.id, "t", "2")

    within: dict[str, Any] = {"vector_store_id": store.id}
    added = checked(await sdk.vector_stores.files.create_and_poll(uploaded[1], **within, **POLL))
    assert (added.id, added.vector_store_id, added.status) == (uploaded[1], store.id, "completed")
    sent = checked(await sdk.vector_stores.files.upload_and_poll(file=b"sent", **within, **POLL))
    placed = checked(await sdk.vector_stores.files.create(store.id, file_id=uploaded[2], attributes={"n": 1.0}))
    assert placed.attributes == {"n": 1.0}
    changed = checked(await sdk.vector_stores.files.update(uploaded[2], **within, attributes={"n": 2.0}))
    assert checked(await sdk.vector_stores.files.retrieve(uploaded[2], **within)).attributes == changed.attributes
    inside = [uploaded[0], uploaded[1], sent.id, uploaded[2]]
    await page_through(lambda **query: sdk.vector_stores.files.list(store.id, **query), inside)
    assert [part.text async for part in sdk.vector_stores.files.content(sent.id, **within)] == ["sent"]
    gone = checked(await sdk.vector_stores.files.delete(sent.id, **within))
    assert (gone.id, gone.object) == (sent.id, "vector_store.file.deleted")

    batch = checked(await sdk.vector_stores.file_batches.create_and_poll(store.id, file_ids=uploaded[3:], **POLL))
    assert (batch.vector_store_id, batch.status, batch.file_counts.total) == (store.id, "completed", 1)
    listed = sdk.vector_stores.file_batches.list_files(batch.id, **within, limit=1)
    assert await all_ids(listed) == uploaded[3:]
    several = checked(await sdk.vector_stores.file_batches.upload_and_poll(store.id, files=[b"a", b"b"], **POLL))
    assert several.file_counts.completed == 2
    assert len(await all_ids(sdk.vector_stores.file_batches.list_files(several.id, **within, limit=1))) == 2
    batch = await sdk.vector_stores.file_batches.create(store.id, file_ids=uploaded[3:])
    assert checked(await sdk.vector_stores.file_batches.cancel(batch.id, **within)).status == "cancelled"
    assert checked(await sdk.vector_stores.file_batches.retrieve(batch.id, **within)).id == batch.id

    found = await sdk.vector_stores.search(store.id, query="words", max_num_results=2)
    assert [checked(each).file_id for each in found.data] == uploaded[:2]
    gone = checked(await sdk.vector_stores.delete(store.id))
    assert (gone.id, gone.object, gone.deleted) == (store.id, "vector_store.deleted", True)


IN_EVERY_VERSION = (
    assistants,
    threads,
    messages,
    attachments,
    runs,
    cancelling,
    create_and_run,
    tools,
    streams,
    code,
    search,
    endings,
    files,
)
SCENARIOS: Mapping[Version, tuple[Scenario, ...]] = {
    "v1": IN_EVERY_VERSION,
    "v2": (*IN_EVERY_VERSION, sampling, files_of_threads, deleted_messages, found, vector_stores),
}
"""By the version of the protocol that the vendor speaks; the SDK speaks v2 with all of them."""


# --- tests ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vendor", "scenario"),
    [
        pytest.param(vendor, scenario, id=f"{vendor}-{scenario.__name__}")
        for version, scenarios in SCENARIOS.items()
        for vendor in speaking(version)
        for scenario in scenarios
    ],
    indirect=["vendor"],
)
async def test_the_sdk_works_as_with_openai(
    vendor: Vendor, start_gateway: StartGateway, events: Events, scenario: Scenario
) -> None:
    """On an account that tenants share; and every single answer is a 200."""
    gateway = await start_gateway(vendor)
    async with gateway.sdk() as sdk:
        await scenario(sdk)
    assert {line["status"] for line in events.named("request.done")} == {200}


async def test_all_scenarios_at_once_drive_every_operation(
    vendor: Vendor, start_gateway: StartGateway, events: Events
) -> None:
    """On the account that carol owns, whose lists come from the vendor; nothing disturbs anything."""
    gateway = await start_gateway(vendor)
    async with gateway.sdk("carol") as sdk, asyncio.TaskGroup() as together:
        for scenario in SCENARIOS[version_of(vendor)]:
            together.create_task(scenario(sdk))  # type: ignore[arg-type]
    lines = events.named("request.done")
    spoken = {name for name in examples_of(vendor) if BY_NAME[name].only_in is None}
    assert {line["operation"] for line in lines} == spoken
    assert {line["status"] for line in lines} == {200}
    assert {line["account"] for line in lines} == {"bolt"}


async def test_the_sdk_raises_what_it_raised_with_openai(vendor: Vendor, start_gateway: StartGateway) -> None:
    gateway = await start_gateway(vendor)
    async with gateway.sdk() as sdk:
        thread = await sdk.beta.threads.create()
        await sdk.beta.threads.delete(thread.id)
        with pytest.raises(openai.NotFoundError, match=f"No thread found with id '{thread.id}'."):
            await sdk.beta.threads.retrieve(thread.id)
        with pytest.raises(openai.BadRequestError) as refused:
            await sdk.beta.threads.create(metadata={"modified": True})  # type: ignore[dict-item]
        if names_params(vendor):
            assert (refused.value.param, refused.value.code) == ("metadata.modified", "invalid_type")
        with pytest.raises(openai.AuthenticationError) as unknown:
            await sdk.with_options(api_key="wrong").beta.threads.create()
        assert unknown.value.code == "invalid_api_key"
