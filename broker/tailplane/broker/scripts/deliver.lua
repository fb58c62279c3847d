-- Put a message into a task's inbox, once per key.
-- KEYS  1 task record (hash)
-- ARGV  1 message   2 field of its key, or '': no key   3 digest of the message   4 how many an inbox may ever get
--       5 beginning of a message's field   6 how many bytes all messages of an inbox may have
-- Returns {'delivered' or 'known', its number, state, worker, workflow}, {'other', its number}: the key came with another
-- message, {'ended', state}, {'full', messages, their bytes}, or nil: there is no such task.
local seen = redis.call('HMGET', KEYS[1], 'state', 'worker', 'workflow', 'ended_at', 'inbox', 'inbox-bytes')
if not seen[1] then
  return false
end
if ARGV[2] ~= '' then
  local known = redis.call('HGET', KEYS[1], ARGV[2])
  if known then
    local number, digest = string.match(known, '^(%d+) (.*)$')
    return {digest == ARGV[3] and 'known' or 'other', tonumber(number), seen[1], seen[2] or '', seen[3]}
  end
end
if seen[4] then
  return {'ended', seen[1]}
end
local count, bytes = tonumber(seen[5] or 0), tonumber(seen[6] or 0)
if count >= tonumber(ARGV[4]) or bytes + #ARGV[1] > tonumber(ARGV[6]) then
  return {'full', count, bytes}
end
local number = count + 1
redis.call('HSET', KEYS[1], 'inbox', number, 'inbox-bytes', bytes + #ARGV[1], ARGV[5] .. number, ARGV[1])
if ARGV[2] ~= '' then
  redis.call('HSET', KEYS[1], ARGV[2], number .. ' ' .. ARGV[3])
end
return {'delivered', number, seen[1], seen[2] or '', seen[3]}
