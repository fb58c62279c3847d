-- End a task from outside (cancel, expire): by somebody who does not hold its attempt.
-- KEYS  1 task record (hash)   2 stream
-- ARGV  1 moves `from=to;`   2 attempt that must be the latest   3 payload: the terminal event
--       4 TTL of both keys, ms   5 PUBLISH or SPUBLISH   6 bell (channel)   7.. field, value, ...
-- The entry's id begins with attempt + 1, so that Redis refuses what that attempt still writes.
-- Who waits for the end (see `await.lua`) is told the record's key.
-- Returns {'done', state}, {'refused', state, attempt, worker} or {'missing'}.
local seen = redis.call('HMGET', KEYS[1], 'state', 'attempt', 'worker', 'waiting')
-- Nothing is ever deleted but from a stream's beginning: its last entry has the last id.
local tail = seen[1] and redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
if not tail then
  return {'missing'}
end
local to = string.match(';' .. ARGV[1], ';' .. seen[1] .. '=(%a+);')
if not to or seen[2] ~= ARGV[2] then
  return {'refused', seen[1], tonumber(seen[2]), seen[3] or ''}
end
local seq = string.match(tail[1], '%-(%d+)$') + 1
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('XADD', KEYS[2], 'NOMKSTREAM', (seen[2] + 1) .. '-' .. seq, 'e', ARGV[3], 'end', to)
redis.call('HSET', KEYS[1], 'state', to, 'ended_at', now, unpack(ARGV, 7))
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
for channel in string.gmatch(seen[4] or '', '%S+') do
  redis.call('PUBLISH', channel, KEYS[1])
end
redis.call(ARGV[5], ARGV[6], seq)
return {'done', to}
