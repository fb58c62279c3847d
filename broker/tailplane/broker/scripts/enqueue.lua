-- Put a recorded task into its tenant's queue of its workflow and into the indexes, and wake one worker. One whose key is
-- full waits blocked, and wakes nobody.
-- KEYS  1-5 of shared/terms.lua   6 index of tasks (zset)   7 request (string)   8 session (hash)
--       9 index of the session's tasks (zset)   10 dead letters (zset)   11-13 due of each class (zsets)
--       14 doorbell (list)   15 who joined the session (stream)   16 the session's state (hash)
-- ARGV  1 member   2 task id   3 delay, ms   4 what the request made, or '': no idempotency key   5 its TTL, ms
--       6 how long the session stays at least, ms; 0: no session   7 how many tasks may wait in the queue; 0: any number
--       8 the dead letter that this task does again, which leaves the list; '': none   9 queue
--       10 class   11 key; '': none   12 how many tasks of the key may run at once: from now on, for all of them
--       13 channel that rings for who reads the session
-- Returns {'queued', tasks that wait, this one included}, {'known', what the same request made before}, {'full', tasks
-- that wait}, {'closed'} or {'missing'}: of the session.
if ARGV[4] ~= '' then
  local known = redis.call('GET', KEYS[7])
  if known then
    return {'known', known}
  end
end
if ARGV[6] ~= '0' then
  local closed = redis.call('HGET', KEYS[8], 'closed')
  if not closed then return {'missing'} end
  if closed == '1' then return {'closed'} end
end
local queue, class, key = ARGV[9], tonumber(ARGV[10]), ARGV[11] ~= '' and ARGV[11]
-- Before anything is written: a task that is refused leaves nothing behind.
local depth = redis.call('ZCARD', KEYS[12])
if redis.call('EXISTS', KEYS[2], KEYS[11], KEYS[13]) > 0 then
  depth = depth + redis.call('ZCARD', KEYS[11]) + redis.call('ZCARD', KEYS[13])
  depth = depth + redis.call('ZLEXCOUNT', KEYS[2], '[' .. queue .. '\n', '(' .. queue .. '\11')
end
if ARGV[7] ~= '0' and depth >= tonumber(ARGV[7]) then
  return {'full', depth}
end
if ARGV[6] ~= '0' then
  -- Numbered 1, 2, 3, ... by Redis, each once: queued again (a stray), it has joined already.
  if redis.call('ZADD', KEYS[9], 0, ARGV[2]) == 1 then
    redis.call('XADD', KEYS[15], '0-*', 't', ARGV[2])
  end
  for _, place in ipairs({8, 9, 15, 16}) do
    -- Another task may need it for longer.
    if redis.call('PTTL', KEYS[place]) < tonumber(ARGV[6]) then redis.call('PEXPIRE', KEYS[place], ARGV[6]) end
  end
  redis.call('PUBLISH', ARGV[13], '')
end
if ARGV[4] ~= '' then
  redis.call('SET', KEYS[7], ARGV[4], 'PX', ARGV[5])
end
if ARGV[8] ~= '' then
  redis.call('ZREM', KEYS[10], ARGV[8])
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- Scored alike, the indexes are ordered by id, which is by time.
redis.call('ZADD', KEYS[6], 0, ARGV[2])
if key or class ~= 1 then
  -- Queued a second time, it has its terms already, and is in one place of the two at the most.
  local was, before, limit, due = read_terms(redis.call('HGET', KEYS[1], ARGV[1]))
  if before and unblock(ARGV[1], queue, was, before, limit, due) then depth = depth - 1 end
  redis.call('HSET', KEYS[1], ARGV[1], class .. '\n' .. (key and ARGV[12] or '') .. '\n' .. (key or '') .. '\n')
end
if key then
  note_key(key, queue, ARGV[12], true)
  if ARGV[3] == '0' and count_holders(key) >= tonumber(ARGV[12]) then
    block(ARGV[1], queue, class, key, ARGV[12], now)
    return {'queued', depth + 1}
  end
end
depth = depth + redis.call('ZADD', KEYS[11 + class], now + ARGV[3], ARGV[1])
note_turn(queue)
local tokens = redis.call('LPUSH', KEYS[14], '1')
if tokens > 1000 then redis.call('LTRIM', KEYS[14], 0, 999) end
if tokens == 1 or tokens > 1000 then redis.call('EXPIRE', KEYS[14], 60) end
return {'queued', depth}
