"""Which request this is: two that ask for the same have the same digest."""

from __future__ import annotations

import hashlib

from gateway import codec
from gateway.multipart import PartsDigest
from gateway.operations import Operation, Version
from gateway.phases.locate import Located
from gateway.phases.receive import Body
from gateway.phases.rewrite_out import path_of


async def digest(operation: Operation, located: Located, version: Version, body: Body) -> str:
    """Of provider, method, path and query with upstream ids, version of the protocol, and body. Waits for the disk
    where the body lies there.

    JSON counts by what it says, because some clients write the same object in another order each time. A form counts
    by its parts, because its boundary is another each time; what cannot be read as a form counts byte by byte.
    """
    said = hashlib.blake2b(digest_size=32)
    place = (located.target.provider.id, operation.method, path_of(operation, located.path_ids), version)
    query = (word for pair in sorted(located.query) for word in pair)
    for word in (*place, *query):
        data = word.encode("utf-8", "surrogatepass")
        said.update(len(data).to_bytes(4, "big") + data)
    said.update(b"\xff\xff\xff\xff")
    said.update(await _digest_body(body))
    return said.hexdigest()


async def _digest_body(body: Body) -> bytes:
    if body.document is not None:
        return _digest_bytes(codec.canonical(body.document))
    parts, whole = PartsDigest(body.content_type or ""), hashlib.blake2b(digest_size=32)
    if (chunks := body.chunks()) is None:
        parts.feed(body.raw)
        return parts.digest() or _digest_bytes(body.raw)
    async for chunk in chunks:
        parts.feed(chunk)
        whole.update(chunk)
    return parts.digest() or whole.digest()


def _digest_bytes(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=32).digest()
