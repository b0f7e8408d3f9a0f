"""What can be asked of a trail: which records a person looks for. Pure.

Values that stand as `hmac:…` are found too: a question is asked for the value as it is and for what it would be marked
as.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

import orjson

from gateway.audit.reading import Needles, Record

Mark = Callable[[str], str]
"""A value as it stands where it was marked."""

_STATUS = re.compile(r"[1-5](?:[0-9]{2}|xx)")
_IDS = ("thread", "public_id", "upstream_id", "run")
_ID_LISTS = ("public_ids", "upstream_ids")


@dataclass(frozen=True)
class Question:
    """Conditions that a record must meet, all of them; None asks for nothing. `operation` and `provider` may have `*`;
    `status` is `404` or `5xx`; `id` is any public or upstream id a record tells of."""

    tenant: str | None = None
    id: str | None = None
    operation: str | None = None
    provider: str | None = None
    status: str | None = None
    request: str | None = None
    text: str | None = None
    kinds: Sequence[str] = ()

    def needles(self, mark: Mark | None) -> Needles:
        """What a record's line has to contain to be worth parsing."""
        needed: list[Sequence[bytes]] = []
        if self.kinds:
            needed.append([b'"kind":"%s"' % kind.encode() for kind in self.kinds])
        for value in (self.id, self.request, self.tenant, self.text):
            if value is not None:
                needed.insert(0, [_as_written(spelling) for spelling in _spellings(value, mark)])
        if self.status is not None and self.status.isdigit():
            needed.append([b'"status":%s' % self.status.encode()])
        for value in (self.operation, self.provider):
            if value is not None and not set("*?[") & set(value):
                needed.append([_as_written(value)])
        return needed

    def matches(self, record: Record, mark: Mark | None) -> bool:
        return (
            (not self.kinds or record.get("kind") in self.kinds)
            and (self.tenant is None or record.get("tenant") in _spellings(self.tenant, mark))
            and (self.id is None or not _spellings(self.id, mark).isdisjoint(ids_of(record)))
            and (self.request is None or self._is_request(record, mark))
            and _fits(record.get("operation"), self.operation)
            and _fits(record.get("provider"), self.provider)
            and self._has_status(record.get("status"))
            and (self.text is None or any(each in text for text in _texts(record) for each in self._texts(mark)))
        )

    def _is_request(self, record: Record, mark: Mark | None) -> bool:
        assert self.request is not None
        names = {record.get(name) for name in ("request_id", "client_request_id", "generation_id")}
        return not _spellings(self.request, mark).isdisjoint(names)

    def _has_status(self, status: Any) -> bool:
        if self.status is None:
            return True
        return type(status) is int and self.status in (str(status), f"{status // 100}xx")

    def _texts(self, mark: Mark | None) -> set[str]:
        assert self.text is not None
        return _spellings(self.text, mark)


def is_status(text: str) -> bool:
    return bool(_STATUS.fullmatch(text))


def read_time(text: str, now: datetime) -> str:
    """A moment as records write it: from `2026-11-22`, `2026-11-22T03:14`, with an offset or in UTC, or `90s`, `10m`,
    `2h`, `7d` ago. Raises ValueError."""
    if ago := re.fullmatch(r"(\d{1,7})([smhd])", text):
        seconds = int(ago[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[ago[2]]
        moment = datetime.fromtimestamp(max(now.timestamp() - seconds, 0), UTC)
    else:
        moment = datetime.fromisoformat(text)
        moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def ids_of(record: Record) -> Iterator[str]:
    """Every id of an object that a record tells of, public and upstream."""
    for name in _IDS:
        if type(value := record.get(name)) is str:
            yield value
    for name in _ID_LISTS:
        if type(values := record.get(name)) is list:
            yield from (value for value in values if type(value) is str)


def _spellings(value: str, mark: Mark | None) -> set[str]:
    return {value} if mark is None else {value, mark(value)}


def _as_written(value: str) -> bytes:
    """As it stands within a JSON string of the trail."""
    return orjson.dumps(value.encode("utf-8", "replace").decode())[1:-1]


def _fits(value: Any, glob: str | None) -> bool:
    return glob is None or (type(value) is str and fnmatchcase(value, glob))


def _texts(value: Any) -> Iterator[str]:
    if type(value) is str:
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif type(value) is list:
        for inner in value:
            yield from _texts(inner)
