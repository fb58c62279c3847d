-- Renew a worker's lease.
-- KEYS  1 leases (zset)   2 the worker (hash)   3 the worker's running set (hash)
-- ARGV  1 worker id   2 lease, ms
-- A lease that ran out unnoticed is renewed too: it ends only when a reaper strikes the worker off.
-- Returns the number of tasks it holds, or -1 if it was struck off: its tasks are in other hands.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not lease then
  return -1
end
-- First, for it takes no memory: once a script has written, a full server lets it write on. Else the living would lose
-- their leases to whoever reaps first when there is room again.
redis.call('EXPIRE', KEYS[2], 86400)
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
return redis.call('HLEN', KEYS[3])
