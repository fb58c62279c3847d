-- Forget a task that a worker holds, has terms, and needs no more running. (Of one without terms, HDEL does it.)
-- KEYS  1-5 of shared/terms.lua   6 the worker's running set (hash)   then for each queue: due of each class, doorbell
-- ARGV  1 member   2 worker id   then for each queue: its name
-- Returns 1, or 0 if the worker holds it no more; or names of queues that are needed too.
local refusal = leave(6, ARGV[1], ARGV[2], 7, 3)
if refusal then
  return refusal
end
redis.call('HDEL', KEYS[1], ARGV[1])
return 1
