"""What served threads refuse, in the words that clients match on."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.conformance.conftest import ok
from tests.conformance.served.conftest import ADD, FIND, Served

PREFIXES = {"message": "msg", "run": "run", "step": "step"}


async def test_what_is_not_there_is_said_by_kind(served: Served) -> None:
    run = await served.run("hello")
    thread, assistant = run["thread_id"], run["assistant_id"]
    message = (await served.last_message(thread))["id"]
    of_thread, of_run = f"/v1/threads/{thread}", f"/v1/threads/{thread}/runs/{run['id']}"
    never = {kind: served.unknown(kind, f"{word}_never") for kind, word in PREFIXES.items()}
    await ok(served.gateway, "DELETE", f"{of_thread}/messages/{message}")
    for kind, path, gone in (
        ("message", f"{of_thread}/messages/{never['message']}", never["message"]),
        ("message", f"{of_thread}/messages/{message}", message),
        ("run", f"{of_thread}/runs/{never['run']}", never["run"]),
        ("run step", f"{of_run}/steps/{never['step']}", never["step"]),
    ):
        status, error = await served.refusal("GET", path)
        assert (status, error["message"]) == (404, f"No {kind} found with id '{gone}'.")
        assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", None, None)
    await ok(served.gateway, "DELETE", of_thread)
    await ok(served.gateway, "DELETE", f"/v1/assistants/{assistant}")
    for kind, method, path, gone in (
        ("thread", "GET", of_thread, thread),
        ("thread", "GET", f"{of_thread}/messages", thread),
        ("thread", "DELETE", of_thread, thread),
        ("assistant", "GET", f"/v1/assistants/{assistant}", assistant),
        ("assistant", "DELETE", f"/v1/assistants/{assistant}", assistant),
    ):
        status, error = await served.refusal(method, path)
        assert (status, error["message"]) == (404, f"No {kind} found with id '{gone}'.")
    assert (await served.refusal("GET", of_run))[0] == 404
    other = await served.thread("hello")
    status, error = await served.refusal("POST", f"/v1/threads/{other}/runs", {"assistant_id": assistant})
    assert (status, error["message"]) == (404, f"No assistant found with id '{assistant}'.")


async def test_a_run_that_waits_locks_its_thread(served: Served) -> None:
    run = await served.run("call add call find", ADD, FIND)
    thread = run["thread_id"]
    of_thread, of_run = f"/v1/threads/{thread}", f"/v1/threads/{thread}/runs/{run['id']}"
    one, two = (call["id"] for call in run["required_action"]["submit_tool_outputs"]["tool_calls"])

    def outputs(*ids: str) -> dict[str, Any]:
        return {"tool_outputs": [{"tool_call_id": each, "output": "3"} for each in ids]}

    expected = f"Expected tool outputs for call_ids ['{one}', '{two}'], got"
    for path, body, words in (
        (
            "/messages",
            {"role": "user", "content": "x"},
            f"Can't add messages to {thread} while a run {run['id']} is active.",
        ),
        ("/runs", {"assistant_id": run["assistant_id"]}, f"Thread {thread} already has an active run {run['id']}."),
        (f"/runs/{run['id']}/submit_tool_outputs", outputs(one), f"{expected} ['{one}']"),
        (
            f"/runs/{run['id']}/submit_tool_outputs",
            outputs(one, two, "call_x"),
            f"{expected} ['{one}', '{two}', 'call_x']",
        ),
        (f"/runs/{run['id']}/submit_tool_outputs", outputs(one, one), f"{expected} ['{one}', '{one}']"),
    ):
        status, error = await served.refusal("POST", of_thread + path, body)
        assert (status, error["message"], error["type"]) == (400, words, "invalid_request_error")
    assert (await ok(served.gateway, "GET", of_run))["status"] == "requires_action"

    run = await served.end(await ok(served.gateway, "POST", f"{of_run}/submit_tool_outputs", outputs(two, one)))
    assert run["status"] == "completed"
    status, error = await served.refusal("POST", f"{of_run}/submit_tool_outputs", outputs(one, two))
    assert (status, error["message"]) == (400, 'Runs in status "completed" do not accept tool outputs.')
    status, error = await served.refusal("POST", f"{of_run}/cancel", {})
    assert (status, error["message"]) == (400, "Cannot cancel run with status 'completed'.")
    assert await ok(served.gateway, "POST", f"{of_thread}/messages", {"role": "user", "content": "x"})


async def test_a_run_needs_something_to_do(served: Served) -> None:
    assistant, thread = await served.assistant(), await served.thread()
    status, error = await served.refusal("POST", f"/v1/threads/{thread}/runs", {"assistant_id": assistant})
    words = "Run creation requires a Thread with a user message or an assistant with instructions."
    assert (status, error["message"], error["code"]) == (400, words, "invalid_thread")


ASSISTANT: dict[str, Any] = {"model": "gpt-4o"}
WRONG: dict[str, tuple[str, dict[str, Any], str | None, str | None, str]] = {
    "no model": ("/assistants", {}, "model", "missing_required_parameter", "Missing required parameter: 'model'."),
    "a parameter nobody knows": (
        "/assistants",
        {**ASSISTANT, "verbosity": "low"},
        "verbosity",
        "unknown_parameter",
        "Unknown parameter: 'verbosity'.",
    ),
    "metadata that is no text": (
        "/threads",
        {"metadata": {"modified": True}},
        "metadata.modified",
        "invalid_type",
        "Invalid type for 'metadata.modified': expected a string, but got a boolean instead.",
    ),
    "too much metadata": (
        "/threads",
        {"metadata": {str(n): "" for n in range(17)}},
        "metadata",
        "object_above_max_properties",
        "at most 16 properties",
    ),
    "a long name in metadata": (
        "/threads",
        {"metadata": {"k" * 65: ""}},
        "metadata",
        "property_name_above_max_length",
        "maximum length 64",
    ),
    "a long value in metadata": (
        "/threads",
        {"metadata": {"k": "v" * 513}},
        "metadata.k",
        "string_above_max_length",
        "maximum length 512",
    ),
    "too warm": ("/assistants", {**ASSISTANT, "temperature": 2.5}, "temperature", "decimal_above_max_value", "<= 2"),
    "code interpreter": (
        "/assistants",
        {**ASSISTANT, "tools": [ADD, {"type": "code_interpreter"}]},
        "tools[1].type",
        "unsupported_by_model_api",
        "code_interpreter",
    ),
    "file search": (
        "/assistants",
        {**ASSISTANT, "tools": [{"type": "file_search"}]},
        "tools[0].type",
        "unsupported_by_model_api",
        "file_search",
    ),
    "an attachment": (
        "/threads",
        {
            "messages": [
                {
                    "role": "user",
                    "content": "x",
                    "attachments": [{"file_id": "{file}", "tools": [{"type": "file_search"}]}],
                }
            ]
        },
        "messages[0].attachments[0]",
        "unsupported_by_model_api",
        "files",
    ),
}


@pytest.mark.parametrize(("path", "body", "param", "code", "words"), WRONG.values(), ids=WRONG)
async def test_bodies_are_refused_by_name(
    path: str, body: dict[str, Any], param: str, code: str, words: str, served: Served
) -> None:
    file = served.unknown("file", "file-x")
    body = orjson.loads(orjson.dumps(body).replace(b"{file}", file.encode()))
    status, error = await served.refusal("POST", f"/v1{path}", body)
    assert (status, error["type"], error["code"]) == (400, "invalid_request_error", code)
    assert error["param"] == param
    assert words in error["message"]
    assert served.model.journal == []


@pytest.mark.parametrize("limit", ["0", "101", "-1", "many"])
async def test_limits_of_lists_are_held(limit: str, served: Served) -> None:
    thread = await served.thread("hello")
    for path in ("/v1/assistants", f"/v1/threads/{thread}/messages", f"/v1/threads/{thread}/runs"):
        status, error = await served.refusal("GET", f"{path}?limit={limit}")
        assert (status, error["param"]) == (400, "limit")


@pytest.mark.parametrize("path", ["/files", "/vector_stores"])
async def test_files_and_vector_stores_are_refused(path: str, served: Served) -> None:
    status, error = await served.refusal("GET", f"/v1{path}")
    assert 400 <= status < 500
    assert error["message"]
    assert served.model.journal == []
