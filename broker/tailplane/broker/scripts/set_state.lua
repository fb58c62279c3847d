-- Set a key of a session's state, if it has the version that the caller knows.
-- KEYS  1 the session's state (hash)   2 the session (hash)
-- ARGV  1 key   2 value, msgpack   3 version that it must have, 0: none yet; '': any   4 how many keys there may be
--       5 idle TTL, ms   6 what tells this call from others
-- A field holds `<version> <call> <value>`. A call that comes again, because its reply was lost, changes nothing.
-- Returns {'set', the new version}, {'conflict', the version it has} or {'full', how many keys there are}.
local found = redis.call('HGET', KEYS[1], ARGV[1])
local version, call = 0, ''
if found then
  version, call = string.match(found, '^(%d+) (%S+) ')
  version = tonumber(version)
end
if call == ARGV[6] then
  return {'set', version}
end
if ARGV[3] ~= '' and tonumber(ARGV[3]) ~= version then
  return {'conflict', version}
end
local count = redis.call('HLEN', KEYS[1])
if not found and count >= tonumber(ARGV[4]) then
  return {'full', count}
end
-- Put together like this: `format` would cut a short value at its first zero byte.
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f ', version + 1) .. ARGV[6] .. ' ' .. ARGV[2])
-- It goes with the session at the earliest, which may stay for a task that is delayed or waits.
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.max(ARGV[5], redis.call('PTTL', KEYS[2]))))
return {'set', version + 1}
