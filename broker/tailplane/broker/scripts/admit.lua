-- Give blocked tasks of a key back to their due sets, of each queue as many as the key has room for. Of a tenant's bound,
-- let workers look whether it has room.
-- KEYS  1-5 of shared/terms.lua   then for each queue: due of each class, doorbell
-- ARGV  1 key   then for each queue: its name
-- Returns how many, or names of queues that are needed too.
local at = positions(6, 2)
local names = lacking(ARGV[1], at)
if #names > 0 then
  return names
end
if string.sub(ARGV[1], 1, 2) == '//' then
  call_tenant(ARGV[1], at)
  return 0
end
return admit(ARGV[1], at, math.max(limit_of(ARGV[1], 0) - count_holders(ARGV[1]), 0))
