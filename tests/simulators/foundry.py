"""Azure AI Foundry Agent Service, classic: Azure's protocol under the endpoint of a project, for bearers of a token.

Documented (learn.microsoft.com, Foundry Agent Service REST reference, read 2026-11-21): `api-version=v1` or a dated
one, an Entra access token for the scope `https://ai.azure.com/.default`, and a list of threads, which no other
vendor has. Public issues (read 2026-11-21) have a missing role as **401** with the code `PermissionDenied`, and the
words of the 401 for a token that has ended; Azure's services answer 400 `MissingApiVersionParameter`.

Not known, and simple here: the code of the 401 for a token (its status), what an unknown `api-version` answers
(400 as well); everything else is as with `azure`. A real project is one account. Here the token decides the account,
so that one simulator has several, as with the other vendors.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from tests.simulators import faults
from tests.simulators.azure import AZURE, named_error
from tests.simulators.base import Simulator
from tests.simulators.entra import TENANT_ID, Entra, client_id_of
from tests.simulators.threads_server.ask import Ask, bearer_key
from tests.simulators.threads_server.refusal import Refused
from tests.simulators.threads_server.routes import ROUTES, Q, Route

VENDOR = "foundry"
LIST_THREADS = Route("GET", "/threads", lambda w: w.threads.list_all, Q)


def wrong_token(key: str | None) -> Refused:
    reasons = "Access token is missing, invalid, audience is incorrect (https://ai.azure.com), or have expired."
    return Refused(f"Unauthorized. {reasons}", status=401)


def require_api_version(route: Route, ask: Ask) -> None:
    version = ask.query.get("api-version")
    if version is None:
        message = "The api-version query parameter (?api-version=) is required for all requests."
        raise Refused(message, code="MissingApiVersionParameter")
    if not re.fullmatch(r"v1|\d{4}-\d\d-\d\d(-preview)?", version):
        raise Refused(f"Unsupported api-version '{version}'.", code="UnsupportedApiVersionValue")


def deny_role() -> faults.Act:
    """Refuse a good token whose principal lacks a role: another token of it helps as little."""
    refused = Refused("The principal lacks the required data action.", status=401, code="PermissionDenied")
    return faults.status(401, named_error(refused))


@dataclass(eq=False)
class Foundry(Simulator):
    """`keys` are client secrets, for which `entra`, which starts and stops with it, issues the tokens.

    The key of a received request is the secret that its token was issued for.
    """

    entra: Entra = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.entra = Entra(keys=self.keys, now=lambda: self.now())

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        await self.entra.start(host)
        await super().start(host, port)

    async def stop(self) -> None:
        await super().stop()
        await self.entra.stop()

    def options_of(self, account: str) -> Mapping[str, str]:
        return {
            "tenant_id": TENANT_ID,
            "client_id": client_id_of(account),
            "authority": self.entra.url,
            "ca_file": self.entra.ca_path,
        }

    def key_of(self, ask: Ask) -> str | None:
        return self.entra.secret_of(bearer_key(ask.headers))


FOUNDRY = replace(
    AZURE,
    name=VENDOR,
    prefix="/api/projects/simulated",
    routes=(LIST_THREADS, *ROUTES),
    check=require_api_version,
    wrong_key=wrong_token,
)
SIMULATOR: Callable[..., Simulator] = partial(Foundry, FOUNDRY)
