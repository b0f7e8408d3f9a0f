"""Bodies that the policy keeps, in files apart from the records that name them.

    bodies/<tenant>-<digest>/<process>-<hour>.jsonl.zst

A file is a row of zstd frames, one a body, each one JSON line: `{"request_id", "part", "type", "salt", "body"}`; so
`zstd -dc` reads it. The record says where its frame lies (`ref`: file, offset, length) and the HMAC-SHA256 of the body
under the salt that lies beside it. When the file goes the salt goes, and what stays in the record tells nothing of the
body, not even to whoever can guess it.

One file for each tenant and hour: what is too old goes with its file, and one tenant's bodies go without a look at
another's. All of it runs in the trail's writer thread, one call at a time, and raises OSError as disks do.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import hmac
import os
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import orjson
import zstandard

from gateway import codec
from gateway.audit.redaction import Redactor

if TYPE_CHECKING:
    from gateway.config import AuditBodies

Part = Literal["request", "answer"]

_DEPTH_LIMIT = 200
_READ_FACTOR = 16
_OPEN_FILES = 64
_HOUR_S = 3600
_SALT_BYTES = 16
_REF = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*\.jsonl\.zst):(\d{1,15}):(\d{1,10})")
_FILE = re.compile(r".+-(\d{8}T\d{2})\.jsonl\.zst")
_JSON = re.compile(r"application/(?:[\w.+-]*\+)?json")
_LARGEST_LINE = 1 << 28


class BodyGone(Exception):
    """The body was deleted: its time was over, its tenant was erased, or the disk was cleaned."""


class BodyAltered(Exception):
    """What lies there is not what the record was written for."""


@dataclass(frozen=True)
class Piece:
    """A body: `raw` as the caller sent or got it, None if it was never held whole; `size_bytes` whatever is held."""

    raw: bytes | None
    size_bytes: int
    type: str | None = "application/json"

    @classmethod
    def of(cls, raw: bytes, content_type: str | None = "application/json") -> Piece:
        return cls(raw, len(raw), content_type)


@dataclass(frozen=True)
class Content:
    """What a record is to keep; `tenant` is the tenant's immutable id. Nothing of it is changed afterwards."""

    tenant: str
    request_id: str
    request: Piece | None = None
    answer: Piece | None = None


class Deleted(NamedTuple):
    """A file of bodies that is no more."""

    file: str
    bytes: int
    why: Literal["age", "size", "erased"]


@dataclass
class _File:
    """An open file, and where its next frame begins."""

    name: str
    descriptor: int
    size_bytes: int
    is_synced: bool = True


class Bodies:
    """Writes and deletes. One for the process; `process` names it among those that share the folder. `is_synced`: what
    is kept is on the disk itself. `retain` may run beside the others, which take turns."""

    def __init__(
        self,
        folder: Path,
        process: str,
        settings: AuditBodies,
        redactor: Redactor,
        *,
        is_synced: bool = False,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._process = process
        self._settings = settings
        self._redactor = redactor
        self._is_synced = is_synced
        self._now = now
        self._files: OrderedDict[str, _File] = OrderedDict()
        self._compressor = zstandard.ZstdCompressor(level=3)

    def keep(self, content: Content) -> Mapping[str, Any]:
        """Write the bodies of a record; the record's `content`. Raises OSError; what was written until
        then is named by no record, and goes with its file."""
        parts: tuple[tuple[Part, Piece | None], ...] = (("request", content.request), ("answer", content.answer))
        kept: dict[str, Any] = {part: self._keep(content, part, piece) for part, piece in parts if piece is not None}
        if self._is_synced:
            self.sync()
        return kept

    def _keep(self, content: Content, part: Part, piece: Piece) -> dict[str, Any]:
        told: dict[str, Any] = {"type": _type_of(piece), "bytes": piece.size_bytes}
        is_json = bool(_JSON.match(piece.type or ""))
        body = self._redacted(piece) if is_json else self._binary(piece)
        if body is None:
            digest = self._redactor.mark_bytes(piece.raw) if piece.raw is not None else None
            return told | {"kept": "digest", "digest": digest}
        shown = cut(body, self._settings.max_bytes)
        salt = secrets.token_bytes(_SALT_BYTES)
        line = {"request_id": content.request_id, "part": part, "type": told["type"], "salt": salt.hex(), "body": shown}
        ref = self._append(content.tenant, self._compressor.compress(orjson.dumps(line) + b"\n"))
        is_whole = shown == body and (is_json or piece.size_bytes <= _binary_bytes(self._settings))
        encoding = {} if is_json else {"encoding": "base64"}
        kept = {"kept": "whole" if is_whole else "cut", "ref": ref, "hmac": _digest(salt, shown)}
        return told | encoding | kept

    def _redacted(self, piece: Piece) -> str | None:
        """JSON as it may be kept; None for what is no JSON, or too much of it to be searched."""
        if piece.raw is None or len(piece.raw) > self._settings.max_bytes * _READ_FACTOR:
            return None
        try:
            document = codec.loads(piece.raw)
        except ValueError:
            return None
        if codec.is_deeper_than(document, piece.raw, _DEPTH_LIMIT):
            return None
        return codec.dumps(self._redactor.document(document)).decode()

    def _binary(self, piece: Piece) -> str | None:
        if piece.raw is None or not self._settings.binary:
            return None
        return base64.b64encode(piece.raw[: _binary_bytes(self._settings)]).decode()

    def _append(self, tenant: str, frame: bytes) -> str:
        """Raises OSError, and then the file is as it was."""
        file = self._open(tenant)
        start = file.size_bytes
        try:
            written = os.write(file.descriptor, frame)
            if written != len(frame):
                raise OSError(errno.ENOSPC, "the disk took a part of it only", file.name)
        except OSError:
            os.ftruncate(file.descriptor, start)
            raise
        file.size_bytes += written
        file.is_synced = False
        return f"{file.name}:{start}:{written}"

    def _open(self, tenant: str) -> _File:
        """The tenant's file of this hour, unless somebody has deleted it; one for a tenant, a few dozen in all."""
        name = f"{folder_of(tenant)}/{self._process}-{_hour(self._now())}.jsonl.zst"
        file = self._files.get(tenant)
        if file is not None and file.name == name and os.fstat(file.descriptor).st_nlink:
            self._files.move_to_end(tenant)
            return file
        if file is not None:
            _close(self._files.pop(tenant))
        path = self._folder / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
        file = self._files[tenant] = _File(name, descriptor, os.fstat(descriptor).st_size)
        if len(self._files) > _OPEN_FILES:
            _close(self._files.popitem(last=False)[1])
        return file

    def sync(self) -> None:
        """Have everything that was kept on the disk itself. Raises OSError."""
        for file in self._files.values():
            if not file.is_synced:
                os.fsync(file.descriptor)
                file.is_synced = True

    def close(self) -> None:
        """Raises OSError when something cannot be brought to the disk."""
        while self._files:
            _close(self._files.popitem()[1])

    def retain(self) -> list[Deleted]:
        """Delete what is too old, and the oldest of what is too much. Raises OSError."""
        hour = _hour(self._now() - self._settings.keep_s - _HOUR_S)
        files = sorted(files_in(self._folder), key=lambda each: (_hour_of(each), each.name))
        deleted = [_delete(path, self._folder, "age") for path in files if _hour_of(path) < hour]
        left = [(path, _size(path)) for path in files if _hour_of(path) >= hour]
        excess = sum(size for _, size in left) - self._settings.keep_bytes
        for path, size in left:
            if excess <= 0:
                break
            deleted.append(_delete(path, self._folder, "size"))
            excess -= size
        return deleted


def erase(folder: Path, tenant: str) -> list[Deleted]:
    """Delete all bodies of one tenant, also beside gateways that run: they begin new files. Raises OSError."""
    return [_delete(path, folder, "erased") for path in files_in(folder) if path.parent.name == folder_of(tenant)]


def sizes_of(folder: Path, tenant: str) -> list[int] | None:
    """The bytes of each file of one tenant; None where there is not even a folder."""
    own = folder / folder_of(tenant)
    if not own.is_dir():
        return None
    return [_size(path) for path in files_in(folder) if path.parent == own]


def remove_folder(folder: Path, tenant: str) -> None:
    """Unless something is in it."""
    with suppress(OSError):
        (folder / folder_of(tenant)).rmdir()


def read(folder: Path, kept: Mapping[str, Any]) -> str:
    """The body that one part of a record's `content` names, proven to be the one. Raises BodyGone, BodyAltered, and
    OSError for a disk that does not let itself be read."""
    place = _REF.fullmatch(str(kept.get("ref")))
    if place is None:
        raise BodyAltered("the record names no place")
    name, start, length = place[1], int(place[2]), int(place[3])
    try:
        with (folder / name).open("rb") as file:
            file.seek(start)
            frame = file.read(length)
    except FileNotFoundError as exc:
        raise BodyGone(f"{name} is not there") from exc
    try:
        if not 0 <= zstandard.frame_content_size(frame) <= _LARGEST_LINE:
            raise ValueError("no frame of ours")
        line = orjson.loads(zstandard.ZstdDecompressor().decompress(frame))
        salt, body = bytes.fromhex(line["salt"]), line["body"]
        digest = _digest(salt, body)
    except (zstandard.ZstdError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise BodyAltered(f"{name} at {start} is no body") from exc
    if not hmac.compare_digest(digest, str(kept.get("hmac"))):
        raise BodyAltered(f"{name} at {start} is another body")
    return str(body)


def _binary_bytes(settings: AuditBodies) -> int:
    """How much of what is no JSON is kept: in base64 it is a third longer."""
    return settings.max_bytes // 4 * 3


def folder_of(tenant: str) -> str:
    """The name of a tenant's folder; some disks do not tell `a` from `A`."""
    return f"{tenant[:64]}-{hashlib.sha256(tenant.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def files_in(folder: Path) -> Iterator[Path]:
    """Files of bodies, of every tenant."""
    for path in folder.glob("*/*.jsonl.zst"):
        if _FILE.fullmatch(path.name):
            yield path


def cut(text: str, max_bytes: int) -> str:
    """As much of a text as fits into so many bytes of UTF-8."""
    if len(text) <= max_bytes // 4:
        return text
    data = text.encode()
    return text if len(data) <= max_bytes else data[:max_bytes].decode("utf-8", "ignore")


def _type_of(piece: Piece) -> str | None:
    """The media type alone: its parameters may hold anything."""
    plain = (piece.type or "").partition(";")[0].strip().lower()
    return plain if re.fullmatch(r"[a-z]{1,20}/[a-z0-9.+-]{1,80}", plain) else None


def _digest(salt: bytes, body: str) -> str:
    return hmac.digest(salt, body.encode(), "sha256").hex()


def _hour(at_s: float) -> str:
    return time.strftime("%Y%m%dT%H", time.gmtime(at_s))


def _hour_of(path: Path) -> str:
    found = _FILE.fullmatch(path.name)
    assert found is not None
    return found[1]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _delete(path: Path, folder: Path, why: Literal["age", "size", "erased"]) -> Deleted:
    size = _size(path)
    path.unlink(missing_ok=True)
    return Deleted(str(path.relative_to(folder)), size, why)


def _close(file: _File) -> None:
    try:
        if not file.is_synced:
            os.fsync(file.descriptor)
    finally:
        os.close(file.descriptor)
