"""What vendors do otherwise than the reference, and callers do not notice; and which headers cross."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import openai
import pytest
from multidict import CIMultiDict

from tests.conformance.conftest import (
    UNCACHED,
    VENDORS,
    Call,
    compose,
    examples_of,
    hear,
    names_params,
    ok,
    query_heard,
    stage,
    upstream_of,
)
from tests.conftest import Running, StartGateway, StartVendor, Vendor
from tests.simulators import faults, find_vendors
from tests.simulators.faults import Act, Received
from tests.simulators.threads_server.dialect import bare_error

# The SDK marks its Assistants methods as deprecated, some of them in one word.
pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")

BARE = [name for name in VENDORS if find_vendors()[name]().dialect.bare_lists]
"""Vendors whose lists are arrays."""


async def thread_of(gateway: Running, count: int, *, tenant: str = "alice") -> tuple[str, list[str]]:
    """A thread's path, and the ids of its messages in order of creation."""
    messages = [{"role": "user", "content": str(number)} for number in range(count)]
    thread = (await ok(gateway, "POST", "/v1/threads", {"messages": messages}, tenant=tenant))["id"]
    path = f"/v1/threads/{thread}/messages"
    page = await ok(gateway, "GET", f"{path}?order=asc&limit=100", tenant=tenant)
    return path, [item["id"] for item in page["data"]]


# --- lists ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BARE)
@pytest.mark.parametrize(
    ("limit", "asked", "count", "came", "more"),
    [
        (None, 21, 20, 20, False),
        (None, 21, 21, 20, True),
        (1, 2, 1, 1, False),
        (1, 2, 2, 1, True),
        (2, 3, 5, 2, True),
        (5, 6, 5, 5, False),
        (99, 100, 99, 99, False),
        (99, 100, 100, 99, True),
        (100, 100, 99, 99, False),
        (100, 100, 100, 100, True),  # nobody knows; the next page is empty then
        (100, 100, 101, 100, True),
    ],
)
async def test_one_item_more_is_asked_for_to_know_whether_there_is_more(
    start_vendor: StartVendor,
    start_gateway: StartGateway,
    name: str,
    limit: int | None,
    asked: int,
    count: int,
    came: int,
    more: bool,
) -> None:
    vendor = await start_vendor(name)
    gateway = await start_gateway(vendor)
    path, ids = await thread_of(gateway, count)
    page = await ok(gateway, "GET", path + (f"?limit={limit}" if limit else ""))
    assert vendor.simulator.journal[-1].query == f"limit={asked}"
    found = [item["id"] for item in page["data"]]
    assert (page["object"], len(found), page["has_more"]) == ("list", came, more)
    assert (page["first_id"], page["last_id"]) == (found[0], found[-1])
    assert count > 100 or found == ids[::-1][:came]


async def test_lists_are_whole_whoever_gives_them(vendor: Vendor, start_gateway: StartGateway) -> None:
    """Empty ones have no first and no last; and the vendor itself refuses a limit that no list can have."""
    gateway = await start_gateway(vendor)
    path, _ = await thread_of(gateway, 0)
    empty: Any = {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}
    for each in (path, path.replace("messages", "runs")):
        assert await ok(gateway, "GET", each) == empty
    for limit in ("0", "101", "x"):
        status, answer, _ = await gateway.call("GET", f"{path}?limit={limit}")
        assert (status, answer["error"]["param"]) == (400, "limit" if names_params(vendor) else None)
        assert query_heard(vendor) == f"limit={limit}"


@pytest.mark.parametrize("name", BARE)
@pytest.mark.parametrize(("limit", "order"), [(1, "asc"), (3, "desc"), (20, "desc"), (100, "asc")])
@pytest.mark.parametrize("ignored", [{"cursor": True}, {"limit": True}, {"cursor": True, "limit": True}], ids=str)
async def test_a_vendor_that_ignores_parameters_is_paged_to_its_end(
    start_vendor: StartVendor,
    start_gateway: StartGateway,
    name: str,
    ignored: dict[str, bool],
    limit: int,
    order: str,
) -> None:
    """Every item comes exactly once, of messages and of assistants, and the paging ends."""
    vendor = await start_vendor(name)
    gateway = await start_gateway(vendor)
    path, ids = await thread_of(gateway, 12, tenant="carol")
    world = vendor.simulator.worlds["bolt"]
    assistants = [world.assistants.create({"model": "m"})["id"] for _ in range(7)]
    vendor.simulator.ignore_parameters(**ignored)
    async with gateway.sdk("carol") as client, asyncio.timeout(20):
        sdk: Any = client
        listed = sdk.beta.threads.messages.list(path.split("/")[3], limit=limit, order=order)
        found = [item.id async for item in _no_more_than(50, listed)]
        assert found == (ids if order == "asc" else ids[::-1])
        listed = sdk.beta.assistants.list(limit=limit, order=order)
        found = [upstream_of(item.id) async for item in _no_more_than(50, listed)]
        assert found == (assistants if order == "asc" else assistants[::-1])
        nearest = await sdk.beta.threads.messages.list(path.split("/")[3], limit=2, order="asc", before=ids[9])
        assert [item.id for item in nearest.data] == ids[7:9]


async def _no_more_than(count: int, items: Any) -> Any:
    """The items; a paging without an end fails."""
    async for item in items:
        yield item
        count -= 1
        assert count, "the same items come again and again"


# --- objects --------------------------------------------------------------------------------------------------------


async def test_creations_are_answered_200_and_metadata_is_never_null(
    vendor: Vendor, start_gateway: StartGateway
) -> None:
    """In objects, lists and streams."""
    gateway = await start_gateway(vendor)
    ids = await stage(gateway, vendor=vendor)
    for name in examples_of(vendor):
        if name.startswith(("get_", "list_")):
            call = compose(name, ids, vendor=vendor, query_of=())
            assert b'"metadata":null' not in (await hear(gateway, call)).body
    for name in ("create_assistant", "create_thread", "create_message", "create_run", "create_thread_and_run"):
        heard = await hear(gateway, compose(name, ids, vendor=vendor, stream=name.endswith("run")))
        assert heard.status == 200
        assert b'"metadata":null' not in heard.body
        assert b'"metadata":{}' in heard.body


async def test_the_hint_of_how_soon_to_poll_crosses(start_vendor: StartVendor, start_gateway: StartGateway) -> None:
    gateway = await start_gateway(await start_vendor("openai"))
    ids = await stage(gateway, wait=False)
    _, run, headers = await gateway.call("GET", f"/v1/threads/{ids['thread']}/runs/{ids['run']}")
    assert (run["status"], headers["openai-poll-after-ms"]) == ("in_progress", "5")


@pytest.mark.parametrize("status", [200, 204])
async def test_a_deletion_may_have_nothing_to_say(vendor: Vendor, start_gateway: StartGateway, status: int) -> None:
    gateway = await start_gateway(vendor)
    ids = await stage(gateway, vendor=vendor)
    vendor.simulator.faults.add(faults.status(status, b"", applied=True), method="DELETE", times=None)
    deleted = {
        "message": "thread.message.deleted",
        "thread": "thread.deleted",
        "assistant": "assistant.deleted",
        "file": "file",
        "vector_store": "vector_store.deleted",
    }
    for kind, name in deleted.items():
        if f"delete_{kind}" in examples_of(vendor):
            call = compose(f"delete_{kind}", ids, vendor=vendor)
            assert await ok(gateway, "DELETE", call.path) == {"id": ids[kind], "object": name, "deleted": True}


# --- errors ---------------------------------------------------------------------------------------------------------


def envelope(answer: Any) -> dict[str, Any]:
    """The error of an answer, which has the shape the SDKs read."""
    assert set(answer) == {"error"}
    error: dict[str, Any] = answer["error"]
    assert {"message", "type", "param", "code"} <= set(error)
    assert error["message"]
    assert isinstance(error["message"], str)
    assert isinstance(error["type"], str)
    return error


async def test_errors_of_a_vendor_with_a_shape_of_its_own_are_the_references(
    vendor: Vendor, start_gateway: StartGateway
) -> None:
    """The words are the vendor's, the ids the caller's."""
    vendor.simulator.dialect = replace(vendor.simulator.dialect, error_body=bare_error)
    gateway = await start_gateway(vendor)
    thread = (await ok(gateway, "POST", "/v1/threads", {}))["id"]
    await ok(gateway, "DELETE", f"/v1/threads/{thread}")
    async with gateway.sdk() as sdk:
        with pytest.raises(openai.NotFoundError, match=f"No thread found with id '{thread}'.") as missing:
            await sdk.beta.threads.retrieve(thread)
        envelope({"error": missing.value.body})
        with pytest.raises(openai.BadRequestError, match=r"Missing required parameter: 'model'\."):
            await sdk.post("/assistants", body={}, cast_to=object)


@pytest.mark.parametrize(
    ("body", "content_type", "words"),
    [
        (b'{"error":{"message":"odd words"}}', "application/json", "odd words"),
        (b'{"error":"odd words"}', "application/json", "odd words"),
        (b'{"message":"odd words","statusCode":1}', "application/json", "odd words"),
        (b'{"detail":[{"loc":["body"],"msg":"odd words"}]}', "application/json", "odd words"),
        (b'{"error":{"message":{"text":"odd words"}}}', "application/json", "odd words"),
        (b'["odd words"]', "application/json", "odd words"),
        (b'"odd words"', "application/json", "odd words"),
        (b"odd words", "text/plain", "odd words"),
        (b"<html><style>p{}</style><body><h1>odd</h1> words</body></html>", "text/html", "odd words"),
        (b"odd \xff words", "application/json", "odd \ufffd words"),
        (b"", "text/html", "the provider gave no reason"),
        (b"null", "application/json", None),
        (b'{"errors":[{"title":"odd words"}]}', "application/json", "odd words"),
    ],
)
async def test_an_error_of_any_shape_becomes_the_envelope(
    start_vendor: StartVendor,
    start_gateway: StartGateway,
    body: bytes,
    content_type: str,
    words: str | None,
) -> None:
    """The vendor's status and words stay; a write that may have happened is not repeated by the SDK."""
    vendor = await start_vendor("aimlapi")
    gateway = await start_gateway(vendor)
    for calls, status in enumerate((400, 404, 409, 422, 500), 1):
        vendor.simulator.faults.add(faults.status(status, body, content_type=content_type))
        got, answer, headers = await gateway.call("POST", "/v1/threads", {})
        assert got == status
        assert words is None or words in envelope(answer)["message"]
        assert envelope(answer)["type"] == ("server_error" if status >= 500 else "invalid_request_error")
        assert headers.get("x-should-retry") == ("false" if status in (409, 500) else None)
        assert len(vendor.simulator.journal) == calls


# --- streams --------------------------------------------------------------------------------------------------------


def as_run(status: str, content_type: str = "application/json", indent: int | None = None) -> Act:
    """Answer the run itself, as if `stream` had not been asked for."""

    def change(body: bytes) -> list[bytes]:
        told = [json.loads(line[6:]) for line in body.split(b"\n") if line.startswith(b"data: {")]
        run = next(each for each in reversed(told) if each.get("object") == "thread.run")
        return [json.dumps(run | {"status": status}, indent=indent).encode()]

    return labelled(content_type, change)


def labelled(content_type: str, change: Callable[[bytes], list[bytes]] = lambda body: [body]) -> Act:
    """The stream under another name."""

    async def act(exchange: faults.Exchange) -> Any:
        reply = exchange.work()
        events = tuple(change(reply.payload))
        return await exchange.send(replace(reply, headers={"Content-Type": content_type}, events=events))

    return act


RUN_STREAMS = ("create_run", "create_thread_and_run")


@pytest.mark.parametrize("name", RUN_STREAMS)
@pytest.mark.parametrize(
    ("status", "content_type", "indent"),
    [
        ("queued", "application/json", None),
        ("completed", "application/json", 2),
        ("requires_action", "text/plain", None),
        ("completed", "text/event-stream", None),
        ("completed", "text/event-stream", 2),
    ],
)
async def test_a_run_instead_of_a_stream_becomes_a_stream(
    vendor: Vendor, start_gateway: StartGateway, name: str, status: str, content_type: str, indent: int | None
) -> None:
    """Whatever it is labelled: one event that says how the run stands, and the end."""
    gateway = await start_gateway(vendor)
    ids = await stage(gateway, vendor=vendor)
    vendor.simulator.faults.add(as_run(status, content_type, indent), path="/runs$", method="POST")
    heard = await hear(gateway, compose(name, ids, vendor=vendor, stream=True))
    assert (heard.status, b"text/event-stream" in heard.headers) == (200, True)
    first, done, rest = heard.body.split(b"\n\n")
    assert (done, rest) == (b"event: done\ndata: [DONE]", b"")
    event, data = first.split(b"\n")
    assert event == f"event: thread.run.{status}".encode()
    run = json.loads(data.removeprefix(b"data: "))
    assert (run["status"], run["metadata"]) == (status, {})
    assert run["assistant_id"] == ids["assistant"]
    assert await ok(gateway, "GET", f"/v1/threads/{run['thread_id']}/runs/{run['id']}")


async def test_an_error_under_a_streams_label_raises_in_the_sdk(
    start_vendor: StartVendor, start_gateway: StartGateway
) -> None:
    """With public ids in the vendor's words."""
    vendor = await start_vendor("aimlapi")
    gateway = await start_gateway(vendor)
    ids = await stage(gateway)
    told = json.dumps({"error": {"message": f"No thread found with id '{upstream_of(ids['thread'])}'."}}).encode()
    vendor.simulator.faults.add(faults.garbage(told, "text/event-stream"), path="/runs$", method="POST")
    async with gateway.sdk() as sdk:
        stream = await sdk.beta.threads.runs.create(ids["thread"], assistant_id=ids["assistant"], stream=True)
        with pytest.raises(openai.APIError, match=f"No thread found with id '{ids['thread']}'."):
            assert [event async for event in stream]


async def test_the_sdk_follows_a_run_that_came_instead_of_a_stream(
    start_vendor: StartVendor, start_gateway: StartGateway
) -> None:
    vendor = await start_vendor("aimlapi")
    gateway = await start_gateway(vendor)
    ids = await stage(gateway)
    vendor.simulator.faults.add(as_run("completed"), path="/runs$", method="POST")
    async with (
        gateway.sdk() as sdk,
        sdk.beta.threads.runs.stream(thread_id=ids["thread"], assistant_id=ids["assistant"]) as stream,
    ):
        run = await stream.get_final_run()
    assert (run.status, run.thread_id) == ("completed", ids["thread"])


@pytest.mark.parametrize(
    "act",
    [
        labelled("text/plain"),
        labelled("application/json"),
        labelled("application/octet-stream", lambda body: [body[:3], *body[3:].splitlines(keepends=True)]),
        labelled("text/plain", lambda body: [b"\r\n\r\n: hello\r\n\r\n", body.replace(b"\n", b"\r\n")]),
        labelled("TEXT/EVENT-STREAM", lambda body: [b"\xef\xbb\xbf", body]),
        faults.slow(5, lambda: asyncio.sleep(0)),
    ],
    ids=["text", "json", "pieces", "crlf", "bom", "drops"],
)
async def test_a_stream_is_a_stream_whatever_it_is_called(
    vendor: Vendor, start_gateway: StartGateway, act: Act
) -> None:
    gateway = await start_gateway(vendor)
    ids = await stage(gateway, vendor=vendor)
    vendor.simulator.faults.add(act, path="/runs$", method="POST")
    heard = await hear(gateway, compose("create_run", ids, vendor=vendor, stream=True))
    assert (heard.status, b"Content-Type: text/event-stream; charset=utf-8" in heard.headers) == (200, True)
    names = [line[7:].decode() for line in heard.body.split(b"\n") if line.startswith(b"event: ")]
    assert (names[-2], names[-1]) == ("thread.run.completed", "done")
    assert names[0] == "thread.run.created"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"<html>Just a moment...</html>", "text/html"),
        (b"", "application/json"),
        (b"", "text/html"),
        (b"[]", "application/json"),
        (b'{"hello":"world"}', "application/json"),
        (b"You said: hello", "text/plain"),
    ],
)
async def test_something_that_is_no_stream_is_a_502_and_not_repeated(
    vendor: Vendor, start_gateway: StartGateway, body: bytes, content_type: str
) -> None:
    """The run may have begun: the caller is told to look, and the SDK sends nothing twice by itself."""
    gateway = await start_gateway(vendor)
    ids = await stage(gateway, vendor=vendor)
    vendor.simulator.faults.add(faults.garbage(body, content_type), path="/runs$", method="POST")
    runs = vendor.simulator.created["run"]
    async with gateway.sdk(max_retries=2) as sdk:
        with pytest.raises(openai.InternalServerError) as broken:
            await sdk.beta.threads.runs.create(ids["thread"], assistant_id=ids["assistant"], stream=True)
    assert (broken.value.status_code, broken.value.code) == (504, "outcome_unknown")
    assert vendor.simulator.created["run"] == runs + 1
    assert body.decode() not in broken.value.message or not body


# --- headers --------------------------------------------------------------------------------------------------------


def sent(vendor: Vendor) -> CIMultiDict[str]:
    received: Received = vendor.simulator.journal[-1]
    return received.headers


@pytest.mark.parametrize(
    ("given", "others"),
    [
        (None, ""),
        ("", ""),
        ("assistants=v2", ""),
        ("assistants=v2,assistants=v2", ""),
        ("realtime=v1", "realtime=v1"),
        ("assistants=v2, realtime=v1 ,x", "realtime=v1,x"),
        ("assistants=v1", ""),
        ("realtime=v1,assistants=v1", "realtime=v1"),
    ],
)
async def test_the_beta_header_is_spoken_in_the_vendors_way(
    vendor: Vendor, start_gateway: StartGateway, given: str | None, others: str
) -> None:
    """Its version is said where the vendor wants it said, and not where its documentation has no such header, whatever
    the caller's; what else a caller says passes."""
    gateway = await start_gateway(vendor)
    headers = {} if given is None else {"OpenAI-Beta": given}
    await ok(gateway, "POST", "/v1/threads", {}, headers=headers)
    needed = [version] if (version := vendor.simulator.dialect.needs_beta_header) else []
    expected = ",".join([*needed, others] if others else needed)
    assert sent(vendor).getall("OpenAI-Beta", []) == ([expected] if expected else [])


@pytest.mark.parametrize(
    "given", ["assistants=v0", "realtime=v1, assistants=v3", "assistants=v3", "assistants=v2,assistants=v1"]
)
async def test_another_version_of_the_protocol_is_refused(
    vendor: Vendor, start_gateway: StartGateway, given: str
) -> None:
    gateway = await start_gateway(vendor)
    status, answer, _ = await gateway.call("POST", "/v1/threads", {}, headers={"OpenAI-Beta": given})
    assert (status, envelope(answer)["code"]) == (400, "invalid_beta")
    assert vendor.simulator.journal == []


CROSSING = {"User-Agent": "program/1", "X-Stainless-Lang": "python", "x-stainless-retry-count": "1"}
STAYING = {
    "Cookie": "session=1",
    "OpenAI-Organization": "org-callers",
    "OpenAI-Project": "proj_callers",
    "api-key": "alice-key",
    "x-api-key": "alice-key",
    "Proxy-Authorization": "Basic eA==",
    "X-Forwarded-For": "10.0.0.1",
    "Forwarded": "for=10.0.0.1",
    "Via": "1.1 proxy",
    "Referer": "http://inside/",
    "Origin": "http://inside",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "x-request-id": "callers-own",
    "x-anything": "anything",
    "Idempotency-Key": "once",
    "Connection": "keep-alive, x-anything",
    "TE": "trailers",
}


@pytest.mark.parametrize(
    "name", ["get_thread", "create_thread", "create_run", "upload_file", "get_file_content", "list_files"]
)
async def test_of_a_callers_headers_only_the_known_reach_the_vendor(
    vendor: Vendor, start_gateway: StartGateway, name: str
) -> None:
    """The list of what may arrive is complete: a header that is added one day has to be added here."""
    gateway = await start_gateway(vendor)
    ids = await stage(gateway, vendor=vendor)
    headers = {**CROSSING, **STAYING, "Authorization": "Bearer alice-key", "x-gateway-provider": vendor.name}
    call = compose(name, ids, vendor=vendor, stream=name == "create_run", query_of=())
    heard = await hear(gateway, call, headers=headers)
    assert heard.status == 200
    arrived = sent(vendor)
    for header, value in CROSSING.items():
        assert arrived.getall(header) == [value]
    allowed = {
        "host",
        "authorization",
        "api-key",
        "accept",
        "accept-encoding",
        "openai-beta",
        "content-type",
        "content-length",
    }
    allowed |= {header.lower() for header in CROSSING}
    assert {header.lower() for header in arrived} <= allowed
    assert vendor.simulator.journal[-1].key in vendor.keys[:2]
    assert arrived["Host"] == vendor.simulator.url.split("/")[2]
    assert not {"alice-key", *STAYING.values()} & set(arrived.values())


async def test_organisation_and_project_come_from_the_account(
    start_vendor: StartVendor, start_gateway: StartGateway
) -> None:
    """And what the vendor says of them stays here."""
    vendor = await start_vendor("openai")

    def change(settings: dict[str, Any]) -> None:
        settings["providers"]["openai"]["accounts"]["acme"] |= {"organization": "org-ours", "project": "proj_ours"}

    gateway = await start_gateway(vendor, change=change)
    given = {"OpenAI-Organization": "org-callers", "OpenAI-Project": "proj_callers"}
    for tenant, expected in (("alice", ("org-ours", "proj_ours")), ("carol", (None, None))):
        heard = await hear(gateway, Call("POST", "/v1/threads", {}), tenant=tenant, headers=bearer(tenant) | given)
        arrived = sent(vendor)
        assert (arrived.get("OpenAI-Organization"), arrived.get("OpenAI-Project")) == expected
        assert b"org-" not in heard.headers
        assert b"proj_" not in heard.headers


def bearer(tenant: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {tenant}-key"}


@pytest.mark.parametrize("name", ["get_thread", "list_messages", "create_run", "upload_file", "get_file_content"])
@pytest.mark.parametrize("status", [200, 400])
async def test_of_a_vendors_headers_only_the_known_reach_the_caller(
    start_vendor: StartVendor, start_gateway: StartGateway, name: str, status: int
) -> None:
    """The vendor sets cookies, names its account and its servers; none of that is for callers."""
    vendor = await start_vendor("openai")
    gateway = await start_gateway(vendor, change=UNCACHED)
    ids = await stage(gateway)
    theirs = vendor.simulator.dialect.headers
    more = {
        "server": "cloudflare",
        "cf-ray": "1",
        "via": "1.1 x",
        "alt-svc": "h3",
        "x-anything": "1",
        "retry-after": "7",
        "strict-transport-security": "max-age=1",
        "access-control-allow-origin": "*",
        "link": "</x>",
    }
    dialect = replace(vendor.simulator.dialect, headers=lambda account, asked: {**theirs(account, asked), **more})
    vendor.simulator.dialect = dialect
    call = compose(name, ids, stream=name == "create_run", query_of=())
    if status == 400:
        vendor.simulator.faults.add(faults.status(400, headers={**more, "set-cookie": "a=b", "x-request-id": "req_x"}))
    heard = await hear(gateway, call)
    assert heard.status == status
    headers: CIMultiDict[str] = CIMultiDict()
    for line in heard.headers.decode().split("\r\n"):
        headers.add(*line.split(": ", 1))
    told = {"content-type", "content-length", "content-disposition", "date", "server", "transfer-encoding"}
    told |= {"cache-control", "x-accel-buffering", "x-request-id", "x-upstream-request-id", "retry-after"}
    told |= {"openai-processing-ms", "openai-version", "openai-poll-after-ms"}
    assert {header.lower() for header in headers} <= told
    assert headers["server"] == "threads-gateway"
    assert headers["retry-after"] == "7"
    assert headers["x-request-id"].startswith("req_")
    assert headers["x-request-id"] != headers["x-upstream-request-id"]
    assert len(headers.getall("x-request-id")) == 1


async def test_a_vendors_cookie_is_not_sent_back_to_it(start_vendor: StartVendor, start_gateway: StartGateway) -> None:
    """It would tie every tenant's requests together."""
    vendor = await start_vendor("openai")
    gateway = await start_gateway(vendor)
    for _ in range(3):
        await ok(gateway, "POST", "/v1/threads", {})
        assert "Cookie" not in sent(vendor)
