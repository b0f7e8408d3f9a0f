"""Tenants never meet, for every operation and every place of an id in the tables of operations and shapes.

The places are read off the tables, so that an operation that joins them is covered. Bob presents ids that are not his;
what he hears is compared with what he hears of an id that never was, and a real store and vendor are watched meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest

from gateway.errors import KIND_WORDS
from gateway.ids import ROUTE_LENGTH, TAIL_LENGTH
from gateway.operations import OPERATIONS, Operation, Version
from gateway.shapes import PREFIX_KINDS, Shape, TextOr
from tests.conformance.conftest import (
    EXAMPLES,
    WAITING,
    Call,
    Heard,
    compose,
    examples_of,
    hear,
    id_places,
    ok,
    remember,
    stage,
    upstream_of,
)
from tests.conformance.monitor import Command, Monitor
from tests.conftest import Events, Running, StartGateway, StartVendor, Vendor
from tests.simulators import faults

VERSIONS: tuple[Version, ...] = ("v1", "v2")
OF_ALL = frozenset(
    {"acts", "switches", "keys", "usage", "tenants", "tenant_keys", "tenant_keys_used", "replicas", "runs:due"}
)
"""What a gateway keeps in the store about itself and asks for in the background; nothing of a tenant's objects."""


@dataclass(frozen=True)
class Place:
    """One place of an id in one operation: `path.thread`, `query.after`, or the steps into a body."""

    operation: Operation
    where: str
    kind: str
    steps: tuple[str | int, ...] = ()

    def call(self, ids: Mapping[str, str], shown: str, version: Version) -> Call:
        """A request with this id there, and with one's own wherever else one has to stand."""

        def hole(found: re.Match[str]) -> str:
            return shown if self.where == f"path.{found[1]}" else ids[found[1]]

        path = "/v1" + re.sub(r"\{(\w+)\}", hole, self.operation.template)
        if self.where.startswith("query."):
            path += f"?{self.where.removeprefix('query.')}={shown}"
        body = None
        if self.operation.body is not None:
            body = build(self.steps, shown, ids[self.kind]) if self.steps else {}
        return Call(self.operation.method, path, body, headers={"OpenAI-Beta": f"assistants={version}"})


def build(steps: tuple[str | int, ...], shown: str, own: str) -> Any:
    """A body with nothing but this id. In front of it in its list, if it is not the first, stands one's own."""
    if not steps:
        return shown
    inner = build(steps[1:], shown, own)
    if isinstance(steps[0], str):
        return {steps[0]: inner}
    return [{} if isinstance(inner, dict) else own] * steps[0] + [inner]


def leaves(shape: Shape, steps: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """The steps to every id, as the first and as the second item where there may be several."""
    if isinstance(shape, TextOr):
        yield from leaves(shape.shape, steps)
    elif isinstance(shape, str):
        yield steps, shape
    elif isinstance(shape, list):
        for number in (0, 1):
            yield from leaves(shape[0], (*steps, number))
    else:
        for name, inner in shape.items():
            yield from leaves(inner, (*steps, name))


def places(operation: Operation) -> Iterator[Place]:
    for kind in re.findall(r"\{(\w+)\}", operation.template):
        yield Place(operation, f"path.{kind}", kind)
    for name, kind in operation.query_kinds.items():
        yield Place(operation, f"query.{name}", kind)
    for steps, kind in leaves(operation.sent):
        yield Place(operation, "body." + ".".join(map(str, steps)), kind, steps)


PLACES = [
    (each, version)
    for operation in OPERATIONS
    for each in places(operation)
    for version in VERSIONS
    if operation.only_in in (None, version)
]


def never_issued(real: str) -> str:
    """An id of the same length and form that nobody ever had."""
    prefix = next((each for each in PREFIX_KINDS if real.startswith(each)), "")
    turned = str.maketrans("0123456789abcdef", "1234567890bcdefa")
    return prefix + real.removeprefix(prefix).translate(turned)


def foreign(own: Mapping[str, str], alices: Mapping[str, str], carols: Mapping[str, str], kind: str) -> dict[str, str]:
    """What is not bob's, though something about it is real: why, and the id."""
    other = next(each for each in alices if each != kind)
    alice, bob, carol = alices[kind], own[kind], carols[kind]
    return {
        "another tenant's": alice,
        "another tenant's, in another account": carol,
        "another tenant's, of another kind": alices[other],
        "his own, of another kind": own[other],
        "another tenant's upstream id": upstream_of(alice),
        "his own upstream id": upstream_of(bob),
        "another tenant's with his own tail": upstream_of(alice) + bob[-TAIL_LENGTH:],
        "his own with another tenant's tail": upstream_of(bob) + alice[-TAIL_LENGTH:],
        "his own with the route of another account": bob[:-TAIL_LENGTH]
        + carol[-TAIL_LENGTH:][:ROUTE_LENGTH]
        + bob[ROUTE_LENGTH - TAIL_LENGTH :],
    }


def seen(heard: Heard, shown: str) -> tuple[int, list[bytes], bytes]:
    """What tells one answer from another: not the id that was presented, its length, the request's own id and the
    time."""
    lines = [
        line for line in heard.headers.split(b"\r\n") if not re.match(rb"(?i)date|x-request-id|content-length", line)
    ]
    return heard.status, lines, heard.body.replace(shown.encode(), b"ID")


UPKEEP = frozenset({"PING", "CLIENT", "HELLO", "TIME"})
"""What keeps connections and knows of no request."""


def of_requests(commands: list[Command], prefix: str) -> list[Command]:
    """What the gateway did not ask for by itself."""
    own = re.compile(rf"{{?{re.escape(prefix)}:({'|'.join(OF_ALL)})\b")
    others = [each for each in commands if each.name not in UPKEEP]
    return [each for each in others if not any(own.match(key) for key in each.keys(prefix))]


def prefix_of(settings: list[dict[str, Any]]) -> str:
    return str(settings[0]["store"]["prefix"])


async def test_an_id_of_another_tenant_is_an_id_that_never_was(
    start_vendor: StartVendor, start_gateway: StartGateway, valkey: str
) -> None:
    """In every place of every operation and in both versions of the protocol: the same status, headers and words,
    decided in memory. A request that carries an `Idempotency-Key` leaves none."""
    vendor, settings = await start_vendor("openai"), []
    gateway = await start_gateway(vendor, change=settings.append)
    alices, own, carols = [await stage(gateway, each, vendor=vendor) for each in ("alice", "bob", "carol")]
    calls = len(vendor.simulator.journal)
    async with Monitor(valkey) as monitor:
        for place, version in PLACES:
            nobodys = never_issued(alices[place.kind])
            never = await hear(gateway, place.call(own, nobodys, version), tenant="bob")
            words = f"No {KIND_WORDS.get(place.kind, place.kind)} found with id '{nobodys}'."
            assert (never.status, never.json["error"]["message"]) == (404, words), place
            for why, shown in foreign(own, alices, carols, place.kind).items():
                keyed = {"Idempotency-Key": "bobs"} if why == "another tenant's" else {}
                call = place.call(own, shown, version)
                heard = await hear(gateway, call, tenant="bob", headers=keyed)
                assert seen(heard, shown) == seen(never, nobodys), (place, version, why)
                assert len(heard.body) - len(shown) == len(never.body) - len(nobodys)
        asked = await monitor.heard()
    assert len(vendor.simulator.journal) == calls
    assert of_requests(asked, prefix_of(settings)) == []
    assert len(PLACES) > 300


def test_the_places_are_those_of_the_examples_and_more() -> None:
    """The tables know every place that the other tests know."""
    known = {(each.operation.name, re.sub(r"\d+", "0", each.where)) for each, _ in PLACES}
    for name in EXAMPLES:
        dotted = {re.sub(r"\[(\d+)\]", r".\1", where) for where in id_places(name)}
        assert {(name, re.sub(r"\d+", "0", where)) for where in dotted} <= known


async def whole_session(gateway: Running, vendor: Vendor, tenant: str) -> list[bytes]:
    """Everything that one tenant hears while it does all there is to do, each POST with the key that every tenant uses
    for it."""
    heard = []
    for waiting in (False, True):
        ids = await stage(gateway, tenant, vendor=vendor, say="call add" if waiting else "hello")
        for name in examples_of(vendor):
            if (name in WAITING) != waiting or name == "cancel_run":
                continue
            call = compose(name, ids, vendor=vendor)
            if name in ("create_assistant_file", "delete_assistant_file"):
                continue  # of an assistant whose vector store is not one of v1
            keyed = {"Idempotency-Key": f"the same {name}"} if call.method == "POST" else {}
            answer = await hear(gateway, call, tenant=tenant, headers=keyed)
            assert answer.status in (200, 404), (name, answer.body)
            assert b"idempotent-replayed" not in answer.headers.lower(), name
            heard.append(answer.headers + answer.body)
            if call.method == "GET":  # once more, from the cache where that keeps it
                again = await hear(gateway, call, tenant=tenant)
                heard.append(again.headers + again.body)
    return heard


async def test_nothing_of_one_tenant_reaches_another_or_what_is_kept_for_it(
    start_vendor: StartVendor, start_gateway: StartGateway, valkey: str, events: Events
) -> None:
    """Alice and bob share an account and do the same with the same `Idempotency-Key`s. No byte that bob hears, no line
    of his in the log, no word and no key of a command to the store has an id of alice's; his keys name him."""
    vendor, settings = await start_vendor("openai"), []
    issued = remember(vendor)
    gateway = await start_gateway(vendor, change=settings.append)
    async with Monitor(valkey) as monitor:
        await whole_session(gateway, vendor, "alice")
        for_alice = await monitor.heard()
        alices = {upstream for upstream, _ in issued}
        lines = len(events)
        heard = await whole_session(gateway, vendor, "bob")
        for_bob = of_requests(await monitor.heard(), prefix_of(settings))
    assert alices
    assert heard
    of_alice = re.compile("|".join(map(re.escape, sorted(alices))))
    assert [each for each in heard if of_alice.search(each.decode("utf-8", "replace"))] == []
    assert [line for line in events[lines:] if of_alice.search(str(line)) or line.get("tenant") == "alice"] == []
    assert [each for each in for_bob if of_alice.search(str(each))] == []
    prefix = prefix_of(settings)
    keys = {key for each in for_bob for key in each.keys(prefix)}
    of_all = {f"{prefix}:idem-times"}  # when what is due, tenants' names within
    assert {key for key in keys if not re.search(r"[:{]bob[:}]", key)} == of_all
    assert {name for name in ("c", "own", "idem") if any(key.startswith(f"{prefix}:{name}:") for key in keys)} == {
        "c",
        "own",
        "idem",
    }
    assert keys & {key for each in for_alice for key in each.keys(prefix)} == of_all


@pytest.mark.parametrize("kind", ["assistant", "thread", "file", "vector_store"])
async def test_no_answer_makes_another_tenants_upstream_id_into_ones_own(
    start_vendor: StartVendor, start_gateway: StartGateway, kind: str
) -> None:
    """Who knows it puts it where a vendor repeats what it was sent: in a parameter, a model, a field that nobody
    expects, and in sentences as vendors write them. What comes back opens nothing."""
    vendor = await start_vendor("openai")
    gateway = await start_gateway(vendor)
    alices, own = await stage(gateway, "alice", vendor=vendor), await stage(gateway, "bob", vendor=vendor)
    secret = upstream_of(alices[kind])
    word = f"No {KIND_WORDS.get(kind, kind)} found with id '{secret}'; Thread {secret} already has an active run run_1."
    answers = []
    for said in (secret, word):
        for call in (
            Call("GET", f"/v1/threads/{own['thread']}/messages?order={quote(said)}"),
            Call("POST", f"/v1/threads/{own['thread']}/messages", {"role": said, "content": "hi"}),
            Call("POST", "/v1/assistants", {"model": said, "tools": [{"type": said}]}),
            Call("POST", "/v1/threads", {"messages": [{"role": said, "content": said}]}),
        ):
            answers.append((await hear(gateway, call, tenant="bob")).body)
        vendor.simulator.faults.add(faults.status(400, {"error": {"message": said, "hint": [said]}}))
        answers.append((await hear(gateway, Call("GET", f"/v1/threads/{own['thread']}/runs"), tenant="bob")).body)
    assert any(b"***" in each for each in answers)
    for found in re.findall(rf"{re.escape(secret)}\w*", b"".join(answers).decode()):
        for name in ("thread", "assistant", "file", "vector_store"):
            status, _, _ = await gateway.call("GET", f"/v1/{name}s/{found}", tenant="bob")
            assert status == 404, found
    await ok(gateway, "GET", f"/v1/{kind}s/{alices[kind]}")
