-- Put a parked task back into its queue, due now, and wake one worker.
-- KEYS  1-4 of shared/terms.lua   5 parked (zset)   6-8 due of each class (zsets)   9 doorbell (list)
-- ARGV  1 the task's place among the parked   2 member   3 its workflow
-- Returns 1, or 0 if it is not parked: not yet, or no more.
if redis.call('ZREM', KEYS[5], ARGV[1]) == 0 then
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local class = read_terms(redis.call('HGET', KEYS[1], ARGV[2]))
give(ARGV[2], ARGV[3], class, now, positions(6, 3))
return 1
