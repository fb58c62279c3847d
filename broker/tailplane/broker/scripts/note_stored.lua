-- Add what a tenant's tasks have written to what they wrote in this part of the retention.
-- KEYS  1 bytes by the beginning of each part, in ms (hash)
-- ARGV  1 bytes   2 length of a part, ms   3 retention, ms
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local size, kept = tonumber(ARGV[2]), tonumber(ARGV[3])
if redis.call('HINCRBY', KEYS[1], string.format('%.0f', now - now % size), ARGV[1]) == tonumber(ARGV[1]) then
  -- The first of its part: another part may have left.
  for _, began in ipairs(redis.call('HKEYS', KEYS[1])) do
    if began + size + kept <= now then redis.call('HDEL', KEYS[1], began) end
  end
end
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', kept + 2 * size))
