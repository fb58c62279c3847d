-- Move a schedule on to a later due time without firing what lies before it.
-- KEYS  1 schedule (hash)   2 schedules by their next due time (zset)
-- ARGV  1 name   2 revision that it must have   3 the due time that must be its next one, ms since the epoch
--       4 the one that it gets, ms; '': none   5 due times that are missed   6 due times that are skipped
-- Returns 1, or 0: it has moved on before.
local seen = redis.call('HMGET', KEYS[1], 'revision', 'next')
if seen[1] ~= ARGV[2] or seen[2] ~= ARGV[3] then
  return 0
end
redis.call('HSET', KEYS[1], 'next', ARGV[4])
redis.call('HINCRBY', KEYS[1], 'missed', ARGV[5])
redis.call('HINCRBY', KEYS[1], 'skipped', ARGV[6])
if ARGV[4] == '' then
  redis.call('ZREM', KEYS[2], ARGV[1])
else
  redis.call('ZADD', KEYS[2], ARGV[4], ARGV[1])
end
return 1
