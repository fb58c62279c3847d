-- Say how a task stands, and whether its time is up: by the clock of the server that set it.
-- KEYS  1 task record (hash)
-- Returns {state, attempt, 1 if it is past its start deadline, 1 if it is past its end_by} or nil: there is none.
local seen = redis.call('HMGET', KEYS[1], 'state', 'attempt', 'start_by', 'end_by')
if not seen[1] then
  return false
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local is_late = seen[2] == '0' and now >= tonumber(seen[3])
local is_over = seen[4] and now >= tonumber(seen[4])
return {seen[1], tonumber(seen[2]), is_late and 1 or 0, is_over and 1 or 0}
