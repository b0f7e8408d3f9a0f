"""Which requests would change an object that their tenant only shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from gateway.errors import GatewayError
from gateway.model import Directory, ObjectPlace
from gateway.operations import BY_NAME, OPERATIONS, Operation, match
from gateway.phases.check_shared import check_shared
from gateway.phases.locate import Located
from tests.values import SETTINGS, config_of, located, public, target

KINDS = ("assistant", "file", "vector_store")
UPSTREAM = {kind: f"{kind}_1" for kind in ("thread", "message", "run", "step", "batch", *KINDS)}
ACME = {"provider": "main", "account": "acme"}
READ = {"search_vector_store"}
"""What is no GET and yet changes nothing."""
CHANGING = [each for each in OPERATIONS if each.changes is not None]


def directory(*entries: dict[str, Any]) -> Directory:
    return Directory(config_of({**SETTINGS, "shared": list(entries)}))


def entry(kind: str, *tenants: str, of: str | None = None, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "id": of or UPSTREAM[kind], **ACME, "tenants": list(tenants), **more}


def check(operation: Operation, there: Directory, tenant: str) -> Sequence[ObjectPlace]:
    ids = {word.strip("{}"): UPSTREAM[word.strip("{}")] for word in operation.template.split("/") if "{" in word}
    known = {upstream: public(upstream, kind) for kind, upstream in ids.items()}
    found = Located(target(), ids, known=known)
    return check_shared(operation, found, tenant=there.tenants[tenant], directory=there)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_every_operation_below_an_object_changes_it_unless_it_reads(operation: Operation) -> None:
    """So that an operation that joins the table is refused before somebody thinks of it."""
    root = operation.template.split("/")[2:3]
    is_below = bool(root) and root[0].strip("{}") in KINDS
    reads = operation.method == "GET" or operation.name in READ
    assert operation.changes == (root[0].strip("{}") if is_below and not reads else None)


@pytest.mark.parametrize("operation", CHANGING, ids=lambda operation: operation.name)
def test_what_is_shared_with_a_tenant_it_cannot_change(operation: Operation) -> None:
    """Whoever made it. A tenant that is not listed is left to the owner index, and so is all else in that account."""
    kind = str(operation.changes)
    there = directory(entry(kind, "alice"))
    with pytest.raises(GatewayError) as refused:
        check(operation, there, "alice")
    error = refused.value
    assert (error.status, error.code, error.type, error.param) == (403, "shared_object", "permission_error", kind)
    assert public(UPSTREAM[kind], kind) in error.message
    changed = ObjectPlace(target().account.route, kind, UPSTREAM[kind])
    assert check(operation, there, "bob") == [changed]
    assert check(operation, directory(entry(kind, "alice", of="another")), "alice") == [changed]
    assert check(operation, directory(entry(kind, of="another", withdrawn_from=["alice"])), "alice") == [changed]
    assert check(operation, directory(entry(kind, "alice", of="another")), "bob") == []
    assert check(operation, directory(), "alice") == []


@pytest.mark.parametrize(
    "other",
    [{"kind": "file"}, {"id": "assistant_2"}, {"provider": "side"}],
    ids=["kind", "id", "provider"],
)
def test_an_object_is_itself_by_kind_id_provider_and_account(other: dict[str, str]) -> None:
    there = directory(entry("assistant", "alice") | other)
    check(BY_NAME["delete_assistant"], there, "alice")


@pytest.mark.parametrize(
    ("request_line", "resources"),
    [
        ("POST /v1/threads", "tool_resources"),
        (f"POST /v1/threads/{public('thread_1')}", "tool_resources"),
        ("POST /v1/threads/runs", "thread.tool_resources"),
    ],
)
def test_a_thread_does_not_get_a_shared_vector_store(request_line: str, resources: str) -> None:
    """Its messages' files would be added to it. An assistant and a run may have it."""
    there = directory(entry("vector_store", "alice"))

    def asked(where: str, line: str = request_line, upstream: str = UPSTREAM["vector_store"]) -> Sequence[ObjectPlace]:
        body: dict[str, Any] = {"file_search": {"vector_store_ids": [public(upstream, "vector_store")]}}
        for name in reversed(where.split(".")):
            body = {name: body}
        method, _, path = line.partition(" ")
        found = located(line, body, directory=there)
        return check_shared(match(method, path).operation, found, tenant=there.tenants["alice"], directory=there)

    with pytest.raises(GatewayError) as refused:
        asked(resources)
    assert (refused.value.code, refused.value.param) == (
        "shared_object",
        f"{resources}.file_search.vector_store_ids[0]",
    )
    assert [place.upstream for place in asked(resources, upstream="vs_2")] == ["vs_2"]
    for line in ("POST /v1/assistants", f"POST /v1/threads/{public('thread_1')}/runs", "POST /v1/threads/runs"):
        assert asked("tool_resources", line) == []


@pytest.mark.parametrize("operation", [each for each in OPERATIONS if each.changes is None], ids=lambda each: each.name)
def test_what_is_shared_can_be_read_and_run(operation: Operation) -> None:
    assert check(operation, directory(*(entry(kind, "alice") for kind in KINDS)), "alice") == []
