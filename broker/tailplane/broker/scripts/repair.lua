-- Append again what the store lost from the end of a stream (a failover), for the attempt that holds the task.
-- KEYS  1 task record (hash)   2 stream
-- ARGV  1 moves `from=to;` that begin an attempt   2 attempt   3 worker id   4 id of the stream's last entry
--       5 PUBLISH or SPUBLISH   6 bell (channel)   then for each entry: its id, payload, number of arguments that follow,
--       field and value of the record, ...: what it got with the entry
-- Where the record has lost the attempt as well, it gets it back; the first of these entries is then the one that began
-- it, or there are none: then the attempt can only fail.
-- Returns {'done', number of entries now}, {'moved'}: the stream ends elsewhere, {'lost', state, attempt} or {'missing'}.
local seen = redis.call('HMGET', KEYS[1], 'state', 'attempt', 'worker')
local state, attempt = seen[1], seen[2]
local tail = state and redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
if not tail then
  return {'missing'}
end
local is_held = state == 'running' and attempt == ARGV[2] and seen[3] == ARGV[3]
local to = string.match(';' .. ARGV[1], ';' .. state .. '=(%a+);')
local was_held = to and attempt + 1 == tonumber(ARGV[2])
if not is_held and not was_held then
  return {'lost', state, tonumber(attempt)}
end
if tail[1] ~= ARGV[4] then
  return {'moved'}
end
local a, last = 7, nil
while a <= #ARGV do
  last = ARGV[a]
  local fields = tonumber(ARGV[a + 2])
  redis.call('XADD', KEYS[2], 'NOMKSTREAM', last, 'e', ARGV[a + 1])
  if fields > 0 then redis.call('HSET', KEYS[1], unpack(ARGV, a + 3, a + 2 + fields)) end
  a = a + 3 + fields
end
if was_held then
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  redis.call('HSET', KEYS[1], 'state', to, 'attempt', ARGV[2], 'worker', ARGV[3], 'started_at', now)
  redis.call('PERSIST', KEYS[1])
  redis.call('PERSIST', KEYS[2])
  if attempt ~= '0' then
    redis.call('HSET', KEYS[1], 'superseded', string.match(tail[1], '%-(%d+)$'))
  end
end
if last then
  redis.call(ARGV[5], ARGV[6], string.match(last, '%-(%d+)$'))
end
return {'done', redis.call('XLEN', KEYS[2])}
