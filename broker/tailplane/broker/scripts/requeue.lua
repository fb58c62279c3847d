-- Give a task that a worker holds back to its queue, due after a delay.
-- KEYS  1 the worker's running set (hash)   2 due (zset)   3 doorbell (list)
-- ARGV  1 member   2 delay, ms
-- Returns 1, or 0 if the worker holds it no more: a reaper gave it back, or it was cancelled.
if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[2], now + ARGV[2], ARGV[1])
redis.call('LPUSH', KEYS[3], '1')
redis.call('LTRIM', KEYS[3], 0, 999)
redis.call('EXPIRE', KEYS[3], 60)
return 1
