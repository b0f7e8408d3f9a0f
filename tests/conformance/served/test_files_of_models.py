"""Files and vector stores of a provider whose models work on them: forwarded, and filled from what messages attach."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import orjson
import pytest

from gateway.attempts import Attempts, Sending
from gateway.operations import OPERATIONS
from gateway.phases.send import Response
from gateway.telemetry import Record
from tests.conformance.conftest import ok
from tests.conformance.served.conftest import Hosted, ServeHosted
from tests.conftest import eventually
from tests.simulators import faults

SEARCH: dict[str, Any] = {"type": "file_search"}
WEEK = {"anchor": "last_active_at", "days": 7}
OF_FILES = [operation for operation in OPERATIONS if operation.is_of_files]


def attaching(*files: str) -> dict[str, Any]:
    return {
        "role": "user",
        "content": "Read this.",
        "attachments": [{"file_id": file, "tools": [SEARCH]} for file in files],
    }


def stores_at(hosted: Hosted, account: str = "acme") -> list[Any]:
    """All vector stores of an account, as the vendor has them."""
    listed: list[Any] = hosted.vendor.worlds[account].stores.list_all({})["data"]
    return listed


async def files_in(hosted: Hosted, store: str, *, tenant: str = "alice") -> list[str]:
    listed = await ok(hosted.gateway, "GET", f"/v1/vector_stores/{store}/files?order=asc", tenant=tenant)
    return [each["id"] for each in listed["data"]]


# --- forwarding -------------------------------------------------------------------------------------------------------
async def test_files_and_vector_stores_are_the_vendors(hosted: Hosted) -> None:
    """All of the SDK's ways to them work, under signed ids."""
    async with hosted.gateway.sdk() as sdk:
        file = await sdk.files.create(file=("a.txt", b"hello"), purpose="assistants")
        assert (await sdk.files.content(file.id)).content == b"hello"
        store = (await sdk.vector_stores.create(name="s", file_ids=[file.id])).id
        assert [each.id async for each in sdk.files.list()] == [file.id]
        assert [each.id async for each in sdk.vector_stores.list()] == [store]
        assert [each.id async for each in sdk.vector_stores.files.list(store)] == [file.id]
        found = [each async for each in sdk.vector_stores.search(store, query="hello")]
        assert [(each.file_id, each.filename) for each in found] == [(file.id, "a.txt")]
        assert (await sdk.vector_stores.delete(store)).deleted
        assert (await sdk.files.delete(file.id)).deleted
        assert [each.id async for each in sdk.files.list()] == []
    assert hosted.upstream(file.id) != file.id


async def test_tenants_of_one_account_do_not_see_each_others(hosted: Hosted) -> None:
    """Nor can they name them, in whatever is made."""
    file = await hosted.upload()
    store = (await ok(hosted.gateway, "POST", "/v1/vector_stores", {"file_ids": [file]}))["id"]
    asked = len(hosted.vendor.journal)
    ids = {"file": file, "vector_store": store, "batch": store}
    for operation in OF_FILES:
        if "{" not in operation.template:
            continue
        for tenant in ("bob", "carol"):
            path = "/v1" + operation.template.format(**ids)
            body = {} if operation.method == "POST" else None
            assert (await hosted.gateway.call(operation.method, path, body, tenant=tenant))[0] == 404, operation.name
    resources: dict[str, Any] = {
        "code_interpreter": {"file_ids": [file]},
        "file_search": {"vector_store_ids": [store]},
    }
    for path, body in (
        ("/v1/assistants", {"model": "m", "tool_resources": resources}),
        ("/v1/threads", {"tool_resources": resources}),
        ("/v1/threads", {"messages": [attaching(file)]}),
        ("/v1/vector_stores", {"file_ids": [file]}),
    ):
        status, _, _ = await hosted.gateway.call("POST", path, body, tenant="bob")
        assert status == 404, path
    assert len(hosted.vendor.journal) == asked
    for path in ("/v1/files", "/v1/vector_stores"):
        assert (await ok(hosted.gateway, "GET", path, tenant="bob"))["data"] == []
        assert len((await ok(hosted.gateway, "GET", path))["data"]) == 1


async def test_over_models_without_tools_they_are_refused(serve_hosted: ServeHosted) -> None:
    hosted = await serve_hosted("none")
    ids = {kind: hosted.unknown(kind, f"{kind}-1") for kind in ("file", "vector_store", "batch")}
    for operation in OF_FILES:
        form = aiohttp.FormData({"purpose": "assistants"}, default_to_multipart=True)
        sent: Any = {"data": form} if operation.upload else {"json": {}} if operation.method == "POST" else {}
        path = "/v1" + operation.template.format(**ids)
        status, answer, _ = await hosted.gateway.call(operation.method, path, **sent)
        assert (status, answer["error"]["code"]) == (400, "unsupported_by_model_api"), operation.name
    assert hosted.vendor.journal == []


async def test_a_tool_that_the_models_lack_is_refused_beside_one_they_have(serve_hosted: ServeHosted) -> None:
    hosted = await serve_hosted("code")
    assert await hosted.assistant({"type": "code_interpreter"})
    status, error = await hosted.refusal("POST", "/v1/assistants", {"model": "m", "tools": [SEARCH]})
    assert (status, error["code"], error["param"]) == (400, "unsupported_by_model_api", "tools[0].type")
    status, error = await hosted.refusal("POST", "/v1/threads", {"messages": [attaching(await hosted.upload())]})
    assert (status, error["code"]) == (400, "unsupported_by_model_api")


# --- attachments ------------------------------------------------------------------------------------------------------
async def test_the_first_attachment_makes_the_threads_store_and_others_fill_it(hosted: Hosted) -> None:
    one, two, three = [await hosted.upload(str(n).encode()) for n in range(3)]
    thread = await hosted.thread("Hi")
    path = f"/v1/threads/{thread}"
    await ok(hosted.gateway, "POST", f"{path}/messages", attaching(one))
    resources = (await ok(hosted.gateway, "GET", path))["tool_resources"]
    [store] = resources["file_search"]["vector_store_ids"]
    [made] = stores_at(hosted)
    assert (hosted.upstream(store), made["expires_after"]) == (made["id"], WEEK)
    await ok(hosted.gateway, "POST", f"{path}/messages", attaching(two, three))
    assert await files_in(hosted, store) == [one, two, three]
    assistant = await hosted.assistant(SEARCH)
    run = await hosted.end(await ok(hosted.gateway, "POST", f"{path}/runs", {"assistant_id": assistant}))
    assert run["status"] == "completed"
    assert hosted.tools[0]["settings"]["vector_store_ids"] == [made["id"]]
    assert (await ok(hosted.gateway, "GET", path))["tool_resources"] == resources


async def test_messages_that_attach_at_one_time_share_one_store(hosted: Hosted) -> None:
    """Whoever comes second throws its own away."""
    files = [await hosted.upload(str(n).encode()) for n in range(4)]
    thread = await hosted.thread("Hi")
    path = f"/v1/threads/{thread}"
    await asyncio.gather(*(ok(hosted.gateway, "POST", f"{path}/messages", attaching(file)) for file in files))
    [store] = (await ok(hosted.gateway, "GET", path))["tool_resources"]["file_search"]["vector_store_ids"]
    assert sorted(await files_in(hosted, store)) == sorted(files)
    assert [each["id"] for each in stores_at(hosted)] == [hosted.upstream(store)]


async def test_a_thread_that_others_change_without_end_is_given_up(
    hosted: Hosted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing is left behind."""

    async def too_late(*_: Any) -> bool:
        return False

    monkeypatch.setattr("gateway.engine.store.threads.Threads.swap_resources", too_late)
    file, thread = await hosted.upload(), await hosted.thread("Hi")
    status, _ = await hosted.refusal("POST", f"/v1/threads/{thread}/messages", attaching(file))
    assert status == 409
    assert stores_at(hosted) == []
    assert len((await ok(hosted.gateway, "GET", f"/v1/threads/{thread}/messages"))["data"]) == 1


async def test_all_calls_for_one_request_have_its_time_together(
    hosted: Hosted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many files a message attaches."""
    until: dict[str, set[float]] = {}
    send = Attempts.__call__

    async def note(self: Attempts, sending: Sending, record: Record) -> Response:
        until.setdefault(sending.operation.name, set()).add(sending.deadline)
        return await send(self, sending, record)

    files = [await hosted.upload(str(n).encode()) for n in range(3)]
    described = {"file_search": {"vector_stores": [{"file_ids": []}]}}
    monkeypatch.setattr(Attempts, "__call__", note)
    await ok(hosted.gateway, "POST", "/v1/threads", {"messages": [attaching(*files)], "tool_resources": described})
    assert len(until["create_store_file"]) == 1
    assert until["create_store_file"] == until["create_vector_store"]


async def test_a_tenant_that_is_erased_meanwhile_gets_nothing(hosted: Hosted) -> None:
    """While its files were attached at the vendor: what was removed is not made again."""
    file = await hosted.upload()
    described = {"file_search": {"vector_stores": [{"file_ids": [file]}]}}
    go_on = asyncio.Event()
    hosted.vendor.faults.add(faults.hold(go_on), method="POST", path="/vector_stores$", times=2)
    asking = [
        asyncio.create_task(hosted.refusal("POST", "/v1/threads", {"tool_resources": described})),
        asyncio.create_task(
            hosted.refusal("POST", "/v1/assistants", {"model": "m", "tools": [SEARCH], "tool_resources": described})
        ),
    ]
    await eventually(lambda: len(stores_at(hosted)) == 2)
    shared, running = hosted.gateway.app.shared, hosted.gateway.app.running
    assert shared is not None
    assert running is not None
    shared.switches.mark_erased("alice", "leaves", with_usage=False)
    go_on.set()
    assert [(status, error["code"]) for status, error in await asyncio.gather(*asking)] == [
        (403, "tenant_disabled"),
        (403, "tenant_disabled"),
    ]
    assert await running._stored.holdings.first("alice", 10) == []


async def test_what_cannot_be_told_is_refused_before_anything_is_made(hosted: Hosted) -> None:
    file = await hosted.upload()
    asked = {"assistant_id": await hosted.assistant(SEARCH), "thread": {"messages": [attaching(file)]}}
    status, error = await hosted.refusal("POST", "/v1/threads/runs?include[]=everything", asked)
    assert (status, error["param"]) == (400, "include")
    assert stores_at(hosted) == []


@pytest.mark.parametrize("has_store", [False, True])
async def test_a_new_thread_brings_its_files(has_store: bool, hosted: Hosted) -> None:
    """Its messages' into the store that it names or describes, if it does."""
    one, two = [await hosted.upload(str(n).encode()) for n in range(2)]
    described = {"file_search": {"vector_stores": [{"file_ids": [two], "metadata": {"a": "b"}}]}} if has_store else None
    body = {"messages": [attaching(one)], "tool_resources": described}
    thread = await ok(hosted.gateway, "POST", "/v1/threads", body)
    [store] = thread["tool_resources"]["file_search"]["vector_store_ids"]
    assert "vector_stores" not in thread["tool_resources"]["file_search"]
    assert sorted(await files_in(hosted, store)) == sorted([one, two] if has_store else [one])
    [made] = stores_at(hosted)
    assert (made["expires_after"], made["metadata"]) == (WEEK, {"a": "b"} if has_store else {})


async def test_messages_of_a_run_bring_theirs(hosted: Hosted) -> None:
    """Before the run looks at what its thread has; in one request with the thread too."""
    assistant, file = await hosted.assistant(SEARCH), await hosted.upload()
    thread = await hosted.thread("Hi")
    asked = {"assistant_id": assistant, "additional_messages": [attaching(file)]}
    await hosted.end(await ok(hosted.gateway, "POST", f"/v1/threads/{thread}/runs", asked))
    assert hosted.tools[0]["settings"]["vector_store_ids"] == [stores_at(hosted)[0]["id"]]
    both = {"assistant_id": assistant, "thread": {"messages": [attaching(file)]}}
    await hosted.end(await ok(hosted.gateway, "POST", "/v1/threads/runs", both))
    assert {each["id"] for each in stores_at(hosted)} >= set(hosted.tools[0]["settings"]["vector_store_ids"])
    assert len(stores_at(hosted)) == 2


async def test_an_assistants_described_store_is_made_for_good_and_is_its_makers(hosted: Hosted) -> None:
    file = await hosted.upload()
    chunks = {"type": "static", "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 20}}
    described = {"file_search": {"vector_stores": [{"file_ids": [file], "chunking_strategy": chunks}]}}
    body = {"model": "m", "tools": [SEARCH], "tool_resources": described}
    made = await ok(hosted.gateway, "POST", "/v1/assistants", body)
    [store] = made["tool_resources"]["file_search"]["vector_store_ids"]
    assert made["tool_resources"] == {"file_search": {"vector_store_ids": [store]}}
    assert stores_at(hosted)[0]["expires_after"] is None
    assert orjson.loads(hosted.vendor.journal[-1].body)["chunking_strategy"] == chunks
    assert [each["id"] for each in (await ok(hosted.gateway, "GET", "/v1/vector_stores"))["data"]] == [store]
    status, error = await hosted.refusal("POST", f"/v1/assistants/{made['id']}", {"tool_resources": described})
    assert (status, error["code"]) == (400, "unknown_parameter")


async def test_what_the_vendor_refuses_stores_nothing(hosted: Hosted) -> None:
    """It is told in its words, with our ids."""
    file, thread = await hosted.upload(), await hosted.thread("Hi")
    await ok(hosted.gateway, "DELETE", f"/v1/files/{file}")
    path = f"/v1/threads/{thread}/messages"
    status, error = await hosted.refusal("POST", path, attaching(file))
    assert status == 404
    assert file in error["message"]
    assert len((await ok(hosted.gateway, "GET", path))["data"]) == 1
    assert (await hosted.refusal("POST", "/v1/threads", {"messages": [attaching(file)]}))[0] == 404
    described = {"file_search": {"vector_stores": [{"file_ids": [file]}]}}
    body = {"model": "m", "tools": [SEARCH], "tool_resources": described}
    assert (await hosted.refusal("POST", "/v1/assistants", body))[0] == 404
    assert (await ok(hosted.gateway, "GET", "/v1/assistants"))["data"] == []


async def test_a_thread_that_is_gone_attaches_nothing(hosted: Hosted) -> None:
    file, thread = await hosted.upload(), await hosted.thread("Hi")
    await ok(hosted.gateway, "DELETE", f"/v1/threads/{thread}")
    status, error = await hosted.refusal("POST", f"/v1/threads/{thread}/messages", attaching(file))
    assert (status, error["message"]) == (404, f"No thread found with id '{thread}'.")
    assert stores_at(hosted) == []


# --- indexing ---------------------------------------------------------------------------------------------------------
async def test_a_run_waits_until_the_threads_files_can_be_searched(
    hosted: Hosted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for a store of the assistant's, nor for ever."""
    monkeypatch.setattr("gateway.engine.vector_stores._INDEXED_S", 0.01)
    looks = "/vector_stores/vs_[^/]+$"
    file = await hosted.upload()
    thread = (await ok(hosted.gateway, "POST", "/v1/threads", {"messages": [attaching(file)]}))["id"]
    assistant = await hosted.assistant(SEARCH)
    indexing = {"id": "vs_1", "object": "vector_store", "status": "in_progress"}
    fault = hosted.vendor.faults.add(faults.status(200, indexing), method="GET", path=looks, times=3)
    path = f"/v1/threads/{thread}/runs"
    run = await hosted.end(await ok(hosted.gateway, "POST", path, {"assistant_id": assistant}))
    assert (run["status"], len(fault.hits)) == ("completed", 3)
    asked = [each.path.rpartition("/")[2] for each in hosted.vendor.journal]
    assert asked[-1] == "generate"
    assert asked.count("generate") == 1
    monkeypatch.setattr("gateway.engine.vector_stores._INDEXING_S", 0.05)
    hosted.vendor.faults.add(faults.status(200, indexing), method="GET", path=looks, times=None)
    run = await hosted.end(await ok(hosted.gateway, "POST", path, {"assistant_id": assistant}))
    assert run["status"] == "completed"


async def test_a_run_that_waits_for_indexing_is_cancelled_at_once(hosted: Hosted) -> None:
    file = await hosted.upload()
    thread = (await ok(hosted.gateway, "POST", "/v1/threads", {"messages": [attaching(file)]}))["id"]
    go_on = asyncio.Event()
    hosted.vendor.faults.add(faults.hold(go_on), method="GET", path="/vector_stores/vs_[^/]+$")
    path = f"/v1/threads/{thread}/runs"
    run = await ok(hosted.gateway, "POST", path, {"assistant_id": await hosted.assistant(SEARCH)})
    await hosted.vendor.arrived(method="GET", path="/vector_stores/")
    await ok(hosted.gateway, "POST", f"{path}/{run['id']}/cancel", {})
    assert (await hosted.end(run))["status"] == "cancelled"
    go_on.set()
    assert hosted.vendor.asked == []


# --- v1 ---------------------------------------------------------------------------------------------------------------
async def test_a_v1_caller_has_files_of_assistants_and_messages(hosted: Hosted) -> None:
    """By recipes, as in front of a vendor of threads."""
    beta = {"OpenAI-Beta": "assistants=v1"}
    one, two = [await hosted.upload(str(n).encode()) for n in range(2)]

    async def call(method: str, path: str, body: Any = None) -> Any:
        status, answer, _ = await hosted.gateway.call(method, path, body, headers=beta)
        assert status == 200, answer
        return answer

    tools = [{"type": "retrieval"}, {"type": "code_interpreter"}]
    assistant = await call("POST", "/v1/assistants", {"model": "m", "tools": tools, "file_ids": [one]})
    assert (assistant["file_ids"], assistant["tools"]) == ([one], tools)
    thread = (await call("POST", "/v1/threads", {}))["id"]
    said = {"role": "user", "content": "Read this.", "file_ids": [two]}
    message = await call("POST", f"/v1/threads/{thread}/messages", said)
    assert message["file_ids"] == [two]
    found = await call("GET", f"/v1/threads/{thread}/messages/{message['id']}/files/{two}")
    assert found["id"] == two
    run = await call("POST", f"/v1/threads/{thread}/runs", {"assistant_id": assistant["id"]})
    assert (await hosted.end(run))["status"] == "completed"
    searched, code = hosted.tools
    assert set(code["settings"]["file_ids"]) == {hosted.upstream(one), hosted.upstream(two)}
    assert len(searched["settings"]["vector_store_ids"]) == 2
