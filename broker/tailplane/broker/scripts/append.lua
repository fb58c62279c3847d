-- Append entries to any number of streams and tell each stream's readers, those with small entries the entry itself.
-- KEYS  for each entry: stream, task record (hash)
-- ARGV  1 PUBLISH or SPUBLISH   then for each entry: its id, head of its frame, payload, '1': readers get the payload with
--       the bell, number of entries that the stream must have before it; -1: any,
--       id of the worker that the record must name, unless any number will do, bell (channel),
--       number of arguments that follow, field and value of the record, ...: what it gets with the entry
-- What the bell carries is in the stream: an entry that Redis refuses is not published.
-- Returns for each entry its id, 0 (the stream has more entries, or fewer, or the record names
-- another worker), nil (there is no stream), or the error.
local reply = {}
local a = 2
for k = 1, #KEYS, 2 do
  local taken = 0
  local fields = tonumber(ARGV[a + 7])
  -- A stream that a failover has cut short would take the entry behind a hole; one whose beginning it has lost may be
  -- another worker's by now, whose attempt has the same number.
  if ARGV[a + 4] == '-1' or (redis.call('XLEN', KEYS[k]) == tonumber(ARGV[a + 4])
                             and redis.call('HGET', KEYS[k + 1], 'worker') == ARGV[a + 5]) then
    taken = redis.pcall('XADD', KEYS[k], 'NOMKSTREAM', ARGV[a], 'e', ARGV[a + 2])
    if type(taken) == 'string' then
      if fields > 0 then redis.call('HSET', KEYS[k + 1], unpack(ARGV, a + 8, a + 7 + fields)) end
      redis.call(ARGV[1], ARGV[a + 6], ARGV[a + 3] == '1' and ARGV[a + 1] .. ARGV[a + 2] or ARGV[a])
    end
  end
  reply[#reply + 1] = taken
  a = a + 8 + fields
end
return reply
