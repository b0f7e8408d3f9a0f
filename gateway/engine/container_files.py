"""Names of files that a code interpreter made: they lie in its container at the vendor, not among the account's files.

One id names file and container, so that a public id leads to both without a table. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]

_JOINED = re.compile(r"file-cntr-(\d{1,4})-(.+)", re.DOTALL)
"""No other id begins so: OpenAI's files have no second hyphen."""


def join_file(file: str, container: str) -> str:
    return f"file-cntr-{len(container)}-{container}{file}"


def split_file(joined: str) -> tuple[str, str] | None:
    """File and container; None for any other file's id."""
    found = _JOINED.fullmatch(joined)
    if found is None or not 0 < int(found[1]) < len(found[2]):
        return None
    length = int(found[1])
    return found[2][length:], found[2][:length]


def with_one_id(made: Mapping[str, Any]) -> Json:
    """`{"file_id", "container_id"}`, as a model API tells of a file, with one id for both; others as they are."""
    told = dict(made)
    container = told.pop("container_id", None)
    return {**told, "file_id": join_file(told["file_id"], container)} if container else told
