-- Give back what a worker held whose lease has run out, or who leaves, and strike it off.
-- KEYS  1-5 of shared/terms.lua   6 leases (zset)   7 the worker (hash)   8 its running set (hash)
--       then for each queue: due of each class, doorbell
-- ARGV  1 worker id   2 '1': it leaves by itself, whatever its lease   then for each queue: its name
-- Returns the number of tasks given back, -1: the lease is alive, or names of queues that are needed too.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease = redis.call('ZSCORE', KEYS[6], ARGV[1])
if lease and tonumber(lease) >= now and ARGV[2] ~= '1' then
  return -1
end
local at = positions(9, 3)
local held, needed = redis.call('HGETALL', KEYS[8]), {}
for i = 1, #held, 2 do
  local queue, key = read_held(held[i + 1])
  for _, name in ipairs(lacking_to_leave(queue, key, at)) do needed[#needed + 1] = name end
end
if #needed > 0 then
  return needed
end
for i = 1, #held, 2 do
  local queue, key = read_held(held[i + 1])
  release(held[i], ARGV[1], queue, key, at)
  local class = read_terms(redis.call('HGET', KEYS[1], held[i]))
  give(held[i], queue, class, now, at)
end
redis.call('DEL', KEYS[7], KEYS[8])
redis.call('ZREM', KEYS[6], ARGV[1])
return #held / 2
