"""What single settings may be: secrets by reference, names, URLs, sizes and durations."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    HttpUrl,
    PlainValidator,
    ValidationInfo,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


_ENV = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class Secret:
    """A secret value. Only `reveal` shows it; repr, str and errors show where it came from."""

    __slots__ = ("_value", "origin")

    def __init__(self, value: str, origin: str) -> None:
        self._value = value
        self.origin = origin

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return f"<secret from {self.origin}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(_read_secret)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "pattern": r"^(\$\{[A-Za-z_][A-Za-z0-9_]*\}|file:.+)$"}


def _read_secret(value: Any, info: ValidationInfo) -> Secret:
    """Resolve a reference. Never repeats `value` in an error unless it is a reference: it may be the secret itself."""
    source: Source = info.context or Source()
    if isinstance(value, str) and (match := _ENV.fullmatch(value)):
        found = source.environ.get(match[1], "")
        if not found:
            raise PydanticCustomError("secret", f"the environment has no {match[1]}")
        return Secret(found, value)
    if isinstance(value, str) and value.startswith("file:"):
        path = source.folder / value.removeprefix("file:")
        source.files.add(path)
        try:
            found = path.read_text().strip()
        except (OSError, ValueError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else "not text"
            raise PydanticCustomError("secret", f"{value} cannot be read: {reason}") from exc
        if not found:
            raise PydanticCustomError("secret", f"{value} is empty")
        return Secret(found, value)
    raise PydanticCustomError("secret", "a secret is written as ${ENV_NAME} or file:/path, never as itself")


class Source:
    """Where references of a configuration are resolved: the environment and the folder of the file."""

    def __init__(self, folder: Path = Path(), environ: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.environ = os.environ if environ is None else environ
        self.files: set[Path] = set()
        """What was read besides the configuration itself: files with secrets."""


def _check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise PydanticCustomError("name", "a name has letters, digits, '.', '_' and '-', at most 64")
    return name


def _digest_of(value: Any, info: ValidationInfo) -> str:
    """A tenant's key is kept as its SHA-256; a reference is read, digested and forgotten."""
    if isinstance(value, str) and _DIGEST.fullmatch(value):
        return value
    if isinstance(value, str) and value.startswith("sha256:"):
        raise PydanticCustomError("digest", "sha256: is followed by 64 lower-case hex digits")
    return digest_of_key(_read_secret(value, info).reveal())


def digest_of_key(key: str) -> str:
    """How a tenant's key is written in the configuration without being shown."""
    return "sha256:" + hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def _existing_file(value: Any, info: ValidationInfo) -> Path:
    source: Source = info.context or Source()
    path = source.folder / str(value)
    if not path.is_file():
        raise PydanticCustomError("file", "no such file")
    return path


def _url_or_secret(value: Any, info: ValidationInfo) -> Secret:
    """A URL may stand in the file as long as it holds no password."""
    if isinstance(value, str) and "://" in value:
        if "@" in value:
            raise PydanticCustomError("secret", "a URL with a password is written as ${ENV_NAME} or file:/path")
        return Secret(value, "the configuration")
    return _read_secret(value, info)


def _no_credentials(url: HttpUrl) -> HttpUrl:
    if url.username or url.password or url.query or url.fragment:
        raise PydanticCustomError("secret", "a base URL has no credentials, no query and no fragment")
    return url


Name = Annotated[str, AfterValidator(_check_name)]


BaseUrl = Annotated[HttpUrl, AfterValidator(_no_credentials)]


SecretUrl = Annotated[Secret, PlainValidator(_url_or_secret, json_schema_input_type=str)]


KeyDigest = Annotated[
    str, BeforeValidator(_digest_of, json_schema_input_type=str), Field(json_schema_extra={"type": "string"})
]


ExistingFile = Annotated[Path, BeforeValidator(_existing_file, json_schema_input_type=str)]


Bytes = Annotated[int, Field(gt=0)]


Seconds = Annotated[float, Field(gt=0)]


Money = Annotated[Decimal, Field(ge=0, allow_inf_nan=False)]


class Section(BaseModel):
    """Frozen, and a setting nobody knows is a fault: a misspelt limit must not be a missing limit."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=False)
