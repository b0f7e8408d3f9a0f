"""Runs over a model: what it is asked, what becomes of its answers, and of those that go wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import aiohttp
import orjson
import pytest

from gateway.sse import EventParser
from tests.conformance.conftest import ok
from tests.conformance.served.conftest import ADD, FIND, Serve, Served
from tests.conftest import TENANT_KEYS, edit
from tests.simulators import faults
from tests.simulators.answers import Answer, Breaks, Declines, Says, Thinks, says
from tests.simulators.chat_completions import as_json, refuse, without_done
from tests.simulators.threads_server.server import let_others_run

# --- what the model is asked ----------------------------------------------------------------------------------------


async def test_what_nobody_said_is_not_said_to_the_model(served: Served) -> None:
    """Some models refuse the defaults that a run shows."""
    run = await served.run("hello")
    assert (run["status"], run["temperature"], run["parallel_tool_calls"]) == ("completed", 1.0, True)
    [body] = served.model.bodies
    assert body.keys() == {"model", "messages", "stream", "stream_options"}
    assert (body["model"], body["messages"]) == ("gpt-4o", [{"role": "user", "content": "hello"}])


async def test_what_a_run_says_comes_before_what_its_assistant_says(served: Served) -> None:
    schema = {"name": "answer", "schema": {"type": "object", "properties": {}}}
    assistant = await served.assistant(ADD, instructions="Be long.", temperature=0.1)
    thread = await served.thread("hello")
    said = {
        "model": "gpt-4.1",
        "instructions": "Be brief.",
        "additional_instructions": "Be kind.",
        "additional_messages": [{"role": "assistant", "content": "yes?"}, {"role": "user", "content": "and?"}],
        "tools": [ADD, FIND],
        "temperature": 0.5,
        "top_p": 0.9,
        "response_format": {"type": "json_schema", "json_schema": schema},
        "tool_choice": {"type": "function", "function": {"name": "find"}},
        "parallel_tool_calls": False,
        "max_completion_tokens": 300,
    }
    run = await ok(served.gateway, "POST", f"/v1/threads/{thread}/runs", {"assistant_id": assistant, **said})
    await served.end(run)
    [body] = served.model.bodies
    copied = ("model", "temperature", "top_p", "response_format", "tool_choice", "parallel_tool_calls")
    assert {name: body[name] for name in copied} == {name: said[name] for name in copied}
    assert body["max_completion_tokens"] == 300
    assert [tool["function"]["name"] for tool in body["tools"]] == ["add", "find"]
    system, *messages = body["messages"]
    assert system["role"] == "system"
    assert "Be long" not in system["content"]
    assert system["content"].startswith("Be brief.")
    assert system["content"].endswith("Be kind.")
    assert [message["content"] for message in messages] == ["hello", "yes?", "and?"]


async def test_efforts_images_and_the_history_reach_the_model(served: Served) -> None:
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}}
    assistant = await served.assistant(model="o3", reasoning_effort="low")
    thread = await served.thread("first")
    for content in ([{"type": "text", "text": "look"}, image], "last"):
        await ok(served.gateway, "POST", f"/v1/threads/{thread}/messages", {"role": "user", "content": content})
        run = await ok(served.gateway, "POST", f"/v1/threads/{thread}/runs", {"assistant_id": assistant})
        assert (await served.end(run))["status"] == "completed"
    body = served.model.bodies[-1]
    assert (body["model"], body["reasoning_effort"]) == ("o3", "low")
    contents = [message["content"] for message in body["messages"]]
    assert contents[:2] == ["first", [{"type": "text", "text": "look"}, image]]
    assert contents[2:] == ["You said: look", "last"]


async def test_only_the_last_messages_are_sent_when_that_is_asked_for(served: Served) -> None:
    assistant, thread = await served.assistant(), await served.thread("one", "two", "three")
    last = {"truncation_strategy": {"type": "last_messages", "last_messages": 2}}
    run = await ok(served.gateway, "POST", f"/v1/threads/{thread}/runs", {"assistant_id": assistant, **last})
    await served.end(run)
    assert [message["content"] for message in served.model.bodies[0]["messages"]] == ["two", "three"]


async def test_a_prompt_beyond_its_limit_ends_the_run_incomplete(served: Served) -> None:
    run = await served.run("word " * 2000, max_prompt_tokens=256)
    assert (run["status"], run["incomplete_details"]) == ("incomplete", {"reason": "max_prompt_tokens"})
    assert served.model.bodies == []


async def test_the_callers_key_does_not_reach_the_model_and_ours_does(served: Served) -> None:
    await served.run("hello")
    assert {each.account for each in served.model.journal} == {"acme"}
    assert not any(TENANT_KEYS["alice"] in str(each.headers) for each in served.model.journal)


async def test_azures_models_are_asked_without_a_version_unless_the_provider_says_one(serve: Serve) -> None:
    for settings, query in ({}, ""), ({"api_version": "preview"}, "api-version=preview"):
        served = await serve("azure_chat", change=edit(providers__azure_chat=settings))
        assert (await served.run("hello"))["status"] == "completed"
        assert {each.query for each in served.model.journal} == {query}


# --- what becomes of its answers ------------------------------------------------------------------------------------

ANSWERED: Mapping[str, tuple[Answer, str, dict[str, Any]]] = {
    "text": (says("Hel", "lo", usage=(5, 2)), "completed", {"incomplete_details": None}),
    "thoughts are not told": (Answer((Thinks("Hm"), Says("Hello"))), "completed", {"last_error": None}),
    "the limit": (
        says("Hello", reason="length"),
        "incomplete",
        {"incomplete_details": {"reason": "max_completion_tokens"}},
    ),
    "an error": (Answer((Says("Hello"), Breaks({"message": "gone", "type": "server_error"}))), "failed", {}),
}


@pytest.mark.parametrize(("answer", "status", "facts"), ANSWERED.values(), ids=ANSWERED)
async def test_an_answer_ends_the_run_as_it_ends(
    answer: Answer, status: str, facts: dict[str, Any], served: Served
) -> None:
    served.model.script(answer, answer, answer)
    run = await served.run("hello")
    assert run["status"] == status
    assert {name: run[name] for name in facts} == facts
    message = await served.last_message(run["thread_id"])
    assert message["content"][0]["text"]["value"] == "Hello"
    assert message["status"] == ("completed" if status == "completed" else "incomplete")
    assert (message["run_id"], message["assistant_id"]) == (run["id"], run["assistant_id"])


async def test_a_filter_leaves_what_was_said_incomplete(served: Served) -> None:
    served.model.script(says("Hel", reason="content_filter"))
    run = await served.run("hello")
    assert run["status"] in ("incomplete", "failed")
    message = await served.last_message(run["thread_id"])
    assert (message["status"], message["incomplete_details"]) == ("incomplete", {"reason": "content_filter"})


async def test_a_refusal_is_a_part_of_its_own(served: Served) -> None:
    served.model.script(Answer((Declines("I'd "), Declines("rather not"))))
    run = await served.run("hello")
    assert run["status"] == "completed"
    message = await served.last_message(run["thread_id"])
    assert message["content"] == [{"type": "refusal", "refusal": "I'd rather not"}]


async def test_usage_stands_on_run_and_steps(served: Served) -> None:
    served.model.script(says("Hello", usage=(5, 2)))
    run = await served.run("hello")
    told = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    [step] = await served.steps(run)
    for usage in (run["usage"], step["usage"]):
        assert {name: usage[name] for name in told} == told


async def test_times_are_those_of_openai(served: Served) -> None:
    begun = await served.begin("hello")
    assert begun["expires_at"] == begun["created_at"] + 600
    run = await served.end(begun)
    assert run["expires_at"] is None
    assert run["created_at"] <= run["started_at"] <= run["completed_at"]


ODD = {"no end": without_done(), "JSON": as_json(), "slow": faults.slow(7, let_others_run)}


@pytest.mark.parametrize("act", ODD.values(), ids=ODD)
async def test_odd_forms_of_an_answer_do_no_harm(act: faults.Act, served: Served) -> None:
    served.model.faults.add(act)
    run = await served.run("hello")
    assert run["status"] == "completed"
    message = await served.last_message(run["thread_id"])
    assert message["content"][0]["text"]["value"] == "You said: hello"


# --- what goes wrong ------------------------------------------------------------------------------------------------

FAILING: Mapping[str, tuple[faults.Act, str]] = {
    "too fast": (refuse("too fast", {"retry-after": "0.01"}), "rate_limit_exceeded"),
    "bad prompt": (refuse("bad prompt"), "invalid_prompt"),
    "too long": (refuse("too long"), "invalid_prompt"),
    "no model": (refuse("no model"), "invalid_prompt"),
    "wrong key": (refuse("wrong key"), "server_error"),
    "no money": (refuse("no money"), "server_error"),
    "failed": (refuse("failed"), "server_error"),
    "overloaded": (refuse("overloaded"), "server_error"),
    "HTML": (faults.garbage(b"<html>"), "server_error"),
    "cut before the headers": (faults.cut_before_answer(), "server_error"),
    "cut before a word": (faults.cut_stream(1), "server_error"),
}


@pytest.mark.parametrize(("act", "code"), FAILING.values(), ids=FAILING)
async def test_a_run_whose_model_fails_has_failed(act: faults.Act, code: str, served: Served) -> None:
    served.model.faults.add(act, method="POST", times=None)
    run = await served.run("hello")
    assert (run["status"], run["last_error"]["code"]) == ("failed", code)
    told = run["last_error"]["message"]
    assert told
    assert not any(secret in told for secret in ("sk-acme", "9f3KxTq2LmZ0", *served.model.keys))
    assert run["expires_at"] is None
    listed = await ok(served.gateway, "GET", f"/v1/threads/{run['thread_id']}/messages")
    assert [message["role"] for message in listed["data"]] == ["user"]
    again = {"role": "user", "content": "again"}
    assert await ok(served.gateway, "POST", f"/v1/threads/{run['thread_id']}/messages", again)


@pytest.mark.parametrize("act", [faults.cut_stream(3), faults.cut_behind(b'"content":"lo')], ids=["between", "within"])
async def test_what_was_said_before_a_cut_stays_as_an_incomplete_message(act: faults.Act, served: Served) -> None:
    served.model.script(*[says("Hel", "lo")] * 4)
    served.model.faults.add(act, times=None)
    run = await served.run("hello")
    assert (run["status"], run["last_error"]["code"]) == ("failed", "server_error")
    message = await served.last_message(run["thread_id"])
    assert (message["status"], message["incomplete_details"]) == ("incomplete", {"reason": "run_failed"})
    assert "Hello".startswith(message["content"][0]["text"]["value"])
    [step] = await served.steps(run)
    assert (step["status"], step["last_error"]["code"]) == ("failed", "server_error")


async def test_a_model_that_stands_still_is_given_up(serve: Serve) -> None:
    served = await serve(change=edit(providers__openai_chat__timeouts={"idle_s": 0.2}))
    served.model.faults.add(faults.stall_stream(2, asyncio.Event()), times=None)
    run = await served.run("hello")
    assert (run["status"], run["last_error"]["code"]) == ("failed", "server_error")


async def test_a_cancelled_run_stops_the_models_stream(served: Served) -> None:
    served.model.faults.add(faults.stall_stream(2, asyncio.Event()))
    run = await served.begin("hello")
    asked = await served.model.arrived(method="POST")
    cancelled = await ok(served.gateway, "POST", f"/v1/threads/{run['thread_id']}/runs/{run['id']}/cancel", {})
    assert cancelled["status"] in ("cancelling", "cancelled")
    run = await served.end(run)
    assert (run["status"], run["last_error"]) == ("cancelled", None)
    assert run["cancelled_at"] >= run["created_at"]
    await served.model.disconnected(asked)
    assert await ok(
        served.gateway, "POST", f"/v1/threads/{run['thread_id']}/messages", {"role": "user", "content": "x"}
    )


async def test_a_run_that_waits_for_outputs_is_cancelled_at_once(served: Served) -> None:
    run = await served.run("call add", ADD)
    run = await ok(served.gateway, "POST", f"/v1/threads/{run['thread_id']}/runs/{run['id']}/cancel", {})
    run = await served.end(run)
    assert (run["status"], run["required_action"]) == ("cancelled", None)


async def test_a_run_goes_on_when_its_caller_leaves(served: Served, session: aiohttp.ClientSession) -> None:
    go = asyncio.Event()
    served.model.faults.add(faults.stall_stream(2, go))
    assistant, thread = await served.assistant(), await served.thread("hello")
    url, headers = f"{served.gateway.url}/v1/threads/{thread}/runs", {"Authorization": f"Bearer {TENANT_KEYS['alice']}"}
    body = {"assistant_id": assistant, "stream": True}
    async with session.post(url, json=body, headers=headers) as response:
        assert response.status == 200
        await response.content.readany()
        asked = await served.model.arrived(method="POST")
    go.set()
    [run] = (await ok(served.gateway, "GET", f"/v1/threads/{thread}/runs"))["data"]
    assert (await served.end(run))["status"] == "completed"
    assert asked.ending == "answered"


# --- streams as bytes -----------------------------------------------------------------------------------------------


async def stream(served: Served, thread: str, body: dict[str, Any], **headers: str) -> list[tuple[str, str, Any]]:
    """Name, id and data of each event."""
    sent = {"Authorization": f"Bearer {TENANT_KEYS['alice']}", **headers}
    url = f"{served.gateway.url}/v1/threads/{thread}/runs"
    async with served.gateway.session.post(url, json={**body, "stream": True}, headers=sent) as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
        raw = await response.read()
    ids = [line.removeprefix(b"id:").strip().decode() for line in raw.splitlines() if line.startswith(b"id:")]
    told = [event for event in EventParser().feed(raw) if event.data]
    data = [event.data if event.name == "done" else orjson.loads(event.data) for event in told]
    ids += [""] * (len(told) - len(ids))
    return [(event.name, id_, each) for event, id_, each in zip(told, ids, data, strict=True)]


async def test_events_come_in_the_recorded_order_with_their_objects(served: Served) -> None:
    served.model.script(says("Hel", "lo", usage=(5, 2)))
    assistant, thread = await served.assistant(), await served.thread("hello")
    events = await stream(served, thread, {"assistant_id": assistant})
    assert [name for name, _, _ in events] == [
        "thread.run.created",
        "thread.run.queued",
        "thread.run.in_progress",
        "thread.run.step.created",
        "thread.run.step.in_progress",
        "thread.message.created",
        "thread.message.in_progress",
        "thread.message.delta",
        "thread.message.delta",
        "thread.message.completed",
        "thread.run.step.completed",
        "thread.run.completed",
        "done",
    ]
    told = {name: data for name, _, data in reversed(events)}
    run = told["thread.run.created"]
    assert (run["object"], run["status"], run["expires_at"]) == ("thread.run", "queued", run["created_at"] + 600)
    message, step = told["thread.message.created"], told["thread.run.step.created"]
    assert (message["content"], message["run_id"], message["status"]) == ([], run["id"], "in_progress")
    assert step["step_details"] == {"type": "message_creation", "message_creation": {"message_id": message["id"]}}
    first, second = (data for name, _, data in events if name == "thread.message.delta")
    assert first["object"] == "thread.message.delta"
    assert (first["id"], second["id"]) == (message["id"], message["id"])
    assert first["delta"]["content"][0] == {"index": 0, "type": "text", "text": {"value": "Hel", "annotations": []}}
    assert second["delta"]["content"][0]["text"]["value"] == "lo"
    assert told["thread.message.completed"]["content"][0]["text"]["value"] == "Hello"
    assert (told["thread.run.completed"]["status"], told["thread.run.completed"]["expires_at"]) == ("completed", None)
    assert told["thread.run.completed"] == await ok(served.gateway, "GET", f"/v1/threads/{thread}/runs/{run['id']}")
    kept = await ok(served.gateway, "GET", f"/v1/threads/{thread}/messages/{message['id']}")
    assert told["thread.message.completed"] == kept
    [listed] = await served.steps(run)
    assert told["thread.run.step.completed"] == listed
    ids = [id_ for name, id_, _ in events if name != "done"]
    assert all(ids)
    assert len(set(ids)) == len(ids)


async def test_a_stream_that_makes_its_thread_tells_of_it_first(served: Served, session: aiohttp.ClientSession) -> None:
    body = {"assistant_id": await served.assistant(), "thread": {"messages": [{"role": "user", "content": "hello"}]}}
    headers = {"Authorization": f"Bearer {TENANT_KEYS['alice']}"}
    url = f"{served.gateway.url}/v1/threads/runs"
    async with session.post(url, json={**body, "stream": True}, headers=headers) as response:
        events = [event for event in EventParser().feed(await response.read()) if event.data]
    assert [event.name for event in events[:2]] == ["thread.created", "thread.run.created"]
    thread = orjson.loads(events[0].data)
    assert thread["id"] == orjson.loads(events[1].data)["thread_id"]
    assert events[-1].data == b"[DONE]"


async def test_a_repeat_with_the_same_key_hears_the_same_run(served: Served) -> None:
    assistant, thread = await served.assistant(), await served.thread("hello")
    body, key = {"assistant_id": assistant}, {"Idempotency-Key": "once"}
    first = await stream(served, thread, body, **key)
    assert await stream(served, thread, body, **key) == first
    assert len(served.model.bodies) == 1


# --- v1 clients -----------------------------------------------------------------------------------------------------


async def test_a_client_of_v1_holds_a_conversation(served: Served) -> None:
    v1 = {"headers": {"OpenAI-Beta": "assistants=v1"}}
    gateway = served.gateway
    assistant = await ok(gateway, "POST", "/v1/assistants", {"model": "gpt-4o", "tools": [ADD]}, **v1)
    assert assistant["file_ids"] == []
    thread = await ok(gateway, "POST", "/v1/threads", {"messages": [{"role": "user", "content": "call add"}]}, **v1)
    path = f"/v1/threads/{thread['id']}/runs"
    run = await ok(gateway, "POST", path, {"assistant_id": assistant["id"]}, **v1)
    run = await served.end(run)
    [call] = run["required_action"]["submit_tool_outputs"]["tool_calls"]
    outputs = {"tool_outputs": [{"tool_call_id": call["id"], "output": "3"}]}
    await served.end(await ok(gateway, "POST", f"{path}/{run['id']}/submit_tool_outputs", outputs, **v1))
    [answer, question] = (await ok(gateway, "GET", f"/v1/threads/{thread['id']}/messages", **v1))["data"]
    assert answer["content"][0]["text"]["value"] == "The tools answered: 3"
    assert (answer["file_ids"], question["file_ids"]) == ([], [])
    assert "attachments" not in answer
