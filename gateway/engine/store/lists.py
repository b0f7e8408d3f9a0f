"""Pages of a list in the order of creation. Places decide, because seconds are too coarse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from gateway.engine.store.documents import Document, assemble
from gateway.engine.store.results import UnknownCursor

PAGE = """
-- The part of `index` that a page asks for, after place `low` and before `high`: its ids, whether more follow, whether
-- a cursor was deleted. Or nil, and the name of the unknown cursor.
local function page(index, gone, order, limit, after, before, low, high)
  local was_deleted = 0
  local function place(id)
    local at = redis.call('ZSCORE', index, id)
    if at then return tonumber(at) end
    local trace = redis.call('HGET', gone, id)
    if not trace then return nil end
    was_deleted = 1
    return tonumber(string.match(trace, '^(%d+)'))
  end
  local is_descending = order == 'desc'
  for _, name in ipairs({'after', 'before'}) do
    local is_after = name == 'after'
    local cursor = is_after and after or before
    if cursor ~= '' then
      local at = place(cursor)
      if not at then return nil, name end
      if is_after == is_descending then high = math.min(high, at) else low = math.max(low, at) end
    end
  end
  local from = '(' .. string.format('%.0f', low)
  local to = high == math.huge and '+inf' or '(' .. string.format('%.0f', high)
  -- Backwards from a cursor: the nearest to it are read first.
  local is_backwards = before ~= '' and after == ''
  local ids
  if is_descending ~= is_backwards then
    ids = redis.call('ZREVRANGEBYSCORE', index, to, from, 'LIMIT', 0, limit + 1)
  else
    ids = redis.call('ZRANGEBYSCORE', index, from, to, 'LIMIT', 0, limit + 1)
  end
  local has_more = 0
  if #ids > limit then
    has_more = 1
    table.remove(ids)
  end
  if is_backwards then
    for i = 1, math.floor(#ids / 2) do ids[i], ids[#ids + 1 - i] = ids[#ids + 1 - i], ids[i] end
  end
  return ids, has_more, was_deleted
end

-- Documents and patches of these ids, one after another.
local function contents(documents, ids, patches)
  if #ids == 0 then return {} end
  local fields = {}
  for _, id in ipairs(ids) do
    fields[#fields + 1] = id
    for _, patch in ipairs(patches) do fields[#fields + 1] = id .. ':' .. patch end
  end
  return redis.call('HMGET', documents, unpack(fields))
end
"""


class Window(NamedTuple):
    """What part of a list is asked for. `limit` is 1 to 100; cursors are ids of the list."""

    limit: int = 20
    order: Literal["asc", "desc"] = "desc"
    after: str | None = None
    before: str | None = None

    def words(self) -> tuple[str, int, str, str]:
        """As scripts take it."""
        return self.order, self.limit, self.after or "", self.before or ""


@dataclass(frozen=True, slots=True)
class Page:
    """Objects in the order asked for. `has_more`: others follow in the direction of paging, which with `before` alone
    is backwards. A cursor that was deleted still has its place, for about the last 1000 deletions; `was_deleted` says
    that one was."""

    objects: tuple[Document, ...]
    has_more: bool
    was_deleted: bool = False


def read_page(answer: Sequence[Any], size: int) -> Page | UnknownCursor:
    """What a script gave of `page` and `contents`; each object has `size` fields."""
    if len(answer) == 1:
        return UnknownCursor("after" if answer[0] == b"after" else "before")
    has_more, was_deleted, fields = answer
    return Page(tuple(map(assemble, chunks(fields, size))), bool(has_more), bool(was_deleted))


def chunks(fields: Sequence[Any], size: int) -> list[Sequence[Any]]:
    """What `contents` gave, object by object."""
    return [fields[start : start + size] for start in range(0, len(fields), size)]
