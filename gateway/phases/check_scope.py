"""What a key may be used for: operations, and models. Pure. Providers need no check of their own: a caller's tenant has
only those that its key may use.

A model is what callers call it. What cannot be read as naming an allowed model is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Any
from urllib.parse import unquote

from gateway import codec
from gateway.errors import GatewayError, bad_request
from gateway.model import Provider, Scope
from gateway.operations import Operation
from gateway.phases.receive import Body

_RUNS = ("create_run", "create_thread_and_run")
_ASSISTANTS = ("create_assistant", "modify_assistant")
_BEFORE_MODELS = ("deployments", "engines", "models")
"""Words of vendors' paths that a model's name follows."""
_USERS_OWN = frozenset({"metadata", "parameters", "schema", "arguments"})
"""Names of fields in which nothing is a model, whatever it is called."""


def check_operation(scope: Scope, operation: Operation) -> None:
    """Raises GatewayError 403 for an operation that the key's scope leaves out."""
    if scope.is_read_only and operation.method != "GET":
        raise not_allowed(f"only read; '{operation.name}' is no read")
    if not scope.may_delete and operation.method == "DELETE":
        raise not_allowed(f"not delete, as '{operation.name}' does")
    allowed = scope.operations
    if allowed is not None and not any(fnmatchcase(operation.name, pattern) for pattern in allowed):
        raise not_allowed(f"only do {', '.join(allowed)}; '{operation.name}' is not among it")


def asks_assistant(scope: Scope, operation: Operation, body: Body) -> bool:
    """Look at the models that a request names. Whether it is the assistant's own that is run.

    Raises GatewayError 403 for a model that is not allowed, or that is not said where it must be; 400 for a name that
    stands twice, because the provider could read the other one.
    """
    if scope.models is None or operation.method == "GET":
        return False
    is_passed = operation.answers == "any"
    if not is_passed and operation.name not in (*_RUNS, *_ASSISTANTS):
        return False
    document = {} if body.document is None else body.document
    if document:
        _refuse_twins(body.raw)
    named = [*_named(document), *(_in_path(operation.template) if is_passed else ())]
    for model in named:
        if type(model) is not str or model not in scope.models:
            raise _forbidden(scope.models, f"not {_shown(model)}")
    if type(document.get("model")) is str:
        return False
    if operation.name in _RUNS and document.get("model") is None:
        return True
    if operation.name == "modify_assistant" and "model" not in document:
        return False
    raise _forbidden(scope.models, "and this request names none in 'model'")


def check_assistant(scope: Scope, assistant: str, answered: Mapping[str, Any], provider: Provider) -> None:
    """Look at the model of an assistant, as the provider tells it, that a run uses without naming a model.

    Raises GatewayError 403 where it is not allowed, or not told. `assistant` is its id as the caller wrote it.
    """
    models = scope.models or frozenset()
    model = answered.get("model")
    if type(model) is not str or not model:
        raise _forbidden(models, f"and assistant '{assistant}' does not tell its own")
    # Several of callers' names may lead to one model.
    if model not in {provider.upstream_models.get(name, name) for name in models}:
        raise _forbidden(models, f"and assistant '{assistant}' has {_shown(provider.public_models.get(model, model))}")


def unknown_assistant(scope: Scope) -> GatewayError:
    """A run that names neither a model nor an assistant."""
    return _forbidden(scope.models or frozenset(), "and this run names neither a model nor an assistant")


def not_allowed(what: str) -> GatewayError:
    """`what` completes "this key may …"."""
    return GatewayError(403, f"this key may {what}", code="scope_not_allowed", type="permission_error")


def _forbidden(models: frozenset[str], what: str) -> GatewayError:
    error = not_allowed(f"only use the models {', '.join(sorted(models))}, {what}")
    error.param = "model"
    return error


def _shown(model: object) -> str:
    return f"'{model[:64]}'" if isinstance(model, str) else "what is no name"


def _refuse_twins(raw: bytes) -> None:
    try:
        codec.refuse_hidden_names(raw, (b"",))  # any name: to some parsers capitals make no difference
    except codec.DuplicateName as exc:
        raise bad_request(str(exc), param=exc.name, code="duplicate_name") from exc


def _named(value: Any) -> Iterator[object]:
    """Everything that stands under `model` or `models`, wherever a vendor might read it."""
    if type(value) is list:
        for item in value:
            yield from _named(item)
    elif type(value) is dict:
        for name, inner in value.items():
            if name.casefold() in ("model", "models") and type(inner) is not dict:
                yield from inner if type(inner) is list else () if inner is None else (inner,)
            elif name.casefold() not in _USERS_OWN:
                yield from _named(inner)


def _in_path(path: str) -> Iterator[str]:
    words = [unquote(word) for word in path.strip("/").split("/")]
    for word, following in pairwise(words):
        if word.casefold() in _BEFORE_MODELS:
            yield following
