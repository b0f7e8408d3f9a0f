"""List objects for vendors that give bare arrays or ignore what was asked: a caller pages through them all the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.lists import Page, complete, is_cut_off, read_page
from tests.values import unhurried


def page(query: str = "", *, maximum: int = 100, one_more: bool = True) -> Page:
    pairs = [(name, value) for name, _, value in (pair.partition("=") for pair in query.split("&")) if name]
    return read_page(pairs, default_limit=20, max_limit=maximum, ask_one_more=one_more)


def items(names: str) -> list[dict[str, Any]]:
    return [{"id": name} for name in names]


def completed(names: str, asked: Page) -> tuple[str, bool]:
    answer = complete({"data": items(names)}, asked)
    return "".join(item["id"] for item in answer["data"]), answer["has_more"]


@pytest.mark.parametrize(
    ("query", "limit", "asked"),
    [
        ("", 20, 21),  # the default
        ("limit=1", 1, 2),
        ("limit=99", 99, 100),
        ("limit=100", 100, 100),  # more would be refused
        ("limit=2&limit=5", 5, 6),
        # What no list can have is the vendor's to refuse.
        ("limit=0", None, None),
        ("limit=101", None, None),
        ("limit=-1", None, None),
        ("limit=+5", None, None),
        ("limit=", None, None),
        ("limit=ten", None, None),
        ("limit=1.5", None, None),
        ("limit=٣", None, None),  # digits, but not ours
        ("limit=²", None, None),
        ("limit=00000299", None, None),
        ("limit=" + "9" * 5000, None, None),
        # A provider may ignore cursors, and one page later the cursor would not even show up in the answer.
        ("limit=3&after=a", 3, 100),
        ("limit=3&before=a", 3, 100),
    ],
)
def test_the_limit_is_read_and_one_item_more_is_asked_for(query: str, limit: int | None, asked: int | None) -> None:
    assert (page(query).limit, page(query).asked) == (limit, asked)
    assert page(query, one_more=False).asked == limit


def test_order_and_cursors_are_read() -> None:
    assert page("order=asc&after=a&before=b") == Page(20, 100, "asc", "a", "b")
    assert page("order=&after=&before=") == Page(20, 21, "desc", None, None)


@pytest.mark.parametrize(
    ("names", "query", "window", "more"),
    [
        ("", "limit=3", "", False),  # empty
        ("", "limit=3&after=z", "", False),
        ("ab", "limit=3", "ab", False),
        ("abc", "limit=3", "abc", False),  # full, but the item more did not come
        ("abcd", "limit=3", "abc", True),
        ("abcdefgh", "limit=3", "abc", True),  # the limit was ignored
        ("abcdefgh", "limit=3&after=c", "def", True),  # so was the cursor
        ("abcdefgh", "limit=3&after=f", "gh", False),
        ("abcdefgh", "limit=3&after=e", "fgh", False),
        ("abcdefgh", "limit=3&after=h", "", False),
        ("defg", "limit=3&after=c", "def", True),  # the cursor was honoured
        ("fgh", "limit=3&after=e", "fgh", False),
        # `before` alone pages backwards: the items nearest to the cursor are kept.
        ("abcdefgh", "limit=3&before=f", "cde", True),
        ("abcdefgh", "limit=3&before=c", "ab", False),
        ("abcdefgh", "limit=3&before=a", "", False),
        ("bcde", "limit=3&before=f", "cde", True),
        ("abcdefgh", "limit=3&after=b&before=g", "cde", True),
        ("abcdefgh", "limit=3&after=b&before=e", "cd", False),
        # At the maximum no item more can be asked for: a full page means that more may follow.
        ("abcdefghi", "limit=10", "abcdefghi", False),
        ("abcdefghij", "limit=10", "abcdefghij", True),
        ("abcdefghijk", "limit=10", "abcdefghij", True),
        ("abcdefghij", "limit=10&after=h", "ij", True),  # perhaps the limit was honoured and cut the list
        ("abcdefghij", "limit=10&after=j", "", False),
        # A limit that the vendor should have refused and did not.
        ("abc", "limit=0", "abc", False),
        ("abc", "limit=0&after=a", "bc", False),
    ],
)
def test_what_the_caller_asked_for_is_cut_out(names: str, query: str, window: str, more: bool) -> None:
    assert completed(names, page(query, maximum=10)) == (window, more)


@pytest.mark.parametrize(
    ("times", "order", "shown"),
    [
        ([1, 2, 3], "desc", "cba"),  # sorted the other way
        ([3, 2, 1], "asc", "cba"),
        ([3, 2, 1], "desc", "abc"),
        ([1, 2, 3], "asc", "abc"),
        ([5, 5, 5], "desc", "abc"),  # equal times say nothing
        ([1, 1, 2], "desc", "cba"),
        ([1, None, 2], "desc", "abc"),  # nor do missing ones
        (["1", "2", "3"], "desc", "abc"),
    ],
)
@pytest.mark.parametrize("limit", [2, 3, 20], ids="limit={}".format)
def test_a_list_in_the_other_order_is_turned_round(times: list[Any], order: str, shown: str, limit: int) -> None:
    """Programs read the newest message as `data[0]`."""
    data = [{"id": name, "created_at": time} for name, time in zip("abc", times, strict=True)]
    answer = complete({"data": data}, page(f"limit={limit}&order={order}"))
    assert "".join(item["id"] for item in answer["data"]) == shown[:limit]


def test_a_page_behind_an_honoured_cursor_keeps_its_order() -> None:
    """Turned round it would end where it began, and the caller would page for ever."""
    data = [{"id": name, "created_at": time} for time, name in enumerate("def")]
    answer = complete({"data": data}, page("limit=20&order=desc&after=c"))
    assert answer["last_id"] == "f"


def test_a_list_object_has_all_its_fields() -> None:
    assert complete({"data": items("ab")}, page()) == {
        "object": "list",
        "data": items("ab"),
        "first_id": "a",
        "last_id": "b",
        "has_more": False,
    }
    assert complete({"data": []}, page()) == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }


def test_what_else_the_vendor_says_of_a_list_stays() -> None:
    answer = complete({"object": "page", "data": [*items("abc"), 5], "total": 7}, page("limit=2"))
    assert answer == {
        "object": "page",
        "total": 7,
        "data": items("ab"),
        "first_id": "a",
        "last_id": "b",
        "has_more": True,
    }


def test_items_without_ids_are_passed_on() -> None:
    odd = [1, "x", None, [], {"id": None}, {}]
    answer = complete({"data": odd}, page())
    assert (answer["data"], answer["first_id"], answer["last_id"]) == (odd, None, None)


@pytest.mark.parametrize(
    ("names", "query", "is_truncated"),
    [
        ("abcdefghij", "limit=3&after=b", True),
        ("abcdefghij", "limit=3&before=b", True),
        ("abcdefghi", "limit=3&after=b", False),  # nine of ten asked for: nothing lies beyond
        ("cdefghijkl", "limit=3&after=b", False),  # honoured
        ("abcdefghij", "limit=10", False),
        ("abcdefghij", "limit=0&after=b", False),
    ],
)
def test_a_full_page_with_the_cursor_in_it_hides_what_follows(names: str, query: str, is_truncated: bool) -> None:
    assert is_cut_off({"data": items(names)}, page(query, maximum=10)) == is_truncated


MAXIMUM = 8


@dataclass(frozen=True)
class Vendor:
    """A vendor of bare arrays that honours what it honours. Items are numbered in the order of creation."""

    count: int
    honours_limit: bool = True
    honours_cursor: bool = True
    honours_order: bool = True

    def answer(self, asked: Page) -> list[dict[str, Any]]:
        numbers = list(range(self.count))
        if self.honours_order and asked.order == "desc":
            numbers.reverse()
        if self.honours_cursor and asked.after is not None:
            numbers = numbers[numbers.index(int(asked.after)) + 1 :]
        if self.honours_cursor and asked.before is not None:
            numbers = numbers[: numbers.index(int(asked.before))]
            numbers = numbers[-(asked.asked or 0) :] if self.honours_limit else numbers
        if self.honours_limit:
            numbers = numbers[: asked.asked]
        return [{"id": str(number), "created_at": 1000 + number} for number in numbers]


def paged(vendor: Vendor, query: str, cursor: str = "after") -> list[int]:
    """What a program that pages like the SDKs gets to see."""
    seen: list[int] = []
    place = ""
    for _ in range(vendor.count + 3):
        asked = page(query + place, maximum=MAXIMUM)
        answer = complete({"data": vendor.answer(asked)}, asked)
        assert len(answer["data"]) <= (asked.limit or 0)
        numbers = [int(item["id"]) for item in answer["data"]]
        seen = seen + numbers if cursor == "after" else numbers + seen
        if not answer["has_more"] or not numbers:
            return seen
        place = f"&{cursor}={answer['last_id' if cursor == 'after' else 'first_id']}"
    raise AssertionError(f"no end: {seen}")


counts, limits = st.integers(0, 3 * MAXIMUM), st.integers(1, MAXIMUM)
orders = st.sampled_from(["asc", "desc"])


def in_order(count: int, order: str) -> list[int]:
    return list(range(count)) if order == "asc" else list(reversed(range(count)))


@unhurried
@given(counts, limits, orders, st.booleans(), st.booleans())
def test_paging_visits_every_item_once_and_ends(
    count: int, limit: int, order: str, honours_limit: bool, honours_cursor: bool
) -> None:
    """Unless the vendor honours the limit and no cursor: what lies beyond its largest page cannot be reached."""
    vendor = Vendor(count, honours_limit, honours_cursor)
    seen = paged(vendor, f"limit={limit}&order={order}")
    reachable = count if honours_cursor or not honours_limit else min(count, MAXIMUM)
    assert seen == in_order(count, order)[:reachable]


@unhurried
@given(counts, limits, orders)
def test_paging_backwards_visits_every_item_once_and_ends(count: int, limit: int, order: str) -> None:
    last = in_order(count + 1, order)[-1]
    for vendor in (Vendor(count + 1), Vendor(count + 1, honours_limit=False, honours_cursor=False)):
        asked = page(f"limit={limit}&order={order}&before={last}", maximum=MAXIMUM)
        first = complete({"data": vendor.answer(asked)}, asked)
        shown = [int(item["id"]) for item in first["data"]]
        if first["has_more"]:
            shown = paged(vendor, f"limit={limit}&order={order}&before={shown[0]}", "before") + shown
        assert shown == in_order(count + 1, order)[:-1]


@unhurried
@given(counts, limits, orders)
def test_a_vendor_that_ignores_everything_is_paged_in_the_order_asked_for(count: int, limit: int, order: str) -> None:
    vendor = Vendor(count, honours_limit=False, honours_cursor=False, honours_order=False)
    assert paged(vendor, f"limit={limit}&order={order}") == in_order(count, order)


@unhurried
@given(counts, limits, orders, st.booleans(), st.booleans())
def test_paging_ends_whatever_is_ignored(
    count: int, limit: int, order: str, honours_limit: bool, honours_cursor: bool
) -> None:
    vendor = Vendor(count, honours_limit, honours_cursor, honours_order=False)
    seen = paged(vendor, f"limit={limit}&order={order}")
    assert set(seen) <= set(range(count))
