-- Queue the recorded task of a due time and move the schedule on to its next one: both, or neither.
-- KEYS  1-5 of shared/terms.lua   6 schedule (hash)   7 schedules by their next due time (zset)
--       8 due of its class (zset)   9 doorbell (list)   10 index of tasks (zset)
-- ARGV  1 name   2 revision that it must have   3 due time that must be its next one, ms since the epoch
--       4 the due time that is fired, ms: that one, or a later one   5 the next one after it, ms; '': none
--       6 due times before it that are passed over   7 member   8 task id   9 class   10 queue
-- Returns {'fired', tasks of its class that wait, this one included}, or {'moved', 1 if the task never was queued and never will be,
-- else 0}: the schedule has moved on before.
local seen = redis.call('HMGET', KEYS[6], 'revision', 'next')
if seen[1] ~= ARGV[2] or seen[2] ~= ARGV[3] then
  -- Within a revision the next due time only grows.
  local is_past = seen[1] ~= ARGV[2] or seen[2] == '' or tonumber(seen[2]) > tonumber(ARGV[4])
  return {'moved', is_past and not redis.call('ZSCORE', KEYS[10], ARGV[8]) and 1 or 0}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[6], 'next', ARGV[5], 'last_due', ARGV[4], 'last_task', ARGV[8], 'last_fired_at', now)
redis.call('HINCRBY', KEYS[6], 'fired', 1)
redis.call('HINCRBY', KEYS[6], 'missed', ARGV[6])
if ARGV[5] == '' then
  redis.call('ZREM', KEYS[7], ARGV[1])
else
  redis.call('ZADD', KEYS[7], ARGV[5], ARGV[1])
end
-- As `enqueue`, but that no bound is asked for: that was done before the task was recorded.
redis.call('ZADD', KEYS[10], 0, ARGV[8])
redis.call('ZADD', KEYS[8], now, ARGV[7])
note_turn(ARGV[10])
if ARGV[9] ~= '1' then redis.call('HSET', KEYS[1], ARGV[7], ARGV[9] .. '\n\n\n') end
local tokens = redis.call('LPUSH', KEYS[9], '1')
if tokens > 1000 then redis.call('LTRIM', KEYS[9], 0, 999) end
if tokens == 1 or tokens > 1000 then redis.call('EXPIRE', KEYS[9], 60) end
return {'fired', redis.call('ZCARD', KEYS[8])}
