"""Where a request goes: ids decide, then the base URL, then a header, then the default. And what stays when the
configuration changes: every id that was ever issued."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.config import digest_of_key
from gateway.ids import IdSigner
from gateway.model import rendezvous
from tests.conformance.conftest import (
    EXAMPLES,
    UNCACHED,
    Call,
    compose,
    hear,
    id_places,
    make,
    ok,
    retrieved,
    stage,
    upstream_of,
)
from tests.conftest import SIGNING_KEY, Events, Running, StartGateway, StartVendor, Vendor

# The SDK marks its Assistants methods as deprecated, some of them in one word.
pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")

Settings = dict[str, Any]
Change = Callable[[Settings], None]


@pytest.fixture
def again(start_gateway: StartGateway, tmp_path: Path) -> Callable[..., Any]:
    """Start a gateway that shares the store with every other one of the test, as after a restart."""

    async def start(*vendors: Vendor, change: Change = lambda settings: None) -> Running:
        def both(settings: Settings) -> None:
            settings["store"]["prefix"] = re.sub(r"\W", "", tmp_path.name)[-40:]
            change(settings)

        return await start_gateway(*vendors, change=both)

    return start


@pytest.fixture
async def two(start_vendor: StartVendor) -> tuple[Vendor, Vendor]:
    """The default provider and another one, of different vendors."""
    return await start_vendor("openai"), await start_vendor("aimlapi")


# --- choosing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "header", "expected"),
    [
        ("/v1", None, "openai"),
        ("", None, "openai"),
        ("/providers/aimlapi/v1", None, "aimlapi"),
        ("/providers/aimlapi", None, "aimlapi"),
        ("/v1", "aimlapi", "aimlapi"),
        ("", "aimlapi", "aimlapi"),
        ("/providers/openai/v1", "aimlapi", "openai"),  # the base URL names it more clearly
    ],
)
async def test_a_base_url_or_a_header_chooses_the_provider(
    two: tuple[Vendor, Vendor],
    start_gateway: StartGateway,
    events: Events,
    base: str,
    header: str | None,
    expected: str,
) -> None:
    """For everything that creates, uploads and lists."""
    gateway = await start_gateway(*two)
    async with gateway.sdk(path=base, default_headers={"x-gateway-provider": header} if header else {}) as sdk:
        await sdk.beta.threads.create()
        await sdk.files.create(file=b"x", purpose="assistants")
        assert len((await sdk.files.list()).data) == 1
        assert (await sdk.beta.assistants.list()).data == []
    assert {line["provider"] for line in events.named("request.done")} == {expected}


@pytest.mark.parametrize("base", ["/v1", "", "/providers/openai/v1", "/providers/nowhere/v1"])
async def test_an_id_wins_over_every_choice(two: tuple[Vendor, Vendor], start_gateway: StartGateway, base: str) -> None:
    """In the path, in a query and in a body; a thread goes where it lives."""
    gateway = await start_gateway(*two)
    ids = await stage(gateway, base="/providers/aimlapi/v1")
    calls = [len(vendor.simulator.journal) for vendor in two]
    for name in filter(id_places, EXAMPLES):
        call = compose(name, ids | {"call": "call_x"}, base=base)
        heard = await hear(gateway, call, headers={"x-gateway-provider": "openai"})
        assert heard.status in (200, 400, 404), (name, heard.body)  # whatever the vendor thinks of it
        assert b"unknown_provider" not in heard.body
    openai, aimlapi = (len(vendor.simulator.journal) for vendor in two)
    assert openai == calls[0]
    assert aimlapi > calls[1]


async def test_a_provider_must_be_known_allowed_and_chosen(
    two: tuple[Vendor, Vendor], start_gateway: StartGateway
) -> None:
    def change(settings: Settings) -> None:
        settings["tenants"]["bob"] |= {"providers": ["aimlapi"], "default_provider": "aimlapi", "home_accounts": {}}
        del settings["tenants"]["carol"]["default_provider"]

    gateway = await start_gateway(*two, change=change)
    ids = await stage(gateway)
    for tenant, path, headers, status, code in (
        ("alice", "/providers/nowhere/v1/threads", {}, 404, "unknown_provider"),
        ("alice", "/v1/threads", {"x-gateway-provider": "nowhere"}, 404, "unknown_provider"),
        ("bob", "/providers/openai/v1/threads", {}, 403, "provider_not_allowed"),
        ("bob", "/v1/threads", {"x-gateway-provider": "openai"}, 403, "provider_not_allowed"),
        ("carol", "/v1/threads", {}, 400, "provider_required"),
        ("alice", "/v1/thread", {}, 404, "unknown_url"),
        ("alice", "/v2/threads", {}, 404, "unknown_url"),
        ("alice", "/v1/uploads", {}, 404, "unknown_url"),
        ("alice", f"/v1/threads/{ids['thread']}/runs/", {}, 404, "unknown_url"),
    ):
        calls = [len(vendor.simulator.journal) for vendor in two]
        code_got = (await gateway.call("POST", path, {}, tenant=tenant, headers=headers))[:2]
        assert (code_got[0], code_got[1]["error"]["code"]) == (status, code), path
        assert [len(vendor.simulator.journal) for vendor in two] == calls
    status, _, headers_out = await gateway.call("PUT", f"/v1/threads/{ids['thread']}", {})
    assert (status, headers_out["allow"]) == (405, "DELETE, GET, POST")
    assert (await ok(gateway, "POST", "/providers/openai/v1/threads", {}, tenant="carol"))["object"] == "thread"


async def test_a_run_of_a_new_thread_is_not_a_thread_called_runs(
    two: tuple[Vendor, Vendor], start_gateway: StartGateway
) -> None:
    gateway = await start_gateway(*two)
    ids = await stage(gateway)
    body = {"assistant_id": ids["assistant"], "thread": {"messages": [{"role": "user", "content": "hi"}]}}
    assert (await ok(gateway, "POST", "/v1/threads/runs", body))["object"] == "thread.run"
    status, answer, _ = await gateway.call("GET", "/v1/threads/runs")
    assert (status, answer["error"]["message"]) == (404, "No thread found with id 'runs'.")


async def test_two_providers_of_one_vendor_are_two_places(
    start_vendor: StartVendor, start_gateway: StartGateway
) -> None:
    """Even an upstream id that both know belongs to the one that its public id names."""
    vendors = [await start_vendor("openai"), await start_vendor("openai", name="openai-two")]
    gateway = await start_gateway(*vendors, change=UNCACHED)
    ids = await stage(gateway)
    theirs = vendors[0].simulator.worlds["acme"].threads
    vendors[1].simulator.worlds["acme"].threads = theirs
    other = await ok(gateway, "POST", "/providers/openai-two/v1/threads", {})
    body = {"assistant_id": ids["assistant"]}
    status, answer, _ = await gateway.call("POST", f"/v1/threads/{other['id']}/runs", body)
    assert (status, answer["error"]["code"]) == (400, "account_mismatch")
    await ok(gateway, "GET", f"/v1/threads/{other['id']}")
    assert vendors[1].simulator.journal[-1].path.endswith(upstream_of(other["id"]))


# --- restarts -------------------------------------------------------------------------------------------------------


async def test_ids_and_lists_survive_a_restart(vendor: Vendor, again: Callable[..., Any]) -> None:
    first = await again(vendor)
    ids = await stage(first, vendor=vendor)
    await first.app.stop(grace_s=0)
    gateway = await again(vendor)
    for kind in retrieved(ids):
        assert (await make(gateway, f"get_{kind}", ids))["id"] == ids[kind]
    for what in ("assistant", "file", "vector_store"):
        assert [item["id"] for item in (await ok(gateway, "GET", f"/v1/{what}s"))["data"]] == [
            public for kind, public in ids.items() if kind == what
        ]


def _attracting(*tenants: str) -> str:
    """The name of an account that hashing would prefer to acme for all of these tenants."""
    names = (f"extra{number}" for number in range(10_000))
    return next(name for name in names if all(rendezvous(tenant, ["acme", name]) == name for tenant in tenants))


async def test_an_account_that_joins_moves_nobody_but_takes_new_tenants(
    start_vendor: StartVendor, again: Callable[..., Any]
) -> None:
    """A tenant's home was remembered at first use, and is known before the first request of a new process."""
    extra = _attracting("late", *(f"tenant{number}" for number in range(3)))
    keys = {"sk-one": "acme", "sk-two": "acme", "sk-bolt": "bolt", "sk-extra": extra}
    vendor = await start_vendor("openai", keys=keys)
    many = {f"crowd{number}": f"crowd-key-{number}" for number in range(100)}
    early = many | {f"tenant{number}": f"tenant-key-{number}" for number in range(3)}

    def before(settings: Settings) -> None:
        settings["tenants"] |= {name: {"keys": [digest_of_key(key)]} for name, key in early.items()}

    def after(settings: Settings) -> None:
        before(settings)
        settings["tenants"]["late"] = {"keys": [digest_of_key("late-key")]}
        settings["providers"]["openai"]["accounts"][extra] = {"keys": {"one": "${OPENAI_3}"}}

    async def home(gateway: Running, key: str) -> str | None:
        await ok(gateway, "POST", "/v1/threads", {}, headers={"Authorization": f"Bearer {key}"})
        return vendor.simulator.journal[-1].account

    first = await again(vendor, change=before)
    assert await home(first, "tenant-key-1") == "acme"
    gateway = await again(vendor, change=after)
    assert [await home(gateway, f"tenant-key-{number}") for number in range(3)] == ["acme"] * 3
    assert await home(gateway, "late-key") == extra


async def test_a_rotated_signing_key_leaves_every_old_id_as_it_is(
    vendor: Vendor, again: Callable[..., Any], tmp_path: Path
) -> None:
    """Answers are spelled as the request was: one thread keeps one spelling. New things get the first key."""
    old = await again(vendor)
    ids = await stage(old, vendor=vendor)
    (tmp_path / "new.key").write_text("a new signing key, at least as long")

    def rotate(settings: Settings) -> None:
        settings["signing_keys"] = ["file:new.key", "${SIGNING_KEY}"]

    def forget(settings: Settings) -> None:
        settings["signing_keys"] = ["file:new.key"]

    signer = IdSigner([b"a new signing key, at least as long", SIGNING_KEY.encode()])

    def key_of(public: str, kind: str) -> int:
        signed = signer.verify(public, kind=kind, tenant="alice")
        assert signed is not None
        return signed.key

    gateway = await again(vendor, change=rotate)
    for kind in retrieved(ids):
        assert (await make(gateway, f"get_{kind}", ids))["id"] == ids[kind]
    between = compose("list_messages", ids, query_of=("after", "before"))
    assert (await ok(gateway, "GET", between.path))["data"] == []
    thread = f"/v1/threads/{ids['thread']}"
    message = await ok(gateway, "POST", f"{thread}/messages", {"role": "user", "content": "more"})
    assert (message["thread_id"], key_of(message["id"], "message")) == (ids["thread"], 1)
    stored = (await ok(gateway, "GET", f"{thread}/messages?order=asc"))["data"]
    assert stored[0]["id"] == ids["message"]
    assert {key_of(item["id"], "message") for item in stored} == {1}
    heard = await hear(gateway, compose("create_run", ids, vendor=vendor, stream=True))
    named = re.findall(rb'"(?:id|run_id)":"(run_\w+)"', heard.body)
    assert {key_of(each.decode(), "run") for each in named} == {1}

    new = await ok(gateway, "POST", "/v1/threads", {})
    assert key_of(new["id"], "thread") == 0
    run = await ok(
        gateway, "POST", f"/v1/threads/{new['id']}/runs", {"assistant_id": ids["assistant"], "instructions": "x"}
    )
    assert (run["thread_id"], key_of(run["id"], "run")) == (new["id"], 0)
    assert upstream_of(run["assistant_id"]) == upstream_of(ids["assistant"])
    assert (await ok(gateway, "GET", f"/v1/assistants/{run['assistant_id']}"))["id"] == run["assistant_id"]

    alone = await again(vendor, change=forget)
    assert (await hear(alone, compose("get_thread", ids))).status == 404
    await ok(alone, "GET", f"/v1/threads/{new['id']}")


async def test_a_rename_with_the_old_id_breaks_nothing(vendor: Vendor, again: Callable[..., Any]) -> None:
    """Of a provider, an account and a tenant at once: old ids, their spelling, lists and homes stay."""
    first = await again(vendor)
    ids = await stage(first, vendor=vendor)
    carols = await stage(first, "carol", vendor=vendor)

    def rename(settings: Settings) -> None:
        provider = settings["providers"].pop(vendor.name)
        accounts = provider["accounts"]
        accounts["primary"] = accounts.pop("acme") | {"id": "acme"}
        accounts["bolt"]["owned_by"] = "caroline"
        settings["providers"]["renamed"] = provider | {"id": vendor.name}
        tenants = settings["tenants"]
        home = {"default_provider": "renamed", "home_accounts": {"renamed": "primary"}}
        tenants["anna"] = tenants.pop("alice") | {"id": "alice"} | home
        tenants["bob"] |= home
        tenants["caroline"] = tenants.pop("carol") | {"id": "carol", "default_provider": "renamed"}

    gateway = await again(vendor, change=rename)
    for tenant, theirs in (("alice", ids), ("carol", carols)):
        for kind in retrieved(theirs):
            assert (await make(gateway, f"get_{kind}", theirs, tenant=tenant))["id"] == theirs[kind]
        listed = await ok(gateway, "GET", "/v1/assistants", tenant=tenant)
        assert [item["id"] for item in listed["data"]] == [theirs["assistant"]]
    await ok(gateway, "POST", "/providers/renamed/v1/threads", {})
    assert vendor.simulator.journal[-1].account == "acme"


@pytest.mark.parametrize("what", ["provider", "account"])
async def test_what_was_removed_is_gone_for_its_own_tenant_and_unknown_to_others(
    two: tuple[Vendor, Vendor], again: Callable[..., Any], what: str
) -> None:
    """410 that says so; nothing moves by itself to another place."""
    first = await again(*two)
    ids = await stage(first, base="/providers/aimlapi/v1")

    def remove(settings: Settings) -> None:
        for tenant in ("alice", "bob"):
            settings["tenants"][tenant]["home_accounts"] = {"openai": "acme"}
        if what == "provider":
            del settings["providers"]["aimlapi"]
        else:
            accounts = settings["providers"]["aimlapi"]["accounts"]
            accounts["new"] = accounts.pop("acme")

    gateway = await again(*two, change=remove)
    calls = [len(vendor.simulator.journal) for vendor in two]
    for base in ("/v1", "/providers/openai/v1"):
        heard = await hear(gateway, compose("get_thread", ids, base=base))
        assert (heard.status, heard.json["error"]["code"]) == (410, "provider_removed")
        assert ids["thread"] in heard.json["error"]["message"]
    heard = await hear(gateway, compose("get_thread", ids), tenant="bob")
    assert (heard.status, heard.json["error"]["message"]) == (404, f"No thread found with id '{ids['thread']}'.")
    assert [len(vendor.simulator.journal) for vendor in two] == calls


async def test_a_tenant_that_may_no_longer_use_a_provider_is_told(
    two: tuple[Vendor, Vendor], again: Callable[..., Any]
) -> None:
    ids = await stage(await again(*two))

    def restrict(settings: Settings) -> None:
        settings["tenants"]["alice"] |= {"providers": ["aimlapi"], "default_provider": "aimlapi", "home_accounts": {}}

    heard = await hear(await again(*two, change=restrict), compose("get_thread", ids))
    assert (heard.status, heard.json["error"]["code"]) == (403, "provider_not_allowed")


# --- ids from before the gateway ------------------------------------------------------------------------------------


def keep_raw(settings: Settings) -> None:
    for provider in settings["providers"].values():
        provider["accounts"]["bolt"]["raw_ids"] = True


async def test_raw_ids_of_before_go_on_raw_and_signed_ones_stay_signed(
    vendor: Vendor, start_gateway: StartGateway
) -> None:
    """On an account of one's own. A thread keeps its spelling in every answer, lists, streams and errors included."""
    gateway = await start_gateway(vendor, change=keep_raw)
    world = vendor.simulator.worlds["bolt"]
    assistant = world.assistants.create({"model": "m"})["id"]
    raw = world.threads.create({"messages": [{"role": "user", "content": "hi"}]})["id"]

    def spelling(document: Any) -> set[bool]:
        """Whether ids of these objects have a tail."""
        found = re.findall(r"'(?:id|\w+_id)': '(?:thread|msg|run|step|asst)_(\w+)'", repr(document))
        return {len(each) > 24 for each in found}

    hello = {"role": "user", "content": "hi"}
    signed = (await ok(gateway, "POST", "/v1/threads", {"messages": [hello]}, tenant="carol"))["id"]
    own = (await ok(gateway, "POST", "/v1/assistants", {"model": "m"}, tenant="carol"))["id"]
    for thread, is_signed in ((raw, False), (signed, True)):
        path = f"/v1/threads/{thread}"
        assert (await ok(gateway, "GET", path, tenant="carol"))["id"] == thread
        said = await ok(gateway, "POST", f"{path}/messages", hello, tenant="carol")
        assert spelling(said) == {is_signed}
        for each in (assistant, own):  # both spellings of an assistant meet both spellings of a thread
            run = await ok(gateway, "POST", f"{path}/runs", {"assistant_id": each}, tenant="carol")
            assert spelling(run) == {is_signed}
            text = f"Can't add messages to {thread} while a run {run['id']} is active."
            _, refused, _ = await gateway.call("POST", f"{path}/messages", hello, tenant="carol")
            assert refused["error"]["message"] == text
            while run["status"] in ("queued", "in_progress"):
                run = await ok(gateway, "GET", f"{path}/runs/{run['id']}", tenant="carol")
            assert spelling(run) == {is_signed}
        listed = await ok(gateway, "GET", f"{path}/messages?limit=1", tenant="carol")
        more = await ok(gateway, "GET", f"{path}/messages?limit=1&after={listed['last_id']}", tenant="carol")
        assert (spelling(listed), spelling(more)) == ({is_signed}, {is_signed})
        stream = Call("POST", f"{path}/runs", {"assistant_id": own, "stream": True})
        heard = await hear(gateway, stream, tenant="carol")
        found = re.findall(rb'"id":"(?:run|msg|step)_(\w+)"', heard.body)
        assert {len(each) > 24 for each in found} == {is_signed}
    assert spelling(await ok(gateway, "GET", "/v1/assistants", tenant="carol")) == {True}
    both = await ok(gateway, "GET", f"/v1/assistants/{assistant}", tenant="carol")
    assert both["id"] == assistant


async def test_raw_ids_help_nobody_else(vendor: Vendor, start_gateway: StartGateway) -> None:
    """Not the tenants of a shared account, nor anybody on carol's; and nothing that is no id gets through."""
    gateway = await start_gateway(vendor, change=keep_raw)
    here = vendor.simulator.worlds["acme"].threads.create({})["id"]
    hers = vendor.simulator.worlds["bolt"].threads.create({})["id"]
    for tenant, thread in (
        ("alice", here),
        ("alice", hers),
        ("bob", hers),
        ("carol", "..%2Fassistants"),
        ("carol", "a%3Fb"),
        ("carol", "a%00"),
        ("carol", "%2e%2e"),
    ):
        heard = await hear(gateway, Call("GET", f"/v1/threads/{thread}"), tenant=tenant)
        assert heard.status == 404, (tenant, thread)
    assert vendor.simulator.journal == []
    status, answer, _ = await gateway.call("GET", "/v1/threads/new", tenant="carol")
    assert (status, answer["error"]["message"]) == (
        400,
        "Invalid 'thread_id': 'new'. Expected an ID that begins with 'thread'.",
    )
    status, answer, _ = await gateway.call("GET", f"/v1/threads/{here}", tenant="carol")
    assert (status, answer["error"]["message"]) == (404, f"No thread found with id '{here}'.")


async def test_replicas_answer_alike(vendor: Vendor, again: Callable[..., Any]) -> None:
    """Any of them can be asked about anything, one after the other or at once."""
    replicas = [await again(vendor) for _ in range(3)]
    ids = await stage(replicas[0], vendor=vendor)
    for name in ("get_thread", "list_messages", "list_assistants", "get_run_step"):
        calls = (hear(replica, compose(name, ids, vendor=vendor, query_of=())) for replica in replicas)
        answers = await asyncio.gather(*calls)
        assert len({answer.body for answer in answers}) == 1
        assert answers[0].status == 200
