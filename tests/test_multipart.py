"""Forms count by their parts, however their bytes arrive and whatever boundary stands between them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.multipart import PartsDigest
from tests.values import unhurried

Part = tuple[bytes, bytes]
PURPOSE = (b'Content-Disposition: form-data; name="purpose"', b"assistants")
FILE = (
    b'Content-Disposition: form-data; name="file"; filename="a.txt"\r\nContent-Type: text/plain',
    b"some\r\ntext\r\n",
)


def form(*parts: Part, boundary: bytes = b"edge", before: bytes = b"", behind: bytes = b"\r\n") -> bytes:
    body = b"".join(b"--" + boundary + b"\r\n" + head + b"\r\n\r\n" + content + b"\r\n" for head, content in parts)
    return before + body + b"--" + boundary + b"--" + behind


def digest(body: bytes, content_type: str = "multipart/form-data; boundary=edge", step: int = 0) -> bytes | None:
    parts = PartsDigest(content_type)
    for start in range(0, len(body), step or max(1, len(body))):
        parts.feed(body[start : start + (step or len(body))])
    return parts.digest()


WHOLE = digest(form(PURPOSE, FILE))

SAME = {
    "another boundary": (form(PURPOSE, FILE, boundary=b"other-1"), "multipart/form-data; boundary=other-1"),
    "one in quotes": (form(PURPOSE, FILE, boundary=b"a b:c"), 'multipart/form-data; boundary="a b:c"'),
    "one that is a beginning of the other": (form(PURPOSE, FILE, boundary=b"e"), "multipart/form-data; boundary=e"),
    "another parameter first": (form(PURPOSE, FILE), "Multipart/Form-Data; charset=utf-8; Boundary=edge"),
    "something before the form": (form(PURPOSE, FILE, before=b"a preamble\r\n"), "multipart/form-data; boundary=edge"),
    "something behind it": (form(PURPOSE, FILE, behind=b"\r\nan epilogue"), "multipart/form-data; boundary=edge"),
    "nothing behind it": (form(PURPOSE, FILE, behind=b""), "multipart/form-data; boundary=edge"),
    "blanks behind boundaries": (
        form(PURPOSE, FILE).replace(b"--edge\r\n", b"--edge \t\r\n"),
        "multipart/form-data; boundary=edge",
    ),
    "headers written otherwise": (
        form(PURPOSE, (b"CONTENT-TYPE:text/plain\r\nContent-disposition: " + FILE[0].split(b"\r\n")[0][21:], FILE[1])),
        "multipart/form-data; boundary=edge",
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_what_makes_no_difference(name: str) -> None:
    assert WHOLE is not None
    assert digest(*SAME[name]) == WHOLE


OTHERS = {
    "another content": form(PURPOSE, (FILE[0], b"some\r\ntexT\r\n")),
    "a line end less": form(PURPOSE, (FILE[0], b"some\r\ntext")),
    "another file name": form(PURPOSE, (FILE[0].replace(b"a.txt", b"b.txt"), FILE[1])),
    "another type": form(PURPOSE, (FILE[0].replace(b"plain", b"html"), FILE[1])),
    "another name": form((PURPOSE[0].replace(b"purpose", b"porpoise"), PURPOSE[1]), FILE),
    "another value": form((PURPOSE[0], b"vision"), FILE),
    "another order": form(FILE, PURPOSE),
    "a part less": form(FILE),
    "a part twice": form(PURPOSE, FILE, FILE),
    "a header that moved into the content": form(PURPOSE, (FILE[0].split(b"\r\n")[0], b"Content-Type: text/plain")),
    "no part": b"--edge--\r\n",
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_makes_a_difference(name: str) -> None:
    found = {digest(body) for body in OTHERS.values()}
    assert len(found) == len(OTHERS)
    assert digest(OTHERS[name]) not in (WHOLE, None)


NO_FORMS = {
    "nothing": b"",
    "no last boundary": form(PURPOSE, FILE)[:-6],
    "cut in a part": form(PURPOSE, FILE)[:-20],
    "cut in the headers": form(PURPOSE, FILE)[:40],
    "a boundary that goes on": form(PURPOSE, FILE).replace(b"--edge\r\n", b"--edgewise\r\n"),
    "a boundary whose line never ends": b"--edge" + b" " * 1000 + b"\r\n" + form(PURPOSE)[8:],
    "headers without end": form((b"X: " + b"x" * 20_000, b"content")),
}


@pytest.mark.parametrize("name", NO_FORMS)
@pytest.mark.parametrize("step", [0, 1])
def test_what_is_no_form_has_no_digest(name: str, step: int) -> None:
    """Its bytes count, then."""
    assert digest(NO_FORMS[name], step=step) is None


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; boundary=", "", "a; boundary=é"])
def test_without_a_boundary_there_is_no_form(content_type: str) -> None:
    assert digest(form(PURPOSE, FILE), content_type) is None


@unhurried
@given(
    parts=st.lists(st.tuples(st.sampled_from([PURPOSE[0], FILE[0]]), st.text("\r\n-edg:").map(str.encode)), max_size=4),
    step=st.integers(1, 40),
    boundaries=st.tuples(*(st.text("edg", min_size=12, max_size=14).map(str.encode) for _ in range(2))),
)
def test_pieces_and_boundaries_make_no_difference(
    parts: list[Part], step: int, boundaries: tuple[bytes, bytes]
) -> None:
    """Whatever a content holds that is not the boundary itself."""
    one, two = (
        digest(form(*parts, boundary=each), f"multipart/form-data; boundary={each.decode()}", step=size)
        for each, size in zip(boundaries, (step, 0), strict=True)
    )
    if not any(b"\r\n--" + each in content for _, content in parts for each in boundaries):
        assert one == two is not None


def test_contents_are_not_held() -> None:
    parts = PartsDigest("multipart/form-data; boundary=edge")
    parts.feed(form((FILE[0], b""))[:-12])
    for _ in range(1000):
        parts.feed(b"\r\n--edg " * 1000)
        assert len(parts._buffer) < 64
