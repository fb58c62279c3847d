-- Begin the next attempt of a task, which fences every earlier one off and supersedes what the workflow wrote in them.
-- KEYS  1 task record (hash)   2 stream
-- ARGV  1 moves `from=to;`   2 worker id   3 attempt that must be the latest so far, or -1: any
--       4 the trigger that must have given the task back before; '': none, '*': any
--       5 payload: "attempt started"   6 number of events in it   7 ms that a task may take from its first start; 0: any
--       8 PUBLISH or SPUBLISH   9 bell (channel)
--       10 the events of earlier attempts that must be those that stand, as the record has them; '': none
--       11.. fields of the record that are wanted
-- Returns {'begun', attempt, last seq, entries in the stream, now in ms, end_by or 0, failures, value, ...},
-- {'refused', state, attempt, worker}, {'given_back', trigger}: not the one of ARGV[4], {'stand', events, seq up to which
-- others are superseded, last seq}: not those of ARGV[10], {'late'}: past its start deadline, {'over', attempt}: past its
-- end_by, or {'missing'}.
local seen = redis.call('HMGET', KEYS[1], 'state', 'attempt', 'worker', 'start_by', 'failures', 'given_back_by', 'end_by',
                        'stand', 'superseded', unpack(ARGV, 11))
local state, latest, failures, given_back_by = seen[1], seen[2], seen[5], seen[6] or ''
-- Nothing is ever deleted but from a stream's beginning: its last entry has the last id.
local tail = state and redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
if not tail then
  return {'missing'}
end
local to = string.match(';' .. ARGV[1], ';' .. state .. '=(%a+);')
if not to or (ARGV[3] ~= '-1' and ARGV[3] ~= latest) then
  return {'refused', state, tonumber(latest), seen[3] or ''}
end
if ARGV[4] ~= '*' and ARGV[4] ~= given_back_by then
  return {'given_back', given_back_by}
end
local last = tonumber(string.match(tail[1], '%-(%d+)$'))
-- What the event says that takes back the rest must fit them: an attempt that was believed lost may have added some.
if (seen[8] or '') ~= ARGV[10] then
  return {'stand', seen[8] or '', tonumber(seen[9] or 0), last}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if latest == '0' and now > tonumber(seen[4]) then
  return {'late'}
end
local end_by = tonumber(seen[7] or 0)
if end_by > 0 and now >= end_by then
  return {'over', tonumber(latest)}
end
if state == to then
  -- Taken over from a worker that vanished in the middle: that attempt failed.
  failures = redis.call('HINCRBY', KEYS[1], 'failures', 1)
end
local attempt = latest + 1
local seq = last + ARGV[6]
redis.call('XADD', KEYS[2], 'NOMKSTREAM', attempt .. '-' .. seq, 'e', ARGV[5])
redis.call('HSET', KEYS[1], 'state', to, 'attempt', attempt, 'worker', ARGV[2], 'started_at', now)
if latest == '0' then
  redis.call('PERSIST', KEYS[1])
  redis.call('PERSIST', KEYS[2])
else
  redis.call('HSET', KEYS[1], 'superseded', last)
end
-- A later attempt finds none where a failover lost the first one's beginning: better late than never.
if end_by == 0 and ARGV[7] ~= '0' then
  end_by = now + ARGV[7]
  redis.call('HSET', KEYS[1], 'end_by', end_by)
end
-- A frame, as `append` publishes it: readers need not read it.
redis.call(ARGV[8], ARGV[9], '\147' .. cmsgpack.pack(attempt) .. cmsgpack.pack(seq) .. ARGV[5])
return {'begun', attempt, seq, redis.call('XLEN', KEYS[2]), now, end_by, tonumber(failures), unpack(seen, 10)}
