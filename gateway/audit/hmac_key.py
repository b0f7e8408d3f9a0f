"""The installation's key for what stands in the trail as `hmac:<kid>:<hex>`: configured, or made once."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.config import Secret

FILE_NAME = "hmac.key"
MIN_CHARACTERS = 16
_HEX_DIGITS = 32
"""128 bits: enough that no two values of a trail look alike."""


class HmacKeyUnusable(Exception):
    """There is no key, or none that can be used. The message never shows it."""


@dataclass(frozen=True)
class HmacKey:
    """`kid` names the key in what it marked: the first 8 hex digits of a digest of it."""

    kid: str
    _secret: bytes = field(repr=False)

    @classmethod
    def of(cls, text: str) -> HmacKey:
        secret = text.encode("utf-8", "surrogatepass")
        return cls(hashlib.sha256(b"threads-gateway audit kid\0" + secret).hexdigest()[:8], secret)

    def mark(self, value: str | bytes) -> str:
        """What stands in place of a value: the same for the same value, whatever the field."""
        data = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
        return f"hmac:{self.kid}:{hmac.digest(self._secret, data, 'sha256').hex()[:_HEX_DIGITS]}"


def load_hmac_key(folder: Path, configured: Secret | None = None, *, make: bool = True) -> HmacKey:
    """The configured key, else the one beside the trail, which is made at first use if `make`. Of processes that make
    one at the same moment all get the same.

    Raises HmacKeyUnusable when there is none and none is to be made, or the file does not hold one; OSError.
    """
    if configured is not None:
        return HmacKey.of(configured.reveal())
    path = folder / FILE_NAME
    if make and not path.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make(path)
    try:
        text = path.read_text().strip()
    except FileNotFoundError as exc:
        raise HmacKeyUnusable(f"{path} is not there") from exc
    except UnicodeDecodeError as exc:
        raise HmacKeyUnusable(f"{path} does not hold a key") from exc
    if len(text) < MIN_CHARACTERS:
        raise HmacKeyUnusable(f"{path} does not hold a key")
    return HmacKey.of(text)


def _make(path: Path) -> None:
    """Write a new key whole and give it the name, unless another process was first: a name is given once."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
