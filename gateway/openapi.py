"""The API's own description at `/openapi.json`, for those who write or generate clients. `openapi.yaml` is its text."""

from __future__ import annotations

import asyncio
import threading
from functools import cache
from importlib.resources import files

import orjson
from ruamel.yaml import YAML

from gateway import __version__
from gateway.model import Reply

PATH = "/openapi.json"
_HEADERS = {"Cache-Control": "public, max-age=3600"}
_reading = threading.Lock()


async def page(method: str, path: str) -> Reply | None:
    """The answer for the document's path, else None. The first one is read in a thread, because that takes the better
    part of a second; gateways that nobody asks never read it."""
    if path != PATH or method not in ("GET", "HEAD"):
        return None
    return Reply(200, await asyncio.to_thread(document), _HEADERS)


def document() -> bytes:
    """The OpenAPI 3.1 document as JSON; blocks the first time."""
    with _reading:  # those who ask meanwhile wait for the one that reads
        return _read()


@cache
def _read() -> bytes:
    text = files("gateway").joinpath("openapi.yaml").read_text("utf-8")
    described = YAML(typ="safe", pure=True).load(text)
    described["info"]["version"] = __version__
    return orjson.dumps(described)
