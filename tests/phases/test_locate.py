"""Which provider and account a request is for, and whether its ids are good."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import GatewayError, envelope
from gateway.ids import IdSigner
from gateway.model import Directory, Target
from gateway.phases.locate import RAW, Located
from tests.values import DIRECTORY, SETTINGS, config_of, located, public, target

BOLT, SIDE = target("main", "bolt"), target("side")


def place(found: Located) -> tuple[str, str]:
    return found.target.provider.name, found.target.account.name


def refused(request: str, body: dict[str, Any] | None = None, **more: Any) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        located(request, body, **more)
    return caught.value


# --- ids decide ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "body", "at"),
    [
        (f"GET /v1/threads/{public('t')}", None, ("main", "acme")),
        (f"GET /v1/threads/{public('t', at=SIDE)}", None, ("side", "acme")),
        (f"GET /providers/main/v1/threads/{public('t', at=SIDE)}", None, ("side", "acme")),  # whatever the path says
        ("POST /v1/threads/runs", {"assistant_id": public("a", "assistant", at=SIDE)}, ("side", "acme")),
        ("POST /v1/threads", {"messages": [{"file_ids": [public("f", "file", at=SIDE)]}]}, ("side", "acme")),
        (f"GET /v1/assistants?after={public('a', 'assistant', at=SIDE)}", None, ("side", "acme")),
        # not the home account, if an id lives elsewhere
        (f"GET /v1/threads/{public('t', at=BOLT)}", None, ("main", "bolt")),
    ],
)
def test_an_id_decides_where_a_request_goes(request_: str, body: dict[str, Any] | None, at: tuple[str, str]) -> None:
    assert place(located(request_, body)) == at


def test_ids_become_the_providers_own() -> None:
    thread, run, message, file = public("t/1"), public("r", "run"), public("m", "message"), public("f", "file")
    found = located(f"GET /v1/threads/{thread.replace('/', '%2F')}/messages?limit=2&run_id={run}&after={message}&x=")
    assert found.path_ids == {"thread": "t/1"}
    assert found.query == [("limit", "2"), ("run_id", "r"), ("after", "m"), ("x", "")]
    assert found.query_has_ids
    assert found.known == {"t/1": thread, "r": run, "m": message}
    found = located(f"POST /v1/threads/{public('t')}/messages", {"content": "x", "file_ids": [file, file]})
    assert [(slot.param, upstream) for slot, upstream in found.slots] == [("file_ids[0]", "f"), ("file_ids[1]", "f")]
    assert found.known == {"t": public("t"), "f": file}


def test_ids_of_several_kinds_in_one_path_keep_apart() -> None:
    found = located(f"GET /v1/threads/{public('1')}/runs/{public('1', 'run')}/steps/{public('1', 'step')}")
    assert found.path_ids == {"thread": "1", "run": "1", "step": "1"}
    store, batch = public("v", "vector_store"), public("b", "batch")
    assert located(f"GET /v1/vector_stores/{store}/file_batches/{batch}").path_ids == {
        "vector_store": "v",
        "batch": "b",
    }


# A cursor left blank comes from clients that always send it; it is no id that could be unknown.
@pytest.mark.parametrize("query", ["limit=2&order=asc", "LIMIT=%32&x=%zz&&y", "", "after=&limit=2"])
def test_a_query_without_ids_is_left_alone(query: str) -> None:
    assert not located(f"GET /v1/threads/{public('t')}/runs?{query}").query_has_ids


def test_every_cursor_of_a_query_is_checked() -> None:
    """A vendor may take the first of two where we take the last."""
    thread, good = public("t"), public("m", "message")
    for query in (f"after={good}&after=msg_raw", f"after=msg_raw&after={good}", f"before=msg_raw&after={good}"):
        assert refused(f"GET /v1/threads/{thread}/messages?{query}").status == 404


# --- ids that are no good ------------------------------------------------------------------------------------------

STRANGE = {
    "never issued": "thread_abc123abc123abc123abc123",
    "made up": "x",
    "forged": public("t")[:-1] + ("0" if public("t")[-1] != "0" else "1"),
    "of another tenant": public("t", tenant="bob"),
    "of another kind": public("t", "batch"),
    "of another signing key": IdSigner([b"somebody else's signing key"]).sign(
        "t", kind="thread", tenant="alice-of-old", route=target().account.route
    ),
    "of a tenant's name in place of its id": IdSigner([b"the first signing key"]).sign(
        "t", kind="thread", tenant="alice", route=target().account.route
    ),
    "upstream id of an owned account": "thread_of_carol",
    "without UTF-8": "\ud800",
}


@pytest.mark.parametrize("shown", STRANGE.values(), ids=STRANGE)
def test_a_strange_id_is_unknown_in_the_same_words_wherever_it_stands(shown: str) -> None:
    """Nobody learns whether it exists."""
    good = public("a", "assistant")
    bodies: list[tuple[str, str, dict[str, Any]]] = [
        ("assistant", "POST /v1/threads/runs", {"assistant_id": shown}),
        ("file", "POST /v1/threads", {"messages": [{"attachments": [{"file_id": shown}]}]}),
        ("file", "POST /v1/threads/runs", {"assistant_id": good, "thread": {"messages": [{"file_ids": [shown]}]}}),
    ]
    for kind, request, body in bodies:
        error = refused(request, body)
        assert (error.status, error.code, error.message) == (404, None, f"No {kind} found with id '{shown}'.")
        assert envelope(error)
    if shown.isascii():
        error = refused(f"GET /v1/threads/{shown}")
        assert (error.status, error.param, error.headers) == (404, None, {})
        assert error.message == f"No thread found with id '{shown}'."
        assert refused(f"GET /v1/threads/{public('t')}/messages?run_id={shown}").message.startswith("No run found")
        assert refused(f"GET /v1/threads/{public('t')}/runs?before={shown}").message.startswith("No run found")


def test_ids_of_different_accounts_cannot_meet() -> None:
    error = refused(f"POST /v1/threads/{public('t')}/runs", {"assistant_id": public("a", "assistant", at=SIDE)})
    assert (error.status, error.code, error.param) == (400, "account_mismatch", "assistant_id")
    assert error.message == (
        "'assistant_id' belongs to account 'acme' of provider 'side', "
        "but 'thread' to account 'acme' of provider 'main'; objects of different accounts cannot meet"
    )
    body = {"messages": [{"file_ids": [public("f", "file"), public("g", "file", at=BOLT)]}]}
    assert refused("POST /v1/threads", body).param == "messages[0].file_ids[1]"
    query = f"after={public('m', 'message', at=SIDE)}"
    assert refused(f"GET /v1/threads/{public('t')}/messages?{query}").param == "after"


def test_an_id_of_a_removed_account_is_gone() -> None:
    directory = Directory(config_of({**SETTINGS, "providers": {"side": SETTINGS["providers"]["side"]}}))
    error = refused(f"GET /v1/threads/{public('t')}", tenant="alice", directory=directory)
    assert (error.status, error.code, error.source) == (410, "provider_removed", "gateway")
    assert public("t") in error.message
    # Nobody else learns even that.
    assert refused(f"GET /v1/threads/{public('t')}", tenant="dave", directory=directory).status == 404
    body = {"assistant_id": public("a", "assistant", at=SIDE)}
    mixed = refused(f"POST /v1/threads/{public('t')}/runs", body, directory=directory)
    assert (mixed.status, mixed.code) == (400, "account_mismatch")
    assert "'thread' to a removed account" in mixed.message


def test_a_tenant_may_use_its_own_providers_only() -> None:
    for error in (
        refused("POST /providers/side/v1/threads", tenant="bob"),
        refused("POST /v1/threads", tenant="bob", header="side"),
        refused(f"GET /v1/threads/{public('t', tenant='bob', at=SIDE)}", tenant="bob"),  # it was allowed once
    ):
        assert (error.status, error.code, error.type) == (403, "provider_not_allowed", "permission_error")
        assert "'side'" in error.message


# --- no id ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tenant", "request_", "header", "at"),
    [
        ("alice", "POST /v1/threads", None, ("main", "acme")),  # the tenant's default
        ("bob", "POST /v1/threads", None, ("main", "acme")),  # its only provider
        ("erin", "POST /v1/threads", None, ("side", "acme")),
        ("alice", "POST /v1/threads", "side", ("side", "acme")),
        ("alice", "POST /providers/side/v1/threads", None, ("side", "acme")),
        ("alice", "POST /providers/side/threads", None, ("side", "acme")),
        ("alice", "POST /providers/side/v1/threads", "main", ("side", "acme")),  # the path before the header
        ("dave", "POST /v1/threads", "main", ("main", "acme")),
        ("carol", "POST /v1/threads", None, ("main", "bolt")),  # its home account
        ("carol", "GET /v1/assistants", None, ("main", "bolt")),
    ],
)
def test_without_an_id_the_caller_or_its_configuration_decides(
    tenant: str, request_: str, header: str | None, at: tuple[str, str]
) -> None:
    found = located(request_, tenant=tenant, header=header)
    assert place(found) == at
    assert (found.path_ids, found.known, found.spelling) == ({}, {}, 0)


def test_a_provider_nobody_named_is_asked_for() -> None:
    error = refused("POST /v1/threads", tenant="dave")
    assert (error.status, error.code, error.param) == (400, "provider_required", "x-gateway-provider")
    assert error.message.endswith("yours are: main, side")


def test_a_provider_that_does_not_exist_is_unknown() -> None:
    for error in (refused("POST /providers/nix/v1/threads"), refused("POST /v1/threads", header="nix" * 100)):
        assert (error.status, error.code) == (404, "unknown_provider")
        assert len(error.message) < 120


def test_a_body_without_ids_is_as_good_as_none() -> None:
    assert located("POST /v1/threads", {"metadata": {"file_ids": ["x"]}}).slots == []


# --- ids from before the gateway -----------------------------------------------------------------------------------

RAW_ID = "thread_abc-123_X"


def test_a_tenant_goes_on_with_its_old_ids_on_its_own_account() -> None:
    found = located(f"POST /v1/threads/{RAW_ID}/runs", {"assistant_id": "asst_1"}, tenant="carol")
    assert place(found) == ("main", "bolt")
    assert (found.path_ids, [upstream for _, upstream in found.slots]) == ({"thread": RAW_ID}, ["asst_1"])
    assert found.spelling == RAW
    assert found.known == {RAW_ID: RAW_ID, "asst_1": "asst_1"}


@pytest.mark.parametrize("shown", ["a.b", "a%2Fb", "..", "%20x", "x" * 257, "%C3%A9", "a%0Ab", "a%3Fb"])
def test_an_old_id_is_a_plain_word(shown: str) -> None:
    """It becomes a part of the provider's path."""
    assert refused(f"GET /v1/threads/{shown}", tenant="carol").status == 404


@pytest.mark.parametrize("tenant", ["alice", "bob", "dave"])
def test_nobody_else_may_use_old_ids(tenant: str) -> None:
    assert refused(f"GET /providers/main/v1/threads/{RAW_ID}", tenant=tenant).status == 404


def test_an_old_id_is_good_for_the_owned_account_only() -> None:
    assert refused(f"GET /providers/side/v1/threads/{RAW_ID}", tenant="carol").status == 404
    body = {"assistant_id": "asst_1"}
    elsewhere = public("t", tenant="carol", at=target("main", "acme"))
    assert refused(f"POST /v1/threads/{elsewhere}/runs", body, tenant="carol").status == 404


def test_old_and_new_ids_may_meet_on_the_owned_account() -> None:
    thread = public("t", tenant="carol", at=BOLT)
    found = located(f"POST /v1/threads/{thread}/runs", {"assistant_id": "asst_1"}, tenant="carol")
    assert (found.path_ids, found.slots[0][1], found.spelling) == ({"thread": "t"}, "asst_1", 0)


def test_the_owner_signs_too_where_old_ids_are_not_allowed() -> None:
    bolt = {**SETTINGS["providers"]["main"]["accounts"]["bolt"], "raw_ids": False}
    main = SETTINGS["providers"]["main"]
    main = {**main, "accounts": {**main["accounts"], "bolt": bolt}}
    directory = Directory(config_of({**SETTINGS, "providers": {**SETTINGS["providers"], "main": main}}))
    assert refused(f"GET /v1/threads/{RAW_ID}", tenant="carol", directory=directory).status == 404


# --- spelling ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "body", "spelling"),
    [
        (f"GET /v1/threads/{public('t', key=1)}", None, 1),
        (f"GET /v1/threads/{public('t')}/messages?after={public('m', 'message', key=1)}", None, 0),
        (f"POST /v1/threads/{public('t', key=1)}/runs", {"assistant_id": public("a", "assistant")}, 1),
        ("POST /v1/threads/runs", {"assistant_id": public("a", "assistant", key=1)}, 1),
        ("POST /v1/threads", None, 0),
    ],
)
def test_an_answer_is_spelt_like_the_first_id_of_its_request(
    request_: str, body: dict[str, Any] | None, spelling: int
) -> None:
    """So one thread keeps one spelling when a signing key is added."""
    assert located(request_, body).spelling == spelling


def test_a_target_has_all_that_sending_needs() -> None:
    assert located().target == Target(DIRECTORY.providers["main"], DIRECTORY.providers["main"].accounts["acme"])
