"""OpenAI, version 2 of the protocol, as it answered until 2026-08-26."""

import secrets
from collections.abc import Callable, Mapping
from functools import partial

from tests.simulators.base import Simulator
from tests.simulators.threads_server.dialect import Dialect

VENDOR = "openai"


def headers(account: str, asked: Mapping[str, str]) -> Mapping[str, str]:
    """Headers that name the account or set a cookie are here to prove that they do not cross the gateway."""
    owner = {
        "openai-organization": asked.get("OpenAI-Organization", f"org-{account}"),
        "openai-project": asked.get("OpenAI-Project", f"proj_{account}"),
    }
    return (owner if account else {}) | {
        "x-request-id": f"req_{secrets.token_hex(16)}",
        "openai-processing-ms": "12",
        "openai-version": "2020-10-01",
        "set-cookie": f"__cf_bm={secrets.token_urlsafe(32)}; path=/; HttpOnly; Secure; SameSite=None",
        "x-ratelimit-limit-requests": "10000",
        "x-ratelimit-limit-tokens": "2000000",
        "x-ratelimit-remaining-requests": "9999",
        "x-ratelimit-remaining-tokens": "1999990",
        "x-ratelimit-reset-requests": "6ms",
        "x-ratelimit-reset-tokens": "0s",
    }


OPENAI = Dialect(VENDOR, prefix="/v1", needs_beta_header="assistants=v2", poll_after_ms=5, headers=headers)
SIMULATOR: Callable[..., Simulator] = partial(Simulator, OPENAI)
