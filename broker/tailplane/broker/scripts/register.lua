-- Enter a worker, what it says of itself and the workflows it runs; its lease begins.
-- KEYS  1 leases (zset)   2 the worker (hash)   3 workflows (hash)
-- ARGV  1 worker id   2 lease, ms   3 description of the worker   then workflow name, description, ...
-- Returns the server time at which the lease ends, ms.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('HSET', KEYS[2], 'description', ARGV[3], 'lease_ms', ARGV[2], 'started_at', now)
redis.call('EXPIRE', KEYS[2], 86400)
if #ARGV > 3 then
  redis.call('HSET', KEYS[3], unpack(ARGV, 4))
end
return now + ARGV[2]
