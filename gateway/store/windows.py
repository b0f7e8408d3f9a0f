"""Sliding windows in the store, for all replicas: the Lua that scripts begin with which count in them.

A window is one string, the seconds in which there was something and how much, the oldest first: `1763781711 12
1763781713 3`. It is what `gateway/window.py` has in memory. The clock is the store's own, for replicas' clocks
differ. A window expires when nothing is left in it; one that is lost, with the store or through eviction, begins anew.
"""

WINDOWS = """
local time = redis.call('TIME')
local now_s, now_ms = tonumber(time[1]), time[1] * 1000 + math.floor(time[2] / 1000)

-- Seconds, amounts and their sum.
local function read(key, span_s)
  local seconds, amounts, sum = {}, {}, 0
  for second, amount in string.gmatch(redis.call('GET', key) or '', '(%d+) (%d+)') do
    if second + span_s > now_s then
      seconds[#seconds + 1], amounts[#amounts + 1] = tonumber(second), tonumber(amount)
      sum = sum + amount
    end
  end
  return {seconds = seconds, amounts = amounts, sum = sum, span_s = span_s}
end

-- Milliseconds until there is less than the limit.
local function wait_ms(window, limit)
  local left, wait = window.sum, 0
  for place, second in ipairs(window.seconds) do
    if left < limit then break end
    left = left - window.amounts[place]
    wait = (second + window.span_s) * 1000 - now_ms
  end
  return wait
end

-- Milliseconds until it is empty.
local function reset_ms(window)
  local last = window.seconds[#window.seconds]
  return last and (last + window.span_s) * 1000 - now_ms or 0
end

local function add(key, window, amount)
  local seconds, amounts = window.seconds, window.amounts
  if #seconds > 0 and seconds[#seconds] >= now_s then
    amounts[#amounts] = amounts[#amounts] + amount
  else
    seconds[#seconds + 1], amounts[#amounts + 1] = now_s, amount
  end
  window.sum = window.sum + amount
  local words = {}
  for place, second in ipairs(seconds) do
    words[2 * place - 1], words[2 * place] = string.format('%d', second), string.format('%d', amounts[place])
  end
  redis.call('SET', key, table.concat(words, ' '), 'PX', (window.span_s + 1) * 1000)
end
"""
