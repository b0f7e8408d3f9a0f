"""What a v1 caller asks in one call and a v2 provider does in several; what stands when one of them fails."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from aiohttp import FormData

from tests.conftest import Events, Running, StartGateway, StartVendor, Vendor, edit
from tests.simulators import faults

V1 = {"OpenAI-Beta": "assistants=v1"}
RETRIEVAL, CODE = {"type": "retrieval"}, {"type": "code_interpreter"}
TAIL = 24


@dataclass
class Stage:
    """A v1 caller, the gateway, and the v2 provider's world behind."""

    vendor: Vendor
    gateway: Running

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        status, answer, _ = await self.gateway.call(method, f"/v1{path}", body, headers=V1)
        return status, answer

    async def ok(self, method: str, path: str, body: Any = None) -> Any:
        status, answer = await self.call(method, path, body)
        assert status == 200, answer
        return answer

    async def upload(self, name: str = "a.txt") -> str:
        form = FormData()
        form.add_field("purpose", "assistants")
        form.add_field("file", b"a text", filename=name)
        _, answer, _ = await self.gateway.call("POST", "/v1/files", data=form)
        file_id: str = answer["id"]
        return file_id

    async def uploads(self, count: int) -> list[str]:
        return [await self.upload() for _ in range(count)]

    async def assistant(self, files: Sequence[str] = (), tools: Sequence[Any] = (RETRIEVAL,)) -> str:
        made = await self.ok("POST", "/assistants", {"model": "m", "tools": list(tools), "file_ids": list(files)})
        assistant_id: str = made["id"]
        return assistant_id

    def seen(self, assistant: str) -> Any:
        """The assistant as the provider has it."""
        return self.vendor.simulator.worlds["acme"].assistants.get(assistant[:-TAIL])

    def stores(self) -> dict[str, list[str]]:
        """The vector stores at the provider, each with its files."""
        world = self.vendor.simulator.worlds["acme"]
        listed = world.stores.list_all({"order": "asc"})["data"]
        return {
            store["id"]: [file["id"] for file in world.stores.list_files(store["id"], {"order": "asc"})["data"]]
            for store in listed
        }

    def agrees(self, assistant: str, files: Sequence[str]) -> None:
        """The assistant has these files, and one vector store has them too and no other store is left."""
        upstream = [file[:-TAIL] for file in files]
        resources = self.seen(assistant)["tool_resources"]
        assert resources["code_interpreter"]["file_ids"] == upstream
        stores = self.stores()
        assert resources["file_search"]["vector_store_ids"] == list(stores)
        assert [sorted(held) for held in stores.values()] == ([sorted(upstream)] if files else [])


@pytest.fixture
async def stage(start_vendor: StartVendor, start_gateway: StartGateway) -> Stage:
    vendor = await start_vendor("openai")
    return Stage(vendor, await start_gateway(vendor, change=edit(providers__openai__max_attempts=1)))


# --- what callers get ----------------------------------------------------------------------------------------------
async def test_files_come_to_an_assistant_one_by_one_and_go_again(stage: Stage) -> None:
    """As objects of their own; what is searched follows each step."""
    files = await stage.uploads(3)
    assistant = await stage.assistant()
    for count, file in enumerate(files, 1):
        made = await stage.ok("POST", f"/assistants/{assistant}/files", {"file_id": file})
        assert (made["id"], made["object"], made["assistant_id"]) == (file, "assistant.file", assistant)
        assert await stage.ok("GET", f"/assistants/{assistant}/files/{file}") == made
        stage.agrees(assistant, files[:count])
    again = await stage.ok("POST", f"/assistants/{assistant}/files", {"file_id": files[0]})
    assert again["id"] == files[0]
    stage.agrees(assistant, files)
    assert (await stage.ok("GET", f"/assistants/{assistant}"))["file_ids"] == files
    for count, file in enumerate(files, 1):
        gone = await stage.ok("DELETE", f"/assistants/{assistant}/files/{file}")
        assert gone == {"id": file, "object": "assistant.file.deleted", "deleted": True}
        stage.agrees(assistant, files[count:])
    status, answer = await stage.call("DELETE", f"/assistants/{assistant}/files/{files[0]}")
    assert (status, answer["error"]["message"]) == (404, f"No file found with id '{files[0]}'.")


async def test_lists_of_files_have_cursors(stage: Stage) -> None:
    files = await stage.uploads(3)
    assistant = await stage.assistant(files)
    path = f"/assistants/{assistant}/files"
    newest = await stage.ok("GET", f"{path}?limit=2")
    assert ([file["id"] for file in newest["data"]], newest["has_more"]) == (files[:0:-1], True)
    rest = await stage.ok("GET", f"{path}?limit=2&after={newest['last_id']}")
    assert ([file["id"] for file in rest["data"]], rest["has_more"]) == (files[:1], False)
    oldest = await stage.ok("GET", f"{path}?order=asc")
    assert [file["id"] for file in oldest["data"]] == files
    for query, param in (("limit=0", "limit"), ("order=up", "order")):
        status, answer = await stage.call("GET", f"{path}?{query}")
        assert (status, answer["error"]["param"], answer["error"]["code"]) == (400, param, "invalid_value")


async def test_files_of_a_message_are_read(stage: Stage) -> None:
    files = await stage.uploads(2)
    thread = (await stage.ok("POST", "/threads", {}))["id"]
    body = {"role": "user", "content": "hello", "file_ids": files}
    message = (await stage.ok("POST", f"/threads/{thread}/messages", body))["id"]
    path = f"/threads/{thread}/messages/{message}/files"
    listed = await stage.ok("GET", f"{path}?order=asc")
    assert [file["id"] for file in listed["data"]] == files
    one = await stage.ok("GET", f"{path}/{files[1]}")
    assert (one["object"], one["message_id"]) == ("thread.message.file", message)
    other = await stage.upload()
    status, answer = await stage.call("GET", f"{path}/{other}")
    assert (status, answer["error"]["message"]) == (404, f"No file found with id '{other}'.")


async def test_changing_an_assistants_files_changes_what_it_searches(stage: Stage) -> None:
    files = await stage.uploads(3)
    assistant = await stage.assistant(files[:2])
    changed = await stage.ok("POST", f"/assistants/{assistant}", {"file_ids": files[1:], "name": "Ann"})
    assert (changed["file_ids"], changed["name"]) == (files[1:], "Ann")
    stage.agrees(assistant, files[1:])
    await stage.ok("POST", f"/assistants/{assistant}", {"file_ids": []})
    stage.agrees(assistant, [])


async def test_tools_may_come_and_go_after_the_files(stage: Stage) -> None:
    """Files wait for the tool; without it nothing is searched and no store is paid for."""
    files = await stage.uploads(1)
    assistant = await stage.assistant(files, tools=[CODE])
    assert stage.stores() == {}
    await stage.ok("POST", f"/assistants/{assistant}", {"tools": [CODE, RETRIEVAL]})
    stage.agrees(assistant, files)
    changed = await stage.ok("POST", f"/assistants/{assistant}", {"tools": [RETRIEVAL], "name": "Bea"})
    assert (changed["name"], changed["file_ids"]) == ("Bea", files)
    stage.agrees(assistant, files)
    await stage.ok("POST", f"/assistants/{assistant}", {"tools": [CODE], "file_ids": files})
    assert stage.stores() == {}
    assert stage.seen(assistant)["tool_resources"]["code_interpreter"]["file_ids"] == [files[0][:-TAIL]]


async def test_an_assistant_takes_its_own_vector_store_with_it(stage: Stage) -> None:
    assistant = await stage.assistant(await stage.uploads(1))
    gone = await stage.ok("DELETE", f"/assistants/{assistant}")
    assert (gone["id"], gone["deleted"], stage.stores()) == (assistant, True, {})
    status, _ = await stage.call("DELETE", f"/assistants/{assistant}")
    assert status == 404


async def test_a_vector_store_of_others_is_never_touched(stage: Stage) -> None:
    """It may serve assistants of v2 callers. What needs it is refused, what does not goes on."""
    file, theirs = await stage.uploads(2)
    _, store, _ = await stage.gateway.call("POST", "/v1/vector_stores", {"file_ids": [theirs]})
    resources = {"file_search": {"vector_store_ids": [store["id"]]}}
    body = {"model": "m", "tools": [{"type": "file_search"}], "tool_resources": resources}
    _, assistant, _ = await stage.gateway.call("POST", "/v1/assistants", body)
    parent = f"/assistants/{assistant['id']}"
    for path, asked in ((f"{parent}/files", {"file_id": file}), (parent, {"file_ids": [file]})):
        status, answer = await stage.call("POST", path, asked)
        assert (status, answer["error"]["code"], answer["error"]["param"]) == (400, "unsupported_in_v2", "file_ids")
    await stage.ok("POST", f"/assistants/{assistant['id']}", {"tools": [RETRIEVAL, CODE]})
    await stage.ok("POST", f"/assistants/{assistant['id']}", {"tools": [CODE], "file_ids": [file]})
    assert stage.seen(assistant["id"])["tool_resources"]["file_search"]["vector_store_ids"] == [store["id"][:-TAIL]]
    await stage.ok("DELETE", f"/assistants/{assistant['id']}")
    assert stage.stores() == {store["id"][:-TAIL]: [theirs[:-TAIL]]}


async def test_a_vector_store_that_expired_is_made_anew(stage: Stage) -> None:
    first, second = await stage.uploads(2)
    assistant = await stage.assistant([first])
    [store] = stage.stores()
    stage.vendor.simulator.worlds["acme"].stores.delete(store)
    await stage.ok("POST", f"/assistants/{assistant}/files", {"file_id": second})
    stage.agrees(assistant, [first, second])


async def test_callers_at_once_lose_no_file(stage: Stage) -> None:
    """v2 has no way to change an assistant only if nobody else did; recipes wait for each other."""
    files = await stage.uploads(8)
    assistant = await stage.assistant()
    await asyncio.gather(*(stage.ok("POST", f"/assistants/{assistant}/files", {"file_id": file}) for file in files))
    assert sorted((await stage.ok("GET", f"/assistants/{assistant}"))["file_ids"]) == sorted(files)
    assert [len(held) for held in stage.stores().values()] == [8]


async def test_each_call_of_a_recipe_is_an_attempt_in_the_log(stage: Stage, events: Events) -> None:
    file = await stage.upload()
    assistant = await stage.assistant()
    await stage.ok("POST", f"/assistants/{assistant}/files", {"file_id": file})
    line = events.named("request.done")[-1]
    assert line["operation"] == "create_assistant_file"
    assert [(attempt["operation"], attempt["status"]) for attempt in line["attempts"]] == [
        ("get_assistant", 200),
        ("create_vector_store", 200),
        ("modify_assistant", 200),
    ]


async def test_a_missing_file_id_is_named(stage: Stage) -> None:
    assistant = await stage.assistant()
    for body in ({}, None):
        status, answer = await stage.call("POST", f"/assistants/{assistant}/files", body)
        assert (status, answer["error"]["param"]) == (400, "file_id")


# --- what stands when a call fails ---------------------------------------------------------------------------------
BREAKS = {"refused": faults.status(400), "refused by a full disk": faults.status(500), "cut": faults.cut_before_work()}


@pytest.mark.parametrize("before", [0, 1], ids=["first file", "second file"])
@pytest.mark.parametrize("how", BREAKS)
async def test_a_change_that_fails_leaves_what_was(stage: Stage, how: str, before: int) -> None:
    """Refused, the step before is taken back; cut off without being done, the assistant is read, and the caller is
    told what stands: the same request again mends it."""
    files = await stage.uploads(2)
    assistant = await stage.assistant(files[:before])
    stage.vendor.simulator.faults.add(BREAKS[how], method="POST", path="/assistants/")
    status, answer = await stage.call("POST", f"/assistants/{assistant}/files", {"file_id": files[1]})
    assert status >= 400
    assert (await stage.ok("GET", f"/assistants/{assistant}"))["file_ids"] == files[:before]
    if how == "cut":
        assert answer["error"]["code"] == "outcome_unknown"
        assert "not taken back: a " in answer["error"]["message"]
    else:
        assert "not taken back" not in answer["error"]["message"]
        if before:
            stage.agrees(assistant, files[:1])
        else:
            assert stage.stores() == {}
    stage.vendor.simulator.faults.clear()
    await stage.ok("POST", f"/assistants/{assistant}/files", {"file_id": files[1]})
    assert (await stage.ok("GET", f"/assistants/{assistant}"))["file_ids"] == [*files[:before], files[1]]


async def test_a_change_whose_answer_was_lost_is_a_success_if_the_assistant_says_so(stage: Stage) -> None:
    file = await stage.upload()
    assistant = await stage.assistant()
    stage.vendor.simulator.faults.add(faults.cut_before_answer(), method="POST", path="/assistants/")
    made = await stage.ok("POST", f"/assistants/{assistant}/files", {"file_id": file})
    assert made["id"] == file
    stage.agrees(assistant, [file])


async def test_what_cannot_be_taken_back_is_told(stage: Stage) -> None:
    file = await stage.upload()
    assistant = await stage.assistant()
    stage.vendor.simulator.faults.add(faults.status(400), method="POST", path="/assistants/")
    stage.vendor.simulator.faults.add(faults.status(403), method="DELETE", path="/vector_stores/")
    status, answer = await stage.call("POST", f"/assistants/{assistant}/files", {"file_id": file})
    assert status == 400
    assert answer["error"]["message"] == (
        "Simulated 400. (done before that, and not taken back: a vector store was made for the assistant's files)"
    )


async def test_a_store_that_cannot_be_deleted_is_logged(stage: Stage, events: Events) -> None:
    assistant = await stage.assistant(await stage.uploads(1))
    [store] = stage.stores()
    stage.vendor.simulator.faults.add(faults.status(500), method="DELETE", path="/vector_stores/")
    await stage.ok("DELETE", f"/assistants/{assistant}")
    [told] = events.named("recipe.left_behind")
    assert (told["provider"], told["account"], told["vector_store"]) == ("openai", "acme", store)


@pytest.mark.parametrize("what", ["assistants", "threads"])
async def test_a_parent_that_is_gone_is_unknown_in_the_callers_words(stage: Stage, what: str) -> None:
    file = await stage.upload()
    if what == "assistants":
        gone = await stage.assistant()
        await stage.ok("DELETE", f"/assistants/{gone}")
        path = f"/assistants/{gone}/files/{file}"
    else:
        thread = (await stage.ok("POST", "/threads", {}))["id"]
        gone = (await stage.ok("POST", f"/threads/{thread}/messages", {"role": "user", "content": "x"}))["id"]
        stage.vendor.simulator.worlds["acme"].threads.delete_message(thread[:-TAIL], gone[:-TAIL])
        path = f"/threads/{thread}/messages/{gone}/files/{file}"
    status, answer = await stage.call("GET", path)
    assert status == 404
    assert gone in answer["error"]["message"]


# --- files that cannot be searched ---------------------------------------------------------------------------------
def unsupported(*extensions: str) -> dict[str, Any]:
    """As reported of OpenAI."""
    message = f"Files with extensions [{', '.join(extensions)}] are not supported for retrieval."
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": "unsupported_file"}}


async def test_a_file_that_cannot_be_searched_is_still_taken(stage: Stage) -> None:
    """v1 took any file; the code interpreter reads it."""
    text, table = await stage.upload("a.txt"), await stage.upload("b.CSV")
    thread = (await stage.ok("POST", "/threads", {}))["id"]
    refuse = faults.status(400, unsupported(".csv", ".xlsx"))
    stage.vendor.simulator.faults.add(refuse, method="POST", path="/messages")
    body = {"role": "user", "content": "hello", "file_ids": [text, table]}
    message = await stage.ok("POST", f"/threads/{thread}/messages", body)
    assert message["file_ids"] == [text, table]
    sent = orjson.loads(stage.vendor.simulator.journal[-1].body)["attachments"]
    assert [[tool["type"] for tool in each["tools"]] for each in sent] == [
        ["file_search", "code_interpreter"],
        ["code_interpreter"],
    ]


async def test_an_assistants_file_that_cannot_be_searched_is_not_in_its_store(stage: Stage) -> None:
    text, table = await stage.upload("a.txt"), await stage.upload("b.CSV")
    refuse = faults.status(400, unsupported(".csv", ".xlsx"))
    stage.vendor.simulator.faults.add(refuse, method="POST", path="/vector_stores$")
    assistant = await stage.assistant()
    await stage.ok("POST", f"/assistants/{assistant}", {"file_ids": [text, table]})
    assert list(stage.stores().values()) == [[text[:-TAIL]]]
    other = await stage.upload("c.csv")
    stage.vendor.simulator.faults.add(refuse, method="POST", path="/vector_stores/.*/files")
    await stage.ok("POST", f"/assistants/{assistant}/files", {"file_id": other})
    assert (await stage.ok("GET", f"/assistants/{assistant}"))["file_ids"] == [text, table, other]
    assert list(stage.stores().values()) == [[text[:-TAIL]]]


@pytest.mark.parametrize(
    "told",
    [unsupported(".pdf"), {"error": {"message": "No [.csv] today.", "code": "unsupported"}}, b"unsupported_file"],
)
async def test_a_refusal_about_something_else_is_the_answer(stage: Stage, told: Any) -> None:
    table = await stage.upload("b.csv")
    thread = (await stage.ok("POST", "/threads", {}))["id"]
    stage.vendor.simulator.faults.add(faults.status(400, told), method="POST", path="/messages")
    body = {"role": "user", "content": "hello", "file_ids": [table]}
    status, _ = await stage.call("POST", f"/threads/{thread}/messages", body)
    assert status == 400


async def test_a_stream_begins_after_the_second_try(stage: Stage) -> None:
    table = await stage.upload("b.csv")
    assistant = await stage.assistant(tools=[CODE])
    stage.vendor.simulator.faults.add(faults.status(400, unsupported(".csv")), method="POST", path="/threads/runs")
    messages = [{"role": "user", "content": "hello", "file_ids": [table]}]
    body = {"assistant_id": assistant, "thread": {"messages": messages}, "stream": True}
    status, answer = await stage.call("POST", "/threads/runs", body)
    assert status == 200
    assert answer.endswith("event: done\ndata: [DONE]\n\n")


# --- the header ----------------------------------------------------------------------------------------------------
async def test_a_tenant_may_need_the_beta_header_as_at_openai(
    start_vendor: StartVendor, start_gateway: StartGateway
) -> None:
    """For assistants and threads; files never needed it."""
    vendor = await start_vendor("openai")
    gateway = await start_gateway(vendor, change=edit(tenants__alice__beta_header="required"))
    status, answer, _ = await gateway.call("POST", "/v1/threads", {})
    assert (status, answer["error"]["code"], answer["error"]["type"]) == (400, "invalid_beta", "invalid_request_error")
    assert answer["error"]["message"].startswith("You must provide the 'OpenAI-Beta' header to access")
    for tenant, path, headers in (
        ("alice", "/v1/assistants", {"OpenAI-Beta": "assistants=v2"}),
        ("alice", "/v1/assistants", V1),
        ("alice", "/v1/files", {}),
        ("bob", "/v1/assistants", {}),
    ):
        assert (await gateway.call("GET", path, tenant=tenant, headers=headers))[0] == 200
