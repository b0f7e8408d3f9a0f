"""One request as it is understood, and what came of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from gateway.attempts import Sending
from gateway.model import Caller, Reply
from gateway.operations import Matched, Operation
from gateway.phases.read_facts import Facts
from gateway.phases.receive import Body
from gateway.phases.rewrite_out import Beta
from gateway.upstream import Relayed
from gateway.watching import Watch

_API_VERSION = re.compile(r"(^|&)api-version=[^&]*")


@dataclass(frozen=True)
class Inbound:
    """What a caller asks, understood but not yet located."""

    request: web.BaseRequest
    caller: Caller
    matched: Matched
    beta: Beta
    body: Body

    @property
    def operation(self) -> Operation:
        return self.matched.operation

    @property
    def raw_query(self) -> str:
        """The query, without the version that Azure's clients name in it: a provider gets its own."""
        query = self.request.rel_url.raw_query_string
        return _API_VERSION.sub("", query).removeprefix("&") if "api-version" in query else query

    @property
    def wants_fresh(self) -> bool:
        """Whether the caller does not want what was kept."""
        return "no-cache" in self.request.headers.get("Cache-Control", "").lower()

    @property
    def may_pass_through(self) -> bool:
        """Whether a success may go to the caller while it arrives."""
        return self.operation.answers in ("bytes", "any") or (self.operation.streams and self.body.wants_stream)


@dataclass(frozen=True)
class Exchanged:
    """What came of a request: a whole reply, or an answer that is still arriving (`sending` and `relayed`);
    `heard` hears of its runs, `claim` waits for its end.

    `facts` are those of a success. `may_have_run`: it is no success, and yet the provider may have done the work.
    """

    reply: Reply = field(default_factory=Reply)
    facts: Facts | None = None
    may_have_run: bool = False
    sending: Sending | None = None
    relayed: Relayed | None = None
    heard: Watch = field(default_factory=Watch)
    claim: Watch = field(default_factory=Watch)
    again: str | None = None
    """As of `Response`."""


Replay = Callable[[str], Coroutine[Any, Any, Exchanged]]
"""Tells a stream again, from what `again` leads to."""

Exchange = Callable[[], Coroutine[Any, Any, Exchanged]]
"""Asks the provider, and makes what it answers ready for the caller."""
