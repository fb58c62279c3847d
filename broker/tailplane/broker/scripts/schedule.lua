-- Put a schedule, or replace the one of that name; one that says the same already stays as it is.
-- KEYS  1 schedule (hash)   2 index of schedules (zset)   3 schedules by their next due time (zset)
-- ARGV  1 name   2 definition   3 revision: one that was never used   4 next due time, ms since the epoch   5 now, likewise
-- What was fired before stays known, and one that is paused stays so.
-- Returns {'kept'}, {'made'}, {'replaced'}, or {'behind', the due time that was fired last}: ARGV[4] is not after it.
local seen = redis.call('HMGET', KEYS[1], 'definition', 'paused', 'last_due')
if seen[1] == ARGV[2] then
  return {'kept'}
end
-- Fired between the caller's look and now: a due time of the name is never fired twice, whatever replaces what.
if seen[3] and tonumber(seen[3]) >= tonumber(ARGV[4]) then
  return {'behind', tonumber(seen[3])}
end
redis.call('HSET', KEYS[1], 'definition', ARGV[2], 'revision', ARGV[3], 'since', ARGV[5])
if seen[2] == '1' then
  return {'replaced'}
end
redis.call('HSET', KEYS[1], 'next', ARGV[4])
redis.call('ZADD', KEYS[3], ARGV[4], ARGV[1])
if seen[1] then
  return {'replaced'}
end
redis.call('HSET', KEYS[1], 'created_at', ARGV[5])
-- Scored alike, the index is ordered by name.
redis.call('ZADD', KEYS[2], 0, ARGV[1])
return {'made'}
