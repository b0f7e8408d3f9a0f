"""Sections about the gateway itself: where it listens, what it allows, where it keeps things."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Annotated

from pydantic import Field

from gateway.config.values import Bytes, ExistingFile, Name, Seconds, SecretUrl, Section


class TLS(Section):
    """Serve HTTPS. Without this section the listener speaks plain HTTP."""

    certificate: ExistingFile
    """PEM file with the certificate and its chain."""
    private_key: ExistingFile
    """PEM file with the private key."""

    def context(self) -> ssl.SSLContext:
        """Raises ssl.SSLError or OSError when the files do not fit together."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.certificate, self.private_key)
        return context


class Listener(Section):
    """Where callers reach the gateway."""

    host: str = "127.0.0.1"
    """Address to listen on; `0.0.0.0` for every interface."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """TCP port; 0 takes a free one."""
    tls: TLS | None = None
    """HTTPS with this certificate; leave out for plain HTTP."""
    keepalive_s: Seconds = 75
    """How long an idle connection of a caller stays open."""
    write_timeout_s: Seconds = 120
    """How long a caller may take to accept the next piece of an answer before the connection is cut."""
    stream_comment_s: Seconds = 15
    """After how much silence of a stream a comment goes to the caller, so that nothing between takes it for dead."""
    shutdown_s: Seconds = 30
    """After SIGTERM: how long running requests and streams may take to end. Ctrl-C waits one second."""


class Limits(Section):
    """Bounds of one request, and of all of them for the spool."""

    header_bytes: Bytes = 32 * 1024
    """All header lines of a request together; beyond it 431."""
    path_bytes: Bytes = 8 * 1024
    """Path and query of a request; beyond it 414."""
    json_bytes: Bytes = 16 * 1024 * 1024
    """A JSON body; beyond it 413. It is held in memory."""
    json_depth: Annotated[int, Field(gt=0, le=900)] = 100
    """How deep arrays and objects of a JSON body may nest; beyond it 400."""
    upload_bytes: Bytes = 512 * 1024 * 1024
    """A file upload; beyond it 413. It is never held whole in memory."""
    buffer_bytes: Bytes = 1024 * 1024
    """An upload above this goes to an unlinked temporary file, so that it can be sent again where that is safe."""
    spool_bytes: Bytes = 4 * 1024 * 1024 * 1024
    """All temporary files of uploads together; beyond it 503."""
    receive_s: Seconds = 60
    """How long a caller may pause while sending a body; beyond it 408."""
    runs_at_once: Annotated[int, Field(gt=0)] = 500
    """Served runs that one process works on at one time; others stay queued, in the order in which they came."""
    answer_bytes: Bytes = 64 * 1024 * 1024
    """A provider's JSON answer, or one stream event; beyond it 502. It is held in memory."""


class Store(Section):
    """The Redis or Valkey that holds what replicas share. Without `url` the gateway runs a Valkey of its own."""

    url: SecretUrl | None = None
    """`redis://…`, `rediss://…` or `unix://…`; of a cluster `redis+cluster://host:port,host:port` or `rediss+cluster://…`
    with some of its servers. By reference when it holds a password. Redis 6.2, Valkey 7.2 or newer. Leave out for the
    embedded Valkey."""
    data_dir: Path = Path("var/valkey")
    """Embedded Valkey: folder of its append-only file and, if none is configured, of the signing key. Relative to
    the working directory. Back it up."""
    prefix: Name = "tg"
    """First word of every key in the store, so that one server can hold several gateways."""
    timeout_s: Seconds = 1
    """How long one command may take before the store counts as away."""
    keep_unused_threads_s: Seconds | None = None
    """Served threads to which no message and no run was added for so long are deleted, with all below them. An hour may
    pass until they are. Default: they are kept until somebody deletes them."""


class Cache(Section):
    """Answers kept in the store. Whatever a replica writes drops them for all replicas."""

    ttl_s: Annotated[float, Field(ge=0, le=30)] = 30
    """How long threads, messages and assistants are kept, which may change at the provider without the gateway; 0 keeps
    nothing and reads nothing."""
    final_ttl_s: Annotated[float, Field(ge=0, le=86_400)] = 3600
    """How long runs that are over, and their steps, are kept."""
    timeout_s: Annotated[float, Field(gt=0, le=0.3)] = 0.25
    """How long a request waits for the cache; then it goes on without, and so do all until the store is back."""


class Idempotency(Section):
    """What becomes of requests that carry an `Idempotency-Key`. The store keeps it, for all replicas."""

    keep_s: Annotated[float, Field(ge=60, le=604_800)] = 86_400
    """How long the first answer to a key is given again to whoever repeats the request."""
    wait_s: Annotated[float, Field(ge=0, le=60)] = 10
    """How long a repeat waits while the first request is in work; then it gets 409."""


class AlertsConfig(Section):
    """Whom to tell of keys that died, end soon or are of another account, and of accounts that are down."""

    webhook: SecretUrl | None = None
    """Gets a POST with a JSON object for each; by reference when the URL is a secret, as Slack's are."""
