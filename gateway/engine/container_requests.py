"""Reading and deleting files that a code interpreter made, which the vendor has below their container. Pure.

They live as long as that: 20 minutes without use, as those say who document how long (Oracle's guide to its copy of
OpenAI's API, read 2026-11-22).
"""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import quote

from gateway.attempts import Sending
from gateway.engine.container_files import split_file
from gateway.phases.rewrite_out import url_of
from gateway.phases.send import Response

_BELOW = {"get_file": "", "delete_file": "", "get_file_content": "/content"}
"""Operations on one file, and where they are below a container's file."""


def to_container(sending: Sending) -> Sending | None:
    """The request as it goes to the file's container; None where it is about no such file."""
    below = _BELOW.get(sending.operation.name)
    found = split_file(sending.ids["file"]) if below is not None else None
    if found is None:
        return None
    file, container = (quote(each, safe="") for each in found)
    url = url_of(sending.target.provider, f"/containers/{container}/files/{file}{below}")
    return replace(sending, outbound=replace(sending.outbound, url=url))


def as_file(response: Response, sending: Sending) -> Response:
    """A success about a container's file in the shape of a Threads file. Such a file has `bytes`, `created_at`, `path`
    and `source` (OpenAI's reference and openai-python's types, read 2026-11-22)."""
    told = response.document
    if type(told) is not dict:
        return response
    if sending.operation.answers == "deleted":
        return replace(response, document={})  # its answer is made further out
    shown = {
        "id": sending.ids["file"],
        "object": "file",
        "bytes": told.get("bytes"),
        "created_at": told.get("created_at"),
        "filename": str(told.get("path") or "").rpartition("/")[2],
        "purpose": "assistants_output",
        "status": "processed",
        "status_details": None,
        "expires_at": None,
    }
    return replace(response, document=shown)
