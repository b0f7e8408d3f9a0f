"""The table of routes against the published description of the API."""

from __future__ import annotations

import re

import pytest

from gateway.errors import GatewayError
from gateway.operations import BY_NAME, DELETED_OBJECTS, OPERATIONS, match

PUBLISHED = {
    "list_assistants": "GET /assistants",
    "create_assistant": "POST /assistants",
    "get_assistant": "GET /assistants/{assistant}",
    "modify_assistant": "POST /assistants/{assistant}",
    "delete_assistant": "DELETE /assistants/{assistant}",
    "list_assistant_files": "GET /assistants/{assistant}/files",
    "create_assistant_file": "POST /assistants/{assistant}/files",
    "get_assistant_file": "GET /assistants/{assistant}/files/{file}",
    "delete_assistant_file": "DELETE /assistants/{assistant}/files/{file}",
    "create_thread": "POST /threads",
    "create_thread_and_run": "POST /threads/runs",
    "get_thread": "GET /threads/{thread}",
    "modify_thread": "POST /threads/{thread}",
    "delete_thread": "DELETE /threads/{thread}",
    "list_messages": "GET /threads/{thread}/messages",
    "create_message": "POST /threads/{thread}/messages",
    "get_message": "GET /threads/{thread}/messages/{message}",
    "modify_message": "POST /threads/{thread}/messages/{message}",
    "delete_message": "DELETE /threads/{thread}/messages/{message}",
    "list_message_files": "GET /threads/{thread}/messages/{message}/files",
    "get_message_file": "GET /threads/{thread}/messages/{message}/files/{file}",
    "list_runs": "GET /threads/{thread}/runs",
    "create_run": "POST /threads/{thread}/runs",
    "get_run": "GET /threads/{thread}/runs/{run}",
    "modify_run": "POST /threads/{thread}/runs/{run}",
    "cancel_run": "POST /threads/{thread}/runs/{run}/cancel",
    "submit_tool_outputs": "POST /threads/{thread}/runs/{run}/submit_tool_outputs",
    "list_run_steps": "GET /threads/{thread}/runs/{run}/steps",
    "get_run_step": "GET /threads/{thread}/runs/{run}/steps/{step}",
    "upload_file": "POST /files",
    "list_files": "GET /files",
    "get_file": "GET /files/{file}",
    "delete_file": "DELETE /files/{file}",
    "get_file_content": "GET /files/{file}/content",
    "create_vector_store": "POST /vector_stores",
    "list_vector_stores": "GET /vector_stores",
    "get_vector_store": "GET /vector_stores/{vector_store}",
    "modify_vector_store": "POST /vector_stores/{vector_store}",
    "delete_vector_store": "DELETE /vector_stores/{vector_store}",
    "search_vector_store": "POST /vector_stores/{vector_store}/search",
    "create_store_file": "POST /vector_stores/{vector_store}/files",
    "list_store_files": "GET /vector_stores/{vector_store}/files",
    "get_store_file": "GET /vector_stores/{vector_store}/files/{file}",
    "modify_store_file": "POST /vector_stores/{vector_store}/files/{file}",
    "delete_store_file": "DELETE /vector_stores/{vector_store}/files/{file}",
    "get_store_file_content": "GET /vector_stores/{vector_store}/files/{file}/content",
    "create_batch": "POST /vector_stores/{vector_store}/file_batches",
    "get_batch": "GET /vector_stores/{vector_store}/file_batches/{batch}",
    "cancel_batch": "POST /vector_stores/{vector_store}/file_batches/{batch}/cancel",
    "list_batch_files": "GET /vector_stores/{vector_store}/file_batches/{batch}/files",
}


def names(**conditions: object) -> set[str]:
    """The operations whose fields have these values."""
    return {
        operation.name
        for operation in OPERATIONS
        if all(getattr(operation, name) == value for name, value in conditions.items())
    }


def test_the_table_is_the_published_one() -> None:
    assert {operation.name: f"{operation.method} {operation.template}" for operation in OPERATIONS} == PUBLISHED
    assert {name: BY_NAME[name].name for name in PUBLISHED} == {name: name for name in PUBLISHED}


@pytest.mark.parametrize(
    ("base", "provider"),
    [("/v1", None), ("", None), ("/providers/x/v1", "x"), ("/providers/x", "x"), ("/providers/my%20own/v1", "my own")],
)
@pytest.mark.parametrize("name", PUBLISHED)
def test_every_operation_is_found_under_every_base_url(name: str, base: str, provider: str | None) -> None:
    method, template = PUBLISHED[name].split()
    kinds = re.findall(r"{(\w+)}", template)
    matched = match(method, base + re.sub(r"{(\w+)}", r"id-of-\1", template), BY_NAME[name].only_in or "v2")
    assert matched.operation.name == name
    assert matched.shown == {kind: f"id-of-{kind}" for kind in kinds}
    assert matched.provider == provider


def test_what_only_one_version_has_is_no_path_of_the_other() -> None:
    """A caller of v2 does not learn that there was something; methods that are left are still named."""
    only = names(only_in="v1")
    assert only == {name for name in PUBLISHED if name.endswith(("assistant_file", "assistant_files"))} | {
        "list_message_files",
        "get_message_file",
    }
    for name in only:
        method, template = PUBLISHED[name].split()
        with pytest.raises(GatewayError) as refused:
            match(method, template, "v2")
        assert (refused.value.status, refused.value.code) == (404, "unknown_url")
    with pytest.raises(GatewayError) as refused:
        match("PUT", "/assistants/a/files", "v1")
    assert (refused.value.status, refused.value.headers) == (405, {"allow": "GET, POST"})


def test_runs_is_a_word_and_not_a_threads_id() -> None:
    assert match("POST", "/v1/threads/runs").operation.name == "create_thread_and_run"
    assert match("POST", "/v1/threads/runsX").operation.name == "modify_thread"
    assert match("GET", "/v1/threads/runs").shown == {"thread": "runs"}  # which no thread is called: 404 later
    assert match("GET", "/v1/threads/runs/runs/runs").shown == {"thread": "runs", "run": "runs"}


@pytest.mark.parametrize(
    ("segment", "shown"),
    [
        ("thread%5F1", "thread_1"),
        ("a%2Fb", "a/b"),  # one id with a slash in it, not two segments
        ("a%252Fb", "a%2Fb"),  # decoded once
        ("%C3%A9", "é"),
        ("%FF", "\ufffd"),
        ("a+b", "a+b"),
        ("..", ".."),
        ("%00", "\0"),
    ],
)
def test_ids_in_a_path_are_decoded_once(segment: str, shown: str) -> None:
    matched = match("GET", f"/v1/threads/{segment}/messages")
    assert (matched.operation.name, matched.shown) == ("list_messages", {"thread": shown})


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "",
        "*",
        "/v1",
        "/v1/",
        "/v2/threads",
        "/v1/v1/threads",
        "//threads",
        "/v1/threads/",
        "/v1/threads//messages",
        "/v1/threads/t/messages/",
        "/v1/threads/t/steps",
        "/v1/threads/t/runs/r/cancel/x",
        "/v1/Threads",
        "/v1/thre%61ds",  # only ids are decoded
        "/v1/chat/completions",
        "/v1/assistants/a/files",  # of the protocol's first version
        "/providers",
        "/providers/x",
        "/providers/x/v1",
        "/providers/x/v2/threads",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_is_no_operation_is_unknown(method: str, path: str) -> None:
    with pytest.raises(GatewayError) as refused:
        match(method, path)
    assert (refused.value.status, refused.value.code) == (404, "unknown_url")
    assert refused.value.message == f"Invalid URL ({method} {path})"


@pytest.mark.parametrize("path", ["/v1/uploads", "/uploads/upload_1/parts", "/providers/x/v1/uploads"])
def test_uploads_in_parts_are_refused_with_what_to_do_instead(path: str) -> None:
    with pytest.raises(GatewayError, match=r"upload in parts .* use POST /v1/files") as refused:
        match("POST", path)
    assert refused.value.status == 404


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/threads", "POST"),
        ("GET", "/v1/threads", "POST"),
        ("PATCH", "/v1/threads/t", "DELETE, GET, POST"),
        ("HEAD", "/v1/threads/t", "DELETE, GET, POST"),
        ("PUT", "/v1/threads/runs", "DELETE, GET, POST"),  # as the word and as an id
        ("DELETE", "/v1/threads/t/runs", "GET, POST"),
        ("GET", "/v1/threads/t/runs/r/cancel", "POST"),
        ("DELETE", "/v1/threads/t/runs/r", "GET, POST"),
        ("OPTIONS", "/v1/files", "GET, POST"),
        ("get", "/v1/files", "GET, POST"),  # methods are written in capitals
    ],
)
def test_a_wrong_method_is_told_which_are_right(method: str, path: str, allowed: str) -> None:
    with pytest.raises(GatewayError) as refused:
        match(method, path)
    assert (refused.value.status, refused.value.headers) == (405, {"allow": allowed})


def test_a_long_path_is_not_repeated_whole() -> None:
    for method, path in (("GET", "/" + "x" * 9000), ("PUT", "/threads/" + "x" * 9000)):
        with pytest.raises(GatewayError) as refused:
            match(method, path)
        assert len(refused.value.message) < 400


def test_reading_and_deleting_may_be_repeated_and_nothing_else() -> None:
    assert names(is_safe=True) == names(method="GET") | names(method="DELETE")


def test_three_operations_stream() -> None:
    assert names(streams=True) == {"create_run", "create_thread_and_run", "submit_tool_outputs"}


def test_one_operation_takes_a_file_and_every_other_post_an_object() -> None:
    assert names(upload=True) == {"upload_file"}
    assert names(body=None) == names(is_safe=True) | {"upload_file"}


def test_what_is_cached_is_read_from_below_a_thread_or_assistant() -> None:
    assert names(cacheable=True) == {
        "get_assistant",
        "get_thread",
        "get_message",
        "list_messages",
        "get_run",
        "list_run_steps",
        "get_run_step",
    }


def test_the_owner_is_remembered_of_what_stands_under_no_thread() -> None:
    kinds = ("assistant", "file", "vector_store")
    assert names(owned="list") == {f"list_{kind}s" for kind in kinds}
    assert names(owned="delete") == {f"delete_{kind}" for kind in kinds}
    assert names(owned="create") == {"create_assistant", "upload_file", "create_vector_store"}
    for kind in kinds:  # the gateway's own lists read the objects one by one
        assert f"get_{kind}" in BY_NAME


def test_deletions_tell_what_was_deleted() -> None:
    assert set(DELETED_OBJECTS) == names(method="DELETE") == names(answers="deleted")
    assert DELETED_OBJECTS["delete_thread"] == "thread.deleted"
    assert DELETED_OBJECTS["delete_message"] == "thread.message.deleted"


def test_cursors_have_the_kind_of_the_list() -> None:
    for operation in OPERATIONS:
        cursors = {"after": operation.kind, "before": operation.kind} if operation.answers == "list" else {}
        assert {name: kind for name, kind in operation.query_kinds.items() if name != "run_id"} == cursors
    assert BY_NAME["list_messages"].query_kinds["run_id"] == "run"
    assert sum("run_id" in operation.query_kinds for operation in OPERATIONS) == 1


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("list_messages", "message"),
        ("list_run_steps", "step"),
        ("list_store_files", "file"),
        ("list_batch_files", "file"),
        ("list_vector_stores", "vector_store"),
    ],
)
def test_a_list_is_of_its_items_kind(name: str, kind: str) -> None:
    assert BY_NAME[name].kind == kind


def test_lists_have_the_published_limits() -> None:
    assert names(default_limit=10_000) == names(max_limit=10_000) == {"list_files"}
    assert names(default_limit=20) == names(max_limit=100) == set(BY_NAME) - {"list_files"}
