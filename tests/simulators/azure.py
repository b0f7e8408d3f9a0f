"""Azure OpenAI's Assistants, version 2 of the protocol under a resource's `/openai`.

Documented (learn.microsoft.com, Assistants reference, read 2026-11-21): `api-version` on every call, the key in
`api-key`, ids of files that begin with `assistant-`, errors of a code and a message. Seen in public issues (read
2026-11-21): the words of the 401 and its code, which is the status as a text; the names of the headers.

Not known, and simple here: what an unknown `api-version` answers (the 404 that a missing one does); where an unknown
deployment is noticed (wherever a body names it). Entra tokens, which Azure takes too, are refused.
"""

import re
import uuid
from collections.abc import Callable, Mapping
from functools import partial

from tests.simulators import faults
from tests.simulators.base import Simulator
from tests.simulators.threads_server.ask import Ask, read_json
from tests.simulators.threads_server.dialect import Dialect
from tests.simulators.threads_server.ground import OPENAI_PREFIXES
from tests.simulators.threads_server.refusal import Json, Refused
from tests.simulators.threads_server.routes import Route

VENDOR = "azure"
MISSING_DEPLOYMENT = "missing-deployment"
"""Every model with this in its name is one that nobody deployed."""


def headers(account: str, asked: Mapping[str, str]) -> Mapping[str, str]:
    """They tell of the resource, and are here to prove that they do not cross the gateway."""
    return {
        "apim-request-id": str(uuid.uuid4()),
        "x-ms-region": "Sweden Central",
        "azureml-model-session": "d012-20261001000000",
    }


def named_error(refused: Refused) -> Json:
    """Where an error has no name of its own, the code is the status."""
    return {"error": {"code": refused.code or str(refused.status), "message": refused.message}}


def wrong_key(key: str | None) -> Refused:
    reason = "Access denied due to invalid subscription key or wrong API endpoint."
    return Refused(f"{reason} Check that the key is a valid one of this resource.", status=401)


def require_api_version(route: Route, ask: Ask) -> None:
    if not re.fullmatch(r"\d{4}-\d\d-\d\d(-preview)?", ask.query.get("api-version", "")):
        raise Refused("Resource not found", status=404)


def read_body(route: Route, body: bytes) -> Json:
    decoded = read_json(body)
    if MISSING_DEPLOYMENT in str(decoded.get("model")):
        raise Refused("The API deployment for this resource does not exist.", status=404, code="DeploymentNotFound")
    return decoded


def throttle(after_s: int = 1) -> faults.Act:
    """Refuse as a deployment does that had too many requests."""
    refused = Refused(f"The deployment's rate limit is exceeded. Please retry after {after_s} seconds.", status=429)
    return faults.status(429, named_error(refused), headers={"retry-after": str(after_s)})


AZURE = Dialect(
    VENDOR,
    prefix="/openai",
    id_prefixes={**OPENAI_PREFIXES, "file": "assistant-"},
    read_key=lambda sent: sent.get("api-key"),
    check=require_api_version,
    read_body=read_body,
    headers=headers,
    error_body=named_error,
    wrong_key=wrong_key,
)
SIMULATOR: Callable[..., Simulator] = partial(Simulator, AZURE)
