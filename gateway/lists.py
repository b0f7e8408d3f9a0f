"""List objects for vendors that do not give them: bare arrays, lists without cursors, ignored parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.errors import bad_request


@dataclass(frozen=True)
class Page:
    """What the caller asked of a list, with upstream ids as cursors. `limit` is None when the caller's own value is
    not one that a list can have: then the vendor is left to say so."""

    limit: int | None
    asked: int | None
    """What the vendor was asked for: more than `limit` where that is how to find out whether there is more."""
    order: str = "desc"
    after: str | None = None
    before: str | None = None

    def check(self, max_limit: int) -> int:
        """The limit, for a list that no vendor judges. Raises GatewayError 400 for a bad limit or order."""
        if self.limit is None:
            message = f"Invalid 'limit': expected an integer from 1 to {max_limit}."
            raise bad_request(message, param="limit", code="invalid_value")
        if self.order not in ("asc", "desc"):
            message = f"Invalid value: {self.order[:40]!r}. Supported values are: 'asc' and 'desc'."
            raise bad_request(message, param="order", code="invalid_value")
        return self.limit


def read_page(query: Sequence[tuple[str, str]], *, default_limit: int, max_limit: int, ask_one_more: bool) -> Page:
    """The page that a query asks for."""
    given = dict(query)
    after, before = given.get("after") or None, given.get("before") or None
    limit: int | None = default_limit
    if (text := given.get("limit")) is not None:
        number = int(text) if text.isascii() and text.isdigit() and len(text) <= 6 else 0
        limit = number if 1 <= number <= max_limit else None
    asked = limit
    if limit is not None and ask_one_more:
        # With a cursor, the largest page: a vendor that ignores cursors answers its first page again and again, and
        # only a page with the cursor in it gives that away.
        asked = max_limit if after or before else min(limit + 1, max_limit)
    return Page(limit, asked, given.get("order") or "desc", after, before)


def is_cut_off(answer: Mapping[str, Any] | None, page: Page) -> bool:
    """Whether a list without `has_more` shows that the vendor ignored the cursor but honoured the limit: what the
    caller wants may lie beyond what came. None is the answer of a request that failed."""
    if answer is None or "has_more" in answer or page.asked is None:
        return False
    return len(answer["data"]) >= page.asked and _shows_cursor(answer["data"], page)


def complete(answer: Mapping[str, Any], page: Page) -> dict[str, Any]:
    """A whole list object out of `{"data": […]}` without `has_more`.

    More items than asked for, a cursor inside the page, or a first page in the other order mean that the vendor
    ignores parameters: the window the caller asked for is cut here, or the caller would page for ever.
    """
    items = list(answer["data"])
    limit = page.limit if page.limit is not None else len(items)
    is_full = page.asked is not None and len(items) >= page.asked
    if _ignores_parameters(items, page):
        window = _between_cursors(_in_order(items, page.order), page)
        is_cut_off = bool(window) and len(items) == page.asked
        more = len(window) > limit or is_cut_off
    else:
        window = items
        more = len(window) > limit or (is_full and page.asked == limit)
    items = window[-limit:] if page.before and not page.after and limit else window[:limit]
    ids = [item.get("id") for item in items if type(item) is dict]
    return {
        "object": "list",
        **answer,
        "data": items,
        "first_id": ids[0] if ids else None,
        "last_id": ids[-1] if ids else None,
        "has_more": more,
    }


def _ignores_parameters(items: Sequence[Any], page: Page) -> bool:
    if page.asked is not None and len(items) > page.asked:
        return True
    if page.after is None and page.before is None:
        return _in_order(list(items), page.order) != items
    return _shows_cursor(items, page)


def _shows_cursor(items: Sequence[Any], page: Page) -> bool:
    ids = _ids(items)
    return any(cursor is not None and cursor in ids for cursor in (page.after, page.before))


def _ids(items: Sequence[Any]) -> list[Any]:
    return [item.get("id") if type(item) is dict else None for item in items]


def _in_order(items: list[Any], order: str) -> list[Any]:
    """Turn an array round that is plainly sorted the other way; equal times say nothing."""
    times = [time for item in items if type(item) is dict and type(time := item.get("created_at")) is int]
    if len(times) < len(items) or not times or times[0] == times[-1]:
        return items
    is_ascending = times[0] < times[-1]
    return items[::-1] if is_ascending == (order == "desc") else items


def _between_cursors(items: list[Any], page: Page) -> list[Any]:
    """The items behind `after` and ahead of `before`."""
    ids = _ids(items)
    start = ids.index(page.after) + 1 if page.after is not None and page.after in ids else 0
    end = ids.index(page.before) if page.before is not None and page.before in ids else len(items)
    return items[start:end]
