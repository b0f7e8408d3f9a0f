"""One read at a provider with one key, of the gateway's own accord: what the provider says to the key."""

from __future__ import annotations

import asyncio

from gateway import __version__
from gateway.credentials import Keyring
from gateway.model import Key, Outbound, Target
from gateway.operations import BY_NAME
from gateway.phases.judge import Refusal
from gateway.phases.rewrite_in import read_refusal
from gateway.phases.rewrite_out import account_headers, url_of
from gateway.upstream import Upstream

_CHEAP = BY_NAME["list_assistants"].template
_CHEAP_OF_MODELS = "/models"
"""Providers of which only models are asked have no assistants."""
_ANSWER_BYTES = 1024 * 1024


async def ask(
    target: Target, key: Key, *, upstream: Upstream, keyring: Keyring, path: str | None = None, patience_s: float
) -> Refusal:
    """The status of a read, and the code if it is an error; without a `path` of something anybody may read.

    Raises KeyRefused and AttemptFailed, the latter after `patience_s` too.
    """
    if path is None and target.provider.is_served:
        outbound = own_read(target, _CHEAP_OF_MODELS)
    else:
        outbound = own_read(target, path) if path is not None else own_read(target, _CHEAP, "limit=1")
    deadline = asyncio.get_running_loop().time() + patience_s
    presented = await keyring(target, key).headers()
    async with await upstream.open(outbound, presented, body=b"", size_bytes=0, deadline=deadline) as answer:
        return read_refusal(answer.status, await answer.read(_ANSWER_BYTES))


def own_read(target: Target, path: str, query: str = "") -> Outbound:
    """A read of the gateway's own accord, as the provider will get it."""
    vendor = target.provider.vendor
    headers = {"User-Agent": f"threads-gateway/{__version__}", "Accept-Encoding": "identity"}
    if (beta := vendor.beta_header(())) is not None and not target.provider.is_served:
        headers["OpenAI-Beta"] = beta
    return Outbound("GET", url_of(target.provider, path, query), headers | account_headers(target))
