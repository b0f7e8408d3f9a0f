"""A request as it was read from the socket, and the readers of what it carries."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from tests.simulators.threads_server.files import Content, Form
from tests.simulators.threads_server.refusal import Json, Refused


@dataclass(frozen=True)
class Ask:
    """A request that was read to its end. `path` is as on the wire, with the prefix and without the query."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


def bearer_key(headers: Mapping[str, str]) -> str | None:
    scheme, _, key = headers.get("Authorization", "").partition(" ")
    return key.strip() or None if scheme.lower() == "bearer" else None


def read_json(body: bytes) -> Json:
    """An empty body is an empty object. The standard library's parser keeps long integers whole."""
    try:
        decoded = json.loads(body) if body else {}
    except ValueError as exc:
        raise Refused("We could not parse the JSON body of your request.") from exc
    if not isinstance(decoded, dict):
        raise Refused("We could not parse the JSON body of your request: it is not an object.")
    return decoded


def read_form(content_type: str, body: bytes) -> Form:
    """Decode a multipart body. The content of the file is taken byte by byte as it came."""
    boundary = re.search(r'boundary="?([^";,]+)"?', content_type)
    if not content_type.lower().startswith("multipart/form-data") or boundary is None:
        raise Refused("Expected a multipart/form-data body.", status=415)
    fields, file = {}, None
    for part in (b"\r\n" + body).split(b"\r\n--" + boundary[1].encode())[1:-1]:
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        text = head.decode(errors="replace")
        name = re.search(r'[; ]name="([^"]*)"', text)
        filename = re.search(r'filename="([^"]*)"', text)
        if filename is not None:
            content_type_line = re.search(r"(?im)^content-type: *(.+?)\s*$", text)
            kind = content_type_line[1] if content_type_line else "application/octet-stream"
            file = Content(content, kind, filename[1].replace("%22", '"'))
        elif name is not None:
            fields[name[1]] = content.decode(errors="replace")
    return Form(fields, file)
