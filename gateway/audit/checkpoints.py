"""Signed statements of how far a trail has come, published where whoever can rewrite its files cannot reach.

A chain shows that no record was changed by itself. It cannot show that the end was cut off, or that everything from one
record on was written anew: only a copy of a hash elsewhere can. Each checkpoint is a JSON object with `file`, `seq`,
`head`, `time` and `key_id`, and `signature`: Ed25519, base64, over the JSON of the other members with their names in
order and no spaces.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from gateway.audit.chain import Moments, Position
from gateway.telemetry import log

if TYPE_CHECKING:  # a command that signs nothing starts without it
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PRIVATE_KEY_FILE = "checkpoint-key.pem"
PUBLIC_KEY_FILE = "checkpoint-key.pub.pem"

_RETRY_S = 5.0
_WEBHOOK_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class SigningKey:
    private: Ed25519PrivateKey = field(repr=False)

    @property
    def public(self) -> Ed25519PublicKey:
        return self.private.public_key()

    def sign(self, position: Position, at: str) -> dict[str, Any]:
        """The checkpoint."""
        said = {"v": 1, **position._asdict(), "time": at, "key_id": key_id(self.public)}
        return {**said, "signature": base64.b64encode(self.private.sign(_signed_bytes(said))).decode()}


def key_id(key: Ed25519PublicKey) -> str:
    """The first 16 hex digits of the SHA-256 of the raw public key."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def is_signed_by(checkpoint: Mapping[str, Any], key: Ed25519PublicKey) -> bool:
    from cryptography.exceptions import InvalidSignature

    said = {name: value for name, value in checkpoint.items() if name != "signature"}
    try:
        key.verify(base64.b64decode(checkpoint["signature"]), _signed_bytes(said))
    except (InvalidSignature, ValueError, TypeError, KeyError):
        return False
    return True


def _signed_bytes(said: Mapping[str, Any]) -> bytes:
    return orjson.dumps(said, option=orjson.OPT_SORT_KEYS)


def read_checkpoints(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The checkpoints among lines: as a sink has them, or inside log lines. What is neither is passed by."""
    for line in lines:
        if b'"signature"' not in line:
            continue
        with suppress(ValueError):
            found = orjson.loads(line)
            if isinstance(found, dict):
                found = found.get("checkpoint", found)
            if isinstance(found, dict) and isinstance(found.get("file"), str) and isinstance(found.get("seq"), int):
                yield found


def read_signing_key(pem: str) -> SigningKey:
    """Raises ValueError for what is no Ed25519 private key in PEM."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise ValueError("is no private key in PEM without a passphrase") from exc
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("is no Ed25519 key")
    return SigningKey(key)


def read_public_key(pem: bytes) -> Ed25519PublicKey:
    """Raises ValueError for what is no Ed25519 public key in PEM."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise ValueError("is no public key in PEM") from exc
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("is no Ed25519 key")
    return key


def public_pem(key: Ed25519PublicKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def find_or_make_key(folder: Path, pem: str | None) -> SigningKey:
    """The configured key, else the one beside the trail, which is made at first use. Its public half is written beside
    the trail either way. Raises OSError and ValueError."""
    if pem is not None:
        key = read_signing_key(pem)
    else:
        path = folder / PRIVATE_KEY_FILE
        if not path.exists():
            _make_key(path)
        key = read_signing_key(path.read_text())
    public, path = public_pem(key.public), folder / PUBLIC_KEY_FILE
    if not path.exists() or path.read_bytes() != public:
        path.write_bytes(public)
    return key


def _make_key(path: Path) -> None:
    """Two processes may make it at once: the first that has it whole wins."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    mine = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    descriptor = os.open(mine, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(mine, path)
        log.warning("audit.key_made", file=str(path))
    except FileExistsError:
        pass
    finally:
        mine.unlink()


class Sink(Protocol):
    """Somewhere else. `publish` is called in a thread of the sink's own and may take its time."""

    name: str

    def publish(self, checkpoint: Mapping[str, Any]) -> None:
        """Raises any Exception when it is not there; then the newest is tried again."""
        ...


class FileSink:
    """A file elsewhere, one checkpoint a line: another disk, a mounted share, best one that only grows."""

    name = "file"

    def __init__(self, path: Path) -> None:
        self._path = path

    def publish(self, checkpoint: Mapping[str, Any]) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self._path, flags, 0o600)
        try:
            line = orjson.dumps(checkpoint) + b"\n"
            if os.write(descriptor, line) != len(line):
                os.write(descriptor, b"\n")  # the next stands on a line of its own
                raise OSError("not written whole")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class WebhookSink:
    """Gets a POST with the checkpoint as JSON."""

    name = "webhook"

    def __init__(self, url: str) -> None:
        self._url = url

    def publish(self, checkpoint: Mapping[str, Any]) -> None:
        body, headers = orjson.dumps(checkpoint), {"Content-Type": "application/json"}
        request = urllib.request.Request(self._url, body, headers)  # noqa: S310  the configuration allows http(s) only
        with urllib.request.urlopen(request, timeout=_WEBHOOK_TIMEOUT_S):  # noqa: S310
            pass


class Checkpoints:
    """Signs where the trail stands every `every_s` seconds if it has grown, when a file is sealed, and at the end; logs
    it and gives it to the sinks. What a checkpoint names is on the disk first: a crash must not look like a forgery."""

    def __init__(
        self,
        folder: Path,
        find_key: Callable[[], SigningKey],
        *,
        position: Callable[[], Position | None],
        every_s: float,
        sinks: Sequence[Sink] = (),
    ) -> None:
        self._folder = folder
        self._find_key = find_key
        self._key: SigningKey | None = None
        self._position = position
        self._every_s = every_s
        self._moments = Moments()
        self._published: Position | None = None
        self._sealed: list[Position] = []
        self._is_ending = False
        self._changed = threading.Condition()
        self._couriers = [_Courier(sink) for sink in sinks]
        self._thread = threading.Thread(target=self._run, name="audit.checkpoints", daemon=True)

    def start(self) -> None:
        self._thread.start()
        for courier in self._couriers:
            courier.start()

    def sealed(self, position: Position) -> None:
        """A file has come to its end. For any thread; never waits."""
        with self._changed:
            self._sealed.append(position)
            self._changed.notify()

    def stop(self) -> bool:
        with self._changed:
            self._is_ending = True
            self._changed.notify()
        if self._thread.is_alive():
            return False
        still_there = [courier for courier in self._couriers if not courier.stop()]  # each is asked
        return not still_there

    def _run(self) -> None:
        is_ending = False
        while not is_ending:
            with self._changed:
                self._changed.wait_for(lambda: self._sealed or self._is_ending, self._every_s)
                sealed, self._sealed, is_ending = self._sealed, [], self._is_ending
            try:
                for position in (*sealed, self._position()):
                    if position is not None and position != self._published:
                        self._publish(position)
            except Exception as exc:
                log.error("audit.checkpoint_failed", sink="key", reason=type(exc).__name__)

    def _publish(self, position: Position) -> None:
        self._key = self._key or self._find_key()
        self._sync(position.file)
        checkpoint = self._key.sign(position, self._moments.text(time.time_ns()))
        self._published = position
        log.info("audit.checkpoint", checkpoint=checkpoint)
        for courier in self._couriers:
            courier.give(checkpoint)

    def _sync(self, file: str) -> None:
        with suppress(FileNotFoundError):  # it was compressed meanwhile, and synced then
            descriptor = os.open(self._folder / file, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


class _Courier:
    """Brings a sink the newest checkpoint; while it fails, the newest again every five seconds."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._newest: Mapping[str, Any] | None = None
        self._is_ending = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"audit.{sink.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def give(self, checkpoint: Mapping[str, Any]) -> None:
        with self._changed:
            self._newest = checkpoint
            self._changed.notify()

    def stop(self) -> bool:
        """It tries once more what it has."""
        with self._changed:
            self._is_ending = True
            self._changed.notify()
        return not self._thread.is_alive()

    def _run(self) -> None:
        is_failing = is_ending = False
        while not is_ending:
            with self._changed:
                self._changed.wait_for(lambda: self._newest is not None or self._is_ending)
                checkpoint, self._newest, is_ending = self._newest, None, self._is_ending
            if checkpoint is None:
                continue
            try:
                self._sink.publish(checkpoint)
                is_failing = False
            except Exception as exc:  # whatever a sink does, the trail goes on
                if not is_failing:
                    log.error("audit.checkpoint_failed", sink=self._sink.name, reason=type(exc).__name__)
                is_failing = True
                self._wait_with(checkpoint)

    def _wait_with(self, checkpoint: Mapping[str, Any]) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_ending, _RETRY_S)
            if not self._is_ending:
                self._newest = self._newest or checkpoint
