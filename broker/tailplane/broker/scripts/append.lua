-- Append entries to any number of streams and tell each stream's readers, those with small entries the entry itself.
-- KEYS  for each entry: stream, bell (channel)
-- ARGV  for each entry: its id, head of its frame, payload, '1': readers get the payload with the bell
-- What the bell carries is in the stream: an entry that Redis refuses is not published.
-- Returns for each entry its id, nil (there is no stream), or the error.
local reply = {}
for k = 1, #KEYS, 2 do
  local a = 2 * k - 1
  local taken = redis.pcall('XADD', KEYS[k], 'NOMKSTREAM', ARGV[a], 'e', ARGV[a + 2])
  if type(taken) == 'string' then
    redis.call('PUBLISH', KEYS[k + 1], ARGV[a + 3] == '1' and ARGV[a + 1] .. ARGV[a + 2] or ARGV[a])
  end
  reply[#reply + 1] = taken
end
return reply
