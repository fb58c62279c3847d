-- Forget a task that a worker holds, has terms, and needs no more running. (Of one without terms, HDEL does it.)
-- KEYS  1-4 of shared/terms.lua   5 the worker's running set (hash)   then for each workflow: due of each class, doorbell
-- ARGV  1 member   2 worker id   then for each workflow: its name
-- Returns 1, or 0 if the worker holds it no more; or names of workflows that are needed too.
local refusal = leave(5, ARGV[1], ARGV[2], 6, 3)
if refusal then
  return refusal
end
redis.call('HDEL', KEYS[1], ARGV[1])
return 1
