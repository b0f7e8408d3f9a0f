"""Threads served over Anthropic's Messages API: the official SDK's flows, and what only this vendor does."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.conformance import test_sdk as scenarios
from tests.conformance.conftest import ok
from tests.conformance.served.conftest import ADD, FIND, Serve, Served
from tests.conftest import Events
from tests.simulators import faults
from tests.simulators.answers import Answer, Calls, Declines, Says, Thinks, says
from tests.simulators.anthropic_messages import ORGANIZATION, refuse

pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")


@pytest.fixture
async def served(serve: Serve) -> Served:
    return await serve("anthropic_messages")


async def submitted(served: Served, run: Any, output: str = "3") -> Any:
    """The run after all its calls were answered so."""
    asked = run["required_action"]["submit_tool_outputs"]["tool_calls"]
    outputs = [{"tool_call_id": call["id"], "output": output} for call in asked]
    path = f"/v1/threads/{run['thread_id']}/runs/{run['id']}/submit_tool_outputs"
    return await served.end(await ok(served.gateway, "POST", path, {"tool_outputs": outputs}))


async def test_a_conversation_with_tools_is_the_same_as_with_openai(served: Served) -> None:
    """Streamed and polled."""
    async with served.gateway.sdk() as sdk:
        await scenarios.streams(sdk, tools=[ADD])
        await scenarios.tools(sdk, others=[ADD])


async def test_thinking_goes_back_between_rounds_and_is_shown_to_nobody(served: Served) -> None:
    """The simulator refuses a round without it, or with one letter changed."""
    served.model.script(
        Answer(
            (Thinks("Secretly, "), Says("Let me see. "), Thinks("perhaps"), Says("So."), Calls("add", id="toolu_a"))
        ),
        Answer((Thinks("even more"), Calls("find", ('{"a"', ":1}")), Calls("add", ("{broken",)))),
        Answer((Thinks("at last"), Says("Done."))),
        says("Again."),
    )
    run = await submitted(served, await submitted(served, await served.run("use them", ADD, FIND)))
    assert (run["status"], run["last_error"]) == ("completed", None)
    told = [[block["type"] for block in message["content"]] for message in served.model.bodies[2]["messages"]]
    assert told == [
        ["text"],
        ["thinking", "text", "thinking", "text", "tool_use"],
        ["tool_result"],
        ["thinking", "tool_use", "tool_use"],
        ["tool_result", "tool_result"],
    ]
    assert served.model.bodies[2]["messages"][3]["content"][2]["input"] == {"INVALID_JSON": "{broken"}
    steps = await served.steps(run)
    assert [step["type"] for step in steps] == ["message_creation", "tool_calls", "tool_calls", "message_creation"]
    listed = await ok(served.gateway, "GET", f"/v1/threads/{run['thread_id']}/messages?order=asc")
    texts = [part["text"]["value"] for message in listed["data"] for part in message["content"]]
    assert texts == ["use them", "Let me see. ", "So.", "Done."]
    for thought in (b"ecretly", b"perhaps", b"even more", b"at last", b"signature"):
        assert thought not in orjson.dumps([run, steps, listed])

    asked = {"assistant_id": await served.assistant(), "additional_messages": [{"role": "user", "content": "And now?"}]}
    again = await served.end(await ok(served.gateway, "POST", f"/v1/threads/{run['thread_id']}/runs", asked))
    assert (again["status"], again["last_error"]) == ("completed", None)
    assert b"ecretly" not in orjson.dumps(served.model.bodies[3])  # its run is over
    assert served.model.bodies[3]["tool_choice"] == {"type": "none"}  # this assistant has no tools


async def test_the_beginning_of_a_conversation_is_found_in_the_cache(served: Served) -> None:
    run = await submitted(served, await served.run("call add", ADD, instructions="one two three"))
    step, _ = await served.steps(run)
    assert run["status"] == "completed"
    assert step["usage"]["prompt_token_details"] == {"cached_tokens": 0}
    assert run["usage"]["prompt_token_details"] == {"cached_tokens": step["usage"]["prompt_tokens"]}


@pytest.mark.parametrize(
    ("answer", "status", "reason", "text"),
    [
        (says("Hello"), "completed", None, "Hello"),
        (says("Hel", reason="length"), "incomplete", "max_completion_tokens", "Hel"),
        (says("Hel", reason="model_context_window_exceeded"), "incomplete", "max_completion_tokens", "Hel"),
        (Answer((Says("Hel"), Declines("I stop here"))), "incomplete", "content_filter", "HelI stop here"),
        (Answer((), reason="refusal"), "incomplete", "content_filter", None),
    ],
)
async def test_why_it_stopped_is_how_the_run_ends(
    answer: Answer, status: str, reason: str | None, text: str | None, served: Served
) -> None:
    served.model.script(answer)
    run = await served.run("hello")
    assert (run["status"], (run["incomplete_details"] or {}).get("reason")) == (status, reason)
    message = await served.last_message(run["thread_id"])
    if text is not None:
        assert (message["role"], message["content"][0]["text"]["value"]) == ("assistant", text)
    else:
        assert message["role"] == "user"


async def test_the_limit_is_the_runs_else_the_providers_else_the_apis(serve: Serve) -> None:
    def bound(settings: Any) -> None:
        settings["providers"]["anthropic_messages"]["max_tokens"] = 500

    for change, limit in ((lambda settings: None, 32_000), (bound, 500)):
        served = await serve("anthropic_messages", change=change)
        await served.run("hello")
        await served.run("hello", max_completion_tokens=300)
        assert [body["max_tokens"] for body in served.model.bodies] == [limit, 300]


async def test_a_thread_may_begin_and_end_with_the_assistant(served: Served) -> None:
    said = [{"role": "assistant", "content": "Welcome!"}, {"role": "user", "content": "hello"}]
    thread = (await ok(served.gateway, "POST", "/v1/threads", {"messages": said}))["id"]
    body = {"assistant_id": await served.assistant(ADD)}
    thinks = Answer((Thinks("Hm"), Calls("add")))
    served.model.script(says("Hello!"), thinks, thinks, says("Done."))
    for rounds in (0, 2):
        run = await served.end(await ok(served.gateway, "POST", f"/v1/threads/{thread}/runs", body))
        for _ in range(rounds):  # before each stands what stood there when it was asked for
            run = await submitted(served, run)
        assert (run["status"], run["last_error"]) == ("completed", None)


async def test_what_it_cannot_carry_is_refused_at_creation(served: Served) -> None:
    for body, param in (
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"reasoning_effort": "minimal"}, "reasoning_effort"),
        ({"temperature": 1.5}, "temperature"),
    ):
        status, error = await served.refusal("POST", "/v1/assistants", {"model": "m", **body})
        assert (status, error["param"], error["code"]) == (400, param, "unsupported_by_model_api")
    image = {"type": "image_url", "image_url": {"url": "https://a.test/b.png", "detail": "low"}}
    status, error = await served.refusal("POST", "/v1/threads", {"messages": [{"role": "user", "content": [image]}]})
    assert (status, error["param"]) == (400, "messages[0].content[0].image_url.detail")


# --- faults of keys and accounts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "event"),
    [
        ("wrong key", ("key.rests", "unauthorized")),
        ("no money", ("key.rests", "no_money")),
        ("no credit", ("key.rests", "no_money")),
        ("spent", ("key.rests", "no_money")),
        ("overloaded", None),
        ("failed", None),
    ],
)
async def test_another_key_or_another_try_helps(
    fault: str, event: tuple[str, str] | None, served: Served, events: Events
) -> None:
    served.model.faults.add(refuse(fault))
    run = await served.run("hello")
    assert (run["status"], len(served.model.journal)) == ("completed", 2)
    keys = {each.key for each in served.model.journal}
    if event is not None:
        assert len(keys) == 2
        [told] = events.named(event[0])
        assert told["why"] == event[1]


@pytest.mark.parametrize(
    ("fault", "code"),
    [("too long", "invalid_prompt"), ("too fast", "rate_limit_exceeded"), ("forbidden", "server_error")],
)
async def test_what_no_key_helps_against_fails_the_run(fault: str, code: str, served: Served, events: Events) -> None:
    served.model.faults.add(refuse(fault, {"retry-after": "20"} if fault == "too fast" else {}))
    run = await served.run("hello")
    assert (run["status"], run["last_error"]["code"], len(served.model.journal)) == ("failed", code, 1)
    assert ORGANIZATION not in orjson.dumps(run).decode()
    rests = [told["rest_s"] for told in events.named("account.rests")]
    assert rests == ([20] if fault == "too fast" else [])


async def test_a_key_is_tried_with_a_read_of_its_models(served: Served) -> None:
    app = served.gateway.app
    pool = next(pool for pool in app.pools.values() if pool.target.account.name == "acme")
    key = pool.target.account.keys[0]
    assert await app.probing.probe(pool, key) is True
    [asked] = served.model.journal
    assert (asked.method, asked.path) == ("GET", "/v1/models")
    assert (asked.headers["x-api-key"], asked.headers["anthropic-version"]) == (key.secret.reveal(), "2023-06-01")
    served.model.faults.add(refuse("wrong key"))
    assert await app.probing.probe(pool, key) is False


async def test_a_broken_stream_fails_the_run_and_keeps_what_came(served: Served) -> None:
    served.model.script(*[says("Hel", "lo")] * 4)
    served.model.faults.add(faults.cut_behind(b'"text":"lo"'), times=None)
    run = await served.run("hello")
    assert (run["status"], run["last_error"]["code"]) == ("failed", "server_error")
    message = await served.last_message(run["thread_id"])
    assert (message["status"], message["content"][0]["text"]["value"]) == ("incomplete", "Hel")
