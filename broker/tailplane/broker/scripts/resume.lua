-- Give a paused schedule a next due time.
-- KEYS  1 schedule (hash)   2 schedules by their next due time (zset)
-- ARGV  1 name   2 revision that it must have   3 the one that it gets: one that was never used
--       4 next due time, ms since the epoch; '': none
-- The new revision keeps who fires a due time of before the pause from taking it for that one.
-- Returns 1, or 0: it has another revision, or is not paused.
local seen = redis.call('HMGET', KEYS[1], 'revision', 'paused')
if seen[1] ~= ARGV[2] or seen[2] ~= '1' then
  return 0
end
redis.call('HSET', KEYS[1], 'paused', '0', 'revision', ARGV[3], 'next', ARGV[4])
if ARGV[4] ~= '' then
  redis.call('ZADD', KEYS[2], ARGV[4], ARGV[1])
end
return 1
