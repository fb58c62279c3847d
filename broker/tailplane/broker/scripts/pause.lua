-- Let a schedule have no next due time until it is resumed.
-- KEYS  1 schedule (hash)   2 schedules by their next due time (zset)
-- ARGV  1 name
-- Returns 1, or 0: there is none.
if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
redis.call('HSET', KEYS[1], 'paused', '1', 'next', '')
redis.call('ZREM', KEYS[2], ARGV[1])
return 1
