-- Take a submit of all accounts that have a limit: of each, or of none.
-- KEYS  1 request (string)   then of each account: how much it has used up (string)
-- ARGV  1 '1': the request has an idempotency key   2 '1': only look   then of each account: submits per second, and
--       how many it may make at once
-- Returns {'known'}: the request was answered before; {'taken' or 'refused', then of each account: submits left, ms until
-- all are, ms until there is one}.
if ARGV[1] == '1' and redis.call('EXISTS', KEYS[1]) == 1 then
  return {'known'}
end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local levels, word = {}, 'taken'
for i = 2, #KEYS do
  local per_second, burst = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
  levels[i] = level_at(now, redis.call('GET', KEYS[i]), per_second)
  local _, _, until_one = what_is_left(levels[i], per_second, burst)
  if until_one > 0 then word = 'refused' end
end
local reply = {word}
for i = 2, #KEYS do
  local per_second, burst = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
  if word == 'taken' and ARGV[2] ~= '1' then
    levels[i] = levels[i] + 1
    local kept = string.format('%.0f %.17g', now, levels[i])
    redis.call('SET', KEYS[i], kept, 'PX', math.ceil(levels[i] / per_second * 1000) + 1)
  end
  local left, until_all, until_one = what_is_left(levels[i], per_second, burst)
  reply[#reply + 1], reply[#reply + 2], reply[#reply + 3] = left, until_all, until_one
end
return reply
