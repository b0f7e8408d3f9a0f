"""Traces of what was deleted from a list: they keep a cursor's place, and tell a deletion that runs twice from two.

A list keeps about 1000 and then starts anew: programs that make and delete an assistant for each question must not
fill the store.
"""

from __future__ import annotations

TRACES_LIMIT = 1000

TRACES = f"""
-- What is known of a deleted id: nil, or whether this deletion, by its mark, is the one that was made.
local function trace_of(gone, id, mark)
  local trace = redis.call('HGET', gone, id)
  if not trace then return nil end
  return string.match(trace, ':(.*)$') == mark
end

local function leave_trace(gone, id, place, mark)
  if redis.call('HLEN', gone) >= {TRACES_LIMIT} then redis.call('UNLINK', gone) end
  redis.call('HSET', gone, id, string.format('%.0f', tonumber(place)) .. ':' .. mark)
end
"""
