-- Return a task's record if it has ended; else whoever asks is told on a channel when it ends.
-- KEYS  1 task record (hash)
-- ARGV  1 channel   2.. fields of the record that are wanted
-- The record keeps the channels of the four who asked last: who falls out looks again by himself, and one that died
-- makes room.
-- Returns the fields' values, 0 where it has not ended, or nil where there is none.
local seen = redis.call('HMGET', KEYS[1], 'state', 'ended_at', 'waiting')
if not seen[1] then
  return false
end
if seen[2] then
  return redis.call('HMGET', KEYS[1], unpack(ARGV, 2))
end
local waiting = {ARGV[1]}
for channel in string.gmatch(seen[3] or '', '%S+') do
  if channel ~= ARGV[1] and #waiting < 4 then waiting[#waiting + 1] = channel end
end
local said = table.concat(waiting, ' ')
if said ~= seen[3] then redis.call('HSET', KEYS[1], 'waiting', said) end
return 0
