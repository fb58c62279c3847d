-- Put a parked task back into its queue, due now, and wake one worker.
-- KEYS  1 parked (zset)   2 due (zset)   3 doorbell (list)
-- ARGV  1 the task's place among the parked   2 member
-- Returns 1, or 0 if it is not parked: not yet, or no more.
if redis.call('ZREM', KEYS[1], ARGV[1]) == 0 then
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[2], now, ARGV[2])
redis.call('LPUSH', KEYS[3], '1')
redis.call('LTRIM', KEYS[3], 0, 999)
redis.call('EXPIRE', KEYS[3], 60)
return 1
