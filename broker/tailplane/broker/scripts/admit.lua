-- Give blocked tasks of a key back to their due sets, of each workflow as many as the key has room for.
-- KEYS  1-4 of shared/terms.lua   then for each workflow: due of each class, doorbell
-- ARGV  1 key   then for each workflow: its name
-- Returns how many, or names of workflows that are needed too.
local at = positions(5, 2)
local names = lacking(ARGV[1], at)
if #names > 0 then
  return names
end
return admit(ARGV[1], at, math.max(limit_of(ARGV[1], 0) - count_holders(ARGV[1]), 0))
