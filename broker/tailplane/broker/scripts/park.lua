-- Park a task that a worker holds: nobody need come for it before a message does, or its time. It keeps its terms; its key
-- has room meanwhile.
-- KEYS  1-4 of shared/terms.lua   5 the worker's running set (hash)   6 parked (zset)
--       then for each workflow: due of each class, doorbell
-- ARGV  1 member   2 worker id   3 the task's place among the parked
--       4 when it is to run again in any case: server time, ms; 'inf': never   then for each workflow: its name
-- Returns 1, or 0 if the worker holds it no more: a reaper gave it back, or it was cancelled; or names of workflows that
-- are needed too.
local refusal = leave(5, ARGV[1], ARGV[2], 7, 5)
if refusal then
  return refusal
end
redis.call('ZADD', KEYS[6], ARGV[4], ARGV[3])
return 1
