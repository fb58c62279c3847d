-- Record a task and open its stream with the "queued" event, once.
-- KEYS  1 task record (hash)   2 stream
-- ARGV  1 payload of the first entry   2 TTL of both keys, ms   3 start deadline, ms from now
--       4 ms until it is due; 0: now   5 time after which it is not recorded any more, ms since the epoch; 0: none
--       6.. field, value, ...
-- Returns when it was recorded, ms: also where that was before, by a request that was sent again; 0: too late.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return tonumber(redis.call('HGET', KEYS[1], 'created_at'))
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[5] ~= '0' and now > tonumber(ARGV[5]) then
  return 0
end
redis.call('HSET', KEYS[1], 'state', 'queued', 'attempt', 0, 'failures', 0,
           'created_at', now, 'start_by', now + ARGV[3], unpack(ARGV, 6))
if ARGV[4] ~= '0' then
  redis.call('HSET', KEYS[1], 'due_at', now + ARGV[4])
end
redis.call('XADD', KEYS[2], '0-1', 'e', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return now
