-- Remove the beginnings of streams, where nobody but their writer has changed them since it wrote.
-- KEYS  streams
-- ARGV  for each stream: id of the entry before which others go, number of entries that the stream must have
-- What a failover has lost must be seen by the next append: another number is left as it is, with the stream.
-- Returns for each stream how many entries it has now; -1: it had another number.
local reply = {}
for k = 1, #KEYS do
  local entries = redis.call('XLEN', KEYS[k])
  if entries == tonumber(ARGV[2 * k]) then
    reply[k] = entries - redis.call('XTRIM', KEYS[k], 'MINID', '=', ARGV[2 * k - 1])
  else
    reply[k] = -1
  end
end
return reply
