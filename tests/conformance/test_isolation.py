"""Tenants who share an account do not see each other, whatever ids they try and wherever they try them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from gateway.errors import KIND_WORDS
from gateway.ids import TAIL_LENGTH
from gateway.operations import BY_NAME
from tests.conformance.conftest import (
    EXAMPLES,
    UNCACHED,
    Call,
    compose,
    examples_of,
    having,
    hear,
    id_places,
    make,
    names_params,
    ok,
    retrieved,
    stage,
    upstream_of,
)
from tests.conftest import Running, StartGateway, StartVendor, Vendor, edit
from tests.simulators import faults

LISTED = {"assistants": "assistant", "files": "file", "vector_stores": "vector_store"}
EVERY_LIST = [(name, what) for what in LISTED for name in having(f"list_{what}")]
"""Of every vendor, the lists that it has."""


def foreign(own: str, alices: str, others: Mapping[str, str], kind: str) -> Iterator[tuple[str, str]]:
    """Ids that were never issued to bob for this kind: why, and the id."""
    upstream, tail = own[:-TAIL_LENGTH], own[-TAIL_LENGTH:]
    yield "another tenant's", alices
    yield "another tenant's without its tail", upstream_of(alices)
    yield "his own without its tail", upstream
    yield "his tail on another's id", upstream_of(alices) + tail
    yield "forged", own[:-1] + ("0" if own[-1] != "0" else "1")
    yield "cut", own[:-1]
    yield "of the wrong kind", next(each for other, each in others.items() if other != kind)
    yield "never was", "new"
    yield "odd", "../é%2F?x=1#\n"


@pytest.mark.long
async def test_an_id_of_another_tenant_a_forged_one_and_none_at_all_look_the_same(
    vendor: Vendor, start_gateway: StartGateway
) -> None:
    """In every place of every operation: 404, the same words, no call to the provider. `test_tenants_never_meet` proves
    more of it in front of one vendor; this is for the others."""
    gateway = await start_gateway(vendor)
    alices, bobs = await stage(gateway, vendor=vendor), await stage(gateway, "bob", vendor=vendor)
    calls = len(vendor.simulator.journal)
    for name in examples_of(vendor):
        for place, kind in id_places(name, vendor).items():
            for why, other in foreign(bobs[kind], alices[kind], bobs, kind):
                call = compose(name, bobs | {"call": "call_x"}, {place: other}, vendor=vendor)
                heard = await hear(gateway, call, tenant="bob")
                error = {"type": "invalid_request_error", "param": None, "code": None}
                words = f"No {KIND_WORDS.get(kind, kind)} found with id '{other}'."
                assert heard.status == 404, (name, place, why, heard.body)
                assert heard.json == {"error": {"message": words, **error}}, (name, place, why)
    assert len(vendor.simulator.journal) == calls


async def test_a_stream_is_refused_like_anything_else(start_vendor: StartVendor, start_gateway: StartGateway) -> None:
    vendor = await start_vendor("openai")
    gateway = await start_gateway(vendor)
    alices = await stage(gateway)
    calls = len(vendor.simulator.journal)
    heard = await hear(gateway, compose("create_run", alices, stream=True), tenant="bob")
    assert (heard.status, heard.json["error"]["message"]) == (404, f"No thread found with id '{alices['thread']}'.")
    assert len(vendor.simulator.journal) == calls


async def test_every_id_of_a_request_is_looked_at_not_only_the_first(
    start_vendor: StartVendor, start_gateway: StartGateway
) -> None:
    """Doubled query parameters, doubled names in a body, and a second element of a list."""
    vendor = await start_vendor("openai")
    gateway = await start_gateway(vendor)
    alices, bobs = await stage(gateway), await stage(gateway, "bob")
    calls = len(vendor.simulator.journal)
    message, file = alices["message"], alices["file"]
    cursors = f"after={bobs['message']}&after={message}"
    twice = f'{{"file_ids": ["{bobs["file"]}"], "file_ids": ["{upstream_of(file)}"]}}'
    hidden = f'{{"file_i\\u0064s": ["{upstream_of(file)}"]}}'
    for call, body in (
        (Call("GET", f"/v1/threads/{bobs['thread']}/messages?{cursors}"), None),
        (Call("POST", "/v1/vector_stores", {"file_ids": [bobs["file"], file]}), None),
        (Call("POST", "/v1/vector_stores"), twice),
        (Call("POST", "/v1/vector_stores"), hidden),
    ):
        more: dict[str, Any] = {} if body is None else {"data": body, "headers": bobs_json()}
        assert (await hear(gateway, call, tenant="bob", **more)).status == 404
    # Parsers differ on which of two equal names counts: where none has an id for us, the request is refused.
    empty = f'{{"file_ids": ["{upstream_of(file)}"], "file_ids": []}}'
    heard = await hear(gateway, Call("POST", "/v1/vector_stores"), tenant="bob", data=empty, headers=bobs_json())
    assert (heard.status, heard.json["error"]["code"]) == (400, "duplicate_name")
    assert len(vendor.simulator.journal) == calls


def bobs_json() -> dict[str, str]:
    return {"Authorization": "Bearer bob-key", "Content-Type": "application/json"}


@pytest.mark.parametrize(
    "body",
    [
        {"file_ids": "{file}"},
        {"file_ids": {"0": "{file}"}},
        {"file_ids": [["{file}"]]},
        {"file_ids": [{"id": "{file}"}]},
        {"file_ids": [7]},
    ],
)
async def test_an_id_cannot_slip_by_in_another_type(
    start_vendor: StartVendor, start_gateway: StartGateway, body: dict[str, Any]
) -> None:
    """Vendors coerce what they get; what does not fit is refused before they see it."""
    vendor = await start_vendor("openai")
    gateway = await start_gateway(vendor)
    status, answer, _ = await gateway.call("POST", "/v1/vector_stores", body, tenant="bob")
    assert (status, answer["error"]["code"]) == (400, "invalid_type")
    assert vendor.simulator.journal == []


# --- several accounts -----------------------------------------------------------------------------------------------


async def test_ids_of_two_accounts_cannot_meet(start_vendor: StartVendor, start_gateway: StartGateway) -> None:
    """In every pair of places of every operation, across providers: 400 that says which, and no call."""
    vendors = [await start_vendor("openai"), await start_vendor("aimlapi")]
    gateway = await start_gateway(*vendors)
    here, there = await stage(gateway), await stage(gateway, base="/providers/aimlapi/v1")
    calls = [len(each.simulator.journal) for each in vendors]
    for name in EXAMPLES:
        places = id_places(name)
        for place, kind in places.items() if len(places) > 1 else ():
            heard = await hear(gateway, compose(name, here | {"call": "call_x"}, {place: there[kind]}))
            assert heard.status == 400, (name, place, heard.body)
            error = heard.json["error"]
            assert error["code"] == "account_mismatch", (name, place)
            assert "account 'acme' of provider 'openai'" in error["message"]
            assert "account 'acme' of provider 'aimlapi'" in error["message"]
    assert [len(each.simulator.journal) for each in vendors] == calls


async def test_ids_of_two_accounts_of_one_provider_cannot_meet(
    start_vendor: StartVendor, start_gateway: StartGateway
) -> None:
    """Carol, who moved from the shared account to one of her own, hears it too."""
    vendor = await start_vendor("openai")

    def share(settings: dict[str, Any]) -> None:
        del settings["providers"]["openai"]["accounts"]["bolt"]["owned_by"]
        settings["tenants"]["carol"]["home_accounts"] = {"openai": "acme"}

    def move(settings: dict[str, Any]) -> None:
        settings["tenants"]["carol"]["home_accounts"] = {"openai": "bolt"}

    before = await stage(await start_gateway(vendor, change=share), "carol")
    gateway = await start_gateway(vendor, change=move)
    assistant = (await ok(gateway, "POST", "/v1/assistants", {"model": "m"}, tenant="carol"))["id"]
    body = {"assistant_id": assistant}
    status, answer, _ = await gateway.call("POST", f"/v1/threads/{before['thread']}/runs", body, tenant="carol")
    assert (status, answer["error"]["code"], answer["error"]["param"]) == (400, "account_mismatch", "assistant_id")
    assert vendor.simulator.journal[-1].path == "/v1/assistants"
    assert (await ok(gateway, "GET", f"/v1/threads/{before['thread']}", tenant="carol"))["id"] == before["thread"]


# --- lists on a shared account --------------------------------------------------------------------------------------


async def create(gateway: Running, what: str, tenant: str, *, purpose: str = "assistants") -> str:
    body = {"model": "m"} if what == "assistants" else {}
    payload = Call("POST", "", body if what != "files" else None, purpose if what == "files" else None).payload
    return str((await ok(gateway, "POST", f"/v1/{what}", tenant=tenant, **payload))["id"])


async def listed(gateway: Running, what: str, tenant: str = "alice", **query: Any) -> tuple[list[str], bool]:
    page = await ok(gateway, "GET", f"/v1/{what}", tenant=tenant, params=query)
    ids = [item["id"] for item in page["data"]]
    assert page["object"] == "list"
    assert (page["first_id"], page["last_id"]) == ((ids[0], ids[-1]) if ids else (None, None))
    return ids, page["has_more"]


@pytest.mark.parametrize(("vendor", "what"), EVERY_LIST, indirect=["vendor"])
async def test_each_tenant_lists_its_own_objects_page_by_page(
    vendor: Vendor, start_gateway: StartGateway, what: str
) -> None:
    """With every parameter of a list, in the order of creation, and nothing of anybody else, the vendor's own
    objects included."""
    gateway = await start_gateway(vendor)
    assert await listed(gateway, what) == ([], False)
    made: dict[str, list[str]] = {"alice": [], "bob": []}
    for number in range(10):
        tenant = ("alice", "bob")[number % 2]
        made[tenant].append(await create(gateway, what, tenant))
    for tenant, ids in made.items():
        a, b, c, d, e = ids
        for query, expected in (
            ({}, ([e, d, c, b, a], False)),
            ({"order": "desc"}, ([e, d, c, b, a], False)),
            ({"order": "asc"}, ([a, b, c, d, e], False)),
            ({"limit": 5}, ([e, d, c, b, a], False)),
            ({"limit": 4}, ([e, d, c, b], True)),
            ({"limit": 2, "order": "asc"}, ([a, b], True)),
            ({"limit": 2, "after": d}, ([c, b], True)),
            ({"limit": 2, "after": c}, ([b, a], False)),
            ({"after": a}, ([], False)),
            ({"limit": 2, "order": "asc", "after": b}, ([c, d], True)),
            ({"limit": 3, "order": "asc", "after": b}, ([c, d, e], False)),
            ({"limit": 2, "before": a}, ([c, b], True)),
            ({"limit": 2, "order": "asc", "before": e}, ([c, d], True)),
            ({"limit": 4, "order": "asc", "before": e}, ([a, b, c, d], False)),
            ({"order": "asc", "before": a}, ([], False)),
            ({"order": "asc", "after": a, "before": d}, ([b, c], False)),
            ({"order": "asc", "after": a, "before": d, "limit": 1}, ([b], True)),
            ({"after": d, "before": a}, ([c, b], False)),
        ):
            assert await listed(gateway, what, tenant, **query) == expected, query
    status, answer, _ = await gateway.call("GET", f"/v1/{what}?after={made['bob'][0]}")
    text = f"No {KIND_WORDS.get(LISTED[what], LISTED[what])} found with id '{made['bob'][0]}'."
    assert (status, answer["error"]["message"]) == (404, text)


@pytest.mark.parametrize(("vendor", "what"), EVERY_LIST, indirect=["vendor"])
async def test_bad_parameters_of_a_list_are_refused_by_name(
    vendor: Vendor, start_gateway: StartGateway, what: str
) -> None:
    """As the vendor does it on an account of one's own."""
    gateway = await start_gateway(vendor)
    too_many = BY_NAME[f"list_{what}"].max_limit + 1
    for param, value in (("limit", "0"), ("limit", str(too_many)), ("limit", "x"), ("limit", "-1"), ("order", "up")):
        for tenant in ("alice", "carol"):
            path = f"/v1/{what}?{param}={value}"
            status, answer, _ = await gateway.call("GET", path, tenant=tenant)
            told = param if tenant == "alice" or names_params(vendor) else None
            assert (status, answer["error"]["param"]) == (400, told), (path, tenant, answer)


async def test_files_are_filtered_by_purpose_before_they_are_paged(vendor: Vendor, start_gateway: StartGateway) -> None:
    gateway = await start_gateway(vendor)
    made = [
        await create(gateway, "files", "alice", purpose=purpose)
        for purpose in ("vision", "assistants", "vision", "assistants", "vision", "vision")
    ]
    a, b = made[1], made[3]
    assert await listed(gateway, "files", purpose="assistants") == ([b, a], False)
    assert await listed(gateway, "files", purpose="assistants", limit=1) == ([b], True)
    assert await listed(gateway, "files", purpose="assistants", limit=1, order="asc") == ([a], True)
    assert await listed(gateway, "files", purpose="assistants", limit=1, after=b) == ([a], False)
    assert await listed(gateway, "files", purpose="assistants", after=made[4], limit=2) == ([b, a], False)
    assert await listed(gateway, "files", purpose="evals") == ([], False)
    assert (await listed(gateway, "files"))[0] == made[::-1]


@pytest.mark.parametrize(
    ("status", "code", "expected", "told"),
    [(429, None, 429, None), (500, None, 500, None), (401, None, 502, "upstream_credentials_exhausted")],
)
@pytest.mark.parametrize("what", ["list", "one"])
async def test_a_list_says_what_the_provider_says_of_an_object(
    start_vendor: StartVendor,
    start_gateway: StartGateway,
    status: int,
    code: str,
    expected: int,
    told: str | None,
    what: str,
) -> None:
    """As any other read would: when to come back, and nothing about our keys."""
    vendor = await start_vendor("openai")

    def change(settings: dict[str, Any]) -> None:
        UNCACHED(settings)
        edit(providers__openai__rotation={"breaker_failures": 100})(settings)

    gateway = await start_gateway(vendor, change=change)
    for _ in range(3):
        await create(gateway, "assistants", "alice")
    vendor.simulator.faults.add(faults.status(status, headers={"retry-after": "1"}), path="/asst_", times=None)
    one = await create(gateway, "assistants", "alice")
    got, answer, headers = await gateway.call("GET", "/v1/assistants" if what == "list" else f"/v1/assistants/{one}")
    assert (got, answer["error"]["code"], headers.get("retry-after")) == (expected, told, None if told else "1")


async def test_a_provider_that_lost_its_head_for_a_moment_does_not_empty_lists(
    start_vendor: StartVendor, start_gateway: StartGateway
) -> None:
    """A proxy before the vendor, a wrong key, a base URL with a slip: 404 for everything proves no deletion."""
    vendor = await start_vendor("openai")
    gateway = await start_gateway(vendor)
    made = [await create(gateway, "assistants", "alice") for _ in range(3)]
    vendor.simulator.faults.add(faults.status(404, b"<html>404</html>", content_type="text/html"), times=None)
    await gateway.call("GET", "/v1/assistants")
    vendor.simulator.faults.clear()
    assert await listed(gateway, "assistants", order="asc") == (made, False)


@pytest.mark.parametrize(("vendor", "what"), EVERY_LIST, indirect=["vendor"])
async def test_what_was_deleted_behind_the_gateway_vanishes_from_lists(
    vendor: Vendor, start_gateway: StartGateway, what: str
) -> None:
    """Pages stay full and `has_more` stays right."""
    gateway = await start_gateway(vendor)
    a, b, c, d, e = [await create(gateway, what, "alice") for _ in range(5)]
    world = vendor.simulator.worlds["acme"]
    shelves: dict[str, Any] = {"assistants": world.assistants, "files": world.files, "vector_stores": world.stores}
    for gone in (b, d):
        shelves[what].delete(upstream_of(gone))
    assert await listed(gateway, what, limit=2) == ([e, c], True)
    assert await listed(gateway, what, limit=3) == ([e, c, a], False)
    await ok(gateway, "DELETE", f"/v1/{what}/{c}")
    assert await listed(gateway, what) == ([e, a], False)


async def test_the_owner_of_an_account_lists_what_the_provider_lists(
    vendor: Vendor, start_gateway: StartGateway
) -> None:
    """Carol sees what she made outside the gateway as well, and can use it under its public id."""
    gateway = await start_gateway(vendor)
    world = vendor.simulator.worlds["bolt"]
    outside = [world.assistants.create({"model": f"m{number}"})["id"] for number in range(4)]
    inside = await create(gateway, "assistants", "carol")
    ids, more = await listed(gateway, "assistants", "carol", order="asc")
    assert ([upstream_of(each) for each in ids], more) == ([*outside, upstream_of(inside)], False)
    assert await listed(gateway, "assistants", "carol", order="asc", limit=2) == (ids[:2], True)
    assert await listed(gateway, "assistants", "carol", order="asc", limit=3, after=ids[1]) == (ids[2:], False)
    assert await listed(gateway, "assistants", "carol", order="asc", limit=2, before=ids[4]) == (ids[2:4], True)
    found = await ok(gateway, "GET", f"/v1/assistants/{ids[0]}", tenant="carol")
    assert (found["id"], found["model"]) == (ids[0], "m0")
    assert await listed(gateway, "assistants", "alice") == ([], False)


async def test_rate_limit_headers_cross_only_to_the_owner_of_an_account(
    start_vendor: StartVendor, start_gateway: StartGateway
) -> None:
    """On a shared account they would tell what the others do."""
    gateway = await start_gateway(await start_vendor("openai"))
    for tenant, crosses in (("alice", False), ("bob", False), ("carol", True)):
        for path, body in (("/v1/threads", {}), ("/v1/assistants", {"model": "m"}), ("/v1/threads/new", {})):
            _, _, headers = await gateway.call("POST", path, body, tenant=tenant)
            limits = {name for name in headers if name.lower().startswith("x-ratelimit-")}
            assert bool(limits) == (crosses and path != "/v1/threads/new"), (tenant, path)


RESOURCES = {"file_search": {"vector_stores": [{"metadata": {"a": "b"}}]}}


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("create_assistant", {"model": "m", "tool_resources": RESOURCES}),
        ("modify_assistant", {"tool_resources": RESOURCES}),
        ("create_thread", {"tool_resources": RESOURCES}),
        ("modify_thread", {"tool_resources": RESOURCES}),
        ("create_thread_and_run", {"tool_resources": RESOURCES}),
    ],
)
async def test_vector_stores_made_in_passing_are_in_their_owners_list(
    start_vendor: StartVendor, start_gateway: StartGateway, name: str, body: dict[str, Any]
) -> None:
    """Described in `tool_resources`, they are made by the vendor; only its answer tells their ids."""
    vendor = await start_vendor("openai")
    gateway = await start_gateway(vendor)
    ids = await stage(gateway)
    await ok(gateway, "DELETE", f"/v1/vector_stores/{ids['vector_store']}")
    if name == "create_thread_and_run":
        said = {"messages": [{"role": "user", "content": "hi"}]}
        body = {**body, "assistant_id": ids["assistant"], "thread": said | body.get("thread", {})}
    await ok(gateway, "POST", compose(name, ids).path, body)
    [store] = (each for each in vendor.simulator.worlds["acme"].stores.list_all({})["data"])
    found, _ = await listed(gateway, "vector_stores")
    assert [upstream_of(each) for each in found] == [store["id"]]
    assert await listed(gateway, "vector_stores", "bob") == ([], False)
    [again] = found
    assert (await ok(gateway, "GET", f"/v1/vector_stores/{again}"))["metadata"] == {"a": "b"}


async def test_one_tenant_cannot_delete_or_change_what_another_lists(
    vendor: Vendor, start_gateway: StartGateway
) -> None:
    """Nor what it lists itself by guessing ids inside the account: the world stays as it was."""
    gateway = await start_gateway(vendor)
    alices = await stage(gateway, vendor=vendor)
    before = dict(vendor.simulator.worlds["acme"].created)
    for name in examples_of(vendor):
        if id_places(name, vendor):
            call = compose(name, alices | {"call": "c"}, vendor=vendor)
            assert (await hear(gateway, call, tenant="bob")).status == 404
    assert dict(vendor.simulator.worlds["acme"].created) == before
    for kind in retrieved(alices):
        await make(gateway, f"get_{kind}", alices)
