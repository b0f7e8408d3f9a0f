"""What every part of a world stands on: the clock, the ids, the counters, and shelves of objects in order.

An object is a plain JSON dictionary. Its place on the shelf, not `created_at`, decides the order of lists:
seconds are too coarse.
"""

import random
import string
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from tests.simulators.threads_server.refusal import (
    Json,
    Refused,
    Rule,
    check_metadata,
    not_found,
    wrong_type,
    wrong_value,
)

Query = Mapping[str, str]

OPENAI_PREFIXES: Mapping[str, str] = {
    "assistant": "asst_",
    "thread": "thread_",
    "message": "msg_",
    "run": "run_",
    "step": "step_",
    "call": "call_",
    "file": "file-",
    "vector_store": "vs_",
    "file_batch": "vsfb_",
}


def random_letters(count: int = 24) -> str:
    """Letters and digits that no other process will come up with, unseeded on purpose."""
    return "".join(random.SystemRandom().choices(string.ascii_letters + string.digits, k=count))


@dataclass(frozen=True)
class Ids:
    """Makes ids: the prefix of the kind and a tail."""

    prefixes: Mapping[str, str] = field(default_factory=lambda: OPENAI_PREFIXES)
    tail: Callable[[], str] = random_letters

    def new(self, kind: str) -> str:
        return self.prefixes[kind] + self.tail()


@dataclass
class Ground:
    """Shared by all parts of one world. The two switches imitate vendors that ignore list parameters."""

    now: Callable[[], int]
    ids: Ids
    created: Counter[str] = field(default_factory=Counter)
    ignores_cursor: bool = False
    ignores_limit: bool = False

    def birth(self, kind: str, type_name: str) -> Json:
        """The first three fields of a new object."""
        return {"id": self.ids.new(kind), "object": type_name, "created_at": self.now()}


class Held(Protocol):
    """Anything that carries the JSON of one object."""

    json: Json


@dataclass
class Plain:
    """An object with nothing beside its JSON."""

    json: Json


T = TypeVar("T", bound=Held)


class Shelf(Generic[T]):
    """Objects of one kind in the order of their creation; `label` is the kind as error texts spell it."""

    def __init__(self, ground: Ground, kind: str, label: str | None = None) -> None:
        self._ground = ground
        self._kind = kind
        self._label = label or kind.replace("_", " ")
        self._items: dict[str, T] = {}

    def __iter__(self) -> Iterator[T]:
        return iter(list(self._items.values()))

    def put(self, item: T, *, counted_as: str | None = None) -> T:
        """Keep the item under its id and count it as created."""
        self._items[item.json["id"]] = item
        self._ground.created[counted_as or self._kind] += 1
        return item

    def find(self, object_id: str) -> T:
        """Raise `Refused` with 404, or with 400 when the id is not even of this kind's form."""
        if object_id in self._items:
            return self._items[object_id]
        prefix = self._ground.ids.prefixes.get(self._kind, "").rstrip("_-")
        if object_id.startswith(prefix):
            raise self.lost(object_id)
        raise Refused(
            f"Invalid '{self._kind}_id': '{object_id}'. Expected an ID that begins with '{prefix}'.",
            param=f"{self._kind}_id",
            code="invalid_value",
        )

    def lost(self, object_id: str) -> Refused:
        return not_found(self._label, object_id)

    def drop(self, object_id: str, type_name: str) -> Json:
        """Forget the object and answer as a deletion is answered."""
        self.find(object_id)
        del self._items[object_id]
        return {"id": object_id, "object": type_name, "deleted": True}

    def page(
        self,
        query: Query,
        *,
        keep: Callable[[T], bool] = lambda item: True,
        default: int = 20,
        maximum: int = 100,
    ) -> Json:
        """One page of the kept items, as a list object."""
        rows = [item.json for item in self if keep(item)]
        if read_order(query) == "desc":
            rows.reverse()
        window = rows if self._ground.ignores_cursor else self._between_cursors(rows, query)
        kept = window
        if not self._ground.ignores_limit:
            limit = read_limit(query, default, maximum)
            pages_backwards = query.get("before") and not query.get("after")
            kept = window[-limit:] if pages_backwards else window[:limit]
        return list_object(kept, has_more=len(kept) < len(window))

    def _between_cursors(self, rows: list[Json], query: Query) -> list[Json]:
        """An unknown cursor is a 404: how vendors treat it is not known, and this shows mistakes."""
        places = {row["id"]: place for place, row in enumerate(rows)}
        for cursor in (query.get("after"), query.get("before")):
            if cursor and cursor not in places:
                raise self.lost(cursor)
        start = places[query["after"]] + 1 if query.get("after") else 0
        stop = places[query["before"]] if query.get("before") else len(rows)
        return rows[start:stop]


def list_object(rows: list[Json], *, has_more: bool = False) -> Json:
    """Ids of an empty list are null."""
    return {
        "object": "list",
        "data": rows,
        "first_id": rows[0]["id"] if rows else None,
        "last_id": rows[-1]["id"] if rows else None,
        "has_more": has_more,
    }


def read_order(query: Query) -> str:
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise wrong_value("order", order, ("asc", "desc"))
    return order


def read_limit(query: Query, default: int, maximum: int) -> int:
    text = query.get("limit", str(default))
    if not text.removeprefix("-").isdecimal():
        raise wrong_type("limit", "an integer", text)
    limit = int(text)
    Rule("an integer", (int,), maximum, 1).check("limit", limit)
    return limit


def merge_metadata(record: Json, body: Json) -> None:
    """Replace the given pairs and keep the others, which OpenAI may not have done; null empties."""
    if "metadata" in body:
        given = body["metadata"]
        merged = {**record["metadata"], **given} if given is not None else {}
        check_metadata(merged)
        record["metadata"] = merged
