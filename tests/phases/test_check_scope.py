"""What a key may be used for."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway.errors import GatewayError
from gateway.model import UNRESTRICTED, Directory, Provider, Scope
from gateway.operations import BY_NAME, Operation
from gateway.phases.check_scope import asks_assistant, check_assistant, check_operation
from gateway.phases.receive import Body
from tests.values import SETTINGS, config_of

READ_ONLY, NO_DELETE = Scope(is_read_only=True), Scope(may_delete=False)
ONLY = Scope(models=frozenset({"gpt-4o", "small"}))


def passed(path: str = "chat/completions", method: str = "POST", *, upload: bool = False) -> Operation:
    return Operation("passthrough", method, f"/{path}", "", "any", {}, upload=upload)


def refused(scope: Scope, operation: Operation) -> GatewayError:
    with pytest.raises(GatewayError) as error:
        check_operation(scope, operation)
    assert (error.value.status, error.value.code, error.value.type) == (403, "scope_not_allowed", "permission_error")
    return error.value


@pytest.mark.parametrize("operation", [*BY_NAME.values(), passed(), passed("models", "GET"), passed("x", "DELETE")])
def test_the_presets_go_by_what_an_operation_does(operation: Operation) -> None:
    check_operation(UNRESTRICTED, operation)
    if operation.method == "GET":
        check_operation(READ_ONLY, operation)
    else:
        refused(READ_ONLY, operation)
    if operation.method == "DELETE":
        refused(NO_DELETE, operation)
    else:
        check_operation(NO_DELETE, operation)


@pytest.mark.parametrize(
    ("patterns", "allowed", "others"),
    [
        (("get_*", "list_*"), ["get_run", "list_files"], ["create_run", "delete_thread"]),
        (("create_run",), ["create_run"], ["create_thread_and_run", "get_run"]),
        (("*_run",), ["create_run", "get_run", "create_thread_and_run"], ["list_runs"]),
        (("*",), list(BY_NAME), []),
        ((), [], list(BY_NAME)),
        (("[cd]*_thread",), ["create_thread", "delete_thread"], ["get_thread"]),
        (("GET_*",), [], ["get_run"]),
        (("passthrough",), [], ["get_run"]),
    ],
)
def test_globs_say_which_operations(patterns: tuple[str, ...], allowed: list[str], others: list[str]) -> None:
    for name in allowed:
        check_operation(Scope(operations=patterns), BY_NAME[name])
    for name in others:
        refused(Scope(operations=patterns), BY_NAME[name])


def test_what_passes_through_has_a_name_of_its_own() -> None:
    check_operation(Scope(operations=("passthrough",)), passed())
    refused(Scope(operations=("get_*",)), passed("models", "GET"))


def test_all_restrictions_count_together() -> None:
    scope = Scope(may_delete=False, operations=("*_thread",))
    check_operation(scope, BY_NAME["create_thread"])
    assert "not delete, as 'delete_thread' does" in refused(scope, BY_NAME["delete_thread"]).message
    assert refused(scope, BY_NAME["get_run"]).message == "this key may only do *_thread; 'get_run' is not among it"
    assert refused(READ_ONLY, BY_NAME["create_run"]).message == "this key may only read; 'create_run' is no read"


# --- models ----------------------------------------------------------------------------------------------------------
def body(document: Any = None, *, raw: bytes | None = None) -> Body:
    if raw is not None:
        return Body(raw, orjson.loads(raw))
    return Body(orjson.dumps(document), document) if document is not None else Body()


RUN, THREAD_AND_RUN = BY_NAME["create_run"], BY_NAME["create_thread_and_run"]
CREATE, MODIFY = BY_NAME["create_assistant"], BY_NAME["modify_assistant"]
OWN = {"metadata": {"model": "mine"}, "tools": [{"function": {"parameters": {"properties": {"model": {}}}}}]}
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"properties": {"model": {"type": "string"}}}}}


@pytest.mark.parametrize(
    ("operation", "document"),
    [
        (CREATE, {"model": "gpt-4o"}),
        (CREATE, {"model": "small", **OWN, "tools": [FUNCTION]}),  # what users say is theirs
        (MODIFY, {"model": "small"}),
        (MODIFY, {"name": "only the name"}),
        (MODIFY, None),
        (RUN, {"assistant_id": "a", "model": "gpt-4o"}),
        (RUN, {"assistant_id": "a", "model": "gpt-4o", "additional_messages": [{"metadata": {"model": "x"}}]}),
        (THREAD_AND_RUN, {"assistant_id": "a", "model": "gpt-4o", "thread": {"metadata": {"model": "x"}}}),
        (passed(), {"model": "gpt-4o", "messages": []}),
        (passed("deployments/small/chat/completions"), {"model": "gpt-4o"}),
        (passed("models", "GET"), None),
        (passed("models/x", "GET"), None),
        (BY_NAME["modify_run"], {"metadata": {"model": "x"}}),
        (BY_NAME["submit_tool_outputs"], {"tool_outputs": []}),
        (BY_NAME["create_thread"], {"messages": [{"content": "x", "metadata": {"model": "y"}}]}),
        (BY_NAME["get_run"], None),
        (BY_NAME["upload_file"], None),
    ],
)
def test_what_names_an_allowed_model_or_runs_none_passes(operation: Operation, document: Any) -> None:
    assert not asks_assistant(ONLY, operation, body(document))


@pytest.mark.parametrize("operation", [RUN, THREAD_AND_RUN])
@pytest.mark.parametrize("said", [{}, {"model": None}])
def test_a_run_that_names_no_model_asks_the_assistant(operation: Operation, said: dict[str, Any]) -> None:
    assert asks_assistant(ONLY, operation, body({"assistant_id": "a", **said}))
    assert not asks_assistant(UNRESTRICTED, operation, body({"assistant_id": "a", **said}))


FORBIDDEN = [
    (CREATE, {"model": "gpt-5"}),
    (CREATE, {}),  # some servers have a default
    (CREATE, {"model": None}),
    (CREATE, None),
    (MODIFY, {"model": "gpt-5"}),
    (MODIFY, {"model": None}),
    (RUN, {"model": "gpt-5"}),
    (RUN, {"model": ""}),
    (RUN, {"model": 5}),
    (RUN, {"model": ["gpt-4o"]}),
    (RUN, {"model": {"name": "gpt-4o"}}),
    (RUN, {"model": "GPT-4o"}),
    (RUN, {"model": "gpt-4o", "Model": "gpt-5"}),  # to some parsers capitals make no difference
    (RUN, {"Model": "gpt-5"}),
    (THREAD_AND_RUN, {"model": "gpt-5"}),
    (THREAD_AND_RUN, {"model": "gpt-4o", "assistant": {"model": "gpt-5"}}),  # what an SDK once had
    (passed(), {"messages": []}),
    (passed(), None),  # no JSON: a form, or nothing
    (passed(), {"model": "gpt-5"}),
    (passed(), {"model": "gpt-4o", "models": ["gpt-4o", "gpt-5"]}),  # fallbacks of some vendors
    (passed(), {"model": "gpt-4o", "models": [{"id": "gpt-5"}]}),
    (passed(), {"model": "gpt-4o", "tools": [{"type": "image_generation", "model": "gpt-image"}]}),
    (passed("deployments/gpt-5/chat/completions"), {"model": "gpt-4o"}),
    (passed("deployments/gpt%2D5/chat/completions"), {"model": "gpt-4o"}),
    (passed("engines/gpt-5/completions"), {"model": "gpt-4o"}),
    (passed("models/gpt-5", "DELETE"), None),
    (passed("audio/transcriptions", upload=True), None),
]


@pytest.mark.parametrize(("operation", "document"), FORBIDDEN)
def test_what_does_not_name_an_allowed_model_is_refused(operation: Operation, document: Any) -> None:
    with pytest.raises(GatewayError, match="this key may only use the models gpt-4o, small, ") as error:
        asks_assistant(ONLY, operation, body(document))
    assert (error.value.status, error.value.code, error.value.param) == (403, "scope_not_allowed", "model")
    assert not asks_assistant(UNRESTRICTED, operation, body(document))


@pytest.mark.parametrize(
    "raw",
    [
        b'{"model": "gpt-5", "model": "gpt-4o"}',
        rb'{"mode\u006c": "gpt-5", "model": "gpt-4o"}',
        b'{"MODEL": "gpt-5", "MODEL": "gpt-4o"}',
        b'{"model": "gpt-4o", "tools": [{"model": "gpt-5", "model": "gpt-4o"}]}',
    ],
)
@pytest.mark.parametrize("operation", [CREATE, RUN, passed()])
def test_a_model_cannot_hide_behind_another(raw: bytes, operation: Operation) -> None:
    """Ours takes the last of two, and a provider may take the first."""
    with pytest.raises(GatewayError) as error:
        asks_assistant(ONLY, operation, body(raw=raw))
    assert (error.value.status, error.value.code) == (400, "duplicate_name")


def provider(models: dict[str, str]) -> Provider:
    main = {**SETTINGS["providers"]["main"], "models": models}
    return Directory(config_of({**SETTINGS, "providers": {**SETTINGS["providers"], "main": main}})).providers["main"]


@pytest.mark.parametrize(
    ("models", "answered"),
    [
        ({}, "gpt-4o"),
        ({"gpt-4o": "deployment"}, "deployment"),
        ({"other": "deployment", "small": "deployment"}, "deployment"),  # two names of one model
    ],
)
def test_an_assistant_with_an_allowed_model_may_be_run(models: dict[str, str], answered: str) -> None:
    check_assistant(ONLY, "asst_1", {"model": answered}, provider(models))


@pytest.mark.parametrize(
    ("models", "answered", "told"),
    [
        ({}, {"model": "gpt-5"}, "assistant 'asst_1' has 'gpt-5'"),
        ({"gpt-5": "deployment"}, {"model": "deployment"}, "assistant 'asst_1' has 'gpt-5'"),
        ({"small": "deployment"}, {"model": "small"}, "assistant 'asst_1' has 'small'"),  # another one's upstream name
        ({}, {}, "assistant 'asst_1' does not tell its own"),
        ({}, {"model": None}, "does not tell"),
        ({}, {"model": ["gpt-4o"]}, "does not tell"),
    ],
)
def test_an_assistant_with_another_model_may_not(models: dict[str, str], answered: Any, told: str) -> None:
    with pytest.raises(GatewayError, match=told) as error:
        check_assistant(ONLY, "asst_1", answered, provider(models))
    assert (error.value.status, error.value.code) == (403, "scope_not_allowed")
