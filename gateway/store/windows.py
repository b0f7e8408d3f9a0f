"""Sliding windows in the store, for all replicas: the Lua that scripts begin with which count in them.

A window is one hash: what came in each second, and so that nobody reads all of that, their `sum`, the `first` and the
`last` of them. Whoever looks takes out what is too old, so that a look costs the same however long the window is. It is
what `gateway/window.py` has in memory. The clock is the store's own, for replicas' clocks differ. A window expires when
nothing is left in it; one that is lost, with the store or through eviction, begins anew.
"""

WINDOWS = """
local time = redis.call('TIME')
local now_s, now_ms = tonumber(time[1]), time[1] * 1000 + math.floor(time[2] / 1000)

local function read(key, span_s)
  local told = redis.call('HMGET', key, 'sum', 'first', 'last')
  local window = {key = key, span_s = span_s, sum = tonumber(told[1] or 0), first = tonumber(told[2] or now_s),
    last = tonumber(told[3] or 0)}
  local oldest = now_s - span_s + 1
  if window.last < oldest then
    if told[1] then redis.call('UNLINK', key) end
    window.sum, window.first, window.last = 0, now_s, 0
  elseif window.first < oldest then
    local gone = {}
    for second = window.first, oldest - 1 do gone[#gone + 1] = string.format('%d', second) end
    for _, amount in ipairs(redis.call('HMGET', key, unpack(gone))) do window.sum = window.sum - (amount or 0) end
    redis.call('HDEL', key, unpack(gone))
    window.first = oldest
    redis.call('HSET', key, 'sum', window.sum, 'first', oldest)
  end
  return window
end

-- Milliseconds until there is less than the limit.
local function wait_ms(window, limit)
  local left, second, wait = window.sum, window.first, 0
  while left >= limit and second <= window.last do
    local amount = redis.call('HGET', window.key, string.format('%d', second))
    if amount then
      left = left - amount
      wait = (second + window.span_s) * 1000 - now_ms
    end
    second = second + 1
  end
  return wait
end

-- Milliseconds until it is empty.
local function reset_ms(window)
  return window.sum > 0 and (window.last + window.span_s) * 1000 - now_ms or 0
end

local function add(window, amount)
  window.sum = window.sum + amount
  if now_s > window.last then
    window.last = now_s
    redis.call('HSET', window.key, 'sum', window.sum, 'first', window.first, 'last', now_s,
      string.format('%d', now_s), amount)
    redis.call('PEXPIRE', window.key, (window.span_s + 1) * 1000)
  else
    redis.call('HINCRBY', window.key, 'sum', amount)
    redis.call('HINCRBY', window.key, string.format('%d', window.last), amount)
  end
end
"""
