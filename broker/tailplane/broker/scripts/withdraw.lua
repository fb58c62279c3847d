-- Take an ended task out of its queue, from among the parked, and of the running set of the worker that had it.
-- KEYS  1-5 of shared/terms.lua   6 the worker's running set (hash)   7 parked (zset)
--       then for each queue: due of each class, doorbell
-- ARGV  1 member   2 worker id; '': none had it   then for each queue: its name, the task's own first
-- Returns 1, or 0 if it was in none of these places; or names of queues that are needed too.
local at, queue = positions(8, 3), ARGV[3]
local class, key, limit, due = read_terms(redis.call('HGET', KEYS[1], ARGV[1]))
local held = ARGV[2] ~= '' and redis.call('HGET', KEYS[6], ARGV[1])
local _, holds = read_held(held or '')
local names = lacking(key, at)
if held then
  for _, name in ipairs(lacking_to_leave(queue, holds, at)) do names[#names + 1] = name end
end
if #names > 0 then
  return names
end
local found = 0
for k = at[queue], at[queue] + 2 do
  found = found + redis.call('ZREM', KEYS[k], ARGV[1])
end
-- Where its key had room, one that was due was the one to come in: another one takes its place.
if found > 0 then release(ARGV[1], '', queue, key, at) end
if key and unblock(ARGV[1], queue, class, key, limit, due) then found = found + 1 end
found = found + redis.call('ZREM', KEYS[7], workflow_of(queue) .. '/' .. ARGV[1])
if held then
  found = found + redis.call('HDEL', KEYS[6], ARGV[1])
  release(ARGV[1], ARGV[2], queue, holds, at)
end
-- Otherwise it is in a place that the caller did not know of, where it needs its terms.
if found > 0 then redis.call('HDEL', KEYS[1], ARGV[1]) end
return math.min(found, 1)
