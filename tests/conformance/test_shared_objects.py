"""Objects of the configuration's `shared`: many tenants see, read and run one object and none of them changes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gateway.errors import KIND_WORDS
from gateway.operations import OPERATIONS
from tests.conformance.conftest import Call, compose, hear, ok, stage, upstream_of
from tests.conftest import Running, StartGateway, StartVendor, Vendor, public_id
from tests.simulators.threads_server.files import Content

KINDS = {"assistants": "assistant", "files": "file", "vector_stores": "vector_store"}
CHANGES = [(each.name, each.changes) for each in OPERATIONS if each.changes is not None]
SHARED = "shared_object"


def share(
    kind: str, *upstream: str, tenants: tuple[str, ...] = ("alice", "bob"), withdrawn_from: tuple[str, ...] = ()
) -> Callable[[dict[str, Any]], None]:
    """A change of settings: these objects of account acme are shared with these tenants."""

    def change(settings: dict[str, Any]) -> None:
        provider = next(iter(settings["providers"]))
        told = {"kind": kind, "provider": provider, "account": "acme"}
        lists = {"tenants": list(tenants), "withdrawn_from": list(withdrawn_from)}
        settings.setdefault("shared", []).extend({**told, "id": each, **lists} for each in upstream)

    return change


def all_of(*changes: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    def change(settings: dict[str, Any]) -> None:
        for each in changes:
            each(settings)

    return change


def keep_store() -> Callable[[dict[str, Any]], None]:
    """The store of the first gateway that is started with this is that of the others too: as if it started anew."""
    kept: dict[str, Any] = {}

    def change(settings: dict[str, Any]) -> None:
        kept.update(kept or settings["store"])
        settings["store"] = dict(kept)

    return change


def made_outside(vendor: Vendor, what: str) -> str:
    """The upstream id of an object that somebody made with the vendor's own key."""
    world = vendor.simulator.worlds["acme"]
    if what == "assistants":
        return str(world.assistants.create({"model": "shared"})["id"])
    if what == "vector_stores":
        return str(world.stores.create({"name": "shared"})["id"])
    return str(world.files.keep(Content(b"words", "text/plain", "a.txt"), "assistants").json["id"])


async def create(gateway: Running, what: str, tenant: str) -> str:
    body = {"model": "m"} if what == "assistants" else {} if what == "vector_stores" else None
    payload = Call("POST", "", body, "assistants" if what == "files" else None).payload
    return str((await ok(gateway, "POST", f"/v1/{what}", tenant=tenant, **payload))["id"])


async def listed(gateway: Running, what: str, tenant: str = "bob", **query: Any) -> tuple[list[str], bool]:
    page = await ok(gateway, "GET", f"/v1/{what}", tenant=tenant, params=query)
    return [item["id"] for item in page["data"]], page["has_more"]


async def refusal(gateway: Running, method: str, path: str, body: Any = None, tenant: str = "bob") -> tuple[int, str]:
    status, answer, _ = await gateway.call(method, path, body, tenant=tenant)
    return status, answer["error"]["code"]


@pytest.mark.parametrize("what", KINDS)
async def test_tenants_list_what_they_share_after_all_that_they_made(
    start_vendor: StartVendor, start_gateway: StartGateway, what: str
) -> None:
    """At a place that stays, and with every cursor from either side; once, although one of them made one of the
    objects itself. Others do not see it."""
    vendor = await start_vendor("openai")
    first, second = made_outside(vendor, what), made_outside(vendor, what)
    one_store = keep_store()
    before = await start_gateway(vendor, change=all_of(share(KINDS[what], first, second, tenants=("bob",)), one_store))
    a = await create(before, what, "bob")
    both = await create(before, what, "bob")
    b = await create(before, what, "bob")
    others = await create(before, what, "alice")
    shared = share(KINDS[what], first, upstream_of(both), second, tenants=("bob",))
    gateway = await start_gateway(vendor, change=all_of(shared, one_store))
    x, y, z = (public_id(KINDS[what], each, tenant="bob") for each in (first, upstream_of(both), second))
    assert y == both
    newest = [b, a, x, y, z]
    for query, expected in (
        ({}, (newest, False)),
        ({"order": "asc"}, (newest[::-1], False)),
        *(({"limit": 1, "after": each}, ([newest[n + 1]], n < 3)) for n, each in enumerate(newest[:-1])),
        *(({"limit": 1, "before": each}, ([newest[n]], n > 0)) for n, each in enumerate(newest[1:])),
        *(
            ({"limit": 2, "order": "asc", "after": each}, (newest[:n][::-1][:2], n > 2))
            for n, each in enumerate(newest)
        ),
        ({"limit": 3, "order": "asc", "before": b}, ([y, x, a], True)),
        ({"limit": 5}, (newest, False)),
        ({"limit": 4}, (newest[:4], True)),
        ({"after": a, "before": z}, ([x, y], False)),
        ({"after": b, "before": y, "order": "desc"}, ([a, x], False)),
        ({"after": z}, ([], False)),
    ):
        assert await listed(gateway, what, **query) == expected, query
    assert await listed(gateway, what, "alice") == ([others], False)
    status, _ = await refusal(gateway, "GET", f"/v1/{what}?after={x}", tenant="alice")
    assert status == 404


async def test_an_object_that_the_provider_lost_is_passed_over(
    start_vendor: StartVendor, start_gateway: StartGateway
) -> None:
    """It is listed as long as the configuration has it."""
    vendor = await start_vendor("openai")
    world = vendor.simulator.worlds["acme"]
    upstream = made_outside(vendor, "assistants")
    gateway = await start_gateway(vendor, change=share("assistant", upstream, "asst_gone"))
    assert await listed(gateway, "assistants") == ([public_id("assistant", upstream, tenant="bob")], False)
    world.assistants.delete(upstream)
    assert await listed(gateway, "assistants") == ([], False)


async def test_a_shared_assistant_is_read_and_run_by_everybody_and_seen_under_ones_own_id(
    vendor: Vendor, start_gateway: StartGateway
) -> None:
    upstream = made_outside(vendor, "assistants")
    gateway = await start_gateway(vendor, change=share("assistant", upstream))
    seen = set()
    for tenant in ("alice", "bob"):
        [[assistant], _] = await listed(gateway, "assistants", tenant)
        seen.add(assistant)
        assert (await ok(gateway, "GET", f"/v1/assistants/{assistant}", tenant=tenant))["id"] == assistant
        body = {"assistant_id": assistant, "thread": {"messages": [{"role": "user", "content": "hi"}]}}
        run = await ok(gateway, "POST", "/v1/threads/runs", body, tenant=tenant)
        assert run["assistant_id"] == assistant
    assert len(seen) == 2


@pytest.mark.parametrize(("name", "kind"), CHANGES)
async def test_a_shared_object_is_not_changed_by_those_who_share_it(
    start_vendor: StartVendor, start_gateway: StartGateway, name: str, kind: str
) -> None:
    """Refused in memory, whoever made it: here bob, who is listed. Once he is not, he changes what he made."""
    vendor = await start_vendor("openai")
    one_store = keep_store()
    before = await start_gateway(vendor, change=one_store)
    ids = await stage(before, "bob", vendor=vendor)
    if name.endswith("assistant_file"):
        ids["assistant"] = (await ok(before, "POST", "/v1/assistants", {"model": "m"}, tenant="bob"))["id"]
    if name == "delete_assistant_file":
        call = compose("create_assistant_file", ids, vendor=vendor)
        assert (await hear(before, call, tenant="bob")).status == 200
    call, upstream = compose(name, ids, vendor=vendor), upstream_of(ids[kind])
    listed_too = all_of(share(kind, upstream), one_store)
    gateway = await start_gateway(vendor, change=listed_too)
    calls = len(vendor.simulator.journal)
    heard = await hear(gateway, call, tenant="bob")
    error = heard.json["error"]
    assert (heard.status, error["code"], error["type"], error["param"]) == (403, SHARED, "permission_error", kind)
    assert ids[kind] in error["message"]
    assert len(vendor.simulator.journal) == calls
    only_alice = all_of(share(kind, upstream, tenants=("alice",)), one_store)
    gateway = await start_gateway(vendor, change=only_alice)
    assert (await hear(gateway, call, tenant="bob")).status == 200


async def test_searching_and_attaching_what_is_shared_is_use(
    start_vendor: StartVendor, start_gateway: StartGateway
) -> None:
    vendor = await start_vendor("openai")
    store, file = made_outside(vendor, "vector_stores"), made_outside(vendor, "files")
    gateway = await start_gateway(vendor, change=all_of(share("vector_store", store), share("file", file)))
    [[shared], _], [[attached], _] = await listed(gateway, "vector_stores"), await listed(gateway, "files")
    await ok(gateway, "POST", f"/v1/vector_stores/{shared}/search", {"query": "words"}, tenant="bob")
    resources = {
        "file_search": {"vector_store_ids": [shared]},
        "code_interpreter": {"file_ids": [attached]},
    }
    body = {"model": "m", "tool_resources": resources}
    assistant = await ok(gateway, "POST", "/v1/assistants", body, tenant="bob")
    assert assistant["tool_resources"] == resources
    own = await ok(gateway, "POST", "/v1/vector_stores", {"file_ids": [attached]}, tenant="bob")
    await ok(gateway, "DELETE", f"/v1/vector_stores/{own['id']}/files/{attached}", tenant="bob")
    assert await listed(gateway, "vector_stores") == ([own["id"], shared], False)


async def test_files_of_messages_do_not_get_into_what_others_search(
    start_vendor: StartVendor, start_gateway: StartGateway
) -> None:
    """The provider adds them to the thread's vector store, so a thread gets none that is not its tenant's."""
    vendor = await start_vendor("openai")
    one_store = keep_store()
    before = await start_gateway(vendor, change=one_store)
    alices = await stage(before, "alice", vendor=vendor)
    shared = share("assistant", upstream_of(alices["assistant"]), tenants=("bob",))
    store = made_outside(vendor, "vector_stores")
    gateway = await start_gateway(vendor, change=all_of(shared, share("vector_store", store), one_store))
    [[assistant], _], [[listed_store], _] = await listed(gateway, "assistants"), await listed(gateway, "vector_stores")
    resources = (await ok(gateway, "GET", f"/v1/assistants/{assistant}", tenant="bob"))["tool_resources"]
    own = await create(gateway, "vector_stores", "bob")
    for ids, expected in (
        ([listed_store], (403, SHARED)),
        (resources["file_search"]["vector_store_ids"], (404, None)),
        ([own], (200, None)),
    ):
        body = {"tool_resources": {"file_search": {"vector_store_ids": ids}}}
        status, answer, _ = await gateway.call("POST", "/v1/threads", body, tenant="bob")
        assert (status, answer.get("error", {}).get("code")) == expected
    file = await create(gateway, "files", "bob")
    attached = [{"file_id": file, "tools": [{"type": "file_search"}]}]
    said = {"role": "user", "content": "hi", "attachments": attached}
    await ok(gateway, "POST", f"/v1/threads/{answer['id']}/messages", said, tenant="bob")
    found = await ok(gateway, "GET", f"/v1/vector_stores/{own}/files", tenant="bob")
    assert [each["id"] for each in found["data"]] == [file]


async def test_what_hangs_on_a_shared_assistant_is_not_changed_either(
    start_vendor: StartVendor, start_gateway: StartGateway
) -> None:
    """Reading it tells bob the ids of alice's files and vector stores. To change them is as if they did not exist,
    whatever he attaches them to; his own he changes as ever."""
    vendor = await start_vendor("openai")
    one_store = keep_store()
    before = await start_gateway(vendor, change=one_store)
    alices = await stage(before, "alice", vendor=vendor)
    shared = all_of(share("assistant", upstream_of(alices["assistant"]), tenants=("bob",)), one_store)
    gateway = await start_gateway(vendor, change=shared)
    [[assistant], _] = await listed(gateway, "assistants")
    resources = (await ok(gateway, "GET", f"/v1/assistants/{assistant}", tenant="bob"))["tool_resources"]
    [store] = resources["file_search"]["vector_store_ids"]
    [file] = resources["code_interpreter"]["file_ids"]
    assert (upstream_of(store), upstream_of(file)) == (upstream_of(alices["vector_store"]), upstream_of(alices["file"]))
    new = {"tool_resources": {"file_search": {"vector_store_ids": [store], "vector_stores": [{}]}}}
    await gateway.call("POST", "/v1/assistants", {"model": "m", **new}, tenant="bob")
    await ok(gateway, "POST", "/v1/assistants", {"model": "m", "tool_resources": resources}, tenant="bob")
    for method, path, body in (
        ("DELETE", f"/v1/vector_stores/{store}", None),
        ("POST", f"/v1/vector_stores/{store}", {"name": "bob's"}),
        ("DELETE", f"/v1/vector_stores/{store}/files/{file}", None),
        ("POST", f"/v1/vector_stores/{store}/files", {"file_id": file}),
        ("DELETE", f"/v1/files/{file}", None),
    ):
        status, answer, _ = await gateway.call(method, path, body, tenant="bob")
        kind, shown = ("file", file) if "/files/" in path[:10] else ("vector_store", store)
        words = f"No {KIND_WORDS.get(kind, kind)} found with id '{shown}'."
        assert (status, answer["error"]["message"]) == (404, words), path
    for what in KINDS:
        own = await create(gateway, what, "bob")
        await ok(gateway, "DELETE", f"/v1/{what}/{own}", tenant="bob")
    for kind in ("vector_store", "file"):
        await ok(gateway, "GET", f"/v1/{kind}s/{alices[kind]}")
        await ok(gateway, "DELETE", f"/v1/{kind}s/{alices[kind]}")


async def test_a_v1_assistant_with_a_store_that_is_another_tenants_does_not_take_it_along(
    start_vendor: StartVendor, start_gateway: StartGateway
) -> None:
    """Deleting a v1 assistant deletes the vector store that was made for its files; that mark alone makes no owner."""
    v1 = {"OpenAI-Beta": "assistants=v1"}
    vendor = await start_vendor("openai")
    one_store = keep_store()
    before = await start_gateway(vendor, change=one_store)
    file = await create(before, "files", "alice")
    body = {"model": "m", "tools": [{"type": "retrieval"}], "file_ids": [file]}
    alices = (await ok(before, "POST", "/v1/assistants", body, headers=auth("alice") | v1))["id"]
    shared = all_of(share("assistant", upstream_of(alices), tenants=("bob",)), one_store)
    gateway = await start_gateway(vendor, change=shared)
    [[assistant], _] = await listed(gateway, "assistants")
    resources = (await ok(gateway, "GET", f"/v1/assistants/{assistant}", tenant="bob"))["tool_resources"]
    assert resources["file_search"]["vector_store_ids"]
    body = {"model": "m", "tools": [{"type": "file_search"}], "tool_resources": resources}
    bobs = (await ok(gateway, "POST", "/v1/assistants", body, tenant="bob"))["id"]
    other = {"file_id": await create(gateway, "files", "bob")}
    status, answer, _ = await gateway.call(
        "POST", f"/v1/assistants/{bobs}/files", other, tenant="bob", headers=auth("bob") | v1
    )
    assert (status, answer["error"]["code"]) == (400, "unsupported_in_v2")
    await ok(gateway, "DELETE", f"/v1/assistants/{bobs}", headers=auth("bob") | v1, tenant="bob")
    stores = vendor.simulator.worlds["acme"].stores.list_all({})["data"]
    assert [each["file_counts"]["total"] for each in stores] == [1]


def auth(tenant: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {tenant}-key"}


async def test_what_is_withdrawn_exists_no_more_whatever_id_was_kept(
    start_vendor: StartVendor, start_gateway: StartGateway
) -> None:
    """In a path and in a body, by the id that it was listed under. Left out of `tenants` alone, it is out of the list
    and can be read and run, not changed."""
    vendor = await start_vendor("openai")
    upstream = made_outside(vendor, "assistants")
    one_store = keep_store()
    before = await start_gateway(vendor, change=all_of(share("assistant", upstream), one_store))
    [[assistant], _] = await listed(before, "assistants")
    said = {"messages": [{"role": "user", "content": "hi"}]}
    thread = (await ok(before, "POST", "/v1/threads", said, tenant="bob"))["id"]
    asks = (
        ("GET", f"/v1/assistants/{assistant}", None),
        ("POST", f"/v1/threads/{thread}/runs", {"assistant_id": assistant}),
        ("POST", f"/v1/assistants/{assistant}", {"name": "bob's"}),
        ("DELETE", f"/v1/assistants/{assistant}", None),
    )
    words = f"No assistant found with id '{assistant}'."
    for withdrawn_from, statuses in (((), [200, 200, 404, 404]), (("bob",), [404] * 4)):
        now = share("assistant", upstream, tenants=("alice",), withdrawn_from=withdrawn_from)
        gateway = await start_gateway(vendor, change=all_of(now, one_store))
        assert await listed(gateway, "assistants") == ([], False)
        heard = [await gateway.call(method, path, body, tenant="bob") for method, path, body in asks]
        assert [status for status, _, _ in heard] == statuses
        assert {answer["error"]["message"] for status, answer, _ in heard if status == 404} == {words}


async def test_a_change_in_passing_by_another_store_call_needs_the_store(
    start_vendor: StartVendor, start_gateway: StartGateway
) -> None:
    """What only the owner index can tell is a 503 without it; what the configuration tells is not."""
    vendor = await start_vendor("openai")
    upstream = made_outside(vendor, "assistants")

    def no_store(settings: dict[str, Any]) -> None:
        settings["store"] = {"url": "redis://127.0.0.1:1"}

    gateway = await start_gateway(vendor, change=all_of(share("assistant", upstream), no_store))
    assistant = public_id("assistant", upstream, tenant="bob")
    await ok(gateway, "GET", f"/v1/assistants/{assistant}", tenant="bob")
    assert await refusal(gateway, "DELETE", f"/v1/assistants/{assistant}") == (403, SHARED)
    own = await create(gateway, "assistants", "bob")
    assert await refusal(gateway, "GET", "/v1/assistants") == (503, "store_unavailable")
    await ok(gateway, "DELETE", f"/v1/assistants/{own}", tenant="bob")  # made by this very gateway
    never = public_id("assistant", "asst_never", tenant="bob")
    assert await refusal(gateway, "DELETE", f"/v1/assistants/{never}") == (503, "store_unavailable")
