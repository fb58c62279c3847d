-- Put a recorded task into its workflow's queue and into the indexes, and wake one worker.
-- KEYS  1 due (zset)   2 doorbell (list)   3 index of tasks (zset)   4 request (string)   5 session (hash)
--       6 index of the session's tasks (zset)   7 dead letters (zset)   8 who joined the session (stream)
--       9 the session's state (hash)
-- ARGV  1 member   2 task id   3 delay, ms   4 what the request made, or '': no idempotency key   5 its TTL, ms
--       6 the session's idle TTL, ms; 0: no session   7 how many tasks may wait in the queue; 0: any number
--       8 the dead letter that this task does again, which leaves the list; '': none
--       9 channel that rings for who reads the session
-- Returns {'queued', tasks that wait, this one included}, {'known', what the same request made before}, {'full', tasks
-- that wait}, {'closed'} or {'missing'}: of the session.
if ARGV[4] ~= '' then
  local known = redis.call('GET', KEYS[4])
  if known then
    return {'known', known}
  end
end
if ARGV[6] ~= '0' then
  local closed = redis.call('HGET', KEYS[5], 'closed')
  if not closed then return {'missing'} end
  if closed == '1' then return {'closed'} end
end
-- Before anything is written: a task that is refused leaves nothing behind.
local depth = redis.call('ZCARD', KEYS[1])
if ARGV[7] ~= '0' and depth >= tonumber(ARGV[7]) then
  return {'full', depth}
end
if ARGV[6] ~= '0' then
  -- Numbered 1, 2, 3, ... by Redis, each once: queued again (a stray), it has joined already.
  if redis.call('ZADD', KEYS[6], 0, ARGV[2]) == 1 then
    redis.call('XADD', KEYS[8], '0-*', 't', ARGV[2])
  end
  for _, place in ipairs({5, 6, 8, 9}) do redis.call('PEXPIRE', KEYS[place], ARGV[6]) end
  redis.call('PUBLISH', ARGV[9], '')
end
if ARGV[4] ~= '' then
  redis.call('SET', KEYS[4], ARGV[4], 'PX', ARGV[5])
end
if ARGV[8] ~= '' then
  redis.call('ZREM', KEYS[7], ARGV[8])
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- Scored alike, the indexes are ordered by id, which is by time.
redis.call('ZADD', KEYS[3], 0, ARGV[2])
depth = depth + redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
-- Tokens that nobody takes go after a minute; as many as this wake all workers there are.
local tokens = redis.call('LPUSH', KEYS[2], '1')
if tokens > 1000 then redis.call('LTRIM', KEYS[2], 0, 999) end
if tokens == 1 or tokens > 1000 then redis.call('EXPIRE', KEYS[2], 60) end
return {'queued', depth}
