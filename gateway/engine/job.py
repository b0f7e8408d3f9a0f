"""The work on one claim as it is handed to whoever does it, and what is kept with a run for that. Pure."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.engine.asking import ASK_MODEL
from gateway.engine.models.generation import Json
from gateway.engine.store.results import Claim
from gateway.model import Target
from gateway.telemetry import Record


@dataclass(frozen=True)
class Job:
    """What there is to do. `context` is what was kept with the run; `outputs` were submitted for the calls of its last
    round; the rest is what a takeover found."""

    claim: Claim
    context: Json
    run: Json | None = None
    """As it is, where that is known."""
    thread: Json | None = None
    """Made in the same request: the first event tells of it."""
    outputs: Sequence[Json] | None = None
    is_streamed: bool = False
    shows_contents: bool = False
    """Its stream tells the contents of what a file search found."""
    request_id: str | None = None
    """Of the request that this is done for."""
    takeovers: int = 0
    interrupted_messages: Sequence[str] = ()
    interrupted_steps: Sequence[str] = ()

    def record(self, target: Target, *, model: str, upstream_model: str) -> Record:
        """What is to be learnt of one call of a model; with what is known before."""
        record = Record("gen_" + secrets.token_hex(16), "POST", "", tenant_id=self.context["tenant"])
        called: Json = self.context["called"]
        record.note(
            generation_id=record.request_id,
            request_id=self.request_id or called["request_id"],
            tenant=called["tenant"],
            operation=ASK_MODEL.name,
            provider=target.provider.name,
            vendor=target.provider.vendor.name,
            account=target.account.name,
            public_ids=[called["thread"], called["run"]],
            upstream_ids=[self.claim.thread, self.claim.run],
            thread=called["thread"],
            run=called["run"],
            takeovers=self.takeovers or None,
            model=model,
            upstream_model=upstream_model,
        )
        return record


def context_of(
    *,
    tenant: str,
    route: str,
    runs_at: str,
    said: Json,
    called: Json,
    thread_resources: Json,
    telling: Mapping[str, bool],
) -> dict[str, Any]:
    """What is kept with a run, for whoever takes it over. `route` is the thread's, `runs_at` the assistant's; `called`
    has what records call it by: names of tenant, public ids of thread and run, and the request's id; `thread_resources`
    what the thread has for hosted tools, {} where the run has none of them; `telling` how its events are told."""
    return {
        "tenant": tenant,
        "route": route,
        "runs_at": runs_at,
        "said": said,
        "called": called,
        "thread_resources": thread_resources,
        **telling,
    }
