-- End a task from outside (cancel, expire): by somebody who does not hold its attempt.
-- KEYS  1 task record (hash)   2 stream   3 bell (channel)
-- ARGV  1 moves `from=to;`   2 attempt that must be the latest   3 payload: the terminal event
--       4 TTL of both keys, ms   5.. field, value, ...
-- The entry's id begins with attempt + 1, so that Redis refuses what that attempt still writes.
-- Returns {'done', state}, {'refused', state, attempt, worker} or {'missing'}.
local seen = redis.call('HMGET', KEYS[1], 'state', 'attempt', 'worker')
if not seen[1] or redis.call('EXISTS', KEYS[2]) == 0 then
  return {'missing'}
end
local to = string.match(';' .. ARGV[1], ';' .. seen[1] .. '=(%a+);')
if not to or seen[2] ~= ARGV[2] then
  return {'refused', seen[1], tonumber(seen[2]), seen[3] or ''}
end
local info = redis.call('XINFO', 'STREAM', KEYS[2])
local last
for i = 1, #info, 2 do
  if info[i] == 'last-generated-id' then last = string.match(info[i + 1], '%-(%d+)$') end
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('XADD', KEYS[2], 'NOMKSTREAM', (seen[2] + 1) .. '-' .. (last + 1), 'e', ARGV[3], 'end', to)
redis.call('HSET', KEYS[1], 'state', to, 'ended_at', now, unpack(ARGV, 5))
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
redis.call('PUBLISH', KEYS[3], last + 1)
return {'done', to}
