-- Let the attempt that holds a task end it or give it back: last events, state and TTL in one step.
-- KEYS  1 task record (hash)   2 stream
-- ARGV  1 moves `from=to;`   2 attempt   3 seq at which the stream must end   4 payload   5 seq of its last event
--       6 TTL of both keys once ended, ms; 0: not ended, no TTL   7 failed attempts to add
--       8 id of the worker that must hold the attempt; '': any   9 PUBLISH or SPUBLISH   10 bell (channel)
--       11.. field, value, ...
-- Who waits for the end (see `await.lua`) is told the record's key.
-- Returns {'done', state}, {'lost', state, attempt}, {'tail', last seq}: the stream does not end at ARGV[3], or {'missing'}.
local seen = redis.call('HMGET', KEYS[1], 'state', 'attempt', 'waiting', 'worker')
local state, attempt = seen[1], seen[2]
-- Nothing is ever deleted but from a stream's beginning: its last entry has the last id.
local tail = state and redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
if not tail then
  return {'missing'}
end
local last = tail[1]
local id = ARGV[2] .. '-' .. ARGV[5]
local to = string.match(';' .. ARGV[1], ';' .. state .. '=(%a+);')
if not to and last == id and attempt == ARGV[2] then
  -- Sent again after a lost reply: it is there already. The state tells it from an append that took the same id.
  return {'done', state}
end
if not to or attempt ~= ARGV[2] or (ARGV[8] ~= '' and ARGV[8] ~= seen[4]) then
  return {'lost', state, tonumber(attempt)}
end
local seq = string.match(last, '%-(%d+)$')
if tonumber(seq) ~= tonumber(ARGV[3]) then
  return {'tail', tonumber(seq)}
end
if ARGV[7] ~= '0' then
  redis.call('HINCRBY', KEYS[1], 'failures', ARGV[7])
end
if ARGV[6] == '0' then
  redis.call('XADD', KEYS[2], 'NOMKSTREAM', id, 'e', ARGV[4])
  redis.call('HSET', KEYS[1], 'state', to, unpack(ARGV, 11))
else
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  redis.call('XADD', KEYS[2], 'NOMKSTREAM', id, 'e', ARGV[4], 'end', to)
  redis.call('HSET', KEYS[1], 'state', to, 'ended_at', now, unpack(ARGV, 11))
  redis.call('PEXPIRE', KEYS[1], ARGV[6])
  redis.call('PEXPIRE', KEYS[2], ARGV[6])
  for channel in string.gmatch(seen[3] or '', '%S+') do
    redis.call('PUBLISH', channel, KEYS[1])
  end
end
redis.call(ARGV[9], ARGV[10], ARGV[5])
return {'done', to}
