"""Providers of protocol v1 in front of callers of v2: what v1 cannot say is refused by name, nothing is left out
silently, and nothing of v1 is answered. What both can say is in every other file of this folder."""

from __future__ import annotations

import json
import re
from typing import Any

import openai
import pytest

from gateway.operations import BY_NAME
from tests.conformance.conftest import (
    EXAMPLES,
    LACKING,
    TOOLS,
    WAITING,
    Call,
    compose,
    examples_of,
    fill,
    hear,
    holes_in,
    id_places,
    ok,
    speaking,
    stage,
    upstream_of,
)
from tests.conftest import Running, StartGateway, Vendor, public_id

# The SDK marks its Assistants methods as deprecated, some of them in one word.
pytestmark = [
    pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning"),
    pytest.mark.parametrize("vendor", speaking("v1"), indirect=True),
]

STORES = {each for each in LACKING["v1"] if BY_NAME[each].template.startswith("/vector_stores")}


@pytest.fixture
async def gateway(vendor: Vendor, start_gateway: StartGateway) -> Running:
    return await start_gateway(vendor)


# --- fields ---------------------------------------------------------------------------------------------------------

_CODE = {"code_interpreter": {"file_ids": ["{file}"]}}
_STORE = {"file_search": {"vector_store_ids": ["{vector_store}"]}}
_NEW_STORE = {"file_search": {"vector_stores": [{"file_ids": ["{file}"]}]}}
_RESOURCES = (
    (_CODE, "tool_resources.code_interpreter.file_ids"),
    (_STORE, "tool_resources.file_search.vector_store_ids"),
    (_NEW_STORE, "tool_resources.file_search.vector_stores"),
)
_TEXT = {"type": "text", "text": "hello"}
_IMAGE = {"type": "image_file", "image_file": {"file_id": "{file}"}}
_URL = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}


def _message(*content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(content), **more}


_STRICT = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}, "strict": True}}
_LIMITED = {"type": "file_search", "file_search": {"max_num_results": 3}}
_SETTINGS = (
    ({"tools": [TOOLS[0], _STRICT]}, "tools[1].function.strict"),
    ({"tools": [_LIMITED]}, "tools[0].file_search.max_num_results"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}}, "response_format"),
    ({"reasoning_effort": "low"}, "reasoning_effort"),
)

UNSPEAKABLE: list[tuple[str, dict[str, Any], str]] = [
    *((name, *each) for name in ("create_assistant", "modify_assistant", "create_run") for each in _SETTINGS),
    ("create_run", {"parallel_tool_calls": False}, "parallel_tool_calls"),
    ("create_thread_and_run", {"tool_choice": "required"}, "tool_choice"),
    # Files that belong to something for which v1 has none, or in something that v1 has none of.
    ("create_assistant", {"tool_resources": _STORE}, _RESOURCES[1][1]),
    ("modify_assistant", {"file_ids": None, "tool_resources": _STORE}, _RESOURCES[1][1]),
    ("modify_assistant", {"file_ids": None, "tool_resources": _NEW_STORE}, _RESOURCES[2][1]),
    *(
        (name, {"tool_resources": resource}, param)
        for name in ("create_thread", "modify_thread", "create_run", "create_thread_and_run")
        for resource, param in _RESOURCES
    ),
    *(
        ("create_thread_and_run", {"thread": {"tool_resources": resource}}, f"thread.{param}")
        for resource, param in _RESOURCES
    ),
    # Content other than one text.
    *(("create_message", _message(_TEXT, part), "content[1]") for part in (_IMAGE, _URL)),
    ("create_message", _message(_TEXT, _TEXT), "content"),
    ("create_thread", {"messages": [_message(_TEXT), _message(_IMAGE)]}, "messages[1].content[0]"),
    ("create_run", {"additional_messages": [_message(_IMAGE)]}, "additional_messages[0].content[0]"),
    ("create_thread_and_run", {"thread": {"messages": [_message(_IMAGE)]}}, "thread.messages[0].content[0]"),
    ("create_message", _message(_TEXT, attachments=[{"file_id": "{file}"}]), "attachments[0].tools"),
]
"""An operation, fields instead of those in its example, and the parameter that is refused."""

AMBIGUOUS: list[tuple[str, dict[str, Any], str]] = [
    ("create_assistant", {"file_ids": ["{file}"]}, "tool_resources"),
    ("modify_assistant", {"tool_resources": _CODE}, "tool_resources"),
    ("create_message", {"file_ids": ["{file}"]}, "attachments"),
]
"""The same, for words of both versions for one thing."""


async def set_the_stage(vendor: Vendor, gateway: Running) -> dict[str, str]:
    """With the id of a vector store that cannot be."""
    ids = await stage(gateway, vendor=vendor)
    return ids | {
        kind: public_id(kind, f"{prefix}_{'x' * 24}", provider=vendor.name)
        for kind, prefix in (("vector_store", "vs"), ("batch", "vsfb"))
    }


@pytest.mark.parametrize(
    ("code", "name", "fields", "param"),
    [
        *(("unsupported_in_v1", *row) for row in UNSPEAKABLE),
        *(("ambiguous_files", *row) for row in AMBIGUOUS),
    ],
)
async def test_what_v1_cannot_say_is_refused_by_name_before_the_provider_is_asked(
    vendor: Vendor, gateway: Running, code: str, name: str, fields: dict[str, Any], param: str
) -> None:
    """In a stream's stead too."""
    ids = await set_the_stage(vendor, gateway)
    calls = len(vendor.simulator.journal)
    for stream in (False, True) if BY_NAME[name].streams else (False,):
        call = compose(name, ids, vendor=vendor, stream=stream)
        body = call.body | fill(fields, lambda _, kind: ids[kind], "body")
        heard = await hear(gateway, Call(call.method, call.path, body))
        assert heard.status == 400, heard.body
        error = heard.json["error"]
        assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", code, param)
    assert len(vendor.simulator.journal) == calls


def test_every_place_of_an_id_is_expressed_or_refused(vendor: Vendor) -> None:
    """Of all the places where the reference takes an id, none is forgotten by both lists."""

    def places(found: dict[str, str]) -> set[str]:
        return {re.sub(r"\[\d+\]", "[0]", place) for place in found}

    for name in examples_of(vendor):
        refused = (places(holes_in(fields, "body")) for each, fields, _ in UNSPEAKABLE + AMBIGUOUS if each == name)
        assert places(id_places(name)) <= places(id_places(name, vendor)).union(*refused), name


@pytest.mark.parametrize("name", ["create_run", "list_run_steps", "get_run_step"])
async def test_results_of_a_search_cannot_be_included(vendor: Vendor, gateway: Running, name: str) -> None:
    ids = await set_the_stage(vendor, gateway)
    calls = len(vendor.simulator.journal)
    call = compose(name, ids, vendor=vendor, query_of=())
    for param in ("include[]", "include"):
        asked = f"{call.path}?{param}=step_details.tool_calls[*].file_search.results[*].content"
        heard = await hear(gateway, Call(call.method, asked, call.body))
        assert (heard.status, heard.json["error"]["code"]) == (400, "unsupported_in_v1")
        assert heard.json["error"]["param"] == param
    assert len(vendor.simulator.journal) == calls


async def test_what_changes_nothing_is_no_reason_to_refuse(vendor: Vendor, gateway: Running) -> None:
    """Defaults of v2 that are spelled out, and what programs copy from an answer into the next request."""
    ids = await set_the_stage(vendor, gateway)
    assistant = await ok(gateway, "GET", f"/v1/assistants/{ids['assistant']}")
    names = ("model", "name", "description", "instructions", "tools", "tool_resources", "metadata")
    copy = {name: assistant[name] for name in names} | {"reasoning_effort": None}
    again = await ok(gateway, "POST", "/v1/assistants", copy)
    assert {name: again[name] for name in names} == {name: assistant[name] for name in names}
    heard = json.loads(vendor.simulator.journal[-1].body)
    assert heard["file_ids"] == [upstream_of(ids["file"])]
    assert heard.keys() == (copy.keys() | {"file_ids"}) - {"tool_resources", "reasoning_effort"}
    empty = {"tool_resources": {"code_interpreter": {"file_ids": []}, "file_search": {"vector_store_ids": []}}}
    said = {**empty, "messages": [{"role": "user", "content": "hi", "attachments": []}]}
    await ok(gateway, "POST", "/v1/threads", said)
    assert json.loads(vendor.simulator.journal[-1].body) == {"messages": [{"role": "user", "content": "hi"}]}
    run = {"assistant_id": ids["assistant"], "parallel_tool_calls": True, "tool_resources": None}
    answer = await ok(gateway, "POST", f"/v1/threads/{ids['thread']}/runs", run)
    assert json.loads(vendor.simulator.journal[-1].body) == {"assistant_id": upstream_of(ids["assistant"])}
    assert answer["parallel_tool_calls"] is True


# --- operations -----------------------------------------------------------------------------------------------------


def test_what_v1_lacks(vendor: Vendor) -> None:
    assert set(examples_of(vendor)) | {"delete_message"} | STORES == set(BY_NAME)
    assert len(STORES) == 16


@pytest.mark.refusal
async def test_a_message_stays_and_the_caller_is_told_why(vendor: Vendor, gateway: Running) -> None:
    ids = await stage(gateway, vendor=vendor)
    calls = len(vendor.simulator.journal)
    message = f"/v1/threads/{ids['thread']}/messages/{ids['message']}"
    assert (await gateway.call("DELETE", message, tenant="bob"))[0] == 404
    async with gateway.sdk() as sdk:
        with pytest.raises(openai.BadRequestError, match="delete the thread instead") as refused:
            await sdk.beta.threads.messages.delete(ids["message"], thread_id=ids["thread"])
    assert (refused.value.code, refused.value.param) == ("unsupported_in_v1", None)
    assert len(vendor.simulator.journal) == calls
    assert (await ok(gateway, "GET", message))["id"] == ids["message"]


@pytest.mark.refusal
@pytest.mark.parametrize("name", sorted(STORES - {"list_vector_stores"}))
async def test_the_provider_says_itself_that_it_has_no_vector_stores(
    vendor: Vendor, gateway: Running, name: str
) -> None:
    """404 in OpenAI's envelope, and the ids in its words are the caller's."""
    ids = await set_the_stage(vendor, gateway)
    calls = len(vendor.simulator.journal)
    heard = await hear(gateway, compose(name, ids))
    error = heard.json["error"]
    assert (heard.status, set(error)) == (404, {"message", "type", "param", "code"})
    assert error["type"] == "invalid_request_error"
    assert len(vendor.simulator.journal) == calls + 1
    address = compose(name, ids, query_of=()).path.removeprefix("/v1")
    assert error["message"] == f"Invalid URL ({BY_NAME[name].method} {address})"


@pytest.mark.refusal
async def test_a_list_of_vector_stores_is_empty_or_refused(vendor: Vendor, gateway: Running) -> None:
    """Empty where the gateway keeps it, on an account that tenants share; on an account of one's own the provider
    answers."""
    assert (await ok(gateway, "GET", "/v1/vector_stores"))["data"] == []
    assert vendor.simulator.journal == []
    status, answer, _ = await gateway.call("GET", "/v1/vector_stores", tenant="carol")
    assert (status, answer["error"]["message"]) == (404, "Invalid URL (GET /vector_stores)")


# --- answers --------------------------------------------------------------------------------------------------------


def words_of_v1(value: Any) -> list[Any]:
    """Every object within that is as v1 has it."""
    if isinstance(value, list):
        return [each for inner in value for each in words_of_v1(inner)]
    if not isinstance(value, dict):
        return []
    lacks = {
        "assistant": {"tool_resources"},
        "thread": {"tool_resources"},
        "thread.message": {"attachments"},
        "thread.run": {"tool_resources", "parallel_tool_calls"},
    }.get(value.get("object", ""), set()) - value.keys()
    is_v1 = "retrieval" in (*value, value.get("type")) or "file_ids" in value or lacks
    inner = [each for name, below in value.items() if name != "tool_resources" for each in words_of_v1(below)]
    return [value, *inner] if is_v1 else inner


async def test_no_operation_answers_in_words_of_v1(vendor: Vendor, gateway: Running) -> None:
    """Nor a list or a stream, with files and a search in them."""
    for tenant in ("alice", "carol"):
        ids = await stage(gateway, tenant, vendor=vendor, say="search")
        for name in examples_of(vendor):
            if name in WAITING or name == "get_file_content":
                continue
            heard = await hear(gateway, compose(name, ids, vendor=vendor, query_of=()), tenant=tenant)
            assert heard.status == 200, heard.body
            assert words_of_v1(heard.json) == [], name
    ids = await stage(gateway, vendor=vendor)
    said = {"role": "user", "content": "search", "file_ids": [ids["file"]]}
    run = {"assistant_id": ids["assistant"], "additional_messages": [said], "stream": True}
    heard = await hear(gateway, Call("POST", f"/v1/threads/{ids['thread']}/runs", run))
    data = [json.loads(line[6:]) for line in heard.body.split(b"\n") if line.startswith(b"data: {")]
    assert words_of_v1(data) == []
    assert b"file_search" in heard.body


async def test_a_stream_comes_up_event_by_event(vendor: Vendor, gateway: Running) -> None:
    """The run that was cut short is `incomplete` again, in the event's name and in the run."""
    ids = await stage(gateway, vendor=vendor)
    body = {"assistant_id": ids["assistant"], "additional_messages": [{"role": "user", "content": "truncate"}]}
    heard = await hear(gateway, Call("POST", f"/v1/threads/{ids['thread']}/runs", {**body, "stream": True}))
    names = [line[7:] for line in heard.body.split(b"\n") if line.startswith(b"event: ")]
    data = [json.loads(line[6:]) for line in heard.body.split(b"\n") if line.startswith(b"data: {")]
    assert (names[-2], data[-1]["status"]) == (b"thread.run.incomplete", "incomplete")
    assert b"thread.run.completed" not in names
    runs = [each for each in data if each["object"] == "thread.run"]
    assert {json.dumps(run["tool_resources"]) for run in runs} == {
        json.dumps({"code_interpreter": {"file_ids": [ids["file"]]}})
    }
    assert not any("file_ids" in each for each in data)
    assert all("attachments" in each for each in data if each["object"] == "thread.message")


# --- the provider's own words ---------------------------------------------------------------------------------------


async def test_a_v1_provider_refuses_in_words_of_v1(vendor: Vendor, gateway: Running) -> None:
    """Its texts and its names of parameters are passed on as they are: `file_ids` for what was attached."""
    ids = await stage(gateway, vendor=vendor)
    attachment = {"file_id": ids["file"], "tools": [{"type": "code_interpreter"}]}
    others = [await upload(gateway) for _ in range(10)]
    said = {
        "role": "user",
        "content": "hi",
        "attachments": [attachment, *({**attachment, "file_id": f} for f in others)],
    }
    status, answer, _ = await gateway.call("POST", f"/v1/threads/{ids['thread']}/messages", said)
    assert (status, answer["error"]["param"], answer["error"]["code"]) == (400, "file_ids", "array_above_max_length")
    status, answer, _ = await gateway.call("POST", "/v1/assistants", {"model": "m", "tools": [{"type": "browser"}]})
    assert (status, answer["error"]["param"]) == (400, "tools[0].type")
    assert "'retrieval'" in answer["error"]["message"]


async def upload(gateway: Running) -> str:
    call = Call("POST", "/v1/files", upload=EXAMPLES["upload_file"].upload)
    return str((await hear(gateway, call)).json["id"])
