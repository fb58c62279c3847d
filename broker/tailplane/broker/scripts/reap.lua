-- Give back what a worker held whose lease has run out, or who leaves, and strike it off.
-- KEYS  1 leases (zset)   2 the worker (hash)   3 its running set (hash)   then for each workflow: due (zset), doorbell (list)
-- ARGV  1 worker id   2 '1': it leaves by itself, whatever its lease   then for each workflow: its name
-- Returns the number of tasks given back, -1: the lease is alive, -2: it holds a task of a workflow not named here.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease = redis.call('ZSCORE', KEYS[1], ARGV[1])
if lease and tonumber(lease) >= now and ARGV[2] ~= '1' then
  return -1
end
local at = {}
for k = 4, #KEYS, 2 do
  at[ARGV[k / 2 + 1]] = k
end
local held = redis.call('HGETALL', KEYS[3])
for i = 1, #held, 2 do
  if not at[held[i + 1]] then return -2 end
end
for i = 1, #held, 2 do
  local k = at[held[i + 1]]
  redis.call('ZADD', KEYS[k], now, held[i])
  redis.call('LPUSH', KEYS[k + 1], '1')
  redis.call('LTRIM', KEYS[k + 1], 0, 999)
  redis.call('EXPIRE', KEYS[k + 1], 60)
end
redis.call('DEL', KEYS[2], KEYS[3])
redis.call('ZREM', KEYS[1], ARGV[1])
return #held / 2
