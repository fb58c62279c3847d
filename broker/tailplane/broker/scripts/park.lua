-- Park a task that a worker holds: nobody need come for it before a message does, or its time. It keeps its terms; its key
-- has room meanwhile. Its session stays until then.
-- KEYS  1-5 of shared/terms.lua   6 the worker's running set (hash)   7 parked (zset)   8 session (hash)
--       9 index of the session's tasks (zset)   10 who joined it (stream)   11 its state (hash)
--       then for each queue: due of each class, doorbell
-- ARGV  1 member   2 worker id   3 the task's place among the parked
--       4 when it is to run again in any case: server time, ms; 'inf': never
--       5 how long its session stays after that, ms; 0: it has none   6 and for how long it is kept for a wait, ms
--       then for each queue: its name
-- Returns 1, or 0 if the worker holds it no more: a reaper gave it back, or it was cancelled; or names of queues that
-- are needed too.
local refusal = leave(6, ARGV[1], ARGV[2], 12, 7)
if refusal then
  return refusal
end
redis.call('ZADD', KEYS[7], ARGV[4], ARGV[3])
if ARGV[5] ~= '0' then
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local longest = tonumber(ARGV[6])
  local wait = ARGV[4] == 'inf' and longest or math.max(math.min(ARGV[4] - now, longest), 0)
  local left = string.format('%.0f', wait + ARGV[5])
  for place = 8, 11 do
    if redis.call('PTTL', KEYS[place]) < tonumber(left) then redis.call('PEXPIRE', KEYS[place], left) end
  end
end
return 1
