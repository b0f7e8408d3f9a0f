"""Bytes that are nearly HTTP, many connections at once: requests cut, doubled, mixed up and sent in pieces."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import re
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.conftest import eventually
from tests.fuzz.conftest import KEY, WITHIN_S, Arena
from tests.wire import Answer, Wire, chunked, request

in_arena = pytest.mark.asyncio(loop_scope="module")
FEW = settings(
    max_examples=6,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],  # what happens on many connections at once does not happen again with fewer
    suppress_health_check=list(HealthCheck),
)
MANY = settings(FEW, max_examples=300, derandomize=False, print_blob=True)
AT_ONCE = 24
RECEIVE_S, KEEPALIVE_S = 0.2, 0.4
SETTINGS = {"limits__receive_s": RECEIVE_S, "listener__keepalive_s": KEEPALIVE_S}

CHUNKED = "Transfer-Encoding: chunked"
JSON = "Content-Type: application/json"
FORM = "Content-Type: multipart/form-data; boundary=x"
SAID = b'{"role":"user","content":"hello"}'
UPLOAD = (
    b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nassistants\r\n'
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\nwords\r\n--x--\r\n'
)
MESSAGES = "/v1/threads/{thread}/messages"
WELL_SAID = (
    request("GET", "/healthz"),
    request("GET", "/v1/threads/{thread}"),
    request("GET", f"{MESSAGES}?limit=2&order=asc&after={{message}}", b"", "OpenAI-Beta: assistants=v1"),
    request("POST", MESSAGES, SAID),
    request("POST", MESSAGES, chunked(SAID[:9], SAID[9:], b""), CHUNKED, JSON),
    request("POST", MESSAGES, gzip.compress(SAID, mtime=0), "Content-Encoding: gzip"),
    request("POST", "/v1/files", UPLOAD, FORM),
    request("POST", "/v1/files", chunked(UPLOAD[:50], UPLOAD[50:], b""), CHUNKED, FORM),
    request("POST", "/v1/threads/{thread}/runs", b'{"assistant_id":"{assistant}","stream":true}'),
    request("POST", MESSAGES, SAID, "Expect: 100-continue"),
    request("DELETE", "/v1/threads/{thread}", b"", "Connection: close"),
    request("GET", "/openapi.json", version="1.0"),
)
JUNK = (
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\r",
    b"\x00",
    b" ",
    b":",
    b"\xff\xfe",
    b"0\r\n\r\n",
    b"-1\r\n",
    b"fffffffffffffffff\r\n",
    b"Content-Length: 3\r\n",
    b"Content-Length: 99999999999999999999\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: xchunked\r\n",
    b"Content-Encoding: gzip\r\n",
    b"Content-Encoding: deflate\r\n",
    b"Content-Type: text/plain\r\n",
    b"Connection: close\r\n",
    b"Connection: upgrade\r\nUpgrade: websocket\r\n",
    b"Expect: 100-continue\r\n",
    b"Host: \r\n",
    b"X: {long}\r\n",
    b"{many}",
    b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    b"{deep}",
    b"1e999",
)


@dataclass(frozen=True)
class Talk:
    """What one connection sends, in pieces, and how it ends: it goes on listening, sends no more, or is gone."""

    pieces: tuple[bytes, ...]
    ending: str


@st.composite
def talks(draw: Any) -> Talk:
    said = b"".join(draw(st.lists(st.sampled_from(WELL_SAID), min_size=1, max_size=3)))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(said)))
        stop = draw(st.integers(start, min(start + 60, len(said)))) if draw(st.booleans()) else start
        junk = draw(st.sampled_from(JUNK) | st.binary(max_size=6) | st.just(said[:start]))
        said = said[:start] + junk + said[stop:]
    cuts = sorted(draw(st.lists(st.integers(0, len(said)), max_size=4)))
    pieces = tuple(said[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(said)], strict=True))
    return Talk(pieces, draw(st.sampled_from(["listens", "listens", "listens", "sends no more", "is gone"])))


async def hold(arena: Arena, talk: Talk) -> list[Answer]:
    """Every whole answer that a connection got until the gateway closed it."""
    wire, answers = await Wire.dial(arena.gateway.url), []
    rest = b""
    try:
        for piece in talk.pieces:
            await wire.send(arena.fill(piece))
            await asyncio.sleep(0.001)
        if talk.ending == "sends no more":
            with contextlib.suppress(OSError):  # it is closed already
                wire.half_close()
        while talk.ending != "is gone":
            answers.append(await wire.answer())
    except EOFError as end:
        rest = end.args[0]
    except ConnectionError:
        pass  # the gateway had said all it wanted to, and did not read on
    finally:
        wire.close(reset=talk.ending == "is gone")
    assert not rest or talk.ending == "sends no more", rest
    return answers


def words_of(said: bytes) -> list[bytes]:
    """What looks like an id or a piece of one, longest first; and the key, which stands anywhere here."""
    return [*sorted(set(re.findall(rb"[A-Za-z]{2,6}[_-][0-9A-Za-z]{24,}", said)), key=len, reverse=True), KEY]


async def check(arena: Arena, talk: Talk) -> None:
    try:
        async with asyncio.timeout(WITHIN_S):
            answers = await hold(arena, talk)
        for answer in answers:
            arena.check(answer, words_of(arena.fill(b"".join(talk.pieces))))
    except (AssertionError, ValueError, TimeoutError) as exc:
        exc.add_note(f"after {talk}")
        raise


async def play(arena: Arena, batch: list[Talk]) -> None:
    arena.reset()
    arena.hang_up()
    await asyncio.gather(*(check(arena, talk) for talk in batch))
    await eventually(lambda: not arena.connections, within_s=WITHIN_S)
    arena.check_behind([KEY])
    assert (await arena.ask(request("GET", "/healthz"))).status == 200


batches = st.lists(talks(), min_size=AT_ONCE, max_size=AT_ONCE)


@in_arena
@FEW
@given(batch=batches)
async def test_nearly_http_gets_plain_answers_or_an_end(arena: Arena, batch: list[Talk]) -> None:
    """In time, and whoever comes next is served."""
    await play(arena, batch)


@pytest.mark.long
@in_arena
@MANY
@given(batch=batches)
async def test_much_that_is_nearly_http_gets_plain_answers_or_an_end(arena: Arena, batch: list[Talk]) -> None:
    await play(arena, batch)


SLOW = {
    "no head": b"GET /v1/threads HTT",
    "no end of the head": b"GET /v1/threads HTTP/1.1\r\nHost: x\r\n",
    "no body": request("POST", MESSAGES, b"", JSON, "Content-Length: 10"),
    "half a body": request("POST", MESSAGES, SAID, JSON, "Content-Length: 4000"),
    "no chunk": request("POST", MESSAGES, b"", JSON, CHUNKED),
    "half a chunk": request("POST", MESSAGES, b"ff\r\n{", JSON, CHUNKED),
    "half a length of a chunk": request("POST", MESSAGES, b"f", JSON, CHUNKED),
    "no last chunk": request("POST", MESSAGES, chunked(SAID), JSON, CHUNKED),
    "half a gzip body": request(
        "POST", MESSAGES, gzip.compress(SAID)[:9], "Content-Encoding: gzip", "Content-Length: 40"
    ),
    "no body after leave": request("POST", MESSAGES, b"", JSON, "Content-Length: 10", "Expect: 100-continue"),
    "half a form": request("POST", "/v1/files", UPLOAD[:90], FORM, "Content-Length: 300"),
}


@in_arena
async def test_who_sends_too_slowly_is_let_go(arena: Arena) -> None:
    """All at once, each within the times of the configuration, and without a call to the provider."""
    arena.reset()
    clock = asyncio.get_running_loop().time
    began = clock()
    heard = await asyncio.gather(*(hold(arena, Talk((each,), "listens")) for each in SLOW.values()))
    assert clock() - began < RECEIVE_S + 2 * KEEPALIVE_S + 1
    for name, answers in zip(SLOW, heard, strict=True):
        statuses = [answer.status for answer in answers if answer.status != 100]
        assert statuses in ([], [408]) if "head" in name else statuses == [408], (name, answers)
        for answer in answers:
            arena.check(answer)
    assert arena.vendor.simulator.journal == []
