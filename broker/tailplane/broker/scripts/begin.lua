-- Begin the next attempt of a task, which fences every earlier one off.
-- KEYS  1 task record (hash)   2 stream   3 bell (channel)
-- ARGV  1 moves `from=to;`   2 worker id   3 payload: "attempt started"   4 number of events in it
--       5 attempt that must be the latest so far, or -1: any   6.. fields of the record that are wanted
-- Returns {'begun', attempt, last seq, now in ms, failures, value, ...}, {'refused', state, attempt, worker},
-- {'late', start_by} or {'missing'}.
local seen = redis.call('HMGET', KEYS[1], 'state', 'attempt', 'worker', 'start_by', 'failures', unpack(ARGV, 6))
local state, latest, failures = seen[1], seen[2], seen[5]
-- Nothing is ever deleted from a stream: its last entry has the last id.
local tail = state and redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
if not tail then
  return {'missing'}
end
local to = string.match(';' .. ARGV[1], ';' .. state .. '=(%a+);')
if not to or (ARGV[5] ~= '-1' and ARGV[5] ~= latest) then
  return {'refused', state, tonumber(latest), seen[3] or ''}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if latest == '0' and now > tonumber(seen[4]) then
  return {'late', tonumber(seen[4])}
end
if state == to then
  -- Taken over from a worker that vanished in the middle: that attempt failed.
  failures = redis.call('HINCRBY', KEYS[1], 'failures', 1)
end
local attempt = latest + 1
local seq = string.match(tail[1], '%-(%d+)$') + ARGV[4]
redis.call('XADD', KEYS[2], 'NOMKSTREAM', attempt .. '-' .. seq, 'e', ARGV[3])
redis.call('HSET', KEYS[1], 'state', to, 'attempt', attempt, 'worker', ARGV[2], 'started_at', now)
if latest == '0' then
  redis.call('PERSIST', KEYS[1])
  redis.call('PERSIST', KEYS[2])
end
-- A frame, as `append` publishes it: readers need not read it.
redis.call('PUBLISH', KEYS[3], '\147' .. cmsgpack.pack(attempt) .. cmsgpack.pack(seq) .. ARGV[3])
return {'begun', attempt, seq, now, tonumber(failures), unpack(seen, 6)}
