-- Take an ended task out of its queue, from among the parked, and of the running set of the worker that had it.
-- KEYS  1-4 of shared/terms.lua   5 the worker's running set (hash)   6 parked (zset)
--       then for each workflow: due of each class, doorbell
-- ARGV  1 member   2 worker id; '': none had it   then for each workflow: its name, the task's own first
-- Returns 1, or 0 if it was in none of these places; or names of workflows that are needed too.
local at, workflow = positions(7, 3), ARGV[3]
local class, key, limit, due = read_terms(redis.call('HGET', KEYS[1], ARGV[1]))
local held = ARGV[2] ~= '' and redis.call('HGET', KEYS[5], ARGV[1])
local _, holds = read_held(held or '')
local names = lacking(key, at)
for _, name in ipairs(lacking(holds, at)) do names[#names + 1] = name end
if #names > 0 then
  return names
end
local found = 0
for k = at[workflow], at[workflow] + 2 do
  found = found + redis.call('ZREM', KEYS[k], ARGV[1])
end
-- Where its key had room, one that was due was the one to come in: another one takes its place.
if found > 0 then release(ARGV[1], '', workflow, key, at) end
if key and unblock(ARGV[1], workflow, class, key, limit, due) then found = found + 1 end
found = found + redis.call('ZREM', KEYS[6], workflow .. '/' .. ARGV[1])
if held then
  found = found + redis.call('HDEL', KEYS[5], ARGV[1])
  release(ARGV[1], ARGV[2], workflow, holds, at)
end
-- Otherwise it is in a place that the caller did not know of, where it needs its terms.
if found > 0 then redis.call('HDEL', KEYS[1], ARGV[1]) end
return math.min(found, 1)
