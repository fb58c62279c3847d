-- Begin the next attempt of a task, which fences every earlier one off.
-- KEYS  1 task record (hash)   2 stream   3 bell (channel)
-- ARGV  1 moves `from=to;`   2 worker id   3 payload: "attempt started"   4 number of events in it
--       5 attempt that must be the latest so far, or -1: any
-- Returns {'begun', attempt, last seq, record}, {'refused', state, attempt, worker}, {'late', start_by} or {'missing'}.
local state = redis.call('HGET', KEYS[1], 'state')
if not state or redis.call('EXISTS', KEYS[2]) == 0 then
  return {'missing'}
end
local seen = redis.call('HMGET', KEYS[1], 'attempt', 'worker', 'start_by', 'failures')
local to = string.match(';' .. ARGV[1], ';' .. state .. '=(%a+);')
if not to or (ARGV[5] ~= '-1' and ARGV[5] ~= seen[1]) then
  return {'refused', state, tonumber(seen[1]), seen[2] or ''}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if seen[1] == '0' and now > tonumber(seen[3]) then
  return {'late', tonumber(seen[3])}
end
local attempt = seen[1] + 1
if state == to then
  -- Taken over from a worker that vanished in the middle: that attempt failed.
  redis.call('HINCRBY', KEYS[1], 'failures', 1)
end
local info = redis.call('XINFO', 'STREAM', KEYS[2])
local last
for i = 1, #info, 2 do
  if info[i] == 'last-generated-id' then last = string.match(info[i + 1], '%-(%d+)$') end
end
local seq = last + ARGV[4]
redis.call('XADD', KEYS[2], 'NOMKSTREAM', attempt .. '-' .. seq, 'e', ARGV[3])
redis.call('HSET', KEYS[1], 'state', to, 'attempt', attempt, 'worker', ARGV[2], 'started_at', now)
redis.call('PERSIST', KEYS[1])
redis.call('PERSIST', KEYS[2])
redis.call('PUBLISH', KEYS[3], seq)
return {'begun', attempt, seq, redis.call('HGETALL', KEYS[1])}
