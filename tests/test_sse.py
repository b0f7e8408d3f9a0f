"""Server-sent events: cut anywhere, they are the same events."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sse import Event, EventParser, EventTooLarge
from tests.values import unhurried

BOM = b"\xef\xbb\xbf"
E = Event


def parse(pieces: Iterable[bytes], parser: EventParser | None = None) -> list[Event]:
    parser = parser or EventParser()
    return [event for piece in pieces for event in parser.feed(piece)]


def bytewise(raw: bytes) -> list[bytes]:
    return [raw[place : place + 1] for place in range(len(raw))]


CASES: dict[str, tuple[bytes, list[Event]]] = {
    "recorded": (
        b'event: thread.created\ndata: {"id":"thread_1"}\n\nevent: done\ndata: [DONE]\n\n',
        [E("thread.created", b'{"id":"thread_1"}'), E("done", b"[DONE]")],
    ),
    "CR LF": (b"event: a\r\ndata: 1\r\n\r\ndata: 2\r\n\r\n", [E("a", b"1"), E("", b"2")]),
    "CR": (b"event: a\rdata: 1\r\rdata: 2\r\r", [E("a", b"1"), E("", b"2")]),
    "ends mixed": (
        b"event: a\rdata: 1\r\n\ndata: 2\n\r\ndata: 3\r\r\ndata: 4\n\r",
        [E("a", b"1"), *(E("", number) for number in (b"2", b"3", b"4"))],
    ),
    "two lines of data": (b"data: a\ndata: b\n\n", [E("", b"a\nb")]),
    "data in pieces": (b"data: a\nevent: x\ndata:\ndata: b\n\n", [E("x", b"a\n\nb")]),
    "one space only": (b"data:  a \ndata:b\n\n", [E("", b" a \nb")]),
    "colons": (b"data: a: b:c\nevent: x:y\n\n", [E("x:y", b"a: b:c")]),
    "no colon": (b"data\n\n", [E("", b"")]),
    "empty data": (b"data:\n\ndata: \n\n", [E("", b""), E("", b"")]),
    "event alone": (b"event: ping\n\n", [E("ping", None)]),
    "last event name": (b"event: a\nevent: b\ndata: 1\n\n", [E("b", b"1")]),
    "comment": (b": keep-alive\n\n:\n\n", [E("", None, [b": keep-alive"]), E("", None, [b":"])]),
    "comment inside": (b"event: a\n: note\ndata: 1\n\n", [E("a", b"1", [b": note"])]),
    "id and retry": (
        b"id: 7\nretry: 10\ndata: 1\n\nid\n\n",
        [E("", b"1", [b"id: 7", b"retry: 10"]), E("", None, [b"id"])],
    ),
    "unknown field": (b"Data: x\ndata : y\nfoo\n\n", [E("", None, [b"Data: x", b"data : y", b"foo"])]),
    "many blank lines": (b"\n\n\r\n\r\rdata: 1\n\n\n\n\ndata: 2\n\n", [E("", b"1"), E("", b"2")]),
    "BOM": (BOM + b"data: 1\n\ndata: 2\n\n", [E("", b"1"), E("", b"2")]),
    "BOM and blank line": (BOM + b"\ndata: 1\n\n", [E("", b"1")]),
    "BOM only once": (b"data: 1\n\n" + BOM + b"data: 2\n\n", [E("", b"1"), E("", None, [BOM + b"data: 2"])]),
    "line ends of Unicode": (
        "data: a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\x00h\n\n".encode(),
        [E("", "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\x00h".encode())],
    ),
    "an event in a text": (
        b'data: {"text":"event: done\\ndata: [DONE]\\n\\n"}\n\n',
        [E("", b'{"text":"event: done\\ndata: [DONE]\\n\\n"}')],
    ),
    "no JSON": (b"data: <html>\ndata: \xff\xfe\n\n", [E("", b"<html>\n\xff\xfe")]),
    "name not UTF-8": (b"event: \xff\ndata: 1\n\n", [E("\ufffd", b"1")]),
}
"""Streams, and the events in them."""


@pytest.mark.parametrize(
    "trailing", [b"", b"data: begun", b": begun", b"event: x\n"], ids=["", "data", "comment", "line"]
)
@pytest.mark.parametrize(("raw", "events"), CASES.values(), ids=CASES)
def test_a_stream_is_the_same_events_however_it_arrives(raw: bytes, events: list[Event], trailing: bytes) -> None:
    for pieces in ([raw + trailing], [raw, trailing], bytewise(raw + trailing), [b"", raw, b"", trailing, b""]):
        parser = EventParser()
        assert parse(pieces, parser) == events
        assert parser.is_between_events == (not trailing)


_pieces = st.sampled_from(
    [b"\r", b"\n", b"\r\n", b"data: a", b"data:", b"event: e", b": c", b"id: 1", b"x", BOM, "\u2028".encode(), b":"]
)


def described(raw: bytes) -> list[Event]:
    """The rules once more, on a whole stream: lines, then blocks of lines between blank ones."""
    blocks: list[list[bytes]] = [[]]
    for line in re.split(rb"\r\n|\n|\r", raw.removeprefix(BOM))[:-1]:
        if line:
            blocks[-1].append(line)
        else:
            blocks.append([])
    events = []
    for block in blocks[:-1]:
        fields = [(line.partition(b":")[0], re.sub(rb"^[^:]*:? ?", b"", line, count=1), line) for line in block]
        data = [value for name, value, _ in fields if name == b"data"]
        names = [value.decode() for name, value, _ in fields if name == b"event"]
        others = [line for name, _, line in fields if name not in (b"data", b"event")]
        if data or others or any(names[-1:]):
            events.append(Event(names[-1] if names else "", b"\n".join(data) if data else None, others))
    return events


@unhurried
@given(st.lists(_pieces, max_size=30).map(b"".join), st.data())
def test_it_does_not_matter_where_a_stream_is_cut(raw: bytes, data: st.DataObject) -> None:
    places = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    pieces = [raw[start:end] for start, end in zip([0, *places], [*places, len(raw)], strict=True)]
    assert parse(pieces) == parse([raw]) == parse(bytewise(raw)) == described(raw)


_line = st.binary(max_size=20).map(lambda text: re.sub(rb"[\r\n]", b" ", text))
_name = st.text(max_size=20).map(lambda text: re.sub(r"[\r\n]", " ", text))
_other = st.sampled_from([b":", b": keep-alive", b"id: 7", b"retry: 10", b"foo"])


@unhurried
@given(_name, st.none() | st.lists(_line, min_size=1, max_size=3).map(b"\n".join), st.lists(_other, max_size=3))
def test_what_is_written_is_read_again(name: str, data: bytes | None, others: list[bytes]) -> None:
    event = Event(name, data, others)
    is_something = bool(name or others or data is not None)
    assert parse([b"data: before\n\n", event.encode()])[1:] == ([event] if is_something else [])


@pytest.mark.parametrize("end", [b"\n\n", b"\r\r", b"\r\n\r\n", b"\n\r", b"\r\n\r", b"\n\r\n"])
@pytest.mark.parametrize("is_cut", [False, True], ids=["whole", "bytewise"])
def test_an_event_is_given_out_at_its_last_byte(end: bytes, is_cut: bool) -> None:
    """A run's last words must not wait for bytes that come a minute later or never."""
    parser = EventParser()
    raw = b"data: 1" + end
    assert parse(bytewise(raw) if is_cut else [raw], parser) == [Event("", b"1")]
    assert parser.is_between_events
    assert parse([b"\n" if end.endswith(b"\r") else b"", b"data: 2" + end], parser) == [Event("", b"2")]


@pytest.mark.parametrize(
    ("left", "events"),
    [
        (b"", []),
        (b"\n", []),
        (b"data: [DONE]", [Event("", b"[DONE]")]),
        (b"event: done\ndata: [DONE]\n", [Event("done", b"[DONE]")]),
        (b"event: done\r\ndata: [DONE]\r", [Event("done", b"[DONE]")]),
        (b": bye", [Event("", None, [b": bye"])]),
        (BOM + b"data: 1", [Event("", b"1")]),
    ],
)
def test_the_end_of_a_stream_ends_its_last_event(left: bytes, events: list[Event]) -> None:
    parser = EventParser()
    assert parse(bytewise(left), parser) == []
    assert list(parser.close()) == events
    assert parser.is_between_events


@pytest.mark.parametrize(
    "raw",
    [
        b"x" * 101,  # one line without an end
        b"data: " + b"x" * 90 + b"\ndata: " + b"x" * 90,  # several lines
        b"data:\n" * 30,  # many short ones
        b": c\n" * 40,
    ],
)
def test_an_event_beyond_the_limit_is_refused(raw: bytes) -> None:
    for pieces in ([raw], bytewise(raw)):
        with pytest.raises(EventTooLarge, match="100 bytes"):
            parse(pieces, EventParser(100))


def test_many_events_together_may_be_larger_than_one() -> None:
    raw = (b"data: " + b"x" * 90 + b"\n\n") * 50
    for pieces in ([raw], bytewise(raw), [raw[place : place + 70] for place in range(0, len(raw), 70)]):
        assert len(parse(pieces, EventParser(100))) == 50
