"""The same flows over every model API: whatever the vendor speaks, runs begin, go on and end alike."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from tests.conformance.conftest import ok
from tests.conformance.served.conftest import ADD, FIND, Serve, Served
from tests.conftest import StartGateway, StartVendor, edit
from tests.simulators import chat_completions, faults, find_models
from tests.simulators.answers import Answer, Breaks, Calls, Declines, Says, Thinks, calls, says
from tests.simulators.model_simulator import ModelSimulator
from tests.simulators.threads_server.server import let_others_run

APIS = ("openai_chat", "openai_responses", "anthropic_messages", "gemini_native")
"""One vendor for each API; the others are told apart in `tests/engine/models`."""


@pytest.fixture(params=[name for name in APIS if name in find_models()])
def api(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
async def served(api: str, serve: Serve) -> Served:
    return await serve(api)


def refuse(model: ModelSimulator, name: str, headers: Mapping[str, str] | None = None) -> faults.Act:
    """In the vendor's words; whoever has none of its own errs as OpenAI does."""
    module: Any = sys.modules[type(model).__module__]
    module = module if hasattr(module, "refuse") else chat_completions
    if name not in module.REFUSALS:
        pytest.skip("how the vendor says it is not known")
    act: faults.Act = module.refuse(name, headers)
    return act


def text_of(message: Any) -> str:
    return "".join(part["text"]["value"] for part in message["content"])


# --- answers ---------------------------------------------------------------------------------------------------------

WORDS = ("Zoë 𝄞", " – \u2028", "日本")
ANSWERED: Mapping[str, tuple[Answer, str, str | None, str]] = {
    "text": (says("Hel", "lo"), "completed", None, "Hello"),
    "unicode": (says(*WORDS), "completed", None, "".join(WORDS)),
    "thoughts": (Answer((Thinks("Hm."), Says("Hello"))), "completed", None, "Hello"),
    "the limit": (says("Hel", "lo", reason="length"), "incomplete", "max_completion_tokens", "Hello"),
    "the filter": (says("Hel", reason="content_filter"), "incomplete", "content_filter", "Hel"),
    "an error": (
        Answer((Says("Hello"), Breaks({"message": "gone", "type": "server_error"}))),
        "failed",
        None,
        "Hello",
    ),
}


@pytest.mark.parametrize(("answer", "status", "reason", "text"), ANSWERED.values(), ids=ANSWERED)
async def test_an_answer_ends_the_run_as_it_ends(
    answer: Answer, status: str, reason: str | None, text: str, served: Served
) -> None:
    """Byte by byte."""
    served.model.script(*[answer] * 3)
    served.model.faults.add(faults.slow(1, let_others_run), times=None)
    run = await served.run("hello")
    assert (run["status"], (run["incomplete_details"] or {}).get("reason")) == (status, reason)
    message = await served.last_message(run["thread_id"])
    assert (message["role"], text_of(message)) == ("assistant", text)
    assert message["status"] == ("completed" if status == "completed" else "incomplete")


async def test_an_answer_without_words_completes_the_run(served: Served) -> None:
    served.model.script(Answer(()))
    run = await served.run("hello")
    assert run["status"] == "completed"
    assert (await served.last_message(run["thread_id"]))["role"] == "user"


async def test_what_is_declined_ends_the_run_in_order(served: Served) -> None:
    """As a refusal, as text, or as what a filter did: as the API has it."""
    served.model.script(Answer((Declines("I'd "), Declines("rather not"))))
    run = await served.run("hello")
    assert run["status"] in ("completed", "incomplete")
    message = await served.last_message(run["thread_id"])
    if message["role"] == "assistant":
        [part] = message["content"]
        assert part.get("refusal") or part["text"]["value"] == "I'd rather not"


async def test_usage_stands_on_the_run(served: Served) -> None:
    served.model.script(says("Hello", usage=(5, 2)))
    run = await served.run("hello")
    told = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    assert {name: run["usage"][name] for name in told} == told


# --- tools -----------------------------------------------------------------------------------------------------------


async def answer_calls(served: Served, run: Any, *outputs: str) -> Any:
    asked = run["required_action"]["submit_tool_outputs"]["tool_calls"]
    given = [
        {"tool_call_id": call["id"], "output": output}
        for call, output in reversed(list(zip(asked, outputs, strict=True)))
    ]
    path = f"/v1/threads/{run['thread_id']}/runs/{run['id']}/submit_tool_outputs"
    return await served.end(await ok(served.gateway, "POST", path, {"tool_outputs": given[::-1]}))


async def test_rounds_of_tools_one_and_several_at_a_time(served: Served) -> None:
    """With thoughts and words in between; the vendor checks that what it wants back comes back."""
    served.model.script(
        Answer((Thinks("Hm."), Says("Let me see."), Calls("add", ('{"a"', ':1,"b":2}')))),
        Answer((Thinks("So."), Calls("find", ('{"what":"7"}',)), Calls("add", ("{}",)))),
        says("All done."),
    )
    run = await served.run("use them", ADD, FIND)
    assert run["status"] == "requires_action", run["last_error"]
    [call] = run["required_action"]["submit_tool_outputs"]["tool_calls"]
    assert (call["function"]["name"], call["function"]["arguments"].replace(" ", "")) == ("add", '{"a":1,"b":2}')
    run = await answer_calls(served, run, "3")
    assert run["status"] == "requires_action", run["last_error"]
    names = [each["function"]["name"] for each in run["required_action"]["submit_tool_outputs"]["tool_calls"]]
    assert names == ["find", "add"]
    run = await answer_calls(served, run, "seven", "zero")
    assert run["status"] == "completed", run["last_error"]
    assert text_of(await served.last_message(run["thread_id"])) == "All done."
    steps = await served.steps(run)
    assert [step["type"] for step in steps] == ["message_creation", "tool_calls", "tool_calls", "message_creation"]
    outputs = [call["function"]["output"] for step in steps[1:3] for call in step["step_details"]["tool_calls"]]
    assert outputs == ["3", "seven", "zero"]
    path = f"/v1/threads/{run['thread_id']}/messages"
    await ok(served.gateway, "POST", path, {"role": "user", "content": "and now?"})
    body = {"assistant_id": run["assistant_id"]}
    again = await ok(served.gateway, "POST", f"/v1/threads/{run['thread_id']}/runs", body)
    assert (await served.end(again))["status"] == "completed"


# --- what goes wrong --------------------------------------------------------------------------------------------------

REFUSED = {
    "too fast": "rate_limit_exceeded",
    "bad prompt": "invalid_prompt",
    "wrong key": "server_error",
    "no money": "server_error",
    "failed": "server_error",
    "overloaded": "server_error",
}


@pytest.mark.parametrize(("name", "code"), REFUSED.items(), ids=REFUSED)
async def test_a_run_that_the_vendor_refuses_has_failed(name: str, code: str, served: Served) -> None:
    served.model.faults.add(refuse(served.model, name, {"retry-after": "0.01"}), method="POST", times=None)
    run = await served.run("hello")
    assert (run["status"], run["last_error"]["code"]) == ("failed", code)
    told = run["last_error"]["message"]
    assert told
    assert not any(key in told for key in served.model.keys)


async def test_a_key_that_is_limited_gives_way_to_the_next_or_ends_the_run(served: Served) -> None:
    """As the vendor's limits are: of a key, or of the account."""
    served.model.faults.add(refuse(served.model, "too fast", {"retry-after": "30"}), method="POST")
    run = await served.run("hello")
    asked = len([each for each in served.model.journal if each.method == "POST"])
    assert (asked, run["status"]) in ((1, "failed"), (2, "completed"))


@pytest.mark.parametrize("name", ["text", "a call"])
async def test_wherever_the_stream_is_cut_the_run_ends_with_what_was_said(name: str, served: Served) -> None:
    whole = says("Hel", "lo") if name == "text" else calls(Calls("add", ('{"a":', "1}")))
    assistant = await served.assistant(ADD)
    after, is_whole = 0, False
    while not is_whole:
        served.model.script(*[whole] * 3)
        served.model.faults.clear()
        served.model.faults.add(faults.cut_stream(after), method="POST", times=None)
        body = {"assistant_id": assistant}
        thread = await served.thread("hello")
        run = await served.end(await ok(served.gateway, "POST", f"/v1/threads/{thread}/runs", body))
        is_whole = run["status"] != "failed"
        message = await served.last_message(thread)
        if is_whole:
            assert run["status"] == ("completed" if name == "text" else "requires_action")
        else:
            assert (run["last_error"]["code"], run["required_action"]) == ("server_error", None)
        if message["role"] == "assistant":
            assert "Hello".startswith(text_of(message))
            assert message["status"] == ("completed" if is_whole else "incomplete")
        after += 1
        assert after < 40


async def test_a_page_of_html_and_an_empty_answer_fail_the_run(served: Served) -> None:
    assistant = await served.assistant()
    for body in (b"<html>", b"", b"data: [1]\n\n", b"{}", b"[]"):
        served.model.faults.clear()
        served.model.faults.add(faults.garbage(body, "text/event-stream"), method="POST", times=None)
        path = f"/v1/threads/{await served.thread('hello')}/runs"
        run = await served.end(await ok(served.gateway, "POST", path, {"assistant_id": assistant}))
        assert (body, run["status"], run["last_error"]["code"]) == (body, "failed", "server_error")


async def test_a_model_that_stands_still_is_given_up(api: str, serve: Serve) -> None:
    served = await serve(api, change=edit(**{f"providers__{api}__timeouts": {"idle_s": 0.2}}))
    served.model.faults.add(faults.stall_stream(2, asyncio.Event()), times=None)
    run = await served.run("hello")
    assert (run["status"], run["last_error"]["code"]) == ("failed", "server_error")


async def test_a_cancelled_run_stops_the_vendors_stream(served: Served) -> None:
    served.model.faults.add(faults.stall_stream(2, asyncio.Event()))
    run = await served.begin("hello")
    asked = await served.model.arrived(method="POST")
    await ok(served.gateway, "POST", f"/v1/threads/{run['thread_id']}/runs/{run['id']}/cancel", {})
    assert (await served.end(run))["status"] == "cancelled"
    await served.model.disconnected(asked)


# --- one thread ------------------------------------------------------------------------------------------------------


async def test_one_thread_runs_on_all_of_them_in_turn(start_vendor: StartVendor, start_gateway: StartGateway) -> None:
    """Each hears what the others said and called, in its own tongue, and twice: before and after all others."""
    vendors = [await start_vendor(name) for name in APIS if name in find_models()]
    gateway = await start_gateway(*vendors)
    first = Served(gateway, _model(vendors[0].simulator), vendors[0].name)
    thread = await first.thread("Begin.")
    said = ["Begin."]
    assistants: dict[str, str] = {}
    for vendor in vendors:
        path = f"/providers/{vendor.name}/v1/assistants"
        assistants[vendor.name] = (await ok(gateway, "POST", path, {"model": "gpt-4o", "tools": [ADD]}))["id"]
    for turn in range(2):
        for vendor in vendors:
            model = _model(vendor.simulator)
            question, looks, word = (f"{words} {vendor.name} in turn {turn}." for words in ("Ask", "Looks:", "Says:"))
            model.script(Answer((Thinks("Hm."), Says(looks), Calls("add", ('{"n":', f"{turn}}}")))), says(word))
            await ok(gateway, "POST", f"/v1/threads/{thread}/messages", {"role": "user", "content": question})
            body = {"assistant_id": assistants[vendor.name]}
            served = Served(gateway, model, vendor.name)
            run = await served.end(await ok(gateway, "POST", f"/v1/threads/{thread}/runs", body))
            assert run["status"] == "requires_action", run["last_error"]
            run = await answer_calls(served, run, f"output for {vendor.name} {turn}")
            assert run["status"] == "completed", run["last_error"]
            said += [question, looks, f"output for {vendor.name} {turn}", word]
            asked = model.journal[-1].body.decode()
            places = [asked.find(words) for words in said[:-1]]
            assert -1 not in places
            assert places == sorted(places)
    listed = await ok(gateway, "GET", f"/v1/threads/{thread}/messages?order=asc&limit=100")
    assert [text_of(message) for message in listed["data"]] == [words for words in said if "output for" not in words]


def _model(simulator: Any) -> ModelSimulator:
    assert isinstance(simulator, ModelSimulator)
    return simulator
