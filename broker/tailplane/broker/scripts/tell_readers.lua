-- Tell how many streams of an account one control plane has open, and ask how many the others have.
-- KEYS  1 of each control plane how many, and when it said so, in ms (hash)
-- ARGV  1 control plane   2 how many   3 ms for which another one is believed
-- Returns how many the others have.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[2] == '0' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], string.format('%s %.0f', ARGV[2], now))
end
local others, rows = 0, redis.call('HGETALL', KEYS[1])
for i = 1, #rows, 2 do
  local count, at = string.match(rows[i + 1], '^(%d+) (%d+)$')
  if math.abs(now - at) > tonumber(ARGV[3]) then
    -- It is dead, or can't reach us: its readers have gone elsewhere, or will. Or the clock was set back meanwhile.
    redis.call('HDEL', KEYS[1], rows[i])
  elseif rows[i] ~= ARGV[1] then
    others = others + count
  end
end
redis.call('PEXPIRE', KEYS[1], 10000)
return others
