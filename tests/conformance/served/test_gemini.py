"""Runs over Google's own API: tools and streams as with OpenAI, and what only this vendor does."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance import test_sdk as scenarios
from tests.conformance.conftest import ok
from tests.conformance.served.conftest import ADD, FIND, Serve, Served
from tests.conftest import Events
from tests.simulators.answers import Answer, Calls, Says, calls, says
from tests.simulators.gemini import BLOCKED, Gemini, refuse

pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")


@pytest.fixture
async def served(serve: Serve) -> Served:
    return await serve("gemini_native")


@pytest.fixture
def google(served: Served) -> Gemini:
    assert isinstance(served.model, Gemini)
    return served.model


async def outputs(served: Served, run: Any, *given: str) -> Any:
    """The run after these outputs, in the order of its calls."""
    asked = run["required_action"]["submit_tool_outputs"]["tool_calls"]
    told = [{"tool_call_id": call["id"], "output": output} for call, output in zip(asked, given, strict=True)]
    path = f"/v1/threads/{run['thread_id']}/runs/{run['id']}/submit_tool_outputs"
    return await served.end(await ok(served.gateway, "POST", path, {"tool_outputs": told[::-1]}))


async def test_the_sdk_works_as_with_openai(served: Served) -> None:
    """Streamed with a round of calls, whose arguments are written anew: there they are no text."""
    async with served.gateway.sdk() as sdk:
        await scenarios.runs(sdk, tools=[ADD])
        assistant = await sdk.beta.assistants.create(model="gemini-3.8-flash", tools=[ADD])  # type: ignore[list-item]
        thread = await sdk.beta.threads.create(**scenarios.asking('call add {"a": 1}'))
        async with sdk.beta.threads.runs.stream(thread_id=thread.id, assistant_id=assistant.id) as stream:
            await stream.until_done()
            run = scenarios.checked(await stream.get_final_run())
        assert run.required_action is not None
        [call] = run.required_action.submit_tool_outputs.tool_calls
        assert call.function.arguments == '{"a":1}'
        given = [{"tool_call_id": call.id, "output": "Grüße 👋"}]
        async with sdk.beta.threads.runs.submit_tool_outputs_stream(
            thread_id=thread.id,
            run_id=run.id,
            tool_outputs=given,  # type: ignore[arg-type]
        ) as stream:
            told = [text async for text in stream.text_deltas]
            run = scenarios.checked(await stream.get_final_run())
        assert ("".join(told), run.status) == ("The tools answered: Grüße 👋", "completed")
        assert len(told) > 1


async def test_rounds_of_calls_go_back_as_the_model_made_them(served: Served, google: Gemini) -> None:
    """Ids and signatures too: the vendor looks at both. The next run of the thread knows of the calls."""
    google.script(
        Answer((Says("One moment."), Calls("add", ('{"a": [1]}',), "fc_1"), Calls("find"))),
        calls(Calls("find", ('{"b":2}',))),
    )
    run = await served.run("go on", ADD, FIND, instructions="Be brief.")
    made = run["required_action"]["submit_tool_outputs"]["tool_calls"]
    assert made[0] == {"id": "fc_1", "type": "function", "function": {"name": "add", "arguments": '{"a":[1]}'}}
    run = await outputs(served, run, "3", "4")
    run = await outputs(served, run, "5")
    assert (run["status"], run["last_error"]) == ("completed", None)
    message = await served.last_message(run["thread_id"])
    assert message["content"][0]["text"]["value"] == "The tools answered: 3; 4; 5"
    spent = [step["usage"]["total_tokens"] for step in await served.steps(run) if step["usage"]]
    assert (len(spent), run["usage"]["total_tokens"]) == (3, sum(spent))

    *_, third = google.bodies
    roles = [(content["role"], [next(iter(part)) for part in content["parts"]]) for content in third["contents"]]
    assert roles == [
        ("user", ["text"]),
        ("model", ["text", "functionCall", "functionCall"]),
        ("user", ["functionResponse", "functionResponse"]),
        ("model", ["functionCall"]),
        ("user", ["functionResponse"]),
    ]
    assert third["systemInstruction"] == {"parts": [{"text": "Be brief."}]}
    assert google.models_asked == ["models/gpt-4o"] * 3

    thread, again = run["thread_id"], {"assistant_id": run["assistant_id"]}
    await ok(served.gateway, "POST", f"/v1/threads/{thread}/messages", {"role": "user", "content": "thanks"})
    run = await served.end(await ok(served.gateway, "POST", f"/v1/threads/{thread}/runs", again))
    assert run["status"] == "completed"
    sent = google.bodies[-1]["contents"]
    assert sent[:5] != third["contents"]  # without the signatures, which are of the turn before
    assert [content["role"] for content in sent] == ["user", "model", "user", "model", "user", "model", "user"]


ENDINGS: dict[str, tuple[Answer, str, Any, Any]] = {
    "a blocked prompt": (Answer((), reason=BLOCKED), "incomplete", "content_filter", None),
    "a blocked answer": (says("Hel", reason="content_filter"), "incomplete", "content_filter", None),
    "recitation": (says("Hel", reason="RECITATION"), "incomplete", "content_filter", None),
    "the limit": (says("Hel", reason="length"), "incomplete", "max_completion_tokens", None),
    "a broken call": (calls(Calls("add", ("oops",))), "failed", None, "MALFORMED_FUNCTION_CALL"),
    "another end": (says("Hel", reason="OTHER"), "failed", None, "OTHER"),
}


@pytest.mark.parametrize(("answer", "status", "why", "words"), ENDINGS.values(), ids=ENDINGS)
async def test_how_an_answer_ends_is_how_its_run_ends(
    answer: Answer, status: str, why: Any, words: Any, served: Served, google: Gemini
) -> None:
    google.script(answer)
    run = await served.run("hello", ADD)
    assert (run["status"], (run["incomplete_details"] or {}).get("reason")) == (status, why)
    assert run["usage"] is not None
    if words is not None:
        assert run["last_error"]["code"] == "server_error"
        assert words in run["last_error"]["message"]


async def test_a_wrong_key_is_dead_and_another_answers(served: Served, google: Gemini, events: Events) -> None:
    """Its 400 is no word about the request."""
    google.faults.add(refuse("wrong key"))
    run = await served.run("hello")
    assert run["status"] == "completed"
    [died] = events.named("key.dead")
    assert (died["provider"], died["why"]) == ("gemini_native", "invalid_api_key")
    assert len({each.key for each in google.journal}) == 2
    await served.run("hello")
    assert google.journal[-1].key == google.journal[-2].key  # the other one

    pool, probing = next(iter(served.gateway.app.pools.values())), served.gateway.app.probing
    [dead] = [key for key in pool.target.account.keys if key.name == died["key"]]
    google.faults.add(refuse("wrong key"), path="/models$")
    assert await probing.probe(pool, dead) is False
    assert await probing.probe(pool, dead) is True


async def test_the_account_rests_as_long_as_the_body_says(served: Served, google: Gemini, events: Events) -> None:
    google.faults.add(refuse("too fast"))
    run = await served.run("hello")
    assert (run["status"], run["last_error"]["code"]) == ("failed", "rate_limit_exceeded")
    assert "billing" not in run["last_error"]["message"]
    [rests] = events.named("account.rests")
    assert (rests["model"], rests["rest_s"]) == ("gpt-4o", 12.5)


async def test_a_failure_before_the_answer_is_tried_again(served: Served, google: Gemini) -> None:
    google.faults.add(refuse("overloaded"))
    assert (await served.run("hello"))["status"] == "completed"


async def test_what_has_no_words_there_is_refused_by_name(served: Served, google: Gemini) -> None:
    parameters = {"type": "object", "properties": {"city": {"type": "string", "pattern": "^B"}}}
    tool = {"type": "function", "function": {"name": "weather", "parameters": parameters}}
    status, error = await served.refusal("POST", "/v1/assistants", {"model": "gpt-4o", "tools": [tool]})
    assert (status, error["code"]) == (400, "unsupported_by_model_api")
    assert error["param"] == "tools[0].function.parameters.properties.city.pattern"
    thread, assistant = await served.thread("hello"), await served.assistant(ADD)
    body = {"assistant_id": assistant, "parallel_tool_calls": False}
    status, error = await served.refusal("POST", f"/v1/threads/{thread}/runs", body)
    assert (status, error["param"]) == (400, "parallel_tool_calls")
    image = {"type": "image_url", "image_url": {"url": "http://example.com/a.png"}}
    path, said = f"/v1/threads/{thread}/messages", {"role": "user", "content": [image]}
    assert (await ok(served.gateway, "POST", path, {"role": "user", "content": "more"}))["object"] == "thread.message"
    status, error = await served.refusal("POST", path, said)
    assert (status, error["param"]) == (400, "content[0].image_url.url")
    assert google.bodies == []


async def test_a_thread_that_begins_and_ends_with_the_assistant_is_run(served: Served, google: Gemini) -> None:
    thread = await served.thread()
    body = {"role": "assistant", "content": "How can I help?"}
    await ok(served.gateway, "POST", f"/v1/threads/{thread}/messages", body)
    assistant = await served.assistant(instructions="Be brief.")
    run = await ok(served.gateway, "POST", f"/v1/threads/{thread}/runs", {"assistant_id": assistant})
    assert (await served.end(run))["status"] == "completed"
    assert [content["role"] for content in google.bodies[0]["contents"]] == ["user", "model", "user"]
