-- Put a parked task back into its queue, due now, and wake one worker.
-- KEYS  1-5 of shared/terms.lua   6 parked (zset)   7-9 due of each class (zsets)   10 doorbell (list)
-- ARGV  1 the task's place among the parked   2 member   3 its queue
-- Returns 1, or 0 if it is not parked: not yet, or no more.
if redis.call('ZREM', KEYS[6], ARGV[1]) == 0 then
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local class = read_terms(redis.call('HGET', KEYS[1], ARGV[2]))
give(ARGV[2], ARGV[3], class, now, positions(7, 3))
return 1
