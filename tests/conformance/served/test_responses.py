"""Served threads over OpenAI's Responses: what the vendor is asked, what of its answers is shown and what is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from tests.conformance.conftest import ok
from tests.conformance.served.conftest import ADD, FIND, Serve, Served
from tests.conftest import edit
from tests.simulators import faults
from tests.simulators.answers import Answer, Breaks, Calls, Declines, Says, Thinks, says
from tests.simulators.chat_completions import as_json, refuse


@pytest.fixture
async def served(serve: Serve) -> Served:
    return await serve("openai_responses")


async def test_what_nobody_said_is_not_said_to_the_model(served: Served) -> None:
    run = await served.run("hello")
    assert run["status"] == "completed"
    [body] = served.model.bodies
    assert body == {"model": "gpt-4o", "input": [{"role": "user", "content": "hello"}], "store": False, "stream": True}


async def test_what_a_run_says_reaches_the_model(served: Served) -> None:
    schema = {"name": "answer", "schema": {"type": "object", "properties": {}}}
    said = {
        "model": "o3",
        "instructions": "Be brief.",
        "tools": [ADD, FIND],
        "top_p": 0.9,
        "response_format": {"type": "json_schema", "json_schema": schema},
        "tool_choice": {"type": "function", "function": {"name": "find"}},
        "parallel_tool_calls": False,
        "reasoning_effort": "low",
        "max_completion_tokens": 300,
    }
    await served.run("hello", **said)
    [body] = served.model.bodies
    assert (body["model"], body["instructions"], body["top_p"]) == ("o3", "Be brief.", 0.9)
    assert body["text"] == {"format": {"type": "json_schema", **schema}}
    assert [(tool["name"], tool["strict"]) for tool in body["tools"]] == [("add", False), ("find", False)]
    assert (body["tool_choice"], body["parallel_tool_calls"]) == ({"type": "function", "name": "find"}, False)
    assert (body["reasoning"], body["max_output_tokens"]) == ({"effort": "low"}, 300)
    assert body["include"] == ["reasoning.encrypted_content"]


async def test_thoughts_go_from_round_to_round_and_are_never_shown(served: Served) -> None:
    """The vendor refuses them where they are not what it gave, or not before what followed them."""
    served.model.script(
        Answer((Thinks("Hm"), Calls("add", ('{"a"', ":1}")))),
        Answer((Thinks("Well"), Says("One moment."), Thinks("So"), Calls("find"))),
        Answer((Thinks("Ah"), Says("Four."))),
    )
    run = await served.run("hello", ADD, FIND, model="gpt-5")
    for _ in range(2):
        [call] = run["required_action"]["submit_tool_outputs"]["tool_calls"]
        outputs = {"tool_outputs": [{"tool_call_id": call["id"], "output": "3"}]}
        path = f"/v1/threads/{run['thread_id']}/runs/{run['id']}/submit_tool_outputs"
        run = await served.end(await ok(served.gateway, "POST", path, outputs))
    assert run["status"] == "completed"
    kinds = [item.get("type", item.get("role")) for item in served.model.bodies[-1]["input"]]
    first = ["reasoning", "function_call", "function_call_output"]
    assert kinds == ["user", *first, "reasoning", "assistant", *first]
    listed = await ok(served.gateway, "GET", f"/v1/threads/{run['thread_id']}/messages?order=asc")
    assert [each["content"][0]["text"]["value"] for each in listed["data"]] == ["hello", "One moment.", "Four."]
    steps = str(await served.steps(run))
    assert not any(secret in steps for secret in ("encrypted", "gAAAAAB"))

    again = {"role": "user", "content": "again"}
    await ok(served.gateway, "POST", f"/v1/threads/{run['thread_id']}/messages", again)
    body = {"assistant_id": run["assistant_id"]}
    next_run = await served.end(await ok(served.gateway, "POST", f"/v1/threads/{run['thread_id']}/runs", body))
    assert next_run["status"] == "completed"
    assert not any(item.get("type") == "reasoning" for item in served.model.bodies[-1]["input"])


ANSWERED: Mapping[str, tuple[Answer, str, dict[str, Any]]] = {
    "text": (says("Hel", "lo", usage=(5, 2)), "completed", {"incomplete_details": None}),
    "the limit": (
        says("Hello", reason="length"),
        "incomplete",
        {"incomplete_details": {"reason": "max_completion_tokens"}},
    ),
    "a filter": (
        says("Hello", reason="content_filter"),
        "incomplete",
        {"incomplete_details": {"reason": "content_filter"}},
    ),
    "an error": (Answer((Says("Hello"), Breaks({"message": "gone", "type": "server_error"}))), "failed", {}),
}


@pytest.mark.parametrize(("answer", "status", "facts"), ANSWERED.values(), ids=ANSWERED)
async def test_an_answer_ends_the_run_as_it_ends(
    answer: Answer, status: str, facts: dict[str, Any], served: Served
) -> None:
    served.model.script(answer)
    run = await served.run("hello")
    assert run["status"] == status
    assert {name: run[name] for name in facts} == facts
    message = await served.last_message(run["thread_id"])
    assert message["content"][0]["text"]["value"] == "Hello"
    assert message["status"] == ("completed" if status == "completed" else "incomplete")


async def test_a_refusal_is_a_part_of_its_own(served: Served) -> None:
    served.model.script(Answer((Says("Well."), Declines("I'd "), Declines("rather not"))))
    run = await served.run("hello")
    text, refusal = (await served.last_message(run["thread_id"]))["content"]
    assert text["text"]["value"] == "Well."
    assert refusal == {"type": "refusal", "refusal": "I'd rather not"}


async def test_an_answer_that_is_no_stream_does_no_harm(served: Served) -> None:
    served.model.faults.add(as_json())
    run = await served.run("hello")
    assert run["status"] == "completed"
    assert (await served.last_message(run["thread_id"]))["content"][0]["text"]["value"] == "You said: hello"


FAILING: Mapping[str, tuple[faults.Act, str]] = {
    "too fast": (refuse("too fast", {"retry-after": "0.01"}), "rate_limit_exceeded"),
    "too long": (refuse("too long"), "invalid_prompt"),
    "wrong key": (refuse("wrong key"), "server_error"),
    "overloaded": (refuse("overloaded"), "server_error"),
    "HTML": (faults.garbage(b"<html>"), "server_error"),
    "cut before a word": (faults.cut_stream(2), "server_error"),
}


@pytest.mark.parametrize(("act", "code"), FAILING.values(), ids=FAILING)
async def test_a_run_whose_model_fails_has_failed(act: faults.Act, code: str, served: Served) -> None:
    served.model.faults.add(act, method="POST", times=None)
    run = await served.run("hello")
    assert (run["status"], run["last_error"]["code"]) == ("failed", code)
    listed = await ok(served.gateway, "GET", f"/v1/threads/{run['thread_id']}/messages")
    assert [message["role"] for message in listed["data"]] == ["user"]


async def test_what_was_said_before_a_cut_stays_as_an_incomplete_message(served: Served) -> None:
    served.model.script(says("Hel", "lo"))
    served.model.faults.add(faults.cut_behind(b'"delta":"lo'), times=None)
    run = await served.run("hello")
    assert (run["status"], run["last_error"]["code"]) == ("failed", "server_error")
    message = await served.last_message(run["thread_id"])
    assert (message["status"], message["content"][0]["text"]["value"]) == ("incomplete", "Hel")


async def test_a_model_that_stands_still_is_given_up(serve: Serve) -> None:
    served = await serve("openai_responses", change=edit(providers__openai_responses__timeouts={"idle_s": 0.2}))
    served.model.faults.add(faults.stall_stream(5, asyncio.Event()), times=None)
    run = await served.run("hello")
    assert (run["status"], run["last_error"]["code"]) == ("failed", "server_error")
