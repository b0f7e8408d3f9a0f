"""What operators see: structured events, one JSON object a line, on standard error.

Every request ends in one `request.done`, whatever happened. Events and their fields are listed in the README; a test
holds the two together. No field ever holds a secret: keys appear by name, callers' keys by fingerprint.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import orjson
import structlog

from gateway.audit.patterns import BUILT_IN, Patterns

log = structlog.get_logger()

_OTHERS_WROTE = ("error", "error_code", "model", "upstream_model")
_ATTEMPTS_SHOWN = 20
"""A list on a shared account reads its objects one by one; its line shows the first of these attempts."""

EVENTS: dict[str, str] = {
    "gateway.started": "the listener accepts requests",
    "gateway.stopping": "a signal came: no new connections, running requests may end",
    "gateway.stopped": "everything is closed",
    "request.done": "one line for each request, whatever happened",
    "request.malformed": "bytes that are no HTTP request were answered with 400; the trail has a record of it",
    "request.crashed": "a fault of the gateway itself: the caller got 500, the traceback is here",
    "key.rests": "a key is not used for a while; `why` says what the provider said",
    "key.dead": "a key is out until a probe or a person brings it back",
    "key.expires_soon": "a key ends within seven days",
    "key.ready": "a dead key has proved to be good and is used again",
    "key.account_mismatch": "a key does not find what another key of its account found: it seems to be of another",
    "account.rests": "the account has reached its rate limit: callers get 429 until the provider lets it go on",
    "account.down": "the account failed several times in a row: callers get 503 while it is not asked",
    "account.up": "the account answers again",
    "alert.lost": "the webhook could not be told of something",
    "probing.crashed": "a fault of the gateway itself while it tried keys; the traceback is here",
    "key.joined": "a new key found what others of its account made: it is used",
    "key.unproven": "a new key is used though nothing showed that it is of its account",
    "config.reloaded": "another configuration is in force",
    "config.refused": "the new configuration has faults; the old one stays in force",
    "config.needs_restart": "sections have changed that count only at start",
    "operator.acted": "a person changed a provider's key, a provider, a tenant or a tenant's key, or tested a key",
    "tenant.conflict": "the configuration has the id or the name of a tenant made at run time; `why` says what follows",
    "home.chosen": "a tenant got its home account at a provider",
    "index.late": "the store was away when something was created: its owner will be noted as soon as it is back",
    "index.lost": "the owner of a created object could not be noted before the gateway stopped",
    "generation.done": "one call of a model for a served run, whatever happened",
    "generation.crashed": "a fault of the gateway itself while it asked a model: the run failed, the traceback is here",
    "run.taken_over": "the replica that worked on a served run is gone; this one goes on with it",
    "run.handed_over": "this gateway stops, and leaves a served run to another replica",
    "run.crashed": "a fault of the gateway itself while it worked on a served run, which failed; the traceback is here",
    "serving.crashed": "a fault of the gateway itself while it looked after served runs; the traceback is here",
    "threads.forgotten": "served threads were deleted because nobody had used them for long; `count` of them",
    "run.settled": "a run is over, or was given up, and its tokens are counted; `usage_unknown` where nobody told them",
    "run.late": "the store was away when a run was made: it will be noted as soon as the store is back",
    "run.lost": "a run could not be noted before the gateway stopped: its tokens are not counted",
    "settlement.crashed": "a fault of the gateway itself while it counted what runs used; the traceback is here",
    "polling.crashed": "a fault of the gateway itself while it looked at runs; the traceback is here",
    "idempotency.lost": "the store was away when a request with a key ended: its repeats get `outcome_unknown`",
    "recipe.left_behind": "a vector store made for a v1 assistant could not be deleted; delete it at the provider",
    "list.cut_off": "a provider ignores cursors, so a list cannot be paged beyond what it shows",
    "store.ready": "the store answers; of a cluster, its `server` does",
    "store.away": "the store, or the `server` of a cluster, does not answer; what needs it answers 503",
    "cache.ready": "the cache's connection to the store answers",
    "cache.away": "the store did not answer in time: reads go to the provider, replicas share limits out among them",
    "cache.bypassed": "more writes than the cache remembers came while the store was away; all of it is passed by",
    "cache.dropped": "after `cache.bypassed`: the store is back, everything kept was dropped, the cache is used again",
    "store.full_policy": "the store may evict what has no expiry; set maxmemory-policy to noeviction or volatile-*",
    "valkey.started": "the embedded Valkey runs",
    "valkey.adopted": "an embedded Valkey that another process started is used",
    "valkey.exited": "the embedded Valkey ended by itself; it is started again",
    "signing_key.made": "a signing key was made beside the embedded Valkey; back it up",
    "audit.failed": "the trail cannot be written, or one file of it not be read; `on_error` says what follows",
    "audit.recovered": "the trail is written again; `lost` records are missing since the start",
    "audit.crashed": "a fault of the gateway itself in the trail's thread; the traceback is here",
    "audit.repaired": "the process before left a file without a seal: its torn line is cut, the file is sealed",
    "audit.keeping_failed": "a file could not be rotated, compressed or deleted; it is tried again",
    "audit.deleted": "a file of the trail was deleted as configured; the trail has a record of it",
    "audit.key_made": "a key for checkpoints was made beside the trail",
    "audit.checkpoint": "how far the trail has come, signed; keep these lines where the trail is not",
    "audit.checkpoint_failed": "a checkpoint could not be signed, or not be brought to `sink`; it is tried again",
    "demo.started": "the bundled echo model runs",
}
"""Every event the gateway logs, and what it means."""


def configure(stream: BinaryIO | None = None, level: int = logging.INFO) -> None:
    """Send events as JSON lines to `stream` (default: standard error), each flushed, in UTC."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_as_line),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.BytesLoggerFactory(sys.stderr.buffer if stream is None else stream),
        cache_logger_on_first_use=False,
    )


def _as_line(event: Any, **_: Any) -> bytes:
    """The event as JSON. Callers' headers may hold what UTF-8 cannot; nobody must get out of the log that way.

    Such characters become question marks: escaped, they are refused by the parsers of many log collectors.
    """
    try:
        return orjson.dumps(event, default=str)
    except TypeError:
        return json.dumps(event, default=str, ensure_ascii=False).encode("utf-8", "replace")


_SECRETS = Patterns(BUILT_IN, lambda found: "***")


def _masked(text: Any) -> Any:
    """What others wrote, without secrets that have a form."""
    return _SECRETS(text) if type(text) is str and _SECRETS.may_find(text) else text


@dataclass
class Record:
    """What is learnt about one request on its way, for its one line. The only thing of a request that changes."""

    request_id: str
    method: str
    path: str
    client: str | None = None
    client_request_id: str | None = None
    started: float = field(default_factory=time.perf_counter)
    facts: dict[str, Any] = field(default_factory=dict)
    attempts: list[dict[str, Any]] = field(default_factory=list)
    tenant_id: str = ""
    """For counting, as `provider_id`: ids stay when names change. The line shows names."""
    provider_id: str = ""
    asked_ids: Sequence[str] = ()
    """Of the path as they came, verified or not. The line shows them once they are."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """What every answer to this request says, be it an error or a stream."""
    answer: bytes | None = None
    """A whole answer's body; None for what passes by in pieces."""
    hear: Callable[[str, dict[str, Any] | None, bytes | None], None] | None = None
    """Is told of each event of a streamed answer as the caller gets it: name, data if that is an object, its bytes."""
    before_end: Callable[[], Awaitable[None]] | None = None
    """What the last bytes of the answer wait for."""

    def note(self, **facts: Any) -> None:
        """Add facts; None says nothing."""
        self.facts |= {name: value for name, value in facts.items() if value is not None}

    def begin_attempt(self, operation: str, provider: str, key: str) -> Callable[..., None]:
        """Note an attempt that begins; call what this returns, with its outcome, when it ended."""
        started = time.perf_counter()
        attempt: dict[str, Any] = {
            "operation": operation,
            "provider": provider,
            "key": key,
            "error": "cancelled",
        }
        self.attempts.append(attempt)

        def ended(status: int | None = None, error: str | None = None) -> None:
            del attempt["error"]
            attempt.update({"status": status} if error is None else {"error": error})
            attempt["duration_s"] = round(time.perf_counter() - started, 6)

        return ended

    def first_byte(self) -> None:
        """The caller is about to get the first byte of its answer."""
        self.facts.setdefault("first_byte_s", self.elapsed_s())

    async def end(self) -> None:
        """Everything is known of the answer, and it has not gone out whole. The first call waits for `before_end`, and
        raises what that raises."""
        wait, self.before_end = self.before_end, None
        if wait is not None:
            await wait()

    def elapsed_s(self) -> float:
        return round(time.perf_counter() - self.started, 6)

    @property
    def is_error(self) -> bool:
        """Whether the caller did not get what it asked for, unless it did not wait."""
        return self.facts.get("status", 0) >= 400 or "error_source" in self.facts

    def shown(self) -> dict[str, Any]:
        """The facts as a line may tell them."""
        return self.facts | {name: _masked(self.facts[name]) for name in _OTHERS_WROTE if name in self.facts}

    def write(self) -> None:
        """The line. A caller's fault is no warning; ours and the provider's are."""
        facts, source = self.facts, self.facts.get("error_source")
        emit = log.warning if source in ("provider", "gateway") else log.info
        emit(
            "request.done",
            request_id=self.request_id,
            method=self.method,
            path=self.path if "upstream_ids" in facts else _masked(self.path),  # there it has verified ids alone
            client=self.client,
            client_request_id=_masked(self.client_request_id),
            **self.shown(),
            attempts=self.attempts[:_ATTEMPTS_SHOWN],
            attempts_total=len(self.attempts),
            duration_s=self.elapsed_s(),
        )
