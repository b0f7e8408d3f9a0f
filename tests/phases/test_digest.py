"""Which requests are the same."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given

from gateway import codec
from gateway.operations import match
from gateway.phases.digest import digest
from gateway.phases.receive import Body
from gateway.spool import Spool, SpooledFile
from tests.values import any_json, located, public, unhurried

THREAD, OTHER = public("t_1"), public("t_2")
FORM = "multipart/form-data; boundary=edge"


def json_body(raw: bytes) -> Body:
    return Body(raw, codec.loads(raw), "application/json")


def form_body(content: bytes, boundary: bytes = b"edge") -> Body:
    raw = b'--%s\r\nContent-Disposition: form-data; name="file"\r\n\r\n%s\r\n--%s--' % (boundary, content, boundary)
    return Body(raw, None, f"multipart/form-data; boundary={boundary.decode()}")


async def of(request: str = f"POST /v1/threads/{THREAD}/messages", raw: bytes = b"{}", version: Any = "v2") -> str:
    found = match("POST", request.partition(" ")[2].partition("?")[0])
    body = json_body(raw) if raw else Body()
    return await digest(found.operation, located(request), version, body)


async def test_another_request_has_another_digest() -> None:
    digests = [
        await of(),
        await of(raw=b'{"a":1}'),
        await of(raw=b'{"a":"1"}'),
        await of(raw=b'{"a":[1]}'),
        await of(raw=b""),
        await of(version="v1"),
        await of(f"POST /v1/threads/{THREAD}/messages?a=b"),
        await of(f"POST /v1/threads/{THREAD}/messages?ab="),
        await of(f"POST /v1/threads/{THREAD}/runs"),
        await of(f"POST /v1/threads/{OTHER}/messages"),
        await of(f"POST /v1/threads/{THREAD}"),
        await of("POST /v1/threads"),
        await of("POST /providers/side/v1/threads"),
    ]
    assert len(set(digests)) == len(digests)


async def test_what_makes_no_difference() -> None:
    """The spelling of an id in the path after a signing key was rotated, the base URL, the order of a query."""
    path = f"/threads/{THREAD}/messages"
    assert await of(f"POST /threads/{public('t_1', key=1)}/messages") == await of(f"POST /v1{path}")
    assert await of(f"POST {path}?a=b&c=d") == await of(f"POST /v1{path}?c=d&a=b")


def shuffled(value: Any, chance: random.Random) -> Any:
    if isinstance(value, dict):
        names = list(value)
        chance.shuffle(names)
        return {name: shuffled(value[name], chance) for name in names}
    return [shuffled(item, chance) for item in value] if isinstance(value, list) else value


@unhurried
@given(value=any_json)
def test_json_counts_by_what_it_says(value: Any) -> None:
    """Whatever it holds, lone surrogates and long integers included."""
    chance = random.Random(0)
    written = [json.dumps(shuffled(value, chance), indent=space).encode() for space in (None, 1, None)]
    assert len({codec.canonical(codec.loads(raw)) for raw in written}) == 1
    assert codec.loads(codec.canonical(codec.loads(written[0]))) == codec.loads(written[0])


@pytest.mark.parametrize("raw", [b'{"a":1,"b":2}', b'{"a":12345678901234567890123,"b":2}', b'{"a":"\\ud800","b":2}'])
async def test_the_order_of_names_makes_no_difference(raw: bytes) -> None:
    backwards = json.dumps(dict(reversed(json.loads(raw).items()))).encode()
    assert raw != backwards
    assert await of(raw=raw) == await of(raw=backwards)


async def test_a_form_counts_by_its_parts_in_memory_and_on_disk() -> None:
    place, operation = located("POST /v1/files"), match("POST", "/v1/files").operation
    content = b"\r\n--x" * 200_000
    one, two, other = form_body(content), form_body(content, b"another"), form_body(content + b"!")
    spool = Spool(10_000_000)
    spooled = SpooledFile(spool)
    await spooled.append(two.raw)
    on_disk = Body(b"", None, two.content_type, spooled)
    digests = [await digest(operation, place, "v2", body) for body in (one, two, on_disk, other)]
    assert digests[0] == digests[1] == digests[2] != digests[3]
    on_disk.close()


async def test_what_is_no_form_counts_byte_by_byte() -> None:
    place, operation = located("POST /v1/files"), match("POST", "/v1/files").operation
    spooled = SpooledFile(Spool(1000))
    await spooled.append(b"no form")
    bodies = [Body(b"no form", None, FORM), Body(b"", None, FORM, spooled), Body(b"no farm", None, FORM)]
    digests = [await digest(operation, place, "v2", body) for body in bodies]
    assert digests[0] == digests[1] != digests[2]
    spooled.close()
